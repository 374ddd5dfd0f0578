/* Who has a name in the metrics, and that no count is lost or goes back. */
#include "busiest.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

enum { MANY = 150 };

struct world {
    struct busiest *busiest;
    struct destination destinations[MANY];
    char keys[MANY][16];
};

static struct world *world_open(void)
{
    struct world *w = NEW(struct world);

    w->busiest = busiest_new();
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(w->keys[i], sizeof w->keys[i], "mx%d", i);
        w->destinations[i].name = w->keys[i];
    }
    return w;
}

static void world_close(struct world *w)
{
    busiest_free(w->busiest);
    memory_free(w);
}

static void deliver_to(struct world *w, int at)
{
    struct busiest_mark mark = busiest_settles(w->busiest, &w->destinations[at]);

    busiest_result(w->busiest, mark)->delivered++;
}

static const struct deliver_named *find(const struct deliver_busiest *read,
                                        const char *name)
{
    for (size_t i = 0; i < read->count; i++)
        if (strcmp(read->named[i].name, name) == 0)
            return &read->named[i];
    return NULL;
}

TEST(busiest, the_first_hundred_have_names_and_the_rest_is_other)
{
    struct world *w = world_open();
    struct deliver_busiest read;

    for (int i = 0; i < MANY; i++)
        deliver_to(w, i);
    busiest_read(w->busiest, 0, &read);
    assert_int_equal(read.count, DELIVER_NAMED_MAX);
    assert_int_equal(find(&read, "mx99")->result.delivered, 1);
    assert_null(find(&read, "mx100"));
    assert_int_equal(read.other.delivered, MANY - DELIVER_NAMED_MAX);
    world_close(w);
}

TEST(busiest, a_much_busier_one_gets_the_name_of_the_quietest_at_the_review_only)
{
    struct world *w = world_open();
    struct deliver_busiest read;

    for (int i = 0; i < DELIVER_NAMED_MAX; i++)
        for (int k = 0; k < (i == 42 ? 2 : 5); k++)
            deliver_to(w, i);
    for (int k = 0; k < 6; k++)
        deliver_to(w, 120);
    busiest_read(w->busiest, 0, &read);
    assert_null(find(&read, "mx120"));
    busiest_review(w->busiest);
    deliver_to(w, 120);
    busiest_read(w->busiest, 0, &read);
    assert_null(find(&read, "mx42"));
    assert_non_null(find(&read, "mx41"));
    assert_int_equal(find(&read, "mx120")->result.delivered, 1);
    assert_int_equal(read.other.delivered, 6); /* never goes back */
    assert_int_equal(w->destinations[42].busy.slot, 0);
    world_close(w);
}

TEST(busiest, one_that_is_not_twice_as_busy_waits)
{
    struct world *w = world_open();
    struct deliver_busiest read;

    for (int i = 0; i < DELIVER_NAMED_MAX; i++)
        for (int k = 0; k < 3; k++)
            deliver_to(w, i);
    for (int k = 0; k < 6; k++)
        deliver_to(w, 120);
    busiest_review(w->busiest);
    busiest_read(w->busiest, 0, &read);
    assert_null(find(&read, "mx120"));
    /* What it did in another minute counts no more. */
    deliver_to(w, 120);
    for (int i = 0; i < DELIVER_NAMED_MAX; i++)
        deliver_to(w, i);
    busiest_review(w->busiest);
    busiest_read(w->busiest, 0, &read);
    assert_null(find(&read, "mx120"));
    world_close(w);
}

TEST(busiest, a_result_that_comes_after_the_name_changed_hands_is_other)
{
    struct world *w = world_open();
    struct deliver_busiest read;
    struct busiest_mark mark;

    for (int i = 1; i < DELIVER_NAMED_MAX; i++)
        for (int k = 0; k < 5; k++)
            deliver_to(w, i);
    mark = busiest_settles(w->busiest, &w->destinations[0]);
    for (int k = 0; k < 9; k++)
        deliver_to(w, 130);
    busiest_review(w->busiest);
    busiest_result(w->busiest, mark)->failed++;
    busiest_read(w->busiest, 0, &read);
    assert_int_equal(find(&read, "mx130")->result.failed, 0);
    assert_int_equal(read.other.failed, 1);
    world_close(w);
}

TEST(busiest, a_forgotten_one_leaves_its_counts_and_no_pointer)
{
    struct world *w = world_open();
    struct deliver_busiest read;
    struct destination *gone = memory_copy(&w->destinations[0], sizeof *gone);
    struct busiest_mark mark = busiest_settles(w->busiest, gone);

    gone->connections = 3;
    gone->until_ms = 100;
    busiest_read(w->busiest, 50, &read);
    assert_int_equal(read.named[0].connections, 3);
    assert_true(read.named[0].is_backing_off);
    busiest_read(w->busiest, 100, &read);
    assert_false(read.named[0].is_backing_off);
    busiest_forget(w->busiest, gone);
    memory_free(gone);
    busiest_result(w->busiest, mark)->delivered++;
    busiest_read(w->busiest, 0, &read);
    assert_int_equal(read.named[0].result.delivered, 1);
    assert_int_equal(read.named[0].connections, 0);
    for (int i = 1; i <= DELIVER_NAMED_MAX; i++)
        deliver_to(w, i);
    gone = memory_copy(&w->destinations[140], sizeof *gone);
    for (int i = 0; i < 9; i++)
        (void)busiest_settles(w->busiest, gone);
    busiest_forget(w->busiest, gone); /* a candidate */
    memory_free(gone);
    busiest_review(w->busiest);
    world_close(w);
}

TEST(busiest, names_are_clean_and_differ_where_the_keys_do)
{
    struct world *w = world_open();
    struct deliver_busiest read;
    char keys[4][300];

    memset(keys, 'x', sizeof keys);
    for (int i = 0; i < 4; i++)
        keys[i][299] = '\0';
    keys[1][298] = 'y'; /* beyond what is shown */
    (void)snprintf(keys[2], sizeof keys[2], "mx\n1");
    (void)snprintf(keys[3], sizeof keys[3], "mx\"1");
    for (int i = 0; i < 4; i++) {
        w->destinations[i].name = keys[i];
        deliver_to(w, i);
    }
    busiest_read(w->busiest, 0, &read);
    assert_string_not_equal(read.named[0].name, read.named[1].name);
    assert_string_not_equal(read.named[2].name, read.named[3].name);
    for (size_t i = 0; i < 4; i++)
        for (const char *at = read.named[i].name; *at; at++)
            assert_true(*at > ' ' && *at < 0x7f && *at != '"' && *at != '\\');
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(busiest, the_first_hundred_have_names_and_the_rest_is_other),
        RUN(busiest, a_much_busier_one_gets_the_name_of_the_quietest_at_the_review_only),
        RUN(busiest, one_that_is_not_twice_as_busy_waits),
        RUN(busiest, a_result_that_comes_after_the_name_changed_hands_is_other),
        RUN(busiest, a_forgotten_one_leaves_its_counts_and_no_pointer),
        RUN(busiest, names_are_clean_and_differ_where_the_keys_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
