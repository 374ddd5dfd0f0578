/* A small strict reader of HTTP/1 (RFC 9112), for answers to one request on one connection. */
#include "https_answer.h"

#include <stdio.h>
#include <string.h>

enum { CHUNK_DIGITS_MAX = 8, SHOWN = 60 };

void https_answer_init(struct https_answer *answer, const char *media_type, size_t body_max)
{
    memset(answer, 0, sizeof *answer);
    answer->media_type = media_type;
    bytes_init(&answer->line, HTTPS_LINE_MAX);
    bytes_init(&answer->body, body_max);
}

void https_answer_fini(struct https_answer *answer)
{
    bytes_fini(&answer->line);
    bytes_fini(&answer->body);
}

static void bad(struct https_answer *answer, const char *text)
{
    answer->step = HTTPS_BAD;
    (void)snprintf(answer->text, sizeof answer->text, "%s", text);
}

/* Bytes of the other side in our words: printable ones only. */
static void show(struct slice from, char into[SHOWN])
{
    size_t length = from.length < SHOWN ? from.length : SHOWN - 1;

    for (size_t i = 0; i < length; i++)
        into[i] = (char)(from.data[i] >= ' ' && from.data[i] <= '~' ? from.data[i] : '?');
    into[length] = '\0';
}

/* ---- the head ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_good(const struct https_answer *answer)
{
    return answer->media_type ? answer->status == 200 : answer->status / 100 == 2;
}

/* "HTTP/1.1 200 OK"; the words behind the number, and the blank before them, may be missing. */
static void read_status(struct https_answer *answer, struct slice line)
{
    const char *at = line.data;
    char shown[SHOWN];

    if (line.length < 12 || memcmp(at, "HTTP/1.", 7) != 0 ||
        (at[7] != '0' && at[7] != '1') || at[8] != ' ' || !is_digit(at[9]) ||
        !is_digit(at[10]) || !is_digit(at[11]) || (line.length > 12 && at[12] != ' ')) {
        bad(answer, "the answer is no HTTP/1.1");
        return;
    }
    answer->is_old = at[7] == '0';
    answer->status = (unsigned)((at[9] - '0') * 100 + (at[10] - '0') * 10 + (at[11] - '0'));
    answer->step = HTTPS_FIELDS;
    if (is_good(answer) || (answer->status / 100 == 1 && answer->status != 101))
        return;
    show(slice_from(line, 9), shown);
    answer->step = HTTPS_BAD;
    (void)snprintf(answer->text, sizeof answer->text, "the answer is \"%s\", not %s%s",
                   shown, answer->media_type ? "200" : "2xx",
                   answer->status / 100 == 3 ? ": redirects are not followed" : "");
}

static bool is_token(struct slice name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !is_digit(c) &&
            (c == '\0' || !strchr(others, c)))
            return false;
    }
    return name.length > 0;
}

static void read_length(struct https_answer *answer, struct slice value)
{
    uint64_t length = 0;

    if (slice_to_u64(value, INT64_MAX, &length) != RESULT_OK ||
        (answer->has_length && answer->left != length)) {
        bad(answer, "Content-Length is no number, or two");
        return;
    }
    answer->has_length = true;
    answer->left = length;
}

static void read_type(struct https_answer *answer, struct slice value)
{
    struct slice type = slice_trim(slice_part(value, 0, slice_find(value, ';')));

    answer->has_type =
        answer->media_type && slice_equal_text_fold(type, answer->media_type);
}

static void read_field(struct https_answer *answer, struct slice line)
{
    size_t colon = slice_find(line, ':');
    struct slice name = slice_part(line, 0, colon);
    struct slice value;

    /* RFC 9112 5.1, 5.2: no blank before the colon, no folded lines. */
    if (colon == line.length || !is_token(name)) {
        bad(answer, "a header field is malformed");
        return;
    }
    value = slice_trim(slice_from(line, colon + 1));
    if (slice_equal_text_fold(name, "content-length")) {
        read_length(answer, value);
    } else if (slice_equal_text_fold(name, "transfer-encoding")) {
        if (answer->is_chunked || !slice_equal_text_fold(value, "chunked"))
            bad(answer, "a Transfer-Encoding that is not \"chunked\"");
        answer->is_chunked = true;
    } else if (slice_equal_text_fold(name, "content-type")) {
        read_type(answer, value);
    } else if (slice_equal_text_fold(name, "content-encoding")) {
        answer->has_coding |= !slice_equal_text_fold(value, "identity");
    }
}

static void forget_interim(struct https_answer *answer)
{
    answer->has_length = answer->is_chunked = answer->has_type = answer->has_coding = false;
    answer->left = 0;
    answer->step = HTTPS_STATUS;
}

