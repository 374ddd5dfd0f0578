/* What is remembered of hosts. */
#include "deliver_world.h"
#include "known_hosts.h"

TEST(host, a_host_that_works_again_is_forgiven)
{
    struct world *w = *state;
    struct destination any = world_destination(w);
    const struct host_memory *host = host_memory(&any, "mx1.test");
    int64_t now_ms = deliver_now(w->deliver);

    host_fault(&any, "mx1.test");
    assert_int_equal(host->failures, 1);
    assert_true(host->until_ms > now_ms);
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
    rule.plan.rule = 0;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(host, name)
        T(a_host_that_works_again_is_forgiven),
        T(what_is_known_of_a_host_is_kept_apart_by_port_route_and_rule),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
