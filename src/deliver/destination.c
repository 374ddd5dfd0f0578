/* Destinations: limits and back-off. Everything here is in memory: the fault of a
 * host or a destination spends no attempt of a message and writes no record. */
#include "inner.h"

#include "busiest.h"
#include "connection.h"
#include "destinations_ask.h"
#include "flight.h"
#include "pool.h"
#include "reach.h"
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
    OTHER_HOSTS_MS = 300000,
    ROOM_LOOK_MS = 100
};

/* ---- life ---- */

static void run(void *owner);

void destination_note_families(struct destination *destination, const struct plan *plan)
{
    destination->has_family[FAMILY_IPV4] = destination->has_family[FAMILY_IPV6] = false;
    for (size_t i = 0; i < plan->host_count; i++)
        for (size_t k = 0; k < plan->hosts[i].address_count; k++)
            destination->has_family[family_of(&plan->hosts[i].addresses[k])] = true;
}

static void take_block(struct destination *destination, const char *block)
{
    char *old = destination->block;

    destination->block = block ? memory_text(block) : NULL;
    memory_free(old); /* `block` may be it */
}

void destination_take_plan(struct destination *destination, const struct plan *plan,
                           const char *block)
{
    take_block(destination, block);
    if (&destination->plan == plan)
        return;
    plan_fini(&destination->plan);
    destination->plan = *plan;
    destination->plan.hosts =
        plan->host_count ? memory_copy(plan->hosts, plan->host_count * sizeof *plan->hosts)
                         : NULL;
    destination->plan_version++;
    destination_note_families(destination, plan);
}

static bool is_forgotten(const struct destination *destination, int64_t age_ms)
{
    const struct loop *loop = destination->deliver->rooms.loop;

    return ready_is_empty(&destination->ready) && destination->running == 0 &&
           destination->connections == 0 &&
           (destination->users.count == 0 || destination->standing == 0) &&
           !link_is_in_list(&destination->run.link) &&
           destination->until_ms <= deliver_now(destination->deliver) &&
           loop_now_ms(loop) - destination->used_ms >= age_ms;
}

/* A few in turn for each new one: a pass over all of them would hold the loop. When hardly any more
 * can be known, whoever has nothing to do goes, however lately it had. */
static void forget_old(struct deliver *deliver)
{
    size_t room = LIMIT_DESTINATIONS - map_count(deliver->destinations);
    int64_t age_ms = room > FORGET_LOOK ? FORGET_MS : 0;

    for (int i = 0; i < FORGET_LOOK && deliver->all_destinations.count > 0; i++) {
        struct link *link = list_first(&deliver->all_destinations);
        struct destination *one = CONTAINER_OF(link, struct destination, link);

        census_pass(deliver->census, one);
        list_remove(&deliver->all_destinations, link);
        list_push_back(&deliver->all_destinations, link);
        if (is_forgotten(one, age_ms))
            destination_free(one);
    }
}

static struct destination *destination_new(struct deliver *deliver, struct slice key,
                                           struct slice name)
{
    struct destination *destination = NEW(struct destination);

    destination->deliver = deliver;
    destination->key = slice_to_text(key);
    destination->name = slice_to_text(name);
    ready_init(&destination->ready);
    scope_place_init(&destination->place, destination, destination);
    list_init(&destination->attached);
    list_init(&destination->attempts);
    list_init(&destination->idle);
    list_init(&destination->flights);
    list_init(&destination->users);
    timer_init(&destination->again, deliver->rooms.loop, run, destination);
    if (map_set(deliver->destinations, name, destination) != RESULT_OK) {
        memory_free(destination->key);
        memory_free(destination->name);
        memory_free(destination);
        return NULL; /* the lane rests and comes again */
    }
    list_push_back(&deliver->all_destinations, &destination->link);
    return destination;
}

enum { KEY_MAX = 8192, NAME_MAX_BYTES = KEY_MAX + 256 };

static const char pool_kind[] = "pool:";

static bool add_name(struct bytes *name, struct slice key, const char *kind, const char *of)
{
    return bytes_add(name, key) == RESULT_OK &&
           (!of || bytes_format(name, "@%s%s", kind, of) == RESULT_OK);
}

