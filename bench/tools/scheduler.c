/* What it costs to choose the next message: whose turn it is at a destination, and the entry that is
 * taken off its domain queue for it (and put back, so that a run goes on for ever). Destinations come
 * by in a random order, as their connections end. One thread, no disk: what a choice adds to the loop.
 * At one destination again and again all is in the processor's cache: the work itself. At all in turn
 * little is: the rest is waiting for memory.
 *
 *   scheduler [ROUNDS [CHOICES]]
 *
 * At most a million domain queues, as in the relay: with more destinations each has fewer tenants. */
#include "turns.h"
#include "waiting.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <stdio.h>
#include <stdlib.h>

enum { QUEUES_MOST = 1000000, ENTRIES = 3, ROUNDS_MOST = 101 };

struct one_lane {
    struct turn turn;
    struct domain_queue *domain_queue;
    struct turns_key key;
};

struct shape {
    size_t destinations;
    size_t tenants; /* of each */
    struct turns *turns;
    struct one_lane *lanes;
    uint32_t *order;
    struct waiting *waiting;
    struct loop *loop;
    char (*names)[16];
};

static size_t lane_count(const struct shape *shape)
{
    return shape->destinations * shape->tenants;
}

static void add_lane(struct shape *shape, size_t destination, size_t tenant)
{
    struct one_lane *lane = &shape->lanes[destination * shape->tenants + tenant];
    char domain[32];
    struct waiting_key key = {domain, shape->names[tenant], (int8_t)(tenant % 3), NULL};

    (void)snprintf(domain, sizeof domain, "d%zu.test", destination);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        uint64_t id = (destination * shape->tenants + tenant) * ENTRIES + i + 1;

        waiting_add(shape->waiting, &key, &(struct queue_entry){.id = id, .arrival_s = 1},
                    false);
    }
    lane->domain_queue = waiting_find(shape->waiting, &key);
    lane->key =
        (struct turns_key){shape->names[tenant], 1 + (unsigned)(tenant % 10), key.priority};
    turns_join(&shape->turns[destination], &lane->turn, &lane->key);
}

static void build(struct shape *shape)
{
    shape->loop = loop_new();
    shape->waiting = waiting_new(shape->loop, NULL, QUEUES_MOST);
    shape->turns = NEW_ARRAY(struct turns, shape->destinations);
    shape->lanes = NEW_ARRAY(struct one_lane, lane_count(shape));
    shape->order = NEW_ARRAY(uint32_t, shape->destinations);
    shape->names = memory_new_array(shape->tenants, sizeof *shape->names);
    for (size_t i = 0; i < shape->tenants; i++)
        (void)snprintf(shape->names[i], sizeof shape->names[i], "tenant%zu", i);
    for (size_t i = 0; i < shape->destinations; i++) {
        turns_init(&shape->turns[i]);
        shape->order[i] = (uint32_t)i;
    }
    for (size_t i = shape->destinations; i > 1; i--) {
        size_t other = secure_random_below((uint32_t)i);
        uint32_t kept = shape->order[i - 1];

        shape->order[i - 1] = shape->order[other];
        shape->order[other] = kept;
    }
    for (size_t i = 0; i < shape->destinations; i++)
        for (size_t k = 0; k < shape->tenants; k++)
            add_lane(shape, i, k);
}

static void clear(struct shape *shape)
{
    for (size_t i = 0; i < shape->destinations; i++)
        turns_fini(&shape->turns[i]);
    waiting_free(shape->waiting);
    loop_free(shape->loop);
    memory_free(shape->turns);
    memory_free(shape->lanes);
    memory_free(shape->order);
    memory_free(shape->names);
}

/* ---- what is measured ---- */

typedef void step_fn(struct turns *turns);

static void choose(struct turns *turns)
{
    turns_pay(turns, turns_next(turns));
}

/* A slow trickle: the lane has nothing more, and comes back. */
static void choose_the_last(struct turns *turns)
{
    struct turn *turn = turns_next(turns);
    struct one_lane *lane = CONTAINER_OF(turn, struct one_lane, turn);

    turns_pay(turns, turn);
    turns_leave(turns, turn);
    turns_join(turns, turn, &lane->key);
}

static void choose_and_take(struct turns *turns)
{
    struct turn *turn = turns_next(turns);
    struct one_lane *lane = CONTAINER_OF(turn, struct one_lane, turn);
    struct queue_entry entry;

    turns_pay(turns, turn);
    if (!domain_queue_take(lane->domain_queue, &entry))
        abort();
    domain_queue_give_back(lane->domain_queue, &entry);
}

static double run(const struct shape *shape, size_t among, step_fn *step, size_t choices)
{
    int64_t started_us = loop_clock_us();
    size_t at = 0;

    for (size_t i = 0; i < choices; i++) {
        step(&shape->turns[shape->order[at]]);
        at = at + 1 < among ? at + 1 : 0;
    }
    return (double)(loop_clock_us() - started_us) * 1000 / (double)choices;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static void tell(const struct shape *shape, size_t among, step_fn *step, size_t rounds,
                 size_t choices)
{
    double ns[ROUNDS_MOST];

    (void)run(shape, among, step, choices / 4); /* warm */
    for (size_t i = 0; i < rounds; i++)
        ns[i] = run(shape, among, step, choices);
    qsort(ns, rounds, sizeof *ns, by_value);
    (void)printf(" %.0f (%.0f-%.0f) |", ns[rounds / 2], ns[0], ns[rounds - 1]);
    (void)fflush(stdout);
}

int main(int count, char **words)
{
    static const size_t destinations[] = {100, 10000, 100000};
    static const size_t tenants[] = {1, 1000};
    size_t rounds = count > 1 ? strtoul(words[1], NULL, 10) : 7;
    size_t choices = count > 2 ? strtoul(words[2], NULL, 10) : 1000000;

    if (rounds == 0 || rounds > ROUNDS_MOST || choices == 0) {
        (void)fprintf(stderr, "scheduler [ROUNDS [CHOICES]]: 1 to %d rounds\n",
                      (int)ROUNDS_MOST);
        return 2;
    }
    secure_init();
    (void)printf("| destinations | tenants at each | domain queues | a choice at one of "
                 "them, ns | at all "
                 "of them in turn, ns | its lane leaves and comes back, ns | its entry is "
                 "taken and given "
                 "back, ns |\n|---|---|---|---|---|---|---|\n");
    for (size_t t = 0; t < sizeof tenants / sizeof *tenants; t++)
        for (size_t d = 0; d < sizeof destinations / sizeof *destinations; d++) {
            size_t most = QUEUES_MOST / destinations[d];
            struct shape shape = {.destinations = destinations[d],
                                  .tenants = tenants[t] < most ? tenants[t] : most};

            build(&shape);
            (void)printf("| %zu | %zu | %zu |", shape.destinations, shape.tenants,
                         lane_count(&shape));
            tell(&shape, 1, choose, rounds, choices);
            tell(&shape, shape.destinations, choose, rounds, choices);
            tell(&shape, shape.destinations, choose_the_last, rounds, choices);
            tell(&shape, shape.destinations, choose_and_take, rounds, choices);
            (void)printf("\n");
            clear(&shape);
        }
    return 0;
}
