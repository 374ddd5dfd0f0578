/* Tokens: never more than the quota in any span, and hardly less. */
#include "bucket.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>

static const struct quota sixty = {60, 60000};
static const struct quota ten_an_hour = {10, 3600000};
static const struct quota many = {100000, 60000};

static struct bucket bucket_of(const struct quota *quota)
{
    struct bucket bucket;

    bucket_init(&bucket, 0);
    bucket_set_rate(&bucket, quota, BUCKET_FULL_RATE, 0, 0);
    return bucket;
}

TEST(bucket, without_a_limit_always_gives)
{
    struct bucket bucket;

    bucket_init(&bucket, 5);
    assert_false(bucket_is_limited(&bucket));
    for (int i = 0; i < 100; i++)
        assert_true(bucket_take(&bucket, 5));
    assert_int_equal(bucket_wait_ms(&bucket, 7, 5), 0);
}

TEST(bucket, begins_empty_and_says_when)
{
    struct bucket bucket = bucket_of(&sixty);

    assert_false(bucket_take(&bucket, 0));
    assert_int_equal(bucket_wait_ms(&bucket, 0, 0), 1000);
    assert_int_equal(bucket_wait_ms(&bucket, 2, 0), 3000);
    assert_false(bucket_take(&bucket, 999));
    assert_int_equal(bucket_wait_ms(&bucket, 0, 999), 1);
    assert_true(bucket_take(&bucket, 1000));
    assert_false(bucket_take(&bucket, 1000));
}

TEST(bucket, holds_a_quarter_of_a_second_and_at_most_a_hundredth)
{
    struct bucket bucket = bucket_of(&many);
    unsigned got = 0;

    assert_int_equal(bucket_burst(&sixty), 1);
    assert_int_equal(bucket_burst(&ten_an_hour), 1);
    assert_int_equal(bucket_burst(&many), 1 + 100000 / 240);
    assert_int_equal(bucket_burst(&(struct quota){1000, 1000}), 1 + 10);
    while (bucket_take(&bucket, 3600000))
        got++;
    assert_int_equal(got, bucket_burst(&many));
}

TEST(bucket, a_clock_that_stands_or_goes_back_gives_nothing)
{
    struct bucket bucket = bucket_of(&sixty);

    assert_true(bucket_take(&bucket, 5000));
    assert_false(bucket_take(&bucket, 4000));
    assert_false(bucket_take(&bucket, 5999));
    assert_true(bucket_take(&bucket, 6000));
}

TEST(bucket, another_rate_keeps_what_is_in_it_in_proportion)
{
    struct bucket bucket = bucket_of(&many);
    unsigned before = bucket_burst(&many);
    struct quota half = {50000, 60000};
    unsigned got = 0;

    (void)bucket_wait_ms(&bucket, 0, 60000); /* full */
    bucket_set_rate(&bucket, &half, BUCKET_FULL_RATE, 60000, 60000);
    while (bucket_take(&bucket, 60000))
        got++;
    assert_in_range(got, before / 2 - 1, bucket_burst(&half));
    /* What is left is less than one, and less than two in the larger one. */
    bucket_set_rate(&bucket, &many, BUCKET_FULL_RATE, 60000, 60000);
    (void)bucket_take(&bucket, 60000);
    assert_false(bucket_take(&bucket, 60000));
}

TEST(bucket, the_same_rate_again_changes_nothing)
{
    struct bucket bucket = bucket_of(&sixty);

    (void)bucket_wait_ms(&bucket, 0, 700);
    bucket_set_rate(&bucket, &sixty, BUCKET_FULL_RATE, 700, 700);
    assert_int_equal(bucket_wait_ms(&bucket, 0, 700), 300);
}

TEST(bucket, a_new_limit_begins_empty_when_it_is_told_to)
{
    struct bucket bucket;

    bucket_init(&bucket, 0);
    bucket_set_rate(&bucket, &sixty, BUCKET_FULL_RATE, 100000, 100000);
    assert_false(bucket_take(&bucket, 100000));
    bucket_init(&bucket, 100000);
    bucket_set_rate(&bucket, &sixty, BUCKET_FULL_RATE, 0,
                    100000); /* nothing left since 0 */
    assert_true(bucket_take(&bucket, 100000));
    assert_false(bucket_take(&bucket, 100000));
}

TEST(bucket, is_slowed_and_comes_back)
{
    struct bucket bucket = bucket_of(&sixty);

    bucket_set_rate(&bucket, &sixty, 500, 0, 0);
    assert_int_equal(bucket_wait_ms(&bucket, 0, 0), 2000);
    bucket_set_rate(&bucket, &sixty, BUCKET_FULL_RATE, 0, 1000);
    assert_int_equal(bucket_wait_ms(&bucket, 0, 1000), 500);
}

