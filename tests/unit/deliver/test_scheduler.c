/* The door of the room: lanes of addresses, new settings, new resolvers, leaving. */
#include "deliver_world.h"

static const char *const match[] = {"routed.test", "local.test"};
static const struct route route = {.name = "r",
                                   .match = match,
                                   .match_count = 2,
                                   .host = "127.0.0.9",
                                   .port = 25,
                                   .settings = {.connections = 1,
                                                .messages_per_connection = 1,
                                                .recipients_per_transaction = 1,
                                                .pipeline_window = 32}};

static void expect_lanes(struct world *w, const char *recipients, const char *const *lanes,
                         size_t count)
{
    w->deliver->is_draining = true; /* they stay */
    (void)world_send(w, recipients);
    assert_int_equal(world_look(w), count);
    for (size_t i = 0; i < count; i++) {
        bool is_there = false;

        for (size_t k = 0; k < count; k++)
            is_there |= strcmp(w->seen[k].lane, lanes[i]) == 0;
        if (!is_there)
            fail_msg("no lane %s", lanes[i]);
    }
}

TEST(scheduler, recipients_are_grouped_by_domain_or_route)
{
    struct world *w = *state;
    static const char *const lanes[] = {"a.test", "b.test", "route:r", "local.test"};

    w->settings.routes = &route;
    w->settings.route_count = 1;
    world_apply(w);
    /* A domain of our own goes before a route that matches it too. */
    expect_lanes(w, "x@a.test y@A.Test z@b.test r@routed.test l@local.test", lanes, 4);
}

TEST(scheduler, a_domain_in_letters_of_other_scripts_is_one_lane_with_its_ascii_form)
{
    static const char *const lanes[] = {"xn--bcher-kva.test"};

    expect_lanes(*state,
                 "x@b\xc3\xbc"
                 "cher.test y@xn--bcher-kva.test",
                 lanes, 1);
}

TEST(scheduler, an_address_literal_is_a_lane_of_its_own)
{
    struct world *w = *state;

    w->peers[1].serves = true;
    (void)world_send(w, "x@[127.0.0.2]");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[1].messages, 1);
    assert_int_equal(fake_dns_udp_count(w->dns), 0);
}

TEST(scheduler, new_settings_are_a_copy_and_take_effect_for_what_comes_next)
{
    struct world *w = *state;
    char hostname[] = "first.test";

    w->settings.timeouts.idle = 0;
    w->settings.hostname = hostname;
    world_apply(w);
    memset(hostname, 'x', sizeof hostname - 1);
    smtp_peer_play(&w->peers[0],
                   "S: 220 mx\nC: EHLO first.test\nS: 250 mx\nS: <hold>\n" TAKE
                   "C: QUIT\n");
    smtp_peer_play(&w->peers[0],
                   "S: 220 mx\nC: EHLO second.test\nS: 250 mx\n" TAKE "C: QUIT\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    w->settings.hostname = "second.test";
    world_apply(w); /* in the middle of an attempt */
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    (void)world_send(w, "y@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_counts(w).recipients_delivered, 2);
}

TEST(scheduler, new_settings_make_new_plans)
{
    static const char *const locals[] = {"local.test", "a.test"};
    static const enum result results[] = {RESULT_OK};
    struct world *w = *state;

    w->peers[0].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    w->settings.local_domains =
        locals; /* the lane a.test has a plan by MX, and keeps its name */
    w->settings.local_count = 2;
    world_apply(w);
    (void)world_send(w, "y@a.test");
    world_end_local(w, results, "");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 1);
    assert_int_equal(w->local_count, 1);
}

TEST(scheduler, what_the_old_resolver_was_asked_is_asked_of_the_new_one)
{
    static const struct fake_dns_row rows[] = {
        {.name = "silent.test", .type = 15, .ttl_s = 300, .records = "MX 10 mx1.test"},
        {.name = "mx1.test", .type = 1, .ttl_s = 300, .records = "A 127.0.0.1"},
        {.name = "*"}};
    struct world *w = *state;
    struct resolver *old = w->resolver;
    struct fake_dns *dns = fake_dns_open(w->loop, rows, 3);
    struct endpoint server = fake_dns_endpoint(dns);
    struct resolver_settings settings = {.servers = &server, .server_count = 1};
    struct fault fault;

    w->peers[0].serves = true;
    (void)world_send(w, "x@silent.test");
    WORLD_UNTIL(w, fake_dns_udp_count(w->dns) > 0);
    assert_int_equal(resolver_new(w->loop, &settings, &w->resolver, &fault), RESULT_OK);
    deliver_set_resolver(w->deliver, w->resolver);
    resolver_free(old);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 1);
    fake_dns_close(w->dns);
    w->dns = dns;
}

