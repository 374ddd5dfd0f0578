/* Reports: the three parts of RFC 6522, the fields of RFC 3464 in each group, RFC 6533 for
 * mail in UTF-8; and that no text from outside can break out of its field or its line. */
#include "smtpd/mail/dsn.h"

#include "smtpd/base/limits.h"
#include "smtpd/mail/header.h"
#include "test.h"

#include <string.h>

enum { ROOM = 1 << 18, LINE_MAX_BYTES = 998, PARTS = 3 };

static const struct envelope plain = {
    .sender = "a@b.example", .envid = "QQ+20x+2B1", .arrival_ms = INT64_C(1700000000000)};

static const struct dsn_recipient one = {.address = "c@d.example",
                                         .orcpt = "rfc822;x+2By@z.example",
                                         .status = "5.1.1",
                                         .diagnostic = "550 5.1.1 No such user",
                                         .remote_mta = "mx.d.example",
                                         .last_attempt_ms = INT64_C(1700000060000)};

static struct dsn usual(void)
{
    return (struct dsn){.action = DSN_FAILED,
                        .recipients = &one,
                        .recipient_count = 1,
                        .envelope = &plain,
                        .original_header =
                            SLICE("Subject: hello\r\nFrom: a@b.example\r\n\r\n"),
                        .reporting_mta = "relay.example",
                        .to = "a@b.example",
                        .report_id = "bbbbbbbbbbbbc",
                        .boundary = "aaaaaaaaaaaab",
                        .now_ms = INT64_C(1700000120000)};
}

struct report {
    struct bytes message;
    struct slice header;
    struct slice parts[PARTS]; /* with their own headers */
};

/* The text up to the boundary; *rest behind its line. */
static struct slice take_part(struct slice *rest, const char *boundary)
{
    const char *end = memmem(rest->data, rest->length, boundary, strlen(boundary));
    struct slice part = *rest;

    if (!end)
        fail_msg("no boundary in %.*s", (int)rest->length, rest->data);
    part.length = (size_t)(end - rest->data);
    *rest = slice_from(*rest, part.length + strlen(boundary));
    return part;
}

static void check_lines(struct slice message)
{
    size_t column = 0;

    for (size_t i = 0; i < message.length; i++) {
        bool is_lf = message.data[i] == '\n';

        assert_true(is_lf == (i > 0 && message.data[i - 1] == '\r'));
        assert_true(message.data[i] != '\0');
        column = is_lf ? 0 : column + 1;
        assert_true(column <= LINE_MAX_BYTES + 1); /* and the CR */
    }
    assert_int_equal(column, 0);
}

/* Written, cut at its boundaries, and every line of it looked at. */
static void write_report(const struct dsn *dsn, struct report *report)
{
    struct slice rest;

    bytes_init(&report->message, ROOM);
    assert_int_equal(dsn_write(dsn, &report->message), RESULT_OK);
    rest = bytes_view(&report->message);
    check_lines(rest);
    report->header = slice_part(rest, 0, header_section_length(rest));
    (void)take_part(&rest, "\r\n--report-aaaaaaaaaaaab\r\n");
    report->parts[0] = take_part(&rest, "\r\n--report-aaaaaaaaaaaab\r\n");
    report->parts[1] = take_part(&rest, "\r\n--report-aaaaaaaaaaaab\r\n");
    report->parts[2] = take_part(&rest, "\r\n--report-aaaaaaaaaaaab--\r\n");
    assert_int_equal(rest.length, 0);
}

/* The group of fields `index` of the status part (0: of the message), without folds. */
static void read_group(const struct report *report, unsigned index, struct bytes *into)
{
    struct slice rest =
        slice_from(report->parts[1], header_section_length(report->parts[1]));

    for (; index > 0; index--)
        rest = slice_from(rest, header_section_length(rest));
    rest = slice_part(rest, 0, header_section_length(rest));
    bytes_init(into, ROOM);
    for (size_t i = 0; i < rest.length; i++) {
        if (i + 2 < rest.length && memcmp(rest.data + i, "\r\n ", 3) == 0)
            i += 2;
        assert_int_equal(bytes_add(into, slice_part(rest, i, 1)), RESULT_OK);
    }
}

