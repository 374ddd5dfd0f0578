/* Several transactions on one connection: who is answered, who is lost, who was never tried. */
#include "attempt_inner.h"
#include "connection_inner.h"
#include "deliver_world.h"
#include "host.h"

#define GREET_CHUNKING                                                                     \
    "S: 220 mx ESMTP\nC: EHLO relay.test\nS: 250-mx\nS: 250-PIPELINING\nS: 250 CHUNKING\n"
#define BY_DATA "C: MAIL FROM:*\nC: RCPT TO:*\nC: DATA\n"
#define GO_ON "S: 250 ok\nS: 250 ok\nS: 354 go\nC: <data>\n"
#define FIRST BY_DATA GO_ON "S: 250 taken\n"
#define BODY "C: Subject: s\nC: \nC: text\n"
#define CHUNK "C: MAIL FROM:*\nC: RCPT TO:*\nC: BDAT 20 LAST\n" BODY
#define NEXT_CHUNK "C: RSET\n" CHUNK
#define TAKEN "S: 250 ok\nS: 250 ok\nS: 250 taken\n"
#define NEXT_TAKEN "S: 250 reset\n" TAKEN
#define PROBE "C: RSET\nC: MAIL FROM:<>\nC: BDAT 6 LAST\nC: QUIT\nC: RSET\n"

static void expect_counts(const struct world *w, unsigned delivered, unsigned deferred,
                          unsigned failed)
{
    struct deliver_statistics counts = world_counts(w);

    assert_int_equal(counts.recipients_delivered, delivered);
    assert_int_equal(counts.recipients_deferred, deferred);
    assert_int_equal(counts.recipients_failed, failed);
}

static struct destination *only_destination(const struct world *w)
{
    return CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination,
                        link);
}

/* The first message has gone; so many connections at most. */
static void begin(struct world *w, const char *script)
{
    w->settings.defaults.connections = 1;
    w->envelope.sender = "";
    world_apply(w);
    smtp_peer_play(&w->peers[0], script);
    (void)world_send(w, "first@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_delivered == 1);
    WORLD_UNTIL(w, world_is_empty(w));
}

/* It is known that the host refuses chunks as it should. */
static void begin_proven(struct world *w, const char *script)
{
    begin(w, script);
    host_memory(only_destination(w), "mx1.test")->chunks_until_ms =
        loop_wall_ms(w->loop) + HOUR_MS;
}

static unsigned settled(const struct world *w)
{
    struct deliver_statistics counts = world_counts(w);

    return (unsigned)(counts.recipients_delivered + counts.recipients_deferred +
                      counts.recipients_failed);
}

static void until_settled(struct world *w, unsigned recipients)
{
    WORLD_UNTIL(w, settled(w) == recipients);
    WORLD_UNTIL(w, world_is_quiet(w));
}

/* The second, at a hold of the script; then the others: as many as there is room for ride. */
static void send_behind(struct world *w, size_t holds, const char *const *others)
{
    (void)world_send(w, "second@a.test");
    WORLD_UNTIL(w, w->peers[0].held == holds);
    for (; *others; others++)
        (void)world_send(w, *others);
    smtp_peer_go(&w->peers[0]);
}

static const char *const third[] = {"third@a.test", NULL};
static const char *const two_more[] = {"third@a.test", "fourth@a.test", NULL};

TEST(flight, the_next_transaction_leaves_with_the_end_of_the_message)
{
    struct world *w = *state;

    begin(w, GREET_PIPELINING FIRST BY_DATA
          "S: 250 ok\nS: 250 ok\nS: <hold>\nS: 354 go\nC: <data>\n" BY_DATA
          "S: 250 taken\n" GO_ON "S: 250 taken\n");
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 3, 0, 0);
    assert_int_equal(w->peers[0].accepted, 1);
    assert_int_equal(world_counts(w).messages_in_flight, 1);
}

