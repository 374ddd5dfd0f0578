/* Domain queues in memory: each is announced when its earliest entry is due and not before,
 * waits keep their length when the time of day steps, and what is empty is forgotten. */
#include "waiting_world.h"

#include <stdlib.h>

/* ---- due ---- */

static void a_domain_queue_is_announced_when_its_earliest_entry_is_due(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 10 * MINUTE);

    assert_ptr_equal(world_add(world, "a.test", 3 * MINUTE), queue);
    (void)world_add(world, "a.test", 5 * MINUTE);
    sim_run(&world->loop, 3 * MINUTE - 1);
    assert_int_equal(world->due_count, 0);
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 1);
    assert_ptr_equal(world->due[0], queue);
}

static void what_is_due_at_once_is_announced_from_the_loop(void **state)
{
    struct world *world = *state;

    (void)world_add(world, "a.test", -DAY);
    assert_int_equal(world->due_count, 0); /* never inside another call */
    sim_run(&world->loop, 0);
    assert_int_equal(world->due_count, 1);
}

static void a_held_domain_queue_is_not_announced_again(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    (void)world_add(world, "a.test", MINUTE);
    sim_run(&world->loop, 0);
    (void)world_add(world, "a.test", 0);
    domain_queue_wake(queue); /* nor when it is woken */
    sim_run(&world->loop, HOUR);
    assert_int_equal(world->due_count, 1);
    domain_queue_rest(queue, 0);
    assert_int_equal(world->due_count, 1);
    sim_run(&world->loop, 0);
    assert_int_equal(world->due_count, 2); /* still due */
}

static void a_resting_domain_queue_waits_for_its_next_entry(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    (void)world_add(world, "a.test", MINUTE);
    sim_run(&world->loop, 0);
    assert_int_equal(world_take(queue), 1);
    assert_int_equal(world_take(queue), 0);
    domain_queue_rest(queue, 0);
    sim_run(&world->loop, MINUTE - 1);
    assert_int_equal(world->due_count, 1);
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 2);
    assert_int_equal(world_take(queue), 2);
}

static void rest_keeps_a_domain_queue_back_for_new_mail_too(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    sim_run(&world->loop, 0);
    domain_queue_rest(queue, loop_wall_ms(&world->loop) + HOUR);
    (void)world_add(world, "a.test", 0);
    sim_run(&world->loop, HOUR - 1);
    assert_int_equal(world->due_count, 1);
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 2);
}

static void a_domain_queue_that_is_woken_is_due_as_its_entries_are(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    sim_run(&world->loop, 0);
    assert_int_equal(world_take(queue), 1);
    (void)world_add(world, "a.test", MINUTE);
    domain_queue_rest(queue, loop_wall_ms(&world->loop) + HOUR);
    domain_queue_wake(queue);
    sim_run(&world->loop, MINUTE - 1);
    assert_int_equal(world->due_count, 1);
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 2);
}

static uint64_t any(void)
{
    static uint64_t seed = 20261124;

    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

static void each_of_many_domain_queues_is_announced_at_its_own_time(void **state)
{
    struct world *world = *state;
    static struct domain_queue *queues[2500];
    int64_t base_ms = world->loop.now_ms;

    for (size_t i = 0; i < 2500; i++) { /* its message has the id i + 1 */
        char lane[32];
        int64_t delay_ms = 1 + (int64_t)(any() % MINUTE);

        (void)snprintf(lane, sizeof lane, "%zu.test", i);
        queues[i] = world_add(world, lane, delay_ms);
        domain_queue_attach(queues[i], (void *)(uintptr_t)delay_ms);
    }
    for (size_t i = 0; i < 2500; i += 2) { /* removed, from anywhere in the order */
        struct waiting_change change = {.id = i + 1};
        struct waiting_changes changes = {(struct waiting_change *const[]){&change}, 1,
                                          queues[i]};

        assert_true(waiting_change_begin(world->waiting, &change));
        waiting_change_end(world->waiting, &changes, WAITING_REMOVED, 0);
        if (i % 4) { /* and another comes instead, earlier or later */
            int64_t delay_ms = 1 + (int64_t)(any() % MINUTE);

            (void)world_add(world, domain_queue_lane(queues[i]), delay_ms);
            domain_queue_attach(queues[i], (void *)(uintptr_t)delay_ms);
        }
    }
    sim_run(&world->loop, MINUTE);
    assert_int_equal(world->due_count, 1875);
    for (size_t i = 0; i < 1875; i++)
        assert_int_equal(world->due_ms[i] - base_ms,
                         (intptr_t)domain_queue_attachment(world->due[i]));
}

static void thousands_that_are_due_at_once_are_all_announced(void **state)
{
    struct world *world = *state;

    for (int i = 0; i < 2500; i++) {
        char lane[32];

        (void)snprintf(lane, sizeof lane, "%d.test", i);
        (void)world_add(world, lane, 0);
    }
    sim_run(&world->loop, 0);
    assert_int_equal(world->due_count, 2500);
}

static void what_came_before_the_watcher_is_announced_to_it(void **state)
{
    struct world *world = *state;

    waiting_watch(world->waiting, NULL, NULL, NULL);
    (void)world_add(world, "a.test", 0);
    sim_run(&world->loop, MINUTE);
    assert_int_equal(world->due_count, 0);
    waiting_watch(world->waiting, world_on_due, world_on_gone, world);
    sim_run(&world->loop, 0);
    assert_int_equal(world->due_count, 1);
}

static void a_clock_that_drifts_is_followed(void **state)
{
    struct world *world = *state;

    (void)world_add(world, "a.test", 10 * MINUTE);
    for (int i = 0; i < 5; i++) {
        sim_run(&world->loop, 10 * SECOND);
        sim_step(&world->loop, 50 * SECOND); /* below what counts as a step */
    }
    /* 300 s of the wall are over after 50 s of the loop; 300 s are left. */
    sim_run(&world->loop, 300 * SECOND - 1);
    assert_int_equal(world->due_count, 0);
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 1);
}

