/* One uv_timer beneath a heap of our own: a timer is a plain struct that costs no
 * allocation and one heap operation. Deferred work runs once per turn, behind the polling;
 * what it defers in turn waits for the next one, so nothing can starve the sockets. */
#include "smtpd/loop/loop.h"

#include "inner.h"
#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/loop/uv_handle.h"

#include <time.h>

enum {
    OFFSET_AGE_MS = 10000,
    STEP_MS = 60000,
    FIRST_HEAP = 64,

    LAST_TURNS = 1000
};

/* ---- time ---- */

int64_t loop_now_ms(const struct loop *loop)
{
    return (int64_t)uv_now(&loop->uv);
}

int64_t loop_clock_us(void)
{
    return (int64_t)(uv_hrtime() / 1000);
}

int64_t loop_wall_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void read_offset(struct loop *loop)
{
    int64_t now_ms = loop_now_ms(loop);
    int64_t exact_ms = (int64_t)(uv_hrtime() / 1000000);
    int64_t offset_ms = loop_wall_us() / 1000 - exact_ms;
    int64_t step_ms = offset_ms - loop->wall_offset_ms;

    if (loop->offset_read_ms && (step_ms > STEP_MS || step_ms < -STEP_MS)) {
        loop->clock_steps++;
        log_message(LOG_WARNING, "loop.clock_stepped",
                    "the time of day moved by %lld s; waits keep their length",
                    (long long)(step_ms / 1000));
    }
    loop->wall_offset_ms = offset_ms;
    loop->offset_read_ms = now_ms ? now_ms : 1;
}

int64_t loop_wall_ms(const struct loop *loop)
{
    if (loop_now_ms(loop) - loop->offset_read_ms > OFFSET_AGE_MS)
        read_offset((struct loop *)(uintptr_t)loop); /* a cache: logically const */
    return loop_now_ms(loop) + loop->wall_offset_ms;
}

uint32_t loop_clock_steps(const struct loop *loop)
{
    return loop->clock_steps;
}

/* ---- timers ---- */

static bool is_before(const struct timer *a, const struct timer *b)
{
    if (a->due_ms != b->due_ms)
        return a->due_ms < b->due_ms;
    return (int32_t)(a->order - b->order) < 0;
}

static void place(struct loop *loop, uint32_t at, struct timer *timer)
{
    loop->heap[at] = timer;
    timer->heap_index = at;
}

static void sift_up(struct loop *loop, uint32_t at, struct timer *timer)
{
    while (at > 1 && is_before(timer, loop->heap[at / 2])) {
        place(loop, at, loop->heap[at / 2]);
        at /= 2;
    }
    place(loop, at, timer);
}

static void sift_down(struct loop *loop, uint32_t at, struct timer *timer)
{
    for (;;) {
        uint32_t child = at * 2;

        if (child > loop->timer_count)
            break;
        if (child < loop->timer_count &&
            is_before(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!is_before(loop->heap[child], timer))
            break;
        place(loop, at, loop->heap[child]);
        at = child;
    }
    place(loop, at, timer);
}

static void on_uv_timer(uv_timer_t *uv_timer);

static void arm(struct loop *loop, int64_t least_ms)
{
    int64_t delay_ms;

    if (loop->is_running_timers)
        return; /* once, at the end */
    if (loop->timer_count == 0) {
        (void)uv_timer_stop(&loop->uv_timer);
        return;
    }
    delay_ms = loop->heap[1]->due_ms - loop_now_ms(loop);
    if (delay_ms < least_ms)
        delay_ms = least_ms;
    (void)uv_timer_start(&loop->uv_timer, on_uv_timer, (uint64_t)delay_ms, 0);
}

static void take_out(struct loop *loop, struct timer *timer)
{
    uint32_t at = timer->heap_index;
    struct timer *last = loop->heap[loop->timer_count--];

    timer->heap_index = 0;
    if (last == timer)
        return;
    if (at > 1 && is_before(last, loop->heap[at / 2]))
        sift_up(loop, at, last);
    else
        sift_down(loop, at, last);
}

static void on_uv_timer(uv_timer_t *uv_timer)
{
    struct loop *loop = uv_timer->data;
    int64_t now_ms = loop_now_ms(loop);
    uint32_t first_new = loop->next_order;

    loop->is_running_timers = true;
    while (loop->timer_count > 0 && loop->heap[1]->due_ms <= now_ms) {
        struct timer *timer = loop->heap[1];

        /* Started in this turn, and behind it are only such: they wait for the next one. */
        if ((int32_t)(timer->order - first_new) >= 0)
            break;
        take_out(loop, timer);
        timer->fn(timer->owner);
    }
    loop->is_running_timers = false;
    /* Not 0: libuv 1.44 would call us again before it looks at any socket. */
    arm(loop, 1);
}

void timer_init(struct timer *timer, struct loop *loop, loop_fn *fn, void *owner)
{
    *timer = (struct timer){.loop = loop, .fn = fn, .owner = owner};
}

void timer_start(struct timer *timer, int64_t delay_ms)
{
    struct loop *loop = timer->loop;

    CHECK(loop && timer->fn);
    if (timer->heap_index)
        take_out(loop, timer);
    if (loop->timer_count + 1 >= loop->heap_capacity) {
        loop->heap_capacity *= 2;
        loop->heap =
            memory_resize(loop->heap, loop->heap_capacity * sizeof(struct timer *));
    }
    timer->due_ms = loop_now_ms(loop) + (delay_ms > 0 ? delay_ms : 0);
    timer->order = loop->next_order++;
    loop->timer_count++;
    sift_up(loop, loop->timer_count, timer);
    if (timer->heap_index == 1)
        arm(loop, 0);
}

void timer_cancel(struct timer *timer)
{
    if (!timer->heap_index)
        return;
    /* The uv_timer may now fire early, find nothing due, and be armed anew: cheaper than
     * arming at each cancel. */
    take_out(timer->loop, timer);
}

bool timer_is_waiting(const struct timer *timer)
{
    return timer->heap_index != 0;
}

/* ---- deferred work ---- */

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active makes the poll return at once */
}

