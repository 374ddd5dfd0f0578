/* Rings heard, rings that are one, and many sleepers at one bell. */
#include "smtpd/base/bell.h"

#include "test.h"

#include <pthread.h>

enum { SLEEPERS = 4, PIECES = 20000 };

static struct timespec in_ms(int64_t ms)
{
    struct timespec moment;

    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &moment), 0);
    moment.tv_nsec += ms * 1000000;
    moment.tv_sec += moment.tv_nsec / 1000000000;
    moment.tv_nsec %= 1000000000;
    return moment;
}

TEST(bell, a_ring_before_the_wait_is_heard)
{
    struct bell bell;

    bell_init(&bell);
    bell_ring(&bell);
    bell_wait(&bell); /* would hang */
    bell_fini(&bell);
}

TEST(bell, rings_that_nobody_heard_are_one)
{
    struct timespec at_once = in_ms(0);
    struct bell bell;

    bell_init(&bell);
    bell_ring(&bell);
    bell_ring(&bell);
    bell_ring(&bell);
    assert_true(bell_wait_until(&bell, &at_once));
    assert_false(bell_wait_until(&bell, &at_once));
    bell_ring(&bell);
    assert_true(bell_wait_until(&bell, &at_once));
    bell_fini(&bell);
}

TEST(bell, a_wait_ends_at_its_moment)
{
    struct timespec soon = in_ms(20);
    struct timespec now;
    struct bell bell;

    bell_init(&bell);
    assert_false(bell_wait_until(&bell, &soon));
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    assert_true(now.tv_sec > soon.tv_sec ||
                (now.tv_sec == soon.tv_sec && now.tv_nsec >= soon.tv_nsec));
    bell_fini(&bell);
}

struct work {
    struct bell bell;
    struct bell done;
    pthread_mutex_t lock;
    int waiting;
    int taken;
    bool is_over;
};

/* As a pool does: takes one piece, rings on if more is left. */
static void *sleeper(void *argument)
{
    struct work *work = argument;

    for (;;) {
        bool has_one;
        bool is_over;
        bool rings_on;

        assert_int_equal(pthread_mutex_lock(&work->lock), 0);
        has_one = work->waiting > 0;
        is_over = work->is_over;
        if (has_one) {
            work->waiting--;
            if (++work->taken == PIECES)
                bell_ring(&work->done);
        }
        rings_on = work->waiting > 0 || is_over;
        assert_int_equal(pthread_mutex_unlock(&work->lock), 0);
        if (rings_on)
            bell_ring(&work->bell);
        if (has_one)
            continue;
        if (is_over)
            return NULL;
        bell_wait(&work->bell);
    }
}

TEST(bell, no_piece_of_work_is_left_behind_by_many_sleepers)
{
    struct work work = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct timespec long_enough = in_ms(60000);
    pthread_t threads[SLEEPERS];

    bell_init(&work.bell);
    bell_init(&work.done);
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sleeper, &work), 0);
    for (int i = 0; i < PIECES; i++) {
        assert_int_equal(pthread_mutex_lock(&work.lock), 0);
        work.waiting++;
        assert_int_equal(pthread_mutex_unlock(&work.lock), 0);
        bell_ring(&work.bell);
    }
    assert_true(bell_wait_until(&work.done, &long_enough));
    assert_int_equal(pthread_mutex_lock(&work.lock), 0);
    work.is_over = true;
    assert_int_equal(pthread_mutex_unlock(&work.lock), 0);
    bell_ring(&work.bell);
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(work.taken, PIECES);
    bell_fini(&work.bell);
    bell_fini(&work.done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(bell, a_ring_before_the_wait_is_heard),
        RUN(bell, rings_that_nobody_heard_are_one),
        RUN(bell, a_wait_ends_at_its_moment),
        RUN(bell, no_piece_of_work_is_left_behind_by_many_sleepers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
