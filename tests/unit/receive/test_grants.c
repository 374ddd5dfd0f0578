/* What alice may, once her line of the users file says so. */
#include "world.h"

#include "grants.h"

static void give(struct world *w, const char *right)
{
    struct users_change change = {.name = "alice", .rights = &right, .right_count = 1};
    struct fault fault;
    bool was_there;

    assert_int_equal(users_file_change(w->users_path, &change, &was_there, &fault),
                     RESULT_OK);
    assert_int_equal(auth_load(w->auth, w->users_path, &fault), RESULT_OK);
}

static void start(struct world *w, const char *right)
{
    world_prepare(w);
    world_start(w);
    if (right)
        give(w, right);
    world_connect(w, "192.0.2.9");
    world_log_in(w);
}

TEST(grants, checks_the_envelopes_sender)
{
    struct world w;

    start(&w, "senders=alice@a.test,@b.test");
    world_play(&w, "C: MAIL FROM:<eve@a.test>\nS: 553 5.7.1 *\n"
                   "C: MAIL FROM:<Alice@A.test>\nS: 250 *\nC: RSET\nS: 250 *\n"
                   "C: MAIL FROM:<x@b.test>\nS: 250 *\nC: RSET\nS: 250 *\n"
                   "C: MAIL FROM:<>\nS: 250 *\n");
    world_end(&w);
}

#define HEADER_TEST                                                                        \
    "C: MAIL FROM:<x@b.test>\nS: 250 *\nC: RCPT TO:<bob@home.test>\nS: 250 *\nC: "         \
    "DATA\nS: 354 *\n"

TEST(grants, checks_every_mailbox_of_from_and_sender)
{
    struct world w;

    start(&w, "senders=@b.test");
    world_play(&w,
               HEADER_TEST "C: From: x@b.test, <y@b.test>\nC: \nC: text\nC: .\nS: 250 *\n");
    world_play(&w, HEADER_TEST
               "C: From: x@b.test, <y@c.test>\nC: \nC: text\nC: .\n"
               "S: 550 5.7.1 You may not send as <y@c.test>, which stands in From:\n");
    world_play(&w, HEADER_TEST
               "C: From: x@b.test\nC: sender: boss@c.test\nC: \nC: .\n"
               "S: 550 5.7.1 You may not send as <boss@c.test>, which stands in sender:\n");
    world_play(&w,
               HEADER_TEST "C: From: x@b.test\nC: From: y@c.test\nC: .\nS: 550 5.7.1 *\n");
    world_play(&w, HEADER_TEST "C: From: x@b.test <y@c.test>\nC: .\n"
                               "S: 550 5.7.1 From: is no list of addresses*\n");
    world_play(&w, HEADER_TEST "C: Subject: x\nC: .\nS: 250 *\n");
    assert_int_equal(w.queue.stored_count, 2);
    world_end(&w);
}

TEST(grants, leaves_the_header_of_others_alone)
{
    struct world w;

    start(&w, NULL);
    world_play(&w, HEADER_TEST "C: From: what <ever> this is\nC: \nC: .\nS: 250 *\n");
    world_end(&w);
}

TEST(grants, changes_size_and_recipients)
{
    struct world w;

    start(&w, "size=64KiB");
    give(&w, "recipients=2");
    world_play(&w,
               "C: EHLO a.test\nS: 250-SIZE 65536\nS: 250 *\n"
               "C: MAIL FROM:<x@b.test> SIZE=65537\nS: 552 5.3.4 *\n"
               "C: MAIL FROM:<x@b.test> SIZE=65536\nS: 250 *\n"
               "C: RCPT TO:<a@c.test>\nS: 250 *\nC: RCPT TO:<b@c.test>\nS: 250 *\n"
               "C: RCPT TO:<b@c.test>\nS: 250 *\nC: RCPT TO:<c@c.test>\nS: 452 4.5.3 *\n");
    world_end(&w);
}

TEST(grants, end_the_session_of_who_was_removed_or_changed)
{
    struct world w;
    struct fault fault;
    bool was_there;

    start(&w, NULL);
    give(&w, "senders=@b.test"); /* holds from the next message on */
    world_play(
        &w, "C: MAIL FROM:<x@c.test>\nS: 553 5.7.1 *\nC: MAIL FROM:<x@b.test>\nS: 250 *\n"
            "C: RSET\nS: 250 *\n");
    assert_int_equal(
        users_file_set(w.users_path, "alice", SLICE("other"), &was_there, &fault),
        RESULT_OK);
    assert_int_equal(auth_load(w.auth, w.users_path, &fault), RESULT_OK);
    world_play(&w, "C: MAIL FROM:<x@b.test>\nS: 421 4.7.0 *\nS: <closed>\n");
    world_end(&w);
}

static const struct session *session_of(const struct world *w)
{
    return CONTAINER_OF(list_first(&w->receive->sessions), struct session, link);
}

/* Half as long to half again, and no two of them alike: but one look sees only the bounds. */
static void assert_held_back(const struct world *w, int64_t about_ms)
{
    assert_in_range(session_of(w)->delay_ms, about_ms / 2, about_ms * 3 / 2 - 1);
}

TEST(grants, limits_messages_and_holds_back_who_tries_again)
{
    struct world w;

    start(&w, "messages=1/h");
    world_play(&w, HEADER_TEST "C: \nC: .\nS: 250 *\n"
                               "C: MAIL FROM:<x@b.test>\n"
                               "S: 450 4.7.1 *limit 1/h reached*\n"
                               "C: MAIL FROM:<x@b.test>\n");
    assert_int_equal(session_of(&w)->wait, WAIT_DELAY);
    assert_held_back(&w, GRANTS_DELAY_STEP_MS);
    world_play(&w, "S: 450 4.7.1 *\nC: NOOP\nS: 250 *\nC: MAIL FROM:<x@b.test>\n");
    assert_held_back(&w, 2 * GRANTS_DELAY_STEP_MS);
    world_play(&w, "S: 450 4.7.1 *\n");
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(grants, checks_the_envelopes_sender),
        RUN(grants, checks_every_mailbox_of_from_and_sender),
        RUN(grants, leaves_the_header_of_others_alone),
        RUN(grants, changes_size_and_recipients),
        RUN(grants, limits_messages_and_holds_back_who_tries_again),
        RUN(grants, end_the_session_of_who_was_removed_or_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
