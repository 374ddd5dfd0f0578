/* One pace: what it lets through, what it learns, and that each change is told once. */
#include "pace.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WALL = 1000000000 };

static struct deliver_pace_changes counts;
static struct pace_time now;
static const struct pace_cause told = {"reply", "421 4.7.0 too many of you"};

static void at(int64_t now_ms)
{
    now = (struct pace_time){now_ms, WALL + now_ms};
}

static struct pace pace_with(const struct pace_limits *limits)
{
    struct pace pace;

    memset(&counts, 0, sizeof counts);
    at(0);
    pace_init(&pace, "mx.test", "", &counts, &now);
    pace_set_limits(&pace, limits, 0, &now);
    at(10000);
    return pace;
}

static enum pace_hold look(struct pace *pace, bool has_idle, int64_t *until_ms)
{
    return pace_look(pace, has_idle, &now, until_ms);
}

static uint64_t changes(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < DELIVER_PACE_WHATS; i++)
        sum += counts.up[i] + counts.down[i];
    return sum;
}

TEST(pace, begins_with_five_connections_or_the_ceiling)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 20});
    struct pace few = pace_with(&(struct pace_limits){.connections = 3});

    assert_int_equal(pace.window, 5);
    assert_int_equal(few.window, 3);
    assert_int_equal(changes(), 0);
    assert_true(pace_is_plain(&pace));
}

TEST(pace, no_more_start_than_may_run)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 2});
    struct pace_claim claims[2];
    int64_t until_ms = 7;

    pace_start(&pace, false, &claims[0], &now);
    assert_int_equal(look(&pace, false, &until_ms), PACE_GOES);
    pace_start(&pace, true, &claims[1], &now);
    assert_int_equal(look(&pace, true, &until_ms), PACE_CONNECTIONS);
    assert_int_equal(until_ms, 0); /* an end will tell */
    pace_end(&pace, &claims[0]);
    pace_end(&pace, &claims[0]); /* once only */
    assert_int_equal(look(&pace, false, &until_ms), PACE_GOES);
    assert_int_equal(pace.running, 1);
    assert_int_equal(pace.promised_messages, 1);
    assert_int_equal(pace.promised_connections, 0);
    pace_end(&pace, &claims[1]);
    assert_int_equal(pace.promised_messages, 0);
}

TEST(pace, success_doubles_it_until_the_first_objection_and_then_adds_one_a_round)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 20});

    pace_works(&pace, &now); /* one of five in use: more would not be used */
    assert_int_equal(pace.window, 5);
    pace.running = 20;
    for (int i = 0; i < 15; i++)
        pace_works(&pace, &now);
    assert_int_equal(pace.window, 20);
    for (int i = 0; i < 100; i++)
        pace_works(&pace, &now);
    assert_int_equal(pace.window, 20); /* the ceiling */
    pace_objects(&pace, &told, &now);
    assert_int_equal(pace.window, 10);
    for (int i = 0; i < 9; i++)
        pace_works(&pace, &now);
    assert_int_equal(pace.window, 10);
    pace_works(&pace, &now);
    assert_int_equal(pace.window, 11);
    for (int i = 0; i < 11; i++)
        pace_works(&pace, &now);
    assert_int_equal(pace.window, 12);
    assert_int_equal(counts.up[DELIVER_PACE_CONNECTIONS], 15 + 2);
    assert_int_equal(counts.down[DELIVER_PACE_CONNECTIONS], 1);
}

TEST(pace, objections_halve_it_once_a_second_down_to_one)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 5});
    static const unsigned windows[] = {2, 1, 1};

    for (size_t i = 0; i < 3; i++) {
        at(20000 + 1000 * (int64_t)i);
        pace_objects(&pace, &told, &now);
        pace_objects(&pace, &told, &now);
        at(20999 + 1000 * (int64_t)i);
        pace_objects(&pace, &told, &now);
        assert_int_equal(pace.window, windows[i]);
    }
    assert_int_equal(counts.down[DELIVER_PACE_CONNECTIONS], 2);
    assert_false(pace_is_plain(&pace));
}

