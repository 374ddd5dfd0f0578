/* Opening a store: what a dead process left, ids that are never used twice, formats that
 * are refused; free space; and LMDB's codes in our words. */
#include "store_inner.h"

#include "store_world.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

enum { MIB = 1 << 20, PAGE_MOST = 65536, DISK_BLOCK = 4096 };

/* ---- a disk with as much room as a test says ---- */

static _Atomic uint64_t disk_blocks; /* 0: what the real one has */
static pthread_mutex_t disk_gate = PTHREAD_MUTEX_INITIALIZER;

int statvfs(const char *path, struct statvfs *disk)
{
    int (*real)(const char *, struct statvfs *) = NULL;
    int result;

    *(void **)&real = dlsym(RTLD_NEXT, "statvfs");
    (void)pthread_mutex_lock(&disk_gate); /* who holds it keeps the store from measuring */
    result = real(path, disk);
    (void)pthread_mutex_unlock(&disk_gate);
    if (result == 0 && atomic_load(&disk_blocks)) {
        disk->f_bavail = atomic_load(&disk_blocks);
        disk->f_frsize = DISK_BLOCK;
    }
    return result;
}

static int tear_down_disk(void **state)
{
    atomic_store(&disk_blocks, 0);
    return tear_down(state);
}

/* ---- the meta table, from outside ---- */

struct raw {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
};

static struct raw raw_open(struct world *world)
{
    struct raw raw;

    assert_null(world->store);
    assert_int_equal(mdb_env_create(&raw.env), 0);
    assert_int_equal(mdb_env_set_maxdbs(raw.env, STORE_TABLES), 0);
    assert_int_equal(mdb_env_set_mapsize(raw.env, 64 * MIB), 0);
    assert_int_equal(mdb_env_open(raw.env, world->folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(raw.env, NULL, 0, &raw.txn), 0);
    return raw;
}

static void raw_close(struct raw *raw)
{
    assert_int_equal(mdb_txn_commit(raw->txn), 0);
    mdb_env_close(raw->env);
}

static void put_meta(struct world *world, const char *name, uint64_t value)
{
    struct raw raw = raw_open(world);
    MDB_val key = {strlen(name), (void *)(uintptr_t)name};
    MDB_val data = {sizeof value, &value};

    assert_int_equal(mdb_dbi_open(raw.txn, "meta", 0, &raw.table), 0);
    assert_int_equal(mdb_put(raw.txn, raw.table, &key, &data, 0), 0);
    raw_close(&raw);
}

static uint64_t get_meta(struct world *world, const char *name)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta;
    MDB_val key = {strlen(name), (void *)(uintptr_t)name};
    MDB_val data;
    uint64_t value;

