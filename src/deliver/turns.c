/* See turns.h. A tenant whose last one left stays in the heap until its turn would come: else it
 * would get a fresh turn by leaving and coming back, which is what a slow trickle does. */
#include "turns.h"

#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/memory.h"

#include <string.h>

/* Up to FEW tenants are looked for one by one: most destinations have no more. What waits are domain
 * queues, which have a limit; those in debt are fewer. */
enum { FEW = 8, TENANTS_MOST = 2 * LIMIT_DOMAIN_QUEUES };
static const uint64_t UNIT = UINT64_C(1) << 24;

struct turns_tenant {
    uint64_t round;    /* in which it may go */
    uint64_t sequence; /* first come, first served within a round */
    size_t at;         /* in the heap */
    unsigned weight;
    bool has_name;
    struct list levels; /* the highest first; empty: in debt only */
    char name[];
};

struct turns_level {
    struct link link;
    struct turns_tenant *tenant;
    struct list waiting; /* struct turn */
    int rank;
};

/* ---- the heap ---- */

static bool is_before(const struct turns_tenant *a, const struct turns_tenant *b)
{
    return a->round < b->round || (a->round == b->round && a->sequence < b->sequence);
}

static void place(struct turns *turns, size_t at, struct turns_tenant *tenant)
{
    turns->tenants[at] = tenant;
    tenant->at = at;
}