TEST(flight, with_a_window_of_one_each_waits_for_the_one_before)
{
    struct world *w = *state;

    w->settings.defaults.pipeline_window = 1;
    begin(w, GREET_CHUNKING FIRST BY_DATA
          "S: 250 ok\nS: 250 ok\nS: <hold>\nS: 354 go\nC: <data>\nC: <nothing>\n"
          "S: 250 taken\n" FIRST);
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 3, 0, 0);
    assert_int_equal(world_counts(w).messages_in_flight, 0);
}

TEST(flight, the_first_message_of_a_connection_goes_alone)
{
    struct world *w = *state;

    w->settings.defaults.connections = 1;
    world_apply(w);
    smtp_peer_play(&w->peers[0], GREET_CHUNKING BY_DATA
                   "S: 250 ok\nS: 250 ok\nS: 354 go\nC: <data>\nS: <hold>\nC: <nothing>\n"
                   "S: 250 taken\n" FIRST);
    (void)world_send(w, "first@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    (void)world_send(w, "second@a.test");
    loop_run_for(w->loop, 20);
    smtp_peer_go(&w->peers[0]);
    until_settled(w, 2);
    expect_counts(w, 2, 0, 0);
}

TEST(flight, behind_a_421_to_the_end_nobody_was_tried)
{
    struct world *w = *state;

    begin(w, GREET_PIPELINING FIRST BY_DATA
          "S: 250 ok\nS: 250 ok\nS: <hold>\nS: 354 go\nC: <data>\n" BY_DATA
          "S: 421 4.3.2 no more\nC: <rest>\n");
    smtp_peer_play(&w->peers[0], GREET_PIPELINING FIRST);
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 2, 1, 0);
    assert_string_equal(world_group(w)->recipients, "second@a.test;");
    assert_int_equal(world_group(w)->attempts, 1);
    assert_int_equal(world_logged(w, "deliver.lock_step", "mx1.test"), 0);
}

TEST(flight, who_had_not_sent_its_end_at_a_drop_was_not_tried)
{
    struct world *w = *state;

    begin(w, GREET_PIPELINING FIRST BY_DATA
          "S: 250 ok\nS: 250 ok\nS: <hold>\nS: 354 go\nC: <data>\n" BY_DATA "S: <close>\n");
    smtp_peer_play(&w->peers[0], GREET_PIPELINING FIRST);
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 2, 1, 0);
    assert_string_equal(world_group(w)->recipients, "second@a.test;");
    assert_string_equal(world_group(w)->status, "4.4.2");
}

TEST(flight, a_probe_opens_the_window)
{
    struct world *w = *state;

    begin(w, GREET_CHUNKING FIRST BY_DATA
          "S: 250 ok\nS: 250 ok\nS: <hold>\nS: 354 go\nC: <data>\n" PROBE BY_DATA
          "S: 250 taken\nS: 250 reset\nS: 250 ok\nS: 503 5.5.1 no recipient\n"
          "S: 250 reset\n" GO_ON "S: <hold>\n" CHUNK "S: 250 taken\n" TAKEN);
    send_behind(w, 1, third);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    (void)world_send(w, "fourth@a.test");
    smtp_peer_go(&w->peers[0]);
    until_settled(w, 4);
    expect_counts(w, 4, 0, 0);
    assert_int_equal(w->peers[0].accepted, 1);
    assert_true(host_memory(only_destination(w), "mx1.test")->chunks_until_ms > 0);
}

/* The line of the chunk is taken for a command: it ends the session, and no message was in it. */
TEST(flight, a_host_that_reads_the_refused_chunk_as_a_command_never_gets_a_message_so)
{
    struct world *w = *state;

    begin(
        w, GREET_CHUNKING FIRST BY_DATA
        "S: 250 ok\nS: 250 ok\nS: <hold>\nS: 354 go\nC: <data>\n" PROBE BY_DATA
        "S: 250 taken\nS: 250 reset\nS: 250 ok\nS: 503 5.5.1 no\nS: 221 bye\nC: <rest>\n");
    smtp_peer_play(&w->peers[0], GREET_CHUNKING
                   "C: MAIL FROM:*\nC: <nothing>\nS: 250 ok\n" RCPT DATA
                   "S: <hold>\nC: <nothing>\nS: 250 taken\n"
                   "C: MAIL FROM:*\nC: <nothing>\nS: 250 ok\n" RCPT DATA "S: 250 taken\n");
    send_behind(w, 1, third);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    (void)world_send(w, "fourth@a.test");
    smtp_peer_go(&w->peers[0]);
    until_settled(w, 4);
    expect_counts(w, 4, 0, 0);
    assert_int_equal(world_logged(w, "deliver.lock_step", "mx1.test"), 1);
    assert_int_equal(world_counts(w).hosts_lock_step, 1);
}