static struct destination *find_or_make(struct deliver *deliver, struct slice key,
                                        const char *kind, const char *of)
{
    struct destination *destination;
    struct bytes name;

    bytes_init(&name, NAME_MAX_BYTES);
    if (!add_name(&name, key, kind, of)) {
        bytes_fini(&name);
        return NULL;
    }
    destination = map_get(deliver->destinations, bytes_view(&name));
    if (!destination && map_count(deliver->destinations) >= LIMIT_DESTINATIONS / 2)
        forget_old(deliver);
    if (!destination)
        destination = destination_new(deliver, key, bytes_view(&name));
    bytes_fini(&name);
    return destination;
}

const struct destination *destination_find_head(const struct deliver *deliver,
                                                struct slice key, const char *pool)
{
    const struct destination *destination = NULL;
    struct bytes name;

    bytes_init(&name, NAME_MAX_BYTES);
    if (add_name(&name, key, pool_kind, pool))
        destination = map_get(deliver->destinations, bytes_view(&name));
    bytes_fini(&name);
    return destination;
}

struct destination *destination_get_head(struct deliver *deliver, const struct plan *plan,
                                         const char *lane, const char *pool)
{
    struct destination *destination;
    struct bytes key;

    bytes_init(&key, KEY_MAX);
    plan_key(plan, lane, &key);
    destination = find_or_make(deliver, bytes_view(&key), pool_kind, pool);
    bytes_fini(&key);
    if (!destination)
        return NULL;
    if (pool && !destination->pool)
        destination->pool = memory_text(pool);
    destination->kind = plan->kind;
    destination->used_ms = loop_now_ms(deliver->rooms.loop);
    destination_take_plan(destination, plan, settings_block(deliver->settings, plan));
    return destination;
}

struct destination *destination_get(struct deliver *deliver, const struct plan *plan,
                                    const char *lane)
{
    return destination_get_head(deliver, plan, lane, NULL);
}

struct destination *destination_get_path(const struct destination *head,
                                         struct source *source)
{
    struct deliver *deliver = head->deliver;
    struct destination *path = find_or_make(deliver, slice_of(head->key), "", source->name);

    if (!path)
        return NULL;
    path->source = source;
    path->kind = head->kind;
    path->used_ms = loop_now_ms(deliver->rooms.loop);
    destination_take_plan(path, &head->plan, head->block);
    return path;
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
    timer_cancel(&destination->again);
    busiest_forget(deliver->busiest, destination);
    resting_forget(destination);
    census_forget(deliver->census, destination);
    scope_forget(destination);
    pool_fini(destination);
    list_remove(&deliver->all_destinations, &destination->link);
    list_remove(&deliver->stalled, &destination->stalled);
    (void)map_remove(deliver->destinations, slice_of(destination->name));
    ready_fini(&destination->ready);
    plan_fini(&destination->plan);
    memory_free(destination->key);
    memory_free(destination->name);
    memory_free(destination->pool);
    memory_free(destination->block);
    memory_free(destination->last.text);
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
    bool is_judged =
        destination->pool ? pool_is_judged(destination) : destination->failures > 0;

    ready_fill(destination, is_judged ? 0 : LIMIT_READY_GROUPS);
}

/* `destination`: the way there, of this work from now on. */
static void start_one(struct work *work, struct destination *destination)
{
    work->destination = destination;
    destination->running++;
    destination->used_ms = loop_now_ms(destination->deliver->rooms.loop);
    if (destination->kind == PLAN_LOCAL)
        local_attempt_start(work);
    else
        attempt_start(work); /* PLAN_FAIL and PLAN_REGROUP are decided there */
}

/* Probes are counted apart, and are part of the pace. */
static bool has_slot(struct destination *destination)
{
    bool is_apart = destination->failures > 0 || !scope_of(destination);

    return !is_apart || in_use(destination) < limit(destination);
}

bool destination_could_start(struct scope_place *place)
{
    return has_slot(place->way) && scope_would_admit(place);
}

bool destination_may_start(struct scope_place *place)
{
    return has_slot(place->way) && scope_admits(place);
}

unsigned destination_slots(const struct destination *destination)
{
    unsigned most = limit(destination);

    return most > in_use(destination) ? most - in_use(destination) : 0;
}

/* The way of the next message; NULL: none now. */
static struct scope_place *choose_way(struct destination *destination)
{
    if (destination->pool)
        return pool_choose(destination);
    return destination_may_start(&destination->place) ? &destination->place : NULL;
}

static unsigned slots(const struct destination *destination)
{
    return destination->pool ? pool_slots(destination) : destination_slots(destination);
}

