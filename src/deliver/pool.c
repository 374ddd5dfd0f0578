/* See pool.h. What holds a source is asked anew for each message: there are few of them, and whoever says
 * that it changed need not find all who care. */
#include "pool.h"

#include "family.h"
#include "scope.h"
#include "smtpd/base/memory.h"
#include "smtpd/deliver/explain.h"

#include <stdio.h>
#include <string.h>

enum { AGAIN_MS = 60000, OTHER_HOSTS_MS = 300000, NAME_MAX = 9000 };
enum { BUSY_MS = 10000 }; /* in the meantime one that is only busy may be free */

/* ---- which pool ---- */

const struct deliver_pool *pool_find(const struct plan_settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->values.pool_count; i++)
        if (strcmp(settings->values.pools[i].name, name) == 0)
            return &settings->values.pools[i];
    return NULL;
}

/* A route is a way that the operator built: what it says holds for all mail there. Elsewhere the message
 * comes first. */
const char *pool_name(const struct plan_settings *settings, const struct plan *plan,
                      const char *asked)
{
    const struct destination_settings *own = settings_for(settings, plan);
    const char *name = asked && !(plan->is_route && own->has_own_pool) ? asked : own->pool;

    return name && strcmp(name, DELIVER_NO_POOL) != 0 ? name : NULL;
}

/* ---- members ---- */

static void leave(struct pool_member *member)
{
    if (member->place.way)
        scope_leave(&member->place);
    if (member->path)
        list_remove(&member->path->users, &member->of_path);
    list_remove(&member->source->waiting, &member->waiting);
}

void pool_fini(struct destination *destination)
{
    struct link *link;

    for (size_t i = 0; i < destination->member_count; i++)
        leave(&destination->members[i]);
    memory_free(destination->members);
    destination->members = NULL;
    destination->member_count = 0;
    while ((link = list_pop_front(&destination->users))) {
        struct pool_member *member = CONTAINER_OF(link, struct pool_member, of_path);

        scope_leave(&member->place);
        member->path = NULL;
        destination_run_later(member->head); /* it may have waited by this one */
    }
}

/* What it has learned of its place goes on under the same name. */
static void inherit(struct pool_member *member, struct pool_member *old, size_t old_count)
{
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].source != member->source)
            continue;
        member->credit = old[i].credit;
        member->path = old[i].path;
        member->place.way = member->path;
        member->plan_version = old[i].plan_version;
        if (member->path) {
            list_remove(&member->path->users, &old[i].of_path);
            list_push_back(&member->path->users, &member->of_path);
            old[i].path = NULL;
        }
        return;
    }
}

void pool_renew(struct destination *head)
{
    struct deliver *deliver = head->deliver;
    const struct deliver_pool *pool = pool_find(deliver->settings, head->pool);
    struct pool_member *old = head->members;
    size_t old_count = head->member_count;

    if (head->pool_generation == deliver->generation)
        return;
    head->pool_generation = deliver->generation;
    head->members = NEW_ARRAY(struct pool_member, (pool ? pool->member_count : 0) + 1);
    head->member_count = 0;
    for (size_t i = 0; pool && i < pool->member_count; i++) {
        struct source *source = source_find(deliver->sources, pool->members[i].source);
        struct pool_member *member = &head->members[head->member_count];

        if (!source)
            continue;
        member->head = head;
        member->source = source;
        scope_place_init(&member->place, head, NULL);
        member->weight = pool->members[i].weight ? pool->members[i].weight : source->weight;
        inherit(member, old, old_count);
        head->member_count++;
    }
    for (size_t i = 0; i < old_count; i++)
        leave(&old[i]);
    memory_free(old);
}

bool pool_can_reach(const struct source *source, const struct plan_host *host)
{
    for (size_t i = 0; i < host->address_count; i++)
        if (!source || family_of(&host->addresses[i]) == family_of(&source->ip))
            return true;
    return host->address_count == 0; /* the dial says what it lacks */
}

static bool reaches(const struct pool_member *member)
{
    return member->head->has_family[family_of(&member->source->ip)];
}

/* The head's hosts may have other addresses since. */
static void refresh(struct pool_member *member)
{
    struct destination *path = member->path;

    if (path && (member->plan_version != member->head->plan_version ||
                 path->plan_of != member->head)) { /* or another pool's */
        destination_take_plan(path, &member->head->plan, member->head->block);
        path->plan_of = member->head;
    }
    member->plan_version = member->head->plan_version;
}

static bool make_path(struct pool_member *member)
{
    member->path = destination_get_path(member->head, member->source);
    if (!member->path)
        return false;
    member->plan_version = member->head->plan_version;
    member->path->plan_of = member->head;
    member->place.way = member->path;
    list_push_back(&member->path->users, &member->of_path);
    return true;
}

/* ---- what holds ---- */

