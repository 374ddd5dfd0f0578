/* Suspend, resume, flush. Lanes are woken in a walk over all domain queues, a portion each turn, from
 * the last to the first: one that is forgotten meanwhile gives its place to the last one, which was
 * seen already. */
#include "destinations_act.h"

#include "pool.h"
#include "reach.h"
#include "scope.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

/* LOOKS: entries whose time is changed in one turn. */
enum {
    ACTS_MAX = 64,
    OURS_MAX = 4, /* each has its portion of a turn */
    QUEUES_A_TURN = 1000,
    LOOKS_A_TURN = 200000
};

struct destinations_act {
    struct link link;
    struct deliver *deliver;
    enum destinations_change change;
    bool is_ours; /* nobody asked for it: see wake_reached */
    bool reaches_all;
    bool goes_again; /* something ended behind the walk's back */
    struct reached reached;
    size_t position; /* of the walk: domain queues in front of it are to come */
    struct deferred turn;
    struct suspensions_wait wait;
    struct destinations_done done;
    destinations_done_fn *on_end; /* NULL: nobody wants to know (any more) */
    void *owner;
};

static void act_free(struct destinations_act *act)
{
    deferred_cancel(act->deliver->rooms.loop, &act->turn);
    suspensions_wait_cancel(act->deliver->suspensions, &act->wait);
    list_remove(&act->deliver->acts, &act->link);
    memory_free(act);
}

static void on_kept(void *owner, bool is_kept)
{
    struct destinations_act *act = owner;
    destinations_done_fn *on_end = act->on_end;
    void *asked = act->owner;
    struct destinations_done done = act->done;

    done.is_kept = is_kept;
    act_free(act);
    if (on_end)
        on_end(asked, &done);
}

static void wait_for_disk(struct destinations_act *act)
{
    suspensions_wait_start(act->deliver->suspensions, &act->wait, on_kept, act);
}

/* ---- one domain queue ---- */

static size_t wake(struct destinations_act *act, struct domain_queue *domain_queue)
{
    struct lane *lane = domain_queue_attachment(domain_queue);
    size_t looks = 1;

    if (act->change == DESTINATIONS_FLUSH) {
        looks += domain_queue_count(domain_queue);
        act->done.groups += domain_queue_hasten(domain_queue);
        if (lane)
            lane_wake(lane);
    } else if (lane && lane->why == WHY_SUSPENDED) {
        lane->until_ms = 0;
    } else {
        return looks;
    }
    act->done.lanes++;
    domain_queue_wake(domain_queue);
    return looks;
}

static size_t look(struct destinations_act *act, struct domain_queue *domain_queue)
{
    const struct lane *lane = domain_queue_attachment(domain_queue);
    bool is_it;

    if (!lane)
        return 1;
    /* Where its destination was forgotten meanwhile it may wait for this one, and looks itself. */
    is_it = lane->destination ? reach_has(&act->reached, lane->destination)
                              : act->change != DESTINATIONS_FLUSH;
    return is_it || act->reaches_all ? wake(act, domain_queue) : 1;
}

/* ---- the walk ---- */

static void walk(struct destinations_act *act);

/* Nobody waits for ours. */
static void end_walk(struct destinations_act *act)
{
    bool goes_again = act->goes_again;

    act->goes_again = false;
    if (goes_again)
        walk(act);
    else if (act->is_ours)
        act_free(act);
    else
        wait_for_disk(act);
}

static void on_turn(void *owner)
{
    struct destinations_act *act = owner;
    size_t looks = 0;

    for (int i = 0; i < QUEUES_A_TURN && looks < LOOKS_A_TURN && act->position > 0; i++) {
        size_t at = --act->position;
        struct domain_queue *domain_queue =
            queue_next_domain_queue(act->deliver->rooms.queue, &at);

        looks += domain_queue ? look(act, domain_queue) : 1;
    }
    if (act->position > 0)
        loop_defer(act->deliver->rooms.loop, &act->turn, on_turn, act);
    else
        end_walk(act);
}

static void walk(struct destinations_act *act)
{
    struct queue_statistics statistics;

    queue_statistics(act->deliver->rooms.queue, &statistics);
    act->position = (size_t)statistics.domain_queues;
    if (!link_is_in_list(&act->turn.link))
        loop_defer(act->deliver->rooms.loop, &act->turn, on_turn, act);
}

