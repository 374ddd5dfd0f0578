/* What operators change: retry now, remove; leased groups are left alone, large removals are cut
 * into transactions, and a change that cannot be written changes nothing. */
#include "queue_world.h"

#include <fcntl.h>
#include <sys/stat.h>

static void on_changed(void *owner, enum result result, const struct queue_counts *counts)
{
    struct world *world = owner;

    world->last = result;
    world->changed = counts->changed;
    world->busy = counts->busy;
    world->gone = counts->gone;
    world->skipped = counts->skipped;
    world->ends++;
}

static enum result change(struct world *world, enum queue_change_kind kind,
                          const uint64_t *ids, size_t count)
{
    struct queue_target targets[64] = {{0}};
    size_t before = world->ends;

    for (size_t i = 0; i < count; i++)
        targets[i].id = ids[i];
    queue_change_start(world->queue,
                       &(struct queue_change){kind, targets, count, on_changed, world,
                                              world->until_ms, NULL, world->lane});
    assert_int_equal(world->ends, before);
    world_wait_above(world, &world->ends, before);
    return world->last;
}

static int64_t wall(const struct world *world)
{
    return loop_wall_ms(world->loop);
}

static void drop(void *owner)
{
    ++*(size_t *)owner;
}

TEST(change, one_that_is_not_told_before_the_end_is_dropped)
{
    struct world *world = *state;
    struct queue_target target = {0};
    size_t drops = 0;
    size_t before;

    target.id = world_send(world, "r@a.test", "x\r\n");
    before = world->ends;
    queue_change_start(world->queue,
                       &(struct queue_change){QUEUE_REMOVE, &target, 1, on_changed, &drops,
                                              0, drop, NULL});
    world_reopen(world); /* the loop did not run */
    assert_int_equal(drops, 1);
    assert_int_equal(world->ends, before);
}

TEST(change, removed_groups_are_gone_and_others_stay)
{
    struct world *world = *state;
    uint64_t ids[3];

    for (int i = 0; i < 3; i++)
        ids[i] = world_send(world, "r@a.test", "x\r\n");
    assert_int_equal(change(world, QUEUE_REMOVE, ids, 2), RESULT_OK);
    assert_int_equal(world->changed, 2);
    assert_int_equal(domain_queue_count(world_lane(world, "a.test")), 1);
    world_reopen(world);
    world_wait_rebuilt(world);
    assert_int_equal(world_numbers(world).groups_waiting, 1);
}

TEST(change, what_is_leased_is_busy_and_what_is_not_there_is_gone)
{
    struct world *world = *state;
    uint64_t ids[2] = {world_send(world, "r@a.test", "x\r\n"), 999999};
    struct lease *lease = world_take(world, "a.test");

    assert_int_equal(change(world, QUEUE_REMOVE, ids, 2), RESULT_OK);
    assert_int_equal(world->changed, 0);
    assert_int_equal(world->busy, 1);
    assert_int_equal(world->gone, 1);
    lease_release(lease);
    assert_int_equal(domain_queue_count(world_lane(world, "a.test")), 1);
}

TEST(change, a_retry_makes_a_waiting_group_due_now)
{
    struct world *world = *state;
    const bool settled[] = {false};
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct settlement later = {.is_settled = settled,
                               .next_attempt_ms = loop_wall_ms(world->loop) + HOUR_MS,
                               .counts_attempt = true};
    struct domain_queue *domain_queue = world_lane(world, "a.test");
    struct queue_entry entry;

    assert_int_equal(world_settle(world, world_take(world, "a.test"), &later), RESULT_OK);
    assert_false(domain_queue_take(domain_queue, &entry));
    world_rest(world, domain_queue);
    assert_int_equal(change(world, QUEUE_RETRY, &id, 1), RESULT_OK);
    assert_int_equal(world->changed, 1);
    {
        struct lease *lease = world_take(world, "a.test");

        assert_int_equal(lease->group.attempts, 1);
        lease_release(lease);
    }
}

