/* Whose fault it is: the host's (another host, a back-off, nothing written) or the message's (its
 * group is written). And leaving, at each stage. */
#include "deliver_world.h"
#include "known_hosts.h"

#include <sys/resource.h>

/* Nothing was learned about the message: nothing is spent, nothing is written. */
static void expect_untouched(struct world *w, uint64_t commits)
{
    const struct seen *seen = world_group(w);

    assert_int_equal(seen->attempts, 0);
    assert_int_equal(seen->code, 0);
    assert_int_equal(world_counts(w).recipients_deferred, 0);
    assert_int_equal(world_numbers(w).commits, commits);
}

static void send_to_a_broken_host(struct world *w, const char *script, const char *words)
{
    uint64_t commits;
    struct why why;

    smtp_peer_play(&w->peers[0], script);
    (void)world_send(w, "x@a.test");
    commits = world_numbers(w).commits;
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION);
    assert_int_equal(world_counts(w).destinations_backing_off, 1);
    why = world_why(w, "a.test");
    if (!strstr(why.text, words))
        fail_msg("\"%s\" says nothing of \"%s\"", why.text, words);
    expect_untouched(w, commits);
}

TEST(attempt, a_421_at_the_greeting_is_the_fault_of_the_host)
{
    send_to_a_broken_host(*state, "S: 421 4.3.2 busy\nC: <closed>\n", "421 4.3.2 busy");
}

TEST(attempt, a_5xx_at_the_greeting_is_the_fault_of_the_host)
{
    send_to_a_broken_host(*state, "S: 554 5.7.1 go away\nC: <closed>\n", "554 5.7.1");
}

TEST(attempt, a_4xx_at_ehlo_is_the_fault_of_the_host)
{
    send_to_a_broken_host(*state, "S: 220 mx\nC: EHLO *\nS: 451 4.3.0 later\nC: <closed>\n",
                          "451 4.3.0");
}

TEST(attempt, an_end_before_the_greeting_is_the_fault_of_the_host)
{
    send_to_a_broken_host(*state, "S: <close>\n", "closed");
}

TEST(attempt, an_end_before_mail_was_answered_is_the_fault_of_the_host)
{
    send_to_a_broken_host(*state, GREET "C: MAIL FROM:*\nS: <close>\n", "closed");
}

TEST(attempt, a_421_to_mail_is_the_fault_of_the_host)
{
    send_to_a_broken_host(*state, GREET "C: MAIL FROM:*\nS: 421 4.3.2 busy\nC: <closed>\n",
                          "421 4.3.2 busy");
}

TEST(attempt, a_host_that_refuses_connections_leaves_the_mail_as_it_was)
{
    struct world *w = *state;
    uint64_t commits;

    (void)world_send(w, "x@down.test");
    commits = world_numbers(w).commits;
    WORLD_UNTIL(w, world_why(w, "down.test").kind == WHY_DESTINATION);
    assert_non_null(strstr(world_why(w, "down.test").text, "127.0.0.9"));
    expect_untouched(w, commits);
}

TEST(attempt, the_next_host_is_tried_at_once)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], "S: 421 busy\nC: <closed>\n");
    smtp_peer_play(&w->peers[1], GREET TAKE);
    (void)world_send(w, "x@two.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_delivered, 1);
    assert_int_equal(world_counts(w).destinations_backing_off, 0);
}

TEST(attempt, a_host_that_failed_is_passed_over_until_its_back_off_ends)
{
    struct world *w = *state;

    w->settings.timeouts.idle = 0; /* a connection each */
    world_apply(w);
    smtp_peer_play(&w->peers[0], "S: 421 busy\nC: <closed>\n");
    smtp_peer_play(&w->peers[1], GREET TAKE "C: QUIT\n");
    smtp_peer_play(&w->peers[1], GREET TAKE "C: QUIT\n");
    (void)world_send(w, "x@two.test");
    WORLD_UNTIL(w, world_is_empty(w));
    (void)world_send(w, "y@two.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].accepted, 1); /* not asked again */
    assert_int_equal(w->peers[1].accepted, 2);
    world_host(w, "mx1.test")->until_ms = 1;
    smtp_peer_play(&w->peers[0], GREET TAKE "C: QUIT\n");
    (void)world_send(w, "z@two.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].accepted, 2);
}

TEST(attempt, an_end_in_mid_transaction_goes_to_the_next_host_once)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], GREET MAIL "C: RCPT TO:*\nS: <close>\n");
    smtp_peer_play(&w->peers[1], GREET TAKE);
    (void)world_send(w, "x@two.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_delivered, 1);
}

