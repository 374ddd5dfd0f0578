/* A session that takes mail: bytes, answers, patience, and resting between messages. */
#include "deliver_world.h"
#include "sts_policy.h"

#include "connection_inner.h"

struct client {
    struct world *w;
    struct destination *destination;
    struct connection *connection;
    unsigned ready;
    unsigned replies;
    unsigned drained;
    unsigned broken;
    unsigned code; /* of the last reply */
    char text[LIMIT_REPLY_TEXT + 1];
    struct fault fault;
    bool closes_at_reply;
    bool closes_behind_reply;
    struct deferred close;
    bool rests_at_reply;
};

static void on_ready(void *owner)
{
    ((struct client *)owner)->ready++;
}

static void close_later(void *owner)
{
    connection_close(((struct client *)owner)->connection, false);
}

static void on_reply(void *owner, const struct reply *reply)
{
    struct client *client = owner;

    client->replies++;
    client->code = reply->code;
    (void)snprintf(client->text, sizeof client->text, "%s", reply->text);
    if (client->closes_at_reply)
        connection_close(client->connection, false);
    if (client->closes_behind_reply)
        loop_defer(client->w->loop, &client->close, close_later, client);
    if (client->rests_at_reply)
        connection_rest(client->connection);
}

static void on_drained(void *owner)
{
    ((struct client *)owner)->drained++;
}

static void on_broken(void *owner, const struct fault *fault)
{
    struct client *client = owner;

    client->broken++;
    client->fault = *fault;
}

static const struct connection_events events = {on_ready, on_reply, on_drained, on_broken};

static const struct tls_policy no_policy = {.domain = "a.test"};

static void open_ready(struct client *client, struct world *w, const char *script)
{
    struct plan_host host = {.name = "mx1.test", .address_count = 1};
    struct plan plan = {.kind = PLAN_HOSTS,
                        .hosts = &host,
                        .host_count = 1,
                        .port = w->settings.port,
                        .rule = -1};

    host.addresses[0] = w->peers[0].endpoint.ip;
    *client = (struct client){.w = w};
    client->destination = destination_get(w->deliver, &plan, "a.test");
    smtp_peer_play(&w->peers[0], script);
    client->connection =
        connection_open(client->destination, &host, &no_policy, &events, client);
    WORLD_UNTIL(w, client->ready + client->broken == 1);
    assert_int_equal(client->ready, 1);
}

static void say(struct client *client, const char *line)
{
    assert_int_equal(connection_send(client->connection, slice_of(line)), RESULT_OK);
}

static void expect_broken(struct client *client, const char *words)
{
    WORLD_UNTIL(client->w, client->broken == 1);
    if (!strstr(client->fault.text, words) ||
        !strstr(client->fault.text, "mx1.test [127.0.0.1:"))
        fail_msg("\"%s\" lacks \"%s\" or the peer", client->fault.text, words);
    loop_run_for(client->w->loop, 5);
    assert_int_equal(client->broken, 1); /* told once */
    connection_close(client->connection, true);
    WORLD_UNTIL(client->w, client->w->peers[0].open == 0);
}

TEST(connection, a_reply_of_several_lines_is_told_once_and_whole)
{
    struct client client;

    open_ready(&client, *state,
               GREET
               "C: NOOP\nS: 250-2.0.0 first\nS: 250-2.0.0 second\nS: 250 2.0.0 third\n");
    say(&client, "NOOP\r\n");
    WORLD_UNTIL(client.w, client.replies == 1);
    assert_int_equal(client.code, 250);
    assert_non_null(strstr(client.text, "first"));
    assert_non_null(strstr(client.text, "third"));
    connection_close(client.connection, true);
    WORLD_UNTIL(client.w, client.w->peers[0].open == 0);
}

TEST(connection, replies_in_one_packet_are_told_in_order)
{
    struct client client;

    open_ready(&client, *state, GREET "C: A\nS: 250 one\nS: 251 two\nS: 550 three\n");
    say(&client, "A\r\n");
    WORLD_UNTIL(client.w, client.replies == 3);
    assert_int_equal(client.code, 550);
    connection_close(client.connection, true);
}

