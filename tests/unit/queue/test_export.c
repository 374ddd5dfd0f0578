/* Messages out of a running queue: a batch after the other, and each that was named is told of
 * once. Files, and what is in them: tests/e2e/test_moving.py. */
#include "queue_world.h"

#include "smtpd/queue/moving.h"
#include "transfer.h"

enum { LARGE_BYTES = LIMIT_BATCH_BYTES + 4096 };

struct moved {
    struct world *world;
    char folder[160];
    struct export_counts counts;
};

static void on_failed(void *owner, uint64_t id, const char *why)
{
    (void)owner;
    (void)id;
    fail_msg("%s", why);
}

static void on_exported(void *owner, enum result result, const struct export_counts *counts,
                        const struct fault *fault)
{
    struct moved *moved = owner;

    if (result != RESULT_OK)
        fail_msg("%s", fault->text);
    moved->counts = *counts;
    moved->world->ends++;
}

static void export(struct world *world, const uint64_t *ids, size_t count,
                   struct moved *moved)
{
    size_t before = world->ends;

    *moved = (struct moved){.world = world};
    (void)snprintf(moved->folder, sizeof moved->folder, "%s/moved", world->folder);
    queue_export_start(world->queue, &(struct queue_export){moved->folder, ids, count,
                                                            on_failed, on_exported, moved});
    assert_int_equal(world->ends, before);
    world_wait_above(world, &world->ends, before);
}

/* Removes it, and says whether it was there. */
static bool take_file(const struct moved *moved, uint64_t id)
{
    char text[ID_TEXT];
    char path[192];

    id_print(id, text);
    (void)snprintf(path, sizeof path, "%s/%s" TRANSFER_SUFFIX, moved->folder, text);
    return unlink(path) == 0;
}

/* More than a batch holds. */
static uint64_t send_large(struct world *world)
{
    static const char *const list[] = {"r@large.test", NULL};
    char *body = world_bytes(LARGE_BYTES);
    uint64_t id;

    assert_int_equal(world_accept(world, list, (struct slice){body, LARGE_BYTES}, &id),
                     RESULT_OK);
    memory_free(body);
    return id;
}

TEST(export, what_a_large_message_leaves_for_the_next_batch_is_moved_then)
{
    struct world *world = *state;
    enum { LARGE, FIRST, SECOND, NOBODYS, THIRD, LEASED, COUNT };
    static const bool is_moved[COUNT] = {true, true, true, false, true, false};
    uint64_t ids[COUNT] = {[LARGE] = send_large(world), [NOBODYS] = 12345};
    struct moved moved;
    struct lease *lease;

    ids[FIRST] = world_send(world, "r@a.test", "x\r\n");
    ids[SECOND] = world_send(world, "r@a.test", "x\r\n");
    ids[THIRD] = world_send(world, "r@b.test", "x\r\n");
    ids[LEASED] = world_send(world, "r@leased.test", "x\r\n");
    lease = world_take(world, "leased.test"); /* an attempt is running */
    export(world, ids, COUNT, &moved);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(take_file(&moved, ids[i]), is_moved[i]);
    assert_int_equal(rmdir(moved.folder), 0);
    assert_int_equal(moved.counts.exported, 4);
    assert_int_equal(moved.counts.busy, 1); /* once, whichever batches it was in */
    assert_int_equal(moved.counts.gone, 1);
    assert_int_equal(moved.counts.failed, 0);
    assert_int_equal(world_numbers(world).groups_waiting, 0);
    assert_int_equal(world_rows(world, world->queue->store->envelope), 1);
    lease_release(lease);
}

#define EXPORT(name) cmocka_unit_test_setup_teardown(export_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXPORT(what_a_large_message_leaves_for_the_next_batch_is_moved_then),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
