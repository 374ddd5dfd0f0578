/* Reading from other threads: any piece of any body, nothing made up where chunks are
 * missing, scans in order and in steps, and a store that waits for its readers to close. */
#include "store_inner.h"

#include "store_world.h"

enum { GUARD = 16, BODY_BYTES = 30000 };

/* ---- groups ---- */

static void a_group_comes_with_its_envelope_added_to_what_is_there(void **state)
{
    struct world *world = *state;
    struct bytes envelope;
    struct bytes record;

    assert_int_equal(world_accept(world, 1, 2, SLICE("body")), RESULT_OK);
    bytes_init(&envelope, RECORD_MAX);
    bytes_init(&record, RECORD_MAX);
    assert_int_equal(bytes_add_text(&envelope, "an "), RESULT_OK);
    assert_int_equal(bytes_add_text(&record, "a "), RESULT_OK);
    assert_int_equal(store_read_group(world->store, 1, 1, &envelope, &record), RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&envelope), "an envelope"));
    assert_true(slice_equal_text(bytes_view(&record), "a g1"));
    bytes_fini(&envelope);
    bytes_fini(&record);
}

static void a_group_or_envelope_that_is_not_there_is_not_found(void **state)
{
    struct world *world = *state;
    struct bytes envelope;
    struct bytes record;

    /* A group without its envelope: no operation makes one, but a settlement can. */
    assert_int_equal(world_run(world, world_settlement(world, 5, 0, SLICE("alone"))),
                     RESULT_OK);
    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    bytes_init(&envelope, RECORD_MAX);
    bytes_init(&record, RECORD_MAX);
    assert_int_equal(store_read_group(world->store, 1, 1, &envelope, &record),
                     RESULT_NOT_FOUND);
    assert_int_equal(store_read_group(world->store, 2, 0, &envelope, &record),
                     RESULT_NOT_FOUND);
    assert_int_equal(store_read_group(world->store, 5, 0, &envelope, &record),
                     RESULT_NOT_FOUND);
    bytes_fini(&envelope);
    bytes_fini(&record);
}

static void a_record_that_its_reader_has_no_room_for_is_corrupt(void **state)
{
    struct world *world = *state;
    struct bytes envelope;
    struct bytes record;

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    bytes_init(&envelope, RECORD_MAX);
    bytes_init(&record, 1);
    assert_int_equal(store_read_group(world->store, 1, 0, &envelope, &record),
                     RESULT_CORRUPT);
    bytes_fini(&envelope);
    bytes_fini(&record);
}

/* ---- pieces ---- */

/* Reads into a buffer with a guard behind it. */
static enum result read_into(struct world *world, struct store_piece *piece, char *text)
{
    enum result result;

    memset(text, '#', piece->want + GUARD);
    piece->into = text;
    result = world_read(world, piece);
    for (size_t i = 0; i < GUARD; i++)
        assert_int_equal(text[piece->want + i], '#');
    return result;
}

static void any_piece_of_a_body_is_as_it_was_stored(void **state)
{
    struct world *world = *state;
    static char text[BODY_BYTES + GUARD];
    struct slice body = world_bytes(BODY_BYTES);
    size_t chunk = store_chunk_bytes(world->store);
    const size_t places[] = {0,         1,     chunk - 1,     chunk,         chunk + 1,
                             2 * chunk, 12345, 3 * chunk + 7, BODY_BYTES - 1};
    const size_t wants[] = {1,         2,         chunk - 1, chunk,
                            chunk + 1, 2 * chunk, 10000,     BODY_BYTES};

    assert_int_equal(world_accept(world, 3, 1, body), RESULT_OK);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (size_t k = 0; k < sizeof wants / sizeof *wants; k++) {
            struct store_piece piece = {.id = 3, .offset = places[i], .want = wants[k]};

            if (places[i] + wants[k] > BODY_BYTES)
                piece.want = BODY_BYTES - places[i]; /* up to its end */
            assert_int_equal(read_into(world, &piece, text), RESULT_OK);
            assert_memory_equal(text, body.data + places[i], piece.want);
        }
    world_bytes_free(body);
}

