/* The life of a connection: greeting, pipelining, TLS, patience, the end. */
#include "world.h"

static void start(struct world *w)
{
    world_prepare(w);
    world_start(w);
    world_connect(w, "192.0.2.9");
}

TEST(session, greets_and_quits)
{
    struct world w;

    start(&w);
    world_play(&w, "S: 220 relay.test ESMTP*\nC: NOOP\nS: 250 2.0.0 *\nC: QUIT\n"
                   "S: 221 2.0.0 *\nS: <closed>\n");
    world_end(&w);
}

TEST(session, answers_pipelined_commands_in_one_write)
{
    struct world w;

    start(&w);
    world_play(
        &w, "S: 220 *\nC: NOOP\nC: RSET\nC: EHLO a.test\nC: NOPE\nC: NOOP\n"
            "S: 250 2.0.0 *\nS: 250 2.0.0 *\nS: 250 *\nS: 500 5.5.2 *\nS: 250 2.0.0 *\n");
    world_end(&w);
}

TEST(session, takes_bytes_one_at_a_time)
{
    static const char text[] = "EHLO a.test\r\nNOOP\r\nQUIT\r\n";
    struct world w;

    start(&w);
    for (size_t i = 0; text[i]; i++)
        dialogue_send(&w.dialogue, (struct slice){text + i, 1});
    world_play(&w, "S: 220 *\nS: 250 *\nS: 250 2.0.0 *\nS: 221 *\nS: <closed>\n");
    world_end(&w);
}

TEST(session, offers_what_fits)
{
    struct world w;

    start(&w);
    world_play(
        &w, "S: 220 *\nC: EHLO a.test\nS: 250-relay.test greets a.test\nS: 250-PIPELINING\n"
            "S: 250-SIZE 100000\nS: 250-8BITMIME\nS: 250-SMTPUTF8\n"
            "S: 250-ENHANCEDSTATUSCODES\nS: 250-DSN\nS: 250-CHUNKING\nS: 250 STARTTLS\n"
            "C: STARTTLS\nS: 220 2.0.0 *\n");
    world_secure(&w, NULL);
    world_play(&w, "C: EHLO a.test\nS: 250-CHUNKING\nS: 250 AUTH PLAIN LOGIN\n"
                   "C: STARTTLS\nS: 503 5.5.1 *\n");
    world_end(&w);
}

TEST(session, forgets_everything_at_starttls)
{
    struct world w;

    start(&w);
    /* RFC 3207 4.2: what stands behind STARTTLS in clear is dropped, not run later. */
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: STARTTLS\nC: NOOP\nC: QUIT\n"
                   "S: 220 2.0.0 *\n");
    world_secure(&w, NULL);
    world_play(&w, "S: <silence>\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 503 5.5.1 *\n"
                   "C: EHLO a.test\nS: 250 *\nC: MAIL FROM:<a@b.test>\nS: 530 5.7.0 *\n");
    world_end(&w);
}

TEST(session, ends_when_the_handshake_fails)
{
    static const struct fault fault = {RESULT_TLS, "bad"};
    struct world w;

    start(&w);
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: STARTTLS\nS: 220 2.0.0 *\n");
    world_secure(&w, &fault);
    world_play(&w, "S: <closed>\n");
    world_end(&w);
}

TEST(session, says_when_tls_is_busy)
{
    struct world w;

    start(&w);
    world_secure_result = RESULT_BUSY;
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: STARTTLS\nS: 454 4.7.0 *\n"
                   "C: NOOP\nS: 250 *\n");
    world_end(&w);
}

TEST(session, secures_before_it_greets_on_implicit_tls)
{
    struct world w;

    world_prepare(&w);
    w.listener.tls_mode = RECEIVE_TLS_IMPLICIT;
    world_start(&w);
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: <silence>\n");
    world_secure(&w, NULL);
    world_play(&w, "S: 220 relay.test ESMTP*\nC: EHLO a.test\nS: 250 AUTH *\n");
    world_end(&w);
}

