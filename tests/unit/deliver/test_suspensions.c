/* Found by name, in the order of their ends, kept. */
#include "suspensions.h"

#include "held_files.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct world {
    struct loop *loop;
    struct offload *offload;
    struct suspensions *suspensions;
    char folder[64];
    char path[96];
    char ended[64];
    char order[256];
    size_t told;
    bool is_kept;
};

static void on_ended(void *owner, const struct suspension_view *view)
{
    struct world *w = owner;

    (void)snprintf(w->ended, sizeof w->ended, "%s", view->name);
}

static void open_it(struct world *w)
{
    w->suspensions = suspensions_new(w->loop, w->offload, w->path, on_ended, w);
}

static int set_up(void **state)
{
    struct world *w = NEW(struct world);

    (void)strcpy(w->folder, "/tmp/smtpd-suspensions-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->path, sizeof w->path, "%s/suspensions", w->folder);
    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    open_it(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    suspensions_free(w->suspensions);
    offload_free(w->offload);
    loop_free(w->loop);
    (void)unlink(w->path);
    assert_int_equal(rmdir(w->folder), 0); /* nothing else is left there */
    memory_free(w);
    return 0;
}

static void set(const struct world *w, enum reach reach, const char *name, int64_t for_ms)
{
    int64_t now_ms = loop_wall_ms(w->loop);
    const struct suspension_view view = {reach, name, "why", now_ms, now_ms + for_ms};

    assert_int_equal(suspensions_set(w->suspensions, &view), RESULT_OK);
}

static const struct suspension_view *find(const struct world *w, enum reach reach,
                                          const char *name)
{
    return suspensions_find(w->suspensions, reach, slice_of(name));
}

static void add_name(void *owner, const struct suspension_view *view)
{
    struct world *w = owner;

    (void)strcat(strcat(w->order, view->name), " ");
}

static void on_kept(void *owner, bool is_kept)
{
    struct world *w = owner;

    w->told++;
    w->is_kept = is_kept;
}

static void wait_kept(struct world *w)
{
    struct suspensions_wait wait;
    size_t told = w->told;

    suspensions_wait_start(w->suspensions, &wait, on_kept, w);
    assert_int_equal(w->told, told); /* from the loop */
    for (int i = 0; i < 10000 && w->told == told; i++)
        loop_run_for(w->loop, 1);
    assert_int_equal(w->told, told + 1);
}

TEST(suspensions, names_of_one_kind_are_none_of_another)
{
    struct world *w = *state;

    assert_null(find(w, REACH_DOMAIN, "a.test"));
    set(w, REACH_DOMAIN, "a.test", 3600000);
    set(w, REACH_SCOPE, "rule:b", 1800000);
    set(w, REACH_DESTINATION, "a.test", 7200000);
    assert_string_equal(find(w, REACH_DOMAIN, "a.test")->reason, "why");
    assert_null(find(w, REACH_SCOPE, "a.test"));
    assert_null(find(w, REACH_DOMAIN, "rule:b"));
    suspensions_each(w->suspensions, add_name, w);
    assert_string_equal(w->order, "rule:b a.test a.test ");
    assert_int_equal(suspensions_count(w->suspensions, REACH_DOMAIN), 1);
    assert_true(suspensions_remove(w->suspensions, REACH_DOMAIN, "a.test"));
    assert_false(suspensions_remove(w->suspensions, REACH_DOMAIN, "a.test"));
    assert_null(find(w, REACH_DOMAIN, "a.test"));
    assert_non_null(find(w, REACH_DESTINATION, "a.test"));
}

TEST(suspensions, a_new_one_takes_the_place_and_its_end_is_told)
{
    struct world *w = *state;

    set(w, REACH_DOMAIN, "a.test", 3600000);
    set(w, REACH_DOMAIN, "a.test", 20);
    assert_int_equal(suspensions_count(w->suspensions, REACH_DOMAIN), 1);
    for (int i = 0; i < 10000 && !w->ended[0]; i++)
        loop_run_for(w->loop, 1);
    assert_string_equal(w->ended, "a.test");
    assert_int_equal(suspensions_count(w->suspensions, REACH_DOMAIN), 0);
}

TEST(suspensions, what_was_told_as_kept_is_there_again_and_what_is_over_is_not)
{
    struct world *w = *state;
    struct suspensions *dead = w->suspensions;

    set(w, REACH_SCOPE, "rule:b", 3600000);
    set(w, REACH_DOMAIN, "a.test", 30);
    wait_kept(w);
    assert_true(w->is_kept);
    loop_run_for(w->loop, 1);
    while (find(w, REACH_DOMAIN, "a.test"))
        loop_run_for(w->loop, 1);
    open_it(w); /* as if the other were gone without an end */
    assert_non_null(find(w, REACH_SCOPE, "rule:b"));
    assert_null(find(w, REACH_DOMAIN, "a.test"));
    suspensions_free(dead);
}

TEST(suspensions, who_waits_is_told_when_it_is_on_the_disk_and_not_before)
{
    struct world *w = *state;
    struct suspensions_wait waits[2];
    struct suspensions *dead = w->suspensions;
    size_t told;
    bool is_there;

    hold_files(w->offload);
    set(w, REACH_DOMAIN, "a.test", 3600000);
    suspensions_wait_start(w->suspensions, &waits[0], on_kept, w);
    for (int i = 0; i < 50; i++)
        loop_run_for(w->loop, 1);
    set(w, REACH_DOMAIN, "b.test", 3600000); /* behind the write that is under way */
    suspensions_wait_start(w->suspensions, &waits[1], on_kept, w);
    for (int i = 0; i < 50; i++)
        loop_run_for(w->loop, 1);
    told = w->told;
    is_there = access(w->path, F_OK) == 0;
    release_files();
    assert_int_equal(told, 0);
    assert_false(is_there);
    assert_non_null(find(w, REACH_DOMAIN, "a.test")); /* it holds meanwhile */
    for (int i = 0; i < 10000 && w->told < 2; i++)
        loop_run_for(w->loop, 1);
    assert_int_equal(w->told, 2);
    assert_true(w->is_kept);
    open_it(w); /* as if the other were gone without an end */
    assert_non_null(find(w, REACH_DOMAIN, "a.test"));
    assert_non_null(find(w, REACH_DOMAIN, "b.test"));
    suspensions_free(dead);
}

TEST(suspensions, who_waits_is_told_that_the_disk_failed)
{
    struct world *w = *state;
    char beside[128];

    (void)snprintf(beside, sizeof beside, "%s.new", w->path);
    assert_int_equal(mkdir(beside, 0700), 0);
    set(w, REACH_DOMAIN, "a.test", 3600000);
    w->is_kept = true;
    wait_kept(w);
    assert_false(w->is_kept);
    assert_non_null(find(w, REACH_DOMAIN, "a.test"));
    assert_int_equal(rmdir(beside), 0);
    set(w, REACH_DOMAIN, "b.test", 3600000);
    wait_kept(w);
    assert_true(w->is_kept);
}

TEST(suspensions, an_end_writes_what_was_not_written)
{
    struct world *w = *state;

    set(w, REACH_SCOPE, "rule:b", 3600000);
    suspensions_free(w->suspensions);
    open_it(w);
    assert_non_null(find(w, REACH_SCOPE, "rule:b"));
    assert_true(suspensions_remove(w->suspensions, REACH_SCOPE, "rule:b"));
    suspensions_free(w->suspensions);
    open_it(w);
    assert_null(find(w, REACH_SCOPE, "rule:b"));
}

TEST(suspensions, there_is_a_limit_and_who_waits_can_leave)
{
    struct world *w = *state;
    const struct suspension_view more = {REACH_DOMAIN, "one.more.test", "", 1, INT64_MAX};
    struct suspensions_wait wait;
    char name[32];

    for (int i = 0; i < SUSPENSIONS_MAX; i++) {
        (void)snprintf(name, sizeof name, "d%d.test", i);
        set(w, REACH_DOMAIN, name, 3600000 + i);
    }
    assert_int_equal(suspensions_set(w->suspensions, &more), RESULT_BUSY);
    set(w, REACH_DOMAIN, "d7.test", 60000); /* one that is there */
    suspensions_wait_start(w->suspensions, &wait, on_kept, w);
    suspensions_wait_cancel(w->suspensions, &wait);
    wait_kept(w);
    assert_int_equal(w->told, 1);
}

#define WITH(name) cmocka_unit_test_setup_teardown(suspensions_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(names_of_one_kind_are_none_of_another),
        WITH(a_new_one_takes_the_place_and_its_end_is_told),
        WITH(what_was_told_as_kept_is_there_again_and_what_is_over_is_not),
        WITH(who_waits_is_told_when_it_is_on_the_disk_and_not_before),
        WITH(who_waits_is_told_that_the_disk_failed),
        WITH(an_end_writes_what_was_not_written),
        WITH(there_is_a_limit_and_who_waits_can_leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
