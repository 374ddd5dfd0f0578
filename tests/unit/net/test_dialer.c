/* Addresses in turn, time limits, cancel. */
#include "pair.h"

static void init(struct pair *pair)
{
    struct tls_settings tls = {0, 0};

    pair_init(pair, &tls);
}

TEST(dialer, the_next_address_is_tried_when_one_refuses)
{
    struct pair pair;
    struct endpoint addresses[2];

    init(&pair);
    assert_int_equal(endpoint_parse(SLICE("127.0.0.1:1"), &addresses[0]), RESULT_OK);
    addresses[1] = *listener_endpoint(pair.listener);
    pair.dial = dial_start(pair.net, addresses, 2, NULL, 2000, pair_on_dialed, &pair);
    PAIR_UNTIL(&pair, pair.client.stream && pair.server.stream);
    assert_int_equal(pair.dial_ends, 1);
    pair_close(&pair);
}

TEST(dialer, the_last_fault_names_address_and_reason)
{
    struct pair pair;
    struct endpoint address;

    init(&pair);
    assert_int_equal(endpoint_parse(SLICE("127.0.0.1:1"), &address), RESULT_OK);
    pair.dial = dial_start(pair.net, &address, 1, NULL, 2000, pair_on_dialed, &pair);
    assert_int_equal(pair.dial_ends, 0);
    PAIR_UNTIL(&pair, pair.dial_ends == 1);
    assert_null(pair.client.stream);
    assert_int_equal(pair.dial_fault.code, RESULT_REFUSED);
    assert_non_null(strstr(pair.dial_fault.text, "127.0.0.1:1"));
    pair_close(&pair);
}

TEST(dialer, no_address_is_a_fault_from_the_loop)
{
    struct pair pair;

    init(&pair);
    pair.dial = dial_start(pair.net, NULL, 0, NULL, 2000, pair_on_dialed, &pair);
    assert_int_equal(pair.dial_ends, 0);
    PAIR_UNTIL(&pair, pair.dial_ends == 1);
    assert_int_equal(pair.dial_fault.code, RESULT_UNREACHABLE);
    pair_close(&pair);
}

TEST(dialer, a_source_of_the_other_family_skips_the_address)
{
    struct pair pair;
    struct ip source;

    init(&pair);
    assert_int_equal(ip_parse(SLICE("::1"), &source), RESULT_OK);
    pair.dial = dial_start(pair.net, listener_endpoint(pair.listener), 1, &source, 2000,
                           pair_on_dialed, &pair);
    PAIR_UNTIL(&pair, pair.dial_ends == 1);
    assert_null(pair.client.stream);
    pair_close(&pair);
}

TEST(dialer, the_source_address_is_used)
{
    struct pair pair;
    struct ip source;

    init(&pair);
    assert_int_equal(ip_parse(SLICE("127.0.0.9"), &source), RESULT_OK);
    pair.dial = dial_start(pair.net, listener_endpoint(pair.listener), 1, &source, 2000,
                           pair_on_dialed, &pair);
    PAIR_UNTIL(&pair, pair.server.stream && pair.client.stream);
    assert_true(ip_equal(&stream_peer(pair.server.stream)->ip, &source));
    pair_close(&pair);
}

TEST(dialer, a_cancelled_dial_says_nothing)
{
    struct pair pair;

    init(&pair);
    pair.dial = dial_start(pair.net, listener_endpoint(pair.listener), 1, NULL, 2000,
                           pair_on_dialed, &pair);
    dial_cancel(pair.dial);
    pair.dial = dial_start(pair.net, listener_endpoint(pair.listener), 1, NULL, 2000,
                           pair_on_dialed, &pair);
    loop_run_for(pair.loop, 0);
    if (pair.dial)
        dial_cancel(pair.dial);
    loop_run_for(pair.loop, 50);
    assert_true(pair.dial_ends <= 1);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(dialer, the_next_address_is_tried_when_one_refuses),
        RUN(dialer, the_last_fault_names_address_and_reason),
        RUN(dialer, no_address_is_a_fault_from_the_loop),
        RUN(dialer, a_source_of_the_other_family_skips_the_address),
        RUN(dialer, the_source_address_is_used),
        RUN(dialer, a_cancelled_dial_says_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
