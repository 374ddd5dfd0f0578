/* The end of an attempt: outcomes, reports and the log lines that go with them. */
#include "deliver_world.h"

/* The sender's domain cannot be looked up: a report to it stays in the queue. */
static void keep_reports(struct world *w)
{
    w->envelope.sender = "sender@servfail.test";
}

static size_t count_reports(struct world *w)
{
    size_t count = 0;

    (void)world_look(w);
    for (size_t i = 0; i < w->seen_count; i++)
        count += w->seen[i].sender[0] == '\0';
    return count;
}

#define FAIL "C: MAIL FROM:*\nS: 250 ok\nC: RCPT TO:*\nS: 550 5.1.1 unknown\n"
#define DEFER "C: MAIL FROM:*\nS: 250 ok\nC: RCPT TO:*\nS: 450 4.2.1 busy\n"

TEST(settle, a_delivered_message_is_gone_and_has_its_final_line)
{
    struct world *w = *state;
    char id[ID_TEXT];

    smtp_peer_play(&w->peers[0], GREET TAKE);
    id_print(world_send(w, "x@a.test"), id);
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_look(w), 0);
    assert_int_equal(world_logged(w, "\"deliver.delivered\"", id), 1);
    assert_int_equal(world_logged(w, "\"deliver.delivered\"", "x@a.test"), 1);
    assert_int_equal(world_logged(w, "\"deliver.delivered\"", "mx1.test [127.0.0.1:"), 1);
    assert_int_equal(world_logged(w, "\"deliver.delivered\"", "250 taken"), 1);
    assert_int_equal(world_logged(w, "\"deliver.delivered\"", "\"attempts\":1"), 1);
}

TEST(settle, a_deferral_is_one_line_for_all_and_sets_the_next_attempt)
{
    struct world *w = *state;
    const struct seen *seen;
    int64_t in_ms;

    smtp_peer_play(&w->peers[0], GREET "C: MAIL FROM:*\nS: 451 4.7.1 greylisted\n");
    (void)world_send(w, "x@a.test y@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 2 && world_is_quiet(w));
    seen = world_group(w);
    in_ms = seen->next_attempt_ms - loop_wall_ms(w->loop);
    assert_true(in_ms <= HOUR_MS / 10 * 11); /* the schedule, a tenth either way */
    assert_true(in_ms > HOUR_MS / 10 * 9 - 60000);
    assert_int_equal(seen->attempts, 1);
    assert_string_equal(seen->text, "451 4.7.1 greylisted");
    assert_string_equal(seen->host, "mx1.test");
    assert_int_equal(world_logged(w, "\"deliver.deferred\"", "\"recipients\":2"), 1);
    assert_int_equal(count_reports(w), 0);
}

TEST(settle, a_failure_and_its_report_are_one_transaction)
{
    struct world *w = *state;
    uint64_t commits;

    keep_reports(w);
    smtp_peer_play(&w->peers[0], GREET "S: <hold>\n" FAIL);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    commits = world_numbers(w).commits;
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_counts(w).reports_queued == 1 && world_is_quiet(w));
    assert_int_equal(world_numbers(w).commits, commits + 1); /* G3 */
    assert_string_equal(world_group(w)->sender, "");
    assert_string_equal(world_group(w)->recipients, "sender@servfail.test;");
    assert_int_equal(world_logged(w, "\"deliver.bounced\"", "550 5.1.1 unknown"), 1);
    assert_int_equal(world_logged(w, "\"deliver.report_queued\"", "sender@servfail.test"),
                     1);
}

