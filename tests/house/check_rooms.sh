#!/bin/sh
# The walls: every #include must follow src/rooms.txt. One line for each broken wall.
#   - a room enters only the rooms that its line names, and these stand above it: no cycles
#   - a foreign library is included only where it is a guest, and never shows through a door
#   - private headers are named without a path, so only their own room finds them
set -eu
cd "$(dirname "$0")/../.."

find src include/smtpd -name '*.c' -o -name '*.h' -o -name '*.cpp' | sort | xargs awk '
function complain(text) {
    print text
    broken = 1
}

function read_room(line,    half, word, guest, i, n) {
    sub(/#.*/, "", line)
    n = split(line, half, "|")
    if (split(half[1], word, " ") == 0)
        return
    if (word[1] in is_room)
        complain("src/rooms.txt: two lines for " word[1])
    is_room[word[1]] = 1
    for (i = 2; i in word; i++) {
        if (word[i] == "-")
            continue
        if (!(word[i] in is_room) || word[i] == word[1])
            complain("src/rooms.txt: " word[1] " names " word[i] ", which does not stand above it")
        may_enter[word[1], word[i]] = 1
    }
    if (n < 2)
        return
    split(half[2], guest, " ")
    for (i = 1; i in guest; i++) {
        foreign[guest[i]] = 1
        is_guest[word[1], guest[i]] = 1
    }
}

# The room that a file belongs to; src/main.c stands in none, and is called main.
function room_of(path,    part) {
    split(path, part, "/")
    if (part[1] == "include")
        return part[3]
    return (part[3] == "") ? "main" : part[2]
}

FILENAME == "src/rooms.txt" {
    read_room($0)
    next
}

FNR == 1 {
    room = room_of(FILENAME)
    is_door = (FILENAME ~ /^include\//)
    if (!(room in is_room))
        complain(FILENAME ": src/rooms.txt has no line for " room)
}

/^[ \t]*#[ \t]*include/ {
    where = FILENAME ":" FNR ": "
    quoted = ($0 ~ /include[ \t]*"/)
    name = $0
    sub(/^[^"<]*["<]/, "", name)
    sub(/[">].*$/, "", name)

    if (name ~ /^smtpd\//) {
        split(name, part, "/")
        if (part[2] != room && !((room, part[2]) in may_enter))
            complain(where room " may not enter " part[2])
    } else if (quoted && name ~ /\//) {
        complain(where "private headers are named without a path: " name)
    } else if (quoted && is_door) {
        complain(where "a door shows a private header: " name)
    }
    for (library in foreign) {
        if (index(name, library) != 1)
            continue
        if (!((room, library) in is_guest))
            complain(where library " is not a guest of " room)
        if (is_door)
            complain(where library " shows through the door")
    }
}

END {
    exit broken
}
' src/rooms.txt
