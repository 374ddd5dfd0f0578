/* What is out of its heap: leased groups and groups that an operator's change holds. With
 * it what a lease leaves behind: who was tried, and so who may expire (G6), also when the
 * time of day steps. */
#include "waiting_world.h"

#include "waiting_inner.h"

/* ---- leases ---- */

static void a_taken_entry_is_leased_and_not_there_to_be_taken_again(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    assert_false(waiting_is_leased(world->waiting, 1, 0));
    assert_int_equal(world_take(queue), 1);
    assert_true(waiting_is_leased(world->waiting, 1, 0));
    assert_false(waiting_is_leased(world->waiting, 1, 1)); /* another group of it */
    assert_false(waiting_is_leased(world->waiting, 2, 0));
    assert_int_equal(world_take(queue), 0);
    waiting_end_lease(queue, 1, 0, NULL);
    assert_false(waiting_is_leased(world->waiting, 1, 0));
    assert_int_equal(domain_queue_count(queue), 0);
}

static void when_no_more_can_be_leased_nothing_is_taken_until_one_ends(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);
    struct queue_entry first;
    struct queue_entry entry;

    (void)world_add(world, "a.test", 0);
    world->waiting->most_leases = 1;
    assert_true(domain_queue_take(queue, &first));
    assert_true(waiting_is_full(world->waiting));
    sim_run(&world->loop, 6 * (int64_t)DAY);
    assert_false(domain_queue_take(queue, &entry));
    assert_false(domain_queue_take_expired(queue, &entry));
    assert_false(domain_queue_take_late(queue, loop_wall_ms(&world->loop), &entry));
    assert_int_equal(domain_queue_count(queue), 1); /* it is there all the same */
    waiting_end_lease(queue, first.id, first.group, NULL);
    assert_true(domain_queue_take(queue, &entry));
    assert_int_not_equal(entry.id, first.id);
    domain_queue_give_back(queue, &entry);
}

static void groups_of_one_message_are_leased_one_by_one(void **state)
{
    struct world *world = *state;
    struct queue_entry entry = world_entry(world, 0);
    struct domain_queue *queue = world_add_entry(world, "a.test", &entry, true);

    entry.group = 0x1fffffff; /* the highest that an entry can hold */
    (void)world_add_entry(world, "a.test", &entry, true);
    assert_int_equal(take(queue).group, 0);
    assert_int_equal(take(queue).group, 0x1fffffff);
    waiting_end_lease(queue, 1, 0, NULL);
    assert_true(waiting_is_leased(world->waiting, 1, 0x1fffffff));
    waiting_end_lease(queue, 1, 0x1fffffff, NULL);
    assert_int_equal(world_numbers(world).leased, 0);
}

static void a_deferred_lease_waits_until_its_new_time(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);
    struct queue_entry entry;

    sim_run(&world->loop, 0);
    entry = take(queue);
    entry.next_attempt_ms = loop_wall_ms(&world->loop) + 5 * MINUTE;
    waiting_end_lease(queue, 1, 0, &entry);
    assert_int_equal(domain_queue_count(queue), 1);
    domain_queue_rest(queue, 0);
    sim_run(&world->loop, 5 * MINUTE - 1);
    assert_int_equal(world->due_count, 1);
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 2);
    assert_int_equal(take(queue).arrival_s, entry.arrival_s);
}

static void a_lease_that_is_given_back_is_as_it_was(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 10);
    struct queue_entry first;
    struct queue_entry second;

    sim_run(&world->loop, MINUTE);
    first = take(queue);
    domain_queue_give_back(queue, &first);
    assert_false(waiting_is_leased(world->waiting, 1, 0));
    assert_int_equal(domain_queue_count(queue), 1);
    second = take(queue); /* due at once, as before */
    assert_int_equal(second.id, first.id);
    assert_int_equal(second.arrival_s, first.arrival_s);
    assert_int_equal(second.next_attempt_ms, first.next_attempt_ms);
}

static void a_step_of_the_clock_during_a_lease_leaves_its_wait_as_it_was(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);
    struct queue_entry entry = take(queue);

    sim_step(&world->loop, DAY);
    domain_queue_give_back(queue, &entry);
    assert_int_equal(world_take(queue), 1);
}

/* ---- the time of day steps ---- */

