/* Attempts side by side: order, stagger, the winner, time limits, sources, cancel. */
#include "pair.h"

#include "black_hole.h"

enum { ADDRESSES_MOST = 12 };

struct tried {
    struct endpoint address;
    enum dial_outcome outcome;
};

struct tries {
    struct tried tried[ADDRESSES_MOST];
    size_t count;
};

static void on_tried(void *owner, const struct endpoint *address, enum dial_outcome outcome)
{
    struct tries *tries = owner;

    assert_true(tries->count < ADDRESSES_MOST);
    tries->tried[tries->count].address = *address;
    tries->tried[tries->count++].outcome = outcome;
}

static void init(struct pair *pair)
{
    struct tls_settings tls = {0, 0};

    pair_init(pair, &tls);
}

static struct endpoint endpoint_at(const char *text)
{
    struct endpoint endpoint;

    assert_int_equal(endpoint_parse(slice_of(text), &endpoint), RESULT_OK);
    return endpoint;
}

/* Starts one, and waits for its end: how long it took. */
static int64_t dial(struct pair *pair, const struct dial_request *request)
{
    int64_t from_ms = loop_now_ms(pair->loop);

    pair->dial = dial_start(pair->net, request, pair_on_dialed, pair);
    assert_int_equal(pair->dial_ends, 0); /* never inside the call */
    PAIR_UNTIL(pair, pair->dial_ends == 1);
    return loop_now_ms(pair->loop) - from_ms;
}

static uint64_t open_streams(const struct pair *pair)
{
    struct net_statistics statistics;

    net_statistics(pair->net, &statistics);
    return statistics.streams;
}

TEST(dialer, a_refusal_starts_the_next_at_once)
{
    struct pair pair;
    struct endpoint addresses[2] = {endpoint_at("127.0.0.1:1")};
    struct tries tries = {.count = 0};
    struct dial_request request = {.addresses = addresses,
                                   .count = 2,
                                   .delay_ms = 3600000, /* it does not wait for this */
                                   .timeout_ms = 7200000,
                                   .on_tried = on_tried,
                                   .tried_owner = &tries};

    init(&pair);
    addresses[1] = *listener_endpoint(pair.listener);
    (void)dial(&pair, &request);
    PAIR_UNTIL(&pair, pair.client.stream && pair.server.stream);
    assert_int_equal(tries.count, 2);
    assert_int_equal(tries.tried[0].outcome, DIAL_FAILED);
    assert_true(endpoint_equal(&tries.tried[0].address, &addresses[0]));
    assert_int_equal(tries.tried[1].outcome, DIAL_WON);
    pair_close(&pair);
}

TEST(dialer, silence_starts_the_next_after_the_stagger)
{
    struct pair pair;
    struct black_hole hole;
    struct endpoint addresses[3];
    struct tries tries = {.count = 0};
    struct dial_request request = {.addresses = addresses,
                                   .count = 3,
                                   .delay_ms = 100,
                                   .timeout_ms = 7200000,
                                   .on_tried = on_tried,
                                   .tried_owner = &tries};
    int64_t took_ms;

    init(&pair);
    black_hole_open(&hole, "::1");
    addresses[0] = addresses[1] = hole.endpoint;
    addresses[2] = *listener_endpoint(pair.listener);
    took_ms = dial(&pair, &request);
    assert_in_range(took_ms, 190, 900);
    PAIR_UNTIL(&pair, pair.client.stream && pair.server.stream);
    assert_int_equal(tries.count, 3);
    assert_int_equal(tries.tried[0].outcome, DIAL_LATE);
    assert_int_equal(tries.tried[1].outcome, DIAL_LATE);
    assert_int_equal(tries.tried[2].outcome, DIAL_WON);
    PAIR_UNTIL(&pair, open_streams(&pair) == 2); /* the losers are closed */
    pair_close(&pair);
    black_hole_close(&hole);
}

TEST(dialer, the_first_in_order_wins_and_the_others_are_not_asked)
{
    struct pair pair;
    struct endpoint addresses[2] = {endpoint_at("127.0.0.1:1"), endpoint_at("127.0.0.1:1")};
    struct tries tries = {.count = 0};
    struct dial_request request = {.addresses = addresses,
                                   .count = 2,
                                   .delay_ms = 3600000,
                                   .timeout_ms = 7200000,
                                   .on_tried = on_tried,
                                   .tried_owner = &tries};

    init(&pair);
    addresses[0] = *listener_endpoint(pair.listener);
    (void)dial(&pair, &request);
    PAIR_UNTIL(&pair, pair.client.stream && pair.server.stream);
    assert_int_equal(tries.count, 1);
    assert_int_equal(tries.tried[0].outcome, DIAL_WON);
    pair_close(&pair);
}