TEST(settle, while_the_disk_is_full_the_outcome_waits_and_nothing_is_tried_again)
{
    struct world *w = *state;
    uint64_t failed;

    keep_reports(w);
    smtp_peer_play(&w->peers[0], GREET "S: <hold>\n" FAIL);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    failed = world_numbers(w).commits_failed;
    world_fail_commits(ENOSPC, 1000);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_numbers(w).commits_failed > failed);
    assert_string_equal(world_group(w)->recipients, "x@a.test;"); /* neither nor */
    world_fail_commits(0, 0);
    WORLD_UNTIL(w, world_is_quiet(w)); /* tried again after 5 s */
    assert_string_equal(world_group(w)->sender, "");
    assert_int_equal(w->peers[0].accepted, 1);
    assert_int_equal(world_counts(w).recipients_failed, 1); /* counted and told once */
    assert_int_equal(world_logged(w, "\"deliver.bounced\"", "x@a.test"), 1);
}

TEST(settle, the_failure_of_a_report_has_no_report)
{
    struct world *w = *state;

    w->envelope.sender = "";
    smtp_peer_play(&w->peers[0], GREET FAIL);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_is_empty(w));
    assert_int_equal(world_look(w), 0);
    assert_int_equal(world_counts(w).reports_queued, 0);
    assert_int_equal(world_logged(w, "\"deliver.report_failed\"", "x@a.test"), 1);
}

TEST(settle, mixed_answers_settle_some_and_keep_the_rest)
{
    struct world *w = *state;

    keep_reports(w);
    smtp_peer_play(&w->peers[0], GREET
                   "C: MAIL FROM:*\nS: 250 ok\nC: RCPT TO:<x@a.test>\nS: 250 ok\n"
                   "C: RCPT TO:<y@a.test>\nS: 550 5.1.1 unknown\n"
                   "C: RCPT TO:<z@a.test>\nS: 450 4.2.1 busy\n" DATA "S: 250 taken\n");
    (void)world_send(w, "x@a.test y@a.test z@a.test");
    WORLD_UNTIL(w, world_counts(w).reports_queued == 1 && world_is_quiet(w));
    assert_int_equal(world_look(w), 2);
    for (size_t i = 0; i < 2; i++)
        if (w->seen[i].sender[0])
            assert_string_equal(w->seen[i].recipients, "z@a.test;");
    assert_int_equal(world_logged(w, "\"deliver.delivered\"", "x@a.test"), 1);
    assert_int_equal(world_logged(w, "\"deliver.bounced\"", "y@a.test"), 1);
    assert_int_equal(world_logged(w, "\"deliver.deferred\"", "z@a.test"), 1);
}

TEST(settle, a_deferral_behind_the_expiry_is_a_failure)
{
    struct world *w = *state;

    keep_reports(w);
    w->envelope.arrival_ms = loop_wall_ms(w->loop) - 25 * (int64_t)HOUR_MS;
    smtp_peer_play(&w->peers[0], GREET DEFER);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_counts(w).reports_queued == 1 && world_is_quiet(w));
    assert_int_equal(world_counts(w).recipients_expired, 1);
    assert_int_equal(world_counts(w).recipients_failed, 0);
    assert_string_equal(world_group(w)->sender, "");
    assert_int_equal(world_logged(w, "\"deliver.expired\"", "450 4.2.1 busy"), 1);
}

TEST(settle, the_last_attempt_is_made_when_the_message_expires)
{
    struct world *w = *state;
    int64_t now_ms = loop_wall_ms(w->loop);

    w->envelope.arrival_ms = now_ms - 24 * (int64_t)HOUR_MS + 60000;
    smtp_peer_play(&w->peers[0], GREET DEFER);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 1 && world_is_quiet(w));
    assert_true(world_group(w)->next_attempt_ms <= now_ms + 60000);
}

static void on_retried(void *owner, enum result result, const struct queue_counts *counts)
{
    (void)owner;
    assert_int_equal(result, RESULT_OK);
    assert_int_equal(counts->changed, 1);
    assert_int_equal(counts->busy + counts->gone, 0);
}

static void retry(struct world *w, uint64_t id)
{
    struct queue_target target = {id, 0};
    struct queue_change change = {
        .kind = QUEUE_RETRY, .targets = &target, .count = 1, .on_end = on_retried};

    queue_change_start(w->queue, &change);
}

