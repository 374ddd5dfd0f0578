/* The framing against bytes from anywhere, taken as lines, as DATA, as chunks and as a
 * stored message that goes out. A plain model, which sees the whole input at once, says
 * what must come out; the framing gets the same bytes whole and cut into pieces, each piece
 * in a block of its own size. So: the cuts change nothing, CR LF alone ends a line, CR LF .
 * CR LF alone ends data, and what is stuffed reads back as what it was. */
#include "smtpd/smtp/framing.h"

#include "smtpd/base/check.h"

#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX = 6000, ROOM = 1 << 17, STEPS = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the model ---- */

struct model {
    struct bytes out; /* lines: each behind its event; data: what is left when unstuffed */
    size_t taken;     /* of the input */
    bool has_ended;
    struct framing_facts facts;
};

static void put(struct bytes *into, struct slice more)
{
    CHECK(bytes_add(into, more) == RESULT_OK);
}

static void put_line(struct bytes *into, enum framing_event event, struct slice line)
{
    char head[2] = {(char)('0' + (int)event), '|'};

    put(into, (struct slice){head, sizeof head});
    put(into, line);
    put(into, SLICE("\r\n"));
}

/* Index behind the next CR LF, or 0. */
static size_t line_end(struct slice text, size_t from)
{
    for (size_t at = from; at + 1 < text.length; at++)
        if (text.data[at] == '\r' && text.data[at + 1] == '\n')
            return at + 2;
    return 0;
}

static void model_lines(struct slice input, size_t line_max, struct model *model)
{
    size_t at = 0;
    size_t end;

    while ((end = line_end(input, at)) > 0) {
        struct slice line = slice_part(input, at, end - 2 - at);

        if (end - at > line_max)
            put_line(&model->out, FRAMING_LINE_TOO_LONG, SLICE_NONE);
        else if (slice_find(line, '\r') + slice_find(line, '\n') + slice_find(line, '\0') <
                 3 * line.length)
            put_line(&model->out, FRAMING_LINE_BAD, line);
        else
            put_line(&model->out, FRAMING_LINE, line);
        at = end;
    }
}

/* `is_over`: nothing can follow, so that a CR at the end is a bare one. */
static void model_facts(struct slice data, bool is_over, struct framing_facts *facts)
{
    size_t start = 0;

    *facts = (struct framing_facts){.bytes = data.length, .ends_with_crlf = true};
    for (size_t i = 0; i < data.length; i++) {
        bool lf_follows = i + 1 < data.length && data.data[i + 1] == '\n';
        bool ends = data.data[i] == '\n' && i > start && data.data[i - 1] == '\r';

        facts->has_8bit |= (unsigned char)data.data[i] > 0x7f;
        facts->has_nul |= data.data[i] == '\0';
        facts->has_bare_cr_or_lf |= data.data[i] == '\n' && !ends;
        facts->has_bare_cr_or_lf |=
            data.data[i] == '\r' && !lf_follows && (is_over || i + 1 < data.length);
        facts->has_dot_line |= i == start && data.data[i] == '.';
        facts->ends_with_crlf = ends;
        if (i + 1 - start > facts->longest_line)
            facts->longest_line = (uint32_t)(i + 1 - start);
        if (ends)
            start = i + 1;
    }
}

static void model_data(struct slice input, struct model *model)
{
    size_t end;

    while (!model->has_ended && (end = line_end(input, model->taken)) > 0) {
        struct slice line = slice_part(input, model->taken, end - model->taken);

        model->taken = end;
        model->has_ended = slice_equal_text(line, ".\r\n");
        if (!model->has_ended)
            put(&model->out, slice_from(line, line.data[0] == '.'));
    }
    if (!model->has_ended) {
        struct slice rest = slice_from(input, model->taken);

        /* "." and ".\r" may still become the end: they are held back. */
        if (!slice_equal_text(rest, ".\r"))
            put(&model->out, slice_from(rest, rest.length > 0 && rest.data[0] == '.'));
        model->taken = input.length;
    }
    model_facts(bytes_view(&model->out), model->has_ended, &model->facts);
}

static void model_stuffed(struct slice data, struct bytes *out)
{
    size_t at = 0;

    while (at < data.length) {
        size_t end = line_end(data, at);
        struct slice line = slice_part(data, at, (end > 0 ? end : data.length) - at);

        if (line.data[0] == '.')
            put(out, SLICE("."));
        put(out, line);
        at += line.length;
    }
}

