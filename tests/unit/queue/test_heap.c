/* The heap of waiting entries: always the earliest first whatever was pushed, removed or
 * advanced, compared with a plain sorted list; memory that follows the count. */
#include "heap.h"

#include "test.h"

#include <stdlib.h>

enum { MANY = 3000, GROUP_MOST = ENTRY_GROUP_MAX };

static uint64_t seed = 20261124;

static uint64_t any(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

static void push(struct heap *heap, uint64_t id, uint32_t group, int64_t next_ms)
{
    struct entry entry = {.id = id, .next_ms = next_ms, .arrival_s = (uint32_t)id + 7};

    entry.group = group & GROUP_MOST;
    entry.may_expire = id % 2;
    heap_push(heap, &entry);
}

/* No entry is earlier than the one above it. */
static void assert_is_heap(const struct heap *heap)
{
    for (size_t at = 1; at < heap->count; at++) {
        const struct entry *above = &heap->entries[(at - 1) / 2];
        const struct entry *entry = &heap->entries[at];

        assert_true(above->next_ms < entry->next_ms ||
                    (above->next_ms == entry->next_ms && above->id <= entry->id));
    }
}

TEST(heap, the_earliest_comes_first_then_the_lowest_id_then_the_lowest_group)
{
    static const struct entry expected[] = {
        {.id = 9, .next_ms = -5},
        {.id = 2, .next_ms = 10},
        {.id = 3, .group = 1, .next_ms = 10},
        {.id = 3, .group = 4, .next_ms = 10},
        {.id = 1, .next_ms = 11},
    };
    struct heap heap = {NULL, 0, 0};

    push(&heap, 3, 4, 10);
    push(&heap, 1, 0, 11);
    push(&heap, 9, 0, -5);
    push(&heap, 3, 1, 10);
    push(&heap, 2, 0, 10);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct entry removed = heap_remove(&heap, 0);

        assert_int_equal(removed.id, expected[i].id);
        assert_int_equal(removed.group, expected[i].group);
        assert_int_equal(removed.next_ms, expected[i].next_ms);
    }
    assert_int_equal(heap.count, 0);
}

TEST(heap, an_entry_comes_back_with_all_its_fields)
{
    struct heap heap = {NULL, 0, 0};
    struct entry entry = {.id = UINT64_MAX, .arrival_s = UINT32_MAX, .next_ms = INT64_MAX};
    struct entry removed;

    entry.group = GROUP_MOST;
    entry.may_expire = 1;
    entry.is_late_judged = 1;
    heap_push(&heap, &entry);
    removed = heap_remove(&heap, 0);
    assert_true(removed.id == UINT64_MAX && removed.next_ms == INT64_MAX);
    assert_int_equal(removed.arrival_s, UINT32_MAX);
    assert_int_equal(removed.group, GROUP_MOST);
    assert_int_equal(removed.may_expire, 1);
    assert_int_equal(removed.is_late_judged, 1);
    assert_int_equal(removed.is_held, 0);
}

TEST(heap, any_entry_can_be_removed_and_the_order_stays)
{
    struct heap heap = {NULL, 0, 0};
    bool is_in[MANY] = {false};
    int64_t before = INT64_MIN;

    for (uint32_t i = 0; i < MANY; i++) {
        push(&heap, i, 0, (int64_t)(any() % 500));
        is_in[i] = true;
        if (any() % 3 == 0) {
            struct entry removed = heap_remove(&heap, any() % heap.count);

            assert_true(is_in[removed.id]);
            assert_int_equal(removed.arrival_s, removed.id + 7);
            is_in[removed.id] = false;
        }
        assert_is_heap(&heap);
    }
    while (heap.count > 0) {
        struct entry removed = heap_remove(&heap, 0);

        assert_true(removed.next_ms >= before);
        assert_true(is_in[removed.id]);
        is_in[removed.id] = false;
        before = removed.next_ms;
    }
    for (size_t i = 0; i < MANY; i++)
        assert_false(is_in[i]); /* none was lost */
}

