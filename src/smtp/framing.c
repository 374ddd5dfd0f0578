/* The only file that knows CR and LF as protocol. Strict on purpose: every relay that took
 * "\n.\n" for an end was a way to smuggle mail past a filter. Searching is done by memchr,
 * which the C library vectorises. */
#include "smtpd/smtp/framing.h"

#include <string.h>

enum mode { MODE_LINES, MODE_DATA, MODE_CHUNK };

/* Where in the data we are: what was read of the line that began last. */
enum state {
    AT_START,     /* of a line */
    AFTER_DOT,    /* a line that is "." so far */
    AFTER_DOT_CR, /* ".\r" */
    IN_LINE,
    AFTER_CR /* a CR inside a line: the end of it, or a bare one */
};

void framing_init(struct framing *framing, size_t line_max)
{
    memset(framing, 0, sizeof *framing);
    framing->mode = MODE_LINES;
    framing->line_max = line_max;
}

void framing_set_line_max(struct framing *framing, size_t line_max)
{
    framing->line_max = line_max;
}

void framing_start_message(struct framing *framing)
{
    memset(&framing->facts, 0, sizeof framing->facts);
    framing->facts.ends_with_crlf = true;
    framing->line_bytes = 0;
    framing->state = AT_START;
}

void framing_read_data(struct framing *framing)
{
    framing->mode = MODE_DATA;
    framing->state = AT_START;
    framing->line_bytes = 0;
}

/* The line may go on over chunks: state and line_bytes stay. */
void framing_read_chunk(struct framing *framing, uint64_t bytes)
{
    framing->mode = MODE_CHUNK;
    framing->chunk_left = bytes;
}

void framing_read_lines(struct framing *framing)
{
    framing->mode = MODE_LINES;
    framing->scanned = 0;
    framing->is_skipping = false;
}

/* ---- lines ---- */

static bool is_bad(struct slice line)
{
    return memchr(line.data, '\r', line.length) || memchr(line.data, '\n', line.length) ||
           memchr(line.data, '\0', line.length);
}

/* Index behind the first CR LF from `from` on; 0 when there is none. */
static size_t find_crlf(struct slice input, size_t from)
{
    while (from < input.length) {
        const char *lf = memchr(input.data + from, '\n', input.length - from);

        if (!lf)
            return 0;
        from = (size_t)(lf - input.data) + 1;
        if (from >= 2 && input.data[from - 2] == '\r')
            return from;
    }
    return 0;
}

/* Too long: everything up to the CR LF goes; a last CR stays, its LF may follow. */
static void skip_some(struct framing *framing, struct slice *input)
{
    size_t keep = input->length > 0 && input->data[input->length - 1] == '\r' ? 1 : 0;

    *input = slice_from(*input, input->length - keep);
    framing->scanned = 0;
    framing->is_skipping = true;
}

static enum framing_event next_line(struct framing *framing, struct slice *input,
                                    struct slice *out)
{
    /* A CR that ended the part searched before may now have its LF. */
    size_t from = framing->scanned > 0 ? framing->scanned - 1 : 0;
    size_t end = find_crlf(*input, from < input->length ? from : input->length);

    if (end == 0) {
        framing->scanned = input->length;
        if (input->length >= framing->line_max || framing->is_skipping)
            skip_some(framing, input);
        return FRAMING_MORE;
    }
    *out = (struct slice){input->data, end - 2};
    *input = slice_from(*input, end);
    framing->scanned = 0;
    if (framing->is_skipping || end > framing->line_max) {
        framing->is_skipping = false;
        *out = SLICE_NONE;
        return FRAMING_LINE_TOO_LONG;
    }
    return out->length > 0 && is_bad(*out) ? FRAMING_LINE_BAD : FRAMING_LINE;
}

/* ---- data ---- */

