/* A sliding window: how many in the last hour, in 24 steps.
 *
 * Promises  the sum covers the step that is running and the 24 before it: no span of the
 *           window's length ever holds more than the sum was allowed to be. When the clock
 *           goes back, what was counted stays counted for the window's length.
 * Ignores   limits, clocks: the caller brings both.
 */
#ifndef SMTPD_POLICY_WINDOW_H
#define SMTPD_POLICY_WINDOW_H

#include <stdint.h>

enum { WINDOW_STEPS = 24, WINDOW_COUNTS = WINDOW_STEPS + 1 };

struct window {
    int64_t window_ms;
    int64_t step; /* number of the running step since 1970, or the start */
    uint32_t counts[WINDOW_COUNTS]; /* [0]: the running step, [1] the one before it... */
    int64_t full_step;              /* in which a limit was last reached; 0: never */
};

void window_init(struct window *window, int64_t window_ms, int64_t now_ms);
void window_advance(struct window *window, int64_t now_ms); /* before any of the others */
uint64_t window_sum(const struct window *window);
void window_add(struct window *window, uint32_t count);
/* A limit on it was reached now. */
void window_note_full(struct window *window);
/* How many the running step may hold by now. What was taken in a burst comes free in a burst, and
 * with a limit of 100 a second or more that is a load which others feel: so where such a limit was
 * reached, the next ones come evenly for the length of the window, and stay even from then on.
 * UINT64_MAX: as many as the limit leaves. */
uint64_t window_pace(const struct window *window, uint64_t limit, int64_t now_ms);
/* When the sum will be at most `most`, if nothing is added. */
int64_t window_falls_to_ms(const struct window *window, uint64_t most);
/* When what is counted now will have left. */
int64_t window_forgets_ms(const struct window *window);
/* When everything that is counted will have left. */
int64_t window_empty_ms(const struct window *window);

#endif
