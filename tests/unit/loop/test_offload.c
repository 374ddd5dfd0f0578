/* Pools: once, from the loop, or never after cancel. A gate holds the pool's threads where
 * a test needs them to stand. */
#include "smtpd/loop/offload.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MANY = 2000, PASSWORD_THREADS = 2, PASSWORD_WAITING = 64 };

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    int inside;
    bool is_open;
};

struct world {
    struct loop *loop;
    struct offload *offload;
    struct gate gate;
    pthread_t loop_thread;
    int ends;
    int wanted_ends;
    int drops;
    _Atomic int runs;
};

struct input {
    struct world *world;
    struct job *job;
    int value;
    int nice_value;
    bool ran_on_loop;
    struct input *other;
};

static int set_up(void **state)
{
    struct world *world = NEW(struct world);

    world->loop = loop_new();
    world->offload = offload_new(world->loop);
    world->loop_thread = pthread_self();
    (void)pthread_mutex_init(&world->gate.lock, NULL);
    (void)pthread_cond_init(&world->gate.moved, NULL);
    *state = world;
    return 0;
}

static void gate_open(struct gate *gate)
{
    (void)pthread_mutex_lock(&gate->lock);
    gate->is_open = true;
    (void)pthread_cond_broadcast(&gate->moved);
    (void)pthread_mutex_unlock(&gate->lock);
}

static int tear_down(void **state)
{
    struct world *world = *state;

    gate_open(&world->gate);
    if (world->offload)
        offload_free(world->offload);
    loop_free(world->loop);
    (void)pthread_mutex_destroy(&world->gate.lock);
    (void)pthread_cond_destroy(&world->gate.moved);
    memory_free(world);
    return 0;
}

/* ---- jobs ---- */

static void run_double(void *argument)
{
    struct input *input = argument;

    input->value *= 2;
    input->ran_on_loop = pthread_equal(pthread_self(), input->world->loop_thread) != 0;
    errno = 0;
    input->nice_value = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    atomic_fetch_add(&input->world->runs, 1);
}

static void run_gated(void *argument)
{
    struct input *input = argument;
    struct gate *gate = &input->world->gate;

    (void)pthread_mutex_lock(&gate->lock);
    gate->inside++;
    (void)pthread_cond_broadcast(&gate->moved);
    while (!gate->is_open)
        (void)pthread_cond_wait(&gate->moved, &gate->lock);
    (void)pthread_mutex_unlock(&gate->lock);
    atomic_fetch_add(&input->world->runs, 1);
}

static void gate_await(struct gate *gate, int inside)
{
    (void)pthread_mutex_lock(&gate->lock);
    while (gate->inside < inside)
        (void)pthread_cond_wait(&gate->moved, &gate->lock);
    (void)pthread_mutex_unlock(&gate->lock);
}

static void on_end(void *owner, void *input)
{
    struct world *world = owner;

    assert_true(pthread_equal(pthread_self(), world->loop_thread));
    assert_ptr_equal(((struct input *)input)->world, world);
    if (++world->ends == world->wanted_ends)
        loop_stop(world->loop);
}

static void on_end_cancel_other(void *owner, void *argument)
{
    struct input *input = argument;

    on_end(owner, argument);
    job_cancel(input->other->job);
}

static void on_drop(void *argument)
{
    struct input *input = argument;

    assert_true(pthread_equal(pthread_self(), input->world->loop_thread));
    input->world->drops++;
}

static enum result start(struct world *world, enum pool_name pool, job_run_fn *run,
                         struct input *input)
{
    input->world = world;
    return job_start(world->offload, pool, run, on_end, on_drop, input, world, &input->job);
}

/* ---- tests ---- */

static void a_job_runs_on_another_thread_and_ends_on_the_loop(void **state)
{
    struct world *world = *state;

    for (int pool = 0; pool < POOL_COUNT; pool++) {
        struct input input = {.value = 21};

        world->wanted_ends = world->ends + 1;
        assert_int_equal(start(world, (enum pool_name)pool, run_double, &input), RESULT_OK);
        assert_int_equal(world->ends, pool); /* never inside job_start() */
        loop_run_for(world->loop, 10000);
        assert_int_equal(world->ends, pool + 1);
        assert_int_equal(input.value, 42);
        assert_false(input.ran_on_loop);
        if (pool != POOL_FILE)
            assert_true(input.nice_value >= 10);
    }
    assert_int_equal(world->drops, 0);
}

