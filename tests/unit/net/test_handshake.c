/* Handshakes between two real streams: who is told what, and when. */
#include "secured_pair.h"

#include <pthread.h>
#include <unistd.h>

/* RFC 3207 4.2: what was injected in clear behind STARTTLS must not come out of the TLS. */
TEST(handshake, clear_bytes_behind_the_upgrade_never_reach_the_owner)
{
    struct tls_pair both;

    open_both(&both, NULL);
    (void)stream_write(both.pair.client.stream, SLICE("MAIL FROM:<evil@x>\r\n"));
    loop_run_for(both.pair.loop, 20);
    both.pair.server.got.length = 0;
    assert_int_equal(
        stream_secure_server(both.pair.server.stream, both.server, end_on_secured),
        RESULT_OK);
    (void)stream_write(both.pair.client.stream, SLICE("RCPT TO:<evil@x>\r\n"));
    PAIR_UNTIL(&both.pair, both.pair.server.secured == 1);
    assert_int_equal(both.pair.server.fault.code, RESULT_TLS);
    assert_int_equal(both.pair.server.got.length, 0);
    close_both(&both);
}

TEST(handshake, a_peer_that_leaves_in_the_middle_is_a_fault)
{
    struct tls_pair both;

    open_both(&both, NULL);
    assert_int_equal(
        stream_secure_server(both.pair.server.stream, both.server, end_on_secured),
        RESULT_OK);
    loop_run_for(both.pair.loop, 10);
    stream_abort(both.pair.client.stream);
    both.pair.client.stream = NULL;
    PAIR_UNTIL(&both.pair, both.pair.server.secured == 1);
    assert_true(both.pair.server.fault.code != RESULT_OK);
    close_both(&both);
}

TEST(handshake, aborting_while_a_step_runs_on_the_pool_is_safe)
{
    for (int i = 0; i < 20; i++) {
        struct tls_pair both;

        open_both(&both, NULL);
        assert_int_equal(
            stream_secure_server(both.pair.server.stream, both.server, end_on_secured),
            RESULT_OK);
        assert_int_equal(stream_secure_client(both.pair.client.stream, both.client,
                                              TLS_OPPORTUNISTIC, "hop.test",
                                              end_on_secured),
                         RESULT_OK);
        loop_run_for(both.pair.loop, i % 4);
        stream_abort(both.pair.server.stream);
        stream_abort(both.pair.client.stream);
        both.pair.server.stream = both.pair.client.stream = NULL;
        close_both(&both);
        assert_true(both.pair.server.secured <= 1);
    }
}

/* ---- a pool that is busy until the test says so ---- */

static _Atomic bool pool_is_held;

static void hold_pool(void *input)
{
    (void)input;
    while (pool_is_held)
        (void)usleep(500);
}

static void forget_hold(void *owner, void *input)
{
    (void)owner;
    (void)input;
}

static void drop_hold(void *input)
{
    (void)input;
}

static struct pool_statistics crypto_pool(const struct pair *pair)
{
    struct pool_statistics statistics;

    offload_statistics(pair->offload, POOL_CRYPTO, &statistics);
    return statistics;
}

/* The owner of a stream that it closed may be gone: nobody is told how the handshake ends. */
TEST(handshake, closing_while_a_step_waits_for_the_pool_tells_nobody)
{
    struct job *jobs[64] = {NULL};
    struct tls_pair both;
    struct pair *pair = &both.pair;

    open_both(&both, NULL);
    assert_int_equal(stream_secure_server(pair->server.stream, both.server, end_on_secured),
                     RESULT_OK);
    PAIR_UNTIL(pair, crypto_pool(pair).done == 1); /* the step that finds no input */
    loop_run_for(pair->loop, 20);
    pool_is_held = true;
    for (unsigned i = 0; i < crypto_pool(pair).threads; i++)
        assert_int_equal(job_start(pair->offload, POOL_CRYPTO, hold_pool, forget_hold,
                                   drop_hold, &both, &both, &jobs[i]),
                         RESULT_OK);
    PAIR_UNTIL(pair, crypto_pool(pair).running == crypto_pool(pair).threads);
    assert_int_equal(crypto_pool(pair).waiting, 0);
    (void)stream_write(pair->client.stream, SLICE("this is no TLS at all\r\n"));
    PAIR_UNTIL(pair, crypto_pool(pair).waiting == 1);
    stream_close(pair->server.stream);
    pair->server.stream = NULL;
    pool_is_held = false;
    PAIR_UNTIL(pair, crypto_pool(pair).waiting + crypto_pool(pair).running == 0);
    loop_run_for(pair->loop, 20); /* what ended on the pool is told */
    assert_int_equal(pair->server.secured, 0);
    assert_int_equal(pair->server.closed, 0);
    stream_close(pair->client.stream);
    pair->client.stream = NULL;
    close_both(&both);
}