TEST(change, large_removals_take_several_commits)
{
    struct world *world = *state;
    const char *const list[] = {"r@a.test", NULL};
    char *body = world_bytes(1500000);
    uint64_t ids[12];
    uint64_t commits;

    for (int i = 0; i < 12; i++)
        assert_int_equal(world_accept(world, list, (struct slice){body, 1500000}, &ids[i]),
                         RESULT_OK);
    commits = world_numbers(world).commits;
    assert_int_equal(change(world, QUEUE_REMOVE, ids, 12), RESULT_OK);
    assert_int_equal(world->changed, 12); /* 18 MB: more than one batch of 8 MiB */
    assert_true(world_numbers(world).commits - commits >= 2);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
    memory_free(body);
}

TEST(change, that_cannot_be_written_changes_nothing)
{
    struct world *world = *state;
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct queue_entry entry;

    world_fail_commits(MDB_MAP_FULL, 2);
    assert_int_equal(change(world, QUEUE_REMOVE, &id, 1), RESULT_NO_SPACE);
    assert_int_equal(world->changed, 0);
    assert_true(domain_queue_take(world_lane(world, "a.test"), &entry));
    domain_queue_give_back(world_lane(world, "a.test"), &entry);
    assert_int_equal(change(world, QUEUE_REMOVE, &id, 1), RESULT_OK);
    assert_int_equal(world->changed, 1);
}

/* ---- other ways ---- */

static size_t count_in(struct world *world, const char *lane)
{
    struct domain_queue *domain_queue = queue_find_domain_queue(world->queue, lane);

    return domain_queue ? domain_queue_count(domain_queue) : 0;
}

TEST(change, a_rerouted_group_waits_in_its_new_lane_also_over_a_restart)
{
    struct world *world = *state;
    uint64_t ids[2] = {world_send(world, "r@a.test", "x\r\n"),
                       world_send(world, "r@a.test", "x\r\n")};

    world->lane = "route:other";
    assert_int_equal(change(world, QUEUE_REROUTE, ids, 1), RESULT_OK);
    assert_int_equal(world->changed, 1);
    for (int i = 0; i < 2; i++) {
        struct domain_queue *there = world_lane(world, "route:other");
        struct queue_entry entry;

        assert_int_equal(count_in(world, "a.test"), 1);
        assert_int_equal(domain_queue_count(there), 1);
        assert_int_equal(world_numbers(world).groups_waiting, 2);
        assert_true(domain_queue_take(there, &entry));
        assert_int_equal(entry.id, ids[0]);
        assert_true(entry.arrival_s > 0);
        domain_queue_give_back(there, &entry);
        world_reopen(world);
        world_wait_rebuilt(world);
    }
    /* It goes that way already. */
    assert_int_equal(change(world, QUEUE_REROUTE, ids, 1), RESULT_OK);
    assert_int_equal(world->skipped, 1);
    assert_int_equal(count_in(world, "route:other"), 1);
}

TEST(change, what_is_rerouted_is_due_at_once_but_held_it_stays_held)
{
    struct world *world = *state;
    uint64_t ids[2] = {world_send(world, "r@a.test", "x\r\n"),
                       world_send(world, "r@b.test", "x\r\n")};
    struct queue_entry entry;

    assert_int_equal(
        world_settle(world, world_take(world, "a.test"),
                     &(struct settlement){.is_settled = (const bool[]){false},
                                          .next_attempt_ms = wall(world) + HOUR_MS}),
        RESULT_OK);
    world->until_ms = wall(world) + HOUR_MS;
    assert_int_equal(change(world, QUEUE_HOLD, &ids[1], 1), RESULT_OK);
    world->lane = "route:other";
    assert_int_equal(change(world, QUEUE_REROUTE, ids, 2), RESULT_OK);
    assert_int_equal(world->changed, 2);
    assert_int_equal(world_numbers(world).groups_held, 1);
    assert_true(domain_queue_take(world_lane(world, "route:other"), &entry));
    assert_int_equal(entry.id, ids[0]);
    assert_false(
        domain_queue_take(queue_find_domain_queue(world->queue, "route:other"), &entry));
}

