/* Pools of plain threads, each with a bounded queue. A finished job goes into one list for
 * the loop, which is woken once for many. The loop wakes a pool by a bell and touches no lock
 * while it does, because threads of low priority must not make it wait. */
#include "smtpd/loop/offload.h"

#include "inner.h"
#include "smtpd/base/bell.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS_MAX = 64, NICE_SLOW = 10, LOOP_WAITING = 10000, PASSWORD_WAITING = 64 };

static const uint64_t MINUTE_NS = UINT64_C(60000000000);

struct job {
    struct link link;
    struct pool *pool;
    job_run_fn *run;
    job_end_fn *on_end;
    job_drop_fn *drop;
    void *input;
    void *owner;
    bool is_cancelled; /* the loop's thread only */
    bool is_waiting;   /* under the lock of the pool */
    uint64_t queued_ns;
};

struct pool {
    struct offload *offload;
    pthread_mutex_t lock;
    struct bell work;
    struct list waiting;
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
    unsigned running;
    size_t most_waiting;
    int nice_value;
    bool is_closing;
    uint64_t done;
    uint64_t refused;
    uint64_t wait_us_max;
    uint64_t wait_us_max_before; /* of the minute before */
    uint64_t minute_started_ns;
    struct histogram wait;
};

struct offload {
    struct loop *loop;
    struct waker *waker;
    pthread_mutex_t lock;
    struct list ended;
    struct pool pools[POOL_COUNT];
};

static void turn_minute(struct pool *pool, uint64_t now_ns)
{
    uint64_t age_ns = now_ns - pool->minute_started_ns;

    if (age_ns <= MINUTE_NS)
        return;
    pool->wait_us_max_before = age_ns <= 2 * MINUTE_NS ? pool->wait_us_max : 0;
    pool->wait_us_max = 0;
    pool->minute_started_ns = now_ns;
}

static void note_wait(struct pool *pool, const struct job *job)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t wait_us = (now_ns - job->queued_ns) / 1000;

    turn_minute(pool, now_ns);
    if (wait_us > pool->wait_us_max)
        pool->wait_us_max = wait_us;
    histogram_add(&pool->wait, (int64_t)wait_us);
}

static void hand_back(struct job *job)
{
    struct offload *offload = job->pool->offload;
    bool was_empty;

    (void)pthread_mutex_lock(&offload->lock);
    was_empty = offload->ended.count == 0;
    list_push_back(&offload->ended, &job->link);
    (void)pthread_mutex_unlock(&offload->lock);
    if (was_empty)
        waker_wake(offload->waker);
}

/* Waits for one; NULL: the end. Whoever leaves work, or the end, to others wakes the next. */
static struct job *next_job(struct pool *pool)
{
    struct job *job = NULL;
    bool is_closing;
    bool rings_on;

    for (;;) {
        (void)pthread_mutex_lock(&pool->lock);
        is_closing = pool->is_closing;
        if (!is_closing && pool->waiting.count > 0) {
            job = CONTAINER_OF(list_pop_front(&pool->waiting), struct job, link);
            job->is_waiting = false;
            note_wait(pool, job);
            pool->running++;
        }
        rings_on = is_closing || pool->waiting.count > 0;
        (void)pthread_mutex_unlock(&pool->lock);
        if (rings_on)
            bell_ring(&pool->work);
        if (job || is_closing)
            return job;
        bell_wait(&pool->work);
    }
}

static void *work(void *argument)
{
    struct pool *pool = argument;
    struct job *job;

    if (pool->nice_value)
        (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), pool->nice_value);
    while ((job = next_job(pool))) {
        job->run(job->input);
        (void)pthread_mutex_lock(&pool->lock);
        pool->running--;
        pool->done++;
        (void)pthread_mutex_unlock(&pool->lock);
        hand_back(job);
    }
    return NULL;
}

static void drop_job(struct job *job)
{
    if (job->drop)
        job->drop(job->input);
    memory_free(job);
}

static void on_ended(void *owner)
{
    struct offload *offload = owner;
    size_t most;

    (void)pthread_mutex_lock(&offload->lock);
    most = offload->ended.count;
    while (most-- > 0) {
        struct job *job = CONTAINER_OF(list_pop_front(&offload->ended), struct job, link);

        (void)pthread_mutex_unlock(&offload->lock);
        if (job->is_cancelled) {
            drop_job(job);
        } else {
            job->on_end(job->owner, job->input);
            memory_free(job);
        }
        (void)pthread_mutex_lock(&offload->lock);
    }
    if (offload->ended.count > 0)
        waker_wake(offload->waker);
    (void)pthread_mutex_unlock(&offload->lock);
}

