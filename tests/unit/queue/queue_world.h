/* A real queue in a folder of its own, on a real loop and real pools. The world is its watcher:
 * what is due is noted. Commits can be made to fail: mdb_txn_commit() stands here, in front of the
 * library's. */
#ifndef SMTPD_TESTS_QUEUE_QUEUE_WORLD_H
#define SMTPD_TESTS_QUEUE_QUEUE_WORLD_H

#include "inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/queue/queue.h"
#include "store_inner.h"
#include "test.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DUE_MOST = 64, TEXT_MOST = 1 << 22, WAIT_MS = 10000, HOUR_MS = 3600000 };

struct world {
    struct loop *loop;
    struct offload *offload;
    struct queue *queue;
    struct queue_settings settings;
    char folder[128];
    struct domain_queue *due[DUE_MOST]; /* held by the world until world_rest() */
    size_t due_count;
    size_t ends; /* of settlements, commits, changes */
    enum result last;
    struct lease *lease;
    size_t changed, busy, gone, skipped;
    const char *lane; /* of a reroute */
    int64_t until_ms; /* of holds */
    unsigned rooms;   /* on_room was called so often */
};

/* ---- commits that fail ---- */

static _Atomic int world_fail_code;
static _Atomic int world_fail_count;

int mdb_txn_commit(MDB_txn *txn)
{
    int (*commit)(MDB_txn *) = NULL;

    if (atomic_load(&world_fail_count) > 0) {
        atomic_fetch_sub(&world_fail_count, 1);
        mdb_txn_abort(txn);
        return atomic_load(&world_fail_code);
    }
    *(void **)&commit = dlsym(RTLD_NEXT, "mdb_txn_commit");
    return commit(txn);
}

static inline void world_fail_commits(int code, int count)
{
    atomic_store(&world_fail_code, code);
    atomic_store(&world_fail_count, count);
}

/* ---- life ---- */

static void world_on_due(void *owner, struct domain_queue *domain_queue)
{
    struct world *world = owner;

    assert_true(world->due_count < DUE_MOST);
    world->due[world->due_count++] = domain_queue;
}

static void world_open(struct world *world)
{
    struct fault fault = {0};

    if (queue_open(world->loop, world->offload, &world->settings, &world->queue, &fault) !=
        RESULT_OK)
        fail_msg("%s", fault.text);
    world->due_count = 0;
    queue_watch(world->queue, world_on_due, NULL, world);
}

static void world_close(struct world *world)
{
    if (world->queue)
        queue_close(world->queue);
    world->queue = NULL;
}

static inline void world_reopen(struct world *world)
{
    world_close(world);
    world_open(world);
}

static int set_up(void **state)
{
    struct world *world = NEW(struct world);

    (void)snprintf(world->folder, sizeof world->folder, "%.90s/smtpd-queue-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(world->folder));
    world->settings = (struct queue_settings){.data_dir = world->folder,
                                              .allow_network_filesystem = true,
                                              .retry_ms = {60000},
                                              .retry_count = 1,
                                              .expire_ms = 24 * (int64_t)HOUR_MS};
    world->loop = loop_new();
    world->offload = offload_new(world->loop);
    world_open(world);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "lock"};
    struct world *world = *state;
    char path[160];
    int result;

    world_fail_commits(0, 0);
    world_close(world);
    offload_free(world->offload);
    loop_free(world->loop);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", world->folder, names[i]);
        (void)unlink(path);
    }
    result = rmdir(world->folder);
    memory_free(world);
    return result;
}

/* Lets the loop run until a number passes what it was. */
static inline void world_wait_above(struct world *world, const size_t *number,
                                    size_t before)
{
    for (int ms = 0; ms < WAIT_MS && *number <= before; ms++)
        loop_run_for(world->loop, 1);
    assert_true(*number > before);
}