/* ---- taking ---- */

static void entries_are_taken_in_order_of_their_time_and_only_when_due(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 30);
    struct queue_entry entry = {.id = 0};

    (void)world_add(world, "a.test", 10);
    (void)world_add(world, "a.test", 20);
    assert_false(domain_queue_take(queue, &entry));
    sim_run(&world->loop, 20);
    assert_true(domain_queue_take(queue, &entry));
    assert_int_equal(entry.id, 2);
    assert_int_equal(entry.next_attempt_ms, world->start_ms + 10);
    assert_int_equal(entry.arrival_s, world->start_ms / 1000);
    assert_int_equal(world_take(queue), 3);
    assert_int_equal(world_take(queue), 0);
    assert_int_equal(domain_queue_count(queue), 1);
}

static void what_is_due_is_counted_up_to_a_limit(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = NULL;

    for (int i = 0; i < 10; i++)
        queue = world_add(world, "a.test", i * SECOND);
    sim_run(&world->loop, 4 * SECOND);
    assert_int_equal(domain_queue_due_count(queue, 100), 5);
    assert_int_equal(domain_queue_due_count(queue, 3), 3);
    assert_int_equal(domain_queue_count(queue), 10);
}

static void the_oldest_arrival_is_known_whatever_was_taken(void **state)
{
    struct world *world = *state;
    int64_t second_ms = world->start_ms / 1000 * 1000;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    assert_int_equal(domain_queue_oldest_ms(queue), second_ms);
    sim_run(&world->loop, MINUTE);
    (void)world_add(world, "a.test", HOUR);
    sim_run(&world->loop, MINUTE);
    (void)world_add(world, "a.test", HOUR);
    assert_int_equal(domain_queue_oldest_ms(queue), second_ms);
    assert_int_equal(world_take(queue), 1); /* the oldest leaves */
    assert_int_equal(domain_queue_oldest_ms(queue), second_ms + MINUTE);
    sim_run(&world->loop, HOUR);
    assert_int_equal(world_take(queue), 2);
    assert_int_equal(world_take(queue), 3);
    assert_int_equal(domain_queue_oldest_ms(queue), 0); /* empty */
}

/* ---- keys ---- */

static void lane_tenant_and_priority_make_a_domain_queue(void **state)
{
    struct world *world = *state;
    static const struct waiting_key keys[] = {
        {"a.test", NULL, 0, NULL}, {"a.test", "", 0, NULL},  {"a.test", "t", 0, NULL},
        {"a.test", NULL, 1, NULL}, {"a.test", "t", 1, NULL}, {"a.tes", "t", 't', NULL},
        {"b.test", NULL, 0, NULL}, {"a.test", NULL, 0, "p"}, {"a.test", "t", 0, "p"},
        {"a.test", NULL, 0, "pp"}, {"a.test", "p", 0, NULL},
    };
    enum { COUNT = sizeof keys / sizeof *keys };
    struct domain_queue *queues[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        struct queue_entry entry = world_entry(world, 0);

        assert_null(waiting_find(world->waiting, &keys[i]));
        waiting_add(world->waiting, &keys[i], &entry, true);
        queues[i] = waiting_find(world->waiting, &keys[i]);
        assert_string_equal(domain_queue_lane(queues[i]), keys[i].lane);
        for (size_t k = 0; k < i; k++)
            assert_ptr_not_equal(queues[i], queues[k]);
    }
    assert_int_equal(waiting_queue_count(world->waiting), COUNT);
    assert_null(domain_queue_owner(queues[0]));
}

