/* Lanes: each due domain queue finds its destination, or rests with the reason written on it, so that
 * `smtpd queue why` can say it. */
#include "inner.h"

#include "pool.h"
#include "scope.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/queue/schedule.h"
#include "sts.h"
#include "sts_policy.h"

#include <stdio.h>
#include <string.h>

enum {
    NO_ROOM_MS = 1000,
    NO_PLACE_MS = 10000,
    POLICY_FIRST_MS = 30000,
    POLICY_MOST_MS = 900000
};
enum { LOOKS = 1000 };    /* for a reason to tell */
enum { FULL_MS = 60000 }; /* of a table of destinations that is full */
static const int64_t dns_backoff_ms[] = {60000, 300000, 900000};

static struct lane *lane_of(struct deliver *deliver, struct domain_queue *domain_queue)
{
    struct lane *lane = domain_queue_attachment(domain_queue);

    if (lane)
        return lane;
    lane = NEW(struct lane);
    lane->deliver = deliver;
    lane->domain_queue = domain_queue;
    list_init(&lane->loaded);
    domain_queue_attach(domain_queue, lane);
    return lane;
}

static void note_fault(struct lane *lane)
{
    struct list *faulty = &lane->deliver->faulty;
    bool is_held_up = lane->why == WHY_DESTINATION || lane->why == WHY_DNS ||
                      lane->why == WHY_SUSPENDED || lane->why == WHY_SOURCE ||
                      lane->why == WHY_WARM_UP || lane->why == WHY_NO_ROOM ||
                      lane->why == WHY_READY_FULL;

    if (is_held_up && !link_is_in_list(&lane->faulty))
        list_push_back(faulty, &lane->faulty);
    if (is_held_up)
        return;
    list_remove(faulty, &lane->faulty);
    list_remove(&lane->deliver->expiring, &lane->expiring);
}

static const struct lane *find_any(const struct deliver *deliver, const char *name)
{
    struct domain_queue *first = queue_find_domain_queue(deliver->rooms.queue, name);
    struct domain_queue *next = first;
    const struct lane *found = NULL;

    for (int looks = 0; next && looks < LOOKS; looks++) {
        const struct lane *lane = domain_queue_attachment(next);

        if (lane && lane->why != WHY_SCHEDULED && domain_queue_count(next) > 0)
            return lane;
        if (lane && (!found || (lane->destination && !found->destination)))
            found = lane;
        next = domain_queue_lane_next(next);
        if (next == first)
            break;
    }
    return found;
}

const struct lane *lane_find(const struct deliver *deliver, const char *name,
                             const struct envelope *of)
{
    const struct domain_queue *own;

    if (!of)
        return find_any(deliver, name);
    own = queue_find_domain_queue_of(deliver->rooms.queue, name, of);
    return own ? domain_queue_attachment(own) : NULL;
}

/* The queue counts what waits by it. */
void lane_set_why(struct lane *lane, enum why_kind why)
{
    lane->why = why;
    domain_queue_note(lane->domain_queue, why);
}

const char *lane_fault(const struct lane *lane)
{
    return lane->fault ? lane->fault : "";
}

static void set_fault(struct lane *lane, const char *fault)
{
    if (strcmp(lane_fault(lane), fault) == 0)
        return;
    memory_free(lane->fault);
    lane->fault = *fault ? memory_text(fault) : NULL;
}

void lane_rest(struct lane *lane, int64_t until_ms, enum why_kind why, const char *fault)
{
    /* It rests till then already, and who ends that looks for it. */
    if (!lane->is_held && lane->why == WHY_SUSPENDED && lane->until_ms > until_ms)
        return;
    lane_set_why(lane, why);
    lane->until_ms = until_ms;
    set_fault(lane, fault);
    note_fault(lane);
    if (!lane->is_held)
        return;
    lane->is_held = false;
    domain_queue_rest(lane->domain_queue, until_ms);
}

bool lane_has_way(const struct lane *lane)
{
    return lane->has_plan && lane->plan.expires_ms > deliver_now(lane->deliver);
}

void lane_attach(struct lane *lane, struct destination *destination)
{
    if (lane->destination == destination)
        return;
    if (lane->destination) {
        ready_leave(&lane->destination->ready, lane);
        ready_release(&lane->destination->ready, lane);
        list_remove(&lane->destination->attached, &lane->attached);
    }
    lane->destination = destination;
    if (destination)
        list_push_back(&destination->attached, &lane->attached);
}

