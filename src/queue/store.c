/* The store thread: takes everything that is pending, first in first out, writes it in one
 * transaction, commits, and hands all of it back to the loop. One commit (two syncs inside
 * LMDB) serves every message that waits at that moment; only what attempts came to waits a little
 * for company (docs/decisions/008-results-wait-for-company.md).
 *
 * A log of our own would need one sync less and all the recovery code. */
#include "store.h"

#include "store_inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

static const int64_t TICK_US = 1000000;
static const int64_t MINUTE_US = 60000000;
static const int64_t MEASURE_US = 50000;

enum { TELL_A_TURN = 50, TIDY_ROOM = 64 << 20 };

int64_t store_now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- the store thread ---- */

static void hand_back(struct store *store, struct list *batch)
{
    struct link *link;

    if (batch->count == 0)
        return;
    (void)pthread_mutex_lock(&store->lock);
    while ((link = list_pop_front(batch)))
        list_push_back(&store->ended, link);
    (void)pthread_mutex_unlock(&store->lock);
    waker_wake(store->waker);
}

static void note_commit(struct store *store, bool is_ok, int64_t started_us,
                        uint64_t operations)
{
    int64_t ended_us = store_now_us();
    struct store_numbers *numbers = &store->numbers;

    atomic_store(&store->commit_began_us, 0);
    atomic_store(&store->commit_failed_us, is_ok ? 0 : ended_us);
    (void)pthread_mutex_lock(&store->lock);
    if (ended_us - store->minute_started_us > MINUTE_US) {
        store->minute_started_us = ended_us;
        store->commit_us_max_before = numbers->commit_us_max;
        numbers->commit_us_max = 0;
    }
    numbers->commits += is_ok ? 1 : 0;
    numbers->commits_failed += is_ok ? 0 : 1;
    numbers->batch_last = operations;
    numbers->commit_us_last = ended_us - started_us;
    histogram_add(&numbers->commit, numbers->commit_us_last);
    histogram_add(&numbers->batch, (int64_t)operations);
    if (numbers->commit_us_last > numbers->commit_us_max)
        numbers->commit_us_max = numbers->commit_us_last;
    (void)pthread_mutex_unlock(&store->lock);
}

/* The free space is measured once a second; in between, what came in is taken off. */
static void note_added(struct store *store, uint64_t bytes)
{
    struct store_numbers *numbers = &store->numbers;

    (void)pthread_mutex_lock(&store->lock);
    numbers->free_bytes -= bytes < numbers->free_bytes ? bytes : numbers->free_bytes;
    atomic_store(&store->room_bytes, numbers->free_bytes);
    (void)pthread_mutex_unlock(&store->lock);
}

/* The environment may not be what its meta page says: nothing is written any more. */
static void break_store(struct store *store, int code)
{
    if (atomic_exchange(&store->is_broken, true))
        return;
    log_message(
        LOG_ERROR, "queue.store_failed",
        "the queue in %s cannot be written: %s. Nothing that was answered with 250 is "
        "lost. Look at the disk (kernel log), then start the server again",
        store->directory, mdb_strerror(code));
}

static enum result judge(struct store *store, int code, uint64_t bytes)
{
    enum result result = store_translate(store, code, bytes);

    if (result == RESULT_OK)
        return RESULT_OK;
    if (result == RESULT_NO_SPACE) {
        log_message(LOG_WARNING, "queue.no_space", "a commit in %s failed: %s",
                    store->directory, mdb_strerror(code));
        return RESULT_NO_SPACE;
    }
    break_store(store, code);
    return RESULT_IO;
}

static uint64_t id_limit_wanted(struct store *store)
{
    uint64_t limit = atomic_load(&store->id_limit);
    uint64_t wanted;

    (void)pthread_mutex_lock(&store->lock);
    wanted = store->id_wanted;
    (void)pthread_mutex_unlock(&store->lock);
    return wanted > limit ? wanted : 0;
}

/* What takes nothing but the room of its own change: it must go through on a full disk. */
static bool frees_space(const struct store_op *op)
{
    return op->message_count == 0 && op->kind != STORE_DRAFT_WRITE &&
           op->kind != STORE_REGROUP;
}

static void set_results(struct list *batch, enum result result, bool freeing_too)
{
    for (struct link *link = list_first(batch); link; link = list_next(batch, link)) {
        struct store_op *op = CONTAINER_OF(link, struct store_op, link);

        if (freeing_too || !frees_space(op))
            op->result = result;
    }
}