static void a_lane_is_found_whatever_its_tenant_and_priority(void **state)
{
    struct world *world = *state;
    struct waiting_key key = {"a.test", "tenant", 9, NULL};
    struct queue_entry entry = world_entry(world, 0);

    assert_null(waiting_find_lane(world->waiting, "a.test"));
    waiting_add(world->waiting, &key, &entry, true);
    assert_ptr_equal(waiting_find_lane(world->waiting, "a.test"),
                     waiting_find(world->waiting, &key));
    assert_null(waiting_find_lane(world->waiting, "a.tes"));
    assert_null(waiting_find_lane(world->waiting, "a.test."));
}

static void a_walk_meets_every_domain_queue_once(void **state)
{
    struct world *world = *state;
    size_t position = 0;
    unsigned seen = 0;
    struct domain_queue *queue;

    assert_null(waiting_next(world->waiting, &position));
    (void)world_add(world, "0", 0);
    (void)world_add(world, "1", 0);
    (void)world_add(world, "2", 0);
    position = 0;
    while ((queue = waiting_next(world->waiting, &position))) {
        unsigned bit = 1U << (domain_queue_lane(queue)[0] - '0');

        assert_int_equal(seen & bit, 0);
        seen |= bit;
    }
    assert_int_equal(seen, 7);
}

static void an_attachment_stays_until_it_is_taken_off(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    assert_null(domain_queue_attachment(queue));
    domain_queue_attach(queue, world);
    (void)world_add(world, "a.test", 0);
    assert_ptr_equal(domain_queue_attachment(queue), world);
    domain_queue_attach(queue, NULL);
    assert_null(domain_queue_attachment(queue));
}

/* ---- forgetting ---- */

/* Announced, its one entry settled, resting. */
static struct domain_queue *add_and_settle(struct world *world, const char *lane)
{
    struct domain_queue *queue = world_add(world, lane, 0);
    uint64_t id;

    sim_run(&world->loop, 0);
    id = world_take(queue);
    waiting_end_lease(queue, id, 0, NULL);
    domain_queue_rest(queue, 0);
    return queue;
}

static void a_domain_queue_that_is_empty_for_an_hour_is_forgotten(void **state)
{
    struct world *world = *state;

    (void)add_and_settle(world, "a.test");
    (void)world_add(world, "b.test", DAY);
    sim_run(&world->loop, HOUR - 2 * SECOND);
    assert_int_equal(world->gone_count, 0);
    assert_int_equal(waiting_queue_count(world->waiting), 2);
    sim_run(&world->loop, 4 * SECOND);
    assert_int_equal(world->gone_count, 1);
    assert_string_equal(world->gone, "a.test");
    assert_int_equal(waiting_queue_count(world->waiting), 1);
    assert_null(waiting_find_lane(world->waiting, "a.test"));
    assert_non_null(waiting_find_lane(world->waiting, "b.test"));
}

/* The ring of a lane: whichever of them goes, those that stay are found. */
static void a_lane_is_found_until_its_last_tenant_is_forgotten(void **state)
{
    struct world *world = *state;
    static const char *const tenants[] = {"a", "b", "c", "d"};

    for (int last = 0; last < 4; last++) {
        for (int i = 0; i < 4; i++) {
            struct waiting_key key = {"a.test", tenants[i], 0, NULL};
            struct queue_entry entry = world_entry(world, i == last ? DAY : 0);

            waiting_add(world->waiting, &key, &entry, true);
        }
        sim_run(&world->loop, 0);
        for (int i = 0; i < 4; i++) {
            struct domain_queue *queue = waiting_find(
                world->waiting, &(struct waiting_key){"a.test", tenants[i], 0, NULL});

            if (i == last)
                continue;
            waiting_end_lease(queue, world_take(queue), 0, NULL);
            domain_queue_rest(queue, 0);
        }
        sim_run(&world->loop, HOUR + 2 * SECOND);
        assert_int_equal(waiting_queue_count(world->waiting), 1);
        assert_ptr_equal(
            waiting_find_lane(world->waiting, "a.test"),
            waiting_find(world->waiting,
                         &(struct waiting_key){"a.test", tenants[last], 0, NULL}));
        sim_run(&world->loop, DAY);
        waiting_end_lease(waiting_find_lane(world->waiting, "a.test"),
                          world_take(waiting_find_lane(world->waiting, "a.test")), 0, NULL);
        domain_queue_rest(waiting_find_lane(world->waiting, "a.test"), 0);
        sim_run(&world->loop, HOUR + 2 * SECOND);
        assert_null(waiting_find_lane(world->waiting, "a.test"));
    }
}