    assert_null(world->store);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, STORE_TABLES), 0);
    assert_int_equal(mdb_env_set_mapsize(env, 64 * MIB), 0);
    assert_int_equal(mdb_env_open(env, world->folder, MDB_RDONLY, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", 0, &meta), 0);
    assert_int_equal(mdb_get(txn, meta, &key, &data), 0);
    assert_int_equal(data.mv_size, sizeof value);
    memcpy(&value, data.mv_data, sizeof value);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return value;
}

/* ---- ids ---- */

static void ids_are_never_used_again_whatever_was_done_with_them(void **state)
{
    struct world *world = *state;

    assert_int_equal(world->first_id, 1);
    for (int i = 0; i < 3; i++) {
        uint64_t limit = store_id_limit(world->store);

        assert_true(limit > world->first_id);
        world_reopen(world); /* no id was stored: they may stand in replies and logs */
        assert_int_equal(world->first_id, limit);
    }
}

/* ---- what a dead process left ---- */

static void unfinished_messages_vanish_at_open_and_finished_ones_stay(void **state)
{
    struct world *world = *state;
    struct slice large = world_bytes(5 * MIB); /* more than one transaction removes */
    struct world_op *finished;

    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(world_run(world, world_draft(world, id, STORE_BODY_CHUNK, large)),
                         RESULT_OK);
    assert_int_equal(
        world_run(world, world_draft(world, 4, STORE_BODY_CHUNK, SLICE("body"))),
        RESULT_OK);
    finished = world_message(world, 4, 1, SLICE("header"));
    finished->message.was_draft = true;
    assert_int_equal(world_run(world, finished), RESULT_OK);
    assert_int_equal(world_rows(world, world->store->draft), 3);
    world_reopen(world);
    assert_int_equal(world_rows(world, world->store->draft), 0);
    assert_int_equal(world_rows(world, world->store->body), 2);
    assert_true(world_has_body(world, 4, SLICE("header")));
    world_bytes_free(large);
}

/* In the child: no test functions, it ends by a signal. */
static void accept_and_wait_for_the_end(struct world *world, int say)
{
    struct world_op *op;

    world->loop = loop_new();
    if (world_try_open(world, 0) != RESULT_OK)
        _exit(1);
    op = world_message(world, world->first_id, 1, SLICE("acknowledged"));
    (void)world_run(world, op);
    (void)world_run(world, world_draft(world, world->first_id + 1, 0, SLICE("part")));
    if (op->op.result == RESULT_OK &&
        write(say, &world->first_id, sizeof world->first_id) > 0)
        for (;;)
            (void)pause();
    _exit(1);
}

static void a_killed_process_leaves_all_that_it_acknowledged(void **state)
{
    struct world *world = *state;
    int ends[2];
    uint64_t first_id = 0;
    pid_t child;

    world_close(world);
    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        accept_and_wait_for_the_end(world, ends[1]);
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &first_id, sizeof first_id), sizeof first_id);
    (void)close(ends[0]);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);

    world_open(world, 0);
    assert_true(world_has_body(world, first_id, SLICE("acknowledged")));
    assert_true(world_has_group(world, first_id, 0, "g0"));
    assert_int_equal(world_rows(world, world->store->draft), 0);
    assert_int_equal(world_rows(world, world->store->body), 1);
    assert_true(world->first_id > first_id + 1);
}

/* ---- formats ---- */

static void a_queue_of_another_format_is_refused_and_left_alone(void **state)
{
    struct world *world = *state;
    uint64_t limit;

    assert_int_equal(world_run(world, world_draft(world, 1, 0, SLICE("part"))), RESULT_OK);
    world_close(world);
    put_meta(world, "version", STORE_FORMAT + 1);
    limit = get_meta(world, "id_limit");
    assert_int_equal(world_try_open(world, 0), RESULT_INVALID);
    assert_int_equal(world->fault.code, RESULT_INVALID);
    assert_non_null(strstr(world->fault.text, world->folder));
    assert_non_null(strstr(world->fault.text, "format 4, this program knows 3"));
    assert_int_equal(get_meta(world, "id_limit"), limit);
    assert_int_equal(get_meta(world, "version"), STORE_FORMAT + 1);
    put_meta(world, "version", STORE_FORMAT);
    world_open(world, 0); /* and for the program that wrote it nothing has changed */
    assert_int_equal(world->first_id, limit);
}

/* What the first format did not have. */
static void lower_format(struct world *world)
{
    struct raw raw;
    MDB_val key = {strlen("queue_id"), (void *)(uintptr_t) "queue_id"};

    put_meta(world, "version", 1);
    raw = raw_open(world);
    assert_int_equal(mdb_dbi_open(raw.txn, "import", 0, &raw.table), 0);
    assert_int_equal(mdb_drop(raw.txn, raw.table, 1), 0);
    assert_int_equal(mdb_dbi_open(raw.txn, "meta", 0, &raw.table), 0);
    assert_int_equal(mdb_del(raw.txn, raw.table, &key, NULL), 0);
    raw_close(&raw);
}

