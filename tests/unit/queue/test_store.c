/* The store thread: everything that waits goes into one commit, first in, first out; what a
 * failed commit says to each of its operations; ids that are durable before they are given
 * out; and a close that commits what is pending. */
#include "store.h"

#include "store_world.h"

#include <errno.h>

enum { LARGE = 5 << 20 };

/* ---- group commit ---- */

static void an_operation_ends_once_from_the_loop_when_it_is_committed(void **state)
{
    struct world *world = *state;
    struct world_op *op = world_message(world, 1, 1, SLICE("body"));

    world_submit(world, op);
    assert_false(op->is_ended);
    world_wait(world, op);
    assert_int_equal(op->op.result, RESULT_OK);
    assert_true(world_has_group(world, 1, 0, "g0"));
    assert_true(world_has_body(world, 1, SLICE("body")));
    loop_run_for(world->loop, 20);
    assert_int_equal(world->end_count, 1);
}

static void all_that_waits_is_one_commit_and_ends_in_its_order(void **state)
{
    struct world *world = *state;
    uint64_t before = world_numbers(world).commits;
    struct world_op *last = NULL;

    world_shut_gate(world, world_message(world, 100, 1, SLICE("first")));
    for (uint64_t id = 20; id > 0; id--) { /* ids in no order that a table would like */
        last = world_message(world, id, 1, SLICE("body"));
        world_submit(world, last);
    }
    loop_run_for(world->loop, 20);
    assert_int_equal(world->end_count, 0); /* not before the commit */
    world_open_gate(world);
    world_wait(world, last);
    assert_int_equal(world_numbers(world).commits, before + 2);
    assert_int_equal(world_numbers(world).batch_last, 20);
    assert_int_equal(world->end_count, 21);
    assert_int_equal(world->ended[0], 100);
    for (uint64_t i = 1; i <= 20; i++) {
        assert_int_equal(world->ended[i], 21 - i);
        assert_int_equal(world->ops[i].op.result, RESULT_OK);
        assert_true(world_has_group(world, i, 0, "g0"));
    }
}

/* Counts its turns, and how much was told between two of them. */
struct onlooker {
    struct world *world;
    struct deferred turn;
    size_t told;
    size_t most;
    size_t turns;
};

static void look(void *owner)
{
    struct onlooker *onlooker = owner;
    struct world *world = onlooker->world;
    size_t more = world->end_count - onlooker->told;

    onlooker->told = world->end_count;
    onlooker->turns += more > 0;
    if (more > onlooker->most)
        onlooker->most = more;
    loop_defer(world->loop, &onlooker->turn, look, onlooker);
}

static void
a_large_batch_is_told_in_portions_with_the_loops_other_work_between(void **state)
{
    struct world *world = *state;
    struct onlooker onlooker = {.world = world};
    struct world_op *last = NULL;

    world_shut_gate(world, world_message(world, 1, 1, SLICE("first")));
    for (uint64_t id = 2; id < 580; id++) {
        last = world_message(world, id, 1, SLICE("body"));
        world_submit(world, last);
    }
    look(&onlooker);
    world_open_gate(world);
    world_wait(world, last);
    loop_run_for(world->loop, 1);
    deferred_cancel(world->loop, &onlooker.turn);
    assert_int_equal(world_numbers(world).batch_last, 578);
    assert_int_equal(onlooker.told, 579);
    assert_in_range(onlooker.most, 1, 50);
    for (uint64_t i = 0; i < 579; i++)
        assert_int_equal(world->ended[i], i + 1);
}

static void stop_at_the_first_portion(void *owner)
{
    struct onlooker *onlooker = owner;
    struct world *world = onlooker->world;

    if (world->end_count > 1)
        loop_stop(world->loop);
    else
        loop_defer(world->loop, &onlooker->turn, stop_at_the_first_portion, onlooker);
}

static void a_store_closes_while_it_tells(void **state)
{
    struct world *world = *state;
    struct onlooker onlooker = {.world = world};

    world_shut_gate(world, world_message(world, 1, 1, SLICE("first")));
    for (uint64_t id = 2; id < 580; id++)
        world_submit(world, world_message(world, id, 1, SLICE("body")));
    world_open_gate(world);
    stop_at_the_first_portion(&onlooker);
    loop_run(world->loop);
    world_reopen(world); /* nobody is told after that */
    loop_run_for(world->loop, 5);
    assert_in_range(world->end_count, 2, 578);
    assert_true(world_has_group(world, 579, 0, "g0"));
}