static void waits_keep_their_length_when_the_clock_is_set(void **state)
{
    struct world *world = *state;
    static const int64_t steps_ms[] = {DAY, -DAY, 61 * SECOND, -61 * SECOND};

    for (size_t i = 0; i < sizeof steps_ms / sizeof *steps_ms; i++) {
        struct domain_queue *queue = world_add(world, "a.test", 10 * MINUTE);
        struct queue_entry entry;

        sim_run(&world->loop, MINUTE);
        sim_step(&world->loop, steps_ms[i]);
        sim_run(&world->loop, 9 * MINUTE - 1);
        assert_int_equal(world->due_count, i);
        sim_run(&world->loop, 1);
        assert_int_equal(world->due_count, i + 1);
        entry = take(queue);
        /* In the words of the new clock. */
        assert_int_equal(entry.next_attempt_ms, loop_wall_ms(&world->loop));
        waiting_end_lease(queue, entry.id, 0, NULL);
        domain_queue_rest(queue, 0);
    }
}

static void a_rest_keeps_its_length_when_the_clock_is_set(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    sim_run(&world->loop, 0);
    domain_queue_rest(queue, loop_wall_ms(&world->loop) + HOUR);
    sim_step(&world->loop, -DAY);
    sim_run(&world->loop, HOUR - 1);
    assert_int_equal(world->due_count, 1);
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 2);
}

/* The first to look at the clock after a step may be a session that accepts a message. */
static void mail_that_comes_right_behind_a_step_is_due_as_it_says(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue;

    sim_step(&world->loop, DAY);
    queue = world_add(world, "a.test", 0);
    sim_run(&world->loop, 0);
    assert_int_equal(world->due_count, 1);
    assert_int_equal(world_take(queue), 1);
}

static void a_deferral_right_behind_a_step_waits_as_it_says(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);
    struct queue_entry entry = take(queue);

    sim_step(&world->loop, DAY);
    entry.next_attempt_ms = loop_wall_ms(&world->loop) + MINUTE;
    waiting_end_lease(queue, 1, 0, &entry);
    sim_run(&world->loop, MINUTE);
    assert_int_equal(world_take(queue), 1);
}

static void a_rest_right_behind_a_step_lasts_as_it_says(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    sim_run(&world->loop, 0);
    sim_step(&world->loop, -DAY);
    domain_queue_rest(queue, loop_wall_ms(&world->loop) + MINUTE);
    sim_run(&world->loop, MINUTE - 1);
    assert_int_equal(world->due_count, 1);
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 2);
}

/* ---- expiry ---- */

static void what_was_tried_expires_though_it_is_not_due(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 30 * (int64_t)DAY);

    sim_run(&world->loop, EXPIRE_DAYS * (int64_t)DAY - SECOND);
    assert_int_equal(world_take_expired(queue), 0);
    sim_run(&world->loop, SECOND);
    assert_int_equal(world_take_expired(queue), 1);
    assert_true(waiting_is_leased(world->waiting, 1, 0));
    assert_int_equal(world_take_expired(queue), 0);
}

static void nothing_of_before_the_start_expires_before_it_was_tried(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = add_old(world, EXPIRE_DAYS * (int64_t)DAY + HOUR, false);
    struct queue_entry entry;

    assert_int_equal(world_take_expired(queue), 0);
    sim_run(&world->loop, HOUR - SECOND);
    assert_int_equal(world_take_expired(queue), 0);
    sim_run(&world->loop, SECOND);
    entry = take(queue);
    assert_false(waiting_was_tried(world->waiting, 1, 0));
    entry.next_attempt_ms += HOUR;
    waiting_end_lease(queue, 1, 0, &entry);
    assert_int_equal(world_take_expired(queue), 1);
    assert_true(waiting_was_tried(world->waiting, 1, 0));
}

static void what_is_given_back_was_not_tried(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue;
    struct queue_entry entry = world_entry(world, 0);

    entry.arrival_s -= EXPIRE_DAYS * 86400 + 60;
    queue = world_add_entry(world, "a.test", &entry, false);
    entry = take(queue);
    domain_queue_give_back(queue, &entry);
    assert_int_equal(world_take_expired(queue), 0);
}

