/* So many on the first day, the second and so on: never more, whatever ends the process. */
#include "warm_up.h"

#include "test.h"

static const int64_t DAY_MS = 86400000;
static const int64_t NOON = INT64_C(20786) * 86400000 + 43200000;
static const uint32_t schedule[] = {30, 60};

static struct warm_up warm_of(void)
{
    return (struct warm_up){.schedule = schedule, .days = 2};
}

/* As if the disk were quick. */
static unsigned send_all(struct warm_up *warm, int64_t now_ms)
{
    unsigned sent = 0;

    while (warm_up_look(warm, now_ms) != WARM_UP_IS_FULL && warm_up_is_limited(warm)) {
        uint32_t wanted = warm_up_wants(warm);

        if (wanted)
            warm->kept = wanted;
        assert_true(warm_up_take(warm, false, now_ms));
        sent++;
    }
    return sent;
}

TEST(warm_up, without_a_schedule_sends_what_it_likes)
{
    struct warm_up warm = {0};

    assert_int_equal(warm_up_look(&warm, NOON), WARM_UP_GOES);
    assert_true(warm_up_take(&warm, false, NOON));
    assert_int_equal(warm_up_wants(&warm), 0);
}

TEST(warm_up, each_day_has_its_quota_and_then_there_is_none)
{
    struct warm_up warm = warm_of();

    assert_int_equal(send_all(&warm, NOON), 30);
    assert_int_equal(warm_up_look(&warm, NOON), WARM_UP_IS_FULL);
    assert_int_equal(warm_up_next_day_ms(&warm, NOON), NOON + DAY_MS / 2);
    assert_int_equal(send_all(&warm, NOON + DAY_MS), 60);
    assert_int_equal(warm_up_look(&warm, NOON + 2 * DAY_MS), WARM_UP_GOES);
    assert_false(warm_up_is_limited(&warm));
}

TEST(warm_up, a_day_without_mail_is_no_step)
{
    struct warm_up warm = warm_of();

    (void)warm_up_look(&warm, NOON);
    assert_int_equal(send_all(&warm, NOON + 3 * DAY_MS), 30);
    assert_int_equal(send_all(&warm, NOON + 9 * DAY_MS), 60);
}

TEST(warm_up, nothing_goes_that_is_not_on_disk)
{
    struct warm_up warm = warm_of();

    assert_int_equal(warm_up_look(&warm, NOON), WARM_UP_WAITS);
    assert_false(warm_up_take(&warm, false, NOON));
    assert_int_equal(warm_up_wants(&warm), 10);
    warm.kept = 10;
    for (int i = 0; i < 10; i++)
        assert_true(warm_up_take(&warm, false, NOON));
    assert_int_equal(warm_up_look(&warm, NOON), WARM_UP_WAITS);
    assert_false(warm_up_take(&warm, false, NOON));
    assert_int_equal(warm_up_wants(&warm), 20);
    /* Another process goes on behind what was kept. */
    warm.used = warm.kept = 20;
    assert_int_equal(send_all(&warm, NOON), 10);
}

TEST(warm_up, what_is_promised_is_nobody_elses)
{
    struct warm_up warm = warm_of();

    (void)warm_up_look(&warm, NOON);
    warm.kept = 30;
    warm.used = 28;
    warm_up_promise(&warm);
    warm_up_promise(&warm);
    assert_int_equal(warm_up_look(&warm, NOON), WARM_UP_WAITS);
    assert_false(warm_up_take(&warm, false, NOON));
    assert_true(warm_up_take(&warm, true, NOON));
    warm_up_break(&warm);
    warm_up_break(&warm);
    assert_int_equal(warm_up_look(&warm, NOON), WARM_UP_GOES);
    assert_true(warm_up_take(&warm, false, NOON));
    assert_int_equal(warm_up_look(&warm, NOON), WARM_UP_IS_FULL);
}

TEST(warm_up, a_clock_that_is_put_back_begins_no_day)
{
    struct warm_up warm = warm_of();

    assert_int_equal(send_all(&warm, NOON), 30);
    assert_int_equal(warm_up_look(&warm, NOON - 2 * DAY_MS), WARM_UP_IS_FULL);
    assert_int_equal(warm_up_next_day_ms(&warm, NOON - 2 * DAY_MS), NOON + DAY_MS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(warm_up, without_a_schedule_sends_what_it_likes),
        RUN(warm_up, each_day_has_its_quota_and_then_there_is_none),
        RUN(warm_up, a_day_without_mail_is_no_step),
        RUN(warm_up, nothing_goes_that_is_not_on_disk),
        RUN(warm_up, what_is_promised_is_nobody_elses),
        RUN(warm_up, a_clock_that_is_put_back_begins_no_day),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