TEST(dialer, the_time_limit_is_that_of_all)
{
    struct pair pair;
    struct black_hole hole;
    struct endpoint addresses[3];
    struct tries tries = {.count = 0};
    struct dial_request request = {.addresses = addresses,
                                   .count = 3,
                                   .delay_ms = 100,
                                   .timeout_ms = 400,
                                   .on_tried = on_tried,
                                   .tried_owner = &tries};
    int64_t took_ms;

    init(&pair);
    black_hole_open(&hole, "127.0.0.1");
    addresses[0] = addresses[1] = addresses[2] = hole.endpoint;
    took_ms = dial(&pair, &request);
    assert_in_range(took_ms, 390, 1500);
    assert_null(pair.client.stream);
    assert_int_equal(pair.dial_fault.code, RESULT_TIMEOUT);
    assert_int_equal(tries.count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(tries.tried[i].outcome, DIAL_FAILED);
    PAIR_UNTIL(&pair, open_streams(&pair) == 0);
    pair_close(&pair);
    black_hole_close(&hole);
}

/* Nine addresses that are silent, and one that answers. */
static void dial_ten(struct pair *pair, struct black_hole *hole, struct tries *tries,
                     int64_t timeout_ms)
{
    struct endpoint addresses[ADDRESSES_MOST];
    struct dial_request request = {.addresses = addresses,
                                   .count = 10,
                                   .delay_ms = 20,
                                   .timeout_ms = timeout_ms,
                                   .on_tried = on_tried,
                                   .tried_owner = tries};

    init(pair);
    black_hole_open(hole, "127.0.0.1");
    for (size_t i = 0; i < 9; i++)
        addresses[i] = hole->endpoint;
    addresses[9] = *listener_endpoint(pair->listener);
    pair->dial = dial_start(pair->net, &request, pair_on_dialed, pair);
}

TEST(dialer, at_most_eight_are_under_way)
{
    struct pair pair;
    struct black_hole hole;
    struct tries tries = {.count = 0};

    dial_ten(&pair, &hole, &tries, 7200000);
    PAIR_UNTIL(&pair, open_streams(&pair) == 8);
    loop_run_for(pair.loop, 100); /* the delays of all the others */
    assert_int_equal(open_streams(&pair), 8);
    assert_int_equal(tries.count, 0);
    assert_int_equal(pair.dial_ends, 0);
    dial_cancel(pair.dial);
    pair_close(&pair);
    black_hole_close(&hole);
}

TEST(dialer, of_eight_the_oldest_gives_way_at_half_time)
{
    struct pair pair;
    struct black_hole hole;
    struct tries tries = {.count = 0};

    dial_ten(&pair, &hole, &tries, 3000);
    PAIR_UNTIL(&pair, pair.dial_ends == 1);
    PAIR_UNTIL(&pair, pair.client.stream && pair.server.stream);
    assert_int_equal(tries.tried[0].outcome, DIAL_FAILED);
    assert_int_equal(tries.tried[1].outcome, DIAL_FAILED);
    assert_int_equal(tries.tried[2].outcome, DIAL_LATE);
    assert_int_equal(tries.tried[tries.count - 1].outcome, DIAL_WON);
    pair_close(&pair);
    black_hole_close(&hole);
}

TEST(dialer, the_last_fault_names_address_and_reason)
{
    struct pair pair;
    struct endpoint address = endpoint_at("127.0.0.1:1");
    struct dial_request request = {.addresses = &address, .count = 1, .timeout_ms = 2000};

    init(&pair);
    (void)dial(&pair, &request);
    assert_null(pair.client.stream);
    assert_int_equal(pair.dial_fault.code, RESULT_REFUSED);
    assert_non_null(strstr(pair.dial_fault.text, "127.0.0.1:1"));
    pair_close(&pair);
}

TEST(dialer, no_address_is_a_fault_from_the_loop)
{
    struct pair pair;
    struct dial_request request = {.timeout_ms = 2000};

    init(&pair);
    (void)dial(&pair, &request);
    assert_int_equal(pair.dial_fault.code, RESULT_UNREACHABLE);
    pair_close(&pair);
}

/* ---- sources ---- */

TEST(dialer, a_family_without_a_source_is_not_used)
{
    struct pair pair;
    struct ip source = endpoint_at("[::1]:1").ip;
    struct dial_sources sources = {.v6 = &source};
    struct tries tries = {.count = 0};
    struct dial_request request = {.count = 1,
                                   .sources = &sources,
                                   .timeout_ms = 2000,
                                   .on_tried = on_tried,
                                   .tried_owner = &tries};

    init(&pair);
    request.addresses = listener_endpoint(pair.listener);
    (void)dial(&pair, &request);
    assert_null(pair.client.stream);
    assert_non_null(strstr(pair.dial_fault.text, "no source address"));
    assert_int_equal(tries.count, 0);
    pair_close(&pair);
}

TEST(dialer, the_source_of_the_family_is_used)
{
    struct pair pair;
    struct ip v4 = endpoint_at("127.0.0.9:1").ip;
    struct ip v6 = endpoint_at("[2001:db8::1]:1").ip;
    struct dial_sources sources = {&v4, &v6};
    struct endpoint addresses[2] = {endpoint_at("[::1]:1")};
    struct tries tries = {.count = 0};
    struct dial_request request = {.addresses = addresses,
                                   .count = 2,
                                   .sources = &sources,
                                   .timeout_ms = 2000,
                                   .on_tried = on_tried,
                                   .tried_owner = &tries};

    init(&pair);
    addresses[1] = *listener_endpoint(pair.listener);
    (void)dial(&pair, &request);
    PAIR_UNTIL(&pair, pair.server.stream && pair.client.stream);
    assert_true(ip_equal(&stream_peer(pair.server.stream)->ip, &v4));
    /* A source that is not there is no fault of the address. */
    assert_int_equal(tries.count, 1);
    assert_int_equal(tries.tried[0].outcome, DIAL_WON);
    pair_close(&pair);
}

/* ---- cancel ---- */

TEST(dialer, a_cancelled_dial_says_nothing)
{
    struct pair pair;
    struct black_hole hole;
    struct endpoint addresses[2];
    struct dial_request request = {
        .addresses = addresses, .count = 2, .delay_ms = 20, .timeout_ms = 2000};

    init(&pair);
    black_hole_open(&hole, "127.0.0.1");
    addresses[0] = addresses[1] = hole.endpoint;
    pair.dial = dial_start(pair.net, &request, pair_on_dialed, &pair);
    dial_cancel(pair.dial); /* before the first */
    pair.dial = dial_start(pair.net, &request, pair_on_dialed, &pair);
    PAIR_UNTIL(&pair, open_streams(&pair) == 2);
    dial_cancel(pair.dial); /* two are under way */
    loop_run_for(pair.loop, 100);
    assert_int_equal(pair.dial_ends, 0);
    assert_int_equal(open_streams(&pair), 0);
    pair_close(&pair);
    black_hole_close(&hole);
}

/* ---- order ---- */

static void expect_order(const char *given, bool is_v4_first, const char *wanted)
{
    struct endpoint addresses[ADDRESSES_MOST];
    char got[ADDRESSES_MOST + 1] = "";
    size_t count = strlen(given);

    for (size_t i = 0; i < count; i++) { /* a capital is an IPv4 address */
        uint8_t v4[4] = {127, 0, 0, (uint8_t)given[i]};

        memset(&addresses[i], 0, sizeof addresses[i]);
        addresses[i].ip.bytes[15] = (uint8_t)given[i];
        if (given[i] < 'a')
            addresses[i].ip = ip_from_v4(v4);
    }
    dial_interleave(addresses, count, is_v4_first);
    for (size_t i = 0; i < count; i++)
        got[i] = (char)addresses[i].ip.bytes[15];
    assert_string_equal(got, wanted);
}

TEST(dialer, the_families_take_turns)
{
    expect_order("", false, "");
    expect_order("a", true, "a");
    expect_order("A", false, "A");
    expect_order("abAB", false, "aAbB");
    expect_order("abAB", true, "AaBb");
    expect_order("ABab", false, "aAbB");
    expect_order("abcA", false, "aAbc");
    expect_order("ABCa", false, "aABC");
    expect_order("abcA", true, "Aabc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(dialer, a_refusal_starts_the_next_at_once),
        RUN(dialer, silence_starts_the_next_after_the_stagger),
        RUN(dialer, the_first_in_order_wins_and_the_others_are_not_asked),
        RUN(dialer, the_time_limit_is_that_of_all),
        RUN(dialer, at_most_eight_are_under_way),
        RUN(dialer, of_eight_the_oldest_gives_way_at_half_time),
        RUN(dialer, the_last_fault_names_address_and_reason),
        RUN(dialer, no_address_is_a_fault_from_the_loop),
        RUN(dialer, a_family_without_a_source_is_not_used),
        RUN(dialer, the_source_of_the_family_is_used),
        RUN(dialer, a_cancelled_dial_says_nothing),
        RUN(dialer, the_families_take_turns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
