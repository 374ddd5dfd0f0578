/* The door as a whole: the lock, room, domain queues, expiry, and an end in the middle of work. */
#include "queue_world.h"

TEST(queue, one_folder_has_one_queue)
{
    struct world *world = *state;
    struct queue *second = NULL;
    struct fault fault = {0};

    assert_int_equal(
        queue_open(world->loop, world->offload, &world->settings, &second, &fault),
        RESULT_BUSY);
    assert_non_null(strstr(fault.text, world->folder));
}

TEST(queue, below_the_minimum_of_free_space_there_is_no_room)
{
    struct world *world = *state;

    assert_int_equal(queue_has_room(world->queue), RESULT_OK);
    assert_true(world_numbers(world).has_room);
    world->settings.min_free_space_bytes = UINT64_MAX;
    queue_apply(world->queue, &world->settings);
    assert_int_equal(queue_has_room(world->queue), RESULT_NO_SPACE);
    assert_false(world_numbers(world).has_room);
    world->settings.min_free_space_bytes = 0;
    queue_apply(world->queue, &world->settings);
    assert_int_equal(queue_has_room(world->queue), RESULT_OK);
}

/* A limit that cannot be raised: sessions that had their yes, and reports, still find ids. */
TEST(queue, there_is_no_room_while_there_are_ids_for_every_session)
{
    struct world *world = *state;
    uint64_t last = 0;

    world_fail_commits(EDQUOT, 1000000);
    while (queue_has_room(world->queue) == RESULT_OK)
        last = queue_next_id(world->queue);
    assert_int_equal(queue_has_room(world->queue), RESULT_NO_SPACE);
    for (int i = 0; i < 30000; i++)
        assert_int_equal(queue_next_id(world->queue), ++last);
    world_fail_commits(0, 0);
}

TEST(queue, a_resting_lane_is_due_again_not_before_its_time_unless_woken)
{
    struct world *world = *state;
    struct domain_queue *domain_queue;

    (void)world_send(world, "r@a.test", "x\r\n");
    domain_queue = world_lane(world, "a.test");
    world->due_count = 0;
    domain_queue_rest(domain_queue, loop_wall_ms(world->loop) + HOUR_MS);
    loop_run_for(world->loop, 20);
    assert_int_equal(world->due_count, 0);
    (void)world_send(world, "r2@a.test", "x\r\n"); /* new mail waits too */
    loop_run_for(world->loop, 20);
    assert_int_equal(world->due_count, 0);
    domain_queue_wake(domain_queue);
    assert_ptr_equal(world_lane(world, "a.test"), domain_queue);
    assert_int_equal(domain_queue_due_count(domain_queue, 10), 2);
    assert_int_equal(domain_queue_due_count(domain_queue, 1), 1);
}

TEST(queue, what_came_too_long_ago_is_taken_as_expired)
{
    struct world *world = *state;
    struct envelope envelope = {
        .sender = "", .arrival_ms = loop_wall_ms(world->loop) - 2 * (int64_t)HOUR_MS};
    struct recipient recipient = {.address = "r@a.test"};
    struct submission submission = {&envelope, WORLD_HEADER, &recipient, 1};
    struct domain_queue *domain_queue;
    struct queue_entry entry;

    (void)draft_commit(queue_draft_open(world->queue, world_on_room, world), &submission,
                       world_on_end, world);
    domain_queue = world_lane(world, "a.test");
    assert_false(domain_queue_take_expired(domain_queue, &entry));
    world->settings.expire_ms = HOUR_MS;
    queue_apply(world->queue, &world->settings);
    assert_true(domain_queue_take_expired(domain_queue, &entry));
    assert_int_equal(entry.arrival_s, envelope.arrival_ms / 1000);
    domain_queue_give_back(domain_queue, &entry);
}

TEST(queue, nothing_expires_untried_right_after_a_start)
{
    struct world *world = *state;
    struct envelope envelope = {
        .sender = "", .arrival_ms = loop_wall_ms(world->loop) - 2 * (int64_t)HOUR_MS};
    struct recipient recipient = {.address = "r@a.test"};
    struct submission submission = {&envelope, WORLD_HEADER, &recipient, 1};
    struct queue_entry entry;

    (void)draft_commit(queue_draft_open(world->queue, world_on_room, world), &submission,
                       world_on_end, world);
    world_wait_above(world, &world->ends, 0);
    world->settings.expire_ms = HOUR_MS;
    world_reopen(world);
    assert_false(domain_queue_take_expired(world_lane(world, "a.test"), &entry));
}

TEST(queue, numbers_say_what_is_there)
{
    struct world *world = *state;
    struct queue_statistics numbers;

    (void)world_send(world, "r@a.test", "x\r\n");
    (void)world_send(world, "r@b.test", "x\r\n");
    numbers = world_numbers(world);
    assert_int_equal(numbers.groups_waiting, 2);
    assert_int_equal(numbers.domain_queues, 2);
    assert_int_equal(numbers.messages_committed, 2);
    assert_true(numbers.commits >= 1 && numbers.commits <= 4);
    assert_true(numbers.oldest_ms > 0);
    assert_non_null(queue_find_domain_queue(world->queue, "a.test"));
    assert_null(queue_find_domain_queue(world->queue, "c.test"));
}

TEST(queue, is_closed_in_the_middle_of_everything)
{
    struct world *world = *state;
    struct envelope envelope = {.sender = "", .arrival_ms = loop_wall_ms(world->loop)};
    struct recipient recipient = {.address = "r@c.test"};
    struct submission submission = {&envelope, WORLD_HEADER, &recipient, 1};
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);
    char *body = world_bytes(500000);
    struct queue_entry entry;
    struct body_reader *reader;
    struct lease *lease;
    struct world_text text = {0};

    (void)world_send(world, "r@a.test", "x\r\n");
    (void)world_send(world, "r@b.test", "x\r\n");
    lease = world_take(world, "a.test");
    bytes_init(&text.bytes, TEXT_MOST);
    assert_int_equal(body_reader_open(world->queue, &lease->envelope, &reader), RESULT_OK);
    body_reader_next(reader, world_on_piece, &text);
    assert_true(domain_queue_take(world_lane(world, "b.test"), &entry));
    (void)queue_lease_load(world_lane(world, "b.test"), &entry, world_on_lease, world);
    assert_int_equal(draft_write(draft, (struct slice){body, 500000}), RESULT_AGAIN);
    (void)draft_commit(queue_draft_open(world->queue, world_on_room, world), &submission,
                       world_on_end, world);
    world->ends = 0;
    world_close(world); /* what was submitted is committed, nobody is told */
    assert_int_equal(world->ends, 0);
    assert_int_equal(text.ends, 0);
    bytes_fini(&text.bytes);
    world_open(world);
    world_wait_rebuilt(world);
    assert_int_equal(world_numbers(world).groups_waiting, 3);
    memory_free(body);
}

#define QUEUE(name) cmocka_unit_test_setup_teardown(queue_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE(one_folder_has_one_queue),
        QUEUE(below_the_minimum_of_free_space_there_is_no_room),
        QUEUE(there_is_no_room_while_there_are_ids_for_every_session),
        QUEUE(a_resting_lane_is_due_again_not_before_its_time_unless_woken),
        QUEUE(what_came_too_long_ago_is_taken_as_expired),
        QUEUE(nothing_expires_untried_right_after_a_start),
        QUEUE(numbers_say_what_is_there),
        QUEUE(is_closed_in_the_middle_of_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
