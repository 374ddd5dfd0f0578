/* What each kind of operation does to the tables: all of a message or nothing, the last
 * group takes envelope and body along, numbers of groups; and a map that is full. */
#include "store_inner.h"

#include "store_world.h"

#include <errno.h>

enum { MIB = 1 << 20, CHUNKED = 3 * 4080 + 17 };

static void assert_empty(struct world *world)
{
    assert_int_equal(world_rows(world, world->store->envelope), 0);
    assert_int_equal(world_rows(world, world->store->group), 0);
    assert_int_equal(world_rows(world, world->store->body), 0);
    assert_int_equal(world_rows(world, world->store->draft), 0);
}

/* ---- keys ---- */

static void keys_are_in_order_of_id_then_number(void **state)
{
    static const struct {
        uint64_t id;
        uint32_t number;
    } sorted[] = {{0, 0},
                  {0, UINT32_MAX},
                  {1, 0},
                  {1, 255},
                  {1, 256},
                  {255, 0},
                  {256, 0},
                  {UINT64_C(1) << 40, 3},
                  {UINT64_MAX, UINT32_MAX}};
    size_t count = sizeof sorted / sizeof *sorted;

    (void)state;
    for (size_t i = 0; i < count; i++) {
        struct store_group_key key = store_key(sorted[i].id, sorted[i].number);
        MDB_val value = {sizeof key.text, key.text};

        assert_true(store_key_id(&value) == sorted[i].id);
        assert_int_equal(store_key_number(&value), sorted[i].number);
        for (size_t k = 0; k < i; k++) {
            struct store_group_key before = store_key(sorted[k].id, sorted[k].number);

            assert_true(memcmp(before.text, key.text, sizeof key.text) < 0);
        }
    }
}

/* ---- accept ---- */

static void a_message_is_stored_with_all_its_groups_and_runs(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(CHUNKED);
    struct world_op *op = world_message(world, 1, 3, SLICE("header"));
    char text[CHUNKED];
    struct store_piece piece = {1, STORE_BODY_CHUNK, 0, CHUNKED, text};

    op->message.runs[1] = (struct store_run){STORE_BODY_CHUNK, &body, 1};
    op->message.run_count = 2;
    assert_int_equal(world_run(world, op), RESULT_OK);
    assert_true(world_has_group(world, 1, 0, "g0"));
    assert_true(world_has_group(world, 1, 1, "g1"));
    assert_true(world_has_group(world, 1, 2, "g2"));
    assert_false(world_has_group(world, 1, 3, "g3"));
    assert_true(world_has_body(world, 1, SLICE("header")));
    assert_int_equal(world_read(world, &piece), RESULT_OK);
    assert_memory_equal(text, body.data, CHUNKED);
    assert_int_equal(world_rows(world, world->store->body),
                     1 + (CHUNKED - 1) / store_chunk_bytes(world->store) + 1);
    world_bytes_free(body);
}

static void parts_of_a_run_are_joined_whatever_their_lengths(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(CHUNKED);
    const struct slice parts[] = {slice_part(body, 0, 1),      SLICE_NONE,
                                  slice_part(body, 1, 5000),   slice_part(body, 5001, 3159),
                                  slice_part(body, 8160, 0),   slice_part(body, 8160, 4080),
                                  slice_part(body, 12240, 17), SLICE_NONE};
    struct world_op *op = world_message(world, 1, 1, SLICE_NONE);

    op->message.runs[0] = (struct store_run){0, parts, sizeof parts / sizeof *parts};
    assert_int_equal(world_run(world, op), RESULT_OK);
    assert_true(world_has_body(world, 1, body));
    world_bytes_free(body);
}

static void several_messages_of_one_operation_are_stored_together(void **state)
{
    struct world *world = *state;
    struct world_op *op = world_message(world, 2, 1, SLICE("two"));
    struct store_message both[] = {op->message,
                                   world_message(world, 1, 1, SLICE("one"))->message};

    op->op.messages = both;
    op->op.message_count = 2;
    assert_int_equal(world_run(world, op), RESULT_OK);
    assert_true(world_has_body(world, 1, SLICE("one")));
    assert_true(world_has_body(world, 2, SLICE("two")));
}