/* A destination that rests for days must not hold its mail for ever. */
static void an_hour_after_the_start_the_untried_expires_too(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = add_old(world, EXPIRE_DAYS * (int64_t)DAY + HOUR, false);

    sim_run(&world->loop, HOUR - 1);
    assert_int_equal(world_take_expired(queue), 0);
    sim_run(&world->loop, 1);
    assert_int_equal(world_take_expired(queue), 1);
}

static void after_a_step_of_the_clock_nothing_expires_untried(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 30 * (int64_t)DAY);
    struct queue_entry leased;

    (void)world_add(world, "a.test", 0);
    leased = take(queue);
    sim_run(&world->loop, 2 * HOUR);
    sim_step(&world->loop, 365 * (int64_t)DAY);
    assert_int_equal(world_take_expired(queue), 0);
    assert_false(waiting_was_tried(world->waiting, leased.id, 0)); /* a lease neither */
    domain_queue_give_back(queue, &leased);
    assert_int_equal(world_take_expired(queue), 0);
    leased = take(queue);
    leased.next_attempt_ms = loop_wall_ms(&world->loop) + HOUR;
    waiting_end_lease(queue, leased.id, 0, &leased);
    assert_int_equal(world_take_expired(queue), leased.id); /* this one was tried */
    assert_int_equal(world_take_expired(queue), 0);
    sim_run(&world->loop, HOUR);
    assert_int_equal(world_take_expired(queue), 1);
}

static void a_shorter_expiry_holds_from_now_on(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = add_old(world, 2 * (int64_t)DAY, true);

    assert_int_equal(world_take_expired(queue), 0);
    waiting_set_expire(world->waiting, DAY);
    assert_int_equal(world_take_expired(queue), 1);
}

static void every_expired_one_is_found_among_many_in_the_end(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = NULL;
    unsigned found = 0;

    for (int i = 0; i < 5000; i++)
        queue = add_old(world, i % 50 == 7 ? 6 * (int64_t)DAY : MINUTE, true);
    for (int call = 0; call < 200; call++) {
        struct queue_entry entry;

        if (!domain_queue_take_expired(queue, &entry))
            continue;
        assert_int_equal(entry.id % 50, 8);
        found++;
    }
    assert_int_equal(found, 100);
    assert_int_equal(domain_queue_count(queue), 4900);
}

/* ---- late ---- */

/* The id of what came before the last `age_ms`; 0: the call found none. */
static uint64_t take_late(struct world *world, struct domain_queue *queue, int64_t age_ms)
{
    struct queue_entry entry;

    return domain_queue_take_late(queue, loop_wall_ms(&world->loop) - age_ms, &entry)
               ? entry.id
               : 0;
}

static void what_came_before_is_taken_as_late_though_it_is_not_due(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 30 * (int64_t)DAY);

    assert_int_equal(take_late(world, queue, HOUR), 0);
    sim_run(&world->loop, HOUR - SECOND);
    assert_int_equal(take_late(world, queue, HOUR), 0);
    sim_run(&world->loop, 2 * SECOND);
    assert_int_equal(take_late(world, queue, HOUR), 1);
    assert_true(waiting_is_leased(world->waiting, 1, 0));
    assert_int_equal(domain_queue_count(queue), 0);
    assert_int_equal(take_late(world, queue, HOUR), 0);
}

static void it_is_taken_as_late_once_however_it_comes_back(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = add_old(world, DAY, true);
    struct queue_entry entry;

    assert_true(domain_queue_take_late(queue, loop_wall_ms(&world->loop), &entry));
    assert_int_equal(entry.next_attempt_ms, loop_wall_ms(&world->loop) + HOUR);
    domain_queue_give_back(queue, &entry);
    assert_int_equal(take_late(world, queue, HOUR), 0);
    sim_run(&world->loop, HOUR);
    entry = take(queue); /* due as it was */
    entry.next_attempt_ms += HOUR;
    waiting_end_lease(queue, entry.id, 0, &entry);
    assert_int_equal(take_late(world, queue, HOUR), 0);
    sim_run(&world->loop, HOUR);
    entry = take(queue);
    waiting_end_untried(queue, entry.id, 0, &entry);
    assert_int_equal(take_late(world, queue, HOUR), 0);
    assert_int_equal(world_take(queue), entry.id);
}

