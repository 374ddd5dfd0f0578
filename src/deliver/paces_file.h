/* The file of what paces have learned: a sealed text (smtpd/base/sealed.h), a line for each.
 *
 *   smtpd-paces 2
 *   mx1.example.net>mx2.example.net - 1792000000000 3 1000 0 0 0 0 0 0 - - 0 0 0 0 -
 *   rule:provider - 1792000001000 2 500 50 360000 1792000300000 120 60000 1792000900000 421%204.7.28 - 2 0 0 0 -
 *   end 2 9f3c61b2a4d5e607
 *
 * Scope, source, when it was changed (wall ms), connections; the rate in parts of a thousand, what
 * it gets back at a time, in how many ms, when next, and the count and the ms of what was measured;
 * until when it is suspended, why, and why its rate is slowed; how often it backed off in a row; until
 * when what waits is bounced, what arrived before when, how many at most, and for what. "-": nothing.
 * Version 1, which ends behind the rate's reason, is read too.
 *
 * Promises  pure. What is read is sound as a whole, or nothing of it is used.
 */
#ifndef SMTPD_DELIVER_PACES_FILE_H
#define SMTPD_DELIVER_PACES_FILE_H

#include "pace.h"
#include "smtpd/base/sealed.h"

enum { PACES_KEPT_MAX = 10000, PACES_FILE_MAX = 64 << 20, PACES_KEY_MAX = 9000 };

enum result MUST_CHECK paces_file_begin(struct bytes *into, struct sealed *sealed);
enum result MUST_CHECK paces_file_add(struct bytes *into, struct sealed *sealed,
                                      const struct pace *pace);
enum result MUST_CHECK paces_file_end(struct bytes *into, struct sealed *sealed);

/* `pace` has no limits and no counts; its scope and source live during the call. */
typedef void paces_file_fn(void *owner, const struct pace *pace);
enum result MUST_CHECK paces_file_parse(struct slice text, paces_file_fn *each, void *owner,
                                        struct fault *fault);

#endif
