/* Which reports are due, and making them: RFC 3461 4.1, 5.2; RFC 5321 4.5.5, 6.1. One
 * report for a settled group and action. The message itself is read first, as far as the
 * report needs it. */
#include "inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/mail/dsn.h"
#include "smtpd/mail/header.h"
#include "smtpd/smtp/framing.h"

#include <stdio.h>
#include <string.h>

enum { ACTIONS = 4, REPORT_OVERHEAD = 1 << 20 };

static const enum dsn_action actions[ACTIONS] = {DSN_FAILED, DSN_DELAYED, DSN_DELIVERED,
                                                 DSN_RELAYED};

struct bounce {
    struct deliver *deliver;
    struct loop *loop; /* it may outlive `deliver`, at the store */
    const struct lease *lease;
    const struct outcome *outcomes;
    bool wants_delay_notice;
    bounce_fn *on_end;
    void *owner;
    struct body_reader *reader;
    struct bytes original;
    uint64_t wanted_bytes;
    struct deferred end;
    struct bytes messages[ACTIONS];
    struct report reports[ACTIONS];
    size_t report_count;
};

static bool is_notified(const struct recipient *recipient, uint8_t bit, bool by_default)
{
    if (recipient->notify == 0)
        return by_default;
    return (recipient->notify & bit) != 0;
}

/* Is this recipient part of a report of the action? */
static bool belongs(const struct bounce *bounce, uint32_t at, enum dsn_action action)
{
    const struct outcome *outcome = &bounce->outcomes[at];
    const struct recipient *recipient = &bounce->lease->group.recipients[at];

    switch (action) {
    case DSN_FAILED:
        return outcome->verdict == VERDICT_FAILED && !outcome->is_silent &&
               is_notified(recipient, NOTIFY_FAILURE, true);
    case DSN_DELAYED:
        return bounce->wants_delay_notice && outcome->verdict == VERDICT_DEFERRED &&
               is_notified(recipient, NOTIFY_DELAY, true);
    case DSN_DELIVERED:
        return outcome->verdict == VERDICT_DELIVERED && outcome->is_local &&
               is_notified(recipient, NOTIFY_SUCCESS, false);
    case DSN_RELAYED:
        return outcome->verdict == VERDICT_DELIVERED && outcome->is_relayed &&
               is_notified(recipient, NOTIFY_SUCCESS, false);
    case DSN_EXPANDED:
    default:
        return false;
    }
}

static bool is_due(const struct bounce *bounce, enum dsn_action action)
{
    for (uint32_t i = 0; i < bounce->lease->group.recipient_count; i++)
        if (belongs(bounce, i, action))
            return true;
    return false;
}

bool bounce_tells_delay(const struct lease *lease)
{
    for (uint32_t i = 0; lease->envelope.sender[0] && i < lease->group.recipient_count; i++)
        if (is_notified(&lease->group.recipients[i], NOTIFY_DELAY, true))
            return true;
    return false;
}

/* ---- writing ---- */

static struct dsn_recipient describe(const struct bounce *bounce, uint32_t at,
                                     enum dsn_action action)
{
    const struct said *said = bounce->outcomes[at].said;
    const struct recipient *recipient = &bounce->lease->group.recipients[at];
    bool is_good = action == DSN_DELIVERED || action == DSN_RELAYED;

    return (struct dsn_recipient){
        .address = recipient->address,
        .orcpt = recipient->orcpt,
        .status = is_good                                    ? "2.0.0"
                  : bounce->outcomes[at].is_expired && !said ? "4.4.7"
                  : said                                     ? said->status
                                                             : "5.0.0",
        .diagnostic = said && said->is_remote ? said->text : NULL,
        .explanation = said && !said->is_remote ? said->text : NULL,
        .remote_mta = said && said->is_remote ? said->host : NULL,
        .last_attempt_ms = bounce->outcomes[at].is_untried
                               ? bounce->lease->group.last_attempt_ms
                               : deliver_now(bounce->deliver),
        .class = is_good ? NULL : deliver_class_name(verdict_class(&bounce->outcomes[at])),
    };
}

/* Facts of the report as of any other message: does it need 8BITMIME, does a line begin
 * with a dot, how long is the longest. */
static void note_facts(struct envelope *envelope, struct slice message)
{
    struct framing framing;
    struct slice out;

    framing_init(&framing, 0);
    framing_start_message(&framing);
    framing_read_chunk(&framing, message.length);
    while (message.length > 0 && framing_next(&framing, &message, &out) == FRAMING_DATA)
        ;
    envelope->has_8bit = framing.facts.has_8bit;
    envelope->has_dot_line = framing.facts.has_dot_line;
    envelope->longest_line = framing.facts.longest_line;
    envelope->body_type = framing.facts.has_8bit ? BODY_8BITMIME : BODY_7BIT;
}

static void add_report(struct bounce *bounce, const struct dsn *dsn, struct bytes *message)
{
    struct report *report = &bounce->reports[bounce->report_count];
    const struct envelope *of = &bounce->lease->envelope;

    memset(report, 0, sizeof *report);
    if (!id_parse(dsn->report_id, strlen(dsn->report_id), &report->id))
        return;
    report->envelope.sender = "";
    report->envelope.tenant = of->tenant;
    report->envelope.arrival_ms = dsn->now_ms;
    report->envelope.smtputf8 = of->smtputf8;
    if (of->tls_wish == TLS_WISH_REQUIRED) /* RFC 8689 5: its way back is as safe */
        report->envelope.tls_wish = TLS_WISH_REQUIRED;
    report->recipient.address = of->sender;
    report->recipient.notify = NOTIFY_NEVER;
    note_facts(&report->envelope, bytes_view(message));
    report->header =
        slice_part(bytes_view(message), 0, header_section_length(bytes_view(message)));
    report->body = slice_from(bytes_view(message), report->header.length);
    bounce->report_count++;
}

