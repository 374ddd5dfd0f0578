/* What is out of its heap: leased groups, and groups that an operator's change holds. Both
 * live in memory only: a crash turns *leased* into *waiting* (docs/queue.md). */
#include "waiting_inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { LATE_SCAN = 1024 };

struct slice waiting_id_slice(uint64_t id, uint32_t group, struct waiting_id *memory)
{
    memcpy(memory->text, &id, sizeof id);
    memcpy(memory->text + sizeof id, &group, sizeof group);
    return (struct slice){memory->text, sizeof memory->text};
}

static void *find(const struct map *map, uint64_t id, uint32_t group)
{
    struct waiting_id memory;

    return map_get(map, waiting_id_slice(id, group, &memory));
}

struct queue_entry waiting_outer_entry(struct waiting *waiting, const struct entry *entry)
{
    return (struct queue_entry){entry->id, entry->group, entry->arrival_s,
                                waiting_to_wall(waiting, entry->next_ms), entry->is_held};
}

/* ---- leases ---- */

static struct entry take_out(struct domain_queue *domain_queue, size_t at)
{
    struct entry entry = heap_remove(&domain_queue->heap, at);

    domain_queue_count_out(domain_queue, &entry);
    domain_queue->pins++;
    if (entry.arrival_s <= domain_queue->oldest_s)
        domain_queue->is_oldest_exact = false;
    return entry;
}

bool waiting_is_full(const struct waiting *waiting)
{
    return map_count(waiting->leased) >= waiting->most_leases;
}

static void put_leased(struct domain_queue *domain_queue, const struct entry *entry)
{
    struct leased *leased = NEW(struct leased);
    struct waiting_id memory;

    leased->entry = *entry;
    leased->domain_queue = domain_queue;
    CHECK(map_set(domain_queue->waiting->leased,
                  waiting_id_slice(entry->id, entry->group, &memory), leased) == RESULT_OK);
}

bool waiting_lease(struct domain_queue *domain_queue, size_t at, struct queue_entry *out)
{
    struct waiting *waiting = domain_queue->waiting;
    struct entry entry = take_out(domain_queue, at);
    struct waiting_change *change = find(waiting->changing, entry.id, entry.group);

    if (change) {
        change->is_parked = true;
        change->arrival_s = entry.arrival_s;
        change->next_ms = entry.next_ms;
        change->may_expire = entry.may_expire;
        change->is_late_judged = entry.is_late_judged;
        change->is_held = entry.is_held;
        change->domain_queue = domain_queue;
        return false;
    }
    put_leased(domain_queue, &entry);
    *out = waiting_outer_entry(waiting, &entry);
    return true;
}

bool waiting_is_leased(const struct waiting *waiting, uint64_t id, uint32_t group)
{
    return find(waiting->leased, id, group) != NULL;
}

bool waiting_was_tried(const struct waiting *waiting, uint64_t id, uint32_t group)
{
    const struct leased *leased = find(waiting->leased, id, group);

    return leased && leased->entry.may_expire;
}

static void unpin(struct domain_queue *domain_queue)
{
    CHECK(domain_queue->pins > 0);
    domain_queue->pins--;
    if (domain_queue->heap.count == 0)
        domain_queue->empty_since_ms = loop_now_ms(domain_queue->waiting->loop);
}

static struct entry end_lease(struct domain_queue *domain_queue, uint64_t id,
                              uint32_t group)
{
    struct waiting_id memory;
    struct leased *leased =
        map_remove(domain_queue->waiting->leased, waiting_id_slice(id, group, &memory));
    struct entry entry;

    CHECK(leased && leased->domain_queue == domain_queue);
    entry = leased->entry;
    memory_free(leased);
    return entry;
}

static void wait_again(struct domain_queue *domain_queue, struct entry *entry,
                       const struct queue_entry *again)
{
    entry->next_ms = waiting_from_wall(domain_queue->waiting, again->next_attempt_ms);
    entry->is_held = again->is_held;
    domain_queue_push(domain_queue, entry);
}

void waiting_end_lease(struct domain_queue *domain_queue, uint64_t id, uint32_t group,
                       const struct queue_entry *again)
{
    struct entry entry = end_lease(domain_queue, id, group);

    entry.may_expire = 1;
    if (again)
        wait_again(domain_queue, &entry, again);
    unpin(domain_queue);
}

void waiting_end_untried(struct domain_queue *domain_queue, uint64_t id, uint32_t group,
                         const struct queue_entry *again)
{
    struct entry entry = end_lease(domain_queue, id, group);

    wait_again(domain_queue, &entry, again);
    unpin(domain_queue);
}