TEST(pace, after_an_objection_no_new_connection_is_made_for_a_second)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 5});
    int64_t until_ms;

    pace_objects(&pace, &told, &now);
    at(10400);
    assert_int_equal(look(&pace, false, &until_ms), PACE_CONNECTIONS);
    assert_int_equal(until_ms, 11000);
    assert_int_equal(look(&pace, true, &until_ms), PACE_GOES);
    at(11000);
    assert_int_equal(look(&pace, false, &until_ms), PACE_GOES);
}

TEST(pace, a_lower_ceiling_holds_at_once_and_a_higher_one_is_grown_into)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 5});

    pace_set_limits(&pace, &(struct pace_limits){.connections = 2}, 10000, &now);
    assert_int_equal(pace.window, 2);
    pace_set_limits(&pace, &(struct pace_limits){.connections = 50}, 10000, &now);
    assert_int_equal(pace.window, 2);
    assert_int_equal(changes(), 1);
}

TEST(pace, messages_wait_for_their_token_and_say_until_when)
{
    struct pace pace =
        pace_with(&(struct pace_limits){.connections = 5, .messages = {60, 60000}});
    struct pace_claim claims[2];
    int64_t until_ms;

    at(10000); /* one is in it, and no more */
    assert_int_equal(look(&pace, true, &until_ms), PACE_GOES);
    pace_start(&pace, true, &claims[0], &now);
    assert_int_equal(look(&pace, true, &until_ms), PACE_MESSAGES);
    assert_int_equal(until_ms, 11000);
    assert_int_equal(pace_take_message(&pace, &claims[0], &now), 0);
    assert_int_equal(look(&pace, true, &until_ms), PACE_MESSAGES);
    assert_int_equal(until_ms, 11000);
    assert_int_equal(pace_take_message(&pace, &claims[0], &now), 1000); /* its second */
    at(11000);
    assert_int_equal(pace_take_message(&pace, &claims[0], &now), 0);
    pace_end(&pace, &claims[0]);
}

TEST(pace, one_that_hangs_holds_nobody_else_up)
{
    struct pace pace =
        pace_with(&(struct pace_limits){.connections = 5, .messages = {60, 60000}});
    struct pace_claim hangs;
    struct pace_claim next;
    int64_t until_ms;

    at(10000);
    pace_start(&pace, false, &hangs, &now);
    assert_int_equal(look(&pace, true, &until_ms), PACE_MESSAGES);
    assert_int_equal(until_ms, 11000);
    at(11000);
    assert_int_equal(look(&pace, true, &until_ms), PACE_GOES);
    pace_start(&pace, true, &next, &now);
    assert_int_equal(pace_take_message(&pace, &next, &now), 0);
    assert_int_equal(pace_take_message(&pace, &hangs, &now), 1000);
    at(12000);
    assert_int_equal(pace_take_message(&pace, &hangs, &now), 0);
}

TEST(pace, a_connection_is_opened_ahead_of_its_token)
{
    struct pace pace =
        pace_with(&(struct pace_limits){.connections = 5, .messages = {60, 60000}});
    struct pace_claim claim;
    int64_t until_ms;

    for (int i = 0; i < 100; i++)
        pace_opened(&pace, 400);
    at(10000);
    pace_start(&pace, true, &claim, &now);
    assert_int_equal(pace_take_message(&pace, &claim, &now), 0);
    assert_int_equal(look(&pace, false, &until_ms), PACE_MESSAGES);
    assert_in_range(until_ms, 10600, 10610);
    for (int i = 0; i < 100; i++)
        pace_opened(&pace, 3600000);
    assert_in_range(pace.opening_ms, 4900, 5000);
}

