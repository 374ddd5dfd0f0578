/* What is known of our addresses, over reloads and restarts. The rest: tests/e2e/test_sources.py. */
#include "source.h"

#include "deliver_world.h"
#include "smtpd/base/file.h"
#include "warm_up_file.h"

enum { WARM = 2, QUOTA = 50 };

static const uint32_t schedule[] = {QUOTA, QUOTA};
static struct deliver_source both[2]; /* one, other */
static char path[128];

static int64_t today(const struct world *w)
{
    return warm_up_day(deliver_now(w->deliver));
}

/* With both of them, or without the first. */
static void choose(struct world *w, bool has_one)
{
    static const char *const names[] = {"one", "other"};

    for (size_t i = 0; i < 2; i++) {
        both[i] = (struct deliver_source){
            .name = names[i], .weight = 1, .warm_up = schedule, .warm_up_count = WARM};
        assert_int_equal(ip_parse(slice_of("127.0.0.2"), &both[i].ip), RESULT_OK);
    }
    w->settings.sources = has_one ? both : both + 1;
    w->settings.source_count = has_one ? 2 : 1;
}

static const struct warm_up *warm_of(const struct world *w, const char *name)
{
    return &source_find(w->deliver->sources, name)->warm;
}

/* Another process left this behind; names beside `one` have their number. */
static void leave_behind(struct world *w, const struct warm_up_line *line, size_t count)
{
    struct warm_up_line each = *line;
    struct sealed sealed;
    struct fault fault;
    struct bytes text;

    bytes_init(&text, WARM_UP_FILE_MAX);
    assert_int_equal(warm_up_file_begin(&text, &sealed), RESULT_OK);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            (void)snprintf(each.name, sizeof each.name, "gone-%zu", i);
        assert_int_equal(warm_up_file_add(&text, &sealed, &each), RESULT_OK);
    }
    assert_int_equal(warm_up_file_end(&text, &sealed), RESULT_OK);
    (void)snprintf(path, sizeof path, "%s/warm_up", w->folder);
    assert_int_equal(file_write(path, bytes_view(&text), &fault), RESULT_OK);
    bytes_fini(&text);
    w->warm_up_path = path;
}

static bool is_in_file(const char *text)
{
    struct fault fault;
    struct bytes all;
    bool is_there;

    bytes_init(&all, WARM_UP_FILE_MAX);
    assert_int_equal(file_read(path, &all, &fault), RESULT_OK);
    is_there = memmem(all.data, all.length, text, strlen(text));
    bytes_fini(&all);
    return is_there;
}

/* Its last day of a warm-up is long ago, and the file is written without it. */
TEST(source, a_warm_up_that_is_over_outlives_an_absence)
{
    struct world *w = *state;
    int64_t long_ago = today(w) - 200;
    char gone[128];

    leave_behind(w, &(struct warm_up_line){"one", long_ago, WARM, QUOTA, 0}, 1);
    choose(w, true);
    world_restart(w);
    choose(w, false);
    world_apply(w);
    (void)snprintf(gone, sizeof gone, "source one %lld 2 50 %lld\n", (long long)long_ago,
                   (long long)today(w));
    WORLD_UNTIL(w, is_in_file(gone));
    world_restart(w); /* still without it */
    choose(w, true);
    world_restart(w);
    assert_int_equal(warm_of(w, "one")->step, WARM);
    assert_false(warm_up_is_limited(warm_of(w, "one")));
    assert_int_equal(warm_of(w, "other")->step, 0);
    (void)snprintf(gone, sizeof gone, "source one %lld 2 50\n", (long long)long_ago);
    WORLD_UNTIL(w, is_in_file(gone)); /* it is no longer absent */
}

static uint32_t step_after_days(struct world *w, int64_t days)
{
    int64_t gone_day = today(w) - days;

    leave_behind(w, &(struct warm_up_line){"one", today(w) - 200, 1, QUOTA, gone_day}, 1);
    choose(w, true);
    world_restart(w);
    return warm_of(w, "one")->step;
}

TEST(source, one_that_was_away_for_29_days_goes_on)
{
    assert_int_equal(step_after_days(*state, 29), 1);
}

TEST(source, one_that_was_away_for_30_days_begins_anew)
{
    struct world *w = *state;

    assert_int_equal(step_after_days(w, 30), 0);
    assert_int_equal(warm_of(w, "one")->day, 0);
}

TEST(source, the_days_count_in_one_process_too)
{
    struct world *w = *state;
    struct warm_up_line line = {"one", today(w) - 200, 1, QUOTA, 0};

    leave_behind(w, &line, 1);
    choose(w, false);
    world_restart(w);
    assert_int_equal(source_find(w->deliver->sources, "one")->gone_day, today(w));
    source_find(w->deliver->sources, "one")->gone_day -= 30;
    choose(w, true);
    world_apply(w);
    assert_int_equal(warm_of(w, "one")->step, 0);
    assert_int_equal(source_find(w->deliver->sources, "one")->gone_day, 0);
}

TEST(source, absent_ones_leave_room_for_new_names)
{
    struct world *w = *state;
    struct warm_up_line line = {"one", today(w), 1, QUOTA, today(w)};

    leave_behind(w, &line, SOURCES_GONE_MAX + 1);
    choose(w, false);
    world_restart(w);
    assert_non_null(source_find(w->deliver->sources, "one"));
    assert_non_null(source_find(w->deliver->sources, "gone-999"));
    assert_null(source_find(w->deliver->sources, "gone-1000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(source, a_warm_up_that_is_over_outlives_an_absence),
        WITH_WORLD(source, one_that_was_away_for_29_days_goes_on),
        WITH_WORLD(source, one_that_was_away_for_30_days_begins_anew),
        WITH_WORLD(source, the_days_count_in_one_process_too),
        WITH_WORLD(source, absent_ones_leave_room_for_new_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
