/* Regions. */
#include "smtpd/base/arena.h"

#include "test.h"

#include <stdalign.h>
#include <string.h>

TEST(arena, allocations_are_zeroed_aligned_and_apart)
{
    struct arena arena;
    unsigned char *before = NULL;

    arena_init(&arena, 1 << 20);
    for (size_t size = 1; size < 600; size++) {
        unsigned char *memory = arena_alloc(&arena, size);

        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(memory[i], 0);
        memset(memory, 0xff, size);
        if (before)
            assert_int_equal(before[size - 2], 0xff);
        before = memory;
    }
    arena_clear(&arena);
}

TEST(arena, at_the_ceiling_it_says_no_and_smaller_ones_still_fit)
{
    struct arena arena;

    arena_init(&arena, 4096);
    assert_non_null(arena_alloc(&arena, 4000));
    assert_null(arena_alloc(&arena, 4000));
    assert_non_null(arena_alloc(&arena, 90));
    assert_null(arena_alloc(&arena, 1));
    assert_int_equal(arena.used_bytes, 4096);
    arena_clear(&arena);
}

TEST(arena, a_size_that_overflows_is_refused)
{
    struct arena arena;

    arena_init(&arena, SIZE_MAX);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 3));
    arena_clear(&arena);
}

TEST(arena, a_large_allocation_gets_a_block_of_its_own)
{
    struct arena arena;
    char *large;

    arena_init(&arena, 1 << 20);
    assert_non_null(arena_alloc(&arena, 10));
    large = arena_alloc(&arena, 500000);
    assert_non_null(large);
    memset(large, 1, 500000);
    assert_non_null(arena_alloc(&arena, 10));
    arena_clear(&arena);
}

TEST(arena, clearing_gives_everything_back_for_new_use)
{
    struct arena arena;

    arena_init(&arena, 1024);
    for (int i = 0; i < 10; i++) {
        assert_non_null(arena_alloc(&arena, 1024));
        assert_null(arena_alloc(&arena, 1));
        arena_clear(&arena);
        assert_null(arena.blocks);
        assert_int_equal(arena.used_bytes, 0);
    }
}

TEST(arena, a_text_is_copied_with_its_nul)
{
    struct arena arena;
    char *text;

    arena_init(&arena, 64);
    text = arena_text(&arena, slice_part(SLICE("abcdef"), 0, 3));
    assert_string_equal(text, "abc");
    assert_string_equal(arena_text(&arena, SLICE_NONE), "");
    assert_null(arena_text(&arena, SLICE("a text that has no room in the few bytes left")));
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(arena, allocations_are_zeroed_aligned_and_apart),
        RUN(arena, at_the_ceiling_it_says_no_and_smaller_ones_still_fit),
        RUN(arena, a_size_that_overflows_is_refused),
        RUN(arena, a_large_allocation_gets_a_block_of_its_own),
        RUN(arena, clearing_gives_everything_back_for_new_use),
        RUN(arena, a_text_is_copied_with_its_nul),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