static void lane_forget(struct lane *lane)
{
    struct deliver *deliver = lane->deliver;

    asking_end(lane);
    if (lane->search)
        route_search_cancel(lane->search);
    sts_ask_cancel(lane->ask);
    sts_policy_unref(lane->sts);
    lane_attach(lane, NULL);
    list_remove(&deliver->faulty, &lane->faulty);
    list_remove(&deliver->expiring, &lane->expiring);
    plan_fini(&lane->plan);
    memory_free(lane->fault);
    memory_free(lane);
}

void lane_on_gone(void *owner, struct domain_queue *domain_queue)
{
    struct lane *lane = domain_queue_attachment(domain_queue);

    wakes_forget(owner, domain_queue);
    if (!lane)
        return;
    domain_queue_attach(domain_queue, NULL);
    lane_forget(lane);
}

/* ---- the hosts work, but not as the domain asks ---- */

static void log_policy(const struct lane *lane)
{
    struct log_line line;

    log_start(&line, LOG_WARNING, "deliver.policy_backoff");
    log_text(&line, "domain", domain_queue_lane(lane->domain_queue));
    log_text(&line, "destination", lane->destination ? lane->destination->key : NULL);
    log_text(&line, "message", lane_fault(lane));
    log_number(&line, "failures", lane->policy_failures);
    log_seconds(&line, "wait", lane->policy_until_ms - deliver_now(lane->deliver));
    log_end(&line);
}

bool lane_policy_rests(const struct lane *lane)
{
    return lane->policy_until_ms > deliver_now(lane->deliver);
}

void lane_wait(struct lane *lane, int64_t until_ms, enum why_kind why, const char *text)
{
    if (lane->destination) {
        ready_leave(&lane->destination->ready, lane);
        ready_release(&lane->destination->ready, lane);
    }
    if (why == WHY_NO_ROOM) /* what comes back is due at once, and would go round */
        lane->room_until_ms = until_ms;
    lane_rest(lane, until_ms, why, text);
}

void lane_ask_again(struct lane *lane)
{
    if (!lane->search && !lane->ask)
        return;
    asking_end(lane);
    if (lane->search)
        route_search_cancel(lane->search);
    sts_ask_cancel(lane->ask);
    lane->search = NULL;
    lane->ask = NULL;
    lane_rest(lane, deliver_now(lane->deliver) + 1, WHY_SCHEDULED, "");
}

static void rest_for_policy(struct lane *lane)
{
    lane_rest(lane, lane->policy_until_ms, WHY_DESTINATION, lane_fault(lane));
}

void lane_policy_fault(struct lane *lane, const char *text)
{
    bool is_new = !lane_policy_rests(lane);
    uint32_t random;

    if (is_new) { /* a second attempt of the same round is no second fault */
        secure_random(&random, sizeof random);
        lane->policy_failures++;
        lane->policy_until_ms = deliver_now(lane->deliver) +
                                schedule_backoff(lane->policy_failures, POLICY_FIRST_MS,
                                                 POLICY_MOST_MS, random);
    }
    lane->was_tried = true;
    lane->has_plan = false; /* it may ask for something else by then */
    if (lane->destination) {
        ready_leave(&lane->destination->ready, lane);
        ready_release(&lane->destination->ready, lane);
    }
    lane_rest(lane, lane->policy_until_ms, WHY_DESTINATION, text);
    if (is_new)
        log_policy(lane);
}

void lane_policy_works(struct lane *lane)
{
    lane->policy_failures = 0;
    lane->policy_until_ms = 0;
}

/* Once a minute: it is so for every lane that comes. */
static void say_full(struct deliver *deliver)
{
    int64_t now_ms = loop_now_ms(deliver->rooms.loop);

    if (deliver->full_said_ms > 0 && now_ms - deliver->full_said_ms < FULL_MS)
        return;
    deliver->full_said_ms = now_ms;
    log_message(
        LOG_WARNING, "deliver.destinations_full",
        "%u destinations have mail, connections or a back-off, and no more can be known: "
        "mail for others waits a minute at a time",
        (unsigned)LIMIT_DESTINATIONS);
}

