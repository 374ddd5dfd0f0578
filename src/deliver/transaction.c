/* What is said about one message on one connection.
 *
 * A transaction is a row of steps; `sent` and `got` are two cursors over it. With
 * PIPELINING the first runs ahead to DATA; the replies are matched in order:
 *
 *   RSET?  MAIL  RCPT RCPT ... RCPT  DATA  (body) DOT
 *          ^got                  ^sent
 *   RSET?  MAIL  RCPT RCPT ... RCPT  BDAT with the body
 *
 * In the second row, which a connection must have earned (flight.c), nothing is waited for. The
 * probe is in front of one of the first kind: a chunk that must be refused, of one line that ends
 * the session of a host that takes it for a command.
 */
#include "attempt_inner.h"

#include "flight.h"
#include "lack.h"
#include "smtpd/smtp/command.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum step {
    STEP_RSET,
    STEP_PROBE_MAIL,
    STEP_PROBE_CHUNK,
    STEP_MAIL,
    STEP_RCPT,
    STEP_DATA,
    STEP_DOT,
    STEP_CHUNK
};

enum { COMMANDS_MAX = 1 << 20 };

/* How many recipients a host takes, like the rest that is learned of one. */
static const int64_t LEARNED_MS = INT64_C(24) * 3600 * 1000;

/* ---- the steps ---- */

static enum step step_at(const struct attempt *attempt, uint32_t at, uint32_t *recipient)
{
    static const enum step prefix[] = {STEP_RSET, STEP_PROBE_MAIL, STEP_PROBE_CHUNK,
                                       STEP_RSET};

    *recipient = 0;
    if (at < attempt->prefix)
        return prefix[at];
    at -= attempt->prefix;
    if (at == 0)
        return STEP_MAIL;
    *recipient = at - 1;
    if (at <= attempt->batch_count)
        return STEP_RCPT;
    if (attempt->is_chunked)
        return STEP_CHUNK;
    return at == attempt->batch_count + 1 ? STEP_DATA : STEP_DOT;
}

static enum result add_chunk(const struct attempt *attempt, struct bytes *into)
{
    const struct envelope *envelope = &attempt->lease->envelope;
    char line[64];

    (void)snprintf(line, sizeof line, "BDAT %" PRIu64 " LAST",
                   envelope->header_bytes + envelope->body_bytes);
    return framing_add_line(into, slice_of(line));
}

/* A chunk for nobody. Who reads it as a command says goodbye, and nothing was in it. */
static enum result add_probe(struct bytes *into)
{
    enum result result = framing_add_line(into, SLICE("BDAT 6 LAST"));

    return result == RESULT_OK ? framing_add_line(into, SLICE("QUIT")) : result;
}

static enum result add_mail(struct attempt *attempt, struct bytes *into)
{
    const struct capabilities *theirs = connection_capabilities(attempt->connection);
    const struct envelope *envelope = &attempt->lease->envelope;
    struct mail_line line = {envelope->sender,  theirs->size, theirs->eightbitmime,
                             theirs->smtputf8,  theirs->dsn,  envelope,
                             theirs->requiretls};

    return command_add_mail(into, &line);
}

static enum result add_step(struct attempt *attempt, uint32_t at, struct bytes *into)
{
    const struct capabilities *theirs = connection_capabilities(attempt->connection);
    uint32_t recipient;

    switch (step_at(attempt, at, &recipient)) {
    case STEP_RSET:
        return framing_add_line(into, SLICE("RSET"));
    case STEP_PROBE_MAIL:
        return framing_add_line(into, SLICE("MAIL FROM:<>"));
    case STEP_PROBE_CHUNK:
        return add_probe(into);
    case STEP_MAIL:
        return add_mail(attempt, into);
    case STEP_RCPT:
        return command_add_rcpt(
            into, &attempt->lease->group.recipients[attempt->batch[recipient]],
            theirs->dsn);
    case STEP_CHUNK:
        return add_chunk(attempt, into);
    case STEP_DATA:
    case STEP_DOT:
    default:
        return framing_add_line(into, SLICE("DATA"));
    }
}