static void thousands_of_jobs_end_once_each(void **state)
{
    struct world *world = *state;
    struct input *inputs = NEW_ARRAY(struct input, MANY);

    world->wanted_ends = MANY;
    for (int i = 0; i < MANY; i++) {
        inputs[i].value = i;
        assert_int_equal(
            start(world, i % 2 ? POOL_CRYPTO : POOL_FILE, run_double, &inputs[i]),
            RESULT_OK);
    }
    loop_run_for(world->loop, 30000);
    loop_run_for(world->loop, 5);
    assert_int_equal(world->ends, MANY);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(inputs[i].value, 2 * i);
    memory_free(inputs);
}

static void a_full_pool_refuses_and_starts_nothing(void **state)
{
    struct world *world = *state;
    struct input inputs[PASSWORD_THREADS + PASSWORD_WAITING + 1];
    struct pool_statistics statistics;

    for (int i = 0; i < PASSWORD_THREADS; i++) {
        inputs[i] = (struct input){0};
        assert_int_equal(start(world, POOL_PASSWORD, run_gated, &inputs[i]), RESULT_OK);
    }
    gate_await(&world->gate, PASSWORD_THREADS);
    for (int i = 0; i < PASSWORD_WAITING; i++)
        assert_int_equal(
            start(world, POOL_PASSWORD, run_gated, &inputs[PASSWORD_THREADS + i]),
            RESULT_OK);
    assert_int_equal(start(world, POOL_PASSWORD, run_gated,
                           &inputs[PASSWORD_THREADS + PASSWORD_WAITING]),
                     RESULT_BUSY);
    offload_statistics(world->offload, POOL_PASSWORD, &statistics);
    assert_int_equal(statistics.threads, PASSWORD_THREADS);
    assert_int_equal(statistics.running, PASSWORD_THREADS);
    assert_int_equal(statistics.waiting, PASSWORD_WAITING);
    assert_int_equal(statistics.refused, 1);
    world->wanted_ends = PASSWORD_THREADS + PASSWORD_WAITING;
    gate_open(&world->gate);
    loop_run_for(world->loop, 10000);
    loop_run_for(world->loop, 5);
    assert_int_equal(world->ends, PASSWORD_THREADS + PASSWORD_WAITING);
    assert_int_equal(atomic_load(&world->runs), PASSWORD_THREADS + PASSWORD_WAITING);
    offload_statistics(world->offload, POOL_PASSWORD, &statistics);
    assert_int_equal(statistics.running, 0);
    assert_int_equal(statistics.waiting, 0);
    assert_int_equal(statistics.done, PASSWORD_THREADS + PASSWORD_WAITING);
    assert_true(statistics.wait_us_max > 0);
}

static void one_pool_that_stands_does_not_hold_another(void **state)
{
    struct world *world = *state;
    struct input blocked[PASSWORD_THREADS] = {{0}};
    struct input input = {.value = 1};

    for (int i = 0; i < PASSWORD_THREADS; i++)
        assert_int_equal(start(world, POOL_PASSWORD, run_gated, &blocked[i]), RESULT_OK);
    gate_await(&world->gate, PASSWORD_THREADS);
    world->wanted_ends = 1;
    assert_int_equal(start(world, POOL_CRYPTO, run_double, &input), RESULT_OK);
    loop_run_for(world->loop, 10000);
    assert_int_equal(input.value, 2);
    world->wanted_ends = 1 + PASSWORD_THREADS;
    gate_open(&world->gate);
    loop_run_for(world->loop, 10000);
}

static void a_job_cancelled_while_it_runs_is_dropped_and_not_told(void **state)
{
    struct world *world = *state;
    struct input input = {0};

    assert_int_equal(start(world, POOL_FILE, run_gated, &input), RESULT_OK);
    gate_await(&world->gate, 1);
    job_cancel(input.job);
    assert_int_equal(world->drops, 0); /* it still uses its input */
    gate_open(&world->gate);
    for (int i = 0; i < 1000 && world->drops == 0; i++)
        loop_run_for(world->loop, 5);
    assert_int_equal(world->drops, 1);
    assert_int_equal(world->ends, 0);
}

