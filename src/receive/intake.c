/* The bytes of a message on their way into the draft. The header section is held back
 * whole, because what it says (too many hops, no Date, a Bcc) decides what is stored in
 * front of the body; the body is streamed. Our trace field is written into the same buffer
 * first, so the usual message is copied once. Rejected: to parse fields as they come; it
 * saves 256 KiB at most and costs a second parser. */
#include "intake.h"

#include "fix_ups.h"
#include "grants.h"
#include "smtpd/base/check.h"
#include "smtpd/mail/header.h"
#include "tenancy.h"
#include "transaction.h"

enum {
    HEADER_PORTION = 4096 /* so much is added before the end is looked for */
};

/* ---- the trace field ---- */

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

static bool hides_client(const struct session *session)
{
    return session->user && session->mode == MODE_SUBMISSION &&
           session->profile->settings.hide_client;
}

static void add_trace(struct session *session)
{
    struct transaction *transaction = session->transaction;
    const struct tls_facts *tls = session->is_secured ? stream_tls(session->stream) : NULL;
    char peer[IP_TEXT];
    char id[ID_TEXT];
    struct trace trace = {
        .helo = session->helo,
        .peer_name = session->screened && session->screened->name[0]
                         ? session->screened->name
                         : NULL,
        .peer_address = hides_client(session) ? NULL : peer,
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

void intake_begin(struct session *session)
{
    struct transaction *transaction = session->transaction;

    transaction->draft = queue_draft_open(session->receive->rooms.queue, on_room, session);
    transaction->envelope.id = draft_id(transaction->draft);
    transaction->began_ms = loop_now_ms(session->receive->rooms.loop);
    if (session_may_relay(session))
        transaction->signing = signing_start(session->receive->rooms.signer);
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
    transaction_leave_unsigned(transaction);
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
    if (transaction->signing)
        signing_add(transaction->signing, body);
    result = draft_write(transaction->draft, body);
    if (result == RESULT_AGAIN)
        session_wait_for(session, WAIT_ROOM);
    else if (result == RESULT_NO_SPACE)
        fail(session, REPLY_NO_SPACE);
    else if (result != RESULT_OK)
        fail(session, REPLY_QUEUE_FAILED);
}

/* Last of all that is done to the header section: signed is what is stored. */
static void choose_keys(struct transaction *transaction)
{
    if (!transaction->signing)
        return;
    transaction->signature_count =
        signing_choose(transaction->signing, transaction_section(transaction));
    if (transaction->signature_count == 0)
        transaction_leave_unsigned(transaction);
}

/* RFC 8689 4: REQUIRETLS goes before the field. */
static void note_tls_wish(struct transaction *transaction)
{
    struct slice rest = transaction_section(transaction);
    struct slice name;
    struct slice field;

    while (transaction->envelope.tls_wish == TLS_WISH_NONE &&
           header_next_field(&rest, &name, &field)) {
        if (!slice_equal_text_fold(name, "TLS-Required"))
            continue;
        field = slice_from(field, slice_find(field, ':') + 1);
        while (field.length > 0 && (unsigned char)field.data[field.length - 1] <= ' ')
            field.length--;
        if (slice_equal_text_fold(slice_trim(field), "No"))
            transaction->envelope.tls_wish = TLS_WISH_WAIVED;
    }
}

/* The buffer holds the section without its empty line. */
static void finish_header(struct session *session)
{
    struct transaction *transaction = session->transaction;
    struct header_scan scan;
    char why[GRANTS_TEXT];

    transaction->has_header = true;
    header_scan(transaction_section(transaction), &scan);
    if (scan.received_count >= session->profile->settings.received_hops) {
        fail(session, REPLY_LOOP); /* RFC 5321 6.3 */
        return;
    }
    if (!grants_header(session, transaction_section(transaction), why)) {
        transaction->failure_argument = arena_text(&transaction->arena, slice_of(why));
        fail(session, REPLY_HEADER_SENDER_DENIED);
        return;
    }
    note_tls_wish(transaction);
    if (!tenancy_apply(session, transaction_section(transaction), why)) {
        transaction->failure_argument = arena_text(&transaction->arena, slice_of(why));
        fail(session, REPLY_BAD_TENANT);
        return;
    }
    if (fix_ups_apply(session) != RESULT_OK ||
        framing_add_line(&transaction->header, SLICE_NONE) != RESULT_OK)
        fail(session, REPLY_HEADER_TOO_LARGE);
    choose_keys(transaction);
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
    section = transaction_section(transaction);
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

void intake_take(struct session *session, struct slice piece)
{
    struct transaction *transaction = session->transaction;
    uint64_t limit = grants_message_size(session);

    transaction->bytes += piece.length;
    if (transaction->bytes > limit + INTAKE_EXCESS_BYTES) {
        fail(session, REPLY_TOO_LARGE);
        receive_count_rejected(session->receive, REPLY_TOO_LARGE);
        session_reply_close(session, REPLY_TOO_LARGE, "the message has no end");
        return;
    }
    if (transaction->bytes > limit)
        fail(session, REPLY_TOO_LARGE);
    judge_facts(session);
    if (!transaction->has_failed)
        take(session, piece);
}

/* ---- the end ---- */

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

void intake_end(struct session *session)
{
    struct transaction *transaction = session->transaction;

    judge_facts(session);
    if (session->framing.facts.ends_with_cr) /* the last byte of a BDAT LAST */
        fail(session, REPLY_BARE_LINE_END);
    if (!transaction->has_failed)
        complete(session);
    if (transaction->has_failed)
        transaction_end(session, transaction->failure, transaction->failure_argument);
    else
        transaction_commit(session);
}

/* RFC 3030 2: a chunk was read to its end. */
void intake_end_chunk(struct session *session)
{
    char count[24];
    struct bytes text;

    session_read(session, READ_COMMANDS);
    if (!session->has_chunk) {
        session_reply(session, session->chunk_refusal.name,
                      session->chunk_refusal.argument);
        return;
    }
    session->has_chunk = false;
    if (session->is_last_chunk) {
        intake_end(session);
        return;
    }
    judge_facts(session);
    if (session->transaction->has_failed) {
        transaction_end(session, session->transaction->failure,
                        session->transaction->failure_argument);
        return;
    }
    bytes_init(&text, sizeof count);
    if (bytes_format(&text, "%llu", (unsigned long long)session->chunk_bytes) ==
            RESULT_OK &&
        slice_copy_text(bytes_view(&text), count, sizeof count))
        session_reply(session, REPLY_CHUNK_OK, count);
    bytes_fini(&text);
}