static void end_head(struct https_answer *answer)
{
    if (!is_good(answer)) {
        forget_interim(answer);
    } else if (!answer->media_type) {
        answer->step = HTTPS_DONE;
    } else if (answer->is_chunked && (answer->has_length || answer->is_old)) {
        bad(answer, "the length of the answer is told in two ways");
    } else if (!answer->has_type) {
        answer->step = HTTPS_BAD;
        (void)snprintf(answer->text, sizeof answer->text, "the Content-Type is not %s",
                       answer->media_type);
    } else if (answer->has_coding) {
        bad(answer, "a Content-Encoding that was not asked for");
    } else if (answer->is_chunked) {
        answer->step = HTTPS_CHUNK_SIZE;
    } else if (!answer->has_length) {
        answer->step = HTTPS_TO_END;
    } else {
        answer->step = answer->left > 0 ? HTTPS_LENGTH : HTTPS_DONE;
        if (answer->left > answer->body.ceiling)
            bad(answer, "the answer is too long");
    }
}

/* ---- lines ---- */

static int hex(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static void read_chunk_size(struct https_answer *answer, struct slice line)
{
    struct slice digits = slice_trim(slice_part(line, 0, slice_find(line, ';')));
    uint64_t size = 0;

    for (size_t i = 0; i < digits.length; i++) {
        int digit = hex(digits.data[i]);

        if (digit < 0 || i >= CHUNK_DIGITS_MAX) {
            bad(answer, "the size of a chunk is no number");
            return;
        }
        size = size * 16 + (uint64_t)digit;
    }
    answer->left = size;
    answer->step = size > 0 ? HTTPS_CHUNK : HTTPS_TRAILERS;
    if (digits.length == 0)
        bad(answer, "the size of a chunk is no number");
    else if (size > answer->body.ceiling - answer->body.length)
        bad(answer, "the answer is too long");
}

static void read_line(struct https_answer *answer, struct slice line)
{
    switch (answer->step) {
    case HTTPS_STATUS:
        read_status(answer, line);
        break;
    case HTTPS_FIELDS:
        if (line.length > 0)
            read_field(answer, line);
        else
            end_head(answer);
        break;
    case HTTPS_CHUNK_SIZE:
        read_chunk_size(answer, line);
        break;
    case HTTPS_CHUNK_END:
        answer->step = HTTPS_CHUNK_SIZE;
        if (line.length > 0)
            bad(answer, "a chunk is longer than its size");
        break;
    case HTTPS_TRAILERS:
        if (line.length == 0)
            answer->step = HTTPS_DONE;
        break;
    case HTTPS_LENGTH:
    case HTTPS_TO_END:
    case HTTPS_CHUNK:
    case HTTPS_DONE:
    case HTTPS_BAD:
        break;
    }
}

static bool is_clean(struct slice line)
{
    for (size_t i = 0; i < line.length; i++)
        if (line.data[i] == '\r' || line.data[i] == '\0')
            return false;
    return true;
}

/* Takes up to the end of a line off the front. */
static void take_line(struct https_answer *answer, struct slice *rest)
{
    size_t end = slice_find(*rest, '\n');
    size_t length = end < rest->length ? end + 1 : rest->length;
    struct slice line;

    answer->head_bytes += length;
    /* The lines of chunks are no head, but many small ones are no body either. */
    if (answer->head_bytes > HTTPS_HEAD_MAX + answer->body.ceiling ||
        (answer->step <= HTTPS_FIELDS && answer->head_bytes > HTTPS_HEAD_MAX) ||
        bytes_add(&answer->line, slice_part(*rest, 0, length)) != RESULT_OK) {
        bad(answer, "the head of the answer is too long");
        return;
    }
    *rest = slice_from(*rest, length);
    line = bytes_view(&answer->line);
    if (line.length == 0 || line.data[line.length - 1] != '\n')
        return;
    if (line.length < 2 || line.data[line.length - 2] != '\r' ||
        !is_clean(slice_part(line, 0, line.length - 2))) {
        bad(answer, "a line of the answer does not end in CR LF");
        return;
    }
    read_line(answer, slice_part(line, 0, line.length - 2));
    bytes_clear(&answer->line);
}

/* ---- the body ---- */

static void take_body(struct https_answer *answer, struct slice *rest)
{
    struct slice part = *rest;

    if (answer->step != HTTPS_TO_END && part.length > answer->left)
        part.length = (size_t)answer->left;
    if (bytes_add(&answer->body, part) != RESULT_OK) {
        bad(answer, "the answer is too long");
        return;
    }
    *rest = slice_from(*rest, part.length);
    if (answer->step == HTTPS_TO_END)
        return;
    answer->left -= part.length;
    if (answer->left == 0)
        answer->step = answer->step == HTTPS_CHUNK ? HTTPS_CHUNK_END : HTTPS_DONE;
}

enum https_step https_answer_read(struct https_answer *answer, struct slice bytes)
{
    while (bytes.length > 0 && answer->step != HTTPS_DONE && answer->step != HTTPS_BAD) {
        if (answer->step == HTTPS_LENGTH || answer->step == HTTPS_TO_END ||
            answer->step == HTTPS_CHUNK)
            take_body(answer, &bytes);
        else
            take_line(answer, &bytes);
    }
    return answer->step;
}

enum https_step https_answer_end(struct https_answer *answer, bool is_whole)
{
    if (answer->step == HTTPS_TO_END && is_whole)
        answer->step = HTTPS_DONE;
    else if (answer->step != HTTPS_DONE && answer->step != HTTPS_BAD)
        bad(answer, "the connection ended within the answer");
    return answer->step;
}
