/* Counting those that rest: at once, or in pieces while destinations come and go. */
#include "resting.h"

#include "smtpd/base/memory.h"
#include "test.h"

enum { MANY = 5000 };

struct world {
    struct deliver deliver;
    struct destination destinations[MANY];
};

static struct world *world_open(int count, int64_t until_ms)
{
    struct world *w = NEW(struct world);

    w->deliver.rooms.loop = loop_new();
    list_init(&w->deliver.all_destinations);
    for (int i = 0; i < count; i++) {
        w->destinations[i].deliver = &w->deliver;
        w->destinations[i].until_ms = i % 4 == 0 ? until_ms : 0;
        list_push_back(&w->deliver.all_destinations, &w->destinations[i].link);
    }
    return w;
}

static void forget(struct world *w, int at)
{
    resting_forget(&w->destinations[at]);
    list_remove(&w->deliver.all_destinations, &w->destinations[at].link);
}

static void world_close(struct world *w)
{
    resting_stop(&w->deliver);
    loop_free(w->deliver.rooms.loop);
    memory_free(w);
}

TEST(resting, a_few_are_counted_when_asked_for)
{
    struct world *w = world_open(100, INT64_MAX);

    resting_go_round(&w->deliver);
    assert_null(w->deliver.resting.at);
    assert_int_equal(resting_count(&w->deliver), 25);
    w->destinations[0].until_ms = 1; /* long past */
    assert_int_equal(resting_count(&w->deliver), 24);
    world_close(w);
}

TEST(resting, many_are_counted_in_pieces_and_told_when_all_are_seen)
{
    struct world *w = world_open(MANY, INT64_MAX);

    assert_int_equal(resting_count(&w->deliver), 0);
    resting_go_round(&w->deliver);
    assert_int_equal(resting_count(&w->deliver), 0); /* nothing was seen yet */
    loop_run_for(w->deliver.rooms.loop, 1000);
    assert_null(w->deliver.resting.at);
    assert_int_equal(resting_count(&w->deliver), MANY / 4);
    for (int i = 0; i < MANY; i++)
        w->destinations[i].until_ms = 0;
    resting_go_round(&w->deliver);
    resting_go_round(&w->deliver); /* one count at a time */
    loop_run_for(w->deliver.rooms.loop, 1000);
    assert_int_equal(resting_count(&w->deliver), 0);
    world_close(w);
}

TEST(resting, one_that_is_forgotten_under_the_count_is_stepped_over)
{
    struct world *w = world_open(MANY, INT64_MAX);

    resting_go_round(&w->deliver);
    forget(w, 0);
    forget(w, 1);
    forget(w, 4);
    loop_run_for(w->deliver.rooms.loop, 1000);
    assert_int_equal(resting_count(&w->deliver), MANY / 4 - 2);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(resting, a_few_are_counted_when_asked_for),
        RUN(resting, many_are_counted_in_pieces_and_told_when_all_are_seen),
        RUN(resting, one_that_is_forgotten_under_the_count_is_stepped_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
