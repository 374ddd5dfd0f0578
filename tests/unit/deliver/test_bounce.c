/* Which reports are due, to whom, and how much of the message they carry. */
#include "deliver_world.h"

struct made {
    struct world *w;
    struct lease *lease;
    struct bounce *bounce;
    struct outcome outcomes[8];
    struct said said;
    unsigned ends;
    size_t count;
    const struct report *reports;
};

/* ---- a lease of a message that nobody tries ---- */

static void on_lease(void *owner, struct lease *lease, enum result result)
{
    struct made *made = owner;

    assert_int_equal(result, RESULT_OK);
    made->lease = lease;
}

static void lease(struct made *made, struct world *w, const char *recipients)
{
    struct domain_queue *domain_queue;
    struct queue_entry entry;

    *made = (struct made){.w = w};
    w->deliver->is_draining = true;
    (void)world_send(w, recipients);
    WORLD_UNTIL(w, world_why(w, "a.test").kind == WHY_DRAINING);
    domain_queue = queue_find_domain_queue(w->queue, "a.test");
    assert_true(domain_queue_take(domain_queue, &entry));
    (void)queue_lease_load(domain_queue, &entry, on_lease, made);
    WORLD_UNTIL(w, made->lease);
    made->said = (struct said){.is_remote = true,
                               .code = 550,
                               .status = "5.1.1",
                               .text = "550 5.1.1 unknown here",
                               .host = "mx1.test"};
    for (size_t i = 0; i < 8; i++)
        made->outcomes[i] =
            (struct outcome){.verdict = VERDICT_FAILED, .said = &made->said};
}

static void on_bounced(void *owner, const struct report *reports, size_t count)
{
    struct made *made = owner;

    made->ends++;
    made->reports = reports;
    made->count = count;
}

static void start(struct made *made, bool wants_delay_notice)
{
    made->bounce = bounce_start(made->w->deliver, made->lease, made->outcomes,
                                wants_delay_notice, on_bounced, made);
    assert_int_equal(made->ends, 0); /* never inside the call */
}

static void bounce(struct made *made, bool wants_delay_notice)
{
    start(made, wants_delay_notice);
    WORLD_UNTIL(made->w, made->ends == 1);
}

static void end(struct made *made)
{
    bounce_free(made->bounce);
    lease_release(made->lease);
    assert_int_equal(made->ends, 1);
}

static unsigned count_of(struct slice text, const char *word)
{
    size_t length = strlen(word);
    unsigned count = 0;

    for (size_t i = 0; i + length <= text.length; i++)
        count += memcmp(text.data + i, word, length) == 0;
    return count;
}

/* ---- due or not ---- */

TEST(bounce, what_notify_asks_for_is_reported_and_nothing_else)
{
    enum {
        FAILED = VERDICT_FAILED,
        DEFERRED = VERDICT_DEFERRED,
        DELIVERED = VERDICT_DELIVERED
    };
    static const struct {
        uint8_t notify;
        int verdict;
        bool is_relayed;
        bool is_local;
        bool wants_delay_notice;
        size_t reports;
        const char *action;
    } rows[] = {
        {0, FAILED, false, false, false, 1, "failed"},
        {NOTIFY_FAILURE, FAILED, false, false, false, 1, "failed"},
        {NOTIFY_NEVER, FAILED, false, false, false, 0, ""},
        {NOTIFY_SUCCESS | NOTIFY_DELAY, FAILED, false, false, false, 0, ""},
        {0, DEFERRED, false, false, false, 0, ""},
        {0, DEFERRED, false, false, true, 1, "delayed"},
        {NOTIFY_DELAY, DEFERRED, false, false, true, 1, "delayed"},
        {NOTIFY_FAILURE, DEFERRED, false, false, true, 0, ""},
        {0, DELIVERED, true, false, false, 0, ""},
        {NOTIFY_SUCCESS, DELIVERED, true, false, false, 1, "relayed"},
        {NOTIFY_SUCCESS, DELIVERED, false, false, false, 0, ""}, /* the next hop reports */
        {NOTIFY_SUCCESS, DELIVERED, false, true, false, 1, "delivered"},
        {NOTIFY_FAILURE, DELIVERED, false, true, false, 0, ""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct made made;
        char action[64];

        if (i > 0) {
            assert_int_equal(tear_down(state), 0);
            assert_int_equal(set_up(state), 0);
        }
        ((struct world *)*state)->recipient.notify = rows[i].notify;
        lease(&made, *state, "x@a.test");
        made.outcomes[0].verdict = (enum verdict)rows[i].verdict;
        made.outcomes[0].is_relayed = rows[i].is_relayed;
        made.outcomes[0].is_local = rows[i].is_local;
        bounce(&made, rows[i].wants_delay_notice);
        if (made.count != rows[i].reports)
            fail_msg("row %zu: %zu reports", i, made.count);
        (void)snprintf(action, sizeof action, "Action: %s\r\n", rows[i].action);
        if (made.count == 1 && count_of(made.reports[0].body, action) != 1)
            fail_msg("row %zu is not %s", i, rows[i].action);
        end(&made);
    }
}

TEST(bounce, a_null_sender_never_gets_one)
{
    struct world *w = *state;
    struct made made;

    w->envelope.sender = "";
    w->recipient.notify = NOTIFY_FAILURE | NOTIFY_SUCCESS | NOTIFY_DELAY;
    lease(&made, w, "x@a.test y@a.test z@a.test");
    made.outcomes[1].verdict = VERDICT_DEFERRED;
    made.outcomes[2].verdict = VERDICT_DELIVERED;
    made.outcomes[2].is_relayed = true;
    bounce(&made, true);
    assert_int_equal(made.count, 0);
    end(&made);
}

TEST(bounce, one_report_for_each_action_holds_all_of_its_recipients)
{
    struct world *w = *state;
    struct made made;

    w->recipient.notify = NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY;
    w->envelope.dsn_return = RETURN_FULL;
    w->body = "the very body\r\n";
    lease(&made, w, "f1@a.test d1@a.test f2@a.test r1@a.test l1@a.test");
    made.outcomes[1].verdict = VERDICT_DEFERRED;
    made.outcomes[3].verdict = made.outcomes[4].verdict = VERDICT_DELIVERED;
    made.outcomes[3].is_relayed = made.outcomes[4].is_local = true;
    bounce(&made, true);
    assert_int_equal(made.count, 4);
    assert_int_equal(count_of(made.reports[0].body, "Action: failed"), 2);
    assert_int_equal(count_of(made.reports[0].body, "d1@a.test"), 0);
    for (size_t i = 0; i < 4; i++) /* the message comes back with the failure only */
        assert_int_equal(count_of(made.reports[i].body, "the very body"), i == 0);
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < i; k++)
            assert_true(made.reports[i].id != made.reports[k].id);
    end(&made);
}

