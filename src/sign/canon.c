/* Line ends behind the last text are held back, since at the end of the body all but one are
 * left out (RFC 6376 3.4.3, 3.4.4). A body may have millions of them: beyond a few the hash
 * is copied as it stood behind the text, and they are added. So no call has to add them all
 * at once. */
#include "canon.h"

#include "smtpd/base/check.h"

#include <string.h>

enum { LINE_ENDS_HELD = 64 };

const char *canon_name(enum canon canon)
{
    return canon == CANON_SIMPLE ? "simple" : "relaxed";
}

void canon_body_init(struct canon_body *body, enum canon canon)
{
    memset(body, 0, sizeof *body);
    body->canon = canon;
    body->digest = digest_new();
}

void canon_body_fini(struct canon_body *body)
{
    digest_free(body->digest);
    digest_free(body->at_text);
    body->digest = body->at_text = NULL;
}

static void flush(struct canon_body *body)
{
    digest_add(body->digest, (struct slice){body->output, body->output_length});
    body->output_length = 0;
}

static void add_line_ends(struct canon_body *body)
{
#define EIGHT "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"
    static const char ends[] = EIGHT EIGHT EIGHT EIGHT EIGHT EIGHT EIGHT EIGHT "\r\n";

    _Static_assert((int)sizeof ends - 1 == 2 * (LINE_ENDS_HELD + 1), "one call adds all");
    CHECK(body->line_ends <= LINE_ENDS_HELD + 1);
    digest_add(body->digest, (struct slice){ends, 2 * body->line_ends});
    body->line_ends = 0;
}

static void end_line(struct canon_body *body)
{
    body->has_blank = false;
    if (++body->line_ends <= LINE_ENDS_HELD)
        return;
    flush(body);
    if (!body->at_text)
        body->at_text = digest_copy(body->digest);
    add_line_ends(body);
}

/* Text comes: the line ends before it are part of the body. */
static void begin_text(struct canon_body *body)
{
    body->has_text = true;
    if (body->at_text) {
        digest_free(body->at_text);
        body->at_text = NULL;
    }
    if (body->line_ends == 0)
        return;
    flush(body);
    add_line_ends(body);
}

/* ---- simple ---- */

static void add_simple(struct canon_body *body, struct slice piece)
{
    size_t length = piece.length;
    size_t ends = 0;

    if (length > 0 && piece.data[length - 1] == '\r') {
        body->after_cr = true;
        length--;
    }
    while (length >= 2 && piece.data[length - 1] == '\n' &&
           piece.data[length - 2] == '\r') {
        length -= 2;
        ends++;
    }
    if (length > 0) {
        begin_text(body);
        digest_add(body->digest, slice_part(piece, 0, length));
    }
    while (ends-- > 0)
        end_line(body);
}

/* ---- relaxed ---- */

static void put(struct canon_body *body, char byte)
{
    if (body->output_length == CANON_OUTPUT)
        flush(body);
    body->output[body->output_length++] = byte;
}

static void put_text(struct canon_body *body, char byte)
{
    if (body->line_ends > 0 || body->at_text || !body->has_text)
        begin_text(body);
    if (body->has_blank) {
        body->has_blank = false;
        put(body, ' ');
    }
    put(body, byte);
}

/* What is most of a body: bytes that stay as they are, behind text. Returns how many. */
static size_t put_word(struct canon_body *body, const char *text, size_t length)
{
    char *output;
    size_t count = 0;

    if (body->output_length == CANON_OUTPUT)
        flush(body);
    if (length > CANON_OUTPUT - body->output_length)
        length = CANON_OUTPUT - body->output_length;
    output = body->output + body->output_length;
    while (count < length && (unsigned char)text[count] > ' ') {
        output[count] = text[count];
        count++;
    }
    body->output_length += count;
    return count;
}

static void add_relaxed(struct canon_body *body, struct slice piece)
{
    for (size_t i = 0; i < piece.length; i++) {
        char byte = piece.data[i];
        bool is_last = i + 1 == piece.length;

        if (byte == ' ' || byte == '\t') {
            body->has_blank = true;
        } else if (byte == '\r' && is_last) {
            body->after_cr = true;
        } else if (byte == '\r' && piece.data[i + 1] == '\n') {
            end_line(body);
            i++;
        } else {
            put_text(body, byte);
            i += put_word(body, piece.data + i + 1, piece.length - i - 1);
        }
    }
}

/* ---- both ---- */

static void add_lone_cr(struct canon_body *body)
{
    if (body->canon == CANON_RELAXED) {
        put_text(body, '\r');
        return;
    }
    begin_text(body);
    digest_add(body->digest, SLICE("\r"));
}

void canon_body_add(struct canon_body *body, struct slice piece)
{
    if (piece.length == 0)
        return;
    if (body->after_cr) {
        body->after_cr = false;
        if (piece.data[0] == '\n') {
            end_line(body);
            piece = slice_from(piece, 1);
        } else {
            add_lone_cr(body);
        }
    }
    if (body->canon == CANON_SIMPLE)
        add_simple(body, piece);
    else
        add_relaxed(body, piece);
}

void canon_body_finish(struct canon_body *body, uint8_t hash[DIGEST_BYTES])
{
    if (body->after_cr)
        add_lone_cr(body);
    flush(body);
    if (body->at_text) {
        digest_free(body->digest);
        body->digest = body->at_text;
        body->at_text = NULL;
    }
    /* A body of nothing is one line end in the simple form, and nothing in the relaxed. */
    if (body->has_text || body->canon == CANON_SIMPLE)
        digest_add(body->digest, SLICE("\r\n"));
    digest_finish(body->digest, hash);
    body->digest = NULL;
}

/* ---- fields ---- */

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static char lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte + ('a' - 'A')) : byte;
}

/* RFC 6376 3.4.2. Never longer than the field but for the line end that it may lack. */
static size_t relax_field(struct slice field, char *into)
{
    size_t colon = slice_find(field, ':');
    size_t length = 0;
    bool has_blank = false;
    bool has_value = false;

    CHECK(colon < field.length);
    for (size_t i = 0; i < colon; i++)
        if (!is_blank(field.data[i]))
            into[length++] = lower(field.data[i]);
    into[length++] = ':';
    for (size_t i = colon + 1; i < field.length; i++) {
        if (is_blank(field.data[i])) {
            has_blank = true;
            continue;
        }
        if (has_blank && has_value)
            into[length++] = ' ';
        has_blank = false;
        has_value = true;
        into[length++] = field.data[i];
    }
    into[length++] = '\r';
    into[length++] = '\n';
    return length;
}

enum result canon_field(enum canon canon, struct slice field, struct bytes *into)
{
    char *room;

    if (canon == CANON_SIMPLE)
        return bytes_add(into, field);
    room = bytes_reserve(into, field.length + 2);
    if (!room)
        return RESULT_TOO_LARGE;
    into->length += relax_field(field, room);
    return RESULT_OK;
}
