/* _smtp._tls.DOMAIN (RFC 8460 3): where a domain wants its reports.
 *
 * Promises  pure. What does not follow the grammar, or stands beside a second record, is none; of
 *           places that are no mailto: or https: nothing is used.
 */
#ifndef SMTPD_DELIVER_TLS_REPORT_RECORD_H
#define SMTPD_DELIVER_TLS_REPORT_RECORD_H

#include "smtpd/base/bytes.h"
#include "smtpd/mail/address.h"

enum { TLS_REPORT_PLACES_MAX = 10, TLS_REPORT_PATH_TEXT = 512 };

struct tls_report_place {
    bool is_mail;
    char address[LIMIT_ADDRESS + 1]; /* mailto: */
    char host[DOMAIN_TEXT];          /* https: */
    uint16_t port;
    char path[TLS_REPORT_PATH_TEXT]; /* with its query */
};

/* How many places; 0: it wants no reports. */
size_t tls_report_record(const struct slice *records, size_t count,
                         struct tls_report_place places[TLS_REPORT_PLACES_MAX]);

#endif
