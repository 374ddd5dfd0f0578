/* Limits, ready work, probes and back-off: all of it in memory. */
#include "deliver_world.h"
#include "known_hosts.h"

static void wake(struct world *w, const char *lane)
{
    deliver_wake(w->deliver, lane);
}

static void send_many(struct world *w, const char *address, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        (void)world_send(w, address);
}

static struct destination *only_destination(const struct world *w)
{
    assert_int_equal(w->deliver->all_destinations.count, 1);
    return CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination,
                        link);
}

TEST(destination, no_more_connections_are_open_than_the_limit)
{
    struct world *w = *state;

    w->settings.defaults.connections = 3;
    world_apply(w);
    world_know_host(w, "mx1.test");
    for (int i = 0; i < 3; i++)
        smtp_peer_play(&w->peers[0],
                       "S: 220 mx\nC: EHLO *\nS: <hold>\nS: 250 mx\nS: <serve>\n");
    send_many(w, "x@a.test", 6);
    (void)world_send(w, "x@b.test"); /* the same hosts: the same limit */
    WORLD_UNTIL(w, w->peers[0].held == 3);
    assert_int_equal(only_destination(w)->running, 3);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].most_open, 3);
    assert_int_equal(w->peers[0].accepted, 3);
    assert_int_equal(w->peers[0].messages, 7);
}

TEST(destination, its_own_rule_sets_the_limit)
{
    static const char *const match[] = {"mx1.test"};
    static const struct destination_rule rule = {
        .match = match,
        .match_count = 1,
        .settings = {.connections = 1,
                     .messages_per_connection = 100,
                     .recipients_per_transaction = 100,
                     .pipeline_window = 32}};
    struct world *w = *state;

    w->settings.rules = &rule;
    w->settings.rule_count = 1;
    world_apply(w);
    w->peers[0].serves = true;
    send_many(w, "x@a.test", 4);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].most_open, 1);
    assert_int_equal(w->peers[0].accepted, 1);
}

TEST(destination, domains_take_turns_in_what_is_still_on_disk)
{
    struct world *w = *state;
    char *order;
    char *few;

    w->settings.defaults.connections = 1;
    w->settings.defaults.messages_per_connection = 1000;
    world_apply(w);
    smtp_peer_play(&w->peers[0],
                   "S: 220 mx\nC: EHLO *\nS: <hold>\nS: 250 mx\nS: <serve>\n");
    send_many(w, "m@a.test", LIMIT_READY_GROUPS + 21); /* one runs, 20 stay on disk */
    (void)world_send(w, "f@b.test");
    WORLD_UNTIL(w, only_destination(w)->ready.lanes.count == 2);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_empty(w));
    order = slice_to_text(bytes_view(&w->peers[0].recipients));
    few = strstr(order, "f@b.test;");
    assert_non_null(few);
    /* Behind neither what is in memory nor the 20. */
    assert_true((size_t)(few - order) / sizeof "m@a.test" <= 3);
    memory_free(order);
}

TEST(destination, the_ready_queue_is_bounded_and_refilled)
{
    struct world *w = *state;
    const struct destination *destination;

    w->settings.defaults.connections = 1;
    w->settings.defaults.messages_per_connection = 1000;
    world_apply(w);
    smtp_peer_play(&w->peers[0],
                   "S: 220 mx\nC: EHLO *\nS: <hold>\nS: 250 mx\nS: <serve>\n");
    send_many(w, "x@a.test", LIMIT_READY_GROUPS + 20);
    WORLD_UNTIL(w, w->peers[0].held == 1);
    destination = only_destination(w);
    WORLD_UNTIL(w, destination->ready.works.count == LIMIT_READY_GROUPS &&
                       destination->ready.loading == 0);
    assert_int_equal(world_numbers(w).groups_leased, LIMIT_READY_GROUPS + 1);
    assert_int_equal(world_numbers(w).groups_waiting, 19); /* they stay on disk */
    smtp_peer_go(&w->peers[0]);
    while (!world_is_empty(w)) {
        loop_run_for(w->loop, 1);
        world_check_peers(w);
        assert_true(destination->ready.works.count + destination->ready.loading <=
                    LIMIT_READY_GROUPS + 1);
    }
    assert_int_equal(w->peers[0].messages, LIMIT_READY_GROUPS + 20);
}