static bool has_8bit(const char *at, size_t length)
{
    uint64_t word;

    while (length >= sizeof word) {
        memcpy(&word, at, sizeof word);
        if (word & UINT64_C(0x8080808080808080))
            return true;
        at += sizeof word;
        length -= sizeof word;
    }
    for (; length > 0; length--)
        if ((unsigned char)*at++ & 0x80)
            return true;
    return false;
}

static void note_line_end(struct framing *framing)
{
    if (framing->line_bytes > framing->facts.longest_line)
        framing->facts.longest_line = framing->line_bytes;
    framing->line_bytes = 0;
    framing->state = AT_START;
}

/* Facts of a piece that is handed out. CR and LF were looked at on the way. */
static void note_piece(struct framing *framing, struct slice piece)
{
    struct framing_facts *facts = &framing->facts;

    facts->bytes += piece.length;
    if (!facts->has_8bit && has_8bit(piece.data, piece.length))
        facts->has_8bit = true;
    if (!facts->has_nul && memchr(piece.data, '\0', piece.length))
        facts->has_nul = true;
    facts->ends_with_crlf = framing->state == AT_START;
    facts->ends_with_cr = framing->state == AFTER_CR;
    if (framing->line_bytes > facts->longest_line)
        facts->longest_line = framing->line_bytes;
}

/* The byte behind a CR: the end of the line, or the CR was a bare one. True: it ended. */
static bool step_behind_cr(struct framing *framing, char byte)
{
    framing->line_bytes++;
    if (byte == '\n') {
        note_line_end(framing);
        return true;
    }
    framing->facts.has_bare_cr_or_lf = true;
    framing->state = byte == '\r' ? AFTER_CR : IN_LINE;
    return false;
}

/* Walks over what stands inside a line: up to behind its CR LF, or to the end. Returns the
 * number of bytes taken. */
static size_t walk_line(struct framing *framing, struct slice input)
{
    size_t at = 0;

    while (at < input.length) {
        const char *start = input.data + at;
        const char *cr;
        size_t length;

        if (framing->state == AFTER_CR) {
            at++;
            if (step_behind_cr(framing, *start))
                return at;
            continue;
        }
        cr = memchr(start, '\r', input.length - at);
        length = cr ? (size_t)(cr - start) : input.length - at;
        if (length > 0 && memchr(start, '\n', length))
            framing->facts.has_bare_cr_or_lf = true;
        framing->line_bytes += (uint32_t)length + (cr != NULL);
        framing->state = cr ? AFTER_CR : IN_LINE;
        at += length + (cr != NULL);
    }
    return at;
}

/* The text that a piece lacks because its bytes came with the input before. */
static struct slice literal(const char *text, size_t length)
{
    return (struct slice){text, length};
}

/* Decides what a dot at the front of a line means. True: `event` is the answer. */
static bool dot_state(struct framing *framing, struct slice *input, struct slice *out,
                      enum framing_event *event)
{
    char byte = input->data[0];

    if (framing->state == AT_START) {
        if (byte != '.')
            return false;
        framing->state = AFTER_DOT;
        *input = slice_from(*input, 1);
        *event = FRAMING_MORE; /* look at what follows */
        return true;
    }
    if (framing->state == AFTER_DOT) {
        if (byte == '\r') {
            framing->state = AFTER_DOT_CR;
            *input = slice_from(*input, 1);
            *event = FRAMING_MORE;
            return true;
        }
        /* The first dot goes (RFC 5321 4.5.2); what stands behind it is the line. */
        framing->facts.has_dot_line |= byte == '.';
        framing->state = IN_LINE;
        return false;
    }
    if (framing->state != AFTER_DOT_CR)
        return false;
    if (byte == '\n') {
        *input = slice_from(*input, 1);
        framing->mode = MODE_LINES;
        framing->scanned = 0;
        *event = FRAMING_DATA_END;
        return true;
    }
    /* ".\r" and no LF: a line whose first dot goes and that holds a bare CR. */
    framing->facts.has_bare_cr_or_lf = true;
    framing->line_bytes = 1;
    framing->state = byte == '\r' ? AFTER_CR : IN_LINE;
    if (byte == '\r') {
        framing->line_bytes = 2;
        *input = slice_from(*input, 1);
    }
    *out = literal("\r\r", byte == '\r' ? 2 : 1);
    note_piece(framing, *out);
    *event = FRAMING_DATA;
    return true;
}

