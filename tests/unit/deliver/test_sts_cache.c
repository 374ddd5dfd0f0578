/* What is known: its ends, its limits, its files. The clock is moved by dates in files. */
#include "sts_cache.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DAY INT64_C(86400000)

struct world {
    struct loop *loop;
    struct offload *offload;
    struct sts_cache *cache;
    char folder[64];
    unsigned loads;
    unsigned stale;
    char last[STS_DOMAIN_TEXT];
};

static void on_loaded(void *owner)
{
    ((struct world *)owner)->loads++;
}

static void cache_open(struct world *w, struct offload *offload)
{
    w->loads = 0;
    w->cache = sts_cache_new(w->loop, offload, w->folder, on_loaded, w);
    assert_int_equal(w->loads, 0);
    for (int i = 0; i < 2000 && w->loads == 0; i++)
        loop_run_for(w->loop, 5);
    assert_int_equal(w->loads, 1);
}

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    secure_init();
    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    (void)snprintf(w->folder, sizeof w->folder, "/tmp/smtpd-sts-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
}

static void world_close(struct world *w)
{
    struct sts_record *found;
    size_t count = sts_file_read_all(w->folder, 100, &found);

    if (w->cache)
        sts_cache_free(w->cache);
    offload_free(w->offload);
    for (size_t i = 0; i < count; i++) {
        sts_file_remove(w->folder, found[i].domain);
        sts_policy_unref(found[i].policy);
    }
    memory_free(found);
    assert_int_equal(rmdir(w->folder), 0);
    loop_free(w->loop);
}

static struct sts_policy *policy_of(int64_t max_age_s)
{
    char text[128];
    char why[160];

    (void)snprintf(text, sizeof text,
                   "version: STSv1\nmode: enforce\nmx: a.test\nmax_age: %lld\n",
                   (long long)max_age_s);
    return sts_policy_parse(slice_of(text), why);
}

/* A file as the cache would have written it at that time. */
static void put_file(const struct world *w, const char *domain, int64_t max_age_s,
                     int64_t age_ms, int64_t unused_ms)
{
    int64_t now_ms = loop_wall_ms(w->loop);
    struct sts_record record = {.policy = policy_of(max_age_s),
                                .fetched_ms = now_ms - age_ms,
                                .used_ms = now_ms - unused_ms};
    struct bytes text;
    struct fault fault;

    (void)snprintf(record.domain, sizeof record.domain, "%s", domain);
    (void)snprintf(record.id, sizeof record.id, "1");
    bytes_init(&text, STS_BODY_MAX);
    assert_int_equal(sts_record_print(&record, &text), RESULT_OK);
    assert_int_equal(sts_file_write(w->folder, domain, bytes_view(&text), &fault),
                     RESULT_OK);
    sts_policy_unref(record.policy);
    bytes_fini(&text);
}

/* Whole ones: what is being written has a dot in front. */
static size_t files(const struct world *w)
{
    DIR *entries = opendir(w->folder);
    size_t count = 0;

    for (const struct dirent *entry = entries ? readdir(entries) : NULL; entry;
         entry = readdir(entries))
        count += entry->d_name[0] != '.';
    if (entries)
        (void)closedir(entries);
    return count;
}

#define FILES_UNTIL(w, number)                                                             \
    do {                                                                                   \
        for (int turns_ = 0; turns_ < 2000 && files(w) != (number); turns_++)              \
            loop_run_for((w)->loop, 5);                                                    \
        assert_int_equal(files(w), number);                                                \
    } while (0)

TEST(sts_cache, a_policy_is_found_until_it_is_over)
{
    struct world w;

    (void)state;
    world_open(&w);
    cache_open(&w, NULL);
    assert_null(sts_cache_find(w.cache, "a.test"));
    sts_cache_put(w.cache, "a.test", "1", policy_of(1000));
    sts_cache_put(w.cache, "b.test", "1", policy_of(0));
    assert_int_equal(sts_cache_count(w.cache), 2);
    assert_string_equal(sts_cache_find(w.cache, "a.test")->id, "1");
    assert_null(sts_cache_find(w.cache, "b.test"));
    assert_int_equal(sts_cache_count(w.cache), 1);
    sts_cache_put(w.cache, "a.test", "2", policy_of(0));
    sts_cache_tidy(w.cache);
    assert_int_equal(sts_cache_count(w.cache), 0);
    world_close(&w);
}