static int64_t or_usual(int64_t patience_ms, int64_t usual_ms)
{
    return patience_ms ? patience_ms : usual_ms;
}

/* The end has not left: the peer is to take the data. */
static bool is_in_data(const struct attempt *attempt, enum step step)
{
    return (step == STEP_DOT || step == STEP_CHUNK) &&
           (!attempt->dot_was_sent || attempt->waits_for_drain);
}

void transaction_await(struct attempt *attempt)
{
    const struct deliver_timeouts *t =
        destination_timeouts(attempt->destination, attempt->settings);
    uint32_t recipient;
    enum step step = step_at(attempt, attempt->got, &recipient);

    /* Its pace holds it, or our memory. */
    if (attempt->sent == 0 || (attempt->body && body_reader_waits(attempt->body)))
        flight_await(attempt, 0, "");
    else if (is_in_data(attempt, step))
        flight_await(attempt, or_usual(t->block, 180000), "the data");
    else if (step == STEP_DOT || step == STEP_CHUNK)
        flight_await(attempt, or_usual(t->final_dot, 600000), "the final dot");
    else if (step == STEP_DATA)
        flight_await(attempt, or_usual(t->data, 120000), "DATA");
    else if (step == STEP_RCPT)
        flight_await(attempt, or_usual(t->rcpt, 300000), "RCPT");
    else
        flight_await(attempt, or_usual(t->mail, 300000),
                     step == STEP_RSET ? "RSET" : "MAIL");
}

static uint32_t data_at(const struct attempt *attempt)
{
    return attempt->prefix + 1 + attempt->batch_count;
}

static void send_more(struct attempt *attempt)
{
    bool pipelines = connection_capabilities(attempt->connection)->pipelining &&
                     !flight_is_lock_step(attempt->connection);
    bool was_before_data = attempt->sent <= data_at(attempt);
    struct bytes text;
    enum result added = RESULT_OK;

    bytes_init(&text, COMMANDS_MAX);
    while (attempt->sent <= data_at(attempt) && added == RESULT_OK &&
           (pipelines || attempt->sent == attempt->got)) {
        added = add_step(attempt, attempt->sent, &text);
        attempt->sent++;
    }
    /* First: what is in memory comes before the turn ends, and leaves with the commands. */
    if (attempt->is_chunked && was_before_data)
        payload_start(attempt);
    if (added == RESULT_OK)
        (void)connection_send(attempt->connection, bytes_view(&text));
    bytes_fini(&text);
    transaction_await(attempt);
}

static void choose_batch(struct attempt *attempt)
{
    const struct host_memory *memory =
        host_find(attempt->destination, connection_host(attempt->connection));
    uint32_t most = destination_settings(attempt->destination)->recipients_per_transaction;

    if (memory && memory->recipients_max_until_ms > deliver_now(attempt->deliver) &&
        memory->recipients_max < most)
        most = memory->recipients_max;
    attempt->batch_count = 0;
    for (uint32_t i = 0;
         i < attempt->lease->group.recipient_count && attempt->batch_count < most &&
         attempt->batch_count < LIMIT_GROUP_RECIPIENTS;
         i++)
        if (attempt->outcomes[i].verdict == VERDICT_OPEN)
            attempt->batch[attempt->batch_count++] = i;
}

static void choose_manner(struct attempt *attempt)
{
    attempt->is_chunked = flight_may_chunk(attempt);
    attempt->has_probe =
        !attempt->is_chunked && flight_wants_probe(attempt) && pacing_may_probe(attempt);
    attempt->runs_ahead =
        attempt->is_chunked || attempt->has_probe || flight_is_behind(attempt);
    attempt->prefix = connection_needs_reset(attempt->connection);
    if (attempt->has_probe)
        attempt->prefix = 4;
    if (attempt->is_chunked)
        flight_chunks(attempt);
}

