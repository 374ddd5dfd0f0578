/* Bytes as lines, as DATA, as chunks and outbound: what ends a line and what never does,
 * where data ends and what stays behind it, and the facts that are gathered on the way.
 * Each example is tried whole and with every size of pieces. */
#include "smtpd/smtp/framing.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

enum { ROOM = 8192 };

/* Gives `text` in pieces of `step` bytes; the reader's events come out as text. */
static void add_event(struct bytes *log, enum framing_event event, struct slice out)
{
    static const char *const heads[] = {"", "line ", "bad ", "long ", "", "end "};
    enum result added = bytes_add_text(log, heads[event]);

    if (added == RESULT_OK)
        added = bytes_add(log, out);
    if (added == RESULT_OK && event != FRAMING_DATA && event != FRAMING_DATA_END)
        added = bytes_add_text(log, ";");
    assert_int_equal(added, RESULT_OK);
}

/* Returns how many bytes were left when the reader wanted more (or had ended its data). */
static size_t feed(struct framing *framing, struct slice text, size_t step,
                   struct bytes *log)
{
    size_t held = 0; /* bytes before `at` that the reader left to us */

    for (size_t at = 0; at < text.length;) {
        size_t more = step < text.length - at ? step : text.length - at;
        struct slice input = slice_part(text, at - held, held + more);
        enum framing_event event;
        struct slice out;

        at += more;
        while ((event = framing_next(framing, &input, &out)) != FRAMING_MORE) {
            add_event(log, event, out);
            if (event == FRAMING_DATA_END)
                return input.length + (text.length - at);
        }
        held = input.length;
    }
    return held;
}

struct line_example {
    const char *input;
    const char *events;
    size_t left; /* bytes of an incomplete line */
};

/* clang-format off */
static const struct line_example line_examples[] = {
    {"NOOP\r\nQUIT\r\n",    "line NOOP;line QUIT;", 0},
    {"\r\n\r\n",            "line ;line ;", 0},
    {"NOOP\r\nQUI",         "line NOOP;", 3},
    {"NOOP\r",              "", 5},
    {"NOOP\rQUIT\r\n",      "bad NOOP\rQUIT;", 0},
    {"NOOP\nQUIT\r\n",      "bad NOOP\nQUIT;", 0},
    {"NOOP\n\rQUIT\r\n",    "bad NOOP\n\rQUIT;", 0},
    {"NOOP\r\r\nQUIT\r\n",  "bad NOOP\r;line QUIT;", 0},
    {"\n\r\n",              "bad \n;", 0},
    {"\r\r\n",              "bad \r;", 0},
    {"\n\n\n",              "", 3},
    /* The maximum is 20 with CR LF. */
    {"123456789012345678\r\nX\r\n",   "line 123456789012345678;line X;", 0},
    {"1234567890123456789\r\nX\r\n",  "long ;line X;", 0},
    {"12345678901234567890123456789012345678901234567890\r\nX\r\n", "long ;line X;", 0},
    {"12345678901234567890123456789\n1234\r5678\r\r\nX\r\n", "long ;line X;", 0},
    {"1234567890123456789012345", "", 0},
    {"123456789012345678901234\r", "", 1},
};
/* clang-format on */

TEST(lines, end_with_cr_lf_alone_for_any_split)
{
    for (size_t i = 0; i < sizeof line_examples / sizeof *line_examples; i++) {
        const struct line_example *example = &line_examples[i];

        for (size_t step = 1; step <= strlen(example->input); step++) {
            struct framing framing;
            struct bytes log;

            bytes_init(&log, ROOM);
            framing_init(&framing, 20);
            assert_int_equal(feed(&framing, slice_of(example->input), step, &log),
                             example->left);
            if (!slice_equal_text(bytes_view(&log), example->events))
                fail_msg("example %zu, step %zu: %.*s", i, step, (int)log.length,
                         log.length ? log.data : "");
            bytes_fini(&log);
        }
    }
}