static void what_is_held_is_not_late_until_its_hold_ends(void **state)
{
    struct world *world = *state;
    struct queue_entry entry = world_entry(world, HOUR);
    struct domain_queue *queue;

    entry.arrival_s -= 86400;
    entry.is_held = true;
    queue = world_add_entry(world, "a.test", &entry, true);
    assert_int_equal(take_late(world, queue, HOUR), 0);
    sim_run(&world->loop, HOUR - 1);
    assert_int_equal(take_late(world, queue, HOUR), 0);
    sim_run(&world->loop, 1);
    assert_int_equal(take_late(world, queue, HOUR), entry.id);
}

static void what_ends_untried_is_as_untried_as_before(void **state)
{
    struct world *world = *state;

    for (int was_tried = 0; was_tried < 2; was_tried++) {
        struct queue_entry entry = world_entry(world, HOUR);
        struct domain_queue *queue;

        entry.arrival_s -= (EXPIRE_DAYS + 1) * 86400;
        queue = world_add_entry(world, "a.test", &entry, was_tried);
        assert_true(domain_queue_take_late(queue, loop_wall_ms(&world->loop), &entry));
        entry.next_attempt_ms += MINUTE;
        waiting_end_untried(queue, entry.id, 0, &entry);
        assert_int_equal(world_take_expired(queue), was_tried ? entry.id : 0);
        if (was_tried)
            continue;
        sim_run(&world->loop, HOUR);
        assert_int_equal(world_take(queue), 0);
        sim_run(&world->loop, MINUTE);
        assert_int_equal(world_take(queue), entry.id);
    }
}

static void each_late_one_among_many_is_found_once_in_the_end(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = NULL;
    unsigned found = 0;

    for (int i = 0; i < 5000; i++)
        queue = add_old(world, i % 50 == 7 ? DAY : MINUTE, true);
    for (int call = 0; call < 200; call++) {
        struct queue_entry entry;

        if (!domain_queue_take_late(queue, loop_wall_ms(&world->loop) - HOUR, &entry))
            continue;
        assert_int_equal(entry.id % 50, 8);
        domain_queue_give_back(queue, &entry);
        found++;
    }
    assert_int_equal(found, 100);
    assert_int_equal(domain_queue_count(queue), 5000);
}

/* A loop must not stand still for a million entries: a call looks at a part of them. */
static void a_search_for_late_ones_goes_on_where_it_ended(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = NULL;
    unsigned calls = 1;

    for (int i = 0; i < 5000; i++)
        queue = add_old(world, i == 4999 ? DAY : MINUTE, true); /* the last by its id */
    while (take_late(world, queue, HOUR) == 0 && calls < 100)
        calls++;
    assert_in_range(calls, 2, 5);
    assert_true(waiting_is_leased(world->waiting, 5000, 0));
}

static void an_entry_that_was_parked_is_late_as_before(void **state)
{
    struct world *world = *state;

    for (int was_judged = 0; was_judged < 2; was_judged++) {
        struct queue_entry entry = world_entry(world, 0);
        struct waiting_change change = {.id = entry.id};
        struct domain_queue *queue;

        entry.arrival_s -= 86400;
        queue = world_add_entry(world, "a.test", &entry, true);
        if (was_judged) {
            assert_true(domain_queue_take_late(queue, loop_wall_ms(&world->loop), &entry));
            domain_queue_give_back(queue, &entry);
        }
        assert_true(waiting_change_begin(world->waiting, &change));
        assert_int_equal(was_judged ? world_take(queue) : take_late(world, queue, HOUR), 0);
        assert_int_equal(domain_queue_count(queue), 0); /* parked */
        end_change(world, &change, WAITING_UNCHANGED, 0);
        assert_int_equal(take_late(world, queue, HOUR), was_judged ? 0 : entry.id);
        assert_int_equal(world_take(queue), was_judged ? entry.id : 0);
    }
}

/* ---- changes by operators ---- */

static void what_a_change_holds_cannot_be_leased(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);
    struct waiting_change change = {.id = 1};

    (void)world_add(world, "a.test", 1);
    sim_run(&world->loop, 1);
    assert_true(waiting_change_begin(world->waiting, &change));
    assert_int_equal(world_take(queue), 2); /* past it, to the next */
    assert_int_equal(world_take(queue), 0);
    assert_false(waiting_is_leased(world->waiting, 1, 0));
    end_change(world, &change, WAITING_UNCHANGED, 0);
    assert_int_equal(world_take(queue), 1);
}

