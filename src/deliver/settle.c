/* The end of an attempt: outcomes -> the queue, reports in the same transaction, and a
 * final log line for each recipient whose life ended. While the disk is full the outcome
 * stays in memory and is tried again: nothing is delivered twice because of it. */
#include "inner.h"

#include "busiest.h"
#include "source.h"
#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/queue/schedule.h"

#include <stdio.h>
#include <string.h>

enum { RETRY_MS = 5000, SAID_ARENA = 4 << 20 };

struct settle {
    struct link link;
    struct deliver *deliver; /* NULL: we have left, and the room is gone */
    struct work *work;
    struct lease *lease;
    struct arena arena;
    struct outcome *outcomes;
    bool *is_settled;
    struct lease_load *load; /* of a swept entry */
    struct destination *destination;
    struct domain_queue *domain_queue;
    struct queue_entry entry;
    bool is_swept;   /* it was taken as expired */
    bool is_late;    /* it waits on: only its sender is told */
    bool is_decided; /* without an attempt */
    char fault[300]; /* of a swept entry */
    enum deliver_class fault_class;
    struct bounce *bounce;
    const struct report *reports;
    size_t report_count;
    const struct destination_settings *own; /* while it is judged */
    struct settlement settlement;
    bool wants_delay_notice;
    bool is_submitted;
    struct timer retry;
    /* for the log */
    char destination_key[512];
    char peer[360];
    char source[DELIVER_SOURCE_TEXT];
    struct tls_facts tls;
    bool has_tls;
    enum deliver_tls_policy tls_policy;
    int64_t connect_ms;
    int64_t transfer_ms;
    int64_t started_ms;
    bool was_tried; /* by an attempt: it has the times above */
    void (*on_end)(void *owner, bool is_done);
    void *owner;
    struct busiest_mark mark;
};

static void submit(void *owner);

static void settle_free(struct settle *settle)
{
    struct deliver *deliver = settle->deliver;
    void (*on_over)(void *, bool) = settle->on_end;
    void *owner = settle->owner;
    bool is_done = !settle->lease;

    if (deliver)
        list_remove(&deliver->settling, &settle->link);
    timer_cancel(&settle->retry);
    if (settle->bounce)
        bounce_free(settle->bounce);
    arena_clear(&settle->arena);
    memory_free(settle->work);
    memory_free(settle);
    if (on_over)
        on_over(owner, is_done);
    if (deliver)
        deliver_check_empty(deliver);
}

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

/* ---- the commit ---- */

static void on_settled(void *owner, enum result result)
{
    struct settle *settle = owner;

    settle->is_submitted = false;
    if (!settle->deliver) {
        settle_free(settle);
        return;
    }
    if (result != RESULT_OK) {
        timer_start(&settle->retry, RETRY_MS);
        return;
    }
    settle->lease = NULL;
    settle_free(settle);
}

/* The lines are made before the queue frees the lease, and written whatever follows: after
 * this point the outcome is only waiting for room on the disk. */
static void tell(struct settle *settle)
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

static void submit(void *owner)
{
    struct settle *settle = owner;

    settle->is_submitted = true;
    lease_settle(settle->lease, &settle->settlement, on_settled, settle);
}

static void on_bounced(void *owner, const struct report *reports, size_t report_count)
{
    struct settle *settle = owner;

    settle->reports = reports;
    settle->report_count = report_count;
    settle->settlement.reports = reports;
    settle->settlement.report_count = report_count;
    tell(settle);
    submit(settle);
}

/* ---- judgement ---- */

static void expire_deferred(struct settle *settle)
{
    const struct deliver_settings *values = &settle->deliver->settings->values;
    struct schedule schedule = {values->retry_ms, values->retry_count, values->expire_ms};

    /* The index knows the second of the arrival only: what it called expired may be so in
     * less than a second, and is no deferral, which would count as an attempt. */
    if (!settle->is_swept &&
        !schedule_is_expired(&schedule, settle->lease->envelope.arrival_ms,
                             deliver_now(settle->deliver)))
        return;
    for (uint32_t i = 0; i < settle->lease->group.recipient_count; i++) {
        if (settle->outcomes[i].verdict != VERDICT_DEFERRED)
            continue;
        settle->outcomes[i].verdict = VERDICT_FAILED;
        settle->outcomes[i].is_expired = true;
    }
}

