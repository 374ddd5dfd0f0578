/* The header section: the walk over its fields, what a scan counts, copies without fields,
 * and the fields that we write ourselves, with hostile words of the client in them. */
#include "smtpd/mail/header.h"

#include "test.h"

#include <string.h>

TEST(walk, gives_each_field_with_its_continuations)
{
    static const char section[] =
        "A: b\r\nLong-Name:\r\n c\r\n\td: e\r\nF : g\r\n\r\nbody: x\r\n";
    static const char *const names[] = {"A", "Long-Name", "F"};
    static const char *const fields[] = {"A: b\r\n", "Long-Name:\r\n c\r\n\td: e\r\n",
                                         "F : g\r\n"};
    struct slice rest = slice_of(section);
    struct slice name;
    struct slice field;

    for (size_t i = 0; i < 3; i++) {
        assert_true(header_next_field(&rest, &name, &field));
        assert_true(slice_equal_text(name, names[i]));
        assert_true(slice_equal_text(field, fields[i]));
    }
    assert_false(header_next_field(&rest, &name, &field));
    assert_true(slice_equal_text(rest, "\r\nbody: x\r\n")); /* at the empty line */
}

TEST(walk, ends_at_a_line_that_is_no_field)
{
    static const char *const bad[] = {"no field\r\n",       ": no name\r\n",
                                      "a b: blank\r\n",     " A: begins with a blank\r\n",
                                      "\tA: or a tab\r\n",  "\303\251: not ASCII\r\n",
                                      "A\001: control\r\n", "\nA: b\r\n"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct slice rest = slice_of(bad[i]);
        struct slice name;
        struct slice field;

        if (header_next_field(&rest, &name, &field))
            fail_msg("taken: %s", bad[i]);
        assert_true(slice_equal_text(rest, bad[i]));
    }
}

TEST(walk, takes_a_last_line_without_its_end)
{
    struct slice rest = SLICE("A: b\r\nC: d");
    struct slice name;
    struct slice field;

    assert_true(header_next_field(&rest, &name, &field));
    assert_true(header_next_field(&rest, &name, &field));
    assert_true(slice_equal_text(field, "C: d"));
    assert_false(header_next_field(&rest, &name, &field));
    assert_int_equal(rest.length, 0);
}

TEST(walk, ends_no_field_at_a_bare_cr_or_lf)
{
    struct slice rest = SLICE("A: b\nBcc: c\rBcc: d\r\r\n\n\nBcc: e\r\nF: g\r\n");
    struct slice name;
    struct slice field;

    assert_true(header_next_field(&rest, &name, &field));
    assert_true(slice_equal_text(field, "A: b\nBcc: c\rBcc: d\r\r\n"));
    assert_false(header_next_field(&rest, &name, &field)); /* "\n\nBcc" is no name */
}

TEST(scan, counts_the_fields_that_matter_in_any_case)
{
    struct header_scan scan;

    header_scan(
        SLICE("received: a\r\nRECEIVED: b\r\n\tc\r\nX-Received: d\r\nDate: e\r\n"
              "from: f\r\nFrom : g\r\nMessage-ID:  <h@i> \r\nmessage-id: <j@k>\r\n\r\n"),
        &scan);
    assert_int_equal(scan.field_count, 8);
    assert_int_equal(scan.received_count, 2);
    assert_int_equal(scan.date_count, 1);
    assert_int_equal(scan.from_count, 2);
    assert_int_equal(scan.message_id_count, 2);
    assert_true(slice_equal_text(scan.message_id, "<h@i>")); /* the first */
    assert_false(scan.is_malformed || scan.has_8bit);
}

TEST(scan, finds_a_message_id_on_a_folded_line)
{
    struct header_scan scan;

    header_scan(SLICE("Message-ID:\r\n <long.id@b.example>\r\nA: b\r\n"), &scan);
    assert_true(slice_equal_text(scan.message_id, "<long.id@b.example>"));
    header_scan(SLICE("Message-ID:\r\n \r\n"), &scan);
    assert_int_equal(scan.message_id_count, 1);
    assert_int_equal(scan.message_id.length, 0);
}

TEST(scan, tells_a_malformed_section_from_a_short_one)
{
    struct header_scan scan;

    header_scan(SLICE("A: b\r\n"), &scan);
    assert_false(scan.is_malformed); /* the empty line may be missing */
    header_scan(SLICE(""), &scan);
    assert_true(!scan.is_malformed && scan.field_count == 0);
    header_scan(SLICE("\r\n"), &scan);
    assert_false(scan.is_malformed);
    header_scan(SLICE("A: b\r\nno field\r\nDate: c\r\n\r\n"), &scan);
    assert_true(scan.is_malformed && scan.field_count == 1 && scan.date_count == 0);
    header_scan(SLICE(" From: x\r\nA: b\r\n"), &scan);
    assert_true(scan.is_malformed && scan.from_count == 0);
    header_scan(SLICE("Subject: caf\303\251\r\n"), &scan);
    assert_true(scan.has_8bit && !scan.is_malformed);
}