static void a_queue_of_the_format_before_is_raised_and_keeps_what_it_has(void **state)
{
    struct world *world = *state;
    uint64_t first;
    uint64_t limit;

    assert_int_equal(world_accept(world, 1, 2, SLICE("body")), RESULT_OK);
    first = world->store->queue_id;
    limit = store_id_limit(world->store);
    world_close(world);
    lower_format(world);
    world_open(world, 0);
    assert_int_equal(world->first_id, limit);
    assert_true(world_has_group(world, 1, 1, "g1"));
    assert_true(world_has_body(world, 1, SLICE("body")));
    assert_true(world->store->queue_id != first); /* drawn anew: there was none */
    first = world->store->queue_id;
    world_close(world);
    assert_int_equal(get_meta(world, "version"), STORE_FORMAT);
    world_open(world, 0);
    assert_true(world->store->queue_id == first);
}

/* A power cut while it is raised: it has the format before, and is raised by the next start. */
static void a_raise_that_fails_leaves_the_format_before(void **state)
{
    struct world *world = *state;

    world_close(world);
    lower_format(world);
    world_fail_commits(EIO, 0, 1);
    assert_int_not_equal(world_try_open(world, 0), RESULT_OK);
    assert_int_equal(get_meta(world, "version"), 1);
    world_open(world, 0);
    world_close(world);
    assert_int_equal(get_meta(world, "version"), STORE_FORMAT);
}

static void bodies_are_cut_as_the_file_says_not_as_the_page_would(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(10000);

    assert_int_equal(store_chunk_bytes(world->store), world->store->page_bytes - 16);
    world_close(world);
    put_meta(world, "chunk_bytes", 1000);
    world_open(world, 0);
    assert_int_equal(store_chunk_bytes(world->store), 1000);
    assert_int_equal(world_accept(world, 1, 1, body), RESULT_OK);
    assert_int_equal(world_rows(world, world->store->body), 10);
    assert_true(world_has_body(world, 1, body));
    world_bytes_free(body);
}

static void a_chunk_size_that_no_program_wrote_is_refused(void **state)
{
    struct world *world = *state;
    static const uint64_t sizes[] = {0, 1, 65521, UINT64_C(1) << 32};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        world_close(world);
        put_meta(world, "chunk_bytes", sizes[i]);
        assert_int_not_equal(world_try_open(world, 0), RESULT_OK);
        assert_non_null(strstr(world->fault.text, world->folder));
    }
}

static void what_is_no_folder_or_no_queue_is_refused_with_its_name(void **state)
{
    struct world *world = *state;
    char folder[WORLD_PATH];
    char path[WORLD_PATH + 32];
    FILE *file;

    world_close(world);
    memcpy(folder, world->folder, sizeof folder);
    (void)snprintf(world->folder, sizeof world->folder, "%.200s/none", folder);
    assert_int_equal(world_try_open(world, 0), RESULT_IO);
    assert_non_null(strstr(world->fault.text, world->folder));
    memcpy(world->folder, folder, sizeof folder);

    (void)snprintf(path, sizeof path, "%s/data.mdb", world->folder);
    file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 4 * DISK_BLOCK; i++)
        (void)fputc('x', file);
    (void)fclose(file);
    assert_int_not_equal(world_try_open(world, 0), RESULT_OK);
    assert_non_null(strstr(world->fault.text, world->folder));
}

/* LMDB's first pages are written without a sync: torn, they are refused for ever. */
static void a_file_has_its_name_only_when_it_is_complete(void **state)
{
    struct world *world = *state;
    char made[WORLD_PATH + 32];
    char path[WORLD_PATH + 32];
    FILE *file;

    world_close(world);
    world_remove(world, "data.mdb");
    (void)snprintf(path, sizeof path, "%s/data.mdb", world->folder);
    (void)snprintf(made, sizeof made, "%s/data.mdb.new", world->folder);
    world_fail_commits(EIO, 0, 1);
    assert_int_equal(world_try_open(world, 0), RESULT_IO);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(access(made, F_OK), 0);

    file = fopen(made, "w"); /* what a power cut leaves of it */
    assert_non_null(file);
    for (int i = 0; i < 2 * DISK_BLOCK; i++)
        (void)fputc('x', file);
    (void)fclose(file);
    world_open(world, 0);
    assert_int_not_equal(access(made, F_OK), 0);
    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    world_reopen(world);
    assert_true(world_has_body(world, 1, SLICE("body")));
}