static enum framing_event next_data(struct framing *framing, struct slice *input,
                                    struct slice *out)
{
    size_t length = 0;

    while (input->length > 0 && length == 0) {
        enum framing_event event = FRAMING_MORE;

        if (!dot_state(framing, input, out, &event))
            break;
        if (event != FRAMING_MORE)
            return event;
    }
    if (input->length == 0)
        return FRAMING_MORE;
    /* Whole lines and what is left, up to the next line that begins with a dot. */
    do {
        length += walk_line(framing, slice_from(*input, length));
    } while (length < input->length &&
             !(framing->state == AT_START && input->data[length] == '.'));
    *out = slice_part(*input, 0, length);
    *input = slice_from(*input, length);
    note_piece(framing, *out);
    return FRAMING_DATA;
}

static enum framing_event next_chunk(struct framing *framing, struct slice *input,
                                     struct slice *out)
{
    struct slice piece;
    size_t at = 0;

    if (framing->chunk_left == 0) {
        framing->mode = MODE_LINES;
        framing->scanned = 0;
        return FRAMING_DATA_END;
    }
    if (input->length == 0)
        return FRAMING_MORE;
    piece = *input;
    if (piece.length > framing->chunk_left)
        piece.length = (size_t)framing->chunk_left;
    while (at < piece.length) {
        if (framing->state == AT_START && piece.data[at] == '.')
            framing->facts.has_dot_line = true;
        at += walk_line(framing, slice_from(piece, at));
    }
    *input = slice_from(*input, piece.length);
    framing->chunk_left -= piece.length;
    *out = piece;
    note_piece(framing, piece);
    return FRAMING_DATA;
}

enum framing_event framing_next(struct framing *framing, struct slice *input,
                                struct slice *out)
{
    *out = SLICE_NONE;
    switch ((enum mode)framing->mode) {
    case MODE_DATA:
        return next_data(framing, input, out);
    case MODE_CHUNK:
        return next_chunk(framing, input, out);
    case MODE_LINES:
    default:
        return next_line(framing, input, out);
    }
}

/* ---- outbound ---- */

void framing_stuffing_init(struct framing_stuffing *stuffing)
{
    stuffing->at_line_start = true;
    stuffing->after_cr = false;
}

enum result framing_stuff(struct framing_stuffing *stuffing, struct slice data,
                          struct bytes *into)
{
    enum result added = RESULT_OK;

    while (data.length > 0 && added == RESULT_OK) {
        const char *lf = memchr(data.data, '\n', data.length);
        size_t length = lf ? (size_t)(lf - data.data) + 1 : data.length;
        bool ends_line =
            lf && (length >= 2 ? data.data[length - 2] == '\r' : stuffing->after_cr);

        if (stuffing->at_line_start && data.data[0] == '.')
            added = bytes_add_text(into, ".");
        if (added == RESULT_OK)
            added = bytes_add(into, slice_part(data, 0, length));
        stuffing->at_line_start = ends_line;
        stuffing->after_cr = data.data[length - 1] == '\r';
        data = slice_from(data, length);
    }
    return added;
}

struct slice framing_data_end(bool data_ended_with_crlf)
{
    return data_ended_with_crlf ? SLICE(".\r\n") : SLICE("\r\n.\r\n");
}

enum result framing_add_line(struct bytes *into, struct slice line)
{
    size_t before = into->length;

    if (line.length > 0 && is_bad(line))
        return RESULT_INVALID;
    if (bytes_add(into, line) == RESULT_OK && bytes_add_text(into, "\r\n") == RESULT_OK)
        return RESULT_OK;
    into->length = before;
    return RESULT_TOO_LARGE;
}
