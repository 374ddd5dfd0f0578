/* Destinations: limits and back-off. Everything here is in memory: the fault of a
 * host or a destination spends no attempt of a message and writes no record. */
#include "inner.h"

#include "busiest.h"
#include "connection.h"
#include "flight.h"
#include "resting.h"
#include "scope.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/queue/schedule.h"

#include <stdio.h>
#include <string.h>

enum {
    BACKOFF_FIRST_MS = 30000,
    BACKOFF_MOST_MS = 900000,
    PROBES = 2,        /* attempts that judge a destination after a back-off */
    OTHER_AT_ONCE = 8, /* local mailboxes, groups that fail at once */
    FORGET_MS = 3600000,
    FORGET_LOOK = 16,
    ROOM_LOOK_MS = 100
};

/* ---- life ---- */

static void run(void *owner);

static void copy_plan(struct destination *destination, const struct plan *plan)
{
    plan_fini(&destination->plan);
    destination->plan = *plan;
    destination->plan.hosts =
        plan->host_count ? memory_copy(plan->hosts, plan->host_count * sizeof *plan->hosts)
                         : NULL;
}

static bool is_forgotten(const struct destination *destination)
{
    const struct loop *loop = destination->deliver->rooms.loop;

    return ready_is_empty(&destination->ready) && destination->running == 0 &&
           destination->connections == 0 &&
           destination->until_ms <= deliver_now(destination->deliver) &&
           loop_now_ms(loop) - destination->used_ms > FORGET_MS;
}

/* A few in turn for each new one: a pass over all of them would hold the loop. */
static void forget_old(struct deliver *deliver)
{
    for (int i = 0; i < FORGET_LOOK && deliver->all_destinations.count > 0; i++) {
        struct link *link = list_pop_front(&deliver->all_destinations);
        struct destination *one = CONTAINER_OF(link, struct destination, link);

        list_push_back(&deliver->all_destinations, link);
        if (is_forgotten(one))
            destination_free(one);
    }
}

struct destination *destination_get(struct deliver *deliver, const struct plan *plan,
                                    const char *lane)
{
    struct destination *destination;
    struct bytes key;

    bytes_init(&key, 8192);
    plan_key(plan, lane, &key);
    destination = map_get(deliver->destinations, bytes_view(&key));
    if (!destination && map_count(deliver->destinations) >= LIMIT_DESTINATIONS / 2)
        forget_old(deliver);
    if (!destination) {
        destination = NEW(struct destination);
        destination->deliver = deliver;
        destination->key = slice_to_text(bytes_view(&key));
        ready_init(&destination->ready);
        list_init(&destination->attached);
        list_init(&destination->idle);
        list_init(&destination->flights);
        if (map_set(deliver->destinations, bytes_view(&key), destination) != RESULT_OK) {
            memory_free(destination->key);
            memory_free(destination);
            bytes_fini(&key);
            return NULL; /* the lane rests and comes again */
        }
        list_push_back(&deliver->all_destinations, &destination->link);
    }
    bytes_fini(&key);
    destination->kind = plan->kind;
    destination->used_ms = loop_now_ms(deliver->rooms.loop);
    copy_plan(destination, plan);
    return destination;
}

void destination_free(struct destination *destination)
{
    struct deliver *deliver = destination->deliver;
    struct link *link;

    while ((link = list_first(&destination->idle)))
        connection_forget_idle(destination, link);
    while ((link = list_first(&destination->attached)))
        lane_attach(CONTAINER_OF(link, struct lane, attached), NULL);
    deferred_cancel(deliver->rooms.loop, &destination->run);
    busiest_forget(deliver->busiest, destination);
    resting_forget(destination);
    scope_forget(destination);
    list_remove(&deliver->all_destinations, &destination->link);
    list_remove(&deliver->stalled, &destination->stalled);
    (void)map_remove(deliver->destinations, slice_of(destination->key));
    ready_fini(&destination->ready);
    plan_fini(&destination->plan);
    memory_free(destination->key);
    memory_free(destination);
}