static void mail_within_the_hour_starts_it_anew(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = add_and_settle(world, "a.test");

    sim_run(&world->loop, HOUR - MINUTE);
    assert_ptr_equal(add_and_settle(world, "a.test"), queue);
    sim_run(&world->loop, HOUR - MINUTE);
    assert_int_equal(world->gone_count, 0);
    sim_run(&world->loop, 2 * MINUTE);
    assert_int_equal(world->gone_count, 1);
}

static void what_is_held_or_has_leased_groups_is_not_forgotten(void **state)
{
    struct world *world = *state;
    struct domain_queue *held = add_and_settle(world, "held.test");
    struct domain_queue *leased = world_add(world, "leased.test", 0);

    (void)world_add(world, "held.test", 0);
    sim_run(&world->loop, 0);
    waiting_end_lease(held, world_take(held), 0, NULL);
    assert_int_equal(world_take(leased), 2);
    domain_queue_rest(leased, 0);
    sim_run(&world->loop, 3 * HOUR);
    assert_int_equal(world->gone_count, 0);
    /* From now on the hour counts for both. */
    domain_queue_rest(held, 0);
    waiting_end_lease(leased, 2, 0, NULL);
    sim_run(&world->loop, HOUR - 2 * SECOND);
    assert_int_equal(world->gone_count, 0);
    sim_run(&world->loop, 4 * SECOND);
    assert_int_equal(world->gone_count, 2);
    assert_int_equal(waiting_queue_count(world->waiting), 0);
}

static void nobody_needs_to_hear_of_what_is_forgotten(void **state)
{
    struct world *world = *state;

    waiting_watch(world->waiting, world_on_due, NULL, world);
    (void)add_and_settle(world, "a.test");
    sim_run(&world->loop, 2 * HOUR);
    assert_int_equal(waiting_queue_count(world->waiting), 0);
}

static void a_turn_of_the_loop_announces_only_a_few(void **state)
{
    struct world *world = *state;
    struct timer *timer = world->loop.timers[0];
    char lane[] = "a0.test";

    for (int i = 0; i < 40; i++) {
        lane[0] = (char)('a' + i / 10);
        lane[1] = (char)('0' + i % 10);
        (void)world_add(world, lane, 0);
    }
    world->loop.is_running = true;
    timer->fn(timer->owner);
    world->loop.is_running = false;
    assert_in_range(world->due_count, 1, 32);
    sim_run(&world->loop, 0);
    assert_int_equal(world->due_count, 40);
}

/* ---- overflow ---- */

static void above_the_ceiling_entries_wait_in_the_overflow(void **state)
{
    struct world *world = *state;
    struct queue_entry taken[4];

    waiting_free(world->waiting);
    world_open(world, 2);
    waiting_on_overflow(world->waiting, world_on_overflow, world);
    (void)world_add(world, "a.test", HOUR);
    (void)world_add(world, "b.test", HOUR);
    sim_run(&world->loop, 3 * SECOND);
    assert_int_equal(world->overflow_calls, 0); /* not worth a look */
    assert_null(world_add(world, "c.test", 3 * MINUTE));
    assert_null(world_add(world, "d.test", 1 * MINUTE));
    assert_null(world_add(world, "e.test", 2 * MINUTE));
    assert_non_null(world_add(world, "b.test", HOUR)); /* a known one has room */
    assert_int_equal(world_numbers(world).overflow, 3);
    assert_int_equal(world_numbers(world).waiting, 6);
    assert_int_equal(world_numbers(world).domain_queues, 2);
    sim_run(&world->loop, 2 * SECOND);
    assert_in_range(world->overflow_calls, 1, 2);
    assert_int_equal(waiting_overflow_take(world->waiting, taken, 2), 2);
    assert_int_equal(taken[0].id, 4);
    assert_int_equal(taken[1].id, 5);
    assert_int_equal(taken[0].next_attempt_ms, world->start_ms + 3 * SECOND + MINUTE);
    assert_int_equal(world_numbers(world).waiting, 4);
    assert_int_equal(waiting_overflow_take(world->waiting, taken, 2), 1);
    assert_int_equal(taken[0].id, 3);
    assert_int_equal(waiting_overflow_take(world->waiting, taken, 2), 0);
    assert_int_equal(world_numbers(world).waiting, 3);
    waiting_overflow_put(world->waiting, &taken[0]);
    assert_int_equal(world_numbers(world).overflow, 1);
    assert_int_equal(world_numbers(world).waiting, 4);
    assert_int_equal(waiting_overflow_take(world->waiting, taken + 1, 2), 1);
    assert_int_equal(taken[1].id, 3);
    assert_int_equal(taken[1].arrival_s, taken[0].arrival_s);
    assert_int_equal(taken[1].next_attempt_ms, taken[0].next_attempt_ms);
}