/* ---- what it is made of ---- */

TEST(bounce, it_comes_from_nobody_and_goes_to_the_sender_who_is_not_told_of_its_fate)
{
    struct world *w = *state;
    struct made made;

    w->envelope.tenant = "t1";
    lease(&made, w, "x@a.test");
    bounce(&made, false);
    assert_string_equal(made.reports[0].envelope.sender, "");
    assert_string_equal(made.reports[0].envelope.tenant, "t1");
    assert_string_equal(made.reports[0].recipient.address, "sender@s.test");
    assert_int_equal(made.reports[0].recipient.notify, NOTIFY_NEVER);
    assert_int_equal(count_of(made.reports[0].header, "\r\nTo: <sender@s.test>\r\n"), 1);
    assert_true(made.reports[0].envelope.longest_line > 0);
    assert_false(made.reports[0].envelope.has_8bit);
    end(&made);
}

TEST(bounce, what_the_remote_server_said_and_who_it_was_is_in_it)
{
    struct world *w = *state;
    struct made made;

    w->envelope.envid = "QQ314159";
    w->recipient.orcpt = "rfc822;other+2Bx@a.test";
    lease(&made, w, "x@a.test");
    bounce(&made, false);
    assert_int_equal(count_of(made.reports[0].body, "Original-Envelope-Id: QQ314159\r\n"),
                     1);
    assert_int_equal(
        count_of(made.reports[0].body, "Original-Recipient: rfc822; other+x@a.test\r\n"),
        1);
    assert_int_equal(
        count_of(made.reports[0].body, "Final-Recipient: rfc822; x@a.test\r\n"), 1);
    assert_int_equal(count_of(made.reports[0].body, "Status: 5.1.1\r\n"), 1);
    assert_int_equal(
        count_of(made.reports[0].body, "Diagnostic-Code: smtp; 550 5.1.1 unknown here\r\n"),
        1);
    assert_int_equal(count_of(made.reports[0].body, "Remote-MTA: dns; mx1.test\r\n"), 1);
    assert_int_equal(count_of(made.reports[0].body, "Reporting-MTA: dns; relay.test\r\n"),
                     1);
    end(&made);
}

TEST(bounce, words_of_our_own_are_no_diagnostic_of_a_server)
{
    struct made made;

    lease(&made, *state, "x@a.test");
    made.said.is_remote = false;
    (void)strcpy(made.said.text, "the domain does not exist");
    bounce(&made, false);
    assert_int_equal(count_of(made.reports[0].body, "Diagnostic-Code"), 0);
    assert_int_equal(count_of(made.reports[0].body, "Remote-MTA"), 0);
    assert_true(count_of(made.reports[0].body, "the domain does not exist") >= 1);
    end(&made);
}

TEST(bounce, what_was_never_tried_has_no_date_of_an_attempt)
{
    struct made made;

    lease(&made, *state, "x@a.test y@a.test");
    made.outcomes[0].verdict = made.outcomes[1].verdict = VERDICT_DEFERRED;
    made.outcomes[1].is_untried = true;
    bounce(&made, true);
    assert_int_equal(made.count, 1);
    assert_int_equal(count_of(made.reports[0].body, "Action: delayed\r\n"), 2);
    assert_int_equal(count_of(made.reports[0].body, "Will-Retry-Until: "), 2);
    assert_int_equal(count_of(made.reports[0].body, "Last-Attempt-Date: "), 1);
    end(&made);
}