TEST(pace, new_connections_have_a_rate_of_their_own)
{
    struct pace pace =
        pace_with(&(struct pace_limits){.connections = 5, .new_connections = {6, 60000}});
    struct pace_claim claim;
    int64_t until_ms;

    at(10000);
    pace_start(&pace, false, &claim, &now);
    assert_int_equal(pace_take_connection(&pace, &claim, &now), 0);
    assert_int_equal(look(&pace, false, &until_ms), PACE_NEW_CONNECTIONS);
    assert_int_equal(until_ms, 20000);
    assert_int_equal(look(&pace, true, &until_ms), PACE_GOES); /* one is there already */
    assert_int_equal(pace_take_connection(&pace, &claim, &now), 10000);
}

TEST(pace, a_connection_that_was_not_made_gives_its_token_back_once)
{
    struct pace_limits limits = {.connections = 5, .new_connections = {6, 60000}};
    struct pace pace = pace_with(&(struct pace_limits){.connections = 5});
    struct pace_claim claim;
    int64_t until_ms;

    pace_start(&pace, false, &claim, &now);
    assert_int_equal(pace_take_connection(&pace, &claim, &now), 0); /* without a limit */
    pace_set_limits(&pace, &limits, 10000, &now);
    pace_return_connection(&pace, &claim, &now);
    assert_int_equal(pace_take_connection(&pace, &claim, &now), 10000);
    at(20000);
    assert_int_equal(pace_take_connection(&pace, &claim, &now), 0);
    pace_return_connection(&pace, &claim, &now);
    assert_int_equal(look(&pace, false, &until_ms), PACE_GOES);
    assert_int_equal(pace_take_connection(&pace, &claim, &now), 0);
    pace_end(&pace, &claim);
    assert_int_equal(look(&pace, false, &until_ms), PACE_NEW_CONNECTIONS);
}

TEST(pace, is_suspended_until_its_time_and_says_so_twice)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 5});
    int64_t until_ms;

    pace_suspend(&pace, now.wall_ms + 60000, &told, &now);
    assert_int_equal(look(&pace, true, &until_ms), PACE_SUSPENDED);
    assert_int_equal(until_ms, 70000);
    assert_string_equal(pace.suspension, told.text);
    at(10050); /* the next answer of the same kind is no event, a longer time is one */
    pace_suspend(&pace, now.wall_ms + 60000, &told, &now);
    assert_int_equal(changes(), 1);
    pace_suspend(&pace, now.wall_ms + 600000, &told, &now);
    assert_int_equal(changes(), 2);
    at(610050);
    assert_int_equal(look(&pace, true, &until_ms), PACE_GOES);
    assert_int_equal(counts.up[DELIVER_PACE_SUSPENSION], 1);
    pace_resume(&pace, &told, &now);
    assert_int_equal(changes(), 3);
    assert_true(pace_is_plain(&pace));
}

TEST(pace, a_rate_is_slowed_and_recovers_in_ten_steps)
{
    struct pace pace =
        pace_with(&(struct pace_limits){.connections = 5, .messages = {60, 60000}});
    int64_t until_ms;

    pace_slow(&pace, 500, 100000, &told, &now);
    pace_slow(&pace, 500, 100000, &told, &now); /* what was on its way */
    assert_int_equal(pace.permille, 500);
    at(19999);
    (void)look(&pace, true, &until_ms);
    assert_int_equal(pace.permille, 500);
    at(20000);
    (void)look(&pace, true, &until_ms);
    assert_int_equal(pace.permille, 550);
    pace_slow(&pace, 500, 100000, &told, &now);
    assert_int_equal(pace.permille, 275);
    at(130000);
    (void)look(&pace, true, &until_ms);
    assert_int_equal(pace.permille, 1000);
    assert_int_equal(counts.down[DELIVER_PACE_RATE], 2);
    assert_int_equal(counts.up[DELIVER_PACE_RATE], 2);
    assert_true(pace_is_plain(&pace));
}

