/* Reads on the file pool: run there with the store open, end once on the loop or never
 * after cancel, and wait in line when the pool is full. A gate holds the pool's threads
 * where a test needs them to stand. */
#include "reading.h"

#include "store_world.h"

enum { MANY = 10100 };

struct room {
    struct world *world;
    struct offload *offload;
    struct reading_line *line;
    pthread_t loop_thread;
    pthread_mutex_t gate;
    bool is_shut;
    _Atomic int runs;
    int ends;
    int drops;
    int last_value;
    bool is_starting;
    int gates_passed;
};

struct input {
    struct room *room;
    int value;
    bool ran_on_loop;
    _Atomic int runs;
    char text[5];
    enum result result;
};

static void input_run(struct store *store, void *argument)
{
    struct input *input = argument;
    struct store_piece piece = {.id = 1, .want = 5, .into = input->text};

    input->ran_on_loop = pthread_equal(pthread_self(), input->room->loop_thread);
    atomic_fetch_add(&input->runs, 1);
    atomic_fetch_add(&input->room->runs, 1);
    input->result = store_read_piece(store, &piece);
}

static void input_end(void *owner, void *argument)
{
    struct input *input = argument;
    struct room *room = owner;

    assert_ptr_equal(input->room, room);
    assert_true(pthread_equal(pthread_self(), room->loop_thread));
    assert_false(room->is_starting); /* never inside reading_start() */
    room->ends++;
    room->last_value = input->value;
    if (input->runs > 0) {
        assert_int_equal(input->runs, 1);
        assert_false(input->ran_on_loop);
        assert_int_equal(input->result, RESULT_OK);
        assert_memory_equal(input->text, "hello", 5);
    }
    memory_free(input);
}

static void input_drop(void *argument)
{
    struct input *input = argument;

    assert_true(pthread_equal(pthread_self(), input->room->loop_thread));
    input->room->drops++;
    memory_free(input);
}

static const struct reading_kind kind = {input_run, input_end, input_drop};

static struct reading *start(struct room *room, int value)
{
    struct input *input = NEW(struct input);
    struct reading *reading;

    input->room = room;
    input->value = value;
    room->is_starting = true;
    reading = reading_start(room->line, &kind, input, room);
    room->is_starting = false;
    return reading;
}

static void wait_for(struct room *room, const int *count, int wanted)
{
    for (int ms = 0; ms < WORLD_WAIT_MS && *count < wanted; ms++)
        loop_run_for(room->world->loop, 1);
    assert_int_equal(*count, wanted);
}

/* ---- the gate ---- */

static void gate_run(void *argument)
{
    struct room *room = argument;

    (void)pthread_mutex_lock(&room->gate);
    (void)pthread_mutex_unlock(&room->gate);
}

static void gate_end(void *owner, void *argument)
{
    struct room *room = owner;

    (void)argument;
    room->gates_passed++;
}

static struct pool_statistics statistics(const struct room *room)
{
    struct pool_statistics numbers;

    offload_statistics(room->offload, POOL_FILE, &numbers);
    return numbers;
}

/* Every thread of the pool stands before it. */
static void shut_gate(struct room *room)
{
    unsigned threads = statistics(room).threads;

    (void)pthread_mutex_lock(&room->gate);
    room->is_shut = true;
    for (unsigned i = 0; i < threads; i++)
        assert_int_equal(
            job_start(room->offload, POOL_FILE, gate_run, gate_end, NULL, room, room, NULL),
            RESULT_OK);
    for (int ms = 0; ms < WORLD_WAIT_MS && statistics(room).running < threads; ms++)
        (void)usleep(1000);
    assert_int_equal(statistics(room).running, threads);
}

static void open_gate(struct room *room)
{
    if (room->is_shut)
        (void)pthread_mutex_unlock(&room->gate);
    room->is_shut = false;
}

static int set_up_room(void **state)
{
    static struct room room;

    (void)set_up(state);
    room = (struct room){.world = *state, .loop_thread = pthread_self()};
    (void)pthread_mutex_init(&room.gate, NULL);
    room.offload = offload_new(room.world->loop);
    room.line = reading_line_new(room.world->loop, room.offload, room.world->store);
    assert_int_equal(world_accept(room.world, 1, 1, SLICE("hello")), RESULT_OK);
    *state = &room;
    return 0;
}

static int tear_down_room(void **state)
{
    struct room *room = *state;
    void *world = room->world;

    open_gate(room);
    if (room->line)
        reading_line_free(room->line);
    world_close(room->world);
    offload_free(room->offload);
    (void)pthread_mutex_destroy(&room->gate);
    return tear_down(&world);
}

/* ---- one read ---- */

