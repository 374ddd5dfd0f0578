/* Which groups a selection means: as a question over the socket, and by itself. */
#include "admin_world.h"

#include "selection.h"

/* ---- over the socket ---- */

static void fill(struct world *world)
{
    static const struct world_mail mails[] = {
        {.sender = "Ann@From.test", .user = "ann", .recipients = {"x@one.test"}},
        {.sender = "", .age_ms = 2 * 3600000, .recipients = {"y@sub.one.test"}},
        {.sender = "bob@from.test",
         .user = "bob",
         .tenant = "red",
         .pool = "news",
         .recipients = {"x@one.test", "Z@Two.Test"}},
        {.recipients = {"x@b\xc3\xbc"
                        "cher.test"}},
    };

    for (size_t i = 0; i < sizeof mails / sizeof *mails; i++)
        (void)world_send(world, &mails[i]);
}

TEST(selection, what_is_given_must_all_fit)
{
    static const struct {
        const char *query;
        size_t count;
    } rows[] = {
        {"", 5},
        {"?", 5},
        {"?domain=one.test", 2},
        {"?domain=ONE.test", 2},
        {"?domain=*.one.test", 1},
        {"?domain=*.ONE.Test", 1},
        {"?domain=b%C3%BCcher.test", 1},
        {"?domain=xn--bcher-kva.test", 1},
        {"?domain=*", 5},
        {"?domain=two.test", 1},
        {"?domain=three.test", 0},
        {"?sender=ann%40from.test", 1},
        {"?sender=%3C%3E", 1},
        {"?sender=ann", 0},
        {"?recipient=z%40two.test", 1},
        {"?recipient=x%40one.test", 2},
        {"?user=ann", 1},
        {"?user=Ann", 0}, /* names of users have a case */
        {"?tenant=red", 2},
        {"?tenant=blue", 0},
        {"?pool=news", 2},
        {"?pool=New", 0},
        {"?pool=news&recipient=x@one.test", 1},
        {"?source=mail-a", 3},
        {"?source=mail-a&domain=two.test", 1},
        {"?older_than=1h", 1},
        {"?older_than=3h", 0},
        {"?state=any", 5},
        {"?state=waiting", 5},
        {"?state=active", 0},
        {"?state=held", 0},
        {"?user=bob&domain=one.test", 1},
        {"?user=bob&tenant=red&domain=two.test&recipient=z@two.test&state=waiting", 1},
        {"?user=bob&tenant=red&domain=two.test&recipient=x@one.test", 0},
        {"?user=ann&older_than=1h", 0},
    };
    struct world *world = *state;

    fill(world);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[200];

        (void)snprintf(path, sizeof path, "/v1/queue%s", rows[i].query);
        assert_int_equal(world_get(world, path), 200);
        if (world_count(world) != rows[i].count)
            fail_msg("%s: %zu", rows[i].query, world_count(world));
    }
}

TEST(selection, an_attempt_makes_a_group_active)
{
    struct world *world = *state;
    struct lease *lease;

    fill(world);
    lease = world_take(world, "two.test");
    assert_int_equal(world_get(world, "/v1/queue?state=active"), 200);
    assert_int_equal(world_count(world), 1);
    assert_string_equal(world_text(world_item(world, 0), "lane"), "two.test");
    assert_string_equal(world_text(world_item(world, 0), "state"), "active");
    assert_int_equal(world_get(world, "/v1/queue?state=waiting"), 200);
    assert_int_equal(world_count(world), 4);
    lease_release(lease);
    assert_int_equal(world_get(world, "/v1/queue?state=active"), 200);
    assert_int_equal(world_count(world), 0);
}

TEST(selection, bad_input_is_refused_with_the_name_of_what_is_wrong)
{
    static const struct {
        const char *query;
        const char *says;
    } rows[] = {
        {"domain=", "domain"},
        {"sender=", "sender"},
        {"recipient=", "recipient"},
        {"user=", "user"},
        {"tenant=", "tenant"},
        {"pool=", "pool"},
        {"source=", "source"},
        {"source=mail-b", "source"},
        {"domain=%00one.test", "domain"},
        {"state=", "state"},
        {"state=Waiting", "state"},
        {"state=waiting%20", "state"},
        {"older_than=", "older_than"},
        {"older_than=2", "older_than"},
        {"older_than=-2h", "older_than"},
        {"older_than=2%20hours", "older_than"},
        {"older_than=99999999999999999999d", "older_than"},
        {"user=ann&state=odd", "state"},
    };
    struct world *world = *state;

    fill(world);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[200];

        (void)snprintf(path, sizeof path, "/v1/queue?%s", rows[i].query);
        if (world_get(world, path) != 400)
            fail_msg("%s is taken", rows[i].query);
        assert_non_null(strstr(world_error(world), rows[i].says));
    }
}