static void a_piece_beyond_the_end_is_corrupt_or_not_found(void **state)
{
    struct world *world = *state;
    static char text[BODY_BYTES + 2 * GUARD];
    size_t chunk = store_chunk_bytes(world->store);
    struct slice body = world_bytes(2 * chunk);
    struct store_piece piece = {.id = 3, .want = 2 * chunk + 1};

    assert_true(2 * chunk + 1 <= BODY_BYTES);
    assert_int_equal(world_accept(world, 2, 1, SLICE("before")), RESULT_OK);
    assert_int_equal(world_accept(world, 3, 1, body), RESULT_OK);
    assert_int_equal(read_into(world, &piece, text), RESULT_CORRUPT);
    /* The next message must not be read for the rest of this one. */
    assert_int_equal(world_run(world, world_draft(world, 4, 2, body)), RESULT_OK);
    assert_int_equal(read_into(world, &piece, text), RESULT_CORRUPT);
    piece = (struct store_piece){.id = 3, .offset = 2 * chunk, .want = 1};
    assert_int_equal(read_into(world, &piece, text), RESULT_NOT_FOUND);
    piece = (struct store_piece){.id = 2, .offset = 6, .want = 1};
    assert_int_equal(read_into(world, &piece, text), RESULT_CORRUPT);
    piece = (struct store_piece){.id = 9, .want = 1};
    assert_int_equal(read_into(world, &piece, text), RESULT_NOT_FOUND);
    world_bytes_free(body);
}

static void a_body_with_a_missing_or_short_chunk_is_corrupt(void **state)
{
    struct world *world = *state;
    static char text[BODY_BYTES + GUARD];
    size_t chunk = store_chunk_bytes(world->store);
    struct slice body = world_bytes(chunk);
    struct store_piece piece = {.id = 1, .want = chunk + 5};

    /* Chunks 0 and 2. */
    assert_int_equal(world_run(world, world_draft(world, 1, 0, body)), RESULT_OK);
    assert_int_equal(world_run(world, world_draft(world, 1, 2, body)), RESULT_OK);
    assert_int_equal(read_into(world, &piece, text), RESULT_CORRUPT);
    piece = (struct store_piece){.id = 1, .offset = chunk, .want = 5};
    assert_int_equal(read_into(world, &piece, text), RESULT_NOT_FOUND);
    /* Chunk 0 is not full. */
    assert_int_equal(world_run(world, world_draft(world, 2, 0, SLICE("short"))), RESULT_OK);
    assert_int_equal(world_run(world, world_draft(world, 2, 1, body)), RESULT_OK);
    piece = (struct store_piece){.id = 2, .want = 10};
    assert_int_equal(read_into(world, &piece, text), RESULT_CORRUPT);
    world_bytes_free(body);
}

static void the_header_of_a_streamed_message_does_not_run_into_its_body(void **state)
{
    struct world *world = *state;
    static char text[BODY_BYTES + GUARD];
    struct slice full = world_bytes(store_chunk_bytes(world->store));
    struct world_op *op = world_message(world, 1, 1, full);
    struct store_piece piece = {.id = 1, .want = full.length + 1};
    const struct slice body = SLICE("body");

    op->message.runs[1] = (struct store_run){STORE_BODY_CHUNK, &body, 1};
    op->message.run_count = 2;
    assert_int_equal(world_run(world, op), RESULT_OK);
    assert_int_equal(read_into(world, &piece, text), RESULT_CORRUPT);
    piece = (struct store_piece){.id = 1, .first_chunk = STORE_BODY_CHUNK, .want = 4};
    assert_int_equal(read_into(world, &piece, text), RESULT_OK);
    assert_memory_equal(text, "body", 4);
    world_bytes_free(full);
}

static void reading_pins_no_page_so_the_file_does_not_grow(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(100000);
    uint64_t file_bytes = 0;

    for (uint64_t id = 1; id <= 20; id++) {
        assert_int_equal(world_accept(world, id, 1, body), RESULT_OK);
        assert_true(world_has_body(world, id, body));
        assert_int_equal(world_settle(world, id, 0), RESULT_OK);
        assert_false(world_has_body(world, id, body));
        if (id % 10 == 0) {
            world_reopen(world); /* it is measured then */
            assert_true(file_bytes == 0 ||
                        world_numbers(world).file_bytes <= file_bytes + 2 * body.length);
            file_bytes = world_numbers(world).file_bytes;
        }
    }
    world_bytes_free(body);
}