TEST(lines, with_a_nul_are_bad_and_given_whole)
{
    struct framing framing;
    struct slice input = SLICE("NO\0OP\r\nQUIT\r\n");
    struct slice out;

    framing_init(&framing, 100);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_LINE_BAD);
    assert_true(slice_equal(out, SLICE("NO\0OP")));
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_LINE);
    assert_true(slice_equal_text(out, "QUIT"));
}

TEST(lines, too_long_leave_at_most_one_byte_to_hold)
{
    struct framing framing;
    char text[64];
    struct slice out;

    memset(text, 'x', sizeof text);
    framing_init(&framing, 20);
    for (size_t length = 1; length <= sizeof text; length++) {
        struct slice input = {text, length};
        struct framing fresh = framing;

        assert_int_equal(framing_next(&fresh, &input, &out), FRAMING_MORE);
        assert_int_equal(input.length, length < 20 ? length : 0);
    }
}

TEST(lines, may_be_longer_once_the_maximum_was_raised)
{
    struct framing framing;
    struct slice input = SLICE("1234567890\r\n1234567890\r\n");
    struct slice out;

    framing_init(&framing, 8);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_LINE_TOO_LONG);
    assert_int_equal(out.length, 0);
    framing_set_line_max(&framing, 12);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_LINE);
    assert_true(slice_equal_text(out, "1234567890"));
}

TEST(lines, are_read_afresh_after_read_lines)
{
    struct framing framing;
    struct slice input = SLICE("a line that is far too long");
    struct slice out;

    framing_init(&framing, 8);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_MORE);
    framing_read_lines(
        &framing); /* as after STARTTLS: what was said in clear is forgotten */
    input = SLICE("EHLO\r\n");
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_LINE);
    assert_true(slice_equal_text(out, "EHLO"));
}

/* ---- data ---- */

struct data_example {
    const char *input;
    const char *events; /* pieces joined, then "end " */
    size_t left;
    struct framing_facts facts;
};

/* clang-format off */
static const struct data_example data_examples[] = {
    {".\r\n", "end ", 0, {0, 0, 0, 0, 0, 0, 1, 0}},
    {"a\r\n.\r\nQUIT\r\n", "a\r\nend ", 6, {3, 3, 0, 0, 0, 0, 1, 0}},
    {"a\r\nlonger\r\nb\r\n.\r\n", "a\r\nlonger\r\nb\r\nend ", 0, {14, 8, 0, 0, 0, 0, 1, 0}},
    {"..\r\n...\r\n.a\r\n.\r\n", ".\r\n..\r\na\r\nend ", 0, {10, 4, 0, 0, 0, 1, 1, 0}},
    {".a\r\n.\r\n", "a\r\nend ", 0, {3, 3, 0, 0, 0, 0, 1, 0}},
    {"\r\n.\r\n", "\r\nend ", 0, {2, 2, 0, 0, 0, 0, 1, 0}},
    /* Smuggling: none of these ends the data before CR LF . CR LF. */
    {"a\n.\nb\r\n.\r\n",     "a\n.\nb\r\nend ", 0,     {7, 7, 0, 0, 1, 0, 1, 0}},
    {"a\r.\rb\r\n.\r\n",     "a\r.\rb\r\nend ", 0,     {7, 7, 0, 0, 1, 0, 1, 0}},
    {"a\n.\r\nb\r\n.\r\n",   "a\n.\r\nb\r\nend ", 0,   {8, 5, 0, 0, 1, 0, 1, 0}},
    {"a\r.\r\nb\r\n.\r\n",   "a\r.\r\nb\r\nend ", 0,   {8, 5, 0, 0, 1, 0, 1, 0}},
    {"a\r\n.\nb\r\n.\r\n",   "a\r\n\nb\r\nend ", 0,    {7, 4, 0, 0, 1, 0, 1, 0}},
    {"a\r\n.\rb\r\n.\r\n",   "a\r\n\rb\r\nend ", 0,    {7, 4, 0, 0, 1, 0, 1, 0}},
    {"a\r\n.\r\r\nb\r\n.\r\n", "a\r\n\r\r\nb\r\nend ", 0, {9, 3, 0, 0, 1, 0, 1, 0}},
    {"a\r\n\n.\n\nb\r\n.\r\n", "a\r\n\n.\n\nb\r\nend ", 0, {10, 7, 0, 0, 1, 0, 1, 0}},
    {"a\r\n.\r.\r\n.\r\n",   "a\r\n\r.\r\nend ", 0,    {7, 4, 0, 0, 1, 0, 1, 0}},
    {"a\r\r\n.\r\n",         "a\r\r\nend ", 0,         {4, 4, 0, 0, 1, 0, 1, 0}},
    {"a\r\n. \r\n.\r\n",     "a\r\n \r\nend ", 0,      {6, 3, 0, 0, 0, 0, 1, 0}},
    /* Unended: a dot is held back until it is known what it means. */
    {"a\r\n.",   "a\r\n", 0,   {3, 3, 0, 0, 0, 0, 1, 0}},
    {"a\r\n.\r", "a\r\n", 0,   {3, 3, 0, 0, 0, 0, 1, 0}},
    {"abc",      "abc", 0,     {3, 3, 0, 0, 0, 0, 0, 0}},
    {"abc\r",    "abc\r", 0,   {4, 4, 0, 0, 0, 0, 0, 1}},
    {"\303\251\r\n.\r\n", "\303\251\r\nend ", 0, {4, 4, 1, 0, 0, 0, 1, 0}},
    {"sevenbit\200\r\n.\r\n", "sevenbit\200\r\nend ", 0, {11, 11, 1, 0, 0, 0, 1, 0}},
};
/* clang-format on */