/* ---- holds ---- */

TEST(change, a_held_group_waits_until_its_hold_ends_also_over_a_restart)
{
    struct world *world = *state;
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct queue_entry entry;

    world->until_ms = wall(world) + HOUR_MS;
    assert_int_equal(change(world, QUEUE_HOLD, &id, 1), RESULT_OK);
    assert_int_equal(world->changed, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(world_numbers(world).groups_held, 1);
        assert_int_equal(world_numbers(world).groups_waiting, 0);
        assert_false(
            domain_queue_take(queue_find_domain_queue(world->queue, "a.test"), &entry));
        world_reopen(world);
        world_wait_rebuilt(world);
    }
    assert_int_equal(change(world, QUEUE_RELEASE, &id, 1), RESULT_OK);
    assert_int_equal(world->changed, 1);
    assert_int_equal(world_numbers(world).groups_held, 0);
    assert_true(domain_queue_take(world_lane(world, "a.test"), &entry));
    assert_int_equal(entry.id, id);
}

TEST(change, a_release_leaves_the_schedule_as_it_was)
{
    struct world *world = *state;
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct lease *lease = world_take(world, "a.test");
    int64_t next_ms = wall(world) + HOUR_MS;
    struct queue_entry entry;

    assert_int_equal(world_settle(world, lease,
                                  &(struct settlement){.is_settled = (const bool[]){false},
                                                       .next_attempt_ms = next_ms}),
                     RESULT_OK);
    world->until_ms = wall(world) + 2 * (int64_t)HOUR_MS;
    assert_int_equal(change(world, QUEUE_HOLD, &id, 1), RESULT_OK);
    assert_int_equal(change(world, QUEUE_RELEASE, &id, 1), RESULT_OK);
    assert_false(domain_queue_take(world_lane(world, "a.test"), &entry));
    assert_int_equal(change(world, QUEUE_RETRY, &id, 1), RESULT_OK);
    assert_true(domain_queue_take(world_lane(world, "a.test"), &entry));
}

TEST(change, a_hold_ends_at_the_expiry_at_the_latest)
{
    struct world *world = *state;
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct queue_entry entry;

    world->settings.expire_ms = 1;
    queue_apply(world->queue, &world->settings);
    world->until_ms = wall(world) + HOUR_MS;
    assert_int_equal(change(world, QUEUE_HOLD, &id, 1), RESULT_OK);
    assert_true(domain_queue_take(world_lane(world, "a.test"), &entry));
    assert_true(entry.is_held);
    domain_queue_give_back(world_lane(world, "a.test"), &entry);
}

TEST(change, a_lease_of_a_held_group_that_is_postponed_waits_for_the_end_of_the_hold)
{
    struct world *world = *state;
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct queue_entry entry;
    struct lease *lease;

    world->settings.expire_ms = 1;
    queue_apply(world->queue, &world->settings);
    world->until_ms = wall(world) + HOUR_MS;
    assert_int_equal(change(world, QUEUE_HOLD, &id, 1), RESULT_OK);
    world->settings.expire_ms = 24 * (int64_t)HOUR_MS; /* it may live longer now */
    queue_apply(world->queue, &world->settings);
    lease = world_take(world, "a.test");
    assert_true(group_is_held(&lease->group, wall(world)));
    lease_postpone(lease);
    assert_int_equal(world_numbers(world).groups_held, 1);
    assert_false(domain_queue_take(world_lane(world, "a.test"), &entry));
}

TEST(change, a_retry_of_what_is_held_and_a_release_of_what_is_not_are_skipped)
{
    struct world *world = *state;
    uint64_t ids[2] = {world_send(world, "r@a.test", "x\r\n"),
                       world_send(world, "r@a.test", "x\r\n")};

    world->until_ms = wall(world) + HOUR_MS;
    assert_int_equal(change(world, QUEUE_HOLD, ids, 1), RESULT_OK);
    assert_int_equal(change(world, QUEUE_RETRY, ids, 2), RESULT_OK);
    assert_int_equal(world->changed, 1);
    assert_int_equal(world->skipped, 1);
    assert_int_equal(world_numbers(world).groups_held, 1);
    assert_int_equal(change(world, QUEUE_RELEASE, ids, 2), RESULT_OK);
    assert_int_equal(world->changed, 1);
    assert_int_equal(world->skipped, 1);
    assert_int_equal(world_numbers(world).groups_waiting, 2);
}

