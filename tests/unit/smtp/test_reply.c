/* Replies: reading those of remote servers, the strange ones too, and writing our own; and
 * the table of our replies, tested as data. */
#include "smtpd/smtp/reply.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

/* Reads lines separated by "|"; returns the last event. */
static enum reply_event read_lines(struct reply_reader *reader, const char *lines)
{
    struct slice rest = slice_of(lines);
    enum reply_event event = REPLY_BAD;

    do {
        size_t length = slice_find(rest, '|');

        event = reply_reader_line(reader, slice_part(rest, 0, length), NULL);
        rest = slice_from(rest, length + 1);
    } while (rest.length > 0 && event == REPLY_MORE);
    assert_int_equal(rest.length, 0);
    return event;
}

struct example {
    const char *lines;
    enum reply_event event;
    unsigned code;
    const char *status; /* as reply_status gives it */
    const char *text;
};

/* clang-format off */
static const struct example examples[] = {
    {"250 2.1.5 OK", REPLY_COMPLETE, 250, "2.1.5", "OK"},
    {"250", REPLY_COMPLETE, 250, "2.0.0", ""},
    {"250 ", REPLY_COMPLETE, 250, "2.0.0", ""},
    {"354 go", REPLY_COMPLETE, 354, "4.0.0", "go"},
    {"450 later", REPLY_COMPLETE, 450, "4.0.0", "later"},
    {"550 no", REPLY_COMPLETE, 550, "5.0.0", "no"},
    {"599 last", REPLY_COMPLETE, 599, "5.0.0", "last"},
    {"200 first", REPLY_COMPLETE, 200, "2.0.0", "first"},
    /* The code of the class must agree with the reply's. */
    {"450 5.7.1 contradicts", REPLY_COMPLETE, 450, "4.0.0", "contradicts"},
    {"550 4.7.1 contradicts", REPLY_COMPLETE, 550, "5.0.0", "contradicts"},
    /* What is no enhanced code is text. */
    {"550 5.1 x", REPLY_COMPLETE, 550, "5.0.0", "5.1 x"},
    {"550 5.1.1000 x", REPLY_COMPLETE, 550, "5.0.0", "5.1.1000 x"},
    {"550 3.1.1 x", REPLY_COMPLETE, 550, "5.0.0", "3.1.1 x"},
    {"550 5.1.1: x", REPLY_COMPLETE, 550, "5.0.0", "5.1.1: x"},
    {"550 5.1.1", REPLY_COMPLETE, 550, "5.1.1", ""},
    {"550 5.999.999 x", REPLY_COMPLETE, 550, "5.999.999", "x"},
    /* Lines are joined, each without the code that it repeats. */
    {"550-5.1.1 No such|550-5.1.1 user|550 5.1.1 here", REPLY_COMPLETE, 550, "5.1.1",
     "No such user here"},
    /* Not all lines have one: the first that comes is it, and another one is text. */
    {"550-Not taken|550 5.2.1 Account closed", REPLY_COMPLETE, 550, "5.2.1",
     "Not taken Account closed"},
    {"550-5.7.1 Refused:|550 5.1.1 no such user", REPLY_COMPLETE, 550, "5.7.1",
     "Refused: 5.1.1 no such user"},
    {"250-a|250-|250 b", REPLY_COMPLETE, 250, "2.0.0", "a b"},
    {"250-a|250", REPLY_COMPLETE, 250, "2.0.0", "a"},
    {"250-", REPLY_MORE, 250, "2.0.0", ""},
    /* Control characters and what is no UTF-8 are shown as what they are: unknown. */
    {"554 a\tb\033[31mc\177\r\nd", REPLY_COMPLETE, 554, "5.0.0", "a?b?[31mc???d"},
    {"554 f\303\274r \344 \303", REPLY_COMPLETE, 554, "5.0.0", "f\303\274r ? ?"},
    {"554 \300\200 \355\240\200 \302\205 \364\220\200\200", REPLY_COMPLETE, 554, "5.0.0",
     "?? ??? ?? ????"},
    {"554 \342\202\254 \360\237\230\200", REPLY_COMPLETE, 554, "5.0.0",
     "\342\202\254 \360\237\230\200"},
};

