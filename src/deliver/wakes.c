/* The domain queues of a lane are a ring: a walk ends where it began. */
#include "wakes.h"

#include "inner.h"
#include "smtpd/base/memory.h"

struct deliver_wake {
    struct link link;
    struct deliver *deliver;
    char (*lanes)[LANE_TEXT];
    size_t count;
    size_t next;
    deliver_woken_fn *on_end; /* NULL: nobody wants to know (any more) */
    void *owner;
};

static void wake_free(struct deliver_wake *wake)
{
    list_remove(&wake->deliver->wakes.waiting, &wake->link);
    memory_free(wake->lanes);
    memory_free(wake);
}

/* The next one of the lanes; NULL: they are at their end. A name without mail costs a look too. */
static struct domain_queue *take_next(struct deliver_wake *wake, int *looks)
{
    struct wakes *wakes = &wake->deliver->wakes;
    struct domain_queue *taken;

    while (!wakes->at && wake->next < wake->count && *looks < WAKES_A_TURN) {
        wakes->at = wakes->first =
            queue_find_domain_queue(wake->deliver->rooms.queue, wake->lanes[wake->next++]);
        *looks += !wakes->at;
    }
    taken = wakes->at;
    if (!taken)
        return NULL;
    wakes->at = domain_queue_lane_next(taken);
    if (wakes->at == wakes->first)
        wakes->at = wakes->first = NULL;
    return taken;
}

static void end(struct deliver_wake *wake)
{
    deliver_woken_fn *on_end = wake->on_end;
    void *owner = wake->owner;

    wake_free(wake);
    if (on_end)
        on_end(owner);
}

static void on_turn(void *owner)
{
    struct deliver *deliver = owner;
    struct wakes *wakes = &deliver->wakes;
    struct link *link;
    int looks = 0;

    while (looks < WAKES_A_TURN && (link = list_first(&wakes->waiting))) {
        struct deliver_wake *wake = CONTAINER_OF(link, struct deliver_wake, link);
        struct domain_queue *domain_queue = take_next(wake, &looks);

        if (domain_queue) {
            looks++;
            if (domain_queue_attachment(domain_queue))
                lane_wake(domain_queue_attachment(domain_queue));
            domain_queue_wake(domain_queue);
        } else if (wake->next == wake->count) {
            end(wake);
        }
    }
    if (wakes->waiting.count > 0 && !link_is_in_list(&wakes->turn.link))
        loop_defer(deliver->rooms.loop, &wakes->turn, on_turn, deliver);
}

struct deliver_wake *deliver_wake_start(struct deliver *deliver,
                                        const char (*lanes)[LANE_TEXT], size_t count,
                                        deliver_woken_fn *on_end, void *owner)
{
    struct deliver_wake *wake = NEW(struct deliver_wake);
    struct wakes *wakes = &deliver->wakes;

    wake->deliver = deliver;
    wake->lanes = memory_copy(lanes, count * sizeof *lanes);
    wake->count = count;
    wake->on_end = on_end;
    wake->owner = owner;
    list_push_back(&wakes->waiting, &wake->link);
    if (!link_is_in_list(&wakes->turn.link))
        loop_defer(deliver->rooms.loop, &wakes->turn, on_turn, deliver);
    return wake;
}

void deliver_wake_cancel(struct deliver_wake *wake)
{
    wake->on_end = NULL;
}

void wakes_init(struct wakes *wakes)
{
    list_init(&wakes->waiting);
}

/* It is in its ring still. */
void wakes_forget(struct deliver *deliver, const struct domain_queue *domain_queue)
{
    struct wakes *wakes = &deliver->wakes;
    struct domain_queue *next = domain_queue_lane_next(domain_queue);

    if (!wakes->at)
        return;
    if (wakes->at == domain_queue)
        wakes->at = next == wakes->first ? NULL : next;
    if (wakes->first == domain_queue)
        wakes->first = next;
    if (!wakes->at)
        wakes->first = NULL;
}

void wakes_abort(struct deliver *deliver)
{
    struct link *link;

    while ((link = list_first(&deliver->wakes.waiting)))
        wake_free(CONTAINER_OF(link, struct deliver_wake, link));
    deliver->wakes.at = deliver->wakes.first = NULL;
    deferred_cancel(deliver->rooms.loop, &deliver->wakes.turn);
}
