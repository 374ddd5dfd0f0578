/* Reports of TLS (RFC 8460), the living part: counting, keeping over restarts, the end of each day.
 *
 * Owns      the tally, its file data_dir/tls-report, the sending of reports (LIMIT_TLS_REPORTS at
 *           once).
 * Promises  the file is written on the file pool within half a minute of a change, and at the end. A
 *           day's report leaves within four hours of midnight (UTC), at a time drawn for each domain;
 *           what cannot be sent is tried every hour for a day, behind all that wait. Nothing is counted while no
 *           organization and contact are set.
 * Ignores   what a session was: see connection_tally.c.
 */
#ifndef SMTPD_DELIVER_TLS_REPORT_INNER_H
#define SMTPD_DELIVER_TLS_REPORT_INNER_H

#include "inner.h"
#include "tally.h"

struct tls_report *tls_report_new(struct deliver *deliver);
void tls_report_free(struct tls_report *report);
void tls_report_count(struct tls_report *report, const struct tally_session *session);
/* What the old resolver was asked the new one is asked. */
void tls_report_ask_again(struct tls_report *report);
/* No new mail is made while we leave. */
void tls_report_stop(struct tls_report *report);

#endif