static void check_facts(const struct framing_facts *is, const struct framing_facts *should)
{
    assert_int_equal(is->bytes, should->bytes);
    assert_int_equal(is->longest_line, should->longest_line);
    assert_int_equal(is->has_8bit, should->has_8bit);
    assert_int_equal(is->has_nul, should->has_nul);
    assert_int_equal(is->has_bare_cr_or_lf, should->has_bare_cr_or_lf);
    assert_int_equal(is->has_dot_line, should->has_dot_line);
    assert_int_equal(is->ends_with_crlf, should->ends_with_crlf);
    assert_int_equal(is->ends_with_cr, should->ends_with_cr);
}

static void start_data(struct framing *framing)
{
    framing_init(framing, 20);
    framing_start_message(framing);
    framing_read_data(framing);
}

TEST(data, ends_at_cr_lf_dot_cr_lf_alone_for_any_split)
{
    for (size_t i = 0; i < sizeof data_examples / sizeof *data_examples; i++) {
        const struct data_example *example = &data_examples[i];

        for (size_t step = 1; step <= strlen(example->input); step++) {
            struct framing framing;
            struct bytes log;

            bytes_init(&log, ROOM);
            start_data(&framing);
            assert_int_equal(feed(&framing, slice_of(example->input), step, &log),
                             example->left);
            if (!slice_equal_text(bytes_view(&log), example->events))
                fail_msg("example %zu, step %zu: %.*s", i, step, (int)log.length, log.data);
            check_facts(&framing.facts, &example->facts);
            bytes_fini(&log);
        }
    }
}

TEST(data, remembers_a_nul_which_ends_nothing)
{
    struct framing framing;
    struct slice input = SLICE("a\r\n.\0\r\n.\r\n");
    struct slice out;

    start_data(&framing);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_DATA);
    assert_true(slice_equal_text(out, "a\r\n"));
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_DATA);
    assert_true(slice_equal(out, SLICE("\0\r\n")));
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_DATA_END);
    assert_true(framing.facts.has_nul);
    assert_false(framing.facts.has_bare_cr_or_lf);
}

TEST(data, is_followed_by_lines_without_being_told)
{
    struct framing framing;
    struct slice input = SLICE("a\r\n.\r\nQUIT\r\n");
    struct slice out;

    start_data(&framing);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_DATA);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_DATA_END);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_LINE);
    assert_true(slice_equal_text(out, "QUIT"));
}

