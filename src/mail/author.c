/* The mailbox is not judged, only its domain is taken: a local part that breaks the rules
 * ("a..b@example.com") is everyday mail, and is signed as any other. */
#include "smtpd/mail/author.h"

#include "smtpd/mail/header.h"

enum { MAILBOX_MAX = 1024 };

/* One pass over the field's value, outside of comments. */
struct reader {
    struct slice rest;
    char mailbox[MAILBOX_MAX];
    size_t length;
    bool is_too_long;
    bool in_angle;
    bool in_literal;
};

static void keep(struct reader *reader, char byte)
{
    if (reader->length == MAILBOX_MAX)
        reader->is_too_long = true;
    else
        reader->mailbox[reader->length++] = byte;
}

static void skip_comment(struct reader *reader)
{
    size_t depth = 1;
    size_t at = 0;

    while (at < reader->rest.length && depth > 0) {
        char byte = reader->rest.data[at++];

        if (byte == '\\' && at < reader->rest.length)
            at++;
        else if (byte == '(')
            depth++;
        else if (byte == ')')
            depth--;
    }
    reader->rest = slice_from(reader->rest, at);
}

static void keep_quoted(struct reader *reader)
{
    size_t at = 0;

    while (at < reader->rest.length && reader->rest.data[at] != '"') {
        if (reader->rest.data[at] == '\\' && at + 1 < reader->rest.length)
            at++;
        at++;
    }
    if (at < reader->rest.length)
        at++;
    keep(reader, '"'); /* what was in it is part of no domain */
    reader->rest = slice_from(reader->rest, at);
}

static void begin_mailbox(struct reader *reader, bool in_angle)
{
    reader->length = 0;
    reader->is_too_long = false;
    reader->in_angle = in_angle;
    reader->in_literal = false;
}

/* true: the mailbox ends here. */
static bool take_special(struct reader *reader, char byte)
{
    switch (byte) {
    case '<':
        begin_mailbox(reader, true); /* a display name stood before it */
        break;
    case '>':
        return true;
    case ':':
        begin_mailbox(reader, reader->in_angle); /* the name of a group, or a route */
        break;
    case ',':
    case ';':
        return !reader->in_angle && reader->length > 0;
    default:
        keep(reader, byte);
    }
    return false;
}

static void read_mailbox(struct reader *reader)
{
    while (reader->rest.length > 0) {
        char byte = reader->rest.data[0];

        reader->rest = slice_from(reader->rest, 1);
        if (byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n')
            continue;
        if (byte == '[' || byte == ']')
            reader->in_literal = byte == '[';
        if (reader->in_literal || byte == ']')
            keep(reader, byte);
        else if (byte == '(')
            skip_comment(reader);
        else if (byte == '"')
            keep_quoted(reader);
        else if (take_special(reader, byte))
            return;
    }
}

static bool find_from(struct slice section, struct slice *value)
{
    struct slice name;
    struct slice field;

    while (header_next_field(&section, &name, &field))
        if (slice_equal_text_fold(name, "From")) {
            *value = slice_from(field, slice_find(field, ':') + 1);
            return true;
        }
    return false;
}

bool author_domain(struct slice section, char normal[DOMAIN_TEXT])
{
    struct reader reader = {.rest = SLICE_NONE};
    size_t at;

    if (!find_from(section, &reader.rest))
        return false;
    read_mailbox(&reader);
    if (reader.is_too_long)
        return false;
    for (at = reader.length; at > 0 && reader.mailbox[at - 1] != '@';)
        at--;
    return at > 0 &&
           domain_normalise((struct slice){reader.mailbox + at, reader.length - at},
                            normal) == RESULT_OK;
}