TEST(flight, each_reply_is_matched_to_its_command)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\n" NEXT_CHUNK
                 "S: 250 ok\nS: 550 5.1.1 unknown\nS: 554 5.5.1 nobody\n" NEXT_TAKEN);
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 2, 0, 1);
    assert_int_equal(world_logged(w, "deliver.bounced", "second@a.test") +
                         world_logged(w, "deliver.report_failed", "second@a.test"),
                     1);
    assert_int_equal(w->peers[0].accepted, 1);
}

TEST(flight, a_refused_sender_refuses_its_recipients_and_chunk_and_nobody_else)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\n" NEXT_CHUNK
                 "S: 451 4.7.1 later\nS: 503 5.5.1 no\nS: 503 5.5.1 no\n" NEXT_TAKEN);
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 2, 1, 0);
    assert_string_equal(world_group(w)->recipients, "second@a.test;");
    assert_string_equal(world_group(w)->status, "4.7.1");
}

TEST(flight, the_body_goes_to_the_recipients_that_were_accepted)
{
    struct world *w = *state;
    static const char *const pair[] = {"good@a.test never@a.test", NULL};

    begin_proven(
        w, GREET_CHUNKING FIRST CHUNK
        "S: <hold>\n"
        "C: RSET\nC: MAIL FROM:*\nC: RCPT TO:<good*\nC: RCPT TO:<never*\n"
        "C: BDAT 20 LAST\n" BODY TAKEN
        "S: 250 reset\nS: 250 ok\nS: 250 ok\nS: 550 5.1.1 unknown\nS: 250 taken\n");
    send_behind(w, 1, pair);
    until_settled(w, 4);
    expect_counts(w, 3, 0, 1);
}

TEST(flight, a_refused_message_is_its_own_answer)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\n" NEXT_CHUNK
                 "S: 250 ok\nS: 250 ok\nS: 452 4.3.1 full\n" NEXT_TAKEN);
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 2, 1, 0);
    assert_string_equal(world_group(w)->status, "4.3.1");
}

TEST(flight, the_window_grows_with_what_is_taken)
{
    struct world *w = *state;
    static const char *const others[] = {"c@a.test", "d@a.test", "e@a.test", NULL};

    begin_proven(
        w, GREET_CHUNKING FIRST CHUNK
        "S: <hold>\n" NEXT_CHUNK
        "C: <nothing>\n" TAKEN NEXT_CHUNK NEXT_CHUNK NEXT_TAKEN NEXT_TAKEN NEXT_TAKEN);
    send_behind(w, 1, others);
    until_settled(w, 5);
    expect_counts(w, 5, 0, 0);
    assert_int_equal(w->peers[0].accepted, 1);
}

/* Whose end was handed over may have been taken: deferred, and it may come twice. */
TEST(flight, at_a_drop_the_answers_of_whole_messages_are_lost)
{
    struct world *w = *state;

    begin_proven(w,
                 GREET_CHUNKING FIRST CHUNK "S: <hold>\n" NEXT_CHUNK TAKEN "S: <close>\n");
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 2, 1, 0);
    assert_string_equal(world_group(w)->recipients, "third@a.test;");
    assert_string_equal(world_group(w)->status, "4.4.2");
    assert_int_equal(world_group(w)->attempts, 1);
    assert_int_equal(w->peers[0].accepted, 1);
}