static void check_facts(const struct framing_facts *is, const struct framing_facts *should)
{
    CHECK(is->bytes == should->bytes);
    CHECK(is->longest_line == should->longest_line);
    CHECK(is->has_8bit == should->has_8bit);
    CHECK(is->has_nul == should->has_nul);
    CHECK(is->has_bare_cr_or_lf == should->has_bare_cr_or_lf);
    CHECK(is->has_dot_line == should->has_dot_line);
    CHECK(is->ends_with_crlf == should->ends_with_crlf);
}

/* ---- the same, by pieces ---- */

/* The bytes that the caller holds, in a block without a byte to spare. */
struct held {
    char *data;
    size_t length;
};

static void held_add(struct held *held, struct slice more)
{
    char *grown = malloc(held->length + more.length + 1);

    CHECK(grown);
    if (held->length > 0)
        memcpy(grown, held->data, held->length);
    if (more.length > 0)
        memcpy(grown + held->length, more.data, more.length);
    free(held->data);
    /* Trimmed, so that the first byte behind the end is not ours. */
    held->length += more.length;
    held->data = realloc(grown, held->length > 0 ? held->length : 1);
    CHECK(held->data);
}

static void held_keep(struct held *held, struct slice rest)
{
    struct held kept = {NULL, 0};

    CHECK(rest.length <= held->length);
    CHECK(rest.length == 0 || rest.data + rest.length == held->data + held->length);
    held_add(&kept, rest);
    free(held->data);
    *held = kept;
}

static bool lies_in(struct slice part, const struct held *held)
{
    return part.length == 0 || (part.data >= held->data &&
                                part.data + part.length <= held->data + held->length);
}

/* Cuts: 1, 2, 3, or of any length up to 40, or none at all. */
static size_t piece_length(int step, size_t at, size_t left)
{
    size_t lengths[STEPS] = {1, 2, 3, 1 + (at * 7 + left) % 40, left};
    size_t length = lengths[step];

    return length < left ? length : left;
}

static void check_lines(struct slice input, size_t line_max, int step)
{
    struct model model = {0};
    struct bytes seen;
    struct held held = {NULL, 0};
    struct framing framing;
    size_t length;

    bytes_init(&model.out, ROOM);
    bytes_init(&seen, ROOM);
    model_lines(input, line_max, &model);
    framing_init(&framing, line_max);
    for (size_t at = 0; at < input.length; at += length) {
        enum framing_event event;
        struct slice rest;
        struct slice out;

        length = piece_length(step, at, input.length - at);
        held_add(&held, slice_part(input, at, length));
        rest = (struct slice){held.data, held.length};
        while ((event = framing_next(&framing, &rest, &out)) != FRAMING_MORE) {
            CHECK(event == FRAMING_LINE || event == FRAMING_LINE_BAD ||
                  event == FRAMING_LINE_TOO_LONG);
            CHECK(lies_in(out, &held));
            put_line(&seen, event, out);
        }
        CHECK(rest.length < line_max); /* what the caller must hold has a ceiling */
        held_keep(&held, rest);
    }
    CHECK(slice_equal(bytes_view(&seen), bytes_view(&model.out)));
    free(held.data);
    bytes_fini(&seen);
    bytes_fini(&model.out);
}

/* Reads one piece in data or chunk mode; true at its end. *taken: of the piece. */
static bool read_piece(struct framing *framing, struct slice piece, struct bytes *seen,
                       size_t *taken)
{
    enum framing_event event;
    struct held held = {NULL, 0};
    struct slice rest;
    struct slice out;

    held_add(&held, piece);
    rest = (struct slice){held.data, held.length};
    while ((event = framing_next(framing, &rest, &out)) == FRAMING_DATA) {
        CHECK(out.length > 0);
        /* The one thing that is not in this piece: a CR whose meaning had to be waited for.
         */
        CHECK(lies_in(out, &held) || (out.length <= 2 && out.data[0] == '\r'));
        put(seen, out);
    }
    CHECK(event == FRAMING_MORE || event == FRAMING_DATA_END);
    CHECK(event == FRAMING_DATA_END || rest.length == 0);
    *taken = held.length - rest.length;
    free(held.data);
    return event == FRAMING_DATA_END;
}

