/* What became of recipients, for the log and the counters. */
#include "settle_inner.h"

#include "smtpd/base/log.h"

#include <string.h>

/* ---- log ---- */

static void log_reply(struct log_line *line, const struct said *said)
{
    if (!said)
        return;
    log_object(line, "reply");
    log_number(line, "code", said->code);
    log_text(line, "enhanced", said->status);
    log_text(line, "text", said->text);
    log_object_end(line);
}

/* Of the settings nothing is said: they are known. */
static const char *const tls_policies[DELIVER_TLS_POLICY_COUNT] = {
    [DELIVER_TLS_DANE] = "dane",
    [DELIVER_TLS_DANE_UNUSABLE] = "dane-unusable",
    [DELIVER_TLS_STS] = "sts",
    [DELIVER_TLS_STS_TESTING] = "sts-testing"};

static void log_common(struct log_line *line, const struct settle *settle)
{
    const struct envelope *envelope = &settle->lease->envelope;
    char id[ID_TEXT];

    id_print(envelope->id, id);
    log_text(line, "id", id);
    log_text(line, "session", envelope->session);
    log_text(line, "sender", envelope->sender);
    log_text(line, "user", envelope->user);
    log_text(line, "tenant", envelope->tenant);
    log_text(line, "destination",
             settle->destination_key[0] ? settle->destination_key : NULL);
    log_text(line, "source", settle->source[0] ? settle->source : NULL);
    log_text(line, "peer", settle->peer[0] ? settle->peer : NULL);
    log_number(line, "size", (int64_t)(envelope->header_bytes + envelope->body_bytes));
    log_number(line, "attempts", settle->lease->group.attempts + !settle->is_decided);
    log_object(line, "delays");
    log_seconds(line, "queue", settle->started_ms - envelope->arrival_ms);
    log_seconds(line, "connect", settle->connect_ms);
    log_seconds(line, "transfer", settle->transfer_ms);
    log_object_end(line);
    if (!settle->has_tls)
        return;
    log_object(line, "tls");
    log_text(line, "version", settle->tls.version);
    log_text(line, "cipher", settle->tls.cipher);
    log_bool(line, "verified", settle->tls.is_verified);
    log_text(line, "policy", tls_policies[settle->tls_policy]);
    log_object_end(line);
}

static const char *event_of(const struct settle *settle, const struct outcome *outcome)
{
    if (outcome->verdict == VERDICT_DELIVERED)
        return "deliver.delivered";
    if (outcome->is_suppressed)
        return "deliver.suppressed";
    if (!settle->lease->envelope.sender[0])
        return "deliver.report_failed"; /* a report is never reported on */
    return outcome->is_expired ? "deliver.expired" : "deliver.bounced";
}

static void log_recipient(const struct settle *settle, uint32_t at)
{
    const struct outcome *outcome = &settle->outcomes[at];
    struct log_line line;

    log_start_final(&line, outcome->verdict == VERDICT_DELIVERED ? LOG_INFO : LOG_NOTICE,
                    event_of(settle, outcome));
    log_text(&line, "recipient", settle->lease->group.recipients[at].address);
    log_common(&line, settle);
    log_text(&line, "class", deliver_class_name(verdict_class(outcome)));
    log_reply(&line, outcome->said);
    log_end(&line);
}

static void log_deferral(const struct settle *settle)
{
    const struct group *group = &settle->lease->group;
    struct log_line line;
    uint32_t count = 0;
    uint32_t first = 0;

    for (uint32_t i = group->recipient_count; i-- > 0;)
        if (!settle->is_settled[i]) {
            count++;
            first = i;
        }
    if (count == 0)
        return;
    log_start(&line, LOG_NOTICE, "deliver.deferred");
    log_text(&line, "recipient", group->recipients[first].address);
    log_number(&line, "recipients", count);
    log_common(&line, settle);
    log_text(&line, "class", deliver_class_name(verdict_class(&settle->outcomes[first])));
    log_seconds(&line, "next_attempt_in",
                settle->settlement.next_attempt_ms - deliver_now(settle->deliver));
    log_reply(&line, settle->outcomes[first].said);
    log_end(&line);
}