static void what_stands_in_the_place_of_the_file_is_never_replaced(void **state)
{
    struct world *world = *state;
    char path[WORLD_PATH + 32];
    struct stat status;

    world_close(world);
    world_remove(world, "data.mdb");
    (void)snprintf(path, sizeof path, "%s/data.mdb", world->folder);
    assert_int_equal(symlink("data.mdb", path), 0); /* leads nowhere */
    assert_int_equal(world_try_open(world, 0), RESULT_IO);
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISLNK(status.st_mode));
}

/* ---- the map ---- */

static void a_map_that_the_process_may_not_have_is_halved_until_it_fits(void **state)
{
    struct world *world = *state;

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    world_close(world);
    world_open(world, UINT64_C(1) << 62);
    assert_true(world->store->map_bytes < UINT64_C(1) << 62);
    assert_true(world->store->map_bytes >= UINT64_C(1) << 26);
    assert_true(world_has_body(world, 1, SLICE("body")));
    assert_int_equal(world_accept(world, 2, 1, SLICE("body")), RESULT_OK);
}

/* ---- free space ---- */

static void free_space_is_what_the_disk_has_but_no_more_than_the_map(void **state)
{
    struct world *world = *state;

    world_close(world);
    atomic_store(&disk_blocks, 1000);
    world_open(world, 64 * MIB);
    assert_in_range(world_numbers(world).free_bytes, 1000 * DISK_BLOCK,
                    1000 * DISK_BLOCK + 8 * PAGE_MOST);
    world_close(world);
    atomic_store(&disk_blocks, UINT64_C(1) << 30);
    world_open(world, 64 * MIB);
    assert_in_range(world_numbers(world).free_bytes, 63 * MIB, 64 * MIB);
}

static void mail_takes_free_space_at_once_and_removed_mail_gives_it_back(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(8 * MIB);
    uint64_t before;
    uint64_t after;
    struct stat about;
    char path[WORLD_PATH + 32];

    world_close(world);
    atomic_store(&disk_blocks, 10000);
    world_open(world, 0);
    before = world_numbers(world).free_bytes;
    (void)pthread_mutex_lock(&disk_gate);
    assert_int_equal(world_accept(world, 1, 1, body), RESULT_OK);
    after = world_numbers(world).free_bytes;
    (void)pthread_mutex_unlock(&disk_gate);
    assert_in_range(after, before - 9 * MIB, before - 8 * MIB);
    assert_int_equal(world_settle(world, 1, 0), RESULT_OK);
    /* Our disk never changes: pages that are free inside the file come on top of it. */
    for (int i = 0; i < 20 && world_numbers(world).free_bytes < before + 7 * MIB; i++) {
        (void)usleep(60000); /* it is measured now and then, behind a commit */
        assert_int_equal(world_settle(world, 1, 0), RESULT_OK);
    }
    assert_in_range(world_numbers(world).free_bytes, before + 7 * MIB, before + 9 * MIB);
    (void)snprintf(path, sizeof path, "%s/data.mdb", world->folder);
    assert_int_equal(stat(path, &about), 0);
    assert_in_range(world_numbers(world).file_bytes,
                    (uint64_t)about.st_size - 4 * PAGE_MOST,
                    (uint64_t)about.st_size + 4 * PAGE_MOST);
    world_bytes_free(body);
}

/* ---- codes ---- */