const struct destination_settings *
destination_settings(const struct destination *destination)
{
    return settings_for(destination->deliver->settings, &destination->plan);
}

const struct deliver_timeouts *destination_timeouts(const struct destination *destination,
                                                    const struct plan_settings *settings)
{
    const struct destination_settings *own = settings_for(settings, &destination->plan);

    return own->timeouts ? own->timeouts : &settings->values.timeouts;
}

/* ---- work ---- */

/* Connections, whatever goes over them. */
static unsigned in_use(const struct destination *destination)
{
    return destination->running - destination->riding;
}

static unsigned limit(const struct destination *destination)
{
    if (destination->kind != PLAN_HOSTS)
        return OTHER_AT_ONCE;
    if (destination->failures > 0)
        return PROBES;
    if (!destination->scope) /* more scopes are known than can be */
        return destination_settings(destination)->connections;
    return in_use(destination) + scope_slots(destination);
}

bool destination_rests(const struct destination *destination)
{
    return destination->until_ms > deliver_now(destination->deliver);
}

/* While it is judged nothing is read but what the probes need. */
static void refill(struct destination *destination)
{
    ready_fill(destination, destination->failures > 0 ? 0 : LIMIT_READY_GROUPS);
}

static void start_one(struct work *work)
{
    struct destination *destination = work->destination;

    destination->running++;
    destination->used_ms = loop_now_ms(destination->deliver->rooms.loop);
    if (destination->kind == PLAN_LOCAL)
        local_attempt_start(work);
    else
        attempt_start(work); /* PLAN_FAIL and PLAN_REGROUP are decided there */
}

/* Probes are counted apart, and are part of the pace. */
static bool may_start(struct destination *destination)
{
    bool is_apart = destination->failures > 0 || !scope_of(destination);

    if (is_apart && in_use(destination) >= limit(destination))
        return false;
    return scope_admits(destination);
}

/* A connection of its own as long as the limits allow one: the next hop works on them side by side.
 * Then behind others. */
static bool may_ride(struct destination *destination)
{
    return destination->kind == PLAN_HOSTS && destination->failures == 0 &&
           flight_has_room(destination) && scope_admits_behind(destination);
}

/* No room: it is run again when there is some, whoever else has work for it or not. */
static bool is_stalled(struct destination *destination)
{
    struct deliver *deliver = destination->deliver;

    if (deliver_has_room(deliver))
        return false;
    if (!link_is_in_list(&destination->stalled))
        list_push_back(&deliver->stalled, &destination->stalled);
    if (!timer_is_waiting(&deliver->room))
        timer_start(&deliver->room, ROOM_LOOK_MS);
    return true;
}

void destination_on_room(void *owner)
{
    struct deliver *deliver = owner;
    struct link *link;

    while (deliver_has_room(deliver) && (link = list_pop_front(&deliver->stalled)))
        destination_run_later(CONTAINER_OF(link, struct destination, stalled));
    if (deliver->stalled.count > 0)
        timer_start(&deliver->room, ROOM_LOOK_MS);
}

/* False: nothing more can start now. */
static bool start_next(struct destination *destination)
{
    struct ready *ready = &destination->ready;
    bool rides = !may_start(destination);
    struct work *work;

    if (rides && !may_ride(destination))
        return false;
    work = ready_take(destination, rides ? 1 : limit(destination) - in_use(destination));
    if (!work) {
        /* It is the next in its scope all the same, once the group is read. */
        destination->has_turn = !rides && destination->scope && ready->choosing > 0;
        return false;
    }
    work->is_rider = rides;
    if (rides && !flight_can_take(destination, work)) { /* it waits for a connection */
        ready_put_back(ready, work);
        return false;
    }
    start_one(work);
    return true;
}

