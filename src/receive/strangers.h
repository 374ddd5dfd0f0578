/* What only strangers meet: clients that neither logged in nor stand in trusted_networks.
 *
 * Promises  nobody is refused at EHLO for what a log-in would make good: refusals come at
 *           RCPT, and never for a postmaster (RFC 5321 4.5.1).
 */
#ifndef SMTPD_RECEIVE_STRANGERS_H
#define SMTPD_RECEIVE_STRANGERS_H

#include "session.h"
#include "smtpd/mail/address.h"

enum { STRANGERS_TEXT = 640 };

/* The connection is there (and secured, where TLS comes first): the greeting, now or after
 * greeting_delay; and what the DNS says of a stranger. */
void strangers_begin(struct session *session);
/* The timer came in WAIT_GREETING. */
void strangers_on_timer(struct session *session);
/* Bytes came in WAIT_GREETING. */
void strangers_talk_early(struct session *session);
/* Whether input must wait for what the DNS says. */
bool strangers_must_wait(const struct session *session);
void strangers_end(struct session *session); /* the session closes */

/* After EHLO or HELO. */
void strangers_check_helo(struct session *session);
/* A recipient that is fine but for the client: REPLY_RECIPIENT_OK, or the refusal, with
 * session->rule set and its words in `why`. */
enum reply_name strangers_judge(struct session *session, const struct address *recipient,
                                char why[STRANGERS_TEXT]);

/* Counts a reply that speaks of a fault. true: it was one too many, and 421 was said. */
bool strangers_give_up(struct session *session, enum reply_name name);
/* How long the reply to a fault is held back. */
int64_t strangers_delay(const struct session *session, enum reply_name name);

#endif
