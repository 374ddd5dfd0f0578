/* What is said about a message, and what each answer means for its recipients. */
#include "attempt_inner.h"
#include "connection_inner.h"
#include "deliver_world.h"
#include "known_hosts.h"

#include <netinet/in.h>

static void deliver(struct world *w, const char *recipients, const char *script)
{
    smtp_peer_play(&w->peers[0], script);
    (void)world_send(w, recipients);
    WORLD_UNTIL(w, world_counts(w).recipients_delivered +
                           world_counts(w).recipients_deferred +
                           world_counts(w).recipients_failed >
                       0);
    WORLD_UNTIL(w, world_is_quiet(w));
}

static void expect_counts(const struct world *w, unsigned delivered, unsigned deferred,
                          unsigned failed)
{
    struct deliver_statistics counts = world_counts(w);

    assert_int_equal(counts.recipients_delivered, delivered);
    assert_int_equal(counts.recipients_deferred, deferred);
    assert_int_equal(counts.recipients_failed, failed);
}

TEST(transaction, without_pipelining_each_command_waits_for_its_answer)
{
    struct world *w = *state;

    deliver(w, "x@a.test y@a.test", GREET MAIL RCPT RCPT DATA "S: 250 taken\n");
    expect_counts(w, 2, 0, 0);
    assert_true(slice_equal_text(bytes_view(&w->peers[0].data), "Subject: s\n\ntext\n"));
    assert_true(world_is_empty(w));
}

TEST(transaction, with_pipelining_all_commands_to_data_leave_before_the_first_answer)
{
    struct world *w = *state;

    deliver(w, "x@a.test y@a.test",
            GREET_PIPELINING "C: MAIL FROM:<sender@s.test>\nC: RCPT TO:<x@a.test>\n"
                             "C: RCPT TO:<y@a.test>\nC: DATA\nC: <nothing>\n"
                             "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC: <data>\n"
                             "S: 250 taken\n");
    expect_counts(w, 2, 0, 0);
}

TEST(transaction, dots_are_stuffed_where_a_line_begins_with_one)
{
    struct world *w = *state;

    w->envelope.has_dot_line = true;
    w->body = ".\r\n..x\r\ny\r\n";
    deliver(w, "x@a.test", GREET TAKE);
    assert_true(
        slice_equal_text(bytes_view(&w->peers[0].data), "Subject: s\n\n..\n...x\ny\n"));
}

TEST(transaction, a_message_of_many_pieces_arrives_whole)
{
    struct world *w = *state;
    enum { LINES = 20000, LINE = 15 };
    char *body = memory_new(LINES * LINE + 1);
    char last[LINE + 1];

    for (size_t i = 0; i < LINES; i++)
        (void)snprintf(body + i * LINE, LINE + 1, "line %08zu\r\n", i);
    w->body = body;
    smtp_peer_play(&w->peers[0], GREET TAKE);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_delivered == 1);
    /* Without its CRs. */
    assert_int_equal(w->peers[0].data.length,
                     sizeof "Subject: s\n\n" - 1 + LINES * (LINE - 1));
    (void)snprintf(last, sizeof last, "line %08d\n", LINES - 1);
    assert_memory_equal(w->peers[0].data.data + w->peers[0].data.length - (LINE - 1), last,
                        LINE - 1);
    memory_free(body);
}

TEST(transaction, a_refused_sender_is_the_answer_for_every_recipient)
{
    struct world *w = *state;
    const struct seen *seen;

    deliver(w, "x@a.test y@a.test",
            GREET "C: MAIL FROM:*\nS: 451 4.7.1 later\nC: QUIT\nS: 221 bye\n");
    expect_counts(w, 0, 2, 0);
    seen = world_group(w);
    assert_string_equal(seen->recipients, "x@a.test;y@a.test;");
    assert_int_equal(seen->attempts, 1);
    assert_int_equal(seen->code, 451);
    assert_string_equal(seen->status, "4.7.1");
    assert_string_equal(seen->host, "mx1.test");
}