static void a_message_without_a_body_has_no_chunk(void **state)
{
    struct world *world = *state;

    assert_int_equal(world_accept(world, 1, 1, SLICE_NONE), RESULT_OK);
    assert_true(world_has_group(world, 1, 0, "g0"));
    assert_int_equal(world_rows(world, world->store->body), 0);
}

/* ---- drafts ---- */

static void chunks_of_a_draft_become_the_body_of_its_message(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(2 * 4080 + 5);
    struct world_op *op;
    char text[2 * 4080 + 5];
    struct store_piece piece = {7, STORE_BODY_CHUNK, 0, sizeof text, text};
    uint32_t chunk = store_chunk_bytes(world->store);

    if (chunk != LIMIT_CHUNK_BYTES)
        skip(); /* another page size */
    assert_int_equal(world_run(world, world_draft(world, 7, STORE_BODY_CHUNK,
                                                  slice_part(body, 0, chunk))),
                     RESULT_OK);
    assert_int_equal(world_run(world, world_draft(world, 7, STORE_BODY_CHUNK + 1,
                                                  slice_from(body, chunk))),
                     RESULT_OK);
    assert_int_equal(world_rows(world, world->store->draft), 1);
    op = world_message(world, 7, 1, SLICE("header"));
    op->message.was_draft = true;
    assert_int_equal(world_run(world, op), RESULT_OK);
    assert_int_equal(world_rows(world, world->store->draft), 0);
    assert_int_equal(world_read(world, &piece), RESULT_OK);
    assert_memory_equal(text, body.data, sizeof text);
    assert_int_equal(world_settle(world, 7, 0), RESULT_OK);
    assert_empty(world);
    world_bytes_free(body);
}

static void a_dropped_draft_leaves_nothing_and_touches_no_other(void **state)
{
    struct world *world = *state;

    assert_int_equal(world_accept(world, 6, 1, SLICE("six")), RESULT_OK);
    assert_int_equal(world_run(world, world_draft(world, 7, 0, SLICE("seven"))), RESULT_OK);
    assert_int_equal(world_run(world, world_draft(world, 8, 0, SLICE("eight"))), RESULT_OK);
    assert_int_equal(world_run(world, world_op(world, STORE_DRAFT_DROP, 7)), RESULT_OK);
    assert_int_equal(world_rows(world, world->store->draft), 1);
    assert_int_equal(world_rows(world, world->store->body), 2);
    assert_true(world_has_body(world, 6, SLICE("six")));
    assert_true(world_has_body(world, 8, SLICE("eight")));
    assert_int_equal(world_run(world, world_op(world, STORE_DRAFT_DROP, 99)), RESULT_OK);
}

/* ---- settle ---- */

static void a_settlement_rewrites_or_removes_one_group(void **state)
{
    struct world *world = *state;

    assert_int_equal(world_accept(world, 1, 2, SLICE("body")), RESULT_OK);
    assert_int_equal(
        world_run(world, world_settlement(world, 1, 1, SLICE("longer than g1"))),
        RESULT_OK);
    assert_true(world_has_group(world, 1, 0, "g0"));
    assert_true(world_has_group(world, 1, 1, "longer than g1"));
    assert_int_equal(world_settle(world, 1, 0), RESULT_OK);
    assert_false(world_has_group(world, 1, 0, "g0"));
    assert_true(world_has_group(world, 1, 1, "longer than g1"));
    assert_true(world_has_body(world, 1, SLICE("body")));
}

