/* No file is written until the test says so: every thread of the pool for files stands before a gate. */
#ifndef SMTPD_TESTS_HELD_FILES_H
#define SMTPD_TESTS_HELD_FILES_H

#include "smtpd/loop/offload.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { HELD_WAIT_MS = 20000 };
static pthread_mutex_t held_gate = PTHREAD_MUTEX_INITIALIZER;

static void held_run(void *input)
{
    (void)input;
    (void)pthread_mutex_lock(&held_gate);
    (void)pthread_mutex_unlock(&held_gate);
}

static void held_end(void *owner, void *input)
{
    (void)owner;
    (void)input;
}

static unsigned held_running(const struct offload *offload)
{
    struct pool_statistics numbers;

    offload_statistics(offload, POOL_FILE, &numbers);
    return numbers.running;
}

/* What fails before release_files() would wait for the gate in its tear down. */
static void hold_files(struct offload *offload)
{
    struct pool_statistics numbers;

    offload_statistics(offload, POOL_FILE, &numbers);
    (void)pthread_mutex_lock(&held_gate);
    for (unsigned i = 0; i < numbers.threads; i++)
        if (job_start(offload, POOL_FILE, held_run, held_end, NULL, NULL, NULL, NULL) !=
            RESULT_OK)
            abort();
    for (int i = 0; i < HELD_WAIT_MS && held_running(offload) < numbers.threads; i++)
        (void)usleep(1000);
    if (held_running(offload) < numbers.threads)
        abort();
}

static void release_files(void)
{
    (void)pthread_mutex_unlock(&held_gate);
}

#endif