TEST(transaction, a_sender_refused_for_good_fails_every_recipient)
{
    struct world *w = *state;

    w->envelope.sender = ""; /* no report in the way */
    deliver(w, "x@a.test y@a.test", GREET "C: MAIL FROM:<>\nS: 550 5.7.1 no\n");
    expect_counts(w, 0, 0, 2);
    assert_true(world_is_empty(w));
}

TEST(transaction, each_recipient_has_its_own_answer)
{
    struct world *w = *state;
    const struct seen *seen;

    w->envelope.sender = "";
    deliver(w, "good@a.test later@a.test never@a.test",
            GREET "C: MAIL FROM:<>\nS: 250 ok\n"
                  "C: RCPT TO:<good@a.test>\nC: <nothing>\nS: 250 ok\n"
                  "C: RCPT TO:<later@a.test>\nS: 450 4.2.1 busy\n"
                  "C: RCPT TO:<never@a.test>\nS: 550 5.1.1 unknown\n" DATA
                  "S: 250 taken\n");
    expect_counts(w, 1, 1, 1);
    seen = world_group(w);
    assert_string_equal(seen->recipients, "later@a.test;");
    assert_string_equal(seen->status, "4.2.1");
}

TEST(transaction, pipelined_answers_are_matched_in_order)
{
    struct world *w = *state;

    w->envelope.sender = "";
    deliver(w, "never@a.test good@a.test later@a.test",
            GREET_PIPELINING
            "C: MAIL FROM:<>\nC: RCPT TO:<never@a.test>\nC: RCPT TO:<good@a.test>\n"
            "C: RCPT TO:<later@a.test>\nC: DATA\nS: 250 ok\nS: 550 5.1.1 unknown\n"
            "S: 250 ok\nS: 450 4.2.1 busy\nS: 354 go\nC: <data>\nS: 250 taken\n");
    expect_counts(w, 1, 1, 1);
    assert_string_equal(world_group(w)->recipients, "later@a.test;");
}

TEST(transaction, without_a_recipient_nothing_more_is_said)
{
    struct world *w = *state;

    deliver(w, "x@a.test", GREET MAIL "C: RCPT TO:*\nS: 450 4.2.1 busy\nC: <nothing>\n");
    expect_counts(w, 0, 1, 0);
}

TEST(transaction, a_354_without_a_recipient_gets_a_lone_dot)
{
    struct world *w = *state;

    deliver(w, "x@a.test",
            GREET_PIPELINING "C: MAIL FROM:*\nC: RCPT TO:*\nC: DATA\nS: 250 ok\n"
                             "S: 450 4.2.1 busy\nS: 354 go\nC: .\nS: 250 whatever\n");
    expect_counts(w, 0, 1, 0); /* and the 250 to the dot delivered nothing */
    assert_string_equal(world_group(w)->status, "4.2.1");
}

TEST(transaction, a_refused_data_is_about_the_accepted_recipients)
{
    struct world *w = *state;

    deliver(w, "x@a.test y@a.test",
            GREET MAIL RCPT "C: RCPT TO:*\nS: 450 4.2.1 busy\nC: DATA\nS: 451 4.3.0 no\n");
    expect_counts(w, 0, 2, 0);
    assert_string_equal(world_group(w)->status, "4.3.0"); /* the first one's */
}

TEST(transaction, a_positive_answer_to_data_delivers_nothing)
{
    struct world *w = *state;

    deliver(w, "x@a.test", GREET MAIL RCPT "C: DATA\nS: 250 ok\n");
    expect_counts(w, 0, 1, 0);
}

TEST(transaction, the_answer_to_the_dot_decides)
{
    struct world *w = *state;

    w->envelope.sender = "";
    deliver(w, "x@a.test",
            GREET "C: MAIL FROM:<>\nS: 250 ok\n" RCPT DATA "S: 554 5.6.0 spam\n");
    expect_counts(w, 0, 0, 1);
}

TEST(transaction, a_421_to_the_dot_is_an_answer_about_the_message)
{
    struct world *w = *state;

    deliver(w, "x@a.test", GREET MAIL RCPT DATA "S: 421 4.3.2 full\nS: <close>\n");
    expect_counts(w, 0, 1, 0);
    assert_int_equal(world_group(w)->code, 421);
    assert_int_equal(world_counts(w).destinations_backing_off, 0);
}

