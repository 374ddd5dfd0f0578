/* The driver of state tables, with a small machine of its own:
 *
 *   [start] -> [work] -> [end]
 *      |          '-> [start]
 *      '-> [end]
 */
#include "smtpd/loop/machine.h"

#include "inner.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum state { START, WORK, END, STATES };

struct self {
    struct loop *loop;
    struct machine machine;
    char text[64]; /* S W E: entered; s w: done asked */
    int next;      /* what `done` answers */
    int next_after_timeout;
    bool saw_timeout;
    bool advances_in_enter;
    bool stops_in_done;
    int advances_in_done;
};

static void note(struct self *self, char what)
{
    size_t length = strlen(self->text);

    if (length + 1 < sizeof self->text)
        self->text[length] = what;
}

static void start_enter(void *owner)
{
    struct self *self = owner;

    note(self, 'S');
    if (self->advances_in_enter)
        machine_advance(&self->machine);
}

static void work_enter(void *owner)
{
    note(owner, 'W');
}

static void end_enter(void *owner)
{
    note(owner, 'E');
}

static int judge(struct self *self, char what)
{
    note(self, what);
    if (self->stops_in_done)
        machine_stop(&self->machine);
    if (self->advances_in_done-- > 0)
        machine_advance(&self->machine);
    if (machine_timed_out(&self->machine)) {
        self->saw_timeout = true;
        return self->next_after_timeout;
    }
    return self->next;
}

static int start_done(void *owner)
{
    return judge(owner, 's');
}

static int work_done(void *owner)
{
    return judge(owner, 'w');
}

/* clang-format off */
static const struct machine_row rows[] = {
    [START] = {"start", start_enter, start_done, TO(WORK) | TO(END),   0},
    [WORK]  = {"work",  work_enter,  work_done,  TO(START) | TO(END), 20},
    [END]   = {"end",   end_enter,   NULL,       0,                    0},
};
/* clang-format on */

static int set_up(void **state)
{
    struct self *self = NEW(struct self);

    self->loop = loop_new();
    self->next = MACHINE_WAIT;
    self->next_after_timeout = MACHINE_WAIT;
    *state = self;
    return 0;
}

static int tear_down(void **state)
{
    struct self *self = *state;

    machine_stop(&self->machine);
    loop_free(self->loop);
    memory_free(self);
    return 0;
}

static void begin(struct self *self)
{
    machine_start(&self->machine, self->loop, rows, STATES, START, self);
}

static void go(struct self *self, int next)
{
    self->next = next;
    machine_advance(&self->machine);
    self->next = MACHINE_WAIT;
}

/* ---- driving ---- */

static void a_state_is_entered_and_judged_when_a_result_is_stored(void **state)
{
    struct self *self = *state;

    begin(self);
    assert_string_equal(self->text, "S");
    assert_string_equal(machine_state_name(&self->machine), "start");
    machine_advance(&self->machine);
    assert_string_equal(self->text, "Ss");
    go(self, WORK);
    assert_string_equal(self->text, "SssW");
    assert_string_equal(machine_state_name(&self->machine), "work");
    go(self, END);
    assert_string_equal(self->text, "SssWwE");
    machine_advance(&self->machine); /* an end is not judged */
    assert_string_equal(self->text, "SssWwE");
}

static void a_result_known_in_enter_is_judged_after_enter(void **state)
{
    struct self *self = *state;

    self->advances_in_enter = true;
    self->next = END;
    begin(self);
    assert_string_equal(self->text, "SsE");
}

static void a_result_stored_during_done_is_judged_once_more(void **state)
{
    struct self *self = *state;

    begin(self);
    self->advances_in_done = 2;
    machine_advance(&self->machine);
    assert_string_equal(self->text, "Ssss");
}

static void a_stopped_machine_makes_no_more_calls(void **state)
{
    struct self *self = *state;

    begin(self);
    go(self, WORK);
    machine_stop(&self->machine);
    machine_advance(&self->machine);
    machine_rearm(&self->machine);
    loop_run_for(self->loop, 40);
    assert_string_equal(self->text, "SsW");
    assert_string_equal(machine_state_name(&self->machine), "stopped");
}