static void operations_of_one_batch_see_those_before_them(void **state)
{
    struct world *world = *state;
    struct world_op *last = world_settlement(world, 1, 0, SLICE("later"));

    world_shut_gate(world, world_settlement(world, 99, 0, SLICE_NONE));
    world_submit(world, world_message(world, 1, 1, SLICE("body")));
    world_submit(world, last);
    world_open_gate(world);
    world_wait(world, last);
    assert_true(world_has_group(world, 1, 0, "later"));
}

static void a_batch_ends_behind_the_operation_that_fills_it(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(LARGE);
    uint64_t before = world_numbers(world).commits;
    struct world_op *last = NULL;

    world_shut_gate(world, world_message(world, 1, 1, SLICE("first")));
    for (uint64_t id = 2; id <= 4; id++) {
        last = world_message(world, id, 1, body);
        world_submit(world, last);
    }
    world_open_gate(world);
    world_wait(world, last);
    assert_int_equal(world_numbers(world).commits, before + 3); /* 1; 2 and 3; 4 */
    assert_int_equal(world_numbers(world).batch_last, 1);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(world->ended[i], i + 1);
    assert_true(world_has_body(world, 4, body));
    world_bytes_free(body);
}

static void one_operation_above_the_limit_of_a_batch_is_committed_alone(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes((size_t)2 * LARGE);

    assert_int_equal(world_accept(world, 1, 1, body), RESULT_OK);
    assert_int_equal(world_accept(world, 2, 1, SLICE("next")), RESULT_OK);
    assert_true(world_has_body(world, 1, body));
    world_bytes_free(body);
}

static void commits_are_counted_and_timed(void **state)
{
    struct world *world = *state;
    struct store_numbers before = world_numbers(world);
    struct store_numbers after;

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    assert_int_equal(world_accept(world, 2, 1, SLICE("body")), RESULT_OK);
    after = world_numbers(world);
    assert_int_equal(after.commits, before.commits + 2);
    assert_int_equal(after.commits_failed, 0);
    assert_true(after.commit_us_last > 0);
    assert_true(after.commit_us_max >= after.commit_us_last);
}

/* ---- commits that fail ---- */

static void a_full_disk_refuses_mail_and_lets_what_frees_space_through(void **state)
{
    struct world *world = *state;
    struct world_op *mail = world_message(world, 10, 1, SLICE("new"));
    struct world_op *draft = world_draft(world, 11, 0, SLICE("part"));
    struct world_op *removal = world_settlement(world, 1, 0, SLICE_NONE);
    struct world_op *deferral = world_settlement(world, 2, 0, SLICE("later"));
    struct world_op *report = world_settlement(world, 3, 0, SLICE_NONE);

    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(world_accept(world, id, 1, SLICE("body")), RESULT_OK);
    report->op.messages = &world_message(world, 12, 1, SLICE("report"))->message;
    report->op.message_count = 1;
    world_fail_commits(ENOSPC, 1, 1);
    world_shut_gate(world, world_settlement(world, 99, 0, SLICE_NONE));
    world_submit(world, mail);
    world_submit(world, removal);
    world_submit(world, draft);
    world_submit(world, deferral);
    world_submit(world, report);
    world_open_gate(world);
    world_wait(world, report);

    assert_int_equal(mail->op.result, RESULT_NO_SPACE);
    assert_int_equal(draft->op.result, RESULT_NO_SPACE);
    assert_int_equal(report->op.result, RESULT_NO_SPACE);
    assert_int_equal(removal->op.result, RESULT_OK);
    assert_int_equal(deferral->op.result, RESULT_OK);
    assert_false(world_has_group(world, 10, 0, "g0"));
    assert_int_equal(world_rows(world, world->store->draft), 0);
    assert_false(world_has_group(world, 1, 0, "g0"));
    assert_true(world_has_group(world, 2, 0, "later"));
    assert_true(world_has_group(world, 3, 0, "g0")); /* with its report or not at all */
    assert_false(world_has_group(world, 12, 0, "g0"));
    assert_int_equal(world_numbers(world).commits_failed, 1);
    assert_false(store_is_broken(world->store));
}

static void ends_of_a_batch_that_failed_in_part_keep_their_order(void **state)
{
    struct world *world = *state;
    struct world_op *last = world_settlement(world, 4, 0, SLICE_NONE);

    world_fail_commits(ENOSPC, 1, 1);
    world_shut_gate(world, world_settlement(world, 1, 0, SLICE_NONE));
    world_submit(world, world_settlement(world, 2, 0, SLICE_NONE));
    world_submit(world, world_message(world, 3, 1, SLICE("new")));
    world_submit(world, last);
    world_open_gate(world);
    world_wait(world, last);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(world->ended[i], i + 1);
}