TEST(pace, without_a_limit_it_is_slowed_from_what_it_did)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 5});
    struct pace_claim claim = {0};
    int64_t until_ms;

    for (int i = 0; i < 120; i++)
        assert_int_equal(pace_take_message(&pace, &claim, &now), 0);
    pace_slow(&pace, 500, 100000, &told, &now);
    assert_int_equal(pace.messages.quota.count, 120);
    assert_int_equal(look(&pace, true, &until_ms), PACE_MESSAGES);
    assert_in_range(until_ms, now.now_ms + 1000, now.now_ms + 1020);
    at(200000);
    assert_int_equal(look(&pace, true, &until_ms), PACE_GOES);
    assert_false(bucket_is_limited(&pace.messages));
}

static void count_change(void *owner)
{
    ++*(unsigned *)owner;
}

TEST(pace, what_arrived_before_a_refusal_is_bounced_up_to_a_limit)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 5});
    unsigned marks = 0;

    pace.on_changed = count_change;
    pace.owner = &marks;
    assert_false(pace_take_bounce(&pace, now.wall_ms - 1, &now));
    pace_bounce(&pace, 60000, 3, &told, &now);
    assert_int_equal(marks, 1);
    assert_string_equal(pace.bounce.text, told.text);
    assert_false(pace_is_plain(&pace));
    assert_false(pace_take_bounce(&pace, now.wall_ms, &now)); /* it came later */
    assert_int_equal(marks, 1);
    assert_true(pace_take_bounce(&pace, now.wall_ms - 1, &now));
    assert_true(pace_take_bounce(&pace, 0, &now));
    assert_int_equal(marks, 3);                  /* each is to be written */
    pace_bounce(&pace, 600000, 10, &told, &now); /* the same refusal: it goes on */
    assert_true(pace_take_bounce(&pace, 0, &now));
    assert_false(pace_take_bounce(&pace, 0, &now));
    assert_false(pace_is_plain(&pace)); /* the next refusal begins none */
    at(70000 - 1);
    pace_bounce(&pace, 60000, 10, &told, &now);
    assert_false(pace_take_bounce(&pace, 0, &now));
    assert_int_equal(changes(), 1);
}

TEST(pace, a_bounce_ends_at_its_time_or_by_an_operator)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 5});
    int64_t until_ms;

    pace_bounce(&pace, 60000, 3, &told, &now);
    pace_bounce_no_more(&pace, &told, &now);
    pace_bounce_no_more(&pace, &told, &now);
    assert_int_equal(changes(), 2);
    assert_false(pace_take_bounce(&pace, 0, &now));
    pace_bounce(&pace, 60000, 3, &told, &now); /* before the time of the first is over */
    assert_false(pace_take_bounce(&pace, 0, &now));
    at(70000);
    pace_bounce(&pace, 60000, 3, &told, &now);
    at(130000);
    assert_false(pace_take_bounce(&pace, 0, &now));
    assert_int_equal(look(&pace, true, &until_ms), PACE_GOES);
    assert_int_equal(pace.bounce.until_ms, 0);
    assert_int_equal(counts.down[DELIVER_PACE_BOUNCE], 2);
    assert_int_equal(counts.up[DELIVER_PACE_BOUNCE], 2);
    assert_true(pace_is_plain(&pace));
}

static int64_t suspended_for(const struct pace *pace)
{
    return pace->suspended_until_ms - now.wall_ms;
}

TEST(pace, backs_off_twice_as_long_until_something_is_taken)
{
    struct pace pace = pace_with(&(struct pace_limits){.connections = 5});
    static const int times[] = {1, 2, 4, 8, 16, 16};
    int64_t until_ms;
    unsigned marks = 0;

    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        pace_back_off(&pace, 60000, &told, &now);
        pace_back_off(&pace, 60000, &told, &now); /* what was on its way */
        assert_int_equal(suspended_for(&pace), 60000 * times[i]);
        at(now.now_ms + suspended_for(&pace));
        assert_int_equal(look(&pace, true, &until_ms), PACE_GOES);
        assert_false(pace_is_plain(&pace)); /* the next one is longer */
    }
    pace.on_changed = count_change;
    pace.owner = &marks;
    pace_works(&pace, &now);
    pace_works(&pace, &now);
    assert_int_equal(marks, 1);
    assert_true(pace_is_plain(&pace));
    pace_back_off(&pace, 60000, &told, &now);
    assert_int_equal(suspended_for(&pace), 60000);
}

