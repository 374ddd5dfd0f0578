/* What did not become mail leaves the store, and on a full disk it is tried until it does. */
#include "queue_world.h"

static void wait_left(struct world *world, size_t count)
{
    for (int ms = 0; ms < WAIT_MS && world->queue->drops.count < count; ms++)
        loop_run_for(world->loop, 1);
    assert_int_equal(world->queue->drops.count, count);
    assert_int_equal(world->queue->operations.count, 0);
    assert_true(timer_is_waiting(&world->queue->drop_again));
}

/* No room for anything, until world_fail_commits(0, 0). */
static void discard_on_a_full_disk(struct world *world, struct draft **drafts, size_t count)
{
    world_fail_commits(ENOSPC, 1000000);
    for (size_t i = 0; i < count; i++)
        draft_discard(drafts[i]);
    wait_left(world, count);
    assert_false(queue_is_broken(world->queue));
    assert_int_equal(world_rows(world, world->queue->store->draft), count);
}

TEST(drop, that_does_not_fit_is_tried_again)
{
    struct world *world = *state;
    struct draft *draft = world_streamed(world);

    discard_on_a_full_disk(world, &draft, 1);
    timer_start(&world->queue->drop_again,
                0); /* the time is over, the disk is full still */
    for (int ms = 0; ms < WAIT_MS && world->queue->drops.count > 0; ms++)
        loop_run_for(world->loop, 1);
    wait_left(world, 1);
    world_fail_commits(0, 0);
    timer_start(&world->queue->drop_again, 0);
    world_wait_no_rows(world, world->queue->store->draft);
    world_wait_no_rows(world, world->queue->store->body);
    assert_int_equal(world->queue->drops.count, 0);
}

TEST(drop, one_that_went_makes_way_for_the_next)
{
    struct world *world = *state;
    struct draft *drafts[3];

    for (size_t i = 0; i < 3; i++)
        drafts[i] = world_streamed(world);
    discard_on_a_full_disk(world, drafts, 3);
    world_fail_commits(0, 0);
    timer_start(&world->queue->drop_again, 0);
    world_wait_no_rows(world, world->queue->store->draft);
    world_wait_no_rows(world, world->queue->store->body);
    assert_int_equal(world->queue->drops.count, 0);
}

TEST(drop, what_is_left_at_the_end_goes_at_the_next_start)
{
    struct world *world = *state;
    struct draft *draft = world_streamed(world);

    discard_on_a_full_disk(world, &draft, 1);
    world_close(world);
    world_fail_commits(0, 0);
    world_open(world);
    assert_int_equal(world_rows(world, world->queue->store->draft), 0);
    assert_int_equal(world_rows(world, world->queue->store->body), 0);
}

#define DROP(name) cmocka_unit_test_setup_teardown(drop_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DROP(that_does_not_fit_is_tried_again),
        DROP(one_that_went_makes_way_for_the_next),
        DROP(what_is_left_at_the_end_goes_at_the_next_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
