#!/bin/sh
# Reports what has grown large: files over 500 lines, functions over 60, rooms over 8 modules.
# It is read at every change and fails nothing: a long table is fine, a long function rarely.
set -eu
cd "$(dirname "$0")/../.."

find src include/smtpd -name '*.c' -o -name '*.h' -o -name '*.cpp' | sort | xargs awk '
function end_of_file() {
    total += lines
    if (lines > 500)
        print file ": " lines " lines"
}
FNR == 1 {
    end_of_file()
    file = FILENAME
    room = FILENAME
    sub(/^src\//, "", room)
    if (sub(/\/[^\/]*\.c(pp)?$/, "", room))
        modules[room]++
    start = 0
}
{ lines = FNR }
# The braces of a function stand alone in the first column.
/^\{/ { start = FNR; name = before }
/^\}/ {
    if (start && FNR - start - 1 > 60) {
        sub(/\(.*/, "", name)
        sub(/.*[ *]/, "", name)
        print FILENAME ":" start ": " name "() has " FNR - start - 1 " lines"
    }
    start = 0
}
/^[A-Za-z]/ { before = $0 }
END {
    end_of_file()
    for (room in modules)
        if (modules[room] > 8)
            print "src/" room ": " modules[room] " modules"
    print total " lines in all"
}
'
