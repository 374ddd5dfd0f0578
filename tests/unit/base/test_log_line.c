/* The making of lines: each is looked at before it is handed over. */
#include "smtpd/base/log.h"

#include "test.h"

#include <string.h>

/* The line as it would be written, closed, as text. */
static const char *closed(struct log_line *line)
{
    line->skipped = 0;
    while (line->depth > 0)
        log_object_end(line);
    if (line->format == LOG_JSON)
        line->text[line->length++] = '}';
    line->text[line->length] = '\0';
    return line->text;
}

static void start(struct log_line *line)
{
    log_start(line, LOG_NOTICE, "test.event");
}

/* What stands behind the fields that every line has. */
static const char *fields(struct log_line *line)
{
    const char *event = strstr(closed(line), "\"event\":\"test.event\"");

    assert_non_null(event);
    return event + strlen("\"event\":\"test.event\"");
}

TEST(log_line, every_line_says_when_where_how_bad_and_what)
{
    struct log_line line;
    const char *text;

    log_start(&line, LOG_WARNING, "queue.full");
    text = closed(&line);
    assert_memory_equal(text, "{\"time\":\"20", 11);
    assert_int_equal(text[8 + 28], '"'); /* µs and Z */
    assert_string_equal(text + 8 + 29,
                        ",\"node\":\"\",\"level\":\"warning\",\"event\":\"queue.full\"}");
}

TEST(log_line, fields_of_each_kind)
{
    struct log_line line;

    start(&line);
    log_text(&line, "a", "x");
    log_text(&line, "none", NULL);
    log_slice(&line, "b", slice_part(SLICE("xyz"), 1, 1));
    log_number(&line, "c", INT64_MIN);
    log_seconds(&line, "d", 1234);
    log_seconds(&line, "e", 5);
    log_seconds(&line, "f", -5);
    log_bool(&line, "g", true);
    log_bool(&line, "h", false);
    log_slice(&line, "i", SLICE_NONE);
    assert_string_equal(fields(&line),
                        ",\"a\":\"x\",\"b\":\"y\",\"c\":-9223372036854775808,\"d\":1.234,"
                        "\"e\":0.005,\"f\":0.000,\"g\":true,\"h\":false,\"i\":\"\"}");
}

TEST(log_line, objects_nest_and_commas_stand_between_fields_only)
{
    struct log_line line;

    start(&line);
    log_object(&line, "reply");
    log_number(&line, "code", 250);
    log_object(&line, "inner");
    log_object_end(&line);
    log_text(&line, "text", "ok");
    log_object_end(&line);
    log_number(&line, "size", 1);
    log_object_end(&line); /* one too many does nothing */
    assert_string_equal(
        fields(&line),
        ",\"reply\":{\"code\":250,\"inner\":{},\"text\":\"ok\"},\"size\":1}");
}

TEST(log_line, what_stays_open_is_closed_at_the_end)
{
    struct log_line line;

    start(&line);
    log_object(&line, "a");
    log_object(&line, "b");
    log_number(&line, "c", 1);
    assert_string_equal(fields(&line), ",\"a\":{\"b\":{\"c\":1}}}");
}

TEST(log_line, an_object_that_is_too_deep_is_left_out_with_its_fields)
{
    struct log_line line;

    start(&line);
    for (int i = 0; i < 5; i++)
        log_object(&line, "o");
    log_number(&line, "lost", 1);
    log_object_end(&line);
    log_number(&line, "kept", 2);
    assert_string_equal(fields(&line), ",\"o\":{\"o\":{\"o\":{\"o\":{\"kept\":2}}}}}");
}

TEST(log_line, text_is_escaped)
{
    struct log_line line;

    start(&line);
    log_slice(&line, "x", SLICE("a\"b\\c\r\n\t\0\x1b\x7f/\xc2\x9b\xc2\xa0"));
    assert_string_equal(fields(&line),
                        ",\"x\":\"a\\\"b\\\\c\\u000d\\u000a\\u0009\\u0000\\u001b"
                        "\\u007f/\\u009b\xc2\xa0\"}");
}

