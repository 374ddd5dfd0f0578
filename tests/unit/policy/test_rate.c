#include "smtpd/policy/rate.h"

#include "smtpd/base/secure.h"
#include "test.h"

static struct ip ip_of(const char *text)
{
    struct ip ip;

    assert_int_equal(ip_parse(slice_of(text), &ip), RESULT_OK);
    return ip;
}

TEST(rate, counts_in_all_and_per_address)
{
    static const struct rate_settings settings = {4, 2};
    static const struct rate_settings wider = {5, 3};
    struct ip a = ip_of("192.0.2.1");
    struct ip b = ip_of("192.0.2.2");
    struct ip c = ip_of("192.0.2.3");
    struct rate *rate;

    secure_init();
    rate = rate_new(&settings);
    assert_int_equal(rate_admit(rate, &a), RATE_OK);
    assert_int_equal(rate_admit(rate, &a), RATE_OK);
    assert_int_equal(rate_admit(rate, &a), RATE_TOO_MANY_FROM_ADDRESS);
    assert_int_equal(rate_admit(rate, &b), RATE_OK);
    assert_int_equal(rate_admit(rate, &b), RATE_OK);
    assert_int_equal(rate_admit(rate, &c), RATE_TOO_MANY);
    assert_int_equal(rate_connections(rate), 4);
    rate_leave(rate, &a);
    assert_int_equal(rate_admit(rate, &c), RATE_OK);
    rate_apply(rate, &wider);
    assert_int_equal(rate_admit(rate, &b), RATE_OK);
    rate_leave(rate, &b);
    rate_leave(rate, &b);
    rate_leave(rate, &b);
    rate_leave(rate, &c);
    rate_leave(rate, &a);
    assert_int_equal(rate_connections(rate), 0);
    rate_free(rate);
}

TEST(rate, takes_an_ipv6_network_for_one_client)
{
    static const struct rate_settings settings = {10, 1};
    struct ip a = ip_of("2001:db8:0:1::1");
    struct ip b = ip_of("2001:db8:0:1:ffff::2");
    struct ip c = ip_of("2001:db8:0:2::1");
    struct rate *rate;

    secure_init();
    rate = rate_new(&settings);
    assert_int_equal(rate_admit(rate, &a), RATE_OK);
    assert_int_equal(rate_admit(rate, &b), RATE_TOO_MANY_FROM_ADDRESS);
    assert_int_equal(rate_admit(rate, &c), RATE_OK);
    rate_free(rate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(rate, counts_in_all_and_per_address),
        RUN(rate, takes_an_ipv6_network_for_one_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
