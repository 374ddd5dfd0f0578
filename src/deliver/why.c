/* Where a leased group stands: words for `smtpd queue why`. */
#include "attempt_inner.h"

#include <stdio.h>
#include <string.h>

static bool is_it(const struct queue_entry *entry, const struct queue_target *group)
{
    return entry->id == group->id && entry->group == group->group;
}

static bool find_ready(const struct destination *destination,
                       const struct queue_target *group, size_t *place)
{
    size_t at = 0;

    for (struct link *link = list_first(&destination->ready); link;
         link = list_next(&destination->ready, link)) {
        at++;
        if (!is_it(&CONTAINER_OF(link, struct work, link)->entry, group))
            continue;
        *place = at;
        return true;
    }
    return false;
}

static const struct attempt *find_attempt(const struct deliver *deliver,
                                          const struct queue_target *group)
{
    for (struct link *link = list_first(&deliver->attempts); link;
         link = list_next(&deliver->attempts, link)) {
        const struct attempt *attempt = attempt_of_link(link);

        if (is_it(&attempt->work->entry, group))
            return attempt;
    }
    return NULL;
}

static const char *step_of(const struct attempt *attempt)
{
    if (attempt->dot_was_sent && !attempt->waits_for_drain)
        return "the whole message was sent: the answer is awaited";
    if (attempt->is_in_body || attempt->dot_was_sent)
        return "the message is being sent";
    return attempt->is_ready ? "commands are being answered" : "a connection is being made";
}

static void tell_attempt(const struct attempt *attempt, struct why *why)
{
    const struct plan *plan = &attempt->destination->plan;
    size_t at = attempt->host_at;
    const char *host = "";

    if (at < plan->host_count && attempt->order[at] < plan->host_count)
        host = plan->hosts[attempt->order[at]].name;
    (void)snprintf(why->text, sizeof why->text, "an attempt has run for %lld s%s%.255s: %s",
                   (long long)(deliver_now(attempt->deliver) - attempt->started_ms) / 1000,
                   host[0] ? ", at " : "", host, step_of(attempt));
}

void deliver_why_leased(const struct deliver *deliver, const char *lane_text,
                        const struct queue_target *group, struct why *why)
{
    struct domain_queue *domain_queue =
        queue_find_domain_queue(deliver->rooms.queue, lane_text);
    const struct lane *lane = domain_queue ? domain_queue_attachment(domain_queue) : NULL;
    const struct attempt *attempt = find_attempt(deliver, group);
    size_t place;

    why->kind = WHY_LEASED;
    why->until_ms = 0;
    (void)snprintf(why->text, sizeof why->text, "an attempt is about to start");
    if (attempt) {
        tell_attempt(attempt, why);
    } else if (settle_has(deliver, group)) {
        (void)snprintf(why->text, sizeof why->text,
                       "it is over: the outcome is being written to the disk");
    } else if (lane && lane->destination && find_ready(lane->destination, group, &place)) {
        if (deliver_has_room(deliver) && scope_why(lane->destination, why))
            return;
        why->kind = deliver_has_room(deliver) ? WHY_CONNECTIONS : WHY_NO_ROOM;
        (void)snprintf(why->text, sizeof why->text,
                       deliver_has_room(deliver)
                           ? "all %u connections to the destination are busy; place %zu of "
                             "%zu"
                           : "the log, or the way to the disk, has no room (%u running; "
                             "place %zu of %zu)",
                       lane->destination->running, place, lane->destination->ready.count);
    }
}
