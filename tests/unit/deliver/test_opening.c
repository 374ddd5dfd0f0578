/* From the address to a session that takes mail, and each way it can end on the way. */
#include "deliver_world.h"

#include "connection_inner.h"
#include "sts_policy.h"

struct client {
    struct world *w;
    struct destination *destination;
    struct connection *connection;
    unsigned ready;
    unsigned broken;
    struct fault fault;
};

static void on_ready(void *owner)
{
    ((struct client *)owner)->ready++;
}

static void on_reply(void *owner, const struct reply *reply)
{
    (void)owner;
    fail_msg("a reply before anything was said: %u", reply->code);
}

static void on_drained(void *owner)
{
    (void)owner;
}

static void on_broken(void *owner, const struct fault *fault)
{
    struct client *client = owner;

    client->broken++;
    client->fault = *fault;
}

static const struct connection_events events = {on_ready, on_reply, on_drained, on_broken};

static void start_by(struct client *client, struct world *w, bool is_route,
                     const struct tls_policy *policy)
{
    size_t at = policy->wants_dane; /* mx2.test has TLSA records, mx1.test has not */
    struct plan_host host = {.name = "mx1.test", .address_count = 1};
    struct plan plan = {.kind = PLAN_HOSTS,
                        .hosts = &host,
                        .host_count = 1,
                        .port = w->settings.port,
                        .rule = -1,
                        .is_route = is_route,
                        .route_name = "r"};

    host.name[2] = (char)('1' + at);
    host.addresses[0] = w->peers[at].endpoint.ip;
    *client = (struct client){.w = w};
    client->destination = destination_get(w->deliver, &plan, "a.test");
    client->connection =
        connection_open(client->destination, &host, policy, &events, client);
    assert_int_equal(client->ready + client->broken, 0); /* never inside the call */
}

static void start(struct client *client, struct world *w, bool is_route)
{
    static const struct tls_policy no_policy = {.domain = "a.test"};

    start_by(client, w, is_route, &no_policy);
}

static void open_with(struct client *client, struct world *w, const char *script)
{
    smtp_peer_play(&w->peers[0], script);
    start(client, w, false);
    WORLD_UNTIL(w, client->ready + client->broken == 1);
}

static void expect_ready(struct world *w, const char *script)
{
    struct client client;

    open_with(&client, w, script);
    assert_int_equal(client.ready, 1);
    assert_int_equal(client.destination->connections, 1);
    connection_close(client.connection, true);
    WORLD_UNTIL(w, w->peers[0].open == 0);
    assert_int_equal(client.destination->connections, 0);
    assert_int_equal(client.broken, 0);
}

static void expect_broken(struct world *w, const char *script, const char *words)
{
    struct client client;

    open_with(&client, w, script);
    assert_int_equal(client.broken, 1);
    if (!strstr(client.fault.text, words) || !strstr(client.fault.text, "mx1.test"))
        fail_msg("\"%s\" lacks \"%s\" or the host", client.fault.text, words);
    assert_int_equal(world_counts(w).connections_failed, 1);
    connection_close(client.connection, true);
    WORLD_UNTIL(w, w->peers[0].open == 0);
    assert_int_equal(world_counts(w).connections_open, 0);
    assert_int_equal(client.ready, 0);
}

TEST(opening, the_table_is_sound)
{
    int count;
    const struct machine_row *rows = opening_rows(&count);

    (void)state;
    assert_null(machine_check(rows, count, STATE_DANE));
}

TEST(opening, a_greeting_and_ehlo_are_enough)
{
    expect_ready(*state, GREET "C: QUIT\nC: <closed>\n");
}

TEST(opening, a_connect_limit_of_0_is_30_seconds)
{
    struct world *w = *state;

    w->settings.timeouts.connect = 0;
    world_apply(w);
    expect_ready(w, GREET "C: QUIT\nC: <closed>\n");
}

TEST(opening, what_the_server_offers_is_read_from_ehlo)
{
    struct world *w = *state;
    struct client client;
    const struct capabilities *theirs;

    open_with(&client, w,
              "S: 220-mx\nS: 220 hello\nC: EHLO relay.test\nS: 250-mx PIPELINING\n"
              "S: 250-size 5000\nS: 250-8bitmime\nS: 250 DSN\n");
    theirs = connection_capabilities(client.connection);
    assert_false(theirs->pipelining); /* the first line is the greeting */
    assert_true(theirs->size && theirs->eightbitmime && theirs->dsn);
    assert_false(theirs->smtputf8 || theirs->starttls);
    assert_int_equal(theirs->size_limit, 5000);
    connection_close(client.connection, false);
}

