/* The users file is read when it changed, and only then. */
#include "users_watch.h"

#include "smtpd/base/log.h"
#include "smtpd/base/secure.h"
#include "users_folder.h"

struct world {
    struct users_folder users;
    struct loop *loop;
    struct offload *offload;
    struct users_watch *watch;
    size_t tables;
    size_t users_count;
    size_t unwanted;
    uint64_t jobs; /* of the pool that have ended when all is quiet */
};

enum { PATIENCE_TURNS = 5000 }; /* of at least 1 ms: less than until the next look */

static void on_unwanted(void *owner, struct map *table)
{
    struct world *w = owner;

    w->unwanted++;
    users_table_free(table);
}

static void on_table(void *owner, struct map *table)
{
    struct world *w = owner;

    w->tables++;
    w->users_count = map_count(table);
    users_table_free(table);
}

/* Until `count` more jobs of the pool have ended. */
static void jobs_end(struct world *w, unsigned count)
{
    struct pool_statistics pool;

    w->jobs += count;
    for (int turns = 0; turns < PATIENCE_TURNS; turns++) {
        loop_run_for(w->loop, 1);
        offload_statistics(w->offload, POOL_FILE, &pool);
        if (pool.done >= w->jobs && pool.running + pool.waiting == 0)
            break;
    }
    loop_run_for(w->loop, 200); /* the last one may be on its way back still */
    offload_statistics(w->offload, POOL_FILE, &pool);
    assert_int_equal(pool.done, w->jobs);
}

static void look(struct world *w, const char *path)
{
    users_watch_follow(w->watch, path);
    jobs_end(w, path ? 1 : 0);
}

TEST(users_watch, reads_what_changed_and_bears_with_what_is_broken)
{
    struct log_settings log = {.output = "/dev/null", .level = LOG_DEBUG, .node = "test"};
    struct world w = {0};
    struct users_stamp stamp;

    secure_init();
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    users_folder_open(&w.users);
    users_folder_write(&w.users, "a:$argon2id$x\n");
    w.loop = loop_new();
    w.offload = offload_new(w.loop);
    w.watch = users_watch_new(w.loop, w.offload,
                              &(struct users_watch_calls){on_table, on_unwanted, &w});
    assert_int_equal(users_stamp_read(w.users.path, &stamp), RESULT_OK);
    users_watch_knows(w.watch, &stamp);
    look(&w, w.users.path);
    assert_int_equal(w.tables, 0); /* known already */
    users_folder_write(&w.users, "a:$argon2id$x\nb:$argon2id$x:size=1MiB\n");
    look(&w, w.users.path);
    assert_int_equal(w.tables, 1);
    assert_int_equal(w.users_count, 2);
    users_folder_write(&w.users, "a:$argon2id$x:sise=1MiB\n");
    look(&w, w.users.path);
    assert_int_equal(w.tables, 1);
    users_folder_write(&w.users, "c:$argon2id$x\n");
    look(&w, w.users.path);
    assert_int_equal(w.tables, 2);
    look(&w, NULL);
    users_folder_write(&w.users, "");
    loop_run_for(w.loop, 50);
    assert_int_equal(w.tables, 2);
    users_watch_follow(w.watch, w.users.path);
    users_watch_free(w.watch); /* in the middle of it */
    offload_free(w.offload);
    loop_free(w.loop);
    users_folder_close(&w.users);
    log_close();
}

static bool is_let_go;

static void block(void *input)
{
    (void)input;
    while (!__atomic_load_n(&is_let_go, __ATOMIC_ACQUIRE))
        usleep(1000);
}

static void ignore(void *owner, void *input)
{
    (void)owner;
    (void)input;
}

static void drop(void *input)
{
    (void)input;
}

/* A look that stands before the blocked pool is under way: it took long to read. */
static void start_look(struct world *w, const char *path)
{
    struct pool_statistics pool;
    struct job *job;

    __atomic_store_n(&is_let_go, false, __ATOMIC_RELEASE);
    offload_statistics(w->offload, POOL_FILE, &pool);
    for (unsigned i = 0; i < pool.threads; i++)
        assert_int_equal(
            job_start(w->offload, POOL_FILE, block, ignore, drop, NULL, NULL, &job),
            RESULT_OK);
    w->jobs += pool.threads;
    users_watch_follow(w->watch, path);
    for (int turns = 0;
         turns < PATIENCE_TURNS && pool.waiting + pool.running <= pool.threads; turns++) {
        loop_run_for(w->loop, 1);
        offload_statistics(w->offload, POOL_FILE, &pool);
    }
}

static void end_look(struct world *w, unsigned looks)
{
    __atomic_store_n(&is_let_go, true, __ATOMIC_RELEASE);
    jobs_end(w, looks);
}

/* What was read is never thrown away on the loop all at once. */
TEST(users_watch, a_look_that_runs_at_a_reload_is_waited_for)
{
    struct log_settings log = {.output = "/dev/null", .level = LOG_DEBUG, .node = "test"};
    struct world w = {0};

    secure_init();
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    users_folder_open(&w.users);
    users_folder_write(&w.users, "a:$argon2id$x\n");
    w.loop = loop_new();
    w.offload = offload_new(w.loop);
    w.watch = users_watch_new(w.loop, w.offload,
                              &(struct users_watch_calls){on_table, on_unwanted, &w});
    start_look(&w, w.users.path);
    users_watch_follow(w.watch, w.users.path);
    end_look(&w, 2);
    assert_int_equal(w.tables, 1); /* read once, and known at the second look */
    assert_int_equal(w.unwanted, 0);
    users_folder_write(&w.users, "a:$argon2id$x\nb:$argon2id$x\n");
    start_look(&w, w.users.path);
    users_watch_follow(w.watch, NULL); /* no users at all from now on */
    end_look(&w, 1);
    assert_int_equal(w.tables, 1);
    assert_int_equal(w.unwanted, 1);
    start_look(&w, w.users.path);
    users_watch_follow(w.watch, "/nowhere");
    users_watch_follow(w.watch, w.users.path);
    end_look(&w, 2);
    assert_int_equal(w.users_count, 2);
    assert_int_equal(w.unwanted, 1);
    users_watch_free(w.watch);
    offload_free(w.offload);
    loop_free(w.loop);
    users_folder_close(&w.users);
    log_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(users_watch, reads_what_changed_and_bears_with_what_is_broken),
        RUN(users_watch, a_look_that_runs_at_a_reload_is_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
