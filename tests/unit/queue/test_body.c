/* Reading a message: the same bytes from the cache and from the disk, a bounded number of windows,
 * and readers that are closed at any time. */
#include "queue_world.h"

enum { BODY = 700000 };

static struct lease *big_lease(struct world *world, const char *body)
{
    const char *const list[] = {"r@a.test", NULL};

    assert_int_equal(world_accept(world, list, (struct slice){body, BODY}, NULL),
                     RESULT_OK);
    return world_take(world, "a.test");
}

TEST(body, is_the_same_from_the_cache_and_from_the_disk)
{
    struct world *world = *state;
    char *body = world_bytes(BODY);
    struct lease *lease = big_lease(world, body);

    world_expect_body(world, &lease->envelope, (struct slice){body, BODY});
    lease_release(lease);
    world_reopen(world); /* the cache is empty now */
    lease = world_take(world, "a.test");
    world_expect_body(world, &lease->envelope, (struct slice){body, BODY});
    lease_release(lease);
    memory_free(body);
}

TEST(body, windows_are_bounded_and_come_back)
{
    struct world *world = *state;
    char *body = world_bytes(BODY);
    struct lease *lease = big_lease(world, body);
    struct body_reader *readers[4096];
    size_t count = 0;

    while (count < 4096 &&
           body_reader_open(world->queue, &lease->envelope, &readers[count]) == RESULT_OK)
        count++;
    assert_true(count < 4096); /* RESULT_BUSY came */
    assert_true(world_numbers(world).outbound_window_bytes <= LIMIT_OUTBOUND_WINDOW_BYTES);
    body_reader_close(readers[--count]);
    assert_int_equal(body_reader_open(world->queue, &lease->envelope, &readers[count]),
                     RESULT_OK);
    for (size_t i = 0; i <= count; i++)
        body_reader_close(readers[i]);
    assert_int_equal(world_numbers(world).outbound_window_bytes, 0);
    lease_release(lease);
    memory_free(body);
}

static void note_piece(void *owner, struct slice piece, enum result result)
{
    size_t *count = owner;

    assert_int_equal(result, RESULT_OK);
    assert_true(piece.length > 0);
    ++*count;
}

/* No window is no answer about the message: its turn comes. */
TEST(body, readers_wait_for_a_window_in_turn)
{
    struct world *world = *state;
    char *body = world_bytes(BODY);
    struct lease *lease = big_lease(world, body);
    struct body_reader *readers[4096];
    struct body_reader *waiting[3];
    size_t pieces[3] = {0};
    size_t count = 0;

    while (body_reader_open(world->queue, &lease->envelope, &readers[count]) == RESULT_OK)
        count++;
    for (size_t i = 0; i < 3; i++) {
        waiting[i] = body_reader_open_in_turn(world->queue, &lease->envelope);
        body_reader_next(waiting[i], note_piece, &pieces[i]);
    }
    loop_run_for(world->loop, 5);
    assert_int_equal(pieces[0], 0);
    assert_true(
        body_reader_waits(waiting[0])); /* and who waits for it is not the next hop */
    body_reader_close(waiting[1]);      /* it gives its turn up */
    body_reader_close(readers[--count]);
    world_wait_above(world, &pieces[0], 0);
    assert_false(body_reader_waits(waiting[0]));
    assert_int_equal(pieces[2], 0);
    assert_true(world_numbers(world).outbound_window_bytes <= LIMIT_OUTBOUND_WINDOW_BYTES);
    body_reader_close(waiting[0]);
    world_wait_above(world, &pieces[2], 0);
    assert_int_equal(pieces[1], 0);
    body_reader_close(waiting[2]);
    while (count > 0)
        body_reader_close(readers[--count]);
    assert_int_equal(world_numbers(world).outbound_window_bytes, 0);
    lease_release(lease);
    memory_free(body);
}

TEST(body, a_reader_closed_while_it_reads_tells_nothing)
{
    struct world *world = *state;
    char *body = world_bytes(BODY);
    struct world_text text = {0};
    struct body_reader *reader;
    struct lease *lease;

    lease_release(big_lease(world, body));
    world_reopen(world);
    lease = world_take(world, "a.test");
    bytes_init(&text.bytes, TEXT_MOST);
    assert_int_equal(body_reader_open(world->queue, &lease->envelope, &reader), RESULT_OK);
    body_reader_next(reader, world_on_piece, &text);
    body_reader_close(reader);
    loop_run_for(world->loop, 30);
    assert_int_equal(text.ends, 0);
    bytes_fini(&text.bytes);
    lease_release(lease);
    memory_free(body);
}

TEST(body, that_is_gone_from_the_disk_is_said_to_be)
{
    struct world *world = *state;
    char *body = world_bytes(BODY);
    struct world_text text = {0};
    struct body_reader *reader;
    struct lease *lease;
    MDB_txn *txn;

    lease_release(big_lease(world, body));
    world_reopen(world);
    lease = world_take(world, "a.test");
    assert_int_equal(mdb_txn_begin(world->queue->store->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_drop(txn, world->queue->store->body, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    bytes_init(&text.bytes, TEXT_MOST);
    assert_int_equal(body_reader_open(world->queue, &lease->envelope, &reader), RESULT_OK);
    body_reader_next(reader, world_on_piece, &text);
    world_wait_above(world, &text.ends, 0);
    assert_true(text.result != RESULT_OK);
    body_reader_close(reader);
    bytes_fini(&text.bytes);
    lease_release(lease);
    memory_free(body);
}

#define BODY_TEST(name) cmocka_unit_test_setup_teardown(body_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BODY_TEST(is_the_same_from_the_cache_and_from_the_disk),
        BODY_TEST(windows_are_bounded_and_come_back),
        BODY_TEST(readers_wait_for_a_window_in_turn),
        BODY_TEST(a_reader_closed_while_it_reads_tells_nothing),
        BODY_TEST(that_is_gone_from_the_disk_is_said_to_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
