/* Times, durations and sizes as text. Expected values come from GNU date. */
#include "smtpd/base/moment.h"

#include "test.h"

#include <string.h>

TEST(moment, rfc_3339_around_the_corners_of_the_calendar)
{
    static const struct {
        int64_t us;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {INT64_C(1795515072123456), "2026-11-24T10:11:12.123456Z"},
        {INT64_C(951782399999999), "2000-02-28T23:59:59.999999Z"},
        {INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z"},
        {INT64_C(951868800000000), "2000-03-01T00:00:00.000000Z"},
        {INT64_C(1709251199000001), "2024-02-29T23:59:59.000001Z"},
        {INT64_C(4107542400000000), "2100-03-01T00:00:00.000000Z"},
        {INT64_C(253402300799000000), "9999-12-31T23:59:59.000000Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {INT64_C(-2203891200000000), "1900-03-01T00:00:00.000000Z"},
    };
    char text[MOMENT_TEXT];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        moment_rfc3339(cases[i].us, text);
        assert_string_equal(text, cases[i].text);
    }
}

TEST(moment, rfc_5322_with_the_right_day_of_the_week)
{
    char text[MOMENT_TEXT];

    moment_rfc5322(INT64_C(1795515072999), text);
    assert_string_equal(text, "Tue, 24 Nov 2026 10:11:12 +0000");
    moment_rfc5322(0, text);
    assert_string_equal(text, "Thu, 1 Jan 1970 00:00:00 +0000");
    moment_rfc5322(INT64_C(951782400000), text);
    assert_string_equal(text, "Tue, 29 Feb 2000 00:00:00 +0000");
    moment_rfc5322(-1, text);
    assert_string_equal(text, "Wed, 31 Dec 1969 23:59:59 +0000");
    moment_rfc5322(INT64_C(1798761599000), text);
    assert_string_equal(text, "Thu, 31 Dec 2026 23:59:59 +0000");
}

TEST(moment, each_day_of_four_centuries_follows_the_one_before)
{
    static const char days[] = "ThuFriSatSunMonTueWed";
    char before[MOMENT_TEXT] = "";
    char text[MOMENT_TEXT];

    for (int64_t day = 0; day < 146097; day++) {
        moment_rfc3339(day * INT64_C(86400000000), text);
        assert_true(strcmp(before, text) < 0);
        memcpy(before, text, sizeof before);
        moment_rfc5322(day * 86400000, text);
        assert_memory_equal(text, days + 3 * (day % 7), 3);
    }
    assert_memory_equal(before, "2369-12-31", 10);
}

TEST(duration, units_may_follow_each_other_from_large_to_small)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {{"250ms", 250},
                 {"5s", 5000},
                 {"5m", 300000},
                 {"1h30m", 5400000},
                 {"4d", 345600000},
                 {"1d1h1m1s1ms", 90061001},
                 {"0s", 0},
                 {"90m", 5400000},
                 {"1m1ms", 60001},
                 {"007s", 7000},
                 {"9223372036854775807ms", INT64_MAX}};
    int64_t ms;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(duration_parse(slice_of(cases[i].text), &ms), RESULT_OK);
        assert_int_equal(ms, cases[i].ms);
    }
}

TEST(duration, what_is_not_a_duration_is_refused)
{
    static const char *const bad[] = {"",     "5",   "m",    "5x",   "-5m",
                                      "5 m",  " 5m", "5m ",  "1m1h", "1m1m",
                                      "1.5h", "5M",  "5min", "+5s",  "5m3"};
    int64_t ms;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(duration_parse(slice_of(bad[i]), &ms), RESULT_INVALID);
    assert_int_equal(duration_parse(SLICE("9223372036854775808ms"), &ms), RESULT_TOO_LARGE);
    assert_int_equal(duration_parse(SLICE("106751991168d"), &ms), RESULT_TOO_LARGE);
    assert_int_equal(duration_parse(SLICE("106751991167d24h"), &ms), RESULT_TOO_LARGE);
    assert_int_equal(duration_parse(SLICE("99999999999999999999999s"), &ms),
                     RESULT_TOO_LARGE);
}

TEST(duration, is_printed_in_its_shortest_exact_form)
{
    char text[MOMENT_TEXT];

    duration_print(5400000, text);
    assert_string_equal(text, "1h30m");
    duration_print(345600000, text);
    assert_string_equal(text, "4d");
    duration_print(250, text);
    assert_string_equal(text, "250ms");
    duration_print(0, text);
    assert_string_equal(text, "0s");
    duration_print(-5, text);
    assert_string_equal(text, "0s");
    duration_print(INT64_MAX, text);
    assert_string_equal(text, "106751991167d7h12m55s807ms");
}

