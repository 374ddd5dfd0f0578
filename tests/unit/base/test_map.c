/* The hash map, against a plain array as its model. */
#include "smtpd/base/map.h"

#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

enum { KEYS = 3000 };

static int values[KEYS];

static struct slice key_of(int number, char text[32])
{
    (void)snprintf(text, 32, "key-%d", number);
    return slice_of(text);
}

TEST(map, what_was_set_is_found_and_nothing_else)
{
    struct map *map = map_new(10);

    assert_null(map_get(map, SLICE("a")));
    assert_int_equal(map_set(map, SLICE("a"), &values[1]), RESULT_OK);
    assert_ptr_equal(map_get(map, SLICE("a")), &values[1]);
    assert_null(map_get(map, SLICE("A")));
    assert_null(map_get(map, SLICE("aa")));
    assert_null(map_get(map, SLICE("")));
    map_free(map);
}

TEST(map, a_key_may_be_empty_or_hold_a_nul)
{
    struct map *map = map_new(10);

    assert_int_equal(map_set(map, SLICE_NONE, &values[1]), RESULT_OK);
    assert_int_equal(map_set(map, SLICE("a\0b"), &values[2]), RESULT_OK);
    assert_int_equal(map_set(map, SLICE("a\0c"), &values[3]), RESULT_OK);
    assert_ptr_equal(map_get(map, SLICE("")), &values[1]);
    assert_ptr_equal(map_get(map, SLICE("a\0b")), &values[2]);
    assert_ptr_equal(map_get(map, SLICE("a\0c")), &values[3]);
    map_free(map);
}

TEST(map, setting_again_replaces_and_the_key_is_a_copy)
{
    struct map *map = map_new(1);
    char key[] = "abc";

    assert_int_equal(map_set(map, slice_of(key), &values[1]), RESULT_OK);
    assert_int_equal(map_set(map, slice_of(key), &values[2]), RESULT_OK);
    key[0] = 'x';
    assert_ptr_equal(map_get(map, SLICE("abc")), &values[2]);
    assert_int_equal(map_count(map), 1);
    map_free(map);
}

TEST(map, a_new_key_above_the_ceiling_is_refused_and_an_old_one_replaced)
{
    struct map *map = map_new(100);
    char text[32];

    for (int i = 0; i < 100; i++)
        assert_int_equal(map_set(map, key_of(i, text), &values[i]), RESULT_OK);
    assert_int_equal(map_set(map, SLICE("one more"), &values[0]), RESULT_TOO_LARGE);
    assert_int_equal(map_set(map, key_of(5, text), &values[6]), RESULT_OK);
    assert_ptr_equal(map_remove(map, key_of(5, text)), &values[6]);
    assert_int_equal(map_set(map, SLICE("one more"), &values[0]), RESULT_OK);
    assert_int_equal(map_count(map), 100);
    map_free(map);
}

TEST(map, a_long_life_of_sets_and_removals_matches_the_model)
{
    static bool is_there[KEYS];
    struct map *map = map_new(KEYS);
    size_t count = 0;
    char text[32];

    memset(is_there, 0, sizeof is_there);
    for (int step = 0; step < 200000; step++) {
        int i = (int)secure_random_below(KEYS);
        void *found = map_get(map, key_of(i, text));

        assert_ptr_equal(found, is_there[i] ? &values[i] : NULL);
        if (is_there[i] && step % 3) {
            assert_ptr_equal(map_remove(map, key_of(i, text)), &values[i]);
            is_there[i] = false;
            count--;
        } else if (!is_there[i]) {
            assert_int_equal(map_set(map, key_of(i, text), &values[i]), RESULT_OK);
            is_there[i] = true;
            count++;
        }
        assert_int_equal(map_count(map), count);
    }
    map_free(map);
}

TEST(map, a_walk_sees_every_entry_once_with_its_key)
{
    static int seen[KEYS];
    struct map *map = map_new(KEYS);
    char text[32];
    struct slice key;
    size_t position = 0;
    int *value;

    memset(seen, 0, sizeof seen);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(map_set(map, key_of(i, text), &values[i]), RESULT_OK);
    while ((value = map_next(map, &position, &key))) {
        assert_true(slice_equal(key, key_of((int)(value - values), text)));
        seen[value - values]++;
    }
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(seen[i], 1);
    map_free(map);
}

TEST(map, the_entry_just_seen_may_be_removed_and_none_comes_twice)
{
    static int seen[KEYS];
    struct map *map = map_new(KEYS);
    char text[32];
    int walks = 0;

    memset(seen, 0, sizeof seen);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(map_set(map, key_of(i, text), &values[i]), RESULT_OK);
    /* An entry that wraps round the end may be left for the next walk. */
    for (; map_count(map) > 0 && walks < 10; walks++) {
        size_t position = 0;
        int *value;

        while ((value = map_next(map, &position, NULL))) {
            seen[value - values]++;
            assert_ptr_equal(map_remove(map, key_of((int)(value - values), text)), value);
        }
    }
    assert_int_equal(map_count(map), 0);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(seen[i], 1);
    map_free(map);
}

TEST(map, an_empty_map_can_be_asked_walked_and_freed)
{
    struct map *map = map_new(0);
    size_t position = 0;

    assert_null(map_next(map, &position, NULL));
    assert_null(map_remove(map, SLICE("a")));
    assert_int_equal(map_set(map, SLICE("a"), &values[0]), RESULT_TOO_LARGE);
    map_free(map);
    map_free(NULL);
}

static int set_up(void **state)
{
    (void)state;
    secure_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(map, what_was_set_is_found_and_nothing_else),
        RUN(map, a_key_may_be_empty_or_hold_a_nul),
        RUN(map, setting_again_replaces_and_the_key_is_a_copy),
        RUN(map, a_new_key_above_the_ceiling_is_refused_and_an_old_one_replaced),
        RUN(map, a_long_life_of_sets_and_removals_matches_the_model),
        RUN(map, a_walk_sees_every_entry_once_with_its_key),
        RUN(map, the_entry_just_seen_may_be_removed_and_none_comes_twice),
        RUN(map, an_empty_map_can_be_asked_walked_and_freed),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