static void a_leased_group_cannot_be_changed_nor_one_that_is_changed_now(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);
    struct waiting_change change = {.id = 1};
    struct waiting_change second = {.id = 1};
    struct waiting_change other = {.id = 1, .group = 1};

    assert_int_equal(world_take(queue), 1);
    assert_false(waiting_change_begin(world->waiting, &change));
    waiting_end_lease(queue, 1, 0, NULL);
    assert_true(waiting_change_begin(world->waiting, &change));
    assert_false(waiting_change_begin(world->waiting, &second));
    assert_true(waiting_change_begin(world->waiting, &other));
    end_change(world, &change, WAITING_UNCHANGED, 0);
    assert_true(waiting_change_begin(world->waiting, &second));
    end_change(world, &second, WAITING_UNCHANGED, 0);
    end_change(world, &other, WAITING_UNCHANGED, 0);
}

static void a_removed_entry_is_gone_from_its_heap(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", MINUTE);
    struct waiting_change change = {.id = 2};

    (void)world_add(world, "a.test", SECOND);
    assert_true(waiting_change_begin(world->waiting, &change));
    end_change(world, &change, WAITING_REMOVED, 0);
    assert_int_equal(domain_queue_count(queue), 1);
    assert_int_equal(world_numbers(world).waiting, 1);
    sim_run(&world->loop, MINUTE - 1);
    assert_int_equal(world->due_count, 0); /* not for the one that is gone */
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 1);
    assert_int_equal(world_take(queue), 1);
}

static void a_retried_entry_is_due_at_its_new_time_and_never_later(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", HOUR);
    struct waiting_change change = {.id = 1};
    int64_t now_ms = loop_wall_ms(&world->loop);

    assert_true(waiting_change_begin(world->waiting, &change));
    end_change(world, &change, WAITING_RETRIED, now_ms + MINUTE);
    assert_true(waiting_change_begin(world->waiting, &change));
    end_change(world, &change, WAITING_RETRIED, now_ms + DAY);
    sim_run(&world->loop, MINUTE - 1);
    assert_int_equal(world->due_count, 0);
    sim_run(&world->loop, 1);
    assert_int_equal(world->due_count, 1);
    assert_int_equal(world_take(queue), 1);
}

/* Taken while the change was at the disk: it stands aside until the change has ended. */
static void an_entry_that_was_parked_ends_as_its_change_does(void **state)
{
    struct world *world = *state;
    static const enum waiting_change_end ends[] = {WAITING_UNCHANGED, WAITING_RETRIED,
                                                   WAITING_REMOVED};

    for (size_t i = 0; i < 3; i++) {
        struct domain_queue *queue = world_add(world, "a.test", 0);
        struct waiting_change change = {.id = world->next_id - 1};

        assert_true(waiting_change_begin(world->waiting, &change));
        assert_int_equal(world_take(queue), 0);
        assert_true(change.is_parked && domain_queue_count(queue) == 0);
        sim_step(&world->loop, -DAY); /* its time is of our clock */
        end_change(world, &change, ends[i], loop_wall_ms(&world->loop) + MINUTE);
        assert_int_equal(domain_queue_count(queue), ends[i] != WAITING_REMOVED);
        assert_int_equal(world_take(queue), ends[i] == WAITING_UNCHANGED ? change.id : 0);
        if (ends[i] != WAITING_REMOVED) {
            sim_run(&world->loop, MINUTE);
            waiting_end_lease(queue, i == 0 ? change.id : world_take(queue), 0, NULL);
        }
    }
    assert_int_equal(world_numbers(world).waiting, 0);
}

static void an_entry_that_was_parked_may_expire_as_before(void **state)
{
    struct world *world = *state;

    for (int was_tried = 0; was_tried < 2; was_tried++) {
        struct queue_entry entry = world_entry(world, 0);
        struct waiting_change change = {.id = entry.id};
        struct domain_queue *queue;

        entry.arrival_s -= (EXPIRE_DAYS + 1) * 86400;
        queue = world_add_entry(world, "a.test", &entry, was_tried);
        assert_true(waiting_change_begin(world->waiting, &change));
        assert_int_equal(world_take(queue), 0);
        end_change(world, &change, WAITING_UNCHANGED, 0);
        assert_int_equal(world_take_expired(queue), was_tried ? entry.id : 0);
        assert_int_equal(world_take(queue), was_tried ? 0 : entry.id);
    }
}

