/* Timers, deferred work, time of day. Real time, but never more than some tens of ms. */
#include "smtpd/loop/loop.h"

#include "inner.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MANY = 2000 };

struct note {
    struct loop *loop;
    char text[64]; /* what ran, in order */
    int count;
};

struct item {
    struct note *note;
    char name;
    struct timer timer;
    struct deferred deferred;
    struct item *other;
    int again; /* how often it starts itself again */
};

static void note_item(void *owner)
{
    struct item *item = owner;
    struct note *note = item->note;
    size_t length = strlen(note->text);

    note->count++;
    if (length + 1 < sizeof note->text)
        note->text[length] = item->name;
}

static void item_init(struct item *item, struct note *note, char name)
{
    *item = (struct item){.note = note, .name = name};
    timer_init(&item->timer, note->loop, note_item, item);
}

static int set_up(void **state)
{
    struct note *note = NEW(struct note);

    note->loop = loop_new();
    *state = note;
    return 0;
}

static int tear_down(void **state)
{
    struct note *note = *state;

    loop_free(note->loop);
    memory_free(note);
    return 0;
}

/* ---- timers ---- */

static void timers_fire_in_order_of_their_time_then_of_their_start(void **state)
{
    struct note *note = *state;
    struct item items[5];

    for (int i = 0; i < 5; i++)
        item_init(&items[i], note, (char)('a' + i));
    timer_start(&items[0].timer, 20);
    timer_start(&items[1].timer, 10);
    timer_start(&items[2].timer, 10);
    timer_start(&items[3].timer, 0);
    timer_start(&items[4].timer, 10);
    assert_string_equal(note->text, ""); /* never inside the starting call */
    loop_run_for(note->loop, 40);
    assert_string_equal(note->text, "dbcea");
    assert_false(timer_is_waiting(&items[0].timer));
}

static void a_timer_fires_once_and_not_early(void **state)
{
    struct note *note = *state;
    struct item item;
    int64_t start_ms;

    item_init(&item, note, 'a');
    loop_run_for(note->loop, 0);
    start_ms = loop_now_ms(note->loop);
    timer_start(&item.timer, 20);
    assert_true(timer_is_waiting(&item.timer));
    while (note->count == 0)
        loop_run_for(note->loop, 1);
    assert_true(loop_now_ms(note->loop) - start_ms >= 20);
    loop_run_for(note->loop, 30);
    assert_int_equal(note->count, 1);
}

static void a_cancelled_timer_does_not_fire_and_cancelling_again_is_fine(void **state)
{
    struct note *note = *state;
    struct item item;
    struct timer unused = {0};

    item_init(&item, note, 'a');
    timer_start(&item.timer, 5);
    timer_cancel(&item.timer);
    timer_cancel(&item.timer);
    timer_cancel(&unused);
    assert_false(timer_is_waiting(&item.timer));
    loop_run_for(note->loop, 15);
    assert_int_equal(note->count, 0);
}

static void starting_again_moves_a_timer(void **state)
{
    struct note *note = *state;
    struct item a;
    struct item b;

    item_init(&a, note, 'a');
    item_init(&b, note, 'b');
    timer_start(&a.timer, 1);
    timer_start(&b.timer, 10);
    timer_start(&a.timer, 20);
    loop_run_for(note->loop, 35);
    assert_string_equal(note->text, "ba");
    timer_start(&a.timer, 10000);
    timer_start(&a.timer, 1);
    loop_run_for(note->loop, 10);
    assert_string_equal(note->text, "baa");
}

static void cancel_the_other(void *owner)
{
    struct item *item = owner;

    note_item(item);
    timer_cancel(&item->other->timer);
}

static void a_timer_cancelled_by_one_of_the_same_moment_does_not_fire(void **state)
{
    struct note *note = *state;
    struct item a;
    struct item b;

    item_init(&a, note, 'a');
    item_init(&b, note, 'b');
    a.other = &b;
    a.timer.fn = cancel_the_other;
    timer_start(&a.timer, 2);
    timer_start(&b.timer, 2);
    loop_run_for(note->loop, 15);
    assert_string_equal(note->text, "a");
}

static void start_again(void *owner)
{
    struct item *item = owner;

    note_item(item);
    if (item->again-- > 0)
        timer_start(&item->timer, 0);
}

static void a_timer_that_starts_itself_again_at_once_waits_a_turn(void **state)
{
    struct note *note = *state;
    struct item later;
    struct item item;

    item_init(&item, note, 'a');
    item_init(&later, note, 'b');
    item.timer.fn = start_again;
    item.again = 3;
    timer_start(&later.timer, 10000);
    timer_start(&item.timer, 0);
    (void)uv_run(&note->loop->uv, UV_RUN_NOWAIT);
    assert_int_equal(note->count, 1);
    for (int turns = 0; turns < 1000 && note->count < 4; turns++)
        loop_run_for(note->loop, 1);
    loop_run_for(note->loop, 10); /* and no more */
    assert_string_equal(note->text, "aaaa");
    timer_cancel(&later.timer);
}

