/* TLS contexts, and handshakes between two real streams. */
#include "pair.h"

#include "certificates.h"

#include <pthread.h>

static struct certificates certificates;

static int make_certificates(void **state)
{
    (void)state;
    certificates_make(&certificates, "hop.test");
    return 0;
}

static int remove_certificates(void **state)
{
    (void)state;
    certificates_remove(&certificates);
    return 0;
}

static struct tls_server *server_with(const char *certificate, const char *key,
                                      struct fault *fault)
{
    const char *certificate_files[] = {certificate};
    const char *key_files[] = {key};
    struct tls_server_settings settings = {certificate_files, key_files, 1, false};
    struct tls_server *server = NULL;

    (void)(tls_server_new(&settings, &server, fault) == RESULT_OK);
    return server;
}

struct tls_pair {
    struct pair pair;
    struct tls_server *server;
    struct tls_client *client;
};

static void open_with(struct tls_pair *both, const char *ca_file,
                      const struct tls_settings *tls)
{
    struct fault fault;

    both->server = server_with(certificates.certificate, certificates.key, &fault);
    assert_non_null(both->server);
    assert_int_equal(tls_client_new(ca_file, &both->client, &fault), RESULT_OK);
    pair_init(&both->pair, tls);
    pair_connect(&both->pair);
}

static void open_both(struct tls_pair *both, const char *ca_file)
{
    struct tls_settings tls = {0, 0};

    open_with(both, ca_file, &tls);
}

static void close_both(struct tls_pair *both)
{
    pair_close(&both->pair);
    tls_server_unref(both->server);
    tls_client_unref(both->client);
}

static void secure_both(struct tls_pair *both, enum tls_level level, const char *name)
{
    struct pair *pair = &both->pair;

    assert_int_equal(
        stream_secure_server(pair->server.stream, both->server, end_on_secured), RESULT_OK);
    assert_int_equal(stream_secure_client(pair->client.stream, both->client, level, name,
                                          end_on_secured),
                     RESULT_OK);
    assert_int_equal(pair->client.secured + pair->server.secured, 0);
    PAIR_UNTIL(pair, pair->client.secured == 1);
}

TEST(tls, a_key_of_another_certificate_and_a_missing_file_are_named)
{
    struct fault fault;

    assert_null(server_with(certificates.certificate, certificates.other_key, &fault));
    assert_non_null(strstr(fault.text, certificates.other_key));
    assert_null(server_with("/nowhere/x.crt", certificates.key, &fault));
    assert_non_null(strstr(fault.text, "/nowhere/x.crt"));
}

TEST(tls, the_expiry_of_a_certificate_is_known)
{
    struct fault fault;
    struct tls_server *server =
        server_with(certificates.certificate, certificates.key, &fault);
    int64_t left_ms = tls_server_expires_ms(server) - loop_wall_us() / 1000;

    assert_true(left_ms > INT64_C(29) * 86400000 && left_ms < INT64_C(31) * 86400000);
    tls_server_unref(server);
}

TEST(tls, both_ways_with_much_data)
{
    struct tls_pair both;
    enum { BYTES = 3 << 20 };
    char *block = memory_new(BYTES);

    secure_init();
    secure_random(block, BYTES);
    open_both(&both, NULL);
    secure_both(&both, TLS_OPPORTUNISTIC, "hop.test");
    PAIR_UNTIL(&both.pair, both.pair.server.secured == 1);
    (void)stream_write(both.pair.client.stream, (struct slice){block, BYTES});
    (void)stream_write(both.pair.server.stream, (struct slice){block, BYTES});
    PAIR_UNTIL(&both.pair, both.pair.server.got.length == BYTES &&
                               both.pair.client.got.length == BYTES);
    assert_memory_equal(both.pair.server.got.data, block, BYTES);
    assert_memory_equal(both.pair.client.got.data, block, BYTES);
    assert_string_equal(stream_tls(both.pair.client.stream)->version, "TLSv1.3");
    memory_free(block);
    close_both(&both);
}

TEST(tls, the_verdict_is_computed_whatever_the_level)
{
    struct tls_pair both;

    open_both(&both, certificates.certificate);
    secure_both(&both, TLS_OPPORTUNISTIC, "hop.test");
    assert_true(stream_tls(both.pair.client.stream)->is_verified);
    close_both(&both);
    open_both(&both, certificates.other_certificate);
    secure_both(&both, TLS_REQUIRED, "hop.test");
    assert_int_equal(both.pair.client.fault.code, RESULT_OK);
    assert_false(stream_tls(both.pair.client.stream)->is_verified);
    assert_true(stream_tls(both.pair.client.stream)->verify_text[0] != '\0');
    close_both(&both);
}

TEST(tls, verified_wants_the_right_name_from_the_right_authority)
{
    static const struct {
        const char *name;
        bool knows_authority;
        enum result expected;
    } cases[] = {{"hop.test", true, RESULT_OK},
                 {"other.test", true, RESULT_UNTRUSTED},
                 {"hop.test", false, RESULT_UNTRUSTED},
                 {"127.0.0.1", true, RESULT_UNTRUSTED}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tls_pair both;

        open_both(&both, cases[i].knows_authority ? certificates.certificate
                                                  : certificates.other_certificate);
        secure_both(&both, TLS_VERIFIED, cases[i].name);
        assert_int_equal(both.pair.client.fault.code, cases[i].expected);
        close_both(&both);
    }
}

/* RFC 3207 4.2: what was injected in clear behind STARTTLS must not come out of the TLS. */
TEST(tls, clear_bytes_behind_the_upgrade_never_reach_the_owner)
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

TEST(tls, a_peer_that_leaves_in_the_middle_is_a_fault)
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

TEST(tls, aborting_while_a_step_runs_on_the_pool_is_safe)
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

TEST(tls, the_caps_on_handshakes_refuse)
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
TEST(tls, after_a_close_in_the_handshake_nothing_comes_back)
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
TEST(tls, what_is_said_in_the_handshake_is_dropped_and_harms_nothing)
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
TEST(tls, a_client_of_an_old_version_gets_an_alert)
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
        RUN(tls, a_key_of_another_certificate_and_a_missing_file_are_named),
        RUN(tls, the_expiry_of_a_certificate_is_known),
        RUN(tls, both_ways_with_much_data),
        RUN(tls, the_verdict_is_computed_whatever_the_level),
        RUN(tls, verified_wants_the_right_name_from_the_right_authority),
        RUN(tls, clear_bytes_behind_the_upgrade_never_reach_the_owner),
        RUN(tls, a_peer_that_leaves_in_the_middle_is_a_fault),
        RUN(tls, aborting_while_a_step_runs_on_the_pool_is_safe),
        RUN(tls, the_caps_on_handshakes_refuse),
        RUN(tls, after_a_close_in_the_handshake_nothing_comes_back),
        RUN(tls, what_is_said_in_the_handshake_is_dropped_and_harms_nothing),
        RUN(tls, a_client_of_an_old_version_gets_an_alert),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