/* A lane with a plan joins its destination. */
static void join(struct lane *lane)
{
    struct deliver *deliver = lane->deliver;
    const char *pool = lane->plan.kind == PLAN_HOSTS
                           ? pool_name(deliver->settings, &lane->plan,
                                       domain_queue_pool(lane->domain_queue))
                           : NULL;
    struct destination *destination = destination_get_head(
        deliver, &lane->plan, domain_queue_lane(lane->domain_queue), pool);
    struct pool_hold hold;

    if (!destination) {
        lane->was_tried = true; /* it expires all the same */
        say_full(deliver);
        lane_rest(lane, deliver_now(deliver) + FULL_MS, WHY_READY_FULL,
                  "too many destinations are known at once");
        return;
    }
    lane_attach(lane, destination);
    if (lane_policy_rests(lane)) {
        rest_for_policy(lane);
        return;
    }
    if (destination_holds(destination, lane, &hold)) {
        lane->was_tried = true; /* others were, and it would have gone the same way */
        lane_rest(lane, hold.until_ms, hold.why, hold.text);
        return;
    }
    lane_set_why(lane, WHY_CONNECTIONS);
    lane->until_ms = 0;
    note_fault(lane);
    ready_join(destination, lane);
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

/* The domain queue backs off; its mail is left as it is. */
static void rest_for_dns(struct lane *lane)
{
    size_t at = lane->dns_failures < 2 ? lane->dns_failures : 2;
    char fault[FAULT_TEXT];

    lane->has_plan = false;
    lane->dns_failures++;
    lane->was_tried = true;
    log_dns(lane);
    (void)snprintf(fault, sizeof fault, "%.15s %.280s", lane->plan.status, lane->plan.text);
    lane_rest(lane, deliver_now(lane->deliver) + dns_backoff_ms[at], WHY_DNS, fault);
}

static void take_sts(struct lane *lane, bool is_known, const struct sts_policy *policy)
{
    const struct sts_policy *old = lane->sts;

    lane->sts = sts_policy_ref(policy);
    lane->has_sts = is_known;
    sts_policy_unref(old);
}

/* As for a DNS that does not answer; only that it is we who could not ask. */
static void rest_for_place(struct lane *lane)
{
    lane->was_tried = true;
    lane_rest(lane, deliver_now(lane->deliver) + NO_PLACE_MS, WHY_NO_ROOM,
              "its MTA-STS policy could not be fetched yet: slow servers of others hold "
              "all the places");
}

static void on_sts(void *owner, enum sts_answer answer, const struct sts_policy *policy)
{
    struct lane *lane = owner;

    lane->ask = NULL;
    if (answer == STS_HAD_NO_PLACE) {
        rest_for_place(lane);
        return;
    }
    take_sts(lane, answer == STS_IS_KNOWN, policy);
    lane->has_plan = true;
    join(lane);
}

/* What the domain asks of its hosts belongs to the way there: it is asked for by the lane, so that
 * whoever answers slowly holds this lane, and no connection. What was taken by the old way keeps the
 * old policy until then. */
static bool ask_sts(struct lane *lane)
{
    const struct plan *plan = &lane->plan;
    const struct destination_settings *settings =
        settings_for(lane->deliver->settings, plan);

    if (plan->kind != PLAN_HOSTS || plan->is_route || !settings->mta_sts ||
        (settings->tls != TLS_OPPORTUNISTIC && settings->tls != TLS_REQUIRED)) {
        take_sts(lane, false, NULL);
        return false;
    }
    lane->has_plan = false; /* until that is known too */
    lane->ask =
        sts_ask_start(lane->deliver->sts, domain_queue_lane(lane->domain_queue),
                      plan->is_authentic && settings->dane ? plan : NULL, on_sts, lane);
    return true;
}

static void on_route(void *owner, struct plan *plan)
{
    struct lane *lane = owner;

    lane->search = NULL;
    asking_end(lane);
    plan_fini(&lane->plan);
    lane->plan = *plan;
    lane->has_plan = true;
    if (plan->kind != PLAN_DEFER) {
        lane->dns_failures = 0;
        if (!ask_sts(lane))
            join(lane);
        return;
    }
    rest_for_dns(lane);
}

static void start_simple(struct lane *lane, enum plan_kind kind)
{
    asking_end(lane);
    plan_fini(&lane->plan);
    memset(&lane->plan, 0, sizeof lane->plan);
    lane->plan.kind = kind;
    lane->plan.rule = -1;
    lane->plan.expires_ms = INT64_MAX;
    lane->has_plan = true;
    join(lane);
}

static enum asking_rank rank_of(const struct lane *lane)
{
    if (lane->dns_failures > 0)
        return ASKING_FAILED;
    return lane->destination ? ASKING_KNOWN : ASKING_NEW;
}

/* With the route that takes it, or (NULL) the hosts of its domain. */
static void search_way(struct lane *lane, const char *name, const struct route *route)
{
    struct deliver *deliver = lane->deliver;

    if (!route_search_is_quick(deliver, name, route) &&
        !asking_start(lane, rank_of(lane))) {
        lane_set_why(lane, WHY_DNS);
        lane->until_ms = 0;
        set_fault(lane, "its turn to ask the DNS comes behind that of others");
        note_fault(lane);
    } else if (route) {
        lane->search = route_search_start_route(deliver, route, on_route, lane);
    } else {
        lane->search = route_search_start(deliver, name, on_route, lane);
    }
}

static void find_way(struct lane *lane)
{
    const struct plan_settings *settings = lane->deliver->settings;
    const char *name = domain_queue_lane(lane->domain_queue);
    bool is_route = strncmp(name, "route:", 6) == 0;
    const struct route *route = is_route ? settings_route_by_name(settings, name + 6)
                                         : settings_find_route(settings, name);

    if (is_route && !route)
        start_simple(lane, PLAN_REGROUP);
    else if (!is_route && settings_is_local(settings, name))
        start_simple(lane, PLAN_LOCAL);
    else
        search_way(lane, name, route);
}

void lane_ask(struct lane *lane)
{
    lane_set_why(lane, WHY_SCHEDULED);
    set_fault(lane, "");
    note_fault(lane);
    find_way(lane);
}

void lane_on_due(void *owner, struct domain_queue *domain_queue)
{
    struct deliver *deliver = owner;
    struct lane *lane = lane_of(deliver, domain_queue);

    lane->is_held = true;
    if (deliver->is_draining) {
        lane_set_why(lane, WHY_DRAINING);
        return; /* held: nothing is due any more in this process */
    }
    if (!deliver_has_room(deliver)) {
        lane_rest(lane, deliver_now(deliver) + NO_ROOM_MS, WHY_NO_ROOM,
                  "the log, or the way to the disk, has no room");
        return;
    }
    if (lane->room_until_ms > deliver_now(deliver)) {
        lane_rest(lane, lane->room_until_ms, WHY_NO_ROOM, lane_fault(lane));
        return;
    }
    if (lane->search || lane->ask || link_is_in_list(&lane->asking.link))
        return;
    if (lane_policy_rests(lane))
        rest_for_policy(lane);
    else if (lane_has_way(lane))
        join(lane);
    else
        find_way(lane);
}

/* ---- what waits behind a fault expires too (G6) ---- */

size_t lane_expire_some(struct lane *lane, size_t most)
{
    struct destination *destination = lane->destination;
    struct queue_entry entry;
    size_t count = 0;

    if (!lane->was_tried)
        return 0;
    for (; count < most && domain_queue_take_expired(lane->domain_queue, &entry); count++)
        settle_expired(lane, destination, &entry);
    return count;
}

/* An attempt would have told them; here there is none. */
void lane_notice_some(struct lane *lane, size_t most)
{
    int64_t delay_ms = lane->deliver->settings->values.delay_notice_ms;
    int64_t before_ms = deliver_now(lane->deliver) - delay_ms;
    struct queue_entry entry;

    if (!lane->was_tried || delay_ms == 0)
        return;
    for (; most > 0 && domain_queue_take_late(lane->domain_queue, before_ms, &entry);
         most--)
        settle_late(lane, &entry);
}

/* ---- an operator says: now ---- */

static void wake_way(struct destination *destination)
{
    for (size_t i = 0; i < destination->plan.host_count; i++)
        host_note_dane(destination, destination->plan.hosts[i].name, true);
    if (destination->until_ms > 0) {
        /* It stays on probation: two attempts judge it again. */
        destination->until_ms = 0;
        for (size_t i = 0; i < destination->plan.host_count; i++) {
            struct host_memory *host =
                host_find(destination, destination->plan.hosts[i].name);

            if (host)
                host->until_ms = 0;
        }
    }
    if (destination->scope)
        scope_resume(destination->scope, &(struct pace_cause){"operator", NULL});
}

void lane_wake(struct lane *lane)
{
    struct destination *destination = lane->destination;

    if (destination)
        wake_way(destination);
    for (size_t i = 0; destination && i < destination->member_count; i++)
        if (destination->members[i].path)
            wake_way(destination->members[i].path);
    if (!lane->search && !lane->ask)
        lane->has_plan = false; /* ask the DNS again too */
    lane->until_ms = 0;
    lane->policy_until_ms = 0;
}
