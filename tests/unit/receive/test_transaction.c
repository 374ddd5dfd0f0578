/* MAIL to the end of the data: what is stored, and what gets which verdict. */
#include "transaction.h"

#include "world.h"

#define START "S: 220 *\nC: EHLO a.test\nS: 250 *\n"
#define MESSAGE "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: RCPT TO:<bob@home.test>\nS: 250 *\n"
#define DATA MESSAGE "C: DATA\nS: 354 *\n"

static void start(struct world *w)
{
    world_prepare(w);
    w->listener.mode = MODE_RELAY;
    world_start(w);
    world_connect(w, "10.1.1.1");
    world_play(w, START);
}

static void start_submission(struct world *w)
{
    world_prepare(w);
    world_start(w);
    world_connect(w, "192.0.2.9");
    world_log_in(w);
}

static const struct stored *last(const struct world *w)
{
    assert_true(w->queue.stored_count > 0);
    return &w->queue.stored[w->queue.stored_count - 1];
}

/* The stored message behind our Received field. */
static const char *behind_trace(const struct stored *stored)
{
    const char *at = stored->message;

    assert_int_equal(strncmp(at, "Received: from a.test ([10.1.1.1])", 34), 0);
    do {
        at = strstr(at, "\r\n");
        assert_non_null(at);
        at += 2;
    } while (*at == ' ' || *at == '\t');
    return at;
}

TEST(transaction, stores_what_was_sent)
{
    struct world w;
    struct receive_statistics statistics;
    char id[ID_TEXT];
    char reply[64];

    start(&w);
    world_play(&w, "C: MAIL FROM:<a@b.test> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x+2By\nS: 250 *\n"
                   "C: RCPT TO:<bob@home.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@d.test\n"
                   "S: 250 *\nC: DATA\nS: 354 *\nC: From: a@b.test\nC: Subject: x\nC:\n"
                   "C: one\nC: ..two\nC: gr\\xc3\\xbc\nC: .\nS: 250 2.0.0 *queued as *\n");
    id_print(1, id);
    (void)snprintf(reply, sizeof reply, "250 2.0.0 *queued as %s", id);
    assert_true(dialogue_matches(reply, w.dialogue.last));
    assert_string_equal(behind_trace(last(&w)),
                        "From: a@b.test\r\nSubject: x\r\n\r\none\r\n.two\r\ngr\xc3\xbc\r\n");
    assert_string_equal(last(&w)->recipients, "bob@home.test ");
    assert_string_equal(last(&w)->orcpts, "rfc822;b+2Bc@d.test ");
    assert_string_equal(last(&w)->sender, "a@b.test");
    assert_string_equal(last(&w)->envid, "x+2By");
    assert_int_equal(last(&w)->notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
    assert_int_equal(last(&w)->envelope.dsn_return, RETURN_HEADERS);
    assert_int_equal(last(&w)->envelope.body_type, BODY_8BITMIME);
    assert_true(last(&w)->envelope.has_8bit);
    assert_true(last(&w)->envelope.has_dot_line);
    assert_non_null(strstr(last(&w)->message, "with ESMTP id "));
    assert_non_null(strstr(last(&w)->message, "for <bob@home.test>;"));
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.messages_accepted, 1);
    assert_int_equal(statistics.recipients_accepted, 1);
    world_end(&w);
}

TEST(transaction, takes_one_after_another_in_one_packet)
{
    struct world w;

    start(&w);
    world_play(&w, "C: MAIL FROM:<>\nC: RCPT TO:<bob@home.test>\nC: DATA\nC: A: b\nC:\nC: 1\nC: .\n"
                   "C: MAIL FROM:<a@b.test>\nC: RCPT TO:<c@d.test>\nC: RCPT TO:<e@f.test>\n"
                   "C: DATA\nC: A: b\nC:\nC: 2\nC: .\nC: QUIT\n"
                   "S: 250 *\nS: 250 *\nS: 354 *\nS: 250 *queued*\n"
                   "S: 250 *\nS: 250 *\nS: 250 *\nS: 354 *\nS: 250 *queued*\nS: 221 *\n"
                   "S: <closed>\n");
    assert_int_equal(w.queue.stored_count, 2);
    assert_string_equal(w.queue.stored[0].sender, "");
    assert_string_equal(w.queue.stored[1].recipients, "c@d.test e@f.test ");
    assert_null(strstr(w.queue.stored[1].message, "for <"));
    world_end(&w);
}

