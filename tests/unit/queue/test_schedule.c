/* When the next attempt is: the list of waits, its jitter, the expiry as the last attempt,
 * and never a busy loop. Pure arithmetic, so the bounds are exact. */
#include "smtpd/queue/schedule.h"

#include "test.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR };

static const int64_t ARRIVAL = INT64_C(1760000000000);
static const int64_t waits_ms[] = {5 * MINUTE, 15 * MINUTE, 2 * HOUR};
static const struct schedule five_days = {waits_ms, 3, 5 * (int64_t)DAY};

static int64_t wait_of(uint32_t attempts, uint32_t random)
{
    return schedule_next(&five_days, attempts, ARRIVAL, ARRIVAL, random) - ARRIVAL;
}

TEST(schedule, each_attempt_waits_as_the_list_says_and_the_last_wait_repeats)
{
    static const int64_t expected[] = {5 * MINUTE, 15 * MINUTE, 2 * HOUR, 2 * HOUR};

    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(wait_of(i + 1, 0), expected[i] - expected[i] / 10);
        assert_int_equal(wait_of(i + 1, UINT32_MAX), expected[i] + expected[i] / 10);
    }
    assert_int_equal(wait_of(UINT32_MAX, 0), 2 * HOUR - 2 * HOUR / 10);
    assert_int_equal(wait_of(0, 0), wait_of(1, 0)); /* an attempt that was not counted */
}

TEST(schedule, jitter_spreads_evenly_over_a_tenth_either_way)
{
    int64_t least = INT64_MAX;
    int64_t most = 0;
    int64_t sum = 0;

    for (uint32_t i = 0; i < 1000; i++) {
        int64_t wait_ms = wait_of(1, i * (UINT32_MAX / 1000));

        least = wait_ms < least ? wait_ms : least;
        most = wait_ms > most ? wait_ms : most;
        sum += wait_ms;
        assert_in_range(wait_ms, 270 * SECOND, 330 * SECOND);
    }
    assert_true(least < 271 * SECOND && most > 329 * SECOND);
    assert_in_range(sum / 1000, 299 * SECOND, 301 * SECOND);
}

TEST(schedule, the_last_attempt_is_made_at_the_expiry)
{
    int64_t expiry_ms = ARRIVAL + 5 * (int64_t)DAY;

    assert_int_equal(schedule_next(&five_days, 60, ARRIVAL, expiry_ms - HOUR, 0),
                     expiry_ms);
    assert_int_equal(schedule_next(&five_days, 60, ARRIVAL, expiry_ms - 30 * SECOND, 7),
                     expiry_ms);
    /* The wait ends before: no change. */
    assert_int_equal(
        schedule_next(&five_days, 60, ARRIVAL, expiry_ms - 3 * (int64_t)HOUR, 0),
        expiry_ms - 3 * (int64_t)HOUR + 2 * HOUR - 2 * HOUR / 10);
}

TEST(schedule, a_message_that_has_expired_already_is_no_busy_loop)
{
    int64_t expiry_ms = ARRIVAL + 5 * (int64_t)DAY;

    assert_int_equal(schedule_next(&five_days, 9, ARRIVAL, expiry_ms + DAY, 0),
                     expiry_ms + DAY + SECOND);
    assert_int_equal(schedule_next(&five_days, 9, ARRIVAL, expiry_ms, 0),
                     expiry_ms + SECOND);
    assert_int_equal(schedule_next(&five_days, 9, ARRIVAL, expiry_ms - 1, 0),
                     expiry_ms - 1 + SECOND);
}

TEST(schedule, an_empty_list_or_a_wait_of_nothing_waits_a_second)
{
    static const int64_t nothing_ms[] = {0};
    struct schedule none = {NULL, 0, DAY};
    struct schedule nothing = {nothing_ms, 1, DAY};

    assert_int_equal(schedule_next(&none, 1, ARRIVAL, ARRIVAL, 0), ARRIVAL + SECOND);
    assert_int_equal(schedule_next(&nothing, 1, ARRIVAL, ARRIVAL, UINT32_MAX),
                     ARRIVAL + SECOND);
}

