/* Failed log-ins: slower and slower, then locked out for a time.
 *
 * Owns      what failed of late, per client address (IPv6: /64) and per user name as it was
 *           said, known or not; and which addresses a user logged in from in the last day.
 * Promises  bounded: beyond 20,000 addresses or names the one that failed longest ago is
 *           forgotten. A lock of a name does not hold for addresses that the user came from
 *           lately, so strangers cannot lock somebody out of his own office.
 * Ignores   whether a name exists: nothing here may depend on it. Passwords.
 */
#ifndef SMTPD_POLICY_LOCKOUT_H
#define SMTPD_POLICY_LOCKOUT_H

#include "smtpd/base/ip.h"
#include "smtpd/loop/loop.h"
#include "smtpd/policy/auth.h"

/* Who tries: a name ("" when it can be none), and where from. */
struct lockout_try {
    struct slice user;
    const struct ip *peer; /* NULL: not counted (trusted networks) */
};

struct lockout *lockout_new(struct loop *loop);
void lockout_free(struct lockout *lockout); /* NULL is fine */
void lockout_apply(struct lockout *lockout, const struct auth_settings *settings);

bool lockout_holds_address(struct lockout *lockout, const struct ip *peer);
bool lockout_holds_user(struct lockout *lockout, const struct lockout_try *try);
/* Counts it, unless it is locked out already. Returns how long the answer is to be held
 * back: the same whether it was counted or not. */
int64_t lockout_failed(struct lockout *lockout, const struct lockout_try *try);
void lockout_succeeded(struct lockout *lockout, const struct lockout_try *try);

void lockout_statistics(struct lockout *lockout, struct auth_statistics *statistics);

#endif