TEST(heap, memory_grows_and_is_given_back_as_it_empties)
{
    struct heap heap = {NULL, 0, 0};

    for (uint32_t i = 0; i < MANY; i++) {
        push(&heap, i, 0, i);
        assert_true(heap.capacity >= heap.count && heap.capacity <= 2 * heap.count + 4);
    }
    while (heap.count > 1) {
        (void)heap_remove(&heap, 0);
        assert_true(heap.capacity >= heap.count && heap.capacity <= 4 * heap.count + 4);
    }
    (void)heap_remove(&heap, 0);
    assert_null(heap.entries);
    assert_int_equal(heap.capacity, 0);
    push(&heap, 1, 0, 1); /* and can be filled again */
    assert_int_equal(heap.count, 1);
    heap_fini(&heap);
    assert_null(heap.entries);
    assert_int_equal(heap.count, 0);
}

/* ---- counting what is due ---- */

TEST(heap, what_is_due_is_counted_up_to_the_limit)
{
    struct heap heap = {NULL, 0, 0};

    assert_int_equal(heap_due_count(&heap, INT64_MAX, 10), 0);
    for (uint32_t i = 0; i < 100; i++)
        push(&heap, i, 0, (int64_t)((i * 37) % 100)); /* 0..99 in some order */
    assert_int_equal(heap_due_count(&heap, -1, 1000), 0);
    assert_int_equal(heap_due_count(&heap, 0, 1000), 1); /* at its time it is due */
    assert_int_equal(heap_due_count(&heap, 41, 1000), 42);
    assert_int_equal(heap_due_count(&heap, 41, 42), 42);
    assert_int_equal(heap_due_count(&heap, 41, 7), 7);
    assert_int_equal(heap_due_count(&heap, 41, 0), 0);
    assert_int_equal(heap_due_count(&heap, 99, 1000), 100);
    heap_fini(&heap);
}

TEST(heap, the_count_of_due_entries_is_right_in_heaps_of_every_size)
{
    struct heap heap = {NULL, 0, 0};
    int64_t times[300];

    for (uint32_t i = 0; i < 300; i++) {
        int64_t at_ms = (int64_t)(any() % 50);
        size_t due = 0;

        times[i] = (int64_t)(any() % 50);
        push(&heap, i, 0, times[i]);
        for (uint32_t k = 0; k <= i; k++)
            due += times[k] <= at_ms;
        assert_int_equal(heap_due_count(&heap, at_ms, MANY), due);
    }
    heap_fini(&heap);
}

/* ---- advancing many ---- */

static struct entry find_entry(const struct heap *heap, uint64_t id, uint32_t group)
{
    for (size_t at = 0; at < heap->count; at++)
        if (heap->entries[at].id == id && heap->entries[at].group == group)
            return heap->entries[at];
    fail_msg("entry is gone");
    return (struct entry){.id = 0};
}

TEST(heap, targets_are_ordered_by_id_then_group)
{
    static const struct heap_target sorted[] = {
        {1, 5}, {2, 0}, {2, 1}, {2, 7}, {UINT64_C(1) << 40, 0}};
    size_t count = sizeof sorted / sizeof *sorted;

    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++) {
            int order = heap_target_order(&sorted[i], &sorted[k]);

            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
        }
}

TEST(heap, advancing_moves_the_targets_alone)
{
    struct heap heap = {NULL, 0, 0};
    static const struct heap_target targets[] = {{3, 0}, {3, 2}, {5, 0}, {70, 0}};

    for (uint32_t id = 0; id < 10; id++)
        for (uint32_t group = 0; group < 3; group++)
            push(&heap, id, group, 1000 + id);
    assert_int_equal(heap_advance(&heap, targets, 4, 50), 3); /* 70 is not there */
    assert_is_heap(&heap);
    assert_int_equal(heap.count, 30);
    assert_int_equal(find_entry(&heap, 3, 0).next_ms, 50);
    assert_int_equal(find_entry(&heap, 3, 1).next_ms, 1003);
    assert_int_equal(find_entry(&heap, 3, 2).next_ms, 50);
    assert_int_equal(find_entry(&heap, 5, 0).next_ms, 50);
    assert_int_equal(heap_remove(&heap, 0).id, 3);
    assert_int_equal(heap_remove(&heap, 0).id, 3);
    assert_int_equal(heap_remove(&heap, 0).id, 5);
    assert_int_equal(heap_remove(&heap, 0).id, 0);
    heap_fini(&heap);
}