TEST(data, starts_each_message_with_fresh_facts)
{
    struct framing framing;
    struct bytes log;

    bytes_init(&log, ROOM);
    start_data(&framing);
    (void)feed(&framing, SLICE("..x\n\200y\r\n.\r\n"), 100, &log);
    assert_true(framing.facts.has_8bit && framing.facts.has_bare_cr_or_lf);
    assert_true(framing.facts.has_dot_line && framing.facts.longest_line > 4);
    framing_start_message(&framing);
    framing_read_data(&framing);
    (void)feed(&framing, SLICE("ab\r\n.\r\n"), 100, &log);
    check_facts(&framing.facts, &(struct framing_facts){4, 4, 0, 0, 0, 0, 1, 0});
    bytes_fini(&log);
}

TEST(data, points_into_its_input_and_is_never_empty)
{
    static const char text[] = "one\r\n..two\r\nthree\r\n.\r\n";
    struct framing framing;
    struct slice input = {text, sizeof text - 1};
    struct slice out;
    int pieces = 0;

    start_data(&framing);
    while (framing_next(&framing, &input, &out) == FRAMING_DATA) {
        assert_true(out.length > 0);
        assert_true(out.data >= text && out.data + out.length <= text + sizeof text - 1);
        pieces++;
    }
    assert_int_equal(pieces, 2); /* copied as it lies but where a dot had to go */
}

/* ---- chunks ---- */

TEST(chunk, takes_so_many_bytes_whatever_they_are)
{
    static const char text[] = "a\r\n.\r\nb\r\n..c\r\nNOOP\r\n";
    enum { BYTES = 14 };

    for (size_t step = 1; step < sizeof text; step++) {
        struct framing framing;
        struct bytes log;

        bytes_init(&log, ROOM);
        framing_init(&framing, 20);
        framing_start_message(&framing);
        framing_read_chunk(&framing, BYTES);
        assert_int_equal(feed(&framing, slice_of(text), step, &log),
                         sizeof text - 1 - BYTES);
        assert_true(slice_equal_text(bytes_view(&log), "a\r\n.\r\nb\r\n..c\r\nend "));
        check_facts(&framing.facts, &(struct framing_facts){BYTES, 5, 0, 0, 0, 1, 1, 0});
        bytes_fini(&log);
    }
}

TEST(chunk, of_no_bytes_ends_at_once)
{
    struct framing framing;
    struct slice input = SLICE_NONE;
    struct slice out;

    framing_init(&framing, 20);
    framing_start_message(&framing);
    framing_read_chunk(&framing, 0);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_DATA_END);
    assert_int_equal(framing_next(&framing, &input, &out), FRAMING_MORE);
    assert_true(framing.facts.ends_with_crlf);
}

static void add_chunk(struct framing *framing, const char *text)
{
    struct slice input = slice_of(text);
    struct slice out;

    framing_read_chunk(framing, input.length);
    while (framing_next(framing, &input, &out) == FRAMING_DATA)
        continue;
    assert_int_equal(input.length, 0);
}

TEST(chunk, goes_on_with_the_line_of_the_one_before)
{
    struct framing framing;

    framing_init(&framing, 20);
    framing_start_message(&framing);
    add_chunk(&framing, "abc");
    assert_false(framing.facts.ends_with_crlf);
    add_chunk(&framing, ".def\r"); /* no line begins with this dot */
    add_chunk(&framing, "\nx");    /* and this LF has its CR */
    check_facts(&framing.facts, &(struct framing_facts){10, 9, 0, 0, 0, 0, 0, 0});
    add_chunk(&framing, "\r\n");
    add_chunk(&framing, ".y\r\n");
    check_facts(&framing.facts, &(struct framing_facts){16, 9, 0, 0, 0, 1, 1, 0});
    add_chunk(&framing, "\r");
    add_chunk(&framing, "z");
    assert_true(framing.facts.has_bare_cr_or_lf);
}

/* ---- outbound ---- */

struct stuffing_example {
    const char *data;
    const char *wire;
};