static void a_domain_queue_with_a_parked_group_stays(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);
    struct waiting_change change = {.id = 1};

    assert_true(waiting_change_begin(world->waiting, &change));
    assert_int_equal(world_take(queue), 0);
    domain_queue_rest(queue, 0);
    sim_run(&world->loop, 2 * HOUR);
    assert_int_equal(world->gone_count, 0);
    end_change(world, &change, WAITING_REMOVED, 0);
    sim_run(&world->loop, 2 * HOUR);
    assert_int_equal(world->gone_count, 1);
}

static void a_domain_queue_whose_groups_were_removed_is_forgotten_in_an_hour(void **state)
{
    struct world *world = *state;
    struct waiting_change change = {.id = 1};

    (void)world_add(world, "a.test", DAY);
    sim_run(&world->loop, 2 * HOUR);
    assert_true(waiting_change_begin(world->waiting, &change));
    end_change(world, &change, WAITING_REMOVED, 0);
    sim_run(&world->loop, HOUR - 2 * SECOND);
    assert_int_equal(world->gone_count, 0);
    sim_run(&world->loop, 4 * SECOND);
    assert_int_equal(world->gone_count, 1);
    assert_int_equal(world->due_count, 0);
}

static void many_changes_of_a_domain_queue_end_together(void **state)
{
    struct world *world = *state;
    static struct waiting_change changes[1000];
    static struct waiting_change *list[1000];
    struct domain_queue *queue = NULL;
    struct waiting_changes ended = {list, 1000, NULL};

    for (int i = 0; i < 2000; i++)
        queue = world_add(world, "a.test", HOUR + i * 7919 % 2000);
    for (size_t i = 0; i < 1000; i++) {
        changes[i] = (struct waiting_change){.id = 2000 - 2 * i};
        list[i] = &changes[i];
        assert_true(waiting_change_begin(world->waiting, list[i]));
    }
    ended.domain_queue = queue;
    waiting_change_end(world->waiting, &ended, WAITING_REMOVED, 0);
    assert_int_equal(domain_queue_count(queue), 1000);
    assert_int_equal(world_numbers(world).waiting, 1000);
    sim_run(&world->loop, 2 * HOUR);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(world_take(queue) % 2, 1);
}

/* It may wait in the overflow, or not be read yet: only the disk knows it. */
static void a_change_of_what_is_not_in_memory_ends_in_silence(void **state)
{
    struct world *world = *state;
    struct waiting_change change = {.id = 99};
    struct waiting_changes changes = {(struct waiting_change *const[]){&change}, 1, NULL};

    assert_true(waiting_change_begin(world->waiting, &change));
    waiting_change_end(world->waiting, &changes, WAITING_REMOVED, 0);
    assert_true(waiting_change_begin(world->waiting, &change)); /* it was let go */
    waiting_change_end(world->waiting, &changes, WAITING_RETRIED, 0);
    assert_int_equal(world_numbers(world).waiting, 0);
}

/* ---- holds, and reasons to wait ---- */

static void change_moves(struct world *world, struct domain_queue *queue,
                         struct waiting_change *change, int64_t in_ms, bool is_held)
{
    change->moved_ms = loop_wall_ms(&world->loop) + in_ms;
    change->moves_held = is_held;
    waiting_change_end(
        world->waiting,
        &(struct waiting_changes){(struct waiting_change *const[]){change}, 1, queue},
        WAITING_MOVED, 0);
}

static void a_moved_entry_is_due_at_its_new_time_earlier_or_later(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", MINUTE);
    struct waiting_change change = {.id = 1};

    assert_true(waiting_change_begin(world->waiting, &change));
    change_moves(world, queue, &change, HOUR, true);
    sim_run(&world->loop, HOUR - 1);
    assert_int_equal(world->due_count, 0);
    assert_true(waiting_change_begin(world->waiting, &change));
    change_moves(world, queue, &change, DAY, true);
    assert_true(waiting_change_begin(world->waiting, &change));
    change_moves(world, queue, &change, MINUTE, false);
    sim_run(&world->loop, MINUTE);
    assert_int_equal(world->due_count, 1);
    assert_int_equal(world_take(queue), 1);
}