TEST(opening, an_old_server_is_greeted_with_helo)
{
    struct world *w = *state;

    w->settings.defaults.tls = TLS_OPPORTUNISTIC;
    world_apply(w);
    expect_ready(w, "S: 220 mx\nC: EHLO *\nS: 500 what\nC: HELO relay.test\nS: 250 mx\n");
}

TEST(opening, where_tls_is_required_helo_is_not_enough)
{
    struct world *w = *state;

    w->settings.defaults.tls = TLS_REQUIRED;
    world_apply(w);
    expect_broken(w, "S: 220 mx\nC: EHLO *\nS: 502 5.5.1 what\nC: <closed>\n", "502 5.5.1");
}

TEST(opening, answers_that_are_none_end_it)
{
    static const char *const rows[][2] = {
        {"S: 550 5.7.1 no\nC: <closed>\n", "the greeting was answered 550 5.7.1 no"},
        {"S: 250 mx\nC: <closed>\n", "the greeting was answered 250"},
        {"S: SSH-2.0-OpenSSH\nC: <closed>\n", "no reply of SMTP"},
        {"S: 220 mx\nC: EHLO *\nS: 450 4.3.2 later\nC: <closed>\n",
         "EHLO was answered 450"},
        {"S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 251 mixed\nC: <closed>\n",
         "no reply of SMTP"},
        {"S: 220 mx\nC: EHLO *\nS: <flood>\nC: <closed>\n", "no reply of SMTP"},
        {"S: 220 mx\nC: EHLO *\nS: 502 no\nC: HELO *\nS: 550 no\nC: <closed>\n",
         "HELO was answered 550"},
        {"S: 220 mx\nC: EHLO *\nS: <close>\n", "closed"},
        {"S: 220 mx\nC: EHLO *\nS: <abort>\n", "closed"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (i > 0) {
            assert_int_equal(tear_down(state), 0);
            assert_int_equal(set_up(state), 0);
        }
        expect_broken(*state, rows[i][0], rows[i][1]);
    }
}

TEST(opening, more_than_the_answer_to_ehlo_is_out_of_turn)
{
    struct client client;

    open_with(&client, *state,
              "S: 220 mx\nC: EHLO *\nS: 250 mx\nS: 250 again\nC: <closed>\n");
    assert_int_equal(client.ready, 0);
    assert_non_null(strstr(client.fault.text, "out of turn"));
    connection_close(client.connection, true);
    WORLD_UNTIL(client.w, client.w->peers[0].open == 0);
}

static void expect_silence(struct world *w, const char *script, const char *words)
{
    w->settings.timeouts.greeting = w->settings.timeouts.ehlo = 20;
    w->settings.timeouts.starttls = 20;
    world_apply(w);
    expect_broken(w, script, words);
}

TEST(opening, silence_instead_of_the_greeting_ends_it)
{
    expect_silence(*state, "C: <closed>\n", "no answer to the greeting in time");
}

TEST(opening, silence_after_ehlo_ends_it_even_when_lines_come)
{
    expect_silence(*state, "S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250-SIZE\nC: <closed>\n",
                   "no answer to EHLO in time");
}

TEST(opening, a_host_that_refuses_is_named_with_its_address)
{
    struct world *w = *state;
    struct client client;

    w->settings.port = 1; /* nobody listens */
    start(&client, w, false);
    WORLD_UNTIL(w, client.broken == 1);
    assert_int_equal(client.fault.code, RESULT_REFUSED);
    assert_non_null(strstr(client.fault.text, "127.0.0.1"));
    connection_close(client.connection, true);
}

/* ---- cancelled ---- */

static void cancel_at(struct world *w, const char *script)
{
    struct client client;

    smtp_peer_play(&w->peers[0], script);
    start(&client, w, false);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    connection_close(client.connection, false);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, w->peers[0].open == 0);
    assert_int_equal(client.ready + client.broken, 0);
    assert_int_equal(client.destination->connections, 0);
    assert_int_equal(world_counts(w).connections_open, 0);
}

