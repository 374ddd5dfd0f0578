/* What is said about one message on one connection.
 *
 * A transaction is a row of steps; `sent` and `got` are two cursors over it. With
 * PIPELINING the first runs ahead to DATA; the replies are matched in order:
 *
 *   RSET?  MAIL  RCPT RCPT ... RCPT  DATA  (body) DOT
 *          ^got                  ^sent
 */
#include "attempt_inner.h"

#include "smtpd/base/check.h"
#include "smtpd/smtp/command.h"

#include <string.h>

enum step { STEP_RSET, STEP_MAIL, STEP_RCPT, STEP_DATA, STEP_DOT };

enum { COMMANDS_MAX = 1 << 20 };

/* ---- what the host lacks ---- */

static bool address_has_utf8(const char *address)
{
    for (; *address; address++)
        if ((unsigned char)*address > 0x7f)
            return true;
    return false;
}

static bool needs_smtputf8(const struct attempt *attempt)
{
    const struct envelope *envelope = &attempt->lease->envelope;

    if (!envelope->smtputf8)
        return false;
    for (uint32_t i = 0; i < attempt->lease->group.recipient_count; i++)
        if (address_has_utf8(attempt->lease->group.recipients[i].address))
            return true;
    return address_has_utf8(envelope->sender) || envelope->has_8bit;
}

static const struct said *find_lack(struct attempt *attempt)
{
    const struct envelope *envelope = &attempt->lease->envelope;
    const struct capabilities *theirs = connection_capabilities(attempt->connection);
    const char *host = connection_host(attempt->connection);
    uint64_t size = envelope->header_bytes + envelope->body_bytes;

    if (needs_smtputf8(attempt) && !theirs->smtputf8)
        return said_words(
            &attempt->arena, CLASS_PROTOCOL, 553, "5.6.7",
            "the message needs SMTPUTF8 (RFC 6531), which the next hop does not offer",
            host);
    if (envelope->has_8bit && !theirs->eightbitmime)
        return said_words(
            &attempt->arena, CLASS_PROTOCOL, 554, "5.6.3",
            "the message has 8-bit content, and the next hop does not offer 8BITMIME",
            host);
    if (theirs->size && theirs->size_limit && size > theirs->size_limit)
        return said_words(&attempt->arena, CLASS_SIZE, 552, "5.3.4",
                          "the message is larger than the next hop takes", host);
    return NULL;
}

/* ---- the steps ---- */

static enum step step_at(const struct attempt *attempt, uint32_t at, uint32_t *recipient)
{
    if (attempt->has_reset && at == 0)
        return STEP_RSET;
    at -= attempt->has_reset;
    *recipient = at - 1;
    if (at == 0)
        return STEP_MAIL;
    if (at <= attempt->batch_count)
        return STEP_RCPT;
    return at == attempt->batch_count + 1 ? STEP_DATA : STEP_DOT;
}

static enum result add_step(struct attempt *attempt, uint32_t at, struct bytes *into)
{
    const struct capabilities *theirs = connection_capabilities(attempt->connection);
    const struct envelope *envelope = &attempt->lease->envelope;
    uint32_t recipient = 0;

    switch (step_at(attempt, at, &recipient)) {
    case STEP_RSET:
        return framing_add_line(into, SLICE("RSET"));
    case STEP_MAIL: {
        struct mail_line line = {envelope->sender, theirs->size, theirs->eightbitmime,
                                 theirs->smtputf8, theirs->dsn,  envelope};

        return command_add_mail(into, &line);
    }
    case STEP_RCPT:
        return command_add_rcpt(
            into, &attempt->lease->group.recipients[attempt->batch[recipient]],
            theirs->dsn);
    case STEP_DATA:
    case STEP_DOT:
    default:
        return framing_add_line(into, SLICE("DATA"));
    }
}

static void await_reply(struct attempt *attempt)
{
    const struct deliver_timeouts *t =
        destination_timeouts(attempt->destination, attempt->settings);
    uint32_t recipient;

    switch (step_at(attempt, attempt->got, &recipient)) {
    case STEP_RSET:
        connection_await(attempt->connection, t->mail ? t->mail : 300000, "RSET");
        break;
    case STEP_MAIL:
        connection_await(attempt->connection, t->mail ? t->mail : 300000, "MAIL");
        break;
    case STEP_RCPT:
        connection_await(attempt->connection, t->rcpt ? t->rcpt : 300000, "RCPT");
        break;
    case STEP_DATA:
        connection_await(attempt->connection, t->data ? t->data : 120000, "DATA");
        break;
    case STEP_DOT:
    default:
        connection_await(attempt->connection, t->final_dot ? t->final_dot : 600000,
                         "the final dot");
        break;
    }
}

