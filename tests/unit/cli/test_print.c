/* How the command line shows numbers and times; no colour into a pipe. */
#include "print.h"

#include "test.h"

#include <unistd.h>

TEST(print, ages_are_short)
{
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {{-5, "0s"},         {0, "0s"},         {119999, "119s"},
                {120000, "2m"},     {7199000, "119m"}, {7200000, "2h"},
                {172799000, "47h"}, {172800000, "2d"}, {864000000, "10d"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[PRINT_TEXT];

        print_age(rows[i].ms, text);
        assert_string_equal(text, rows[i].text);
    }
}

TEST(print, counts_of_bytes_have_a_unit)
{
    static const struct {
        int64_t bytes;
        const char *text;
    } rows[] = {{0, "0"},
                {1023, "1023"},
                {1024, "1.0K"},
                {1536, "1.5K"},
                {1 << 20, "1.0M"},
                {INT64_C(5) << 30, "5.0G"},
                {INT64_C(3) << 50, "3.0P"},
                {INT64_C(4000) << 50, "4000.0P"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[PRINT_TEXT];

        print_count(rows[i].bytes, text);
        assert_string_equal(text, rows[i].text);
    }
}

TEST(print, times_to_come_are_relative)
{
    char text[PRINT_TEXT];

    print_until(0, 1000, text);
    assert_string_equal(text, "-");
    print_until(999, 1000, text);
    assert_string_equal(text, "now");
    print_until(1000 + 300000, 1000, text);
    assert_string_equal(text, "in 5m");
}

TEST(print, members_that_are_missing_are_empty)
{
    json_t *object = json_pack("{s:s,s:i}", "name", "x", "count", 7);

    assert_string_equal(get_text(object, "name"), "x");
    assert_string_equal(get_text(object, "count"), ""); /* no text */
    assert_string_equal(get_text(object, "gone"), "");
    assert_int_equal(get_number(object, "count"), 7);
    assert_int_equal(get_number(object, "gone"), 0);
    json_decref(object);
}

TEST(print, a_pipe_gets_no_colour)
{
    int out = dup(STDOUT_FILENO);
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    (void)fflush(stdout);
    assert_true(dup2(ends[1], STDOUT_FILENO) >= 0);
    assert_string_equal(print_bold(), "");
    assert_string_equal(print_warn(), "");
    assert_string_equal(print_plain(), "");
    assert_true(dup2(out, STDOUT_FILENO) >= 0);
    (void)close(out);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(print, ages_are_short),
        RUN(print, counts_of_bytes_have_a_unit),
        RUN(print, times_to_come_are_relative),
        RUN(print, members_that_are_missing_are_empty),
        RUN(print, a_pipe_gets_no_colour),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