TEST(transaction, gives_the_same_for_any_split)
{
    static const char text[] = "Subject: x\r\n y\r\nTo: z\r\n\r\nbody\r\n..dot\r\n\r\n.\r\n";
    struct world w;

    for (size_t step = 1; step < sizeof text; step++) {
        start(&w);
        world_play(&w, DATA);
        for (size_t at = 0; at < sizeof text - 1; at += step)
            dialogue_send(&w.dialogue, slice_part(SLICE(text), at, step));
        world_play(&w, "S: 250 *queued*\n");
        assert_string_equal(behind_trace(last(&w)),
                            "Subject: x\r\n y\r\nTo: z\r\n\r\nbody\r\n.dot\r\n\r\n");
        assert_int_equal(last(&w)->header_bytes,
                         strstr(last(&w)->message, "\r\n\r\n") + 4 - last(&w)->message);
        world_end(&w);
        step += step / 4;
    }
}

TEST(transaction, completes_a_submission)
{
    struct world w;

    start_submission(&w);
    world_play(&w, MESSAGE "C: DATA\nS: 354 *\nC: Return-Path: <x@y.test>\nC: From: a@b.test\n"
                           "C: BCC: secret@b.test,\nC:  more@b.test\nC: To: c@d.test\nC:\nC: hi\n"
                           "C: .\nS: 250 *\n");
    assert_null(strstr(last(&w)->message, "secret@b.test"));
    assert_null(strstr(last(&w)->message, "more@b.test"));
    assert_null(strstr(last(&w)->message, "Return-Path"));
    assert_non_null(strstr(last(&w)->message, "From: a@b.test\r\nTo: c@d.test\r\nDate: "));
    assert_non_null(strstr(last(&w)->message, "\r\nMessage-ID: <"));
    assert_non_null(strstr(last(&w)->message, "@relay.test>\r\n\r\nhi\r\n"));
    assert_non_null(strstr(last(&w)->message, "with ESMTPSA id "));
    assert_string_equal(last(&w)->user, "alice");
    world_play(&w, MESSAGE "C: DATA\nS: 354 *\nC: date: now\nC: message-id: <1@2>\nC:\nC: .\nS: 250 *\n");
    assert_null(strstr(last(&w)->message, "Date: "));
    assert_null(strstr(last(&w)->message, "Message-ID: "));
    world_end(&w);
}

TEST(transaction, leaves_relayed_mail_as_it_is)
{
    struct world w;

    start(&w);
    world_play(&w, DATA "C: Return-Path: <x@y.test>\nC: From: a@b.test\nC: Bcc: c@d.test\nC:\n"
                        "C: hi\nC: .\nS: 250 *\n");
    assert_string_equal(behind_trace(last(&w)), "From: a@b.test\r\nBcc: c@d.test\r\n\r\nhi\r\n");
    world_end(&w);
}

TEST(transaction, takes_odd_header_sections)
{
    struct world w;

    start(&w);
    world_play(&w, DATA "C: just text\nC: A: b\nC: .\nS: 250 *\n");
    assert_string_equal(behind_trace(last(&w)), "\r\njust text\r\nA: b\r\n");
    world_play(&w, DATA "C: A: b\nC: .\nS: 250 *\n");
    assert_string_equal(behind_trace(last(&w)), "A: b\r\n\r\n");
    world_play(&w, DATA "C: .\nS: 250 *\n");
    assert_string_equal(behind_trace(last(&w)), "\r\n");
    world_play(&w, DATA "C:\nC: .\nS: 250 *\n");
    assert_string_equal(behind_trace(last(&w)), "\r\n");
    world_play(&w, DATA "C: A: b\nC: text in between\nC: C: d\nC: .\nS: 250 *\n");
    assert_string_equal(behind_trace(last(&w)), "A: b\r\n\r\ntext in between\r\nC: d\r\n");
    world_play(&w, DATA "C:  continued\nC: .\nS: 250 *\n");
    assert_string_equal(behind_trace(last(&w)), "\r\n continued\r\n");
    world_end(&w);
}

TEST(transaction, stops_a_loop)
{
    struct world w;

    start(&w);
    world_play(&w, DATA "C: Received: 1\nC: Received: 2\nC: Received: 3\nC: Received: 4\nC:\nC: .\n"
                        "S: 250 *\n");
    world_play(&w, DATA "C: Received: 1\nC: Received: 2\nC: Received: 3\nC: received: 4\n"
                        "C: RECEIVED: 5\nC:\nC: body\nC: .\nS: 554 5.4.6 *\nC: NOOP\nS: 250 *\n");
    assert_int_equal(w.queue.stored_count, 1);
    world_end(&w);
}

