/* The settings of delivery: a copy of their own, and the first route or rule that matches. */
#include "inner.h"

#include "test.h"

#include <string.h>

static const char *const exact[] = {"a.test"};
static const char *const wild[] = {"*.b.test", "c.test"};
static const char *const all[] = {"*"};
static const char *const mxs[] = {"*.mx.test"};
static const char *const locals[] = {"local.test"};
static const struct route routes[] = {
    {.name = "first", .match = exact, .match_count = 1, .host = "h1.test", .port = 25},
    {.name = "second", .match = wild, .match_count = 2, .host = "h2.test", .password = "p"},
    {.name = "rest", .match = all, .match_count = 1, .host = "h3.test"}};
static const struct destination_rule rules[] = {{.match = mxs, .match_count = 1},
                                                {.match = exact, .match_count = 1}};

static struct deliver_settings values(size_t route_count)
{
    return (struct deliver_settings){.hostname = "relay.test",
                                     .routes = routes,
                                     .route_count = route_count,
                                     .rules = rules,
                                     .rule_count = 2,
                                     .local_domains = locals,
                                     .local_count = 1};
}

TEST(settings, the_first_route_that_matches_is_taken)
{
    struct deliver_settings all_three = values(3);
    struct plan_settings *settings = settings_new(&all_three, NULL);

    assert_string_equal(settings_find_route(settings, "a.test")->name, "first");
    assert_string_equal(settings_find_route(settings, "x.b.test")->name, "second");
    assert_string_equal(settings_find_route(settings, "c.test")->name, "second");
    assert_string_equal(settings_find_route(settings, "b.test")->name, "rest");
    assert_string_equal(settings_route_by_name(settings, "second")->host, "h2.test");
    assert_null(settings_route_by_name(settings, "gone"));
    settings_unref(settings);
}

TEST(settings, without_a_route_the_dns_decides)
{
    struct deliver_settings two = values(2);
    struct plan_settings *settings = settings_new(&two, NULL);

    assert_null(settings_find_route(settings, "other.test"));
    assert_true(settings_is_local(settings, "local.test"));
    assert_false(settings_is_local(settings, "sub.local.test"));
    settings_unref(settings);
}

TEST(settings, a_rule_matches_the_domain_or_one_of_its_exchangers)
{
    const char *const hosts[] = {"other.test", "in.mx.test"};
    struct deliver_settings two = values(2);
    struct plan_settings *settings = settings_new(&two, NULL);

    assert_int_equal(settings_find_rule(settings, "a.test", NULL, 0), 1);
    assert_int_equal(settings_find_rule(settings, "z.test", hosts, 2), 0);
    assert_int_equal(settings_find_rule(settings, "z.test", hosts, 1), -1);
    settings_unref(settings);
}

TEST(settings, a_tenant_has_its_weight_or_that_of_all_others)
{
    static const struct deliver_tenant tenants[] = {{"shop", 7}, {"*", 3}, {"bank", 1000}};
    struct deliver_settings mine = values(0);
    struct plan_settings *settings = settings_new(&mine, NULL);

    assert_int_equal(settings_weight(settings, "shop"), 1);
    assert_int_equal(settings_weight(settings, NULL), 1);
    settings_unref(settings);
    mine.tenants = tenants;
    mine.tenant_count = 3;
    settings = settings_new(&mine, NULL);
    assert_int_equal(settings_weight(settings, "shop"), 7);
    assert_int_equal(settings_weight(settings, "bank"), 1000);
    assert_int_equal(settings_weight(settings, "other"), 3);
    assert_int_equal(settings_weight(settings, NULL), 3);
    settings_unref(settings);
}

TEST(settings, are_a_copy_that_lives_until_the_last_user_lets_go)
{
    char name[] = "relay.test";
    struct deliver_settings mine = values(3);
    struct plan_settings *settings;

    mine.hostname = name;
    settings = settings_new(&mine, NULL);
    memset(name, 'x', sizeof name - 1);
    assert_string_equal(settings->values.hostname, "relay.test");
    assert_ptr_equal(settings_ref(settings), settings);
    settings_unref(settings);
    assert_string_equal(settings->values.routes[1].password, "p");
    settings_unref(settings);
    settings_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(settings, the_first_route_that_matches_is_taken),
        RUN(settings, without_a_route_the_dns_decides),
        RUN(settings, a_rule_matches_the_domain_or_one_of_its_exchangers),
        RUN(settings, a_tenant_has_its_weight_or_that_of_all_others),
        RUN(settings, are_a_copy_that_lives_until_the_last_user_lets_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
