/* One count at a time; who asks while it runs waits for the next one. Then the destinations that fit
 * are put in order, those with the most mail first. */
#include "destinations_ask.h"

#include "pool.h"
#include "reach.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUES_A_TURN = 2000, ANSWER_MAX = 64 << 20 };

struct destinations_ask {
    struct link link;
    struct census *census;
    struct reached *reached; /* NULL: all */
    char *text;              /* NULL: any */
    enum destinations_state state;
    size_t limit;
    unsigned round; /* the count that it is told */
    destinations_fn *on_end;
    void *owner;
};

struct census {
    struct deliver *deliver;
    unsigned round;
    bool is_running;
    size_t position; /* as in destinations_act.c: from the last one to the first */
    struct deferred turn;
};

/* ---- the count ---- */

static void count(const struct census *census, const struct domain_queue *domain_queue)
{
    const struct lane *lane = domain_queue_attachment(domain_queue);
    struct destination *destination = lane ? lane->destination : NULL;

    if (!destination)
        return;
    if (destination->census.round != census->round) {
        destination->census.round = census->round;
        destination->census.groups = destination->census.lanes = 0;
    }
    destination->census.groups += domain_queue_count(domain_queue);
    destination->census.lanes += domain_queue_count(domain_queue) > 0;
}

static uint64_t groups_of(const struct census *census,
                          const struct destination *destination)
{
    return destination->census.round == census->round ? destination->census.groups : 0;
}

/* ---- which ---- */

static bool has_text(const struct destination *destination, const char *text)
{
    return !text || strstr(destination->key, text) ||
           strstr(reach_scope_of(destination), text);
}

static bool has_suspended_pace(const struct destination *way)
{
    return way && way->scope &&
           way->scope->pace.suspended_until_ms > deliver_now(way->deliver);
}

static bool is_suspended(const struct destination *destination)
{
    bool is_it = reach_suspension(destination, NULL) || has_suspended_pace(destination);

    for (size_t i = 0; i < destination->member_count && !is_it; i++)
        is_it = has_suspended_pace(destination->members[i].path);
    return is_it;
}

static bool fits(const struct destinations_ask *ask, const struct destination *destination)
{
    const struct reached *reached = ask->reached;
    const struct lane *lane = NULL;

    if (destination->kind != PLAN_HOSTS || destination->source || /* part of its pools */
        !has_text(destination, ask->text))
        return false;
    if (reached && reached->reach == REACH_DOMAIN) {
        lane = lane_find(ask->census->deliver, reached->name, NULL);
        if (!lane || lane->destination != destination)
            return false;
    } else if (reached && !reach_has(reached, destination)) {
        return false;
    }
    switch (ask->state) {
    case DESTINATIONS_SUSPENDED:
        return is_suspended(destination);
    case DESTINATIONS_BACKING_OFF:
        return destination_rests(destination);
    case DESTINATIONS_ALL:
        break;
    }
    return true;
}

struct item {
    const struct destination *destination;
    uint64_t groups;
};

static int by_groups(const void *a, const void *b)
{
    const struct item *left = a;
    const struct item *right = b;

    if (left->groups != right->groups)
        return left->groups < right->groups ? 1 : -1;
    return strcmp(left->destination->key, right->destination->key);
}

/* Twice as many as are wanted are collected, then the half that has less goes: it is sorted once for
 * so many that have more than the last one. */
static size_t choose(const struct destinations_ask *ask, struct item *items,
                     size_t *matched)
{
    const struct deliver *deliver = ask->census->deliver;
    uint64_t least = 0;
    size_t count_of = 0;

    *matched = 0;
    for (const struct link *link = list_first(&deliver->all_destinations); link;
         link = list_next(&deliver->all_destinations, link)) {
        const struct destination *destination =
            CONTAINER_OF(link, struct destination, link);
        uint64_t groups = groups_of(ask->census, destination);

        if (!fits(ask, destination))
            continue;
        (*matched)++;
        if (groups < least)
            continue;
        items[count_of++] = (struct item){destination, groups};
        if (count_of < 2 * ask->limit)
            continue;
        qsort(items, count_of, sizeof *items, by_groups);
        count_of = ask->limit;
        least = items[count_of - 1].groups + 1;
    }
    if (count_of > 0)
        qsort(items, count_of, sizeof *items, by_groups);
    return count_of < ask->limit ? count_of : ask->limit;
}

/* ---- the answer ---- */

struct pace_view scope_view(struct scope *scope)
{
    struct pace *pace = &scope->pace;
    struct pace_time time = scope_time(scope);
    int64_t until_ms = 0;
    enum pace_hold hold = pace_look(pace, false, &time, &until_ms);

    return (struct pace_view){
        .source = pace->source,
        .window = pace->window,
        .ceiling = pace->limits.connections,
        .running = pace->running,
        .message_rate = pace->messages.quota,
        .permille = pace->permille,
        .slowness = pace->permille < BUCKET_FULL_RATE ? pace->slowness : "",
        .connection_rate = pace->new_connections.quota,
        .next_ms =
            hold == PACE_GOES || until_ms == 0 ? 0 : time.wall_ms + until_ms - time.now_ms,
        .suspended_until_ms = pace->suspended_until_ms,
        .suspension = pace->suspension};
}

static const char *text_of(struct arena *arena, struct slice text)
{
    const char *copy = arena_text(arena, text);

    return copy ? copy : "";
}

static const char *rule_of(const struct destination *destination)
{
    const struct deliver_settings *values = &destination->deliver->settings->values;
    int rule = destination->plan.rule;

    return !destination->plan.is_route && rule >= 0 && (size_t)rule < values->rule_count
               ? values->rules[rule].name
               : "";
}

