/* The time of day in this room. What waits here is told by it, so that words and files can say until
 * when; a wait is a length all the same.
 *
 * Promises  when the time of day steps (loop_clock_steps()), every wait in memory is moved with it, before
 *           anybody compares: a back-off of a minute is one, whatever a clock that is set right says.
 *           Suspensions by operators, days of a warm-up and of reports of TLS, and when these are tried
 *           again, stay: they are times of day.
 */
#ifndef SMTPD_DELIVER_CLOCK_H
#define SMTPD_DELIVER_CLOCK_H

#include <stdint.h>

struct deliver;

void clock_start(struct deliver *deliver); /* all of it is there */
void clock_stop(struct deliver *deliver);  /* and goes */

/* Of a wait that ends at *at_ms (0: there is none; INT64_MAX: never). */
static inline void clock_move(int64_t *at_ms, int64_t by_ms)
{
    if (*at_ms <= 0 || *at_ms == INT64_MAX)
        return;
    if (by_ms > 0 && *at_ms > INT64_MAX - 1 - by_ms)
        *at_ms = INT64_MAX - 1;
    else
        *at_ms = *at_ms + by_ms > 0 ? *at_ms + by_ms : 1;
}

#endif
