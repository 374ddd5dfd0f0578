/* The inside of struct loop, for the files of this room. */
#ifndef SMTPD_LOOP_INNER_H
#define SMTPD_LOOP_INNER_H

#include "smtpd/loop/loop.h"

#include <uv.h>

struct lag_probe;

struct loop {
    uv_loop_t uv;
    uv_timer_t uv_timer; /* beneath all of ours */
    uv_check_t uv_check; /* runs what was deferred, behind the polling */
    uv_idle_t uv_idle;   /* keeps the polling from waiting while something is deferred */
    struct timer **heap; /* [1..timer_count], earliest first */
    uint32_t timer_count;
    uint32_t heap_capacity;
    uint32_t next_order;
    bool is_running_timers;
    struct list deferred;
    int64_t wall_offset_ms; /* wall minus monotonic */
    int64_t offset_read_ms; /* monotonic */
    uint32_t clock_steps;
    struct lag_probe *lag;
};

void lag_free(struct loop *loop);

#endif
