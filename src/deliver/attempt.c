/* One lease to its next hop: hosts in turn, transactions until each recipient has an
 * outcome.
 *
 * A transaction is a row of steps; `sent` and `got` are two cursors over it. With
 * PIPELINING the first runs ahead to DATA; the replies are matched in order:
 *
 *   RSET?  MAIL  RCPT RCPT ... RCPT  DATA  (body) DOT
 *          ^got                  ^sent
 *
 * Whose fault: before MAIL was answered it is the host's, and nothing is
 * written; what is said about this message writes its group. */
#include "inner.h"

#include "connection.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/smtp/command.h"
#include "smtpd/smtp/framing.h"

#include <stdio.h>
#include <string.h>

enum step { STEP_RSET, STEP_MAIL, STEP_RCPT, STEP_DATA, STEP_DOT };

enum { ARENA_MAX = 4 << 20, STALE_MAX = 5, COMMANDS_MAX = 1 << 20 };

struct attempt {
    struct link link;
    struct deliver *deliver;
    struct destination *destination;
    struct work *work;
    const struct lease *lease;
    struct plan_settings *settings;
    struct arena arena;
    struct outcome *outcomes; /* per recipient of the lease */
    uint8_t order[LIMIT_MX_HOSTS];
    size_t host_at;
    size_t hosts_tried;
    struct connection *connection;
    bool is_ready;
    bool is_reused;
    unsigned stale;          /* idle connections that were gone when used */
    bool goes_in_clear;      /* the same host again, without TLS */
    unsigned drops;          /* in the middle of a transaction */
    struct fault fault;      /* of the last host */
    const struct said *lack; /* what a host lacked for this message */
    bool has_missed;         /* a host that could not be asked */
    /* the transaction */
    uint32_t batch[LIMIT_GROUP_RECIPIENTS];
    uint32_t batch_count;
    bool accepted[LIMIT_GROUP_RECIPIENTS];
    uint32_t accepted_count;
    bool has_reset;
    bool mail_is_ok;
    bool is_in_body;
    bool dot_was_sent;
    bool is_lone_dot;
    bool rest_waits; /* 452 behind accepted recipients: a further transaction */
    uint32_t sent;
    uint32_t got;
    struct deferred again; /* the next host, from the loop */
    struct body_reader *body;
    struct framing_stuffing stuffing;
    bool waits_for_drain;
    int64_t started_ms;       /* wall */
    int64_t transfer_from_ms; /* monotonic */
};

static void connect_next(struct attempt *attempt);
static void begin_transaction(struct attempt *attempt);
static void on_broken(void *owner, const struct fault *fault);

struct link *attempt_link(struct attempt *attempt)
{
    return &attempt->link;
}

struct attempt *attempt_of_link(struct link *link)
{
    return CONTAINER_OF(link, struct attempt, link);
}

/* ---- ends ---- */

static void close_body(struct attempt *attempt)
{
    if (attempt->body)
        body_reader_close(attempt->body);
    attempt->body = NULL;
}

static void attempt_free(struct attempt *attempt)
{
    close_body(attempt);
    deferred_cancel(attempt->deliver->rooms.loop, &attempt->again);
    list_remove(&attempt->deliver->attempts, &attempt->link);
    attempt->deliver->statistics.attempts_running--;
    settings_unref(attempt->settings);
    arena_clear(&attempt->arena);
    memory_free(attempt);
}

static void drop_connection(struct attempt *attempt, bool is_polite)
{
    if (attempt->connection)
        connection_close(attempt->connection, is_polite);
    attempt->connection = NULL;
    attempt->is_ready = false;
}

/* Nothing was learned about the message: the lease goes back as it was. */
static void give_up(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;

    drop_connection(attempt, false);
    work_release(attempt->work);
    attempt_free(attempt);
    destination_ended(destination);
}

