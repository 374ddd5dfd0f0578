/* One round at a time; who asks while it runs waits for the next one. The mail is counted, then those
 * that fit are chosen, those with the most mail first: both in pieces. */
#include "destinations_ask.h"

#include "pool.h"
#include "reach.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUES_A_TURN = 2000, LOOKS_A_TURN = 1000, ANSWER_MAX = 64 << 20 };

struct item {
    const struct destination *destination;
    uint64_t groups;
};

struct destinations_ask {
    struct link link;
    struct census *census;
    struct reached *reached; /* NULL: all */
    char *text;              /* NULL: any */
    enum destinations_state state;
    size_t limit;
    unsigned round;     /* that it is told */
    struct item *items; /* chosen so far: twice the limit at most */
    size_t count;
    size_t matched;
    uint64_t least; /* with less one is not among the first any more */
    destinations_fn *on_end;
    void *owner;
};

struct census {
    struct deliver *deliver;
    unsigned round;
    bool is_running;
    size_t position; /* as in destinations_act.c: from the last one to the first */
    struct link *at; /* the next destination to look at */
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

    if (destination->kind != PLAN_HOSTS || destination->source || /* part of its pools */
        !has_text(destination, ask->text))
        return false;
    if (reached && reached->reach != REACH_DOMAIN && !reach_has(reached, destination))
        return false;
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

static int by_groups(const void *a, const void *b)
{
    const struct item *left = a;
    const struct item *right = b;

    if (left->groups != right->groups)
        return left->groups < right->groups ? 1 : -1;
    return strcmp(left->destination->key, right->destination->key);
}

/* Sorted once for so many that have more than the last one. */
static void keep_the_first(struct destinations_ask *ask)
{
    if (ask->count > 0)
        qsort(ask->items, ask->count, sizeof *ask->items, by_groups);
    if (ask->count > ask->limit)
        ask->count = ask->limit;
}

static void consider(struct destinations_ask *ask, const struct destination *destination)
{
    uint64_t groups = groups_of(ask->census, destination);

    if (!fits(ask, destination))
        return;
    ask->matched++;
    if (groups < ask->least)
        return;
    ask->items[ask->count++] = (struct item){destination, groups};
    if (ask->count < 2 * ask->limit)
        return;
    keep_the_first(ask);
    ask->least = ask->items[ask->count - 1].groups + 1;
}

static bool is_of_domain(const struct destinations_ask *ask)
{
    return ask->reached && ask->reached->reach == REACH_DOMAIN;
}

/* Where its mail goes is known. */
static void consider_domain(struct destinations_ask *ask)
{
    const struct lane *lane = lane_find(ask->census->deliver, ask->reached->name, NULL);

    if (lane && lane->destination)
        consider(ask, lane->destination);
}

/* How many asked. */
static size_t consider_for_all(struct census *census, struct destination *destination)
{
    size_t looks = 0;

    if (destination->census.seen == census->round)
        return 1; /* it has moved to the end since */
    destination->census.seen = census->round;
    for (struct link *link = list_first(&census->deliver->asks); link;
         link = list_next(&census->deliver->asks, link)) {
        struct destinations_ask *ask = CONTAINER_OF(link, struct destinations_ask, link);

        if (ask->round != census->round)
            break; /* it came later, and so did all behind it */
        if (!is_of_domain(ask))
            consider(ask, destination);
        looks++;
    }
    return looks + 1;
}

static void on_answer(void *owner);

static void on_choice(void *owner)
{
    struct census *census = owner;
    size_t looks = 0;

    while (looks < LOOKS_A_TURN && census->at) {
        struct destination *destination =
            CONTAINER_OF(census->at, struct destination, link);

        census->at = list_next(&census->deliver->all_destinations, census->at);
        looks += consider_for_all(census, destination);
    }
    loop_defer(census->deliver->rooms.loop, &census->turn,
               census->at ? on_choice : on_answer, census);
}

static void begin_choice(struct census *census)
{
    for (struct link *link = list_first(&census->deliver->asks); link;
         link = list_next(&census->deliver->asks, link)) {
        struct destinations_ask *ask = CONTAINER_OF(link, struct destinations_ask, link);

        if (ask->round != census->round)
            break;
        ask->items = NEW_ARRAY(struct item, 2 * ask->limit);
    }
    census->at = list_first(&census->deliver->all_destinations);
    loop_defer(census->deliver->rooms.loop, &census->turn, on_choice, census);
}

void census_pass(struct census *census, const struct destination *destination)
{
    if (census->at == &destination->link)
        census->at = list_next(&census->deliver->all_destinations, census->at);
}

static void drop(struct destinations_ask *ask, const struct destination *destination)
{
    size_t at = 0;

    while (at < ask->count && ask->items[at].destination != destination)
        at++;
    if (at == ask->count)
        return;
    ask->items[at] = ask->items[--ask->count];
    ask->matched--;
}

void census_forget(struct census *census, const struct destination *destination)
{
    census_pass(census, destination);
    for (struct link *link = list_first(&census->deliver->asks); link;
         link = list_next(&census->deliver->asks, link))
        drop(CONTAINER_OF(link, struct destinations_ask, link), destination);
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
        .suspension = pace->suspension,
        .bounces_left = pace->bounce.left,
        .bounces_until_ms = pace->bounce.left > 0 ? pace->bounce.until_ms : 0,
        .bounces_for = pace->bounce.left > 0 ? pace->bounce.text : ""};
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

static void add_pace(struct pace_view *paces, struct scope *scope,
                     struct destination_view *view)
{
    if (!scope || view->pace_count == PACES_TOLD)
        return;
    view->scope = scope->key;
    paces[view->pace_count++] = scope_view(scope);
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
        add_pace(paces, destination->scope, view);
    for (size_t i = 0; i < destination->member_count; i++) {
        const struct destination *path = destination->members[i].path;

        add_pace(paces, scope_of_member(destination, &destination->members[i]), view);
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
    struct destination_view *views;
    struct destinations_answer told = {.known = census->deliver->all_destinations.count};
    struct arena arena;
    destinations_fn *on_end = ask->on_end;
    void *owner = ask->owner;

    arena_init(&arena, ANSWER_MAX);
    if (is_of_domain(ask))
        consider_domain(ask);
    keep_the_first(ask);
    told.count = ask->count;
    told.matched = ask->matched;
    views = NEW_ARRAY(struct destination_view, told.count + 1);
    for (size_t i = 0; i < told.count; i++)
        views[i] = view_of(&arena, census, ask->items[i].destination);
    told.views = views;
    destinations_ask_cancel(ask);
    on_end(owner, &told);
    arena_clear(&arena);
    memory_free(views);
}

/* ---- the door ---- */

static void begin(struct census *census);

/* One in each turn: what is told is long. */
static void on_answer(void *owner)
{
    struct census *census = owner;
    struct list *asks = &census->deliver->asks;
    struct link *link = list_first(asks);

    if (link && CONTAINER_OF(link, struct destinations_ask, link)->round == census->round) {
        loop_defer(census->deliver->rooms.loop, &census->turn, on_answer, census);
        answer(CONTAINER_OF(link, struct destinations_ask, link));
        return;
    }
    census->is_running = false;
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
        begin_choice(census);
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
    memory_free(ask->items);
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