TEST(opening, closed_before_the_greeting_it_never_calls_back)
{
    cancel_at(*state, "S: <hold>\nS: 220 mx\nC: <rest>\n");
}

TEST(opening, closed_after_ehlo_it_never_calls_back)
{
    cancel_at(*state, "S: 220 mx\nC: EHLO *\nS: <hold>\nS: 250 mx\nC: <rest>\n");
}

TEST(opening, closed_while_it_dials_it_never_calls_back)
{
    struct world *w = *state;
    struct client client;

    w->peers[0].serves = true;
    start(&client, w, false);
    connection_close(client.connection, true);
    loop_run_for(w->loop, 20);
    assert_int_equal(client.ready + client.broken, 0);
    assert_int_equal(w->peers[0].open, 0);
    assert_int_equal(client.destination->connections, 0);
}

TEST(opening, closed_when_ready_was_about_to_be_told_it_is_not_told)
{
    struct world *w = *state;
    struct client client;
    int count;

    smtp_peer_play(&w->peers[0], GREET "C: <rest>\n");
    start(&client, w, false);
    WORLD_UNTIL(w, client.ready == 1);
    client.ready = 0;
    opening_rows(&count)[STATE_READY].enter(client.connection); /* it would be told again */
    connection_close(client.connection, false);
    loop_run_for(w->loop, 5);
    assert_int_equal(client.ready + client.broken, 0);
}

/* ---- TLS ---- */

#define OFFER                                                                              \
    "S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\nC: <nothing>\n"

static void with_tls(struct world *w, const char *name, enum tls_level level)
{
    w->settings.defaults.tls = level;
    world_make_tls(w, name);
}

TEST(opening, starttls_is_followed_by_a_new_ehlo)
{
    struct world *w = *state;
    struct client client;

    with_tls(w, "mx1.test", TLS_VERIFIED);
    open_with(&client, w,
              OFFER "S: 220 go\nS: <tls>\nC: EHLO relay.test\nS: 250-mx\nS: 250 DSN\n");
    assert_int_equal(client.ready, 1);
    assert_true(connection_tls(client.connection)->is_verified);
    assert_true(connection_capabilities(client.connection)->dsn);
    /* What was offered in clear is forgotten (RFC 3207 4.2). */
    assert_false(connection_capabilities(client.connection)->starttls);
    connection_close(client.connection, true);
}

TEST(opening, bytes_in_clear_behind_the_220_are_thrown_away)
{
    struct world *w = *state;

    with_tls(w, "mx1.test", TLS_REQUIRED);
    expect_ready(w, OFFER "S: 220 go\nS: 250 injected\nS: <tls>\nC: EHLO *\nS: 250 mx\n"
                          "C: QUIT\nC: <closed>\n");
}

TEST(opening, a_certificate_for_another_name_breaks_verified)
{
    struct world *w = *state;

    with_tls(w, "else.test", TLS_VERIFIED);
    expect_broken(w, OFFER "S: 220 go\nS: <tls>\nC: <closed>\n", "certificate");
}

TEST(opening, tls_that_is_not_offered_breaks_required)
{
    struct world *w = *state;

    with_tls(w, "mx1.test", TLS_REQUIRED);
    expect_broken(w, "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: <closed>\n", "no STARTTLS");
}

TEST(opening, starttls_refused_breaks_required)
{
    struct world *w = *state;

    with_tls(w, "mx1.test", TLS_REQUIRED);
    expect_broken(w, OFFER "S: 454 4.7.0 no\nC: <closed>\n", "STARTTLS was answered 454");
}

TEST(opening, starttls_refused_goes_on_in_clear_where_tls_is_opportunistic)
{
    struct world *w = *state;

    with_tls(w, "mx1.test", TLS_OPPORTUNISTIC);
    expect_ready(w, OFFER "S: 454 4.7.0 no\nC: QUIT\n");
}

TEST(opening, a_broken_handshake_asks_for_a_connection_in_clear_and_is_remembered)
{
    struct world *w = *state;
    struct client client;

    with_tls(w, "mx1.test", TLS_OPPORTUNISTIC);
    open_with(&client, w, OFFER "S: 220 go\nS: this is no TLS\nS: <close>\n");
    assert_int_equal(client.broken, 1);
    assert_true(connection_wants_clear(client.connection));
    connection_close(client.connection, false);
    smtp_peer_play(&w->peers[0],
                   "S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250 STARTTLS\nC: <nothing>\n");
    start(&client, w, false);
    WORLD_UNTIL(w, client.ready == 1); /* no STARTTLS for an hour */
    connection_close(client.connection, false);
}