static void held_entries_are_counted_apart_from_waiting_ones(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);
    struct waiting_change change = {.id = 1};
    struct waiting_change parked = {.id = 2};

    (void)world_add(world, "a.test", 0);
    assert_true(waiting_change_begin(world->waiting, &change));
    change_moves(world, queue, &change, HOUR, true);
    assert_int_equal(world_numbers(world).held, 1);
    assert_int_equal(world_numbers(world).waiting, 1);
    assert_int_equal(domain_queue_held_count(queue), 1);
    assert_int_equal(domain_queue_count(queue), 2);
    /* One that became due while its change was written. */
    assert_true(waiting_change_begin(world->waiting, &parked));
    assert_int_equal(world_take(queue), 0);
    assert_int_equal(world_numbers(world).waiting, 0);
    change_moves(world, queue, &parked, HOUR, true);
    assert_int_equal(world_numbers(world).held, 2);
    sim_run(&world->loop, HOUR);
    assert_int_equal(world_take(queue), 1);
    assert_int_equal(world_numbers(world).held, 1);
    assert_int_equal(world_take(queue), 2);
    assert_int_equal(world_numbers(world).held, 0);
    assert_int_equal(domain_queue_held_count(queue), 0);
}

static void what_waits_is_counted_by_the_reason_of_its_domain_queue(void **state)
{
    struct world *world = *state;
    struct domain_queue *a = world_add(world, "a.test", HOUR);
    struct domain_queue *b = world_add(world, "b.test", 0);
    struct waiting_change change = {.id = 1};

    (void)world_add(world, "a.test", DAY);
    assert_int_equal(world_numbers(world).by_reason[0], 3);
    domain_queue_note(a, 3);
    domain_queue_note(b, 5);
    assert_int_equal(world_numbers(world).by_reason[0], 0);
    assert_int_equal(world_numbers(world).by_reason[3], 2);
    assert_int_equal(world_numbers(world).by_reason[5], 1);
    (void)world_add(world, "a.test", DAY);
    assert_int_equal(world_numbers(world).by_reason[3], 3);
    assert_true(waiting_change_begin(world->waiting, &change));
    change_moves(world, a, &change, HOUR, true); /* held ones count as such */
    assert_int_equal(world_numbers(world).by_reason[3], 2);
    domain_queue_note(a, 4);
    assert_int_equal(world_numbers(world).by_reason[3], 0);
    assert_int_equal(world_numbers(world).by_reason[4], 2);
    assert_int_equal(world_take(b), 2);
    assert_int_equal(world_numbers(world).by_reason[5], 0);
}

static void a_reason_ends_with_the_rest_that_it_was_for(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", 0);

    sim_run(&world->loop, 0);
    domain_queue_note(queue, 3);
    sim_run(&world->loop, HOUR); /* the watcher has it */
    assert_int_equal(world_numbers(world).by_reason[3], 1);
    (void)world_take(queue);
    (void)world_add(world, "a.test", DAY);
    domain_queue_rest(queue, loop_wall_ms(&world->loop) + HOUR);
    sim_run(&world->loop, HOUR - MINUTE);
    assert_int_equal(world_numbers(world).by_reason[3], 1);
    sim_run(&world->loop, 2 * MINUTE);
    assert_int_equal(world_numbers(world).by_reason[3], 0);
    assert_int_equal(world_numbers(world).by_reason[0], 1);
}

