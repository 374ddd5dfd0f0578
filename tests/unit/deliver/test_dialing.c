/* The order of a host's addresses, and what is learned of them. */
#include "deliver_world.h"
#include "known_hosts.h"

#include "address_memory.h"
#include "dialing.h"

static struct plan_host host_with(const char *name, const char *addresses)
{
    struct plan_host host = {.preference = 10};
    char list[256];
    char *rest = list;

    (void)snprintf(host.name, sizeof host.name, "%s", name);
    (void)snprintf(list, sizeof list, "%s", addresses);
    for (char *one; (one = strtok_r(rest, " ", &rest));)
        assert_int_equal(ip_parse(slice_of(one), &host.addresses[host.address_count++]),
                         RESULT_OK);
    return host;
}

static void expect(struct world *w, const struct plan_host *host, const char *wanted)
{
    struct destination any = world_destination(w);
    struct endpoint addresses[LIMIT_HOST_ADDRESSES];
    size_t count = dialing_order(&any, host, addresses);
    char got[512] = "";

    for (size_t i = 0; i < count; i++) {
        char text[IP_TEXT];

        assert_int_equal(addresses[i].port, any.plan.port);
        ip_print(&addresses[i].ip, text);
        (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i ? " " : "",
                       text);
    }
    assert_string_equal(got, wanted);
}

/* A connection: "-a +b" a failed or was late, b won. */
static void learn(struct world *w, const struct plan_host *host, const char *what)
{
    struct destination any = world_destination(w);
    struct dialing dialing = {.destination = &any, .host = host};
    char list[256];
    char *rest = list;

    assert_non_null(host_memory(&any, host->name));
    (void)snprintf(list, sizeof list, "%s", what);
    for (char *one; (one = strtok_r(rest, " ", &rest));) {
        struct endpoint address = {.port = any.plan.port};

        assert_int_equal(ip_parse(slice_of(one + 1), &address.ip), RESULT_OK);
        dialing_tried(&dialing, &address, *one == '+' ? DIAL_WON : DIAL_FAILED);
    }
}

TEST(dialing, the_families_take_turns_and_the_new_one_begins)
{
    struct plan_host host = host_with("mx1.test", "10.0.0.1 10.0.0.2 fd00::1 fd00::2");

    expect(*state, &host, "fd00::1 10.0.0.1 fd00::2 10.0.0.2");
}

TEST(dialing, an_address_that_failed_beside_one_that_works_comes_last)
{
    struct world *w = *state;
    struct plan_host host = host_with("mx1.test", "10.0.0.1 10.0.0.2 10.0.0.3");

    learn(w, &host, "-10.0.0.1 +10.0.0.2");
    expect(w, &host, "10.0.0.2 10.0.0.3 10.0.0.1");
    learn(w, &host, "-10.0.0.2 -10.0.0.3"); /* none works: the host's fault */
    expect(w, &host, "10.0.0.2 10.0.0.3 10.0.0.1");
    learn(w, &host, "+10.0.0.1");
    expect(w, &host, "10.0.0.1 10.0.0.2 10.0.0.3");
    assert_int_equal(world_logged(w, "deliver.address_failed", "10.0.0.1"), 1);
    assert_int_equal(world_logged(w, "deliver.address_failed", ""), 1);
}

TEST(dialing, what_is_known_of_an_address_holds_for_all_of_its_names)
{
    struct world *w = *state;
    struct plan_host one = host_with("mx1.test", "10.0.0.1 10.0.0.2");
    struct plan_host two = host_with("mx2.test", "10.0.0.1 10.0.0.2");

    learn(w, &one, "-10.0.0.1 +10.0.0.2");
    expect(w, &two, "10.0.0.2 10.0.0.1");
}

TEST(dialing, an_address_that_breaks_before_it_takes_mail_comes_last)
{
    struct world *w = *state;
    struct plan_host host = host_with("mx1.test", "10.0.0.1 10.0.0.2");
    struct plan_host alone = host_with("mx2.test", "10.0.0.3");
    struct destination any = world_destination(w);
    struct endpoint address = {host.addresses[0], any.plan.port};

    dialing_blame(&any, &host, &address);
    expect(w, &host, "10.0.0.2 10.0.0.1");
    address.ip = alone.addresses[0];
    dialing_blame(&any, &alone, &address); /* it has no other */
    assert_int_equal(address_memory_count(w->deliver->addresses), 1);
}