static void the_last_group_takes_envelope_and_body_along_and_no_neighbour(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(CHUNKED);

    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(world_accept(world, id, 2, body), RESULT_OK);
    assert_int_equal(world_settle(world, 2, 1), RESULT_OK);
    assert_int_equal(world_rows(world, world->store->envelope), 3);
    assert_int_equal(world_settle(world, 2, 0), RESULT_OK);
    assert_int_equal(world_rows(world, world->store->envelope), 2);
    assert_int_equal(world_rows(world, world->store->group), 4);
    assert_false(world_has_body(world, 2, body));
    assert_true(world_has_body(world, 1, body));
    assert_true(world_has_body(world, 3, body));
    assert_int_equal(world_settle(world, 2, 0), RESULT_OK); /* gone already: nothing */
    for (uint64_t id = 1; id <= 3; id += 2)
        for (uint32_t group = 0; group < 2; group++)
            assert_int_equal(world_settle(world, id, group), RESULT_OK);
    assert_empty(world);
    world_bytes_free(body);
}

static void a_report_is_stored_with_the_settlement_that_caused_it(void **state)
{
    struct world *world = *state;
    struct world_op *op = world_settlement(world, 1, 0, SLICE_NONE);

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    op->op.messages = &world_message(world, 2, 1, SLICE("report"))->message;
    op->op.message_count = 1;
    assert_int_equal(world_run(world, op), RESULT_OK);
    assert_false(world_has_group(world, 1, 0, "g0"));
    assert_true(world_has_body(world, 2, SLICE("report")));
    assert_int_equal(world_rows(world, world->store->envelope), 1);
}

/* ---- regroup ---- */

static void a_group_is_cut_into_new_ones_behind_the_highest_number(void **state)
{
    struct world *world = *state;
    const struct slice groups[] = {SLICE("new a"), SLICE("new b")};

    assert_int_equal(world_accept(world, 1, 3, SLICE("body")), RESULT_OK);
    for (int round = 0; round < 2;
         round++) { /* at the end of the table, and before others */
        struct world_op *op = world_op(world, STORE_REGROUP, 1);

        op->op.group = round ? 3 : 0;
        op->op.groups = groups;
        op->op.group_count = 2;
        assert_int_equal(world_run(world, op), RESULT_OK);
        assert_int_equal(op->op.first_group, 3 + 2 * round);
        assert_false(world_has_group(world, 1, round ? 3 : 0, ""));
        assert_true(world_has_group(world, 1, 3 + 2 * (uint32_t)round, "new a"));
        assert_true(world_has_group(world, 1, 4 + 2 * (uint32_t)round, "new b"));
        assert_int_equal(world_accept(world, 2 + (uint64_t)round, 1, SLICE("other")),
                         RESULT_OK);
    }
    assert_true(world_has_group(world, 1, 1, "g1"));
    assert_true(world_has_group(world, 1, 2, "g2"));
}

static void the_only_group_of_a_message_keeps_its_body_when_it_is_cut(void **state)
{
    struct world *world = *state;
    const struct slice group = SLICE("new");
    struct world_op *op = world_op(world, STORE_REGROUP, 1);

    assert_int_equal(world_accept(world, 1, 1, SLICE("body")), RESULT_OK);
    op->op.groups = &group;
    op->op.group_count = 1;
    assert_int_equal(world_run(world, op), RESULT_OK);
    assert_int_equal(op->op.first_group, 1);
    assert_true(world_has_group(world, 1, 1, "new"));
    assert_true(world_has_body(world, 1, SLICE("body")));
    assert_int_equal(world_rows(world, world->store->group), 1);
}

/* mdb_cursor_get() stands here, in front of the library's. */
static _Atomic int fail_next_range;

int mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *data, MDB_cursor_op op)
{
    int (*get)(MDB_cursor *, MDB_val *, MDB_val *, MDB_cursor_op) = NULL;

    if (op == MDB_SET_RANGE && atomic_exchange(&fail_next_range, 0))
        return MDB_PAGE_NOTFOUND;
    *(void **)&get = dlsym(RTLD_NEXT, "mdb_cursor_get");
    return get(cursor, key, data, op);
}

