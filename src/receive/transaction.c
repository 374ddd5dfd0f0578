/* One message from MAIL to its commit. The header section is held back whole, because what it
 * says (too many hops, no Date, a Bcc) decides what is stored in front of the body; the body is
 * streamed. Our trace field is written into the same buffer first, so the usual message is
 * copied once. Rejected: to parse fields as they come; it saves 256 KiB at most and costs a
 * second parser. */
#include "transaction.h"

#include "journal.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/mail/header.h"

#include <string.h>

enum {
    RECIPIENTS_FIRST = 4,
    HEADER_PORTION = 4096,     /* so much is added before the end is looked for */
    HEADER_EXTRA = 16384,      /* Received, Date, Message-ID */
    MESSAGE_ID_LOGGED = 200
};

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
                                  .smtputf8 = command->smtputf8};
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
    if (transaction->commit)
        commit_cancel(transaction->commit);
    bytes_fini(&transaction->header);
    arena_clear(&transaction->arena);
    memory_free(transaction->recipients);
    memory_free(transaction->hashes);
    memory_free(transaction);
}

/* ---- recipients ---- */

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

/* RFC 3461 4.2: a recipient that we rewrite (postmaster) keeps its first address in ORCPT. */
static bool keep_orcpt(struct transaction *transaction, const struct address *address,
                       const struct rcpt_command *command, const char **into)
{
    struct bytes text;
    bool is_kept;

    if (command->orcpt[0] ||
        slice_equal_text(slice_of(address->text), command->recipient.text))
        return keep_text(transaction, command->orcpt, into);
    bytes_init(&text, sizeof command->orcpt + LIMIT_ADDRESS * 3);
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
    if (transaction->recipient_count >= session->profile->settings.recipients_per_message ||
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

/* ---- the message ---- */

/* RFC 3848, RFC 6531 4.3. */
static const char *protocol(const struct session *session)
{
    /* clang-format off */
    static const char *const names[2][2][2] = { /* SMTPUTF8, TLS, AUTH */
        {{"ESMTP", "ESMTPA"}, {"ESMTPS", "ESMTPSA"}},
        {{"UTF8SMTP", "UTF8SMTPA"}, {"UTF8SMTPS", "UTF8SMTPSA"}},
    };
    /* clang-format on */

    if (!session->is_extended && !session->user)
        return "SMTP";
    return names[session->transaction->envelope.smtputf8][session->is_secured]
                [session->user != NULL];
}

static void add_trace(struct session *session)
{
    struct transaction *transaction = session->transaction;
    const struct tls_facts *tls = session->is_secured ? stream_tls(session->stream) : NULL;
    char peer[IP_TEXT];
    char id[ID_TEXT];
    struct trace trace = {
        .helo = session->helo,
        .peer_address = peer,
        .hostname = session->profile->settings.hostname,
        .protocol = protocol(session),
        .tls_version = tls ? tls->version : NULL,
        .tls_cipher = tls ? tls->cipher : NULL,
        .id = id,
        /* RFC 5321 7.6: with several recipients it would tell one about another. */
        .recipient =
            transaction->recipient_count == 1 ? transaction->recipients[0].address : NULL,
        .wall_ms = loop_wall_ms(session->receive->rooms.loop),
    };

    ip_print_smtp(&session->peer, peer);
    id_print(transaction->envelope.id, id);
    CHECK(header_add_received(&transaction->header, &trace) == RESULT_OK);
    transaction->trace_bytes = transaction->header.length;
}

static void on_room(void *owner)
{
    struct session *session = owner;

    if (session->wait == WAIT_ROOM)
        session_resume(session);
}

void transaction_begin_message(struct session *session)
{
    struct transaction *transaction = session->transaction;

    transaction->draft = queue_draft_open(session->receive->rooms.queue, on_room, session);
    transaction->envelope.id = draft_id(transaction->draft);
    transaction->began_ms = loop_now_ms(session->receive->rooms.loop);
    section_init(&transaction->section);
    framing_start_message(&session->framing);
    add_trace(session);
}

/* The first fault is the verdict; the draft goes at once, the verdict waits for the end. */
static void fail(struct session *session, enum reply_name reply)
{
    struct transaction *transaction = session->transaction;

    if (transaction->has_failed)
        return;
    transaction->has_failed = true;
    transaction->failure = reply;
    if (transaction->draft)
        draft_discard(transaction->draft);
    transaction->draft = NULL;
    bytes_release(&transaction->header);
    if (session->wait == WAIT_ROOM)
        session->wait = WAIT_NOTHING; /* there is no draft left that could have room */
}

static void write_body(struct session *session, struct slice body)
{
    struct transaction *transaction = session->transaction;
    enum result result;

    if (transaction->has_failed || body.length == 0)
        return;
    result = draft_write(transaction->draft, body);
    if (result == RESULT_AGAIN)
        session_wait_for(session, WAIT_ROOM);
    else if (result == RESULT_NO_SPACE)
        fail(session, REPLY_NO_SPACE);
    else if (result != RESULT_OK)
        fail(session, REPLY_QUEUE_FAILED);
}

static struct slice section_text(const struct transaction *transaction)
{
    return slice_from(bytes_view(&transaction->header), transaction->trace_bytes);
}

static bool has_field(struct slice section, const char *const *names)
{
    struct slice name;
    struct slice field;

    while (header_next_field(&section, &name, &field))
        for (const char *const *each = names; *each; each++)
            if (slice_equal_text_fold(name, *each))
                return true;
    return false;
}

/* Return-Path is written by whoever delivers last (RFC 5321 4.4); Bcc is what nobody else may
 * see (RFC 5322 3.6.3). */
static enum result remove_fields(struct session *session)
{
    static const char *const never[] = {"Return-Path", NULL};
    static const char *const hidden[] = {"Return-Path", "Bcc", "Resent-Bcc", NULL};
    struct transaction *transaction = session->transaction;
    bool hides = session->mode == MODE_SUBMISSION && session->profile->settings.remove_bcc;
    const char *const *names = hides ? hidden : never;
    struct bytes cleaned;
    enum result result;

    if (!has_field(section_text(transaction), names))
        return RESULT_OK;
    bytes_init(&cleaned, transaction->header.ceiling);
    result = bytes_add(&cleaned,
                       slice_part(bytes_view(&transaction->header), 0, transaction->trace_bytes));
    if (result == RESULT_OK)
        result = header_copy_without(section_text(transaction), names, &cleaned);
    bytes_fini(&transaction->header);
    transaction->header = cleaned;
    return result;
}

static void keep_message_id(struct transaction *transaction, struct slice section)
{
    struct header_scan scan;

    header_scan(section, &scan);
    if (scan.message_id.length > 0)
        transaction->message_id = arena_text(
            &transaction->arena, slice_part(scan.message_id, 0, MESSAGE_ID_LOGGED));
}

/* RFC 6409 8: a submission server completes what the author's program left out. */
static enum result add_fields(struct session *session, const struct header_scan *scan)
{
    struct transaction *transaction = session->transaction;
    int64_t wall_ms = loop_wall_ms(session->receive->rooms.loop);
    size_t before = transaction->header.length;
    enum result result = RESULT_OK;
    char id[ID_TEXT];

    if (session->mode != MODE_SUBMISSION || !session->profile->settings.add_missing_headers)
        return RESULT_OK;
    if (scan->date_count == 0)
        result = header_add_date(&transaction->header, wall_ms);
    if (result == RESULT_OK && scan->message_id_count == 0) {
        id_print(transaction->envelope.id, id);
        result = header_add_message_id(&transaction->header, id, wall_ms,
                                       session->profile->settings.hostname);
        keep_message_id(transaction, slice_from(bytes_view(&transaction->header), before));
    }
    return result;
}

/* The buffer holds the section without its empty line. */
static void finish_header(struct session *session)
{
    struct transaction *transaction = session->transaction;
    struct header_scan scan;

    transaction->has_header = true;
    header_scan(section_text(transaction), &scan);
    if (scan.received_count >= session->profile->settings.received_hops) {
        fail(session, REPLY_LOOP); /* RFC 5321 6.3 */
        return;
    }
    if (scan.message_id_count > 0)
        keep_message_id(transaction, section_text(transaction));
    if (remove_fields(session) != RESULT_OK || add_fields(session, &scan) != RESULT_OK ||
        framing_add_line(&transaction->header, SLICE_NONE) != RESULT_OK)
        fail(session, REPLY_HEADER_TOO_LARGE);
}

/* Adds a portion to the section; what turns out to be body goes on to the draft. */
static void take_portion(struct session *session, struct slice portion)
{
    struct transaction *transaction = session->transaction;
    struct slice section;
    size_t length = 0;

    if (bytes_add(&transaction->header, portion) != RESULT_OK) {
        fail(session, REPLY_HEADER_TOO_LARGE);
        return;
    }
    section = section_text(transaction);
    if (section_find(&transaction->section, section, &length) == SECTION_OPEN) {
        if (section.length > LIMIT_HEADER_SECTION)
            fail(session, REPLY_HEADER_TOO_LARGE);
        return;
    }
    if (length > LIMIT_HEADER_SECTION) {
        fail(session, REPLY_HEADER_TOO_LARGE);
        return;
    }
    write_body(session, slice_from(section, length));
    if (transaction->has_failed)
        return;
    transaction->header.length = transaction->trace_bytes + transaction->section.scanned;
    finish_header(session);
}

static void take_header(struct session *session, struct slice *piece)
{
    struct transaction *transaction = session->transaction;

    while (piece->length > 0 && !transaction->has_header && !transaction->has_failed) {
        struct slice portion = slice_part(*piece, 0, HEADER_PORTION);

        *piece = slice_from(*piece, portion.length);
        take_portion(session, portion);
    }
}

static void judge_facts(struct session *session)
{
    const struct framing_facts *facts = &session->framing.facts;

    if (facts->has_bare_cr_or_lf)
        fail(session, REPLY_BARE_LINE_END);
    else if (facts->has_nul)
        fail(session, REPLY_HAS_NUL);
}

static void take(struct session *session, struct slice piece)
{
    take_header(session, &piece);
    write_body(session, piece);
}

void transaction_take(struct session *session, struct slice piece)
{
    struct transaction *transaction = session->transaction;
    uint64_t limit = session->profile->settings.message_size_bytes;

    transaction->bytes += piece.length;
    if (transaction->bytes > limit + TRANSACTION_EXCESS_BYTES) {
        fail(session, REPLY_TOO_LARGE);
        session->receive->statistics.messages_rejected++;
        session_reply_close(session, REPLY_TOO_LARGE, "the message has no end");
        return;
    }
    if (transaction->bytes > limit)
        fail(session, REPLY_TOO_LARGE);
    judge_facts(session);
    if (!transaction->has_failed)
        take(session, piece);
}

/* ---- the verdict ---- */

static void end(struct session *session, enum reply_name reply, const char *argument)
{
    if (reply != REPLY_QUEUED)
        session->receive->statistics.messages_rejected++;
    session->state = STATE_GREETED;
    session_reply(session, reply, argument); /* the log still sees the transaction */
    transaction_abandon(session);
}

bool transaction_has_failed(struct session *session)
{
    judge_facts(session);
    if (!session->transaction->has_failed)
        return false;
    end(session, session->transaction->failure, NULL);
    return true;
}

static void note_accepted(struct session *session)
{
    struct receive_statistics *statistics = &session->receive->statistics;

    journal_accepted(session);
    statistics->messages_accepted++;
    statistics->recipients_accepted += session->transaction->recipient_count;
    statistics->bytes_accepted += session->transaction->bytes;
    session->messages++;
    session->bad_commands = 0;
}

static void on_committed(void *owner, enum result result)
{
    struct session *session = owner;
    char id[ID_TEXT];

    session->transaction->commit = NULL;
    id_print(session->transaction->envelope.id, id);
    if (result == RESULT_OK) {
        note_accepted(session);
        end(session, REPLY_QUEUED, id);
    } else {
        end(session, result == RESULT_NO_SPACE ? REPLY_NO_SPACE : REPLY_QUEUE_FAILED, NULL);
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
    session_wait_for(session, WAIT_COMMIT);
    transaction->commit = draft_commit(draft, &submission, on_committed, session);
    bytes_release(&transaction->header);
}

/* By BDAT the last line may lack its end, and any message may lack a body. */
static void complete(struct session *session)
{
    struct transaction *transaction = session->transaction;
    struct bytes line_end;

    if (!session->framing.facts.ends_with_crlf) {
        bytes_init(&line_end, 4);
        CHECK(framing_add_line(&line_end, SLICE_NONE) == RESULT_OK);
        take(session, bytes_view(&line_end));
        bytes_fini(&line_end);
    }
    if (!transaction->has_failed && !transaction->has_header)
        finish_header(session);
}

void transaction_end_message(struct session *session)
{
    struct transaction *transaction = session->transaction;

    judge_facts(session);
    if (!transaction->has_failed)
        complete(session);
    if (transaction->has_failed)
        end(session, transaction->failure, NULL);
    else
        commit(session);
}
