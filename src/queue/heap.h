/* A binary heap of what waits in one domain queue: 24 bytes an entry, earliest first, then
 * by id.
 *
 * Promises  pure; gives memory back as it empties.
 * Ignores   clocks: `next_ms` is just a number here.
 */
#ifndef SMTPD_QUEUE_HEAP_H
#define SMTPD_QUEUE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct entry {
    uint64_t id;
    uint32_t group : 29;
    uint32_t is_held : 1;        /* by an operator, until next_ms */
    uint32_t may_expire : 1;     /* tried (or arrived) in this process: see waiting.h */
    uint32_t is_late_judged : 1; /* taken once as late in this process */
    uint32_t arrival_s;
    int64_t next_ms;
};

enum { ENTRY_GROUP_MAX = (1 << 29) - 1 };

struct heap {
    struct entry *entries;
    size_t count;
    size_t capacity;
};

void heap_fini(struct heap *heap);
void heap_push(struct heap *heap, const struct entry *entry);
struct entry heap_remove(struct heap *heap, size_t at); /* at 0: the earliest */
/* How many have next_ms <= now_ms, counted up to `most`. Touches no others. */
size_t heap_due_count(const struct heap *heap, int64_t now_ms, size_t most);

struct heap_target {
    uint64_t id;
    uint32_t group;
};
/* One pass for many: those entries get a new time (not later than theirs is). `targets` are
 * sorted by heap_target_order(). Returns how many were found. */
size_t heap_advance(struct heap *heap, const struct heap_target *targets, size_t count,
                    int64_t next_ms);
/* All that are not held and later get this time; how many there were. */
size_t heap_advance_all(struct heap *heap, int64_t next_ms);
int heap_target_order(const void *left, const void *right); /* for qsort */

#endif
