#include "heap.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <stdlib.h>

/* A relay may hold millions of these. */
_Static_assert(sizeof(struct entry) == 24, "an entry is 24 bytes");

enum { FIRST_CAPACITY = 4, FILTER_WORDS = 1024, FILTER_BITS = FILTER_WORDS * 64 };

static bool is_before(const struct entry *a, const struct entry *b)
{
    if (a->next_ms != b->next_ms)
        return a->next_ms < b->next_ms;
    if (a->id != b->id)
        return a->id < b->id;
    return a->group < b->group;
}

static void sift_up(struct heap *heap, size_t at, struct entry entry)
{
    while (at > 0 && is_before(&entry, &heap->entries[(at - 1) / 2])) {
        heap->entries[at] = heap->entries[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->entries[at] = entry;
}

static void sift_down(struct heap *heap, size_t at, struct entry entry)
{
    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= heap->count)
            break;
        if (child + 1 < heap->count &&
            is_before(&heap->entries[child + 1], &heap->entries[child]))
            child++;
        if (!is_before(&heap->entries[child], &entry))
            break;
        heap->entries[at] = heap->entries[child];
        at = child;
    }
    heap->entries[at] = entry;
}

static void set_capacity(struct heap *heap, size_t capacity)
{
    heap->entries = memory_resize(heap->entries, capacity * sizeof(struct entry));
    heap->capacity = capacity;
}

void heap_fini(struct heap *heap)
{
    memory_free(heap->entries);
    *heap = (struct heap){.entries = NULL};
}

void heap_push(struct heap *heap, const struct entry *entry)
{
    if (heap->count == heap->capacity)
        set_capacity(heap, heap->capacity ? heap->capacity * 2 : FIRST_CAPACITY);
    sift_up(heap, heap->count++, *entry);
}

struct entry heap_remove(struct heap *heap, size_t at)
{
    struct entry removed;
    struct entry last;

    CHECK(at < heap->count);
    removed = heap->entries[at];
    last = heap->entries[--heap->count];
    if (at < heap->count) {
        if (at > 0 && is_before(&last, &heap->entries[(at - 1) / 2]))
            sift_up(heap, at, last);
        else
            sift_down(heap, at, last);
    }
    if (heap->count == 0)
        heap_fini(heap);
    else if (heap->capacity > FIRST_CAPACITY && heap->count < heap->capacity / 4)
        set_capacity(heap, heap->capacity / 2);
    return removed;
}

size_t heap_due_count(const struct heap *heap, int64_t now_ms, size_t most)
{
    size_t stack[128]; /* twice the depth of any heap that fits into memory */
    size_t depth = 0;
    size_t due = 0;

    if (heap->count > 0)
        stack[depth++] = 0;
    while (depth > 0 && due < most) {
        size_t at = stack[--depth];

        if (heap->entries[at].next_ms > now_ms)
            continue; /* and all below it */
        due++;
        if (2 * at + 2 < heap->count)
            stack[depth++] = 2 * at + 2;
        if (2 * at + 1 < heap->count)
            stack[depth++] = 2 * at + 1;
    }
    return due;
}

int heap_target_order(const void *left, const void *right)
{
    const struct heap_target *a = left;
    const struct heap_target *b = right;

    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return a->group < b->group ? -1 : a->group > b->group;
}

static size_t filter_bit(uint64_t id, uint32_t group)
{
    uint64_t mixed =
        (id * UINT64_C(0x9e3779b97f4a7c15)) ^ (group * UINT64_C(0xc2b2ae3d27d4eb4f));

    return (size_t)(mixed >> 48) % FILTER_BITS;
}

/* A filter in front of the search: nearly all entries are none of the targets, and a pass
 * over a million must not hold the loop. Entries only move up, into places that the pass
 * has left behind, so none is missed. */
size_t heap_advance(struct heap *heap, const struct heap_target *targets, size_t count,
                    int64_t next_ms)
{
    uint64_t filter[FILTER_WORDS] = {0};
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        size_t bit = filter_bit(targets[i].id, targets[i].group);

        filter[bit / 64] |= UINT64_C(1) << (bit % 64);
    }
    for (size_t at = 0; at < heap->count && found < count; at++) {
        struct entry entry = heap->entries[at];
        struct heap_target wanted = {entry.id, entry.group};
        size_t bit = filter_bit(entry.id, entry.group);

        if (!(filter[bit / 64] & UINT64_C(1) << (bit % 64)) ||
            !bsearch(&wanted, targets, count, sizeof wanted, heap_target_order))
            continue;
        found++;
        if (entry.next_ms > next_ms) {
            entry.next_ms = next_ms;
            sift_up(heap, at, entry);
        }
    }
    return found;
}

/* Held ones stay where they are in time, so the order has to be made anew: linear, from the lowest
 * parents up. */
size_t heap_advance_all(struct heap *heap, int64_t next_ms)
{
    size_t moved = 0;

    for (size_t at = 0; at < heap->count; at++) {
        struct entry *entry = &heap->entries[at];

        if (entry->is_held || entry->next_ms <= next_ms)
            continue;
        entry->next_ms = next_ms;
        moved++;
    }
    for (size_t at = moved > 0 ? heap->count / 2 : 0; at > 0; at--)
        sift_down(heap, at - 1, heap->entries[at - 1]);
    return moved;
}
