/* A retry of many lanes: a piece each time, all of them in the end, whoever goes meanwhile. */
#include "wakes.h"

#include "deliver_world.h"

enum { MANY = 3 * WAKES_A_TURN, A_MESSAGE = 96, FAR_MS = 1 << 30 };

/* Who waits for an answer of the DNS does nothing else that would show here. */
static void send_to_many(struct world *w)
{
    static char list[4096];
    char *at = list;

    for (int i = 0; i < MANY; i++) {
        at += snprintf(at, 32, "x@d%d.silent.test ", i);
        if ((i + 1) % A_MESSAGE == 0) {
            (void)world_send(w, list);
            at = list;
        }
    }
}

static void send_of_tenants(struct world *w, int count)
{
    char tenant[16];

    for (int i = 0; i < count; i++) {
        (void)snprintf(tenant, sizeof tenant, "t%d", i);
        w->envelope.tenant = tenant;
        (void)world_send(w, "x@silent.test");
    }
    w->envelope.tenant = NULL;
}

/* What a wake takes away. */
static int count_marks(const struct world *w)
{
    struct domain_queue *domain_queue;
    size_t position = 0;
    int count = 0;

    while ((domain_queue = queue_next_domain_queue(w->queue, &position))) {
        const struct lane *lane = domain_queue_attachment(domain_queue);

        count += lane && lane->policy_until_ms == FAR_MS;
    }
    return count;
}

static int mark(const struct world *w)
{
    struct domain_queue *domain_queue;
    size_t position = 0;

    while ((domain_queue = queue_next_domain_queue(w->queue, &position))) {
        struct lane *lane = domain_queue_attachment(domain_queue);

        if (lane)
            lane->policy_until_ms = FAR_MS;
    }
    return count_marks(w);
}

struct probe {
    struct world *w;
    struct deferred turn;
    int marks;
    int most; /* that were woken between two looks */
    int looks;
    int ends;
    void (*between)(struct probe *probe); /* at the first one */
};

static void on_end(void *owner)
{
    struct probe *probe = owner;

    probe->ends++;
}

static void look(void *owner)
{
    struct probe *probe = owner;
    int marks = count_marks(probe->w);

    if (probe->marks - marks > probe->most)
        probe->most = probe->marks - marks;
    probe->marks = marks;
    if (++probe->looks == 1 && probe->between)
        probe->between(probe);
    if (probe->ends == 0)
        loop_defer(probe->w->loop, &probe->turn, look, probe);
}

static void wake(struct world *w, const char (*lanes)[LANE_TEXT], size_t count,
                 struct probe *probe)
{
    probe->w = w;
    probe->marks = mark(w);
    (void)deliver_wake_start(w->deliver, lanes, count, on_end, probe);
    assert_int_equal(count_marks(w), probe->marks); /* from the loop */
    loop_defer(w->loop, &probe->turn, look, probe);
    WORLD_UNTIL(w, probe->ends > 0 && !link_is_in_list(&probe->turn.link));
    assert_int_equal(probe->ends, 1);
    assert_in_range(probe->most, 1, WAKES_A_TURN);
}

TEST(wakes, many_lanes_are_woken_a_piece_at_a_time)
{
    static char names[MANY + 2][LANE_TEXT];
    struct world *w = *state;
    struct probe probe = {NULL};

    send_to_many(w);
    WORLD_UNTIL(w, mark(w) == MANY);
    for (int i = 0; i < MANY; i++)
        (void)snprintf(names[i + 1], LANE_TEXT, "d%d.silent.test", i);
    (void)snprintf(names[0], LANE_TEXT, "not.there.test");
    (void)snprintf(names[MANY + 1], LANE_TEXT, "nor.this.test");
    wake(w, (const char(*)[LANE_TEXT])names, MANY + 2, &probe);
    assert_int_equal(count_marks(w), 0);
    probe = (struct probe){NULL};
    wake(w, (const char(*)[LANE_TEXT])names, MANY / 2, &probe);
    assert_int_equal(count_marks(w), MANY / 2 + 1);
}

static void forget_one(struct probe *probe)
{
    struct wakes *wakes = &probe->w->deliver->wakes;

    assert_non_null(wakes->at);
    wakes_forget(probe->w->deliver, wakes->first);
    wakes_forget(probe->w->deliver, wakes->at);
}

static void forget_the_rest(struct probe *probe)
{
    struct wakes *wakes = &probe->w->deliver->wakes;

    while (wakes->at)
        wakes_forget(probe->w->deliver, wakes->at);
}

/* As many domain queues as tenants; some go in the middle of it. */
TEST(wakes, one_lane_of_many_tenants_is_woken_a_piece_at_a_time)
{
    static const char names[2][LANE_TEXT] = {"silent.test", "silent.test"};
    enum { TENANTS = 2 * WAKES_A_TURN + 10 };
    struct world *w = *state;
    struct probe probe = {NULL};

    send_of_tenants(w, TENANTS);
    WORLD_UNTIL(w, mark(w) == TENANTS);
    wake(w, names, 1, &probe);
    assert_int_equal(count_marks(w), 0);
    probe = (struct probe){.between = forget_one};
    wake(w, names, 1, &probe);
    assert_int_equal(count_marks(w), 1);
    probe = (struct probe){.between = forget_the_rest};
    wake(w, names, 1, &probe);
    assert_int_equal(count_marks(w), TENANTS - WAKES_A_TURN);
    /* The next lane of the same retry is not skipped with it. */
    probe = (struct probe){.between = forget_the_rest};
    wake(w, names, 2, &probe);
    assert_int_equal(count_marks(w), 0);
}

TEST(wakes, who_cancels_is_told_nothing_and_all_are_woken)
{
    static const char names[1][LANE_TEXT] = {"silent.test"};
    struct world *w = *state;
    struct probe probe = {.w = w};
    struct deliver_wake *cancelled;

    (void)world_send(w, "x@silent.test");
    WORLD_UNTIL(w, mark(w) == 1);
    cancelled = deliver_wake_start(w->deliver, names, 1, on_end, &probe);
    (void)deliver_wake_start(w->deliver, names, 1, NULL, NULL);
    deliver_wake_cancel(cancelled);
    WORLD_UNTIL(w, w->deliver->wakes.waiting.count == 0);
    assert_int_equal(count_marks(w), 0);
    assert_int_equal(probe.ends, 0);
    (void)deliver_wake_start(w->deliver, names, 1, on_end, &probe); /* at the end */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(wakes, many_lanes_are_woken_a_piece_at_a_time),
        WITH_WORLD(wakes, one_lane_of_many_tenants_is_woken_a_piece_at_a_time),
        WITH_WORLD(wakes, who_cancels_is_told_nothing_and_all_are_woken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