static void an_overdue_timer_fires_once(void **state)
{
    struct note *note = *state;
    struct timespec block = {0, 30000000};
    struct item item;

    item_init(&item, note, 'a');
    timer_start(&item.timer, 5);
    (void)nanosleep(&block, NULL);
    loop_run_for(note->loop, 10);
    assert_int_equal(note->count, 1);
}

/* The heap against a sorted truth: what is due fires in order, what is cancelled never. */
static int64_t last_due_ms;
static int out_of_order;

static void check_order(void *owner)
{
    struct item *item = owner;

    note_item(item);
    out_of_order += item->timer.due_ms < last_due_ms;
    last_due_ms = item->timer.due_ms;
}

static void thousands_of_timers_started_moved_and_cancelled_keep_their_order(void **state)
{
    struct note *note = *state;
    struct item *items = NEW_ARRAY(struct item, MANY);
    uint32_t seed = 1;
    int waiting = 0;

    last_due_ms = 0;
    out_of_order = 0;
    for (int i = 0; i < MANY; i++) {
        item_init(&items[i], note, 'x');
        items[i].timer.fn = check_order;
    }
    for (int i = 0; i < 10 * MANY; i++) {
        struct item *item;

        seed = seed * 1103515245 + 12345;
        item = &items[(seed >> 8) % MANY];
        if (seed >> 28 < 4)
            timer_cancel(&item->timer);
        else
            timer_start(&item->timer, 5 + (seed >> 20) % 50);
    }
    for (int i = 0; i < MANY; i++)
        waiting += timer_is_waiting(&items[i].timer);
    assert_true(waiting > MANY / 3 && waiting < MANY);
    assert_int_equal(note->loop->timer_count, waiting);
    loop_run_for(note->loop, 100);
    assert_int_equal(note->count, waiting);
    assert_int_equal(out_of_order, 0);
    memory_free(items);
}

/* ---- deferred work ---- */

static void defer_again(void *owner)
{
    struct item *item = owner;

    note_item(item);
    if (item->again-- > 0)
        loop_defer(item->note->loop, &item->deferred, defer_again, item);
}

static void deferred_work_runs_from_the_loop_in_order(void **state)
{
    struct note *note = *state;
    struct item items[3];

    for (int i = 0; i < 3; i++) {
        item_init(&items[i], note, (char)('a' + i));
        loop_defer(note->loop, &items[i].deferred, note_item, &items[i]);
    }
    assert_string_equal(note->text, "");
    loop_run_for(note->loop, 0);
    assert_string_equal(note->text, "abc");
    loop_run_for(note->loop, 5);
    assert_string_equal(note->text, "abc");
}

static void deferring_twice_before_the_turn_runs_once_with_the_last_function(void **state)
{
    struct note *note = *state;
    struct item a;
    struct item b;

    item_init(&a, note, 'a');
    item_init(&b, note, 'b');
    loop_defer(note->loop, &a.deferred, note_item, &a);
    loop_defer(note->loop, &a.deferred, note_item, &b);
    loop_run_for(note->loop, 5);
    assert_string_equal(note->text, "b");
}

static void cancelled_deferred_work_does_not_run(void **state)
{
    struct note *note = *state;
    struct item item;

    item_init(&item, note, 'a');
    loop_defer(note->loop, &item.deferred, note_item, &item);
    deferred_cancel(note->loop, &item.deferred);
    deferred_cancel(note->loop, &item.deferred);
    loop_run_for(note->loop, 5);
    assert_int_equal(note->count, 0);
}

static void
work_that_defers_itself_has_few_rounds_in_a_turn_and_does_not_starve_timers(void **state)
{
    struct note *note = *state;
    struct item item;
    struct item timer;

    item_init(&item, note, 'd');
    item_init(&timer, note, 't');
    item.again = 1 << 30;
    loop_defer(note->loop, &item.deferred, defer_again, &item);
    (void)uv_run(&note->loop->uv, UV_RUN_NOWAIT);
    assert_int_equal(note->count, LOOP_DEFERRED_ROUNDS);
    timer_start(&timer.timer, 5);
    for (int i = 0; i < 100 && timer_is_waiting(&timer.timer); i++)
        loop_run_for(note->loop, 5);
    assert_false(timer_is_waiting(&timer.timer));
    deferred_cancel(note->loop, &item.deferred);
}

