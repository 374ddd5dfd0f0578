/* The queue's watcher: lanes that are due find their destination; what holds a lane is
 * written on it, so that `smtpd queue why` can say it. */
#include "inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum {
    SWEEP_MS = 5000,
    SWEEP_LANES = 100,
    SWEEP_ENTRIES = 50,
    NO_ROOM_MS = 1000,
    HOSTS_MAX = 100000
};
static const int64_t dns_backoff_ms[] = {60000, 300000, 900000};

int64_t deliver_now(const struct deliver *deliver)
{
    return loop_wall_ms(deliver->rooms.loop);
}

bool deliver_has_room(const struct deliver *deliver)
{
    (void)deliver;
    return log_has_room();
}

/* ---- work ---- */

void work_free(struct work *work)
{
    memory_free(work);
}

void work_release(struct work *work)
{
    lease_release(work->lease);
    work_free(work);
}

/* ---- lanes ---- */

static void on_due(void *owner, struct domain_queue *domain_queue);

static struct lane *lane_of(struct deliver *deliver, struct domain_queue *domain_queue)
{
    struct lane *lane = domain_queue_attachment(domain_queue);

    if (lane)
        return lane;
    lane = NEW(struct lane);
    lane->deliver = deliver;
    lane->domain_queue = domain_queue;
    domain_queue_attach(domain_queue, lane);
    return lane;
}

static void note_fault(struct lane *lane)
{
    struct list *faulty = &lane->deliver->faulty;
    bool is_held_up = lane->why == WHY_DESTINATION || lane->why == WHY_DNS;

    if (is_held_up && !link_is_in_list(&lane->faulty))
        list_push_back(faulty, &lane->faulty);
    else if (!is_held_up)
        list_remove(faulty, &lane->faulty);
}

void lane_rest(struct lane *lane, int64_t until_ms, enum why_kind why, const char *fault)
{
    lane->why = why;
    lane->until_ms = until_ms;
    (void)snprintf(lane->fault, sizeof lane->fault, "%s", fault);
    note_fault(lane);
    if (!lane->is_held)
        return;
    lane->is_held = false;
    domain_queue_rest(lane->domain_queue, until_ms);
}

static void lane_forget(struct lane *lane)
{
    struct deliver *deliver = lane->deliver;

    if (lane->search)
        route_search_cancel(lane->search);
    if (lane->lookup)
        lookup_cancel(lane->lookup);
    if (lane->destination)
        list_remove(&lane->destination->lanes, &lane->link);
    list_remove(&deliver->faulty, &lane->faulty);
    plan_fini(&lane->plan);
    memory_free(lane);
}

static void on_gone(void *owner, struct domain_queue *domain_queue)
{
    struct lane *lane = domain_queue_attachment(domain_queue);

    (void)owner;
    if (!lane)
        return;
    domain_queue_attach(domain_queue, NULL);
    lane_forget(lane);
}

/* A lane with a plan joins its destination. */
static void join(struct lane *lane)
{
    struct deliver *deliver = lane->deliver;
    struct destination *destination =
        destination_get(deliver, &lane->plan, domain_queue_lane(lane->domain_queue));

    if (!destination) {
        lane_rest(lane, deliver_now(deliver) + 60000, WHY_READY_FULL,
                  "too many destinations are known at once");
        return;
    }
    if (lane->destination && lane->destination != destination)
        list_remove(&lane->destination->lanes, &lane->link);
    lane->destination = destination;
    if (destination->until_ms > deliver_now(deliver)) {
        lane->was_tried = true; /* others were, and it would have gone the same way */
        lane_rest(lane, destination->until_ms, WHY_DESTINATION, destination->fault);
        return;
    }
    lane->why = WHY_CONNECTIONS;
    lane->until_ms = 0;
    note_fault(lane);
    if (!link_is_in_list(&lane->link))
        list_push_back(&destination->lanes, &lane->link);
    destination_run_later(destination);
}

static void log_dns(const struct lane *lane)
{
    struct log_line line;

    log_start(&line, LOG_WARNING, "deliver.dns_backoff");
    log_text(&line, "domain", domain_queue_lane(lane->domain_queue));
    log_text(&line, "status", lane->plan.status);
    log_text(&line, "message", lane->plan.text);
    log_number(&line, "failures", lane->dns_failures);
    log_end(&line);
}

/* The look-ups of the lane failed for now: nothing is written, and no attempt is spent. */
static void rest_for_dns(struct lane *lane, int64_t wait_ms)
{
    char fault[sizeof lane->fault];

    lane->dns_failures++;
    lane->was_tried = true;
    log_dns(lane);
    (void)snprintf(fault, sizeof fault, "%.15s %.280s", lane->plan.status, lane->plan.text);
    lane_rest(lane, deliver_now(lane->deliver) + wait_ms, WHY_DNS, fault);
}