void domain_queue_give_back(struct domain_queue *domain_queue,
                            const struct queue_entry *entry)
{
    struct entry inner = end_lease(domain_queue, entry->id, entry->group);

    domain_queue_push(domain_queue, &inner);
    unpin(domain_queue);
}

/* ---- late ---- */

/* Leased, it is judged: once in this process, however it comes back. */
static bool lease_late(struct domain_queue *domain_queue, size_t at,
                       struct queue_entry *entry)
{
    struct leased *leased;

    if (!waiting_lease(domain_queue, at, entry))
        return false;
    leased = find(domain_queue->waiting->leased, entry->id, entry->group);
    leased->entry.is_late_judged = 1;
    domain_queue_arm(domain_queue);
    return true;
}

/* Bounded like the search for expired ones. */
bool domain_queue_take_late(struct domain_queue *domain_queue, int64_t before_ms,
                            struct queue_entry *entry)
{
    struct heap *heap = &domain_queue->heap;
    int64_t now_ms = waiting_now(domain_queue->waiting);
    int64_t before_s = before_ms / 1000;
    size_t looks = heap->count < LATE_SCAN ? heap->count : LATE_SCAN;

    if ((int64_t)domain_queue->oldest_s >= before_s ||
        waiting_is_full(domain_queue->waiting))
        return false;
    for (; looks > 0 && heap->count > 0; looks--) {
        const struct entry *at;

        if (domain_queue->late_scan >= heap->count)
            domain_queue->late_scan = 0;
        at = &heap->entries[domain_queue->late_scan];
        if ((int64_t)at->arrival_s < before_s && !at->is_late_judged &&
            !(at->is_held && at->next_ms > now_ms) &&
            lease_late(domain_queue, domain_queue->late_scan, entry))
            return true;
        domain_queue->late_scan++;
    }
    return false;
}

/* ---- changes ---- */

bool waiting_change_begin(struct waiting *waiting, struct waiting_change *change)
{
    struct waiting_id memory;
    struct slice key = waiting_id_slice(change->id, change->group, &memory);

    if (map_get(waiting->leased, key) || map_get(waiting->changing, key))
        return false;
    change->is_parked = false;
    return map_set(waiting->changing, key, change) == RESULT_OK;
}

static struct entry parked_entry(const struct waiting_change *change)
{
    struct entry entry = {.id = change->id, .arrival_s = change->arrival_s};

    entry.group = change->group & ENTRY_GROUP_MAX;
    entry.may_expire = change->may_expire;
    entry.is_late_judged = change->is_late_judged;
    entry.is_held = change->is_held;
    entry.next_ms = change->next_ms;
    return entry;
}

static void move(struct waiting *waiting, const struct waiting_change *change,
                 struct entry *entry)
{
    entry->next_ms = waiting_from_wall(waiting, change->moved_ms);
    entry->is_held = change->moves_held;
}

static void end_parked(struct waiting *waiting, const struct waiting_change *change,
                       enum waiting_change_end end, int64_t next_ms)
{
    struct entry entry = parked_entry(change);

    if (end == WAITING_RETRIED)
        entry.next_ms = waiting_from_wall(waiting, next_ms);
    else if (end == WAITING_MOVED)
        move(waiting, change, &entry);
    if (end != WAITING_REMOVED)
        domain_queue_push(change->domain_queue, &entry);
    unpin(change->domain_queue);
}

/* To the front with them, then off it: what leaves goes to `taken`, in order of id. */
static size_t take_off(struct domain_queue *domain_queue, const struct heap_target *targets,
                       size_t count, struct entry *taken)
{
    struct heap *heap = &domain_queue->heap;
    size_t found = heap_advance(heap, targets, count, INT64_MIN);

    for (size_t i = 0; i < found; i++) {
        taken[i] = heap_remove(heap, 0);
        domain_queue_count_out(domain_queue, &taken[i]);
    }
    domain_queue->is_oldest_exact = false;
    if (heap->count == 0)
        domain_queue->empty_since_ms = loop_now_ms(domain_queue->waiting->loop);
    return found;
}

/* `changes` in the order of `targets`, which is that of heap_target_order(). */
struct in_heap {
    struct domain_queue *domain_queue;
    const struct heap_target *targets;
    struct waiting_change *const *changes;
    size_t count;
};

static struct waiting_change *change_of(const struct in_heap *in, const struct entry *entry)
{
    struct heap_target wanted = {entry->id, entry->group};
    const struct heap_target *at =
        bsearch(&wanted, in->targets, in->count, sizeof wanted, heap_target_order);

