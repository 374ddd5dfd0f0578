/* The line in front of a scope's pace. Who stands there is a ready queue (struct scope_place): for each of
 * its tenants that has something, so that a tenant with mail at many destinations has no more turns than
 * one with mail at one. A turn is paid for when it is given; its destination is run, and starts a
 * group of that tenant, or has no use for it and stands no more until its next run.
 * Decided against: one place for each lane, of which a destination may have a hundred thousand that
 * would join and leave with each message. */
#include "pool.h"
#include "scope.h"

/* ---- who stands ---- */

void scope_place_init(struct scope_place *place, struct destination *head,
                      struct destination *way)
{
    *place = (struct scope_place){.head = head, .way = way};
    place->chosen.place = &place->in_line;
}

static struct scope_place *place_of(struct turn *turn)
{
    const struct turns_node *node = CONTAINER_OF(turn, struct turns_node, turn);

    return CONTAINER_OF(node->place, struct scope_place, in_line);
}

static bool stands(const struct scope_place *place)
{
    return place->in_line.above;
}

static bool was_called(const struct scope_place *place)
{
    return place->has_turn || place->in_line.granted;
}

void scope_note_idle(struct destination *destination)
{
    struct scope *scope = destination->scope;
    bool is_able = destination->standing > 0 && destination->idle.count > 0;

    if (!scope || is_able == link_is_in_list(&destination->able))
        return;
    if (is_able)
        list_push_back(&scope->able, &destination->able);
    else
        list_remove(&scope->able, &destination->able);
}

/* What it has chosen already it may have nothing else of. What had its turn before it was read is the
 * first of its tenant's: others would have their turns, too, while that is read. */
static void stand_for_chosen(struct scope *scope, struct scope_place *place)
{
    struct turn *turn = &place->chosen.turn;
    struct turns_key key;

    if (!ready_chosen_key(&place->head->ready, &key)) {
        turns_leave(&scope->line, turn);
        return;
    }
    if (!turns_stands_as(turn, &key)) {
        turns_leave(&scope->line, turn);
        turns_join(&scope->line, turn, &key);
    }
    if (place->kept > 0)
        turns_put_first(turn);
}

static void stand(struct scope *scope, struct scope_place *place)
{
    place->was_refused = true;
    if (!stands(place)) {
        turns_stand(&place->in_line, &place->head->ready.starting, &scope->line);
        place->way->standing++;
    }
    stand_for_chosen(scope, place);
    scope_note_idle(place->way);
}

static void stand_no_more(struct scope_place *place)
{
    place->has_turn = false;
    if (!stands(place))
        return;
    turns_leave(place->in_line.above, &place->chosen.turn);
    turns_stand_no_more(&place->in_line);
    place->way->standing--;
    scope_note_idle(place->way);
}

/* A turn that was its own goes on. */
void scope_leave(struct scope_place *place)
{
    bool had_turn = was_called(place);

    stand_no_more(place);
    place->kept = 0;
    if (had_turn && place->way->scope)
        timer_start(&place->way->scope->timer, 0);
    place->way = NULL;
}

void scope_forget(struct destination *destination)
{
    struct scope *scope = destination->scope;
    const struct list *users = &destination->users;

    if (!scope)
        return;
    stand_no_more(&destination->place);
    for (struct link *link = list_first(users); link; link = list_next(users, link))
        stand_no_more(&CONTAINER_OF(link, struct pool_member, of_path)->place);
    destination->scope = NULL;
    scope_serve(scope);
    scope_unref(scope);
}

/* ---- turns ---- */

enum pace_hold scope_look(struct scope *scope, const struct destination *way,
                          int64_t *until_ms)
{
    struct pace_time time = scope_time(scope);

    return pace_look(&scope->pace, way->idle.count > 0, &time, until_ms);
}

unsigned scope_slots(const struct destination *destination)
{
    const struct pace *pace = destination->scope ? &destination->scope->pace : NULL;

    if (!pace)
        return UINT32_MAX;
    return pace->window > pace_connections(pace) ? pace->window - pace_connections(pace)
                                                 : 0;
}

static bool has_others(const struct scope *scope, const struct scope_place *place)
{
    size_t own = stands(place) ? place->in_line.nodes.count : 0;

    return scope->line.count > own + (place->chosen.turn.level ? 1 : 0);
}

/* A group that its turn came for was read since. */
static bool keeps_turn(const struct scope_place *place)
{
    return place->kept > 0 && place->head->ready.chosen.count > 0;
}

static bool is_next(const struct scope *scope, const struct scope_place *place)
{
    return !has_others(scope, place) || was_called(place) || keeps_turn(place);
}

bool scope_would_admit(struct scope_place *place)
{
    struct scope *scope = scope_of(place->way);
    int64_t until_ms;

    return !scope ||
           (is_next(scope, place) && scope_look(scope, place->way, &until_ms) == PACE_GOES);
}

bool scope_admits(struct scope_place *place)
{
    struct scope *scope = scope_of(place->way);
    struct turns_node *granted = place->in_line.granted;
    bool is_kept = !granted && keeps_turn(place);
    int64_t until_ms;

    place->of = NULL;
    place->was_refused = false;
    if (!scope)
        return true;
    if (!is_next(scope, place)) {
        stand(scope, place);
        return false;
    }
    place->has_turn = false;
    place->in_line.granted = NULL;
    if (scope_look(scope, place->way, &until_ms) != PACE_GOES) {
        if (granted)
            turns_give_back(&scope->line, &granted->turn);
        stand(scope, place);
        return false;
    }
    place->kept -= is_kept;
    place->of = granted;
    return true;
}