static void plan_next(struct settle *settle)
{
    const struct deliver_settings *values = &settle->deliver->settings->values;
    const struct destination_settings *own = settle->own;
    bool has_own = own && own->retry_count > 0;
    struct schedule schedule = {has_own ? own->retry_ms : values->retry_ms,
                                has_own ? own->retry_count : values->retry_count,
                                values->expire_ms};
    const struct group *group = &settle->lease->group;
    int64_t now_ms = deliver_now(settle->deliver);
    const struct said *said = NULL;
    uint32_t random = 0;

    for (uint32_t i = 0; i < group->recipient_count; i++) {
        settle->is_settled[i] = settle->outcomes[i].verdict != VERDICT_DEFERRED;
        if (!settle->is_settled[i] && !said)
            said = settle->outcomes[i].said;
    }
    if (said) /* a system call, and what is settled has no next attempt */
        secure_random(&random, sizeof random);
    settle->wants_delay_notice =
        said && values->delay_notice_ms && !group->delay_notified &&
        now_ms - settle->lease->envelope.arrival_ms >= values->delay_notice_ms;
    settle->settlement = (struct settlement){
        .is_settled = settle->is_settled,
        .next_attempt_ms =
            schedule_next(&schedule, group->attempts + 1,
                          settle->lease->envelope.arrival_ms, now_ms, random),
        .counts_attempt = true,
        .delay_notified = group->delay_notified || settle->wants_delay_notice,
        .last_code = said ? said->code : 0,
        .last_status = said ? said->status : "",
        .last_text = said ? said->text : "",
        .last_host = said ? said->host : "",
    };
}

static void judge(struct settle *settle)
{
    expire_deferred(settle);
    plan_next(settle);
    settle->bounce = bounce_start(settle->deliver, settle->lease, settle->outcomes,
                                  settle->wants_delay_notice, on_bounced, settle);
}

static enum deliver_class class_of(const struct settle *settle, const struct said *said)
{
    struct class_reply reply = {said->code, said->status, said->text, said->host};

    return settings_classify(settle->deliver->settings, &reply);
}

static void note_failure(const struct settle *settle, const struct outcome *outcome,
                         const struct said *said)
{
    if (settle->destination &&
        (outcome->verdict == VERDICT_DEFERRED || outcome->verdict == VERDICT_FAILED))
        destination_failed(settle->destination, said->class, said->text);
}

/* Outcomes share few replies: each is copied, and judged, once. */
static void copy_outcomes(struct settle *settle, const struct outcome *outcomes,
                          uint32_t count_of)
{
    const struct said *from = NULL;
    const struct said *copy = NULL;

    for (uint32_t i = 0; i < count_of; i++) {
        settle->outcomes[i] = outcomes[i];
        if (outcomes[i].said && outcomes[i].said != from) {
            struct said *said = arena_alloc(&settle->arena, sizeof *said);

            from = outcomes[i].said;
            if (said)
                *said = *from;
            if (said && said->is_remote) {
                said->class = class_of(settle, said);
                note_failure(settle, &outcomes[i], said);
            }
            copy = said;
        }
        settle->outcomes[i].said = outcomes[i].said ? copy : NULL;
    }
}

static struct settle *settle_new(struct deliver *deliver, struct destination *destination)
{
    struct settle *settle = NEW(struct settle);

    settle->deliver = deliver;
    settle->destination = destination;
    (void)snprintf(settle->destination_key, sizeof settle->destination_key, "%s",
                   destination ? destination->key : "");
    settle->started_ms = deliver_now(deliver);
    if (destination)
        settle->mark = busiest_settles(deliver->busiest, destination);
    arena_init(&settle->arena, SAID_ARENA);
    timer_init(&settle->retry, deliver->rooms.loop, submit, settle);
    list_push_back(&deliver->settling, &settle->link);
    return settle;
}

static void take_lease(struct settle *settle, struct lease *lease)
{
    uint32_t recipients = lease->group.recipient_count;

    settle->lease = lease;
    settle->outcomes =
        arena_alloc(&settle->arena, (recipients + 1) * sizeof *settle->outcomes);
    settle->is_settled =
        arena_alloc(&settle->arena, (recipients + 1) * sizeof *settle->is_settled);
    CHECK(settle->outcomes && settle->is_settled);
}