/* ---- scans ---- */

struct seen {
    char text[256];
};

static void on_scanned(void *owner, uint64_t id, uint32_t group, struct slice envelope,
                       struct slice record)
{
    struct seen *seen = owner;
    size_t length = strlen(seen->text);

    assert_true(envelope.length == 0 || slice_equal_text(envelope, "envelope"));
    (void)snprintf(seen->text + length, sizeof seen->text - length, "%d.%d%s=%.*s ",
                   (int)id, (int)group, envelope.length ? "" : "!", (int)record.length,
                   record.data);
}

static struct store_scan scan_from(struct seen *seen, uint64_t id, uint64_t before,
                                   size_t most)
{
    seen->text[0] = 0;
    return (struct store_scan){.next_id = id,
                               .before_id = before,
                               .most_envelopes = most,
                               .fn = on_scanned,
                               .owner = seen};
}

static void fill_for_scan(struct world *world)
{
    assert_int_equal(world_accept(world, 300, 1, SLICE("c")), RESULT_OK);
    assert_int_equal(world_accept(world, 2, 2, SLICE("b")), RESULT_OK);
    assert_int_equal(world_accept(world, 1, 3, SLICE("a")), RESULT_OK);
    assert_int_equal(world_settle(world, 1, 1), RESULT_OK);
}

static void a_scan_gives_every_group_in_order_of_its_id(void **state)
{
    struct world *world = *state;
    struct seen seen;
    struct store_scan scan = scan_from(&seen, 0, UINT64_MAX, 10);

    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_true(scan.is_over); /* of an empty table */
    assert_string_equal(seen.text, "");
    fill_for_scan(world);
    scan = scan_from(&seen, 0, UINT64_MAX, 10);
    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_true(scan.is_over);
    assert_string_equal(seen.text, "1.0=g0 1.2=g2 2.0=g0 2.1=g1 300.0=g0 ");
}

static void a_scan_goes_on_where_the_last_one_ended(void **state)
{
    struct world *world = *state;
    struct seen seen;
    struct store_scan scan = scan_from(&seen, 0, UINT64_MAX, 1);

    fill_for_scan(world);
    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_string_equal(seen.text, "1.0=g0 1.2=g2 "); /* all groups of one envelope */
    assert_false(scan.is_over);
    assert_int_equal(scan.next_id, 2);
    scan = scan_from(&seen, scan.next_id, UINT64_MAX, 2);
    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_string_equal(seen.text, "2.0=g0 2.1=g1 300.0=g0 ");
    assert_true(scan.is_over);
}

static void a_scan_gives_so_many_groups_and_may_keep_messages_whole(void **state)
{
    struct world *world = *state;
    struct seen seen;
    struct store_scan scan = scan_from(&seen, 0, UINT64_MAX, 10);

    fill_for_scan(world);
    scan.most_groups = 3;
    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_string_equal(seen.text, "1.0=g0 1.2=g2 2.0=g0 ");
    assert_false(scan.is_over);
    assert_int_equal(scan.next_id, 2);
    assert_int_equal(scan.next_group, 1);
    seen.text[0] = 0;
    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_string_equal(seen.text, "2.1=g1 300.0=g0 ");
    assert_true(scan.is_over);
    scan = scan_from(&seen, 0, UINT64_MAX, 10);
    scan.most_groups = 3;
    scan.keeps_messages = true;
    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_string_equal(seen.text, "1.0=g0 1.2=g2 2.0=g0 2.1=g1 ");
    assert_int_equal(scan.next_id, 300);
    assert_int_equal(scan.next_group, 0);
}

static void a_scan_ends_before_the_id_that_it_is_told(void **state)
{
    struct world *world = *state;
    struct seen seen;
    struct store_scan scan = scan_from(&seen, 2, 300, 10);

    fill_for_scan(world);
    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_string_equal(seen.text, "2.0=g0 2.1=g1 ");
    assert_true(scan.is_over);
    scan = scan_from(&seen, 301, UINT64_MAX, 10);
    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_string_equal(seen.text, "");
    assert_true(scan.is_over);
}

