/* What one limit holds for, and whose turn it is. */
#include "scope.h"

#include "deliver_world.h"
#include "known_hosts.h"

static char *key_of(const struct world *w, const char *domain, const char *host, int rule,
                    const char *destination_key)
{
    struct plan_host hosts = {.preference = 10};
    struct plan plan = {.kind = PLAN_HOSTS, .hosts = &hosts, .host_count = 1, .rule = rule};
    struct bytes key;
    char *text;

    (void)domain;
    (void)snprintf(hosts.name, sizeof hosts.name, "%s", host);
    bytes_init(&key, 1024);
    scope_key(w->deliver->settings, &plan, destination_key, &key);
    text = slice_to_text(bytes_view(&key));
    bytes_fini(&key);
    return text;
}

static void expect_key(const struct world *w, const char *host, int rule,
                       const char *destination_key, const char *wanted)
{
    char *key = key_of(w, "a.test", host, rule, destination_key);

    assert_string_equal(key, wanted);
    memory_free(key);
}

static void set_rules(struct world *w, const struct destination_rule *rules, size_t count)
{
    w->settings.rules = rules;
    w->settings.rule_count = count;
    world_apply(w);
}

#define SETTINGS                                                                           \
    {                                                                                      \
        .connections = 1, .messages_per_connection = 100,                                  \
        .recipients_per_transaction = 100                                                  \
    }

TEST(scope, hosts_that_match_share_one_and_domains_do_not)
{
    static const char *const hosts[] = {"*.provider.test", "big.test"};
    static const char *const all[] = {"*"};
    static const struct destination_rule rules[] = {
        {.name = "provider", .match = hosts, .match_count = 2, .settings = SETTINGS},
        {.match = all, .match_count = 1, .settings = SETTINGS}};
    struct world *w = *state;

    set_rules(w, rules, 2);
    expect_key(w, "a.provider.test", 0, "a.provider.test#0", "rule:provider");
    expect_key(w, "b.provider.test", 0, "b.provider.test#0", "rule:provider");
    /* By the domain only: the hosts are somebody else's. */
    expect_key(w, "mx.other.test", 0, "mx.other.test#0", "mx.other.test#provider");
    /* Everything matches "*", and has nothing in common. */
    expect_key(w, "mx.other.test", 1, "mx.other.test#1", "mx.other.test#*");
    expect_key(w, "mx.other.test", -1, "mx.other.test", "mx.other.test");
    expect_key(w, "mx.other.test", 7, "mx.other.test", "mx.other.test"); /* is no more */
}

/* Of a group that was read, and waits in memory. */
static struct why leased_why(const struct world *w, uint64_t id)
{
    struct queue_target target = {.id = id};
    struct why why;

    deliver_why_leased(w->deliver, "a.test", NULL, &target, &why);
    return why;
}

static struct scope *only_scope(const struct world *w)
{
    const struct destination *destination =
        CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination, link);

    assert_int_equal(scopes_count(w->deliver->scopes), 1);
    return destination->scope;
}

TEST(scope, its_destinations_have_the_limit_together)
{
    static const char *const hosts[] = {"*.test"};
    static const struct destination_rule rule = {
        .name = "all", .match = hosts, .match_count = 1, .settings = SETTINGS};
    struct world *w = *state;

    set_rules(w, &rule, 1);
    for (int i = 0; i < 3; i += 2)
        smtp_peer_play(&w->peers[i],
                       "S: 220 mx\nC: EHLO *\nS: <hold>\nS: 250 mx\nS: <serve>\n");
    for (int i = 0; i < 5; i++) {
        (void)world_send(w, "x@a.test"); /* mx1 */
        (void)world_send(w, "x@c.test"); /* mx3 */
    }
    WORLD_UNTIL(w, w->peers[0].held + w->peers[2].held == 1);
    WORLD_UNTIL(w, w->deliver->all_destinations.count == 2);
    for (int turns = 0; turns < 100; turns++)
        loop_run_for(w->loop, 1);
    assert_int_equal(only_scope(w)->connections, 1);
    assert_int_equal(only_scope(w)->pace.running, 1);
    w->peers[0].serves = w->peers[2].serves = true;
    /* One connection at a time: each turn closes the other's resting one. */
    while (!world_is_empty(w)) {
        for (int i = 0; i < 3; i += 2)
            if (w->peers[i].held)
                smtp_peer_go(&w->peers[i]);
        loop_run_for(w->loop, 1);
        world_check_peers(w);
        assert_true(only_scope(w)->connections <= 1);
    }
    assert_int_equal(w->peers[0].messages, 5);
    assert_int_equal(w->peers[2].messages, 5);
    assert_true(w->peers[0].accepted >= 2 || w->peers[2].accepted >= 2); /* in turn */
}