TEST(attempt, an_end_in_mid_transaction_without_another_host_spends_an_attempt)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], GREET MAIL "C: RCPT TO:*\nS: <abort>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 1 && world_is_quiet(w));
    assert_int_equal(world_group(w)->attempts, 1);
    assert_string_equal(world_group(w)->status, "4.4.2");
    assert_int_equal(world_counts(w).destinations_backing_off, 0);
}

TEST(attempt, a_421_to_rcpt_is_an_end_in_mid_transaction)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0],
                   GREET MAIL "C: RCPT TO:*\nS: 421 4.3.2 bye\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 1 && world_is_quiet(w));
    assert_non_null(strstr(world_group(w)->text, "421 4.3.2 bye"));
}

TEST(attempt, behind_the_final_dot_no_other_host_is_tried)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], GREET MAIL RCPT DATA "S: <close>\n");
    (void)world_send(w, "x@two.test");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 1 && world_is_quiet(w));
    assert_int_equal(w->peers[1].accepted, 0); /* it may have been taken */
    assert_int_equal(world_group(w)->attempts, 1);
}

TEST(attempt, silence_at_a_stage_ends_with_its_limit)
{
    struct world *w = *state;

    w->settings.timeouts.rcpt = 20;
    world_apply(w);
    smtp_peer_play(&w->peers[0], GREET MAIL "C: RCPT TO:*\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 1 && world_is_quiet(w));
    assert_non_null(strstr(world_group(w)->text, "no answer to RCPT in time"));
}

/* ---- connections that are used again ---- */

TEST(attempt, the_next_message_takes_the_same_connection)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], GREET TAKE TAKE);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    (void)world_send(w, "y@b.test"); /* another domain, the same hosts */
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).connections, 1);
    assert_int_equal(world_counts(w).messages_reused_connection, 1);
}

/* A resumption breaks; before its second way is secured another connection has kept a new session of
 * the same peer. */
TEST(attempt, what_goes_again_without_a_session_takes_nobody_elses)
{
#define OFFER "S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n"
#define SECURED OFFER "S: <tls>\n" GREETED TAKE
#define GREETED "C: EHLO *\nS: 250 mx\n"
    struct world *w = *state;
    struct net_statistics net;

    w->settings.defaults.tls = TLS_OPPORTUNISTIC;
    w->settings.timeouts.idle = 0;
    world_make_tls(w, "mx1.test");
    smtp_peer_play(&w->peers[0], SECURED);
    smtp_peer_play(&w->peers[0], OFFER "S: <close>\n");
    smtp_peer_play(&w->peers[0], "S: <hold>\n" SECURED);
    smtp_peer_play(&w->peers[0], SECURED);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    (void)world_send(w, "y@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    (void)world_send(w, "z@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_delivered == 2 && w->peers[0].open == 1);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    net_statistics(w->net, &net);
    assert_int_equal(net.out.done, 3);
    assert_int_equal(net.out.resumed, 0);
#undef OFFER
#undef SECURED
#undef GREETED
}

TEST(attempt, without_a_descriptor_it_waits_and_a_connection_that_rests_makes_room)
{
    struct world *w = *state;
    struct rlimit before, none;
    int next;

    w->peers[0].serves = w->peers[2].serves = true;
    (void)world_send(w, "x@c.test");
    WORLD_UNTIL(w, world_is_empty(w) && w->deliver->idle.count == 1);
    next = dup(STDIN_FILENO);
    (void)close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_NO_ROOM);
    assert_non_null(strstr(world_why(w, "a.test").text, "too many open files"));
    assert_int_equal(world_counts(w).destinations_backing_off, 0);
    WORLD_UNTIL(w, w->peers[0].messages == 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(world_logged(w, "deliver.destination_backoff", ""), 0);
}

TEST(attempt, messages_per_connection_ends_it_with_quit)
{
    struct world *w = *state;

    w->settings.defaults.messages_per_connection = 2;
    world_apply(w);
    smtp_peer_play(&w->peers[0], GREET TAKE TAKE "C: QUIT\nC: <closed>\n");
    smtp_peer_play(&w->peers[0], GREET TAKE);
    for (unsigned i = 1; i <= 3; i++) {
        (void)world_send(w, "x@a.test");
        WORLD_UNTIL(w, world_counts(w).recipients_delivered == i && world_is_quiet(w));
    }
    assert_int_equal(world_counts(w).connections, 2);
}

