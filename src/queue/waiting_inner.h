/* What waiting.c and waiting_lease.c share. */
#ifndef SMTPD_QUEUE_WAITING_INNER_H
#define SMTPD_QUEUE_WAITING_INNER_H

#include "heap.h"
#include "smtpd/base/map.h"
#include "waiting.h"

struct domain_queue {
    struct waiting *waiting;
    struct heap heap;
    size_t position;        /* in waiting->all */
    size_t timer_index;     /* in waiting->timers, plus one; 0: not there */
    int64_t wake_ms;        /* our clock; while it stands in the timer heap */
    int64_t not_before_ms;  /* our clock */
    int64_t empty_since_ms; /* loop clock */
    size_t scan;            /* where the search for expired ones goes on */
    size_t late_scan;       /* and that for late ones */
    uint32_t oldest_s;      /* no entry arrived before; may be too early */
    bool is_oldest_exact;
    bool is_held;  /* by the watcher */
    uint32_t pins; /* leased or parked groups: it must stay */
    int8_t priority;
    uint8_t reason;     /* the watcher's */
    uint32_t held;      /* entries that an operator holds */
    const char *tenant; /* or NULL */
    const char *pool;   /* or NULL */
    void *attachment;
    struct domain_queue *lane_next; /* a ring of those of this lane */
    struct domain_queue *lane_before;
    size_t key_length;
    char key[]; /* its lane, NUL, and the rest: see waiting.c */
};

struct waiting {
    struct loop *loop;
    struct queue *queue;
    struct map *by_key;
    struct map *by_lane; /* one of each ring */
    struct domain_queue **all;
    size_t count;
    size_t capacity;
    size_t most_queues;
    size_t most_leases;
    struct domain_queue **timers;
    size_t timer_count;
    struct timer timer; /* for the earliest of them */
    struct timer sweep;
    size_t sweep_at;
    uint32_t sweep_oldest_s;
    uint32_t oldest_s; /* as of the last sweep */

    queue_due_fn *on_due;
    queue_due_fn *on_gone;
    void *owner;
    int64_t expire_ms;

    /* Our clock is the wall's without its steps. */
    uint32_t steps;
    int64_t offset_ms;
    int64_t skew_ms;
    int64_t stepped_ms; /* loop clock: start or last step */

    uint64_t entry_count; /* the overflow and held ones too */
    uint64_t held_count;
    uint64_t by_reason[QUEUE_REASONS];
    struct map *leased;
    struct map *changing;
    struct heap overflow;
    int64_t overflow_ms; /* loop clock: when it was looked at */
    loop_fn *on_overflow;
    void *overflow_owner;
};

struct leased {
    struct entry entry; /* next_ms: our clock */
    struct domain_queue *domain_queue;
};

enum { WAITING_KEY_BYTES = 12 };
struct waiting_id {
    char text[WAITING_KEY_BYTES];
};
struct slice waiting_id_slice(uint64_t id, uint32_t group, struct waiting_id *memory);

struct queue_entry waiting_outer_entry(struct waiting *waiting, const struct entry *entry);
int64_t waiting_now(struct waiting *waiting);
int64_t waiting_from_wall(struct waiting *waiting, int64_t wall_ms);
int64_t waiting_to_wall(struct waiting *waiting, int64_t our_ms);
/* An entry came into the heap of its domain queue, or left it. */
void domain_queue_count_in(struct domain_queue *domain_queue, const struct entry *entry);
void domain_queue_count_out(struct domain_queue *domain_queue, const struct entry *entry);
/* Entries were added or moved: tells the timer. */
void domain_queue_arm(struct domain_queue *domain_queue);
void domain_queue_push(struct domain_queue *domain_queue, const struct entry *entry);
/* Takes the entry at `at` into the set of leased ones, which is not full; false: it is parked for a
 * change. */
bool waiting_lease(struct domain_queue *domain_queue, size_t at,
                   struct queue_entry *leased);

#endif