static const char *const bad_lines[] = {
    "", "2", "25", "250x", "250.", "25 0", "abc hello", "199 low", "099 low", "600 high",
    "1000 long", "-250 x", " 250 x", "250-a|251 b", "250-a|550 b", "250-a|", "250-a|x",
};
/* clang-format on */

TEST(reader, reads_what_servers_say)
{
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        struct reply_reader reader;
        char status[16];

        reply_reader_init(&reader);
        assert_int_equal(read_lines(&reader, examples[i].lines), examples[i].event);
        assert_int_equal(reader.reply.code, examples[i].code);
        assert_string_equal(reader.reply.text, examples[i].text);
        reply_status(&reader.reply, status);
        assert_string_equal(status, examples[i].status);
    }
}

TEST(reader, gives_up_on_what_is_no_reply)
{
    for (size_t i = 0; i < sizeof bad_lines / sizeof *bad_lines; i++) {
        struct reply_reader reader;
        struct slice rest = slice_of(bad_lines[i]);
        size_t first = slice_find(rest, '|');
        enum reply_event event;

        reply_reader_init(&reader);
        event = reply_reader_line(&reader, slice_part(rest, 0, first), NULL);
        if (first < rest.length && event == REPLY_MORE)
            event = reply_reader_line(&reader, slice_from(rest, first + 1), NULL);
        if (event != REPLY_BAD)
            fail_msg("taken: %s", bad_lines[i]);
    }
}

TEST(reader, gives_the_text_of_each_line)
{
    struct reply_reader reader;
    static const char line[] = "250-SIZE 1000";
    struct slice text;

    reply_reader_init(&reader);
    assert_int_equal(reply_reader_line(&reader, slice_of(line), &text), REPLY_MORE);
    assert_true(slice_equal_text(text, "SIZE 1000") && text.data == line + 4);
    assert_int_equal(reply_reader_line(&reader, SLICE("250 2.1.0 x"), &text),
                     REPLY_COMPLETE);
    assert_true(slice_equal_text(text, "2.1.0 x")); /* as it was said */
    assert_int_equal(reply_reader_line(&reader, SLICE("250"), &text), REPLY_COMPLETE);
    assert_int_equal(text.length, 0);
}

TEST(reader, starts_anew_behind_a_complete_reply)
{
    struct reply_reader reader;

    reply_reader_init(&reader);
    assert_int_equal(read_lines(&reader, "250-2.0.0 one|250 2.0.0 two"), REPLY_COMPLETE);
    assert_int_equal(read_lines(&reader, "550 three"), REPLY_COMPLETE);
    assert_int_equal(reader.reply.code, 550);
    assert_int_equal(reader.reply.enhanced.class_digit, 0);
    assert_string_equal(reader.reply.text, "three");
}

TEST(reader, takes_no_more_lines_than_the_limit)
{
    struct reply_reader reader;

    reply_reader_init(&reader);
    for (int i = 0; i < LIMIT_REPLY_LINES; i++)
        assert_int_equal(reply_reader_line(&reader, SLICE("250-x"), NULL), REPLY_MORE);
    assert_int_equal(reply_reader_line(&reader, SLICE("250 x"), NULL), REPLY_BAD);
}

TEST(reader, keeps_so_much_text_and_no_half_characters)
{
    struct reply_reader reader;
    char line[4 + 2 * LIMIT_REPLY_TEXT];
    size_t length;

    memset(line, 'x', sizeof line);
    memcpy(line, "550-", 4);
    reply_reader_init(&reader);
    assert_int_equal(reply_reader_line(&reader, (struct slice){line, sizeof line}, NULL),
                     REPLY_MORE);
    assert_int_equal(strlen(reader.reply.text), LIMIT_REPLY_TEXT);
    assert_int_equal(reply_reader_line(&reader, SLICE("550 more"), NULL), REPLY_COMPLETE);
    assert_int_equal(strlen(reader.reply.text), LIMIT_REPLY_TEXT);
    /* The limit falls inside of a two-byte character: an odd number of bytes before it. */
    for (size_t i = 5; i + 1 < sizeof line; i += 2)
        memcpy(line + i, "\303\274", 2);
    assert_int_equal(reply_reader_line(&reader, (struct slice){line, sizeof line}, NULL),
                     REPLY_MORE);
    length = strlen(reader.reply.text);
    assert_int_equal(length, LIMIT_REPLY_TEXT - 1);
    assert_memory_equal(reader.reply.text + length - 2, "\303\274", 2);
}