static void expect_original(struct world *w, enum dsn_return dsn_return,
                            enum verdict verdict, unsigned bodies)
{
    struct made made;

    w->envelope.dsn_return = dsn_return;
    w->body = "the very body\r\n";
    lease(&made, w, "x@a.test");
    made.outcomes[0].verdict = verdict;
    bounce(&made, true);
    assert_int_equal(made.count, 1);
    assert_int_equal(count_of(made.reports[0].body, "the very body"), bodies);
    assert_int_equal(count_of(made.reports[0].body, "\r\nSubject: s\r\n"), 1);
    end(&made);
}

TEST(bounce, ret_full_brings_the_message_back)
{
    expect_original(*state, RETURN_FULL, VERDICT_FAILED, 1);
}

TEST(bounce, ret_hdrs_brings_the_headers_back)
{
    expect_original(*state, RETURN_HEADERS, VERDICT_FAILED, 0);
}

TEST(bounce, without_ret_the_headers_come_back)
{
    expect_original(*state, RETURN_UNSPECIFIED, VERDICT_FAILED, 0);
}

TEST(bounce, a_delay_never_brings_the_message_back)
{
    expect_original(*state, RETURN_FULL, VERDICT_DEFERRED, 0);
}

TEST(bounce, a_message_above_the_limit_comes_back_as_headers)
{
    struct world *w = *state;

    w->settings.report_body_bytes = 20;
    world_apply(w);
    expect_original(w, RETURN_FULL, VERDICT_FAILED, 0);
}

TEST(bounce, a_message_of_many_pieces_comes_back_whole)
{
    struct world *w = *state;
    enum { LINES = 20000 };
    struct made made;
    struct bytes body;

    bytes_init(&body, 1 << 20);
    for (int i = 0; i < LINES; i++)
        assert_int_equal(bytes_format(&body, "line %05d\r\n", i), RESULT_OK);
    assert_int_equal(bytes_add(&body, (struct slice){"", 1}), RESULT_OK);
    w->body = (const char *)body.data;
    w->envelope.dsn_return = RETURN_FULL;
    lease(&made, w, "x@a.test");
    bounce(&made, false);
    assert_int_equal(count_of(made.reports[0].body, "\r\nline "), LINES);
    end(&made);
    bytes_fini(&body);
}

/* ---- cancelled ---- */

TEST(bounce, freed_before_its_end_it_never_calls_back)
{
    struct world *w = *state;
    struct made made;

    lease(&made, w, "x@a.test");
    start(&made, false); /* it reads */
    bounce_free(made.bounce);
    made.outcomes[0].verdict = VERDICT_DELIVERED;
    start(&made, false); /* nothing is due: it only waits for the loop */
    bounce_free(made.bounce);
    loop_run_for(w->loop, 20);
    assert_int_equal(made.ends, 0);
    lease_release(made.lease);
}

/* ---- on its way ---- */

TEST(bounce, it_is_delivered_like_any_mail)
{
    struct world *w = *state;
    struct slice data;

    w->envelope.sender = "sender@c.test";
    smtp_peer_play(&w->peers[0], GREET "C: MAIL FROM:*\nS: 550 5.7.1 no\n");
    smtp_peer_play(&w->peers[2],
                   GREET "C: MAIL FROM:<>\nS: 250 ok\n"
                         "C: RCPT TO:<sender@c.test>\nS: 250 ok\n" DATA "S: 250 taken\n");
    (void)world_send(w, "x@a.test");
    WORLD_UNTIL(w, world_counts(w).recipients_delivered == 1 && world_is_empty(w));
    data = bytes_view(&w->peers[2].data);
    assert_int_equal(count_of(data, "Content-Type: multipart/report"), 1);
    assert_int_equal(count_of(data, "Status: 5.7.1\n"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) WITH_WORLD(bounce, name)
        T(what_notify_asks_for_is_reported_and_nothing_else),
        T(a_null_sender_never_gets_one),
        T(one_report_for_each_action_holds_all_of_its_recipients),
        T(it_comes_from_nobody_and_goes_to_the_sender_who_is_not_told_of_its_fate),
        T(what_the_remote_server_said_and_who_it_was_is_in_it),
        T(words_of_our_own_are_no_diagnostic_of_a_server),
        T(what_was_never_tried_has_no_date_of_an_attempt),
        T(ret_full_brings_the_message_back),
        T(ret_hdrs_brings_the_headers_back),
        T(without_ret_the_headers_come_back),
        T(a_delay_never_brings_the_message_back),
        T(a_message_above_the_limit_comes_back_as_headers),
        T(a_message_of_many_pieces_comes_back_whole),
        T(freed_before_its_end_it_never_calls_back),
        T(it_is_delivered_like_any_mail),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