void destination_stall(struct destination *destination)
{
    struct deliver *deliver = destination->deliver;

    if (!link_is_in_list(&destination->stalled))
        list_push_back(&deliver->stalled, &destination->stalled);
    if (!timer_is_waiting(&deliver->room))
        timer_start(&deliver->room, ROOM_LOOK_MS);
}

/* A connection of its own as long as the limits allow one: the next hop works on them side by side.
 * Then behind others. */
bool destination_may_ride(struct scope_place *place)
{
    struct destination *way = place->way;

    return way->kind == PLAN_HOSTS && way->failures == 0 && flight_has_room(way) &&
           scope_admits_behind(place);
}

static struct scope_place *choose_ridden(struct destination *destination)
{
    if (destination->pool)
        return pool_choose_ridden(destination);
    return destination_may_ride(&destination->place) ? &destination->place : NULL;
}

/* No room: it is run again when there is some, whoever else has work for it or not. */
static bool is_stalled(struct destination *destination)
{
    if (deliver_has_room(destination->deliver))
        return false;
    destination_stall(destination);
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

/* Of the tenant whose turn the scope says it is; NULL: there is none, or it is being read. Then it is
 * the next in its scope all the same, once it is there. */
static struct work *take(struct destination *destination, struct scope_place *place,
                         bool *goes_on)
{
    const struct ready *ready = &destination->ready;
    unsigned before = ready->choosing;
    bool is_of_one = place->of;
    struct work *work = is_of_one ? ready_take_of(destination, place->of->tenant, goes_on)
                                  : ready_take(destination, slots(destination));

    if (!work && is_of_one && ready->choosing > before)
        place->kept++;
    else if (!work && is_of_one && !*goes_on)
        scope_turn_unused(place);
    if (work && is_of_one && work->is_chosen)
        scope_was_kept(place);
    place->of = NULL;
    return work;
}

/* False: nothing more can start now. */
static bool start_next(struct destination *destination)
{
    struct scope_place *place = choose_way(destination);
    bool rides = !place;
    bool goes_on = false;
    struct work *work;

    if (rides && !(place = choose_ridden(destination)))
        return false;
    work = rides ? ready_take(destination, 1) : take(destination, place, &goes_on);
    if (!work)
        return goes_on;
    work->is_rider = rides;
    if (rides && !flight_can_take(place->way, work)) { /* it waits for a connection */
        ready_put_back(&destination->ready, work);
        return false;
    }
    if (destination->pool)
        pool_pay(destination, place->way);
    start_one(work, place->way);
    return true;
}

/* Whose turn it was. NULL: its lane has another way since. */
static struct destination *find_head(const struct work *work)
{
    struct destination *head = work->lane->destination;

    if (!head || head == work->destination)
        return head;
    for (size_t i = 0; i < head->member_count; i++)
        if (head->members[i].path == work->destination)
            return head;
    return NULL;
}

void destination_take_back(struct work *work)
{
    struct destination *head = find_head(work);

    if (!head) {
        work_release(work);
        return;
    }
    work->destination = head;
    ready_put_back(&head->ready, work);
    destination_run_later(head);
}

static void start_some(struct destination *destination)
{
    refill(destination);
    while (!is_stalled(destination) && ready_waits(&destination->ready) &&
           start_next(destination))
        refill(destination);
}

static void release_all(struct destination *destination, const struct pool_hold *hold)
{
    struct link *link;

    ready_release(&destination->ready, NULL);
    while ((link = list_first(&destination->ready.lanes))) {
        struct lane *lane = CONTAINER_OF(link, struct lane, link);

        ready_leave(&destination->ready, lane);
        lane->was_tried = true;
        lane_rest(lane, hold->until_ms, hold->why, hold->text);
    }
}

bool destination_holds(struct destination *destination, const struct lane *lane,
                       struct pool_hold *hold)
{
    struct rest rest;

    *hold = (struct pool_hold){.class = destination->fault_class};
    if (reach_rests(destination, lane, &rest)) {
        hold->why = WHY_SUSPENDED;
        hold->until_ms = rest.until_ms;
        (void)snprintf(hold->text, sizeof hold->text, "%s", rest.text);
        return true;
    }
    if (destination->pool) {
        bool is_held = pool_holds(destination, hold);

        destination->fault_class = hold->class; /* what reports of late mail say */
        return is_held;
    }
    if (!destination_rests(destination))
        return false;
    hold->why = WHY_DESTINATION;
    hold->until_ms = destination->until_ms;
    (void)snprintf(hold->text, sizeof hold->text, "%s", destination->fault);
    return true;
}

/* Turns that were not used go on. */
static void serve(const struct destination *destination)
{
    for (size_t i = 0; i < destination->member_count; i++) {
        const struct destination *path = destination->members[i].path;

        if (path && path->scope)
            scope_serve(path->scope);
    }
    if (destination->scope && destination->users.count == 0)
        scope_serve(destination->scope);
}

/* What waits for the limits of one source is not to wait for it when another comes back: a back-off, a
 * full day of a warm-up end by time, and nobody would say so. */
static void await_source(struct destination *destination, int64_t until_ms)
{
    int64_t now_ms = deliver_now(destination->deliver);

    if (until_ms > 0 && !ready_is_empty(&destination->ready))
        timer_start(&destination->again, until_ms > now_ms ? until_ms - now_ms : 1);
    else
        timer_cancel(&destination->again);
}

static void run(void *owner)
{
    struct destination *destination = owner;
    struct pool_hold hold = {.until_ms = 0};
    bool is_draining = destination->deliver->is_draining;
    bool is_held = !is_draining && destination_holds(destination, NULL, &hold);

    pool_each_place(destination, scope_run_begins);
    if (is_held)
        release_all(destination, &hold);
    else if (!is_draining && !is_stalled(destination))
        start_some(destination);
    pool_each_place(destination, scope_run_ends);
    await_source(destination, is_held ? 0 : hold.until_ms);
    pool_wake_users(destination);
    serve(destination);
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

void destination_failed(struct destination *destination, enum deliver_class class,
                        const char *text)
{
    destination->last.ms = deliver_now(destination->deliver);
    destination->last.class = class;
    if (destination->last.text && strcmp(destination->last.text, text) == 0)
        return;
    memory_free(destination->last.text);
    destination->last.text = memory_text(text);
}

static void log_backoff(const struct destination *destination)
{
    struct log_line line;

    log_start(&line, LOG_WARNING, "deliver.destination_backoff");
    log_text(&line, "destination", destination->key);
    log_text(&line, "source", destination->source ? destination->source->name : NULL);
    log_text(&line, "message", destination->fault);
    log_text(&line, "class", deliver_class_name(destination->fault_class));
    log_number(&line, "failures", destination->failures);
    log_seconds(&line, "wait", destination->until_ms - deliver_now(destination->deliver));
    log_number(&line, "lanes",
               (int64_t)(destination->ready.lanes.count + pool_lane_count(destination)));
    log_end(&line);
}

/* What is ready goes back, unless it has another way. */
static void hold_back(struct destination *destination)
{
    struct pool_hold hold = {.why = WHY_DESTINATION, .until_ms = destination->until_ms};

    (void)snprintf(hold.text, sizeof hold.text, "%s", destination->fault);
    release_all(destination, &hold);
    pool_wake_users(destination);
}

void destination_fault(struct destination *destination, const struct fault *fault,
                       enum deliver_class class)
{
    uint32_t random;

    (void)snprintf(destination->fault, sizeof destination->fault, "%.299s", fault->text);
    destination->fault_class = class;
    destination_failed(destination, class, destination->fault);
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
    hold_back(destination);
}

void destination_wait_for_hosts(struct destination *destination)
{
    const struct plan *plan = &destination->plan;
    int64_t until_ms = INT64_MAX;

    for (size_t i = 0; i < plan->host_count; i++) {
        const struct host_memory *host = host_find(destination, plan->hosts[i].name);

        if (!pool_can_reach(destination->source, &plan->hosts[i]))
            continue;
        if (!host || host->until_ms < until_ms)
            until_ms = host ? host->until_ms : 0;
    }
    if (until_ms == INT64_MAX) { /* they have other addresses than a moment ago */
        until_ms = deliver_now(destination->deliver) + OTHER_HOSTS_MS;
        (void)snprintf(destination->fault, sizeof destination->fault,
                       "none of its hosts has an address that our source could reach");
        destination->fault_class = CLASS_CONNECTION;
    } else if (!destination->fault[0]) {
        (void)snprintf(destination->fault, sizeof destination->fault,
                       "all of its hosts failed a short while ago");
        destination->fault_class = CLASS_CONNECTION;
    }
    if (!destination_rests(destination))
        destination->until_ms = until_ms;
    /* It is judged by two attempts, like after a fault of its own. */
    if (destination->failures == 0)
        destination->failures = 1;
    hold_back(destination);
}

void destination_works(struct destination *destination)
{
    destination->failures = 0;
    destination->until_ms = 0;
    destination->fault[0] = '\0';
}
