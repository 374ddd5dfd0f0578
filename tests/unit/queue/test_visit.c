/* Looking at every group: in order of id, to the end or until told to stop, beside what changes. */
#include "queue_world.h"

struct seen {
    uint64_t ids[4096];
    size_t count;
    size_t most; /* stop here; 0: never */
    size_t ends;
    enum result result;
};

static bool on_visit(void *owner, const struct envelope *envelope,
                     const struct group *group)
{
    struct seen *seen = owner;

    assert_true(group->recipient_count > 0);
    seen->ids[seen->count++] = envelope->id;
    return seen->count != seen->most;
}

static void on_end(void *owner, enum result result)
{
    struct seen *seen = owner;

    seen->result = result;
    seen->ends++;
}

static void visit(struct world *world, uint64_t first_id, struct seen *seen)
{
    (void)queue_visit_start(world->queue, first_id, on_visit, on_end, seen);
    assert_int_equal(seen->ends, 0);
    world_wait_above(world, &seen->ends, 0);
}

TEST(visit, sees_every_group_in_order_of_id)
{
    struct world *world = *state;
    struct seen *seen = NEW(struct seen);
    uint64_t second = 0;

    for (int i = 0; i < 30; i++) {
        uint64_t id = world_send(world, "r@a.test", "x\r\n");

        second = i == 1 ? id : second;
    }
    visit(world, 0, seen);
    assert_int_equal(seen->count, 30);
    for (size_t i = 1; i < seen->count; i++)
        assert_true(seen->ids[i] > seen->ids[i - 1]);
    memset(seen, 0, sizeof *seen);
    visit(world, second, seen);
    assert_int_equal(seen->count, 29);
    assert_int_equal(seen->ids[0], second);
    memory_free(seen);
}

TEST(visit, ends_where_it_is_told_to)
{
    struct world *world = *state;
    struct seen *seen = NEW(struct seen);

    for (int i = 0; i < 5; i++)
        (void)world_send(world, "r@a.test", "x\r\n");
    seen->most = 2;
    visit(world, 0, seen);
    assert_int_equal(seen->count, 2);
    assert_int_equal(seen->result, RESULT_OK);
    memory_free(seen);
}

TEST(visit, of_an_empty_queue_ends_well)
{
    struct world *world = *state;
    struct seen *seen = NEW(struct seen);

    visit(world, 0, seen);
    assert_int_equal(seen->count, 0);
    assert_int_equal(seen->result, RESULT_OK);
    memory_free(seen);
}

TEST(visit, cancelled_it_tells_nothing_more)
{
    struct world *world = *state;
    struct seen *seen = NEW(struct seen);

    (void)world_send(world, "r@a.test", "x\r\n");
    queue_visit_cancel(queue_visit_start(world->queue, 0, on_visit, on_end, seen));
    loop_run_for(world->loop, 20);
    assert_int_equal(seen->ends, 0);
    memory_free(seen);
}

#define VISIT(name) cmocka_unit_test_setup_teardown(visit_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VISIT(sees_every_group_in_order_of_id),
        VISIT(ends_where_it_is_told_to),
        VISIT(of_an_empty_queue_ends_well),
        VISIT(cancelled_it_tells_nothing_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