/* ---- numbers ---- */

static void the_numbers_follow_what_waits_and_what_is_leased(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    (void)world_add(world, "a.test", 0);
    (void)world_add(world, "b.test", HOUR);
    assert_int_equal(world_numbers(world).waiting, 3);
    assert_int_equal(world_numbers(world).leased, 0);
    assert_int_equal(world_numbers(world).domain_queues, 2);
    assert_int_equal(world_numbers(world).oldest_ms, world->start_ms / 1000 * 1000);
    sim_run(&world->loop, 0);
    assert_int_equal(world_take(queue), 1);
    assert_int_equal(world_numbers(world).waiting, 2);
    assert_int_equal(world_numbers(world).leased, 1);
    waiting_end_lease(queue, 1, 0, NULL);
    assert_int_equal(world_numbers(world).leased, 0);
}

static void the_oldest_of_all_is_found_again_when_it_left(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    sim_run(&world->loop, MINUTE);
    (void)world_add(world, "b.test", HOUR);
    waiting_end_lease(queue, world_take(queue), 0, NULL);
    sim_run(&world->loop, 3 * SECOND);
    assert_int_equal(world_numbers(world).oldest_ms,
                     (world->start_ms + MINUTE) / 1000 * 1000);
    sim_run(&world->loop, HOUR);
    queue = waiting_find_lane(world->waiting, "b.test");
    waiting_end_lease(queue, world_take(queue), 0, NULL);
    assert_int_equal(world_numbers(world).oldest_ms, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_WAITING(a_domain_queue_is_announced_when_its_earliest_entry_is_due),
        RUN_WAITING(what_is_due_at_once_is_announced_from_the_loop),
        RUN_WAITING(a_held_domain_queue_is_not_announced_again),
        RUN_WAITING(a_resting_domain_queue_waits_for_its_next_entry),
        RUN_WAITING(rest_keeps_a_domain_queue_back_for_new_mail_too),
        RUN_WAITING(a_domain_queue_that_is_woken_is_due_as_its_entries_are),
        RUN_WAITING(each_of_many_domain_queues_is_announced_at_its_own_time),
        RUN_WAITING(thousands_that_are_due_at_once_are_all_announced),
        RUN_WAITING(what_came_before_the_watcher_is_announced_to_it),
        RUN_WAITING(a_clock_that_drifts_is_followed),
        RUN_WAITING(entries_are_taken_in_order_of_their_time_and_only_when_due),
        RUN_WAITING(what_is_due_is_counted_up_to_a_limit),
        RUN_WAITING(the_oldest_arrival_is_known_whatever_was_taken),
        RUN_WAITING(a_turn_of_the_loop_announces_only_a_few),
        RUN_WAITING(lane_tenant_and_priority_make_a_domain_queue),
        RUN_WAITING(a_lane_is_found_whatever_its_tenant_and_priority),
        RUN_WAITING(a_walk_meets_every_domain_queue_once),
        RUN_WAITING(an_attachment_stays_until_it_is_taken_off),
        RUN_WAITING(a_domain_queue_that_is_empty_for_an_hour_is_forgotten),
        RUN_WAITING(a_lane_is_found_until_its_last_tenant_is_forgotten),
        RUN_WAITING(mail_within_the_hour_starts_it_anew),
        RUN_WAITING(what_is_held_or_has_leased_groups_is_not_forgotten),
        RUN_WAITING(nobody_needs_to_hear_of_what_is_forgotten),
        RUN_WAITING(above_the_ceiling_entries_wait_in_the_overflow),
        RUN_WAITING(the_numbers_follow_what_waits_and_what_is_leased),
        RUN_WAITING(the_oldest_of_all_is_found_again_when_it_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
