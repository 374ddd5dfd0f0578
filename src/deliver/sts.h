/* What a domain asks of the way to it by MTA-STS (RFC 8461): who has asked the DNS and the web, and
 * what they said, for all lanes together.
 *
 * Owns      the cache, one inquiry for each domain that is asked about, the fetches
 *           (LIMIT_STS_FETCHES at once), the refreshing of what is known.
 * Promises  `on_end` runs once, from the loop: never inside sts_ask_start(), never after
 *           sts_ask_cancel(); within about two minutes, whatever servers do. A policy that is
 *           known holds until its max_age, whoever blocks the DNS or the web; one that cannot be
 *           had, and is not known, is none; one that we had no place to fetch is not known yet,
 *           and must be asked for again: others must not be able to make it none. Nothing is fetched for a domain all of whose hosts
 *           DANE has an answer for.
 * Ignores   what follows for a connection: see connection.c.
 */
#ifndef SMTPD_DELIVER_STS_H
#define SMTPD_DELIVER_STS_H

#include "inner.h"

struct sts *sts_new(struct deliver *deliver);
void sts_free(struct sts *sts);
void sts_move_clock(struct sts *sts, int64_t by_ms); /* the time of day stepped */

enum sts_answer {
    STS_LEFT_TO_DANE, /* nothing was fetched, for its sake: only that counts */
    STS_IS_KNOWN,     /* NULL is "none" */
    STS_HAD_NO_PLACE  /* to fetch it, all the time: of ours, that others hold */
};
/* The policy lives during the call: sts_policy_ref(). */
typedef void sts_end_fn(void *owner, enum sts_answer answer,
                        const struct sts_policy *policy);
/* `plan`: the way to the domain, whose hosts' TLSA records count; copied. NULL: none do. */
struct sts_ask *sts_ask_start(struct sts *sts, const char *domain, const struct plan *plan,
                              sts_end_fn *on_end, void *owner);
void sts_ask_cancel(struct sts_ask *ask); /* NULL is fine */
/* Of what begins from now on, beside its DNS: a minute, but for tests. */
void sts_set_patience(struct sts *sts, int64_t patience_ms);
/* What the old resolver was asked the new one is asked. */
void sts_ask_again(struct sts *sts);
/* What is in the cache of it. NULL: nothing; until the cache changes. */
struct sts_record;
const struct sts_record *sts_known(struct sts *sts, const char *domain, bool *has_failed);
size_t sts_count(const struct sts *sts); /* policies that are known */

#endif