TEST(handshake, the_caps_on_handshakes_refuse)
{
    struct tls_settings tls = {.handshakes_max = 1, .handshakes_per_address_max = 1};
    struct net_statistics statistics;
    struct tls_pair both;

    open_with(&both, NULL, &tls);
    assert_int_equal(
        stream_secure_server(both.pair.server.stream, both.server, end_on_secured),
        RESULT_OK);
    assert_int_equal(stream_secure_client(both.pair.client.stream, both.client,
                                          TLS_OPPORTUNISTIC, "hop.test", end_on_secured),
                     RESULT_BUSY);
    net_statistics(both.pair.net, &statistics);
    assert_int_equal(statistics.handshakes_refused, 1);
    assert_int_equal(statistics.handshakes_running, 1);
    close_both(&both);
}

/* A pool that does nothing until it is let go. */
struct blocker {
    pthread_mutex_t lock;
    unsigned ended;
};

static void run_blocked(void *input)
{
    struct blocker *blocker = input;

    CHECK(pthread_mutex_lock(&blocker->lock) == 0);
    CHECK(pthread_mutex_unlock(&blocker->lock) == 0);
}

static void on_unblocked(void *owner, void *input)
{
    (void)input;
    ((struct blocker *)owner)->ended++;
}

/* The owner is gone after its close: a step of the handshake that still runs or waits on the
 * pool must not come back to it. */
TEST(handshake, after_a_close_in_the_handshake_nothing_comes_back)
{
    static struct blocker blocker = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct pool_statistics pool;
    struct tls_pair both;
    struct pair *pair = &both.pair;

    open_both(&both, NULL);
    offload_statistics(pair->offload, POOL_CRYPTO, &pool);
    CHECK(pthread_mutex_lock(&blocker.lock) == 0);
    for (unsigned i = 0; i < pool.threads; i++)
        assert_int_equal(job_start(pair->offload, POOL_CRYPTO, run_blocked, on_unblocked,
                                   NULL, &blocker, &blocker, NULL),
                         RESULT_OK);
    assert_int_equal(stream_secure_server(pair->server.stream, both.server, end_on_secured),
                     RESULT_OK);
    (void)stream_write(pair->client.stream, SLICE("this is no TLS, and will fail\r\n"));
    loop_run_for(pair->loop, 20);
    end_close(&pair->server);
    CHECK(pthread_mutex_unlock(&blocker.lock) == 0);
    PAIR_UNTIL(pair, blocker.ended == pool.threads && pair->client.closed == 1);
    loop_run_for(pair->loop, 50);
    assert_int_equal(pair->server.secured, 0);
    close_both(&both);
}

/* While a step runs on the pool the engine is the pool's alone. */
TEST(handshake, what_is_said_in_the_handshake_is_dropped_and_harms_nothing)
{
    struct tls_pair both;
    struct pair *pair = &both.pair;

    open_both(&both, NULL);
    assert_int_equal(stream_secure_server(pair->server.stream, both.server, end_on_secured),
                     RESULT_OK);
    assert_int_equal(stream_write(pair->server.stream, SLICE("421 bye\r\n")), RESULT_OK);
    assert_int_equal(stream_secure_client(pair->client.stream, both.client,
                                          TLS_OPPORTUNISTIC, "hop.test", end_on_secured),
                     RESULT_OK);
    PAIR_UNTIL(pair, pair->client.secured == 1 && pair->server.secured == 1);
    assert_int_equal(pair->server.fault.code, RESULT_OK);
    (void)stream_write(pair->server.stream, SLICE("now"));
    PAIR_UNTIL(pair, pair->client.got.length == 3);
    close_both(&both);
}

/* RFC 8446 6: why a handshake failed is said, or the client's operator sees a mere close. */
TEST(handshake, a_client_of_an_old_version_gets_an_alert)
{
    enum { HELLO = 50, ALERT = 21, PROTOCOL_VERSION = 70 };
    /* TLS 1.1: record, handshake, version, random, no session, one suite, no compression. */
    char hello[HELLO] = {22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2};
    struct tls_pair both;
    struct pair *pair = &both.pair;

    hello[45] = 2;
    hello[46] = (char)0xc0;
    hello[47] = 0x14;
    hello[48] = 1;
    open_both(&both, NULL);
    assert_int_equal(stream_secure_server(pair->server.stream, both.server, end_on_secured),
                     RESULT_OK);
    (void)stream_write(pair->client.stream, (struct slice){hello, HELLO});
    PAIR_UNTIL(pair, pair->server.secured == 1);
    assert_int_equal(pair->server.fault.code, RESULT_TLS);
    end_close(&pair->server);
    PAIR_UNTIL(pair, pair->client.closed == 1);
    assert_int_equal(pair->client.got.length, 7);
    assert_int_equal(pair->client.got.data[0], ALERT);
    assert_int_equal(pair->client.got.data[6], PROTOCOL_VERSION);
    close_both(&both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(handshake, clear_bytes_behind_the_upgrade_never_reach_the_owner),
        RUN(handshake, a_peer_that_leaves_in_the_middle_is_a_fault),
        RUN(handshake, aborting_while_a_step_runs_on_the_pool_is_safe),
        RUN(handshake, closing_while_a_step_waits_for_the_pool_tells_nobody),
        RUN(handshake, the_caps_on_handshakes_refuse),
        RUN(handshake, after_a_close_in_the_handshake_nothing_comes_back),
        RUN(handshake, what_is_said_in_the_handshake_is_dropped_and_harms_nothing),
        RUN(handshake, a_client_of_an_old_version_gets_an_alert),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
