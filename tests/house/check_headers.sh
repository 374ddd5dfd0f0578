#!/bin/sh
# Every header compiles alone, and twice in one file: it includes what it needs and has its guard.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

flags="-std=c17 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I$root/include"
for folder in ${SMTPD_INCLUDES:-$root/.deps/mbedtls/include}; do
    flags="$flags -isystem $folder"
done
export CC="${CC:-cc}" flags root work

find include/smtpd src -name '*.h' | sort | xargs -P 2 -n 1 sh -c '
    name=$(echo "$1" | tr / _)
    printf "#include \"%s/%s\"\n#include \"%s/%s\"\nextern int smtpd_not_empty;\n" \
        "$root" "$1" "$root" "$1" >"$work/$name.c"
    case $1 in src/*) inner=-I$root/$(dirname "$1") ;; *) inner= ;; esac
    $CC $flags $inner "$work/$name.c" || { echo "$1 does not stand alone"; exit 1; }
' sh