static void hold_until(struct pool_hold *hold, const struct pool_member *member,
                       enum why_kind why, int64_t until_ms, const char *text)
{
    if (hold->until_ms > 0 && until_ms >= hold->until_ms)
        return;
    hold->why = why;
    hold->until_ms = until_ms;
    hold->class =
        why == WHY_DESTINATION && member->path ? member->path->fault_class : CLASS_OTHER;
    (void)snprintf(hold->text, sizeof hold->text, "source %s: %.220s", member->source->name,
                   text);
}

/* True: nothing goes by it before, and the hold knows until when. */
static bool is_held(const struct pool_member *member, struct pool_hold *hold)
{
    int64_t now_ms = deliver_now(member->head->deliver);
    int64_t until_ms;
    enum source_state state = source_look(member->source, &until_ms);
    char text[128];

    if (state == SOURCE_IS_ASIDE) {
        hold_until(hold, member, WHY_SOURCE,
                   until_ms > now_ms ? until_ms : now_ms + AGAIN_MS, member->source->fault);
    } else if (!reaches(member)) {
        (void)snprintf(text, sizeof text, "no host has an %s address, which it could reach",
                       ip_is_v4(&member->source->ip) ? "IPv4" : "IPv6");
        hold_until(hold, member, WHY_SOURCE, now_ms + OTHER_HOSTS_MS, text);
    } else if (state == SOURCE_IS_FULL) {
        (void)snprintf(text, sizeof text,
                       "it has sent the %u messages of day %u of its warm-up",
                       warm_up_quota(&member->source->warm), member->source->warm.step + 1);
        hold_until(hold, member, WHY_WARM_UP, until_ms, text);
    } else if (member->path && destination_rests(member->path)) {
        hold_until(hold, member, WHY_DESTINATION, member->path->until_ms,
                   member->path->fault);
    } else if (member->path && (until_ms = scope_suspended_until(member->path)) > 0) {
        hold_until(hold, member, WHY_SUSPENDED, until_ms,
                   member->path->scope->pace.suspension);
    } else {
        return false;
    }
    return true;
}

bool pool_holds(struct destination *head, struct pool_hold *hold)
{
    size_t held = 0;

    pool_renew(head);
    *hold = (struct pool_hold){.class = CLASS_OTHER};
    for (size_t i = 0; i < head->member_count; i++)
        held += is_held(&head->members[i], hold);
    if (head->member_count == 0) {
        hold->why = WHY_SOURCE;
        hold->until_ms = deliver_now(head->deliver) + AGAIN_MS;
        (void)snprintf(hold->text, sizeof hold->text,
                       "its pool %.100s is not in the settings, or has no source",
                       head->pool);
    }
    return held == head->member_count;
}

static struct destination *find_path(struct deliver *deliver, const char *key,
                                     const char *source)
{
    struct destination *path = NULL;
    struct bytes name;

    bytes_init(&name, NAME_MAX);
    if (bytes_format(&name, "%s@%s", key, source) == RESULT_OK)
        path = map_get(deliver->destinations, bytes_view(&name));
    bytes_fini(&name);
    return path;
}

static void explain_one(const struct pool_member *member, struct explain_source *one)
{
    const struct source *source = member->source;
    const struct destination *path = member->path;
    struct pool_hold hold = {.until_ms = 0};

    *one = (struct explain_source){.name = source->name,
                                   .ip = source->ip,
                                   .weight = member->weight,
                                   .why = WHY_SCHEDULED};
    if (is_held(member, &hold)) {
        one->why = hold.why;
        one->until_ms = hold.until_ms;
        (void)snprintf(one->text, sizeof one->text, "%s", hold.text);
    }
    one->is_warming = warm_up_is_limited(&source->warm);
    if (one->is_warming) {
        one->day = source->warm.step + 1;
        one->quota = warm_up_quota(&source->warm);
        one->used = source->warm.used;
    }
    one->is_known = path != NULL;
    one->connections = path ? path->connections : 0;
    one->running = path ? path->running : 0;
    one->most = path && path->scope ? path->scope->pace.window : 0;
}

size_t pool_explain(struct deliver *deliver, const char *pool, const struct plan *plan,
                    const char *key, struct explain_source *sources)
{
    const struct deliver_pool *found = pool_find(deliver->settings, pool);
    struct destination head = {.deliver = deliver};
    size_t count = 0;

    destination_note_families(&head, plan);
    for (size_t i = 0; found && i < found->member_count; i++) {
        struct source *source = source_find(deliver->sources, found->members[i].source);
        struct pool_member member = {.head = &head, .source = source};

        if (!source)
            continue;
        member.path = find_path(deliver, key, source->name);
        member.weight =
            found->members[i].weight ? found->members[i].weight : source->weight;
        explain_one(&member, &sources[count++]);
    }
    return count;
}

/* ---- whose turn ---- */

/* Beside its own limit. */
static bool is_open(struct pool_member *member)
{
    int64_t until_ms;
    enum source_state state = source_look(member->source, &until_ms);

    if ((state == SOURCE_WAITS || state == SOURCE_IS_ASIDE) &&
        !link_is_in_list(&member->waiting))
        list_push_back(&member->source->waiting, &member->waiting);
    return state == SOURCE_GOES && reaches(member) &&
           !(member->path && destination_rests(member->path));
}

