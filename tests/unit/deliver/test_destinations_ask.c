/* What is told of many destinations: a piece each time, whatever moves or goes meanwhile. Counts,
 * filters and limits: tests/e2e/test_destinations.py. */
#include "destinations_ask.h"

#include "deliver_world.h"

enum { MANY = 3500, A_PIECE = 1001, LIMIT = 10 };

static struct destination *make(struct world *w, int number)
{
    struct plan_host host = {.preference = 10};
    struct plan plan = {.kind = PLAN_HOSTS, .hosts = &host, .host_count = 1, .rule = -1};

    (void)snprintf(host.name, sizeof host.name, "mx%05d.many.test", number);
    return destination_get(w->deliver, &plan, "many.test");
}

struct probe {
    struct world *w;
    struct deferred turn;
    size_t seen;
    size_t most; /* that were looked at between two looks of ours */
    void (*between)(struct world *w);
    bool was_between;
    size_t ends;
    size_t matched;
    char names[LIMIT][64];
    size_t count;
    uint64_t waiting;
};

static void on_end(void *owner, const struct destinations_answer *answer)
{
    struct probe *probe = owner;

    probe->ends++;
    probe->matched = answer->matched;
    probe->count = answer->count;
    assert_in_range(answer->count, 0, LIMIT);
    for (size_t i = 0; i < answer->count; i++)
        (void)snprintf(probe->names[i], sizeof probe->names[i], "%s",
                       answer->views[i].name);
    probe->waiting = answer->count > 0 ? answer->views[0].waiting : 0;
}

/* All asks of a test are of the first round. */
static size_t count_seen(const struct world *w)
{
    size_t count = 0;

    for (const struct link *link = list_first(&w->deliver->all_destinations); link;
         link = list_next(&w->deliver->all_destinations, link))
        count += CONTAINER_OF(link, struct destination, link)->census.seen > 0;
    return count;
}

static void look(void *owner)
{
    struct probe *probe = owner;
    size_t seen = count_seen(probe->w);

    if (seen > probe->seen && seen - probe->seen > probe->most)
        probe->most = seen - probe->seen;
    if (seen > 0 && probe->between && !probe->was_between) {
        probe->was_between = true;
        probe->between(probe->w);
        seen = count_seen(probe->w);
    }
    probe->seen = seen;
    if (probe->ends == 0)
        loop_defer(probe->w->loop, &probe->turn, look, probe);
}

static void ask(struct world *w, const struct destinations_filter *filter,
                struct probe *probe)
{
    probe->w = w;
    (void)destinations_ask_start(w->deliver, filter, on_end, probe);
    assert_int_equal(probe->ends, 0);
    loop_defer(w->loop, &probe->turn, look, probe);
    WORLD_UNTIL(w, probe->ends > 0 && !link_is_in_list(&probe->turn.link));
    assert_int_equal(probe->ends, 1);
}

static const struct destinations_filter all = {.limit = LIMIT};

TEST(destinations_ask, many_are_looked_at_a_piece_at_a_time_the_most_mail_first)
{
    struct world *w = *state;
    struct probe probe = {NULL};

    for (int i = 0; i < MANY; i++)
        assert_non_null(make(w, i));
    (void)world_send(w, "x@down.test");
    WORLD_UNTIL(w, world_why(w, "down.test").kind == WHY_DESTINATION && world_is_quiet(w));
    ask(w, &all, &probe);
    assert_in_range(probe.most, 1, A_PIECE);
    assert_int_equal(probe.matched, MANY + 1);
    assert_int_equal(probe.count, LIMIT);
    assert_string_equal(probe.names[0], "mx9.test");
    assert_int_equal(probe.waiting, 1);
    assert_string_equal(probe.names[1], "mx00000.many.test");
    assert_string_equal(probe.names[LIMIT - 1], "mx00008.many.test");
}

/* What was looked at goes, or moves to the end; and so does what is next. */
static void disturb(struct world *w)
{
    struct list *every = &w->deliver->all_destinations;
    struct link *link = list_first(every);
    struct link *next = link;

    destination_free(make(w, 3));
    while (CONTAINER_OF(next, struct destination, link)->census.seen > 0)
        next = list_next(every, next);
    census_pass(w->deliver->census, CONTAINER_OF(link, struct destination, link));
    list_remove(every, link);
    list_push_back(every, link);
    link = list_next(every, next);
    census_pass(w->deliver->census, CONTAINER_OF(next, struct destination, link));
    list_remove(every, next);
    list_push_back(every, next);
    destination_free(CONTAINER_OF(link, struct destination, link));
}

TEST(destinations_ask, what_goes_or_moves_meanwhile_is_told_once_or_not_at_all)
{
    struct world *w = *state;
    struct probe probe = {.between = disturb};

    for (int i = 0; i < MANY; i++)
        assert_non_null(make(w, i));
    ask(w, &all, &probe);
    assert_int_equal(probe.matched, MANY - 2);
    assert_string_equal(probe.names[2], "mx00002.many.test");
    assert_string_equal(probe.names[3], "mx00004.many.test");
}

TEST(destinations_ask, of_a_domain_it_is_where_its_mail_goes)
{
    struct world *w = *state;
    struct reached reached = {.reach = REACH_DOMAIN, .name = "down.test"};
    const struct destinations_filter filter = {.reached = &reached, .limit = LIMIT};
    struct probe probe = {NULL};

    assert_non_null(make(w, 0));
    (void)world_send(w, "x@down.test");
    WORLD_UNTIL(w, world_why(w, "down.test").kind == WHY_DESTINATION && world_is_quiet(w));
    ask(w, &filter, &probe);
    assert_int_equal(probe.matched, 1);
    assert_string_equal(probe.names[0], "mx9.test");
    probe = (struct probe){NULL};
    (void)strcpy(reached.name, "other.test");
    ask(w, &filter, &probe);
    assert_int_equal(probe.count, 0);
}

/* The second comes while the first one's round runs; the third goes before it is told. */
TEST(destinations_ask, each_is_told_in_its_round)
{
    struct world *w = *state;
    struct probe probes[3] = {{NULL}};
    struct destinations_ask *third;

    for (int i = 0; i < 20; i++)
        assert_non_null(make(w, i));
    for (size_t i = 0; i < 2; i++)
        (void)destinations_ask_start(w->deliver, &all, on_end, &probes[i]);
    third = destinations_ask_start(w->deliver, &all, on_end, &probes[2]);
    destinations_ask_cancel(third);
    WORLD_UNTIL(w, probes[0].ends == 1 && probes[1].ends == 1);
    assert_int_equal(probes[1].matched, 20);
    assert_int_equal(probes[2].ends, 0);
    (void)destinations_ask_start(w->deliver, &all, on_end, &probes[2]); /* at the end */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(destinations_ask,
                   many_are_looked_at_a_piece_at_a_time_the_most_mail_first),
        WITH_WORLD(destinations_ask,
                   what_goes_or_moves_meanwhile_is_told_once_or_not_at_all),
        WITH_WORLD(destinations_ask, of_a_domain_it_is_where_its_mail_goes),
        WITH_WORLD(destinations_ask, each_is_told_in_its_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
