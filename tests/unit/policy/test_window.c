/* The sliding window: never more than allowed in any span of its length. */
#include "window.h"

#include "smtpd/base/secure.h"
#include "test.h"

enum { HOUR = 3600000, STEP = HOUR / WINDOW_STEPS };

TEST(window, forgets_after_its_length_and_one_step_at_most)
{
    struct window window;

    window_init(&window, HOUR, 0);
    window_add(&window, 10);
    window_advance(&window, HOUR - 1);
    assert_int_equal(window_sum(&window), 10);
    window_advance(&window, HOUR + STEP - 1);
    assert_int_equal(window_sum(&window), 10);
    window_advance(&window, HOUR + STEP);
    assert_int_equal(window_sum(&window), 0);
}

TEST(window, says_when_there_is_room_again)
{
    struct window window;

    window_init(&window, HOUR, 0);
    window_add(&window, 3);
    window_advance(&window, 2 * STEP);
    window_add(&window, 4);
    assert_int_equal(window_falls_to_ms(&window, 6), HOUR + STEP);
    assert_int_equal(window_falls_to_ms(&window, 4), HOUR + STEP);
    assert_int_equal(window_falls_to_ms(&window, 3), HOUR + 3 * STEP);
    assert_int_equal(window_empty_ms(&window), HOUR + 3 * STEP);
    assert_int_equal(window_forgets_ms(&window), HOUR + 3 * STEP);
    window_advance(&window, window_falls_to_ms(&window, 6) - 1);
    assert_int_equal(window_sum(&window), 7);
    window_advance(&window, HOUR + STEP);
    assert_int_equal(window_sum(&window), 4);
}

TEST(window, lets_a_high_limit_that_was_reached_come_free_evenly)
{
    struct window window;
    const int64_t start = 1000 * 42; /* steps of 42 ms */

    window_init(&window, 1000, start);
    assert_true(window_pace(&window, 2400, start) == UINT64_MAX);
    window_add(&window, 2400);
    window_note_full(&window);
    window_advance(&window, start + 42 * WINDOW_COUNTS);
    assert_int_equal(window_sum(&window), 0);
    assert_int_equal(window_pace(&window, 2400, start + 42 * WINDOW_COUNTS), 1);
    assert_int_equal(window_pace(&window, 2400, start + 42 * WINDOW_COUNTS + 10), 25);
    assert_int_equal(window_pace(&window, 2400, start + 42 * WINDOW_COUNTS - 5), 1);
    /* One that nobody feels. */
    assert_true(window_pace(&window, 99, start + 42 * WINDOW_COUNTS) == UINT64_MAX);
    window_advance(&window, start + 42 * (WINDOW_COUNTS + 1));
    assert_true(window_pace(&window, 2400, start + 42 * (WINDOW_COUNTS + 1)) == UINT64_MAX);
}

TEST(window, never_lets_a_span_hold_more_than_the_limit)
{
    static const int64_t lengths[] = {1000, 1001, 60000, HOUR};
    enum { TRIES = 20000, LIMIT = 50 };
    static int64_t taken[TRIES];

    secure_init();
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        struct window window;
        int64_t now = 1234567;
        size_t count = 0;

        window_init(&window, lengths[l], now);
        for (int i = 0; i < TRIES; i++) {
            now += (int64_t)secure_random_below((uint32_t)(lengths[l] / 20));
            window_advance(&window, now);
            if (window_sum(&window) >= LIMIT)
                continue;
            window_add(&window, 1);
            taken[count++] = now;
        }
        assert_true(count > LIMIT * 10); /* and it does free again */
        for (size_t i = LIMIT; i < count; i++)
            assert_true(taken[i] - taken[i - LIMIT] >= lengths[l]);
    }
}

TEST(window, keeps_its_counts_when_the_clock_goes_back)
{
    struct window window;

    window_init(&window, HOUR, 1000 * (int64_t)HOUR);
    window_add(&window, 5);
    window_advance(&window, HOUR);
    assert_int_equal(window_sum(&window), 5);
    assert_int_equal(window_empty_ms(&window), 2 * HOUR + STEP);
    window_advance(&window, 2 * HOUR + STEP);
    assert_int_equal(window_sum(&window), 0);
    window_advance(&window, INT64_C(1) << 50);
    assert_int_equal(window_sum(&window), 0);
}

TEST(window, does_not_wrap)
{
    struct window window;

    window_init(&window, HOUR, 0);
    window_add(&window, UINT32_MAX);
    window_add(&window, 5);
    assert_int_equal(window_sum(&window), UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(window, forgets_after_its_length_and_one_step_at_most),
        RUN(window, says_when_there_is_room_again),
        RUN(window, lets_a_high_limit_that_was_reached_come_free_evenly),
        RUN(window, never_lets_a_span_hold_more_than_the_limit),
        RUN(window, keeps_its_counts_when_the_clock_goes_back),
        RUN(window, does_not_wrap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
