/* What waits behind a fault of others: it expires all the same, and its senders are told that it is
 * late. */
#include "settle_inner.h"

#include "smtpd/queue/schedule.h"

#include <stdio.h>
#include <string.h>

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
    settle_take_lease(settle, lease);
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
        settle->outcomes[i].is_untried = true;
    }
    settle_judge(settle);
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
    settle_take_lease(settle, lease);
    plan_notice(settle);
    settle->bounce = bounce_start(settle->deliver, lease, settle->outcomes, true,
                                  settle_on_bounced, settle);
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
