/* The lag probe sees a loop that stands. Real time; bounds are wide, machines of tests are
 * busy. */
#include "smtpd/loop/loop.h"

#include "test.h"

#include <time.h>

static void stand(void *owner)
{
    struct timespec time = {0, 200000000};

    (void)owner;
    (void)nanosleep(&time, NULL);
}

TEST(lag, without_a_probe_there_is_nothing_to_read)
{
    struct loop *loop = loop_new();
    struct loop_lag lag = {1, 1, 1, 1, 1, {0}};

    loop_run_for(loop, 20);
    loop_lag_read(loop, &lag);
    assert_int_equal(lag.samples, 0);
    assert_int_equal(lag.max_ever_us, 0);
    loop_free(loop);
}

TEST(lag, the_probe_runs_about_every_ten_milliseconds)
{
    struct loop *loop = loop_new();
    struct loop_lag lag;

    loop_measure_lag(loop);
    loop_measure_lag(loop); /* one probe, however often it is asked for */
    loop_run_for(loop, 300);
    loop_lag_read(loop, &lag);
    assert_in_range(lag.samples, 3, 31);
    assert_true(lag.p50_us <= lag.p99_us);
    assert_true(lag.p99_us <= lag.max_us);
    assert_true(lag.max_us <= lag.max_ever_us);
    loop_free(loop);
}

TEST(lag, a_loop_that_stood_shows_in_the_maximum_but_not_in_the_median)
{
    struct loop *loop = loop_new();
    struct loop_lag lag;
    struct timer timer;

    loop_measure_lag(loop);
    timer_init(&timer, loop, stand, NULL);
    timer_start(&timer, 5);
    loop_run_for(loop, 600);
    loop_lag_read(loop, &lag);
    assert_in_range(lag.max_us, 180000, 2000000);
    assert_int_equal(lag.max_us, lag.max_ever_us);
    assert_in_range(lag.p99_us, 150000, lag.max_us);
    assert_true(lag.p50_us < 100000);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(lag, without_a_probe_there_is_nothing_to_read),
        RUN(lag, the_probe_runs_about_every_ten_milliseconds),
        RUN(lag, a_loop_that_stood_shows_in_the_maximum_but_not_in_the_median),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
