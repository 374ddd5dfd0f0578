/* Whose limits: one pace for all destinations of a scope. The line in front of it is scope_line.c. */
#include "scope.h"

#include "clock.h"
#include "destinations_act.h"
#include "pool.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum {
    KEY_MAX = SCOPE_KEY_MAX,
    SCOPES_MAX = 2 * LIMIT_DESTINATIONS, /* those in use are fewer */
    UNUSED_MAX = LIMIT_DESTINATIONS / 2,
    FORGET_MS = 3600000,
    FORGET_LOOK = 4
};

struct scopes {
    struct deliver *deliver;
    struct map *map;
    struct list unused;   /* the longest unused first */
    int64_t forgotten_ms; /* since when it is known who sent what: see scope_new */
    struct deliver_pace_changes counts;
    struct keeper *keeper;    /* NULL: nothing is kept */
    int64_t bounces_until_ms; /* wall: the last bounce of any scope ends */
};

/* ---- names ---- */

/* "*" matches all hosts, so it says nothing about who they belong to. */
static bool matches_host(const struct destination_rule *rule, const struct plan *plan)
{
    for (size_t i = 0; i < rule->match_count; i++)
        for (size_t k = 0; k < plan->host_count; k++)
            if (strcmp(rule->match[i], "*") != 0 &&
                domain_matches(rule->match[i], plan->hosts[k].name))
                return true;
    return false;
}

void scope_key(const struct plan_settings *settings, const struct plan *plan,
               const char *destination_key, struct bytes *key)
{
    const struct destination_rule *rule =
        plan->rule >= 0 && (size_t)plan->rule < settings->values.rule_count
            ? &settings->values.rules[plan->rule]
            : NULL;
    struct slice hosts = slice_of(destination_key);
    enum result added;

    if (rule && !plan->is_route && matches_host(rule, plan)) {
        added = bytes_format(key, "rule:%s", rule->name);
    } else {
        /* The number of the block moves when the file is edited; its name does not. */
        if (rule)
            hosts = slice_part(hosts, 0, slice_find(hosts, '#'));
        added = bytes_add(key, hosts);
        if (added == RESULT_OK && rule)
            added = bytes_format(key, "#%s", rule->name);
    }
    CHECK(added == RESULT_OK);
}

/* ---- life ---- */

static void scope_free(struct scope *scope)
{
    struct scopes *scopes = scope->deliver->scopes;

    list_remove(&scopes->unused, &scope->unused);
    timer_cancel(&scope->timer);
    turns_fini(&scope->line);
    if (scopes->keeper)
        keeper_forget(scopes->keeper, &scope->kept);
    (void)map_remove(scopes->map, (struct slice){scope->key, scope->key_length});
    memory_free(scope->key);
    memory_free(scope);
}

void scopes_free(struct scopes *scopes)
{
    struct link *link;

    keeper_free(scopes->keeper);
    scopes->keeper = NULL;
    while ((link = list_first(&scopes->unused)))
        scope_free(CONTAINER_OF(link, struct scope, unused));
    CHECK(map_count(scopes->map) == 0);
    map_free(scopes->map);
    memory_free(scopes);
}

const struct deliver_pace_changes *scopes_counts(const struct scopes *scopes)
{
    return &scopes->counts;
}

size_t scopes_count(const struct scopes *scopes)
{
    return map_count(scopes->map);
}

void scopes_move_clock(struct scopes *scopes, int64_t by_ms)
{
    struct scope *scope;
    size_t position = 0;

    clock_move(&scopes->bounces_until_ms, by_ms);
    while ((scope = map_next(scopes->map, &position, NULL)))
        pace_move_clock(&scope->pace, by_ms);
}

struct pace_time scope_time(const struct scope *scope)
{
    return (struct pace_time){loop_now_ms(scope->deliver->rooms.loop),
                              deliver_now(scope->deliver)};
}