static inline void world_wait_rebuilt(struct world *world)
{
    struct queue_statistics statistics = {.is_rebuilding = true};

    for (int ms = 0; ms < WAIT_MS && statistics.is_rebuilding; ms++) {
        loop_run_for(world->loop, 1);
        queue_statistics(world->queue, &statistics);
    }
    assert_false(statistics.is_rebuilding);
}

static inline struct queue_statistics world_numbers(const struct world *world)
{
    struct queue_statistics statistics;

    queue_statistics(world->queue, &statistics);
    return statistics;
}

/* How many a table of the file has now. */
static inline size_t world_rows(const struct world *world, MDB_dbi table)
{
    MDB_stat about;
    int code;
    MDB_txn *txn = store_reader_take(world->queue->store, &code);

    assert_non_null(txn);
    assert_int_equal(mdb_stat(txn, table, &about), 0);
    store_reader_give(world->queue->store, txn);
    return about.ms_entries;
}

static inline void world_wait_no_rows(struct world *world, MDB_dbi table)
{
    for (int ms = 0; ms < WAIT_MS && world_rows(world, table) > 0; ms++)
        loop_run_for(world->loop, 1);
    assert_int_equal(world_rows(world, table), 0);
}

/* ---- messages ---- */

static inline void world_on_end(void *owner, enum result result)
{
    struct world *world = owner;

    world->last = result;
    world->ends++;
}

static inline void world_on_room(void *owner)
{
    struct world *world = owner;

    world->rooms++;
}

static const struct slice WORLD_HEADER = {"Subject: s\r\n\r\n", 14};

/* Commits a draft for the recipients, a list that ends with NULL. */
static inline enum result world_commit(struct world *world, struct draft *draft,
                                       const char *const *addresses)
{
    struct recipient recipients[256] = {{0}};
    struct envelope envelope = {.sender = "sender@b.test",
                                .user = "alice",
                                .envid = "E1",
                                .arrival_ms = loop_wall_ms(world->loop),
                                .longest_line = 78};
    struct submission submission = {.envelope = &envelope, .header = WORLD_HEADER};
    size_t before = world->ends;

    for (submission.recipients = recipients; *addresses; addresses++)
        recipients[submission.recipient_count++].address = *addresses;
    (void)draft_commit(draft, &submission, world_on_end, world);
    assert_int_equal(world->ends, before); /* never inside the starting call */
    world_wait_above(world, &world->ends, before);
    return world->last;
}

static inline enum result world_accept(struct world *world, const char *const *addresses,
                                       struct slice body, uint64_t *id)
{
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);

    if (id)
        *id = draft_id(draft);
    assert_true(draft_write(draft, body) != RESULT_NO_SPACE);
    return world_commit(world, draft, addresses);
}

/* Bytes that differ everywhere, so that a chunk out of place shows. */
static inline char *world_bytes(size_t length)
{
    char *text = memory_new(length + 1);

    for (size_t i = 0; i < length; i++)
        text[i] = (char)(i * 2654435761U >> 13);
    return text;
}

/* A draft of 600 KB that has left memory, but for its last piece. */
static inline struct draft *world_streamed(struct world *world)
{
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);
    char *body = world_bytes(600000);
    unsigned before = world->rooms;

    assert_int_equal(draft_write(draft, (struct slice){body, 600000}), RESULT_AGAIN);
    for (int ms = 0; ms < WAIT_MS && world->rooms == before; ms++)
        loop_run_for(world->loop, 1);
    assert_int_equal(world->rooms, before + 1);
    assert_true(world_rows(world, world->queue->store->body) > 0);
    assert_true(world_rows(world, world->queue->store->draft) > 0);
    memory_free(body);
    return draft;
}

/* One message with one recipient. */
static inline uint64_t world_send(struct world *world, const char *address,
                                  const char *body)
{
    const char *const list[] = {address, NULL};
    uint64_t id = 0;

    assert_int_equal(world_accept(world, list, slice_of(body), &id), RESULT_OK);
    return id;
}

/* ---- leases ---- */

