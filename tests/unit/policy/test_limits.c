/* Messages and recipients in a time: reserved, kept, given back, carried over a restart. */
#include "smtpd/policy/limits.h"

#include "limits_file.h"
#include "smtpd/base/log.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct world {
    char folder[64];
    char path[96];
    struct loop *loop;
    struct offload *offload;
    struct limits *limits;
    struct limits_settings settings;
    struct limits_client client;
    char why[LIMITS_TEXT];
};

static void open_limits(struct world *w)
{
    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    w->limits = limits_open(w->loop, w->offload, w->path);
    limits_apply(w->limits, &w->settings);
}

static void close_limits(struct world *w)
{
    limits_stop(w->limits);
    offload_free(w->offload);
    limits_close(w->limits);
    loop_free(w->loop);
}

static void open_world(struct world *w)
{
    struct log_settings log = {.output = "/dev/null", .level = LOG_DEBUG, .node = "test"};

    memset(w, 0, sizeof *w);
    secure_init();
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    (void)snprintf(w->folder, sizeof w->folder, "/tmp/smtpd-limits-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->path, sizeof w->path, "%s/limits", w->folder);
    w->client.user = "alice";
    assert_int_equal(ip_parse(SLICE("192.0.2.1"), &w->client.peer), RESULT_OK);
    assert_int_equal(
        quotas_parse(SLICE("3/h,5/d"), &w->settings.quotas[LIMITS_USER_MESSAGES]),
        RESULT_OK);
    open_limits(w);
}

static void close_world(struct world *w)
{
    close_limits(w);
    (void)unlink(w->path);
    assert_int_equal(rmdir(w->folder), 0); /* nothing is left beside */
    log_close();
}

static bool take(struct world *w, struct limits_claim *claim)
{
    *claim = (struct limits_claim){0};
    return limits_take_message(w->limits, &w->client, claim, w->why);
}

static bool send(struct world *w)
{
    struct limits_claim claim;

    if (!take(w, &claim))
        return false;
    limits_keep(w->limits, &claim);
    return true;
}

TEST(limits, hold_to_the_message)
{
    struct world w;
    struct limits_statistics statistics;

    open_world(&w);
    for (int i = 0; i < 3; i++)
        assert_true(send(&w));
    assert_false(send(&w));
    assert_non_null(
        strstr(w.why, "Too many messages of this user: limit 3/h reached, free again at "));
    assert_non_null(strstr(w.why, " UTC"));
    w.client.user = "bob";
    assert_true(send(&w));
    w.client.user = NULL;
    assert_true(send(&w));
    limits_statistics(w.limits, &statistics);
    assert_int_equal(statistics.reached[LIMITS_USER_MESSAGES], 1);
    assert_int_equal(statistics.counted[LIMITS_USER_MESSAGES], 2);
    assert_int_equal(statistics.counted[LIMITS_ADDRESS_MESSAGES], 0);
    close_world(&w);
}

TEST(limits, what_is_reserved_is_taken_until_it_is_given_back)
{
    struct world w;
    struct limits_claim claims[3];
    struct limits_claim more;

    open_world(&w);
    for (int i = 0; i < 3; i++)
        assert_true(take(&w, &claims[i]));
    assert_false(take(&w, &more));
    limits_release(w.limits, &more);
    limits_release(w.limits, &claims[0]);
    limits_release(w.limits, &claims[0]);
    assert_true(take(&w, &claims[0]));
    for (int i = 0; i < 3; i++)
        limits_keep(w.limits, &claims[i]);
    assert_false(take(&w, &more));
    close_world(&w);
}

TEST(limits, a_users_own_go_before_the_settings)
{
    struct world w;
    struct rights rights = {0};

    open_world(&w);
    assert_int_equal(quotas_parse(SLICE("1/m"), &rights.messages), RESULT_OK);
    w.client.rights = &rights;
    assert_true(send(&w));
    assert_false(send(&w));
    assert_non_null(strstr(w.why, "limit 1/m reached"));
    close_world(&w);
}

TEST(limits, count_recipients_and_addresses_too)
{
    struct world w;
    struct limits_claim claim = {0};

    open_world(&w);
    assert_int_equal(
        quotas_parse(SLICE("4/h"), &w.settings.quotas[LIMITS_ADDRESS_RECIPIENTS]),
        RESULT_OK);
    assert_int_equal(quotas_parse(SLICE("9/h"), &w.settings.quotas[LIMITS_USER_RECIPIENTS]),
                     RESULT_OK);
    limits_apply(w.limits, &w.settings);
    assert_int_equal(ip_parse(SLICE("2001:db8:1:2::1"), &w.client.peer), RESULT_OK);
    for (int i = 0; i < 4; i++)
        assert_true(limits_take_recipient(w.limits, &w.client, &claim, w.why));
    assert_false(limits_take_recipient(w.limits, &w.client, &claim, w.why));
    assert_non_null(strstr(w.why, "recipients from your address: limit 4/h"));
    limits_return_recipient(w.limits, &claim);
    assert_true(limits_take_recipient(w.limits, &w.client, &claim, w.why));
    /* The same /64, another user. */
    w.client.user = "bob";
    assert_int_equal(ip_parse(SLICE("2001:db8:1:2:3::4"), &w.client.peer), RESULT_OK);
    assert_false(
        limits_take_recipient(w.limits, &w.client, &(struct limits_claim){0}, w.why));
    assert_int_equal(ip_parse(SLICE("2001:db8:1:3::1"), &w.client.peer), RESULT_OK);
    limits_keep(w.limits, &claim);
    assert_true(limits_take_recipient(w.limits, &w.client, &claim, w.why));
    limits_release(w.limits, &claim);
    close_world(&w);
}

TEST(limits, counts_survive_a_restart_and_new_limits)
{
    struct world w;

    open_world(&w);
    assert_true(send(&w));
    assert_true(send(&w));
    close_limits(&w);
    open_limits(&w);
    assert_true(send(&w));
    assert_false(send(&w));
    assert_non_null(strstr(w.why, "limit 3/h"));
    /* A reload: other limits for the same times go on counting. */
    assert_int_equal(
        quotas_parse(SLICE("10/h,4/d"), &w.settings.quotas[LIMITS_USER_MESSAGES]),
        RESULT_OK);
    limits_apply(w.limits, &w.settings);
    assert_true(send(&w));
    assert_false(send(&w));
    assert_non_null(strstr(w.why, "limit 4/d"));
    close_world(&w);
}

TEST(limits, the_file_is_written_while_the_server_runs)
{
    struct world w;

    open_world(&w);
    assert_true(send(&w));
    assert_int_equal(access(w.path, F_OK), -1);
    for (int i = 0; i < 3000 && access(w.path, F_OK) != 0; i++)
        loop_run_for(w.loop, 10);
    assert_int_equal(access(w.path, F_OK), 0);
    close_world(&w);
}

TEST(limits, a_damaged_file_is_an_empty_start)
{
    struct world w;
    FILE *file;

    open_world(&w);
    for (int i = 0; i < 3; i++)
        assert_true(send(&w));
    close_limits(&w);
    file = fopen(w.path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, 40, SEEK_SET), 0);
    assert_int_equal(fputc('#', file), '#');
    assert_int_equal(fclose(file), 0);
    open_limits(&w);
    assert_true(send(&w));
    close_world(&w);
}

