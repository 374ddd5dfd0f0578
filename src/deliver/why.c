/* Where a leased group stands: words for `smtpd queue why`. */
#include "attempt_inner.h"
#include "pool.h"

#include <stdio.h>
#include <string.h>

static bool is_it(const struct queue_entry *entry, const struct queue_target *group)
{
    return entry->id == group->id && entry->group == group->group;
}

static const struct work *find_work(const struct list *works,
                                    const struct queue_target *group)
{
    for (struct link *link = list_first(works); link; link = list_next(works, link)) {
        const struct work *work = CONTAINER_OF(link, struct work, link);

        if (is_it(&work->entry, group))
            return work;
    }
    return NULL;
}

/* Among those of its tenant: when another tenant's turn comes depends on what the others get. */
struct place {
    const struct work *work;
    size_t before;
    size_t count;
};

static bool is_of_tenant(const struct work *work, const struct work *other)
{
    const char *mine = domain_queue_tenant(work->lane->domain_queue);
    const char *others = domain_queue_tenant(other->lane->domain_queue);

    return mine == others || (mine && others && strcmp(mine, others) == 0);
}

static bool find_place(const struct ready *ready, const struct queue_target *group,
                       struct place *place)
{
    bool is_earlier = true;
    int priority;

    *place = (struct place){find_work(&ready->works, group), 0, 0};
    if (!place->work)
        return false;
    priority = domain_queue_priority(place->work->lane->domain_queue);
    for (struct link *link = list_first(&ready->works); link;
         link = list_next(&ready->works, link)) {
        const struct work *work = CONTAINER_OF(link, struct work, link);
        int other = domain_queue_priority(work->lane->domain_queue);

        if (!is_of_tenant(place->work, work))
            continue;
        place->count++;
        is_earlier = is_earlier && work != place->work;
        place->before += other > priority || (other == priority && is_earlier);
    }
    return true;
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
                        const struct envelope *of, const struct queue_target *group,
                        struct why *why)
{
    const struct lane *lane = lane_find(deliver, lane_text, of);
    const struct attempt *attempt = find_attempt(deliver, group);
    const struct destination *way = lane ? lane->destination : NULL;
    unsigned running = way ? way->running + pool_running(way) : 0;
    struct place place;

    why->kind = WHY_LEASED;
    why->until_ms = 0;
    (void)snprintf(why->text, sizeof why->text, "an attempt is about to start");
    if (attempt) {
        tell_attempt(attempt, why);
    } else if (settle_has(deliver, group)) {
        (void)snprintf(why->text, sizeof why->text,
                       "it is over: the outcome is being written to the disk");
    } else if (lane && lane->destination &&
               find_place(&lane->destination->ready, group, &place)) {
        if (deliver_has_room(deliver) && scope_why(lane->destination, why))
            return;
        why->kind = deliver_has_room(deliver) ? WHY_CONNECTIONS : WHY_NO_ROOM;
        (void)snprintf(why->text, sizeof why->text,
                       deliver_has_room(deliver)
                           ? "all %u connections to the destination are busy; place %zu of "
                             "%zu of its tenant"
                           : "the log, or the way to the disk, has no room (%u running; "
                             "place %zu of %zu of its tenant)",
                       running, place.before + 1, place.count);
    }
}