static void check_group(const struct dsn *dsn, unsigned index, const char *expected)
{
    struct report report;
    struct bytes group;

    write_report(dsn, &report);
    read_group(&report, index, &group);
    while (group.length > 2 && memcmp(group.data + group.length - 4, "\r\n\r\n", 4) == 0)
        group.length -= 2; /* the empty line between two groups */
    if (!slice_equal_text(bytes_view(&group), expected))
        fail_msg("%.*s", (int)group.length, group.data);
    bytes_fini(&group);
    bytes_fini(&report.message);
}

static bool has(struct slice text, const char *words)
{
    return memmem(text.data, text.length, words, strlen(words)) != NULL;
}

TEST(report, is_a_message_that_no_program_answers)
{
    struct dsn dsn = usual();
    struct report report;

    write_report(&dsn, &report);
    assert_true(slice_equal_text(
        report.header, "From: Mail Delivery System <MAILER-DAEMON@relay.example>\r\n"
                       "To: <a@b.example>\r\n"
                       "Subject: Undelivered mail returned to sender\r\n"
                       "Date: Tue, 14 Nov 2023 22:15:20 +0000\r\n"
                       "Message-ID: <bbbbbbbbbbbbc@relay.example>\r\n"
                       "Auto-Submitted: auto-replied\r\n"
                       "MIME-Version: 1.0\r\n"
                       "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                       "\tboundary=\"report-aaaaaaaaaaaab\"\r\n\r\n"));
    bytes_fini(&report.message);
}

TEST(report, is_the_same_bytes_for_the_same_input)
{
    struct dsn dsn = usual();
    struct report first;
    struct report second;

    write_report(&dsn, &first);
    write_report(&dsn, &second);
    assert_true(slice_equal(bytes_view(&first.message), bytes_view(&second.message)));
    bytes_fini(&first.message);
    bytes_fini(&second.message);
}

TEST(report, tells_people_what_the_server_said)
{
    struct dsn_recipient three[] = {one,
                                    {.address = "e@f.example", .status = "5.4.4"},
                                    {.address = "g@h.example", .status = "5.7.1"}};
    struct dsn dsn = usual();
    struct report report;

    three[1].explanation = "The domain has no mail server";
    dsn.recipients = three;
    dsn.recipient_count = 3;
    write_report(&dsn, &report);
    assert_true(has(report.parts[0], "Content-Type: text/plain; charset=utf-8\r\n"));
    assert_true(has(report.parts[0], "<c@d.example>\r\n"
                                     "    mx.d.example said: 550 5.1.1 No such user\r\n"));
    assert_true(
        has(report.parts[0], "<e@f.example>\r\n    The domain has no mail server\r\n"));
    assert_true(has(report.parts[0], "<g@h.example>\r\n    failed\r\n"));
    assert_true(has(report.parts[0], "mail server at relay.example."));
    bytes_fini(&report.message);
}

TEST(status, names_the_message_and_each_recipient)
{
    struct dsn dsn = usual();

    check_group(&dsn, 0,
                "Original-Envelope-Id: QQ x+1\r\n"
                "Reporting-MTA: dns; relay.example\r\n"
                "Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n");
    check_group(&dsn, 1,
                "Original-Recipient: rfc822; x+y@z.example\r\n"
                "Final-Recipient: rfc822; c@d.example\r\n"
                "Action: failed\r\n"
                "Status: 5.1.1\r\n"
                "Remote-MTA: dns; mx.d.example\r\n"
                "Diagnostic-Code: smtp; 550 5.1.1 No such user\r\n"
                "Last-Attempt-Date: Tue, 14 Nov 2023 22:14:20 +0000\r\n");
}