static void a_number_that_cannot_be_looked_up_overwrites_no_group(void **state)
{
    struct world *world = *state;
    const struct slice group = SLICE("new");
    struct world_op *op = world_op(world, STORE_REGROUP, 1);

    assert_int_equal(world_accept(world, 1, 3, SLICE("body")), RESULT_OK);
    assert_int_equal(world_accept(world, 2, 1, SLICE("other")), RESULT_OK);
    op->op.group = 2;
    op->op.groups = &group;
    op->op.group_count = 1;
    atomic_store(&fail_next_range, 1);
    assert_int_equal(world_run(world, op), RESULT_IO);
    assert_true(world_has_group(world, 1, 0, "g0"));
    assert_true(world_has_group(world, 1, 1, "g1"));
    assert_true(world_has_group(world, 1, 2, "g2"));
}

/* ---- changes by operators ---- */

enum { TARGETS = 4 };

static struct world_op *world_change(struct world *world, struct store_target *targets,
                                     size_t count, enum store_change change)
{
    struct world_op *op = world_op(world, STORE_CHANGE, 0);

    for (size_t i = 0; i < count; i++) {
        bytes_init(&targets[i].envelope, RECORD_MAX);
        bytes_init(&targets[i].record, RECORD_MAX);
    }
    op->op.targets = targets;
    op->op.target_count = count;
    op->op.change = change;
    op->op.now_ms = 1760000000777;
    op->op.until_ms = 1760000900000;
    return op;
}

static void targets_fini(struct store_target *targets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bytes_fini(&targets[i].envelope);
        bytes_fini(&targets[i].record);
    }
}

static struct bytes real_record(int64_t next_ms)
{
    struct recipient recipient = {.address = "a@b.test", .orcpt = "rfc822;a@b.test"};
    struct group group = {.lane = "b.test",
                          .next_attempt_ms = next_ms,
                          .attempts = 5,
                          .is_held = true,
                          .recipient_count = 1,
                          .recipients = &recipient,
                          .last_code = 450,
                          .last_status = "4.2.0",
                          .last_text = "later",
                          .last_host = "mx.b.test"};
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    assert_int_equal(record_encode_group(&group, &record), RESULT_OK);
    return record;
}

static void a_retry_writes_the_new_time_and_nothing_else(void **state)
{
    struct world *world = *state;
    struct store_target targets[TARGETS] = {{.id = 1}, {.id = 1, .group = 1}, {.id = 9}};
    struct bytes before = real_record(1790000000000);
    struct bytes after = real_record(1760000000777);
    struct bytes envelope;
    struct bytes record;
    struct world_op *op = world_message(world, 1, 2, SLICE("body"));

    op->groups[0] = bytes_view(&before); /* the other one cannot be read */
    assert_int_equal(world_run(world, op), RESULT_OK);
    assert_int_equal(world_run(world, world_change(world, targets, 3, STORE_RETRY)),
                     RESULT_OK);
    assert_int_equal(targets[0].end, STORE_TARGET_CHANGED);
    assert_int_equal(targets[1].end, STORE_TARGET_CORRUPT);
    assert_int_equal(targets[2].end, STORE_TARGET_GONE);
    /* The records of before are handed over, for log lines and the index. */
    assert_true(slice_equal(bytes_view(&targets[0].record), bytes_view(&before)));
    assert_true(slice_equal_text(bytes_view(&targets[0].envelope), "envelope"));

    bytes_init(&envelope, RECORD_MAX);
    bytes_init(&record, RECORD_MAX);
    assert_int_equal(store_read_group(world->store, 1, 0, &envelope, &record), RESULT_OK);
    assert_true(slice_equal(bytes_view(&record), bytes_view(&after)));
    assert_true(world_has_group(world, 1, 1, "g1"));
    bytes_fini(&envelope);
    bytes_fini(&record);
    bytes_fini(&before);
    bytes_fini(&after);
    targets_fini(targets, 3);
}

