/* Pure arithmetic: when is the next try, when is it too late. */
#ifndef SMTPD_QUEUE_SCHEDULE_H
#define SMTPD_QUEUE_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct schedule {
    const int64_t *retry_ms; /* the last one repeats */
    size_t retry_count;
    int64_t expire_ms;
};

/* The wall time of the next attempt after `attempts` of them (>= 1) ended at `now_ms`, with
 * up to a tenth of jitter either way (`random` is uniform over all values); never behind
 * the expiry of a message that arrived at `arrival_ms`: the last attempt is made then. */
int64_t schedule_next(const struct schedule *schedule, uint32_t attempts,
                      int64_t arrival_ms, int64_t now_ms, uint32_t random);
bool schedule_is_expired(const struct schedule *schedule, int64_t arrival_ms,
                         int64_t now_ms);
/* Back-off of a host or destination: doubling from `first_ms` up to `most_ms`, jittered. */
int64_t schedule_backoff(unsigned failures, int64_t first_ms, int64_t most_ms,
                         uint32_t random);

#endif