void settle_start(struct work *work, const struct outcome *outcomes,
                  const struct settle_facts *facts)
{
    struct settle *settle = settle_new(work->destination->deliver, work->destination);

    settle->work = work;
    take_lease(settle, work->lease);
    copy_outcomes(settle, outcomes, work->lease->group.recipient_count);
    (void)snprintf(settle->peer, sizeof settle->peer, "%s", facts->peer ? facts->peer : "");
    (void)snprintf(settle->source, sizeof settle->source, "%s",
                   facts->source ? facts->source : "");
    if (facts->tls) {
        settle->tls = *facts->tls;
        settle->has_tls = true;
        settle->tls_policy = facts->tls_policy;
    }
    settle->connect_ms = facts->connect_ms;
    settle->transfer_ms = facts->transfer_ms;
    settle->started_ms = facts->started_ms;
    settle->was_tried = true;
    settle->own = destination_settings(work->destination);
    judge(settle);
    settle->own = NULL; /* the next reload frees it */
}

/* ---- without an attempt ---- */

void settle_decided(struct deliver *deliver, struct lease *lease,
                    const struct decision *decision)
{
    struct settle *settle = settle_new(deliver, NULL);
    const struct said *said;

    settle->is_decided = true;
    settle->on_end = decision->on_end;
    settle->owner = decision->owner;
    take_lease(settle, lease);
    if (decision->outcomes) {
        copy_outcomes(settle, decision->outcomes, lease->group.recipient_count);
        judge(settle);
        return;
    }
    said = said_words(&settle->arena, CLASS_OPERATOR, decision->code, decision->status,
                      decision->text, "");
    for (uint32_t i = 0; i < lease->group.recipient_count; i++)
        settle->outcomes[i] = (struct outcome){.verdict = VERDICT_FAILED,
                                               .said = said,
                                               .is_expired = decision->is_expired,
                                               .is_operator = decision->is_operator};
    judge(settle);
}

/* ---- expired behind a fault ---- */

static void on_expired_loaded(void *owner, struct lease *lease, enum result result)
{
    struct settle *settle = owner;
    struct said *said;

    (void)result;
    settle->load = NULL;
    if (!lease) {
        settle_free(settle);
        return;
    }
    take_lease(settle, lease);
    said = said_words(&settle->arena, CLASS_EXPIRED, lease->group.last_code,
                      lease->group.last_status, lease->group.last_text,
                      lease->group.last_host);
    if (said && !lease->group.last_text[0]) {
        said->code = 451;
        (void)snprintf(said->status, sizeof said->status, "4.4.7");
        (void)snprintf(said->text, sizeof said->text, "expired while waiting: %s",
                       settle->fault);
    } else if (said) {
        said->is_remote = lease->group.last_host[0] != '\0';
    }
    for (uint32_t i = 0; i < lease->group.recipient_count; i++) {
        settle->outcomes[i].verdict = VERDICT_DEFERRED;
        settle->outcomes[i].said = said;
    }
    judge(settle);
}

void settle_expired(struct lane *lane, struct destination *destination,
                    const struct queue_entry *entry)
{
    struct settle *settle = settle_new(lane->deliver, destination);

    (void)snprintf(settle->fault, sizeof settle->fault, "%s", lane_fault(lane));
    settle->is_swept = true;
    settle->load = queue_lease_load(lane->domain_queue, entry, on_expired_loaded, settle);
}

/* ---- late behind a fault ---- */

static const char digits[] = "0123456789";

/* 0: it does not begin with a status of RFC 3463 for what may pass. */
static size_t status_length(const char *text)
{
    size_t subject = strncmp(text, "4.", 2) == 0 ? strspn(text + 2, digits) : 0;
    size_t detail =
        subject && text[2 + subject] == '.' ? strspn(text + 3 + subject, digits) : 0;
    size_t length = 3 + subject + detail;

    return detail && subject < 4 && detail < 4 && text[length] == ' ' ? length : 0;
}

/* The fault's own where it has one, in front or behind the code of a reply ("... was answered
 * 421 4.3.2 busy"); else: no answer from the host, or (RFC 3463 3.8) TLS that is not what it must be. */