static void on_route(void *owner, struct plan *plan)
{
    struct lane *lane = owner;
    size_t at;

    lane->search = NULL;
    plan_fini(&lane->plan);
    lane->plan = *plan;
    lane->has_plan = true;
    if (plan->kind != PLAN_DEFER) {
        lane->dns_failures = 0;
        join(lane);
        return;
    }
    lane->has_plan = false;
    at = lane->dns_failures < 2 ? lane->dns_failures : 2;
    rest_for_dns(lane, dns_backoff_ms[at]);
}

static void plan_for_route(struct lane *lane, const struct route *route)
{
    struct plan *plan = &lane->plan;

    plan_fini(plan);
    memset(plan, 0, sizeof *plan);
    plan->kind = PLAN_HOSTS;
    plan->rule = -1;
    plan->is_route = true;
    plan->port = route->port;
    (void)snprintf(plan->route_name, sizeof plan->route_name, "%s", route->name);
    plan->hosts = NEW(struct plan_host);
    plan->host_count = 1;
    (void)snprintf(plan->hosts[0].name, sizeof plan->hosts[0].name, "%s", route->host);
}

/* The host of a route is looked up like any other, but may be private: the operator wrote
 * it. */
static void on_route_address(void *owner, const struct dns_answer *answer)
{
    struct lane *lane = owner;
    struct plan *plan = &lane->plan;

    lane->lookup = NULL;
    for (size_t i = 0; i < answer->address_count && i < LIMIT_HOST_ADDRESSES; i++)
        plan->hosts[0].addresses[plan->hosts[0].address_count++] = answer->addresses[i];
    plan->expires_ms =
        deliver_now(lane->deliver) + (answer->ttl_ms > 30000 ? answer->ttl_ms : 30000);
    if (plan->hosts[0].address_count > 0) {
        lane->has_plan = true;
        lane->dns_failures = 0;
        join(lane);
        return;
    }
    (void)snprintf(plan->status, sizeof plan->status, "%s",
                   answer->result == RESULT_DNS_FAILURE ? "4.4.3" : "4.4.4");
    (void)snprintf(plan->text, sizeof plan->text,
                   "the host of the route, %.120s, has no address: %.120s",
                   plan->hosts[0].name,
                   answer->text[0] ? answer->text : result_text(answer->result));
    rest_for_dns(lane, dns_backoff_ms[0]);
}

static void start_route(struct lane *lane, const struct route *route)
{
    struct ip ip;

    plan_for_route(lane, route);
    if (ip_parse(slice_of(route->host), &ip) != RESULT_OK) {
        lane->lookup = lookup_start(lane->deliver->rooms.resolver, LOOKUP_ADDRESS,
                                    route->host, on_route_address, lane);
        return;
    }
    lane->plan.hosts[0].addresses[0] = ip;
    lane->plan.hosts[0].address_count = 1;
    lane->plan.expires_ms = INT64_MAX;
    lane->has_plan = true;
    join(lane);
}

static void start_simple(struct lane *lane, enum plan_kind kind)
{
    plan_fini(&lane->plan);
    memset(&lane->plan, 0, sizeof lane->plan);
    lane->plan.kind = kind;
    lane->plan.rule = -1;
    lane->plan.expires_ms = INT64_MAX;
    lane->has_plan = true;
    join(lane);
}

static void find_way(struct lane *lane)
{
    const struct plan_settings *settings = lane->deliver->settings;
    const char *name = domain_queue_lane(lane->domain_queue);
    const struct route *route;

    if (strncmp(name, "route:", 6) == 0) {
        route = settings_route_by_name(settings, name + 6);
        if (route)
            start_route(lane, route);
        else
            start_simple(lane, PLAN_REGROUP);
    } else if (settings_is_local(settings, name)) {
        start_simple(lane, PLAN_LOCAL);
    } else if ((route = settings_find_route(settings, name))) {
        start_route(lane, route);
    } else {
        lane->search = route_search_start(lane->deliver, name, on_route, lane);
    }
}

static void on_due(void *owner, struct domain_queue *domain_queue)
{
    struct deliver *deliver = owner;
    struct lane *lane = lane_of(deliver, domain_queue);

    lane->is_held = true;
    if (deliver->is_draining) {
        lane->why = WHY_DRAINING;
        return; /* held: nothing is due any more in this process */
    }
    if (!deliver_has_room(deliver)) {
        lane_rest(lane, deliver_now(deliver) + NO_ROOM_MS, WHY_NO_ROOM,
                  "the log has no room");
        return;
    }
    if (lane->search || lane->lookup)
        return;
    if (lane->has_plan && lane->plan.expires_ms > deliver_now(deliver))
        join(lane);
    else
        find_way(lane);
}