static void open_pool(struct offload *offload, enum pool_name name, unsigned threads,
                      size_t most_waiting, int nice_value)
{
    struct pool *pool = &offload->pools[name];
    sigset_t all;
    sigset_t before;

    pool->offload = offload;
    pool->most_waiting = most_waiting;
    pool->nice_value = nice_value;
    pool->minute_started_ns = uv_hrtime();
    histogram_init(&pool->wait, &histogram_short);
    list_init(&pool->waiting);
    CHECK(pthread_mutex_init(&pool->lock, NULL) == 0);
    bell_init(&pool->work);
    /* Signals are for the loop's thread. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < threads && i < THREADS_MAX; i++) {
        CHECK(pthread_create(&pool->threads[i], NULL, work, pool) == 0);
        pool->thread_count++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct offload *offload_new(struct loop *loop)
{
    struct offload *offload = NEW(struct offload);
    unsigned cores = uv_available_parallelism(); /* those that we may use */

    offload->loop = loop;
    offload->waker = waker_new(loop, on_ended, offload);
    list_init(&offload->ended);
    CHECK(pthread_mutex_init(&offload->lock, NULL) == 0);
    open_pool(offload, POOL_CRYPTO, cores, LOOP_WAITING, NICE_SLOW);
    open_pool(offload, POOL_PASSWORD, 2, PASSWORD_WAITING, NICE_SLOW);
    open_pool(offload, POOL_FILE, 8, LOOP_WAITING, 0);
    return offload;
}

static void close_pool(struct pool *pool)
{
    struct link *link;

    (void)pthread_mutex_lock(&pool->lock);
    pool->is_closing = true;
    (void)pthread_mutex_unlock(&pool->lock);
    bell_ring(&pool->work);
    for (unsigned i = 0; i < pool->thread_count; i++)
        (void)pthread_join(pool->threads[i], NULL);
    while ((link = list_pop_front(&pool->waiting)))
        drop_job(CONTAINER_OF(link, struct job, link));
    bell_fini(&pool->work);
    (void)pthread_mutex_destroy(&pool->lock);
}

void offload_free(struct offload *offload)
{
    struct link *link;

    for (int i = 0; i < POOL_COUNT; i++)
        close_pool(&offload->pools[i]);
    while ((link = list_pop_front(&offload->ended)))
        drop_job(CONTAINER_OF(link, struct job, link));
    waker_free(offload->waker);
    (void)pthread_mutex_destroy(&offload->lock);
    memory_free(offload);
}

/* NOLINTNEXTLINE(readability-function-size): the door has more than five parameters */
enum result job_start(struct offload *offload, enum pool_name name, job_run_fn *run,
                      job_end_fn *on_end, job_drop_fn *drop, void *input, void *owner,
                      struct job **job)
{
    struct pool *pool = &offload->pools[name];
    struct job *started = NULL;

    (void)pthread_mutex_lock(&pool->lock);
    if (pool->waiting.count < pool->most_waiting) {
        started = NEW(struct job);
        started->pool = pool;
        started->run = run;
        started->on_end = on_end;
        started->drop = drop;
        started->input = input;
        started->owner = owner;
        started->queued_ns = uv_hrtime();
        started->is_waiting = true;
        list_push_back(&pool->waiting, &started->link);
    } else {
        pool->refused++;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (started)
        bell_ring(&pool->work);
    if (started && job)
        *job = started;
    return started ? RESULT_OK : RESULT_BUSY;
}

/* One that still waits gives up its place at once: clients that leave must not keep others
 * from logging in. */
void job_cancel(struct job *job)
{
    struct pool *pool = job->pool;
    bool was_waiting;

    job->is_cancelled = true;
    (void)pthread_mutex_lock(&pool->lock);
    was_waiting = job->is_waiting;
    job->is_waiting = false;
    if (was_waiting)
        list_remove(&pool->waiting, &job->link);
    (void)pthread_mutex_unlock(&pool->lock);
    if (was_waiting)
        hand_back(job);
}

void offload_statistics(const struct offload *offload, enum pool_name name,
                        struct pool_statistics *statistics)
{
    struct pool *pool =
        &((struct offload *)(uintptr_t)offload)->pools[name]; /* for its lock */

    (void)pthread_mutex_lock(&pool->lock);
    turn_minute(pool, uv_hrtime());
    statistics->threads = pool->thread_count;
    statistics->waiting = (unsigned)pool->waiting.count;
    statistics->running = pool->running;
    statistics->done = pool->done;
    statistics->refused = pool->refused;
    statistics->wait = pool->wait;
    statistics->wait_us_max =
        (int64_t)(pool->wait_us_max > pool->wait_us_max_before ? pool->wait_us_max
                                                               : pool->wait_us_max_before);
    (void)pthread_mutex_unlock(&pool->lock);
}