TEST(settle, a_delay_is_told_once)
{
    struct world *w = *state;
    uint64_t id;

    keep_reports(w);
    w->settings.delay_notice_ms = 4 * (int64_t)HOUR_MS;
    w->settings.timeouts.idle = 0;
    world_apply(w);
    w->envelope.arrival_ms = loop_wall_ms(w->loop) - 5 * (int64_t)HOUR_MS;
    for (int i = 0; i < 2; i++)
        smtp_peer_play(&w->peers[0], GREET DEFER "C: QUIT\n");
    id = world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_counts(w).reports_queued == 1 && world_is_quiet(w));
    assert_int_equal(count_reports(w), 1);
    for (size_t i = 0; i < w->seen_count; i++)
        assert_int_equal(w->seen[i].delay_notified, w->seen[i].id == id);
    retry(w, id);
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 2 && world_is_quiet(w));
    assert_int_equal(count_reports(w), 1);
}

TEST(settle, a_delay_is_not_told_before_its_time)
{
    struct world *w = *state;

    keep_reports(w);
    w->settings.delay_notice_ms = 4 * (int64_t)HOUR_MS;
    world_apply(w);
    w->envelope.arrival_ms = loop_wall_ms(w->loop) - 3 * (int64_t)HOUR_MS;
    smtp_peer_play(&w->peers[0], GREET DEFER);
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 1 && world_is_quiet(w));
    assert_int_equal(count_reports(w), 0);
}

/* The message waits behind a fault; the sweep has taken it. */
static uint64_t send_late(struct world *w)
{
    uint64_t id;

    keep_reports(w);
    w->settings.delay_notice_ms = 4 * (int64_t)HOUR_MS;
    world_apply(w);
    w->envelope.arrival_ms = loop_wall_ms(w->loop) - 5 * (int64_t)HOUR_MS;
    smtp_peer_play(&w->peers[0], "S: 421 4.3.2 busy\nC: <closed>\n");
    id = world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DESTINATION && world_is_quiet(w));
    return id;
}

