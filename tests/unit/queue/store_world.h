/* A real store in a folder of its own, on a real loop, driven as the queue does it:
 * operations are submitted, and their ends noted in the order in which they come.
 *
 * Commits can be made to fail: mdb_txn_commit() stands here, in front of the library's. */
#ifndef SMTPD_TESTS_QUEUE_STORE_WORLD_H
#define SMTPD_TESTS_QUEUE_STORE_WORLD_H

#include "record.h"
#include "store_inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORLD_OPS = 600, WORLD_PATH = 256, WORLD_WAIT_MS = 10000 };

struct world;

/* An operation with what it points to. */
struct world_op {
    struct store_op op;
    struct world *world;
    struct store_message message;
    struct slice groups[8];
    struct slice part;
    bool is_ended;
};

struct world {
    struct loop *loop;
    struct store *store;
    char folder[WORLD_PATH];
    uint64_t first_id;
    struct fault fault;
    struct world_op ops[WORLD_OPS];
    size_t op_count;
    size_t end_count;
    uint64_t ended[WORLD_OPS]; /* ids, in the order of their ends */
    bool is_submitting;
    MDB_txn *gate; /* while it is there the store thread cannot write */
};

/* ---- commits that fail ---- */

static _Atomic int world_fail_code;  /* what a commit says instead of being one */
static _Atomic int world_fail_skip;  /* how many succeed before */
static _Atomic int world_fail_count; /* how many of them fail then */

static inline void world_fail_commits(int code, int skip, int count)
{
    atomic_store(&world_fail_code, code);
    atomic_store(&world_fail_skip, skip);
    atomic_store(&world_fail_count, count);
}

int mdb_txn_commit(MDB_txn *txn)
{
    int (*commit)(MDB_txn *) = NULL;

    if (atomic_load(&world_fail_skip) > 0) {
        atomic_fetch_sub(&world_fail_skip, 1);
    } else if (atomic_load(&world_fail_count) > 0) {
        atomic_fetch_sub(&world_fail_count, 1);
        mdb_txn_abort(txn);
        return atomic_load(&world_fail_code);
    }
    *(void **)&commit = dlsym(RTLD_NEXT, "mdb_txn_commit");
    return commit(txn);
}

/* ---- life ---- */

static inline enum result world_try_open(struct world *world, uint64_t map_bytes)
{
    struct store_settings settings = {world->loop, world->folder, map_bytes};

    return store_open(&settings, &world->store, &world->first_id, &world->fault);
}

static void world_open(struct world *world, uint64_t map_bytes)
{
    if (world_try_open(world, map_bytes) != RESULT_OK)
        fail_msg("%s", world->fault.text);
}

static void world_close(struct world *world)
{
    if (world->store)
        store_close(world->store);
    world->store = NULL;
}

static int set_up(void **state)
{
    struct world *world = NEW(struct world);
    const char *above = getenv("TMPDIR");

    (void)snprintf(world->folder, sizeof world->folder, "%s/smtpd-store-XXXXXX",
                   above ? above : "/tmp");
    assert_non_null(mkdtemp(world->folder));
    world->loop = loop_new();
    world_open(world, 0);
    *state = world;
    return 0;
}

static void world_remove(const struct world *world, const char *name)
{
    char path[WORLD_PATH + 32];

    (void)snprintf(path, sizeof path, "%s/%s", world->folder, name);
    (void)unlink(path);
}

static int tear_down(void **state)
{
    struct world *world = *state;
    int result;

    world_fail_commits(0, 0, 0);
    world_close(world);
    loop_free(world->loop);
    world_remove(world, "data.mdb");
    world_remove(world, "lock.mdb");
    result = rmdir(world->folder);
    memory_free(world);
    return result;
}

static inline void world_reopen(struct world *world)
{
    world_close(world);
    world_open(world, 0);
}

/* ---- operations ---- */

static void world_on_end(void *owner, struct store_op *op)
{
    struct world_op *ended = owner;
    struct world *world = ended->world;

    assert_ptr_equal(op, &ended->op);
    assert_false(world->is_submitting); /* never inside store_submit() */
    assert_false(ended->is_ended);      /* once */
    ended->is_ended = true;
    world->ended[world->end_count++] = op->id;
}

static struct world_op *world_op(struct world *world, enum store_kind kind, uint64_t id)
{
    struct world_op *op = &world->ops[world->op_count++];

    assert_true(world->op_count <= WORLD_OPS);
    *op = (struct world_op){.world = world};
    op->op.kind = kind;
    op->op.id = id;
    op->op.result = RESULT_COUNT; /* nobody says that */
    op->op.on_end = world_on_end;
    op->op.owner = op;
    return op;
}

static void world_submit(struct world *world, struct world_op *op)
{
    world->is_submitting = true;
    store_submit(world->store, &op->op);
    world->is_submitting = false;
}

static void world_wait(struct world *world, const struct world_op *op)
{
    for (int ms = 0; ms < WORLD_WAIT_MS && !op->is_ended; ms++)
        loop_run_for(world->loop, 1);
    assert_true(op->is_ended);
}

static enum result world_run(struct world *world, struct world_op *op)
{
    enum result result;