static void set_open(struct attempt *attempt, enum verdict verdict, const struct said *said)
{
    for (uint32_t i = 0; i < attempt->lease->group.recipient_count; i++) {
        if (attempt->outcomes[i].verdict != VERDICT_OPEN)
            continue;
        attempt->outcomes[i].verdict = verdict;
        attempt->outcomes[i].said = said;
    }
}

static bool has_open(const struct attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->lease->group.recipient_count; i++)
        if (attempt->outcomes[i].verdict == VERDICT_OPEN)
            return true;
    return false;
}

static bool has_answer(const struct attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->lease->group.recipient_count; i++)
        if (attempt->outcomes[i].verdict != VERDICT_OPEN)
            return true;
    return false;
}

/* Every recipient has an outcome: the connection is free for the next, the rest is paper.
 */
static void finish(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;
    struct loop *loop = attempt->deliver->rooms.loop;
    struct tls_facts tls = {0};
    char peer[360] = "";
    struct settle_facts facts = {.started_ms = attempt->started_ms};

    set_open(attempt, VERDICT_DEFERRED,
             said_words(&attempt->arena, 451, "4.4.2",
                        attempt->fault.text[0] ? attempt->fault.text : "no answer", NULL));
    if (attempt->connection) {
        (void)snprintf(peer, sizeof peer, "%s", connection_peer(attempt->connection));
        tls = *connection_tls(attempt->connection);
        facts.connect_ms =
            attempt->is_reused ? 0 : connection_connect_ms(attempt->connection);
        connection_await(attempt->connection, 0, "");
        connection_rest(attempt->connection);
        attempt->connection = NULL;
    }
    facts.peer = peer[0] ? peer : NULL;
    facts.tls = tls.is_secure ? &tls : NULL;
    facts.transfer_ms =
        attempt->transfer_from_ms ? loop_now_ms(loop) - attempt->transfer_from_ms : 0;
    settle_start(attempt->work, attempt->outcomes, &facts);
    attempt_free(attempt);
    destination_ended(destination);
}

/* ---- hosts ---- */

static const struct plan_host *current_host(const struct attempt *attempt)
{
    return &attempt->destination->plan.hosts[attempt->order[attempt->host_at]];
}

static bool host_rests(const struct attempt *attempt, const struct plan_host *host)
{
    const struct host_memory *memory = host_find(attempt->destination, host->name);

    return memory && memory->until_ms > deliver_now(attempt->deliver);
}

/* It rests, or an idle connection of it showed already what it lacks. */
static bool is_passed_over(struct attempt *attempt, const struct plan_host *host)
{
    if (attempt->lack && strcmp(attempt->lack->host, host->name) == 0)
        return true;
    if (!host_rests(attempt, host))
        return false;
    attempt->has_missed = true;
    return true;
}

/* What a host lacked is the answer once all hosts were asked. One that could not be asked
 * may have it: the message waits for that one. */
static void finish_for_lack(struct attempt *attempt)
{
    char status[sizeof attempt->lack->status];

    if (!attempt->has_missed) {
        set_open(attempt, VERDICT_FAILED, attempt->lack);
        finish(attempt);
        return;
    }
    (void)snprintf(status, sizeof status, "4%s", attempt->lack->status + 1);
    set_open(
        attempt, VERDICT_DEFERRED,
        said_words(&attempt->arena, 451, status, attempt->lack->text, attempt->lack->host));
    finish(attempt);
}

/* No host is left. What a host lacked is an answer; else the destination is at fault. */
static void hosts_exhausted(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;
    struct fault fault = attempt->fault;

    if (attempt->lack) {
        finish_for_lack(attempt);
        return;
    }
    if (attempt->drops > 0) {
        finish(attempt);
        return;
    }
    /* Behind a first transaction its answers must not be lost: nobody gets it twice. */
    if (has_answer(attempt))
        finish(attempt);
    else
        give_up(attempt);
    if (fault.text[0])
        destination_fault(destination, &fault);
    else
        destination_wait_for_hosts(destination); /* none was tried: no new fault */
}

