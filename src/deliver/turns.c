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
    struct list nodes;  /* where it stands above: one for each place */
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
    list_init(&tenant->nodes);
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
    turns->by_name = NULL;
    turns->tenants = NULL;
    turns->tenant_count = turns->capacity = turns->count = 0;
    turns->round = turns->sequence = 0;
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

static struct turns_tenant *enter(struct turns *turns, struct turn *turn,
                                  const struct turns_key *key)
{
    struct turns_tenant *tenant = find(turns, key->tenant);

    CHECK(!turn->level && key->weight >= 1 && key->weight <= TURNS_WEIGHT_MAX);
    if (!tenant)
        tenant = add(turns, key->tenant);
    tenant->weight = key->weight;
    turn->level = level_of(tenant, key->rank);
    list_push_back(&turn->level->waiting, &turn->link);
    turns->count++;
    return tenant;
}

static void go_out(struct turns *turns, struct turn *turn)
{
    list_remove(&turn->level->waiting, &turn->link);
    free_if_empty(turn->level);
    turn->level = NULL;
    turns->count--;
}

/* ---- where it stands above: there are two levels, no more ---- */

static int highest(const struct turns_tenant *tenant)
{
    return CONTAINER_OF(list_first(&tenant->levels), struct turns_level, link)->rank;
}

static void join_above(struct turns_node *node)
{
    const struct turns_tenant *tenant = node->tenant;

    (void)enter(
        node->place->above, &node->turn,
        &(struct turns_key){turns_tenant_name(tenant), tenant->weight, highest(tenant)});
}

static void add_node(struct turns_place *place, struct turns_tenant *tenant)
{
    struct turns_node *node = NEW(struct turns_node);

    node->place = place;
    node->tenant = tenant;
    list_push_back(&place->nodes, &node->of_place);
    list_push_back(&tenant->nodes, &node->of_tenant);
    join_above(node);
}

static void drop_node(struct turns_node *node)
{
    if (node->turn.level)
        go_out(node->place->above, &node->turn);
    if (node->place->granted == node)
        node->place->granted = NULL;
    list_remove(&node->place->nodes, &node->of_place);
    list_remove(&node->tenant->nodes, &node->of_tenant);
    memory_free(node);
}

static void drop_nodes(struct turns_tenant *tenant)
{
    struct link *link;

    while ((link = list_first(&tenant->nodes)))
        drop_node(CONTAINER_OF(link, struct turns_node, of_tenant));
}

static void add_nodes(struct turns *turns, struct turns_tenant *tenant)
{
    const struct list *places = &turns->places;

    for (struct link *link = list_first(places); link; link = list_next(places, link))
        add_node(CONTAINER_OF(link, struct turns_place, of_below), tenant);
}

static void set_rank(struct turns_tenant *tenant)
{
    const struct list *nodes = &tenant->nodes;
    int rank = highest(tenant);

    for (struct link *link = list_first(nodes); link; link = list_next(nodes, link)) {
        struct turns_node *node = CONTAINER_OF(link, struct turns_node, of_tenant);

        if (node->turn.level->rank == rank)
            return; /* of the others it is the same */
        go_out(node->place->above, &node->turn);
        join_above(node);
    }
}

/* Something of it came or left. */
static void tell_above(struct turns *turns, struct turns_tenant *tenant)
{
    if (turns->places.count == 0)
        return;
    if (tenant->levels.count == 0)
        drop_nodes(tenant);
    else if (tenant->nodes.count == 0)
        add_nodes(turns, tenant);
    else
        set_rank(tenant);
}

void turns_stand(struct turns_place *place, struct turns *below, struct turns *above)
{
    CHECK(!place->above && above->places.count == 0);
    place->below = below;
    place->above = above;
    list_init(&place->nodes);
    list_push_back(&below->places, &place->of_below);
    for (size_t i = 0; i < below->tenant_count; i++)
        if (below->tenants[i]->levels.count > 0)
            add_node(place, below->tenants[i]);
}

void turns_stand_no_more(struct turns_place *place)
{
    struct link *link;

    if (!place->above)
        return;
    while ((link = list_first(&place->nodes)))
        drop_node(CONTAINER_OF(link, struct turns_node, of_place));
    list_remove(&place->below->places, &place->of_below);
    place->above = NULL;
}

const char *turns_tenant_name(const struct turns_tenant *tenant)
{
    return tenant->has_name ? tenant->name : NULL;
}

static struct turn *first_of(const struct turns_level *level)
{
    return CONTAINER_OF(list_first(&level->waiting), struct turn, link);
}

struct turn *turns_next_of(const struct turns_tenant *tenant)
{
    struct link *link = list_first(&tenant->levels);

    return link ? first_of(CONTAINER_OF(link, struct turns_level, link)) : NULL;
}

/* ---- the door ---- */

void turns_init(struct turns *turns)
{
    *turns = (struct turns){0};
    list_init(&turns->places);
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
    struct link *place;

    while ((place = list_first(&turns->places)))
        turns_stand_no_more(CONTAINER_OF(place, struct turns_place, of_below));
    for (size_t i = 0; i < turns->tenant_count; i++) {
        let_go(turns->tenants[i]);
        memory_free(turns->tenants[i]);
    }
    reset(turns);
}

void turns_join(struct turns *turns, struct turn *turn, const struct turns_key *key)
{
    tell_above(turns, enter(turns, turn, key));
}

void turns_leave(struct turns *turns, struct turn *turn)
{
    struct turns_tenant *tenant;

    if (!turn->level)
        return;
    tenant = turn->level->tenant;
    go_out(turns, turn);
    tell_above(turns, tenant);
}

struct turn *turns_next(struct turns *turns)
{
    while (turns->tenant_count > 0) {
        struct turn *turn = turns_next_of(turns->tenants[0]);

        if (turn)
            return turn;
        drop_first(turns); /* its debt is over */
    }
    return NULL;
}

void turns_went(struct turn *turn)
{
    struct turns_level *level = turn->level;

    list_remove(&level->waiting, &turn->link);
    list_push_back(&level->waiting, &turn->link);
}

bool turns_stands_as(const struct turn *turn, const struct turns_key *key)
{
    const char *name = turn->level ? turns_tenant_name(turn->level->tenant) : NULL;

    if (!turn->level || turn->level->rank != key->rank)
        return false;
    return name && key->tenant ? strcmp(name, key->tenant) == 0 : name == key->tenant;
}

void turns_put_first(struct turn *turn)
{
    struct turns_level *level = turn->level;

    if (!level)
        return;
    list_remove(&level->waiting, &turn->link);
    list_push_front(&level->waiting, &turn->link);
}

void turns_pay(struct turns *turns, struct turn *turn)
{
    struct turns_tenant *tenant = turn->level->tenant;

    turns->round = tenant->round;
    tenant->round += UNIT / tenant->weight;
    tenant->sequence = turns->sequence++;
    go_down(turns, tenant);
    turns_went(turn);
}

void turns_give_back(struct turns *turns, struct turn *turn)
{
    struct turns_tenant *tenant = turn->level->tenant;
    uint64_t unit = UNIT / tenant->weight;

    tenant->round -= tenant->round < unit ? tenant->round : unit;
    tenant->sequence = 0;
    go_up(turns, tenant);
    turns_put_first(turn);
}

void turns_reweigh(struct turns *turns, turns_weight_fn *weight_of, const void *owner)
{
    for (size_t i = 0; i < turns->tenant_count; i++) {
        struct turns_tenant *tenant = turns->tenants[i];

        tenant->weight = weight_of(owner, tenant->has_name ? tenant->name : NULL);
    }
}