static uint32_t data_at(const struct attempt *attempt)
{
    return attempt->has_reset + 1 + attempt->batch_count;
}

static void send_more(struct attempt *attempt)
{
    bool pipelines = connection_capabilities(attempt->connection)->pipelining;
    struct bytes text;
    enum result added = RESULT_OK;

    bytes_init(&text, COMMANDS_MAX);
    while (attempt->sent <= data_at(attempt) && added == RESULT_OK &&
           (pipelines || attempt->sent == attempt->got)) {
        added = add_step(attempt, attempt->sent, &text);
        attempt->sent++;
    }
    if (added == RESULT_OK)
        (void)connection_send(attempt->connection, bytes_view(&text));
    bytes_fini(&text);
    await_reply(attempt);
}

static void choose_batch(struct attempt *attempt)
{
    const struct host_memory *memory =
        host_find(attempt->destination, connection_host(attempt->connection));
    uint32_t most = destination_settings(attempt->destination)->recipients_per_transaction;

    if (memory && memory->recipients_max && memory->recipients_max < most)
        most = memory->recipients_max;
    attempt->batch_count = 0;
    for (uint32_t i = 0;
         i < attempt->lease->group.recipient_count && attempt->batch_count < most &&
         attempt->batch_count < LIMIT_GROUP_RECIPIENTS;
         i++)
        if (attempt->outcomes[i].verdict == VERDICT_OPEN)
            attempt->batch[attempt->batch_count++] = i;
}

void transaction_begin(struct attempt *attempt)
{
    const struct said *lack = find_lack(attempt);

    if (lack) { /* other hosts first */
        attempt_lacks(attempt, lack);
        return;
    }
    attempt->is_in_body = attempt->dot_was_sent = false;
    attempt->sent = attempt->got = 0;
    if (!pacing_may_send(attempt))
        return;
    choose_batch(attempt);
    memset(attempt->accepted, 0, sizeof attempt->accepted);
    attempt->accepted_count = 0;
    attempt->has_reset = connection_needs_reset(attempt->connection);
    attempt->mail_is_ok = attempt->is_lone_dot = false;
    attempt->rest_waits = attempt->waits_for_drain = false;
    if (!attempt->transfer_from_ms)
        attempt->transfer_from_ms = loop_now_ms(attempt->deliver->rooms.loop);
    connection_set_needs_reset(attempt->connection, true);
    send_more(attempt);
}

/* ---- the body ---- */

void transaction_close_body(struct attempt *attempt)
{
    if (attempt->body)
        body_reader_close(attempt->body);
    attempt->body = NULL;
}

static void fail_reading(struct attempt *attempt)
{
    /* Half a message must not end with a dot: the connection is cut. */
    attempt_drop_connection(attempt, false);
    attempt_set_open(attempt, VERDICT_DEFERRED,
                     said_words(&attempt->arena, CLASS_OTHER, 451, "4.3.0",
                                "the message could not be read from the queue", NULL));
    attempt_finish(attempt);
}

static void await_block(struct attempt *attempt)
{
    int64_t block = destination_timeouts(attempt->destination, attempt->settings)->block;

    connection_await(attempt->connection, block ? block : 180000, "the data");
}

/* The final dot leaves with the last piece. While much of both is unsent the patience is that
 * of the data (RFC 5321 4.5.3.2.5): there is nothing yet that the peer could answer. */
static void send_end(struct attempt *attempt, struct slice last)
{
    struct slice end = framing_data_end(true); /* the queue keeps whole lines */

    attempt->is_in_body = false;
    attempt->dot_was_sent = true; /* from now on it may leave, whatever becomes of us */
    attempt->waits_for_drain =
        connection_send_both(attempt->connection, last, end) == RESULT_AGAIN;
    if (attempt->waits_for_drain)
        await_block(attempt);
    else
        await_reply(attempt);
}