TEST(session, counts_connections)
{
    struct world w;

    start(&w);
    for (int i = 1; i < 4; i++)
        world_connect(&w, "192.0.2.9");
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: 421 4.7.0 *\nS: <closed>\n");
    for (int i = 4; i < 8; i++)
        world_connect(&w, "192.0.2.10");
    world_connect(&w, "192.0.2.11");
    world_play(&w, "S: 421 4.3.2 *\nS: <closed>\n");
    w.stream = w.streams[0];
    world_vanish(&w);
    world_connect(&w, "192.0.2.11");
    world_play(&w, "S: 220 *\n");
    world_end(&w);
}

TEST(session, ends_after_twenty_bad_commands)
{
    struct world w;

    start(&w);
    world_play(&w, "S: 220 *\n");
    for (int i = 1; i < LIMIT_BAD_COMMANDS; i++)
        world_play(&w, "C: NOPE\nS: 500 5.5.2 *\n");
    world_play(&w, "C: NOPE\nS: 421 4.7.0 *\nS: <closed>\n");
    world_end(&w);
}

TEST(session, refuses_bad_lines)
{
    struct world w;
    char line[5000];

    start(&w);
    memset(line, 'x', sizeof line);
    world_play(
        &w,
        "S: 220 *\nC> NOOP\\0\\r\\n\nS: 500 5.5.2 *\nC> NOOP\\rx\\r\\n\nS: 500 5.5.2 *\n"
        "C> NOOP\\nNOOP\\r\\n\nS: 500 5.5.2 *\nC:\nS: 500 5.5.2 *\nC: *\nS: 500 *\n"
        "C:   NOOP\nS: 500 *\n");
    dialogue_send(&w.dialogue, (struct slice){line, sizeof line});
    world_play(&w, "C:\nS: 500 5.5.2 *long*\nC: NOOP\nS: 250 *\n");
    world_end(&w);
}

TEST(session, lets_others_have_their_turn)
{
    struct world w;
    struct bytes script;

    start(&w);
    bytes_init(&script, 1 << 20);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(bytes_add_text(&script, "C: NOOP\n"), RESULT_OK);
    assert_int_equal(bytes_add_text(&script, "S: 220 *\n"), RESULT_OK);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(bytes_add_text(&script, "S: 250 *\n"), RESULT_OK);
    assert_int_equal(bytes_add_text(&script, "C: QUIT\nS: 221 *\nS: <closed>\n"),
                     RESULT_OK);
    assert_int_equal(bytes_add(&script, (struct slice){"", 1}), RESULT_OK);
    world_play(&w, script.data);
    bytes_fini(&script);
    world_end(&w);
}

TEST(session, stops_reading_while_replies_are_not_read)
{
    struct world w;

    start(&w);
    world_play(&w, "S: 220 *\n");
    w.stream->says_again = true;
    world_play(&w, "C: NOOP\nS: 250 *\nC: NOOP\nS: <silence>\n");
    assert_true(w.stream->is_paused);
    w.stream->says_again = false;
    w.stream->events->on_drained(w.stream->owner);
    world_play(&w, "S: 250 *\n");
    assert_false(w.stream->is_paused);
    world_end(&w);
}

static void start_impatient(struct world *w)
{
    world_prepare(w);
    w->settings.idle_timeout_ms = 1000; /* far above what a busy machine adds */
    world_start(w);
    world_connect(w, "10.1.1.1");
}

static struct session *first(const struct world *w)
{
    return CONTAINER_OF(list_first(&w->receive->sessions), struct session, link);
}

/* So much time passes for the session, and for the timer that it started, while nothing is said. */
static void pass(struct world *w, int64_t ms)
{
    struct session *session = first(w);
    int64_t left_ms = session->timer.due_ms - loop_now_ms(w->loop) - ms;

    assert_true(timer_is_waiting(&session->timer));
    session->waiting_since_ms -= ms;
    session->last_byte_ms -= ms;
    session->window_began_ms -= ms;
    timer_start(&session->timer, left_ms > 0 ? left_ms : 0);
    loop_run_for(w->loop, 2);
}