TEST(status, leaves_out_what_is_not_known)
{
    static const struct envelope bare = {.sender = "a@b.example"};
    struct dsn_recipient recipient = {.address = "c@d.example", .status = "5.4.4"};
    struct dsn dsn = usual();

    dsn.envelope = &bare;
    dsn.recipients = &recipient;
    check_group(&dsn, 0,
                "Reporting-MTA: dns; relay.example\r\n"
                "Arrival-Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n");
    check_group(&dsn, 1,
                "Final-Recipient: rfc822; c@d.example\r\n"
                "Action: failed\r\nStatus: 5.4.4\r\n");
    recipient.orcpt = "no semicolon";
    recipient.diagnostic = "";
    recipient.remote_mta = "";
    check_group(&dsn, 1,
                "Final-Recipient: rfc822; c@d.example\r\n"
                "Action: failed\r\nStatus: 5.4.4\r\n");
}

TEST(status, of_a_delay_says_until_when)
{
    struct dsn dsn = usual();
    struct report report;

    dsn.action = DSN_DELAYED;
    dsn.expires_ms = INT64_C(1700432000000);
    check_group(&dsn, 1,
                "Original-Recipient: rfc822; x+y@z.example\r\n"
                "Final-Recipient: rfc822; c@d.example\r\n"
                "Action: delayed\r\n"
                "Status: 5.1.1\r\n"
                "Remote-MTA: dns; mx.d.example\r\n"
                "Diagnostic-Code: smtp; 550 5.1.1 No such user\r\n"
                "Last-Attempt-Date: Tue, 14 Nov 2023 22:14:20 +0000\r\n"
                "Will-Retry-Until: Sun, 19 Nov 2023 22:13:20 +0000\r\n");
    write_report(&dsn, &report);
    assert_true(has(report.parts[0],
                    "It will be tried until Sun, 19 Nov 2023 22:13:20 +0000.\r\n"));
    bytes_fini(&report.message);
    dsn.action = DSN_FAILED; /* then the time is of no interest */
    write_report(&dsn, &report);
    assert_false(has(bytes_view(&report.message), "19 Nov"));
    bytes_fini(&report.message);
}

TEST(action, has_the_name_of_rfc_3464_and_its_own_subject)
{
    static const char *const names[] = {"failed", "delayed", "delivered", "relayed",
                                        "expanded"};
    struct slice subjects[5];
    struct report reports[5];

    for (int action = DSN_FAILED; action <= DSN_EXPANDED; action++) {
        struct dsn dsn = usual();
        struct slice rest;
        struct slice name;

        dsn.action = (enum dsn_action)action;
        assert_string_equal(dsn_action_name(dsn.action), names[action]);
        write_report(&dsn, &reports[action]);
        rest = reports[action].header;
        for (int field = 0; field < 3; field++)
            assert_true(header_next_field(&rest, &name, &subjects[action]));
        assert_true(slice_equal_text(name, "Subject"));
        for (int other = 0; other < action; other++)
            assert_false(slice_equal(subjects[action], subjects[other]));
    }
    for (int action = 0; action < 5; action++)
        bytes_fini(&reports[action].message);
}

TEST(original, comes_back_as_its_header_or_whole)
{
    struct dsn dsn = usual();
    struct report report;

    write_report(&dsn, &report);
    assert_true(slice_equal_text(report.parts[2],
                                 "Content-Type: text/rfc822-headers\r\n\r\n"
                                 "Subject: hello\r\nFrom: a@b.example\r\n\r\n"));
    bytes_fini(&report.message);
    dsn.original_body = SLICE("body\r\n.\r\nmore\r\n");
    write_report(&dsn, &report);
    assert_true(slice_equal_text(report.parts[2],
                                 "Content-Type: message/rfc822\r\n\r\n"
                                 "Subject: hello\r\nFrom: a@b.example\r\n\r\n"
                                 "body\r\n.\r\nmore\r\n"));
    bytes_fini(&report.message);
}

TEST(original, of_8_bits_is_declared)
{
    struct envelope envelope = plain;
    struct dsn dsn = usual();
    struct report report;

    envelope.has_8bit = true;
    dsn.envelope = &envelope;
    dsn.original_body = SLICE("caf\303\251\r\n");
    write_report(&dsn, &report);
    assert_true(has(report.parts[2], "Content-Type: message/rfc822\r\n"
                                     "Content-Transfer-Encoding: 8bit\r\n\r\nSubject"));
    assert_true(has(report.header, "\r\nContent-Transfer-Encoding: 8bit\r\n"));
    bytes_fini(&report.message);
}

