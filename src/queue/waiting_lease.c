/* What is out of its heap: leased groups, and groups that an operator's change holds. Both
 * live in memory only: a crash turns *leased* into *waiting* (docs/queue.md). */
#include "waiting_inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <stdlib.h>
#include <string.h>

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

static struct queue_entry outer_entry(struct waiting *waiting, const struct entry *entry)
{
    return (struct queue_entry){entry->id, entry->group, entry->arrival_s,
                                waiting_to_wall(waiting, entry->next_ms)};
}

/* ---- leases ---- */

static struct entry take_out(struct domain_queue *domain_queue, size_t at)
{
    struct entry entry = heap_remove(&domain_queue->heap, at);

    domain_queue->waiting->entry_count--;
    domain_queue->pins++;
    if (entry.arrival_s <= domain_queue->oldest_s)
        domain_queue->is_oldest_exact = false;
    return entry;
}

bool waiting_lease(struct domain_queue *domain_queue, size_t at, struct queue_entry *out)
{
    struct waiting *waiting = domain_queue->waiting;
    struct entry entry = take_out(domain_queue, at);
    struct waiting_change *change = find(waiting->changing, entry.id, entry.group);
    struct waiting_id memory;
    struct leased *leased;

    if (change) {
        change->is_parked = true;
        change->arrival_s = entry.arrival_s;
        change->next_ms = entry.next_ms;
        change->may_expire = entry.may_expire;
        change->domain_queue = domain_queue;
        return false;
    }
    leased = NEW(struct leased);
    leased->entry = entry;
    leased->domain_queue = domain_queue;
    CHECK(map_set(waiting->leased, waiting_id_slice(entry.id, entry.group, &memory),
                  leased) == RESULT_OK);
    *out = outer_entry(waiting, &entry);
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

void waiting_end_lease(struct domain_queue *domain_queue, uint64_t id, uint32_t group,
                       const struct queue_entry *again)
{
    struct entry entry = end_lease(domain_queue, id, group);

    if (again) {
        entry.next_ms = waiting_from_wall(domain_queue->waiting, again->next_attempt_ms);
        entry.may_expire = 1;
        domain_queue_push(domain_queue, &entry);
    }
    unpin(domain_queue);
}

void domain_queue_give_back(struct domain_queue *domain_queue,
                            const struct queue_entry *entry)
{
    struct entry inner = end_lease(domain_queue, entry->id, entry->group);

    domain_queue_push(domain_queue, &inner);
    unpin(domain_queue);
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

static void end_parked(struct waiting *waiting, const struct waiting_change *change,
                       enum waiting_change_end end, int64_t next_ms)
{
    struct entry entry = {.id = change->id, .arrival_s = change->arrival_s};

    entry.group = change->group & 0x7fffffffU;
    entry.may_expire = change->may_expire;
    entry.next_ms =
        end == WAITING_RETRIED ? waiting_from_wall(waiting, next_ms) : change->next_ms;
    if (end != WAITING_REMOVED)
        domain_queue_push(change->domain_queue, &entry);
    unpin(change->domain_queue);
}

static void end_in_heap(struct domain_queue *domain_queue, struct heap_target *targets,
                        size_t count, enum waiting_change_end end, int64_t next_ms)
{
    struct heap *heap = &domain_queue->heap;
    size_t found;

    qsort(targets, count, sizeof *targets, heap_target_order);
    if (end == WAITING_RETRIED) {
        (void)heap_advance(heap, targets, count,
                           waiting_from_wall(domain_queue->waiting, next_ms));
    } else {
        /* To the front with them, then off it. */
        found = heap_advance(heap, targets, count, INT64_MIN);
        domain_queue->waiting->entry_count -= found;
        while (found-- > 0)
            (void)heap_remove(heap, 0);
        domain_queue->is_oldest_exact = false;
        if (heap->count == 0)
            domain_queue->empty_since_ms = loop_now_ms(domain_queue->waiting->loop);
    }
    domain_queue_arm(domain_queue);
}

void waiting_change_end(struct waiting *waiting, const struct waiting_changes *changes,
                        enum waiting_change_end end, int64_t next_ms)
{
    struct heap_target *targets = NEW_ARRAY(struct heap_target, changes->count + 1);
    size_t count = 0;

    for (size_t i = 0; i < changes->count; i++) {
        const struct waiting_change *change = changes->list[i];
        struct waiting_id memory;

        (void)map_remove(waiting->changing,
                         waiting_id_slice(change->id, change->group, &memory));
        if (change->is_parked)
            end_parked(waiting, change, end, next_ms);
        else
            targets[count++] = (struct heap_target){change->id, change->group};
    }
    if (count > 0 && end != WAITING_UNCHANGED && changes->domain_queue)
        end_in_heap(changes->domain_queue, targets, count, end, next_ms);
    memory_free(targets);
}
