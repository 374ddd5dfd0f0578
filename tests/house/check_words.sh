#!/bin/sh
# Banned words, and the foreign libraries' words outside of their files. Comments and strings are
# not read, but for carriage returns in strings. An exception is a line in words_allowed.txt.
set -eu
cd "$(dirname "$0")/../.."

find src include/smtpd -name '*.c' -o -name '*.h' -o -name '*.cpp' | sort |
    xargs awk -f tests/house/code.awk -f tests/house/words.awk tests/house/words_allowed.txt
