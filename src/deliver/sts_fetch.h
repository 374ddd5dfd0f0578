/* One policy from where it is: addresses of mta-sts.DOMAIN -> HTTPS -> policy (RFC 8461 3.3).
 *
 * Owns      its look-up, its connection.
 * Promises  `on_end` runs once, from the loop: never inside sts_fetch_start(), never after
 *           sts_fetch_cancel(). Ends within `deadline_ms`.
 * Ignores   what is known already.
 */
#ifndef SMTPD_DELIVER_STS_FETCH_H
#define SMTPD_DELIVER_STS_FETCH_H

#include "inner.h"
#include "sts_policy.h"

struct sts_fetch;
/* `policy` (NULL: none, and `text` says why) is the owner's. */
typedef void sts_fetch_end_fn(void *owner, enum deliver_sts_fetch result,
                              struct sts_policy *policy, const char *text);

struct sts_fetch *sts_fetch_start(struct deliver *deliver, const char *domain,
                                  int64_t deadline_ms, sts_fetch_end_fn *on_end,
                                  void *owner);
void sts_fetch_ask_again(struct sts_fetch *fetch); /* the resolver is another */
void sts_fetch_cancel(struct sts_fetch *fetch);    /* NULL is fine */

#endif
