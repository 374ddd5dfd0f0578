/* Drives state tables: the one place where a machine's state changes.
 *
 * A row is a state: `enter` starts at most one operation and returns; when it ended, its
 * callback stores the result and calls machine_advance(); `done` judges what was stored and
 * names the next state, or MACHINE_WAIT. A row without `done` is an end. A row without
 * `patience_ms` waits for ever.
 *
 * Promises  only moves that the row allows; at most LIMIT_MACHINE_STEPS without waiting
 *           (both are CHECKs). When patience ends, `timed_out` is set and `done` runs: a
 *           time-out is an ordinary result.
 */
#ifndef SMTPD_LOOP_MACHINE_H
#define SMTPD_LOOP_MACHINE_H

#include "smtpd/loop/loop.h"

enum { MACHINE_WAIT = -1, MACHINE_ROWS_MAX = 32, MACHINE_TRACE = 16 };
#define TO(state) (UINT32_C(1) << (state))

struct machine_row {
    const char *name;
    void (*enter)(void *self);
    int (*done)(void *self);
    uint32_t may_follow; /* TO(...) | TO(...) */
    int64_t patience_ms;
};

struct machine {
    const struct machine_row *rows;
    int row_count;
    int state;
    bool timed_out; /* read and reset by `done` through machine_timed_out() */
    bool is_advancing;
    bool advance_again;
    void *self;
    /* Patience by state from the settings; NULL: the rows' own. */
    int64_t (*patience)(void *self, int state, int64_t row_ms);
    struct timer timer;
    uint8_t trace[MACHINE_TRACE];
    uint32_t moves;
};

/* Enters `first`. `rows` outlives the machine. */
void machine_start(struct machine *machine, struct loop *loop,
                   const struct machine_row *rows, int row_count, int first, void *self);
/* May set `patience` between init and start. */
void machine_init(struct machine *machine, struct loop *loop,
                  const struct machine_row *rows, int row_count, void *self);
void machine_begin(struct machine *machine, int first);
void machine_advance(struct machine *machine); /* a result was stored */
void machine_rearm(struct machine *machine);   /* progress without a move: patience anew */
void machine_stop(struct machine *machine);    /* no more calls */
bool machine_timed_out(struct machine *machine);
const char *machine_state_name(const struct machine *machine);
/* For the unit test of each table: NULL when sound, else what is wrong: no holes,
 * successors exist, every state can be reached from `first`, an end exists and can be
 * reached. */
const char *machine_check(const struct machine_row *rows, int row_count, int first);

#endif
