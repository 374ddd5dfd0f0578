/* AUTH, line by line. alice's password is "secret". */
#include "world.h"

static void start(struct world *w)
{
    world_prepare(w);
    w->listener.tls_mode = RECEIVE_TLS_IMPLICIT;
    world_start(w);
    world_connect(w, "192.0.2.9");
    world_secure(w, NULL);
    world_play(w, "S: 220 *\nC: EHLO a.test\nS: 250 AUTH PLAIN LOGIN\n");
}

TEST(auth_dialogue, takes_plain_at_once)
{
    struct world w;
    struct receive_statistics statistics;

    start(&w);
    world_play(&w, "C: auth plain AGFsaWNlAHNlY3JldA==\nS: 235 2.7.0 *\n"
                   "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 503 5.5.1 *\n"
                   "C: MAIL FROM:<a@b.test>\nS: 250 *\n");
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.auth_ok, 1);
    world_end(&w);
}

TEST(auth_dialogue, takes_plain_in_two_steps)
{
    struct world w;

    start(&w);
    world_play(&w, "C: AUTH PLAIN\nS: 334 \nC: AGFsaWNlAHNlY3JldA==\nS: 235 2.7.0 *\n");
    world_end(&w);
}

TEST(auth_dialogue, takes_login)
{
    struct world w;

    start(&w);
    world_play(&w, "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\nS: 334 UGFzc3dvcmQ6\n"
                   "C: c2VjcmV0\nS: 235 2.7.0 *\n");
    world_end(&w);
}

TEST(auth_dialogue, takes_login_with_the_user_in_front)
{
    struct world w;

    start(&w);
    world_play(
        &w, "C: AUTH LOGIN YWxpY2U=\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235 2.7.0 *\n");
    world_end(&w);
}

TEST(auth_dialogue, refuses_wrong_passwords_and_unknown_users_alike)
{
    struct world w;
    struct receive_statistics statistics;

    start(&w);
    world_play(
        &w, "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: 535 5.7.8 *\n"
            "C: AUTH PLAIN AG5vYm9keQBzZWNyZXQ=\nS: 535 5.7.8 *\n"
            "# an empty user, an empty password\n"
            "C: AUTH PLAIN AAA=\nS: 535 5.7.8 *\n"
            "C: AUTH LOGIN\nS: 334 *\nC: YSBiOmM=\nS: 334 *\nC: c2VjcmV0\nS: 535 5.7.8 *\n"
            "C: MAIL FROM:<a@b.test>\nS: 530 5.7.0 *\n");
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.auth_failed, 4);
    world_end(&w);
}

TEST(auth_dialogue, lets_nobody_act_for_another)
{
    struct world w;

    start(&w);
    /* bob NUL alice NUL secret; alice NUL alice NUL secret */
    world_play(&w, "C: AUTH PLAIN Ym9iAGFsaWNlAHNlY3JldA==\nS: 535 5.7.8 *\n"
                   "C: AUTH PLAIN YWxpY2UAYWxpY2UAc2VjcmV0\nS: 235 2.7.0 *\n");
    world_end(&w);
}

TEST(auth_dialogue, can_be_cancelled)
{
    struct world w;

    start(&w);
    world_play(&w,
               "C: AUTH PLAIN\nS: 334 *\nC: *\nS: 501 5.7.0 *\nC: NOOP\nS: 250 *\n"
               "C: AUTH LOGIN\nS: 334 *\nC: YWxpY2U=\nS: 334 *\nC: *\nS: 501 5.7.0 *\n");
    world_end(&w);
}

TEST(auth_dialogue, wants_base64)
{
    struct world w;

    start(&w);
    world_play(
        &w,
        "C: AUTH PLAIN ???\nS: 501 5.5.2 *\nC: AUTH PLAIN YWxpY2U=\nS: 501 5.5.2 *\n"
        "C: AUTH PLAIN =\nS: 501 5.5.2 *\nC: AUTH LOGIN\nS: 334 *\nC: a\nS: 501 5.5.2 *\n"
        "C: AUTH LOGIN\nS: 334 *\nC> YWxp\\0Y2U=\\r\\n\nS: 501 5.5.2 *\n"
        "C: AUTH CRAM-MD5\nS: 504 5.5.4 *\nC: AUTH\nS: 501 5.5.4 *\n"
        "C: AUTH PLAIN a b\nS: 501 5.5.4 *\nC: NOOP\nS: 250 *\n");
    world_end(&w);
}

TEST(auth_dialogue, bounds_its_lines)
{
    struct world w;
    char line[LIMIT_AUTH_LINE + 10];

    start(&w);
    memset(line, 'A', sizeof line);
    world_play(&w, "C: AUTH PLAIN\nS: 334 *\n");
    dialogue_send(&w.dialogue, (struct slice){line, sizeof line});
    world_play(&w, "C:\nS: 500 5.5.6 *\nC: NOOP\nS: 250 *\n");
    world_play(&w, "C: AUTH PLAIN\nS: 334 *\n");
    dialogue_send(&w.dialogue, (struct slice){line, 12000});
    world_play(&w, "C:\nS: 501 5.5.2 *\nC: NOOP\nS: 250 *\n");
    world_end(&w);
}

TEST(auth_dialogue, ends_a_batch)
{
    struct world w;

    start(&w);
    world_play(&w,
               "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nC: NOOP\nS: 503 5.5.0 *\nS: 250 *\n");
    world_end(&w);
}

TEST(auth_dialogue, survives_a_client_that_vanishes)
{
    struct world w;

    start(&w);
    dialogue_send(&w.dialogue, SLICE("AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"));
    world_vanish(&w);
    loop_run_for(w.loop, 300);
    world_connect(&w, "192.0.2.9");
    world_secure(&w, NULL);
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 *\nC: AUTH LOGIN\nS: 334 *\n");
    world_vanish(&w);
    world_end(&w);
}

TEST(auth_dialogue, needs_tls_but_on_loopback_when_told_so)
{
    struct world w;

    world_prepare(&w);
    w.settings.auth_in_clear_on_loopback = true;
    world_start(&w);
    world_connect(&w, "127.0.0.1");
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250-STARTTLS\nS: 250 AUTH PLAIN LOGIN\n"
                   "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 *\nC: MAIL "
                   "FROM:<a@b.test>\nS: 250 *\n");
    world_connect(&w, "192.0.2.9");
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 STARTTLS\n"
                   "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 538 5.7.11 *\n");
    world_end(&w);
}

TEST(auth_dialogue, is_not_there_without_users)
{
    struct world w;

    world_prepare(&w);
    w.settings.has_users = false;
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "127.0.0.1");
    world_play(&w, "S: 220 *\nC: EHLO a.test\nS: 250 STARTTLS\n"
                   "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 503 5.5.1 *\n");
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(auth_dialogue, takes_plain_at_once),
        RUN(auth_dialogue, takes_plain_in_two_steps),
        RUN(auth_dialogue, takes_login),
        RUN(auth_dialogue, takes_login_with_the_user_in_front),
        RUN(auth_dialogue, refuses_wrong_passwords_and_unknown_users_alike),
        RUN(auth_dialogue, lets_nobody_act_for_another),
        RUN(auth_dialogue, can_be_cancelled),
        RUN(auth_dialogue, wants_base64),
        RUN(auth_dialogue, bounds_its_lines),
        RUN(auth_dialogue, ends_a_batch),
        RUN(auth_dialogue, survives_a_client_that_vanishes),
        RUN(auth_dialogue, needs_tls_but_on_loopback_when_told_so),
        RUN(auth_dialogue, is_not_there_without_users),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
