/* For thousands of random messages made of the bytes that matter: what is stuffed and cut
 * anywhere reads back as it was, nothing of it ends the data early, and lines that were
 * added come back one by one. The seed is printed; SMTPD_SEED sets it. */
#include "smtpd/smtp/framing.h"

#include "test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 20000, LONGEST = 200, ROOM = 8192, LINES = 12 };

static uint64_t first_seed = 20261124;
static uint64_t seed;

/* xorshift64*: the same numbers everywhere. */
static uint64_t any(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

/* CR, LF and dots, alone and in the order that ends data, more often than anything else. */
static struct slice any_message(char *into)
{
    static const char *const parts[] = {"\r\n",  "\r",    "\n", ".",
                                        "\r\n.", ".\r\n", "a",  "\200"};
    size_t wanted = any() % LONGEST;
    size_t length = 0;

    while (length < wanted) {
        const char *part = parts[any() % 8];

        memcpy(into + length, part, strlen(part));
        length += strlen(part);
    }
    if (length > 0 && any() % 8 == 0)
        into[any() % length] = '\0';
    return (struct slice){into, length};
}

static size_t any_piece(size_t left)
{
    size_t length = 1 + any() % (any() % 4 == 0 ? 50 : 4);

    return length < left ? length : left;
}

static bool ends_line(struct slice data)
{
    return data.length == 0 ||
           (data.length >= 2 && memcmp(data.data + data.length - 2, "\r\n", 2) == 0);
}

static void check(bool holds, const char *what, int round)
{
    if (!holds)
        fail_msg("%s: round %d of seed %" PRIu64, what, round, first_seed);
}

static void stuff(struct slice data, struct bytes *wire)
{
    struct framing_stuffing stuffing;

    framing_stuffing_init(&stuffing);
    for (size_t at = 0, length; at < data.length; at += length) {
        length = any_piece(data.length - at);
        assert_int_equal(framing_stuff(&stuffing, slice_part(data, at, length), wire),
                         RESULT_OK);
    }
    assert_int_equal(bytes_add(wire, framing_data_end(ends_line(data))), RESULT_OK);
}

/* Reads the wire by pieces up to the end of data; returns what was taken of it. */
static size_t read_back(struct framing *framing, struct slice wire, struct bytes *back)
{
    size_t at = 0;

    framing_start_message(framing);
    framing_read_data(framing);
    while (at < wire.length) {
        struct slice piece = slice_part(wire, at, any_piece(wire.length - at));
        enum framing_event event;
        struct slice out;

        at += piece.length;
        while ((event = framing_next(framing, &piece, &out)) == FRAMING_DATA)
            assert_int_equal(bytes_add(back, out), RESULT_OK);
        if (event == FRAMING_DATA_END)
            return at - piece.length;
        assert_int_equal(piece.length, 0);
    }
    return 0;
}

TEST(property, what_is_stuffed_reads_back_for_any_split)
{
    char message[LONGEST + 8];
    struct framing framing;
    struct bytes wire;
    struct bytes back;

    bytes_init(&wire, ROOM);
    bytes_init(&back, ROOM);
    framing_init(&framing, 100);
    for (int round = 0; round < ROUNDS; round++) {
        struct slice data = any_message(message);
        size_t end;

        bytes_clear(&wire);
        bytes_clear(&back);
        stuff(data, &wire);
        end = wire.length;
        assert_int_equal(bytes_add_text(&wire, "QUIT\r\n"), RESULT_OK);
        check(read_back(&framing, bytes_view(&wire), &back) == end, "the end", round);
        if (!ends_line(data))
            back.length -= 2;
        check(slice_equal(bytes_view(&back), data), "the data", round);
        check(framing.facts.ends_with_crlf, "the last line", round);
    }
    bytes_fini(&back);
    bytes_fini(&wire);
}

/* The facts of a message are the same by DATA and by any sequence of chunks. */
TEST(property, chunks_and_data_gather_the_same_facts)
{
    char message[LONGEST + 8];
    struct framing by_data;
    struct framing by_chunk;
    struct bytes wire;
    struct bytes back;

    bytes_init(&wire, ROOM);
    bytes_init(&back, ROOM);
    framing_init(&by_data, 100);
    framing_init(&by_chunk, 100);
    for (int round = 0; round < ROUNDS; round++) {
        struct slice data = any_message(message);

        if (!ends_line(data))
            continue;
        bytes_clear(&wire);
        bytes_clear(&back);
        stuff(data, &wire);
        (void)read_back(&by_data, bytes_view(&wire), &back);
        framing_start_message(&by_chunk);
        while (data.length > 0) {
            struct slice chunk = slice_part(data, 0, any_piece(data.length));
            struct slice out;

            data = slice_from(data, chunk.length);
            framing_read_chunk(&by_chunk, chunk.length);
            while (framing_next(&by_chunk, &chunk, &out) == FRAMING_DATA)
                continue;
        }
        check(by_data.facts.bytes == by_chunk.facts.bytes, "bytes", round);
        check(by_data.facts.longest_line == by_chunk.facts.longest_line, "longest", round);
        check(by_data.facts.has_8bit == by_chunk.facts.has_8bit, "8 bit", round);
        check(by_data.facts.has_nul == by_chunk.facts.has_nul, "NUL", round);
        check(by_data.facts.has_bare_cr_or_lf == by_chunk.facts.has_bare_cr_or_lf, "bare",
              round);
        check(by_data.facts.has_dot_line == by_chunk.facts.has_dot_line, "dots", round);
        check(by_chunk.facts.ends_with_crlf, "the last line", round);
    }
    bytes_fini(&back);
    bytes_fini(&wire);
}

/* Writes random lines; returns how many, and their lengths in order. */
static int any_lines(struct bytes *wire, size_t lengths[LINES])
{
    int count = 1 + (int)(any() % LINES);
    char line[80];

    for (int i = 0; i < count; i++) {
        lengths[i] = any() % sizeof line;
        for (size_t at = 0; at < lengths[i]; at++)
            line[at] = (char)(' ' + (int)((any() >> 8) % 90));
        assert_int_equal(framing_add_line(wire, (struct slice){line, lengths[i]}),
                         RESULT_OK);
    }
    return count;
}

static const char *next_expected(struct bytes *wire, const size_t *lengths, int index)
{
    const char *at = wire->data;

    for (int i = 0; i < index; i++)
        at += lengths[i] + 2;
    return at;
}

TEST(property, lines_that_were_added_come_back_for_any_split)
{
    size_t lengths[LINES];
    struct bytes wire;

    bytes_init(&wire, ROOM);
    for (int round = 0; round < ROUNDS / 4; round++) {
        size_t line_max = 40;
        struct framing framing;
        size_t held = 0;
        int read = 0;
        int count;

        bytes_clear(&wire);
        count = any_lines(&wire, lengths);
        framing_init(&framing, line_max);
        for (size_t at = 0; at < wire.length;) {
            size_t more = any_piece(wire.length - at);
            struct slice input = slice_part(bytes_view(&wire), at - held, held + more);
            enum framing_event event;
            struct slice out;

            at += more;
            while ((event = framing_next(&framing, &input, &out)) != FRAMING_MORE) {
                bool fits = lengths[read] + 2 <= line_max;

                check(event == (fits ? FRAMING_LINE : FRAMING_LINE_TOO_LONG), "event",
                      round);
                check(!fits || (out.length == lengths[read] &&
                                out.data == next_expected(&wire, lengths, read)),
                      "line", round);
                read++;
            }
            held = input.length;
        }
        check(read == count && held == 0, "count", round);
    }
    bytes_fini(&wire);
}

static int set_up(void **state)
{
    const char *wanted = getenv("SMTPD_SEED");

    (void)state;
    if (wanted)
        first_seed = strtoull(wanted, NULL, 10);
    seed = first_seed | 1;
    printf("SMTPD_SEED=%" PRIu64 "\n", first_seed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(property, what_is_stuffed_reads_back_for_any_split),
        RUN(property, chunks_and_data_gather_the_same_facts),
        RUN(property, lines_that_were_added_come_back_for_any_split),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