static void a_machine_may_be_stopped_in_done(void **state)
{
    struct self *self = *state;

    begin(self);
    self->stops_in_done = true;
    go(self, WORK);
    assert_string_equal(self->text, "Ss");
    assert_string_equal(machine_state_name(&self->machine), "stopped");
}

/* ---- patience ---- */

static void when_patience_ends_done_sees_a_time_out_once(void **state)
{
    struct self *self = *state;

    begin(self);
    go(self, WORK);
    self->next_after_timeout = END;
    assert_string_equal(self->text, "SsW");
    for (int ms = 0; ms < 5000 && !self->saw_timeout; ms++)
        loop_run_for(self->loop, 1);
    assert_true(self->saw_timeout);
    assert_string_equal(self->text, "SsWwE");
    assert_false(machine_timed_out(&self->machine));
}

static void a_state_without_patience_waits_for_ever(void **state)
{
    struct self *self = *state;

    begin(self);
    go(self, WORK);
    go(self, START);
    loop_run_for(self->loop, 50); /* nor does the patience of [work] follow it here */
    assert_string_equal(self->text, "SsWwS");
    assert_false(self->saw_timeout);
}

static void progress_gives_patience_anew(void **state)
{
    struct self *self = *state;
    int64_t due_ms;
    int64_t start_ms;

    begin(self);
    go(self, WORK);
    self->next_after_timeout = END;
    due_ms = self->machine.timer.due_ms;
    (void)usleep(10000);
    uv_update_time(&self->loop->uv); /* time has passed, and no timer ran */
    start_ms = loop_now_ms(self->loop);
    machine_rearm(&self->machine);
    assert_int_equal(self->machine.timer.due_ms, start_ms + 20);
    assert_true(self->machine.timer.due_ms > due_ms);
    while (!self->saw_timeout && loop_now_ms(self->loop) - start_ms < 5000)
        loop_run_for(self->loop, 1);
    assert_true(self->saw_timeout);
    assert_in_range(loop_now_ms(self->loop) - start_ms, 20, 4000);
}

static int64_t patience(void *owner, int state, int64_t row_ms)
{
    (void)owner;
    assert_int_equal(row_ms, rows[state].patience_ms);
    return state == START ? 5 : 0;
}

static void patience_may_come_from_the_settings(void **state)
{
    struct self *self = *state;

    self->next_after_timeout = WORK;
    machine_init(&self->machine, self->loop, rows, STATES, self);
    self->machine.patience = patience;
    machine_begin(&self->machine, START);
    loop_run_for(self->loop, 60);
    assert_string_equal(self->text, "SsW"); /* [work] now has none */
}

/* ---- what is our fault ---- */

static void walk_wrong(struct self *self, int next, int advances)
{
    self->advances_in_done = advances;
    go(self, next);
}

/* The child's words; it must have aborted. */
static void assert_aborts(struct self *self, int next, int advances, const char *says)
{
    char said[1024];
    int ends[2];
    int status = 0;
    size_t length = 0;
    ssize_t got;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(ends[1], STDERR_FILENO);
        walk_wrong(self, next, advances);
        _exit(0);
    }
    (void)close(ends[1]);
    while ((got = read(ends[0], said + length, sizeof said - 1 - length)) > 0)
        length += (size_t)got;
    said[length] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(said, says));
}

static void a_move_that_the_row_forbids_aborts_and_shows_the_way(void **state)
{
    struct self *self = *state;

    begin(self);
    go(self, WORK);
    assert_aborts(self, WORK, 0, "work may not be followed by 1; the way here: start work");
    assert_aborts(self, 31, 0, "work may not be followed by 31");
    assert_aborts(self, 40, 0, "work may not be followed by 40");
    assert_aborts(self, -2, 0, "work may not be followed by -2");
}

static void too_many_steps_without_waiting_abort(void **state)
{
    struct self *self = *state;

    begin(self);
    self->advances_in_done = LIMIT_MACHINE_STEPS - 1;
    machine_advance(&self->machine);
    assert_aborts(self, MACHINE_WAIT, LIMIT_MACHINE_STEPS, "LIMIT_MACHINE_STEPS");
}

