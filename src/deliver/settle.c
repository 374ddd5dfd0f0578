/* The end of an attempt: outcomes -> the queue, reports in the same transaction, and a
 * final log line for each recipient whose life ended. While the disk is full the outcome
 * stays in memory and is tried again: nothing is delivered twice because of it. */
#include "settle_inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/queue/schedule.h"

#include <stdio.h>
#include <string.h>

enum { RETRY_MS = 5000, SAID_ARENA = 4 << 20 };

static void submit(void *owner);

void settle_free(struct settle *settle)
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

static void submit(void *owner)
{
    struct settle *settle = owner;

    settle->is_submitted = true;
    lease_settle(settle->lease, &settle->settlement, on_settled, settle);
}

void settle_on_bounced(void *owner, const struct report *reports, size_t report_count)
{
    struct settle *settle = owner;

    settle->reports = reports;
    settle->report_count = report_count;
    settle->settlement.reports = reports;
    settle->settlement.report_count = report_count;
    settle_tell(settle);
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

void settle_judge(struct settle *settle)
{
    expire_deferred(settle);
    plan_next(settle);
    settle->bounce = bounce_start(settle->deliver, settle->lease, settle->outcomes,
                                  settle->wants_delay_notice, settle_on_bounced, settle);
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
/* NULL: there is no memory for it. */
static const struct said *copy_said(struct settle *settle, const struct outcome *outcome)
{
    struct said *said = arena_alloc(&settle->arena, sizeof *said);

    if (!said)
        return NULL;
    *said = *outcome->said;
    if (said->is_remote) {
        said->class = class_of(settle, said);
        note_failure(settle, outcome, said);
    }
    return said;
}

static void copy_outcomes(struct settle *settle, const struct outcome *outcomes,
                          uint32_t count_of)
{
    const struct said *from = NULL;
    const struct said *copy = NULL;

    for (uint32_t i = 0; i < count_of; i++) {
        settle->outcomes[i] = outcomes[i];
        if (outcomes[i].said && outcomes[i].said != from) {
            from = outcomes[i].said;
            copy = copy_said(settle, &outcomes[i]);
        }
        settle->outcomes[i].said = outcomes[i].said ? copy : NULL;
    }
}

struct settle *settle_new(struct deliver *deliver, struct destination *destination)
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

void settle_take_lease(struct settle *settle, struct lease *lease)
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
    settle_take_lease(settle, work->lease);
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
    settle_judge(settle);
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
    settle_take_lease(settle, lease);
    if (decision->outcomes) {
        copy_outcomes(settle, decision->outcomes, lease->group.recipient_count);
        settle_judge(settle);
        return;
    }
    said = said_words(&settle->arena, CLASS_OPERATOR, decision->code, decision->status,
                      decision->text, "");
    for (uint32_t i = 0; i < lease->group.recipient_count; i++)
        settle->outcomes[i] = (struct outcome){.verdict = VERDICT_FAILED,
                                               .said = said,
                                               .is_expired = decision->is_expired,
                                               .is_operator = decision->is_operator,
                                               .is_untried = true};
    settle_judge(settle);
}

/* ---- who asks ---- */

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
