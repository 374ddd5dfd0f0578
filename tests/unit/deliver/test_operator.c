/* What an operator ends: reports, counts, the end of the process in the middle, and holds. */
#include "deliver_world.h"

struct end {
    unsigned calls;
    struct queue_counts counts;
};

static void on_end(void *owner, enum result result, const struct queue_counts *counts)
{
    struct end *end = owner;

    assert_int_equal(result, RESULT_OK);
    end->calls++;
    end->counts = *counts;
}

/* Nobody answers there: it waits. */
static void send_to_rest(struct world *w, uint64_t *ids, size_t count)
{
    w->envelope.sender = "sender@servfail.test"; /* reports stay in the queue */
    for (size_t i = 0; i < count; i++)
        ids[i] = world_send(w, "x@down.test");
    WORLD_UNTIL(w, world_why(w, "down.test").kind == WHY_DESTINATION && world_is_quiet(w));
}

static void bounce(struct world *w, const uint64_t *ids, size_t count, struct end *end)
{
    struct queue_target targets[128] = {{0}};

    *end = (struct end){0};
    assert_true(count <= 128);
    for (size_t i = 0; i < count; i++)
        targets[i].id = ids[i];
    deliver_bounce(w->deliver,
                   &(struct deliver_bounce){targets, count, "no customer", on_end, end});
    assert_int_equal(end->calls, 0);
}

TEST(operator, a_bounce_is_a_report_in_place_of_the_message)
{
    struct world *w = *state;
    struct end end;
    uint64_t id;

    send_to_rest(w, &id, 1);
    bounce(w, &id, 1, &end);
    WORLD_UNTIL(w, end.calls == 1);
    assert_int_equal(end.counts.changed, 1);
    assert_int_equal(world_look(w), 1);
    assert_string_equal(w->seen[0].sender, "");
    assert_string_equal(w->seen[0].recipients, "sender@servfail.test;");
    assert_int_equal(world_logged(w, "\"deliver.bounced\"", "\"class\":\"operator\""), 1);
    assert_int_equal(
        world_logged(w, "\"deliver.bounced\"", "bounced by the operator: no customer"), 1);
    assert_int_equal(world_counts(w).failed_by_class[CLASS_OPERATOR], 1);
}

TEST(operator, many_are_bounced_a_few_at_a_time_and_all_are_counted)
{
    struct world *w = *state;
    uint64_t ids[101];
    struct end end;

    send_to_rest(w, ids, 100);
    ids[100] = 999999; /* nobody knows it */
    bounce(w, ids, 101, &end);
    WORLD_UNTIL(w, end.calls == 1);
    assert_int_equal(end.counts.changed, 100);
    assert_int_equal(end.counts.gone, 1);
    assert_int_equal(world_look(w), 100); /* the reports */
    assert_int_equal(world_counts(w).reports_queued, 100);
}

TEST(operator, a_bounce_of_what_is_being_tried_says_busy)
{
    struct world *w = *state;
    struct end end;
    uint64_t id;

    smtp_peer_play(&w->peers[0], "S: <hold>\nS: 220 mx1.test\nS: <serve>\n");
    id = world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    bounce(w, &id, 1, &end);
    WORLD_UNTIL(w, end.calls == 1);
    assert_int_equal(end.counts.busy, 1);
    assert_int_equal(end.counts.changed, 0);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
}

TEST(operator, the_end_of_the_process_leaves_what_was_not_bounced_yet)
{
    struct world *w = *state;
    uint64_t ids[100];
    struct end end;

    send_to_rest(w, ids, 100);
    world_fail_commits(28, 1000); /* ENOSPC: none of them ends */
    bounce(w, ids, 100, &end);
    WORLD_UNTIL(w, w->deliver->settling.count > 0);
    loop_run_for(w->loop, 50);
    (void)deliver_abort(w->deliver);
    world_fail_commits(0, 0);
    assert_int_equal(w->deliver->dismissals.count, 0);
    assert_int_equal(world_look(w), 100);
    for (size_t i = 0; i < 100; i++)
        assert_string_equal(w->seen[i].recipients, "x@down.test;");
}

TEST(operator, a_drain_gives_back_what_was_not_begun_and_says_so)
{
    struct world *w = *state;
    uint64_t ids[100];
    struct end end;

    send_to_rest(w, ids, 100);
    bounce(w, ids, 100, &end);
    deliver_drain(w->deliver, world_on_empty, w);
    WORLD_UNTIL(w, end.calls == 1);
    assert_int_equal(end.counts.changed + end.counts.skipped, 100);
    assert_true(end.counts.skipped > 0);
    assert_int_equal(world_look(w), 100); /* messages, or reports in place of them */
}

/* ---- holds ---- */

static void on_held(void *owner, enum result result, const struct queue_counts *counts)
{
    on_end(owner, result, counts);
    assert_int_equal(counts->changed, 1);
}

static void hold(struct world *w, uint64_t id, int64_t ms)
{
    struct queue_target target = {.id = id};
    struct end end = {0};

    queue_change_start(w->queue,
                       &(struct queue_change){QUEUE_HOLD, &target, 1, on_held, &end,
                                              loop_wall_ms(w->loop) + ms, NULL, NULL});
    WORLD_UNTIL(w, end.calls == 1);
}

TEST(operator, what_is_held_is_not_tried_when_its_destination_is)
{
    struct world *w = *state;
    uint64_t ids[2];

    send_to_rest(w, ids, 2);
    hold(w, ids[0], HOUR_MS);
    deliver_wake(w->deliver, "down.test");
    WORLD_UNTIL(w, world_why(w, "down.test").kind == WHY_DESTINATION && world_is_quiet(w));
    assert_int_equal(world_numbers(w).groups_held, 1);
}

TEST(operator, a_held_message_that_expires_is_reported_and_not_tried)
{
    struct world *w = *state;
    uint64_t id;

    send_to_rest(w, &id, 1);
    hold(w, id, 48 * (int64_t)HOUR_MS);
    /* The index looks again at the expiry, which an operator has made shorter meanwhile. */
    w->queue_settings.expire_ms = 1;
    queue_apply(w->queue, &w->queue_settings);
    hold(w, id, 48 * (int64_t)HOUR_MS);
    deliver_wake(w->deliver, "down.test");
    WORLD_UNTIL(w, world_logged(w, "\"deliver.expired\"", "x@down.test") == 1);
    assert_int_equal(
        world_logged(w, "\"deliver.expired\"", "expired while an operator held it"), 1);
    assert_int_equal(world_counts(w).recipients_expired, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(operator, name)
        T(a_bounce_is_a_report_in_place_of_the_message),
        T(many_are_bounced_a_few_at_a_time_and_all_are_counted),
        T(a_bounce_of_what_is_being_tried_says_busy),
        T(the_end_of_the_process_leaves_what_was_not_bounced_yet),
        T(a_drain_gives_back_what_was_not_begun_and_says_so),
        T(what_is_held_is_not_tried_when_its_destination_is),
        T(a_held_message_that_expires_is_reported_and_not_tried),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