TEST(reply, is_of_one_kind_by_its_first_digit)
{
    for (unsigned code = 200; code < 600; code++) {
        struct reply reply = {.code = (uint16_t)code};

        assert_int_equal(reply_is_positive(&reply), code / 100 == 2);
        assert_int_equal(reply_is_intermediate(&reply), code / 100 == 3);
        assert_int_equal(reply_is_transient(&reply), code / 100 == 4);
        assert_int_equal(reply_is_permanent(&reply), code / 100 == 5);
    }
}

TEST(reply, none_is_of_no_kind)
{
    struct reply none = {0};

    assert_false(reply_is_positive(&none) || reply_is_intermediate(&none));
    assert_false(reply_is_transient(&none) || reply_is_permanent(&none));
}

TEST(reply, prints_as_one_line_and_is_cut_where_there_is_no_room)
{
    struct reply reply;
    char text[64];

    reply_set(&reply, 550, "5.1.1", "No such %s", "user");
    reply_print(&reply, text, sizeof text);
    assert_string_equal(text, "550 5.1.1 No such user");
    reply_print(&reply, text, 12);
    assert_string_equal(text, "550 5.1.1 N");
    reply_set(&reply, 220, NULL, "%s", "hello");
    reply_print(&reply, text, sizeof text);
    assert_string_equal(text, "220 hello");
    reply_set(&reply, 250, "2.0.0", "%s", "");
    reply_print(&reply, text, sizeof text);
    assert_string_equal(text, "250 2.0.0");
}

TEST(reply, is_set_within_its_limit)
{
    struct reply reply;

    reply_set(&reply, 550, "5.7.1", "%*s", 3 * LIMIT_REPLY_TEXT, "x");
    assert_int_equal(strlen(reply.text), LIMIT_REPLY_TEXT);
    reply_set(&reply, 250, NULL, "short");
    assert_int_equal(reply.enhanced.class_digit, 0); /* nothing is left of the one before */
    assert_string_equal(reply.text, "short");
}

TEST(enhanced_code, is_taken_off_with_its_blanks_or_left_alone)
{
    struct enhanced_code code;
    struct slice text = SLICE("5.7.13  rest ");
    struct slice odd = SLICE("5.7.13rest");
    struct slice same = odd;

    assert_true(enhanced_code_parse(&text, &code));
    assert_true(code.class_digit == 5 && code.subject == 7 && code.detail == 13);
    assert_true(slice_equal_text(text, "rest"));
    assert_false(enhanced_code_parse(&odd, &code));
    assert_true(odd.data == same.data && odd.length == same.length);
    assert_false(enhanced_code_parse(&(struct slice){NULL, 0}, &code));
}

TEST(add, writes_lines_with_cr_lf)
{
    struct bytes into;
    struct reply reply;
    struct slice lines[] = {SLICE("one"), SLICE(""), SLICE("three")};

    bytes_init(&into, 200);
    reply_set(&reply, 250, "2.1.0", "Sender OK");
    assert_int_equal(reply_add(&into, &reply), RESULT_OK);
    reply_set(&reply, 354, NULL, "go");
    assert_int_equal(reply_add(&into, &reply), RESULT_OK);
    assert_int_equal(reply_add_lines(&into, 214, lines, 3), RESULT_OK);
    assert_int_equal(reply_add_lines(&into, 250, lines, 1), RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&into),
                                 "250 2.1.0 Sender OK\r\n354 go\r\n"
                                 "214-one\r\n214-\r\n214 three\r\n250 one\r\n"));
    bytes_fini(&into);
}

TEST(add, makes_one_line_of_any_text)
{
    struct bytes into;
    struct reply reply;

    bytes_init(&into, 200);
    reply_set(&reply, 501, "5.5.4", "%s", "a\r\n250 OK\tb\177");
    assert_int_equal(reply_add(&into, &reply), RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&into), "501 5.5.4 a??250 OK?b?\r\n"));
    bytes_fini(&into);
}

