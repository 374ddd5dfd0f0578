/* What is remembered of hosts. */
#include "deliver_world.h"
#include "known_hosts.h"
#include "source.h"

TEST(host, a_host_that_works_again_is_forgiven)
{
    struct world *w = *state;
    struct destination any = world_destination(w);
    struct host_memory *host = host_memory(&any, "mx1.test");
    int64_t now_ms = deliver_now(w->deliver);

    host_fault(&any, "mx1.test");
    assert_int_equal(host->failures, 1);
    assert_true(host->until_ms > now_ms);
    host->until_ms = 1;
    host_fault(&any, "mx1.test");
    assert_true(host->until_ms >= now_ms + 54000);
    host_works(&any, "mx1.test");
    assert_int_equal(host->failures, 0);
    assert_int_equal(host->until_ms, 0);
    host_works(&any, "never-heard-of.test");
    assert_ptr_equal(host_memory(&any, "mx1.test"), host);
}

TEST(host, what_is_known_of_a_host_is_kept_apart_by_port_route_and_rule)
{
    struct world *w = *state;
    struct destination plain = world_destination(w);
    struct destination port = plain;
    struct destination rule = plain;
    struct destination route = plain;

    port.plan.port++;
    rule.block = (char *)(uintptr_t) "block";
    route.plan.is_route = true;
    (void)strcpy(route.plan.route_name, "r");
    host_fault(&plain, "mx1.test");
    assert_int_equal(host_find(&plain, "mx1.test")->failures, 1);
    assert_null(host_find(&port, "mx1.test"));
    assert_null(host_find(&rule, "mx1.test"));
    assert_null(host_find(&route, "mx1.test"));
    host_fault(&route, "mx1.test");
    (void)strcpy(route.plan.route_name, "s");
    assert_null(host_find(&route, "mx1.test"));
}

/* ---- over a reload ---- */

static const char *const ours[] = {"a.test", "b.test"};
static const char *const others[] = {"c.test"};
#define PLAIN                                                                              \
    {                                                                                      \
        .connections = 1, .messages_per_connection = 1, .recipients_per_transaction = 1    \
    }
static const struct destination_rule blocks[] = {
    {.name = "ours", .match = ours, .match_count = 2, .settings = PLAIN},
    {.name = "new", .match = others, .match_count = 1, .settings = PLAIN}};
static const struct destination_rule moved[] = {
    {.name = "new", .match = others, .match_count = 1, .settings = PLAIN},
    {.name = "ours", .match = ours, .match_count = 2, .settings = PLAIN}};

static void set_blocks(struct world *w, const struct destination_rule *rules)
{
    w->settings.rules = rules;
    w->settings.rule_count = 2;
    world_apply(w);
}

/* Of mx1.test, which both blocks may have mail for. */
static struct destination *by_block(struct world *w, int rule)
{
    struct plan_host host = {.name = "mx1.test"};
    struct plan plan = {.kind = PLAN_HOSTS,
                        .port = w->settings.port,
                        .hosts = &host,
                        .host_count = 1,
                        .rule = rule};

    return destination_get(w->deliver, &plan, "any.test");
}

TEST(host, a_reload_that_moves_blocks_leaves_each_its_memory)
{
    struct world *w = *state;
    struct destination *before;

    set_blocks(w, blocks);
    before = by_block(w, 0);
    host_memory(before, "mx1.test")->lock_step_until_ms = INT64_MAX;
    set_blocks(w, moved);
    /* What is under way there still goes by the old plan. */
    host_fault(before, "mx1.test");
    assert_int_equal(host_find(before, "mx1.test")->failures, 1);
    assert_non_null(host_find(by_block(w, 1), "mx1.test"));
    assert_int_equal(host_find(by_block(w, 1), "mx1.test")->failures, 1);
    assert_true(host_find(by_block(w, 1), "mx1.test")->lock_step_until_ms == INT64_MAX);
    assert_null(host_find(by_block(w, 0), "mx1.test"));
    assert_null(host_find(by_block(w, -1), "mx1.test"));
}