static void a_removal_takes_groups_and_with_the_last_one_the_message(void **state)
{
    struct world *world = *state;
    struct store_target targets[TARGETS] = {
        {.id = 1}, {.id = 2}, {.id = 2, .group = 1}, {.id = 2}};

    assert_int_equal(world_accept(world, 1, 2, SLICE("stays")), RESULT_OK);
    assert_int_equal(world_accept(world, 2, 2, SLICE("goes")), RESULT_OK);
    assert_int_equal(world_run(world, world_change(world, targets, 4, STORE_REMOVE)),
                     RESULT_OK);
    assert_int_equal(targets[0].end, STORE_TARGET_CHANGED);
    assert_int_equal(targets[1].end, STORE_TARGET_CHANGED);
    assert_int_equal(targets[2].end, STORE_TARGET_CHANGED);
    assert_int_equal(targets[3].end, STORE_TARGET_GONE);
    assert_true(slice_equal_text(bytes_view(&targets[2].record), "g1"));
    assert_true(slice_equal_text(bytes_view(&targets[2].envelope), "envelope"));
    assert_true(world_has_group(world, 1, 1, "g1"));
    assert_true(world_has_body(world, 1, SLICE("stays")));
    assert_int_equal(world_rows(world, world->store->envelope), 1);
    assert_int_equal(world_rows(world, world->store->body), 1);
    targets_fini(targets, 4);
}

static void a_large_removal_leaves_the_rest_of_its_targets(void **state)
{
    struct world *world = *state;
    struct store_target targets[TARGETS] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 3}};
    struct slice body = world_bytes(LIMIT_BATCH_BYTES);

    assert_int_equal(world_accept(world, 1, 1, SLICE("small")), RESULT_OK);
    assert_int_equal(world_accept(world, 2, 1, body), RESULT_OK);
    assert_int_equal(world_accept(world, 3, 1, SLICE("behind")), RESULT_OK);
    assert_int_equal(world_run(world, world_change(world, targets, 4, STORE_REMOVE)),
                     RESULT_OK);
    assert_int_equal(targets[0].end, STORE_TARGET_CHANGED);
    assert_int_equal(targets[1].end, STORE_TARGET_CHANGED);
    assert_int_equal(targets[2].end, STORE_TARGET_LEFT);
    assert_int_equal(targets[3].end, STORE_TARGET_LEFT);
    assert_true(world_has_group(world, 3, 0, "g0"));
    assert_int_equal(world_run(world, world_change(world, targets + 2, 1, STORE_REMOVE)),
                     RESULT_OK);
    assert_int_equal(targets[2].end, STORE_TARGET_CHANGED);
    assert_empty(world);
    targets_fini(targets, 4);
    world_bytes_free(body);
}

/* Tried again without the mail of its batch: its ends are those of the second time. */
static void a_change_in_a_batch_that_did_not_fit_is_done_once(void **state)
{
    struct world *world = *state;
    struct store_target targets[TARGETS] = {{.id = 1}, {.id = 1, .group = 1}};
    struct world_op *op = world_change(world, targets, 2, STORE_REMOVE);
    struct world_op *mail = world_message(world, 2, 1, SLICE("new"));

    assert_int_equal(world_accept(world, 1, 2, SLICE("body")), RESULT_OK);
    world_fail_commits(ENOSPC, 1, 1);
    world_shut_gate(world, world_settlement(world, 99, 0, SLICE_NONE));
    world_submit(world, mail);
    world_submit(world, op);
    world_open_gate(world);
    world_wait(world, op);
    assert_int_equal(mail->op.result, RESULT_NO_SPACE);
    assert_int_equal(op->op.result, RESULT_OK);
    assert_int_equal(targets[0].end, STORE_TARGET_CHANGED);
    assert_int_equal(targets[1].end, STORE_TARGET_CHANGED);
    assert_true(slice_equal_text(bytes_view(&targets[1].record), "g1"));
    assert_empty(world);
    targets_fini(targets, 2);
}

