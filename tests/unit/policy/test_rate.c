#include "smtpd/policy/rate.h"

#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>

static struct rate_client client_of(const char *text)
{
    struct rate_client client = {.is_exempt = false};

    assert_int_equal(ip_parse(slice_of(text), &client.peer), RESULT_OK);
    return client;
}

static struct rate_client exempt(const char *text)
{
    struct rate_client client = client_of(text);

    client.is_exempt = true;
    return client;
}

static struct rate *rate_of(struct rate_settings settings)
{
    secure_init();
    return rate_new(&settings);
}

static struct quotas quotas_of(const char *text)
{
    struct quotas quotas;

    assert_int_equal(quotas_parse(slice_of(text), &quotas), RESULT_OK);
    return quotas;
}

TEST(rate, counts_in_all_and_per_address)
{
    static const struct rate_settings wider = {5, 3, 100, {0}, {0}};
    struct rate_client a = client_of("192.0.2.1");
    struct rate_client b = client_of("192.0.2.2");
    struct rate_client c = client_of("192.0.2.3");
    struct rate *rate = rate_of((struct rate_settings){4, 2, 100, {0}, {0}});

    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &a, 1), RATE_TOO_MANY_FROM_ADDRESS);
    assert_int_equal(rate_admit(rate, &b, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &b, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &c, 1), RATE_TOO_MANY);
    assert_int_equal(rate_connections(rate), 4);
    rate_leave(rate, &a);
    assert_int_equal(rate_admit(rate, &c, 1), RATE_OK);
    rate_apply(rate, &wider);
    assert_int_equal(rate_admit(rate, &b, 1), RATE_OK);
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
    struct rate_client a = client_of("2001:db8:0:1::1");
    struct rate_client b = client_of("2001:db8:0:1:ffff::2");
    struct rate_client c = client_of("2001:db8:0:2::1");
    struct rate *rate = rate_of((struct rate_settings){10, 1, 100, {0}, {0}});

    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &b, 1), RATE_TOO_MANY_FROM_ADDRESS);
    assert_int_equal(rate_admit(rate, &c, 1), RATE_OK);
    rate_free(rate);
}

TEST(rate, counts_a_24_and_a_48_as_networks)
{
    struct rate_client inside = client_of("192.0.2.255");
    struct rate_client outside = client_of("192.0.3.1");
    struct rate_client six_inside = client_of("2001:db8:1:ffff::1");
    struct rate_client six_outside = client_of("2001:db8:2::1");
    struct rate_client a = client_of("192.0.2.1");
    struct rate_client six = client_of("2001:db8:1::1");
    struct rate *rate = rate_of((struct rate_settings){100, 100, 1, {0}, {0}});

    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &inside, 1), RATE_TOO_MANY_FROM_NETWORK);
    assert_int_equal(rate_admit(rate, &outside, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &six, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &six_inside, 1), RATE_TOO_MANY_FROM_NETWORK);
    assert_int_equal(rate_admit(rate, &six_outside, 1), RATE_OK);
    rate_leave(rate, &a);
    assert_int_equal(rate_admit(rate, &inside, 1), RATE_OK);
    rate_free(rate);
}

TEST(rate, holds_new_connections_of_an_address_to_every_window)
{
    struct rate_client a = client_of("192.0.2.1");
    struct rate_client b = client_of("192.0.2.2");
    struct rate *rate =
        rate_of((struct rate_settings){100, 100, 100, quotas_of("2/m,3/h"), {0}});

    assert_int_equal(rate_admit(rate, &a, 1000), RATE_OK);
    rate_leave(rate, &a); /* what left is counted all the same */
    assert_int_equal(rate_admit(rate, &a, 1000), RATE_OK);
    assert_int_equal(rate_admit(rate, &a, 1000), RATE_TOO_OFTEN);
    assert_int_equal(rate_admit(rate, &b, 1000), RATE_OK);
    assert_int_equal(rate_admit(rate, &a, 65000), RATE_OK);
    assert_int_equal(rate_admit(rate, &a, 130000), RATE_TOO_OFTEN);
    assert_int_equal(rate_admit(rate, &a, 4000000), RATE_OK);
    rate_free(rate);
}

TEST(rate, what_is_refused_is_not_counted)
{
    struct rate_client a = client_of("192.0.2.1");
    struct rate *rate = rate_of((struct rate_settings){100, 1, 100, quotas_of("2/m"), {0}});

    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(rate_admit(rate, &a, 1), RATE_TOO_MANY_FROM_ADDRESS);
    rate_leave(rate, &a);
    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    rate_free(rate);
}

TEST(rate, spares_who_is_exempt_or_logged_in)
{
    struct rate_client trusted = exempt("192.0.2.9");
    struct rate_client a = client_of("192.0.2.1");
    struct rate_client b = client_of("192.0.2.1");
    struct rate *rate = rate_of((struct rate_settings){100, 100, 1, quotas_of("1/m"), {0}});

    for (int i = 0; i < 5; i++)
        assert_int_equal(rate_admit(rate, &trusted, 1), RATE_OK);
    assert_int_equal(rate_records(rate), 0);
    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &b, 1), RATE_TOO_MANY_FROM_NETWORK);
    rate_exempt(rate, &a);
    rate_exempt(rate, &a); /* once is enough */
    assert_int_equal(rate_admit(rate, &b, 1), RATE_OK);
    rate_leave(rate, &a);
    rate_leave(rate, &b);
    assert_int_equal(rate_admit(rate, &b, 1), RATE_TOO_OFTEN);
    for (int i = 0; i < 5; i++)
        rate_leave(rate, &trusted);
    assert_int_equal(rate_connections(rate), 0);
    rate_free(rate);
}