TEST(transaction, refuses_bare_line_ends_and_nul_once_at_the_end)
{
    struct world w;
    struct receive_statistics statistics;

    start(&w);
    world_play(&w, DATA "C> A: b\\r\\n\\r\\nx\\n.\\r\\nMAIL FROM:<evil@b.test>\\r\\n.\\r\\n\n"
                        "S: 550 5.5.2 *\n"
                        "C: NOOP\nS: 250 *\n");
    world_play(&w, DATA "C> A: b\\rc\\r\\n\\r\\n.\\r\\n\nS: 550 5.5.2 *\n");
    world_play(&w, DATA "C> A: b\\r\\n\\r\\n\\0\\r\\n.\\r\\n\nS: 550 5.6.0 *\n");
    assert_int_equal(w.queue.stored_count, 0);
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.messages_rejected, 3);
    world_end(&w);
}

TEST(transaction, bounds_the_message)
{
    struct world w;
    char text[8192];

    start(&w);
    memset(text, 'x', sizeof text);
    text[sizeof text - 2] = '\r';
    text[sizeof text - 1] = '\n';
    world_play(&w, DATA "C: A: b\nC:\n");
    for (int i = 0; i < 13; i++)
        dialogue_send(&w.dialogue, (struct slice){text, sizeof text});
    assert_int_equal(w.queue.drafts, 0); /* gone as soon as it is too large */
    world_play(&w, "S: <silence>\nC: .\nS: 552 5.3.4 *\nC: NOOP\nS: 250 *\n");
    world_play(&w, DATA "C: A: b\nC:\n");
    for (int i = 0; i < TRANSACTION_EXCESS_BYTES / (int)sizeof text + 14; i++)
        dialogue_send(&w.dialogue, (struct slice){text, sizeof text});
    world_play(&w, "S: 552 5.3.4 *\nS: <closed>\n");
    world_end(&w);
}

TEST(transaction, bounds_the_header_section)
{
    struct world w;
    char line[1024];

    world_prepare(&w);
    w.settings.message_size_bytes = 10 << 20;
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "10.1.1.1");
    world_play(&w, START);
    memset(line, 'x', sizeof line);
    memcpy(line, "X-A:", 4);
    line[sizeof line - 2] = '\r';
    line[sizeof line - 1] = '\n';
    world_play(&w, DATA);
    for (int i = 0; i < LIMIT_HEADER_SECTION / (int)sizeof line - 1; i++)
        dialogue_send(&w.dialogue, (struct slice){line, sizeof line});
    world_play(&w, "C:\nC: body\nC: .\nS: 250 *\n");
    world_play(&w, DATA);
    for (int i = 0; i < LIMIT_HEADER_SECTION / (int)sizeof line; i++)
        dialogue_send(&w.dialogue, (struct slice){line, sizeof line});
    world_play(&w, "C:\nC: body\nC: .\nS: 552 5.3.4 *\n");
    world_end(&w);
}

TEST(transaction, bounds_and_joins_recipients)
{
    struct world w;

    world_prepare(&w);
    w.settings.recipients_per_message = 3;
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "10.1.1.1");
    world_play(&w, START "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: RCPT TO:<a@x.test>\nS: 250 *\n"
                         "C: RCPT TO:<A@x.test>\nS: 250 *\nC: RCPT TO:<a@X.Test>\nS: 250 *\n"
                         "C: RCPT TO:<postmaster>\nS: 250 *\nC: RCPT TO:<bob@home.test>\nS: 250 *\n"
                         "C: RCPT TO:<b@x.test>\nS: 452 4.5.3 *\n"
                         "C: DATA\nS: 354 *\nC: .\nS: 250 *\n");
    assert_string_equal(last(&w)->recipients, "a@x.test A@x.test bob@home.test ");
    assert_string_equal(last(&w)->orcpts, "- - rfc822;postmaster ");
    world_end(&w);
}