void transaction_begin(struct attempt *attempt)
{
    const struct connection *connection = attempt->connection;
    const struct capabilities *theirs = connection_capabilities(connection);
    enum lack lack = lack_of(attempt->lease, theirs,
                             connection_is_trusted(connection, &attempt->policy));

    /* TLS that broke, or that is not tried for an hour, may be there another time. */
    if (lack == LACK_REQUIRETLS)
        attempt->missed_host |= theirs->starttls && !connection_tls(connection)->is_secure;
    if (lack != LACK_NOTHING) { /* other hosts first */
        attempt_lacks(attempt, lack_said(lack, &attempt->arena,
                                         connection_host(attempt->connection)));
        return;
    }
    attempt->is_in_body = attempt->dot_was_sent = false;
    attempt->sent = attempt->got = 0;
    if (!pacing_may_send(attempt))
        return;
    choose_batch(attempt);
    memset(attempt->accepted, 0, sizeof attempt->accepted);
    attempt->accepted_count = 0;
    choose_manner(attempt);
    attempt->mail_is_ok = attempt->is_lone_dot = false;
    attempt->rest_waits = attempt->waits_for_drain = false;
    if (!attempt->transfer_from_ms)
        attempt->transfer_from_ms = loop_now_ms(attempt->deliver->rooms.loop);
    connection_set_needs_reset(attempt->connection, true);
    send_more(attempt);
}

/* ---- replies ---- */

static const struct said *keep(struct attempt *attempt, const struct reply *reply)
{
    return said_reply(&attempt->arena, reply, connection_host(attempt->connection));
}

static void judge_batch(struct attempt *attempt, const struct reply *reply,
                        bool only_accepted)
{
    bool is_of_one = only_accepted && attempt->accepted_count == 1;
    const struct said *said = keep(attempt, reply);
    const struct capabilities *theirs = connection_capabilities(attempt->connection);

    for (uint32_t i = 0; i < attempt->batch_count; i++) {
        struct outcome *outcome = &attempt->outcomes[attempt->batch[i]];

        if (outcome->verdict != VERDICT_OPEN || (only_accepted && !attempt->accepted[i]))
            continue;
        outcome->verdict = verdict_of(reply);
        outcome->said = said;
        outcome->is_relayed = outcome->verdict == VERDICT_DELIVERED && !theirs->dsn;
        outcome->is_about_it = is_of_one;
    }
}

/* The steps are over. What is still open goes in a further transaction, at once. */
static void transaction_over(struct attempt *attempt)
{
    /* It was turned away, whatever its mail is; behind MAIL it may have been for that. */
    if (attempt->is_turned_away && !attempt->mail_is_ok && !attempt_has_outcome(attempt)) {
        flight_give_back(attempt);
        return;
    }
    if (attempt_has_open(attempt) && !flight_is_ending(attempt) &&
        (attempt->accepted_count > 0 || !attempt->rest_waits) && attempt->batch_count > 0 &&
        attempt->outcomes[attempt->batch[0]].verdict != VERDICT_OPEN) {
        attempt->has_transacted = true;
        flight_again(attempt);
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
        if (memory) {
            memory->recipients_max = attempt->accepted_count;
            memory->recipients_max_until_ms = deliver_now(attempt->deliver) + LEARNED_MS;
        }
        return;
    }
    outcome->verdict =
        verdict_of(reply) == VERDICT_FAILED ? VERDICT_FAILED : VERDICT_DEFERRED;
    outcome->said = keep(attempt, reply);
    outcome->is_about_it = true;
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
        payload_start(attempt);
        transaction_await(attempt);
        return;
    }
    /* RFC 2920 3.1: 354 although no recipient was accepted: a lone dot. */
    attempt->is_lone_dot = true;
    payload_end(attempt, SLICE_NONE);
    if (!attempt->waits_for_drain)
        flight_written(attempt);
}

static void on_dot_reply(struct attempt *attempt, const struct reply *reply)
{
    if (!attempt->is_lone_dot) {
        judge_batch(attempt, reply, true);
        connection_count_message(attempt->connection);
        flight_answered(attempt);
        if (reply_is_positive(reply))
            pacing_works(attempt);
    }
    if (reply->code == 421)
        flight_said_goodbye(attempt);
    transaction_over(attempt);
}