TEST(limits, a_newcomer_is_refused_when_too_many_are_counted)
{
    struct world w;
    struct limits_statistics statistics;
    char user[32];

    open_world(&w);
    w.client.user = user;
    for (int i = 0; i < 100000; i++) {
        (void)snprintf(user, sizeof user, "u%d", i);
        assert_true(send(&w));
    }
    (void)snprintf(user, sizeof user, "late");
    assert_false(send(&w));
    assert_non_null(strstr(w.why, "Too many senders are counted"));
    (void)snprintf(user, sizeof user, "u5");
    assert_true(send(&w));
    limits_statistics(w.limits, &statistics);
    assert_int_equal(statistics.full, 1);
    close_world(&w);
}

/* Somebody who asks and sends nothing takes a place, and the next who finds none makes room. */
TEST(limits, places_of_those_who_have_no_counts_any_more_are_free_again_by_themselves)
{
    struct world w;
    struct limits_claim claim;
    char user[32];

    open_world(&w);
    w.client.user = user;
    for (int i = 0; i < 100000; i++) {
        (void)snprintf(user, sizeof user, "u%d", i);
        assert_true(take(&w, &claim));
        limits_release(w.limits, &claim);
    }
    (void)snprintf(user, sizeof user, "late");
    assert_false(send(&w));
    for (int i = 0; i < 20000 && !send(&w); i++)
        loop_run_for(w.loop, 1);
    assert_true(send(&w));
    close_world(&w);
}

TEST(limits, what_ran_out_while_the_server_was_away_takes_no_place)
{
    struct world w;
    struct limits_statistics statistics;
    struct limits_record old = {.kind = LIMITS_USER_MESSAGES, .name = "old"};
    struct limits_record young = {.kind = LIMITS_USER_MESSAGES, .name = "young"};
    struct sealed sealed;
    struct bytes text;
    FILE *file;

    open_world(&w);
    old.window_count = young.window_count = 1;
    window_init(&old.windows[0], 3600000, loop_wall_ms(w.loop) - 2 * 3600000);
    window_init(&young.windows[0], 3600000, loop_wall_ms(w.loop));
    old.windows[0].counts[0] = young.windows[0].counts[0] = 3;
    close_limits(&w);
    bytes_init(&text, 4096);
    assert_int_equal(limits_file_begin(&text, &sealed), RESULT_OK);
    assert_int_equal(limits_file_add(&text, &sealed, &old), RESULT_OK);
    assert_int_equal(limits_file_add(&text, &sealed, &young), RESULT_OK);
    assert_int_equal(limits_file_end(&text, &sealed), RESULT_OK);
    file = fopen(w.path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text.data, 1, text.length, file), text.length);
    assert_int_equal(fclose(file), 0);
    bytes_fini(&text);
    open_limits(&w);
    limits_statistics(w.limits, &statistics);
    assert_int_equal(statistics.counted[LIMITS_USER_MESSAGES], 1);
    w.client.user = "young";
    assert_false(send(&w));
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(limits, hold_to_the_message),
        RUN(limits, what_is_reserved_is_taken_until_it_is_given_back),
        RUN(limits, a_users_own_go_before_the_settings),
        RUN(limits, count_recipients_and_addresses_too),
        RUN(limits, counts_survive_a_restart_and_new_limits),
        RUN(limits, the_file_is_written_while_the_server_runs),
        RUN(limits, a_damaged_file_is_an_empty_start),
        RUN(limits, a_newcomer_is_refused_when_too_many_are_counted),
        RUN(limits,
            places_of_those_who_have_no_counts_any_more_are_free_again_by_themselves),
        RUN(limits, what_ran_out_while_the_server_was_away_takes_no_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
