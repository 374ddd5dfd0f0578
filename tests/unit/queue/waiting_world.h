/* The index in memory on a loop of our own: its clock moves when a test says so, days in
 * microseconds, and the time of day can step. The functions of loop.h that waiting.c calls
 * stand here in place of the real ones. */
#ifndef SMTPD_TESTS_QUEUE_WAITING_WORLD_H
#define SMTPD_TESTS_QUEUE_WAITING_WORLD_H

#include "waiting.h"

#include "smtpd/base/check.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR };
enum { NOTES = 3000, SIM_TIMERS = 8, STEP_LEAST_MS = 60000 };

/* ---- the loop ---- */

struct loop {
    int64_t now_ms;
    int64_t wall_offset_ms;
    uint32_t steps;
    struct timer *timers[SIM_TIMERS]; /* every one that was initialised */
    size_t timer_count;
    bool is_running;
};

int64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ms;
}

int64_t loop_wall_ms(const struct loop *loop)
{
    return loop->now_ms + loop->wall_offset_ms;
}

uint32_t loop_clock_steps(const struct loop *loop)
{
    return loop->steps;
}

void timer_init(struct timer *timer, struct loop *loop, loop_fn *fn, void *owner)
{
    *timer = (struct timer){.fn = fn, .owner = owner, .loop = loop};
    CHECK(loop->timer_count < SIM_TIMERS);
    loop->timers[loop->timer_count++] = timer;
}

void timer_start(struct timer *timer, int64_t delay_ms)
{
    timer->due_ms = timer->loop->now_ms + (delay_ms > 0 ? delay_ms : 0);
    timer->heap_index = 1;
}

void timer_cancel(struct timer *timer)
{
    timer->heap_index = 0;
}

bool timer_is_waiting(const struct timer *timer)
{
    return timer->heap_index != 0;
}

/* Fires what is due within `ms`, each at its time. */
static void sim_run(struct loop *loop, int64_t ms)
{
    int64_t end_ms = loop->now_ms + ms;

    for (;;) {
        struct timer *first = NULL;

        for (size_t i = 0; i < loop->timer_count; i++) {
            struct timer *timer = loop->timers[i];

            if (timer->heap_index && timer->due_ms <= end_ms &&
                (!first || timer->due_ms < first->due_ms))
                first = timer;
        }
        if (!first)
            break;
        if (first->due_ms > loop->now_ms)
            loop->now_ms = first->due_ms;
        first->heap_index = 0;
        loop->is_running = true;
        first->fn(first->owner);
        loop->is_running = false;
    }
    loop->now_ms = end_ms;
}

/* Somebody sets the time of day; a large step is counted, a small one just followed. */
static inline void sim_step(struct loop *loop, int64_t ms)
{
    loop->wall_offset_ms += ms;
    if (ms > STEP_LEAST_MS || ms < -STEP_LEAST_MS)
        loop->steps++;
}

/* ---- the index and its watcher ---- */

struct world {
    struct loop loop;
    struct waiting *waiting;
    struct domain_queue *due[NOTES]; /* announced, in order */
    int64_t due_ms[NOTES];           /* our clock */
    size_t due_count;
    char gone[64]; /* the lane that was forgotten last */
    size_t gone_count;
    size_t overflow_calls;
    uint64_t next_id;
    int64_t start_ms; /* wall */
};

static void world_on_due(void *owner, struct domain_queue *domain_queue)
{
    struct world *world = owner;

    assert_true(world->loop.is_running); /* from the loop, never inside another call */
    assert_true(world->due_count < NOTES);
    world->due_ms[world->due_count] = world->loop.now_ms;
    world->due[world->due_count++] = domain_queue;
}

static void world_on_gone(void *owner, struct domain_queue *domain_queue)
{
    struct world *world = owner;

    assert_true(world->loop.is_running);
    assert_int_equal(domain_queue_count(domain_queue), 0);
    (void)snprintf(world->gone, sizeof world->gone, "%s", domain_queue_lane(domain_queue));
    world->gone_count++;
}

static inline void world_on_overflow(void *owner)
{
    struct world *world = owner;

    assert_true(world->loop.is_running);
    world->overflow_calls++;
}

static void world_open(struct world *world, size_t most_queues)
{
    *world = (struct world){.loop = {.now_ms = 1000, .wall_offset_ms = 1760000000000}};
    world->next_id = 1;
    world->waiting = waiting_new(&world->loop, NULL, most_queues);
    waiting_set_expire(world->waiting, 5 * (int64_t)DAY);
    waiting_watch(world->waiting, world_on_due, world_on_gone, world);
    sim_run(&world->loop, 0);
    world->start_ms = loop_wall_ms(&world->loop);
}

static int set_up(void **state)
{
    static struct world world;

    world_open(&world, 5000);
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    waiting_free(world->waiting);
    return 0;
}

/* An entry that arrives now and is due in `delay_ms`. */
static struct queue_entry world_entry(struct world *world, int64_t delay_ms)
{
    int64_t now_ms = loop_wall_ms(&world->loop);

    return (struct queue_entry){.id = world->next_id++,
                                .arrival_s = (uint32_t)(now_ms / 1000),
                                .next_attempt_ms = now_ms + delay_ms};
}

static struct domain_queue *world_add_entry(struct world *world, const char *lane,
                                            const struct queue_entry *entry,
                                            bool may_expire)
{
    struct waiting_key key = {lane, NULL, 0, NULL};

    waiting_add(world->waiting, &key, entry, may_expire);
    return waiting_find(world->waiting, &key);
}

static struct domain_queue *world_add(struct world *world, const char *lane,
                                      int64_t delay_ms)
{
    struct queue_entry entry = world_entry(world, delay_ms);

    return world_add_entry(world, lane, &entry, true);
}

static inline struct waiting_numbers world_numbers(const struct world *world)
{
    struct waiting_numbers numbers;

    waiting_read_numbers(world->waiting, &numbers);
    return numbers;
}

/* The id of the entry that is taken; 0: none was due. */
static inline uint64_t world_take(struct domain_queue *domain_queue)
{
    struct queue_entry entry;

    return domain_queue_take(domain_queue, &entry) ? entry.id : 0;
}

static inline uint64_t world_take_expired(struct domain_queue *domain_queue)
{
    struct queue_entry entry;

    return domain_queue_take_expired(domain_queue, &entry) ? entry.id : 0;
}

/* For test_waiting_lease.c. */

static inline struct queue_entry take(struct domain_queue *queue)
{
    struct queue_entry entry;

    assert_true(domain_queue_take(queue, &entry));
    return entry;
}

enum { EXPIRE_DAYS = 5 };

/* An entry of before the start: it arrived `age_ms` ago and is due in an hour. */
static inline struct domain_queue *add_old(struct world *world, int64_t age_ms,
                                           bool may_expire)
{
    struct queue_entry entry = world_entry(world, HOUR);

    entry.arrival_s = (uint32_t)((loop_wall_ms(&world->loop) - age_ms) / 1000);
    return world_add_entry(world, "a.test", &entry, may_expire);
}

static inline void end_change(struct world *world, struct waiting_change *change,
                              enum waiting_change_end end, int64_t next_ms)
{
    struct waiting_changes changes = {(struct waiting_change *const[]){change}, 1,
                                      waiting_find_lane(world->waiting, "a.test")};

    waiting_change_end(world->waiting, &changes, end, next_ms);
}

#define RUN_WAITING(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