/* ---- the log ---- */

enum { SENT = 250 }; /* recipients of a message: three groups */

struct log_pipe {
    char path[160];
    int fd;
    struct bytes text; /* what was read of it */
};

static void log_pipe_open(const struct world *world, struct log_pipe *pipe)
{
    struct log_settings settings = {
        .output = pipe->path, .level = LOG_INFO, .ring_bytes = 1};
    struct fault fault = {0};

    (void)snprintf(pipe->path, sizeof pipe->path, "%s/log", world->folder);
    assert_int_equal(mkfifo(pipe->path, 0600), 0);
    pipe->fd = open(pipe->path, O_RDWR | O_NONBLOCK);
    assert_true(pipe->fd >= 0);
    bytes_init(&pipe->text, TEXT_MOST);
    assert_int_equal(log_open(&settings, &fault), RESULT_OK);
}

/* Nobody reads: the pipe and the ring are full. */
static void log_pipe_fill(void)
{
    static const struct timespec moment = {.tv_nsec = 20000000};

    for (int tries = 0; tries < 10; tries++) {
        while (log_has_room()) {
            struct log_line line;

            log_start_final(&line, LOG_INFO, "test.filler");
            log_end(&line);
            tries = 0;
        }
        (void)nanosleep(&moment, NULL);
    }
}

static void log_pipe_read(struct log_pipe *pipe)
{
    char piece[65536];
    ssize_t got;

    while ((got = read(pipe->fd, piece, sizeof piece)) > 0)
        assert_int_equal(bytes_add(&pipe->text, (struct slice){piece, (size_t)got}),
                         RESULT_OK);
}

static size_t log_pipe_count(const struct log_pipe *pipe, const char *event)
{
    struct slice text = bytes_view(&pipe->text);
    size_t length = strlen(event);
    size_t count = 0;

    for (size_t at = 0; at + length <= text.length; at++)
        count += memcmp(text.data + at, event, length) == 0;
    return count;
}

/* Nobody reads while the log closes: until nothing has come for half a second. */
static void log_pipe_close(struct log_pipe *pipe)
{
    size_t length = SIZE_MAX;

    for (int quiet_ms = 0; quiet_ms < 500; quiet_ms++) {
        log_pipe_read(pipe);
        if (pipe->text.length != length)
            quiet_ms = 0;
        length = pipe->text.length;
        (void)usleep(1000);
    }
    log_close();
    log_pipe_read(pipe);
    (void)close(pipe->fd);
    (void)unlink(pipe->path);
}

static void send_to_many(struct world *world, struct queue_target *targets)
{
    static char addresses[SENT][64];
    const char *list[SENT + 1] = {NULL};
    uint64_t id = 0;

    for (int i = 0; i < SENT; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "r%d@a.test", i);
        list[i] = addresses[i];
    }
    assert_int_equal(world_accept(world, list, slice_of("x\r\n"), &id), RESULT_OK);
    for (uint32_t i = 0; i < 3; i++)
        targets[i] = (struct queue_target){id, i};
    assert_int_equal(world_numbers(world).groups_waiting % 3, 0);
}

static void remove_start(struct world *world, const struct queue_target *targets,
                         size_t count)
{
    queue_change_start(world->queue, &(struct queue_change){.kind = QUEUE_REMOVE,
                                                            .targets = targets,
                                                            .count = count,
                                                            .on_end = on_changed,
                                                            .owner = world});
}

static void run(const struct world *world, int ms)
{
    for (int i = 0; i < ms; i++)
        loop_run_for(world->loop, 1);
}

