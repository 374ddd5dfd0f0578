/* What is counted when, and how codes and limits come from it. */
#include "smtpd/receive/receive.h"

#include "world.h"

static const struct receive_code *code_of(const struct receive_statistics *statistics,
                                          unsigned code)
{
    for (size_t i = 0; i < statistics->code_count; i++)
        if (statistics->codes[i].code == code)
            return &statistics->codes[i];
    return NULL;
}

TEST(statistics, know_every_code_of_the_reply_table_once_and_in_order)
{
    struct world w;
    struct receive_statistics statistics;

    start_relay(&w);
    receive_statistics(w.receive, &statistics);
    for (int name = 0; name < REPLY_NAME_COUNT; name++)
        assert_non_null(code_of(&statistics, reply_name_code((enum reply_name)name)));
    for (size_t i = 1; i < statistics.code_count; i++)
        assert_true(statistics.codes[i - 1].code < statistics.codes[i].code);
    assert_true(statistics.code_count < RECEIVE_CODES_MAX);
    world_end(&w);
}

TEST(statistics, count_replies_by_code_and_rejected_messages_by_theirs)
{
    struct world w;
    struct receive_statistics before;
    struct receive_statistics after;

    start_relay(&w);
    receive_statistics(w.receive, &before);
    world_play(&w, "C: RCPT TO:<nobody@home.test>\nS: 503 *\n"
                   "C: MAIL FROM:<a@b.test>\nS: 250 *\n"
                   "C: RCPT TO:<nobody@home.test>\nS: 550 5.1.1 *\n"
                   "C: RCPT TO:<bob@home.test>\nS: 250 *\n"
                   "C: DATA\nS: 354 *\n"
                   "C: Subject: x\nC: \nC: hello\nC: .\nS: 250 *\n"
                   "C: MAIL FROM:<a@b.test>\nS: 250 *\n"
                   "C: RCPT TO:<bob@home.test>\nS: 250 *\n"
                   "C: BDAT 3 LAST\n");
    world_send(&w, SLICE("a\rb"));
    world_play(&w, "S: 550 5.5.2 *\n");
    receive_statistics(w.receive, &after);
    assert_int_equal(code_of(&after, 354)->replies - code_of(&before, 354)->replies, 1);
    assert_int_equal(code_of(&after, 503)->replies - code_of(&before, 503)->replies, 1);
    assert_int_equal(code_of(&after, 550)->replies - code_of(&before, 550)->replies, 2);
    assert_int_equal(code_of(&after, 550)->messages_rejected, 1);
    assert_int_equal(code_of(&after, 503)->messages_rejected, 0);
    assert_int_equal(after.messages_rejected, 1);
    assert_int_equal(after.messages_accepted, 1);
    assert_int_equal(after.recipients_rejected, 1);
    assert_int_equal(after.final_dot.count, 1);
    assert_int_equal(after.whole.count, 1);
    world_end(&w);
}

TEST(statistics, count_limits_and_connections_of_the_listener)
{
    struct world w;
    struct receive_listener_statistics at_listener = {0};
    struct receive_statistics statistics;

    world_prepare(&w);
    w.listener.mode = MODE_RELAY;
    w.listener.statistics = &at_listener;
    world_start(&w);
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250-*\nS: 250 *\n");
    for (int i = 1; i < LIMIT_BAD_COMMANDS; i++)
        world_play(&w, "C: FROB\nS: 500 *\n");
    world_play(&w, "C: FROB\nS: 421 4.7.0 *\nS: <closed>\n");
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.limits[RECEIVE_LIMIT_BAD_COMMANDS], 1);
    assert_int_equal(statistics.limits[RECEIVE_LIMIT_IDLE], 0);
    assert_int_equal(statistics.sessions_by_tls[RECEIVE_TLS_CLEAR], 1);
    assert_int_equal(statistics.sessions_by_tls[RECEIVE_TLS_1_3], 0);
    assert_int_equal(at_listener.accepted, 1);
    assert_int_equal(at_listener.refused, 0);
    receive_drain(w.receive, world_on_empty, &w);
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: 421 *\nS: <closed>\n");
    assert_int_equal(at_listener.accepted, 1);
    assert_int_equal(at_listener.refused, 1);
    receive_statistics(w.receive, &statistics);
    assert_int_equal(code_of(&statistics, 421)->replies, 2);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(statistics, know_every_code_of_the_reply_table_once_and_in_order),
        RUN(statistics, count_replies_by_code_and_rejected_messages_by_theirs),
        RUN(statistics, count_limits_and_connections_of_the_listener),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