static void start_some(struct destination *destination)
{
    refill(destination);
    while (!is_stalled(destination) && ready_waits(&destination->ready) &&
           start_next(destination))
        refill(destination);
}

static void release_all(struct destination *destination, int64_t until_ms,
                        enum why_kind why, const char *text)
{
    struct link *link;

    ready_release(&destination->ready, NULL);
    while ((link = list_first(&destination->ready.lanes))) {
        struct lane *lane = CONTAINER_OF(link, struct lane, link);

        ready_leave(&destination->ready, lane);
        lane->was_tried = true;
        lane_rest(lane, until_ms, why, text);
    }
}

static void run(void *owner)
{
    struct destination *destination = owner;
    int64_t suspended_ms = scope_suspended_until(destination);

    if (suspended_ms > 0 && !destination->deliver->is_draining)
        release_all(destination, suspended_ms, WHY_SUSPENDED,
                    destination->scope->pace.suspension);
    else if (!destination->deliver->is_draining && !destination_rests(destination) &&
             !is_stalled(destination))
        start_some(destination);
    if (destination->scope)
        scope_serve(destination->scope); /* its turn may be over */
}

void destination_run_later(struct destination *destination)
{
    if (!link_is_in_list(&destination->run.link))
        loop_defer(destination->deliver->rooms.loop, &destination->run, run, destination);
}

void destination_ended(struct destination *destination)
{
    destination->running--;
    destination_run_later(destination);
    deliver_check_empty(destination->deliver);
}

/* ---- faults ---- */

static void log_backoff(const struct destination *destination)
{
    struct log_line line;

    log_start(&line, LOG_WARNING, "deliver.destination_backoff");
    log_text(&line, "destination", destination->key);
    log_text(&line, "message", destination->fault);
    log_text(&line, "class", deliver_class_name(destination->fault_class));
    log_number(&line, "failures", destination->failures);
    log_seconds(&line, "wait", destination->until_ms - deliver_now(destination->deliver));
    log_number(&line, "lanes", (int64_t)destination->ready.lanes.count);
    log_end(&line);
}

void destination_fault(struct destination *destination, const struct fault *fault,
                       enum deliver_class class)
{
    uint32_t random;

    (void)snprintf(destination->fault, sizeof destination->fault, "%.299s", fault->text);
    destination->fault_class = class;
    if (!destination_rests(
            destination)) { /* a second probe of the same round is no second fault */
        secure_random(&random, sizeof random);
        destination->failures++;
        destination->until_ms = deliver_now(destination->deliver) +
                                schedule_backoff(destination->failures, BACKOFF_FIRST_MS,
                                                 BACKOFF_MOST_MS, random);
        destination->deliver->statistics.backoffs_by_class[class]++;
        log_backoff(destination);
    }
    release_all(destination, destination->until_ms, WHY_DESTINATION, destination->fault);
}

void destination_wait_for_hosts(struct destination *destination)
{
    const struct plan *plan = &destination->plan;
    int64_t until_ms = INT64_MAX;

    for (size_t i = 0; i < plan->host_count; i++) {
        const struct host_memory *host = host_find(destination, plan->hosts[i].name);

        if (!host || host->until_ms < until_ms)
            until_ms = host ? host->until_ms : 0;
    }
    if (!destination->fault[0]) {
        (void)snprintf(destination->fault, sizeof destination->fault,
                       "all of its hosts failed a short while ago");
        destination->fault_class = CLASS_CONNECTION;
    }
    if (!destination_rests(destination))
        destination->until_ms = until_ms;
    /* It is judged by two attempts, like after a fault of its own. */
    if (destination->failures == 0)
        destination->failures = 1;
    release_all(destination, destination->until_ms, WHY_DESTINATION, destination->fault);
}

void destination_works(struct destination *destination)
{
    destination->failures = 0;
    destination->until_ms = 0;
    destination->fault[0] = '\0';
}
