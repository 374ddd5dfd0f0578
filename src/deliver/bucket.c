/* Whole numbers only, so that nothing drifts: a token is window_ms * 1000 parts, and each ms brings
 * rate * permille of them. */
#include "bucket.h"

enum { BURST_MS = 250, BURST_SHARE = 100 };

unsigned bucket_burst(const struct quota *quota)
{
    int64_t by_time = (int64_t)quota->count * BURST_MS / quota->window_ms;
    int64_t by_share = quota->count / BURST_SHARE;

    return 1 + (unsigned)(by_time < by_share ? by_time : by_share);
}

static int64_t token(const struct bucket *bucket)
{
    return bucket->quota.window_ms * BUCKET_FULL_RATE;
}

static int64_t ceiling(const struct bucket *bucket)
{
    return (int64_t)bucket_burst(&bucket->quota) * token(bucket);
}

/* A full bucket and what flows into it in one window come to the count together. */
static int64_t gain_per_ms(const struct bucket *bucket)
{
    int64_t rate = (int64_t)bucket->quota.count - bucket_burst(&bucket->quota) + 1;

    return rate * bucket->permille;
}

static void fill(struct bucket *bucket, int64_t now_ms)
{
    int64_t passed_ms = now_ms - bucket->at_ms;
    int64_t room = ceiling(bucket) - bucket->level;

    if (passed_ms <= 0)
        return;
    bucket->at_ms = now_ms;
    if (passed_ms > room / gain_per_ms(bucket))
        bucket->level = ceiling(bucket);
    else
        bucket->level += passed_ms * gain_per_ms(bucket);
}

void bucket_init(struct bucket *bucket, int64_t now_ms)
{
    *bucket = (struct bucket){.permille = BUCKET_FULL_RATE, .at_ms = now_ms};
}

bool bucket_is_limited(const struct bucket *bucket)
{
    return bucket->quota.count > 0;
}

/* The products of the two would not fit: parts in a thousand are exact enough, rounded down. */
static int64_t in_proportion(int64_t level, int64_t before, int64_t after)
{
    return level / (before / 1000 + 1) * (after / 1000);
}

void bucket_set_rate(struct bucket *bucket, const struct quota *quota, unsigned permille,
                     int64_t since_ms, int64_t now_ms)
{
    bool was_limited = bucket_is_limited(bucket);
    int64_t before = 1;

    if (was_limited) {
        fill(bucket, now_ms);
        before = ceiling(bucket);
    } else {
        bucket->level = 0;
        bucket->at_ms = since_ms < now_ms ? since_ms : now_ms;
    }
    if (was_limited && quota->count > 0 &&
        (quota->count != bucket->quota.count ||
         quota->window_ms != bucket->quota.window_ms)) {
        bucket->quota = *quota;
        bucket->level = in_proportion(bucket->level, before, ceiling(bucket));
    }
    bucket->quota = *quota;
    bucket->permille = permille > 0 ? permille : 1;
    if (bucket_is_limited(bucket))
        fill(bucket, now_ms);
}

bool bucket_take(struct bucket *bucket, int64_t now_ms)
{
    if (!bucket_is_limited(bucket))
        return true;
    fill(bucket, now_ms);
    if (bucket->level < token(bucket))
        return false;
    bucket->level -= token(bucket);
    return true;
}

void bucket_put_back(struct bucket *bucket, int64_t now_ms)
{
    if (!bucket_is_limited(bucket))
        return;
    fill(bucket, now_ms);
    bucket->level += token(bucket);
    if (bucket->level > ceiling(bucket))
        bucket->level = ceiling(bucket);
}

int64_t bucket_interval_ms(const struct bucket *bucket)
{
    if (!bucket_is_limited(bucket))
        return 0;
    return (token(bucket) + gain_per_ms(bucket) - 1) / gain_per_ms(bucket);
}

int64_t bucket_wait_ms(struct bucket *bucket, unsigned promised, int64_t now_ms)
{
    int64_t lacking;

    if (!bucket_is_limited(bucket))
        return 0;
    fill(bucket, now_ms);
    lacking = ((int64_t)promised + 1) * token(bucket) - bucket->level;
    return lacking <= 0 ? 0 : (lacking + gain_per_ms(bucket) - 1) / gain_per_ms(bucket);
}