static bool is_forgettable(const struct scopes *scopes, const struct scope *scope)
{
    if (scopes->unused.count > UNUSED_MAX)
        return true;
    return pace_is_plain(&scope->pace) &&
           loop_now_ms(scopes->deliver->rooms.loop) - scope->used_ms > FORGET_MS;
}

/* What a forgotten one had sent is not known any more. */
static void forget_some(struct scopes *scopes)
{
    struct link *link;

    for (int i = 0; i < FORGET_LOOK && (link = list_first(&scopes->unused)); i++) {
        struct scope *scope = CONTAINER_OF(link, struct scope, unused);

        if (!is_forgettable(scopes, scope))
            return;
        if (bucket_is_limited(&scope->pace.messages) ||
            bucket_is_limited(&scope->pace.new_connections))
            scopes->forgotten_ms = loop_now_ms(scopes->deliver->rooms.loop);
        scope_free(scope);
    }
}

struct scope *scope_ref(struct scope *scope)
{
    if (scope->references++ == 0)
        list_remove(&scope->deliver->scopes->unused, &scope->unused);
    return scope;
}

void scope_unref(struct scope *scope)
{
    if (!scope || --scope->references > 0)
        return;
    scope->used_ms = loop_now_ms(scope->deliver->rooms.loop);
    timer_cancel(&scope->timer);
    turns_fini(&scope->line); /* nobody stands, and what somebody owes is forgotten */
    list_push_back(&scope->deliver->scopes->unused, &scope->unused);
}

static void on_time(void *owner)
{
    scope_serve(owner);
}

static void note_bounce(struct scopes *scopes, const struct pace *pace)
{
    if (pace->bounce.until_ms > scopes->bounces_until_ms)
        scopes->bounces_until_ms = pace->bounce.until_ms;
}

static void on_changed(void *owner)
{
    struct scope *scope = owner;
    struct scopes *scopes = scope->deliver->scopes;

    note_bounce(scopes, &scope->pace);
    if (scopes->keeper)
        keeper_note(scopes->keeper, &scope->kept);
}

/* `key`: the name of the scope, NUL, the source. */
static struct scope *scope_new(struct scopes *scopes, struct slice key)
{
    struct deliver *deliver = scopes->deliver;
    struct scope *scope = NEW(struct scope);
    struct pace_time time;

    scope->deliver = deliver;
    if (map_set(scopes->map, key, scope) != RESULT_OK) {
        memory_free(scope);
        return NULL;
    }
    scope->key = memory_copy(key.data, key.length);
    scope->key_length = key.length;
    turns_init(&scope->line);
    list_init(&scope->able);
    list_init(&scope->resting);
    timer_init(&scope->timer, deliver->rooms.loop, on_time, scope);
    time = scope_time(scope);
    pace_init(&scope->pace, scope->key, scope->key + strlen(scope->key) + 1,
              &scopes->counts, &time);
    scope->kept.pace = &scope->pace;
    scope->pace.on_changed = on_changed;
    scope->pace.owner = scope;
    list_push_back(&scopes->unused, &scope->unused);
    return scope;
}

/* With both NULs: the source is a text too. */
static void add_source(struct bytes *key, const char *source)
{
    enum result added = bytes_add(key, (struct slice){"", 1});

    if (added == RESULT_OK)
        added = bytes_add(key, (struct slice){source, strlen(source) + 1});
    CHECK(added == RESULT_OK);
}

static void restore(void *owner, const struct pace *kept)
{
    struct scopes *scopes = owner;
    struct scope *scope = NULL;
    struct bytes key;

    bytes_init(&key, (size_t)2 * KEY_MAX);
    if (bytes_add_text(&key, kept->scope) == RESULT_OK) {
        add_source(&key, kept->source);
        if (!map_get(scopes->map, bytes_view(&key)))
            scope = scope_new(scopes, bytes_view(&key));
    }
    bytes_fini(&key);
    if (!scope)
        return;
    pace_restore(&scope->pace, kept);
    note_bounce(scopes, &scope->pace);
    keeper_add(scopes->keeper, &scope->kept);
}

