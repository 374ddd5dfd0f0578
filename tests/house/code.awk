# Read before another awk program (awk -f code.awk -f ...): gives each line of C twice more, as
#   code     without comments, and with nothing left inside of string and character constants
#   literal  only what stood inside of string and character constants
# A comment over several lines is followed from line to line.

function reset_code() {
    inside_comment = 0
}

function read_code(line,    rest, at, quote) {
    code = ""
    literal = ""
    rest = line
    while (rest != "") {
        if (inside_comment) {
            at = index(rest, "*/")
            if (at == 0)
                return
            rest = substr(rest, at + 2)
            inside_comment = 0
            code = code " "
            continue
        }
        if (!match(rest, /["']|\/\*|\/\//)) {
            code = code rest
            return
        }
        code = code substr(rest, 1, RSTART - 1)
        quote = substr(rest, RSTART, 1)
        if (quote == "/") {
            if (substr(rest, RSTART, 2) == "//")
                return
            inside_comment = 1
            rest = substr(rest, RSTART + 2)
            continue
        }
        rest = substr(rest, RSTART + 1)
        code = code quote
        while (rest != "" && substr(rest, 1, 1) != quote) {
            at = (substr(rest, 1, 1) == "\\") ? 2 : 1
            literal = literal substr(rest, 1, at)
            rest = substr(rest, at + 1)
        }
        literal = literal " "
        code = code quote
        rest = substr(rest, 2)
    }
}
