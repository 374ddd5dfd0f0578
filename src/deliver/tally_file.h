/* The file of what was counted: text, a line for each domain, policy and kind of failure, fields
 * parted by tabs.
 *
 *   smtpd-tls-report 1
 *   domain  example.com  1792022400000  0
 *   policy  sts  12  1  0  version: STSv1|mode: enforce|max_age: 604800|mx: *.example.com
 *   failure certificate-expired  1  mx1.example.com  mx1.example.com  192.0.2.1  192.0.2.7  why
 *   end     3
 *
 * A domain: when its count began, and ended (0: it goes on). A policy: its type, sessions that were
 * good, and bad, and bad without details. A failure: its result, how many, the host, its name in the
 * greeting, our address, its address, words. Behind "end": how many lines stand between.
 *
 * Promises  pure. What is read is sound as a whole, or RESULT_CORRUPT.
 */
#ifndef SMTPD_DELIVER_TALLY_FILE_H
#define SMTPD_DELIVER_TALLY_FILE_H

#include "tally.h"

enum { TALLY_FILE_MAX = 64 << 20 };

enum result MUST_CHECK tally_file_print(struct tally *tally, struct bytes *into);
/* Into an empty one; after a failure it holds a part, and is to be thrown away. */
enum result MUST_CHECK tally_file_parse(struct slice text, struct tally *tally,
                                        struct fault *fault);

#endif
