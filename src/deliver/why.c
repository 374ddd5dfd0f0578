/* Where a leased group stands: words for `smtpd queue why`. */
#include "inner.h"

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

void deliver_why_leased(const struct deliver *deliver, const char *lane_text,
                        const struct queue_target *group, struct why *why)
{
    struct domain_queue *domain_queue =
        queue_find_domain_queue(deliver->rooms.queue, lane_text);
    const struct lane *lane = domain_queue ? domain_queue_attachment(domain_queue) : NULL;
    size_t place;

    why->kind = WHY_LEASED;
    why->until_ms = 0;
    (void)snprintf(why->text, sizeof why->text, "an attempt is running or about to start");
    if (settle_has(deliver, group))
        (void)snprintf(why->text, sizeof why->text,
                       "its attempt is over: the outcome is being written to the disk");
    else if (lane && lane->destination && find_ready(lane->destination, group, &place)) {
        why->kind = WHY_CONNECTIONS;
        (void)snprintf(why->text, sizeof why->text,
                       "all %u connections to the destination are busy; place %zu of %zu",
                       lane->destination->running, place, lane->destination->ready.count);
    }
}
