/* Leaving: who is told what, in which order, and when it is over. */
#include "server_world.h"

#include <signal.h>

enum { PORT = 2525 };

struct guard {
    struct timer timer;
    struct loop *loop;
    bool has_struck;
};

static void on_guard(void *owner)
{
    struct guard *guard = owner;

    guard->has_struck = true;
    loop_stop(guard->loop);
}

/* Whether the loop leaves by itself; `patience_ms` is for one that does not. */
static bool leaves(struct world *world, int64_t patience_ms)
{
    struct guard guard = {.loop = world->server.loop};

    timer_init(&guard.timer, guard.loop, on_guard, &guard);
    timer_start(&guard.timer, patience_ms);
    loop_run(guard.loop);
    timer_cancel(&guard.timer);
    return !guard.has_struck;
}

struct call {
    struct deferred deferred;
    loop_fn *fn;
    void *owner;
};

static void on_call(void *owner)
{
    struct call *call = owner;

    call->fn(call->owner);
}

/* Lets the loop call it. */
static void call_later(struct world *world, struct call *call, loop_fn *fn)
{
    *call = (struct call){.fn = fn, .owner = world->drain_owner};
    loop_defer(world->server.loop, &call->deferred, on_call, call);
}

static int set_up_grace(void **state)
{
    struct world *world;

    (void)set_up(state);
    world = *state;
    world->server.config = NEW(struct config);
    world->server.config->grace_period_ms = 60000;
    return 0;
}

static void open_listener(struct world *world)
{
    struct config_listen listen = {.mode = MODE_RELAY, .tls = RECEIVE_TLS_NONE};
    struct endpoint endpoint = world_endpoint(world, PORT);
    struct fault fault;

    listen.address = (struct value_list){&endpoint, 1};
    world->server.config->listen = (struct value_list){&listen, 1};
    assert_int_equal(listeners_open(&world->server, world->server.config, &fault),
                     RESULT_OK);
    listeners_apply(&world->server);
    world->server.config->listen = (struct value_list){NULL, 0};
}

TEST(drain, the_first_signal_closes_the_doors_and_asks_both_sides_to_finish)
{
    struct world *world = *state;

    open_listener(world);
    assert_true(world_is_open(world, PORT));
    drain_on_signal(&world->server, SIGTERM);
    assert_true(world->server.is_draining);
    assert_false(world_is_open(world, PORT));
    assert_non_null(world->receive_empty);
    assert_non_null(world->deliver_empty);
    assert_int_equal(world->receive_aborts + world->deliver_aborts, 0);
    assert_false(leaves(world, 30));
}

TEST(drain, it_is_over_when_both_sides_are_empty_in_either_order)
{
    for (int first = 0; first < 2; first++) {
        struct world *world;
        struct call call;

        if (first > 0) {
            (void)tear_down(state);
            (void)set_up_grace(state);
        }
        world = *state;
        drain_on_signal(&world->server, SIGTERM);
        call_later(world, &call, first ? world->receive_empty : world->deliver_empty);
        assert_false(leaves(world, 30));
        call_later(world, &call, first ? world->deliver_empty : world->receive_empty);
        assert_true(leaves(world, WAIT_MS));
        assert_false(timer_is_waiting(&world->server.receive_deadline));
        assert_false(timer_is_waiting(&world->server.deliver_deadline));
        assert_int_equal(world->receive_aborts + world->deliver_aborts, 0);
    }
}

TEST(drain, a_second_signal_leaves_at_once)
{
    struct world *world = *state;

    drain_on_signal(&world->server, SIGTERM);
    assert_false(leaves(world, 30));
    drain_on_signal(&world->server, SIGINT);
    assert_true(leaves(world, WAIT_MS));
    assert_false(timer_is_waiting(&world->server.receive_deadline));
    assert_false(timer_is_waiting(&world->server.deliver_deadline));
}

TEST(drain, sessions_end_before_deliveries_and_both_before_the_grace_period)
{
    static const struct {
        int64_t grace_ms, receive_ms, deliver_ms;
    } rows[] = {{60000, 55000, 58000}, {10001, 5001, 8001}, {10000, 5000, 8000},
                {6000, 3000, 4000},    {4001, 2000, 2001},  {4000, 2000, 2000},
                {1000, 500, 500}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct world *world = *state;
        int64_t now_ms = loop_now_ms(world->server.loop);

        world->server.config->grace_period_ms = rows[i].grace_ms;
        world->server.is_draining = false;
        drain_on_signal(&world->server, SIGTERM);
        assert_int_equal(world->server.receive_deadline.due_ms - now_ms,
                         rows[i].receive_ms);
        assert_int_equal(world->server.deliver_deadline.due_ms - now_ms,
                         rows[i].deliver_ms);
        timer_cancel(&world->server.receive_deadline);
        timer_cancel(&world->server.deliver_deadline);
    }
}

TEST(drain, what_does_not_finish_is_cut_and_then_it_is_over)
{
    struct world *world = *state;

    world->possible_duplicates = 3;
    world->server.config->grace_period_ms = 20;
    drain_on_signal(&world->server, SIGTERM);
    assert_true(leaves(world, WAIT_MS));
    assert_int_equal(world->receive_aborts, 1);
    assert_int_equal(world->deliver_aborts, 1);
    WORLD_UNTIL(world, world_log_has(world, "server.possible_duplicates"));
    assert_true(world_log_has(world, "3 deliveries"));
    assert_true(world_log_has(world, "server.sessions_cut"));
}

TEST(drain, a_side_that_finished_late_does_not_stop_it_twice)
{
    struct world *world = *state;
    struct call call;

    drain_on_signal(&world->server, SIGTERM);
    call_later(world, &call, world->receive_empty);
    assert_false(leaves(world, 30));
    call_later(world, &call, world->receive_empty); /* again: still only one side */
    assert_false(leaves(world, 30));
}

TEST(drain, without_possible_duplicates_none_are_warned_of)
{
    struct world *world = *state;

    world->server.config->grace_period_ms = 20;
    drain_on_signal(&world->server, SIGTERM);
    assert_true(leaves(world, WAIT_MS));
    WORLD_UNTIL(world, world_log_has(world, "server.sessions_cut"));
    log_close(); /* all is written */
    assert_false(world_log_has(world, "server.possible_duplicates"));
}

#define WITH_GRACE(name)                                                                   \
    cmocka_unit_test_setup_teardown(drain_##name, set_up_grace, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_GRACE(the_first_signal_closes_the_doors_and_asks_both_sides_to_finish),
        WITH_GRACE(it_is_over_when_both_sides_are_empty_in_either_order),
        WITH_GRACE(a_second_signal_leaves_at_once),
        WITH_GRACE(sessions_end_before_deliveries_and_both_before_the_grace_period),
        WITH_GRACE(what_does_not_finish_is_cut_and_then_it_is_over),
        WITH_GRACE(a_side_that_finished_late_does_not_stop_it_twice),
        WITH_GRACE(without_possible_duplicates_none_are_warned_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