    world_submit(world, op);
    world_wait(world, op);
    result = op->op.result;
    return result;
}

/* A message: envelope "e<id>", groups "g0" to "g<n-1>", `body` in one run from chunk 0. */
static struct world_op *world_message(struct world *world, uint64_t id, size_t groups,
                                      struct slice body)
{
    static const char *const texts[] = {"g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"};
    struct world_op *op = world_op(world, STORE_ACCEPT, id);

    op->message.id = id;
    op->message.envelope = SLICE("envelope");
    for (size_t i = 0; i < groups; i++)
        op->groups[i] = slice_of(texts[i]);
    op->message.groups = op->groups;
    op->message.group_count = groups;
    op->part = body;
    op->message.runs[0] = (struct store_run){.parts = &op->part, .part_count = 1};
    op->message.run_count = 1;
    op->op.messages = &op->message;
    op->op.message_count = 1;
    return op;
}

static inline enum result world_accept(struct world *world, uint64_t id, size_t groups,
                                       struct slice body)
{
    return world_run(world, world_message(world, id, groups, body));
}

/* Removes a group, or writes `record` into it. */
static inline struct world_op *world_settlement(struct world *world, uint64_t id,
                                                uint32_t group, struct slice record)
{
    struct world_op *op = world_op(world, STORE_SETTLE, id);

    op->op.group = group;
    op->op.record = record;
    return op;
}

static inline enum result world_settle(struct world *world, uint64_t id, uint32_t group)
{
    return world_run(world, world_settlement(world, id, group, SLICE_NONE));
}

/* A part of an unfinished message, from `first_chunk` on. */
static inline struct world_op *world_draft(struct world *world, uint64_t id,
                                           uint32_t first_chunk, struct slice text)
{
    struct world_op *op = world_op(world, STORE_DRAFT_WRITE, id);

    op->part = text;
    op->op.chunks = (struct store_run){first_chunk, &op->part, 1};
    return op;
}

/* ---- one batch of several ---- */

/* From here on nothing is committed; all that is submitted meanwhile, behind the first,
 * goes into one batch after world_open_gate(). */
static inline void world_shut_gate(struct world *world, struct world_op *first)
{
    size_t waiting = 1;

    assert_int_equal(mdb_txn_begin(world->store->env, NULL, 0, &world->gate), 0);
    world_submit(world, first);
    for (int ms = 0; ms < WORLD_WAIT_MS && waiting > 0; ms++) {
        (void)usleep(1000);
        (void)pthread_mutex_lock(&world->store->lock);
        waiting = world->store->pending.count;
        (void)pthread_mutex_unlock(&world->store->lock);
    }
    assert_int_equal(waiting, 0); /* the thread took it, and stands before the gate */
}

static inline void world_open_gate(struct world *world)
{
    mdb_txn_abort(world->gate);
    world->gate = NULL;
}

static inline struct store_numbers world_numbers(struct world *world)
{
    struct store_numbers numbers;

    store_read_numbers(world->store, &numbers);
    return numbers;
}

/* ---- what is stored ---- */

static inline size_t world_rows(struct world *world, MDB_dbi table)
{
    MDB_stat stat;
    int code;
    MDB_txn *txn = store_reader_take(world->store, &code);

    assert_non_null(txn);
    assert_int_equal(mdb_stat(txn, table, &stat), 0);
    store_reader_give(world->store, txn);
    return stat.ms_entries;
}

/* Whether the group is there with that record, and its envelope too. */
static inline bool world_has_group(struct world *world, uint64_t id, uint32_t group,
                                   const char *record)
{
    struct bytes envelope;
    struct bytes found;
    bool is_there;

    bytes_init(&envelope, RECORD_MAX);
    bytes_init(&found, RECORD_MAX);
    is_there = store_read_group(world->store, id, group, &envelope, &found) == RESULT_OK;
    if (is_there) {
        assert_true(slice_equal_text(bytes_view(&envelope), "envelope"));
        assert_true(slice_equal_text(bytes_view(&found), record));
    }
    bytes_fini(&envelope);
    bytes_fini(&found);
    return is_there;
}

/* `want` bytes from `offset` of the run at `first_chunk`. */
static inline enum result world_read(struct world *world, const struct store_piece *wanted)
{
    return store_read_piece(world->store, wanted);
}

static inline bool world_has_body(struct world *world, uint64_t id, struct slice body)
{
    char *text = memory_new(body.length + 1);
    struct store_piece piece = {.id = id, .want = body.length, .into = text};
    bool is_same = world_read(world, &piece) == RESULT_OK &&
                   slice_equal(body, (struct slice){text, body.length});

    memory_free(text);
    return is_same;
}

/* Bytes in which no place looks like another; freed by the caller. */
static inline struct slice world_bytes(size_t length)
{
    char *text = memory_new(length + 1);
    uint32_t state = 20261124;

    for (size_t i = 0; i < length; i++) {
        state = state * 1664525U + 1013904223U;
        text[i] = (char)(state >> 24);
    }
    return (struct slice){text, length};
}

static inline void world_bytes_free(struct slice bytes)
{
    memory_free((void *)(uintptr_t)bytes.data);
}

#define RUN_STORE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