static void a_group_without_its_envelope_is_scanned_with_an_empty_one(void **state)
{
    struct world *world = *state;
    struct seen seen;
    struct store_scan scan = scan_from(&seen, 0, UINT64_MAX, 10);

    assert_int_equal(world_accept(world, 1, 1, SLICE("a")), RESULT_OK);
    assert_int_equal(world_run(world, world_settlement(world, 2, 4, SLICE("alone"))),
                     RESULT_OK);
    assert_int_equal(store_scan_groups(world->store, &scan), RESULT_OK);
    assert_string_equal(seen.text, "1.0=g0 2.4!=alone ");
}

/* ---- readers and the end ---- */

struct reader {
    struct store *store;
    _Atomic bool has_entered;
    _Atomic bool has_left;
    enum result result;
    char text[4];
};

static void *read_slowly(void *argument)
{
    struct reader *reader = argument;
    struct store_piece piece = {.id = 1, .want = 4, .into = reader->text};

    if (!store_enter(reader->store))
        return NULL;
    atomic_store(&reader->has_entered, true);
    (void)usleep(30000);
    reader->result = store_read_piece(reader->store, &piece);
    atomic_store(&reader->has_left, true);
    store_leave(reader->store);
    return NULL;
}

static void closing_waits_for_readers_and_lets_none_in_afterwards(void **state)
{
    struct world *world = *state;
    struct reader reader = {.store = world->store, .result = RESULT_COUNT};
    pthread_t thread;

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    store_hold(reader.store); /* the struct stays */
    assert_int_equal(pthread_create(&thread, NULL, read_slowly, &reader), 0);
    while (!atomic_load(&reader.has_entered))
        (void)usleep(1000);
    world_close(world);
    assert_true(atomic_load(&reader.has_left));
    assert_int_equal(reader.result, RESULT_OK);
    assert_memory_equal(reader.text, "body", 4);
    assert_false(store_enter(reader.store));
    (void)pthread_join(thread, NULL);
    store_drop(reader.store);
}

static void *read_many(void *argument)
{
    struct world *world = argument;
    struct slice body = world_bytes(BODY_BYTES);
    uintptr_t wrong = 0;

    for (int i = 0; i < 200; i++)
        wrong += !world_has_body(world, 1, body);
    world_bytes_free(body);
    return (void *)wrong;
}

/* More threads than the pool has. */
static void many_threads_read_while_one_writes(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(BODY_BYTES);
    pthread_t threads[24];
    enum { COUNT = sizeof threads / sizeof *threads };

    assert_int_equal(world_accept(world, 1, 1, body), RESULT_OK);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_many, world), 0);
    for (uint64_t id = 2; id < 20; id++) {
        assert_int_equal(world_accept(world, id, 1, body), RESULT_OK);
        assert_int_equal(world_settle(world, id, 0), RESULT_OK);
    }
    for (size_t i = 0; i < COUNT; i++) {
        void *wrong;

        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    world_bytes_free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_STORE(a_group_comes_with_its_envelope_added_to_what_is_there),
        RUN_STORE(a_group_or_envelope_that_is_not_there_is_not_found),
        RUN_STORE(a_record_that_its_reader_has_no_room_for_is_corrupt),
        RUN_STORE(any_piece_of_a_body_is_as_it_was_stored),
        RUN_STORE(a_piece_beyond_the_end_is_corrupt_or_not_found),
        RUN_STORE(a_body_with_a_missing_or_short_chunk_is_corrupt),
        RUN_STORE(the_header_of_a_streamed_message_does_not_run_into_its_body),
        RUN_STORE(reading_pins_no_page_so_the_file_does_not_grow),
        RUN_STORE(a_scan_gives_every_group_in_order_of_its_id),
        RUN_STORE(a_scan_goes_on_where_the_last_one_ended),
        RUN_STORE(a_scan_gives_so_many_groups_and_may_keep_messages_whole),
        RUN_STORE(a_scan_ends_before_the_id_that_it_is_told),
        RUN_STORE(a_group_without_its_envelope_is_scanned_with_an_empty_one),
        RUN_STORE(closing_waits_for_readers_and_lets_none_in_afterwards),
        RUN_STORE(many_threads_read_while_one_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
