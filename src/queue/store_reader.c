/* Who reads the queue's file. While a read transaction stands, no page that it might still see
 * is used again, and the file grows. So:
 *
 *  - Our own are short (store_read.c), and all places of LMDB's table of readers are taken by us
 *    when the file is opened: a program that opens it meanwhile is told MDB_READERS_FULL, and
 *    can pin nothing.
 *  - One that was there before us is named in the log. Places of dead processes are given back.
 *  - One that stands all the same, a program of that kind or a thread of ours that a bad disk
 *    holds in a page fault, may cost so much growth and no more: then there is no room for new
 *    mail until it is gone. */
#include "store_inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* How long a reader may stand before it is spoken of, and how often. */
static const int64_t STANDS_US = 10000000;
static const int64_t AGAIN_US = 60000000;

/* ---- our own ---- */

MDB_txn *store_reader_take(struct store *store, int *code)
{
    MDB_txn *txn = NULL;

    (void)pthread_mutex_lock(&store->lock);
    if (store->kept_count > 0)
        txn = store->kept[--store->kept_count];
    (void)pthread_mutex_unlock(&store->lock);
    /* More threads than places: there are fewer of them by far (STORE_READERS). */
    *code = txn ? mdb_txn_renew(txn) : MDB_READERS_FULL;
    if (*code == 0)
        return txn;
    if (txn)
        store_reader_give(store, txn);
    return NULL;
}

void store_reader_give(struct store *store, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    (void)pthread_mutex_lock(&store->lock);
    store->kept[store->kept_count++] = txn;
    (void)pthread_mutex_unlock(&store->lock);
}

/* ---- the table of readers ---- */

struct readers {
    uint64_t last_txn;   /* what the newest snapshot is */
    uint64_t file_bytes; /* with the holes */
    uint64_t oldest;     /* the oldest snapshot that somebody reads; 0: nobody does */
    int oldest_pid;
    int foreign_pid; /* of one that has a place; 0: nobody */
};

/* A line is "pid thread txn", the last "-" for a place that waits; the first line is a heading. */
static int note_reader(const char *line, void *owner)
{
    struct readers *readers = owner;
    char *end;
    long pid = strtol(line, &end, 10);
    uint64_t txn;

    if (end == line)
        return 0;
    if (pid != getpid())
        readers->foreign_pid = (int)pid;
    (void)strtoull(end, &end, 16); /* the thread */
    txn = strtoull(end, NULL, 10);
    if (txn > 0 && (readers->oldest == 0 || txn < readers->oldest)) {
        readers->oldest = txn;
        readers->oldest_pid = (int)pid;
    }
    return 0;
}

static struct readers read_table(struct store *store)
{
    struct readers readers = {0};
    MDB_envinfo info;

    (void)mdb_reader_check(store->env, NULL); /* places of dead processes */
    (void)mdb_env_info(store->env, &info);
    readers.last_txn = info.me_last_txnid;
    readers.file_bytes = (info.me_last_pgno + 1) * store->page_bytes;
    (void)mdb_reader_list(store->env, note_reader, &readers);
    return readers;
}

/* ---- one that stands ---- */

static void say_standing(const struct store *store, const struct store_standing *standing,
                         int64_t at_us)
{
    bool is_ours = standing->pid == (int)getpid();

    log_message(
        LOG_WARNING, "queue.reader_stands",
        "%s %d has been reading the queue in %s for %lld s: the file has grown by %llu MiB "
        "meanwhile%s",
        is_ours ? "a thread of this process," : "process", standing->pid, store->directory,
        (long long)((at_us - standing->since_us) / 1000000),
        (unsigned long long)(standing->grown_bytes >> 20),
        atomic_load(&store->is_pinned) ? ", and new mail gets 452 until it ends" : "");
}

static void end_standing(struct store *store)
{
    struct store_standing *standing = &store->standing;

    if (standing->said_us)
        log_message(LOG_NOTICE, "queue.reader_left",
                    "process %d reads the queue in %s no longer%s", standing->pid,
                    store->directory,
                    atomic_load(&store->is_pinned) ? ": new mail is taken again" : "");
    atomic_store(&store->is_pinned, false);
    *standing = (struct store_standing){0};
}

static void begin_standing(struct store *store, const struct readers *readers)
{
    end_standing(store);
    store->standing = (struct store_standing){.txn = readers->oldest,
                                              .pid = readers->oldest_pid,
                                              .since_us = store_now_us(),
                                              .file_bytes = readers->file_bytes};
}

void store_readers_watch(struct store *store)
{
    struct store_standing *standing = &store->standing;
    struct readers readers = read_table(store);
    int64_t at_us = store_now_us();
    bool is_pinned;

    /* Of the newest snapshot nothing was freed yet. */
    if (readers.oldest == 0 || readers.oldest == readers.last_txn) {
        end_standing(store);
        return;
    }
    if (readers.oldest != standing->txn || readers.oldest_pid != standing->pid) {
        begin_standing(store, &readers);
        return;
    }
    /* The file never shrinks. */
    standing->grown_bytes = readers.file_bytes - standing->file_bytes;
    is_pinned = standing->grown_bytes >= atomic_load(&store->pinned_most_bytes);
    if ((is_pinned && !atomic_exchange(&store->is_pinned, true)) ||
        at_us - (standing->said_us ? standing->said_us + AGAIN_US
                                   : standing->since_us + STANDS_US) >=
            0) {
        say_standing(store, standing, at_us);
        standing->said_us = at_us;
    }
}

/* ---- open and close ---- */

int store_readers_open(struct store *store)
{
    unsigned places = 0;
    int code;
    struct readers readers;

    if ((code = mdb_env_get_maxreaders(store->env, &places)))
        return code;
    store->kept = NEW_ARRAY(MDB_txn *, places);
    readers = read_table(store);
    while (store->kept_count < places) {
        MDB_txn *txn;

        code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
        if (code)
            break;
        mdb_txn_reset(txn);
        store->kept[store->kept_count++] = txn;
    }
    if (code && (code != MDB_READERS_FULL || store->kept_count == 0))
        return code;
    if (readers.foreign_pid)
        log_message(
            LOG_WARNING, "queue.foreign_reader",
            "process %d had opened the queue in %s before this one: while it reads, "
            "the file grows",
            readers.foreign_pid, store->directory);
    return 0;
}

void store_readers_close(struct store *store)
{
    while (store->kept_count > 0)
        mdb_txn_abort(store->kept[--store->kept_count]);
    memory_free(store->kept);
    store->kept = NULL;
}