static void on_chunk_reply(struct attempt *attempt, const struct reply *reply)
{
    connection_count_message(attempt->connection);
    flight_answered(attempt);
    judge_batch(attempt, reply, true);
    if (reply_is_positive(reply))
        pacing_works(attempt);
    flight_chunk_answered(attempt, reply_is_positive(reply));
    if (reply->code == 421)
        flight_said_goodbye(attempt);
    transaction_over(attempt);
}

/* Without PIPELINING the next step may be needless. */
static bool is_over_early(const struct attempt *attempt)
{
    uint32_t after_mail = attempt->prefix + 1;

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
    if (step == STEP_CHUNK) {
        on_chunk_reply(attempt, reply);
        return;
    }
    if (step == STEP_MAIL)
        on_mail_reply(attempt, reply);
    else if (step == STEP_RCPT)
        on_rcpt_reply(attempt, reply, recipient);
    else if (step == STEP_RSET && attempt->has_probe && attempt->got == attempt->prefix)
        flight_probed(attempt);
    if (is_over_early(attempt))
        transaction_over(attempt);
    else
        send_more(attempt);
}

/* The reply of a server that took what came for something else. */
static bool is_unknown_command(const struct reply *reply)
{
    return reply->code == 500 || reply->code == 502;
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
    if (code == RESULT_INVALID) {
        flight_misfit(attempt, &fault);
    } else if (flight_goodbye(attempt, &fault)) {
        attempt->is_turned_away = true;
        attempt->got++;
    }
}

/* Can it be an answer to this? Only asked where more was said than one command: a host that read a
 * refused chunk as commands answers each line of it (RFC 3030 4.2 forbids that). */
static bool fits(const struct attempt *attempt, const struct reply *reply, enum step step)
{
    if (!attempt->runs_ahead)
        return true;
    switch (step) {
    case STEP_RSET: /* not 221, the answer to the line of the probe */
        return reply->code == 250;
    case STEP_PROBE_CHUNK: /* 503 or 554 by most: its words are known to it */
        return reply_is_permanent(reply) && reply->code > 502 && reply->code != 504 &&
               reply->code != 555;
    case STEP_RCPT:
        if (reply_is_positive(reply) && !attempt->mail_is_ok)
            return false;
        break;
    case STEP_CHUNK:
        if (reply_is_positive(reply) && attempt->accepted_count == 0)
            return false;
        break;
    case STEP_DATA:
        return !is_unknown_command(reply);
    case STEP_PROBE_MAIL:
    case STEP_MAIL:
    case STEP_DOT:
    default:
        break;
    }
    return !reply_is_intermediate(reply) && !is_unknown_command(reply);
}

/* An answer to the message while the end of it is still with us answers something else. */
static bool is_out_of_turn(const struct attempt *attempt, const struct reply *reply,
                           enum step step)
{
    if (attempt->got >= attempt->sent && !attempt->dot_was_sent)
        return true;
    if (step != STEP_DOT && step != STEP_CHUNK)
        return false;
    if (!attempt->dot_was_sent)
        return true;
    return (reply_is_positive(reply) || step == STEP_CHUNK) &&
           connection_left(attempt->connection) < attempt->end_at;
}

void transaction_on_reply(struct attempt *attempt, const struct reply *reply)
{
    uint32_t recipient;
    enum step step = step_at(attempt, attempt->got, &recipient);
    bool is_about_message =
        (step == STEP_DOT || step == STEP_CHUNK) && attempt->dot_was_sent;

    if (step != STEP_PROBE_CHUNK) /* that one is to be refused */
        pacing_reacts(attempt, reply);
    /* It closes: RFC 5321 3.8. In the middle of the data too. */
    if (reply->code == 421 && !is_about_message)
        break_off(attempt, RESULT_CLOSED, "said ", reply);
    else if (is_out_of_turn(attempt, reply, step) || !fits(attempt, reply, step))
        break_off(attempt, RESULT_INVALID, "spoke out of turn: ", reply);
    else
        on_step_reply(attempt, reply);
}

bool transaction_is_under_way(const struct attempt *attempt)
{
    if (!attempt->is_ready || attempt->sent == 0)
        return false;
    return attempt->dot_was_sent || attempt->got > attempt->prefix;
}
