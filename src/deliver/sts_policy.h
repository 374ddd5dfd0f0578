/* What a domain says of itself by MTA-STS (RFC 8461): the TXT record and the policy.
 *
 * Owns      a policy: its mode, its patterns. Immutable and counted: lanes, attempts and the cache
 *           share it.
 * Promises  pure. What does not follow the grammar is no policy at all; unknown fields are passed
 *           over; of fields that come twice (but mx) the first counts.
 * Ignores   where the bytes came from, and how old they are.
 */
#ifndef SMTPD_DELIVER_STS_POLICY_H
#define SMTPD_DELIVER_STS_POLICY_H

#include "smtpd/base/bytes.h"

enum {
    STS_ID_TEXT = 33, /* 1 to 32 letters and digits */
    STS_BODY_MAX = 65536,
    STS_MX_MAX = 100,
    STS_MAX_AGE_S = 31557600 /* RFC 8461 3.2: about a year */
};

enum sts_mode { STS_NONE, STS_TESTING, STS_ENFORCE };

/* The id of the one record that begins with "v=STSv1;" (3.1). False: there is none, there are
 * several, or it is malformed: no policy. */
bool sts_record_id(const struct slice *records, size_t count, char id[STS_ID_TEXT]);

struct sts_policy;
/* NULL: it is none; `text` says why. */
struct sts_policy *sts_policy_parse(struct slice body, char text[160]);
struct sts_policy *sts_policy_ref(const struct sts_policy *policy);
void sts_policy_unref(const struct sts_policy *policy); /* NULL is fine */

const char *sts_mode_name(enum sts_mode mode); /* "enforce" */
enum sts_mode sts_policy_mode(const struct sts_policy *policy);
int64_t sts_policy_max_age_ms(const struct sts_policy *policy);
size_t sts_policy_mx_count(const struct sts_policy *policy);
/* Is this one of its mail exchangers (4.1)? `host` is lower case, no dot at the end. */
bool sts_policy_matches(const struct sts_policy *policy, const char *host);
/* Prints it so that it parses to the same. */
enum result MUST_CHECK sts_policy_print(const struct sts_policy *policy,
                                        struct bytes *into);
/* The same in one line, parted by '|'. */
enum result MUST_CHECK sts_policy_print_line(const struct sts_policy *policy,
                                             struct bytes *into);

#endif