TEST(section, ends_with_the_first_empty_line)
{
    assert_int_equal(header_section_length(SLICE("A: b\r\n\r\nbody\r\n\r\n")), 8);
    assert_int_equal(header_section_length(SLICE("\r\nbody\r\n\r\nmore\r\n")), 2);
    assert_int_equal(header_section_length(SLICE("A: b\r\n")), 6);
    assert_int_equal(header_section_length(SLICE("A: b\n\nstill a\r\n\r\nx")), 17);
    assert_int_equal(header_section_length(SLICE("A: b\r\n\r")), 7);
    assert_int_equal(header_section_length(SLICE_NONE), 0);
}

static void check_copy(const char *section, const char *const *names, const char *expected)
{
    struct bytes into;

    bytes_init(&into, 1000);
    assert_int_equal(header_copy_without(slice_of(section), names, &into), RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&into), expected));
    bytes_fini(&into);
}

TEST(copy, leaves_out_whole_fields_by_name)
{
    static const char *const hidden[] = {"Bcc", "Return-Path", NULL};
    static const char *const none[] = {NULL};

    check_copy(
        "Return-Path: <a>\r\nTo: b\r\nBCC: c,\r\n d\r\n\te\r\nbcc : f\r\nBccx: g\r\n\r\n",
        hidden, "To: b\r\nBccx: g\r\n\r\n");
    check_copy("Bcc: a\r\n", hidden, "");
    check_copy("Bcc: a\r\nTo: b", none, "Bcc: a\r\nTo: b");
    /* What is no field stays as it is, and so does what stands behind it. */
    check_copy("Bcc: a\r\nno field\r\nBcc: b\r\n", hidden, "no field\r\nBcc: b\r\n");
}

TEST(copy, says_when_there_is_no_room)
{
    static const char *const none[] = {NULL};
    struct bytes into;

    bytes_init(&into, 9);
    assert_int_equal(header_copy_without(SLICE("A: b\r\n\r\n"), none, &into), RESULT_OK);
    bytes_clear(&into);
    assert_int_equal(header_copy_without(SLICE("A: bcde\r\n\r\n"), none, &into),
                     RESULT_TOO_LARGE);
    bytes_fini(&into);
}

/* ---- what we add ---- */

enum { COLUMNS = 78 };

static const struct trace usual = {.helo = "client.example",
                                   .peer_name = "host.client.example",
                                   .peer_address = "192.0.2.1",
                                   .hostname = "mx.example",
                                   .protocol = "ESMTPSA",
                                   .tls_version = "TLSv1.3",
                                   .tls_cipher = "TLS1-3-AES-256-GCM-SHA384",
                                   .id = "aaaaaaaaaaaab",
                                   .recipient = "c@d.example",
                                   .wall_ms = INT64_C(1700000000000)};

/* Adds the field: one field, each line with its CR LF, and as long as `columns` at most. */
static void add_received(const struct trace *trace, struct bytes *into, size_t columns)
{
    struct slice rest;
    struct slice name;
    struct slice field;
    size_t column = 0;

    bytes_init(into, 4096);
    assert_int_equal(header_add_received(into, trace), RESULT_OK);
    rest = bytes_view(into);
    assert_true(header_next_field(&rest, &name, &field));
    assert_true(slice_equal_text(name, "Received") && rest.length == 0);
    assert_true(slice_ends_fold(field, "\r\n"));
    for (size_t i = 0; i < field.length; i++) {
        column = field.data[i] == '\n' ? 0 : column + 1;
        assert_true(column <= columns + 1); /* the CR */
        assert_true(field.data[i] != '\n' || field.data[i - 1] == '\r');
    }
}

static void check_received(const struct trace *trace, const char *expected)
{
    struct bytes into;

    add_received(trace, &into, COLUMNS);
    if (!slice_equal_text(bytes_view(&into), expected))
        fail_msg("%.*s", (int)into.length, into.data);
    bytes_fini(&into);
}

TEST(received, says_who_how_and_when)
{
    check_received(
        &usual,
        "Received: from client.example (host.client.example [192.0.2.1]) by mx.example\r\n"
        "\t(TLSv1.3 TLS1-3-AES-256-GCM-SHA384) with ESMTPSA id aaaaaaaaaaaab\r\n"
        "\tfor <c@d.example>; Tue, 14 Nov 2023 22:13:20 +0000\r\n");
}

