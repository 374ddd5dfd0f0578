/* The time of day is set right: what waits goes on for as long as it was to. Here it had been a month
 * ahead when the waits began. */
#include "clock.h"

#include "address_memory.h"
#include "deliver_world.h"
#include "host.h"
#include "known_hosts.h"
#include "scope.h"
#include "source.h"

static const int64_t MONTH_MS = INT64_C(30) * 24 * HOUR_MS;

/* What was a wait of `ms`, told by the clock of then. */
static int64_t in(const struct world *w, int64_t ms)
{
    return deliver_now(w->deliver) + MONTH_MS + ms;
}

static void set_right(struct world *w)
{
    w->deliver->clock.offset_ms += MONTH_MS;
    w->deliver->clock.steps--;
    (void)deliver_now(w->deliver);
}

static bool is_in(const struct world *w, int64_t at_ms, int64_t ms)
{
    int64_t left_ms = at_ms - deliver_now(w->deliver);

    return left_ms <= ms && left_ms > ms - 20000;
}

TEST(clock, a_back_off_ends_when_it_would_have_ended)
{
    struct world *w = *state;
    struct destination *destination;
    struct host_memory *host;
    struct lane *lane;

    smtp_peer_play(&w->peers[0], "S: 421 busy\nC: <closed>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION && world_is_quiet(w));
    lane = domain_queue_attachment(queue_find_domain_queue(w->queue, "a.test"));
    destination = lane->destination;
    host = world_host(w, "mx1.test");
    host->until_ms = destination->until_ms = in(w, 300);
    lane->until_ms = in(w, 300);
    lane->plan.expires_ms = in(w, HOUR_MS);
    domain_queue_wake(lane->domain_queue); /* its own clock has not moved */
    set_right(w);
    assert_true(is_in(w, lane->until_ms, 300));
    assert_true(is_in(w, lane->plan.expires_ms, HOUR_MS));
    w->peers[0].serves = true;
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(w->peers[0].messages, 1);
}

TEST(clock, whatever_waits_is_moved)
{
    struct world *w = *state;
    struct deliver_source source = {.name = "one", .weight = 1};
    struct endpoint endpoint = {.port = 25};
    struct destination *destination;
    struct host_memory *host;
    struct pace *pace;
    struct lane *lane;
    struct source *one;

    assert_int_equal(ip_parse(SLICE("127.0.0.1"), &source.ip), RESULT_OK);
    w->settings.sources = &source;
    w->settings.source_count = 1;
    world_apply(w);
    w->peers[0].serves = true;
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    lane = domain_queue_attachment(queue_find_domain_queue(w->queue, "a.test"));
    destination = lane->destination;
    host = host_memory(destination, "mx1.test");
    pace = &destination->scope->pace;
    one = source_find(w->deliver->sources, "one");
    int64_t *const times[] = {
        &lane->policy_until_ms,
        &lane->room_until_ms,
        &host->clear_until_ms,
        &host->lock_step_until_ms,
        &host->chunks_until_ms,
        &host->no_probe_until_ms,
        &host->dane_until_ms,
        &host->families.of[FAMILY_IPV6].behind_until_ms,
        &w->deliver->families.of[FAMILY_IPV4].behind_until_ms,
        &pace->suspended_until_ms,
        &pace->next_step_ms,
        &pace->bounce.until_ms,
        &one->aside_until_ms,
    };

    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        *times[i] = in(w, HOUR_MS);
    assert_true(address_failed(w->deliver->addresses, &endpoint, in(w, 0)) > 0);
    set_right(w);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        if (!is_in(w, *times[i], HOUR_MS))
            fail_msg("time %zu was not moved", i);
    assert_true(address_is_dead(w->deliver->addresses, &endpoint, deliver_now(w->deliver)));
    assert_false(address_is_dead(w->deliver->addresses, &endpoint,
                                 deliver_now(w->deliver) + HOUR_MS));
    assert_int_equal(host->until_ms, 0); /* what does not wait does not begin to */
}

TEST(clock, a_clock_that_only_drifts_moves_nothing)
{
    struct world *w = *state;
    struct plan plan = {.kind = PLAN_FAIL, .rule = -1};
    struct destination *destination = destination_get(w->deliver, &plan, "d.test");
    int64_t until_ms = deliver_now(w->deliver) + HOUR_MS;

    destination->until_ms = until_ms;
    w->deliver->clock.offset_ms += 5000;
    (void)deliver_now(w->deliver);
    assert_int_equal(destination->until_ms, until_ms);
    /* And what it drifted is no part of a later step. */
    w->deliver->clock.steps--;
    (void)deliver_now(w->deliver);
    assert_in_range(destination->until_ms, until_ms - 100, until_ms + 100);
}

TEST(clock, what_never_ends_stays_so_and_nothing_runs_over)
{
    int64_t never = INT64_MAX; /* the plan of a lane of ours */
    int64_t late = INT64_MAX - 5;
    int64_t none = 0;
    int64_t soon = 5;

    (void)state;
    clock_move(&never, MONTH_MS);
    clock_move(&never, -MONTH_MS);
    assert_true(never == INT64_MAX);
    clock_move(&late, MONTH_MS);
    assert_true(late == INT64_MAX - 1);
    clock_move(&none, MONTH_MS);
    assert_int_equal(none, 0);
    clock_move(&soon, -MONTH_MS);
    assert_int_equal(soon, 1); /* it is over, and is one */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(clock, a_back_off_ends_when_it_would_have_ended),
        WITH_WORLD(clock, whatever_waits_is_moved),
        WITH_WORLD(clock, what_never_ends_stays_so_and_nothing_runs_over),
        WITH_WORLD(clock, a_clock_that_only_drifts_moves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