TEST(sts_cache, it_is_on_disk_and_comes_back)
{
    struct world w;

    (void)state;
    world_open(&w);
    cache_open(&w, w.offload);
    for (int i = 0; i < 3; i++) /* the last word counts */
        sts_cache_put(w.cache, "a.test", i == 2 ? "new" : "old", policy_of(1000));
    sts_cache_put(w.cache, "b.test", "1", policy_of(1000));
    FILES_UNTIL(&w, 2);
    for (int i = 0; i < 50; i++)
        loop_run_for(w.loop, 2);
    sts_cache_free(w.cache);
    cache_open(&w, w.offload);
    assert_int_equal(sts_cache_count(w.cache), 2);
    assert_string_equal(sts_cache_find(w.cache, "a.test")->id, "new");
    /* What is over goes from the disk too. */
    sts_cache_put(w.cache, "b.test", "2", policy_of(0));
    assert_null(sts_cache_find(w.cache, "b.test"));
    FILES_UNTIL(&w, 1);
    world_close(&w);
}

TEST(sts_cache, what_is_too_old_or_from_the_future_is_not_believed)
{
    struct world w;

    (void)state;
    world_open(&w);
    put_file(&w, "old.test", 1000, 1000001, 0);
    put_file(&w, "young.test", 1000, 990000, 0);
    put_file(&w, "future.test", 1000, -2 * DAY, 0);
    cache_open(&w, w.offload);
    assert_int_equal(sts_cache_count(w.cache), 1);
    assert_non_null(sts_cache_find(w.cache, "young.test"));
    FILES_UNTIL(&w, 1);
    world_close(&w);
}

static bool on_stale(void *owner, const struct sts_record *record)
{
    struct world *w = owner;

    w->stale++;
    (void)snprintf(w->last, sizeof w->last, "%s", record->domain);
    return true;
}

static unsigned stale(struct world *w)
{
    w->stale = 0;
    sts_cache_each_stale(w->cache, on_stale, w);
    return w->stale;
}

TEST(sts_cache, it_is_stale_after_a_day_or_half_of_its_life)
{
    struct world w;

    (void)state;
    world_open(&w);
    put_file(&w, "day.test", 864000, DAY + 1000, DAY);
    put_file(&w, "young.test", 864000, DAY - 60000, DAY);
    put_file(&w, "unused.test", 8640000, DAY + 1000, 31 * DAY);
    cache_open(&w, w.offload);
    assert_int_equal(stale(&w), 1);
    assert_string_equal(w.last, "day.test");
    sts_cache_touch(w.cache, "unused.test"); /* and what is looked at only is not used */
    assert_non_null(sts_cache_find(w.cache, "day.test"));
    assert_int_equal(stale(&w), 2);
    (void)sts_cache_note_failure(w.cache, "day.test");
    assert_int_equal(stale(&w), 1);
    assert_string_equal(w.last, "unused.test");
    sts_cache_put(w.cache, "unused.test", "2", policy_of(864000));
    assert_int_equal(stale(&w), 0);
    world_close(&w);
}

TEST(sts_cache, a_failure_is_remembered_longer_each_time_and_forgotten_by_success)
{
    static const int64_t minutes[] = {5, 10, 20, 40, 60, 60, 60};
    struct world w;

    (void)state;
    world_open(&w);
    cache_open(&w, NULL);
    assert_false(sts_cache_has_failure(w.cache, "a.test"));
    for (size_t i = 0; i < sizeof minutes / sizeof minutes[0]; i++) {
        assert_int_equal(sts_cache_note_failure(w.cache, "a.test"), minutes[i] * 60000);
        assert_int_equal(sts_cache_failures(w.cache, "a.test"), i + 1);
        assert_true(sts_cache_has_failure(w.cache, "a.test"));
    }
    assert_false(sts_cache_has_failure(w.cache, "b.test"));
    sts_cache_put(w.cache, "a.test", "1", policy_of(1000));
    assert_false(sts_cache_has_failure(w.cache, "a.test"));
    assert_int_equal(sts_cache_failures(w.cache, "a.test"), 0);
    world_close(&w);
}