static enum result send_piece(struct attempt *attempt, struct slice piece)
{
    if (body_reader_left(attempt->body) > 0)
        return connection_send(attempt->connection, piece);
    send_end(attempt, piece);
    transaction_close_body(attempt); /* `piece` lived until here */
    return RESULT_OK;
}

static enum result send_stuffed(struct attempt *attempt, struct slice piece)
{
    struct bytes stuffed;
    enum result result;

    bytes_init(&stuffed, 2 * piece.length + 64);
    CHECK(framing_stuff(&attempt->stuffing, piece, &stuffed) == RESULT_OK);
    result = send_piece(attempt, bytes_view(&stuffed));
    bytes_fini(&stuffed);
    return result;
}

static void on_piece(void *owner, struct slice piece, enum result result)
{
    struct attempt *attempt = owner;
    enum result sent;

    if (result != RESULT_OK) {
        fail_reading(attempt);
        return;
    }
    if (piece.length == 0) {
        transaction_close_body(attempt);
        send_end(attempt, SLICE_NONE);
        return;
    }
    await_block(attempt);
    sent = attempt->lease->envelope.has_dot_line ? send_stuffed(attempt, piece)
                                                 : send_piece(attempt, piece);
    if (attempt->dot_was_sent)
        return;
    if (sent == RESULT_AGAIN)
        attempt->waits_for_drain = true;
    else
        body_reader_next(attempt->body, on_piece, attempt);
}

void transaction_on_drained(void *owner)
{
    struct attempt *attempt = owner;

    if (!attempt->waits_for_drain)
        return;
    attempt->waits_for_drain = false;
    if (attempt->dot_was_sent) {
        await_reply(attempt);
    } else {
        await_block(attempt);
        body_reader_next(attempt->body, on_piece, attempt);
    }
}

static void start_body(struct attempt *attempt)
{
    transaction_close_body(attempt);
    attempt->body =
        body_reader_open_in_turn(attempt->deliver->rooms.queue, &attempt->lease->envelope);
    framing_stuffing_init(&attempt->stuffing);
    attempt->is_in_body = true;
    await_block(attempt);
    body_reader_next(attempt->body, on_piece, attempt);
}

/* ---- replies ---- */

static const struct said *keep(struct attempt *attempt, const struct reply *reply)
{
    return said_reply(&attempt->arena, reply, connection_host(attempt->connection));
}

static void judge_batch(struct attempt *attempt, const struct reply *reply,
                        bool only_accepted)
{
    const struct said *said = keep(attempt, reply);
    const struct capabilities *theirs = connection_capabilities(attempt->connection);

    for (uint32_t i = 0; i < attempt->batch_count; i++) {
        struct outcome *outcome = &attempt->outcomes[attempt->batch[i]];

        if (outcome->verdict != VERDICT_OPEN || (only_accepted && !attempt->accepted[i]))
            continue;
        outcome->verdict = verdict_of(reply);
        outcome->said = said;
        outcome->is_relayed = outcome->verdict == VERDICT_DELIVERED && !theirs->dsn;
    }
}

/* The steps are over. What is still open goes in a further transaction, at once. */
static void transaction_over(struct attempt *attempt)
{
    if (attempt->dot_was_sent)
        connection_set_needs_reset(attempt->connection, false);
    if (attempt_has_open(attempt) &&
        (attempt->accepted_count > 0 || !attempt->rest_waits) && attempt->batch_count > 0 &&
        attempt->outcomes[attempt->batch[0]].verdict != VERDICT_OPEN) {
        attempt->has_transacted = true;
        transaction_begin(attempt);
        return;
    }
    attempt_finish(attempt);
}

static void on_mail_reply(struct attempt *attempt, const struct reply *reply)
{
    attempt_host_works(attempt);
    attempt->mail_is_ok = reply_is_positive(reply);
    if (!attempt->mail_is_ok)
        judge_batch(attempt, reply,
                    false); /* RFC 5321 3.3: the answer for every recipient */
}