TEST(transaction, too_many_recipients_go_on_at_once_and_spend_no_attempt)
{
    struct world *w = *state;

    deliver(w, "x@a.test y@a.test z@a.test",
            GREET MAIL RCPT RCPT
            "C: RCPT TO:<z@a.test>\nS: 452 4.5.3 too many\n" DATA "S: 250 taken\n" MAIL
            "C: RCPT TO:<z@a.test>\nC: <nothing>\nS: 250 ok\n" DATA
            "S: 250 taken\n" MAIL RCPT RCPT DATA "S: 250 taken\n" MAIL
            "C: RCPT TO:<r@a.test>\nS: 250 ok\n" DATA "S: 250 taken\n" MAIL RCPT RCPT
            "C: RCPT TO:<r@a.test>\nS: 250 ok\n" DATA "S: 250 taken\n");
    expect_counts(w, 3, 0, 0);
    /* What was learned is kept: the next message begins with two. */
    (void)world_send(w, "p@a.test q@a.test r@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_delivered == 6);
    expect_counts(w, 6, 0, 0);
    /* For a day: it may have been about the mailbox. */
    assert_in_range(world_host(w, "mx1.test")->recipients_max_until_ms -
                        deliver_now(w->deliver),
                    23 * HOUR_MS, 24 * HOUR_MS);
    world_host(w, "mx1.test")->recipients_max_until_ms = deliver_now(w->deliver);
    (void)world_send(w, "p@a.test q@a.test r@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_delivered == 9);
    expect_counts(w, 9, 0, 0);
}

TEST(transaction, a_552_behind_accepted_ones_means_too_many_as_well)
{
    struct world *w = *state;

    deliver(w, "x@a.test y@a.test",
            GREET MAIL RCPT "C: RCPT TO:<y@a.test>\nS: 552 5.5.3 too many\n" DATA
                            "S: 250 taken\n" MAIL "C: RCPT TO:<y@a.test>\nS: 250 ok\n" DATA
                            "S: 250 taken\n");
    expect_counts(w, 2, 0, 0);
}

TEST(transaction, a_452_to_the_first_recipient_is_an_answer_about_it)
{
    struct world *w = *state;

    deliver(w, "x@a.test", GREET MAIL "C: RCPT TO:*\nS: 452 4.2.2 full\n");
    expect_counts(w, 0, 1, 0);
    assert_string_equal(world_group(w)->status, "4.2.2");
    assert_int_equal(world_group(w)->attempts, 1);
}

TEST(transaction, recipients_per_transaction_is_kept)
{
    struct world *w = *state;

    w->settings.defaults.recipients_per_transaction = 2;
    world_apply(w);
    deliver(w, "x@a.test y@a.test z@a.test",
            GREET MAIL RCPT RCPT DATA "S: 250 taken\n" MAIL RCPT DATA "S: 250 taken\n");
    expect_counts(w, 3, 0, 0);
}

TEST(transaction, a_transaction_left_half_way_is_reset_before_the_next)
{
    struct world *w = *state;

    deliver(w, "x@a.test",
            GREET MAIL "C: RCPT TO:<x@a.test>\nS: 450 4.2.1 busy\n"
                       "C: RSET\nC: <nothing>\nS: 250 ok\n" TAKE MAIL);
    (void)world_send(w, "y@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_delivered == 1);
    expect_counts(w, 1, 1, 0);
}

TEST(transaction, an_answer_before_the_data_ends_is_out_of_turn)
{
    struct world *w = *state;

    deliver(w, "x@a.test",
            GREET MAIL RCPT "C: DATA\nS: 354 go\nS: 554 5.6.0 stop\nC: <rest>\n");
    expect_counts(w, 0, 1, 0); /* nobody knows what it was an answer to */
    assert_non_null(strstr(world_group(w)->text, "spoke out of turn: 554 5.6.0 stop"));
}

TEST(transaction, a_421_before_the_data_ends_is_a_host_that_closes)
{
    struct world *w = *state;

    deliver(w, "x@a.test",
            GREET MAIL RCPT "C: DATA\nS: 354 go\nS: 421 4.3.2 leaving\nC: <rest>\n");
    expect_counts(w, 0, 1, 0);
    assert_non_null(strstr(world_group(w)->text, "said 421 4.3.2 leaving"));
}

/* ---- a peer that does not read ---- */

/* Both ends of the connections to the port: a message of some pieces does not fit. */
static void shrink_sockets(uint16_t port)
{
    int bytes = 32768;

    for (int fd = 0; fd < 1024; fd++) {
        struct sockaddr_in ends[2];

        for (size_t i = 0; i < 2; i++) {
            socklen_t length = sizeof ends[i];
            int failed = i ? getpeername(fd, (struct sockaddr *)&ends[i], &length)
                           : getsockname(fd, (struct sockaddr *)&ends[i], &length);

            if (failed || ends[i].sin_family != AF_INET || ntohs(ends[i].sin_port) != port)
                continue;
            (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
            (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
        }
    }
}

/* Until nothing more goes: the whole message and its dot are handed over, or it waits. */
static const struct attempt *send_to_the_deaf(struct world *w)
{
    const struct attempt *attempt;

    smtp_peer_play(&w->peers[0], GREET MAIL RCPT
                   "C: DATA\nS: <hold>\nS: <deaf>\nS: 354 go\nS: <hold>\nS: 250 taken\n"
                   "S: <hold>\nS: <listen>\nC: <rest>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    shrink_sockets(w->peers[0].endpoint.port);
    smtp_peer_go(&w->peers[0]);
    attempt = attempt_of_link(list_first(&w->deliver->attempts));
    WORLD_UNTIL(w, attempt->waits_for_drain || attempt->dot_was_sent);
    loop_run_for(w->loop, 20); /* the kernel takes what it has room for */
    return attempt;
}

TEST(transaction, a_message_whose_end_has_not_left_is_not_taken)
{
    struct world *w = *state;
    enum { STEP = 24000, STEPS = 15, LINE = 60, MARK = 65536 };
    bool was_unsent = false;
    bool was_behind = false;

    w->settings.defaults.messages_per_connection = 1;
    world_apply(w);
    for (unsigned i = 1; i <= STEPS && !was_behind; i++) {
        struct deliver_statistics before = world_counts(w);
        const struct attempt *attempt;
        char *body = memory_new((size_t)i * STEP + 1);
        size_t unsent;

        for (size_t at = 0; at < (size_t)i * STEP; at++)
            body[at] = "x\r\n"[at % LINE < LINE - 2 ? 0 : at % LINE - LINE + 3];
        w->body = body;
        attempt = send_to_the_deaf(w);
        memory_free(body);
        unsent = stream_unsent(attempt->connection->stream);
        if (!attempt->dot_was_sent)
            break;
        was_unsent |= unsent > 0;
        was_behind |= unsent > MARK;
        assert_string_equal(attempt->connection->stage,
                            unsent > MARK ? "the data" : "the final dot");
        smtp_peer_go(&w->peers[0]); /* it says 250 */
        WORLD_UNTIL(w, world_counts(w).attempts_running == 0);
        WORLD_UNTIL(w, world_is_quiet(w));
        assert_int_equal(world_counts(w).recipients_delivered - before.recipients_delivered,
                         unsent == 0);
        assert_int_equal(world_counts(w).recipients_deferred - before.recipients_deferred,
                         unsent > 0);
        smtp_peer_go(&w->peers[0]);
        WORLD_UNTIL(w, w->peers[0].open == 0);
    }
    assert_true(was_unsent && was_behind);
    assert_true(world_look(w) > 0); /* nothing that was not taken is gone */
    assert_non_null(strstr(w->seen[0].text, "out of turn"));
}

TEST(transaction, parameters_are_said_where_they_are_offered)
{
    struct world *w = *state;

    w->envelope.envid = "E1";
    w->envelope.dsn_return = RETURN_FULL;
    w->envelope.body_type = BODY_8BITMIME;
    w->recipient.notify = NOTIFY_SUCCESS | NOTIFY_FAILURE;
    w->recipient.orcpt = "rfc822;other@a.test";
    deliver(
        w, "x@a.test",
        "S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250-SIZE 100000\nS: 250-8BITMIME\nS: 250 DSN\n"
        "C: MAIL FROM:<sender@s.test> SIZE=* BODY=8BITMIME RET=FULL ENVID=E1\n"
        "S: 250 ok\n"
        "C: RCPT TO:<x@a.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;other@a.test\n"
        "S: 250 ok\n" DATA "S: 250 taken\n");
    expect_counts(w, 1, 0, 0);
}

static void expect_lack(struct world *w, const char *offers, const char *status)
{
    static char script[256];

    w->recipient.notify = NOTIFY_NEVER;
    (void)snprintf(script, sizeof script,
                   "S: 220 mx\nC: EHLO *\nS: 250-mx\n%sS: 250 HELP\nC: <nothing>\n",
                   offers);
    deliver(w, "x@a.test", script);
    expect_counts(w, 0, 0, 1);
    assert_int_equal(world_counts(w).destinations_backing_off, 0);
    assert_int_equal(world_logged(w, "deliver.bounced", status), 1);
}

TEST(transaction, eight_bits_are_not_given_to_a_hop_that_does_not_take_them)
{
    struct world *w = *state;

    w->envelope.has_8bit = true;
    expect_lack(w, "", "5.6.3");
}

TEST(transaction, smtputf8_is_not_given_to_a_hop_that_does_not_know_it)
{
    struct world *w = *state;

    w->envelope.smtputf8 = true;
    w->envelope.sender = "j\xc3\xbcrgen@s.test";
    expect_lack(w, "S: 250-8BITMIME\n", "5.6.7");
}

TEST(transaction, a_message_above_the_offered_size_is_not_sent)
{
    struct world *w = *state;

    expect_lack(w, "S: 250-SIZE 10\n", "5.3.4");
}

TEST(transaction, smtputf8_mail_without_a_byte_above_127_goes_anywhere)
{
    struct world *w = *state;

    w->envelope.smtputf8 = true;
    deliver(w, "x@a.test", GREET TAKE);
    expect_counts(w, 1, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(transaction, name)
        T(without_pipelining_each_command_waits_for_its_answer),
        T(with_pipelining_all_commands_to_data_leave_before_the_first_answer),
        T(dots_are_stuffed_where_a_line_begins_with_one),
        T(a_message_of_many_pieces_arrives_whole),
        T(a_refused_sender_is_the_answer_for_every_recipient),
        T(a_sender_refused_for_good_fails_every_recipient),
        T(each_recipient_has_its_own_answer),
        T(pipelined_answers_are_matched_in_order),
        T(without_a_recipient_nothing_more_is_said),
        T(a_354_without_a_recipient_gets_a_lone_dot),
        T(a_refused_data_is_about_the_accepted_recipients),
        T(a_positive_answer_to_data_delivers_nothing),
        T(the_answer_to_the_dot_decides),
        T(a_421_to_the_dot_is_an_answer_about_the_message),
        T(too_many_recipients_go_on_at_once_and_spend_no_attempt),
        T(a_552_behind_accepted_ones_means_too_many_as_well),
        T(a_452_to_the_first_recipient_is_an_answer_about_it),
        T(recipients_per_transaction_is_kept),
        T(a_transaction_left_half_way_is_reset_before_the_next),
        T(an_answer_before_the_data_ends_is_out_of_turn),
        T(a_421_before_the_data_ends_is_a_host_that_closes),
        T(a_message_whose_end_has_not_left_is_not_taken),
        T(parameters_are_said_where_they_are_offered),
        T(eight_bits_are_not_given_to_a_hop_that_does_not_take_them),
        T(smtputf8_is_not_given_to_a_hop_that_does_not_know_it),
        T(a_message_above_the_offered_size_is_not_sent),
        T(smtputf8_mail_without_a_byte_above_127_goes_anywhere),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
