/* Who reads the queue's file: nobody else finds a place, and whoever stands costs so much growth
 * and no more. */
#include "store_inner.h"

#include "store_world.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { BODY = 20000, ROUNDS = 500, ROUNDS_MOST = 2000 };

static const uint64_t GROWTH = 2 << 20;

/* ---- another process: no test functions in it ---- */

/* Opens the queue as mdb_stat and mdb_copy do, and reads. */
static int read_as_a_stranger(const struct world *world, MDB_txn **txn)
{
    MDB_env *env;
    int code = mdb_env_create(&env);

    if (code == 0)
        code = mdb_env_set_maxdbs(env, STORE_TABLES);
    if (code == 0) /* ThreadSanitizer leaves no room for a second terabyte */
        code = mdb_env_set_mapsize(env, (size_t)1 << 30);
    if (code == 0)
        code = mdb_env_open(env, world->folder, MDB_RDONLY, 0600);
    if (code == 0)
        code = mdb_txn_begin(env, NULL, MDB_RDONLY, txn);
    return code;
}

/* Comes back when it reads; it reads until it is killed. */
static pid_t start_stranger(const struct world *world)
{
    int ends[2];
    int code = -1;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        MDB_txn *txn = NULL;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* of a test that fails */
        code = read_as_a_stranger(world, &txn);
        if (write(ends[1], &code, sizeof code) != sizeof code)
            _exit(1);
        for (;;)
            (void)pause();
    }
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &code, sizeof code), sizeof code);
    (void)close(ends[0]);
    assert_int_equal(code, 0);
    return pid;
}

static void end_stranger(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- growth ---- */

/* Messages come and go, while there is room; with a reader that stands nothing of them is used
 * again. */
static void churn(struct world *world, uint64_t *id, int rounds)
{
    struct slice body = world_bytes(BODY);

    atomic_store(&world->store->patience_us, 0); /* nobody keeps them company */
    for (int i = 0; i < rounds && store_room_bytes(world->store) > 0; i++, ++*id) {
        world->op_count = world->end_count = 0;
        assert_int_equal(world_accept(world, *id, 1, body), RESULT_OK);
        assert_int_equal(world_settle(world, *id, 0), RESULT_OK);
    }
    world_bytes_free(body);
}

static bool room_becomes(struct world *world, bool is_there)
{
    for (int ms = 0; ms < WORLD_WAIT_MS; ms++) {
        if ((store_room_bytes(world->store) > 0) == is_there)
            return true;
        loop_run_for(world->loop, 1);
    }
    return false;
}

/* ---- tests ---- */

static void another_program_finds_no_place_to_read_from(void **state)
{
    struct world *world = *state;
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        MDB_txn *txn = NULL;

        _exit(read_as_a_stranger(world, &txn) == MDB_READERS_FULL ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(world_accept(world, world->first_id, 1, SLICE("body")), RESULT_OK);
    assert_true(world_has_body(world, world->first_id, SLICE("body"))); /* we do */
}

/* What a thread in a page fault of a bad disk looks like. */
static void one_of_ours_that_stands_costs_so_much_growth_and_no_more(void **state)
{
    struct world *world = *state;
    uint64_t id = world->first_id;
    int code;
    MDB_txn *txn = store_reader_take(world->store, &code);

    assert_non_null(txn);
    atomic_store(&world->store->pinned_most_bytes, GROWTH);
    churn(world, &id, ROUNDS_MOST);
    assert_true(room_becomes(world, false));
    assert_true(world_numbers(world).file_bytes > GROWTH);
    /* What makes room is not stopped. */
    world->op_count = world->end_count = 0;
    assert_int_equal(world_settle(world, id, 0), RESULT_OK);
    store_reader_give(world->store, txn);
    assert_true(room_becomes(world, true));
    assert_false(atomic_load(&world->store->is_pinned));
}

static void without_one_that_stands_churn_costs_no_room(void **state)
{
    struct world *world = *state;
    uint64_t id = world->first_id;

    atomic_store(&world->store->pinned_most_bytes, GROWTH);
    churn(world, &id, ROUNDS);
    assert_int_equal(id, world->first_id + ROUNDS);
    assert_true(world_numbers(world).file_bytes < GROWTH);
}

static void one_that_was_there_before_holds_until_it_dies(void **state)
{
    struct world *world = *state;
    uint64_t id;
    pid_t pid;

    assert_int_equal(world_accept(world, world->first_id, 1, SLICE("body")), RESULT_OK);
    world_close(world);
    pid = start_stranger(world);
    world_open(world, 0); /* it warns, and mail is taken */
    id = world->first_id;
    assert_true(store_room_bytes(world->store) > 0);
    atomic_store(&world->store->pinned_most_bytes, GROWTH);
    churn(world, &id, ROUNDS_MOST);
    assert_true(room_becomes(world, false));
    end_stranger(pid); /* it was him; its place in the table stays behind */
    assert_true(room_becomes(world, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_STORE(another_program_finds_no_place_to_read_from),
        RUN_STORE(one_of_ours_that_stands_costs_so_much_growth_and_no_more),
        RUN_STORE(without_one_that_stands_churn_costs_no_room),
        RUN_STORE(one_that_was_there_before_holds_until_it_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
