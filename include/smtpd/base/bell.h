/* Wakes a thread that sleeps, without ever waiting for it.
 *
 * Promises  bell_ring() makes at most one system call and never blocks: not on a lock, and not
 *           on a sleeper that left its place without having run since. (A condition variable
 *           of glibc does: pthread_cond_signal() waits until the sleepers of an earlier signal
 *           are gone, and one of low priority was seen to take 8 ms for that.)
 * Promises  what was written before bell_ring() is seen behind the bell_wait() that it ends.
 * Ignores   how often it was rung: rings that nobody heard yet are one. So a sleeper looks
 *           again for work, takes what it can, and rings on if it left any to others.
 */
#ifndef SMTPD_BASE_BELL_H
#define SMTPD_BASE_BELL_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

struct bell {
    sem_t sem;
    atomic_bool is_rung;
};

void bell_init(struct bell *bell);
void bell_fini(struct bell *bell); /* nobody waits any more */
void bell_ring(struct bell *bell); /* from any thread */
void bell_wait(struct bell *bell); /* until it was rung; one sleeper wakes for one ring */
/* The same, at most until a moment of CLOCK_MONOTONIC: then false. */
bool bell_wait_until(struct bell *bell, const struct timespec *moment);

#endif
