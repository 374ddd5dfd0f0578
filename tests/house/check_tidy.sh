#!/bin/sh
# clang-tidy 14 over every source of the rooms, as .clang-tidy says; a warning is an error. It
# reads the compilation database of the asan preset. Files may be named to judge only these.
set -eu
cd "$(dirname "$0")/../.."
: "${SMTPD_BUILD:=build/asan}"
tidy=
for name in clang-tidy-14 clang-tidy; do
    if command -v $name >/dev/null && $name --version | grep -q 'version 14\.'; then
        tidy=$name
        break
    fi
done
if [ -z "$tidy" ]; then
    echo "skipped: needs clang-tidy 14, which Debian 12 has"
    exit 77
fi
if [ $# = 0 ]; then
    # The largest first, so that the last of them does not run alone.
    set -- $(find src -name '*.c' -printf '%s %p\n' | sort -rn | cut -d ' ' -f 2)
fi
printf '%s\n' "$@" | xargs -n 1 -P 2 "$tidy" -p "$SMTPD_BUILD" --quiet
