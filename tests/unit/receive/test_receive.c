/* The door: settings of sessions to come, refusals, statistics. */
#include "smtpd/receive/receive.h"

#include "world.h"

TEST(receive, keeps_a_session_on_the_settings_it_began_with)
{
    struct world w;
    struct receive_settings changed;
    struct stream *before;

    world_prepare(&w);
    world_start(&w);
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: 220 relay.test *\n");
    before = w.stream;
    changed = w.settings;
    changed.hostname = "other.test";
    changed.message_size_bytes = 77777;
    receive_apply(w.receive, &changed, w.access);
    world_connect(&w, "192.0.2.10");
    world_play(&w, "S: 220 other.test *\nC: EHLO a.test\nS: 250-SIZE 77777\nS: 250 *\n");
    w.stream = before;
    world_play(&w, "C: EHLO a.test\nS: 250-SIZE 100000\nS: 250 *\n");
    world_end(&w);
}

TEST(receive, says_nothing_in_clear_when_it_refuses_an_implicit_tls_client)
{
    struct world w;

    world_prepare(&w);
    w.listener.tls_mode = RECEIVE_TLS_IMPLICIT;
    world_start(&w);
    receive_drain(w.receive, world_on_empty, &w);
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: <closed>\n");
    world_end(&w);
}

TEST(receive, ends_a_connection_that_may_not_shake_hands)
{
    struct world w;

    world_prepare(&w);
    w.listener.tls_mode = RECEIVE_TLS_IMPLICIT;
    world_start(&w);
    world_secure_result = RESULT_BUSY;
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: <closed>\n");
    world_end(&w);
}

TEST(receive, counts)
{
    struct world w;
    struct receive_statistics statistics;

    world_prepare(&w);
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "192.0.2.9");
    world_play(
        &w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: NOPE\nS: 500 *\nC: QUIT\nS: 221 *\n");
    for (int i = 0; i < 5; i++)
        world_connect(&w, "192.0.2.10");
    world_play(&w, "S: 421 4.7.0 *\nS: <closed>\n");
    loop_run_for(w.loop, 1);
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.connections, 6);
    assert_int_equal(statistics.connections_open, 4);
    assert_int_equal(statistics.connections_refused, 1);
    assert_int_equal(statistics.replies_2xx, 7);
    assert_int_equal(statistics.replies_5xx, 1);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(receive, keeps_a_session_on_the_settings_it_began_with),
        RUN(receive, says_nothing_in_clear_when_it_refuses_an_implicit_tls_client),
        RUN(receive, ends_a_connection_that_may_not_shake_hands),
        RUN(receive, counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