TEST(transaction, bounds_the_memory_of_recipients)
{
    struct world w;
    char script[512];
    bool is_full = false;

    world_prepare(&w);
    w.settings.recipients_per_message = LIMIT_RECIPIENTS;
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "10.1.1.1");
    world_play(&w, START "C: MAIL FROM:<a@b.test>\nS: 250 *\n");
    for (int i = 0; i < 20000 && !is_full; i++) {
        (void)snprintf(script, sizeof script,
                       "C: RCPT TO:<%060d@x.test> ORCPT=rfc822;%0400d@x.test\nS: *\n", i, i);
        world_play(&w, script);
        is_full = strncmp(w.dialogue.last, "452 4.3.1", 9) == 0;
    }
    assert_true(is_full);
    world_play(&w, "C: DATA\nS: 354 *\nC: .\nS: 250 *\n");
    world_end(&w);
}

TEST(transaction, says_what_the_queue_said)
{
    struct world w;

    start(&w);
    w.queue.commit_result = RESULT_NO_SPACE;
    world_play(&w, DATA "C: A: b\nC:\nC: x\nC: .\nS: 452 4.3.1 *\n");
    w.queue.commit_result = RESULT_IO;
    world_play(&w, DATA "C: A: b\nC:\nC: x\nC: .\nS: 451 4.3.0 *\n");
    w.queue.commit_result = RESULT_OK;
    w.queue.write_result = RESULT_NO_SPACE;
    world_play(&w, DATA "C: A: b\nC:\nC: x\nC: y\nC: .\nS: 452 4.3.1 *\n");
    w.queue.write_result = RESULT_IO;
    world_play(&w, DATA "C: A: b\nC:\nC: x\nC: y\nC: .\nS: 451 4.3.0 *\n");
    w.queue.write_result = RESULT_OK;
    world_play(&w, DATA "C: A: b\nC:\nC: x\nC: y\nC: .\nS: 250 *\n");
    world_end(&w);
}

TEST(transaction, waits_for_room)
{
    struct world w;

    start(&w);
    w.queue.write_result = RESULT_AGAIN;
    world_play(&w, DATA "C: A: b\nC:\nC: x\n");
    world_play(&w, "C: y\nC: .\nS: <silence>\n");
    assert_true(w.stream->is_paused);
    w.queue.write_result = RESULT_OK;
    w.queue.on_room(w.queue.on_room_owner);
    world_play(&w, "S: 250 *\n");
    assert_false(w.stream->is_paused);
    assert_string_equal(behind_trace(last(&w)), "A: b\r\n\r\nx\r\ny\r\n");
    /* A loop is found in the very call in which the draft was full. */
    w.queue.write_result = RESULT_AGAIN;
    world_play(&w, DATA "C: Received: 1\nC: Received: 1\nC: Received: 1\nC: Received: 1\n"
                        "C: Received: 1\nC:\nC: x\nC: .\nS: 554 5.4.6 *\n");
    world_end(&w);
}

TEST(transaction, leaves_no_trace_of_a_client_that_vanishes)
{
    struct world w;

    start(&w);
    world_play(&w, DATA "C: A: b\nC:\nC: x\n");
    assert_int_equal(w.queue.drafts, 1);
    world_vanish(&w);
    assert_int_equal(w.queue.drafts, 0);
    assert_int_equal(w.queue.stored_count, 0);
    world_end(&w);
}

TEST(transaction, stays_accepted_when_the_client_vanishes_behind_the_dot)
{
    struct world w;
    struct receive_statistics statistics;

    start(&w);
    w.queue.holds_commits = true;
    world_play(&w, DATA "C: A: b\nC:\nC: x\nC: .\n");
    world_vanish(&w);
    loop_run_for(w.loop, 2);
    world_on_commit_end(w.queue.held);
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.messages_accepted, 1);
    assert_int_equal(statistics.connections_open, 0);
    world_end(&w);
}

TEST(transaction, is_forgotten_by_rset_and_ehlo)
{
    struct world w;

    start(&w);
    world_play(&w, MESSAGE "C: RSET\nS: 250 *\nC: RCPT TO:<bob@home.test>\nS: 503 5.5.1 *\n" MESSAGE
                           "C: EHLO a.test\nS: 250 *\nC: DATA\nS: 503 5.5.1 *\n"
                           "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: MAIL FROM:<a@b.test>\n"
                           "S: 503 5.5.1 *\nC: DATA\nS: 554 5.5.1 *\n");
    world_end(&w);
}

/* ---- BDAT ---- */