TEST(log_line, valid_utf8_stays_and_each_other_byte_becomes_u_fffd)
{
    static const struct {
        const char *value;
        const char *written;
    } cases[] = {
#define BAD "\xef\xbf\xbd"
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x93\xa7\xf4\x8f\xbf\xbf",
         "\xc3\xa4\xe2\x82\xac\xf0\x9f\x93\xa7\xf4\x8f\xbf\xbf"},
        {"\xff", BAD},           /* never a first byte */
        {"a\x80z", "a" BAD "z"}, /* a continuation alone */
        {"\xc3", BAD},           /* cut short */
        {"\xe2\x82", BAD BAD},
        {"\xc3z", BAD "z"},
        {"\xc0\xaf", BAD BAD}, /* overlong */
        {"\xe0\x80\xaf", BAD BAD BAD},
        {"\xf0\x80\x80\xaf", BAD BAD BAD BAD},
        {"\xed\xa0\x80", BAD BAD BAD},         /* a surrogate */
        {"\xf4\x90\x80\x80", BAD BAD BAD BAD}, /* above U+10FFFF */
        {"\xf5\x80\x80\x80", BAD BAD BAD BAD},
    };
    struct log_line line;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text;

        start(&line);
        log_text(&line, "x", cases[i].value);
        text = fields(&line) + strlen(",\"x\":\"");
        assert_memory_equal(text, cases[i].written, strlen(cases[i].written));
        assert_string_equal(text + strlen(cases[i].written), "\"}");
    }
}

TEST(log_line, a_long_value_is_cut_between_characters)
{
    struct log_line line;
    char value[3001];

    start(&line);
    for (size_t i = 0; i < 3000; i += 3)
        memcpy(value + i, "\xe2\x82\xac", 3);
    value[3000] = '\0';
    log_text(&line, "x", value);
    assert_int_equal(strlen(fields(&line)), strlen(",\"x\":\"\"}") + 1023);
    assert_null(strstr(line.text, "\xef\xbf\xbd"));
}

TEST(log_line, a_field_that_does_not_fit_leaves_no_trace)
{
    struct log_line line;
    char value[1025];
    size_t full;

    start(&line);
    memset(value, 1, sizeof value - 1); /* each byte takes six */
    value[sizeof value - 1] = '\0';
    log_text(&line, "a", value);
    full = line.length;
    log_text(&line, "b", value);
    assert_int_equal(line.length, full);
    log_object(&line, "c");
    log_text(&line, "d", value);
    log_object_end(&line);
    log_number(&line, "e", 1);
    closed(&line);
    assert_string_equal(line.text + full, ",\"c\":{},\"e\":1}");
}

TEST(log_line, whatever_is_put_in_the_line_never_passes_its_most)
{
    struct log_line line;

    start(&line);
    for (int i = 0; i < 5000; i++) {
        if (i % 3 == 0)
            log_object(&line, "o");
        log_number(&line, "n", i);
        if (i % 3 == 2)
            log_object_end(&line);
    }
    assert_true(strlen(closed(&line)) < LOG_LINE_MAX);
    assert_int_equal(line.text[line.length - 1], '}');
}

TEST(log_line, a_line_below_the_level_takes_no_fields)
{
    struct log_line line;

    memset(&line, 0x5a, sizeof line);
    log_start(&line, LOG_DEBUG, "test.event"); /* before log_open() the level is info */
    assert_false(line.is_written);
    log_text(&line, "a", "b");
    log_slice(&line, "a", SLICE("b"));
    log_number(&line, "a", 1);
    log_seconds(&line, "a", 1);
    log_bool(&line, "a", true);
    log_object(&line, "a");
    log_object_end(&line);
    log_end(&line);
    for (size_t i = 0; i < sizeof line.text; i++)
        assert_int_equal(line.text[i], 0x5a);
}

TEST(log_line, a_final_line_is_written_whatever_the_level)
{
    struct log_line line;

    log_start_final(&line, LOG_DEBUG, "test.event");
    assert_true(line.is_written);
    assert_true(line.is_final);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(log_line, every_line_says_when_where_how_bad_and_what),
        RUN(log_line, fields_of_each_kind),
        RUN(log_line, objects_nest_and_commas_stand_between_fields_only),
        RUN(log_line, what_stays_open_is_closed_at_the_end),
        RUN(log_line, an_object_that_is_too_deep_is_left_out_with_its_fields),
        RUN(log_line, text_is_escaped),
        RUN(log_line, valid_utf8_stays_and_each_other_byte_becomes_u_fffd),
        RUN(log_line, a_long_value_is_cut_between_characters),
        RUN(log_line, a_field_that_does_not_fit_leaves_no_trace),
        RUN(log_line, whatever_is_put_in_the_line_never_passes_its_most),
        RUN(log_line, a_line_below_the_level_takes_no_fields),
        RUN(log_line, a_final_line_is_written_whatever_the_level),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
