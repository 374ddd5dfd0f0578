/* Leases: a group is out once, comes back as it was or changed, and its reports stand or fall with
 * the change (G3). */
#include "queue_world.h"

TEST(lease, is_out_once_until_it_is_released)
{
    struct world *world = *state;
    struct domain_queue *domain_queue;
    struct queue_entry entry;
    struct lease *lease;
    uint64_t id = world_send(world, "r@a.test", "x\r\n");

    domain_queue = world_lane(world, "a.test");
    lease = world_take(world, "a.test");
    assert_true(queue_is_leased(world->queue, id, 0));
    assert_false(domain_queue_take(domain_queue, &entry));
    assert_int_equal(world_numbers(world).groups_leased, 1);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
    lease_release(lease);
    assert_false(queue_is_leased(world->queue, id, 0));
    lease = world_take(world, "a.test");
    assert_int_equal(lease->group.attempts, 0); /* nothing was spent */
    lease_release(lease);
}

TEST(lease, recipients_of_one_domain_are_one_group_and_of_two_are_two)
{
    struct world *world = *state;
    const char *const list[] = {"r1@a.test", "q@b.test", "r2@a.test", NULL};
    struct lease *lease;

    assert_int_equal(world_accept(world, list, SLICE("x\r\n"), NULL), RESULT_OK);
    lease = world_take(world, "a.test");
    assert_int_equal(lease->group.recipient_count, 2);
    assert_string_equal(lease->group.recipients[0].address, "r1@a.test");
    assert_string_equal(lease->group.recipients[1].address, "r2@a.test");
    lease_release(lease);
    lease = world_take(world, "b.test");
    assert_int_equal(lease->group.recipient_count, 1);
    lease_release(lease);
}

TEST(lease, settled_whole_the_last_group_takes_the_message_with_it)
{
    struct world *world = *state;
    const char *const list[] = {"r@a.test", "r@b.test", NULL};
    struct store *store = world->queue->store;
    MDB_txn *txn;
    MDB_stat table;
    int code;

    assert_int_equal(world_accept(world, list, SLICE("x\r\n"), NULL), RESULT_OK);
    assert_int_equal(world_finish(world, world_take(world, "a.test")), RESULT_OK);
    assert_non_null(txn = store_reader_take(store, &code));
    (void)mdb_stat(txn, store->body, &table);
    store_reader_give(store, txn);
    assert_int_equal(table.ms_entries, 1); /* b.test still needs it */
    assert_int_equal(world_finish(world, world_take(world, "b.test")), RESULT_OK);
    assert_non_null(txn = store_reader_take(store, &code));
    (void)mdb_stat(txn, store->body, &table);
    assert_int_equal(table.ms_entries, 0);
    (void)mdb_stat(txn, store->envelope, &table);
    assert_int_equal(table.ms_entries, 0);
    store_reader_give(store, txn);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
}

TEST(lease, settled_in_part_the_rest_waits_with_its_answer_across_a_start)
{
    struct world *world = *state;
    const char *const list[] = {"ok@a.test", "later@a.test", NULL};
    const bool settled[] = {true, false};
    int64_t next_ms = loop_wall_ms(world->loop) + 300;
    struct settlement settlement = {.is_settled = settled,
                                    .next_attempt_ms = next_ms,
                                    .counts_attempt = true,
                                    .delay_notified = true,
                                    .last_code = 450,
                                    .last_status = "4.2.1",
                                    .last_text = "busy",
                                    .last_host = "mx.a.test"};
    struct lease *lease;

    assert_int_equal(world_accept(world, list, SLICE("x\r\n"), NULL), RESULT_OK);
    assert_int_equal(world_settle(world, world_take(world, "a.test"), &settlement),
                     RESULT_OK);
    world_reopen(world);
    lease = world_take(world, "a.test");
    assert_true(loop_wall_ms(world->loop) >= next_ms);
    assert_int_equal(lease->group.recipient_count, 1);
    assert_string_equal(lease->group.recipients[0].address, "later@a.test");
    assert_int_equal(lease->group.attempts, 1);
    assert_true(lease->group.delay_notified);
    assert_int_equal(lease->group.last_code, 450);
    assert_string_equal(lease->group.last_status, "4.2.1");
    assert_string_equal(lease->group.last_text, "busy");
    assert_string_equal(lease->group.last_host, "mx.a.test");
    lease_release(lease);
}