TEST(flight, behind_a_421_and_the_end_of_the_connection_nobody_was_tried)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK "S: <hold>\n" NEXT_CHUNK
                                               "S: 421 4.7.0 too many\nS: <close>\n");
    smtp_peer_play(&w->peers[0],
                   GREET_CHUNKING FIRST CHUNK "S: 250 ok\nS: 250 ok\nS: 250 taken\n");
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 3, 0, 0);
    assert_int_equal(w->peers[0].accepted, 2);
}

TEST(flight, who_goes_on_behind_its_421_is_heard_to_the_end)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\n" NEXT_CHUNK
                 "S: 250 ok\nS: 250 ok\nS: 421 4.7.0 no\n" NEXT_TAKEN "C: <rest>\n");
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 2, 1, 0);
    assert_string_equal(world_group(w)->recipients, "second@a.test;");
}

TEST(flight, who_goes_on_behind_a_421_to_mail_is_heard_to_the_end_too)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\n" NEXT_CHUNK
                 "S: 421 4.7.0 no\nS: 503 no\nS: 503 no\n" NEXT_TAKEN "C: <rest>\n");
    smtp_peer_play(&w->peers[0], GREET_CHUNKING FIRST);
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 3, 0, 0);
    assert_int_equal(w->peers[0].accepted, 2);
    assert_int_equal(world_logged(w, "deliver.lock_step", "mx1.test"), 0);
}

TEST(flight, a_drop_behind_a_421_that_was_none_loses_the_answers)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\n" NEXT_CHUNK
                 "S: 250 ok\nS: 250 ok\nS: 421 4.7.0 no\nS: 250 reset\nS: <close>\n");
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 1, 2, 0);
    assert_int_equal(world_look(w), 2);
}

/* It reads the chunk that it refused as commands. */
TEST(flight, at_the_first_reply_that_does_not_fit_the_connection_is_closed)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\n" NEXT_CHUNK
                 "S: 250 ok\nS: 450 4.2.1 busy\nS: 503 5.5.1 no\nS: 500 5.5.2 what?\n"
                 "S: 250 reset\nS: 250 ok\nS: 250 ok\nS: 250 taken\nC: <rest>\n");
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 1, 2, 0); /* what came of the third one is not known */
    assert_int_equal(world_logged(w, "deliver.lock_step", "mx1.test"), 1);
    assert_int_equal(host_find(only_destination(w), "mx1.test")->chunks_until_ms, 0);
}

TEST(flight, a_recipient_that_is_accepted_without_a_sender_does_not_fit)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\n" NEXT_CHUNK
                 "S: 451 4.7.1 later\nS: 250 ok\nS: 250 ok\nC: <rest>\n");
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 1, 2, 0);
    assert_int_equal(world_logged(w, "deliver.lock_step", "mx1.test"), 1);
}

TEST(flight, a_chunk_that_is_taken_for_nobody_does_not_fit)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\n" NEXT_CHUNK
                 "S: 250 ok\nS: 450 4.2.1 busy\nS: 250 taken\nC: <rest>\n");
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 1, 2, 0);
    assert_int_equal(world_logged(w, "deliver.lock_step", "mx1.test"), 1);
}

TEST(flight, a_reply_too_many_at_rest_marks_the_host)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK TAKEN
                 "S: <hold>\nS: 500 5.5.2 what?\nC: <rest>\n");
    (void)world_send(w, "second@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    until_settled(w, 2);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_counts(w).hosts_lock_step == 1);
    WORLD_UNTIL(w, w->peers[0].open == 0);
}

TEST(flight, messages_per_connection_counts_those_under_way)
{
    struct world *w = *state;

    w->settings.defaults.messages_per_connection = 2;
    begin_proven(w, GREET_CHUNKING FIRST CHUNK "S: <hold>\nC: <nothing>\n" TAKEN);
    smtp_peer_play(&w->peers[0], GREET_CHUNKING FIRST);
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 3, 0, 0);
    assert_int_equal(w->peers[0].accepted, 2);
}