/* Pure: which lane an address belongs to. */
static void lane_name(void *owner, const char *address, char name[LANE_TEXT])
{
    struct deliver *deliver = owner;
    const char *at = strrchr(address, '@');
    char domain[DOMAIN_TEXT];
    const struct route *route;

    if (!at || domain_normalise(slice_of(at + 1), domain) != RESULT_OK)
        (void)snprintf(domain, sizeof domain, "%.250s", at ? at + 1 : "invalid");
    if (!deliver->settings || settings_is_local(deliver->settings, domain))
        route = NULL;
    else
        route = settings_find_route(deliver->settings, domain);
    if (route)
        (void)snprintf(name, LANE_TEXT, "route:%.200s", route->name);
    else
        (void)snprintf(name, LANE_TEXT, "%s", domain);
}

/* ---- what waits behind a fault expires too (G6) ---- */

static void expire_some(struct lane *lane)
{
    struct destination *destination = lane->destination;
    struct queue_entry entry;

    if (!lane->was_tried)
        return;
    for (int i = 0;
         i < SWEEP_ENTRIES && domain_queue_take_expired(lane->domain_queue, &entry); i++)
        settle_expired(lane, destination, &entry);
}

static void on_sweep(void *owner)
{
    struct deliver *deliver = owner;
    size_t most = deliver->faulty.count < SWEEP_LANES ? deliver->faulty.count : SWEEP_LANES;

    timer_start(&deliver->sweep, SWEEP_MS);
    while (most-- > 0 && !deliver->is_draining && deliver_has_room(deliver)) {
        struct link *link = list_pop_front(&deliver->faulty);

        list_push_back(&deliver->faulty, link);
        expire_some(CONTAINER_OF(link, struct lane, faulty));
    }
}

/* ---- the door ---- */

struct deliver *deliver_new(const struct deliver_rooms *rooms)
{
    struct deliver *deliver = NEW(struct deliver);

    deliver->rooms = *rooms;
    deliver->destinations = map_new(LIMIT_DESTINATIONS);
    deliver->hosts = map_new(HOSTS_MAX);
    list_init(&deliver->all_destinations);
    list_init(&deliver->faulty);
    list_init(&deliver->attempts);
    list_init(&deliver->loading);
    list_init(&deliver->settling);
    timer_init(&deliver->sweep, rooms->loop, on_sweep, deliver);
    timer_start(&deliver->sweep, SWEEP_MS);
    queue_set_lanes(rooms->queue, lane_name, deliver);
    queue_watch(rooms->queue, on_due, on_gone, deliver);
    return deliver;
}

/* Plans are made anew at the next time a lane is due. */
static void forget_plans(struct deliver *deliver)
{
    struct domain_queue *domain_queue;
    size_t position = 0;

    while ((domain_queue = queue_next_domain_queue(deliver->rooms.queue, &position))) {
        struct lane *lane = domain_queue_attachment(domain_queue);

        if (lane)
            lane->has_plan = false;
    }
}

void deliver_apply(struct deliver *deliver, const struct deliver_settings *settings,
                   struct tls_client *tls)
{
    settings_unref(deliver->settings);
    deliver->settings = settings_new(settings, tls);
    forget_plans(deliver);
}

void deliver_set_resolver(struct deliver *deliver, struct resolver *resolver)
{
    struct domain_queue *domain_queue;
    size_t position = 0;

    /* Searches of the old resolver are asked again of the new one. */
    deliver->rooms.resolver = resolver;
    while ((domain_queue = queue_next_domain_queue(deliver->rooms.queue, &position))) {
        struct lane *lane = domain_queue_attachment(domain_queue);

        if (!lane || (!lane->search && !lane->lookup))
            continue;
        if (lane->search)
            route_search_cancel(lane->search);
        if (lane->lookup)
            lookup_cancel(lane->lookup);
        lane->search = NULL;
        lane->lookup = NULL;
        lane_rest(lane, deliver_now(deliver) + 1, WHY_SCHEDULED, "");
    }
}

static void tell_empty(void *owner)
{
    struct deliver *deliver = owner;
    loop_fn *on_empty = deliver->on_empty;

    deliver->on_empty = NULL;
    if (on_empty)
        on_empty(deliver->on_empty_owner);
}

void deliver_check_empty(struct deliver *deliver)
{
    if (deliver->is_draining && deliver->on_empty && deliver->attempts.count == 0 &&
        deliver->settling.count == 0 && deliver->statistics.attempts_running == 0)
        loop_defer(deliver->rooms.loop, &deliver->empty, tell_empty, deliver);
}

static void release_ready(struct deliver *deliver)
{
    for (struct link *link = list_first(&deliver->all_destinations); link;
         link = list_next(&deliver->all_destinations, link)) {
        struct destination *destination = CONTAINER_OF(link, struct destination, link);
        struct link *ready;

        while ((ready = list_pop_front(&destination->ready)))
            work_release(CONTAINER_OF(ready, struct work, link));
    }
}