TEST(pace, what_was_restored_goes_on_where_it_was)
{
    struct pace before = pace_with(&(struct pace_limits){.connections = 5});
    struct pace after;
    int64_t until_ms;

    pace_bounce(&before, 3600000, 3, &told, &now);
    assert_true(pace_take_bounce(&before, 0, &now));
    pace_back_off(&before, 60000, &told, &now);
    after = pace_with(&(struct pace_limits){.connections = 5});
    pace_restore(&after, &before);
    at(80000);
    assert_int_equal(look(&after, true, &until_ms), PACE_GOES);
    pace_back_off(&after, 60000, &told, &now);
    assert_int_equal(suspended_for(&after), 120000);
    pace_bounce(&after, 3600000, 3, &told, &now);
    assert_false(pace_take_bounce(&after, WALL + 20000, &now));
    assert_true(pace_take_bounce(&after, 0, &now));
    assert_true(pace_take_bounce(&after, 0, &now));
    assert_false(pace_take_bounce(&after, 0, &now));
    assert_string_equal(after.bounce.text, told.text);
}

TEST(pace, each_change_is_one_event_with_its_cause)
{
    char path[] = "/tmp/smtpd-pace-XXXXXX";
    int fd = mkstemp(path);
    struct log_settings log = {.output = path, .level = LOG_DEBUG, .node = "test"};
    struct pace pace;
    char text[4096] = "";
    FILE *file;

    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    pace = pace_with(&(struct pace_limits){.connections = 4});
    pace_objects(&pace, &told, &now);
    log_close();
    file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    (void)fclose(file);
    (void)unlink(path);
    assert_non_null(strstr(text, "\"event\":\"deliver.pace_changed\""));
    assert_non_null(strstr(text,
                           "\"scope\":\"mx.test\",\"what\":\"connections\",\"old\":\"4\","
                           "\"new\":\"2\",\"cause\":\"reply\","
                           "\"message\":\"421 4.7.0 too many of you\""));
    assert_null(strstr(strchr(text, '\n') + 1, "\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(pace, begins_with_five_connections_or_the_ceiling),
        RUN(pace, no_more_start_than_may_run),
        RUN(pace, success_doubles_it_until_the_first_objection_and_then_adds_one_a_round),
        RUN(pace, objections_halve_it_once_a_second_down_to_one),
        RUN(pace, after_an_objection_no_new_connection_is_made_for_a_second),
        RUN(pace, a_lower_ceiling_holds_at_once_and_a_higher_one_is_grown_into),
        RUN(pace, messages_wait_for_their_token_and_say_until_when),
        RUN(pace, one_that_hangs_holds_nobody_else_up),
        RUN(pace, a_connection_is_opened_ahead_of_its_token),
        RUN(pace, new_connections_have_a_rate_of_their_own),
        RUN(pace, a_connection_that_was_not_made_gives_its_token_back_once),
        RUN(pace, is_suspended_until_its_time_and_says_so_twice),
        RUN(pace, a_rate_is_slowed_and_recovers_in_ten_steps),
        RUN(pace, without_a_limit_it_is_slowed_from_what_it_did),
        RUN(pace, what_arrived_before_a_refusal_is_bounced_up_to_a_limit),
        RUN(pace, a_bounce_ends_at_its_time_or_by_an_operator),
        RUN(pace, backs_off_twice_as_long_until_something_is_taken),
        RUN(pace, what_was_restored_goes_on_where_it_was),
        RUN(pace, each_change_is_one_event_with_its_cause),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