TEST(flight, never_more_connections_than_allowed)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK "S: <hold>\n" NEXT_CHUNK
                                               "S: 250 ok\nS: <close>\n");
    smtp_peer_play(&w->peers[0], GREET_CHUNKING FIRST);
    send_behind(w, 1, two_more);
    until_settled(w, 4);
    expect_counts(w, 2, 2, 0); /* the fourth was not begun */
    assert_int_equal(w->peers[0].most_open, 1);
    assert_int_equal(only_destination(w)->riding, 0);
}

TEST(flight, leaving_waits_for_those_whose_end_has_gone)
{
    struct world *w = *state;
    unsigned empties = 0;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK "S: <hold>\n" NEXT_CHUNK TAKEN NEXT_TAKEN);
    (void)world_send(w, "second@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    (void)world_send(w, "third@a.test");
    WORLD_UNTIL(w, world_counts(w).messages_in_flight == 1);
    loop_run_for(w->loop, 20);
    (void)world_send(w, "fourth@a.test");
    deliver_drain(w->deliver, world_on_empty, w);
    assert_int_equal(w->empties, empties);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, w->empties == 1);
    expect_counts(w, 3, 0, 0);
}

/* The last of a chunk leaves when the host has said goodbye already: that is no reason to wait for it as
 * for one that takes data. How much a kernel takes is not ours to say, so the end is told by hand. */
TEST(flight, what_drains_behind_a_421_gives_the_goodbye_no_more_time)
{
    struct world *w = *state;
    struct attempt *attempt;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK
                 "S: <hold>\nS: 421 4.3.2 leaving\nS: <hold>\nS: <close>\n");
    smtp_peer_play(&w->peers[0], GREET_CHUNKING FIRST);
    (void)world_send(w, "second@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    attempt = attempt_of_link(list_first(&w->deliver->attempts));
    assert_true(attempt->dot_was_sent);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, strstr(attempt->connection->stage, "goodbye"));
    attempt->waits_for_drain = true;
    payload_on_drained(attempt);
    assert_false(attempt->waits_for_drain);
    assert_non_null(strstr(attempt->connection->stage, "goodbye"));
    smtp_peer_go(&w->peers[0]);
    until_settled(w, 2);
    expect_counts(w, 2, 0, 0);
}

/* Closed while it rested: nobody has answered for anything, so that nobody has spent an attempt. */
TEST(flight, chunks_to_a_connection_that_was_closed_already_go_again_at_once)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK "S: <hold>\n" NEXT_CHUNK "S: <close>\n");
    smtp_peer_play(&w->peers[0],
                   GREET_CHUNKING FIRST "C: MAIL FROM:*\n" /* once: by steps */
                                        "C: RCPT TO:*\nC: DATA\n" GO_ON "S: 250 taken\n");
    send_behind(w, 1, third);
    until_settled(w, 3);
    expect_counts(w, 3, 0, 0);
    assert_int_equal(w->peers[0].accepted, 2);
    assert_int_equal(world_counts(w).hosts_lock_step, 0);
}

/* What was said once may be heard of: an answer that is lost is lost. */
TEST(flight, silence_behind_chunks_is_no_connection_that_was_closed_already)
{
    struct world *w = *state;

    w->settings.timeouts.mail = 50;
    begin_proven(w, GREET_CHUNKING FIRST CHUNK "C: <rest>\n");
    (void)world_send(w, "second@a.test");
    until_settled(w, 2);
    expect_counts(w, 1, 1, 0);
    assert_string_equal(world_group(w)->status, "4.4.2");
}