static void fault_status(const char *fault, enum deliver_class class, char status[16])
{
    const char *at = fault;
    const char *code = fault;
    size_t length = status_length(at);

    while (length == 0 && (code = strstr(code, " 4"))) {
        code++;
        if (strspn(code, digits) != 3 || code[3] != ' ')
            continue;
        at = code + 4;
        length = status_length(at);
    }
    (void)snprintf(status, 16, "%.*s", length ? (int)length : 5,
                   length               ? at
                   : class == CLASS_TLS ? "4.7.5"
                                        : "4.4.1");
}

static bool wants_late_notice(const struct settle *settle, const struct lease *lease)
{
    const struct deliver_settings *values = &settle->deliver->settings->values;
    struct schedule schedule = {values->retry_ms, values->retry_count, values->expire_ms};
    int64_t now_ms = deliver_now(settle->deliver);

    return !lease->group.delay_notified && !group_is_held(&lease->group, now_ms) &&
           !schedule_is_expired(&schedule, lease->envelope.arrival_ms, now_ms) &&
           bounce_tells_delay(lease);
}

static void plan_notice(struct settle *settle)
{
    const struct group *group = &settle->lease->group;
    struct said *said =
        said_words(&settle->arena, settle->fault_class, 451, "", settle->fault, "");

    if (said)
        fault_status(settle->fault, settle->fault_class, said->status);
    for (uint32_t i = 0; i < group->recipient_count; i++) {
        settle->outcomes[i] =
            (struct outcome){.verdict = VERDICT_DEFERRED, .said = said, .is_untried = true};
        settle->is_settled[i] = false;
    }
    settle->settlement = (struct settlement){
        .is_settled = settle->is_settled,
        .next_attempt_ms = settle->lease->entry.next_attempt_ms,
        .delay_notified = true,
        .last_code = group->last_code,
        .last_status = group->last_status,
        .last_text = group->last_text,
        .last_host = group->last_host,
    };
}

static void on_late_loaded(void *owner, struct lease *lease, enum result result)
{
    struct settle *settle = owner;

    (void)result;
    settle->load = NULL;
    if (!lease || !wants_late_notice(settle, lease)) {
        if (lease)
            lease_release(lease);
        settle_free(settle);
        return;
    }
    take_lease(settle, lease);
    plan_notice(settle);
    settle->bounce =
        bounce_start(settle->deliver, lease, settle->outcomes, true, on_bounced, settle);
}

void settle_late(struct lane *lane, const struct queue_entry *entry)
{
    struct settle *settle = settle_new(lane->deliver, NULL);

    settle->is_late = true;
    settle->fault_class = lane->why == WHY_DNS        ? CLASS_DNS
                          : lane->policy_failures > 0 ? CLASS_TLS
                          : lane->destination         ? lane->destination->fault_class
                                                      : CLASS_OTHER;
    (void)snprintf(settle->fault, sizeof settle->fault, "%s", lane_fault(lane));
    settle->load = queue_lease_load(lane->domain_queue, entry, on_late_loaded, settle);
}

bool settle_has(const struct deliver *deliver, const struct queue_target *group)
{
    for (struct link *link = list_first(&deliver->settling); link;
         link = list_next(&deliver->settling, link)) {
        const struct lease *lease = CONTAINER_OF(link, struct settle, link)->lease;

        if (lease && lease->envelope.id == group->id && lease->group.number == group->group)
            return true;
    }
    return false;
}

static bool has_delivered(const struct settle *settle)
{
    for (uint32_t i = 0; settle->lease && i < settle->lease->group.recipient_count; i++)
        if (settle->outcomes[i].verdict == VERDICT_DELIVERED)
            return true;
    return false;
}

unsigned settle_abort(struct deliver *deliver)
{
    struct link *next;
    unsigned delivered = 0;

    for (struct link *link = list_first(&deliver->settling); link; link = next) {
        struct settle *settle = CONTAINER_OF(link, struct settle, link);

        next = list_next(&deliver->settling, link);
        if (settle->is_submitted) {
            /* The last commit takes it, and tells when nobody is left to hear it. */
            list_remove(&deliver->settling, &settle->link);
            settle->deliver = NULL;
            settle->on_end = NULL;
            continue;
        }
        delivered += has_delivered(settle);
        if (settle->load)
            lease_load_cancel(settle->load);
        if (settle->bounce)
            bounce_free(settle->bounce); /* it reads by the lease */
        settle->bounce = NULL;
        if (settle->lease)
            lease_release(settle->lease);
        settle_free(settle);
    }
    return delivered;
}