/* ---- a full map ---- */

static void fill(struct world *world, struct slice body, uint64_t *stored)
{
    enum result result = RESULT_OK;

    *stored = 0;
    while (result == RESULT_OK && *stored < WORLD_OPS / 2) {
        result = world_accept(world, *stored + 1, 1, body);
        *stored += result == RESULT_OK;
    }
    assert_int_equal(result, RESULT_NO_SPACE);
}

static void a_full_map_refuses_mail_and_harms_nothing(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(300000);
    uint64_t stored;

    world_close(world);
    world_open(world, 2 * MIB);
    fill(world, body, &stored);
    assert_in_range(stored, 2, 7);
    assert_false(store_is_broken(world->store));
    assert_int_equal(world_rows(world, world->store->envelope), stored);
    assert_false(world_has_group(world, stored + 1, 0, "g0"));
    for (uint64_t id = 1; id <= stored; id++)
        assert_true(world_has_body(world, id, body));
    assert_true(world_numbers(world).free_bytes < MIB);
    world_bytes_free(body);
}

static void removals_go_through_on_a_full_map_and_make_room(void **state)
{
    struct world *world = *state;
    struct slice body = world_bytes(300000);
    uint64_t stored;
    struct world_op *mail;
    struct world_op *removal;

    world_close(world);
    world_open(world, 2 * MIB);
    fill(world, body, &stored);
    mail = world_message(world, 100, 1, body);
    removal = world_settlement(world, 1, 0, SLICE_NONE);
    world_shut_gate(world, world_settlement(world, 99, 0, SLICE_NONE));
    world_submit(world, mail); /* in one batch with it */
    world_submit(world, removal);
    world_open_gate(world);
    world_wait(world, removal);
    assert_int_equal(mail->op.result, RESULT_NO_SPACE);
    assert_int_equal(removal->op.result, RESULT_OK);
    assert_false(world_has_group(world, 1, 0, "g0"));
    /* Pages that a commit set free are used from the second one after it on. */
    assert_int_equal(world_run(world, world_settlement(world, 2, 0, SLICE("later"))),
                     RESULT_OK);
    assert_int_equal(world_accept(world, 101, 1, body), RESULT_OK);
    assert_true(world_has_body(world, 101, body));
    world_bytes_free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_STORE(keys_are_in_order_of_id_then_number),
        RUN_STORE(a_message_is_stored_with_all_its_groups_and_runs),
        RUN_STORE(parts_of_a_run_are_joined_whatever_their_lengths),
        RUN_STORE(several_messages_of_one_operation_are_stored_together),
        RUN_STORE(a_message_without_a_body_has_no_chunk),
        RUN_STORE(chunks_of_a_draft_become_the_body_of_its_message),
        RUN_STORE(a_dropped_draft_leaves_nothing_and_touches_no_other),
        RUN_STORE(a_settlement_rewrites_or_removes_one_group),
        RUN_STORE(the_last_group_takes_envelope_and_body_along_and_no_neighbour),
        RUN_STORE(a_report_is_stored_with_the_settlement_that_caused_it),
        RUN_STORE(a_group_is_cut_into_new_ones_behind_the_highest_number),
        RUN_STORE(the_only_group_of_a_message_keeps_its_body_when_it_is_cut),
        RUN_STORE(a_number_that_cannot_be_looked_up_overwrites_no_group),
        RUN_STORE(a_retry_writes_the_new_time_and_nothing_else),
        RUN_STORE(a_removal_takes_groups_and_with_the_last_one_the_message),
        RUN_STORE(a_large_removal_leaves_the_rest_of_its_targets),
        RUN_STORE(a_change_in_a_batch_that_did_not_fit_is_done_once),
        RUN_STORE(a_full_map_refuses_mail_and_harms_nothing),
        RUN_STORE(removals_go_through_on_a_full_map_and_make_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