TEST(the_whole, says_8_bits_when_a_part_has_them_and_only_then)
{
    struct envelope envelope = plain;
    struct dsn_recipient said = one;
    struct dsn dsn = usual();
    struct report report;

    envelope.smtputf8 = true;
    dsn.to = "\303\240@b.example"; /* in the head: no matter of the parts */
    dsn.envelope = &envelope;
    write_report(&dsn, &report);
    assert_false(has(report.header, "Content-Transfer-Encoding"));
    bytes_fini(&report.message);
    said.diagnostic =
        "550 5.1.1 pas connu, d\303\251sol\303\251"; /* for people, in any case */
    dsn = usual();
    dsn.recipients = &said;
    write_report(&dsn, &report);
    assert_true(has(report.header, "\r\nContent-Transfer-Encoding: 8bit\r\n"));
    bytes_fini(&report.message);
}

TEST(smtputf8, uses_the_types_of_rfc_6533)
{
    struct envelope envelope = plain;
    struct dsn_recipient two[] = {one, one};
    struct dsn dsn = usual();
    struct report report;

    envelope.smtputf8 = true;
    two[0].address = "\303\251@b\303\274cher.example";
    dsn.to = "\303\240@b.example";
    dsn.envelope = &envelope;
    dsn.recipients = two;
    dsn.recipient_count = 2;
    write_report(&dsn, &report);
    assert_true(has(report.header, "report-type=global-delivery-status;"));
    assert_true(has(report.header, "To: <\303\240@b.example>\r\n"));
    assert_true(has(report.parts[1], "Content-Type: message/global-delivery-status\r\n"
                                     "Content-Transfer-Encoding: 8bit\r\n\r\n"));
    assert_true(
        has(report.parts[1], "Final-Recipient: utf-8; \303\251@b\303\274cher.example\r\n"));
    assert_true(has(report.parts[1], "Final-Recipient: rfc822; c@d.example\r\n"));
    assert_true(has(report.parts[2], "Content-Type: message/global-headers\r\n"));
    bytes_fini(&report.message);
    dsn.original_body = SLICE("x\r\n");
    write_report(&dsn, &report);
    assert_true(has(report.parts[2], "Content-Type: message/global\r\n"));
    bytes_fini(&report.message);
}

TEST(without_smtputf8, a_remote_server_cannot_put_8_bits_into_the_status)
{
    struct dsn_recipient recipient = one;
    struct dsn dsn = usual();
    struct report report;

    recipient.diagnostic = "550 Empf\303\244nger";
    dsn.recipients = &recipient;
    write_report(&dsn, &report);
    assert_true(has(report.parts[1], "Diagnostic-Code: smtp; 550 Empf??nger\r\n"));
    /* People read it as it was said: their part is UTF-8. */
    assert_true(has(report.parts[0], "550 Empf\303\244nger\r\n"));
    bytes_fini(&report.message);
}

/* ---- hostile texts ---- */

static const char hostile[] =
    "x\r\nStatus: 2.0.0\r\n\r\n--report-aaaaaaaaaaaab--\r\n\t\001y";

TEST(hostile, no_text_breaks_out_of_its_field)
{
    static const char cleaned[] = "x  Status: 2.0.0    --report-aaaaaaaaaaaab--    y";
    struct dsn_recipient recipient = one;
    struct dsn dsn = usual();
    struct report report;
    struct bytes group;

    recipient.address = recipient.diagnostic = hostile;
    recipient.remote_mta = hostile;
    recipient.orcpt = "rf\r\nc822;x+0D+0AStatus:+202.0.0";
    recipient.status = "5.1.1\r\nX: y";
    dsn.recipients = &recipient;
    dsn.to = hostile;
    write_report(&dsn, &report);
    read_group(&report, 1, &group);
    assert_true(
        has(bytes_view(&group), "Original-Recipient: rfc822; x  Status: 2.0.0\r\n"));
    assert_true(has(bytes_view(&group), "Final-Recipient: rfc822; x  Status: 2.0.0"));
    assert_true(has(bytes_view(&group), "\r\nStatus: 5.1.1  X: y\r\n"));
    assert_true(has(bytes_view(&group), cleaned));
    assert_false(has(bytes_view(&group), "\r\nStatus: 2"));
    assert_false(has(report.header, "\r\nStatus"));
    bytes_fini(&group);
    bytes_fini(&report.message);
}