TEST(attempt, an_idle_connection_that_was_closed_is_nobodys_fault)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], GREET TAKE "C: MAIL FROM:*\nS: <close>\n");
    smtp_peer_play(&w->peers[0], GREET TAKE);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    (void)world_send(w, "y@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_delivered, 2);
    assert_int_equal(world_counts(w).recipients_deferred, 0);
    assert_int_equal(world_host(w, "mx1.test")->failures, 0);
}

/* ---- several transactions ---- */

static void limit_recipients(struct world *w)
{
    w->settings.defaults.recipients_per_transaction = 1;
    world_apply(w);
}

TEST(attempt, what_was_delivered_is_kept_when_the_host_goes_away)
{
    struct world *w = *state;

    limit_recipients(w);
    smtp_peer_play(&w->peers[0], GREET TAKE "C: MAIL FROM:*\nS: <close>\n");
    smtp_peer_play(&w->peers[0], "S: 421 not now\nC: <closed>\n");
    (void)world_send(w, "x@a.test y@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_delivered == 1 && world_is_quiet(w));
    /* G4: x is not waiting any more. */
    assert_string_equal(world_group(w)->recipients, "y@a.test;");
}

TEST(attempt, a_host_that_takes_one_transaction_gets_the_rest_on_a_new_connection)
{
    struct world *w = *state;

    limit_recipients(w);
    smtp_peer_play(&w->peers[0], GREET TAKE "C: MAIL FROM:*\nS: 421 no more here\n"
                                            "C: <closed>\n");
    smtp_peer_play(&w->peers[0], GREET TAKE);
    (void)world_send(w, "x@a.test y@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_delivered, 2);
    assert_int_equal(world_counts(w).recipients_deferred, 0);
    assert_int_equal(world_counts(w).destinations_backing_off, 0);
}

/* ---- what a host lacks ---- */

#define GREET_8BIT "S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250 8BITMIME\n"
#define TAKE_8BIT                                                                          \
    "C: MAIL FROM:<sender@s.test> BODY=*\nS: 250 ok\n" RCPT DATA "S: 250 taken\n"

TEST(attempt, another_host_is_asked_for_what_one_lacks)
{
    struct world *w = *state;

    w->envelope.has_8bit = true;
    smtp_peer_play(&w->peers[0], GREET "C: <nothing>\n");
    smtp_peer_play(&w->peers[1], GREET_8BIT TAKE_8BIT);
    (void)world_send(w, "x@two.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_delivered, 1);
    assert_int_equal(world_counts(w).destinations_backing_off, 0);
}

TEST(attempt, every_host_is_asked_even_when_an_idle_connection_lacks_it)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], "S: 421 busy\nC: <closed>\n");
    smtp_peer_play(&w->peers[1], GREET TAKE);
    (void)world_send(w, "x@two.test");
    WORLD_UNTIL(w, world_is_empty(w)); /* mx2 has an idle connection now */
    world_host(w, "mx1.test")->until_ms = 1;
    w->envelope.has_8bit = true;
    smtp_peer_play(&w->peers[0], GREET_8BIT TAKE_8BIT);
    (void)world_send(w, "y@two.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_delivered, 2);
    assert_int_equal(world_counts(w).recipients_failed, 0);
    assert_int_equal(w->peers[1].accepted, 1); /* it was not asked twice */
}

TEST(attempt, mail_does_not_fail_for_good_while_a_host_was_not_asked)
{
    struct world *w = *state;

    w->envelope.has_8bit = true;
    smtp_peer_play(&w->peers[1], GREET "C: <nothing>\n");
    (void)world_send(w, "x@halfdown.test");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 1 && world_is_quiet(w));
    assert_int_equal(world_counts(w).recipients_failed, 0);
    assert_int_equal(world_group(w)->attempts, 1);
    assert_non_null(strstr(world_group(w)->text, "8BITMIME"));
    assert_int_equal(world_group(w)->status[0], '4');
}

/* ---- leaving ---- */