static void a_read_runs_on_the_pool_and_ends_once_on_the_loop(void **state)
{
    struct room *room = *state;

    (void)start(room, 7);
    wait_for(room, &room->ends, 1);
    assert_int_equal(room->runs, 1);
    assert_int_equal(room->last_value, 7);
    loop_run_for(room->world->loop, 20);
    assert_int_equal(room->ends, 1);
    assert_int_equal(room->drops, 0); /* the input was the owner's again */
}

static void after_cancel_a_read_does_not_end_and_its_input_is_dropped(void **state)
{
    struct room *room = *state;

    reading_cancel(start(room, 1));
    wait_for(room, &room->drops, 1);
    loop_run_for(room->world->loop, 20);
    assert_int_equal(room->ends, 0);
    assert_int_equal(room->drops, 1);
}

static void a_read_that_waits_for_a_thread_is_cancelled_without_a_run(void **state)
{
    struct room *room = *state;
    struct reading *reading;

    shut_gate(room);
    reading = start(room, 1);
    (void)start(room, 2);
    reading_cancel(reading);
    open_gate(room);
    wait_for(room, &room->ends, 1);
    wait_for(room, &room->drops, 1);
    assert_int_equal(room->last_value, 2);
    assert_int_equal(room->runs, 1);
}

/* ---- many ---- */

static void when_the_pool_is_full_reads_wait_in_line_and_all_end(void **state)
{
    struct room *room = *state;
    static struct reading *readings[MANY];

    shut_gate(room);
    for (int i = 0; i < MANY; i++)
        readings[i] = start(room, i);
    assert_true(statistics(room).refused > 0); /* or this proves nothing */
    reading_cancel(readings[0]);               /* at the pool */
    reading_cancel(readings[MANY - 1]);        /* in line */
    reading_cancel(readings[MANY - 2]);
    assert_true(room->drops >= 2); /* the pool never saw those two */
    loop_run_for(room->world->loop, 20);
    assert_int_equal(room->ends, 0);
    open_gate(room);
    wait_for(room, &room->ends, MANY - 3);
    wait_for(room, &room->drops, 3);
    assert_int_equal(room->runs, MANY - 3);
}

static void a_new_read_does_not_overtake_those_in_line(void **state)
{
    struct room *room = *state;
    struct reading *first;
    unsigned waiting;

    shut_gate(room);
    first = start(room, 0);
    for (int i = 1; i < MANY; i++)
        (void)start(room, i);
    assert_true(statistics(room).refused > 0);
    reading_cancel(first); /* the pool has room for one */
    waiting = statistics(room).waiting;
    (void)start(room, MANY);
    assert_int_equal(statistics(room).waiting, waiting);
    open_gate(room);
    wait_for(room, &room->ends, MANY);
}

/* ---- the end ---- */

static void freeing_the_line_cancels_what_is_left(void **state)
{
    struct room *room = *state;

    shut_gate(room);
    for (int i = 0; i < 100; i++)
        (void)start(room, i);
    reading_line_free(room->line);
    room->line = NULL;
    open_gate(room);
    wait_for(room, &room->drops, 100);
    loop_run_for(room->world->loop, 20);
    assert_int_equal(room->ends, 0);
}

static void freeing_the_line_drops_those_that_wait_in_it(void **state)
{
    struct room *room = *state;

    shut_gate(room);
    for (int i = 0; i < MANY; i++)
        (void)start(room, i);
    assert_true(statistics(room).refused > 0);
    reading_line_free(room->line);
    room->line = NULL;
    assert_true(room->drops > 0);
    open_gate(room);
    wait_for(room, &room->drops, MANY);
    assert_int_equal(room->ends, 0);
}

/* The pools are drained behind the queue: a job finds its store closed. */
static void a_job_that_runs_behind_the_store_reads_nothing(void **state)
{
    struct room *room = *state;

    shut_gate(room);
    (void)start(room, 1);
    world_close(room->world);
    open_gate(room);
    wait_for(room, &room->ends, 1);
    assert_int_equal(room->runs, 0);
}

#define RUN_READING(name) cmocka_unit_test_setup_teardown(name, set_up_room, tear_down_room)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_READING(a_read_runs_on_the_pool_and_ends_once_on_the_loop),
        RUN_READING(after_cancel_a_read_does_not_end_and_its_input_is_dropped),
        RUN_READING(a_read_that_waits_for_a_thread_is_cancelled_without_a_run),
        RUN_READING(when_the_pool_is_full_reads_wait_in_line_and_all_end),
        RUN_READING(a_new_read_does_not_overtake_those_in_line),
        RUN_READING(freeing_the_line_cancels_what_is_left),
        RUN_READING(freeing_the_line_drops_those_that_wait_in_it),
        RUN_READING(a_job_that_runs_behind_the_store_reads_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