static void log_reports(const struct settle *settle)
{
    for (size_t i = 0; i < settle->report_count; i++) {
        struct log_line line;
        char id[ID_TEXT];
        char of[ID_TEXT];

        id_print(settle->reports[i].id, id);
        id_print(settle->lease->envelope.id, of);
        log_start(&line, LOG_NOTICE, "deliver.report_queued");
        log_text(&line, "id", id);
        log_text(&line, "of", of);
        log_text(&line, "recipient", settle->reports[i].recipient.address);
        log_end(&line);
    }
}

static size_t tls_version(const struct settle *settle)
{
    if (!settle->has_tls)
        return 0;
    return strcmp(settle->tls.version, "TLSv1.3") == 0 ? 2 : 1;
}

static void count_recipient(struct settle *settle, const struct outcome *outcome,
                            struct deliver_result *at_destination)
{
    struct deliver_statistics *statistics = &settle->deliver->statistics;
    enum deliver_class class = verdict_class(outcome);

    if (outcome->verdict == VERDICT_DEFERRED) {
        statistics->recipients_deferred++;
        statistics->deferred_by_class[class]++;
        at_destination->deferred++;
        return;
    }
    histogram_add(&statistics->time_in_queue, 1000 * (deliver_now(settle->deliver) -
                                                      settle->lease->envelope.arrival_ms));
    if (outcome->verdict == VERDICT_DELIVERED) {
        statistics->recipients_delivered++;
        at_destination->delivered++;
        if (outcome->is_local)
            statistics->delivered_local++;
        else
            statistics->delivered_by_tls[tls_version(settle)]++;
        statistics->delivered_by_policy[settle->tls_policy] += settle->has_tls;
        return;
    }
    statistics->recipients_failed += !outcome->is_expired;
    statistics->recipients_expired += outcome->is_expired;
    statistics->recipients_suppressed += outcome->is_suppressed;
    statistics->failed_by_class[class]++;
    at_destination->failed++;
}

static void count_at_source(const struct settle *settle, const struct outcome *outcome)
{
    struct source *source =
        settle->source[0] ? source_find(settle->deliver->sources, settle->source) : NULL;

    if (!source || outcome->is_suppressed)
        return;
    source->result.deferred += outcome->verdict == VERDICT_DEFERRED;
    source->result.delivered += outcome->verdict == VERDICT_DELIVERED;
    source->result.failed += outcome->verdict == VERDICT_FAILED;
}

static void count(struct settle *settle)
{
    struct deliver_statistics *statistics = &settle->deliver->statistics;
    struct deliver_result *at_destination =
        busiest_result(settle->deliver->busiest, settle->mark);

    for (uint32_t i = 0; i < settle->lease->group.recipient_count; i++) {
        count_recipient(settle, &settle->outcomes[i], at_destination);
        count_at_source(settle, &settle->outcomes[i]);
    }
    if (!settle->was_tried)
        return;
    histogram_add(&statistics->delay_queue,
                  1000 * (settle->started_ms - settle->lease->envelope.arrival_ms));
    if (settle->connect_ms > 0)
        histogram_add(&statistics->delay_connect, 1000 * settle->connect_ms);
    histogram_add(&statistics->delay_transfer, 1000 * settle->transfer_ms);
}

/* ---- both ---- */

/* The lines are made before the queue frees the lease, and written whatever follows: after
 * this point the outcome is only waiting for room on the disk. */
void settle_tell(struct settle *settle)
{
    for (uint32_t i = 0; i < settle->lease->group.recipient_count; i++)
        if (settle->is_settled[i])
            log_recipient(settle, i);
    if (settle->was_tried)
        suppress_note(settle->deliver, settle->lease, settle->outcomes);
    if (!settle->is_late)
        log_deferral(settle);
    log_reports(settle);
    settle->deliver->statistics.reports_queued += settle->report_count;
    if (!settle->is_late)
        count(settle);
}
