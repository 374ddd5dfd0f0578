/* A token bucket: so many in so long.
 *
 * Promises  no span of the window's length holds more than the quota's count, from the first token
 *           on. It begins empty, so that neither a restart nor a reload gives a burst, and holds
 *           so much that a late timer loses nothing: a quarter of a second's worth, at most one
 *           in a hundred of the count, at least one token. What it holds is taken off the rate at
 *           which it fills, which is up to one in a hundred below the quota.
 * Ignores   clocks: the caller brings the time (monotonic, ms).
 */
#ifndef SMTPD_DELIVER_BUCKET_H
#define SMTPD_DELIVER_BUCKET_H

#include "smtpd/base/quota.h"

#include <stdbool.h>

enum { BUCKET_FULL_RATE = 1000 };

struct bucket {
    struct quota quota; /* count 0: no limit */
    unsigned permille;  /* of the rate, while it is slowed */
    int64_t level;      /* in parts of a token: see bucket.c */
    int64_t at_ms;
};

void bucket_init(struct bucket *bucket, int64_t now_ms); /* no limit */
/* What is in it stays, in proportion; from no limit it begins empty at `since_ms`. */
void bucket_set_rate(struct bucket *bucket, const struct quota *quota, unsigned permille,
                     int64_t since_ms, int64_t now_ms);
bool bucket_is_limited(const struct bucket *bucket);
unsigned bucket_burst(const struct quota *quota);
/* False: nothing was taken. */
bool bucket_take(struct bucket *bucket, int64_t now_ms);
/* One that was taken and has not been used. */
void bucket_put_back(struct bucket *bucket, int64_t now_ms);
/* From one token to the next; 0: no limit. */
int64_t bucket_interval_ms(const struct bucket *bucket);
/* In how long one more can be had, after `promised` that others will take. */
int64_t bucket_wait_ms(struct bucket *bucket, unsigned promised, int64_t now_ms);

#endif
