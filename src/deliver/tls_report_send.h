/* One report on its way: where it is wanted, and there.
 *
 *   TXT -> places -> [mail: signed, into our own queue | https: address, POST] -> the next place
 *
 * Promises  the completion rule (docs/architecture.md); within `time_ms`, and what our own queue
 *           needs, whatever servers do. Sent is what the first place took: the queue durably, or a server with 2xx.
 * Ignores   when; and what follows.
 */
#ifndef SMTPD_DELIVER_TLS_REPORT_SEND_H
#define SMTPD_DELIVER_TLS_REPORT_SEND_H

#include "inner.h"
#include "tally.h"

enum { TLS_REPORT_SEND_MS = 60000 };

struct tls_report_send;
/* `text`: where it went, or why it did not. */
typedef void tls_report_sent_fn(void *owner, struct tally_domain *domain,
                                enum deliver_tls_report result, const char *text);
/* All web servers share the time, and each has a part of it. The domain lives until the end. */
struct tls_report_send *tls_report_send_start(struct deliver *deliver,
                                              struct tally_domain *domain, int64_t time_ms,
                                              tls_report_sent_fn *on_end, void *owner);
void tls_report_send_cancel(struct tls_report_send *send);
void tls_report_send_ask_again(struct tls_report_send *send);
const struct tally_domain *tls_report_send_domain(const struct tls_report_send *send);
struct link *tls_report_send_link(struct tls_report_send *send); /* of the owner's list */
struct tls_report_send *tls_report_send_of_link(struct link *link);

#endif
