#include "smtpd/base/quota.h"

#include "test.h"

static void check(const char *text, uint32_t count, int64_t window_ms, const char *printed)
{
    struct quota quota;
    char again[QUOTA_TEXT];

    assert_int_equal(quota_parse(slice_of(text), &quota), RESULT_OK);
    assert_int_equal(quota.count, count);
    assert_int_equal(quota.window_ms, window_ms);
    quota_print(&quota, again);
    assert_string_equal(again, printed);
}

TEST(quota, reads_and_prints)
{
    check("10/m", 10, 60000, "10/m");
    check("1000/h", 1000, 3600000, "1000/h");
    check("5000/d", 5000, 86400000, "5000/d");
    check("3/s", 3, 1000, "3/s");
    check("20/10m", 20, 600000, "20/10m");
    check("20/600s", 20, 600000, "20/10m");
    check("7/1h", 7, 3600000, "7/h");
    check("7/1h30m", 7, 5400000, "7/1h30m");
    check("1000000000/31d", 1000000000, INT64_C(2678400000), "1000000000/31d");
}

TEST(quota, refuses_what_is_none)
{
    static const char *const bad[] = {
        "",      "10",    "/m",    "10/",          "0/m",      "-1/m",
        "10/w",  "10/mm", "10 /m", "10/m ",        "10/500ms", "1/ms",
        "1/32d", "x/m",   "1/h/h", "1000000001/m", "10/0s",    "99999999999999999999/m"};
    struct quota quota;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (quota_parse(slice_of(bad[i]), &quota) == RESULT_OK)
            fail_msg("\"%s\" was taken", bad[i]);
}

TEST(quota, takes_several_windows)
{
    struct quotas quotas;

    assert_int_equal(quotas_parse(SLICE("10/m,1000/h,5000/d"), &quotas), RESULT_OK);
    assert_int_equal(quotas.count, 3);
    assert_int_equal(quotas.items[2].count, 5000);
    assert_int_equal(quotas_parse(SLICE("1/s,1/m,1/h,1/d"), &quotas), RESULT_OK);
    assert_int_equal(quotas.count, QUOTAS_MAX);
    assert_int_equal(quotas_parse(SLICE("1/s,1/m,1/h,1/d,1/2d"), &quotas), RESULT_INVALID);
    assert_int_equal(quotas_parse(SLICE("10/m,20/60s"), &quotas), RESULT_INVALID);
    assert_int_equal(quotas_parse(SLICE("10/m,"), &quotas), RESULT_INVALID);
    assert_int_equal(quotas_parse(SLICE(",10/m"), &quotas), RESULT_INVALID);
    assert_int_equal(quotas_parse(SLICE_NONE, &quotas), RESULT_INVALID);
}

TEST(quota, copies_a_list)
{
    static const struct quota items[] = {
        {1, 1000}, {2, 2000}, {3, 3000}, {4, 4000}, {5, 5000}};
    struct quotas quotas;

    quotas_set(&quotas, items, 2);
    assert_int_equal(quotas.count, 2);
    assert_int_equal(quotas.items[1].window_ms, 2000);
    quotas_set(&quotas, items, 5);
    assert_int_equal(quotas.count, QUOTAS_MAX);
    quotas_set(&quotas, NULL, 0);
    assert_int_equal(quotas.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(quota, reads_and_prints),
        RUN(quota, refuses_what_is_none),
        RUN(quota, takes_several_windows),
        RUN(quota, copies_a_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