/* Each of some thousands of destinations with two hundred groups would be more than memory has. */
TEST(destination, all_ready_queues_together_are_bounded_and_what_is_not_read_ahead_goes_too)
{
    struct world *w = *state;
    size_t before = 0;

    w->deliver->read_ahead_most = 40;
    w->settings.defaults.connections = 1;
    w->settings.defaults.messages_per_connection = 1000;
    world_apply(w);
    for (int i = 0; i < 3; i += 2)
        smtp_peer_play(&w->peers[i],
                       "S: 220 mx\nC: EHLO *\nS: <hold>\nS: 250 mx\nS: <serve>\n");
    send_many(w, "x@a.test", 60);
    WORLD_UNTIL(w, w->peers[0].held == 1 && w->deliver->loading.count == 0);
    before = w->deliver->read_ahead;
    assert_in_range(before, 20, 21); /* half, and then few */
    send_many(w, "x@c.test", 60);
    WORLD_UNTIL(w, w->peers[2].held == 1 && w->deliver->loading.count == 0);
    assert_in_range(w->deliver->read_ahead, before + 7, before + 8);
    smtp_peer_go(&w->peers[0]);
    smtp_peer_go(&w->peers[2]);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 60);
    assert_int_equal(w->peers[2].messages, 60);
    assert_int_equal(w->deliver->read_ahead, 0);
    /* Nothing at all may be read ahead. */
    w->deliver->read_ahead_most = 0;
    send_many(w, "x@a.test", 30);
    WORLD_UNTIL(w, w->peers[0].messages == 90);
    assert_int_equal(w->deliver->read_ahead, 0);
}

/* ---- faults ---- */

TEST(destination, a_fault_gives_all_of_its_groups_back_as_they_were)
{
    struct world *w = *state;
    uint64_t commits;

    w->settings.defaults.connections = 1;
    world_apply(w);
    smtp_peer_play(&w->peers[0], "S: <hold>\nS: 421 4.3.2 busy\nC: <closed>\n");
    send_many(w, "x@a.test", 10);
    send_many(w, "x@b.test", 10);
    WORLD_UNTIL(w, w->peers[0].held == 1 && only_destination(w)->ready.works.count == 19);
    commits = world_numbers(w).commits;
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_numbers(w).groups_waiting == 20);
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION &&
                       world_why(w, "b.test").kind == WHY_DESTINATION);
    assert_non_null(strstr(world_why(w, "b.test").text, "421 4.3.2 busy"));
    assert_int_equal(world_look(w), 20);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(w->seen[i].attempts + w->seen[i].code, 0);
    assert_int_equal(world_numbers(w).commits, commits); /* no record was written */
    assert_int_equal(w->peers[0].accepted, 1);           /* one connection judged all */
    assert_int_equal(world_logged(w, "deliver.destination_backoff", "mx1.test"), 1);
}

TEST(destination, new_mail_waits_behind_a_back_off_without_a_connection)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], "S: 421 4.3.2 busy\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION);
    (void)world_send(w, "x@b.test");
    WORLD_UNTIL(w, world_why(w, "b.test").kind == WHY_DESTINATION);
    assert_int_equal(w->peers[0].accepted, 1);
    assert_true(world_why(w, "b.test").until_ms == only_destination(w)->until_ms);
}

TEST(destination, back_off_grows_with_each_round_to_its_most)
{
    struct world *w = *state;
    struct plan_host host = {.name = "mx1.test"};
    struct plan plan = {.kind = PLAN_HOSTS, .hosts = &host, .host_count = 1, .rule = -1};
    struct destination *destination = destination_get(w->deliver, &plan, "a.test");
    struct fault fault = {RESULT_REFUSED, "refused"};
    int64_t waits[10];

    for (int i = 0; i < 10; i++) {
        int64_t now_ms = deliver_now(w->deliver);

        destination->until_ms = 0; /* it has passed */
        destination_fault(destination, &fault, CLASS_CONNECTION);
        waits[i] = destination->until_ms - now_ms;
        assert_int_equal(destination->failures, i + 1);
        destination_fault(destination, &fault,
                          CLASS_CONNECTION); /* the second probe of the round */
        assert_int_equal(destination->failures, i + 1);
    }
    /* 30 s doubling to 15 min, with up to a tenth either way. */
    assert_true(waits[0] >= 27000 && waits[0] <= 33000 + 100);
    assert_true(waits[1] >= 54000 && waits[1] <= 66000 + 100);
    assert_true(waits[9] >= 810000 && waits[9] <= 990000 + 100);
    destination_works(destination);
    assert_int_equal(destination->failures, 0);
    assert_int_equal(destination->until_ms, 0);
    assert_string_equal(destination->fault, "");
}

TEST(destination, after_a_back_off_two_probes_judge_it)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], "S: 421 busy\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION);
    send_many(w, "x@a.test", 10);
    WORLD_UNTIL(w, world_numbers(w).groups_leased == 0);
    for (int i = 0; i < 2; i++)
        smtp_peer_play(&w->peers[0], "S: <hold>\nS: 421 still busy\nC: <closed>\n");
    wake(w, "a.test");
    WORLD_UNTIL(w, w->peers[0].held == 2);
    assert_int_equal(world_numbers(w).groups_leased, 2); /* nothing more is taken */
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_is_quiet(w) && world_why(w, "a.test").kind == WHY_DESTINATION);
    assert_int_equal(only_destination(w)->failures, 2); /* one round, one fault */
    assert_int_equal(w->peers[0].accepted, 3);
    w->peers[0].serves = true;
    wake(w, "a.test");
    WORLD_UNTIL(w, world_is_empty(w)); /* it works: all of it goes */
    assert_int_equal(w->peers[0].messages, 11);
    assert_int_equal(only_destination(w)->failures, 0);
}

