/* Leases by id: whatever the time of a group is, and never twice. */
#include "queue_world.h"

#define TAKE(name) cmocka_unit_test_setup_teardown(take_##name, set_up, tear_down)

enum { TAKEN_MOST = 8 };

struct taken {
    struct world *world;
    struct lease *leases[TAKEN_MOST];
    struct queue_counts counts;
    unsigned calls;
};

static void on_taken(void *owner, struct lease *const *leases,
                     const struct queue_counts *counts)
{
    struct taken *taken = owner;

    assert_true(counts->changed <= TAKEN_MOST);
    for (size_t i = 0; i < counts->changed; i++)
        taken->leases[i] = leases[i];
    taken->counts = *counts;
    taken->calls++;
    taken->world->ends++;
}

static void take(struct world *world, const uint64_t *ids, size_t count,
                 struct taken *taken)
{
    struct queue_target targets[TAKEN_MOST] = {{0}};
    size_t before = world->ends;

    *taken = (struct taken){.world = world};
    for (size_t i = 0; i < count; i++)
        targets[i].id = ids[i];
    (void)queue_take_start(world->queue, targets, count, on_taken, taken);
    assert_int_equal(world->ends, before);
    world_wait_above(world, &world->ends, before);
}

/* It was deferred for an hour. */
static uint64_t send_later(struct world *world, const char *lane)
{
    char address[64];
    uint64_t id;
    struct settlement settlement = {.is_settled = (const bool[]){false}};

    (void)snprintf(address, sizeof address, "r@%s", lane);
    id = world_send(world, address, "x\r\n");
    settlement.next_attempt_ms = loop_wall_ms(world->loop) + HOUR_MS;
    assert_int_equal(world_settle(world, world_take(world, lane), &settlement), RESULT_OK);
    return id;
}

TEST(take, groups_are_leased_whatever_their_time_and_their_domain_is)
{
    struct world *world = *state;
    uint64_t ids[3] = {send_later(world, "a.test"), send_later(world, "b.test"),
                       world_send(world, "r@a.test", "x\r\n")};
    struct taken taken;

    take(world, ids, 3, &taken);
    assert_int_equal(taken.counts.changed, 3);
    assert_int_equal(world_numbers(world).groups_leased, 3);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(taken.leases[i]->envelope.id, ids[i]);
        assert_string_equal(taken.leases[i]->group.recipients[0].address,
                            i == 1 ? "r@b.test" : "r@a.test");
    }
    assert_int_equal(world_finish(world, taken.leases[0]), RESULT_OK);
    lease_release(taken.leases[1]); /* as it was: later */
    lease_release(taken.leases[2]);
    assert_int_equal(world_numbers(world).groups_waiting, 2);
    assert_int_equal(domain_queue_due_count(world_lane(world, "b.test"), 9), 0);
    assert_int_equal(domain_queue_due_count(world_lane(world, "a.test"), 9), 1);
}

TEST(take, what_is_leased_is_busy_and_what_is_not_there_is_gone)
{
    struct world *world = *state;
    uint64_t ids[3] = {world_send(world, "r@a.test", "x\r\n"), 999999, 0};
    struct lease *lease = world_take(world, "a.test");
    struct taken taken;

    take(world, ids, 2, &taken);
    assert_int_equal(taken.counts.changed, 0);
    assert_int_equal(taken.counts.busy, 1);
    assert_int_equal(taken.counts.gone, 1);
    take(world, ids, 1, &taken); /* nothing to read at all */
    assert_int_equal(taken.counts.busy, 1);
    lease_release(lease);
    take(world, ids, 1, &taken);
    assert_int_equal(taken.counts.changed, 1);
    lease_release(taken.leases[0]);
}

TEST(take, what_is_being_taken_is_leased_by_nobody_else)
{
    struct world *world = *state;
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct taken taken = {.world = world};
    struct queue_target target = {.id = id};
    struct queue_entry entry;
    size_t before = world->ends;

    (void)queue_take_start(world->queue, &target, 1, on_taken, &taken);
    assert_false(domain_queue_take(world_lane(world, "a.test"), &entry));
    world_wait_above(world, &world->ends, before);
    assert_int_equal(taken.counts.changed, 1);
    assert_int_equal(world_finish(world, taken.leases[0]), RESULT_OK);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
}

TEST(take, one_that_is_cancelled_leaves_everything_as_it_was)
{
    struct world *world = *state;
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct taken taken = {.world = world};
    struct queue_target target = {.id = id};
    struct queue_entry entry;
    struct queue_take *begun = queue_take_start(world->queue, &target, 1, on_taken, &taken);

    assert_false(domain_queue_take(world_lane(world, "a.test"), &entry)); /* stands aside */
    queue_take_cancel(begun);
    assert_true(domain_queue_take(world_lane(world, "a.test"), &entry));
    domain_queue_give_back(world_lane(world, "a.test"), &entry);
    (void)send_later(world, "b.test");
    assert_int_equal(taken.calls, 0);
}

TEST(take, a_queue_that_is_closed_gives_up_what_is_being_taken)
{
    struct world *world = *state;
    struct taken taken = {.world = world};
    struct queue_target target = {.id = world_send(world, "r@a.test", "x\r\n")};

    (void)queue_take_start(world->queue, &target, 1, on_taken, &taken);
    world_reopen(world);
    world_wait_rebuilt(world);
    assert_int_equal(world_numbers(world).groups_waiting, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TAKE(groups_are_leased_whatever_their_time_and_their_domain_is),
        TAKE(what_is_leased_is_busy_and_what_is_not_there_is_gone),
        TAKE(what_is_being_taken_is_leased_by_nobody_else),
        TAKE(one_that_is_cancelled_leaves_everything_as_it_was),
        TAKE(a_queue_that_is_closed_gives_up_what_is_being_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
