/* A message on its way in: accepted as a whole after its commit or not at all, within two budgets,
 * and nothing stays of one that was given up. */
#include "queue_world.h"

static const char *const one[] = {"r@a.test", NULL};

TEST(draft, is_there_with_its_bytes_after_the_commit)
{
    struct world *world = *state;
    uint64_t id = world_send(world, "r@a.test", "hello\r\n");
    struct lease *lease = world_take(world, "a.test");

    assert_int_equal(lease->envelope.id, id);
    assert_string_equal(lease->envelope.sender, "sender@b.test");
    assert_string_equal(lease->envelope.user, "alice");
    assert_string_equal(lease->envelope.envid, "E1");
    assert_int_equal(lease->envelope.header_bytes, WORLD_HEADER.length);
    assert_int_equal(lease->envelope.body_bytes, 7);
    assert_int_equal(lease->group.recipient_count, 1);
    assert_string_equal(lease->group.recipients[0].address, "r@a.test");
    world_expect_body(world, &lease->envelope, SLICE("hello\r\n"));
    lease_release(lease);
}

TEST(draft, of_every_size_comes_back_as_it_went_in)
{
    struct world *world = *state;
    uint32_t chunk = store_chunk_bytes(world->queue->store);
    const size_t sizes[] = {0,
                            1,
                            chunk - 14,
                            chunk - 13,
                            chunk,
                            chunk + 1,
                            3 * (size_t)chunk + 5,
                            LIMIT_DRAFT_MEMORY,
                            LIMIT_DRAFT_MEMORY + 1,
                            1500000};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *body = world_bytes(sizes[i]);
        struct lease *lease;

        assert_int_equal(world_accept(world, one, (struct slice){body, sizes[i]}, NULL),
                         RESULT_OK);
        lease = world_take(world, "a.test");
        world_expect_body(world, &lease->envelope, (struct slice){body, sizes[i]});
        assert_int_equal(world_finish(world, lease), RESULT_OK);
        memory_free(body);
    }
}

TEST(draft, above_its_memory_leaves_it_and_says_when_to_go_on)
{
    struct world *world = *state;
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);
    char *body = world_bytes(1000000);
    size_t given = 0;
    enum result result = RESULT_OK;

    while (result == RESULT_OK && given < 1000000) {
        result = draft_write(draft, (struct slice){body + given, 50000});
        given += 50000;
    }
    assert_int_equal(result, RESULT_AGAIN);
    assert_true(given <= LIMIT_DRAFT_MEMORY + 2 * 50000);
    assert_int_equal(world->rooms, 0);
    for (int ms = 0; ms < WAIT_MS && world->rooms == 0; ms++)
        loop_run_for(world->loop, 1);
    assert_int_equal(world->rooms, 1);
    assert_true(world_numbers(world).receiving_bytes <= LIMIT_DRAFT_MEMORY);
    while (given < 1000000) {
        unsigned before = world->rooms;

        if (draft_write(draft, (struct slice){body + given, 50000}) == RESULT_AGAIN)
            for (int ms = 0; ms < WAIT_MS && world->rooms == before; ms++)
                loop_run_for(world->loop, 1);
        given += 50000;
    }
    assert_int_equal(draft_body_bytes(draft), 1000000);
    assert_int_equal(world_commit(world, draft, one), RESULT_OK);
    {
        struct lease *lease = world_take(world, "a.test");

        assert_true(lease->envelope.is_streamed);
        world_expect_body(world, &lease->envelope, (struct slice){body, 1000000});
        lease_release(lease);
    }
    assert_int_equal(world_numbers(world).receiving_bytes, 0);
    memory_free(body);
}

