/* Recipients become groups by lane, and no group passes its limits. */
#include "queue_world.h"

enum { MANY = 250 };

static size_t count_lane(struct world *world, const char *lane, size_t *recipients)
{
    size_t groups = 0;
    struct domain_queue *domain_queue = world_lane(world, lane);
    struct queue_entry entry;

    *recipients = 0;
    while (domain_queue_take(domain_queue, &entry)) {
        struct lease *lease = world_load(world, domain_queue, &entry);

        assert_non_null(lease);
        assert_true(lease->group.recipient_count <= LIMIT_GROUP_RECIPIENTS);
        *recipients += lease->group.recipient_count;
        groups++;
        assert_int_equal(world_finish(world, lease), RESULT_OK);
    }
    return groups;
}

TEST(message, more_recipients_than_a_group_takes_make_more_groups)
{
    struct world *world = *state;
    static char texts[MANY][32];
    const char *list[MANY + 1] = {NULL};
    size_t recipients;

    for (int i = 0; i < MANY; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "r%d@a.test", i);
        list[i] = texts[i];
    }
    assert_int_equal(world_accept(world, list, SLICE("x\r\n"), NULL), RESULT_OK);
    assert_int_equal(count_lane(world, "a.test", &recipients), 3);
    assert_int_equal(recipients, MANY);
}

TEST(message, long_addresses_fill_a_group_by_bytes)
{
    struct world *world = *state;
    static char texts[30][320];
    const char *list[31] = {NULL};
    size_t recipients;

    for (int i = 0; i < 30; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "%02d%062d@%s.a.test", i, 0,
                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        list[i] = texts[i];
    }
    assert_int_equal(world_accept(world, list, SLICE("x\r\n"), NULL), RESULT_OK);
    assert_true(count_lane(world, strchr(texts[0], '@') + 1, &recipients) >= 2);
    assert_int_equal(recipients, 30);
}

TEST(message, every_text_of_the_envelope_comes_back)
{
    struct world *world = *state;
    struct envelope envelope = {.sender = "s\xc3\xa4@b.test",
                                .envid = "QQ+2B",
                                .user = "app",
                                .tenant = "t1",
                                .session = "abc",
                                .dsn_return = RETURN_HEADERS,
                                .body_type = BODY_8BITMIME,
                                .smtputf8 = true,
                                .priority = 0,
                                .has_8bit = true,
                                .has_dot_line = true,
                                .longest_line = 998};
    struct recipient recipient = {.address = "r@a.test",
                                  .orcpt = "rfc822;x+2Bt",
                                  .notify = NOTIFY_SUCCESS | NOTIFY_DELAY};
    struct submission submission = {&envelope, WORLD_HEADER, &recipient, 1};
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);
    struct lease *lease;

    envelope.arrival_ms = loop_wall_ms(world->loop);
    (void)draft_commit(draft, &submission, world_on_end, world);
    world_wait_above(world, &world->ends, 0);
    world_reopen(world);
    lease = world_take(world, "a.test");
    assert_string_equal(lease->envelope.sender, envelope.sender);
    assert_string_equal(lease->envelope.envid, "QQ+2B");
    assert_string_equal(lease->envelope.user, "app");
    assert_string_equal(lease->envelope.tenant, "t1");
    assert_string_equal(lease->envelope.session, "abc");
    assert_int_equal(lease->envelope.dsn_return, RETURN_HEADERS);
    assert_int_equal(lease->envelope.body_type, BODY_8BITMIME);
    assert_true(lease->envelope.smtputf8 && lease->envelope.has_8bit);
    assert_true(lease->envelope.has_dot_line);
    assert_int_equal(lease->envelope.longest_line, 998);
    assert_int_equal(lease->envelope.arrival_ms, envelope.arrival_ms);
    assert_string_equal(lease->group.recipients[0].orcpt, "rfc822;x+2Bt");
    assert_int_equal(lease->group.recipients[0].notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
    lease_release(lease);
}

#define MESSAGE(name) cmocka_unit_test_setup_teardown(message_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESSAGE(more_recipients_than_a_group_takes_make_more_groups),
        MESSAGE(long_addresses_fill_a_group_by_bytes),
        MESSAGE(every_text_of_the_envelope_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