static void a_job_cancelled_while_it_waits_frees_its_place_and_does_not_run(void **state)
{
    struct world *world = *state;
    struct input running[PASSWORD_THREADS] = {{0}};
    struct input waiting[PASSWORD_WAITING] = {{0}};
    struct input next = {0};

    for (int i = 0; i < PASSWORD_THREADS; i++)
        assert_int_equal(start(world, POOL_PASSWORD, run_gated, &running[i]), RESULT_OK);
    gate_await(&world->gate, PASSWORD_THREADS);
    for (int i = 0; i < PASSWORD_WAITING; i++)
        assert_int_equal(start(world, POOL_PASSWORD, run_gated, &waiting[i]), RESULT_OK);
    assert_int_equal(start(world, POOL_PASSWORD, run_gated, &next), RESULT_BUSY);
    job_cancel(waiting[30].job);
    job_cancel(waiting[30].job);
    assert_int_equal(world->drops, 0); /* from the loop only */
    assert_int_equal(start(world, POOL_PASSWORD, run_gated, &next), RESULT_OK);
    loop_run_for(world->loop, 10);
    assert_int_equal(world->drops, 1);
    world->wanted_ends = PASSWORD_THREADS + PASSWORD_WAITING;
    gate_open(&world->gate);
    loop_run_for(world->loop, 10000);
    loop_run_for(world->loop, 5);
    assert_int_equal(world->ends, PASSWORD_THREADS + PASSWORD_WAITING);
    assert_int_equal(atomic_load(&world->runs), PASSWORD_THREADS + PASSWORD_WAITING);
    assert_int_equal(world->drops, 1);
}

static void a_job_that_has_run_can_still_be_cancelled_by_the_end_of_another(void **state)
{
    struct world *world = *state;
    struct input first = {.world = world};
    struct input second = {.world = world};

    first.other = &second;
    assert_int_equal(job_start(world->offload, POOL_FILE, run_double, on_end_cancel_other,
                               on_drop, &first, world, &first.job),
                     RESULT_OK);
    while (atomic_load(&world->runs) < 1)
        (void)usleep(1000);
    assert_int_equal(start(world, POOL_FILE, run_double, &second), RESULT_OK);
    while (atomic_load(&world->runs) < 2)
        (void)usleep(1000);
    /* Both are done; the loop has heard of neither. The order of their ends is the pool's.
     */
    for (int i = 0; i < 1000 && world->ends + world->drops < 2; i++)
        loop_run_for(world->loop, 5);
    assert_int_equal(world->ends, 1);
    assert_int_equal(world->drops, 1);
}

static void closing_waits_for_what_runs_and_drops_what_waits(void **state)
{
    struct world *world = *state;
    struct input inputs[PASSWORD_THREADS + 5] = {{0}};
    struct gate *gate = &world->gate;

    for (int i = 0; i < PASSWORD_THREADS + 5; i++)
        assert_int_equal(start(world, POOL_PASSWORD, run_gated, &inputs[i]), RESULT_OK);
    gate_await(gate, PASSWORD_THREADS);
    gate_open(gate);
    offload_free(world->offload);
    world->offload = NULL;
    loop_run_for(world->loop, 5);
    assert_int_equal(world->ends, 0);
    assert_int_equal(world->drops, PASSWORD_THREADS + 5);
    assert_true(atomic_load(&world->runs) >= PASSWORD_THREADS);
}

static void drop_is_not_needed(void **state)
{
    struct world *world = *state;
    struct input input = {.world = world};

    assert_int_equal(job_start(world->offload, POOL_FILE, run_double, on_end, NULL, &input,
                               world, &input.job),
                     RESULT_OK);
    job_cancel(input.job);
    offload_free(world->offload);
    world->offload = NULL;
    assert_int_equal(world->ends, 0);
}

#define RUN_WORLD(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_WORLD(a_job_runs_on_another_thread_and_ends_on_the_loop),
        RUN_WORLD(thousands_of_jobs_end_once_each),
        RUN_WORLD(a_full_pool_refuses_and_starts_nothing),
        RUN_WORLD(one_pool_that_stands_does_not_hold_another),
        RUN_WORLD(a_job_cancelled_while_it_runs_is_dropped_and_not_told),
        RUN_WORLD(a_job_cancelled_while_it_waits_frees_its_place_and_does_not_run),
        RUN_WORLD(a_job_that_has_run_can_still_be_cancelled_by_the_end_of_another),
        RUN_WORLD(closing_waits_for_what_runs_and_drops_what_waits),
        RUN_WORLD(drop_is_not_needed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