TEST(connection, the_owner_may_close_inside_on_reply_and_hears_no_more)
{
    struct client client;

    open_ready(&client, *state, GREET "C: A\nS: 250 one\nS: 251 two\nC: <rest>\n");
    client.closes_at_reply = true;
    say(&client, "A\r\n");
    WORLD_UNTIL(client.w, client.w->peers[0].open == 0);
    assert_int_equal(client.replies, 1);
    assert_int_equal(client.broken, 0);
    assert_int_equal(client.destination->connections, 0);
}

TEST(connection, nonsense_instead_of_a_reply_is_a_fault)
{
    struct client client;

    open_ready(&client, *state, GREET "C: A\nS: what?\nC: <closed>\n");
    say(&client, "A\r\n");
    expect_broken(&client, "no reply of SMTP");
    assert_int_equal(client.replies, 0);
}

TEST(connection, a_flood_of_lines_is_a_fault)
{
    struct client client;

    open_ready(&client, *state, GREET "C: A\nS: <flood>\nC: <closed>\n");
    say(&client, "A\r\n");
    expect_broken(&client, "no reply of SMTP");
}

TEST(connection, a_line_without_end_is_a_fault)
{
    static char script[10000] = GREET "C: A\nS: 250 ";
    struct client client;
    size_t length = strlen(script);

    memset(script + length, 'x', 5000);
    (void)strcpy(script + length + 5000, "\nC: <closed>\n");
    open_ready(&client, *state, script);
    say(&client, "A\r\n");
    expect_broken(&client, "no reply of SMTP");
}

TEST(connection, patience_ends_with_the_name_of_the_stage)
{
    struct client client;

    open_ready(&client, *state, GREET "C: A\nS: 250-not the end\nC: <closed>\n");
    say(&client, "A\r\n");
    connection_await(client.connection, 20, "the test");
    expect_broken(&client, "no answer to the test in time");
}

TEST(connection, a_reply_ends_the_patience)
{
    struct world *w = *state;
    struct client client;

    open_ready(&client, w, GREET "C: A\nS: 250 ok\n");
    connection_await(client.connection, HOUR_MS, "the test");
    assert_true(timer_is_waiting(&client.connection->patience));
    say(&client, "A\r\n");
    WORLD_UNTIL(w, client.replies == 1);
    assert_false(timer_is_waiting(&client.connection->patience));
    connection_close(client.connection, true);
}

TEST(connection, an_end_is_told_with_the_peer)
{
    struct client client;

    open_ready(&client, *state, GREET "C: A\nS: <close>\n");
    say(&client, "A\r\n");
    expect_broken(&client, "closed");
}

TEST(connection, closed_when_a_fault_was_about_to_be_told_it_is_not_told)
{
    struct world *w = *state;
    struct client client;

    open_ready(&client, w, GREET "C: A\nS: 250 ok\nS: nonsense\nC: <rest>\n");
    client.closes_behind_reply = true; /* the fault stands behind this in the same turn */
    say(&client, "A\r\n");
    WORLD_UNTIL(w, w->peers[0].open == 0);
    assert_int_equal(client.replies, 1);
    assert_int_equal(client.broken, 0);
}

TEST(connection, more_output_than_the_stream_takes_says_when_it_drained)
{
    struct world *w = *state;
    enum { BYTES = 8 << 20 };
    struct client client;
    char *bytes = memory_new(BYTES);

    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'x';
    open_ready(&client, w, GREET "C: <data>\nS: 250 ok\n");
    assert_int_equal(connection_send(client.connection, (struct slice){bytes, BYTES}),
                     RESULT_AGAIN);
    assert_int_equal(client.drained, 0);
    WORLD_UNTIL(w, client.drained == 1);
    say(&client, ".\r\n");
    WORLD_UNTIL(w, client.replies == 1);
    assert_int_equal(w->peers[0].data.length, BYTES / 64 * 63);
    connection_close(client.connection, true);
    memory_free(bytes);
}

/* ---- resting ---- */

static void open_resting(struct client *client, struct world *w, const char *script)
{
    open_ready(client, w, script);
    connection_rest(client->connection);
    assert_int_equal(client->destination->idle.count, 1);
}

