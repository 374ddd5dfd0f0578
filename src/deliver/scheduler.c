/* The queue's watcher, and the door of the room. */
#include "inner.h"

#include "address_memory.h"
#include "busiest.h"
#include "clock.h"
#include "dane.h"
#include "pool.h"
#include "destinations_act.h"
#include "destinations_ask.h"
#include "resting.h"
#include "scope.h"
#include "source.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "sts.h"
#include "suspensions.h"
#include "tls_report.h"

#include <stdio.h>
#include <string.h>

enum { SWEEP_MS = 5000, SWEEPS_A_MINUTE = 12, SWEEP_LANES = 100 };
/* A sweep looks at so many late groups, 2 us each: an outage with a full queue is no storm of
 * reports. */
enum { SWEEP_NOTICES = 100 };
/* Expired ones it takes from a lane, and their settlements at once: what expires goes on between
 * two sweeps, in steps that leave the loop and the store to the mail that moves. */
enum { LANE_ENTRIES = 50, STEP_MS = 20, STEP_ENTRIES = 200, STEP_SETTLING = 500 };

bool deliver_has_room(const struct deliver *deliver)
{
    return deliver->settling.count < LIMIT_SETTLING_GROUPS && log_has_room();
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

static void lane_of_route(const struct route *route, char lane[LANE_TEXT])
{
    (void)snprintf(lane, LANE_TEXT, "route:%.200s", route->name);
}

bool deliver_lane_of_route(const struct deliver *deliver, const char *name,
                           char lane[LANE_TEXT])
{
    const struct route *route =
        deliver->settings ? settings_route_by_name(deliver->settings, name) : NULL;

    if (route)
        lane_of_route(route, lane);
    return route;
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
        lane_of_route(route, name);
    else
        (void)snprintf(name, LANE_TEXT, "%s", domain);
}

void deliver_lane_of(struct deliver *deliver, const char *address, char lane[LANE_TEXT])
{
    lane_name(deliver, address, lane);
}

/* The next lane that a fault holds, from where the last look ended. */
static struct lane *next_faulty(struct deliver *deliver)
{
    struct link *link = list_pop_front(&deliver->faulty);

    list_push_back(&deliver->faulty, link);
    return CONTAINER_OF(link, struct lane, faulty);
}

static bool can_sweep(const struct deliver *deliver)
{
    return deliver->faulty.count > 0 && !deliver->is_draining && deliver_has_room(deliver);
}

static bool can_expire(const struct deliver *deliver, size_t entries)
{
    return entries >= LANE_ENTRIES && deliver->settling.count < STEP_SETTLING &&
           !deliver->is_draining && deliver_has_room(deliver);
}

static size_t expire_some(struct lane *lane)
{
    struct list *expiring = &lane->deliver->expiring;
    size_t taken = lane_expire_some(lane, LANE_ENTRIES);

    if (taken == LANE_ENTRIES) /* there may be more */
        list_push_back(expiring, &lane->expiring);
    return taken;
}

/* Half for lanes that had more than their share, half for a round over all. */
static void on_expiry_step(void *owner)
{
    struct deliver *deliver = owner;
    size_t entries = STEP_ENTRIES / 2;

    for (size_t left = deliver->expiring.count; left > 0 && can_expire(deliver, entries);
         left--) {
        struct link *link = list_pop_front(&deliver->expiring);

        entries -= expire_some(CONTAINER_OF(link, struct lane, expiring));
    }
    entries = STEP_ENTRIES / 2;
    for (int i = 0; i < SWEEP_LANES && deliver->expiry_left > 0 &&
                    deliver->faulty.count > 0 && can_expire(deliver, entries);
         i++) {
        struct lane *lane = next_faulty(deliver);

        deliver->expiry_left--;
        if (!link_is_in_list(&lane->expiring))
            entries -= expire_some(lane);
    }
    if (deliver->faulty.count == 0)
        deliver->expiry_left = 0;
    if (deliver->expiry_left + deliver->expiring.count > 0)
        timer_start(&deliver->expiry, STEP_MS);
}

static void on_sweep(void *owner)
{
    struct deliver *deliver = owner;
    size_t most = deliver->faulty.count < SWEEP_LANES ? deliver->faulty.count : SWEEP_LANES;
    size_t notices = most > 0 ? SWEEP_NOTICES / most : 0; /* each lane its share */

    timer_start(&deliver->sweep, SWEEP_MS);
    if (++deliver->sweeps % SWEEPS_A_MINUTE == 0)
        busiest_review(deliver->busiest);
    resting_go_round(deliver);
    while (most-- > 0 && can_sweep(deliver))
        lane_notice_some(next_faulty(deliver), notices);
    if (deliver->expiry_left == 0)
        deliver->expiry_left = deliver->faulty.count;
    if (!timer_is_waiting(&deliver->expiry) && !deliver->is_draining)
        on_expiry_step(deliver);
}

/* ---- the door ---- */

static void count_init(struct deliver_statistics *statistics)
{
    histogram_init(&statistics->delay_queue, &histogram_long);
    histogram_init(&statistics->delay_connect, &histogram_long);
    histogram_init(&statistics->delay_transfer, &histogram_long);
    histogram_init(&statistics->time_in_queue, &histogram_long);
}

struct deliver *deliver_new(const struct deliver_rooms *rooms)
{
    struct deliver *deliver = NEW(struct deliver);
    char *suspensions_path;

    deliver->rooms = *rooms;
    deliver->busiest = busiest_new();
    count_init(&deliver->statistics);
    deliver->destinations = map_new(LIMIT_DESTINATIONS);
    deliver->hosts = hosts_new();
    deliver->addresses = address_memory_new();
    list_init(&deliver->all_destinations);
    list_init(&deliver->faulty);
    list_init(&deliver->expiring);
    list_init(&deliver->attempts);
    list_init(&deliver->loading);
    list_init(&deliver->settling);
    list_init(&deliver->regroups);
    list_init(&deliver->dismissals);
    list_init(&deliver->stalled);
    list_init(&deliver->idle);
    list_init(&deliver->danes);
    list_init(&deliver->explains);
    asking_init(deliver);
    list_init(&deliver->acts);
    list_init(&deliver->asks);
    wakes_init(&deliver->wakes);
    suspensions_path =
        rooms->data_dir ? memory_format("%s/suspensions", rooms->data_dir) : NULL;
    deliver->suspensions = suspensions_new(rooms->loop, rooms->offload, suspensions_path,
                                           act_on_suspension_ended, deliver);
    memory_free(suspensions_path);
    deliver->read_ahead_most = LIMIT_READ_AHEAD_GROUPS;
    deliver->census = census_new(deliver);
    deliver->scopes = scopes_new(deliver);
    deliver->sources = sources_new(deliver);
    deliver->rooms.paces_path = deliver->rooms.warm_up_path = NULL; /* the caller's */
    timer_init(&deliver->room, rooms->loop, destination_on_room, deliver);
    timer_init(&deliver->sweep, rooms->loop, on_sweep, deliver);
    timer_init(&deliver->expiry, rooms->loop, on_expiry_step, deliver);
    timer_start(&deliver->sweep, SWEEP_MS);
    deliver->sts = sts_new(deliver);
    deliver->tls_report = tls_report_new(deliver);
    queue_set_lanes(rooms->queue, lane_name, deliver);
    queue_watch(rooms->queue, lane_on_due, lane_on_gone, deliver);
    clock_start(deliver);
    return deliver;
}

static void release_ready(struct deliver *deliver)
{
    for (struct link *link = list_first(&deliver->all_destinations); link;
         link = list_next(&deliver->all_destinations, link)) {
        struct destination *destination = CONTAINER_OF(link, struct destination, link);

        ready_release(&destination->ready, NULL);
    }
}

/* Plans are made anew at the next time a lane is due. */
static void forget_plans(struct deliver *deliver)
{
    struct domain_queue *domain_queue;
    size_t position = 0;

    while ((domain_queue = queue_next_domain_queue(deliver->rooms.queue, &position))) {
        struct lane *lane = domain_queue_attachment(domain_queue);

        if (!lane)
            continue;
        lane->has_plan = false;
        lane_ask_again(lane);
        /* By the old settings; what is suspended, or asked of hosts, may be another by the new. */
        if (lane->why == WHY_SOURCE || lane->why == WHY_WARM_UP ||
            lane->why == WHY_SUSPENDED || lane_policy_rests(lane)) {
            lane->policy_until_ms = 0;
            lane->until_ms = 0;
            domain_queue_wake(domain_queue);
        }
    }
}

void deliver_apply(struct deliver *deliver, const struct deliver_settings *settings,
                   struct tls_client *tls)
{
    settings_unref(deliver->settings);
    deliver->settings = settings_new(settings, tls);
    deliver->generation++;
    sources_apply(deliver->sources);
    forget_plans(deliver);
    /* What was taken for the old ways goes back; lanes with due work ask for theirs again. */
    release_ready(deliver);
    for (struct link *link = list_first(&deliver->all_destinations); link;
         link = list_next(&deliver->all_destinations, link)) {
        struct destination *destination = CONTAINER_OF(link, struct destination, link);

        if (destination->pool)
            pool_renew(destination);
        ready_reweigh(&destination->ready, deliver->settings);
        destination_run_later(destination);
    }
}

void deliver_set_resolver(struct deliver *deliver, struct resolver *resolver)
{
    struct domain_queue *domain_queue;
    size_t position = 0;

    /* Searches of the old resolver are asked again of the new one. */
    deliver->rooms.resolver = resolver;
    dane_ask_again(deliver);
    explain_ask_again(deliver);
    sts_ask_again(deliver->sts);
    tls_report_ask_again(deliver->tls_report);
    while ((domain_queue = queue_next_domain_queue(deliver->rooms.queue, &position))) {
        struct lane *lane = domain_queue_attachment(domain_queue);

        if (lane)
            lane_ask_again(lane);
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

void deliver_drain(struct deliver *deliver, loop_fn *on_empty, void *owner)
{
    struct link *next;

    deliver->is_draining = true;
    deliver->on_empty = on_empty;
    deliver->on_empty_owner = owner;
    tls_report_stop(deliver->tls_report);
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
        ready_forget_load(&work->destination->ready, work);
        work_free(work);
    }
    regroups_abort(deliver);
    behind_dot += settle_abort(deliver);
    operator_abort(deliver);
    return behind_dot;
}

void deliver_free(struct deliver *deliver)
{
    struct domain_queue *domain_queue;
    struct link *link;
    size_t position = 0;

    clock_stop(deliver);
    (void)deliver_abort(deliver);
    wakes_abort(deliver);
    while ((domain_queue = queue_next_domain_queue(deliver->rooms.queue, &position)))
        lane_on_gone(deliver, domain_queue);
    while ((link = list_first(&deliver->all_destinations)))
        destination_free(CONTAINER_OF(link, struct destination, link));
    scopes_free(deliver->scopes);
    sources_free(deliver->sources);
    acts_abort(deliver);
    census_free(deliver->census);
    suspensions_free(deliver->suspensions);
    hosts_free(deliver->hosts);
    address_memory_free(deliver->addresses);
    map_free(deliver->destinations);
    timer_cancel(&deliver->sweep);
    timer_cancel(&deliver->expiry);
    timer_cancel(&deliver->room);
    deferred_cancel(deliver->rooms.loop, &deliver->empty);
    asking_fini(deliver);
    queue_watch(deliver->rooms.queue, NULL, NULL, NULL);
    sts_free(deliver->sts);
    tls_report_free(deliver->tls_report);
    settings_unref(deliver->settings);
    resting_stop(deliver);
    busiest_free(deliver->busiest);
    memory_free(deliver);
}

/* ---- operators ---- */

void deliver_statistics(const struct deliver *deliver,
                        struct deliver_statistics *statistics)
{
    *statistics = deliver->statistics;
    statistics->sts_policies = sts_count(deliver->sts);
    statistics->destinations = deliver->all_destinations.count;
    statistics->destinations_backing_off = resting_count(deliver);
    statistics->paces = scopes_count(deliver->scopes);
    for (int i = 0; i < REACH_COUNT; i++)
        statistics->suspensions[i] = suspensions_count(deliver->suspensions, (enum reach)i);
    statistics->pace_changes = *scopes_counts(deliver->scopes);
}

void deliver_busiest(const struct deliver *deliver, struct deliver_busiest *busiest)
{
    busiest_read(deliver->busiest, deliver_now(deliver), busiest);
}

void deliver_why(const struct deliver *deliver, const char *lane_text,
                 const struct envelope *of, struct why *why)
{
    const struct lane *lane = lane_find(deliver, lane_text, of);

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
    if ((lane->why == WHY_CONNECTIONS || lane->why == WHY_LEASED) && lane->destination &&
        scope_why(lane->destination, why))
        return;
    why->kind = lane->why;
    why->until_ms = lane->until_ms;
    (void)snprintf(why->text, sizeof why->text, "%s", lane_fault(lane));
}