TEST(change, a_removal_waits_until_the_log_takes_final_lines)
{
    struct world *world = *state;
    struct log_pipe pipe = {0};
    struct queue_target targets[3];
    size_t before;

    send_to_many(world, targets);
    log_pipe_open(world, &pipe);
    log_pipe_fill();
    before = world->ends;
    remove_start(world, targets, 3);
    run(world, 300);
    assert_int_equal(world->ends, before);
    assert_int_equal(world_numbers(world).groups_waiting, 3);
    /* They are busy for others meanwhile. */
    remove_start(world, targets, 1);
    world_wait_above(world, &world->ends, before);
    assert_int_equal(world->busy, 1);
    for (int ms = 0; ms < WAIT_MS && world->ends < before + 2; ms++) {
        log_pipe_read(&pipe);
        run(world, 1);
    }
    assert_int_equal(world->changed, 3);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
    log_pipe_close(&pipe);
    assert_int_equal(log_pipe_count(&pipe, "queue.removed"), SENT);
    assert_int_equal(log_pipe_count(&pipe, "log.final_lost"), 0);
    bytes_fini(&pipe.text);
}

TEST(change, what_a_removal_tells_never_fills_the_log_above_its_room)
{
    struct world *world = *state;
    struct log_pipe pipe = {0};
    struct queue_target targets[36];
    uint64_t lost = log_final_lost_count();
    size_t before;

    for (size_t i = 0; i < 36; i += 3)
        send_to_many(world, targets + i);
    log_pipe_open(world, &pipe);
    before = world->ends;
    remove_start(world, targets, 36); /* 3,000 lines: twice what pipe and ring hold */
    run(world, 300);
    assert_int_equal(world->ends, before);
    assert_int_equal(log_final_lost_count(), lost);
    for (int ms = 0; ms < WAIT_MS && world->ends == before; ms++) {
        log_pipe_read(&pipe);
        run(world, 1);
    }
    assert_int_equal(world->changed, 36);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
    log_pipe_close(&pipe);
    assert_int_equal(log_final_lost_count(), lost);
    assert_int_equal(log_pipe_count(&pipe, "queue.removed"), 12 * SENT);
    bytes_fini(&pipe.text);
}

TEST(change, what_is_removed_is_told_though_the_queue_closes_meanwhile)
{
    struct world *world = *state;
    struct log_pipe pipe = {0};
    struct queue_target targets[3];

    send_to_many(world, targets);
    log_pipe_open(world, &pipe);
    remove_start(world, targets, 3);
    world_reopen(world); /* the loop did not run: the commit is at the store */
    world_wait_rebuilt(world);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
    log_pipe_close(&pipe);
    assert_int_equal(log_pipe_count(&pipe, "queue.removed"), SENT);
    bytes_fini(&pipe.text);
}

#define CHANGE(name) cmocka_unit_test_setup_teardown(change_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHANGE(one_that_is_not_told_before_the_end_is_dropped),
        CHANGE(removed_groups_are_gone_and_others_stay),
        CHANGE(a_rerouted_group_waits_in_its_new_lane_also_over_a_restart),
        CHANGE(what_is_rerouted_is_due_at_once_but_held_it_stays_held),
        CHANGE(a_held_group_waits_until_its_hold_ends_also_over_a_restart),
        CHANGE(a_release_leaves_the_schedule_as_it_was),
        CHANGE(a_hold_ends_at_the_expiry_at_the_latest),
        CHANGE(a_lease_of_a_held_group_that_is_postponed_waits_for_the_end_of_the_hold),
        CHANGE(a_retry_of_what_is_held_and_a_release_of_what_is_not_are_skipped),
        CHANGE(what_is_leased_is_busy_and_what_is_not_there_is_gone),
        CHANGE(a_retry_makes_a_waiting_group_due_now),
        CHANGE(large_removals_take_several_commits),
        CHANGE(that_cannot_be_written_changes_nothing),
        CHANGE(a_removal_waits_until_the_log_takes_final_lines),
        CHANGE(what_a_removal_tells_never_fills_the_log_above_its_room),
        CHANGE(what_is_removed_is_told_though_the_queue_closes_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
