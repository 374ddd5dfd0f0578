/* A family that keeps failing stands behind; one probe finds out whether it works again. */
#include "family.h"

#include "smtpd/base/ip.h"
#include "test.h"

enum { NOW_MS = 1000000 };

static const int hosts[2 * FAMILY_ALL_FAILURES]; /* their addresses serve as names */

TEST(family, each_address_is_of_one)
{
    struct ip ip;

    assert_int_equal(ip_parse(SLICE("::1"), &ip), RESULT_OK);
    assert_int_equal(family_of(&ip), FAMILY_IPV6);
    assert_int_equal(ip_parse(SLICE("127.0.0.1"), &ip), RESULT_OK);
    assert_int_equal(family_of(&ip), FAMILY_IPV4);
}

TEST(family, one_that_fails_twice_in_a_row_stands_behind)
{
    struct family_memory memory = {0};

    assert_false(family_failed(&memory, FAMILY_IPV6, NULL, NOW_MS));
    assert_false(family_works(&memory, FAMILY_IPV6));
    assert_false(family_failed(&memory, FAMILY_IPV6, NULL, NOW_MS));
    assert_false(family_stands_behind(&memory, FAMILY_IPV6, NOW_MS));
    assert_true(family_failed(&memory, FAMILY_IPV6, NULL, NOW_MS));
    assert_false(family_failed(&memory, FAMILY_IPV6, NULL, NOW_MS)); /* told once */
    assert_true(family_stands_behind(&memory, FAMILY_IPV6, NOW_MS));
    assert_false(family_stands_behind(&memory, FAMILY_IPV4, NOW_MS));
    assert_true(family_works(&memory, FAMILY_IPV6));
    assert_false(family_stands_behind(&memory, FAMILY_IPV6, NOW_MS));
}

TEST(family, when_the_time_is_over_one_probe_is_made)
{
    struct family_memory memory = {0};
    int64_t now_ms = NOW_MS;

    (void)family_failed(&memory, FAMILY_IPV6, NULL, now_ms);
    (void)family_failed(&memory, FAMILY_IPV6, NULL, now_ms);
    family_probe(&memory, FAMILY_IPV6, now_ms); /* too early: it is none */
    for (int round = 0; round < 3; round++) {
        now_ms += FAMILY_BEHIND_MS - 1;
        assert_true(family_stands_behind(&memory, FAMILY_IPV6, now_ms));
        now_ms++;
        assert_false(family_stands_behind(&memory, FAMILY_IPV6, now_ms));
        family_probe(&memory, FAMILY_IPV6, now_ms);
        assert_true(
            family_stands_behind(&memory, FAMILY_IPV6, now_ms)); /* for the others */
        assert_false(family_failed(&memory, FAMILY_IPV6, NULL, now_ms));
    }
    assert_true(family_works(&memory, FAMILY_IPV6));
    family_probe(&memory, FAMILY_IPV6, now_ms);
    assert_false(family_stands_behind(&memory, FAMILY_IPV6, now_ms));
}

TEST(family, it_stands_behind_everywhere_after_failures_at_several_hosts)
{
    struct family_memory memory = {0};

    for (int i = 0; i < FAMILY_ALL_FAILURES - 1; i++)
        for (int again = 0; again < 10; again++)
            assert_false(family_failed(&memory, FAMILY_IPV6, &hosts[i], NOW_MS));
    assert_true(family_failed(&memory, FAMILY_IPV6, &hosts[FAMILY_ALL_FAILURES], NOW_MS));
    assert_true(family_stands_behind(&memory, FAMILY_IPV6, NOW_MS));
}

TEST(family, one_host_where_it_works_is_enough)
{
    struct family_memory memory = {0};

    for (int i = 0; i < 2 * FAMILY_ALL_FAILURES; i++) {
        assert_false(family_failed(&memory, FAMILY_IPV6, &hosts[i], NOW_MS));
        if (i % 3 == 0)
            assert_false(family_works(&memory, FAMILY_IPV6));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(family, each_address_is_of_one),
        RUN(family, one_that_fails_twice_in_a_row_stands_behind),
        RUN(family, when_the_time_is_over_one_probe_is_made),
        RUN(family, it_stands_behind_everywhere_after_failures_at_several_hosts),
        RUN(family, one_host_where_it_works_is_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