/* ---- machine_check ---- */

static int never(void *owner)
{
    (void)owner;
    return MACHINE_WAIT;
}

static void check_finds_the_table_of_this_test_sound(void **state)
{
    (void)state;
    assert_null(machine_check(rows, STATES, START));
}

static void check_names_what_is_wrong_with_a_table(void **state)
{
    /* clang-format off */
    static const struct machine_row hole[] = {
        {"a", NULL, never, TO(1), 0}, {NULL, NULL, NULL, 0, 0}};
    static const struct machine_row outside[] = {
        {"a", NULL, never, TO(1) | TO(2), 0}, {"b", NULL, NULL, 0, 0}};
    static const struct machine_row dead[] = {
        {"a", NULL, never, TO(1) | TO(2), 0}, {"b", NULL, never, 0, 0}, {"c", NULL, NULL, 0, 0}};
    static const struct machine_row circle[] = {
        {"a", NULL, never, TO(1) | TO(2), 0}, {"b", NULL, never, TO(1), 0},
        {"c", NULL, NULL, 0, 0}};
    static const struct machine_row island[] = {
        {"a", NULL, never, TO(1), 0}, {"b", NULL, NULL, 0, 0}, {"c", NULL, never, TO(1), 0}};
    static const struct machine_row after_end[] = {
        {"a", NULL, never, TO(1), 0}, {"b", NULL, NULL, TO(0), 0}};
    /* clang-format on */

    (void)state;
    assert_string_equal(machine_check(hole, 2, 0), "a hole in the table");
    assert_string_equal(machine_check(outside, 2, 0), "a successor that does not exist");
    assert_string_equal(machine_check(dead, 3, 0),
                        "a state that nothing may follow, and is no end");
    assert_string_equal(machine_check(circle, 3, 0),
                        "a state from which no end can be reached");
    assert_string_equal(machine_check(island, 3, 0), "a state that cannot be reached");
    assert_string_equal(machine_check(after_end, 2, 0), "an end that something may follow");
    assert_string_equal(machine_check(rows, 0, 0), "too many rows, or none");
    assert_string_equal(machine_check(rows, MACHINE_ROWS_MAX + 1, 0),
                        "too many rows, or none");
    assert_string_equal(machine_check(rows, STATES, STATES),
                        "a first state that does not exist");
}

static void check_takes_a_table_with_every_row_in_use(void **state)
{
    static struct machine_row full[MACHINE_ROWS_MAX];

    (void)state;
    for (int i = 0; i < MACHINE_ROWS_MAX; i++)
        full[i] = (struct machine_row){"x", NULL, never, TO((i + 1) % MACHINE_ROWS_MAX), 0};
    full[MACHINE_ROWS_MAX - 1] = (struct machine_row){"end", NULL, NULL, 0, 0};
    assert_null(machine_check(full, MACHINE_ROWS_MAX, 0));
}

#define RUN_SELF(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_SELF(a_state_is_entered_and_judged_when_a_result_is_stored),
        RUN_SELF(a_result_known_in_enter_is_judged_after_enter),
        RUN_SELF(a_result_stored_during_done_is_judged_once_more),
        RUN_SELF(a_stopped_machine_makes_no_more_calls),
        RUN_SELF(a_machine_may_be_stopped_in_done),
        RUN_SELF(when_patience_ends_done_sees_a_time_out_once),
        RUN_SELF(a_state_without_patience_waits_for_ever),
        RUN_SELF(progress_gives_patience_anew),
        RUN_SELF(patience_may_come_from_the_settings),
        RUN_SELF(a_move_that_the_row_forbids_aborts_and_shows_the_way),
        RUN_SELF(too_many_steps_without_waiting_abort),
        cmocka_unit_test(check_finds_the_table_of_this_test_sound),
        cmocka_unit_test(check_names_what_is_wrong_with_a_table),
        cmocka_unit_test(check_takes_a_table_with_every_row_in_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