/* A report on a delay, say: nothing was tried, so it spends nothing. */
TEST(lease, a_settlement_that_is_no_attempt_spends_none_and_leaves_it_untried)
{
    struct world *world = *state;
    const bool settled[] = {false};
    struct settlement settlement = {.is_settled = settled, .delay_notified = true};
    struct lease *lease;

    (void)world_send(world, "r@a.test", "x\r\n");
    world_reopen(world);
    lease = world_take(world, "a.test");
    settlement.next_attempt_ms = lease->entry.next_attempt_ms;
    assert_int_equal(world_settle(world, lease, &settlement), RESULT_OK);
    lease = world_take(world, "a.test");
    assert_true(lease->group.delay_notified);
    assert_int_equal(lease->group.attempts, 0);
    assert_int_equal(lease->group.last_attempt_ms, 0);
    assert_true(lease->is_first_since_start);
    settlement.counts_attempt = true;
    settlement.next_attempt_ms = loop_wall_ms(world->loop);
    assert_int_equal(world_settle(world, lease, &settlement), RESULT_OK);
    lease = world_take(world, "a.test");
    assert_int_equal(lease->group.attempts, 1);
    assert_false(lease->is_first_since_start);
    lease_release(lease);
}

static struct report report_to(struct world *world, const char *address)
{
    return (struct report){
        .id = queue_next_id(world->queue),
        .envelope = {.sender = "", .arrival_ms = loop_wall_ms(world->loop)},
        .recipient = {.address = address, .notify = NOTIFY_NEVER},
        .header = SLICE("Subject: failed\r\n\r\n"),
        .body = SLICE("It failed.\r\n")};
}

TEST(lease, a_report_comes_with_the_change_that_caused_it)
{
    struct world *world = *state;
    const bool settled[] = {true};
    struct report report = report_to(world, "sender@b.test");
    struct settlement settlement = {
        .is_settled = settled, .reports = &report, .report_count = 1};
    struct lease *lease;
    struct bytes text;

    (void)world_send(world, "r@a.test", "x\r\n");
    assert_int_equal(world_settle(world, world_take(world, "a.test"), &settlement),
                     RESULT_OK);
    lease = world_take(world, "b.test");
    assert_int_equal(lease->envelope.id, report.id);
    assert_string_equal(lease->envelope.sender, "");
    assert_int_equal(lease->group.recipients[0].notify, NOTIFY_NEVER);
    text = world_read(world, &lease->envelope);
    assert_memory_equal(text.data, "Subject: failed\r\n\r\nIt failed.\r\n", 31);
    bytes_fini(&text);
    lease_release(lease);
}

TEST(lease, a_settlement_that_fails_leaves_it_leased_and_writes_no_report)
{
    struct world *world = *state;
    const bool settled[] = {true};
    struct report report = report_to(world, "sender@b.test");
    struct settlement settlement = {
        .is_settled = settled, .reports = &report, .report_count = 1};
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct lease *lease = world_take(world, "a.test");

    world_fail_commits(MDB_MAP_FULL,
                       1); /* with the report: there is nothing to try without it */
    assert_int_equal(world_settle(world, lease, &settlement), RESULT_NO_SPACE);
    assert_true(queue_is_leased(world->queue, id, 0));
    loop_run_for(world->loop, 20);
    assert_int_equal(world->due_count, 1); /* a.test alone: no report */
    assert_int_equal(world_settle(world, lease, &settlement), RESULT_OK);
    lease_release(world_take(world, "b.test"));
}

TEST(lease, of_what_was_removed_meanwhile_is_none)
{
    struct world *world = *state;
    struct queue_entry entry;
    uint64_t id = world_send(world, "r@a.test", "x\r\n");
    struct domain_queue *domain_queue = world_lane(world, "a.test");
    struct store_op op = {.kind = STORE_SETTLE, .id = id};

    assert_true(domain_queue_take(domain_queue, &entry));
    /* Behind the back of the index, and of its cache. */
    op.on_end = NULL;
    {
        struct store_write write;

        assert_int_equal(store_write_begin(world->queue->store, &write), 0);
        store_write_apply(&write, &op);
        assert_int_equal(store_write_end(&write), 0);
    }
    cache_forget_group(world->queue->cache, id, 0);
    assert_null(world_load(world, domain_queue, &entry));
    assert_int_equal(world->last, RESULT_NOT_FOUND);
    assert_int_equal(world_numbers(world).groups_leased, 0);
}

TEST(lease, a_cancelled_load_gives_the_entry_back)
{
    struct world *world = *state;
    struct queue_entry entry;
    struct domain_queue *domain_queue;

    (void)world_send(world, "r@a.test", "x\r\n");
    domain_queue = world_lane(world, "a.test");
    assert_true(domain_queue_take(domain_queue, &entry));
    world->ends = 0;
    lease_load_cancel(queue_lease_load(domain_queue, &entry, world_on_lease, world));
    loop_run_for(world->loop, 20);
    assert_int_equal(world->ends, 0);
    assert_true(domain_queue_take(domain_queue, &entry));
    domain_queue_give_back(domain_queue, &entry);
}

static void lane_by_name(void *owner, const char *address, char lane[LANE_TEXT])
{
    (void)owner;
    (void)snprintf(lane, LANE_TEXT, "%s",
                   strchr(address, '1') ? "route:one" : "route:other");
}