static void check_data(struct slice input, int step)
{
    struct model model = {0};
    struct bytes seen;
    struct framing framing;
    size_t at = 0;
    bool has_ended = false;

    bytes_init(&model.out, ROOM);
    bytes_init(&seen, ROOM);
    model_data(input, &model);
    framing_init(&framing, 64);
    framing_start_message(&framing);
    framing_read_data(&framing);
    while (!has_ended && at < input.length) {
        size_t length = piece_length(step, at, input.length - at);
        size_t taken;

        has_ended = read_piece(&framing, slice_part(input, at, length), &seen, &taken);
        at += taken;
    }
    CHECK(has_ended == model.has_ended && at == model.taken);
    CHECK(slice_equal(bytes_view(&seen), bytes_view(&model.out)));
    check_facts(&framing.facts, &model.facts);
    bytes_fini(&seen);
    bytes_fini(&model.out);
}

/* The input as chunks of `chunk` bytes, each cut into pieces too. */
static void check_chunks(struct slice input, size_t chunk, int step)
{
    struct framing_facts facts;
    struct bytes seen;
    struct framing framing;
    size_t start = 0;

    bytes_init(&seen, ROOM);
    /* A CR at the end of a chunk: its LF may come with the next, so it is not judged yet. */
    model_facts(input, false, &facts);
    framing_init(&framing, 64);
    framing_start_message(&framing);
    do {
        struct slice part = slice_part(input, start, chunk);
        bool has_ended = false;
        size_t at = 0;

        framing_read_chunk(&framing, part.length);
        while (!has_ended) {
            size_t length = piece_length(step, at, part.length - at);
            size_t taken;

            has_ended = read_piece(&framing, slice_part(part, at, length), &seen, &taken);
            at += taken;
        }
        CHECK(at == part.length);
        start += part.length;
    } while (start < input.length);
    CHECK(slice_equal(bytes_view(&seen), input));
    check_facts(&framing.facts, &facts);
    bytes_fini(&seen);
}

static void check_stuffing(struct slice input, int step)
{
    struct model model = {0};
    struct bytes expected;
    struct bytes wire;
    struct framing_stuffing stuffing;
    struct framing_facts facts;

    bytes_init(&model.out, ROOM);
    bytes_init(&expected, ROOM);
    bytes_init(&wire, ROOM);
    framing_stuffing_init(&stuffing);
    for (size_t at = 0, length; at < input.length; at += length) {
        length = piece_length(step, at, input.length - at);
        CHECK(framing_stuff(&stuffing, slice_part(input, at, length), &wire) == RESULT_OK);
    }
    model_stuffed(input, &expected);
    CHECK(slice_equal(bytes_view(&wire), bytes_view(&expected)));
    model_facts(input, true, &facts);
    put(&wire, framing_data_end(facts.ends_with_crlf));
    /* It reads back, and not a byte of it stands behind the end. */
    model_data(bytes_view(&wire), &model);
    CHECK(model.has_ended && model.taken == wire.length);
    CHECK(slice_equal(slice_part(bytes_view(&model.out), 0, input.length), input));
    CHECK(model.out.length == input.length + (facts.ends_with_crlf ? 0 : 2));
    check_data(bytes_view(&wire), step);
    bytes_fini(&wire);
    bytes_fini(&expected);
    bytes_fini(&model.out);
}

static void check_add_line(struct slice line)
{
    struct bytes into;
    bool is_bad = false;

    for (size_t i = 0; i < line.length; i++)
        is_bad |= line.data[i] == '\r' || line.data[i] == '\n' || line.data[i] == '\0';
    bytes_init(&into, ROOM);
    CHECK(framing_add_line(&into, line) == (is_bad ? RESULT_INVALID : RESULT_OK));
    CHECK(into.length == (is_bad ? 0 : line.length + 2));
    bytes_fini(&into);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t line_maxes[] = {2, 9, 64, 2048};
    static const size_t chunks[] = {1, 5, 100, INPUT_MAX};
    struct slice input = {(const char *)data, size};

    if (size == 0 || size > INPUT_MAX)
        return 0;
    for (int step = size > 400 ? 3 : 0; step < STEPS; step++) {
        for (size_t i = 0; i < 4; i++)
            check_lines(input, line_maxes[i], step);
        check_data(input, step);
        for (size_t i = size > 400 ? 2 : 0; i < 4; i++)
            check_chunks(input, chunks[i], step);
        check_stuffing(input, step);
    }
    check_add_line(input);
    return 0;
}