static inline void world_on_lease(void *owner, struct lease *lease, enum result result)
{
    struct world *world = owner;

    world->lease = lease;
    world->last = result;
    world->ends++;
}

/* The lane is due, or will be soon: the world holds it then. */
static inline struct domain_queue *world_lane(struct world *world, const char *lane)
{
    for (int ms = 0; ms < WAIT_MS; ms++) {
        for (size_t i = 0; i < world->due_count; i++)
            if (strcmp(domain_queue_lane(world->due[i]), lane) == 0)
                return world->due[i];
        loop_run_for(world->loop, 1);
    }
    fail_msg("%s is not due", lane);
    return NULL;
}

static inline void world_rest(struct world *world, struct domain_queue *domain_queue)
{
    for (size_t i = 0; i < world->due_count; i++)
        if (world->due[i] == domain_queue)
            world->due[i] = world->due[--world->due_count];
    domain_queue_rest(domain_queue, 0);
}

static inline struct lease *world_load(struct world *world,
                                       struct domain_queue *domain_queue,
                                       const struct queue_entry *entry)
{
    size_t before = world->ends;

    world->lease = NULL;
    (void)queue_lease_load(domain_queue, entry, world_on_lease, world);
    world_wait_above(world, &world->ends, before);
    return world->lease;
}

/* The next due group of a lane, with its records. */
static inline struct lease *world_take(struct world *world, const char *lane)
{
    struct domain_queue *domain_queue = world_lane(world, lane);
    struct queue_entry entry;
    struct lease *lease;

    assert_true(domain_queue_take(domain_queue, &entry));
    lease = world_load(world, domain_queue, &entry);
    assert_non_null(lease);
    return lease;
}

static inline enum result world_settle(struct world *world, struct lease *lease,
                                       const struct settlement *settlement)
{
    size_t before = world->ends;

    lease_settle(lease, settlement, world_on_end, world);
    assert_int_equal(world->ends, before);
    world_wait_above(world, &world->ends, before);
    return world->last;
}

/* Every recipient is done with. */
static inline enum result world_finish(struct world *world, struct lease *lease)
{
    bool settled[LIMIT_GROUP_RECIPIENTS];

    memset(settled, 1, sizeof settled);
    return world_settle(world, lease, &(struct settlement){.is_settled = settled});
}

/* ---- bytes ---- */

struct world_text {
    size_t ends;
    struct bytes bytes;
    enum result result;
    bool is_over;
};

static inline void world_on_piece(void *owner, struct slice piece, enum result result)
{
    struct world_text *text = owner;

    text->result = result;
    text->is_over = result != RESULT_OK || piece.length == 0;
    assert_true(piece.length <= LIMIT_PIECE_BYTES);
    assert_int_equal(bytes_add(&text->bytes, piece), RESULT_OK);
    text->ends++;
}

/* The whole stored message, header section first. The caller frees it with bytes_fini(). */
static inline struct bytes world_read(struct world *world, const struct envelope *envelope)
{
    struct world_text text = {0};
    struct body_reader *reader;

    bytes_init(&text.bytes, TEXT_MOST);
    assert_int_equal(body_reader_open(world->queue, envelope, &reader), RESULT_OK);
    while (!text.is_over) {
        size_t before = text.ends;

        body_reader_next(reader, world_on_piece, &text);
        world_wait_above(world, &text.ends, before);
    }
    body_reader_close(reader);
    assert_int_equal(text.result, RESULT_OK);
    return text.bytes;
}

static inline void world_expect_body(struct world *world, const struct envelope *envelope,
                                     struct slice body)
{
    struct bytes text = world_read(world, envelope);
    struct slice view = bytes_view(&text);

    assert_int_equal(view.length, WORLD_HEADER.length + body.length);
    assert_memory_equal(view.data, WORLD_HEADER.data, WORLD_HEADER.length);
    assert_memory_equal(view.data + WORLD_HEADER.length, body.data, body.length);
    bytes_fini(&text);
}

#endif
