/* See ready.h. Two rounds of turns over the same lanes: one for reading ahead, which keeps the
 * connections fed, and one for starting, which is the one that is fair. */
#include "ready.h"

#include "inner.h"
#include "reach.h"
#include "scope.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum {
    FEW_AHEAD = 8,
    FULL_MS = 1000 /* until somebody's attempts have ended */
};

void ready_init(struct ready *ready)
{
    list_init(&ready->lanes);
    list_init(&ready->works);
    list_init(&ready->chosen);
    turns_init(&ready->ahead);
    turns_init(&ready->starting);
}

void ready_fini(struct ready *ready)
{
    turns_fini(&ready->ahead);
    turns_fini(&ready->starting);
}

bool ready_is_empty(const struct ready *ready)
{
    return ready->lanes.count == 0 && ready->works.count == 0 && ready->chosen.count == 0 &&
           ready->loading == 0;
}

static struct turns_key key_of(const struct lane *lane)
{
    const char *tenant = domain_queue_tenant(lane->domain_queue);

    return (struct turns_key){tenant, settings_weight(lane->deliver->settings, tenant),
                              domain_queue_priority(lane->domain_queue)};
}

static void join(struct turns *turns, struct turn *turn, const struct lane *lane)
{
    struct turns_key key = key_of(lane);

    if (!turn->level)
        turns_join(turns, turn, &key);
}

/* A lane starts something as long as it has something, in memory or (as far as we know) on disk. */
static void leave_if_done(struct ready *ready, struct lane *lane)
{
    if (lane->loaded.count == 0 && !link_is_in_list(&lane->link))
        turns_leave(&ready->starting, &lane->starting);
}

void ready_join(struct destination *destination, struct lane *lane)
{
    struct ready *ready = &destination->ready;

    if (link_is_in_list(&lane->link))
        return;
    list_push_back(&ready->lanes, &lane->link);
    join(&ready->ahead, &lane->ahead, lane);
    join(&ready->starting, &lane->starting, lane);
}

void ready_leave(struct ready *ready, struct lane *lane)
{
    list_remove(&ready->lanes, &lane->link);
    turns_leave(&ready->ahead, &lane->ahead);
    leave_if_done(ready, lane);
}

/* ---- reading ---- */

/* All ready queues together are bounded, too: whoever has mail at many places reads little ahead at
 * each, and at last only what a turn asks for. */
static size_t most_ahead(const struct deliver *deliver, size_t most)
{
    if (deliver->read_ahead >= deliver->read_ahead_most)
        return 0;
    return deliver->read_ahead >= deliver->read_ahead_most / 2 && most > FEW_AHEAD
               ? FEW_AHEAD
               : most;
}

static void end_load(struct work *work)
{
    list_remove(&work->destination->deliver->loading, &work->link);
    ready_forget_load(&work->destination->ready, work);
    work->load = NULL;
}

void ready_forget_load(struct ready *ready, const struct work *work)
{
    ready->loading--;
    if (work->is_chosen)
        ready->choosing--;
    else
        work->destination->deliver->read_ahead--;
}

static bool is_wanted(const struct work *work)
{
    return !work->destination->deliver->is_draining &&
           work->lane->destination == work->destination && /* not another way since */
           lane_has_way(work->lane) && !destination_rests(work->destination) &&
           !lane_policy_rests(work->lane) &&
           !reach_suspension(work->destination, work->lane);
}

static void put(struct ready *ready, struct work *work)
{
    struct lane *lane = work->lane;

    if (work->is_chosen) {
        list_push_back(&ready->chosen, &work->link);
        return;
    }
    lane->deliver->read_ahead++;
    list_push_back(&ready->works, &work->link);
    list_push_back(&lane->loaded, &work->of_lane);
    join(&ready->starting, &lane->starting, lane);
}

static void on_loaded(void *owner, struct lease *lease, enum result result)
{
    struct work *work = owner;
    struct destination *destination = work->destination;
    struct deliver *deliver = destination->deliver;

    (void)result; /* logged by the queue; the entry is its own again */
    end_load(work);
    work->lease = lease;
    if (lease && !is_wanted(work))
        work_release(work);
    else if (!lease || operator_holds(deliver, lease) ||
             scope_bounces(destination, lease) ||
             (destination->kind != PLAN_LOCAL && suppress_lease(deliver, lease)))
        work_free(work);
    else
        put(&destination->ready, work);
    destination_run_later(destination); /* for its other lanes too */
    deliver_check_empty(deliver);
}

static void load(struct destination *destination, struct lane *lane,
                 const struct queue_entry *entry, bool is_chosen)
{
    struct work *work = NEW(struct work);

    work->destination = destination;
    work->lane = lane;
    work->entry = *entry;
    work->is_authentic = lane->plan.is_authentic;
    work->is_chosen = is_chosen;
    destination->ready.loading++;
    if (is_chosen)
        destination->ready.choosing++;
    else
        destination->deliver->read_ahead++;
    list_push_back(&destination->deliver->loading, &work->link);
    work->load = queue_lease_load(lane->domain_queue, entry, on_loaded, work);
}

/* False: the lane has nothing due, or must ask for its way again (the TTL is over, or the settings
 * are others): it rests. */
