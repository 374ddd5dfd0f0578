/* LMDB behind a wall: the tables, the one writing thread with its group commit, read jobs.
 *
 * Owns      the environment and the thread; an operation belongs to the store from
 *           store_submit() until its `on_end` runs.
 * Promises  `result` is RESULT_OK only after mdb_txn_commit() returned 0 (G1). An
 *           operation is committed as a whole or not at all (G2, G3). Operations are taken
 *           first in, first out. `on_end` runs on the loop, never inside store_submit().
 * Ignores   what a record means: only record.c knows.
 */
#ifndef SMTPD_QUEUE_STORE_H
#define SMTPD_QUEUE_STORE_H

#include "smtpd/base/bytes.h"
#include "smtpd/base/histogram.h"
#include "smtpd/loop/loop.h"

struct store;

/* The body of a streamed message starts here (docs/queue.md). */
enum { STORE_BODY_CHUNK = 1 << 24 };

/* Bytes to be stored in chunks from `first_chunk` on. */
struct store_run {
    uint32_t first_chunk;
    const struct slice *parts;
    size_t part_count;
};

enum { STORE_RUNS_MAX = 2 };

struct store_message {
    uint64_t id;
    struct slice envelope;
    const struct slice *groups; /* records, numbers from 0 */
    size_t group_count;
    struct store_run runs[STORE_RUNS_MAX];
    size_t run_count;
    bool was_draft; /* its mark in `draft` goes */
};

enum store_kind {
    STORE_ACCEPT,      /* messages */
    STORE_DRAFT_WRITE, /* id, chunks */
    STORE_DRAFT_DROP,  /* id */
    STORE_SETTLE,      /* id, group, record or nothing, messages (reports) */
    STORE_REGROUP,     /* id, group, groups; first_group comes back */
    STORE_CHANGE       /* targets; those at the end of the list may be left */
};

enum store_target_end {
    STORE_TARGET_GONE,
    STORE_TARGET_CHANGED,
    STORE_TARGET_CORRUPT,
    STORE_TARGET_SKIPPED, /* held, and to be tried; not held, and to be released; there already */
    STORE_TARGET_LEFT /* the transaction was large enough; submit it again */
};
enum store_change { STORE_RETRY, STORE_REMOVE, STORE_HOLD, STORE_RELEASE, STORE_REROUTE };
struct store_target {
    uint64_t id;
    uint32_t group;
    enum store_target_end end;
    struct bytes envelope; /* the records before the change */
    struct bytes record;
};

struct store_op;
typedef void store_end_fn(void *owner, struct store_op *op);

struct store_op {
    struct link link;
    enum store_kind kind;
    enum result result;
    store_end_fn *on_end;
    void *owner;
    uint64_t id;
    uint32_t group;
    struct slice record; /* STORE_SETTLE: empty: the group is removed */
    const struct store_message *messages;
    size_t message_count;
    struct store_run chunks;
    const struct slice *groups;
    size_t group_count;
    uint32_t first_group;
    struct store_target *targets;
    size_t target_count;
    enum store_change change;
    int64_t now_ms;   /* of STORE_CHANGE: wall */
    int64_t until_ms; /* of STORE_HOLD */
    const char *lane; /* of STORE_REROUTE */
};

/* Blocking: opens, makes the tables, removes the drafts of a dead process, raises id_limit.
 * `first_id` is above every id that was ever handed out. */
struct store_settings {
    struct loop *loop;
    const char *directory;
    uint64_t map_bytes; /* 0: 1 TiB, halved on ENOMEM */
};
enum result MUST_CHECK store_open(const struct store_settings *settings,
                                  struct store **opened, uint64_t *first_id,
                                  struct fault *fault);
/* Commits what is pending, waits for running read jobs. No callbacks. The struct stays
 * while read jobs refer to it. */
void store_close(struct store *store);
void store_submit(struct store *store, struct store_op *op);

uint32_t store_chunk_bytes(const struct store *store);
/* Ids below it may be handed out; store_use_id() asks for more in good time. */
uint64_t store_id_limit(const struct store *store);
void store_use_id(struct store *store, uint64_t id);
bool store_is_broken(const struct store *store); /* it cannot commit until a restart */

struct store_numbers {
    uint64_t free_bytes; /* disk plus free pages inside the file */
    uint64_t file_bytes;
    uint64_t commits;
    uint64_t commits_failed;
    uint64_t batch_last;
    int64_t commit_us_last;
    struct histogram commit; /* us */
    struct histogram batch;  /* operations in a commit */
    uint64_t disk_free_bytes;
    uint64_t free_page_bytes; /* inside the file */
    uint64_t map_bytes;
    int64_t commit_us_max; /* of the last minute, and the one before */
};
uint64_t store_room_bytes(const struct store *store); /* free_bytes */
/* How long the commit that runs now does; 0: none. */
int64_t store_commit_runs_us(const struct store *store);
/* Since the last one failed, unless one succeeded meanwhile; 0. */
int64_t store_commit_failed_us(const struct store *store);
void store_read_numbers(struct store *store, struct store_numbers *numbers);

/* ---- reading: from any thread between store_enter() and store_leave() ---- */

void store_hold(struct store *store); /* for a job that may run later than store_close() */
void store_drop(struct store *store);
bool store_enter(struct store *store); /* false: the store is closed */
void store_leave(struct store *store);

/* Adds to the two; RESULT_NOT_FOUND when the group (or its envelope) is not there. */
enum result MUST_CHECK store_read_group(struct store *store, uint64_t id, uint32_t group,
                                        struct bytes *envelope, struct bytes *record);

/* Fills `into` with `want` bytes of the run that starts at chunk `first_chunk` of the
 * message, from `offset` on. RESULT_NOT_FOUND: nothing of it is there; RESULT_CORRUPT: a
 * part. */
struct store_piece {
    uint64_t id;
    uint32_t first_chunk;
    uint64_t offset;
    size_t want;
    char *into;
};
enum result MUST_CHECK store_read_piece(struct store *store,
                                        const struct store_piece *piece);

/* Groups in order of id, in one read transaction of at most `most_envelopes` and
 * `most_groups`. The slices live during the call. `envelope` is empty when it is missing. */
typedef void store_scan_fn(void *owner, uint64_t id, uint32_t group, struct slice envelope,
                           struct slice record);
struct store_scan {
    uint64_t next_id; /* in: from here; out: where the next scan goes on */
    uint32_t next_group;
    uint64_t before_id; /* ends here */
    size_t most_envelopes;
    size_t most_groups;  /* 0: as many as there are */
    bool keeps_messages; /* whole: it ends above most_groups, with the next message */
    bool is_over;        /* out */
    store_scan_fn *fn;
    void *owner;
};
enum result MUST_CHECK store_scan_groups(struct store *store, struct store_scan *wanted);

#endif