TEST(hostile, an_envelope_id_stays_one_field)
{
    struct envelope envelope = plain;
    struct dsn dsn = usual();

    envelope.envid = "a+0D+0AAction:+20delivered";
    dsn.envelope = &envelope;
    check_group(&dsn, 0,
                "Original-Envelope-Id: a  Action: delivered\r\n"
                "Reporting-MTA: dns; relay.example\r\n"
                "Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n");
    envelope.envid = "+"; /* no xtext: left out */
    check_group(&dsn, 0,
                "Reporting-MTA: dns; relay.example\r\n"
                "Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n");
}

/* write_report() looks at the length of every line. */
static void check_long(const char *head, const char *unit, bool is_utf8)
{
    struct envelope envelope = plain;
    struct dsn_recipient recipient = one;
    struct dsn dsn = usual();
    struct report report;
    char text[3 * LIMIT_REPLY_TEXT];
    size_t length = strlen(head);

    memcpy(text, head, length);
    while (length + strlen(unit) < sizeof text) {
        memcpy(text + length, unit, strlen(unit));
        length += strlen(unit);
    }
    text[length] = '\0';
    envelope.smtputf8 = is_utf8;
    recipient.diagnostic = recipient.explanation = text;
    dsn.envelope = &envelope;
    dsn.recipients = &recipient;
    write_report(&dsn, &report);
    for (size_t i = 0; i + 5 <= report.message.length; i++) {
        const unsigned char *at = (const unsigned char *)report.message.data + i;

        /* No line of blanks alone, which some take for the empty one; no half character. */
        assert_false(memcmp(at, "\r\n \r", 4) == 0 || memcmp(at, "\r\n  \r", 5) == 0);
        if (at[0] >= 0xc0)
            assert_true((at[1] & 0xc0) == 0x80);
        if ((at[0] & 0xc0) == 0x80)
            assert_true(at[-1] > 0x7f);
    }
    bytes_fini(&report.message);
}

TEST(hostile, a_long_text_is_cut_and_folded_into_lines_that_smtp_carries)
{
    check_long("550 ", "word ", false);
    check_long("550 ", "x", false);
    check_long("550 ", "\303\244", true);
    check_long("550 x", "\303\244", true);
    check_long("550 xy", "\342\202\254", true);
    check_long("550 ", "\360\237\230\200", true);
    check_long("550 ", "two  blanks  ", false);
}

TEST(report, says_when_there_is_no_room)
{
    struct dsn dsn = usual();
    struct report report;
    size_t needed;

    write_report(&dsn, &report);
    needed = report.message.length;
    bytes_fini(&report.message);
    for (size_t room = 0; room < needed; room += 97) {
        bytes_init(&report.message, room);
        assert_int_equal(dsn_write(&dsn, &report.message), RESULT_TOO_LARGE);
        bytes_fini(&report.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(report, is_a_message_that_no_program_answers),
        RUN(report, is_the_same_bytes_for_the_same_input),
        RUN(report, tells_people_what_the_server_said),
        RUN(status, names_the_message_and_each_recipient),
        RUN(status, leaves_out_what_is_not_known),
        RUN(status, of_a_delay_says_until_when),
        RUN(action, has_the_name_of_rfc_3464_and_its_own_subject),
        RUN(original, comes_back_as_its_header_or_whole),
        RUN(original, of_8_bits_is_declared),
        RUN(the_whole, says_8_bits_when_a_part_has_them_and_only_then),
        RUN(smtputf8, uses_the_types_of_rfc_6533),
        RUN(without_smtputf8, a_remote_server_cannot_put_8_bits_into_the_status),
        RUN(hostile, no_text_breaks_out_of_its_field),
        RUN(hostile, an_envelope_id_stays_one_field),
        RUN(hostile, a_long_text_is_cut_and_folded_into_lines_that_smtp_carries),
        RUN(report, says_when_there_is_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