/* Once more without the mail that did not fit. */
static void run_freeing(struct store *store, struct list *batch)
{
    struct store_write write;
    size_t count = 0;
    enum result result;
    int64_t started_us = store_now_us();
    int code = store_write_begin(store, &write);

    for (struct link *link = list_first(batch); code == 0 && link;
         link = list_next(batch, link)) {
        struct store_op *op = CONTAINER_OF(link, struct store_op, link);

        if (!frees_space(op))
            continue;
        count++;
        store_write_apply(&write, op);
    }
    /* With nothing else to write, an empty step: LMDB uses pages that a commit set free from
     * the second commit after it on, and only new mail might ever come. */
    if (code == 0 && count == 0)
        store_write_id_limit(&write, atomic_load(&store->id_limit));
    if (code == 0)
        code = store_write_end(&write);
    if (count == 0 && store_translate(store, code, 0) != RESULT_IO)
        return;
    result = judge(store, code, code ? write.bytes : 0);
    note_commit(store, result == RESULT_OK, started_us, count);
    set_results(batch, result, true);
    if (result == RESULT_OK)
        set_results(batch, RESULT_NO_SPACE, false);
}

/* Takes from `taken` up to the limit of body bytes, at least one. */
static void fill_batch(struct store *store, struct store_write *write, struct list *batch)
{
    while (write->code == 0 && write->bytes < LIMIT_BATCH_BYTES) {
        struct link *link = list_pop_front(&store->taken);

        if (!link)
            break;
        list_push_back(batch, link);
        store_write_apply(write, CONTAINER_OF(link, struct store_op, link));
    }
}

static void run_batch(struct store *store)
{
    struct list batch;
    struct store_write write = {.store = store};
    uint64_t limit = id_limit_wanted(store);
    int64_t started_us = store_now_us();
    enum result result = RESULT_IO;
    int code = atomic_load(&store->is_broken) ? EIO : store_write_begin(store, &write);
    struct link *link;

    list_init(&batch);
    atomic_store(&store->commit_began_us, started_us);
    if (code == 0) {
        fill_batch(store, &write, &batch);
        if (limit)
            store_write_id_limit(&write, limit);
        code = store_write_end(&write);
    } else {
        while ((link = list_pop_front(&store->taken)))
            list_push_back(&batch, link);
    }
    if (!atomic_load(&store->is_broken))
        result = judge(store, code, write.bytes);
    note_commit(store, result == RESULT_OK, started_us, batch.count);
    set_results(&batch, result, true);
    if (result == RESULT_OK) {
        note_added(store, write.added_bytes);
        atomic_fetch_add(&store->removed, write.removed);
    }
    if (result == RESULT_OK && limit)
        atomic_store(&store->id_limit, limit);
    if (result == RESULT_NO_SPACE)
        run_freeing(store, &batch);
    hand_back(store, &batch);
}

/* When nobody wants anything, and much was removed since the last time. */
static void tidy(struct store *store)
{
    struct store_write write;
    int code;

    if (atomic_load(&store->removed) < STORE_TIDY_REMOVED ||
        atomic_load(&store->is_broken) || atomic_load(&store->room_bytes) < TIDY_ROOM)
        return;
    atomic_store(&store->removed, 0);
    code = store_write_begin(store, &write);
    if (code == 0) {
        store_write_tidy(&write);
        code = store_write_end(&write);
    }
    (void)judge(store, code, TIDY_ROOM);
}

static void *run_thread(void *argument)
{
    struct store *store = argument;
    int64_t measured_us = 0;
    int64_t watched_us = store_now_us();
    int64_t limit_tried_us = 0;

    while (store_pending_wait(store)) {
        int64_t at_us = store_now_us();

        /* A raise that fails is tried again with the next batch, or after a second. */
        if (store->taken.count > 0 ||
            (id_limit_wanted(store) && at_us - limit_tried_us >= TICK_US)) {
            limit_tried_us = at_us;
            run_batch(store);
        } else if (id_limit_wanted(store)) {
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 10000000},
                                  NULL);
        } else {
            tidy(store);
        }
        at_us = store_now_us();
        if (at_us - measured_us >= MEASURE_US) {
            measured_us = at_us;
            store_measure(store);
        }
        if (at_us - watched_us >= TICK_US) {
            watched_us = at_us;
            store_readers_watch(store);
        }
    }
    return NULL;
}

/* ---- the loop's side ---- */

/* A commit may hold thousands of results of attempts, each with its line of the log: they are
 * told in portions, in order, with the loop's other work between. */
static void tell_some(void *owner)
{
    struct store *store = owner;

    for (int i = 0; i < TELL_A_TURN; i++) {
        struct link *link = list_pop_front(&store->handed);
        struct store_op *op;

        if (!link)
            return;
        op = CONTAINER_OF(link, struct store_op, link);
        op->on_end(op->owner, op);
    }
    if (store->handed.count > 0)
        loop_defer(store->loop, &store->tell, tell_some, store);
}

