/* A report as mail: multipart/report; report-type=tlsrpt (RFC 8460 5.3).
 *
 * Promises  pure: the same input gives the same bytes. ASCII, CRLF lines below 80 bytes but for
 *           names that are longer themselves.
 */
#ifndef SMTPD_DELIVER_TLS_REPORT_MAIL_H
#define SMTPD_DELIVER_TLS_REPORT_MAIL_H

#include "smtpd/base/bytes.h"

struct tls_report_letter {
    const char *domain;       /* that it is about */
    const char *submitter;    /* our host name */
    const char *organization; /* may be UTF-8: it stands in the body only */
    const char *contact;      /* From */
    const char *to;
    const char *id;         /* of the report, an addr-spec's letters */
    const char *message_id; /* of the mail: without host and brackets */
    const char *boundary;
    int64_t begin_ms; /* wall */
    int64_t end_ms;
    int64_t now_ms;
    struct slice json;
};

/* The whole message; its header section ends with the first empty line. */
enum result MUST_CHECK tls_report_mail(const struct tls_report_letter *letter,
                                       struct bytes *into);

#endif