TEST(rate, bars_an_offender_for_a_time)
{
    struct rate_client a = client_of("192.0.2.1");
    struct rate_client trusted = exempt("192.0.2.1");
    struct rate_client b = client_of("192.0.2.2");
    struct rate *rate = rate_of((struct rate_settings){100, 100, 100, {0}, {0}});

    rate_bar(rate, &a.peer, 5000, 1000);
    assert_int_equal(rate_admit(rate, &a, 4999), RATE_BARRED);
    assert_int_equal(rate_admit(rate, &trusted, 4999), RATE_OK);
    assert_int_equal(rate_admit(rate, &b, 4999), RATE_OK);
    assert_int_equal(rate_admit(rate, &a, 5000), RATE_OK);
    assert_int_equal(rate_records(rate), 0); /* tidied */
    rate_free(rate);
}

TEST(rate, forgets_the_oldest_record_when_there_are_too_many)
{
    struct rate_client first = client_of("10.0.0.0");
    struct rate *rate =
        rate_of((struct rate_settings){100, 100, 100, quotas_of("1/h"), {0}});

    assert_int_equal(rate_admit(rate, &first, 1), RATE_OK);
    rate_leave(rate, &first);
    for (int i = 1; i <= RATE_RECORDS_MAX; i++) {
        char text[32];
        struct rate_client next;

        assert_int_equal(rate_admit(rate, &first, 1), RATE_TOO_OFTEN);
        (void)snprintf(text, sizeof text, "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        next = client_of(text);
        assert_int_equal(rate_admit(rate, &next, 1), RATE_OK);
        rate_leave(rate, &next);
    }
    assert_int_equal(rate_records(rate), RATE_RECORDS_MAX);
    assert_int_equal(rate_admit(rate, &first, 1), RATE_OK);
    rate_free(rate);
}

TEST(rate, holds_new_connections_of_a_network_to_every_window)
{
    struct rate_settings settings = {.connections = 100,
                                     .connections_per_address = 100,
                                     .connections_per_network = 100,
                                     .connection_rate = quotas_of("2/h"),
                                     .network_rate = quotas_of("3/m,4/h")};
    struct rate_client a = client_of("192.0.2.1");
    struct rate_client b = client_of("192.0.2.2");
    struct rate_client c = client_of("192.0.2.3");
    struct rate_client other = client_of("192.0.3.1");
    struct rate_client six = client_of("2001:db8:0:1::1");
    struct rate_client six_too = client_of("2001:db8:0:2::1");
    struct rate *rate = rate_of(settings);

    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &a, 1), RATE_TOO_OFTEN); /* its own first */
    assert_int_equal(rate_admit(rate, &b, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &c, 1), RATE_TOO_OFTEN_FROM_NETWORK);
    assert_int_equal(rate_admit(rate, &other, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &c, 70000), RATE_OK);
    assert_int_equal(rate_admit(rate, &c, 140000), RATE_TOO_OFTEN_FROM_NETWORK);
    rate_exempt(rate, &b); /* it logged in, and gives its place back */
    assert_int_equal(rate_admit(rate, &c, 140000), RATE_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rate_admit(rate, &six, 1), RATE_OK);
        rate_leave(rate, &six);
    }
    assert_int_equal(rate_admit(rate, &six_too, 1), RATE_OK);
    rate_leave(rate, &six_too);
    assert_int_equal(rate_admit(rate, &six_too, 1), RATE_TOO_OFTEN_FROM_NETWORK);
    settings.network_rate = quotas_of("9/m");
    rate_apply(rate, &settings); /* other windows: anew */
    assert_int_equal(rate_admit(rate, &six_too, 1), RATE_OK);
    rate_leave(rate, &six_too);
    for (int i = 0; i < 2; i++)
        rate_leave(rate, &a);
    rate_leave(rate, &b);
    rate_leave(rate, &other);
    rate_leave(rate, &c);
    rate_leave(rate, &c);
    assert_int_equal(rate_connections(rate), 0);
    rate_free(rate);
}

TEST(rate, begins_anew_when_the_windows_change)
{
    struct rate_settings settings = {100, 100, 100, quotas_of("1/h"), {0}};
    struct rate_client a = client_of("192.0.2.1");
    struct rate *rate = rate_of(settings);

    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    settings.connection_rate = quotas_of("2/h");
    rate_apply(rate, &settings);
    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    assert_int_equal(rate_admit(rate, &a, 1), RATE_TOO_OFTEN);
    settings.connection_rate = quotas_of("2/m");
    rate_apply(rate, &settings);
    assert_int_equal(rate_admit(rate, &a, 1), RATE_OK);
    rate_free(rate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(rate, counts_in_all_and_per_address),
        RUN(rate, takes_an_ipv6_network_for_one_client),
        RUN(rate, counts_a_24_and_a_48_as_networks),
        RUN(rate, holds_new_connections_of_an_address_to_every_window),
        RUN(rate, what_is_refused_is_not_counted),
        RUN(rate, spares_who_is_exempt_or_logged_in),
        RUN(rate, bars_an_offender_for_a_time),
        RUN(rate, forgets_the_oldest_record_when_there_are_too_many),
        RUN(rate, holds_new_connections_of_a_network_to_every_window),
        RUN(rate, begins_anew_when_the_windows_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