/* ---- DANE: the host is mx2.test, whose records are world_tlsa ---- */

static const struct tls_policy wants_dane = {.wants_dane = true, .domain = "sure.test"};
#define NO_TLSA ""
#define OTHER_TLSA                                                                         \
    "TLSA 3 1 1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static void open_dane(struct client *client, struct world *w, const char *script)
{
    if (script)
        smtp_peer_play(&w->peers[1], script);
    start_by(client, w, false, &wants_dane);
    WORLD_UNTIL(w, client->ready + client->broken == 1);
}

static void close_dane(struct client *client)
{
    connection_close(client->connection, true);
    WORLD_UNTIL(client->w, client->w->peers[1].open == 0);
}

static void expect_failed(struct world *w, const char *script, const char *words)
{
    struct client client;

    open_dane(&client, w, script);
    assert_int_equal(client.broken, 1);
    if (!strstr(client.fault.text, words) || !strstr(client.fault.text, "mx2.test"))
        fail_msg("\"%s\" lacks \"%s\" or the host", client.fault.text, words);
    assert_true(connection_fails_policy(client.connection));
    assert_false(connection_wants_clear(client.connection));
    close_dane(&client);
}

TEST(opening, without_tlsa_records_a_host_is_as_any_other)
{
    struct world *w = *state;
    struct client client;

    with_tls(w, "mx2.test", TLS_OPPORTUNISTIC);
    (void)strcpy(world_tlsa, NO_TLSA);
    open_dane(&client, w, GREET "C: QUIT\n");
    assert_int_equal(client.ready, 1);
    assert_int_equal(connection_tls_policy(client.connection, &wants_dane),
                     DELIVER_TLS_AS_SET);
    close_dane(&client);
}

TEST(opening, a_certificate_that_fits_its_tlsa_record_is_good)
{
    struct world *w = *state;
    struct client client;

    with_tls(w, "other-name.test", TLS_OPPORTUNISTIC);
    world_publish_tls(w);
    open_dane(&client, w, OFFER "S: 220 go\nS: <tls>\nC: EHLO *\nS: 250 mx\nC: QUIT\n");
    assert_int_equal(client.ready, 1);
    assert_int_equal(connection_tls(client.connection)->dane, TLS_DANE_EE);
    assert_string_equal(connection_tls(client.connection)->name, "mx2.test");
    assert_int_equal(connection_tls_policy(client.connection, &wants_dane),
                     DELIVER_TLS_DANE);
    close_dane(&client);
}

TEST(opening, a_certificate_that_does_not_fit_its_tlsa_record_is_none)
{
    struct world *w = *state;

    with_tls(w, "mx2.test", TLS_OPPORTUNISTIC);
    (void)strcpy(world_tlsa, OTHER_TLSA);
    expect_failed(w, OFFER "S: 220 go\nS: <tls>\nC: <closed>\n",
                  "TLSA records of mx2.test");
}

TEST(opening, a_host_with_tlsa_records_gets_nothing_in_clear)
{
    struct world *w = *state;

    with_tls(w, "mx2.test", TLS_OPPORTUNISTIC);
    (void)strcpy(world_tlsa, OTHER_TLSA);
    expect_failed(w, "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: <closed>\n", "no STARTTLS");
    expect_failed(w, OFFER "S: 454 4.7.0 no\nC: <closed>\n", "STARTTLS was answered 454");
    expect_failed(w, OFFER "S: 220 go\nS: this is no TLS\nS: <close>\n",
                  "TLS is a must here");
    expect_failed(w, "S: 220 mx\nC: EHLO *\nS: 502 old\nC: <closed>\n", "EHLO");
}

TEST(opening, with_unusable_tlsa_records_tls_is_a_must_and_any_certificate_will_do)
{
    struct world *w = *state;
    struct client client;

    with_tls(w, "other-name.test", TLS_OPPORTUNISTIC);
    (void)strcpy(world_tlsa, "TLSA 1 1 1 00;TLSA 3 1 9 00");
    open_dane(&client, w, OFFER "S: 220 go\nS: <tls>\nC: EHLO *\nS: 250 mx\nC: QUIT\n");
    assert_int_equal(client.ready, 1);
    assert_int_equal(connection_tls_policy(client.connection, &wants_dane),
                     DELIVER_TLS_DANE_UNUSABLE);
    close_dane(&client);
    expect_failed(w, "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: <closed>\n", "no STARTTLS");
}

