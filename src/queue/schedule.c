/* When is the next try, when is it too late: arithmetic only, so that years of retries can
 * be tested in a microsecond. Jitter spreads what one outage has put on the same second. */
#include "smtpd/queue/schedule.h"

static const int64_t LEAST_WAIT_MS = 1000;

/* Up to a tenth either way. */
static int64_t with_jitter(int64_t wait_ms, uint32_t random)
{
    int64_t tenth_ms = wait_ms / 10;

    if (tenth_ms <= 0)
        return wait_ms;
    return wait_ms - tenth_ms +
           (int64_t)((uint64_t)random * (uint64_t)(2 * tenth_ms + 1) >> 32);
}

int64_t schedule_next(const struct schedule *schedule, uint32_t attempts,
                      int64_t arrival_ms, int64_t now_ms, uint32_t random)
{
    size_t index = attempts > 0 ? attempts - 1 : 0;
    int64_t wait_ms = LEAST_WAIT_MS;
    int64_t expiry_ms = arrival_ms + schedule->expire_ms;
    int64_t next_ms;

    if (schedule->retry_count > 0) {
        if (index >= schedule->retry_count)
            index = schedule->retry_count - 1;
        wait_ms = schedule->retry_ms[index];
    }
    next_ms = now_ms + with_jitter(wait_ms, random);
    if (next_ms > expiry_ms)
        next_ms = expiry_ms;
    /* Expired already (expire was made shorter): still no busy loop. */
    return next_ms > now_ms + LEAST_WAIT_MS ? next_ms : now_ms + LEAST_WAIT_MS;
}

bool schedule_is_expired(const struct schedule *schedule, int64_t arrival_ms,
                         int64_t now_ms)
{
    return now_ms >= arrival_ms + schedule->expire_ms;
}

int64_t schedule_backoff(unsigned failures, int64_t first_ms, int64_t most_ms,
                         uint32_t random)
{
    int64_t wait_ms = first_ms;

    for (unsigned i = 1; i < failures && wait_ms < most_ms; i++)
        wait_ms *= 2;
    if (wait_ms > most_ms)
        wait_ms = most_ms;
    return with_jitter(wait_ms, random);
}