static void when_not_even_a_removal_fits_all_is_as_it_was(void **state)
{
    struct world *world = *state;

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    world_fail_commits(ENOSPC, 0, 2);
    assert_int_equal(world_settle(world, 1, 0), RESULT_NO_SPACE);
    assert_true(world_has_group(world, 1, 0, "g0"));
    assert_false(store_is_broken(world->store));
    assert_int_equal(world_settle(world, 1, 0), RESULT_OK); /* there is room again */
    assert_int_equal(world_accept(world, 2, 1, SLICE("body")), RESULT_OK);
}

static void a_commit_that_leaves_the_file_in_doubt_breaks_the_store(void **state)
{
    struct world *world = *state;
    uint64_t commits;

    assert_int_equal(world_accept(world, 1, 1, SLICE("kept")), RESULT_OK);
    commits = world_numbers(world).commits;
    assert_false(store_is_broken(world->store));
    world_fail_commits(MDB_PANIC, 0, 1);
    assert_int_equal(world_accept(world, 2, 1, SLICE("lost")), RESULT_IO);
    assert_true(store_is_broken(world->store));
    /* Nothing is written any more, whatever it is; reading goes on. */
    assert_int_equal(world_accept(world, 3, 1, SLICE("refused")), RESULT_IO);
    assert_int_equal(world_settle(world, 1, 0), RESULT_IO);
    assert_int_equal(world_numbers(world).commits, commits);
    assert_true(world_has_group(world, 1, 0, "g0"));

    world_reopen(world); /* what was acknowledged is there, and nothing else */
    assert_false(store_is_broken(world->store));
    assert_true(world_has_body(world, 1, SLICE("kept")));
    assert_int_equal(world_rows(world, world->store->envelope), 1);
}

/* LMDB uses pages that a commit set free from the second commit after it on. */
static void mail_fits_again_after_a_removal_though_nothing_else_is_written(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(300000);
    enum result result = RESULT_OK;
    uint64_t id = 1;

    world_close(world);
    world_open(world, 2 << 20);
    while (result == RESULT_OK && id < 20)
        result = world_accept(world, id++, 1, body);
    assert_int_equal(result, RESULT_NO_SPACE);
    assert_int_equal(world_settle(world, 1, 0), RESULT_OK);
    for (int again = 0; again < 3 && result != RESULT_OK; again++)
        result = world_accept(world, id++, 1, body); /* a client that comes again */
    assert_int_equal(result, RESULT_OK);
    world_bytes_free(body);
}

/* ---- ids ---- */

/* ---- the list of free pages ---- */

/* Pairs of neighbours in the records of the list. */
static size_t count_neighbours(struct world *world)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val data;
    size_t pairs = 0;
    int code;
    MDB_txn *txn = store_reader_take(world->store, &code);

    assert_non_null(txn);
    assert_int_equal(mdb_cursor_open(txn, 0, &cursor), 0);
    while (mdb_cursor_get(cursor, &key, &data, MDB_NEXT) == 0) {
        const size_t *pages = data.mv_data;

        for (size_t i = 1; i < pages[0]; i++)
            pairs += pages[i] == pages[i + 1] + 1;
    }
    mdb_cursor_close(cursor);
    store_reader_give(world->store, txn);
    return pairs;
}

/* Removed in seven rounds, each commit frees pages from all over the file. */
static void in_a_quiet_second_free_pages_get_in_order(void **state)
{
    enum { MANY = 210, ROUNDS = 7 };
    static char body[12000];
    struct world *world = *state;
    size_t before;
    uint64_t file_bytes;

    for (uint64_t id = 1; id <= MANY; id++) {
        (void)world_run(world,
                        world_message(world, id, 1, (struct slice){body, sizeof body}));
        world->op_count = world->end_count = 0;
    }
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct world_op *last = world_op(world, STORE_DRAFT_DROP, 1000);

        world_shut_gate(world, last);
        for (uint64_t id = round; id < MANY; id += ROUNDS) {
            last = world_settlement(world, id, 0, SLICE_NONE);
            world_submit(world, last);
        }
        world_open_gate(world);
        world_wait(world, last);
        world->op_count = world->end_count = 0;
    }
    before = count_neighbours(world);
    file_bytes = world_numbers(world).file_bytes;
    assert_true(atomic_fetch_add(&world->store->removed, STORE_TIDY_REMOVED) > 100);
    for (int ms = 0; ms < WORLD_WAIT_MS && atomic_load(&world->store->removed) > 0; ms++)
        loop_run_for(world->loop, 1);
    loop_run_for(world->loop, 100);
    assert_in_range(count_neighbours(world), 2 * before, SIZE_MAX);
    assert_in_range(world_numbers(world).file_bytes, 1, file_bytes + (1 << 19));
    assert_true(world_has_body(world, MANY, (struct slice){body, sizeof body}));
    assert_true(world_has_group(world, MANY, 0, "g0"));
}

