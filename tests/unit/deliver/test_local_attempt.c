/* Groups for mailboxes of our own: handed over, and what comes of each recipient. */
#include "deliver_world.h"

TEST(local_attempt, each_recipient_has_the_outcome_that_the_mailbox_room_gives)
{
    static const enum result results[] = {RESULT_OK, RESULT_NOT_FOUND, RESULT_NO_SPACE,
                                          RESULT_IO};
    struct world *w = *state;
    const struct seen *seen;

    w->envelope.sender = "";
    (void)world_send(w, "a@local.test b@local.test c@local.test d@local.test");
    WORLD_UNTIL(w, w->local_count == 1);
    assert_int_equal(w->local[0].lease->group.recipient_count, 4);
    assert_int_equal(world_counts(w).attempts_running, 1);
    world_end_local(w, results, "the disk is full");
    WORLD_UNTIL(w, world_is_quiet(w));
    assert_int_equal(world_counts(w).recipients_delivered, 1);
    assert_int_equal(world_counts(w).recipients_failed, 1);
    assert_int_equal(world_counts(w).recipients_deferred, 2);
    seen = world_group(w);
    assert_string_equal(seen->recipients, "c@local.test;d@local.test;");
    assert_string_equal(seen->status, "4.2.2");
    assert_string_equal(seen->text, "the disk is full");
    assert_int_equal(seen->attempts, 1);
    assert_int_equal(world_logged(w, "deliver.report_failed", "5.1.1"), 1);
    assert_int_equal(world_counts(w).connections, 0);
    assert_int_equal(fake_dns_udp_count(w->dns), 0);
}

TEST(local_attempt, a_failure_without_words_gets_those_of_its_result)
{
    static const enum result results[] = {RESULT_BUSY};
    struct world *w = *state;

    (void)world_send(w, "a@local.test");
    world_end_local(w, results, "");
    WORLD_UNTIL(w, world_counts(w).recipients_deferred == 1 && world_is_quiet(w));
    assert_string_equal(world_group(w)->status, "4.3.0");
    assert_string_equal(world_group(w)->text, result_text(RESULT_BUSY));
}

TEST(local_attempt, at_most_eight_are_handed_over_at_once)
{
    static const enum result results[] = {RESULT_OK};
    struct world *w = *state;

    for (int i = 0; i < 12; i++)
        (void)world_send(w, "a@local.test");
    WORLD_UNTIL(w, world_numbers(w).groups_leased == 12);
    loop_run_for(w->loop, 5);
    assert_int_equal(w->local_count, 8);
    for (unsigned i = 1; i <= 12; i++) {
        world_end_local(w, results, "");
        WORLD_UNTIL(w, w->local_count == (i + 8 < 12 ? i + 8 : 12));
    }
    WORLD_UNTIL(w, world_is_empty(w));
}

TEST(local_attempt, a_stored_message_is_reported_where_success_was_asked_for)
{
    static const enum result results[] = {RESULT_OK};
    struct world *w = *state;

    w->recipient.notify = NOTIFY_SUCCESS;
    (void)world_send(w, "a@local.test");
    world_end_local(w, results, "");
    WORLD_UNTIL(w, world_counts(w).reports_queued == 1);
    WORLD_UNTIL(w, w->deliver->settling.count == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(local_attempt, name)
        T(each_recipient_has_the_outcome_that_the_mailbox_room_gives),
        T(a_failure_without_words_gets_those_of_its_result),
        T(at_most_eight_are_handed_over_at_once),
        T(a_stored_message_is_reported_where_success_was_asked_for),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