TEST(destination, while_every_host_rests_it_waits_for_the_first_of_them)
{
    struct world *w = *state;
    int64_t now_ms = deliver_now(w->deliver);

    world_host(w, "mx1.test")->until_ms = now_ms + 2 * (int64_t)HOUR_MS;
    world_host(w, "mx2.test")->until_ms = now_ms + HOUR_MS;
    (void)world_send(w, "x@two.test");
    WORLD_UNTIL(w, world_why(w, "two.test").kind == WHY_DESTINATION);
    assert_true(world_why(w, "two.test").until_ms == now_ms + HOUR_MS);
    assert_int_equal(w->peers[0].accepted + w->peers[1].accepted, 0);
    assert_int_equal(world_group(w)->attempts, 0);
}

TEST(destination, the_fault_of_one_leaves_others_alone)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], "S: 421 busy\nC: <closed>\n");
    w->peers[2].serves = true;
    (void)world_send(w, "x@a.test");
    (void)world_send(w, "x@c.test");
    WORLD_UNTIL(w, w->peers[2].messages == 1);
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION);
    assert_int_equal(world_counts(w).destinations, 2);
    assert_int_equal(world_counts(w).destinations_backing_off, 1);
}

/* ---- names ---- */

TEST(destination, domains_with_the_same_hosts_are_one)
{
    struct world *w = *state;
    struct plan_host hosts[2] = {{.name = "m1.test", .preference = 10},
                                 {.name = "m2.test", .preference = 20}};
    struct plan plan = {.kind = PLAN_HOSTS, .hosts = hosts, .host_count = 2, .rule = -1};
    struct destination *one = destination_get(w->deliver, &plan, "one.test");

    hosts[0].preference = 5; /* the order is what counts */
    assert_ptr_equal(destination_get(w->deliver, &plan, "two.test"), one);
    hosts[1].preference = 5;
    assert_ptr_not_equal(destination_get(w->deliver, &plan, "three.test"), one);
    plan.kind = PLAN_LOCAL;
    assert_ptr_not_equal(destination_get(w->deliver, &plan, "l1.test"),
                         destination_get(w->deliver, &plan, "l2.test"));
    assert_int_equal(world_counts(w).destinations, 4);
}

/* Or it would pass the others of its scope the next time. */
TEST(destination, a_turn_that_it_has_no_use_for_is_over)
{
    struct world *w = *state;
    struct destination *destination;

    w->peers[0].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    destination =
        CONTAINER_OF(list_first(&w->deliver->all_destinations), struct destination, link);
    destination->place.has_turn = true;
    destination_run_later(destination);
    WORLD_UNTIL(w, !destination->place.has_turn);
    destination->place.has_turn = true;
    destination->until_ms = deliver_now(w->deliver) + HOUR_MS;
    destination_run_later(destination);
    WORLD_UNTIL(w, !destination->place.has_turn);
}

TEST(destination, when_no_more_can_be_known_one_that_has_nothing_to_do_is_forgotten)
{
    struct world *w = *state;
    struct plan plan = {.kind = PLAN_FAIL, .rule = -1};
    char name[32];

    for (unsigned i = 0; i < LIMIT_DESTINATIONS + 100; i++) {
        (void)snprintf(name, sizeof name, "d%u.test", i);
        assert_non_null(destination_get(w->deliver, &plan, name));
    }
    assert_true(world_counts(w).destinations <= LIMIT_DESTINATIONS);
    assert_true(world_counts(w).destinations > LIMIT_DESTINATIONS - 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(destination, name)
        T(no_more_connections_are_open_than_the_limit),
        T(its_own_rule_sets_the_limit),
        T(domains_take_turns_in_what_is_still_on_disk),
        T(the_ready_queue_is_bounded_and_refilled),
        T(all_ready_queues_together_are_bounded_and_what_is_not_read_ahead_goes_too),
        T(a_fault_gives_all_of_its_groups_back_as_they_were),
        T(new_mail_waits_behind_a_back_off_without_a_connection),
        T(back_off_grows_with_each_round_to_its_most),
        T(after_a_back_off_two_probes_judge_it),
        T(while_every_host_rests_it_waits_for_the_first_of_them),
        T(the_fault_of_one_leaves_others_alone),
        T(domains_with_the_same_hosts_are_one),
        T(a_turn_that_it_has_no_use_for_is_over),
        T(when_no_more_can_be_known_one_that_has_nothing_to_do_is_forgotten),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