static const struct stuffing_example stuffing_examples[] = {
    {"a\r\n", "a\r\n"},
    {".\r\n", "..\r\n"},
    {"a\r\n.b\r\n..\r\n", "a\r\n..b\r\n...\r\n"},
    {"a.b\r\n .\r\n", "a.b\r\n .\r\n"},
    /* A bare CR or LF is no line end: what stands behind it is not doubled. */
    {"a\n.b\r\n", "a\n.b\r\n"},
    {"a\r.b\r\n", "a\r.b\r\n"},
    {"a\r\r\n.\r\n", "a\r\r\n..\r\n"},
    {"a\n\r.\r\n", "a\n\r.\r\n"},
    {"\n.\r\n", "\n.\r\n"},
};

TEST(stuffing, doubles_the_dots_at_line_starts_for_any_split)
{
    for (size_t i = 0; i < sizeof stuffing_examples / sizeof *stuffing_examples; i++) {
        struct slice data = slice_of(stuffing_examples[i].data);

        for (size_t step = 1; step <= data.length; step++) {
            struct framing_stuffing stuffing;
            struct bytes wire;

            bytes_init(&wire, ROOM);
            framing_stuffing_init(&stuffing);
            for (size_t at = 0; at < data.length; at += step)
                assert_int_equal(
                    framing_stuff(&stuffing, slice_part(data, at, step), &wire), RESULT_OK);
            if (!slice_equal_text(bytes_view(&wire), stuffing_examples[i].wire))
                fail_msg("example %zu, step %zu", i, step);
            bytes_fini(&wire);
        }
    }
}

TEST(stuffing, says_when_the_buffer_is_full)
{
    struct framing_stuffing stuffing;
    struct bytes wire;

    bytes_init(&wire, 4);
    framing_stuffing_init(&stuffing);
    assert_int_equal(framing_stuff(&stuffing, SLICE(".ab\r\n"), &wire), RESULT_TOO_LARGE);
    assert_true(wire.length <= 4);
    bytes_fini(&wire);
}

TEST(stuffing, ends_data_on_a_line_of_its_own)
{
    assert_true(slice_equal_text(framing_data_end(true), ".\r\n"));
    assert_true(slice_equal_text(framing_data_end(false), "\r\n.\r\n"));
}

TEST(add_line, adds_nothing_that_would_be_two_lines)
{
    const struct slice bad[] = {SLICE("a\rb"), SLICE("a\nb"), SLICE("a\0b"), SLICE("a\r\n"),
                                SLICE("\n")};
    struct bytes into;

    bytes_init(&into, 12);
    assert_int_equal(framing_add_line(&into, SLICE("NOOP")), RESULT_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(framing_add_line(&into, bad[i]), RESULT_INVALID);
    assert_int_equal(framing_add_line(&into, SLICE_NONE), RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&into), "NOOP\r\n\r\n"));
    /* The text would fit, its CR LF not. */
    assert_int_equal(framing_add_line(&into, SLICE("abc")), RESULT_TOO_LARGE);
    assert_true(slice_equal_text(bytes_view(&into), "NOOP\r\n\r\n"));
    bytes_fini(&into);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(lines, end_with_cr_lf_alone_for_any_split),
        RUN(lines, with_a_nul_are_bad_and_given_whole),
        RUN(lines, too_long_leave_at_most_one_byte_to_hold),
        RUN(lines, may_be_longer_once_the_maximum_was_raised),
        RUN(lines, are_read_afresh_after_read_lines),
        RUN(data, ends_at_cr_lf_dot_cr_lf_alone_for_any_split),
        RUN(data, remembers_a_nul_which_ends_nothing),
        RUN(data, is_followed_by_lines_without_being_told),
        RUN(data, starts_each_message_with_fresh_facts),
        RUN(data, points_into_its_input_and_is_never_empty),
        RUN(chunk, takes_so_many_bytes_whatever_they_are),
        RUN(chunk, of_no_bytes_ends_at_once),
        RUN(chunk, goes_on_with_the_line_of_the_one_before),
        RUN(stuffing, doubles_the_dots_at_line_starts_for_any_split),
        RUN(stuffing, says_when_the_buffer_is_full),
        RUN(stuffing, ends_data_on_a_line_of_its_own),
        RUN(add_line, adds_nothing_that_would_be_two_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
