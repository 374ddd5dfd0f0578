/* The end of the header section. The obvious search for an empty line is not enough: a
 * message that begins with text has no header section at all, and one whose header is
 * broken by a line of text ends there for every reader (header.c stops at that line too).
 * Both get their missing empty line instead of a body that is taken for header fields. */
#include "smtpd/mail/section.h"

#include "smtpd/mail/header.h"

#include <string.h>

void section_init(struct section *section)
{
    *section = (struct section){0};
}

/* Length of the whole line at the front with its CR LF; 0: it has not come yet. */
static size_t line_length(struct slice text)
{
    size_t at = 0;

    while (at < text.length) {
        const char *lf = memchr(text.data + at, '\n', text.length - at);

        if (!lf)
            return 0;
        at = (size_t)(lf - text.data) + 1;
        if (at >= 2 && text.data[at - 2] == '\r')
            return at;
    }
    return 0;
}

static bool is_field(const struct section *section, struct slice line)
{
    struct slice name;
    struct slice field;

    /* RFC 5322 2.2.3: a folded line goes on with what stands before it. */
    if (line.data[0] == ' ' || line.data[0] == '\t')
        return section->has_field;
    return header_next_field(&line, &name, &field);
}

enum section_end section_find(struct section *section, struct slice text, size_t *length)
{
    for (;;) {
        struct slice rest = slice_from(text, section->scanned);
        size_t line = line_length(rest);

        if (line == 0)
            return SECTION_OPEN;
        if (line == 2) {
            *length = section->scanned + line;
            return SECTION_EMPTY_LINE;
        }
        if (!is_field(section, slice_part(rest, 0, line))) {
            *length = section->scanned;
            return SECTION_BODY_LINE;
        }
        section->has_field = true;
        section->scanned += line;
    }
}