/* What other mail found out about the host's TLS must not lead this mail into the clear. */
TEST(opening, a_remembered_broken_handshake_is_nothing_to_dane)
{
    struct world *w = *state;
    struct client client;

    with_tls(w, "mx2.test", TLS_OPPORTUNISTIC);
    world_publish_tls(w);
    {
        struct destination any = {.deliver = w->deliver,
                                  .plan = {.port = w->settings.port, .rule = -1}};

        host_memory(&any, "mx2.test")->clear_until_ms = INT64_MAX;
    }
    open_dane(&client, w, OFFER "S: 220 go\nS: <tls>\nC: EHLO *\nS: 250 mx\nC: QUIT\n");
    assert_int_equal(client.ready, 1);
    assert_true(connection_tls(client.connection)->is_secure);
    close_dane(&client);
}

TEST(opening, closing_while_dane_is_asked_about_ends_everything)
{
    struct world *w = *state;
    struct client client;

    with_tls(w, "mx2.test", TLS_OPPORTUNISTIC);
    start_by(&client, w, false, &wants_dane);
    assert_int_equal(w->deliver->danes.count, 1);
    connection_close(client.connection, false);
    assert_int_equal(w->deliver->danes.count, 0);
    loop_run_for(w->loop, 20);
    assert_int_equal(client.ready + client.broken, 0);
}

TEST(opening, a_broken_handshake_never_leads_into_the_clear_where_tls_is_required)
{
    struct world *w = *state;
    struct client client;

    with_tls(w, "mx1.test", TLS_REQUIRED);
    open_with(&client, w, OFFER "S: 220 go\nS: this is no TLS\nS: <close>\n");
    assert_int_equal(client.broken, 1);
    assert_false(connection_wants_clear(client.connection));
    connection_close(client.connection, false);
}

/* ---- routes ---- */

static const char *const all[] = {"*"};
static struct route route = {.name = "r",
                             .match = all,
                             .match_count = 1,
                             .host = "mx1.test",
                             .user = "me",
                             .password = "secret",
                             .settings = {.connections = 5,
                                          .messages_per_connection = 100,
                                          .recipients_per_transaction = 100,
                                          .pipeline_window = 32}};

static void with_route(struct world *w, bool tls_is_implicit)
{
    route.tls_is_implicit = tls_is_implicit;
    route.settings.tls = tls_is_implicit ? TLS_REQUIRED : TLS_NONE;
    w->settings.routes = &route;
    w->settings.route_count = 1;
    world_apply(w);
}

static void log_in(struct world *w, const char *script, bool works, const char *words)
{
    struct client client;

    smtp_peer_play(&w->peers[0], script);
    start(&client, w, true);
    WORLD_UNTIL(w, client.ready + client.broken == 1);
    assert_int_equal(client.ready, works);
    if (words && !strstr(client.fault.text, words))
        fail_msg("\"%s\" lacks \"%s\"", client.fault.text, words);
    connection_close(client.connection, works);
    WORLD_UNTIL(w, w->peers[0].open == 0);
}

#define OFFER_AUTH(mechanisms)                                                             \
    "S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250 AUTH " mechanisms "\n"

TEST(opening, a_route_logs_in_with_plain)
{
    with_route(*state, false);
    log_in(*state,
           OFFER_AUTH("LOGIN PLAIN") "C: AUTH PLAIN AG1lAHNlY3JldA==\nC: <nothing>\n"
                                     "S: 235 ok\nC: QUIT\n",
           true, NULL);
}

TEST(opening, a_route_logs_in_with_login_where_plain_is_not_offered)
{
    with_route(*state, false);
    log_in(*state,
           OFFER_AUTH("LOGIN") "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: bWU=\n"
                               "S: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235 ok\nC: QUIT\n",
           true, NULL);
}

TEST(opening, a_refused_log_in_is_a_fault_that_does_not_tell_the_password)
{
    with_route(*state, false);
    log_in(*state, OFFER_AUTH("PLAIN") "C: AUTH PLAIN *\nS: 535 5.7.8 wrong\nC: <closed>\n",
           false, "the log-in was answered 535 5.7.8 wrong");
    assert_int_equal(world_logged(*state, "", "c2VjcmV0"), 0);
}

