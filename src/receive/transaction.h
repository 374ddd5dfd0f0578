/* MAIL to the reply behind the data: one message on its way into the queue.
 *
 * Owns      the envelope and recipients (in an arena of its own), the header section while
 *           it comes in, the draft.
 * Ignores   what the data says: see intake.h.
 */
#ifndef SMTPD_RECEIVE_TRANSACTION_H
#define SMTPD_RECEIVE_TRANSACTION_H

#include "session.h"
#include "smtpd/base/arena.h"
#include "smtpd/mail/section.h"
#include "smtpd/smtp/command.h"

struct transaction {
    struct arena arena;
    struct envelope envelope;
    struct recipient *recipients;
    uint64_t *hashes; /* keyed, of local part and normal domain: finds duplicates */
    size_t recipient_count;
    size_t recipient_capacity;

    struct signing *signing; /* NULL: the message gets no signature */
    size_t signature_count;
    struct limits_claim claim; /* what is reserved for the message */
    struct draft *draft;       /* NULL before the data, and after a failure */
    struct commit *commit;
    struct bytes header; /* our Received, then the section */
    size_t trace_bytes;  /* of our Received */
    struct section section;
    bool has_header; /* complete and judged */
    bool has_failed;
    enum reply_name failure;
    const char *failure_argument; /* or NULL */
    uint64_t bytes;               /* of the message, as the client sent it */
    const char *message_id;
    int64_t final_dot_us; /* loop_clock_us() */
    int64_t began_ms;
};

/* false: the arena is full (never for grammatical commands). */
bool transaction_open(struct session *session, const struct mail_command *command);
/* REPLY_RECIPIENT_OK or what is wrong. `address` is stored; `normal` is its normal domain.
 */
enum reply_name transaction_add(struct session *session, const struct address *address,
                                const char *normal, const struct rcpt_command *command);
/* The header section so far, behind our Received. */
struct slice transaction_section(const struct transaction *transaction);
size_t transaction_recipients(const struct session *session);

/* Signs the message if keys were chosen, and hands it to the queue; the reply comes when it
 * is durable. */
void transaction_commit(struct session *session);
/* No keys for this message, or it failed already. */
void transaction_leave_unsigned(struct transaction *transaction);
/* The reply to the message, and its end. */
void transaction_end(struct session *session, enum reply_name reply, const char *argument);
/* RSET, EHLO, the end of the session: no trace of the message. */
void transaction_abandon(struct session *session);

#endif