static void start_patient(struct world *w)
{
    world_prepare(w);
    w->settings.idle_timeout_ms = 3600000;
    world_start(w);
    world_connect(w, "10.1.1.1");
}

TEST(session, ends_when_nothing_is_said)
{
    struct world w;

    start_patient(&w);
    world_play(&w, "S: 220 *\n");
    pass(&w, 2400000);
    world_play(&w, "C: NOOP\nS: 250 *\n");
    pass(&w, 2400000);
    world_play(&w, "C: NOOP\nS: 250 *\n");
    pass(&w, 3600000);
    world_play(&w, "S: 421 4.4.2 *\nS: <closed>\n");
    world_end(&w);
}

TEST(session, bears_no_command_that_comes_a_byte_at_a_time)
{
    struct world w;

    start_impatient(&w);
    world_play(&w, "S: 220 *\nC> N\n+400ms\nC> O\n+400ms\nC> O\n+400ms\nC> P\n"
                   "S: 421 4.4.2 *\nS: <closed>\n");
    world_end(&w);
}

TEST(session, bears_no_data_that_drips)
{
    struct world w;

    world_prepare(&w);
    w.settings.idle_timeout_ms = 1000;
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "10.1.1.1");
    world_play(
        &w,
        "S: 220 *\nC: EHLO a.test\nC: MAIL FROM:<a@b.test>\nC: RCPT TO:<bob@home.test>\n"
        "C: DATA\nS: 250 *\nS: 250 *\nS: 250 *\nS: 354 *\n"
        "# enough in the first window, a byte at a time in the second\n"
        "C: 01234567890123456789012345678901234567890123456789\n"
        "C: 01234567890123456789012345678901234567890123456789\n+650ms\n"
        "C> a\n+650ms\nC> b\n+650ms\nC> c\n"
        "S: 421 4.4.2 *\nS: <closed>\n");
    assert_int_equal(w.queue.drafts, 0);
    world_end(&w);
}

TEST(session, waits_for_our_own_slow_disk)
{
    struct world w;

    world_prepare(&w);
    w.settings.idle_timeout_ms = 800;
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    w.queue.holds_commits = true;
    world_connect(&w, "10.1.1.1");
    world_play(
        &w,
        "S: 220 *\nC: EHLO a.test\nC: MAIL FROM:<a@b.test>\nC: RCPT TO:<bob@home.test>\n"
        "C: DATA\nS: 250 *\nS: 250 *\nS: 250 *\nS: 354 *\nC: A: b\nC:\nC: c\nC: .\n"
        "+1700ms\nS: <silence>\n");
    world_on_commit_end(w.queue.held);
    world_play(&w, "S: 250 2.0.0 *\n");
    world_end(&w);
}

TEST(session, holds_a_reply_back_and_what_was_pipelined_behind_it)
{
    struct world w;

    start(&w);
    world_play(&w, "S: 220 *\n");
    session_reply_later(first(&w), 3600000, REPLY_SYNTAX, "in a while");
    world_play(&w, "C: NOOP\nC: QUIT\nS: <silence>\n");
    pass(&w, 3600000);
    world_play(&w, "S: 501 5.5.4 in a while\nS: 250 2.0.0 *\nS: 221 *\nS: <closed>\n");
    world_end(&w);
}

TEST(session, forgets_a_reply_held_back_when_the_client_goes)
{
    struct world w;

    start(&w);
    world_play(&w, "S: 220 *\n");
    session_reply_later(first(&w), 100, REPLY_SYNTAX, "in a while");
    world_vanish(&w);
    loop_run_for(w.loop, 200);
    assert_int_equal(w.receive->sessions.count, 0);
    world_end(&w);
}