void deliver_drain(struct deliver *deliver, loop_fn *on_empty, void *owner)
{
    struct link *next;

    deliver->is_draining = true;
    deliver->on_empty = on_empty;
    deliver->on_empty_owner = owner;
    release_ready(deliver);
    for (struct link *link = list_first(&deliver->attempts); link; link = next) {
        next = list_next(&deliver->attempts, link);
        attempt_drain(attempt_of_link(link));
    }
    deliver_check_empty(deliver);
}

unsigned deliver_abort(struct deliver *deliver)
{
    unsigned behind_dot = 0;
    struct link *link;

    deliver->is_draining = true;
    deliver->on_empty = NULL;
    release_ready(deliver);
    while ((link = list_first(&deliver->attempts)))
        behind_dot += attempt_abort(attempt_of_link(link));
    while ((link = list_first(&deliver->loading))) {
        struct work *work = CONTAINER_OF(link, struct work, link);

        list_remove(&deliver->loading, link);
        lease_load_cancel(work->load);
        work->destination->loading--;
        work_free(work);
    }
    settle_abort(deliver);
    return behind_dot;
}

void deliver_free(struct deliver *deliver)
{
    struct domain_queue *domain_queue;
    struct host_memory *host;
    struct link *link;
    size_t position = 0;

    (void)deliver_abort(deliver);
    while ((domain_queue = queue_next_domain_queue(deliver->rooms.queue, &position)))
        on_gone(deliver, domain_queue);
    while ((link = list_first(&deliver->all_destinations)))
        destination_free(CONTAINER_OF(link, struct destination, link));
    position = 0;
    while ((host = map_next(deliver->hosts, &position, NULL)))
        memory_free(host);
    map_free(deliver->hosts);
    map_free(deliver->destinations);
    timer_cancel(&deliver->sweep);
    deferred_cancel(deliver->rooms.loop, &deliver->empty);
    queue_watch(deliver->rooms.queue, NULL, NULL, NULL);
    settings_unref(deliver->settings);
    memory_free(deliver);
}

/* ---- operators ---- */

void deliver_statistics(const struct deliver *deliver,
                        struct deliver_statistics *statistics)
{
    *statistics = deliver->statistics;
    statistics->destinations = deliver->all_destinations.count;
    statistics->destinations_backing_off = 0;
    for (struct link *link = list_first(&deliver->all_destinations); link;
         link = list_next(&deliver->all_destinations, link))
        statistics->destinations_backing_off +=
            CONTAINER_OF(link, struct destination, link)->until_ms > deliver_now(deliver);
}

void deliver_why(const struct deliver *deliver, const char *lane_text, struct why *why)
{
    struct domain_queue *domain_queue =
        queue_find_domain_queue(deliver->rooms.queue, lane_text);
    const struct lane *lane = domain_queue ? domain_queue_attachment(domain_queue) : NULL;

    memset(why, 0, sizeof *why);
    why->kind = deliver->is_draining ? WHY_DRAINING : WHY_SCHEDULED;
    if (!lane)
        return;
    if (lane->destination)
        (void)snprintf(why->destination, sizeof why->destination, "%s",
                       lane->destination->key);
    if (lane->why == WHY_SCHEDULED ||
        (lane->until_ms && lane->until_ms <= deliver_now(deliver)))
        return;
    why->kind = lane->why;
    why->until_ms = lane->until_ms;
    (void)snprintf(why->text, sizeof why->text, "%s", lane->fault);
}

static void wake(struct lane *lane)
{
    struct destination *destination = lane->destination;

    if (destination && destination->until_ms > 0) {
        /* It stays on probation: two attempts judge it again. */
        destination->until_ms = 0;
        for (size_t i = 0; i < destination->plan.host_count; i++) {
            struct host_memory *host =
                host_find(destination, destination->plan.hosts[i].name);

            if (host)
                host->until_ms = 0;
        }
    }
    if (!lane->search && !lane->lookup)
        lane->has_plan = false; /* ask the DNS again too */
    lane->until_ms = 0;
}

void deliver_wake(struct deliver *deliver, const char *lane_text)
{
    struct domain_queue *domain_queue;
    size_t position = 0;

    if (lane_text) {
        domain_queue = queue_find_domain_queue(deliver->rooms.queue, lane_text);
        if (domain_queue && domain_queue_attachment(domain_queue))
            wake(domain_queue_attachment(domain_queue));
        if (domain_queue)
            domain_queue_wake(domain_queue);
        return;
    }
    while ((domain_queue = queue_next_domain_queue(deliver->rooms.queue, &position))) {
        if (domain_queue_attachment(domain_queue))
            wake(domain_queue_attachment(domain_queue));
        domain_queue_wake(domain_queue);
    }
}