TEST(host, a_block_has_the_number_of_another_and_not_its_memory)
{
    struct world *w = *state;

    set_blocks(w, blocks);
    smtp_peer_play(&w->peers[0], "S: <close>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION);
    assert_int_equal(host_find(by_block(w, 0), "mx1.test")->failures, 1);
    set_blocks(w, moved);
    assert_null(host_find(by_block(w, 0), "mx1.test"));
    assert_int_equal(host_find(by_block(w, 1), "mx1.test")->failures, 1);
}

TEST(host, a_name_that_looks_like_a_source_is_none)
{
    struct world *w = *state;
    struct source source = {.name = "s"};
    struct destination by_source = world_destination(w);
    struct destination by_name = by_source;

    by_source.source = &source;
    by_source.block = (char *)(uintptr_t) "a";
    by_name.block = (char *)(uintptr_t) "a s";
    host_fault(&by_source, "mx1.test");
    assert_null(host_find(&by_name, "mx1.test"));
    by_name.block = NULL;
    assert_null(host_find(&by_name, "mx1.test"));
}

TEST(host, a_second_fault_of_the_same_round_is_none)
{
    struct world *w = *state;
    struct destination any = world_destination(w);
    const struct host_memory *host = host_memory(&any, "mx1.test");

    for (int i = 0; i < 20; i++)
        host_fault(&any, "mx1.test");
    assert_int_equal(host->failures, 1);
    assert_true(host->until_ms <= deliver_now(w->deliver) + 33000);
}

/* ---- which one is next ---- */

struct choosing {
    struct destination destination;
    struct plan_host hosts[3];
    struct host_choice choice;
};

/* mx1 and mx2 are equal, mx3 stands behind them. */
static struct choosing *choosing(const struct world *w)
{
    static const uint8_t order[] = {0, 1, 2};
    static struct choosing chosen;

    chosen = (struct choosing){.destination = world_destination(w),
                               .hosts = {{.name = "mx1.test", .preference = 10},
                                         {.name = "mx2.test", .preference = 10},
                                         {.name = "mx3.test", .preference = 20}},
                               .choice = {.order = order}};
    chosen.destination.plan.hosts = chosen.hosts;
    chosen.destination.plan.host_count = 3;
    return &chosen;
}

static bool choose(struct choosing *choosing, size_t at)
{
    choosing->choice.at = at;
    choosing->choice.missed = false;
    return host_choose(&choosing->destination, &choosing->choice);
}

TEST(host, one_of_which_nothing_is_known_gets_two_attempts)
{
    struct choosing *c = choosing(*state);
    struct host_memory *mx1 = host_begin(&c->destination, "mx1.test");
    struct host_memory *mx2 = host_begin(&c->destination, "mx2.test");

    assert_true(choose(c, 0));
    assert_int_equal(c->choice.at, 0);
    (void)host_begin(&c->destination, "mx1.test");
    assert_true(choose(c, 0)); /* its equal will do */
    assert_int_equal(c->choice.at, 1);
    (void)host_begin(&c->destination, "mx2.test");
    assert_false(choose(c, 0)); /* a less preferred one will not */
    assert_ptr_equal(c->choice.awaited, mx2);
    assert_int_equal(c->choice.at, 0);
    assert_false(c->choice.missed);
    host_works(&c->destination, "mx1.test");
    assert_true(choose(c, 0));
    assert_int_equal(c->choice.at, 0);
    mx1->worked_ms -= 61000; /* that was long ago */
    assert_false(choose(c, 0));
    host_end(&c->destination, mx1);
    assert_true(choose(c, 0));
    mx1->opening = mx2->opening = 0;
}

TEST(host, while_two_judge_one_that_failed_the_next_is_taken)
{
    struct choosing *c = choosing(*state);
    struct host_memory *mx1 = host_begin(&c->destination, "mx1.test");
    struct host_memory *mx2 = host_begin(&c->destination, "mx2.test");
    struct host_memory *mx3 = host_begin(&c->destination, "mx3.test");

    mx1->opening = mx2->opening = mx3->opening = 2;
    mx1->failures = mx2->failures = 1;
    mx3->opening = 0;
    assert_true(choose(c, 0));
    assert_int_equal(c->choice.at, 2);
    assert_true(c->choice.missed);
    mx3->until_ms = INT64_MAX;
    assert_false(choose(c, 0)); /* the two that are judged may work */
    assert_ptr_equal(c->choice.awaited, mx2);
    mx1->until_ms = mx2->until_ms = INT64_MAX;
    assert_false(choose(c, 0));
    assert_null(c->choice.awaited);
    assert_int_equal(c->choice.at, 3);
    assert_true(c->choice.missed);
    mx1->until_ms = 0;
    mx1->opening = 1;
    c->choice.lacking = 1;
    assert_false(choose(c, 0));
    mx1->opening = mx2->opening = mx3->opening = 0;
}

/* ---- what the attempts make of it ---- */

static void play(struct smtp_peer *peer, const char *script, unsigned times)
{
    while (times-- > 0)
        smtp_peer_play(peer, script);
}

static void send_many(struct world *w, unsigned count)
{
    w->settings.defaults.connections = 5;
    world_apply(w);
    while (count-- > 0)
        (void)world_send(w, "x@two.test");
}

#define HOLD "S: <hold>\n"

TEST(host, the_others_wait_for_the_two_and_follow_them)
{
    struct world *w = *state;

    play(&w->peers[0], HOLD GREET "S: <serve>\n", 5);
    send_many(w, 8);
    WORLD_UNTIL(w, w->peers[0].held == 2 && world_counts(w).attempts_running == 5);
    loop_run_for(w->loop, 50);
    assert_int_equal(w->peers[0].accepted, 2);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, w->peers[0].accepted == 5);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 8);
    assert_int_equal(w->peers[1].accepted, 0);
}