struct scopes *scopes_new(struct deliver *deliver)
{
    struct scopes *scopes = NEW(struct scopes);

    scopes->deliver = deliver;
    scopes->map = map_new(SCOPES_MAX);
    list_init(&scopes->unused);
    scopes->forgotten_ms = loop_now_ms(deliver->rooms.loop);
    deliver->scopes = scopes;
    if (deliver->rooms.paces_path) {
        scopes->keeper = keeper_new(deliver->rooms.loop, deliver->rooms.offload,
                                    deliver->rooms.paces_path);
        keeper_load(scopes->keeper, restore, scopes);
    }
    return scopes;
}

static void apply(struct scope *scope, const struct destination *destination)
{
    const struct destination_settings *settings = destination_settings(destination);
    struct pace_limits limits = {settings->connections, settings->message_rate,
                                 settings->connection_rate};
    struct pace_time time = scope_time(scope);
    /* Nothing of this scope was sent since then; without settings before, nothing at all. */
    int64_t since_ms =
        scope->generation > 0 ? time.now_ms : scope->deliver->scopes->forgotten_ms;

    pace_set_limits(&scope->pace, &limits, since_ms, &time);
    scope->generation = destination->deliver->generation;
}

struct scope *scope_find(const struct deliver *deliver, const struct plan *plan,
                         struct slice destination_key, const char *source)
{
    struct scope *scope;
    struct bytes key;
    char *text = slice_to_text(destination_key);

    bytes_init(&key, (size_t)2 * KEY_MAX);
    scope_key(deliver->settings, plan, text, &key);
    add_source(&key, source);
    scope = map_get(deliver->scopes->map, bytes_view(&key));
    bytes_fini(&key);
    memory_free(text);
    return scope;
}

static struct scope *find(struct destination *destination)
{
    struct deliver *deliver = destination->deliver;
    struct scopes *scopes = deliver->scopes;
    struct scope *scope;
    struct bytes key;

    bytes_init(&key, (size_t)2 * KEY_MAX);
    scope_key(deliver->settings, &destination->plan, destination->key, &key);
    add_source(&key, destination->source ? destination->source->name : "");
    scope = map_get(scopes->map, bytes_view(&key));
    if (!scope) {
        forget_some(scopes);
        scope = scope_new(scopes, bytes_view(&key));
    }
    bytes_fini(&key);
    return scope;
}

struct scope *scope_of(struct destination *destination)
{
    struct scope *scope = destination->scope;

    if (destination->kind != PLAN_HOSTS || destination->pool)
        return NULL; /* of a head its paths have one each */
    if (scope && scope->generation == destination->deliver->generation)
        return scope;
    scope = find(destination);
    if (scope && scope != destination->scope) {
        (void)scope_ref(scope);
        scope_forget(destination);
        destination->scope = scope;
    }
    if (scope && scope->generation != destination->deliver->generation)
        apply(scope, destination);
    return scope;
}

/* ---- suspension ---- */

int64_t scope_suspended_until(struct destination *destination)
{
    struct scope *scope = scope_of(destination);
    int64_t until_ms;

    if (!scope || scope->pace.suspended_until_ms == 0)
        return 0;
    return scope_look(scope, destination, &until_ms) == PACE_SUSPENDED
               ? scope->pace.suspended_until_ms
               : 0;
}

void scope_resume(struct scope *scope, const struct pace_cause *cause)
{
    struct pace_time time = scope_time(scope);

    if (scope->pace.suspended_until_ms == 0)
        return;
    pace_resume(&scope->pace, cause, &time);
    scope_wake(scope);
    act_wake_scope(scope->deliver, scope->key); /* lanes that rest for it */
}

void scope_resume_all(struct scope *scope, const struct pace_cause *cause)
{
    struct pace_time time = scope_time(scope);

    pace_bounce_no_more(&scope->pace, cause, &time);
    scope_resume(scope, cause);
}