static void what_is_leased_by_id_leaves_its_heap_whatever_its_time_is(void **state)
{
    struct world *world = *state;
    struct domain_queue *queue = world_add(world, "a.test", DAY);
    struct waiting_change changes[3] = {{.id = 1}, {.id = 2}, {.id = 99}};
    struct waiting_change *list[3];
    struct waiting_changes all = {list, 3, queue};
    struct queue_entry entry = {.id = 1};

    (void)world_add(world, "a.test", 0);
    (void)world_add(world, "a.test", HOUR);
    for (int i = 0; i < 3; i++) {
        list[i] = &changes[i];
        assert_true(waiting_change_begin(world->waiting, list[i]));
        changes[i].moved_ms = loop_wall_ms(&world->loop) + MINUTE;
    }
    assert_int_equal(world_take(queue), 0); /* the second stands aside */
    waiting_change_lease(world->waiting, &all);
    assert_true(changes[0].is_leased && changes[1].is_leased);
    assert_false(changes[2].is_leased); /* it is not in the index */
    assert_true(waiting_is_leased(world->waiting, 1, 0));
    assert_true(waiting_is_leased(world->waiting, 2, 0));
    assert_int_equal(domain_queue_count(queue), 1);
    assert_int_equal(world_numbers(world).leased, 2);
    domain_queue_give_back(queue, &entry);
    sim_run(&world->loop, MINUTE);
    assert_int_equal(world_take(queue), 1);
    waiting_end_lease(queue, 1, 0, NULL);
    waiting_end_lease(queue, 2, 0, NULL);
    assert_int_equal(domain_queue_count(queue), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_WAITING(a_moved_entry_is_due_at_its_new_time_earlier_or_later),
        RUN_WAITING(held_entries_are_counted_apart_from_waiting_ones),
        RUN_WAITING(what_waits_is_counted_by_the_reason_of_its_domain_queue),
        RUN_WAITING(a_reason_ends_with_the_rest_that_it_was_for),
        RUN_WAITING(what_is_leased_by_id_leaves_its_heap_whatever_its_time_is),
        RUN_WAITING(a_taken_entry_is_leased_and_not_there_to_be_taken_again),
        RUN_WAITING(when_no_more_can_be_leased_nothing_is_taken_until_one_ends),
        RUN_WAITING(groups_of_one_message_are_leased_one_by_one),
        RUN_WAITING(a_deferred_lease_waits_until_its_new_time),
        RUN_WAITING(a_lease_that_is_given_back_is_as_it_was),
        RUN_WAITING(a_step_of_the_clock_during_a_lease_leaves_its_wait_as_it_was),
        RUN_WAITING(waits_keep_their_length_when_the_clock_is_set),
        RUN_WAITING(a_rest_keeps_its_length_when_the_clock_is_set),
        RUN_WAITING(mail_that_comes_right_behind_a_step_is_due_as_it_says),
        RUN_WAITING(a_deferral_right_behind_a_step_waits_as_it_says),
        RUN_WAITING(a_rest_right_behind_a_step_lasts_as_it_says),
        RUN_WAITING(what_was_tried_expires_though_it_is_not_due),
        RUN_WAITING(nothing_of_before_the_start_expires_before_it_was_tried),
        RUN_WAITING(what_is_given_back_was_not_tried),
        RUN_WAITING(an_hour_after_the_start_the_untried_expires_too),
        RUN_WAITING(after_a_step_of_the_clock_nothing_expires_untried),
        RUN_WAITING(a_shorter_expiry_holds_from_now_on),
        RUN_WAITING(every_expired_one_is_found_among_many_in_the_end),
        RUN_WAITING(what_came_before_is_taken_as_late_though_it_is_not_due),
        RUN_WAITING(it_is_taken_as_late_once_however_it_comes_back),
        RUN_WAITING(what_is_held_is_not_late_until_its_hold_ends),
        RUN_WAITING(what_ends_untried_is_as_untried_as_before),
        RUN_WAITING(each_late_one_among_many_is_found_once_in_the_end),
        RUN_WAITING(a_search_for_late_ones_goes_on_where_it_ended),
        RUN_WAITING(an_entry_that_was_parked_is_late_as_before),
        RUN_WAITING(what_a_change_holds_cannot_be_leased),
        RUN_WAITING(a_leased_group_cannot_be_changed_nor_one_that_is_changed_now),
        RUN_WAITING(a_removed_entry_is_gone_from_its_heap),
        RUN_WAITING(a_retried_entry_is_due_at_its_new_time_and_never_later),
        RUN_WAITING(an_entry_that_was_parked_ends_as_its_change_does),
        RUN_WAITING(an_entry_that_was_parked_may_expire_as_before),
        RUN_WAITING(a_domain_queue_with_a_parked_group_stays),
        RUN_WAITING(a_domain_queue_whose_groups_were_removed_is_forgotten_in_an_hour),
        RUN_WAITING(many_changes_of_a_domain_queue_end_together),
        RUN_WAITING(a_change_of_what_is_not_in_memory_ends_in_silence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