bool scope_admits_behind(struct scope_place *place)
{
    struct scope *scope = scope_of(place->way);
    struct pace_time time;
    int64_t until_ms;

    if (!scope)
        return true;
    if (has_others(scope, place))
        return false;
    time = scope_time(scope);
    return pace_look_behind(&scope->pace, &time, &until_ms) == PACE_GOES;
}

void scope_was_kept(struct scope_place *place)
{
    if (place->kept == 0)
        return;
    place->kept--;
    turns_give_back(&place->way->scope->line, &place->of->turn);
}

/* Nothing could be taken, and nothing is read for it. */
void scope_turn_unused(struct scope_place *place)
{
    turns_give_back(&place->way->scope->line, &place->of->turn);
}

void scope_run_begins(struct scope_place *place)
{
    place->was_refused = false;
}

/* It is alone in the line, and has not been refused but waits for a group: it is run when that was read. */
static bool is_reading(const struct scope *scope, const struct scope_place *place)
{
    return !place->was_refused && place->head->ready.choosing > 0 &&
           !has_others(scope, place);
}

/* Who has had no use for a turn would be given it again and again. Who only reads, alone, stays: to leave
 * and come back costs something for each of its tenants. */
void scope_run_ends(struct scope_place *place)
{
    const struct ready *ready = &place->head->ready;

    if (!stands(place))
        place->has_turn = false;
    else if (was_called(place) ||
             (!place->was_refused && !is_reading(place->way->scope, place)))
        stand_no_more(place);
    else
        stand_for_chosen(place->way->scope, place);
    if (place->kept > ready->chosen.count + ready->choosing)
        place->kept = (unsigned)ready->chosen.count + ready->choosing;
}

/* Alone it has its own round of tenants, which knows more. What is chosen keeps what was paid until it
 * goes. */
static void call(struct scope *scope, struct turn *turn)
{
    struct scope_place *place = place_of(turn);
    bool is_chosen = turn == &place->chosen.turn;
    bool is_paid = is_chosen && place->kept > 0;

    if (is_chosen || !has_others(scope, place))
        place->has_turn = true;
    else
        place->in_line.granted = CONTAINER_OF(turn, struct turns_node, turn);
    if (!is_paid && has_others(scope, place)) {
        turns_pay(&scope->line, turn);
        place->kept += is_chosen;
    }
    destination_run_later(place->head);
}

/* It is held for want of a new connection: by the rate of these, or for a second after an objection.
 * Who has one that rests is not. */
static bool lacks_connection(enum pace_hold hold, int64_t until_ms)
{
    return hold == PACE_NEW_CONNECTIONS || (hold == PACE_CONNECTIONS && until_ms > 0);
}

static struct scope_place *find_place(struct destination *way)
{
    struct list *users = &way->users;

    for (struct link *link = list_first(users); link; link = list_next(users, link)) {
        struct scope_place *place = &CONTAINER_OF(link, struct pool_member, of_path)->place;

        if (!stands(place))
            continue;
        list_remove(users, link); /* another one first next time */
        list_push_back(users, link);
        return place;
    }
    return &way->place;
}

/* The first waits for a connection until then: in its place one that needs none, now or earlier. */
static void serve_able(struct scope *scope, int64_t *until_ms)
{
    struct link *link = list_first(&scope->able);
    struct destination *way;
    struct scope_place *place;
    int64_t its_ms;

    if (!link || scope->owes_connection)
        return;
    way = CONTAINER_OF(link, struct destination, able);
    if (scope_look(scope, way, &its_ms) == PACE_GOES) {
        list_remove(&scope->able, link);
        list_push_back(&scope->able, link);
        place = find_place(way);
        place->has_turn = true;
        destination_run_later(place->head);
    } else if (its_ms > 0 && its_ms < *until_ms) {
        *until_ms = its_ms;
    }
}

void scope_serve(struct scope *scope)
{
    struct turn *first = turns_next(&scope->line);
    struct destination *way;
    enum pace_hold hold;
    int64_t until_ms;

    if (!first || was_called(place_of(first)) || is_reading(scope, place_of(first)))
        return; /* it will be run, and serves when it was */
    way = place_of(first)->way;
    hold = scope_look(scope, way, &until_ms);
    if (hold == PACE_GOES) {
        scope->owes_connection &= way->idle.count > 0;
        call(scope, first);
        return;
    }
    if (lacks_connection(hold, until_ms))
        serve_able(scope, &until_ms);
    if (until_ms > 0)
        timer_start(&scope->timer, until_ms - loop_now_ms(scope->deliver->rooms.loop));
}

void scope_owes_connection(struct scope *scope)
{
    scope->owes_connection = scope->line.count > 0;
}

void scope_wake(struct scope *scope)
{
    struct turn *turn;

    while ((turn = turns_next(&scope->line))) {
        struct scope_place *place = place_of(turn);

        stand_no_more(place);
        destination_run_later(place->head);
        destination_run_later(place->way); /* others may care */
    }
}