/* "HOSTS" and "HOSTS#BLOCK" are of those hosts, "rule:BLOCK" and "HOSTS#BLOCK" of that block. */
static bool has_name(const struct scope *scope, const char *name)
{
    static const char rule[] = "rule:";
    size_t length = strlen(name);
    const char *block = strchr(scope->key, '#');

    if (strcmp(scope->key, name) == 0)
        return true;
    if (!block)
        return false;
    if (strncmp(name, rule, sizeof rule - 1) == 0)
        return strcmp(block + 1, name + sizeof rule - 1) == 0;
    return (size_t)(block - scope->key) == length && strncmp(scope->key, name, length) == 0;
}

void scopes_resume(struct scopes *scopes, const char *name, const struct pace_cause *cause)
{
    struct scope *scope;
    size_t position = 0;

    while ((scope = map_next(scopes->map, &position, NULL)))
        if (has_name(scope, name))
            scope_resume_all(scope, cause);
}

/* ---- a queue that is bounced ---- */

static bool bounces(struct scope *scope, struct lease *lease)
{
    struct pace_time time;

    if (!scope)
        return false;
    time = scope_time(scope);
    if (!pace_take_bounce(&scope->pace, lease->envelope.arrival_ms, &time))
        return false;
    settle_decided(scope->deliver, lease,
                   &(struct decision){
                       .code = 550, .status = "5.7.1", .text = scope->pace.bounce.text});
    return true;
}

/* What another process began holds for the first that is read of a destination too, and for a source
 * that no mail went by. */
struct scope *scope_of_member(const struct destination *head,
                              const struct pool_member *member)
{
    if (member->path)
        return scope_of(member->path);
    return scope_find(head->deliver, &head->plan, slice_of(head->key),
                      member->source->name);
}

bool scope_bounces(struct destination *destination, struct lease *lease)
{
    const struct deliver *deliver = destination->deliver;

    if (deliver->scopes->bounces_until_ms <= deliver_now(deliver))
        return false; /* nothing does */
    for (size_t i = 0; i < destination->member_count; i++)
        if (bounces(scope_of_member(destination, &destination->members[i]), lease))
            return true;
    return bounces(scope_of(destination), lease);
}

/* ---- why ---- */

static bool why_of(const struct destination *destination, struct why *why)
{
    struct scope *scope = destination->scope;
    struct pace *pace = scope ? &scope->pace : NULL;
    int64_t until_ms = 0;
    enum pace_hold hold = scope ? scope_look(scope, destination, &until_ms) : PACE_GOES;
    struct pace_time time;
    char rate[QUOTA_TEXT] = "";

    if (hold == PACE_GOES || hold == PACE_CONNECTIONS)
        return false;
    time = scope_time(scope);
    why->until_ms = time.wall_ms + until_ms - time.now_ms;
    if (hold == PACE_SUSPENDED) {
        why->kind = WHY_SUSPENDED;
        (void)snprintf(why->text, sizeof why->text, "suspended: %s", pace->suspension);
        return true;
    }
    why->kind = WHY_RATE;
    quota_print(
        hold == PACE_MESSAGES ? &pace->messages.quota : &pace->new_connections.quota, rate);
    (void)snprintf(why->text, sizeof why->text,
                   hold == PACE_MESSAGES ? "the destination takes %s messages%s%s"
                                         : "the destination takes %s connections%s%s",
                   rate, pace->permille < BUCKET_FULL_RATE ? ", slowed: " : "",
                   pace->permille < BUCKET_FULL_RATE ? pace->slowness : "");
    return true;
}

/* By all of its sources, then until the first of them goes on. */
bool scope_why(const struct destination *destination, struct why *why)
{
    struct why first = {.until_ms = INT64_MAX};

    if (!destination->pool)
        return why_of(destination, why);
    for (size_t i = 0; i < destination->member_count; i++) {
        struct why one = *why;

        if (!destination->members[i].path || !why_of(destination->members[i].path, &one))
            return false;
        if (one.until_ms < first.until_ms)
            first = one;
    }
    if (first.until_ms == INT64_MAX)
        return false;
    *why = first;
    return true;
}
