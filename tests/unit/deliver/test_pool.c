/* A destination that mail of a pool goes to: whose turn it is, and what holds it. */
#include "pool.h"

#include "deliver_world.h"

static const struct deliver_pool_member members[] = {{"one", 3}, {"two", 0}};
static const struct deliver_pool pool = {"main", members, 2};
static const struct deliver_pool_member lonely_members[] = {{"six", 0}};
static const struct deliver_pool lonely = {"main", lonely_members, 1};
static struct deliver_source sources[3]; /* one, two, six */

static void start(struct world *w, const struct deliver_pool *of)
{
    static const char *const addresses[] = {"127.0.0.2", "127.0.0.3", "::1"};
    static const char *const names[] = {"one", "two", "six"};

    for (size_t i = 0; i < 3; i++) {
        sources[i] = (struct deliver_source){.name = names[i], .weight = 1};
        assert_int_equal(ip_parse(slice_of(addresses[i]), &sources[i].ip), RESULT_OK);
    }
    w->settings.sources = sources;
    w->settings.source_count = 3;
    w->settings.pools = of;
    w->settings.pool_count = 1;
    w->settings.defaults.pool = "main";
    world_apply(w);
}

static uint64_t delivered(const struct world *w, const char *name)
{
    return source_find(w->deliver->sources, name)->result.delivered;
}

TEST(pool, each_source_has_its_share)
{
    struct world *w = *state;

    start(w, &pool);
    w->peers[0].serves = true;
    for (int i = 0; i < 20; i++) {
        (void)world_send(w, "x@a.test");
        WORLD_UNTIL(w, world_is_empty(w));
    }
    assert_int_equal(delivered(w, "one"), 15);
    assert_int_equal(delivered(w, "two"), 5);
}

TEST(pool, hosts_of_another_family_are_not_asked)
{
    struct world *w = *state;

    start(w, &lonely);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_SOURCE);
    assert_non_null(strstr(world_why(w, "a.test").text, "no host has an IPv6 address"));
    assert_int_equal(world_counts(w).connections, 0);
}

TEST(pool, one_that_is_gone_holds_its_mail_until_it_is_back)
{
    struct world *w = *state;

    start(w, &pool);
    w->envelope.pool = "other";
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_SOURCE);
    assert_non_null(strstr(world_why(w, "a.test").text, "its pool other is not in"));
    assert_int_equal(world_counts(w).connections, 0);
}

TEST(pool, a_message_comes_before_a_destination_and_a_route_before_a_message)
{
    struct world *w = *state;
    struct plan plan = {.kind = PLAN_HOSTS, .rule = -1};
    struct plan by_route = {.kind = PLAN_HOSTS, .rule = -1, .is_route = true};
    struct route route = {.name = "r", .host = "127.0.0.1", .settings = {.pool = "main"}};

    start(w, &pool);
    (void)strcpy(by_route.route_name, "r");
    assert_string_equal(pool_name(w->deliver->settings, &plan, NULL), "main");
    assert_string_equal(pool_name(w->deliver->settings, &plan, "mine"), "mine");
    w->settings.routes = &route;
    w->settings.route_count = 1;
    world_apply(w);
    assert_string_equal(pool_name(w->deliver->settings, &by_route, "mine"), "mine");
    route.settings.has_own_pool = true;
    world_apply(w);
    assert_string_equal(pool_name(w->deliver->settings, &by_route, "mine"), "main");
    route.settings.pool = "none";
    world_apply(w);
    assert_null(pool_name(w->deliver->settings, &by_route, "mine"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(pool, each_source_has_its_share),
        WITH_WORLD(pool, hosts_of_another_family_are_not_asked),
        WITH_WORLD(pool, one_that_is_gone_holds_its_mail_until_it_is_back),
        WITH_WORLD(pool, a_message_comes_before_a_destination_and_a_route_before_a_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