TEST(schedule, a_message_expires_at_its_arrival_plus_expire)
{
    int64_t expiry_ms = ARRIVAL + 5 * (int64_t)DAY;

    assert_false(schedule_is_expired(&five_days, ARRIVAL, ARRIVAL));
    assert_false(schedule_is_expired(&five_days, ARRIVAL, expiry_ms - 1));
    assert_true(schedule_is_expired(&five_days, ARRIVAL, expiry_ms));
    assert_true(schedule_is_expired(&five_days, ARRIVAL, INT64_MAX));
    /* Arrived in the future (the clock was set back): not expired. */
    assert_false(schedule_is_expired(&five_days, ARRIVAL, 0));
}

TEST(schedule, a_message_is_tried_until_it_expires_and_then_no_more)
{
    int64_t now_ms = ARRIVAL;
    uint32_t attempts = 0;

    while (!schedule_is_expired(&five_days, ARRIVAL, now_ms)) {
        int64_t next_ms;

        attempts++;
        next_ms =
            schedule_next(&five_days, attempts, ARRIVAL, now_ms, attempts * 77777777U);
        assert_true(next_ms > now_ms);
        now_ms = next_ms;
    }
    /* The last wait was cut, so that the last attempt stands at the expiry. */
    assert_in_range(now_ms, ARRIVAL + 5 * (int64_t)DAY,
                    ARRIVAL + 5 * (int64_t)DAY + SECOND);
    assert_in_range(attempts, 5 * 24 / 2 * 10 / 11, 5 * 24 / 2 * 10 / 9 + 3);
}

/* ---- back-off ---- */

static int64_t middle_backoff(unsigned failures)
{
    return schedule_backoff(failures, 10 * SECOND, 10 * MINUTE, UINT32_MAX / 2);
}

TEST(schedule, back_off_doubles_from_the_first_up_to_the_most)
{
    assert_int_equal(middle_backoff(0), 10 * SECOND);
    assert_int_equal(middle_backoff(1), 10 * SECOND);
    assert_int_equal(middle_backoff(2), 20 * SECOND);
    assert_int_equal(middle_backoff(6), 320 * SECOND);
    assert_int_equal(middle_backoff(7), 10 * MINUTE);
    assert_int_equal(middle_backoff(UINT32_MAX), 10 * MINUTE);
}

TEST(schedule, back_off_has_jitter_and_does_not_overflow)
{
    assert_int_equal(schedule_backoff(1, 10 * SECOND, HOUR, 0), 9 * SECOND);
    assert_int_equal(schedule_backoff(1, 10 * SECOND, HOUR, UINT32_MAX), 11 * SECOND);
    assert_int_equal(schedule_backoff(UINT32_MAX, 1, DAY, 0), DAY - DAY / 10);
    assert_int_equal(schedule_backoff(1, 2 * MINUTE, MINUTE, 0), MINUTE - MINUTE / 10);
    assert_int_equal(schedule_backoff(3, 1, 3, 0), 3); /* too short for a tenth */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(schedule, each_attempt_waits_as_the_list_says_and_the_last_wait_repeats),
        RUN(schedule, jitter_spreads_evenly_over_a_tenth_either_way),
        RUN(schedule, the_last_attempt_is_made_at_the_expiry),
        RUN(schedule, a_message_that_has_expired_already_is_no_busy_loop),
        RUN(schedule, an_empty_list_or_a_wait_of_nothing_waits_a_second),
        RUN(schedule, a_message_expires_at_its_arrival_plus_expire),
        RUN(schedule, a_message_is_tried_until_it_expires_and_then_no_more),
        RUN(schedule, back_off_doubles_from_the_first_up_to_the_most),
        RUN(schedule, back_off_has_jitter_and_does_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
