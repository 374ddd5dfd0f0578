/* Commits of the queue that fail or are slow: mdb_txn_commit() stands here, in front of the library's. */
#ifndef SMTPD_TESTS_FAILING_COMMITS_H
#define SMTPD_TESTS_FAILING_COMMITS_H

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <time.h>

typedef struct MDB_txn MDB_txn;
int mdb_txn_commit(MDB_txn *txn);
void mdb_txn_abort(MDB_txn *txn);

static _Atomic int world_fail_code;
static _Atomic int world_fail_count;
static _Atomic int world_slow_ms; /* below a second */

int mdb_txn_commit(MDB_txn *txn)
{
    int (*commit)(MDB_txn *) = NULL;
    struct timespec pause = {0, atomic_load(&world_slow_ms) * 1000000L};

    if (pause.tv_nsec)
        (void)nanosleep(&pause, NULL);
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

#endif