TEST(connection, who_comes_first_takes_the_one_that_rested_last)
{
    struct world *w = *state;
    struct client first, second, taker = {.w = w};

    open_resting(&first, w, GREET);
    open_ready(&second, w, GREET);
    connection_rest(second.connection);
    assert_int_equal(second.destination->idle.count, 2);
    assert_ptr_equal(connection_take_idle(first.destination, &no_policy, &events, &taker),
                     second.connection);
    assert_ptr_equal(connection_take_idle(first.destination, &no_policy, &events, &taker),
                     first.connection);
    assert_null(connection_take_idle(first.destination, &no_policy, &events, &taker));
    assert_int_equal(world_counts(w).messages_reused_connection, 2);
    connection_close(first.connection, true);
    connection_close(second.connection, true);
}

/* E6: it may be in clear, or to anybody. */
TEST(connection, one_that_dane_was_not_asked_about_is_not_taken_by_who_needs_it)
{
    static const struct tls_policy wants_dane = {.wants_dane = true, .domain = "a.test"};
    struct world *w = *state;
    struct client first, second, taker = {.w = w};

    open_resting(&first, w, GREET);
    assert_null(connection_take_idle(first.destination, &wants_dane, &events, &taker));
    assert_int_equal(first.destination->idle.count, 1);
    connection_close(first.connection, true);
    /* Where no more connections may be, it makes room for the new one. */
    w->settings.defaults.connections = 1;
    world_apply(w);
    open_resting(&second, w, GREET);
    assert_null(connection_take_idle(second.destination, &wants_dane, &events, &taker));
    assert_int_equal(second.destination->connections, 0);
}

/* MTA-STS: what is in clear is for those with a policy that asks for nothing. */
TEST(connection, one_in_clear_is_not_taken_by_who_has_a_policy)
{
    static const char text[] = "version: STSv1\nmode: enforce\nmx: mx1.test\nmax_age: 9\n";
    struct tls_policy policy = {.wants_sts = true, .domain = "a.test"};
    struct sts_policy *sts;
    struct client client, taker = {.w = *state};
    char why[160];

    open_resting(&client, *state, GREET);
    /* Not asked for yet; enforced; none. */
    assert_null(connection_take_idle(client.destination, &policy, &events, &taker));
    policy.has_sts = true;
    policy.sts = sts = sts_policy_parse(SLICE(text), why);
    assert_null(connection_take_idle(client.destination, &policy, &events, &taker));
    sts_policy_unref(sts);
    policy.sts = NULL;
    assert_ptr_equal(connection_take_idle(client.destination, &policy, &events, &taker),
                     client.connection);
    connection_close(client.connection, true);
}

TEST(connection, a_taken_one_tells_its_new_owner)
{
    struct client client, taker = {.w = *state};

    open_resting(&client, *state, GREET "C: A\nS: 250 ok\n");
    taker.connection =
        connection_take_idle(client.destination, &no_policy, &events, &taker);
    say(&taker, "A\r\n");
    WORLD_UNTIL(taker.w, taker.replies == 1);
    assert_int_equal(client.replies, 0);
    connection_close(taker.connection, true);
}

TEST(connection, one_that_is_closed_while_it_rests_is_gone_without_a_word)
{
    struct client client;

    open_resting(&client, *state, GREET "S: <hold>\nS: <close>\n");
    smtp_peer_go(&client.w->peers[0]);
    WORLD_UNTIL(client.w, client.destination->connections == 0);
    assert_int_equal(client.destination->idle.count, 0);
    assert_int_equal(client.broken, 0);
}

TEST(connection, one_that_speaks_while_it_rests_is_closed)
{
    struct client client;

    open_resting(&client, *state, GREET "S: <hold>\nS: 421 4.4.2 idle\nC: <closed>\n");
    smtp_peer_go(&client.w->peers[0]);
    WORLD_UNTIL(client.w, client.w->peers[0].open == 0);
    assert_int_equal(client.destination->idle.count, 0);
    assert_int_equal(client.replies + client.broken, 0);
}

