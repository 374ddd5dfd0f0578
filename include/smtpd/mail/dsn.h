/* Writes a report: RFC 3464 in RFC 6522, RFC 6533 where the mail is SMTPUTF8.
 *
 * Promises  pure: the same input gives the same bytes (boundary and ids are given). CRLF
 *           lines. Nothing of the input can break out of its field.
 * Ignores   whether a report is due: see deliver/bounce.
 */
#ifndef SMTPD_MAIL_DSN_H
#define SMTPD_MAIL_DSN_H

#include "smtpd/base/bytes.h"
#include "smtpd/mail/envelope.h"

enum dsn_action { DSN_FAILED, DSN_DELAYED, DSN_DELIVERED, DSN_RELAYED, DSN_EXPANDED };

struct dsn_recipient {
    const char *address;
    const char *orcpt;  /* xtext, or NULL */
    const char *status; /* "5.1.1" */
    const char
        *diagnostic; /* "550 5.1.1 No such user" as the remote server said, or NULL */
    const char *explanation; /* our own words for people when there was no remote reply */
    const char *remote_mta;  /* host name, or NULL */
    int64_t last_attempt_ms; /* wall; 0: leave out */
    const char *class;       /* what kind of failure it is, or NULL */
};

struct dsn {
    enum dsn_action action; /* of all recipients in this report */
    const struct dsn_recipient *recipients;
    size_t recipient_count;
    const struct envelope *envelope; /* of the message reported on */
    struct slice original_header;    /* its header section */
    struct slice original_body;      /* whole body for RET=FULL; empty: headers only */
    const char *reporting_mta;       /* our host name */
    const char *to;                  /* to whom the report goes: usually envelope->sender */
    const char *report_id;           /* base32 id of the report message: Message-ID */
    const char *boundary; /* letters and digits that the original's sender cannot guess */
    int64_t now_ms;
    int64_t expires_ms; /* "will be tried until": DSN_DELAYED only */
};

/* The complete message (header section and body); what was in `message` is gone. */
enum result MUST_CHECK dsn_write(const struct dsn *dsn, struct bytes *message);
const char *dsn_action_name(enum dsn_action action); /* "failed" */

#endif