TEST(received, leaves_out_what_is_not_known)
{
    struct trace trace = {.peer_address = "IPv6:2001:db8::1",
                          .hostname = "mx.example",
                          .protocol = "SMTP",
                          .id = "aaaaaaaaaaaab"};

    check_received(&trace,
                   "Received: from unknown ([IPv6:2001:db8::1]) by mx.example\r\n"
                   "\twith SMTP id aaaaaaaaaaaab; Thu, 1 Jan 1970 00:00:00 +0000\r\n");
    trace.helo = ""; /* nothing was said, as far as a reader is concerned */
    check_received(&trace,
                   "Received: from unknown ([IPv6:2001:db8::1]) by mx.example\r\n"
                   "\twith SMTP id aaaaaaaaaaaab; Thu, 1 Jan 1970 00:00:00 +0000\r\n");
}

TEST(received, cannot_be_ended_or_commented_by_the_client)
{
    struct trace trace = usual;
    struct bytes into;

    trace.helo = "a\r\nBcc: x@y.example\r\n\r\n(b) c;\"d\\";
    trace.peer_name = "h [1.2.3.4]) by evil; (\t\177";
    trace.tls_version = NULL;
    trace.recipient = NULL;
    add_received(&trace, &into, COLUMNS);
    assert_true(slice_equal_text(
        bytes_view(&into), "Received: from a__Bcc:_x@y.example_____b__c__d_\r\n"
                           "\t(h_[1.2.3.4]__by_evil_____ [192.0.2.1]) by mx.example\r\n"
                           "\twith ESMTPSA id aaaaaaaaaaaab; "
                           "Tue, 14 Nov 2023 22:13:20 +0000\r\n"));
    bytes_fini(&into);
}

TEST(received, stays_ascii_whatever_the_client_calls_itself)
{
    struct trace trace = usual;
    struct bytes into;

    trace.helo = "b\303\274ro\377";
    trace.peer_name = "h\200";
    trace.tls_version = NULL;
    trace.recipient = NULL;
    add_received(&trace, &into, COLUMNS);
    assert_true(slice_equal_text(slice_part(bytes_view(&into), 0, 44),
                                 "Received: from b__ro_ (h_ [192.0.2.1]) by mx"));
    bytes_fini(&into);
}

TEST(received, holds_the_longest_words_and_says_when_there_is_no_room)
{
    struct trace trace = usual;
    struct bytes into;
    char text[1000];

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    trace.helo = text;
    trace.peer_name = text;
    trace.recipient = text;
    add_received(&trace, &into, 998); /* too long to be folded, and yet a legal line */
    bytes_fini(&into);
    bytes_init(&into, 100);
    assert_int_equal(header_add_received(&into, &usual), RESULT_TOO_LARGE);
    bytes_fini(&into);
}

TEST(added, date_and_message_id_are_fields)
{
    struct bytes into;

    bytes_init(&into, 200);
    assert_int_equal(header_add_date(&into, INT64_C(1700000000000)), RESULT_OK);
    assert_int_equal(
        header_add_message_id(&into, "aaaaaaaaaaaab", INT64_C(1700000000000), "mx.example"),
        RESULT_OK);
    assert_true(slice_equal_text(
        bytes_view(&into), "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
                           "Message-ID: <1700000000000.aaaaaaaaaaaab@mx.example>\r\n"));
    assert_int_equal(header_add_date(&(struct bytes){.ceiling = 10}, 0), RESULT_TOO_LARGE);
    bytes_fini(&into);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(walk, gives_each_field_with_its_continuations),
        RUN(walk, ends_at_a_line_that_is_no_field),
        RUN(walk, takes_a_last_line_without_its_end),
        RUN(walk, ends_no_field_at_a_bare_cr_or_lf),
        RUN(scan, counts_the_fields_that_matter_in_any_case),
        RUN(scan, finds_a_message_id_on_a_folded_line),
        RUN(scan, tells_a_malformed_section_from_a_short_one),
        RUN(section, ends_with_the_first_empty_line),
        RUN(copy, leaves_out_whole_fields_by_name),
        RUN(copy, says_when_there_is_no_room),
        RUN(received, says_who_how_and_when),
        RUN(received, leaves_out_what_is_not_known),
        RUN(received, cannot_be_ended_or_commented_by_the_client),
        RUN(received, stays_ascii_whatever_the_client_calls_itself),
        RUN(received, holds_the_longest_words_and_says_when_there_is_no_room),
        RUN(added, date_and_message_id_are_fields),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