/* A question that is not understood must not mean everything. */
TEST(selection, a_name_without_a_value_is_refused)
{
    static const char *const names[] = {"domain", "sender", "recipient",
                                        "user",   "tenant", "pool",
                                        "source", "state",  "older_than"};
    struct world *world = *state;

    fill(world);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];

        (void)snprintf(path, sizeof path, "/v1/queue?%s", names[i]);
        if (world_get(world, path) != 400)
            fail_msg("%s is taken", names[i]);
    }
}

TEST(selection, values_that_nothing_can_have_are_too_long)
{
    static const struct {
        const char *name;
        int most;
    } rows[] = {{"domain", LANE_TEXT - 1},    {"sender", LIMIT_ADDRESS},
                {"recipient", LIMIT_ADDRESS}, {"user", LIMIT_USER_NAME},
                {"tenant", LIMIT_USER_NAME},  {"pool", LIMIT_POOL_NAME}};
    struct world *world = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int more = 0; more <= 1; more++) {
            char *path =
                memory_format("/v1/queue?%s=%0*d", rows[i].name, rows[i].most + more, 0);

            assert_int_equal(world_get(world, path), more ? 400 : 200);
            memory_free(path);
        }
    }
}

/* ---- by itself ---- */

static const struct recipient recipients[] = {{.address = "x@one.test"},
                                              {.address = "y@xn--bcher-kva.test"}};

static bool fits(struct world *world, const struct selection *selection, const char *lane,
                 bool is_held)
{
    struct envelope envelope = {.id = 1, .sender = "a@b.test", .arrival_ms = 1000};
    struct group group = {.lane = lane,
                          .is_held = is_held,
                          .not_before_ms = INT64_MAX,
                          .recipient_count = 2,
                          .recipients = recipients};

    return selection_fits(selection, world->queue, 61000, &envelope, &group);
}

TEST(selection, a_lane_of_a_route_is_found_by_name_and_by_the_domains_in_it)
{
    struct world *world = *state;

    assert_true(
        fits(world, &(struct selection){.domain = "route:hub"}, "route:hub", false));
    assert_true(fits(world, &(struct selection){.domain = "one.test"}, "route:hub", false));
    assert_true(fits(world, &(struct selection){.domain = "*.test"}, "route:hub", false));
    assert_true(fits(world, &(struct selection){.domain = "xn--bcher-kva.test"},
                     "route:hub", false));
    assert_false(
        fits(world, &(struct selection){.domain = "route:hu"}, "route:hub", false));
    assert_false(
        fits(world, &(struct selection){.domain = "two.test"}, "route:hub", false));
}

TEST(selection, a_held_group_is_neither_waiting_nor_active)
{
    struct world *world = *state;

    assert_true(fits(world, &(struct selection){.state = SELECTION_HELD}, "l", true));
    assert_false(fits(world, &(struct selection){.state = SELECTION_HELD}, "l", false));
    assert_false(fits(world, &(struct selection){.state = SELECTION_WAITING}, "l", true));
    assert_true(fits(world, &(struct selection){.state = SELECTION_WAITING}, "l", false));
    assert_false(fits(world, &(struct selection){.state = SELECTION_ACTIVE}, "l", true));
    assert_false(fits(world, &(struct selection){.state = SELECTION_ACTIVE}, "l", false));
    assert_true(fits(world, &(struct selection){.state = SELECTION_ANY}, "l", true));
}

TEST(selection, an_age_is_counted_from_the_arrival)
{
    struct world *world = *state;

    assert_true(fits(world, &(struct selection){.older_than_ms = 60000}, "l", false));
    assert_false(fits(world, &(struct selection){.older_than_ms = 60001}, "l", false));
}

TEST(selection, who_never_logged_in_has_no_name)
{
    struct world *world = *state;

    assert_false(fits(world, &(struct selection){.user = "ann"}, "l", false));
    assert_false(fits(world, &(struct selection){.tenant = "red"}, "l", false));
    assert_false(fits(world, &(struct selection){.pool = "news"}, "l", false));
}

#define WITH_WORLD(name)                                                                   \
    cmocka_unit_test_setup_teardown(selection_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(what_is_given_must_all_fit),
        WITH_WORLD(an_attempt_makes_a_group_active),
        WITH_WORLD(bad_input_is_refused_with_the_name_of_what_is_wrong),
        WITH_WORLD(a_name_without_a_value_is_refused),
        WITH_WORLD(values_that_nothing_can_have_are_too_long),
        WITH_WORLD(a_lane_of_a_route_is_found_by_name_and_by_the_domains_in_it),
        WITH_WORLD(a_held_group_is_neither_waiting_nor_active),
        WITH_WORLD(an_age_is_counted_from_the_arrival),
        WITH_WORLD(who_never_logged_in_has_no_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
