/* Tables of users that are no longer in effect: a million accounts are freed a few at a time,
 * so that no mail waits for it when the users file changed.
 *
 * Owns      the tables that it was given; accounts that sessions still refer to live on.
 * Promises  a bounded number of accounts in each turn of the loop, one table behind the other.
 */
#ifndef SMTPD_POLICY_USERS_RETIRED_H
#define SMTPD_POLICY_USERS_RETIRED_H

#include "smtpd/base/map.h"
#include "smtpd/loop/loop.h"

struct users_retired *users_retired_new(struct loop *loop);
void users_retired_take(struct users_retired *retired,
                        struct map *table);                      /* NULL is fine */
size_t users_retired_count(const struct users_retired *retired); /* that it still has */
void users_retired_free(struct users_retired *retired); /* all that is left, at once */

#endif