static void each_of_domain(struct destinations_act *act,
                           void (*each)(struct destinations_act *act,
                                        struct domain_queue *domain_queue))
{
    struct domain_queue *first =
        queue_find_domain_queue(act->deliver->rooms.queue, act->reached.name);
    struct domain_queue *next = first;

    while (next) {
        each(act, next);
        next = domain_queue_lane_next(next);
        if (next == first)
            break;
    }
}

static void wake_one(struct destinations_act *act, struct domain_queue *domain_queue)
{
    (void)wake(act, domain_queue);
}

static void start_walk(struct destinations_act *act)
{
    if (act->reached.reach != REACH_DOMAIN || act->reaches_all) {
        walk(act);
        return;
    }
    each_of_domain(act, wake_one);
    end_walk(act);
}

/* ---- suspend ---- */

static void stop_one(struct destinations_act *act, struct domain_queue *domain_queue)
{
    struct lane *lane = domain_queue_attachment(domain_queue);
    struct rest rest;

    if (!lane || !lane->destination || !reach_rests(lane->destination, lane, &rest))
        return;
    act->done.lanes++;
    lane->was_tried = true;
    ready_leave(&lane->destination->ready, lane);
    ready_release(&lane->destination->ready, lane);
    lane_rest(lane, rest.until_ms, WHY_SUSPENDED, rest.text);
}

static void each_destination(struct destinations_act *act,
                             void (*each)(struct destination *destination))
{
    struct list *all = &act->deliver->all_destinations;

    for (struct link *link = list_first(all); link; link = list_next(all, link)) {
        struct destination *destination = CONTAINER_OF(link, struct destination, link);

        if (reach_has(&act->reached, destination))
            each(destination);
    }
}

static void stop_destination(struct destination *destination)
{
    destination_run_later(destination);
    if (destination->scope)
        scope_wake(destination->scope); /* what is ready there goes back */
}

static const struct pace_cause by_operator = {"operator", NULL};

static void resume_pace(struct destination *destination)
{
    if (destination->scope)
        scope_resume_all(destination->scope, &by_operator);
    for (size_t i = 0; i < destination->member_count; i++) {
        struct scope *scope = scope_of_member(destination, &destination->members[i]);

        if (scope)
            scope_resume_all(scope, &by_operator);
    }
}

static void log_change(const struct suspension_view *view, const char *event,
                       const char *cause, int64_t wait_ms)
{
    struct log_line line;

    log_start(&line, LOG_NOTICE, event);
    log_text(&line, "reach", reach_names[view->reach]);
    log_text(&line, "name", view->name);
    log_text(&line, "cause", cause);
    if (wait_ms > 0)
        log_seconds(&line, "wait", wait_ms);
    log_text(&line, "message", view->reason[0] ? view->reason : NULL);
    log_end(&line);
}

static struct suspension_view view_of(const struct destinations_act *act)
{
    return (struct suspension_view){
        .reach = act->reached.reach, .name = act->reached.name, .reason = ""};
}

static enum result suspend(struct destinations_act *act,
                           const struct destinations_wish *wish)
{
    int64_t now_ms = deliver_now(act->deliver);
    struct suspension_view view = view_of(act);
    const struct suspension_view *old =
        suspensions_find(act->deliver->suspensions, view.reach, slice_of(view.name));
    int64_t old_until_ms = old ? old->until_ms : 0;

    view.reason = wish->reason ? wish->reason : "";
    view.since_ms = now_ms;
    view.until_ms = wish->until_ms;
    if (suspensions_set(act->deliver->suspensions, &view) != RESULT_OK)
        return RESULT_BUSY;
    act->done.was_there = old_until_ms > 0;
    log_change(&view, "deliver.suspended", "operator", wish->until_ms - now_ms);
    if (view.reach == REACH_DOMAIN)
        each_of_domain(act, stop_one);
    else
        each_destination(act, stop_destination);
    if (old_until_ms > wish->until_ms)
        start_walk(act); /* what rests for longer */
    else
        wait_for_disk(act);
    return RESULT_OK;
}

