/* Clients that nobody knows: greeted late, judged at RCPT, slowed and sent away. */
#include "strangers.h"

#include "world.h"

static void start_stranger(struct world *w, const char *peer)
{
    world_prepare(w);
    w->listener.mode = MODE_RELAY;
    w->settings.strangers = (struct stranger_settings){.helo_checks = STRANGERS_REJECT,
                                                       .unknown_recipients = 4,
                                                       .errors = 4,
                                                       .tarpit_ms = 1000};
    world_start(w);
    world_connect(w, peer);
}

TEST(strangers, who_talks_before_the_greeting_is_closed)
{
    struct world w;

    world_prepare(&w);
    w.listener.mode = MODE_RELAY;
    w.settings.strangers.greeting_delay_ms = 1000;
    world_start(&w);
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: <silence>\nC: EHLO a.test\nS: 554 5.5.1 *\nS: <closed>\n");
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: <silence>\n+200ms\nS: 220 *\nC: EHLO a.test\nS: 250 *\n");
    world_connect(&w, "10.1.1.1"); /* trusted */
    world_play(&w, "S: 220 *\n");
    w.listener.mode = MODE_SUBMISSION;
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: 220 *\n");
    world_end(&w);
}

TEST(strangers, a_client_that_leaves_before_the_greeting_is_not_waited_for)
{
    struct world w;
    struct receive_statistics statistics;

    world_prepare(&w);
    w.listener.mode = MODE_RELAY;
    w.settings.strangers.greeting_delay_ms = 3600000;
    world_start(&w);
    world_connect(&w, "192.0.2.9");
    world_vanish(&w);
    loop_run_for(w.loop, 1);
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.connections_open, 0);
    world_end(&w);
}

TEST(strangers, a_bad_name_is_refused_at_rcpt_but_for_a_postmaster)
{
    struct world w;

    start_stranger(&w, "192.0.2.9");
    world_play(&w, "S: 220 *\nC: EHLO localhost\nS: 250 *\n"
                   "C: MAIL FROM:<a@b.test>\nS: 250 *\n"
                   "C: RCPT TO:<bob@home.test>\n"
                   "S: 550 5.7.1 Your EHLO names a name without a dot\n"
                   "C: RCPT TO:<postmaster@home.test>\nS: 250 *\n"
                   "C: EHLO [192.0.2.9]\nS: 250 *\n"
                   "C: MAIL FROM:<a@b.test>\nS: 250 *\n"
                   "C: RCPT TO:<bob@home.test>\nS: 250 *\n");
    world_connect(&w, "10.1.1.1");
    world_play(&w, "S: 220 *\nC: EHLO localhost\nS: 250 *\n"
                   "C: MAIL FROM:<a@b.test>\nS: 250 *\n"
                   "C: RCPT TO:<bob@home.test>\nS: 250 *\n");
    world_end(&w);
}

TEST(strangers, unknown_recipients_are_slowed_then_end_the_session)
{
    struct world w;

    start_stranger(&w, "192.0.2.9");
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: MAIL FROM:<a@b.test>\nS: 250 *\n"
                   "C: RCPT TO:<u1@home.test>\nS: 550 5.1.1 *\n"
                   "C: RCPT TO:<u2@home.test>\nS: 550 5.1.1 *\n"
                   "C: RCPT TO:<u3@home.test>\nC: NOOP\nS: <silence>\n+60ms\n"
                   "S: 550 5.1.1 *\nS: 250 *\n"
                   "C: RCPT TO:<u4@home.test>\nS: 421 4.7.0 *\nS: <closed>\n");
    world_end(&w);
}

TEST(strangers, errors_are_slowed_then_end_the_session)
{
    struct world w;
    struct receive_statistics statistics;

    start_stranger(&w, "192.0.2.9");
    world_play(&w, "S: 220 *\nC: FROB\nS: 500 *\nC: FROB\nS: 500 *\n"
                   "C: FROB\nS: <silence>\n+60ms\nS: 500 *\n"
                   "C: FROB\nS: 421 4.7.0 *\nS: <closed>\n");
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.replies_5xx, 3); /* a held reply is counted once */
    assert_int_equal(statistics.limits[RECEIVE_LIMIT_BAD_COMMANDS], 1);
    world_connect(&w, "10.1.1.1");
    world_play(&w, "S: 220 *\nC: FROB\nS: 500 *\nC: FROB\nS: 500 *\nC: FROB\nS: 500 *\n"
                   "C: FROB\nS: 500 *\nC: FROB\nS: 500 *\n");
    world_end(&w);
}

TEST(strangers, an_offender_is_remembered)
{
    struct world w;

    world_prepare(&w);
    w.listener.mode = MODE_RELAY;
    w.settings.strangers = (struct stranger_settings){.errors = 1, .offenders_ms = 60000};
    world_start(&w);
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: 220 *\nC: FROB\nS: 421 4.7.0 *\nS: <closed>\n");
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: 421 4.7.0 Too many errors from your address*\nS: <closed>\n");
    world_connect(&w, "192.0.2.10");
    world_play(&w, "S: 220 *\n");
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(strangers, who_talks_before_the_greeting_is_closed),
        RUN(strangers, a_client_that_leaves_before_the_greeting_is_not_waited_for),
        RUN(strangers, a_bad_name_is_refused_at_rcpt_but_for_a_postmaster),
        RUN(strangers, unknown_recipients_are_slowed_then_end_the_session),
        RUN(strangers, errors_are_slowed_then_end_the_session),
        RUN(strangers, an_offender_is_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