static void wait_for_limit(struct world *world, uint64_t limit)
{
    for (int ms = 0; ms < WORLD_WAIT_MS && store_id_limit(world->store) < limit; ms++)
        (void)usleep(1000);
    assert_int_equal(store_id_limit(world->store), limit);
}

static void the_limit_of_ids_is_raised_before_it_is_reached(void **state)
{
    struct world *world = *state;
    uint64_t limit = store_id_limit(world->store);
    uint64_t commits = world_numbers(world).commits;

    assert_true(limit > world->first_id + STORE_ID_STEP);
    store_use_id(world->store, world->first_id);
    store_use_id(world->store, limit - STORE_ID_STEP - 1);
    (void)usleep(20000);
    assert_int_equal(store_id_limit(world->store), limit); /* no commit for nothing */
    assert_int_equal(world_numbers(world).commits, commits);
    store_use_id(world->store, limit - STORE_ID_STEP);
    wait_for_limit(world, limit + STORE_ID_STEP);
    world_reopen(world);
    assert_int_equal(world->first_id, limit + STORE_ID_STEP); /* it was durable */
}

static void the_limit_stays_when_its_commit_fails_and_rises_with_the_next(void **state)
{
    struct world *world = *state;
    uint64_t limit = store_id_limit(world->store);

    world_fail_commits(ENOSPC, 0, 1);
    store_use_id(world->store, limit - 1);
    for (int ms = 0; ms < WORLD_WAIT_MS && world_numbers(world).commits_failed == 0; ms++)
        (void)usleep(1000);
    assert_int_equal(world_numbers(world).commits_failed, 1);
    assert_int_equal(store_id_limit(world->store), limit);
    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    wait_for_limit(world, limit + STORE_ID_STEP);
    world_reopen(world);
    assert_int_equal(world->first_id, limit + STORE_ID_STEP);
}

/* ---- close ---- */

static void closing_commits_what_is_pending_and_calls_nobody(void **state)
{
    struct world *world = *state;

    world_shut_gate(world, world_message(world, 1, 1, SLICE("one")));
    for (uint64_t id = 2; id <= 5; id++)
        world_submit(world, world_message(world, id, 1, SLICE("more")));
    world_open_gate(world);
    world_close(world);
    loop_run_for(world->loop, 20);
    assert_int_equal(world->end_count, 0);
    world_open(world, 0);
    assert_true(world_has_body(world, 1, SLICE("one")));
    for (uint64_t id = 2; id <= 5; id++)
        assert_true(world_has_body(world, id, SLICE("more")));
}

static void the_loop_stays_usable_when_a_store_comes_and_goes(void **state)
{
    struct world *world = *state;

    for (uint64_t id = 1; id <= 5; id++) {
        assert_int_equal(world_accept(world, id, 1, SLICE("body")), RESULT_OK);
        world_reopen(world);
    }
    assert_int_equal(world_rows(world, world->store->envelope), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_STORE(an_operation_ends_once_from_the_loop_when_it_is_committed),
        RUN_STORE(all_that_waits_is_one_commit_and_ends_in_its_order),
        RUN_STORE(a_large_batch_is_told_in_portions_with_the_loops_other_work_between),
        RUN_STORE(a_store_closes_while_it_tells),
        RUN_STORE(operations_of_one_batch_see_those_before_them),
        RUN_STORE(a_batch_ends_behind_the_operation_that_fills_it),
        RUN_STORE(one_operation_above_the_limit_of_a_batch_is_committed_alone),
        RUN_STORE(commits_are_counted_and_timed),
        RUN_STORE(a_full_disk_refuses_mail_and_lets_what_frees_space_through),
        RUN_STORE(ends_of_a_batch_that_failed_in_part_keep_their_order),
        RUN_STORE(when_not_even_a_removal_fits_all_is_as_it_was),
        RUN_STORE(a_commit_that_leaves_the_file_in_doubt_breaks_the_store),
        RUN_STORE(mail_fits_again_after_a_removal_though_nothing_else_is_written),
        RUN_STORE(in_a_quiet_second_free_pages_get_in_order),
        RUN_STORE(the_limit_of_ids_is_raised_before_it_is_reached),
        RUN_STORE(the_limit_stays_when_its_commit_fails_and_rises_with_the_next),
        RUN_STORE(closing_commits_what_is_pending_and_calls_nobody),
        RUN_STORE(the_loop_stays_usable_when_a_store_comes_and_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