static void free_itself(void *owner)
{
    memory_free(owner);
}

static void what_is_still_deferred_at_the_end_runs_before_the_loop_is_freed(void **state)
{
    struct note *note = *state;
    struct item *item = NEW(struct item);

    /* A leak here is found by the sanitizer; tear_down() frees the loop. */
    loop_defer(note->loop, &item->deferred, free_itself, item);
}

/* ---- the loop ---- */

static void stop(void *owner)
{
    loop_stop(owner);
}

static void the_loop_runs_until_it_is_stopped(void **state)
{
    struct note *note = *state;
    struct timer timer;
    int64_t start_ms = loop_now_ms(note->loop);

    timer_init(&timer, note->loop, stop, note->loop);
    timer_start(&timer, 20);
    loop_run(note->loop);
    assert_true(loop_now_ms(note->loop) - start_ms >= 20);
}

static void running_for_a_time_takes_that_time(void **state)
{
    struct note *note = *state;
    uint64_t start_ns = uv_hrtime();

    loop_run_for(note->loop, 30);
    assert_in_range((uv_hrtime() - start_ns) / 1000000, 29, 1000);
    assert_int_equal(note->loop->timer_count, 0);
}

/* ---- time of day ---- */

static void the_time_of_day_is_that_of_the_system(void **state)
{
    struct note *note = *state;
    struct timespec before;
    struct timespec after;

    (void)clock_gettime(CLOCK_REALTIME, &before);
    loop_run_for(note->loop, 1);
    (void)clock_gettime(CLOCK_REALTIME, &after);
    /* The loop's time is that of its turn, in whole milliseconds. */
    assert_in_range(loop_wall_ms(note->loop) + 20, before.tv_sec * 1000,
                    after.tv_sec * 1000 + after.tv_nsec / 1000000 + 40);
    assert_in_range(loop_wall_us(), after.tv_sec * 1000000, INT64_MAX);
}

static void a_step_of_the_clock_is_seen_after_ten_seconds_and_counted_once(void **state)
{
    struct note *note = *state;
    struct loop *loop = note->loop;

    int64_t before_ms = loop_wall_ms(loop);

    /* As if the offset had been read two minutes of wall clock ago, eleven seconds of ours.
     */
    loop->wall_offset_ms -= 120000;
    assert_int_equal(loop_wall_ms(loop), before_ms - 120000);
    assert_int_equal(loop_clock_steps(loop), 0);
    loop->offset_read_ms -= 11000;
    (void)loop_wall_ms(loop);
    assert_int_equal(loop_clock_steps(loop), 1);
    (void)loop_wall_ms(loop);
    assert_int_equal(loop_clock_steps(loop), 1);
    assert_true(loop_wall_ms(loop) - loop_wall_us() / 1000 < 500);
}

static void a_small_step_of_the_clock_is_followed_in_silence(void **state)
{
    struct note *note = *state;

    note->loop->wall_offset_ms += 50000;
    note->loop->offset_read_ms -= 11000;
    assert_true(loop_wall_ms(note->loop) - loop_wall_us() / 1000 < 500);
    assert_int_equal(loop_clock_steps(note->loop), 0);
}

#define RUN_LOOP(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_LOOP(timers_fire_in_order_of_their_time_then_of_their_start),
        RUN_LOOP(a_timer_fires_once_and_not_early),
        RUN_LOOP(a_cancelled_timer_does_not_fire_and_cancelling_again_is_fine),
        RUN_LOOP(starting_again_moves_a_timer),
        RUN_LOOP(a_timer_cancelled_by_one_of_the_same_moment_does_not_fire),
        RUN_LOOP(a_timer_that_starts_itself_again_at_once_waits_a_turn),
        RUN_LOOP(an_overdue_timer_fires_once),
        RUN_LOOP(thousands_of_timers_started_moved_and_cancelled_keep_their_order),
        RUN_LOOP(deferred_work_runs_from_the_loop_in_order),
        RUN_LOOP(deferring_twice_before_the_turn_runs_once_with_the_last_function),
        RUN_LOOP(cancelled_deferred_work_does_not_run),
        RUN_LOOP(
            work_that_defers_itself_has_few_rounds_in_a_turn_and_does_not_starve_timers),
        RUN_LOOP(what_is_still_deferred_at_the_end_runs_before_the_loop_is_freed),
        RUN_LOOP(the_loop_runs_until_it_is_stopped),
        RUN_LOOP(running_for_a_time_takes_that_time),
        RUN_LOOP(the_time_of_day_is_that_of_the_system),
        RUN_LOOP(a_step_of_the_clock_is_seen_after_ten_seconds_and_counted_once),
        RUN_LOOP(a_small_step_of_the_clock_is_followed_in_silence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