TEST(add, adds_no_part_of_a_reply_that_does_not_fit)
{
    struct bytes into;
    struct reply reply;

    bytes_init(&into, 10);
    reply_set(&reply, 250, NULL, "1234567");
    assert_int_equal(reply_add(&into, &reply), RESULT_TOO_LARGE);
    assert_int_equal(into.length, 0);
    reply_set(&reply, 250, NULL, "1234");
    assert_int_equal(reply_add(&into, &reply), RESULT_OK);
    bytes_fini(&into);
}

/* ---- the table ---- */

TEST(named, every_row_is_filled_and_consistent)
{
    for (int name = 0; name < REPLY_NAME_COUNT; name++) {
        struct reply reply;

        assert_non_null(reply_name_text((enum reply_name)name));
        reply_named(&reply, (enum reply_name)name, "argument");
        if (reply.code < 200 || reply.code > 599 || strchr(reply.text, '%') ||
            !reply.text[0])
            fail_msg("%s", reply_name_text((enum reply_name)name));
        /* RFC 2034 4: the classes agree; none in a greeting, in EHLO and in 3xx. */
        if (reply.enhanced.class_digit)
            assert_int_equal(reply.enhanced.class_digit, reply.code / 100);
        else
            assert_true(reply.code == 220 || reply.code == 250 || reply.code / 100 == 3);
    }
}

TEST(named, identifiers_are_words_and_different)
{
    for (int a = 0; a < REPLY_NAME_COUNT; a++) {
        const char *name = reply_name_text((enum reply_name)a);

        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-"),
                         strlen(name));
        for (int b = 0; b < a; b++)
            assert_string_not_equal(name, reply_name_text((enum reply_name)b));
    }
}

TEST(named, every_reply_fits_the_line_of_rfc_5321_and_reads_back)
{
    for (int name = 0; name < REPLY_NAME_COUNT; name++) {
        struct reply_reader reader;
        struct reply reply;
        struct bytes into;

        bytes_init(&into, 512); /* RFC 5321 4.5.3.1.5 */
        reply_named(&reply, (enum reply_name)name, "argument");
        assert_int_equal(reply_add(&into, &reply), RESULT_OK);
        reply_reader_init(&reader);
        assert_int_equal(
            reply_reader_line(&reader, slice_part(bytes_view(&into), 0, into.length - 2),
                              NULL),
            REPLY_COMPLETE);
        assert_int_equal(reader.reply.code, reply.code);
        assert_int_equal(reader.reply.enhanced.detail, reply.enhanced.detail);
        assert_string_equal(reader.reply.text, reply.text);
        bytes_fini(&into);
    }
}

TEST(named, takes_its_argument_as_text)
{
    struct reply reply;

    reply_named(&reply, REPLY_QUEUED, "aaaaaaaaaaaab");
    assert_string_equal(reply.text, "OK: queued as aaaaaaaaaaaab");
    reply_named(&reply, REPLY_SYNTAX, "100%s %n of it");
    assert_string_equal(reply.text, "100%s %n of it");
    reply_named(&reply, REPLY_CHUNK_OK, NULL);
    assert_string_equal(reply.text, " octets received");
    reply_named(&reply, REPLY_OK, "not asked for");
    assert_string_equal(reply.text, "OK");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(reader, reads_what_servers_say),
        RUN(reader, gives_up_on_what_is_no_reply),
        RUN(reader, gives_the_text_of_each_line),
        RUN(reader, starts_anew_behind_a_complete_reply),
        RUN(reader, takes_no_more_lines_than_the_limit),
        RUN(reader, keeps_so_much_text_and_no_half_characters),
        RUN(reply, is_of_one_kind_by_its_first_digit),
        RUN(reply, none_is_of_no_kind),
        RUN(reply, prints_as_one_line_and_is_cut_where_there_is_no_room),
        RUN(reply, is_set_within_its_limit),
        RUN(enhanced_code, is_taken_off_with_its_blanks_or_left_alone),
        RUN(add, writes_lines_with_cr_lf),
        RUN(add, makes_one_line_of_any_text),
        RUN(add, adds_no_part_of_a_reply_that_does_not_fit),
        RUN(named, every_row_is_filled_and_consistent),
        RUN(named, identifiers_are_words_and_different),
        RUN(named, every_reply_fits_the_line_of_rfc_5321_and_reads_back),
        RUN(named, takes_its_argument_as_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
