/* The driver of state tables: see machine.h. */
#include "smtpd/loop/machine.h"

#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"

#include <stdio.h>

static void on_patience(void *owner)
{
    struct machine *machine = owner;

    machine->timed_out = true;
    machine_advance(machine);
}

void machine_init(struct machine *machine, struct loop *loop,
                  const struct machine_row *rows, int row_count, void *self)
{
    CHECK(row_count > 0 && row_count <= MACHINE_ROWS_MAX);
    *machine =
        (struct machine){.rows = rows, .row_count = row_count, .state = -1, .self = self};
    timer_init(&machine->timer, loop, on_patience, machine);
}

static void arm(struct machine *machine)
{
    int64_t ms = machine->rows[machine->state].patience_ms;

    if (machine->patience)
        ms = machine->patience(machine->self, machine->state, ms);
    if (ms > 0)
        timer_start(&machine->timer, ms);
    else
        timer_cancel(&machine->timer);
}

static void enter(struct machine *machine, int state)
{
    CHECK(state >= 0 && state < machine->row_count);
    machine->state = state;
    machine->timed_out = false;
    machine->trace[machine->moves++ % MACHINE_TRACE] = (uint8_t)state;
    arm(machine);
    if (machine->rows[state].enter)
        machine->rows[state].enter(machine->self);
}

void machine_begin(struct machine *machine, int first)
{
    CHECK(machine->state == -1);
    /* What `enter` learns at once is judged like any other result. */
    machine->is_advancing = true;
    enter(machine, first);
    machine->is_advancing = false;
    if (machine->advance_again)
        machine_advance(machine);
}

/* NOLINTNEXTLINE(readability-function-size): the door has more than five parameters */
void machine_start(struct machine *machine, struct loop *loop,
                   const struct machine_row *rows, int row_count, int first, void *self)
{
    machine_init(machine, loop, rows, row_count, self);
    machine_begin(machine, first);
}

/* A move that the row forbids is ours to mend: say how the machine came here, then end. */
static void check_move(const struct machine *machine, int next)
{
    const struct machine_row *row = &machine->rows[machine->state];
    bool is_allowed = next >= 0 && next < machine->row_count && row->may_follow & TO(next);
    uint32_t first = machine->moves > MACHINE_TRACE ? machine->moves - MACHINE_TRACE : 0;

    if (is_allowed)
        return;
    (void)fprintf(stderr, "smtpd: %s may not be followed by %d; the way here:", row->name,
                  next);
    for (uint32_t i = first; i < machine->moves; i++)
        (void)fprintf(stderr, " %s", machine->rows[machine->trace[i % MACHINE_TRACE]].name);
    (void)fprintf(stderr, "\n");
    CHECK(is_allowed);
}

/* An advance from inside `enter` or `done` is taken up when they have returned. */
void machine_advance(struct machine *machine)
{
    if (machine->is_advancing) {
        machine->advance_again = true;
        return;
    }
    machine->is_advancing = true;
    for (int steps = 0;; steps++) {
        const struct machine_row *row;
        int next;

        CHECK(steps < LIMIT_MACHINE_STEPS);
        machine->advance_again = false;
        if (machine->state < 0 || !machine->rows[machine->state].done)
            break;
        row = &machine->rows[machine->state];
        next = row->done(machine->self);
        if (machine->state < 0)
            break; /* stopped in `done` */
        if (next != MACHINE_WAIT) {
            check_move(machine, next);
            enter(machine, next);
        }
        if (!machine->advance_again)
            break;
    }
    machine->is_advancing = false;
}

void machine_rearm(struct machine *machine)
{
    if (machine->state >= 0)
        arm(machine);
}

void machine_stop(struct machine *machine)
{
    timer_cancel(&machine->timer);
    machine->state = -1;
    machine->advance_again = false;
}

bool machine_timed_out(struct machine *machine)
{
    bool timed_out = machine->timed_out;

    machine->timed_out = false;
    return timed_out;
}

const char *machine_state_name(const struct machine *machine)
{
    return machine->state < 0 ? "stopped" : machine->rows[machine->state].name;
}

/* ---- the check of a table ---- */

static bool spread(const struct machine_row *rows, int row_count, uint32_t *reached)
{
    uint32_t before = *reached;

    for (int i = 0; i < row_count; i++)
        if (*reached & TO(i))
            *reached |= rows[i].may_follow;
    return *reached != before;
}

static bool can_end(const struct machine_row *rows, int row_count, int from)
{
    uint32_t reached = TO(from);

    while (spread(rows, row_count, &reached))
        ;
    for (int i = 0; i < row_count; i++)
        if (reached & TO(i) && !rows[i].done)
            return true;
    return false;
}

static const char *check_row(const struct machine_row *rows, int row_count, int at)
{
    const struct machine_row *row = &rows[at];

    if (!row->name)
        return "a hole in the table";
    if (row_count < MACHINE_ROWS_MAX && row->may_follow >> row_count)
        return "a successor that does not exist";
    if (row->done && !row->may_follow)
        return "a state that nothing may follow, and is no end";
    if (!row->done && row->may_follow)
        return "an end that something may follow";
    return can_end(rows, row_count, at) ? NULL : "a state from which no end can be reached";
}

const char *machine_check(const struct machine_row *rows, int row_count, int first)
{
    uint32_t reached;

    if (row_count <= 0 || row_count > MACHINE_ROWS_MAX)
        return "too many rows, or none";
    if (first < 0 || first >= row_count)
        return "a first state that does not exist";
    for (int i = 0; i < row_count; i++) {
        const char *wrong = check_row(rows, row_count, i);

        if (wrong)
            return wrong;
    }
    reached = TO(first);
    while (spread(rows, row_count, &reached))
        ;
    for (int i = 0; i < row_count; i++)
        if (!(reached & TO(i)))
            return "a state that cannot be reached";
    return NULL;
}