/* Draining while the script holds: true, nothing was spent. */
static void drain_at(struct world *w, const char *script, unsigned delivered)
{
    uint64_t commits;

    smtp_peer_play(&w->peers[0], script);
    (void)world_send(w, "x@a.test");
    commits = world_numbers(w).commits;
    WORLD_UNTIL(w, w->peers[0].held == 1);
    deliver_drain(w->deliver, world_on_empty, w);
    assert_int_equal(w->empties, 0); /* never inside the call */
    loop_run_for(w->loop, 1);
    if (delivered > 0)
        assert_int_equal(w->empties, 0); /* it is waited for */
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, w->empties == 1);
    assert_int_equal(world_counts(w).recipients_delivered, delivered);
    if (delivered == 0)
        expect_untouched(w, commits);
}

TEST(attempt, draining_drops_what_waits_for_the_greeting)
{
    drain_at(*state, "S: <hold>\nC: <closed>\n", 0);
}

TEST(attempt, draining_drops_what_waits_for_ehlo)
{
    drain_at(*state, "S: 220 mx\nC: EHLO *\nS: <hold>\nC: <closed>\n", 0);
}

TEST(attempt, draining_drops_what_waits_for_rcpt)
{
    drain_at(*state, GREET MAIL "C: RCPT TO:*\nS: <hold>\nC: <closed>\n", 0);
}

TEST(attempt, draining_waits_for_the_answer_to_the_dot)
{
    drain_at(*state, GREET MAIL RCPT DATA "S: <hold>\nS: 250 taken\n", 1);
}

TEST(attempt, aborting_counts_what_stood_behind_the_dot)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], GREET MAIL RCPT DATA "S: <hold>\nC: <closed>\n");
    smtp_peer_play(&w->peers[2], GREET MAIL "C: RCPT TO:*\nS: <hold>\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    (void)world_send(w, "x@c.test");
    WORLD_UNTIL(w, w->peers[0].held == 1 && w->peers[2].held == 1);
    assert_int_equal(deliver_abort(w->deliver), 1);
    assert_int_equal(world_counts(w).attempts_running, 0);
    smtp_peer_go(&w->peers[0]);
    smtp_peer_go(&w->peers[2]);
    WORLD_UNTIL(w, w->peers[0].open == 0 && w->peers[2].open == 0);
    assert_int_equal(world_look(w), 2); /* both wait as they did */
    assert_int_equal(w->seen[0].attempts + w->seen[1].attempts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(attempt, name)
        T(a_421_at_the_greeting_is_the_fault_of_the_host),
        T(a_5xx_at_the_greeting_is_the_fault_of_the_host),
        T(a_4xx_at_ehlo_is_the_fault_of_the_host),
        T(an_end_before_the_greeting_is_the_fault_of_the_host),
        T(an_end_before_mail_was_answered_is_the_fault_of_the_host),
        T(a_421_to_mail_is_the_fault_of_the_host),
        T(a_host_that_refuses_connections_leaves_the_mail_as_it_was),
        T(the_next_host_is_tried_at_once),
        T(a_host_that_failed_is_passed_over_until_its_back_off_ends),
        T(an_end_in_mid_transaction_goes_to_the_next_host_once),
        T(an_end_in_mid_transaction_without_another_host_spends_an_attempt),
        T(a_421_to_rcpt_is_an_end_in_mid_transaction),
        T(behind_the_final_dot_no_other_host_is_tried),
        T(silence_at_a_stage_ends_with_its_limit),
        T(the_next_message_takes_the_same_connection),
        T(what_goes_again_without_a_session_takes_nobody_elses),
        T(without_a_descriptor_it_waits_and_a_connection_that_rests_makes_room),
        T(messages_per_connection_ends_it_with_quit),
        T(an_idle_connection_that_was_closed_is_nobodys_fault),
        T(what_was_delivered_is_kept_when_the_host_goes_away),
        T(a_host_that_takes_one_transaction_gets_the_rest_on_a_new_connection),
        T(another_host_is_asked_for_what_one_lacks),
        T(every_host_is_asked_even_when_an_idle_connection_lacks_it),
        T(mail_does_not_fail_for_good_while_a_host_was_not_asked),
        T(draining_drops_what_waits_for_the_greeting),
        T(draining_drops_what_waits_for_ehlo),
        T(draining_drops_what_waits_for_rcpt),
        T(draining_waits_for_the_answer_to_the_dot),
        T(aborting_counts_what_stood_behind_the_dot),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