TEST(connection, a_reply_behind_the_last_one_ends_its_rest)
{
    struct client client;

    open_ready(&client, *state, GREET "C: A\nS: 250 ok\nS: 250 more\nC: <closed>\n");
    client.rests_at_reply = true;
    say(&client, "A\r\n");
    WORLD_UNTIL(client.w, client.w->peers[0].open == 0);
    assert_int_equal(client.replies, 1);
    assert_int_equal(client.destination->idle.count, 0);
}

TEST(connection, its_rest_ends_with_quit)
{
    struct world *w = *state;
    struct client client;

    w->settings.timeouts.idle = 20;
    world_apply(w);
    open_resting(&client, w, GREET "C: QUIT\nC: <closed>\n");
    WORLD_UNTIL(w, w->peers[0].open == 0);
    assert_int_equal(client.destination->idle.count, 0);
    assert_int_equal(client.destination->connections, 0);
}

static void expect_no_rest(struct client *client)
{
    connection_rest(client->connection);
    assert_int_equal(client->destination->idle.count, 0);
    WORLD_UNTIL(client->w, client->w->peers[0].open == 0);
}

TEST(connection, without_an_idle_time_it_does_not_rest)
{
    struct world *w = *state;
    struct client client;

    w->settings.timeouts.idle = 0;
    world_apply(w);
    open_ready(&client, w, GREET "C: QUIT\nC: <closed>\n");
    expect_no_rest(&client);
}

TEST(connection, after_its_last_message_it_does_not_rest)
{
    struct world *w = *state;
    struct client client;

    w->settings.defaults.messages_per_connection = 2;
    world_apply(w);
    open_ready(&client, w, GREET "C: QUIT\nC: <closed>\n");
    connection_count_message(client.connection);
    connection_count_message(client.connection);
    assert_int_equal(connection_messages(client.connection), 2);
    expect_no_rest(&client);
}

TEST(connection, while_the_process_leaves_it_does_not_rest)
{
    struct client client;

    open_ready(&client, *state, GREET "C: QUIT\nC: <closed>\n");
    client.w->deliver->is_draining = true;
    expect_no_rest(&client);
}

TEST(connection, a_forgotten_destination_closes_what_rests_there)
{
    struct client client;

    open_resting(&client, *state, GREET "C: QUIT\nC: <closed>\n");
    destination_free(client.destination);
    WORLD_UNTIL(client.w, client.w->peers[0].open == 0);
    assert_int_equal(world_counts(client.w).connections_open, 0);
}

TEST(connection, settings_stay_with_it_to_the_end)
{
    struct world *w = *state;
    struct client client;

    open_ready(&client, w, GREET);
    w->settings.hostname = "other.test";
    world_apply(w);
    assert_string_equal(connection_settings(client.connection)->values.hostname,
                        "relay.test");
    connection_close(client.connection, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(connection, name)
        T(a_reply_of_several_lines_is_told_once_and_whole),
        T(replies_in_one_packet_are_told_in_order),
        T(the_owner_may_close_inside_on_reply_and_hears_no_more),
        T(nonsense_instead_of_a_reply_is_a_fault),
        T(a_flood_of_lines_is_a_fault),
        T(a_line_without_end_is_a_fault),
        T(patience_ends_with_the_name_of_the_stage),
        T(a_reply_ends_the_patience),
        T(an_end_is_told_with_the_peer),
        T(closed_when_a_fault_was_about_to_be_told_it_is_not_told),
        T(more_output_than_the_stream_takes_says_when_it_drained),
        T(who_comes_first_takes_the_one_that_rested_last),
        T(one_that_dane_was_not_asked_about_is_not_taken_by_who_needs_it),
        T(one_in_clear_is_not_taken_by_who_has_a_policy),
        T(a_taken_one_tells_its_new_owner),
        T(one_that_is_closed_while_it_rests_is_gone_without_a_word),
        T(one_that_speaks_while_it_rests_is_closed),
        T(a_reply_behind_the_last_one_ends_its_rest),
        T(its_rest_ends_with_quit),
        T(without_an_idle_time_it_does_not_rest),
        T(after_its_last_message_it_does_not_rest),
        T(while_the_process_leaves_it_does_not_rest),
        T(a_forgotten_destination_closes_what_rests_there),
        T(settings_stay_with_it_to_the_end),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