static struct pool_member *find_next(struct destination *head, bool can_make)
{
    struct pool_member *best = NULL;

    for (size_t i = 0; i < head->member_count; i++) {
        struct pool_member *member = &head->members[i];

        refresh(member);
        member->is_able =
            is_open(member) &&
            (member->path ? destination_could_start(&member->place) : can_make);
        if (member->is_able &&
            (!best || member->credit + member->weight > best->credit + best->weight))
            best = member;
    }
    return best;
}

bool pool_goes_elsewhere(const struct destination *head, const struct destination *path)
{
    for (size_t i = 0; i < head->member_count; i++) {
        struct pool_member *member = &head->members[i];

        if (member->path != path && is_open(member) &&
            (!member->path || destination_could_start(&member->place)))
            return true;
    }
    return false;
}

int64_t pool_rest_ms(struct destination *head, const struct destination *path,
                     int64_t wait_ms)
{
    int64_t now_ms = deliver_now(head->deliver);
    struct pool_hold hold = {.until_ms = 0};

    pool_renew(head);
    for (size_t i = 0; i < head->member_count; i++) {
        const struct pool_member *member = &head->members[i];

        if (member->path != path && !is_held(member, &hold))
            return wait_ms < BUSY_MS ? wait_ms : BUSY_MS;
    }
    if (hold.until_ms == 0 || hold.until_ms - now_ms >= wait_ms)
        return wait_ms;
    return hold.until_ms > now_ms ? hold.until_ms - now_ms : 1;
}

/* In the queue of each scope that has no room now: the first that has some tells. */
static void stand(struct destination *head)
{
    for (size_t i = 0; i < head->member_count; i++) {
        struct pool_member *member = &head->members[i];

        if (member->path && is_open(member))
            (void)destination_may_start(&member->place);
    }
}

struct scope_place *pool_choose(struct destination *head)
{
    struct pool_member *member;
    bool can_make = true;

    pool_renew(head);
    while ((member = find_next(head, can_make))) {
        if (!member->path) {
            can_make = make_path(member);
            continue; /* its scope may have no room */
        }
        return destination_may_start(&member->place) ? &member->place : NULL;
    }
    stand(head);
    if (!can_make)
        destination_stall(head);
    return NULL;
}

struct scope_place *pool_choose_ridden(struct destination *head)
{
    struct pool_member *best = NULL;

    for (size_t i = 0; i < head->member_count; i++) {
        struct pool_member *member = &head->members[i];

        member->is_able =
            member->path && is_open(member) && destination_may_ride(&member->place);
        if (member->is_able &&
            (!best || member->credit + member->weight > best->credit + best->weight))
            best = member;
    }
    return best ? &best->place : NULL;
}

void pool_each_place(struct destination *destination,
                     void (*each)(struct scope_place *place))
{
    each(&destination->place);
    for (size_t i = 0; i < destination->member_count; i++)
        if (destination->members[i].path)
            each(&destination->members[i].place);
}

void pool_pay(struct destination *head, const struct destination *path)
{
    int64_t total = 0;

    for (size_t i = 0; i < head->member_count; i++) {
        struct pool_member *member = &head->members[i];

        if (!member->is_able) {
            member->credit = 0; /* its share went to the others, and does not come back */
            continue;
        }
        member->credit += member->weight;
        total += member->weight;
    }
    for (size_t i = 0; i < head->member_count; i++)
        if (head->members[i].path == path)
            head->members[i].credit -= total;
}

unsigned pool_slots(const struct destination *head)
{
    uint64_t slots = 0;

    for (size_t i = 0; i < head->member_count; i++) {
        struct pool_member *member = &head->members[i];

        if (is_open(member))
            slots += member->path ? destination_slots(member->path) : 1;
    }
    return slots < UINT32_MAX ? (unsigned)slots : UINT32_MAX;
}

bool pool_is_judged(const struct destination *head)
{
    for (size_t i = 0; i < head->member_count; i++) {
        struct pool_member *member = &head->members[i];

        if (is_open(member) && (!member->path || member->path->failures == 0))
            return false;
    }
    return true;
}

void pool_wake_users(struct destination *path)
{
    size_t count = path->users.count;

    while (count-- > 0) { /* another one first next time */
        struct link *link = list_pop_front(&path->users);

        list_push_back(&path->users, link);
        destination_run_later(CONTAINER_OF(link, struct pool_member, of_path)->head);
    }
    if (path->users.count > 1)
        list_push_back(&path->users, list_pop_front(&path->users));
}

unsigned pool_running(const struct destination *head)
{
    unsigned running = 0;

    for (size_t i = 0; i < head->member_count; i++)
        if (head->members[i].path)
            running += head->members[i].path->running;
    return running;
}

size_t pool_lane_count(const struct destination *path)
{
    size_t count = 0;

    for (const struct link *link = list_first(&path->users); link;
         link = list_next(&path->users, link))
        count += CONTAINER_OF(link, struct pool_member, of_path)->head->ready.lanes.count;
    return count;
}
