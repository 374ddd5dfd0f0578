/* What the user of a session may: the rights of the users file, at each point of a message.
 *
 * Promises  asked anew at each MAIL: a change of the users file holds from the next message
 *           on, and ends the session of a user who was removed or got another password.
 * Ignores   who logged in, and how: see auth_dialogue.h.
 */
#ifndef SMTPD_RECEIVE_GRANTS_H
#define SMTPD_RECEIVE_GRANTS_H

#include "session.h"
#include "smtpd/mail/address.h"

enum {
    GRANTS_TEXT = LIMIT_ADDRESS + 160,
    GRANTS_MAILBOXES_MAX = 50,
    GRANTS_DELAY_STEP_MS = 100, /* of refusals by a limit, in a row; about */
    GRANTS_DELAY_MS_MAX = 1000
};

/* Takes the record of now. false: the log-in holds no more. Nobody logged in: true. */
bool MUST_CHECK grants_refresh(struct session *session);
uint64_t grants_message_size(const struct session *session);
unsigned grants_recipients(const struct session *session);
/* The envelope's sender; the null sender is everybody's: reports are sent with it. */
bool grants_sender(const struct session *session, const struct address *sender);
/* Every mailbox in every From: and Sender: of a complete header section. false: `why` says
 * what is wrong. */
bool MUST_CHECK grants_header(const struct session *session, struct slice section,
                              char why[GRANTS_TEXT]);

/* Reserves the message / one recipient more, in the limits of the user and of the address.
 * false: `why` names the limit and when it frees. */
bool MUST_CHECK grants_take_message(struct session *session, char why[LIMITS_TEXT]);
bool MUST_CHECK grants_take_recipient(struct session *session, char why[LIMITS_TEXT]);
/* Gets no mail from this user (docs/suppression.md). `address` is a mailbox; those of our own
 * domains are never looked up. */
bool grants_suppressed(const struct session *session, const struct address *address,
                       char why[SUPPRESSION_TEXT]);
/* Says that a limit is reached: the first time at once, then later each time. Who tries again
 * and again as fast as he can must not take the loop's time from others. */
void grants_refuse(struct session *session, const char *why);

#endif