static bool load_of(struct destination *destination, struct lane *lane, bool is_chosen)
{
    struct deliver *deliver = destination->deliver;
    struct queue_entry entry;

    if (!queue_can_lease(deliver->rooms.queue)) {
        ready_leave(&destination->ready, lane);
        lane_rest(lane, deliver_now(deliver) + FULL_MS, WHY_READY_FULL,
                  "as many groups as can be are being delivered at once");
        return false;
    }
    if (!lane_has_way(lane) || !domain_queue_take(lane->domain_queue, &entry)) {
        ready_leave(&destination->ready, lane);
        lane_rest(lane, 0, WHY_SCHEDULED, "");
        return false;
    }
    lane_set_why(lane, WHY_LEASED);
    load(destination, lane, &entry, is_chosen);
    return true;
}

static bool read_one(struct destination *destination)
{
    struct turns *ahead = &destination->ready.ahead;
    struct turn *turn;

    while ((turn = turns_next(ahead))) {
        struct lane *lane = CONTAINER_OF(turn, struct lane, ahead);

        if (!load_of(destination, lane, false))
            continue;
        turns_pay(ahead, turn);
        return true;
    }
    return false;
}

void ready_fill(struct destination *destination, size_t most)
{
    const struct ready *ready = &destination->ready;

    while (ready->works.count + ready->loading - ready->choosing <
               most_ahead(destination->deliver, most) &&
           read_one(destination))
        ;
}

/* ---- choosing ---- */

static void take_out(struct ready *ready, struct work *work)
{
    work->lane->deliver->read_ahead--;
    list_remove(&ready->works, &work->link);
    list_remove(&work->lane->loaded, &work->of_lane);
    leave_if_done(ready, work->lane);
}

static struct work *take_loaded(struct ready *ready, struct lane *lane)
{
    struct work *work = CONTAINER_OF(list_first(&lane->loaded), struct work, of_lane);

    take_out(ready, work);
    return work;
}

bool ready_waits(struct ready *ready)
{
    return ready->chosen.count > 0 || turns_next(&ready->starting);
}

/* What is in memory does not take the slot of one whose turn came first and that is being read. */
struct work *ready_take(struct destination *destination, size_t slots)
{
    struct ready *ready = &destination->ready;
    struct turns *starting = &ready->starting;
    struct link *link = list_pop_front(&ready->chosen);
    struct turn *turn;

    if (link)
        return CONTAINER_OF(link, struct work, link);
    while (ready->choosing < slots && ready->choosing < LIMIT_READY_TURNS &&
           (turn = turns_next(starting))) {
        struct lane *lane = CONTAINER_OF(turn, struct lane, starting);

        if (lane->loaded.count > 0) {
            turns_pay(starting, turn);
            return take_loaded(ready, lane);
        }
        if (load_of(destination, lane, true))
            turns_pay(starting, turn);
    }
    return NULL;
}

static bool is_same(const char *tenant, const char *other)
{
    return tenant && other ? strcmp(tenant, other) == 0 : tenant == other;
}

/* There are hardly more than are read at once. */
static struct work *take_chosen_of(struct ready *ready, const char *tenant)
{
    struct list *chosen = &ready->chosen;

    for (struct link *link = list_first(chosen); link; link = list_next(chosen, link)) {
        struct work *work = CONTAINER_OF(link, struct work, link);

        if (is_same(domain_queue_tenant(work->lane->domain_queue), tenant)) {
            list_remove(chosen, link);
            return work;
        }
    }
    return NULL;
}

/* The turn was paid for where it came from: what is here has no part in it, and whatever else is being
 * read, this is read too, and keeps its turn. */
struct work *ready_take_of(struct destination *destination,
                           const struct turns_tenant *tenant, bool *goes_on)
{
    struct ready *ready = &destination->ready;
    struct work *work = take_chosen_of(ready, turns_tenant_name(tenant));
    struct lane *lane;

    *goes_on = false;
    if (work || ready->choosing >= LIMIT_READY_TURNS)
        return work;
    *goes_on = true;
    lane = CONTAINER_OF(turns_next_of(tenant), struct lane, starting);
    if (lane->loaded.count > 0) {
        turns_went(&lane->starting);
        return take_loaded(ready, lane);
    }
    if (load_of(destination, lane, true))
        turns_went(&lane->starting);
    return NULL;
}

bool ready_chosen_key(const struct ready *ready, struct turns_key *key)
{
    const struct link *link = list_first(&ready->chosen);

    if (!link)
        return false;
    *key = key_of(CONTAINER_OF(link, struct work, link)->lane);
    return true;
}

/* ---- giving back ---- */

void ready_put_back(struct ready *ready, struct work *work)
{
    if (is_wanted(work))
        list_push_front(&ready->chosen, &work->link);
    else
        work_release(work);
}

void ready_release(struct ready *ready, const struct lane *lane)
{
    struct link *next;

    for (struct link *link = list_first(&ready->works); link; link = next) {
        struct work *work = CONTAINER_OF(link, struct work, link);

        next = list_next(&ready->works, link);
        if (lane && work->lane != lane)
            continue;
        take_out(ready, work);
        work_release(work);
    }
    for (struct link *link = list_first(&ready->chosen); link; link = next) {
        struct work *work = CONTAINER_OF(link, struct work, link);

        next = list_next(&ready->chosen, link);
        if (lane && work->lane != lane)
            continue;
        list_remove(&ready->chosen, link);
        work_release(work);
    }
}

static unsigned weight_of(const void *owner, const char *tenant)
{
    return settings_weight(owner, tenant);
}

void ready_reweigh(struct ready *ready, const struct plan_settings *settings)
{
    turns_reweigh(&ready->ahead, weight_of, settings);
    turns_reweigh(&ready->starting, weight_of, settings);
}