TEST(draft, that_is_discarded_leaves_nothing)
{
    struct world *world = *state;
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);
    char *body = world_bytes(600000);

    assert_int_equal(draft_write(draft, (struct slice){body, 600000}), RESULT_AGAIN);
    assert_int_equal(world_numbers(world).drafts, 1);
    loop_run_for(world->loop, 20);
    draft_discard(draft);
    for (int ms = 0; ms < WAIT_MS && (world_numbers(world).drafts > 0 ||
                                      world_numbers(world).receiving_bytes > 0);
         ms++)
        loop_run_for(world->loop, 1);
    assert_int_equal(world_numbers(world).drafts, 0);
    assert_int_equal(world_numbers(world).receiving_bytes, 0);
    world_reopen(world);
    world_wait_rebuilt(world);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
    {
        struct store *store = world->queue->store;
        MDB_stat body_table;
        MDB_stat draft_table;
        int code;
        MDB_txn *txn = store_reader_take(store, &code);

        assert_non_null(txn);
        (void)mdb_stat(txn, store->body, &body_table);
        (void)mdb_stat(txn, store->draft, &draft_table);
        store_reader_give(store, txn);
        assert_int_equal(body_table.ms_entries, 0);
        assert_int_equal(draft_table.ms_entries, 0);
    }
    memory_free(body);
}

TEST(draft, of_a_dead_process_vanishes_at_open)
{
    struct world *world = *state;
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);
    char *body = world_bytes(600000);
    MDB_txn *txn;
    MDB_stat table;
    int code;

    assert_int_equal(draft_write(draft, (struct slice){body, 600000}), RESULT_AGAIN);
    loop_run_for(world->loop, 50);
    world_reopen(world); /* the draft was open: what a kill leaves */
    assert_non_null(txn = store_reader_take(world->queue->store, &code));
    (void)mdb_stat(txn, world->queue->store->body, &table);
    store_reader_give(world->queue->store, txn);
    assert_int_equal(table.ms_entries, 0);
    memory_free(body);
}

TEST(draft, whose_commit_fails_for_want_of_space_is_refused_whole)
{
    struct world *world = *state;
    uint64_t id;

    world_fail_commits(MDB_MAP_FULL, 1);
    assert_int_equal(world_accept(world, one, SLICE("x\r\n"), &id), RESULT_NO_SPACE);
    assert_false(queue_is_broken(world->queue));
    loop_run_for(world->loop, 20);
    assert_int_equal(world->due_count, 0);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
    assert_int_equal(world_numbers(world).pending_bytes, 0);
    (void)world_send(world, "r@a.test", "room again\r\n");
    (void)world_lane(world, "a.test");
}

TEST(draft, that_was_streamed_leaves_nothing_when_its_commit_is_refused)
{
    struct world *world = *state;
    struct draft *draft = world_streamed(world);

    world_fail_commits(MDB_MAP_FULL, 1);
    assert_int_equal(world_commit(world, draft, one), RESULT_NO_SPACE);
    assert_false(queue_is_broken(world->queue));
    world_wait_no_rows(world, world->queue->store->draft);
    world_wait_no_rows(world, world->queue->store->body);
    assert_int_equal(world_numbers(world).receiving_bytes, 0);
    assert_int_equal(world_numbers(world).pending_bytes, 0);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
}

/* Its chunks are on their way to the store when it turns out that no record can hold it. */
TEST(draft, that_was_streamed_leaves_nothing_when_it_cannot_be_built)
{
    struct world *world = *state;
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);
    char *body = world_bytes(600000);
    char *envid = memory_new(RECORD_MAX + 1);
    struct envelope envelope = {.sender = "", .envid = memset(envid, 'e', RECORD_MAX)};
    struct recipient recipient = {.address = "r@a.test"};
    struct submission submission = {&envelope, WORLD_HEADER, &recipient, 1};

    assert_int_equal(draft_write(draft, (struct slice){body, 600000}), RESULT_AGAIN);
    (void)draft_commit(draft, &submission, world_on_end, world);
    world_wait_above(world, &world->ends, 0);
    assert_int_equal(world->last, RESULT_IO);
    assert_true(world_numbers(world).commits > 0); /* they were stored */
    world_wait_no_rows(world, world->queue->store->draft);
    world_wait_no_rows(world, world->queue->store->body);
    memory_free(envid);
    memory_free(body);
}