TEST(settle, a_delay_that_was_told_behind_a_fault_is_not_told_again_by_an_attempt)
{
    struct world *w = *state;
    uint64_t id = send_late(w);

    timer_start(&w->deliver->sweep, 0);
    WORLD_UNTIL(w, world_counts(w).reports_queued == 1 && world_is_quiet(w));
    smtp_peer_play(&w->peers[0], GREET DEFER);
    deliver_wake(w->deliver, "a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 1 && world_is_quiet(w));
    assert_int_equal(count_reports(w), 1);
    for (size_t i = 0; i < w->seen_count; i++)
        if (w->seen[i].id == id)
            assert_int_equal(w->seen[i].attempts, 1);
}

TEST(settle, while_the_disk_is_full_nobody_is_told_of_a_delay_and_then_once)
{
    struct world *w = *state;
    uint64_t id = send_late(w);
    uint64_t failed = world_numbers(w).commits_failed;

    world_fail_commits(ENOSPC, 1000);
    timer_start(&w->deliver->sweep, 0);
    WORLD_UNTIL(w, world_numbers(w).commits_failed > failed);
    assert_false(world_group(w)->delay_notified); /* neither nor */
    world_fail_commits(0, 0);
    WORLD_UNTIL(w, world_is_quiet(w)); /* tried again after 5 s */
    assert_int_equal(count_reports(w), 1);
    for (size_t i = 0; i < w->seen_count; i++)
        assert_int_equal(w->seen[i].delay_notified, w->seen[i].id == id);
    assert_int_equal(world_counts(w).reports_queued, 1);
    assert_int_equal(world_logged(w, "\"deliver.report_queued\"", ""), 1);
}

TEST(settle, a_notice_of_delay_that_is_not_written_at_the_end_is_given_back)
{
    struct world *w = *state;
    uint64_t failed;

    (void)send_late(w);
    failed = world_numbers(w).commits_failed;
    world_fail_commits(ENOSPC, 1000);
    timer_start(&w->deliver->sweep, 0);
    WORLD_UNTIL(w, world_numbers(w).commits_failed > failed);
    loop_run_for(w->loop, 20);                      /* it waits for its next try */
    assert_int_equal(deliver_abort(w->deliver), 0); /* nobody got it */
    world_fail_commits(0, 0);
    assert_int_equal(w->deliver->settling.count, 0);
    assert_int_equal(world_numbers(w).groups_leased, 0);
    assert_false(world_group(w)->delay_notified);
}

TEST(settle, what_is_not_submitted_at_the_end_is_given_back)
{
    struct world *w = *state;

    keep_reports(w);
    smtp_peer_play(&w->peers[0], GREET "S: <hold>\n" FAIL "C: <rest>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    world_fail_commits(ENOSPC, 1000);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_numbers(w).commits_failed > 0);
    loop_run_for(w->loop, 20);                      /* it waits for its next try */
    assert_int_equal(deliver_abort(w->deliver), 0); /* nobody got it */
    world_fail_commits(0, 0);
    assert_int_equal(w->deliver->settling.count, 0);
    assert_int_equal(world_numbers(w).groups_leased, 0);
    assert_string_equal(world_group(w)->recipients, "x@a.test;");
}

TEST(settle, what_was_delivered_and_not_written_may_come_twice)
{
    struct world *w = *state;

    smtp_peer_play(&w->peers[0], GREET "S: <hold>\n" TAKE "C: <rest>\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, w->peers[0].held == 1);
    world_fail_commits(ENOSPC, 1000);
    smtp_peer_go(&w->peers[0]);
    WORLD_UNTIL(w, world_numbers(w).commits_failed > 0);
    loop_run_for(w->loop, 20); /* it waits for its next try */
    assert_int_equal(deliver_abort(w->deliver), 1);
    world_fail_commits(0, 0);
    assert_string_equal(world_group(w)->recipients, "x@a.test;");
}

/* The store tells of a commit that was under way when nobody is left to hear it. */
TEST(settle, what_is_submitted_outlives_the_room)
{
    struct world *w = *state;

    for (int fails = 0; fails < 2; fails++) {
        keep_reports(w);
        smtp_peer_play(&w->peers[0], GREET "S: <hold>\n" FAIL "C: <rest>\n");
        (void)world_send(w, "x@a.test");
        WORLD_UNTIL(w, w->peers[0].held == 1);
        atomic_store(&world_slow_ms, 200);
        world_fail_commits(EIO, fails);
        smtp_peer_go(&w->peers[0]);
        WORLD_UNTIL(w, w->deliver->settling.count > 0);
        loop_run_for(w->loop, 20);
        deliver_free(w->deliver);
        loop_run_for(w->loop, 500);
        atomic_store(&world_slow_ms, 0);
        world_fail_commits(0, 0);
        world_open_deliver(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(settle, name)
        T(a_delivered_message_is_gone_and_has_its_final_line),
        T(a_deferral_is_one_line_for_all_and_sets_the_next_attempt),
        T(a_failure_and_its_report_are_one_transaction),
        T(while_the_disk_is_full_the_outcome_waits_and_nothing_is_tried_again),
        T(the_failure_of_a_report_has_no_report),
        T(mixed_answers_settle_some_and_keep_the_rest),
        T(a_deferral_behind_the_expiry_is_a_failure),
        T(the_last_attempt_is_made_when_the_message_expires),
        T(a_delay_is_told_once),
        T(a_delay_is_not_told_before_its_time),
        T(a_delay_that_was_told_behind_a_fault_is_not_told_again_by_an_attempt),
        T(while_the_disk_is_full_nobody_is_told_of_a_delay_and_then_once),
        T(a_notice_of_delay_that_is_not_written_at_the_end_is_given_back),
        T(what_is_not_submitted_at_the_end_is_given_back),
        T(what_was_delivered_and_not_written_may_come_twice),
        T(what_is_submitted_outlives_the_room),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
