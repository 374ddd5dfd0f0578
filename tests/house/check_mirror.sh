#!/bin/sh
# tests/unit mirrors src: src/<room>/<module>.c has tests/unit/<room>/test_<module>.c. Exceptions
# stand in mirror_allowed.txt with their reason, and go when the test has come. And each door and
# each inner header is included by its own .c file before any other, which shows that it needs
# nothing before it.
set -eu
cd "$(dirname "$0")/../.."
broken=0
complain() {
    echo "$1"
    broken=1
}
allowed=tests/house/mirror_allowed.txt

for source in src/*/*.c; do
    [ -e "$source" ] || continue
    path=${source#src/}
    room=${path%%/*}
    module=$(basename "$source" .c)
    test=tests/unit/$room/test_$module.c
    excused=$(awk -v file="$source" '$1 == file && $2 != "" && $2 !~ /^#/ { print "yes" }' $allowed)
    if [ ! -e "$test" ] && [ -z "$excused" ]; then
        complain "$source: there is no $test"
    elif [ -e "$test" ] && [ -n "$excused" ]; then
        complain "$allowed: $source has its test now"
    fi

    if [ -e "include/smtpd/$room/$module.h" ]; then
        own="smtpd/$room/$module.h"
    elif [ -e "src/$room/$module.h" ]; then
        own=$module.h
    else
        continue
    fi
    first=$(sed -n 's/^#[ ]*include[ ]*["<]\([^">]*\)[">].*/\1/p' "$source" | head -n 1)
    [ "$first" = "$own" ] || complain "$source: begins with $first and not with its own $own"
done

for test in tests/unit/*/test_*.c; do
    [ -e "$test" ] || continue
    path=${test#tests/unit/}
    module=${path##*/test_}
    [ -e "src/${path%%/*}/$module" ] || complain "$test: there is no src/${path%%/*}/$module"
done
grep -v '^#' $allowed | while read -r source rest; do
    [ -z "$source" ] || [ -e "$source" ] || echo "$allowed: there is no $source"
done >&2
exit $broken