static void run_deferred(struct loop *loop)
{
    size_t most = loop->deferred.count;

    while (most-- > 0) {
        struct link *link = list_pop_front(&loop->deferred);
        struct deferred *deferred;

        if (!link)
            break;
        deferred = CONTAINER_OF(link, struct deferred, link);
        deferred->fn(deferred->owner);
    }
}

/* What they defer in their turn (a write, its flush) runs at once, without a look at the sockets
 * in between: up to a bound, because a chain may go on for ever. */
static void on_check(uv_check_t *check)
{
    struct loop *loop = check->data;

    for (int round = 0; round < LOOP_DEFERRED_ROUNDS && loop->deferred.count > 0; round++)
        run_deferred(loop);
    if (loop->deferred.count == 0)
        (void)uv_idle_stop(&loop->uv_idle);
}

void loop_defer(struct loop *loop, struct deferred *deferred, loop_fn *fn, void *owner)
{
    if (link_is_in_list(&deferred->link))
        list_remove(&loop->deferred, &deferred->link);
    deferred->fn = fn;
    deferred->owner = owner;
    list_push_back(&loop->deferred, &deferred->link);
    (void)uv_idle_start(&loop->uv_idle, on_idle);
}

void deferred_cancel(struct loop *loop, struct deferred *deferred)
{
    list_remove(&loop->deferred, &deferred->link);
}

/* ---- the loop ---- */

struct loop *loop_new(void)
{
    struct loop *loop = NEW(struct loop);

    CHECK(uv_loop_init(&loop->uv) == 0);
    CHECK(uv_timer_init(&loop->uv, &loop->uv_timer) == 0);
    CHECK(uv_check_init(&loop->uv, &loop->uv_check) == 0);
    CHECK(uv_idle_init(&loop->uv, &loop->uv_idle) == 0);
    loop->uv_timer.data = loop->uv_check.data = loop;
    CHECK(uv_check_start(&loop->uv_check, on_check) == 0);
    list_init(&loop->deferred);
    loop->heap_capacity = FIRST_HEAP;
    loop->heap = NEW_ARRAY(struct timer *, FIRST_HEAP);
    read_offset(loop);
    return loop;
}

void loop_free(struct loop *loop)
{
    /* Much of what is deferred frees something. Bounded: nothing new may start. */
    for (int i = 0; i < LAST_TURNS && loop->deferred.count > 0; i++)
        on_check(&loop->uv_check);
    lag_free(loop);
    uv_close((uv_handle_t *)&loop->uv_timer, NULL);
    uv_close((uv_handle_t *)&loop->uv_check, NULL);
    uv_close((uv_handle_t *)&loop->uv_idle, NULL);
    /* Closing callbacks of other handles free their owners. */
    for (int i = 0; i < LAST_TURNS && uv_loop_close(&loop->uv) == UV_EBUSY; i++)
        (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
    memory_free(loop->heap);
    memory_free(loop);
}

void loop_run(struct loop *loop)
{
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

struct run {
    struct loop *loop;
    struct timer timer;
    struct deferred stop;
};

static void on_turn_over(void *owner)
{
    loop_stop(owner);
}

/* Not at once: libuv from 1.45 on fires timers before the first turn, which would then never
 * come, and with it what was deferred before. */
static void on_time_is_up(void *owner)
{
    struct run *run = owner;

    loop_defer(run->loop, &run->stop, on_turn_over, run->loop);
}

void loop_run_for(struct loop *loop, int64_t ms)
{
    struct run run = {.loop = loop};

    uv_update_time(&loop->uv);
    timer_init(&run.timer, loop, on_time_is_up, &run);
    timer_start(&run.timer, ms);
    loop_run(loop);
    timer_cancel(&run.timer);
    deferred_cancel(loop, &run.stop);
}

void *loop_uv(struct loop *loop)
{
    return &loop->uv;
}
