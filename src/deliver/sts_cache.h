/* The policies that are known, in memory and on disk, and which domains' could not be had.
 *
 * Owns      records (at most LIMIT_STS_POLICIES, the one that was not used for longest goes),
 *           failures (at most LIMIT_STS_FAILURES, the oldest goes); their files.
 * Promises  a file is read or written on the file pool, never on the loop. A record that is
 *           over (fetched + max_age) is not found. `on_loaded` runs once, from the loop, when
 *           what was on disk is here.
 * Ignores   where policies come from.
 */
#ifndef SMTPD_DELIVER_STS_CACHE_H
#define SMTPD_DELIVER_STS_CACHE_H

#include "smtpd/loop/offload.h"
#include "sts_file.h"

struct sts_cache;

/* `offload` NULL: in memory only (tests). `folder` is copied. */
struct sts_cache *sts_cache_new(struct loop *loop, struct offload *offload,
                                const char *folder, loop_fn *on_loaded, void *owner);
void sts_cache_free(struct sts_cache *cache);

/* NULL: not known, or over. It lives until the next call that changes the cache. */
const struct sts_record *sts_cache_find(struct sts_cache *cache, const char *domain);
/* Mail asked for it. */
void sts_cache_touch(struct sts_cache *cache, const char *domain);
/* Replaces; the policy is the cache's from now on. Forgets a failure. */
void sts_cache_put(struct sts_cache *cache, const char *domain, const char *id,
                   struct sts_policy *policy);
/* The time of day stepped: moves when failures are tried again. */
void sts_cache_move_clock(struct sts_cache *cache, int64_t by_ms);
size_t sts_cache_count(const struct sts_cache *cache);

/* It could not be had: not asked again before the end of a wait that doubles, 5 min to 1 h.
 * Returns it in ms. */
int64_t sts_cache_note_failure(struct sts_cache *cache, const char *domain);
bool sts_cache_has_failure(const struct sts_cache *cache, const char *domain);
unsigned sts_cache_failures(const struct sts_cache *cache, const char *domain);

/* Those to fetch again in the background, the one that was not used for longest first: half of its
 * max_age has passed, or a day; it was used within a month, and does not rest after a failure.
 * False from `fn`: no more. It must not change the cache. */
typedef bool sts_stale_fn(void *owner, const struct sts_record *record);
void sts_cache_each_stale(struct sts_cache *cache, sts_stale_fn *fn, void *owner);
/* Drops what is over, and writes what could not be written before. */
void sts_cache_tidy(struct sts_cache *cache);

#endif