/* ---- leaving ---- */

TEST(scheduler, draining_with_nothing_to_wait_for_is_told_from_the_loop)
{
    struct world *w = *state;

    deliver_drain(w->deliver, world_on_empty, w);
    assert_int_equal(w->empties, 0);
    WORLD_UNTIL(w, w->empties == 1);
    loop_run_for(w->loop, 5);
    assert_int_equal(w->empties, 1);
}

TEST(scheduler, while_draining_no_new_lease_is_taken)
{
    struct world *w = *state;

    deliver_drain(w->deliver, world_on_empty, w);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DRAINING);
    loop_run_for(w->loop, 20);
    assert_int_equal(world_numbers(w).groups_leased, 0);
    assert_int_equal(w->peers[0].accepted, 0);
}

TEST(scheduler, draining_gives_back_what_was_ready)
{
    struct world *w = *state;

    w->settings.defaults.connections = 1;
    world_apply(w);
    smtp_peer_play(&w->peers[0], GREET MAIL RCPT DATA "S: <hold>\nS: 250 taken\nC: QUIT\n");
    for (int i = 0; i < 5; i++)
        (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1 && world_numbers(w).groups_leased == 5);
    deliver_drain(w->deliver, world_on_empty, w);
    WORLD_UNTIL(w, world_numbers(w).groups_leased == 1);
    assert_int_equal(w->empties, 0); /* the one behind the dot */
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, w->empties == 1);
    assert_int_equal(world_look(w), 4);
    assert_int_equal(world_counts(w).recipients_delivered, 1);
}

TEST(scheduler, draining_waits_for_the_commit_of_a_result)
{
    struct world *w = *state;

    w->peers[0].serves = true;
    smtp_peer_play(&w->peers[0], GREET MAIL RCPT DATA "S: <hold>\nS: 250 taken\nC: QUIT\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    deliver_drain(w->deliver, world_on_empty, w);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, w->empties == 1);
    assert_int_equal(w->deliver->settling.count, 0);
    assert_int_equal(world_look(w), 0);
}

TEST(scheduler, freeing_the_room_in_the_middle_of_everything_calls_nobody)
{
    struct world *w = *state;

    w->settings.defaults.connections = 1;
    world_apply(w);
    smtp_peer_play(&w->peers[0], GREET MAIL "C: RCPT TO:*\nS: <hold>\nC: <rest>\n");
    for (int i = 0; i < 3; i++)
        (void)world_send(w, "x@a.test");    /* one runs, two are ready */
    (void)world_send(w, "x@silent.test");   /* a look-up runs */
    (void)world_send(w, "x@servfail.test"); /* a lane backs off */
    WORLD_UNTIL(w, w->peers[0].held == 1);
    deliver_free(w->deliver);
    smtp_peer_go(&w->peers[0]);
    loop_run_for(w->loop, 20);
    world_open_deliver(w);
    w->peers[0].serves = true;
    WORLD_UNTIL(w, w->peers[0].messages == 3); /* nothing was lost */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(scheduler, name)
        T(recipients_are_grouped_by_domain_or_route),
        T(a_domain_in_letters_of_other_scripts_is_one_lane_with_its_ascii_form),
        T(an_address_literal_is_a_lane_of_its_own),
        T(new_settings_are_a_copy_and_take_effect_for_what_comes_next),
        T(new_settings_make_new_plans),
        T(what_the_old_resolver_was_asked_is_asked_of_the_new_one),
        T(draining_with_nothing_to_wait_for_is_told_from_the_loop),
        T(while_draining_no_new_lease_is_taken),
        T(draining_gives_back_what_was_ready),
        T(draining_waits_for_the_commit_of_a_result),
        T(freeing_the_room_in_the_middle_of_everything_calls_nobody),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