static void next_host(struct attempt *attempt)
{
    attempt->host_at++;
    attempt->goes_in_clear = false;
    connect_next(attempt);
}

static void on_ready(void *owner)
{
    struct attempt *attempt = owner;

    attempt->is_ready = true;
    begin_transaction(attempt);
}

static void on_reply(void *owner, const struct reply *reply);
static void on_drained(void *owner);
static const struct connection_events events = {on_ready, on_reply, on_drained, on_broken};

static void connect_next(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;

    attempt->is_ready = false;
    attempt->is_reused = false;
    if (attempt->hosts_tried == 0 && attempt->stale < STALE_MAX) {
        attempt->connection = connection_take_idle(destination, &events, attempt);
        if (attempt->connection) {
            attempt->is_reused = true;
            attempt->is_ready = true;
            begin_transaction(attempt);
            return;
        }
    }
    while (attempt->host_at < destination->plan.host_count &&
           is_passed_over(attempt, current_host(attempt)))
        attempt->host_at++;
    if (attempt->host_at >= destination->plan.host_count) {
        hosts_exhausted(attempt);
        return;
    }
    attempt->hosts_tried++;
    attempt->connection =
        connection_open(destination, current_host(attempt), &events, attempt);
}

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
            &attempt->arena, 553, "5.6.7",
            "the message needs SMTPUTF8 (RFC 6531), which the next hop does not offer",
            host);
    if (envelope->has_8bit && !theirs->eightbitmime)
        return said_words(
            &attempt->arena, 554, "5.6.3",
            "the message has 8-bit content, and the next hop does not offer 8BITMIME",
            host);
    if (theirs->size && theirs->size_limit && size > theirs->size_limit)
        return said_words(&attempt->arena, 552, "5.3.4",
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
    const struct deliver_timeouts *t = &attempt->settings->values.timeouts;
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

static void on_next_host(void *owner)
{
    struct attempt *attempt = owner;

    if (attempt->is_reused)
        connect_next(attempt); /* it may have been any host: all others are still to ask */
    else
        next_host(attempt);
}

static void begin_transaction(struct attempt *attempt)
{
    const struct said *lack = find_lack(attempt);

    if (lack) { /* other hosts first */
        attempt->lack = lack;
        connection_rest(attempt->connection);
        attempt->connection = NULL;
        attempt->hosts_tried++; /* no further idle one: it may be the same host */
        loop_defer(attempt->deliver->rooms.loop, &attempt->again, on_next_host, attempt);
        return;
    }
    choose_batch(attempt);
    memset(attempt->accepted, 0, sizeof attempt->accepted);
    attempt->accepted_count = 0;
    attempt->has_reset = connection_needs_reset(attempt->connection);
    attempt->mail_is_ok = attempt->is_in_body = attempt->dot_was_sent = false;
    attempt->is_lone_dot = attempt->rest_waits = attempt->waits_for_drain = false;
    attempt->sent = attempt->got = 0;
    if (!attempt->transfer_from_ms)
        attempt->transfer_from_ms = loop_now_ms(attempt->deliver->rooms.loop);
    connection_set_needs_reset(attempt->connection, true);
    send_more(attempt);
}

/* ---- the body ---- */

static void fail_reading(struct attempt *attempt)
{
    /* Half a message must not end with a dot: the connection is cut. */
    drop_connection(attempt, false);
    set_open(attempt, VERDICT_DEFERRED,
             said_words(&attempt->arena, 451, "4.3.0",
                        "the message could not be read from the queue", NULL));
    finish(attempt);
}

static void on_piece(void *owner, struct slice piece, enum result result);

static void await_block(struct attempt *attempt)
{
    int64_t block = attempt->settings->values.timeouts.block;

    connection_await(attempt->connection, block ? block : 180000, "the data");
}

static void send_end(struct attempt *attempt, bool ended_with_crlf)
{
    attempt->is_in_body = false;
    attempt->dot_was_sent = true;
    (void)connection_send(attempt->connection, framing_data_end(ended_with_crlf));
    await_reply(attempt);
}

static enum result send_piece(struct attempt *attempt, struct slice piece)
{
    struct bytes stuffed;
    enum result result;

    if (!attempt->lease->envelope.has_dot_line)
        return connection_send(attempt->connection, piece);
    bytes_init(&stuffed, 2 * piece.length + 64);
    CHECK(framing_stuff(&attempt->stuffing, piece, &stuffed) == RESULT_OK);
    result = connection_send(attempt->connection, bytes_view(&stuffed));
    bytes_fini(&stuffed);
    return result;
}

static void on_piece(void *owner, struct slice piece, enum result result)
{
    struct attempt *attempt = owner;

    if (result != RESULT_OK) {
        fail_reading(attempt);
        return;
    }
    if (piece.length == 0) {
        close_body(attempt);
        send_end(attempt, true); /* the queue keeps whole lines */
        return;
    }
    await_block(attempt);
    if (send_piece(attempt, piece) == RESULT_AGAIN)
        attempt->waits_for_drain = true;
    else
        body_reader_next(attempt->body, on_piece, attempt);
}

static void on_drained(void *owner)
{
    struct attempt *attempt = owner;

    if (!attempt->is_in_body || !attempt->waits_for_drain)
        return;
    attempt->waits_for_drain = false;
    await_block(attempt);
    body_reader_next(attempt->body, on_piece, attempt);
}

static void start_body(struct attempt *attempt)
{
    close_body(attempt);
    if (body_reader_open(attempt->deliver->rooms.queue, &attempt->lease->envelope,
                         &attempt->body) != RESULT_OK) {
        fail_reading(attempt);
        return;
    }
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
    if (has_open(attempt) && (attempt->accepted_count > 0 || !attempt->rest_waits) &&
        attempt->batch_count > 0 &&
        attempt->outcomes[attempt->batch[0]].verdict != VERDICT_OPEN) {
        begin_transaction(attempt);
        return;
    }
    finish(attempt);
}

static void on_mail_reply(struct attempt *attempt, const struct reply *reply)
{
    /* It answers about a message: it works. */
    destination_works(attempt->destination);
    host_works(attempt->destination, connection_host(attempt->connection));
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
    /* RFC 5321 4.5.3.1.10: 452 (some say 552) behind accepted ones is "too many in this
     * one". */
    if (attempt->accepted_count > 0 &&
        (reply->code == 452 || (reply->code == 552 && reply->enhanced.subject == 5))) {
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
    send_end(attempt, true);
}

static void on_dot_reply(struct attempt *attempt, const struct reply *reply)
{
    if (!attempt->is_lone_dot) {
        judge_batch(attempt, reply, true);
        connection_count_message(attempt->connection);
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

static void on_reply(void *owner, const struct reply *reply)
{
    struct attempt *attempt = owner;
    uint32_t recipient;
    enum step step = step_at(attempt, attempt->got, &recipient);
    struct fault fault;
    char words[LIMIT_REPLY_TEXT + 64];

    if (attempt->got >= attempt->sent && !attempt->dot_was_sent) {
        (void)fault_set(&fault, RESULT_INVALID, "%s spoke out of turn",
                        connection_peer(attempt->connection));
        on_broken(attempt, &fault);
        return;
    }
    if (reply->code == 421 && step != STEP_DOT) { /* it closes: RFC 5321 3.8 */
        reply_print(reply, words, sizeof words);
        (void)fault_set(&fault, RESULT_CLOSED, "%s said %.300s",
                        connection_peer(attempt->connection), words);
        on_broken(attempt, &fault);
        return;
    }
    on_step_reply(attempt, reply);
}

/* ---- a connection that ends ---- */

static void broken_before_mail(struct attempt *attempt, bool wants_clear)
{
    if (attempt->is_reused) { /* closed while it was idle: nobody's fault */
        attempt->stale++;
        drop_connection(attempt, false);
        connect_next(attempt);
        return;
    }
    if (wants_clear && !attempt->goes_in_clear) {
        attempt->goes_in_clear = true;
        drop_connection(attempt, false);
        attempt->connection =
            connection_open(attempt->destination, current_host(attempt), &events, attempt);
        return;
    }
    host_fault(attempt->destination, current_host(attempt)->name);
    attempt->has_missed = true;
    drop_connection(attempt, false);
    next_host(attempt);
}

static void broken_inside(struct attempt *attempt)
{
    bool has_next = attempt->host_at + 1 < attempt->destination->plan.host_count &&
                    attempt->hosts_tried > 0;

    attempt->drops++;
    attempt->has_missed = true;
    drop_connection(attempt, false);
    close_body(attempt);
    if (attempt->drops == 1 && has_next && !attempt->dot_was_sent) {
        next_host(attempt);
        return;
    }
    finish(attempt);
}

static void on_broken(void *owner, const struct fault *fault)
{
    struct attempt *attempt = owner;
    uint32_t recipient;
    bool mail_was_answered = attempt->is_ready && attempt->sent > 0 &&
                             step_at(attempt, attempt->got, &recipient) != STEP_RSET &&
                             step_at(attempt, attempt->got, &recipient) != STEP_MAIL;

    attempt->fault = *fault;
    if (mail_was_answered)
        broken_inside(attempt);
    else
        broken_before_mail(attempt, connection_wants_clear(attempt->connection));
}

/* ---- start ---- */

static struct attempt *attempt_new(struct work *work)
{
    struct attempt *attempt = NEW(struct attempt);
    struct destination *destination = work->destination;

    attempt->deliver = destination->deliver;
    attempt->destination = destination;
    attempt->work = work;
    attempt->lease = work->lease;
    attempt->settings = settings_ref(destination->deliver->settings);
    attempt->started_ms = deliver_now(destination->deliver);
    arena_init(&attempt->arena, ARENA_MAX);
    attempt->outcomes = arena_alloc(&attempt->arena, work->lease->group.recipient_count *
                                                         sizeof *attempt->outcomes);
    plan_order(&destination->plan, attempt->order);
    list_push_back(&attempt->deliver->attempts, &attempt->link);
    attempt->deliver->statistics.attempts_running++;
    return attempt;
}

struct regroup {
    struct destination *destination;
    struct work *work;
};

static void on_regrouped(void *owner, enum result result)
{
    struct regroup *regroup = owner;
    struct destination *destination = regroup->destination;

    if (result != RESULT_OK)
        lease_release(regroup->work->lease); /* it is due again, and tried again */
    work_free(regroup->work);
    memory_free(regroup);
    destination_ended(destination);
}

void attempt_start(struct work *work)
{
    struct destination *destination = work->destination;
    struct attempt *attempt;
    struct regroup *regroup;

    if (destination->kind == PLAN_REGROUP) {
        regroup = NEW(struct regroup);
        regroup->destination = destination;
        regroup->work = work;
        lease_regroup(work->lease, on_regrouped, regroup);
        return;
    }
    attempt = attempt_new(work);
    if (destination->kind == PLAN_FAIL) {
        set_open(attempt, VERDICT_FAILED,
                 said_words(&attempt->arena, 550, destination->plan.status,
                            destination->plan.text, NULL));
        finish(attempt);
        return;
    }
    connect_next(attempt);
}

/* ---- leaving ---- */

static bool has_delivered(const struct attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->lease->group.recipient_count; i++)
        if (attempt->outcomes[i].verdict == VERDICT_DELIVERED)
            return true;
    return false;
}

void attempt_drain(struct attempt *attempt)
{
    if (!attempt->is_in_body && !attempt->dot_was_sent && !has_delivered(attempt))
        give_up(attempt);
}

bool attempt_abort(struct attempt *attempt)
{
    bool is_doubtful = attempt->dot_was_sent || has_delivered(attempt);

    give_up(attempt);
    return is_doubtful;
}
