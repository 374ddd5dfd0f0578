/* Whose turn it is: deficit round-robin among tenants, by weight; within a tenant the higher rank
 * first, and those of one rank in turn.
 *
 * Owns      its tenants, for as long as they have something that waits or are in debt; never what
 *           waits: a struct turn stands inside of it.
 * Promises  each tenant that has something gets its share, whatever the others have; whoever comes
 *           anew is next but for those that came just before. Choosing, joining, leaving: O(log n) in
 *           tenants, O(1) in what waits.
 *           Turns may stand in others: each tenant that has something below stands above for itself,
 *           with its weight and the highest of its ranks, whatever comes and leaves meanwhile.
 * Ignores   what waits, and the time. Pure.
 */
#ifndef SMTPD_DELIVER_TURNS_H
#define SMTPD_DELIVER_TURNS_H

#include "smtpd/base/list.h"
#include "smtpd/base/map.h"

#include <stdint.h>

struct turns_tenant;
struct turns_level;

/* In a round a tenant of the weight 1000 gets a deficit that is enough for one unit, one of the
 * weight 1 a thousandth of it. Rounds in which nobody can go are counted, not walked: `tenants` is
 * a heap by the round in which the deficit is enough again. So shares interleave; quanta of the
 * weight's size would let a weight of 1000 send 1000 in one go. */
struct turns {
    struct turns_tenant **tenants;
    size_t tenant_count;
    size_t capacity;
    struct map *by_name; /* from many tenants on */
    uint64_t round;      /* of the one that went last */
    uint64_t sequence;
    size_t count;       /* what waits */
    struct list places; /* struct turns_place: by which it stands in others */
};

struct turn { /* a zeroed one waits nowhere */
    struct link link;
    struct turns_level *level;
};

enum { TURNS_WEIGHT_MAX = 1000 };
struct turns_key {
    const char *tenant; /* NULL: one more tenant, without a name */
    unsigned weight;    /* 1 to TURNS_WEIGHT_MAX; that of the tenant from now on */
    int rank;
};

void turns_init(struct turns *turns);
void turns_fini(struct turns *turns); /* what waits is let go */
void turns_join(struct turns *turns, struct turn *turn, const struct turns_key *key);
void turns_leave(struct turns *turns,
                 struct turn *turn); /* one that waits nowhere is fine */
/* Whose turn it is now, until turns_pay(); NULL: nothing waits. */
struct turn *turns_next(struct turns *turns);
/* It went: its tenant has one unit less, and it stands behind the others of its rank. */
void turns_pay(struct turns *turns, struct turn *turn);

/* It waits, for this tenant and rank. */
bool turns_stands_as(const struct turn *turn, const struct turns_key *key);
/* Of its rank it is the next; one that waits nowhere is fine. */
void turns_put_first(struct turn *turn);

/* ---- turns in turns ---- */

struct turns_place { /* of one in another; a zeroed one stands nowhere */
    struct link of_below;
    struct turns *below;
    struct turns *above; /* NULL: it stands nowhere */
    struct list nodes;   /* one for each tenant that has something below */
    struct turns_node
        *granted; /* whose turn it was, for who cares; NULL again when that one goes */
};

struct turns_node {
    struct turn turn;
    struct turns_place *place;
    struct turns_tenant *tenant; /* below */
    struct link of_place;
    struct link of_tenant;
};

/* O(tenants that have something). */
void turns_stand(struct turns_place *place, struct turns *below, struct turns *above);
void turns_stand_no_more(struct turns_place *place); /* one that stands nowhere is fine */
const char *turns_tenant_name(const struct turns_tenant *tenant); /* NULL: it has none */
/* Of this tenant, the next; NULL: it has nothing. */
struct turn *turns_next_of(const struct turns_tenant *tenant);
/* It went, by a turn of its tenant elsewhere: it stands behind the others of its rank. */
void turns_went(struct turn *turn);
/* It was paid for, and did not go: the unit is given back, and it is the first of its rank. */
void turns_give_back(struct turns *turns, struct turn *turn);

typedef unsigned turns_weight_fn(const void *owner, const char *tenant);
void turns_reweigh(struct turns *turns, turns_weight_fn *weight_of, const void *owner);

#endif