static void write_report(struct bounce *bounce, enum dsn_action action)
{
    const struct deliver_settings *values = &bounce->deliver->settings->values;
    const struct lease *lease = bounce->lease;
    struct slice original = bytes_view(&bounce->original);
    size_t header_bytes = original.length < lease->envelope.header_bytes
                              ? original.length
                              : (size_t)lease->envelope.header_bytes;
    struct dsn_recipient *recipients =
        NEW_ARRAY(struct dsn_recipient, lease->group.recipient_count);
    struct bytes *message = &bounce->messages[bounce->report_count];
    char id[ID_TEXT];
    char boundary[ID_TEXT];
    uint64_t random;
    struct dsn dsn = {
        .action = action,
        .recipients = recipients,
        .envelope = &lease->envelope,
        .original_header = slice_part(original, 0, header_bytes),
        .original_body =
            action == DSN_FAILED ? slice_from(original, header_bytes) : SLICE_NONE,
        .reporting_mta = values->hostname,
        .to = lease->envelope.sender,
        .report_id = id,
        .boundary = boundary,
        .now_ms = deliver_now(bounce->deliver),
        .expires_ms = lease->envelope.arrival_ms + values->expire_ms,
    };

    id_print(queue_next_id(bounce->deliver->rooms.queue), id);
    secure_random(&random, sizeof random);
    id_print(random, boundary);
    for (uint32_t i = 0; i < lease->group.recipient_count; i++)
        if (belongs(bounce, i, action))
            recipients[dsn.recipient_count++] = describe(bounce, i, action);
    bytes_init(message, bounce->original.length + REPORT_OVERHEAD);
    if (dsn_write(&dsn, message) == RESULT_OK)
        add_report(bounce, &dsn, message);
    else
        log_message(LOG_ERROR, "deliver.report_too_large",
                    "a report for %s could not be written", lease->envelope.sender);
    memory_free(recipients);
}

static void on_end(void *owner)
{
    struct bounce *bounce = owner;

    if (bounce->reader)
        body_reader_close(bounce->reader);
    bounce->reader = NULL;
    for (size_t i = 0; i < ACTIONS; i++)
        if (bounce->lease->envelope.sender[0] && is_due(bounce, actions[i]))
            write_report(bounce, actions[i]);
    bounce->on_end(bounce->owner, bounce->reports, bounce->report_count);
}

/* ---- reading the original ---- */

static void on_piece(void *owner, struct slice piece, enum result result)
{
    struct bounce *bounce = owner;
    uint64_t left = bounce->wanted_bytes - bounce->original.length;

    if (result != RESULT_OK || piece.length == 0) {
        on_end(bounce); /* a report with less of the message is better than none */
        return;
    }
    if (piece.length > left)
        piece.length = (size_t)left;
    if (bytes_add(&bounce->original, piece) != RESULT_OK ||
        bounce->original.length >= bounce->wanted_bytes) {
        on_end(bounce);
        return;
    }
    body_reader_next(bounce->reader, on_piece, bounce);
}

static bool is_any_due(const struct bounce *bounce)
{
    if (!bounce->lease->envelope.sender[0])
        return false; /* RFC 5321 4.5.5: never to a null sender */
    for (size_t i = 0; i < ACTIONS; i++)
        if (is_due(bounce, actions[i]))
            return true;
    return false;
}

/* RFC 3461 4.3: FULL where it is asked for (and for failures only), headers else. */
static uint64_t wanted(const struct bounce *bounce)
{
    const struct envelope *envelope = &bounce->lease->envelope;
    uint64_t all = envelope->header_bytes + envelope->body_bytes;

    if (envelope->dsn_return == RETURN_FULL && envelope->tls_wish != TLS_WISH_REQUIRED &&
        is_due(bounce, DSN_FAILED) &&
        all <= bounce->deliver->settings->values.report_body_bytes)
        return all;
    return envelope->header_bytes;
}

/* NOLINTNEXTLINE(readability-function-size): what a report is made of, and who wants it */
struct bounce *bounce_start(struct deliver *deliver, const struct lease *lease,
                            const struct outcome *outcomes, bool wants_delay_notice,
                            bounce_fn *on_bounced, void *owner)
{
    struct bounce *bounce = NEW(struct bounce);

    bounce->deliver = deliver;
    bounce->loop = deliver->rooms.loop;
    bounce->lease = lease;
    bounce->outcomes = outcomes;
    bounce->wants_delay_notice = wants_delay_notice;
    bounce->on_end = on_bounced;
    bounce->owner = owner;
    bytes_init(&bounce->original, 64 << 20);
    if (is_any_due(bounce)) {
        bounce->reader = body_reader_open_in_turn(deliver->rooms.queue, &lease->envelope);
        bounce->wanted_bytes = wanted(bounce);
        body_reader_next(bounce->reader, on_piece, bounce);
    } else {
        loop_defer(deliver->rooms.loop, &bounce->end, on_end, bounce);
    }
    return bounce;
}

void bounce_free(struct bounce *bounce)
{
    deferred_cancel(bounce->loop, &bounce->end);
    if (bounce->reader)
        body_reader_close(bounce->reader);
    for (size_t i = 0; i < ACTIONS; i++)
        bytes_fini(&bounce->messages[i]);
    bytes_fini(&bounce->original);
    memory_free(bounce);
}