TEST(opening, a_server_without_auth_is_of_no_use_to_a_route_with_a_user)
{
    with_route(*state, false);
    log_in(*state, "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: <closed>\n", false, "no AUTH");
}

TEST(opening, implicit_tls_comes_before_the_greeting)
{
    struct world *w = *state;

    with_route(w, true);
    world_make_tls(w, "mx1.test");
    log_in(w,
           "S: <tls>\n" OFFER_AUTH("PLAIN") "C: AUTH PLAIN *\nS: 235 ok\nC: QUIT\n"
                                            "C: <closed>\n",
           true, NULL);
}

/* ---- MTA-STS: the host is mx1.test ---- */

static struct sts_policy *sts_of(const char *mode, const char *mx)
{
    char text[128];
    char why[160];

    (void)snprintf(text, sizeof text, "version: STSv1\nmode: %s\nmx: %s\nmax_age: 1000\n",
                   mode, mx);
    return sts_policy_parse(slice_of(text), why);
}

static void open_sts(struct client *client, struct world *w, const struct sts_policy *sts,
                     const char *script)
{
    struct tls_policy policy = {
        .wants_sts = true, .has_sts = true, .sts = sts, .domain = "a.test"};

    if (script)
        smtp_peer_play(&w->peers[0], script);
    start_by(client, w, false, &policy);
    WORLD_UNTIL(w, client->ready + client->broken == 1);
}

static void close_sts(struct client *client)
{
    connection_close(client->connection, true);
    WORLD_UNTIL(client->w, client->w->peers[0].open == 0);
}

#define SECURED OFFER "S: 220 go\nS: <tls>\nC: EHLO *\nS: 250 mx\nC: QUIT\n"

TEST(opening, an_enforced_policy_asks_for_a_valid_certificate)
{
    struct world *w = *state;
    struct sts_policy *sts = sts_of("enforce", "mx1.test");
    struct tls_policy policy = {.wants_sts = true, .has_sts = true, .sts = sts};
    struct client client;

    with_tls(w, "mx1.test", TLS_OPPORTUNISTIC);
    open_sts(&client, w, sts, SECURED);
    assert_int_equal(client.ready, 1);
    assert_true(connection_tls(client.connection)->is_verified);
    assert_int_equal(connection_tls_policy(client.connection, &policy), DELIVER_TLS_STS);
    assert_null(connection_sts_failure(client.connection, sts));
    close_sts(&client);
    sts_policy_unref(sts);
}

static void expect_forbidden(struct world *w, const struct sts_policy *sts,
                             const char *script, const char *words)
{
    struct client client;

    open_sts(&client, w, sts, script);
    assert_int_equal(client.broken, 1);
    if (!strstr(client.fault.text, words) || !strstr(client.fault.text, "mx1.test"))
        fail_msg("\"%s\" lacks \"%s\" or the host", client.fault.text, words);
    assert_true(connection_fails_policy(client.connection));
    assert_false(connection_wants_clear(client.connection));
    close_sts(&client);
}

TEST(opening, an_enforced_policy_has_no_way_around_it)
{
    struct world *w = *state;
    struct sts_policy *sts = sts_of("enforce", "*.test");
    struct sts_policy *other = sts_of("enforce", "mx2.test");

    with_tls(w, "other-name.test", TLS_OPPORTUNISTIC);
    expect_forbidden(w, sts, OFFER "S: 220 go\nS: <tls>\nC: <closed>\n",
                     "certificate is not valid for mx1.test");
    w->settings.defaults.tls = TLS_REQUIRED;
    world_apply(w);
    expect_forbidden(w, sts, OFFER "S: 220 go\nS: <tls>\nC: <closed>\n",
                     "certificate is not valid for mx1.test");
    w->settings.defaults.tls = TLS_OPPORTUNISTIC;
    world_apply(w);
    expect_forbidden(w, sts, "S: 220 mx\nC: EHLO *\nS: 250 mx\nC: <closed>\n",
                     "no STARTTLS");
    expect_forbidden(w, sts, OFFER "S: 454 4.7.0 no\nC: <closed>\n",
                     "STARTTLS was answered 454");
    expect_forbidden(w, sts, OFFER "S: 220 go\nS: this is no TLS\nS: <close>\n",
                     "TLS is a must here (MTA-STS)");
    expect_forbidden(w, sts, "S: 220 mx\nC: EHLO *\nS: 502 old\nC: <closed>\n", "EHLO");
    expect_forbidden(w, other, NULL, "does not name it");
    sts_policy_unref(sts);
    sts_policy_unref(other);
}

