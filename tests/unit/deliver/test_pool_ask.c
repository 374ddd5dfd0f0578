/* By which sources mail may leave: before its hosts are known, and after. */
#include "pool.h"

#include "deliver_world.h"

static const struct deliver_pool_member main_members[] = {{"one", 0}, {"two", 0}};
static const struct deliver_pool_member six_members[] = {{"six", 0}};
static const struct deliver_pool pools[] = {{"main", main_members, 2},
                                            {"six", six_members, 1}};
static const char *const mx_hosts[] = {"mx1.test", "named.test"};
static const char *const routed[] = {"routed.test"};
static const char *const locals[] = {"local.test"};
static const struct destination_rule rule = {
    .match = mx_hosts, .match_count = 2, .settings = {.pool = "six", .connections = 1}};
static const struct route route = {
    .name = "r",
    .match = routed,
    .match_count = 1,
    .host = "127.0.0.1",
    .settings = {.pool = "six", .has_own_pool = true, .connections = 1}};

static void start(struct world *w)
{
    static const char *const addresses[] = {"127.0.0.2", "127.0.0.3", "::1"};
    static const char *const names[] = {"one", "two", "six"};
    static struct deliver_source sources[3];

    for (size_t i = 0; i < 3; i++) {
        sources[i] = (struct deliver_source){.name = names[i], .weight = 1};
        assert_int_equal(ip_parse(slice_of(addresses[i]), &sources[i].ip), RESULT_OK);
    }
    w->settings.sources = sources;
    w->settings.source_count = 3;
    w->settings.pools = pools;
    w->settings.pool_count = 2;
    w->settings.defaults.pool = "main";
    w->settings.rules = &rule;
    w->settings.rule_count = 1;
    w->settings.routes = &route;
    w->settings.route_count = 1;
    w->settings.local_domains = locals;
    w->settings.local_count = 1;
    world_apply(w);
}

static bool leaves_by(const struct world *w, const char *source, const char *lane,
                      const char *pool)
{
    struct envelope of = w->envelope;

    of.pool = pool;
    return deliver_may_leave_by(w->deliver, source, lane, &of);
}

TEST(pool_ask, a_source_is_one_of_the_settings)
{
    struct world *w = *state;

    start(w);
    assert_true(deliver_has_source(w->deliver, "two"));
    assert_false(deliver_has_source(w->deliver, "Two"));
    assert_false(deliver_has_source(w->deliver, "main"));
}

TEST(pool_ask, mail_that_nobody_looked_at_goes_by_what_its_domain_says)
{
    static const struct {
        const char *lane;
        const char *pool;
        const char *source;
    } rows[] = {
        {"a.test", NULL, "one"},       {"a.test", NULL, "two"},
        {"a.test", "six", "six"},      {"named.test", NULL, "six"},
        {"named.test", "main", "two"}, {"routed.test", "main", "six"},
        {"route:r", "main", "six"},    {"route:gone", NULL, "one"},
    };
    struct world *w = *state;

    start(w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_six = strcmp(rows[i].source, "six") == 0;

        assert_true(leaves_by(w, rows[i].source, rows[i].lane, rows[i].pool));
        assert_false(leaves_by(w, is_six ? "one" : "six", rows[i].lane, rows[i].pool));
    }
    assert_false(leaves_by(w, "one", "a.test", "none"));
    assert_false(leaves_by(w, "one", "a.test", "gone"));
    assert_false(leaves_by(w, "one", "local.test", NULL));
}

/* No host has an IPv6 address: the mail waits for the only source of its pool. */
TEST(pool_ask, hosts_that_are_known_say_more_than_the_domain)
{
    struct world *w = *state;

    start(w);
    assert_true(leaves_by(w, "one", "b.test", NULL));
    (void)world_send(w, "x@b.test");
    WORLD_UNTIL(w, world_why(w, "b.test").kind == WHY_SOURCE);
    assert_true(leaves_by(w, "six", "b.test", NULL));
    assert_false(leaves_by(w, "one", "b.test", NULL));
}

/* Its hosts were found under the old ones, where its rule had another place. */
TEST(pool_ask, after_a_reload_the_new_rules_hold_for_what_waits)
{
    static const char *const others[] = {"other.test"};
    static struct destination_rule rules[2];
    struct world *w = *state;

    start(w);
    (void)world_send(w, "x@b.test");
    WORLD_UNTIL(w, world_why(w, "b.test").kind == WHY_SOURCE);
    rules[0] = rule;
    rules[0].match = others;
    rules[0].match_count = 1;
    rules[0].settings.pool = "main";
    rules[1] = rule;
    w->settings.rules = rules;
    w->settings.rule_count = 2;
    world_apply(w);
    assert_true(leaves_by(w, "six", "b.test", NULL));
    assert_false(leaves_by(w, "one", "b.test", NULL));
}

/* What the DNS cannot say now leaves the domain as it was. */
TEST(pool_ask, hosts_that_cannot_be_found_say_nothing)
{
    struct world *w = *state;

    start(w);
    (void)world_send(w, "x@servfail.test");
    WORLD_UNTIL(w, world_why(w, "servfail.test").kind == WHY_DNS && world_is_quiet(w));
    assert_true(leaves_by(w, "one", "servfail.test", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(pool_ask, a_source_is_one_of_the_settings),
        WITH_WORLD(pool_ask, mail_that_nobody_looked_at_goes_by_what_its_domain_says),
        WITH_WORLD(pool_ask, hosts_that_are_known_say_more_than_the_domain),
        WITH_WORLD(pool_ask, after_a_reload_the_new_rules_hold_for_what_waits),
        WITH_WORLD(pool_ask, hosts_that_cannot_be_found_say_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
