/* Rights of the users file. A user without `senders` costs nothing here: no field is read. */
#include "grants.h"

#include "smtpd/base/secure.h"
#include "smtpd/mail/header.h"
#include "smtpd/mail/mailboxes.h"
#include "transaction.h"

#include <stdio.h>
#include <string.h>

bool grants_refresh(struct session *session)
{
    struct account *now;

    if (!session->user)
        return true;
    now = auth_account(session->receive->rooms.auth, session->user);
    if (now == session->account)
        return now != NULL;
    if (!now || strcmp(now->hash, session->account->hash) != 0 ||
        !account_may_log_in_from(now, &session->peer))
        return false;
    account_unref(session->account);
    session->account = account_ref(now);
    return true;
}

uint64_t grants_message_size(const struct session *session)
{
    uint64_t own = session->account ? session->account->rights.size_bytes : 0;

    return own ? own : session->profile->settings.message_size_bytes;
}

unsigned grants_recipients(const struct session *session)
{
    unsigned own = session->account ? session->account->rights.recipients : 0;

    return own ? own : session->profile->settings.recipients_per_message;
}

bool grants_sender(const struct session *session, const struct address *sender)
{
    return !session->account || sender->is_null ||
           account_may_send_as(session->account, sender);
}

static bool judge_field(const struct session *session, struct slice name,
                        struct slice field, unsigned *count, char why[GRANTS_TEXT])
{
    struct mailboxes walk;
    struct address address;

    mailboxes_init(&walk, slice_from(field, slice_find(field, ':') + 1));
    while (mailboxes_next(&walk, &address)) {
        if (++*count <= GRANTS_MAILBOXES_MAX &&
            account_may_send_as(session->account, &address))
            continue;
        if (*count > GRANTS_MAILBOXES_MAX)
            (void)snprintf(why, GRANTS_TEXT, "Too many addresses in From: and Sender:");
        else
            (void)snprintf(why, GRANTS_TEXT,
                           "You may not send as <%s>, which stands in %.*s:", address.text,
                           (int)name.length, name.data);
        return false;
    }
    if (walk.is_wrong)
        (void)snprintf(why, GRANTS_TEXT,
                       "%.*s: is no list of addresses, and you may not send as any address",
                       (int)name.length, name.data);
    return !walk.is_wrong;
}

bool grants_header(const struct session *session, struct slice section,
                   char why[GRANTS_TEXT])
{
    struct slice name;
    struct slice field;
    unsigned count = 0;

    if (!session->account || session->account->rights.sender_count == 0)
        return true;
    while (header_next_field(&section, &name, &field))
        if ((slice_equal_text_fold(name, "From") ||
             slice_equal_text_fold(name, "Sender")) &&
            !judge_field(session, name, field, &count, why))
            return false;
    return true;
}

static struct limits_client client_of(const struct session *session)
{
    return (struct limits_client){
        .user = session->user,
        .rights = session->account ? &session->account->rights : NULL,
        .peer = session->peer,
    };
}

bool grants_take_message(struct session *session, char why[LIMITS_TEXT])
{
    struct limits_client client = client_of(session);

    return limits_take_message(session->receive->rooms.limits, &client,
                               &session->transaction->claim, why);
}

bool grants_take_recipient(struct session *session, char why[LIMITS_TEXT])
{
    struct limits_client client = client_of(session);

    return limits_take_recipient(session->receive->rooms.limits, &client,
                                 &session->transaction->claim, why);
}

bool grants_suppressed(const struct session *session, const struct address *address,
                       char why[SUPPRESSION_TEXT])
{
    return session->receive->rooms.suppression &&
           access_recipient(session->profile->access, address) == ACCESS_REMOTE &&
           suppression_refuses(session->receive->rooms.suppression, session->user,
                               address->text, why);
}

void grants_refuse(struct session *session, const char *why)
{
    uint32_t delay_ms = session->limit_refusals * GRANTS_DELAY_STEP_MS;
    /* Who was refused together must not come back together: half as long to half again. */
    uint32_t jitter_ms = delay_ms ? secure_random_below(delay_ms) : 0;

    if (delay_ms < GRANTS_DELAY_MS_MAX)
        session->limit_refusals++;
    session_reply_later(session, delay_ms / 2 + jitter_ms, REPLY_LIMIT_REACHED, why);
}