/* ---- families ---- */

TEST(dialing, a_family_that_fails_at_a_host_stands_behind_there)
{
    struct world *w = *state;
    struct plan_host host = host_with("mx1.test", "fd00::1 fd00::2 10.0.0.1 10.0.0.2");
    struct plan_host other = host_with("mx2.test", "fd00::1 fd00::3 10.0.0.1 10.0.0.3");

    learn(w, &host, "-fd00::9 +10.0.0.1");
    expect(w, &host, "fd00::1 10.0.0.1 fd00::2 10.0.0.2");
    learn(w, &host, "-fd00::9 +10.0.0.1");
    expect(w, &host, "10.0.0.1 10.0.0.2 fd00::1 fd00::2");
    expect(w, &other, "fd00::1 10.0.0.1 fd00::3 10.0.0.3");
    assert_int_equal(world_logged(w, "deliver.family_demoted", "\"family\":\"ipv6\""), 1);
    learn(w, &host, "+fd00::1");
    expect(w, &host, "fd00::1 10.0.0.1 fd00::2 10.0.0.2");
    assert_int_equal(world_logged(w, "deliver.family_restored", "\"host\":\"mx1.test\""),
                     1);
}

TEST(dialing, one_that_fails_at_many_hosts_stands_behind_everywhere_until_a_probe_works)
{
    struct world *w = *state;
    struct plan_host both = host_with("mx9.test", "fd00::1 10.0.0.1");
    struct plan_host only = host_with("mx8.test", "fd00::1");

    for (int i = 0; i < FAMILY_ALL_FAILURES; i++) {
        char name[32];
        struct plan_host host;

        expect(w, &both, "fd00::1 10.0.0.1");
        (void)snprintf(name, sizeof name, "mx%d.many.test", i);
        host = host_with(name, "fd00::9 10.0.0.9");
        learn(w, &host, "-fd00::9 +10.0.0.9");
    }
    expect(w, &both, "10.0.0.1 fd00::1");
    expect(w, &only, "fd00::1");
    assert_int_equal(world_logged(w, "deliver.family_demoted", "ipv6"), 1);
    w->deliver->families.of[FAMILY_IPV6].behind_until_ms = 1; /* ten minutes later */
    expect(w, &only, "fd00::1");          /* has no other family: no probe */
    expect(w, &both, "fd00::1 10.0.0.1"); /* the probe */
    expect(w, &both, "10.0.0.1 fd00::1");
    learn(w, &both, "+fd00::1");
    expect(w, &both, "fd00::1 10.0.0.1");
    assert_int_equal(world_logged(w, "deliver.family_restored", "ipv6"), 1);
}

TEST(dialing, when_both_stand_behind_none_does)
{
    struct world *w = *state;
    struct plan_host host = host_with("mx1.test", "fd00::1 10.0.0.1");

    for (int i = 0; i < 2; i++)
        learn(w, &host, "-fd00::9 +10.0.0.9");
    world_host(w, "mx1.test")->families.of[FAMILY_IPV4].behind_until_ms = INT64_MAX;
    expect(w, &host, "fd00::1 10.0.0.1");
}

/* ---- a real connection ---- */

TEST(dialing, a_message_passes_an_address_where_nobody_listens)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[1], GREET TAKE);
    (void)world_send(w, "x@many.test"); /* 127.0.0.9, then 127.0.0.2 */
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[1].accepted, 1);
    assert_int_equal(address_memory_count(w->deliver->addresses), 1);
    assert_int_equal(world_host(w, "mx5.test")->failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(dialing, name)
        T(the_families_take_turns_and_the_new_one_begins),
        T(an_address_that_failed_beside_one_that_works_comes_last),
        T(what_is_known_of_an_address_holds_for_all_of_its_names),
        T(an_address_that_breaks_before_it_takes_mail_comes_last),
        T(a_family_that_fails_at_a_host_stands_behind_there),
        T(one_that_fails_at_many_hosts_stands_behind_everywhere_until_a_probe_works),
        T(when_both_stand_behind_none_does),
        T(a_message_passes_an_address_where_nobody_listens),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