TEST(lease, regrouped_it_becomes_groups_of_the_lanes_of_now)
{
    struct world *world = *state;
    const char *const list[] = {"r1@a.test", "r2@a.test", NULL};
    struct lease *lease;
    size_t before;

    assert_int_equal(world_accept(world, list, SLICE("x\r\n"), NULL), RESULT_OK);
    lease = world_take(world, "a.test");
    queue_set_lanes(world->queue, lane_by_name, NULL);
    before = world->ends;
    lease_regroup(lease, world_on_end, world);
    world_wait_above(world, &world->ends, before);
    assert_int_equal(world->last, RESULT_OK);
    lease = world_take(world, "route:one");
    assert_int_equal(lease->group.recipient_count, 1);
    assert_string_equal(lease->group.recipients[0].address, "r1@a.test");
    assert_int_equal(world_finish(world, lease), RESULT_OK);
    lease = world_take(world, "route:other");
    assert_string_equal(lease->group.recipients[0].address, "r2@a.test");
    world_expect_body(world, &lease->envelope, SLICE("x\r\n"));
    assert_int_equal(world_finish(world, lease), RESULT_OK);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
}

TEST(lease, those_that_are_out_at_the_end_wait_again_after_a_start)
{
    struct world *world = *state;
    struct lease *lease;

    (void)world_send(world, "r@a.test", "x\r\n");
    (void)world_take(world, "a.test");
    world_reopen(world); /* frees it */
    lease = world_take(world, "a.test");
    assert_int_equal(lease->group.attempts, 0);
    assert_true(lease->is_first_since_start);
    lease_release(lease);
}

/* The end of the queue comes in the middle of reading a record. */
TEST(lease, loads_that_run_at_the_end_tell_nothing)
{
    struct world *world = *state;
    struct queue_entry entry;
    size_t before;

    (void)world_send(world, "r@a.test", "x\r\n");
    world_reopen(world); /* cold */
    assert_true(domain_queue_take(world_lane(world, "a.test"), &entry));
    before = world->ends;
    (void)queue_lease_load(world_lane(world, "a.test"), &entry, world_on_lease, world);
    world_reopen(world);
    loop_run_for(world->loop, 30);
    assert_int_equal(world->ends, before);
    lease_release(world_take(world, "a.test"));
}

static void put_record(struct world *world, uint64_t id, MDB_val record)
{
    struct store_group_key text = store_key(id, 0);
    MDB_val key = {sizeof text.text, text.text};
    MDB_txn *txn;

    assert_int_equal(mdb_txn_begin(world->queue->store->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, world->queue->store->group, &key, &record, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
}

/* What was read well when the index was made. It is old: tried, it would expire. */
TEST(lease, a_record_that_cannot_be_read_was_not_tried)
{
    struct world *world = *state;
    char nonsense[] = "nonsense";
    struct envelope envelope = {.sender = "",
                                .arrival_ms = loop_wall_ms(world->loop) - HOUR_MS};
    struct recipient recipient = {.address = "r@a.test"};
    struct submission submission = {&envelope, WORLD_HEADER, &recipient, 1};
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);
    uint64_t id = draft_id(draft);
    struct domain_queue *domain_queue;
    struct queue_entry entry;

    (void)draft_commit(draft, &submission, world_on_end, world);
    world_wait_above(world, &world->ends, 0);
    world->settings.expire_ms = HOUR_MS / 2;
    world_reopen(world);
    world_wait_rebuilt(world);
    domain_queue = world_lane(world, "a.test");
    assert_false(domain_queue_take_expired(domain_queue, &entry)); /* an attempt first */
    put_record(world, id, (MDB_val){sizeof nonsense, nonsense});
    assert_true(domain_queue_take(domain_queue, &entry));
    assert_null(world_load(world, domain_queue, &entry));
    assert_int_equal(world->last, RESULT_CORRUPT);
    assert_int_equal(world_numbers(world).groups_waiting, 1); /* put aside */
    assert_false(domain_queue_take_expired(domain_queue, &entry));
}

#define LEASE(name) cmocka_unit_test_setup_teardown(lease_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LEASE(is_out_once_until_it_is_released),
        LEASE(recipients_of_one_domain_are_one_group_and_of_two_are_two),
        LEASE(settled_whole_the_last_group_takes_the_message_with_it),
        LEASE(settled_in_part_the_rest_waits_with_its_answer_across_a_start),
        LEASE(a_settlement_that_is_no_attempt_spends_none_and_leaves_it_untried),
        LEASE(a_report_comes_with_the_change_that_caused_it),
        LEASE(a_settlement_that_fails_leaves_it_leased_and_writes_no_report),
        LEASE(of_what_was_removed_meanwhile_is_none),
        LEASE(a_cancelled_load_gives_the_entry_back),
        LEASE(regrouped_it_becomes_groups_of_the_lanes_of_now),
        LEASE(those_that_are_out_at_the_end_wait_again_after_a_start),
        LEASE(a_record_that_cannot_be_read_was_not_tried),
        LEASE(loads_that_run_at_the_end_tell_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