/* Whoever suspended it: a reaction's ends with the operator's, and so does a bounce. */
static void resume(struct destinations_act *act)
{
    const struct deliver_pace_changes *counts = scopes_counts(act->deliver->scopes);
    uint64_t before = counts->up[DELIVER_PACE_SUSPENSION] + counts->up[DELIVER_PACE_BOUNCE];
    struct suspension_view view = view_of(act);

    act->done.was_there =
        suspensions_remove(act->deliver->suspensions, view.reach, view.name);
    if (act->done.was_there)
        log_change(&view, "deliver.resumed", "operator", 0);
    if (view.reach != REACH_DOMAIN)
        scopes_resume(act->deliver->scopes, view.name, &by_operator);
    each_destination(act, resume_pace);
    act->done.was_there |=
        counts->up[DELIVER_PACE_SUSPENSION] + counts->up[DELIVER_PACE_BOUNCE] != before;
    start_walk(act);
}

static void flush(struct destinations_act *act)
{
    struct suspension_view view = view_of(act);

    log_change(&view, "deliver.flushed", "operator", 0);
    start_walk(act);
}

static enum result start(struct destinations_act *act, const struct destinations_wish *wish)
{
    switch (wish->change) {
    case DESTINATIONS_SUSPEND:
        return suspend(act, wish);
    case DESTINATIONS_RESUME:
        resume(act);
        break;
    case DESTINATIONS_FLUSH:
        flush(act);
        break;
    }
    return RESULT_OK;
}

/* ---- the door ---- */

/* Ours take no place from them. */
static size_t count_commands(const struct deliver *deliver)
{
    size_t count = 0;

    for (const struct link *link = list_first(&deliver->acts); link;
         link = list_next(&deliver->acts, link))
        count += !CONTAINER_OF(link, struct destinations_act, link)->is_ours;
    return count;
}

enum result destinations_act_start(struct deliver *deliver,
                                   const struct destinations_wish *wish,
                                   struct destinations_act **act, struct fault *fault)
{
    if (count_commands(deliver) >= ACTS_MAX)
        return fault_set(fault, RESULT_BUSY, "too many commands are under way: try again");
    *act = NEW(struct destinations_act);
    (*act)->deliver = deliver;
    (*act)->change = wish->change;
    (*act)->reached = *wish->reached;
    (*act)->on_end = wish->on_end;
    (*act)->owner = wish->owner;
    list_push_back(&deliver->acts, &(*act)->link);
    if (start(*act, wish) == RESULT_OK)
        return RESULT_OK;
    act_free(*act);
    *act = NULL;
    return fault_set(fault, RESULT_BUSY, "%d suspensions are the most that there may be",
                     SUSPENSIONS_MAX);
}

void destinations_act_cancel(struct destinations_act *act)
{
    act->on_end = NULL;
}

/* ---- of ourselves ---- */

/* One that does the same goes again; with too many one does it for all, which is more than is needed,
 * and harmless. */
static struct destinations_act *find_ours(struct deliver *deliver, enum reach reach,
                                          const char *name)
{
    struct destinations_act *last = NULL;
    unsigned count = 0;

    for (struct link *link = list_first(&deliver->acts); link;
         link = list_next(&deliver->acts, link)) {
        struct destinations_act *act = CONTAINER_OF(link, struct destinations_act, link);

        if (!act->is_ours)
            continue;
        if (act->reaches_all ||
            (act->reached.reach == reach && strcmp(act->reached.name, name) == 0))
            return act;
        last = act;
        count++;
    }
    if (count < OURS_MAX)
        return NULL;
    last->reaches_all = true;
    return last;
}

static void wake_reached(struct deliver *deliver, enum reach reach, const char *name)
{
    struct destinations_act *act = find_ours(deliver, reach, name);

    if (act) {
        act->goes_again = true;
        return;
    }
    act = NEW(struct destinations_act);
    act->deliver = deliver;
    act->change = DESTINATIONS_RESUME;
    act->is_ours = true;
    act->reached.reach = reach;
    (void)snprintf(act->reached.name, sizeof act->reached.name, "%s", name);
    list_push_back(&deliver->acts, &act->link);
    start_walk(act);
}

void act_wake_scope(struct deliver *deliver, const char *key)
{
    wake_reached(deliver, REACH_SCOPE, key);
}

/* What rests for it comes again by itself at the same time, unless the time of day was set meanwhile:
 * that moves the end of a suspension, and no wait. */
void act_on_suspension_ended(void *owner, const struct suspension_view *view)
{
    log_change(view, "deliver.resumed", "time", 0);
    wake_reached(owner, view->reach, view->name);
}

void acts_abort(struct deliver *deliver)
{
    struct link *link;

    while ((link = list_first(&deliver->acts)))
        act_free(CONTAINER_OF(link, struct destinations_act, link));
}
