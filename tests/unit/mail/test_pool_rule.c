/* Which pool a message's sender or tenant has. */
#include "smtpd/mail/pool_rule.h"

#include "test.h"

static const char *const bosses[] = {"Boss@a.test"};
static const char *const domains[] = {"a.test", "*.news.test"};
static const char *const tenants[] = {"shop"};
static const struct pool_rule rules[] = {
    {.pool = "by-tenant", .tenants = tenants, .tenant_count = 1},
    {.pool = "by-domain", .sender_domains = domains, .sender_domain_count = 2},
    {.pool = "by-sender", .senders = bosses, .sender_count = 1}};

static const char *choose(const char *sender, const char *tenant)
{
    return pool_rule_choose(rules, 3, sender, tenant);
}

TEST(pool_rule, what_is_more_exact_holds)
{
    assert_string_equal(choose("boss@A.test", "shop"), "by-sender");
    assert_string_equal(choose("x@A.test", "shop"), "by-domain");
    assert_string_equal(choose("x@b.news.test", NULL), "by-domain");
    assert_string_equal(choose("x@news.test", "shop"), "by-tenant");
}

TEST(pool_rule, else_there_is_none)
{
    assert_null(choose("x@b.test", "Shop"));
    assert_null(choose("", NULL));
    assert_string_equal(choose("", "shop"), "by-tenant");
}

TEST(pool_rule, knows_its_pools)
{
    assert_true(pool_rule_has(rules, 3, "by-domain"));
    assert_false(pool_rule_has(rules, 3, "By-domain"));
    assert_false(pool_rule_has(rules, 0, "by-domain"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(pool_rule, what_is_more_exact_holds),
        RUN(pool_rule, else_there_is_none),
        RUN(pool_rule, knows_its_pools),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
