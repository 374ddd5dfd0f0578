/* What the files of the store share. The only header with an LMDB type in it. */
#ifndef SMTPD_QUEUE_STORE_INNER_H
#define SMTPD_QUEUE_STORE_INNER_H

#include "smtpd/base/bell.h"
#include "store.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    STORE_READERS = 32, /* places for read transactions: more than threads that read */
    STORE_ID_STEP = 65536,
    STORE_TIDY_REMOVED = 5000, /* messages: then a quiet second is used */
    STORE_KEY_CHUNK = 12,
    STORE_PATIENCE_US = 10000,
    STORE_TABLES = 6,
    STORE_FORMAT = 3, /* of the whole file; docs/queue.md says what each brought */
    STORE_FORMAT_OLDEST = 1
};

/* A read transaction that was seen at one snapshot twice. */
struct store_standing {
    uint64_t txn; /* 0: none */
    int pid;
    int64_t since_us;
    int64_t said_us;     /* 0: not yet */
    uint64_t file_bytes; /* when it was seen first */
    uint64_t grown_bytes;
};

struct store {
    struct loop *loop;
    struct waker *waker;
    struct list handed;   /* the loop's own: ended, and not told yet */
    struct deferred tell; /* the rest of them */
    char *directory;
    MDB_env *env;
    MDB_dbi envelope;
    MDB_dbi group;
    MDB_dbi body;
    MDB_dbi draft;
    MDB_dbi meta;
    MDB_dbi import;
    uint64_t queue_id; /* drawn once for each queue: part of every origin */
    uint32_t chunk_bytes;
    uint32_t page_bytes;
    uint64_t map_bytes;

    pthread_t thread;
    struct bell work;     /* wakes it */
    pthread_mutex_t lock; /* guards from here ... */
    pthread_cond_t idle;
    struct list pending;
    size_t urgent_count; /* of pending ones, those that somebody waits for */
    struct list ended;
    bool is_stopping;
    bool is_closed;
    unsigned readers;
    uint64_t id_wanted;
    MDB_txn **kept; /* read transactions that were reset: each has its place */
    unsigned kept_count;
    struct store_numbers numbers;
    int64_t commit_us_max_before;
    int64_t minute_started_us; /* ... to here */

    atomic_uint references;
    atomic_uint_fast64_t id_limit; /* durable */
    atomic_bool is_broken;
    atomic_uint removed; /* messages, since the free list was put in order */
    /* Asked for at every message: without the lock. */
    atomic_uint_fast64_t room_bytes;        /* numbers.free_bytes */
    atomic_int_fast64_t commit_began_us;    /* 0: none runs */
    atomic_int_fast64_t commit_failed_us;   /* 0: the last one succeeded */
    atomic_bool is_pinned;                  /* by a reader that stands */
    atomic_uint_fast64_t pinned_most_bytes; /* of growth meanwhile */
    atomic_int_fast64_t patience_us;        /* of what an attempt came to */

    uint64_t
        kept_from; /* where the room ends that is kept in the file system for removals */
    struct list taken;              /* the store thread's own: taken, not committed yet */
    struct store_standing standing; /* the store thread's own too */
};

/* One write transaction. Sticky: after the first failure nothing more is done.
 */
struct store_write {
    struct store *store;
    MDB_txn *txn;
    MDB_cursor *body;
    MDB_cursor *group;
    uint64_t bytes; /* of bodies, added plus deleted */
    uint64_t added_bytes;
    uint32_t removed; /* messages */
    int code;         /* of LMDB; 0: fine so far */
};

struct store_group_key {
    unsigned char text[STORE_KEY_CHUNK];
};

/* Big-endian id and number: memcmp order is (id, number). For `group` and `body`. */
struct store_group_key store_key(uint64_t id, uint32_t number);
uint64_t store_key_id(const MDB_val *key);
uint32_t store_key_number(const MDB_val *key);

/* store_write.c */
int store_write_begin(struct store *store, struct store_write *write);
void store_write_apply(struct store_write *write, struct store_op *op);
void store_write_message(struct store_write *write, const struct store_message *message);
/* A part of a body; each but the last of a run is whole chunks. */
void store_write_run(struct store_write *write, uint64_t id, const struct store_run *run);
void store_write_id_limit(struct store_write *write, uint64_t limit);
void store_write_drop_draft(struct store_write *write, uint64_t id);
int store_write_end(struct store_write *write); /* commits, or aborts after a failure */
/* Puts the list of free pages in order, as far as a bounded time goes. */
void store_write_tidy(struct store_write *write);

/* store.c: the clock that only goes forward. */
int64_t store_now_us(void);

/* store_pending.c: to `taken`, what waits; false: the end. After a second without work it comes
 * back too. */
bool store_pending_wait(struct store *store);

/* store_env.c */
enum result store_env_open(struct store *store, uint64_t *first_id, struct fault *fault);
void store_env_close(struct store *store);
int store_sync_folder(const char *directory); /* an errno */
/* Foreign codes in our words. `bytes` is how much the transaction was to write. */
enum result store_translate(struct store *store, int code, uint64_t bytes);
void store_measure(struct store *store); /* free space, file size: into numbers */

/* store_reader.c */
int store_readers_open(struct store *store); /* takes every place; a code of LMDB */
void store_readers_close(struct store *store);
MDB_txn *store_reader_take(struct store *store, int *code); /* NULL: see the code */
void store_reader_give(struct store *store, MDB_txn *txn);
/* Once a second, by the store thread: does one stand, and what does it cost? */
void store_readers_watch(struct store *store);

#endif
