/* Named pools of threads for what takes more than about 200 microseconds:
 * crypto, password, file. Not libuv's: that is one global queue of four threads.
 *
 * Owns      the threads and the jobs from start to end.
 * Promises  `run` runs once on a pool thread, then `on_end` once on the loop, never inside
 *           job_start(). After job_cancel() `on_end` does not run (`run` may; then `drop`
 *           frees the input on the loop's thread). `run` touches nothing but `input`. A
 *           pool's queue is bounded: RESULT_BUSY when it is full, and nothing was started.
 */
#ifndef SMTPD_LOOP_OFFLOAD_H
#define SMTPD_LOOP_OFFLOAD_H

#include "smtpd/loop/loop.h"

enum pool_name { POOL_CRYPTO, POOL_PASSWORD, POOL_FILE, POOL_COUNT };

struct offload;
struct job;

typedef void job_run_fn(void *input);
typedef void job_end_fn(void *owner, void *input);
typedef void job_drop_fn(void *input); /* frees an input whose owner cancelled */

struct pool_statistics {
    unsigned threads;
    unsigned waiting;
    unsigned running;
    uint64_t done;
    uint64_t refused;
    int64_t wait_us_max;   /* of the last minute */
    struct histogram wait; /* us, from job_start() to its thread */
};

struct offload *offload_new(struct loop *loop);
/* Waits for the running jobs, drops the waiting ones. No callbacks any more. */
void offload_free(struct offload *offload);
enum result MUST_CHECK job_start(struct offload *offload, enum pool_name name,
                                 job_run_fn *run, job_end_fn *on_end, job_drop_fn *drop,
                                 void *input, void *owner, struct job **job);
void job_cancel(struct job *job);
void offload_statistics(const struct offload *offload, enum pool_name name,
                        struct pool_statistics *statistics);

#endif
