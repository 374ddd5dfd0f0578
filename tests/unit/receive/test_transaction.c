/* A message from MAIL to its reply: envelope, recipients, verdict. */
#include "transaction.h"

#include "key_folder.h"
#include "world.h"

TEST(transaction, stores_what_was_sent)
{
    struct world w;
    struct receive_statistics statistics;
    char id[ID_TEXT];
    char reply[64];

    start_relay(&w);
    world_play(
        &w,
        "C: MAIL FROM:<a@b.test> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x+2By\nS: 250 *\n"
        "C: RCPT TO:<bob@home.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@d.test\n"
        "S: 250 *\nC: DATA\nS: 354 *\nC: From: a@b.test\nC: Subject: x\nC:\n"
        "C: one\nC: ..two\nC: gr\\xc3\\xbc\nC: .\nS: 250 2.0.0 *queued as *\n");
    id_print(1, id);
    (void)snprintf(reply, sizeof reply, "250 2.0.0 *queued as %s", id);
    assert_true(dialogue_matches(reply, w.dialogue.last));
    assert_string_equal(
        behind_trace(last(&w)),
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

    start_relay(&w);
    world_play(
        &w,
        "C: MAIL FROM:<>\nC: RCPT TO:<bob@home.test>\nC: DATA\nC: A: b\nC:\nC: 1\nC: .\n"
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

TEST(transaction, bounds_and_joins_recipients)
{
    struct world w;

    world_prepare(&w);
    w.settings.recipients_per_message = 3;
    w.listener.mode = MODE_RELAY;
    world_start(&w);
    world_connect(&w, "10.1.1.1");
    world_play(&w, START
               "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: RCPT TO:<a@x.test>\nS: 250 *\n"
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
                       "C: RCPT TO:<%060d@x.test> ORCPT=rfc822;%0400d@x.test\nS: *\n", i,
                       i);
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

    start_relay(&w);
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

TEST(transaction, leaves_no_trace_of_a_client_that_vanishes)
{
    struct world w;

    start_relay(&w);
    world_play(&w, DATA "C: A: b\nC:\nC: x\n");
    assert_int_equal(w.queue.drafts, 1);
    world_vanish(&w);
    assert_int_equal(w.queue.drafts, 0);
    assert_int_equal(w.queue.stored_count, 0);
    world_end(&w);
}

/* Else it would be accepted without a 250, and come again. */
TEST(transaction, is_answered_when_the_client_closed_its_side_behind_the_dot)
{
    struct world w;
    struct receive_statistics statistics;

    start_relay(&w);
    w.queue.holds_commits = true;
    world_play(&w, DATA "C: A: b\nC:\nC: x\nC: .\n");
    world_vanish(&w);
    world_on_commit_end(w.queue.held);
    world_play(&w, "S: 250 2.0.0 *\nS: <closed>\n");
    receive_statistics(w.receive, &statistics);
    assert_int_equal(statistics.messages_accepted, 1);
    assert_int_equal(statistics.connections_open, 0);
    world_end(&w);
}

TEST(transaction, stays_accepted_when_the_client_vanishes_behind_the_dot)
{
    struct world w;
    struct receive_statistics statistics;

    start_relay(&w);
    w.queue.holds_commits = true;
    world_play(&w, DATA "C: A: b\nC:\nC: x\nC: .\n");
    world_break(&w);
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

    start_relay(&w);
    world_play(&w, MESSAGE
               "C: RSET\nS: 250 *\nC: RCPT TO:<bob@home.test>\nS: 503 5.5.1 *\n" MESSAGE
               "C: EHLO a.test\nS: 250 *\nC: DATA\nS: 503 5.5.1 *\n"
               "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: MAIL FROM:<a@b.test>\n"
               "S: 503 5.5.1 *\nC: DATA\nS: 554 5.5.1 *\n");
    world_end(&w);
}

/* ---- signatures ---- */

static struct key_folder folder;

/* From here on mail of b.test is signed by `pem`. */
static void use_key(struct world *w, const char *pem)
{
    struct sign_settings settings = {.key_directory = folder.path};
    struct sign_keys *keys = NULL;

    key_folder_open(&folder);
    key_folder_put(&folder, "b.test", "s.key", pem);
    assert_int_equal(sign_keys_load(&settings, &keys, NULL), RESULT_OK);
    signer_use(w->signer, keys);
    key_folder_close(&folder);
}

#define FROM_B MESSAGE "C: DATA\nS: 354 *\nC: From: a@b.test\nC:\nC: text\nC: .\n"

static bool is_signed(const struct world *w)
{
    return strncmp(last(w)->message, "DKIM-Signature: v=1;", 20) == 0;
}

TEST(transaction, signs_for_who_may_relay_and_for_nobody_else)
{
    struct world w;

    start_relay(&w); /* from a trusted network */
    use_key(&w, ed25519_pem);
    world_play(&w, FROM_B "S: 250 *queued*\n");
    assert_true(is_signed(&w));
    assert_non_null(strstr(last(&w)->message, "\r\nReceived: from a.test "));
    assert_int_equal(last(&w)->header_bytes,
                     strstr(last(&w)->message, "\r\n\r\n") + 4 - last(&w)->message);
    world_play(&w, DATA "C: From: a@c.test\nC:\nC: .\nS: 250 *queued*\n");
    assert_false(is_signed(&w)); /* no key of this author */
    world_connect(&w, "192.0.2.1");
    world_play(&w, START FROM_B "S: 250 *queued*\n");
    assert_false(is_signed(&w)); /* a stranger */
    world_end(&w);

    start_submission(&w);
    use_key(&w, ed25519_pem);
    world_play(&w, FROM_B "S: 250 *queued*\n");
    assert_true(is_signed(&w));
    world_end(&w);
}

TEST(transaction, is_refused_for_now_when_its_key_cannot_sign)
{
    struct world w;

    start_relay(&w);
    use_key(&w, broken_pem);
    world_play(&w, FROM_B "S: 451 4.7.5 *\n");
    assert_int_equal(w.queue.stored_count, 0);
    assert_int_equal(w.queue.drafts, 0);
    world_play(&w, DATA "C: From: a@c.test\nC:\nC: .\nS: 250 *queued*\n");
    assert_int_equal(w.queue.stored_count, 1);
    world_end(&w);
}

TEST(transaction, is_forgotten_when_the_client_vanishes_before_it_is_signed)
{
    struct world w;

    start_relay(&w);
    use_key(&w, rsa_pem);
    world_play(&w, DATA);
    world_send(&w, SLICE("From: a@b.test\r\n\r\ntext\r\n.\r\n"));
    assert_int_equal(w.queue.drafts, 1);
    world_break(&w);
    loop_run_for(w.loop, 50);
    assert_int_equal(w.queue.stored_count, 0);
    assert_int_equal(w.queue.drafts, 0);
    world_connect(&w, "10.1.1.1"); /* and at the end of the server */
    world_play(&w, START DATA);
    world_send(&w, SLICE("From: a@b.test\r\n\r\ntext\r\n.\r\n"));
    world_end(&w);
}

TEST(transaction, takes_the_next_command_only_when_it_is_signed)
{
    struct world w;

    start_relay(&w);
    use_key(&w, rsa_pem);
    world_play(&w, DATA "C: From: a@b.test\nC:\nC: 1\nC: .\nC: NOOP\nC: QUIT\n"
                        "S: 250 *queued*\nS: 250 *\nS: 221 *\nS: <closed>\n");
    assert_true(is_signed(&w));
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(transaction, stores_what_was_sent),
        RUN(transaction, takes_one_after_another_in_one_packet),
        RUN(transaction, bounds_and_joins_recipients),
        RUN(transaction, bounds_the_memory_of_recipients),
        RUN(transaction, says_what_the_queue_said),
        RUN(transaction, leaves_no_trace_of_a_client_that_vanishes),
        RUN(transaction, is_answered_when_the_client_closed_its_side_behind_the_dot),
        RUN(transaction, stays_accepted_when_the_client_vanishes_behind_the_dot),
        RUN(transaction, is_forgotten_by_rset_and_ehlo),
        RUN(transaction, signs_for_who_may_relay_and_for_nobody_else),
        RUN(transaction, is_refused_for_now_when_its_key_cannot_sign),
        RUN(transaction, is_forgotten_when_the_client_vanishes_before_it_is_signed),
        RUN(transaction, takes_the_next_command_only_when_it_is_signed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