TEST(scope, a_rate_holds_and_says_why)
{
    struct world *w = *state;
    struct why why;
    uint64_t id;

    w->settings.defaults.message_rate = (struct quota){1, HOUR_MS};
    world_apply(w);
    w->peers[0].serves = true;
    id = world_send(w, "x@a.test");
    WORLD_UNTIL(w, leased_why(w, id).kind == WHY_RATE);
    why = leased_why(w, id);
    assert_string_equal(why.text, "the destination takes 1/h messages");
    assert_in_range(why.until_ms, deliver_now(w->deliver) + HOUR_MS - 60000,
                    deliver_now(w->deliver) + HOUR_MS);
    assert_int_equal(w->peers[0].accepted, 0);
    /* A reload that lifts it is felt at once. */
    w->settings.defaults.message_rate = (struct quota){0};
    world_apply(w);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 1);
}

TEST(scope, what_waits_for_a_token_is_woken_by_the_clock)
{
    struct world *w = *state;

    w->settings.defaults.message_rate = (struct quota){20, 1000};
    world_apply(w);
    w->peers[0].serves = true;
    for (int i = 0; i < 10; i++)
        (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 10);
    assert_int_equal(only_scope(w)->pace.running, 0);
    assert_int_equal(only_scope(w)->pace.promised_messages, 0);
    assert_int_equal(only_scope(w)->pace.promised_connections, 0);
}

TEST(scope, a_suspension_gives_all_back_and_an_operator_ends_it)
{
    struct world *w = *state;
    struct pace_time time;
    uint64_t id;

    w->settings.defaults.message_rate = (struct quota){1, HOUR_MS};
    world_apply(w);
    w->peers[0].serves = true;
    id = world_send(w, "x@a.test");
    WORLD_UNTIL(w, leased_why(w, id).kind == WHY_RATE);
    time = scope_time(only_scope(w));
    pace_suspend(&only_scope(w)->pace, time.wall_ms + HOUR_MS,
                 &(struct pace_cause){"reaction", "421 4.7.28 too fast"}, &time);
    scope_wake(only_scope(w));
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_SUSPENDED);
    assert_string_equal(world_why(w, "a.test").text, "421 4.7.28 too fast");
    assert_true(world_why(w, "a.test").until_ms == time.wall_ms + HOUR_MS);
    assert_int_equal(world_numbers(w).groups_leased, 0);
    (void)world_send(w, "x@b.test"); /* the same hosts */
    WORLD_UNTIL(w, world_why(w, "b.test").kind == WHY_SUSPENDED);
    w->settings.defaults.message_rate = (struct quota){0};
    world_apply(w);
    deliver_wake(w->deliver, NULL);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 2);
}

TEST(scope, what_nobody_uses_is_bounded)
{
    struct world *w = *state;
    struct destination destination = {.deliver = w->deliver, .kind = PLAN_HOSTS};
    struct plan_host host = {.name = "mx"};
    char key[32];

    destination.plan =
        (struct plan){.kind = PLAN_HOSTS, .hosts = &host, .host_count = 1, .rule = -1};
    for (int i = 0; i < LIMIT_DESTINATIONS / 2 + 1000; i++) {
        (void)snprintf(key, sizeof key, "mx%d.test", i);
        destination.key = key;
        destination.scope = NULL;
        assert_non_null(scope_of(&destination));
        destination.scope->pace.has_shrunk = true; /* it has learned something */
        scope_forget(&destination);
    }
    assert_in_range(scopes_count(w->deliver->scopes), LIMIT_DESTINATIONS / 2,
                    LIMIT_DESTINATIONS / 2 + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(scope, hosts_that_match_share_one_and_domains_do_not),
        WITH_WORLD(scope, its_destinations_have_the_limit_together),
        WITH_WORLD(scope, a_rate_holds_and_says_why),
        WITH_WORLD(scope, what_waits_for_a_token_is_woken_by_the_clock),
        WITH_WORLD(scope, a_suspension_gives_all_back_and_an_operator_ends_it),
        WITH_WORLD(scope, what_nobody_uses_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
