/* Time and waiting: one event loop, its timers, and work put off to its next turn.
 *
 * Owns      the libuv loop; one uv_timer beneath all of our timers.
 * Promises  every callback of the house runs on the thread of loop_run(). A timer that
 *           fires late fires once. After timer_cancel() or deferred_cancel() its callback
 *           does not run. Timers cost one heap operation each, so a hundred thousand are
 *           fine.
 * Ignores   who waits and why.
 */
#ifndef SMTPD_LOOP_LOOP_H
#define SMTPD_LOOP_LOOP_H

#include "smtpd/base/histogram.h"
#include "smtpd/base/list.h"
#include "smtpd/base/result.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;

typedef void loop_fn(void *owner);

struct loop *loop_new(void);
void loop_free(struct loop *loop); /* every handle of other modules is closed by then */
void loop_run(struct loop *loop);  /* until loop_stop() */
void loop_stop(struct loop *loop);
/* For tests and the start: runs until nothing is ready now, or `ms` passed. */
void loop_run_for(struct loop *loop, int64_t ms);

int64_t loop_now_ms(const struct loop *loop); /* monotonic, of this turn */
/* Time of day in ms: monotonic plus an offset read every 10 s. A step above 60 s is logged
 * once ("loop.clock_stepped"); waits keep their length. */
int64_t loop_wall_ms(const struct loop *loop);
int64_t loop_wall_us(void); /* straight from the clock, for log lines */
int64_t
loop_clock_us(void); /* monotonic, straight from the clock, to measure short times */
uint32_t loop_clock_steps(const struct loop *loop); /* steps above 60 s since the start */

/* Memory of the caller; zero it (or timer_init) before the first use. */
struct timer {
    int64_t due_ms;
    uint32_t heap_index; /* 0: not waiting */
    uint32_t order;
    loop_fn *fn;
    void *owner;
    struct loop *loop;
};
void timer_init(struct timer *timer, struct loop *loop, loop_fn *fn, void *owner);
void timer_start(struct timer *timer, int64_t delay_ms); /* again: moves it */
void timer_cancel(struct timer *timer);
bool timer_is_waiting(const struct timer *timer);

/* Work for the end of this turn of the loop, when all callers have returned: how a failure
 * known at once is still delivered "from the loop, never inside the starting call". What
 * deferred work defers comes in the same turn too, for LOOP_DEFERRED_ROUNDS rounds; then the
 * sockets and timers go first. */
enum { LOOP_DEFERRED_ROUNDS = 3 };
struct deferred {
    struct link link;
    loop_fn *fn;
    void *owner;
};
void loop_defer(struct loop *loop, struct deferred *deferred, loop_fn *fn, void *owner);
void deferred_cancel(struct loop *loop, struct deferred *deferred);

/* Safe from any thread: `fn` runs soon on the loop, once for one or several wakes. */
struct waker;
struct waker *waker_new(struct loop *loop, loop_fn *fn, void *owner);
void waker_free(struct waker *waker); /* on the loop's thread; no callback afterwards */
void waker_wake(struct waker *waker);

/* A descriptor of a foreign library (DNS socket, epoll of the HTTP library). */
enum { WATCH_READABLE = 1, WATCH_WRITABLE = 2 };
struct watch;
struct watch *watch_start(struct loop *loop, int fd, int events, loop_fn *fn, void *owner);
void watch_stop(struct watch *watch); /* before the descriptor is closed */

/* Signals (SIGTERM, SIGHUP, SIGINT). */
typedef void loop_signal_fn(void *owner, int signal_number);
struct signal_watch;
struct signal_watch *signal_watch_start(struct loop *loop, int signal_number,
                                        loop_signal_fn *fn, void *owner);
void signal_watch_stop(struct signal_watch *watch);

/* Loop lag: how late a 10 ms probe timer fires, over the last minute, and since the start.
 */
struct loop_lag {
    int64_t p50_us;
    int64_t p99_us;
    int64_t max_us; /* of the last minute */
    int64_t max_ever_us;
    uint64_t samples;
    struct histogram spread; /* us, since the start */
};
void loop_measure_lag(struct loop *loop); /* starts the probe */
void loop_lag_read(const struct loop *loop, struct loop_lag *lag);

#endif
