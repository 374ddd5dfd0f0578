/* Old tables of users: freed in portions, one behind the other, and what is still used stays. */
#include "users_retired.h"

#include "smtpd/base/secure.h"
#include "users_folder.h"
#include "users_table.h"

#include <sys/eventfd.h>

enum { USERS = 6000, STEP_MOST = 1000 };

struct world {
    struct loop *loop;
    struct users_retired *retired;
    size_t last;
    size_t step_most; /* freed in one turn of the loop */
    size_t turns;
};

static struct account *account(void)
{
    struct account *made =
        account_new(SLICE("$argon2id$x"), SLICE("senders=*@a.test"), NULL);

    assert_non_null(made);
    return made;
}

static struct map *table(size_t count)
{
    struct map *map = map_new(count + 1);
    char name[32];

    for (size_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "user-%zu", i);
        assert_int_equal(map_set(map, slice_of(name), account()), RESULT_OK);
    }
    return map;
}

static void on_probe(void *owner)
{
    struct world *w = owner;
    size_t left = users_retired_count(w->retired);

    if (w->last > left && w->last - left > w->step_most)
        w->step_most = w->last - left;
    w->turns += w->last > left;
    w->last = left;
}

static void open_world(struct world *w)
{
    *w = (struct world){0};
    secure_init();
    w->loop = loop_new();
    w->retired = users_retired_new(w->loop);
}

static void close_world(struct world *w)
{
    users_retired_free(w->retired);
    loop_free(w->loop);
}

/* The probe watches what can always be read: it runs in each turn of the loop. */
static void run_until_empty(struct world *w)
{
    int ready = eventfd(1, EFD_CLOEXEC);
    struct watch *probe = watch_start(w->loop, ready, WATCH_READABLE, on_probe, w);

    w->last = users_retired_count(w->retired);
    for (int i = 0; i < 2000 && users_retired_count(w->retired) > 0; i++)
        loop_run_for(w->loop, 5);
    assert_int_equal(users_retired_count(w->retired), 0);
    watch_stop(probe);
    (void)close(ready);
}

TEST(users_retired, a_large_table_goes_in_portions)
{
    struct world w;

    open_world(&w);
    users_retired_take(w.retired, table(USERS));
    assert_int_equal(users_retired_count(w.retired), USERS); /* nothing inside the call */
    run_until_empty(&w);
    assert_true(w.step_most <= STEP_MOST);
    assert_true(w.turns >= USERS / STEP_MOST);
    close_world(&w);
}

TEST(users_retired, others_may_come_while_one_is_being_freed)
{
    struct world w;

    open_world(&w);
    users_retired_take(w.retired, table(USERS));
    users_retired_take(w.retired, NULL);
    users_retired_take(w.retired, table(0));
    loop_run_for(w.loop, 0);
    users_retired_take(w.retired, table(USERS));
    assert_true(users_retired_count(w.retired) > USERS);
    run_until_empty(&w);
    users_retired_take(w.retired, table(10)); /* and again, when it was at rest */
    run_until_empty(&w);
    close_world(&w);
}

TEST(users_retired, an_account_that_is_used_lives_on)
{
    struct world w;
    struct map *map;
    struct account *used;

    open_world(&w);
    map = table(10);
    used = account_ref(map_get(map, SLICE("user-3")));
    users_retired_take(w.retired, map);
    run_until_empty(&w);
    assert_string_equal(used->hash, "$argon2id$x");
    account_unref(used);
    close_world(&w);
}

TEST(users_retired, the_end_of_the_process_frees_what_is_left)
{
    struct world w;

    open_world(&w);
    users_retired_take(w.retired, table(USERS));
    users_retired_take(w.retired, table(USERS));
    loop_run_for(w.loop, 0);
    assert_true(users_retired_count(w.retired) > 0);
    close_world(&w); /* the sanitizer tells of a leak */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(users_retired, a_large_table_goes_in_portions),
        RUN(users_retired, others_may_come_while_one_is_being_freed),
        RUN(users_retired, an_account_that_is_used_lives_on),
        RUN(users_retired, the_end_of_the_process_frees_what_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