static void add_pace(struct pace_view *paces, const struct destination *way,
                     struct destination_view *view)
{
    if (!way || !way->scope || view->pace_count == PACES_TOLD)
        return;
    view->scope = way->scope->key;
    paces[view->pace_count++] = scope_view(way->scope);
}

/* Of a pool the way is that of its sources. */
static void add_ways(struct arena *arena, const struct destination *destination,
                     struct destination_view *view)
{
    size_t most = destination->pool ? destination->member_count : 1;
    struct pace_view *paces =
        most ? arena_alloc(arena, (most < PACES_TOLD ? most : PACES_TOLD) * sizeof *paces)
             : NULL;

    if (!paces)
        return;
    view->paces = paces;
    if (!destination->pool)
        add_pace(paces, destination, view);
    for (size_t i = 0; i < destination->member_count; i++) {
        const struct destination *path = destination->members[i].path;

        add_pace(paces, path, view);
        view->running += path ? path->running : 0;
        view->connections += path ? path->connections : 0;
    }
}

static struct destination_view view_of(struct arena *arena, const struct census *census,
                                       const struct destination *destination)
{
    bool rests = destination_rests(destination);
    struct destination_view view = {
        .name = text_of(arena, reach_name_of(destination)),
        .scope = "",
        .rule = rule_of(destination),
        .waiting = groups_of(census, destination),
        .lanes = destination->census.round == census->round ? destination->census.lanes : 0,
        .ready =
            (unsigned)(destination->ready.works.count + destination->ready.chosen.count),
        .running = destination->running,
        .connections = destination->connections,
        .backs_off_until_ms = rests ? destination->until_ms : 0,
        .fault = rests ? destination->fault : "",
        .fault_class = destination->fault_class,
        .failed_ms = destination->last.ms,
        .failed_class = destination->last.class,
        .failed_text = destination->last.text ? destination->last.text : "",
        .suspension = reach_suspension(destination, NULL)};

    add_ways(arena, destination, &view);
    return view;
}

static void answer(struct destinations_ask *ask)
{
    struct census *census = ask->census;
    struct item *items = NEW_ARRAY(struct item, 2 * ask->limit);
    struct destination_view *views;
    struct destinations_answer told = {.known = census->deliver->all_destinations.count};
    struct arena arena;
    destinations_fn *on_end = ask->on_end;
    void *owner = ask->owner;

    arena_init(&arena, ANSWER_MAX);
    told.count = choose(ask, items, &told.matched);
    views = NEW_ARRAY(struct destination_view, told.count + 1);
    for (size_t i = 0; i < told.count; i++)
        views[i] = view_of(&arena, census, items[i].destination);
    told.views = views;
    destinations_ask_cancel(ask);
    on_end(owner, &told);
    arena_clear(&arena);
    memory_free(views);
    memory_free(items);
}

/* ---- the door ---- */

static void begin(struct census *census);

static void end_round(struct census *census)
{
    struct list *asks = &census->deliver->asks;
    struct link *link;

    census->is_running = false;
    while ((link = list_first(asks))) {
        struct destinations_ask *ask = CONTAINER_OF(link, struct destinations_ask, link);

        if (ask->round != census->round)
            break; /* it came later, and so did all behind it */
        answer(ask);
    }
    if (asks->count > 0)
        begin(census);
}

static void on_turn(void *owner)
{
    struct census *census = owner;

    for (int i = 0; i < QUEUES_A_TURN && census->position > 0; i++) {
        size_t at = --census->position;
        const struct domain_queue *domain_queue =
            queue_next_domain_queue(census->deliver->rooms.queue, &at);

        if (domain_queue)
            count(census, domain_queue);
    }
    if (census->position > 0)
        loop_defer(census->deliver->rooms.loop, &census->turn, on_turn, census);
    else
        end_round(census);
}

static void begin(struct census *census)
{
    struct queue_statistics statistics;

    queue_statistics(census->deliver->rooms.queue, &statistics);
    census->position = (size_t)statistics.domain_queues;
    census->round++;
    census->is_running = true;
    loop_defer(census->deliver->rooms.loop, &census->turn, on_turn, census);
}

struct destinations_ask *destinations_ask_start(struct deliver *deliver,
                                                const struct destinations_filter *filter,
                                                destinations_fn *on_end, void *owner)
{
    struct destinations_ask *ask = NEW(struct destinations_ask);
    struct census *census = deliver->census;

    ask->census = census;
    ask->reached =
        filter->reached ? memory_copy(filter->reached, sizeof *filter->reached) : NULL;
    ask->text = memory_text(filter->text);
    ask->state = filter->state;
    ask->limit = filter->limit > 0 && filter->limit < DESTINATIONS_LISTED
                     ? filter->limit
                     : DESTINATIONS_LISTED;
    ask->round = census->round + 1;
    ask->on_end = on_end;
    ask->owner = owner;
    list_push_back(&deliver->asks, &ask->link);
    if (!census->is_running)
        begin(census);
    return ask;
}

void destinations_ask_cancel(struct destinations_ask *ask)
{
    list_remove(&ask->census->deliver->asks, &ask->link);
    memory_free(ask->reached);
    memory_free(ask->text);
    memory_free(ask);
}

struct census *census_new(struct deliver *deliver)
{
    struct census *census = NEW(struct census);

    census->deliver = deliver;
    return census;
}

void census_free(struct census *census)
{
    struct link *link;

    while ((link = list_first(&census->deliver->asks)))
        destinations_ask_cancel(CONTAINER_OF(link, struct destinations_ask, link));
    deferred_cancel(census->deliver->rooms.loop, &census->turn);
    memory_free(census);
}
