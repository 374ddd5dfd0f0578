/* What an operator ends: groups leave the index by id, and each is settled with a report. A
 * few at a time, because each report reads its message. */
#include "inner.h"

#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum { AT_ONCE = 64, ROOM_MS = 100 };

struct dismissal {
    struct link link;
    struct deliver *deliver;
    struct queue_take *take;
    struct lease **leases;
    size_t count;
    size_t next; /* the first that is not settled yet */
    size_t running;
    struct queue_counts counts;
    struct timer room;
    char text[DELIVER_REASON_MAX + 64];
    queue_changed_fn *on_end;
    void *owner;
};

static void dismissal_free(struct dismissal *dismissal)
{
    list_remove(&dismissal->deliver->dismissals, &dismissal->link);
    timer_cancel(&dismissal->room);
    if (dismissal->take)
        queue_take_cancel(dismissal->take);
    while (dismissal->next < dismissal->count)
        lease_release(dismissal->leases[dismissal->next++]);
    memory_free(dismissal->leases);
    memory_free(dismissal);
}

static void end_if_over(struct dismissal *dismissal)
{
    queue_changed_fn *on_end = dismissal->on_end;
    void *owner = dismissal->owner;
    struct queue_counts counts = dismissal->counts;

    if (dismissal->running > 0 || dismissal->next < dismissal->count)
        return;
    dismissal_free(dismissal);
    on_end(owner, RESULT_OK, &counts);
}

static void on_settled(void *owner, bool is_done);

static void settle_one(struct dismissal *dismissal)
{
    struct lease *lease = dismissal->leases[dismissal->next++];

    dismissal->running++;
    settle_decided(dismissal->deliver, lease,
                   &(struct decision){.code = 550,
                                      .status = "5.7.1",
                                      .text = dismissal->text,
                                      .is_operator = true,
                                      .on_end = on_settled,
                                      .owner = dismissal});
}

static void go_on(void *owner)
{
    struct dismissal *dismissal = owner;
    const struct deliver *deliver = dismissal->deliver;

    if (deliver->is_draining) {
        dismissal->counts.skipped += dismissal->count - dismissal->next;
        while (dismissal->next < dismissal->count)
            lease_release(dismissal->leases[dismissal->next++]);
    }
    while (dismissal->next < dismissal->count && dismissal->running < AT_ONCE) {
        if (!deliver_has_room(deliver)) {
            timer_start(&dismissal->room, ROOM_MS);
            return;
        }
        settle_one(dismissal);
    }
    end_if_over(dismissal);
}

static void on_settled(void *owner, bool is_done)
{
    struct dismissal *dismissal = owner;

    dismissal->running--;
    dismissal->counts.changed += is_done;
    go_on(dismissal);
}

static void on_taken(void *owner, struct lease *const *leases,
                     const struct queue_counts *counts)
{
    struct dismissal *dismissal = owner;

    dismissal->take = NULL;
    dismissal->counts = *counts;
    dismissal->counts.changed = 0;
    dismissal->count = counts->changed;
    dismissal->leases = NEW_ARRAY(struct lease *, counts->changed + 1);
    for (size_t i = 0; i < counts->changed; i++)
        dismissal->leases[i] = leases[i];
    go_on(dismissal);
}

void deliver_bounce(struct deliver *deliver, const struct deliver_bounce *wanted)
{
    struct dismissal *dismissal = NEW(struct dismissal);
    const char *reason = wanted->reason ? wanted->reason : "";

    dismissal->deliver = deliver;
    dismissal->on_end = wanted->on_end;
    dismissal->owner = wanted->owner;
    (void)snprintf(dismissal->text, sizeof dismissal->text, "bounced by the operator%s%s",
                   *reason ? ": " : "", reason);
    timer_init(&dismissal->room, deliver->rooms.loop, go_on, dismissal);
    list_push_back(&deliver->dismissals, &dismissal->link);
    dismissal->take = queue_take_start(deliver->rooms.queue, wanted->targets, wanted->count,
                                       on_taken, dismissal);
}

void operator_abort(struct deliver *deliver)
{
    struct link *link;

    while ((link = list_first(&deliver->dismissals)))
        dismissal_free(CONTAINER_OF(link, struct dismissal, link));
}

/* ---- holds ---- */

bool operator_holds(struct deliver *deliver, struct lease *lease)
{
    int64_t now_ms = deliver_now(deliver);

    if (!group_is_held(&lease->group, now_ms))
        return false;
    if (now_ms < lease->envelope.arrival_ms + queue_expire_ms(deliver->rooms.queue) ||
        lease->is_first_since_start)
        lease_postpone(lease);
    else
        settle_decided(deliver, lease,
                       &(struct decision){.code = 451,
                                          .status = "4.4.7",
                                          .text = "expired while an operator held it",
                                          .is_expired = true});
    return true;
}