static void codes_of_the_library_become_our_words(void **state)
{
    struct world *world = *state;

    atomic_store(&disk_blocks, UINT64_C(1) << 30);
    assert_int_equal(store_translate(world->store, 0, 0), RESULT_OK);
    assert_int_equal(store_translate(world->store, MDB_NOTFOUND, 0), RESULT_NOT_FOUND);
    assert_int_equal(store_translate(world->store, ENOSPC, 0), RESULT_NO_SPACE);
    assert_int_equal(store_translate(world->store, EDQUOT, 0), RESULT_NO_SPACE);
    assert_int_equal(store_translate(world->store, MDB_MAP_FULL, 0), RESULT_NO_SPACE);
    assert_int_equal(store_translate(world->store, EIO, 0), RESULT_IO);
    assert_int_equal(store_translate(world->store, MDB_PANIC, 0), RESULT_IO);
    assert_int_equal(store_translate(world->store, MDB_CORRUPTED, 0), RESULT_IO);
    assert_int_equal(store_translate(world->store, EACCES, 0), RESULT_IO);
}

/* LMDB reports a short write as EIO. */
static void an_input_output_error_of_a_disk_without_room_is_a_full_disk(void **state)
{
    struct world *world = *state;

    atomic_store(&disk_blocks, 1);
    assert_int_equal(store_translate(world->store, EIO, 0), RESULT_NO_SPACE);
    atomic_store(&disk_blocks, 64 * MIB / DISK_BLOCK);
    assert_int_equal(store_translate(world->store, EIO, 0), RESULT_IO);
    /* More was to be written than there is room for. */
    assert_int_equal(store_translate(world->store, EIO, 64 * MIB), RESULT_NO_SPACE);
}

static void a_full_disk_does_not_break_the_store(void **state)
{
    struct world *world = *state;

    atomic_store(&disk_blocks, 1);
    world_fail_commits(EIO, 0, 1);
    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_NO_SPACE);
    assert_false(store_is_broken(world->store));
    atomic_store(&disk_blocks, UINT64_C(1) << 30);
    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    world_fail_commits(EIO, 0, 1);
    assert_int_equal(world_accept(world, 2, 1, SLICE("body")), RESULT_IO);
    assert_true(store_is_broken(world->store));
}

static void an_open_that_cannot_commit_says_so(void **state)
{
    struct world *world = *state;

    for (int before = 0; before < 2; before++) {
        world_close(world);
        world_fail_commits(ENOSPC, before, 1);
        assert_int_equal(world_try_open(world, 0), RESULT_NO_SPACE);
        assert_non_null(strstr(world->fault.text, world->folder));
    }
    world_open(world, 0);
}

#define RUN_ENV(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down_disk)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_ENV(ids_are_never_used_again_whatever_was_done_with_them),
        RUN_ENV(unfinished_messages_vanish_at_open_and_finished_ones_stay),
        RUN_ENV(a_killed_process_leaves_all_that_it_acknowledged),
        RUN_ENV(a_queue_of_another_format_is_refused_and_left_alone),
        RUN_ENV(a_queue_of_the_format_before_is_raised_and_keeps_what_it_has),
        RUN_ENV(a_raise_that_fails_leaves_the_format_before),
        RUN_ENV(bodies_are_cut_as_the_file_says_not_as_the_page_would),
        RUN_ENV(a_chunk_size_that_no_program_wrote_is_refused),
        RUN_ENV(what_is_no_folder_or_no_queue_is_refused_with_its_name),
        RUN_ENV(a_file_has_its_name_only_when_it_is_complete),
        RUN_ENV(what_stands_in_the_place_of_the_file_is_never_replaced),
        RUN_ENV(a_map_that_the_process_may_not_have_is_halved_until_it_fits),
        RUN_ENV(free_space_is_what_the_disk_has_but_no_more_than_the_map),
        RUN_ENV(mail_takes_free_space_at_once_and_removed_mail_gives_it_back),
        RUN_ENV(codes_of_the_library_become_our_words),
        RUN_ENV(an_input_output_error_of_a_disk_without_room_is_a_full_disk),
        RUN_ENV(a_full_disk_does_not_break_the_store),
        RUN_ENV(an_open_that_cannot_commit_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