static void go_up(struct turns *turns, struct turns_tenant *tenant)
{
    size_t at = tenant->at;

    while (at > 0 && is_before(tenant, turns->tenants[(at - 1) / 2])) {
        place(turns, at, turns->tenants[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(turns, at, tenant);
}

static void go_down(struct turns *turns, struct turns_tenant *tenant)
{
    size_t at = tenant->at;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < turns->tenant_count &&
            is_before(turns->tenants[child + 1], turns->tenants[child]))
            child++;
        if (child >= turns->tenant_count || is_before(tenant, turns->tenants[child]))
            break;
        place(turns, at, turns->tenants[child]);
        at = child;
    }
    place(turns, at, tenant);
}

/* ---- tenants ---- */

static bool is_named(const struct turns_tenant *tenant, const char *name)
{
    return name ? tenant->has_name && strcmp(tenant->name, name) == 0 : !tenant->has_name;
}

/* None is another than one with an empty name. */
static struct slice key_of(const char *name)
{
    return name ? (struct slice){name, strlen(name) + 1} : SLICE_NONE;
}

static struct turns_tenant *find(const struct turns *turns, const char *name)
{
    if (turns->by_name)
        return map_get(turns->by_name, key_of(name));
    for (size_t i = 0; i < turns->tenant_count; i++)
        if (is_named(turns->tenants[i], name))
            return turns->tenants[i];
    return NULL;
}

static void note_name(struct turns *turns, struct turns_tenant *tenant)
{
    CHECK(map_set(turns->by_name, key_of(tenant->has_name ? tenant->name : NULL), tenant) ==
          RESULT_OK);
}

static void note_names(struct turns *turns)
{
    turns->by_name = map_new(TENANTS_MOST);
    for (size_t i = 0; i < turns->tenant_count; i++)
        note_name(turns, turns->tenants[i]);
}

static struct turns_tenant *add(struct turns *turns, const char *name)
{
    size_t bytes = name ? strlen(name) + 1 : 1;
    struct turns_tenant *tenant = memory_new(sizeof *tenant + bytes);

    if (turns->tenant_count == turns->capacity) {
        turns->capacity = turns->capacity ? turns->capacity * 2 : 2;
        turns->tenants =
            memory_resize(turns->tenants, turns->capacity * sizeof(struct turns_tenant *));
    }
    tenant->has_name = name != NULL;
    if (name)
        memcpy(tenant->name, name, bytes);
    list_init(&tenant->levels);
    tenant->round = turns->round;
    tenant->sequence = turns->sequence++;
    tenant->at = turns->tenant_count++;
    go_up(turns, tenant);
    if (turns->by_name)
        note_name(turns, tenant);
    else if (turns->tenant_count > FEW)
        note_names(turns);
    return tenant;
}

/* Nobody is left: an idle destination holds no memory here. */
static void reset(struct turns *turns)
{
    map_free(turns->by_name);
    memory_free(turns->tenants);
    *turns = (struct turns){0};
}

/* The first of the heap. */
static void drop_first(struct turns *turns)
{
    struct turns_tenant *tenant = turns->tenants[0];
    struct turns_tenant *last = turns->tenants[--turns->tenant_count];

    if (turns->by_name)
        (void)map_remove(turns->by_name, key_of(tenant->has_name ? tenant->name : NULL));
    if (last != tenant) {
        last->at = 0;
        go_down(turns, last);
    }
    memory_free(tenant);
    if (turns->tenant_count == 0)
        reset(turns);
}

/* ---- levels: there are as many as priorities, which bounds the walk ---- */

static struct turns_level *level_of(struct turns_tenant *tenant, int rank)
{
    struct turns_level *level;
    struct link *link = list_first(&tenant->levels);

    for (; link; link = list_next(&tenant->levels, link)) {
        level = CONTAINER_OF(link, struct turns_level, link);
        if (level->rank == rank)
            return level;
        if (level->rank < rank)
            break;
    }
    level = NEW(struct turns_level);
    level->tenant = tenant;
    level->rank = rank;
    list_init(&level->waiting);
    list_insert_before(&tenant->levels, link ? link : &tenant->levels.head, &level->link);
    return level;
}

static void free_if_empty(struct turns_level *level)
{
    if (level->waiting.count > 0)
        return;
    list_remove(&level->tenant->levels, &level->link);
    memory_free(level);
}

/* ---- the door ---- */

void turns_init(struct turns *turns)
{
    *turns = (struct turns){0};
}

static void let_go(struct turns_tenant *tenant)
{
    struct link *link;

    while ((link = list_first(&tenant->levels))) {
        struct turns_level *level = CONTAINER_OF(link, struct turns_level, link);
        struct link *waiting;

        while ((waiting = list_pop_front(&level->waiting)))
            CONTAINER_OF(waiting, struct turn, link)->level = NULL;
        free_if_empty(level);
    }
}

void turns_fini(struct turns *turns)
{
    for (size_t i = 0; i < turns->tenant_count; i++) {
        let_go(turns->tenants[i]);
        memory_free(turns->tenants[i]);
    }
    reset(turns);
}

void turns_join(struct turns *turns, struct turn *turn, const struct turns_key *key)
{
    struct turns_tenant *tenant = find(turns, key->tenant);

    CHECK(!turn->level && key->weight >= 1 && key->weight <= TURNS_WEIGHT_MAX);
    if (!tenant)
        tenant = add(turns, key->tenant);
    tenant->weight = key->weight;
    turn->level = level_of(tenant, key->rank);
    list_push_back(&turn->level->waiting, &turn->link);
    turns->count++;
}

void turns_leave(struct turns *turns, struct turn *turn)
{
    if (!turn->level)
        return;
    list_remove(&turn->level->waiting, &turn->link);
    free_if_empty(turn->level);
    turn->level = NULL;
    turns->count--;
}

struct turn *turns_next(struct turns *turns)
{
    while (turns->tenant_count > 0) {
        struct link *link = list_first(&turns->tenants[0]->levels);
        struct turns_level *level;

        if (link) {
            level = CONTAINER_OF(link, struct turns_level, link);
            return CONTAINER_OF(list_first(&level->waiting), struct turn, link);
        }
        drop_first(turns); /* its debt is over */
    }
    return NULL;
}

void turns_pay(struct turns *turns, struct turn *turn)
{
    struct turns_level *level = turn->level;
    struct turns_tenant *tenant = level->tenant;

    turns->round = tenant->round;
    tenant->round += UNIT / tenant->weight;
    tenant->sequence = turns->sequence++;
    go_down(turns, tenant);
    list_remove(&level->waiting, &turn->link);
    list_push_back(&level->waiting, &turn->link);
}

void turns_reweigh(struct turns *turns, turns_weight_fn *weight_of, const void *owner)
{
    for (size_t i = 0; i < turns->tenant_count; i++) {
        struct turns_tenant *tenant = turns->tenants[i];

        tenant->weight = weight_of(owner, tenant->has_name ? tenant->name : NULL);
    }
}