TEST(transaction, takes_chunks)
{
    struct world w;

    start(&w);
    world_play(&w, MESSAGE "C: BDAT 8\nC> A: b\\r\\n\\r\\n\nC: BDAT 3\nC> .\\r\\n\n"
                           "C: NOOP\nC: BDAT 5 LAST\nC> x\\r\\n.y\n"
                           "S: 250 2.0.0 8 octets*\nS: 250 2.0.0 3 octets*\nS: 250 *\n"
                           "S: 250 2.0.0 *queued*\n");
    assert_string_equal(behind_trace(last(&w)), "A: b\r\n\r\n.\r\nx\r\n.y\r\n");
    assert_true(last(&w)->envelope.has_dot_line);
    world_play(&w, MESSAGE "C: BDAT 4\nC> A: b\nC: BDAT 0 LAST\nS: 250 *\nS: 250 *queued*\n");
    assert_string_equal(behind_trace(last(&w)), "A: b\r\n\r\n");
    world_play(&w, MESSAGE "C: BDAT 0 LAST\nS: 250 *queued*\n");
    assert_string_equal(behind_trace(last(&w)), "\r\n");
    world_end(&w);
}

TEST(transaction, reads_refused_chunks_to_their_end)
{
    struct world w;

    start(&w);
    world_play(&w, "C: BDAT 10 LAST\nC> NOOP\\r\\nQUIT\nC: NOOP\nS: 503 5.5.1 *\nS: 250 *\n"
                   "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: BDAT 6\nC> QUIT\\r\\n\n"
                   "S: 554 5.5.1 *\nC: NOOP\nS: 250 *\n");
    world_play(&w, "C: RSET\nS: 250 *\n" MESSAGE
                   "# a failed chunk ends the message; those behind it are read and refused\n"
                   "C: BDAT 3\nC> a\\nb\nC: BDAT 6 LAST\nC> QUIT\\r\\n\nC: NOOP\n"
                   "S: 550 5.5.2 *\nS: 503 5.5.1 *\nS: 250 *\n");
    assert_int_equal(w.queue.stored_count, 0);
    world_end(&w);
}

TEST(transaction, does_not_mix_chunks_with_other_things)
{
    struct world w;

    start(&w);
    world_play(&w, MESSAGE "C: BDAT 2\nC> A:\nS: 250 *\nC: DATA\nS: 503 5.5.1 *\n"
                           "C: RCPT TO:<c@d.test>\nS: 503 5.5.1 *\nC: MAIL FROM:<>\nS: 503 5.5.1 *\n"
                           "C: RSET\nS: 250 *\n" MESSAGE "C: BDAT 1 LAST\nC> x\nS: 250 *queued*\n");
    assert_string_equal(behind_trace(last(&w)), "\r\nx\r\n");
    world_end(&w);
}

TEST(transaction, ends_at_absurd_chunks)
{
    struct world w;

    start(&w);
    world_play(&w, MESSAGE "C: BDAT 99999999999\nS: 552 5.3.4 *\nS: <closed>\n");
    world_connect(&w, "10.1.1.1");
    world_play(&w, START MESSAGE "C: BDAT x LAST\nS: 501 5.5.4 *\nS: <closed>\n");
    world_connect(&w, "10.1.1.1");
    world_play(&w, START MESSAGE "C: BDAT\nS: 501 5.5.4 *\nS: <closed>\n");
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(transaction, stores_what_was_sent),
        RUN(transaction, takes_one_after_another_in_one_packet),
        RUN(transaction, gives_the_same_for_any_split),
        RUN(transaction, completes_a_submission),
        RUN(transaction, leaves_relayed_mail_as_it_is),
        RUN(transaction, takes_odd_header_sections),
        RUN(transaction, stops_a_loop),
        RUN(transaction, refuses_bare_line_ends_and_nul_once_at_the_end),
        RUN(transaction, bounds_the_message),
        RUN(transaction, bounds_the_header_section),
        RUN(transaction, bounds_and_joins_recipients),
        RUN(transaction, bounds_the_memory_of_recipients),
        RUN(transaction, says_what_the_queue_said),
        RUN(transaction, waits_for_room),
        RUN(transaction, leaves_no_trace_of_a_client_that_vanishes),
        RUN(transaction, stays_accepted_when_the_client_vanishes_behind_the_dot),
        RUN(transaction, is_forgotten_by_rset_and_ehlo),
        RUN(transaction, takes_chunks),
        RUN(transaction, reads_refused_chunks_to_their_end),
        RUN(transaction, does_not_mix_chunks_with_other_things),
        RUN(transaction, ends_at_absurd_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
