/* Policies on disk: one small text file for each domain, in a folder of their own.
 *
 * Promises  blocking: for a thread of the file pool. A file is replaced as a whole, behind a
 *           sync. What cannot be read as a policy is passed over, and goes.
 * Ignores   which of them are needed.
 */
#ifndef SMTPD_DELIVER_STS_FILE_H
#define SMTPD_DELIVER_STS_FILE_H

#include "sts_policy.h"

enum { STS_DOMAIN_TEXT = 241 }; /* with its ends the name of a file */

struct sts_record {
    char domain[STS_DOMAIN_TEXT];
    char id[STS_ID_TEXT];
    int64_t fetched_ms; /* wall */
    int64_t used_ms;    /* wall; not always the last time */
    struct sts_policy *policy;
};

/* May this be asked for a policy, and be the name of a file? `domain` is normal. */
bool sts_is_domain(const char *domain);
enum result MUST_CHECK sts_record_print(const struct sts_record *record,
                                        struct bytes *into);
/* RESULT_OK: the policy is the caller's. */
enum result MUST_CHECK sts_record_parse(struct slice text, struct sts_record *record);

/* The folder is made when it is missing. */
enum result MUST_CHECK sts_file_write(const char *folder, const char *domain,
                                      struct slice text, struct fault *fault);
void sts_file_remove(const char *folder, const char *domain);
/* At most `most`; the array and its policies are the caller's. A folder that is not there is
 * empty. */
size_t sts_file_read_all(const char *folder, size_t most, struct sts_record **records);

#endif
