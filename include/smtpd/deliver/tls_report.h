/* What is counted for reports of TLS (RFC 8460), for the operator.
 *
 * Promises  nothing waits; texts live during the call.
 * Ignores   how reports leave: deliver.h and its settings.
 */
#ifndef SMTPD_DELIVER_TLS_REPORT_H
#define SMTPD_DELIVER_TLS_REPORT_H

#include "smtpd/deliver/deliver.h"

struct tls_report_item { /* a domain and a policy */
    const char *domain;
    const char *policy; /* "sts", "tlsa", "no-policy-found" */
    uint64_t successes;
    uint64_t failures;
    uint64_t dropped; /* of the failures: counted without details */
    int64_t begin_ms;
    int64_t end_ms;        /* 0: it is being counted */
    unsigned tries;        /* to send it, that failed */
    int64_t not_before_ms; /* of the next one; 0: none */
};
typedef void deliver_tls_report_fn(void *owner, const struct tls_report_item *item);
/* At most `most` domains from `first` on; returns how many were walked over. */
size_t deliver_tls_report_walk(const struct deliver *deliver, size_t first, size_t most,
                               deliver_tls_report_fn *each, void *owner);
bool deliver_tls_report_is_on(const struct deliver *deliver);
/* What would be sent of it now. RESULT_NOT_FOUND: nothing is counted. */
enum result MUST_CHECK deliver_tls_report_json(const struct deliver *deliver,
                                               const char *domain, struct bytes *into);
/* Ends the counts of this domain, or of all (NULL), and sends them now; how many. */
size_t deliver_tls_report_send(struct deliver *deliver, const char *domain);

#endif
