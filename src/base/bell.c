/* A semaphore that counts to one: sem_post() is an addition and at most one wake-up. */
#include "smtpd/base/bell.h"

#include "smtpd/base/check.h"

#include <errno.h>

void bell_init(struct bell *bell)
{
    CHECK(sem_init(&bell->sem, 0, 0) == 0);
    atomic_init(&bell->is_rung, false);
}

void bell_fini(struct bell *bell)
{
    CHECK(sem_destroy(&bell->sem) == 0);
}

void bell_ring(struct bell *bell)
{
    if (!atomic_exchange(&bell->is_rung, true))
        CHECK(sem_post(&bell->sem) == 0);
}

/* Cleared behind the wait and before the sleeper looks for work: a ring from now on is a new
 * one. */
static void clear(struct bell *bell)
{
    (void)atomic_exchange(&bell->is_rung, false);
}

void bell_wait(struct bell *bell)
{
    while (sem_wait(&bell->sem) != 0)
        CHECK(errno == EINTR);
    clear(bell);
}

bool bell_wait_until(struct bell *bell, const struct timespec *moment)
{
    while (sem_clockwait(&bell->sem, CLOCK_MONOTONIC, moment) != 0) {
        if (errno == ETIMEDOUT)
            return false;
        CHECK(errno == EINTR);
    }
    clear(bell);
    return true;
}
