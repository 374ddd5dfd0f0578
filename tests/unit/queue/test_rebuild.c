/* The index after a start: every group is there with its time, mail is taken meanwhile, and a
 * record that cannot be read is left alone and hides nothing else. */
#include "queue_world.h"
#include "waiting_inner.h"

TEST(rebuild, finds_more_groups_than_one_batch_reads)
{
    struct world *world = *state;
    enum { MESSAGES = 1200 };
    struct envelope envelope = {.sender = "", .arrival_ms = loop_wall_ms(world->loop)};
    struct recipient recipients[2] = {{.address = "r@a.test"}, {.address = "r@b.test"}};
    struct submission submission = {&envelope, WORLD_HEADER, recipients, 2};

    for (int i = 0; i < MESSAGES; i++)
        (void)draft_commit(queue_draft_open(world->queue, world_on_room, world),
                           &submission, world_on_end, world);
    world_wait_above(world, &world->ends, MESSAGES - 1);
    world_reopen(world);
    world_wait_rebuilt(world);
    assert_int_equal(world_numbers(world).rebuilt_groups, 2 * MESSAGES);
    assert_int_equal(domain_queue_count(world_lane(world, "a.test")), MESSAGES);
    assert_int_equal(domain_queue_count(world_lane(world, "b.test")), MESSAGES);
}

/* mdb_cursor_get() stands here, in front of the library's: a scan may fail half-way. */
static _Atomic int steps_to_failure;

int mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *data, MDB_cursor_op op)
{
    int (*get)(MDB_cursor *, MDB_val *, MDB_val *, MDB_cursor_op) = NULL;

    if (op == MDB_NEXT && atomic_load(&steps_to_failure) > 0 &&
        atomic_fetch_sub(&steps_to_failure, 1) == 1)
        return EIO;
    *(void **)&get = dlsym(RTLD_NEXT, "mdb_cursor_get");
    return get(cursor, key, data, op);
}

/* Two entries of one group would be two attempts at a time: the message comes twice. */
TEST(rebuild, a_scan_that_failed_half_way_puts_nothing_in_twice)
{
    struct world *world = *state;

    for (int i = 0; i < 10; i++)
        (void)world_send(world, "r@a.test", "x\r\n");
    world_close(world);
    atomic_store(&steps_to_failure, 5);
    world_open(world);
    world_wait_rebuilt(world);
    assert_int_equal(atomic_load(&steps_to_failure), 0);
    assert_int_equal(domain_queue_count(world_lane(world, "a.test")), 10);
    assert_int_equal(world_numbers(world).rebuilt_groups, 10);
}

/* And mdb_get(): a record may not be readable for a while. */
static _Atomic int gets_to_fail;

int mdb_get(MDB_txn *txn, MDB_dbi table, MDB_val *key, MDB_val *data)
{
    int (*get)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *) = NULL;

    if (atomic_load(&gets_to_fail) > 0 && atomic_fetch_sub(&gets_to_fail, 1) > 0)
        return EIO;
    *(void **)&get = dlsym(RTLD_NEXT, "mdb_get");
    return get(txn, table, key, data);
}

static void look_at_the_overflow(struct world *world)
{
    rebuild_overflow(world->queue);
    assert_int_equal(world->queue->waiting->overflow.count, 0); /* all of them are read */
    for (int ms = 0; ms < WAIT_MS && world_numbers(world).groups_waiting < 3; ms++)
        loop_run_for(world->loop, 1);
    assert_int_equal(world_numbers(world).groups_waiting, 3);
}

TEST(rebuild, what_the_disk_refuses_stays_in_the_overflow)
{
    struct world *world = *state;
    struct waiting *waiting = world->queue->waiting;
    size_t most = waiting->most_queues;
    struct queue_entry entry;

    waiting_on_overflow(waiting, NULL, NULL); /* when the test says so */
    waiting->most_queues = 0;                 /* as if all of them were there */
    for (int i = 0; i < 3; i++)
        (void)world_send(world, "r@a.test", "x\r\n");
    assert_int_equal(waiting->overflow.count, 3);
    waiting->most_queues = most;
    atomic_store(&gets_to_fail, 2);
    look_at_the_overflow(world);
    assert_int_equal(atomic_load(&gets_to_fail), 0);
    assert_int_equal(waiting->overflow.count, 2);
    look_at_the_overflow(world); /* the disk is well again */
    assert_int_equal(waiting->overflow.count, 0);
    for (int i = 0; i < 3; i++) /* they are due as before */
        assert_true(domain_queue_take(world_lane(world, "a.test"), &entry));
}

