/* Fresh mail in memory: bounded, what has been there for long goes first, a piece that is read outlives its
 * message, and what is settled is not offered any more. */
#include "cache.h"

#include "smtpd/base/limits.h"
#include "test.h"

#include <string.h>

enum { MOST_BYTES = 40000, BODY_BYTES = 5000 };

static int set_up(void **state)
{
    *state = cache_new(MOST_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    cache_free(*state);
    return 0;
}

static struct piece *new_piece(const char *text)
{
    struct piece *piece = piece_new(strlen(text));

    piece->length = strlen(text);
    memcpy(piece->data, text, piece->length);
    return piece;
}

/* A message of one group and one piece of `bytes`, which the cache alone holds then. */
static void add_at(struct cache *cache, uint64_t id, size_t bytes, int64_t now_ms)
{
    struct piece *piece = piece_new(bytes);
    const struct slice group = SLICE("group");
    struct cache_message message = {.id = id,
                                    .pieces = &piece,
                                    .piece_count = 1,
                                    .envelope = SLICE("envelope"),
                                    .groups = &group,
                                    .group_count = 1};

    piece->length = bytes;
    memset(piece->data, (int)('a' + id % 26), bytes);
    cache_add(cache, &message, now_ms);
    piece_drop(piece);
}

/* So far apart that none of them moves any more when the next one comes. */
static void add(struct cache *cache, uint64_t id, size_t bytes)
{
    add_at(cache, id, bytes, (int64_t)id * 10000);
}

static bool has_records(const struct cache *cache, uint64_t id, uint32_t group)
{
    struct slice envelope;
    struct slice record;

    return cache_records(cache, id, group, &envelope, &record) == RESULT_OK;
}

static bool has_bytes(const struct cache *cache, uint64_t id)
{
    size_t skip;
    struct piece *piece = cache_piece(cache, id, 0, &skip);

    piece_drop(piece);
    return piece != NULL;
}

/* ---- pieces ---- */

static void a_piece_lives_until_its_last_reader_lets_go(void **state)
{
    struct piece *piece = new_piece("text");

    (void)state;
    piece_hold(piece);
    piece_drop(piece);
    assert_int_equal(piece->references, 1);
    assert_memory_equal(piece->data, "text", 4);
    piece_drop(piece);
    piece_drop(NULL);
}

static void a_piece_grows_and_keeps_what_it_holds(void **state)
{
    struct piece *piece = new_piece("text");

    (void)state;
    piece = piece_grow(piece, 5000);
    assert_int_equal(piece->capacity, 5000);
    assert_int_equal(piece->length, 4);
    assert_memory_equal(piece->data, "text", 4);
    memset(piece->data + 4, 'x', 4996);
    piece_drop(piece);
}

/* ---- records ---- */

static void records_are_copies_and_come_back_by_number(void **state)
{
    struct cache *cache = *state;
    char envelope_text[] = "the envelope";
    char group_text[] = "zero|one";
    const struct slice groups[] = {{group_text, 4}, {group_text + 5, 3}};
    struct cache_message message = {.id = 7,
                                    .envelope = {envelope_text, strlen(envelope_text)},
                                    .groups = groups,
                                    .group_count = 2};
    struct slice envelope;
    struct slice record;

    cache_add(cache, &message, 0);
    memset(envelope_text, 'x', sizeof envelope_text);
    memset(group_text, 'x', sizeof group_text);
    assert_int_equal(cache_records(cache, 7, 0, &envelope, &record), RESULT_OK);
    assert_true(slice_equal_text(envelope, "the envelope"));
    assert_true(slice_equal_text(record, "zero"));
    assert_int_equal(cache_records(cache, 7, 1, &envelope, &record), RESULT_OK);
    assert_true(slice_equal_text(envelope, "the envelope"));
    assert_true(slice_equal_text(record, "one"));
    assert_int_equal(cache_records(cache, 7, 2, &envelope, &record), RESULT_NOT_FOUND);
    assert_int_equal(cache_records(cache, 8, 0, &envelope, &record), RESULT_NOT_FOUND);
}

static void
a_forgotten_group_is_not_offered_and_the_last_takes_its_message_along(void **state)
{
    struct cache *cache = *state;
    const struct slice groups[] = {SLICE("zero"), SLICE("one")};
    struct piece *piece = new_piece("text");
    struct cache_message message = {.id = 7,
                                    .pieces = &piece,
                                    .piece_count = 1,
                                    .envelope = SLICE("envelope"),
                                    .groups = groups,
                                    .group_count = 2};

    cache_add(cache, &message, 0);
    cache_forget_group(cache, 7, 0);
    cache_forget_group(cache, 7, 0); /* again: nothing more */
    cache_forget_group(cache, 7, 2); /* there is none */
    cache_forget_group(cache, 8, 0);
    assert_false(has_records(cache, 7, 0));
    assert_true(has_records(cache, 7, 1));
    assert_true(has_bytes(cache, 7));
    cache_forget_group(cache, 7, 1);
    assert_false(has_records(cache, 7, 1));
    assert_false(has_bytes(cache, 7));
    assert_int_equal(cache_bytes(cache), 0);
    assert_int_equal(piece->references, 1);
    piece_drop(piece);
}

/* ---- bytes ---- */

static void every_byte_of_a_message_is_found_in_its_piece(void **state)
{
    struct cache *cache = *state;
    struct piece *pieces[] = {new_piece("header"), new_piece("b"), new_piece("ody")};
    const struct slice group = SLICE("group");
    struct cache_message message = {.id = 3,
                                    .pieces = pieces,
                                    .piece_count = 3,
                                    .envelope = SLICE("envelope"),
                                    .groups = &group,
                                    .group_count = 1};
    static const char whole[] = "headerbody";
    size_t skip;

    cache_add(cache, &message, 0);
    for (size_t at = 0; at < sizeof whole - 1; at++) {
        struct piece *piece = cache_piece(cache, 3, at, &skip);

        assert_non_null(piece);
        assert_true(skip < piece->length);
        assert_int_equal(piece->data[skip], whole[at]);
        assert_int_equal(piece->references, 3); /* ours, the cache's, the reader's */
        piece_drop(piece);
    }
    assert_null(cache_piece(cache, 3, sizeof whole - 1, &skip));
    assert_null(cache_piece(cache, 3, UINT64_MAX, &skip));
    assert_null(cache_piece(cache, 4, 0, &skip));
    for (size_t i = 0; i < 3; i++)
        piece_drop(pieces[i]);
}

static void a_piece_that_is_read_outlives_its_message(void **state)
{
    struct cache *cache = *state;
    struct piece *piece;
    size_t skip;

    add(cache, 1, BODY_BYTES);
    piece = cache_piece(cache, 1, 17, &skip);
    assert_int_equal(skip, 17);
    cache_forget_group(cache, 1, 0);
    assert_false(has_bytes(cache, 1));
    assert_int_equal(piece->references, 1);
    assert_int_equal(piece->data[BODY_BYTES - 1], 'b');
    piece_drop(piece);
}

/* ---- bounds ---- */

static void the_oldest_go_first_and_the_bound_is_kept(void **state)
{
    struct cache *cache = *state;

    for (uint64_t id = 0; id < 100; id++) {
        add(cache, id, BODY_BYTES);
        assert_true(cache_bytes(cache) <= MOST_BYTES);
        assert_true(has_records(cache, id, 0) && has_bytes(cache, id));
    }
    assert_true(cache_bytes(cache) > MOST_BYTES - 2 * BODY_BYTES); /* and it is used */
    for (uint64_t id = 0; id < 92; id++)
        assert_false(has_records(cache, id, 0) || has_bytes(cache, id));
    for (uint64_t id = 94; id < 100; id++)
        assert_true(has_records(cache, id, 0) && has_bytes(cache, id));
}

/* A backlog that drains: who leaves first is kept, and who comes takes the room that it leaves. */
static void what_moves_is_not_driven_out(void **state)
{
    struct cache *cache = *state;

    for (uint64_t id = 0; id < 20; id++)
        add_at(cache, id, BODY_BYTES, 1000 + (int64_t)id);
    for (uint64_t id = 0; id < 7; id++)
        assert_true(has_records(cache, id, 0) && has_bytes(cache, id));
    for (uint64_t id = 8; id < 20; id++)
        assert_false(has_records(cache, id, 0) || has_bytes(cache, id));
    cache_forget_group(cache, 0, 0);
    add_at(cache, 20, BODY_BYTES, 5999);
    assert_true(has_bytes(cache, 20));
    add_at(cache, 21, BODY_BYTES, 6000); /* 1 came at 1001 */
    assert_false(has_bytes(cache, 21));
    add_at(cache, 22, BODY_BYTES, 6001);
    assert_true(has_bytes(cache, 22));
    assert_false(has_bytes(cache, 1));
    assert_true(has_bytes(cache, 2));
}

static void a_smaller_bound_is_kept_at_once(void **state)
{
    struct cache *cache = *state;

    for (uint64_t id = 0; id < 7; id++)
        add_at(cache, id, BODY_BYTES, 0);
    cache_set_most(cache, MOST_BYTES / 2);
    assert_true(cache_bytes(cache) <= MOST_BYTES / 2);
    assert_false(has_bytes(cache, 3));
    assert_true(has_bytes(cache, 6));
    add_at(cache, 7, BODY_BYTES / 2, 1);
    assert_true(cache_bytes(cache) <= MOST_BYTES / 2);
}

static void what_was_forgotten_makes_room(void **state)
{
    struct cache *cache = *state;

    for (uint64_t id = 0; id < 7; id++)
        add(cache, id, BODY_BYTES);
    cache_forget_group(cache, 3, 0);
    add(cache, 7, BODY_BYTES);
    assert_true(has_bytes(cache, 0));
    assert_true(has_bytes(cache, 7));
}

static void memory_is_counted_with_its_capacity(void **state)
{
    struct cache *cache = *state;
    struct piece *piece = piece_new(BODY_BYTES);
    const struct slice group = SLICE("group");
    struct cache_message message = {.id = 1,
                                    .pieces = &piece,
                                    .piece_count = 1,
                                    .envelope = SLICE("envelope"),
                                    .groups = &group,
                                    .group_count = 1};

    piece->length = 1;
    cache_add(cache, &message, 0);
    assert_true(cache_bytes(cache) > BODY_BYTES);
    piece_drop(piece);
}

static void one_that_would_drive_out_the_others_is_not_kept(void **state)
{
    struct cache *cache = *state;

    add(cache, 1, BODY_BYTES);
    add(cache, 2, MOST_BYTES / 4);
    assert_false(has_records(cache, 2, 0));
    assert_false(has_bytes(cache, 2));
    assert_true(has_bytes(cache, 1));
    add(cache, 3, MOST_BYTES);
    assert_false(has_bytes(cache, 3));
    assert_true(has_bytes(cache, 1));
}

static void the_number_of_messages_is_bounded_too(void **state)
{
    struct cache *cache = cache_new((size_t)1 << 30);

    (void)state;
    for (uint64_t id = 0; id < LIMIT_FRESH_MESSAGES + 10; id++)
        add(cache, id, 1);
    assert_false(has_records(cache, 9, 0));
    assert_true(has_records(cache, 10, 0));
    assert_true(has_records(cache, LIMIT_FRESH_MESSAGES + 9, 0));
    cache_free(cache);
}

#define RUN_CACHE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_CACHE(a_piece_lives_until_its_last_reader_lets_go),
        RUN_CACHE(a_piece_grows_and_keeps_what_it_holds),
        RUN_CACHE(records_are_copies_and_come_back_by_number),
        RUN_CACHE(a_forgotten_group_is_not_offered_and_the_last_takes_its_message_along),
        RUN_CACHE(every_byte_of_a_message_is_found_in_its_piece),
        RUN_CACHE(a_piece_that_is_read_outlives_its_message),
        RUN_CACHE(the_oldest_go_first_and_the_bound_is_kept),
        RUN_CACHE(what_moves_is_not_driven_out),
        RUN_CACHE(a_smaller_bound_is_kept_at_once),
        RUN_CACHE(what_was_forgotten_makes_room),
        RUN_CACHE(memory_is_counted_with_its_capacity),
        RUN_CACHE(one_that_would_drive_out_the_others_is_not_kept),
        RUN_CACHE(the_number_of_messages_is_bounded_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
