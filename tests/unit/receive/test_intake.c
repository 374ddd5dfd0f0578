/* The data of a message, by DATA and by BDAT: what is stored, and what gets which verdict.
 */
#include "intake.h"

#include "world.h"

TEST(intake, gives_the_same_for_any_split)
{
    static const char text[] =
        "Subject: x\r\n y\r\nTo: z\r\n\r\nbody\r\n..dot\r\n\r\n.\r\n";
    struct world w;

    for (size_t step = 1; step < sizeof text; step++) {
        start_relay(&w);
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

TEST(intake, completes_a_submission)
{
    struct world w;

    start_submission(&w);
    world_play(&w, MESSAGE
               "C: DATA\nS: 354 *\nC: Return-Path: <x@y.test>\nC: From: a@b.test\n"
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
    world_play(
        &w, MESSAGE
        "C: DATA\nS: 354 *\nC: date: now\nC: message-id: <1@2>\nC:\nC: .\nS: 250 *\n");
    assert_null(strstr(last(&w)->message, "Date: "));
    assert_null(strstr(last(&w)->message, "Message-ID: "));
    world_end(&w);
}

TEST(intake, leaves_relayed_mail_as_it_is)
{
    struct world w;

    start_relay(&w);
    world_play(&w,
               DATA "C: Return-Path: <x@y.test>\nC: From: a@b.test\nC: Bcc: c@d.test\nC:\n"
                    "C: hi\nC: .\nS: 250 *\n");
    assert_string_equal(behind_trace(last(&w)),
                        "From: a@b.test\r\nBcc: c@d.test\r\n\r\nhi\r\n");
    world_end(&w);
}

TEST(intake, takes_odd_header_sections)
{
    struct world w;

    start_relay(&w);
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

TEST(intake, stops_a_loop)
{
    struct world w;

    start_relay(&w);
    world_play(&w, DATA
               "C: Received: 1\nC: Received: 2\nC: Received: 3\nC: Received: 4\nC:\nC: .\n"
               "S: 250 *\n");
    world_play(&w, DATA
               "C: Received: 1\nC: Received: 2\nC: Received: 3\nC: received: 4\n"
               "C: RECEIVED: 5\nC:\nC: body\nC: .\nS: 554 5.4.6 *\nC: NOOP\nS: 250 *\n");
    assert_int_equal(w.queue.stored_count, 1);
    world_end(&w);
}

TEST(intake, refuses_bare_line_ends_and_nul_once_at_the_end)
{
    struct world w;
    struct receive_statistics statistics;

    start_relay(&w);
    world_play(&w,
               DATA "C> A: b\\r\\n\\r\\nx\\n.\\r\\nMAIL FROM:<evil@b.test>\\r\\n.\\r\\n\n"
                    "S: 550 5.5.2 *\n"
                    "C: NOOP\nS: 250 *\n");
    world_play(&w, DATA "C> A: b\\rc\\r\\n\\r\\n.\\r\\n\nS: 550 5.5.2 *\n");
    world_play(&w, DATA "C> A: b\\r\\n\\r\\n\\0\\r\\n.\\r\\n\nS: 550 5.6.0 *\n");
    assert_int_equal(w.queue.stored_count, 0);
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.messages_rejected, 3);
    world_end(&w);
}

TEST(intake, bounds_the_message)
{
    struct world w;
    char text[8192];

    start_relay(&w);
    memset(text, 'x', sizeof text);
    text[sizeof text - 2] = '\r';
    text[sizeof text - 1] = '\n';
    world_play(&w, DATA "C: A: b\nC:\n");
    for (int i = 0; i < 13; i++)
        dialogue_send(&w.dialogue, (struct slice){text, sizeof text});
    assert_int_equal(w.queue.drafts, 0); /* gone as soon as it is too large */
    world_play(&w, "S: <silence>\nC: .\nS: 552 5.3.4 *\nC: NOOP\nS: 250 *\n");
    world_play(&w, DATA "C: A: b\nC:\n");
    for (int i = 0; i < INTAKE_EXCESS_BYTES / (int)sizeof text + 14; i++)
        dialogue_send(&w.dialogue, (struct slice){text, sizeof text});
    world_play(&w, "S: 552 5.3.4 *\nS: <closed>\n");
    world_end(&w);
}

TEST(intake, bounds_the_header_section)
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

TEST(intake, waits_for_room)
{
    struct world w;

    start_relay(&w);
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

TEST(intake, takes_chunks)
{
    struct world w;

    start_relay(&w);
    world_play(&w, MESSAGE "C: BDAT 8\nC> A: b\\r\\n\\r\\n\nC: BDAT 3\nC> .\\r\\n\n"
                           "C: NOOP\nC: BDAT 5 LAST\nC> x\\r\\n.y\n"
                           "S: 250 2.0.0 8 octets*\nS: 250 2.0.0 3 octets*\nS: 250 *\n"
                           "S: 250 2.0.0 *queued*\n");
    assert_string_equal(behind_trace(last(&w)), "A: b\r\n\r\n.\r\nx\r\n.y\r\n");
    assert_true(last(&w)->envelope.has_dot_line);
    world_play(&w,
               MESSAGE "C: BDAT 4\nC> A: b\nC: BDAT 0 LAST\nS: 250 *\nS: 250 *queued*\n");
    assert_string_equal(behind_trace(last(&w)), "A: b\r\n\r\n");
    world_play(&w, MESSAGE "C: BDAT 0 LAST\nS: 250 *queued*\n");
    assert_string_equal(behind_trace(last(&w)), "\r\n");
    world_end(&w);
}

TEST(intake, reads_refused_chunks_to_their_end)
{
    struct world w;

    start_relay(&w);
    world_play(&w, "C: BDAT 10 LAST\nC> NOOP\\r\\nQUIT\nC: NOOP\nS: 503 5.5.1 *\nS: 250 *\n"
                   "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: BDAT 6\nC> QUIT\\r\\n\n"
                   "S: 554 5.5.1 *\nC: NOOP\nS: 250 *\n");
    world_play(&w,
               "C: RSET\nS: 250 *\n" MESSAGE
               "# a failed chunk ends the message; those behind it are read and refused\n"
               "C: BDAT 3\nC> a\\nb\nC: BDAT 6 LAST\nC> QUIT\\r\\n\nC: NOOP\n"
               "S: 550 5.5.2 *\nS: 503 5.5.1 *\nS: 250 *\n");
    assert_int_equal(w.queue.stored_count, 0);
    world_end(&w);
}

TEST(intake, refuses_a_last_chunk_that_ends_in_a_bare_cr)
{
    struct world w;

    start_relay(&w);
    world_play(&w, MESSAGE "C: BDAT 7 LAST\nC> A: b\\r\\n\\r\nS: 550 5.5.2 *\n");
    world_play(&w, MESSAGE "# at the end of another chunk it may still get its LF\n"
                           "C: BDAT 5\nC> A: b\\r\nS: 250 *\n"
                           "C: BDAT 5 LAST\nC> \\n\\r\\nx\\r\nS: 550 5.5.2 *\n");
    world_play(&w, MESSAGE "C: BDAT 5\nC> A: b\\r\nS: 250 *\n"
                           "C: BDAT 3 LAST\nC> \\n\\r\\n\nS: 250 *queued*\n");
    assert_int_equal(w.queue.stored_count, 1);
    world_end(&w);
}

TEST(intake, does_not_mix_chunks_with_other_things)
{
    struct world w;

    start_relay(&w);
    world_play(&w, MESSAGE
               "C: BDAT 2\nC> A:\nS: 250 *\nC: DATA\nS: 503 5.5.1 *\n"
               "C: RCPT TO:<c@d.test>\nS: 503 5.5.1 *\nC: MAIL FROM:<>\nS: 503 5.5.1 *\n"
               "C: RSET\nS: 250 *\n" MESSAGE "C: BDAT 1 LAST\nC> x\nS: 250 *queued*\n");
    assert_string_equal(behind_trace(last(&w)), "\r\nx\r\n");
    world_end(&w);
}

TEST(intake, ends_at_absurd_chunks)
{
    struct world w;

    start_relay(&w);
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
        RUN(intake, gives_the_same_for_any_split),
        RUN(intake, completes_a_submission),
        RUN(intake, leaves_relayed_mail_as_it_is),
        RUN(intake, takes_odd_header_sections),
        RUN(intake, stops_a_loop),
        RUN(intake, refuses_bare_line_ends_and_nul_once_at_the_end),
        RUN(intake, bounds_the_message),
        RUN(intake, bounds_the_header_section),
        RUN(intake, waits_for_room),
        RUN(intake, takes_chunks),
        RUN(intake, reads_refused_chunks_to_their_end),
        RUN(intake, refuses_a_last_chunk_that_ends_in_a_bare_cr),
        RUN(intake, does_not_mix_chunks_with_other_things),
        RUN(intake, ends_at_absurd_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