TEST(flight, leaving_does_not_go_again_for_a_connection_that_was_closed_already)
{
    struct world *w = *state;

    begin_proven(w, GREET_CHUNKING FIRST CHUNK "S: <hold>\nS: <close>\n");
    (void)world_send(w, "second@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    deliver_drain(w->deliver, world_on_empty, w);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, w->empties == 1);
    expect_counts(w, 1, 0, 0);
    assert_int_equal(world_group(w)->attempts, 0);
    assert_int_equal(w->peers[0].accepted, 1);
}

/* The second transaction of one that has delivered, behind a rider that is given up. */
TEST(flight, leaving_ends_who_waits_behind_one_that_is_given_up)
{
    struct world *w = *state;

    w->settings.defaults.recipients_per_transaction = 1;
    begin(w, GREET_PIPELINING FIRST BY_DATA
          "S: 250 ok\nS: 250 ok\nS: <hold>\nS: 354 go\nC: <data>\n" BY_DATA
          "S: 250 taken\nS: <hold>\nC: <rest>\n");
    (void)world_send(w, "one@a.test two@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    (void)world_send(w, "third@a.test");
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    WORLD_UNTIL(w, !attempt_of_link(list_first(&w->deliver->attempts))->dot_was_sent);
    deliver_drain(w->deliver, world_on_empty, w);
    assert_int_equal(world_counts(w).attempts_running, 1);
    WORLD_UNTIL(w, w->empties == 1);
    expect_counts(w, 2, 1, 0);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, w->peers[0].open == 0);
    assert_int_equal(world_counts(w).hosts_lock_step, 0);
}

/* What was promised to nobody is all that it may take: it is a transaction, and no message. */
TEST(flight, a_probe_is_not_sent_above_the_rate)
{
    struct world *w = *state;
    struct quota one = {1, HOUR_MS};
    int64_t now_ms;

    begin(w, GREET_CHUNKING FIRST BY_DATA
          "S: 250 ok\nS: 250 ok\nS: <hold>\nS: 354 go\nC: <data>\n" BY_DATA
          "S: 250 taken\n" GO_ON "S: 250 taken\n");
    (void)world_send(w, "second@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    now_ms = loop_now_ms(w->loop);
    bucket_set_rate(&only_destination(w)->scope->pace.messages, &one, BUCKET_FULL_RATE,
                    now_ms - HOUR_MS, now_ms);
    (void)world_send(w, "third@a.test");
    smtp_peer_go(&w->peers[0]);
    until_settled(w, 3);
    expect_counts(w, 3, 0, 0);
    assert_int_equal(world_counts(w).messages_in_flight, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(flight, name)
        T(the_next_transaction_leaves_with_the_end_of_the_message),
        T(with_a_window_of_one_each_waits_for_the_one_before),
        T(the_first_message_of_a_connection_goes_alone),
        T(behind_a_421_to_the_end_nobody_was_tried),
        T(who_had_not_sent_its_end_at_a_drop_was_not_tried),
        T(a_probe_opens_the_window),
        T(a_host_that_reads_the_refused_chunk_as_a_command_never_gets_a_message_so),
        T(each_reply_is_matched_to_its_command),
        T(a_refused_sender_refuses_its_recipients_and_chunk_and_nobody_else),
        T(the_body_goes_to_the_recipients_that_were_accepted),
        T(a_refused_message_is_its_own_answer),
        T(the_window_grows_with_what_is_taken),
        T(at_a_drop_the_answers_of_whole_messages_are_lost),
        T(behind_a_421_and_the_end_of_the_connection_nobody_was_tried),
        T(who_goes_on_behind_its_421_is_heard_to_the_end),
        T(who_goes_on_behind_a_421_to_mail_is_heard_to_the_end_too),
        T(a_drop_behind_a_421_that_was_none_loses_the_answers),
        T(at_the_first_reply_that_does_not_fit_the_connection_is_closed),
        T(a_recipient_that_is_accepted_without_a_sender_does_not_fit),
        T(a_chunk_that_is_taken_for_nobody_does_not_fit),
        T(a_reply_too_many_at_rest_marks_the_host),
        T(messages_per_connection_counts_those_under_way),
        T(never_more_connections_than_allowed),
        T(leaving_waits_for_those_whose_end_has_gone),
        T(what_drains_behind_a_421_gives_the_goodbye_no_more_time),
        T(chunks_to_a_connection_that_was_closed_already_go_again_at_once),
        T(silence_behind_chunks_is_no_connection_that_was_closed_already),
        T(leaving_does_not_go_again_for_a_connection_that_was_closed_already),
        T(leaving_ends_who_waits_behind_one_that_is_given_up),
        T(a_probe_is_not_sent_above_the_rate),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
