/* Log-ins that were good a moment ago, by digest: 10,000 for 5 minutes each.
 *
 * Promises  no password and no name is kept: a digest with a key of the process. Failures are
 *           never remembered.
 */
#ifndef SMTPD_POLICY_LOGINS_H
#define SMTPD_POLICY_LOGINS_H

#include "smtpd/base/secure.h"
#include "smtpd/loop/loop.h"

struct logins *logins_new(struct loop *loop);
void logins_free(struct logins *logins);
void logins_add(struct logins *logins, const uint8_t digest[SECURE_DIGEST]);
bool logins_has(struct logins *logins, const uint8_t digest[SECURE_DIGEST]);
void logins_clear(struct logins *logins);

#endif