TEST(rebuild, does_not_count_mail_that_came_while_it_ran)
{
    struct world *world = *state;

    (void)world_send(world, "old@a.test", "x\r\n");
    world_reopen(world);
    (void)world_send(world, "new@a.test", "x\r\n");
    world_wait_rebuilt(world);
    assert_int_equal(world_numbers(world).rebuilt_groups, 1);
    assert_int_equal(domain_queue_count(world_lane(world, "a.test")), 2);
}

TEST(rebuild, keeps_the_time_of_the_next_attempt)
{
    struct world *world = *state;
    const bool settled[] = {false};
    struct settlement later = {.is_settled = settled,
                               .next_attempt_ms = loop_wall_ms(world->loop) + HOUR_MS};

    (void)world_send(world, "r@a.test", "x\r\n");
    assert_int_equal(world_settle(world, world_take(world, "a.test"), &later), RESULT_OK);
    world_reopen(world);
    world_wait_rebuilt(world);
    loop_run_for(world->loop, 20);
    assert_int_equal(world_numbers(world).groups_waiting, 1);
    assert_int_equal(world->due_count, 0);
}

/* The clock was two years ahead when it was written, and was put right since. */
TEST(rebuild, nothing_waits_longer_than_the_longest_retry)
{
    struct world *world = *state;
    const bool settled[] = {false};
    struct settlement later = {.is_settled = settled,
                               .next_attempt_ms =
                                   loop_wall_ms(world->loop) + 2 * 8760 * (int64_t)HOUR_MS};
    struct queue_entry entry;

    world->settings.retry_ms[0] = 100;
    (void)world_send(world, "r@a.test", "x\r\n");
    assert_int_equal(world_settle(world, world_take(world, "a.test"), &later), RESULT_OK);
    world_reopen(world);
    world_wait_rebuilt(world);
    assert_true(domain_queue_take(world_lane(world, "a.test"), &entry)); /* it is due */
}

TEST(rebuild, a_record_that_cannot_be_read_hides_no_other)
{
    struct world *world = *state;
    uint64_t bad = world_send(world, "bad@a.test", "x\r\n");
    struct store_group_key text = store_key(bad, 0);
    MDB_val key = {sizeof text.text, text.text};
    char nonsense[] = "nonsense";
    MDB_val data = {sizeof nonsense, nonsense};
    MDB_txn *txn;

    (void)world_send(world, "good@b.test", "x\r\n");
    assert_int_equal(mdb_txn_begin(world->queue->store->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, world->queue->store->group, &key, &data, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    world_reopen(world);
    world_wait_rebuilt(world);
    assert_int_equal(world_numbers(world).groups_waiting, 1);
    lease_release(world_take(world, "b.test"));
}

TEST(rebuild, what_was_read_before_a_change_is_read_again_and_counted_once)
{
    struct world *world = *state;

    for (int i = 0; i < 5; i++)
        (void)world_send(world, "r@a.test", "x\r\n");
    world_reopen(world);
    rebuild_changed(world->queue); /* the first batch is on its way */
    world_wait_rebuilt(world);
    assert_int_equal(world_numbers(world).groups_waiting, 5);
    assert_int_equal(world_numbers(world).rebuilt_groups, 5);
    rebuild_changed(world->queue);
    assert_int_equal(world_numbers(world).groups_waiting, 5);
}

TEST(rebuild, knows_what_it_has_not_come_to)
{
    struct world *world = *state;
    uint64_t before = world_send(world, "r@a.test", "x\r\n");
    uint64_t after;

    world_reopen(world);
    assert_false(queue_is_indexed(world->queue, before));
    after = world_send(world, "r@a.test", "x\r\n");
    assert_true(queue_is_indexed(world->queue, after));
    world_wait_rebuilt(world);
    assert_true(queue_is_indexed(world->queue, before));
}

#define REBUILD(name) cmocka_unit_test_setup_teardown(rebuild_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        REBUILD(finds_more_groups_than_one_batch_reads),
        REBUILD(a_scan_that_failed_half_way_puts_nothing_in_twice),
        REBUILD(what_the_disk_refuses_stays_in_the_overflow),
        REBUILD(does_not_count_mail_that_came_while_it_ran),
        REBUILD(keeps_the_time_of_the_next_attempt),
        REBUILD(nothing_waits_longer_than_the_longest_retry),
        REBUILD(what_was_read_before_a_change_is_read_again_and_counted_once),
        REBUILD(knows_what_it_has_not_come_to),
        REBUILD(a_record_that_cannot_be_read_hides_no_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
