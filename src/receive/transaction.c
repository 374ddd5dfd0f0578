/* The envelope from MAIL on, and the verdict on the message. Duplicates among the
 * recipients are found by a walk over their hashes: a thousand of them cost less than the
 * map that would save it. */
#include "transaction.h"

#include "grants.h"
#include "journal.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <string.h>

enum { RECIPIENTS_FIRST = 4, HEADER_EXTRA = 16384 /* Received, Date, Message-ID */ };

/* ---- the envelope ---- */

static bool keep_text(struct transaction *transaction, const char *text, const char **into)
{
    if (!text || !text[0])
        return true;
    *into = arena_text(&transaction->arena, slice_of(text));
    return *into != NULL;
}

bool transaction_open(struct session *session, const struct mail_command *command)
{
    struct transaction *transaction = NEW(struct transaction);
    struct envelope *envelope = &transaction->envelope;
    char id[ID_TEXT];
    bool is_kept;

    arena_init(&transaction->arena, LIMIT_TRANSACTION_ARENA);
    bytes_init(&transaction->header, LIMIT_HEADER_SECTION + HEADER_EXTRA);
    session->transaction = transaction;
    transaction->began_ms = loop_now_ms(session->receive->rooms.loop);
    *envelope = (struct envelope){.sender = "",
                                  .dsn_return = command->dsn_return,
                                  .body_type = command->body_type,
                                  .smtputf8 = command->smtputf8,
                                  .tls_wish = command->requires_tls ? TLS_WISH_REQUIRED
                                                                    : TLS_WISH_NONE};
    id_print(session->id, id);
    is_kept = keep_text(transaction, command->sender.text, &envelope->sender) &&
              keep_text(transaction, command->envid, &envelope->envid) &&
              keep_text(transaction, session->user, &envelope->user) &&
              keep_text(transaction, id, &envelope->session);
    if (!is_kept)
        transaction_abandon(session);
    return is_kept;
}

void transaction_abandon(struct session *session)
{
    struct transaction *transaction = session->transaction;

    if (!transaction)
        return;
    session->transaction = NULL;
    if (transaction->draft)
        draft_discard(transaction->draft);
    /* It may be accepted although nobody is told: it counts. */
    if (transaction->commit)
        limits_keep(session->receive->rooms.limits, &transaction->claim);
    limits_release(session->receive->rooms.limits, &transaction->claim);
    if (transaction->commit)
        commit_cancel(transaction->commit);
    transaction_leave_unsigned(transaction);
    bytes_fini(&transaction->header);
    arena_clear(&transaction->arena);
    memory_free(transaction->recipients);
    memory_free(transaction->hashes);
    memory_free(transaction);
}

/* ---- recipients ---- */

struct slice transaction_section(const struct transaction *transaction)
{
    return slice_from(bytes_view(&transaction->header), transaction->trace_bytes);
}

size_t transaction_recipients(const struct session *session)
{
    return session->transaction ? session->transaction->recipient_count : 0;
}

static uint64_t hash_recipient(const struct address *address, const char *normal)
{
    char key[2 * LIMIT_ADDRESS + 2];
    struct slice local = address_local(address);
    struct slice domain = slice_of(normal);

    memcpy(key, local.data, local.length);
    key[local.length] = '@';
    memcpy(key + local.length + 1, domain.data, domain.length);
    return secure_short_hash((struct slice){key, local.length + 1 + domain.length});
}

/* Equal hashes are made sure of: the stored address is taken apart again, which is rare. */
static bool is_same(const char *stored, const struct address *address, const char *normal)
{
    struct address known;
    char known_normal[DOMAIN_TEXT];

    return address_parse_mailbox(slice_of(stored), &known) == RESULT_OK &&
           domain_normalise(address_domain(&known), known_normal) == RESULT_OK &&
           slice_equal(address_local(&known), address_local(address)) &&
           slice_equal_text(slice_of(known_normal), normal);
}

static bool is_known(const struct transaction *transaction, uint64_t hash,
                     const struct address *address, const char *normal)
{
    for (size_t i = 0; i < transaction->recipient_count; i++)
        if (transaction->hashes[i] == hash &&
            is_same(transaction->recipients[i].address, address, normal))
            return true;
    return false;
}

static void grow(struct transaction *transaction)
{
    size_t capacity = transaction->recipient_capacity * 2;

    if (transaction->recipient_count < transaction->recipient_capacity)
        return;
    if (capacity == 0)
        capacity = RECIPIENTS_FIRST;
    transaction->recipients =
        memory_resize(transaction->recipients, capacity * sizeof *transaction->recipients);
    transaction->hashes =
        memory_resize(transaction->hashes, capacity * sizeof *transaction->hashes);
    transaction->recipient_capacity = capacity;
}

/* RFC 3461 4.2: a recipient that we rewrite (postmaster) keeps its first address in ORCPT.
 */
static bool keep_orcpt(struct transaction *transaction, const struct address *address,
                       const struct rcpt_command *command, const char **into)
{
    struct bytes text;
    bool is_kept;

    if (command->orcpt[0] ||
        slice_equal_text(slice_of(address->text), command->recipient.text))
        return keep_text(transaction, command->orcpt, into);
    bytes_init(&text, sizeof command->orcpt + sizeof address->text * 3);
    is_kept = bytes_add_text(&text, "rfc822;") == RESULT_OK &&
              xtext_encode(slice_of(command->recipient.text), &text) == RESULT_OK;
    if (is_kept) {
        *into = arena_text(&transaction->arena, bytes_view(&text));
        is_kept = *into != NULL;
    }
    bytes_fini(&text);
    return is_kept;
}

