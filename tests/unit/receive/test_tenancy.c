/* Whose a message is, and how urgent: only who logged in is asked. */
#include "world.h"

#include "tenancy.h"

static const char *const tenants[] = {"shop"};
static const struct pool_rule rules[] = {
    {.pool = "fast", .tenants = tenants, .tenant_count = 1}, {.pool = "slow"}};

static void start(struct world *w, const char *const *users, size_t user_count)
{
    world_prepare(w);
    w->settings.tenancy = (struct tenancy_settings){.tenant_header = "X-Tenant",
                                                    .tenant_users = users,
                                                    .tenant_user_count = user_count,
                                                    .priority_header = "X-Class",
                                                    .pool_header = "X-Pool",
                                                    .pool_users = users,
                                                    .pool_user_count = user_count,
                                                    .pool_rules = rules,
                                                    .pool_rule_count = 2};
    world_start(w);
    world_connect(w, "192.0.2.9");
    world_log_in(w);
}

static void say(struct world *w, const char *fields, const char *reply)
{
    char script[2000];

    (void)snprintf(script, sizeof script,
                   "%s%sC: From: a@b.test\nC:\nC: body\nC: .\nS: %s\n", DATA, fields,
                   reply);
    world_play(w, script);
}

static const struct stored *send(struct world *w, const char *fields)
{
    say(w, fields, "250 2.0.0 *");
    return last(w);
}

TEST(tenancy, without_a_field_the_tenant_is_the_user)
{
    struct world w;

    start_submission(&w);
    assert_string_equal(send(&w, "C: X-Tenant: shop\n")->tenant, "alice");
    assert_int_equal(last(&w)->envelope.priority, 0);
    assert_non_null(
        strstr(last(&w)->message, "X-Tenant: shop")); /* a field like any other */
    world_end(&w);
}

TEST(tenancy, who_may_names_another)
{
    static const char *const users[] = {"bob", "alice"};
    struct world w;

    start(&w, users, 2);
    assert_string_equal(send(&w, "C: x-tenant: \t shop-7@x \nC: X-Tenant: b\n")->tenant,
                        "shop-7@x");
    assert_null(strstr(last(&w)->message, "enant"));
    assert_string_equal(send(&w, "")->tenant, "alice");
    world_end(&w);
}

TEST(tenancy, a_star_is_whoever_logged_in)
{
    static const char *const users[] = {"*"};
    struct world w;

    start(&w, users, 1);
    assert_string_equal(send(&w, "C: X-Tenant: shop\n")->tenant, "shop");
    world_end(&w);
}

TEST(tenancy, who_may_not_does_not_and_shows_it_to_nobody)
{
    static const char *const users[] = {"bob"};
    struct world w;

    start(&w, users, 1);
    assert_string_equal(send(&w, "C: X-Tenant: shop\n")->tenant, "alice");
    assert_null(strstr(last(&w)->message, "X-Tenant"));
    world_end(&w);
}

TEST(tenancy, what_is_no_name_is_refused)
{
    static const char *const users[] = {"*"};
    struct world w;
    char longest[200] = "C: X-Tenant: ";

    start(&w, users, 1);
    say(&w, "C: X-Tenant: two words\n",
        "554 5.6.0 X-Tenant: names no tenant: 1 to 128 bytes, no blank, no colon");
    say(&w, "C: X-Tenant:\n", "554 5.6.0 *");
    say(&w, "C: X-Tenant: folded\nC:  name\n", "554 5.6.0 *");
    memset(longest + 13, 'x', LIMIT_USER_NAME);
    strcat(longest, "\n");
    assert_int_equal(strlen(send(&w, longest)->tenant), LIMIT_USER_NAME);
    longest[13 + LIMIT_USER_NAME] = 'x';
    strcat(longest, "\n");
    say(&w, longest, "554 5.6.0 *");
    world_end(&w);
}

TEST(tenancy, strangers_and_networks_are_not_asked)
{
    static const char *const users[] = {"*"};
    struct world w;

    world_prepare(&w);
    w.settings.tenancy = (struct tenancy_settings){.tenant_header = "X-Tenant",
                                                   .tenant_users = users,
                                                   .tenant_user_count = 1,
                                                   .priority_header = "X-Class"};
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "10.1.1.1");
    world_play(&w, START);
    assert_null(send(&w, "C: X-Tenant: shop\nC: X-Class: 9\n")->envelope.tenant);
    assert_int_equal(last(&w)->envelope.priority, 0);
    assert_non_null(strstr(last(&w)->message, "X-Tenant: shop"));
    world_end(&w);
}

TEST(tenancy, priorities_are_numbers_or_words)
{
    static const struct {
        const char *value;
        int priority;
    } values[] = {{"0", 0},    {"9", 9},      {"-9", -9},    {"+3", 3},          {" 4 ", 4},
                  {"High", 4}, {"normal", 0}, {"LOW", -4},   {"10", 0},          {"-10", 0},
                  {"-", 0},    {"", 0},       {"urgent", 0}, {"1 (Highest)", 0}, {"9x", 0},
                  {"--", 0},   {"5:", 0},     {"\xff", 0}};
    static const char *const users[] = {"*"};
    struct world w;
    char field[64];

    start(&w, users, 1);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        (void)snprintf(field, sizeof field, "C: x-class:%s\n", values[i].value);
        if (send(&w, field)->envelope.priority != values[i].priority)
            fail_msg("\"%s\" is %d", values[i].value, last(&w)->envelope.priority);
        assert_non_null(strstr(last(&w)->message, "x-class:"));
    }
    world_end(&w);
}

TEST(tenancy, a_pool_is_told_by_who_may_and_kept)
{
    static const char *const users[] = {"alice"};
    struct world w;

    start(&w, users, 1);
    assert_null(send(&w, "")->pool);
    assert_string_equal(send(&w, "C: X-Tenant: shop\n")->pool, "fast");
    assert_string_equal(send(&w, "C: X-Tenant: shop\nC: X-Pool: slow\n")->pool, "slow");
    assert_null(strstr(last(&w)->message, "X-Pool"));
    say(&w, "C: X-Pool: none\n", "554 5.6.0 X-Pool: names no pool that there is");
    world_end(&w);
}

TEST(tenancy, who_may_not_has_the_pool_of_the_rules)
{
    static const char *const users[] = {"bob"};
    struct world w;

    start(&w, users, 1);
    assert_null(send(&w, "C: X-Pool: slow\n")->pool);
    assert_null(strstr(last(&w)->message, "X-Pool"));
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tenancy, without_a_field_the_tenant_is_the_user),
        RUN(tenancy, who_may_names_another),
        RUN(tenancy, a_star_is_whoever_logged_in),
        RUN(tenancy, who_may_not_does_not_and_shows_it_to_nobody),
        RUN(tenancy, what_is_no_name_is_refused),
        RUN(tenancy, strangers_and_networks_are_not_asked),
        RUN(tenancy, a_pool_is_told_by_who_may_and_kept),
        RUN(tenancy, who_may_not_has_the_pool_of_the_rules),
        RUN(tenancy, priorities_are_numbers_or_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