TEST(host, a_dead_one_gets_two_attempts_and_not_one_of_each_message)
{
    struct world *w = *state;

    play(&w->peers[0], HOLD "S: <close>\n", 5);
    w->peers[1].serves = true;
    send_many(w, 20);
    WORLD_UNTIL(w, w->peers[0].held == 2);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].accepted, 2);
    assert_int_equal(w->peers[1].messages, 20);
    assert_int_equal(world_host(w, "mx1.test")->failures, 1);
    assert_int_equal(world_counts(w).destinations_backing_off, 0);
}

TEST(host, after_its_back_off_two_judge_it_and_the_others_go_on)
{
    struct world *w = *state;
    struct host_memory *mx1 = world_host(w, "mx1.test");

    w->settings.timeouts.idle = 0;
    mx1->failures = 1;
    mx1->until_ms = 1;
    play(&w->peers[0], HOLD "S: <close>\n", 5);
    w->peers[1].serves = true;
    send_many(w, 20);
    WORLD_UNTIL(w, w->peers[0].held == 2 && w->peers[1].messages == 18);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].accepted, 2);
    assert_int_equal(mx1->failures, 2);
}

TEST(host, who_waits_is_let_go_when_we_leave)
{
    struct world *w = *state;

    play(&w->peers[0], HOLD "S: <close>\n", 5);
    send_many(w, 8);
    WORLD_UNTIL(w, w->peers[0].held == 2 && world_counts(w).attempts_running == 5);
    deliver_drain(w->deliver, world_on_empty, w);
    WORLD_UNTIL(w, w->empties == 1);
    assert_int_equal(world_counts(w).attempts_running, 0);
    assert_int_equal(world_host(w, "mx1.test")->waiting.count, 0);
    assert_int_equal(world_host(w, "mx1.test")->opening, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(host, name)
        T(a_host_that_works_again_is_forgiven),
        T(what_is_known_of_a_host_is_kept_apart_by_port_route_and_rule),
        T(a_reload_that_moves_blocks_leaves_each_its_memory),
        T(a_block_has_the_number_of_another_and_not_its_memory),
        T(a_name_that_looks_like_a_source_is_none),
        T(a_second_fault_of_the_same_round_is_none),
        T(one_of_which_nothing_is_known_gets_two_attempts),
        T(while_two_judge_one_that_failed_the_next_is_taken),
        T(the_others_wait_for_the_two_and_follow_them),
        T(a_dead_one_gets_two_attempts_and_not_one_of_each_message),
        T(after_its_back_off_two_judge_it_and_the_others_go_on),
        T(who_waits_is_let_go_when_we_leave),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