static void on_rcpt_reply(struct attempt *attempt, const struct reply *reply,
                          uint32_t recipient)
{
    struct outcome *outcome = &attempt->outcomes[attempt->batch[recipient]];
    struct host_memory *memory;

    if (!attempt->mail_is_ok)
        return;
    if (reply_is_positive(reply)) {
        attempt->accepted[recipient] = true;
        attempt->accepted_count++;
        return;
    }
    if (attempt->accepted_count > 0 && verdict_is_too_many(reply)) {
        attempt->rest_waits = true;
        memory = host_memory(attempt->destination, connection_host(attempt->connection));
        if (memory)
            memory->recipients_max = attempt->accepted_count;
        return;
    }
    outcome->verdict =
        verdict_of(reply) == VERDICT_FAILED ? VERDICT_FAILED : VERDICT_DEFERRED;
    outcome->said = keep(attempt, reply);
}

static void on_data_reply(struct attempt *attempt, const struct reply *reply)
{
    if (reply->code != 354) {
        struct reply judged = *reply;

        if (!reply_is_transient(reply) && !reply_is_permanent(reply))
            judged.code = 451; /* 2xx to DATA is nonsense */
        judge_batch(attempt, &judged, true);
        transaction_over(attempt);
        return;
    }
    if (attempt->accepted_count > 0) {
        start_body(attempt);
        return;
    }
    /* RFC 2920 3.1: 354 although no recipient was accepted: a lone dot. */
    attempt->is_lone_dot = true;
    send_end(attempt, SLICE_NONE);
}

static void on_dot_reply(struct attempt *attempt, const struct reply *reply)
{
    if (!attempt->is_lone_dot) {
        judge_batch(attempt, reply, true);
        connection_count_message(attempt->connection);
        if (reply_is_positive(reply))
            pacing_works(attempt);
    }
    transaction_over(attempt);
}

/* Without PIPELINING the next step may be needless. */
static bool is_over_early(const struct attempt *attempt)
{
    uint32_t after_mail = attempt->has_reset + 1U;

    if (attempt->sent != attempt->got)
        return false;
    if (attempt->got == after_mail && !attempt->mail_is_ok)
        return true;
    return attempt->got == data_at(attempt) && attempt->accepted_count == 0;
}

static void on_step_reply(struct attempt *attempt, const struct reply *reply)
{
    uint32_t recipient = 0;
    enum step step = step_at(attempt, attempt->got, &recipient);

    attempt->got++;
    if (step == STEP_DATA) {
        on_data_reply(attempt, reply);
        return;
    }
    if (step == STEP_DOT) {
        on_dot_reply(attempt, reply);
        return;
    }
    if (step == STEP_MAIL)
        on_mail_reply(attempt, reply);
    else if (step == STEP_RCPT)
        on_rcpt_reply(attempt, reply, recipient);
    if (is_over_early(attempt))
        transaction_over(attempt);
    else
        send_more(attempt);
}

/* A positive reply while the end of the message is still with us answers something else. */
static bool is_out_of_turn(const struct attempt *attempt, const struct reply *reply)
{
    if (attempt->dot_was_sent)
        return reply_is_positive(reply) && connection_unsent(attempt->connection) > 0;
    return attempt->got >= attempt->sent;
}

static void break_off(struct attempt *attempt, enum result code, const char *did,
                      const struct reply *reply)
{
    struct fault fault;
    char words[LIMIT_REPLY_TEXT + 64];

    reply_print(reply, words, sizeof words);
    (void)fault_set(&fault, code, "%s %s%.300s", connection_peer(attempt->connection), did,
                    words);
    connection_broken_off(attempt->connection, reply, code == RESULT_CLOSED);
    attempt_broken(attempt, &fault);
}

void transaction_on_reply(void *owner, const struct reply *reply)
{
    struct attempt *attempt = owner;
    uint32_t recipient;
    enum step step = step_at(attempt, attempt->got, &recipient);

    pacing_reacts(attempt, reply);
    /* It closes: RFC 5321 3.8. In the middle of the data too. */
    if (reply->code == 421 && (step != STEP_DOT || !attempt->dot_was_sent))
        break_off(attempt, RESULT_CLOSED, "said ", reply);
    else if (is_out_of_turn(attempt, reply))
        break_off(attempt, RESULT_INVALID, "spoke out of turn: ", reply);
    else
        on_step_reply(attempt, reply);
}

bool transaction_is_under_way(const struct attempt *attempt)
{
    uint32_t recipient;
    enum step step = step_at(attempt, attempt->got, &recipient);

    return attempt->is_ready && attempt->sent > 0 && step != STEP_RSET && step != STEP_MAIL;
}