enum reply_name transaction_add(struct session *session, const struct address *address,
                                const char *normal, const struct rcpt_command *command)
{
    struct transaction *transaction = session->transaction;
    uint64_t hash = hash_recipient(address, normal);
    struct recipient *recipient;

    if (is_known(transaction, hash, address, normal))
        return REPLY_RECIPIENT_OK;
    if (transaction->recipient_count >= grants_recipients(session) ||
        transaction->recipient_count >= LIMIT_RECIPIENTS)
        return REPLY_TOO_MANY_RECIPIENTS;
    grow(transaction);
    recipient = &transaction->recipients[transaction->recipient_count];
    *recipient = (struct recipient){.notify = command->notify};
    if (!keep_text(transaction, address->text, &recipient->address) ||
        !keep_orcpt(transaction, address, command, &recipient->orcpt))
        return REPLY_OUT_OF_MEMORY;
    transaction->hashes[transaction->recipient_count++] = hash;
    return REPLY_RECIPIENT_OK;
}

/* ---- the verdict ---- */

void transaction_end(struct session *session, enum reply_name reply, const char *argument)
{
    if (reply != REPLY_QUEUED)
        receive_count_rejected(session->receive, reply);
    session->state = STATE_GREETED;
    session_reply(session, reply, argument); /* the log still sees the transaction */
    transaction_abandon(session);
}

static void note_accepted(struct session *session)
{
    struct receive_statistics *statistics = &session->receive->statistics;

    journal_accepted(session);
    limits_keep(session->receive->rooms.limits, &session->transaction->claim);
    statistics->messages_accepted++;
    statistics->recipients_accepted += session->transaction->recipient_count;
    statistics->bytes_accepted += session->transaction->bytes;
    histogram_add(&statistics->final_dot,
                  loop_clock_us() - session->transaction->final_dot_us);
    histogram_add(&statistics->whole, 1000 * (loop_now_ms(session->receive->rooms.loop) -
                                              session->transaction->began_ms));
    session->messages++;
    session->bad_commands = 0;
    session->limit_refusals = 0;
}

static void on_committed(void *owner, enum result result)
{
    struct session *session = owner;
    char id[ID_TEXT];

    session->transaction->commit = NULL;
    id_print(session->transaction->envelope.id, id);
    if (result == RESULT_OK) {
        note_accepted(session);
        transaction_end(session, REPLY_QUEUED, id);
    } else {
        transaction_end(
            session, result == RESULT_NO_SPACE ? REPLY_NO_SPACE : REPLY_QUEUE_FAILED, NULL);
    }
    if (session->stream)
        session_resume(session);
    else
        session_free(session); /* the client went while the commit ran */
}

static void commit(struct session *session)
{
    struct transaction *transaction = session->transaction;
    const struct framing_facts *facts = &session->framing.facts;
    struct submission submission = {
        .envelope = &transaction->envelope,
        .header = bytes_view(&transaction->header),
        .recipients = transaction->recipients,
        .recipient_count = transaction->recipient_count,
    };
    struct draft *draft = transaction->draft;

    transaction->envelope.arrival_ms = loop_wall_ms(session->receive->rooms.loop);
    transaction->envelope.has_8bit = facts->has_8bit;
    transaction->envelope.has_dot_line = facts->has_dot_line;
    transaction->envelope.longest_line = facts->longest_line;
    transaction->draft = NULL;
    transaction->final_dot_us = loop_clock_us();
    session_wait_for(session, WAIT_COMMIT);
    transaction->commit = draft_commit(draft, &submission, on_committed, session);
    bytes_release(&transaction->header);
}

static enum result put_in_front(struct transaction *transaction, struct slice fields)
{
    struct bytes whole;
    enum result result;

    bytes_init(&whole, transaction->header.length + fields.length);
    result = bytes_add(&whole, fields);
    if (result == RESULT_OK)
        result = bytes_add(&whole, bytes_view(&transaction->header));
    bytes_fini(&transaction->header);
    transaction->header = whole;
    return result;
}

/* The client may have gone meanwhile: then the signing was cancelled, and this is not called.
 */
static void on_signed(void *owner, enum result result, struct slice fields)
{
    struct session *session = owner;
    struct transaction *transaction = session->transaction;

    transaction->signing = NULL;
    if (result == RESULT_OK)
        result = put_in_front(transaction, fields);
    if (result == RESULT_OK) {
        commit(session);
        return;
    }
    transaction_end(session, REPLY_SIGNING_FAILED, NULL);
    session_resume(session);
}

void transaction_commit(struct session *session)
{
    struct transaction *transaction = session->transaction;

    if (!transaction->signing) {
        commit(session);
        return;
    }
    session_wait_for(session, WAIT_SIGN);
    signing_finish(transaction->signing, transaction_section(transaction),
                   transaction->envelope.id, on_signed, session);
}

void transaction_leave_unsigned(struct transaction *transaction)
{
    if (transaction->signing)
        signing_cancel(transaction->signing);
    transaction->signing = NULL;
    transaction->signature_count = 0;
}