TEST(opening, a_policy_that_was_not_asked_for_is_none_that_is_not_there)
{
    static const struct tls_policy policy = {.wants_sts = true, .domain = "a.test"};
    struct client client;

    start_by(&client, *state, false, &policy);
    WORLD_UNTIL(client.w, client.ready + client.broken == 1);
    assert_int_equal(client.broken, 1);
    assert_true(connection_fails_policy(client.connection));
    connection_close(client.connection, true);
}

TEST(opening, a_policy_in_testing_asks_for_nothing_and_has_words)
{
    struct world *w = *state;
    struct sts_policy *sts = sts_of("testing", "mx1.test");
    struct sts_policy *other = sts_of("testing", "mx2.test");
    struct client client;

    with_tls(w, "other-name.test", TLS_OPPORTUNISTIC);
    open_sts(&client, w, sts, SECURED);
    assert_int_equal(client.ready, 1);
    assert_non_null(connection_sts_failure(client.connection, sts));
    assert_string_equal(connection_sts_failure(client.connection, other),
                        "the policy does not name it");
    close_sts(&client);
    open_sts(&client, w, sts, GREET "C: QUIT\n");
    assert_int_equal(client.ready, 1);
    assert_string_equal(connection_sts_failure(client.connection, sts), "no TLS");
    close_sts(&client);
    sts_policy_unref(sts);
    sts_policy_unref(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(opening, name)
        T(the_table_is_sound),
        T(a_greeting_and_ehlo_are_enough),
        T(a_connect_limit_of_0_is_30_seconds),
        T(what_the_server_offers_is_read_from_ehlo),
        T(an_old_server_is_greeted_with_helo),
        T(where_tls_is_required_helo_is_not_enough),
        T(answers_that_are_none_end_it),
        T(more_than_the_answer_to_ehlo_is_out_of_turn),
        T(silence_instead_of_the_greeting_ends_it),
        T(silence_after_ehlo_ends_it_even_when_lines_come),
        T(a_host_that_refuses_is_named_with_its_address),
        T(closed_before_the_greeting_it_never_calls_back),
        T(closed_after_ehlo_it_never_calls_back),
        T(closed_while_it_dials_it_never_calls_back),
        T(closed_when_ready_was_about_to_be_told_it_is_not_told),
        T(starttls_is_followed_by_a_new_ehlo),
        T(bytes_in_clear_behind_the_220_are_thrown_away),
        T(a_certificate_for_another_name_breaks_verified),
        T(tls_that_is_not_offered_breaks_required),
        T(starttls_refused_breaks_required),
        T(starttls_refused_goes_on_in_clear_where_tls_is_opportunistic),
        T(a_broken_handshake_asks_for_a_connection_in_clear_and_is_remembered),
        T(a_broken_handshake_never_leads_into_the_clear_where_tls_is_required),
        T(without_tlsa_records_a_host_is_as_any_other),
        T(a_certificate_that_fits_its_tlsa_record_is_good),
        T(a_certificate_that_does_not_fit_its_tlsa_record_is_none),
        T(a_host_with_tlsa_records_gets_nothing_in_clear),
        T(with_unusable_tlsa_records_tls_is_a_must_and_any_certificate_will_do),
        T(a_remembered_broken_handshake_is_nothing_to_dane),
        T(closing_while_dane_is_asked_about_ends_everything),
        T(an_enforced_policy_asks_for_a_valid_certificate),
        T(an_enforced_policy_has_no_way_around_it),
        T(a_policy_that_was_not_asked_for_is_none_that_is_not_there),
        T(a_policy_in_testing_asks_for_nothing_and_has_words),
        T(a_route_logs_in_with_plain),
        T(a_route_logs_in_with_login_where_plain_is_not_offered),
        T(a_refused_log_in_is_a_fault_that_does_not_tell_the_password),
        T(a_server_without_auth_is_of_no_use_to_a_route_with_a_user),
        T(implicit_tls_comes_before_the_greeting),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
