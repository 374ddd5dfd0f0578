/* A destination that mail of a pool goes to: whose turn it is, and what holds it. */
#include "pool.h"

#include "deliver_world.h"
#include "scope.h"

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

static struct destination *named(const struct world *w, const char *end)
{
    const struct list *all = &w->deliver->all_destinations;

    for (struct link *link = list_first(all); link; link = list_next(all, link)) {
        struct destination *one = CONTAINER_OF(link, struct destination, link);
        const char *at = strchr(one->name, '@');

        if (at && strcmp(at + 1, end) == 0)
            return one;
    }
    return NULL;
}

/* A message waits for the rate of both, for an hour. */
static void wait_for_rates(struct world *w)
{
    w->settings.defaults.message_rate = (struct quota){1, HOUR_MS};
    start(w, &pool);
    w->peers[0].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, named(w, "one") && named(w, "one")->standing > 0 && named(w, "two") &&
                       named(w, "two")->standing > 0);
}

static void fill(struct world *w, const char *name)
{
    named(w, name)->scope->pace.messages.at_ms = loop_now_ms(w->loop) - HOUR_MS;
}

static void back_off(struct world *w, const char *name, int64_t for_ms)
{
    named(w, name)->until_ms = deliver_now(w->deliver) + for_ms;
    destination_run_later(named(w, "pool:main"));
}

TEST(pool, one_whose_back_off_ends_takes_what_waits_for_the_rate_of_another)
{
    struct world *w = *state;

    wait_for_rates(w);
    fill(w, "one");
    back_off(w, "one", 300);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(delivered(w, "one"), 1);
}

TEST(pool, one_whose_address_is_back_takes_what_waits_for_the_rate_of_another)
{
    struct world *w = *state;
    struct source *one;

    wait_for_rates(w);
    one = source_find(w->deliver->sources, "one");
    assert_int_equal(ip_parse(SLICE("192.0.2.1"), &one->ip), RESULT_OK);
    assert_true(source_blame(one));
    fill(w, "one");
    destination_run_later(named(w, "pool:main"));
    WORLD_UNTIL(w, one->waiting.count == 1);
    assert_int_equal(ip_parse(SLICE("127.0.0.2"), &one->ip), RESULT_OK);
    one->is_aside = false;
    source_wake(one);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(delivered(w, "one"), 1);
}

/* The attempt had a token in sight, and another message took it. Behind it there is one that was not read
 * yet, as is so while a path is judged: the lane is at rest. */
TEST(pool, a_lane_rests_no_longer_than_until_another_source_comes_back)
{
    struct world *w = *state;
    struct link *link;

    wait_for_rates(w);
    smtp_peer_play(&w->peers[0], "S: <hold>\n" GREET "S: <serve>\n");
    back_off(w, "one", HOUR_MS);
    fill(w, "two");
    scope_serve(named(w, "two")->scope);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    named(w, "two")->failures = 1;
    (void)world_send(w, "y@a.test");
    link = list_first(&named(w, "pool:main")->attached);
    WORLD_UNTIL(w, CONTAINER_OF(link, struct lane, attached)->is_held);
    named(w, "two")->scope->pace.messages.level = 0;
    fill(w, "one");
    back_off(w, "one", 300);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, delivered(w, "one") == 1);
    assert_int_equal(delivered(w, "two"), 0);
}

TEST(pool, who_is_only_busy_is_asked_again_soon)
{
    struct world *w = *state;
    struct destination *head;
    const struct destination *two;

    wait_for_rates(w);
    head = named(w, "pool:main");
    two = named(w, "two");
    assert_int_equal(pool_rest_ms(head, two, HOUR_MS), 10000);
    assert_int_equal(pool_rest_ms(head, two, 2000), 2000);
    back_off(w, "one", 2 * HOUR_MS);
    assert_int_equal(pool_rest_ms(head, two, HOUR_MS), HOUR_MS);
    back_off(w, "one", HOUR_MS / 2);
    assert_in_range(pool_rest_ms(head, two, HOUR_MS), HOUR_MS / 3, HOUR_MS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(pool, each_source_has_its_share),
        WITH_WORLD(pool, hosts_of_another_family_are_not_asked),
        WITH_WORLD(pool, one_that_is_gone_holds_its_mail_until_it_is_back),
        WITH_WORLD(pool, one_whose_back_off_ends_takes_what_waits_for_the_rate_of_another),
        WITH_WORLD(pool,
                   one_whose_address_is_back_takes_what_waits_for_the_rate_of_another),
        WITH_WORLD(pool, a_lane_rests_no_longer_than_until_another_source_comes_back),
        WITH_WORLD(pool, who_is_only_busy_is_asked_again_soon),
        WITH_WORLD(pool, a_message_comes_before_a_destination_and_a_route_before_a_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