/* ---- any quota, any pattern of asking ---- */

enum { ROUNDS = 300, TAKES_MOST = 40000 };

static uint64_t seed = 20261129;

static uint64_t any(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

/* Greedy, with pauses: what is taken in the first `span_ms`. */
static size_t take_all(const struct quota *quota, int64_t span_ms, int64_t *takes)
{
    struct bucket bucket = bucket_of(quota);
    static const uint64_t pauses[] = {50, 2000, 1000000};
    uint64_t one_in = pauses[any() % 3]; /* often, rarely, and but the first never */
    int64_t now_ms = quota->window_ms / 2;
    size_t count = 0;

    while (now_ms < span_ms && count < TAKES_MOST) {
        if (bucket_take(&bucket, now_ms))
            takes[count++] = now_ms;
        else if (any() % one_in == 0)
            now_ms += (int64_t)(any() % (uint64_t)(quota->window_ms / 4));
        else
            now_ms += bucket_wait_ms(&bucket, 0, now_ms) + (int64_t)(any() % 3);
    }
    return count;
}

TEST(bucket, no_window_ever_holds_more_than_the_quota)
{
    static const int64_t windows_ms[] = {1000, 60000, 3600000, 86400000, 600000};
    int64_t *takes = malloc(TAKES_MOST * sizeof *takes);

    assert_non_null(takes);
    for (int round = 0; round < ROUNDS; round++) {
        struct quota quota = {(uint32_t)(1 + any() % (any() % 2 ? 100 : 5000)),
                              windows_ms[any() % 5]};
        size_t count = take_all(&quota, 5 * quota.window_ms, takes);
        size_t first = 0;

        for (size_t i = 0; i < count; i++) {
            while (takes[i] - takes[first] >= quota.window_ms)
                first++;
            if (i - first + 1 > quota.count)
                fail_msg("%u in %lld ms: %zu within it, from %lld ms on", quota.count,
                         (long long)quota.window_ms, i - first + 1,
                         (long long)takes[first]);
        }
    }
    free(takes);
}

TEST(bucket, gives_all_but_a_hundredth_to_who_asks_in_time)
{
    static const struct quota quotas[] = {{1, 60000},   {10, 3600000},   {60, 60000},
                                          {500, 60000}, {100000, 60000}, {1000, 86400000}};

    for (size_t i = 0; i < sizeof quotas / sizeof *quotas; i++) {
        struct bucket bucket = bucket_of(&quotas[i]);
        int64_t end_ms = 5 * quotas[i].window_ms;
        uint64_t count = 0;

        for (int64_t now_ms = 0;
             now_ms <= end_ms && count < 5 * (uint64_t)quotas[i].count;) {
            int64_t wait_ms = bucket_wait_ms(&bucket, 0, now_ms);

            count += wait_ms == 0 && bucket_take(&bucket, now_ms);
            now_ms += wait_ms;
        }
        assert_in_range(count, 5 * (uint64_t)quotas[i].count * 98 / 100,
                        5 * (uint64_t)quotas[i].count);
    }
}

TEST(bucket, one_that_was_not_used_goes_back_and_no_more_than_fit)
{
    struct bucket bucket = bucket_of(&(struct quota){1, 60000});

    assert_true(bucket_take(&bucket, 60000));
    assert_false(bucket_take(&bucket, 60000));
    bucket_put_back(&bucket, 60000);
    assert_true(bucket_take(&bucket, 60000));
    bucket_put_back(&bucket, 60000);
    bucket_put_back(&bucket, 150000);
    assert_true(bucket_take(&bucket, 150000));
    assert_false(bucket_take(&bucket, 150000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(bucket, without_a_limit_always_gives),
        RUN(bucket, begins_empty_and_says_when),
        RUN(bucket, holds_a_quarter_of_a_second_and_at_most_a_hundredth),
        RUN(bucket, a_clock_that_stands_or_goes_back_gives_nothing),
        RUN(bucket, another_rate_keeps_what_is_in_it_in_proportion),
        RUN(bucket, the_same_rate_again_changes_nothing),
        RUN(bucket, a_new_limit_begins_empty_when_it_is_told_to),
        RUN(bucket, is_slowed_and_comes_back),
        RUN(bucket, one_that_was_not_used_goes_back_and_no_more_than_fit),
        RUN(bucket, no_window_ever_holds_more_than_the_quota),
        RUN(bucket, gives_all_but_a_hundredth_to_who_asks_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