    CHECK(at);
    return in->changes[at - in->targets];
}

static void end_in_heap(const struct in_heap *in, enum waiting_change_end end,
                        int64_t next_ms)
{
    struct domain_queue *domain_queue = in->domain_queue;
    struct entry *taken;
    size_t found;

    if (end == WAITING_RETRIED) {
        (void)heap_advance(&domain_queue->heap, in->targets, in->count,
                           waiting_from_wall(domain_queue->waiting, next_ms));
        domain_queue_arm(domain_queue);
        return;
    }
    taken = NEW_ARRAY(struct entry, in->count + 1);
    found = take_off(domain_queue, in->targets, in->count, taken);
    for (size_t i = 0; i < found && end == WAITING_MOVED; i++) {
        move(domain_queue->waiting, change_of(in, &taken[i]), &taken[i]);
        domain_queue_push(domain_queue, &taken[i]);
    }
    memory_free(taken);
    domain_queue_arm(domain_queue);
}

static void lease_from_heap(const struct in_heap *in)
{
    struct domain_queue *domain_queue = in->domain_queue;
    struct entry *taken = NEW_ARRAY(struct entry, in->count + 1);
    size_t found = take_off(domain_queue, in->targets, in->count, taken);

    for (size_t i = 0; i < found; i++) {
        struct waiting_change *change = change_of(in, &taken[i]);

        move(domain_queue->waiting, change, &taken[i]);
        domain_queue->pins++;
        put_leased(domain_queue, &taken[i]);
        change->is_leased = true;
    }
    memory_free(taken);
    domain_queue_arm(domain_queue);
}

static int by_target(const void *a, const void *b)
{
    const struct waiting_change *left = *(struct waiting_change *const *)a;
    const struct waiting_change *right = *(struct waiting_change *const *)b;
    struct heap_target l = {left->id, left->group};
    struct heap_target r = {right->id, right->group};

    return heap_target_order(&l, &r);
}

/* No longer held by their change; those that are not parked, in order. */
static size_t let_go(struct waiting *waiting, const struct waiting_changes *changes,
                     struct heap_target *targets, struct waiting_change **in_heap)
{
    size_t count = 0;

    for (size_t i = 0; i < changes->count; i++) {
        struct waiting_change *change = changes->list[i];
        struct waiting_id memory;

        (void)map_remove(waiting->changing,
                         waiting_id_slice(change->id, change->group, &memory));
        if (!change->is_parked)
            in_heap[count++] = change;
    }
    qsort(in_heap, count, sizeof(struct waiting_change *),
          by_target); /* NOLINT: pointers on purpose */
    for (size_t i = 0; i < count; i++)
        targets[i] = (struct heap_target){in_heap[i]->id, in_heap[i]->group};
    return count;
}

void waiting_change_end(struct waiting *waiting, const struct waiting_changes *changes,
                        enum waiting_change_end end, int64_t next_ms)
{
    struct heap_target *targets = NEW_ARRAY(struct heap_target, changes->count + 1);
    struct waiting_change **list = NEW_ARRAY(struct waiting_change *, changes->count + 1);
    struct in_heap in = {changes->domain_queue, targets, list, 0};

    in.count = let_go(waiting, changes, targets, list);
    for (size_t i = 0; i < changes->count; i++)
        if (changes->list[i]->is_parked)
            end_parked(waiting, changes->list[i], end, next_ms);
    if (in.count > 0 && end != WAITING_UNCHANGED && in.domain_queue)
        end_in_heap(&in, end, next_ms);
    memory_free(targets);
    memory_free(list);
}

void waiting_change_lease(struct waiting *waiting, const struct waiting_changes *changes)
{
    struct heap_target *targets = NEW_ARRAY(struct heap_target, changes->count + 1);
    struct waiting_change **list = NEW_ARRAY(struct waiting_change *, changes->count + 1);
    struct in_heap in = {changes->domain_queue, targets, list, 0};

    in.count = let_go(waiting, changes, targets, list);
    for (size_t i = 0; i < changes->count; i++) {
        struct waiting_change *change = changes->list[i];
        struct entry entry = parked_entry(change);

        if (!change->is_parked)
            continue;
        put_leased(change->domain_queue, &entry); /* its pin goes over */
        change->is_leased = true;
    }
    if (in.count > 0 && in.domain_queue)
        lease_from_heap(&in);
    memory_free(targets);
    memory_free(list);
}
