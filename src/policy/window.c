/* Counts per step in an array that moves along: 25 numbers, moved once a step at most. */
#include "window.h"

#include <stdbool.h>
#include <string.h>

enum { PACED_PER_S = 100 };

/* Rounded up, so that 24 of them are no less than the window. */
static int64_t step_ms(const struct window *window)
{
    return (window->window_ms + WINDOW_STEPS - 1) / WINDOW_STEPS;
}

void window_init(struct window *window, int64_t window_ms, int64_t now_ms)
{
    *window = (struct window){.window_ms = window_ms};
    window->step = now_ms / step_ms(window);
}

void window_advance(struct window *window, int64_t now_ms)
{
    int64_t step = now_ms / step_ms(window);
    int64_t by = step - window->step;

    window->step = step;
    if (by >= WINDOW_COUNTS) {
        memset(window->counts, 0, sizeof window->counts);
    } else if (by > 0) {
        memmove(window->counts + by, window->counts,
                (size_t)(WINDOW_COUNTS - by) * sizeof *window->counts);
        memset(window->counts, 0, (size_t)by * sizeof *window->counts);
    }
}

uint64_t window_sum(const struct window *window)
{
    uint64_t sum = 0;

    for (int i = 0; i < WINDOW_COUNTS; i++)
        sum += window->counts[i];
    return sum;
}

void window_add(struct window *window, uint32_t count)
{
    uint32_t room = UINT32_MAX - window->counts[0];

    window->counts[0] += count < room ? count : room;
}

void window_note_full(struct window *window)
{
    window->full_step = window->step;
}

uint64_t window_pace(const struct window *window, uint64_t limit, int64_t now_ms)
{
    int64_t gone_ms = now_ms - window->step * step_ms(window);
    bool was_full =
        window->full_step > 0 && window->step - window->full_step <= WINDOW_COUNTS;

    if (!was_full || limit * 1000 < (uint64_t)window->window_ms * PACED_PER_S)
        return UINT64_MAX;
    if (gone_ms < 0)
        gone_ms = 0;
    return limit * (uint64_t)gone_ms / (uint64_t)window->window_ms + 1;
}

/* The count at `age` leaves when the running step is 25 further than its own. */
static int64_t leaves_ms(const struct window *window, int age)
{
    return (window->step - age + WINDOW_COUNTS) * step_ms(window);
}

int64_t window_falls_to_ms(const struct window *window, uint64_t most)
{
    uint64_t sum = window_sum(window);
    int age = WINDOW_COUNTS;

    while (sum > most && age > 0)
        sum -= window->counts[--age];
    return leaves_ms(window, age);
}

int64_t window_forgets_ms(const struct window *window)
{
    return leaves_ms(window, 0);
}

int64_t window_empty_ms(const struct window *window)
{
    return window_falls_to_ms(window, 0);
}