TEST(draft, whose_sync_fails_gets_io_and_everything_behind_it_too)
{
    struct world *world = *state;

    world_fail_commits(ENOTDIR, 1); /* not a full disk */
    assert_int_equal(world_accept(world, one, SLICE("x\r\n"), NULL), RESULT_IO);
    assert_true(queue_is_broken(world->queue));
    assert_int_equal(queue_has_room(world->queue), RESULT_IO);
    assert_int_equal(world_accept(world, one, SLICE("x\r\n"), NULL), RESULT_IO);
}

TEST(draft, commits_wait_above_the_pending_budget_and_then_all_end_well)
{
    struct world *world = *state;
    char *body = world_bytes(100000);
    struct envelope envelope = {.sender = "", .arrival_ms = loop_wall_ms(world->loop)};
    struct recipient recipient = {.address = "r@a.test"};
    struct submission submission = {&envelope, WORLD_HEADER, &recipient, 1};

    world->settings.pending_bytes = 250000;
    queue_apply(world->queue, &world->settings);
    for (int i = 0; i < 10; i++) {
        struct draft *draft = queue_draft_open(world->queue, world_on_room, world);

        assert_int_equal(draft_write(draft, (struct slice){body, 100000}), RESULT_OK);
        (void)draft_commit(draft, &submission, world_on_end, world);
    }
    assert_true(world_numbers(world).pending_bytes < 400000);
    assert_true(world->queue->held_back.count > 0);
    /* All of them are in memory, and in one of the two budgets. */
    assert_true(world_numbers(world).pending_bytes + world_numbers(world).receiving_bytes >=
                1000000);
    world_wait_above(world, &world->ends, 9);
    assert_int_equal(world->last, RESULT_OK);
    assert_int_equal(world_numbers(world).pending_bytes, 0);
    assert_int_equal(world_numbers(world).receiving_bytes, 0);
    assert_int_equal(domain_queue_count(world_lane(world, "a.test")), 10);
    memory_free(body);
}

TEST(draft, a_cancelled_commit_is_not_told_but_stays)
{
    struct world *world = *state;
    struct envelope envelope = {.sender = "", .arrival_ms = loop_wall_ms(world->loop)};
    struct recipient recipient = {.address = "r@a.test"};
    struct submission submission = {&envelope, WORLD_HEADER, &recipient, 1};
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);

    assert_int_equal(draft_write(draft, SLICE("x\r\n")), RESULT_OK);
    commit_cancel(draft_commit(draft, &submission, world_on_end, world));
    (void)world_lane(world, "a.test");
    assert_int_equal(world->ends, 0);
}

TEST(draft, ids_rise_and_are_not_used_again_after_a_start)
{
    struct world *world = *state;
    struct draft *first = queue_draft_open(world->queue, world_on_room, world);
    uint64_t before = draft_id(first);
    uint64_t after;

    draft_discard(first);
    world_reopen(world);
    first = queue_draft_open(world->queue, world_on_room, world);
    after = draft_id(first);
    draft_discard(first);
    assert_true(after > before);
}

#define DRAFT(name) cmocka_unit_test_setup_teardown(draft_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DRAFT(is_there_with_its_bytes_after_the_commit),
        DRAFT(of_every_size_comes_back_as_it_went_in),
        DRAFT(above_its_memory_leaves_it_and_says_when_to_go_on),
        DRAFT(that_is_discarded_leaves_nothing),
        DRAFT(of_a_dead_process_vanishes_at_open),
        DRAFT(whose_commit_fails_for_want_of_space_is_refused_whole),
        DRAFT(that_was_streamed_leaves_nothing_when_its_commit_is_refused),
        DRAFT(that_was_streamed_leaves_nothing_when_it_cannot_be_built),
        DRAFT(whose_sync_fails_gets_io_and_everything_behind_it_too),
        DRAFT(commits_wait_above_the_pending_budget_and_then_all_end_well),
        DRAFT(a_cancelled_commit_is_not_told_but_stays),
        DRAFT(ids_rise_and_are_not_used_again_after_a_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
