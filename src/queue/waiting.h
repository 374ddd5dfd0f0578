/* The index in memory: domain queues, what waits in them, what is leased (docs/queue.md).
 *
 * Owns      the domain queues and their heaps of 24-byte entries, the timer heap of domain
 *           queues, the set of leased groups, the list of what does not fit (overflow).
 * Promises  on_due and on_gone run from the loop, never inside another call. Waits keep
 *           their length when the clock steps. Nothing expires untried (G6).
 * Ignores   the disk, records, leases' contents.
 *
 * The functions domain_queue_*() of the door stand here.
 */
#ifndef SMTPD_QUEUE_WAITING_H
#define SMTPD_QUEUE_WAITING_H

#include "smtpd/loop/loop.h"
#include "smtpd/queue/queue.h"

struct waiting;

struct waiting_key {
    const char *lane;
    const char *tenant; /* or NULL */
    int8_t priority;
    const char *pool; /* or NULL */
};

struct waiting *waiting_new(struct loop *loop, struct queue *queue, size_t most_queues);
void waiting_free(struct waiting *waiting);
void waiting_watch(struct waiting *waiting, queue_due_fn *on_due, queue_due_fn *on_gone,
                   void *owner);
void waiting_set_expire(struct waiting *waiting, int64_t expire_ms);
struct queue *domain_queue_owner(const struct domain_queue *domain_queue);

/* Puts an entry into its domain queue. `may_expire`: it came, or was tried, in this
 * process. Above the ceiling of domain queues it goes to the overflow. */
void waiting_add(struct waiting *waiting, const struct waiting_key *key,
                 const struct queue_entry *entry, bool may_expire);
/* Lives as long as the domain queue. */
struct waiting_key waiting_key_of(const struct domain_queue *domain_queue);
struct domain_queue *waiting_find(struct waiting *waiting, const struct waiting_key *key);
/* Any tenant, any priority, any pool. */
struct domain_queue *waiting_find_lane(struct waiting *waiting, const char *lane);
struct domain_queue *waiting_next(struct waiting *waiting, size_t *position);
size_t waiting_queue_count(const struct waiting *waiting);

/* Overflow: up to `most` entries leave it, oldest first, when domain queues are free again;
 * the caller reads their records and adds them anew. */
size_t waiting_overflow_take(struct waiting *waiting, struct queue_entry *entries,
                             size_t most);
/* One whose record could not be read now goes back, until its `next_attempt_ms`. */
void waiting_overflow_put(struct waiting *waiting, const struct queue_entry *entry);
/* Runs, from the loop, when the overflow is worth a look. */
void waiting_on_overflow(struct waiting *waiting, loop_fn *fn, void *owner);

/* ---- leased ---- */

/* Nothing more can be leased, until something that is ends. */
bool waiting_is_full(const struct waiting *waiting);
bool waiting_is_leased(const struct waiting *waiting, uint64_t id, uint32_t group);
/* Was it leased (or did it come) before, in this process and since the last step of the
 * clock? */
bool waiting_was_tried(const struct waiting *waiting, uint64_t id, uint32_t group);
/* It ended. `again` NULL: the group is settled; else it waits again, from there. */
void waiting_end_lease(struct domain_queue *domain_queue, uint64_t id, uint32_t group,
                       const struct queue_entry *again);
/* It ended without an attempt, and waits again: untried if it was so before. */
void waiting_end_untried(struct domain_queue *domain_queue, uint64_t id, uint32_t group,
                         const struct queue_entry *again);

/* ---- changes by operators: entries that may not be leased meanwhile ---- */

struct waiting_change {
    uint64_t id;
    uint32_t group;
    bool is_parked; /* taken while the change was written; what follows says what */
    uint32_t arrival_s;
    int64_t next_ms; /* of the index's own clock: the wall's may step meanwhile */
    struct domain_queue *domain_queue;
    bool may_expire;
    bool is_late_judged;
    bool is_held;
    int64_t moved_ms; /* wall; WAITING_MOVED and leases: when it is due from now on */
    bool moves_held;  /* and whether a hold is the reason */
    bool is_leased;   /* waiting_change_lease() found it */
};
/* false: leased now, or another change holds it. */
bool waiting_change_begin(struct waiting *waiting, struct waiting_change *change);
enum waiting_change_end {
    WAITING_UNCHANGED,
    WAITING_REMOVED,
    WAITING_RETRIED,
    WAITING_MOVED
};
/* Of one domain queue (NULL: not known in memory), all with the same end. */
struct waiting_changes {
    struct waiting_change *const *list;
    size_t count;
    struct domain_queue *domain_queue;
};
/* `next_ms` (wall) is for WAITING_RETRIED. */
void waiting_change_end(struct waiting *waiting, const struct waiting_changes *changes,
                        enum waiting_change_end end, int64_t next_ms);

/* Instead of an end: they are leased from now on, due at `moved_ms` when they are given back.
 * Those that are not in the index stay out of it: `is_leased` says which were found. */
void waiting_change_lease(struct waiting *waiting, const struct waiting_changes *changes);

struct waiting_numbers {
    uint64_t waiting; /* the overflow too, held ones not */
    uint64_t held;
    uint64_t by_reason[QUEUE_REASONS];
    uint64_t leased;
    uint64_t domain_queues;
    uint64_t overflow;
    int64_t oldest_ms;
};
void waiting_read_numbers(struct waiting *waiting, struct waiting_numbers *numbers);

#endif