TEST(sts_cache, a_failure_is_tried_again_when_it_would_have_been_whatever_the_clock_says)
{
    struct world w;

    (void)state;
    world_open(&w);
    cache_open(&w, NULL);
    (void)sts_cache_note_failure(w.cache, "a.test");
    sts_cache_move_clock(w.cache, -4 * 60000);
    assert_true(sts_cache_has_failure(w.cache, "a.test"));
    sts_cache_move_clock(w.cache, -2 * 60000);
    assert_false(sts_cache_has_failure(w.cache, "a.test"));
    world_close(&w);
}

TEST(sts_cache, its_limits)
{
    struct world w;
    char domain[32];

    (void)state;
    world_open(&w);
    cache_open(&w, NULL);
    for (int i = 0; i < LIMIT_STS_POLICIES; i++) {
        (void)snprintf(domain, sizeof domain, "d%d.test", i);
        sts_cache_put(w.cache, domain, "1", policy_of(1000));
        (void)sts_cache_note_failure(w.cache, domain);
    }
    sts_cache_touch(w.cache, "d0.test");
    sts_cache_put(w.cache, "more.test", "1", policy_of(1000));
    (void)sts_cache_note_failure(w.cache, "more.test");
    assert_int_equal(sts_cache_count(w.cache), LIMIT_STS_POLICIES);
    assert_non_null(sts_cache_find(w.cache, "d0.test"));
    assert_null(sts_cache_find(w.cache, "d1.test")); /* not used for longest */
    assert_non_null(sts_cache_find(w.cache, "more.test"));
    assert_false(sts_cache_has_failure(w.cache, "d0.test")); /* the oldest */
    assert_true(sts_cache_has_failure(w.cache, "d1.test"));
    assert_true(sts_cache_has_failure(w.cache, "more.test"));
    world_close(&w);
}

TEST(sts_cache, a_folder_that_cannot_be_written_costs_nothing_but_the_disk)
{
    struct world w;
    char folder[64];

    (void)state;
    world_open(&w);
    memcpy(folder, w.folder, sizeof folder);
    (void)snprintf(w.folder, sizeof w.folder, "%.40s/no/such", folder);
    cache_open(&w, w.offload);
    sts_cache_put(w.cache, "a.test", "1", policy_of(1000));
    loop_run_for(w.loop, 100);
    assert_non_null(sts_cache_find(w.cache, "a.test"));
    (void)snprintf(w.folder, sizeof w.folder, "%.40s/no", folder);
    assert_int_equal(sts_file_write(w.folder, "x.test", SLICE("x"), NULL), RESULT_OK);
    sts_file_remove(w.folder, "x.test");
    (void)snprintf(w.folder, sizeof w.folder, "%.40s/no/such", folder);
    sts_cache_tidy(w.cache); /* it is written again */
    FILES_UNTIL(&w, 1);
    sts_cache_free(w.cache);
    w.cache = NULL;
    sts_file_remove(w.folder, "a.test");
    assert_int_equal(rmdir(w.folder), 0);
    (void)snprintf(w.folder, sizeof w.folder, "%.40s/no", folder);
    assert_int_equal(rmdir(w.folder), 0);
    memcpy(w.folder, folder, sizeof folder);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(sts_cache, a_policy_is_found_until_it_is_over),
        RUN(sts_cache, it_is_on_disk_and_comes_back),
        RUN(sts_cache, what_is_too_old_or_from_the_future_is_not_believed),
        RUN(sts_cache, it_is_stale_after_a_day_or_half_of_its_life),
        RUN(sts_cache, a_failure_is_remembered_longer_each_time_and_forgotten_by_success),
        RUN(sts_cache,
            a_failure_is_tried_again_when_it_would_have_been_whatever_the_clock_says),
        RUN(sts_cache, its_limits),
        RUN(sts_cache, a_folder_that_cannot_be_written_costs_nothing_but_the_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