TEST(size, units_of_1024_and_of_1000_and_none)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {{"512", 512},
                 {"0", 0},
                 {"7B", 7},
                 {"64KiB", 65536},
                 {"25MiB", 26214400},
                 {"1GiB", 1073741824},
                 {"2TiB", UINT64_C(2199023255552)},
                 {"5KB", 5000},
                 {"5MB", 5000000},
                 {"5GB", UINT64_C(5000000000)}};
    uint64_t bytes;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(size_parse(slice_of(cases[i].text), &bytes), RESULT_OK);
        assert_true(bytes == cases[i].bytes);
    }
}

TEST(size, what_is_not_a_size_is_refused)
{
    static const char *const bad[] = {"",   "KiB",    "5kib",  "5 KiB",
                                      "-1", "1.5GiB", "5KiB3", "5K"};
    uint64_t bytes;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(size_parse(slice_of(bad[i]), &bytes), RESULT_INVALID);
    assert_int_equal(size_parse(SLICE("9223372036854775808"), &bytes), RESULT_TOO_LARGE);
    assert_int_equal(size_parse(SLICE("8388608TiB"), &bytes), RESULT_TOO_LARGE);
}

TEST(size, is_printed_in_its_shortest_exact_form)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0"},
                 {1, "1"},
                 {512, "512"},
                 {1024, "1KiB"},
                 {65536, "64KiB"},
                 {52428800, "50MiB"},
                 {1000, "1KB"},
                 {2500000, "2500KB"},
                 {1073741824, "1GiB"},
                 {1025, "1025"}};
    char text[MOMENT_TEXT];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_print(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

TEST(moment, a_point_in_time_is_read_as_utc)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1970-01-01", 0},
        {"1970-01-02T00:00:01Z", 86401000},
        {"2000-02-29T12:30", 951827400000},
        {"2026-12-24T18:00Z", 1798135200000},
        {"2026-12-24Z", 1798070400000},
        {"9999-12-31T23:59:59Z", 253402300799000},
    };
    static const char *const bad[] = {
        "",
        "2026",
        "2026-1-01",
        "2026-02-29",
        "2026-04-31",
        "1969-12-31",
        "2026-13-01",
        "2026-00-10",
        "2026-01-00",
        "2026-01-01T24:00",
        "2026-01-01T",
        "2026-01-01 10:00",
        "2026-01-01T10:60",
        "2026-01-01T10:00:60",
        "2026-01-01T10:00+01:00",
        "tomorrow",
        "2026-01-01T10:00ZZ",
        "2026-01-01T10:00:00.Z",
        "2026-01-01T10:00:00.1234567890Z",
        "2026-01-01.5",
        "-026-01-01",
    };
    int64_t ms;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(moment_parse(slice_of(good[i].text), &ms), RESULT_OK);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (moment_parse(slice_of(bad[i]), &ms) == RESULT_OK)
            fail_msg("%s is taken", bad[i]);
}

TEST(moment, each_day_that_is_printed_is_read_again)
{
    char text[MOMENT_TEXT];
    int64_t ms;

    for (int64_t day = 0; day < 146097; day++) {
        moment_rfc3339(day * 86400000000, text);
        assert_int_equal(moment_parse((struct slice){text, 19}, &ms), RESULT_OK);
        assert_int_equal(ms, day * 86400000);
        moment_rfc3339(day * 86400000000 + 12345678, text);
        assert_int_equal(moment_parse(slice_of(text), &ms), RESULT_OK);
        assert_int_equal(ms, day * 86400000 + 12345); /* to the millisecond */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(moment, rfc_3339_around_the_corners_of_the_calendar),
        RUN(moment, rfc_5322_with_the_right_day_of_the_week),
        RUN(moment, a_point_in_time_is_read_as_utc),
        RUN(moment, each_day_that_is_printed_is_read_again),
        RUN(moment, each_day_of_four_centuries_follows_the_one_before),
        RUN(duration, units_may_follow_each_other_from_large_to_small),
        RUN(duration, what_is_not_a_duration_is_refused),
        RUN(duration, is_printed_in_its_shortest_exact_form),
        RUN(size, units_of_1024_and_of_1000_and_none),
        RUN(size, what_is_not_a_size_is_refused),
        RUN(size, is_printed_in_its_shortest_exact_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