TEST(heap, advancing_never_makes_an_entry_later)
{
    struct heap heap = {NULL, 0, 0};
    static const struct heap_target targets[] = {{1, 0}, {2, 0}};

    push(&heap, 1, 0, 10);
    push(&heap, 2, 0, 90);
    assert_int_equal(heap_advance(&heap, targets, 2, 50), 2);
    assert_int_equal(find_entry(&heap, 1, 0).next_ms, 10);
    assert_int_equal(find_entry(&heap, 2, 0).next_ms, 50);
    heap_fini(&heap);
}

TEST(heap, advancing_a_thousand_of_many_finds_every_one)
{
    struct heap heap = {NULL, 0, 0};
    static struct heap_target targets[1000];

    for (uint32_t i = 0; i < MANY; i++)
        push(&heap, i, i % 4, (int64_t)(any() % 100000));
    for (uint32_t i = 0; i < 1000; i++)
        targets[i] = (struct heap_target){MANY - 1 - 3 * i, (MANY - 1 - 3 * i) % 4};
    qsort(targets, 1000, sizeof *targets, heap_target_order);
    assert_int_equal(heap_advance(&heap, targets, 1000, INT64_MIN), 1000);
    assert_is_heap(&heap);
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(heap_remove(&heap, 0).id, targets[i].id);
    assert_true(heap.entries[0].next_ms >= 0);
    assert_int_equal(heap.count, MANY - 1000);
    heap_fini(&heap);
}

TEST(heap, advancing_nothing_or_in_nothing_finds_nothing)
{
    struct heap heap = {NULL, 0, 0};
    static const struct heap_target target = {1, 0};

    assert_int_equal(heap_advance(&heap, &target, 1, 0), 0);
    push(&heap, 1, 0, 10);
    assert_int_equal(heap_advance(&heap, NULL, 0, 0), 0);
    assert_int_equal(heap.entries[0].next_ms, 10);
    heap_fini(&heap);
}

TEST(heap, all_are_advanced_but_those_that_are_held)
{
    struct heap heap = {NULL, 0, 0};
    size_t held = 0;
    size_t early = 0;

    for (uint32_t i = 0; i < MANY; i++) {
        struct entry entry = {.id = i, .next_ms = (int64_t)(any() % 1000)};

        entry.is_held = any() % 4 == 0;
        held += entry.is_held;
        early += !entry.is_held && entry.next_ms <= 100;
        heap_push(&heap, &entry);
    }
    assert_int_equal(heap_advance_all(&heap, 100), MANY - held - early);
    assert_is_heap(&heap);
    assert_true(heap_due_count(&heap, 100, MANY) >= MANY - held);
    for (size_t i = 0; i < heap.count; i++)
        assert_true(heap.entries[i].is_held || heap.entries[i].next_ms <= 100);
    assert_int_equal(heap_advance_all(&heap, 100), 0);
    heap_fini(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(heap, the_earliest_comes_first_then_the_lowest_id_then_the_lowest_group),
        RUN(heap, an_entry_comes_back_with_all_its_fields),
        RUN(heap, any_entry_can_be_removed_and_the_order_stays),
        RUN(heap, memory_grows_and_is_given_back_as_it_empties),
        RUN(heap, what_is_due_is_counted_up_to_the_limit),
        RUN(heap, the_count_of_due_entries_is_right_in_heaps_of_every_size),
        RUN(heap, targets_are_ordered_by_id_then_group),
        RUN(heap, advancing_moves_the_targets_alone),
        RUN(heap, advancing_never_makes_an_entry_later),
        RUN(heap, advancing_a_thousand_of_many_finds_every_one),
        RUN(heap, advancing_nothing_or_in_nothing_finds_nothing),
        RUN(heap, all_are_advanced_but_those_that_are_held),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
