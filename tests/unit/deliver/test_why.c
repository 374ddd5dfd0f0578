/* Where a leased group stands, in words: before its connection, at each step, behind its end. */
#include "deliver_world.h"

static struct why why_of(const struct world *w, uint64_t id)
{
    struct why why = {0};

    deliver_why_leased(w->deliver, "a.test", NULL, &(struct queue_target){id, 0}, &why);
    return why;
}

static bool says(const struct world *w, uint64_t id, enum why_kind kind, const char *text)
{
    struct why why = why_of(w, id);

    return why.kind == kind && strstr(why.text, text);
}

TEST(why, each_step_of_an_attempt_has_its_words)
{
    struct world *w = *state;
    uint64_t id;

    smtp_peer_play(&w->peers[0],
                   "S: <hold>\nS: 220 mx1.test\nC: EHLO*\nS: 250 mx1.test\n"
                   "C: MAIL FROM:*\nS: <hold>\nS: 250 ok\nC: RCPT TO:*\nS: 250 ok\n"
                   "C: DATA\nS: 354 go\nC: <data>\nS: <hold>\nS: 250 taken\n");
    id = world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    assert_true(says(w, id, WHY_LEASED, ", at mx1.test: a connection is being made"));
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, says(w, id, WHY_LEASED, "commands are being answered"));
    WORLD_UNTIL(w, w->peers[0].held == 1);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, says(w, id, WHY_LEASED, "the answer is awaited"));
    WORLD_UNTIL(w, w->peers[0].held == 1);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
}

TEST(why, behind_busy_connections_it_knows_its_place)
{
    struct world *w = *state;
    uint64_t ids[3];

    w->settings.defaults.connections = 1;
    world_apply(w);
    smtp_peer_play(&w->peers[0], "S: <hold>\nS: 220 mx1.test\nS: <serve>\n");
    for (int i = 0; i < 3; i++)
        ids[i] = world_send(w, "x@a.test");
    WORLD_UNTIL(w, says(w, ids[1], WHY_CONNECTIONS,
                        "all 1 connections to the destination are busy; place 1 of 2"));
    WORLD_UNTIL(w, says(w, ids[2], WHY_CONNECTIONS, "place 2 of 2"));
    assert_true(says(w, ids[0], WHY_LEASED, "a connection is being made"));
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
}

TEST(why, what_waits_is_counted_by_what_holds_its_lane)
{
    struct world *w = *state;

    (void)world_send(w, "x@down.test");
    (void)world_send(w, "x@servfail.test");
    WORLD_UNTIL(w, world_why(w, "down.test").kind == WHY_DESTINATION &&
                       world_why(w, "servfail.test").kind == WHY_DNS);
    assert_int_equal(world_numbers(w).groups_by_reason[WHY_DESTINATION], 1);
    assert_int_equal(world_numbers(w).groups_by_reason[WHY_DNS], 1);
    assert_int_equal(world_numbers(w).groups_by_reason[WHY_SCHEDULED], 0);
    (void)world_send(w, "y@down.test"); /* it comes into what rests */
    WORLD_UNTIL(w, world_numbers(w).groups_waiting == 3);
    assert_int_equal(world_numbers(w).groups_by_reason[WHY_DESTINATION], 2);
}

static uint64_t leased(struct world *w)
{
    struct queue_statistics statistics;

    queue_statistics(w->queue, &statistics);
    return statistics.groups_leased;
}

TEST(why, an_outcome_that_the_disk_does_not_take_says_so)
{
    struct world *w = *state;
    uint64_t id;

    smtp_peer_play(&w->peers[0], "S: 220 mx1.test\nC: EHLO*\nS: 250 mx1.test\n"
                                 "C: MAIL FROM:*\nS: 451 4.3.0 later\n");
    id = world_send(w, "x@a.test");
    world_fail_commits(28, 1000); /* ENOSPC */
    WORLD_UNTIL(w, says(w, id, WHY_LEASED, "the outcome is being written to the disk"));
    world_fail_commits(0, 0);
    (void)deliver_abort(w->deliver);
    WORLD_UNTIL(w, leased(w) == 0); /* what is at the store comes to its end */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(why, name)
        T(each_step_of_an_attempt_has_its_words),
        T(behind_busy_connections_it_knows_its_place),
        T(what_waits_is_counted_by_what_holds_its_lane),
        T(an_outcome_that_the_disk_does_not_take_says_so),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