TEST(session, is_patient_anew_behind_a_reply_held_back)
{
    struct world w;

    start_patient(&w);
    world_play(&w, "S: 220 *\n");
    session_reply_later(first(&w), 7200000, REPLY_OK, NULL);
    pass(&w, 7200000);
    world_play(&w, "S: 250 *\n");
    pass(&w, 1200000);
    world_play(&w, "C: NOOP\nS: 250 *\n");
    pass(&w, 3600000);
    world_play(&w, "S: 421 4.4.2 *\nS: <closed>\n");
    world_end(&w);
}

TEST(session, leaves_at_idle_points_when_drained)
{
    struct world w;
    struct stream *idle;

    world_prepare(&w);
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "10.1.1.2");
    idle = w.stream;
    world_connect(&w, "10.1.1.1");
    world_play(
        &w,
        "S: 220 *\nC: EHLO a.test\nC: MAIL FROM:<a@b.test>\nC: RCPT TO:<bob@home.test>\n"
        "C: DATA\nS: 250 *\nS: 250 *\nS: 250 *\nS: 354 *\nC: A: b\n");
    receive_drain(w.receive, world_on_empty, &w);
    assert_true(idle->is_closed);
    world_play(
        &w, "S: <silence>\nC:\nC: c\nC: .\nS: 250 2.0.0 *\nS: 421 4.3.2 *\nS: <closed>\n");
    loop_run_for(w.loop, 2);
    assert_int_equal(w.empty_count, 1);
    world_connect(&w, "10.1.1.1");
    world_play(&w, "S: 421 4.3.2 *\nS: <closed>\n");
    world_end(&w);
}

TEST(session, tells_that_nobody_was_there)
{
    struct world w;

    world_prepare(&w);
    world_start(&w);
    receive_drain(w.receive, world_on_empty, &w);
    assert_int_equal(w.empty_count, 0);
    loop_run_for(w.loop, 2);
    assert_int_equal(w.empty_count, 1);
    world_end(&w);
}

TEST(session, is_cut_by_abort)
{
    struct world w;

    start(&w);
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\n");
    receive_abort(w.receive);
    world_play(&w, "S: 421 4.3.2 *\nS: <closed>\n");
    world_end(&w);
}

TEST(session, is_small_when_idle)
{
    struct world w;

    start(&w);
    world_play(&w, "S: 220 *\nC> NO\nC> OP\\r\\n\nS: 250 *\n");
    assert_true(sizeof(struct session) < 1024);
    assert_int_equal(CONTAINER_OF(list_first(&w.receive->sessions), struct session, link)
                         ->input.capacity,
                     0);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(session, greets_and_quits),
        RUN(session, answers_pipelined_commands_in_one_write),
        RUN(session, takes_bytes_one_at_a_time),
        RUN(session, offers_what_fits),
        RUN(session, forgets_everything_at_starttls),
        RUN(session, ends_when_the_handshake_fails),
        RUN(session, says_when_tls_is_busy),
        RUN(session, secures_before_it_greets_on_implicit_tls),
        RUN(session, counts_connections),
        RUN(session, ends_after_twenty_bad_commands),
        RUN(session, refuses_bad_lines),
        RUN(session, lets_others_have_their_turn),
        RUN(session, stops_reading_while_replies_are_not_read),
        RUN(session, ends_when_nothing_is_said),
        RUN(session, bears_no_command_that_comes_a_byte_at_a_time),
        RUN(session, bears_no_data_that_drips),
        RUN(session, waits_for_our_own_slow_disk),
        RUN(session, holds_a_reply_back_and_what_was_pipelined_behind_it),
        RUN(session, forgets_a_reply_held_back_when_the_client_goes),
        RUN(session, is_patient_anew_behind_a_reply_held_back),
        RUN(session, leaves_at_idle_points_when_drained),
        RUN(session, tells_that_nobody_was_there),
        RUN(session, is_cut_by_abort),
        RUN(session, is_small_when_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