static void on_ended(void *owner)
{
    struct store *store = owner;
    bool is_telling = store->handed.count > 0;
    struct link *link;

    (void)pthread_mutex_lock(&store->lock);
    while ((link = list_pop_front(&store->ended)))
        list_push_back(&store->handed, link);
    (void)pthread_mutex_unlock(&store->lock);
    if (!is_telling)
        tell_some(store);
}

uint32_t store_chunk_bytes(const struct store *store)
{
    return store->chunk_bytes;
}

uint64_t store_id_limit(const struct store *store)
{
    return atomic_load(&store->id_limit);
}

void store_use_id(struct store *store, uint64_t id)
{
    uint64_t limit = atomic_load(&store->id_limit);
    bool is_raised;

    if (id + STORE_ID_STEP < limit)
        return;
    (void)pthread_mutex_lock(&store->lock);
    is_raised = store->id_wanted <= limit;
    if (is_raised)
        store->id_wanted = limit + STORE_ID_STEP;
    (void)pthread_mutex_unlock(&store->lock);
    if (is_raised)
        bell_ring(&store->work);
}

bool store_is_broken(const struct store *store)
{
    return atomic_load(&store->is_broken);
}

uint64_t store_room_bytes(const struct store *store)
{
    return atomic_load(&store->is_pinned) ? 0 : atomic_load(&store->room_bytes);
}

static int64_t since(int64_t us)
{
    return us > 0 ? store_now_us() - us + 1 : 0;
}

int64_t store_commit_runs_us(const struct store *store)
{
    return since(atomic_load(&store->commit_began_us));
}

int64_t store_commit_failed_us(const struct store *store)
{
    return since(atomic_load(&store->commit_failed_us));
}

void store_read_numbers(struct store *store, struct store_numbers *numbers)
{
    (void)pthread_mutex_lock(&store->lock);
    *numbers = store->numbers;
    if (store->commit_us_max_before > numbers->commit_us_max &&
        store_now_us() - store->minute_started_us <= MINUTE_US)
        numbers->commit_us_max = store->commit_us_max_before;
    (void)pthread_mutex_unlock(&store->lock);
}

/* ---- open and close ---- */

static void init_locks(struct store *store)
{
    CHECK(pthread_mutex_init(&store->lock, NULL) == 0);
    CHECK(pthread_cond_init(&store->idle, NULL) == 0);
    bell_init(&store->work);
}

enum result store_open(const struct store_settings *settings, struct store **opened,
                       uint64_t *first_id, struct fault *fault)
{
    struct store *store = NEW(struct store);
    enum result result;
    sigset_t all;
    sigset_t before;

    store->loop = settings->loop;
    store->directory = memory_text(settings->directory);
    store->map_bytes = settings->map_bytes;
    atomic_init(&store->patience_us, STORE_PATIENCE_US);
    atomic_init(&store->pinned_most_bytes, LIMIT_PINNED_BYTES);
    store->minute_started_us = store_now_us();
    histogram_init(&store->numbers.commit, &histogram_short);
    histogram_init(&store->numbers.batch, &histogram_items);
    list_init(&store->pending);
    list_init(&store->ended);
    list_init(&store->handed);
    list_init(&store->taken);
    init_locks(store);
    atomic_init(&store->references, 1);
    result = store_env_open(store, first_id, fault);
    if (result != RESULT_OK) {
        store_drop(store);
        return result;
    }
    store->waker = waker_new(settings->loop, on_ended, store);
    /* Signals are for the loop's thread. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    CHECK(pthread_create(&store->thread, NULL, run_thread, store) == 0);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    *opened = store;
    return RESULT_OK;
}

void store_close(struct store *store)
{
    (void)pthread_mutex_lock(&store->lock);
    store->is_stopping = true;
    (void)pthread_mutex_unlock(&store->lock);
    bell_ring(&store->work);
    (void)pthread_join(store->thread, NULL);
    (void)pthread_mutex_lock(&store->lock);
    store->is_closed = true;
    while (store->readers > 0)
        (void)pthread_cond_wait(&store->idle, &store->lock);
    (void)pthread_mutex_unlock(&store->lock);
    waker_free(store->waker);
    deferred_cancel(store->loop, &store->tell);
    store_env_close(store);
    store_drop(store);
}

void store_hold(struct store *store)
{
    atomic_fetch_add(&store->references, 1);
}

void store_drop(struct store *store)
{
    if (atomic_fetch_sub(&store->references, 1) != 1)
        return;
    bell_fini(&store->work);
    (void)pthread_cond_destroy(&store->idle);
    (void)pthread_mutex_destroy(&store->lock);
    memory_free(store->directory);
    memory_free(store);
}
