/* Command lines: verbs, paths and parameters as clients write them, what is refused and
 * with which words, and what we say as a client ourselves. */
#include "smtpd/smtp/command.h"

#include "test.h"

#include <string.h>

static enum result parse_mail(const char *rest, struct mail_command *command,
                              struct command_error *error)
{
    return command_parse_mail(slice_of(rest), command, error);
}

static enum result parse_rcpt(const char *rest, struct rcpt_command *command,
                              struct command_error *error)
{
    return command_parse_rcpt(slice_of(rest), command, error);
}

/* "head", then `count` letters, then "tail". */
static struct slice long_text(char *into, const char *head, size_t count, const char *tail)
{
    size_t length = strlen(head);

    memcpy(into, head, length);
    memset(into + length, 'x', count);
    memcpy(into + length + count, tail, strlen(tail) + 1);
    return slice_of(into);
}

TEST(split, takes_a_verb_of_letters_and_the_trimmed_rest)
{
    struct slice verb;
    struct slice rest;

    assert_true(command_split(SLICE("MAIL FROM:<a@b.example>"), &verb, &rest));
    assert_true(slice_equal_text(verb, "MAIL") &&
                slice_equal_text(rest, "FROM:<a@b.example>"));
    assert_true(command_split(SLICE("quit"), &verb, &rest));
    assert_true(slice_equal_text(verb, "quit") && rest.length == 0);
    assert_true(command_split(SLICE("NOOP  \t x y \t"), &verb, &rest));
    assert_true(slice_equal_text(rest, "x y"));
    assert_true(command_split(SLICE("ABCDEFGHIJKL"), &verb, &rest));
}

TEST(split, refuses_what_is_no_verb)
{
    static const char *const bad[] = {
        "",      " NOOP", "GO", "ABCDEFGHIJKLM", "MA1L", "NOOP\tx", "\303\251t\303\251",
        "GET/ x"};
    struct slice verb;
    struct slice rest;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (command_split(slice_of(bad[i]), &verb, &rest))
            fail_msg("taken: %s", bad[i]);
    assert_false(command_split(SLICE_NONE, &verb, &rest));
    assert_false(command_split(SLICE("NO\0OP"), &verb, &rest));
}

TEST(mail, takes_every_parameter_in_any_case_and_order)
{
    struct mail_command command;
    struct command_error error;

    assert_int_equal(parse_mail("FROM:<a@b.example> SIZE=1000 BODY=8BITMIME SMTPUTF8 "
                                "RET=HDRS ENVID=QQ+20x AUTH=e+3Dmc2@b.example RequireTLS",
                                &command, &error),
                     RESULT_OK);
    assert_string_equal(command.sender.text, "a@b.example");
    assert_true(command.has_size && command.size == 1000);
    assert_int_equal(command.body_type, BODY_8BITMIME);
    assert_true(command.smtputf8);
    assert_true(command.requires_tls);
    assert_int_equal(command.dsn_return, RETURN_HEADERS);
    assert_string_equal(command.envid, "QQ+20x");
    assert_string_equal(command.auth, "e+3Dmc2@b.example");
    assert_int_equal(
        parse_mail("from:<a@b.example>\tret=full  body=7bit \t auth=<>", &command, &error),
        RESULT_INVALID); /* a tab behind the path */
    assert_int_equal(
        parse_mail("from:<a@b.example> ret=full  body=7bit \t auth=<>", &command, &error),
        RESULT_OK);
    assert_int_equal(command.dsn_return, RETURN_FULL);
    assert_int_equal(command.body_type, BODY_7BIT);
    assert_string_equal(command.auth, "<>");
    assert_false(command.has_size || command.smtputf8 || command.envid[0]);
    assert_false(command.requires_tls);
    assert_int_equal(parse_mail("from:<a@b.example> requiretls=yes", &command, &error),
                     RESULT_INVALID);
}

TEST(mail, takes_the_null_sender_and_a_blank_behind_the_colon)
{
    struct mail_command command;
    struct command_error error;

    assert_int_equal(parse_mail("FROM:<>", &command, &error), RESULT_OK);
    assert_true(command.sender.is_null);
    assert_int_equal(parse_mail("FROM: <> SIZE=0", &command, &error), RESULT_OK);
    assert_true(command.has_size && command.size == 0);
}

TEST(mail, takes_the_largest_size_and_none_above)
{
    struct mail_command command;
    struct command_error error;

    assert_int_equal(parse_mail("FROM:<> SIZE=18446744073709551615", &command, &error),
                     RESULT_OK);
    assert_true(command.size == UINT64_MAX);
    assert_int_equal(parse_mail("FROM:<> SIZE=18446744073709551616", &command, &error),
                     RESULT_INVALID);
    assert_int_equal(parse_mail("FROM:<> SIZE=000000000000000000001", &command, &error),
                     RESULT_INVALID); /* RFC 1870 3: 20 digits at most */
}

struct refusal {
    const char *rest;
    const char *words; /* that the client reads */
    bool is_unknown;
};

static void check_refusal(const struct refusal *refusal, enum result result,
                          const struct command_error *error)
{
    assert_int_equal(result, RESULT_INVALID);
    if (!strstr(error->text, refusal->words) ||
        error->is_unknown_parameter != refusal->is_unknown)
        fail_msg("%s: %s", refusal->rest, error->text);
}

/* clang-format off */
static const struct refusal mail_refusals[] = {
    {"", "FROM:<", false},
    {"<a@b.example>", "FROM:<", false},
    {"TO:<a@b.example>", "FROM:<", false},
    {"FROM <a@b.example>", "FROM:<", false},
    {"FROM:a@b.example", "not a mailbox", false},
    {"FROM:<a@b.example", "not a mailbox", false},
    {"FROM:<a b@c.example>", "not a mailbox", false},
    {"FROM:<a@b.example>SIZE=1", "not a mailbox", false},
    {"FROM:<a@b.example>>", "not a mailbox", false},
    {"FROM:<> SIZE", "SIZE takes a value", false},
    {"FROM:<> SIZE=", "SIZE takes a number", false},
    {"FROM:<> SIZE=-1", "SIZE takes a number", false},
    {"FROM:<> SIZE=1k", "SIZE takes a number", false},
    {"FROM:<> BODY=BINARYMIME", "BODY is 7BIT or 8BITMIME", false},
    {"FROM:<> SMTPUTF8=yes", "SMTPUTF8 takes no value", false},
    {"FROM:<> RET=BOTH", "RET is FULL or HDRS", false},
    {"FROM:<> RET=FULL RET=HDRS", "RET is given twice", false},
    {"FROM:<> ENVID=a ENVID=b", "ENVID is given twice", false},
    {"FROM:<> ENVID=", "ENVID takes xtext", false},
    {"FROM:<> ENVID=a+2", "ENVID takes xtext", false},
    {"FROM:<> ENVID=a+0D+0ADATA", "ENVID takes xtext", false},
    {"FROM:<> ENVID=a=b", "ENVID takes xtext", false},
    {"FROM:<> AUTH=\303\251", "AUTH takes xtext", false},
    {"FROM:<> FUTURERELEASE=1", "FUTURERELEASE is not known", true},
    {"FROM:<> =x", "is not known", true},
    {"FROM:<> NOTIFY=NEVER", "NOTIFY is not known", true},
    {"FROM:<> A=1 SIZE=x", "A is not known", true}, /* the first fault is told */
};
/* clang-format on */

TEST(mail, says_what_is_wrong)
{
    for (size_t i = 0; i < sizeof mail_refusals / sizeof *mail_refusals; i++) {
        struct mail_command command;
        struct command_error error;

        check_refusal(&mail_refusals[i],
                      parse_mail(mail_refusals[i].rest, &command, &error), &error);
    }
}

TEST(mail, shows_a_part_of_a_long_parameter_only)
{
    struct mail_command command;
    struct command_error error;
    char text[1200];

    assert_int_equal(
        command_parse_mail(long_text(text, "FROM:<> ", 1000, "=1"), &command, &error),
        RESULT_INVALID);
    assert_true(error.is_unknown_parameter && strlen(error.text) < 100);
}

TEST(mail, takes_sixteen_parameters_and_not_one_more)
{
    struct mail_command command;
    struct command_error error;
    struct bytes text;

    bytes_init(&text, 1000);
    assert_int_equal(bytes_add_text(&text, "FROM:<>"), RESULT_OK);
    for (int i = 0; i < 16; i++)
        assert_int_equal(bytes_add_text(&text, " SIZE=1"), RESULT_OK);
    assert_int_equal(command_parse_mail(bytes_view(&text), &command, &error), RESULT_OK);
    assert_int_equal(bytes_add_text(&text, " SIZE=1"), RESULT_OK);
    assert_int_equal(command_parse_mail(bytes_view(&text), &command, &error),
                     RESULT_INVALID);
    assert_string_equal(error.text, "too many parameters");
    assert_false(error.is_unknown_parameter);
    bytes_fini(&text);
}

TEST(mail, holds_envid_and_auth_to_their_length)
{
    struct mail_command command;
    struct command_error error;
    char text[1200];

    assert_int_equal(command_parse_mail(long_text(text, "FROM:<> ENVID=", LIMIT_ENVID, ""),
                                        &command, &error),
                     RESULT_OK);
    assert_int_equal(strlen(command.envid), LIMIT_ENVID);
    assert_int_equal(command_parse_mail(long_text(text, "FROM:<> ENVID=", LIMIT_ENVID, "y"),
                                        &command, &error),
                     RESULT_INVALID);
    assert_int_equal(command_parse_mail(long_text(text, "FROM:<> AUTH=", LIMIT_ORCPT, ""),
                                        &command, &error),
                     RESULT_OK);
    assert_int_equal(command_parse_mail(long_text(text, "FROM:<> AUTH=", LIMIT_ORCPT, "y"),
                                        &command, &error),
                     RESULT_INVALID);
}

TEST(rcpt, takes_notify_and_orcpt)
{
    struct rcpt_command command;
    struct command_error error;

    assert_int_equal(parse_rcpt("TO:<c@d.example>", &command, &error), RESULT_OK);
    assert_string_equal(command.recipient.text, "c@d.example");
    assert_true(command.notify == 0 && command.orcpt[0] == '\0');
    assert_int_equal(parse_rcpt("TO:<c@d.example> notify=success,Delay,FAILURE "
                                "ORCPT=rfc822;c+2Bx@d.example",
                                &command, &error),
                     RESULT_OK);
    assert_int_equal(command.notify, NOTIFY_SUCCESS | NOTIFY_DELAY | NOTIFY_FAILURE);
    assert_string_equal(command.orcpt, "rfc822;c+2Bx@d.example");
    assert_int_equal(parse_rcpt("TO:<Postmaster> NOTIFY=NEVER", &command, &error),
                     RESULT_OK);
    assert_true(command.recipient.is_bare_postmaster);
    assert_int_equal(command.notify, NOTIFY_NEVER);
}

/* clang-format off */
static const struct refusal rcpt_refusals[] = {
    {"FROM:<c@d.example>", "TO:<", false},
    {"TO:<>", "cannot be empty", false},
    {"TO:<c>", "not a mailbox", false},
    {"TO:<c@d.example> NOTIFY=", "NOTIFY is NEVER, or", false},
    {"TO:<c@d.example> NOTIFY=SUCCESS,", "NOTIFY is NEVER, or", false},
    {"TO:<c@d.example> NOTIFY=MAYBE", "NOTIFY is NEVER, or", false},
    {"TO:<c@d.example> NOTIFY=DELAY,NEVER", "stands alone", false},
    {"TO:<c@d.example> NOTIFY=DELAY,DELAY,DELAY,DELAY,DELAY", "NOTIFY is NEVER, or", false},
    {"TO:<c@d.example> NOTIFY=DELAY NOTIFY=DELAY", "NOTIFY is given twice", false},
    {"TO:<c@d.example> ORCPT=c@d.example", "ORCPT takes", false},
    {"TO:<c@d.example> ORCPT=;c@d.example", "ORCPT takes", false},
    {"TO:<c@d.example> ORCPT=rfc822;", "ORCPT takes", false},
    {"TO:<c@d.example> ORCPT=rfc+822;c@d.example", "ORCPT takes", false},
    {"TO:<c@d.example> ORCPT=rfc822;c+0Ad@e.example", "ORCPT takes", false},
    {"TO:<c@d.example> ORCPT=rfc822;a@b.example ORCPT=rfc822;a@b.example", "twice", false},
    {"TO:<c@d.example> SIZE=1", "SIZE is not known", true},
};
/* clang-format on */

TEST(rcpt, says_what_is_wrong)
{
    for (size_t i = 0; i < sizeof rcpt_refusals / sizeof *rcpt_refusals; i++) {
        struct rcpt_command command;
        struct command_error error;

        check_refusal(&rcpt_refusals[i],
                      parse_rcpt(rcpt_refusals[i].rest, &command, &error), &error);
    }
}

TEST(rcpt, holds_the_whole_orcpt_to_its_length)
{
    struct rcpt_command command;
    struct command_error error;
    char text[1200];
    size_t most = LIMIT_ORCPT - strlen("rfc822;");

    assert_int_equal(
        command_parse_rcpt(long_text(text, "TO:<c@d.example> ORCPT=rfc822;", most, ""),
                           &command, &error),
        RESULT_OK);
    assert_int_equal(strlen(command.orcpt), LIMIT_ORCPT);
    assert_int_equal(
        command_parse_rcpt(long_text(text, "TO:<c@d.example> ORCPT=rfc822;", most, "y"),
                           &command, &error),
        RESULT_INVALID);
}

TEST(bdat, takes_a_number_and_last)
{
    uint64_t bytes;
    bool is_last;

    assert_int_equal(command_parse_bdat(SLICE("1000"), &bytes, &is_last), RESULT_OK);
    assert_true(bytes == 1000 && !is_last);
    assert_int_equal(command_parse_bdat(SLICE("0 last"), &bytes, &is_last), RESULT_OK);
    assert_true(bytes == 0 && is_last);
    assert_int_equal(
        command_parse_bdat(SLICE("4611686018427387903 LAST"), &bytes, &is_last), RESULT_OK);
    assert_true(bytes == UINT64_MAX / 4);
}

TEST(bdat, refuses_what_is_no_size)
{
    static const char *const bad[] = {"",
                                      "LAST",
                                      "-1",
                                      "1x",
                                      "1 END",
                                      "1LAST",
                                      "1 LAST x",
                                      "4611686018427387904",
                                      "0x10",
                                      "1 LAST LAST",
                                      "99999999999999999999999"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes;
        bool is_last;

        if (command_parse_bdat(slice_of(bad[i]), &bytes, &is_last) == RESULT_OK)
            fail_msg("taken: %s", bad[i]);
    }
}

TEST(helo, takes_domains_and_literals_leniently)
{
    static const char *const good[] = {
        "client.example",     "my_pc", "[192.0.2.1]",
        "[IPv6:2001:db8::1]", "-",     "b\303\274ro.example"};
    static const char *const bad[] = {"",     "a b",    "a(b", "a@b",
                                      "a\tb", "a\033b", "<a>", "a;"};
    char name[DOMAIN_TEXT];
    char text[LIMIT_DOMAIN + 2];

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(command_parse_helo(slice_of(good[i]), name), RESULT_OK);
        assert_string_equal(name, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(command_parse_helo(slice_of(bad[i]), name), RESULT_INVALID);
    assert_int_equal(command_parse_helo(SLICE("a\0b"), name), RESULT_INVALID);
    assert_int_equal(command_parse_helo(long_text(text, "", LIMIT_DOMAIN, ""), name),
                     RESULT_OK);
    assert_int_equal(command_parse_helo(long_text(text, "", LIMIT_DOMAIN, "y"), name),
                     RESULT_INVALID);
}

TEST(auth, tells_no_response_from_an_empty_one)
{
    char mechanism[24];
    struct slice initial;
    bool has_initial;

    assert_int_equal(
        command_parse_auth(SLICE("plain AGEAYg=="), mechanism, &initial, &has_initial),
        RESULT_OK);
    assert_string_equal(mechanism, "PLAIN");
    assert_true(has_initial && slice_equal_text(initial, "AGEAYg=="));
    assert_int_equal(command_parse_auth(SLICE("LOGIN"), mechanism, &initial, &has_initial),
                     RESULT_OK);
    assert_true(!has_initial && initial.length == 0);
    assert_int_equal(
        command_parse_auth(SLICE("X-scram_1 ="), mechanism, &initial, &has_initial),
        RESULT_OK);
    assert_string_equal(mechanism, "X-SCRAM_1");
    assert_true(has_initial && initial.length == 0);
}

TEST(auth, refuses_bad_mechanisms_and_more_words)
{
    static const char *const bad[] = {"", "PLAIN a b", "PL.AIN", "PLAIN= a",
                                      "ABCDEFGHIJKLMNOPQRSTUVWX"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char mechanism[24];
        struct slice initial;
        bool has_initial;

        if (command_parse_auth(slice_of(bad[i]), mechanism, &initial, &has_initial) ==
            RESULT_OK)
            fail_msg("taken: %s", bad[i]);
    }
}

/* ---- what we say ---- */

static void check_mail_line(const struct mail_line *line, const char *expected)
{
    struct bytes into;

    bytes_init(&into, 4096);
    assert_int_equal(command_add_mail(&into, line), RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&into), expected));
    bytes_fini(&into);
}

TEST(add_mail, says_only_what_the_server_offers)
{
    struct envelope envelope = {.header_bytes = 100,
                                .body_bytes = 23,
                                .body_type = BODY_8BITMIME,
                                .smtputf8 = true,
                                .dsn_return = RETURN_FULL,
                                .envid = "id+20x"};
    struct mail_line line = {.sender = "a@b.example", .envelope = &envelope};

    check_mail_line(&line, "MAIL FROM:<a@b.example>\r\n");
    line.offers_size = line.offers_8bitmime = true;
    line.offers_smtputf8 = line.offers_dsn = true;
    check_mail_line(&line,
                    "MAIL FROM:<a@b.example> SIZE=123 BODY=8BITMIME SMTPUTF8 RET=FULL "
                    "ENVID=id+20x\r\n");
}

TEST(add_mail, says_only_what_the_message_needs)
{
    struct envelope envelope = {.header_bytes = 5};
    struct mail_line line = {"", true, true, true, true, &envelope, true};

    check_mail_line(&line, "MAIL FROM:<> SIZE=5\r\n");
    envelope.has_8bit = true; /* whatever BODY said: what was counted decides */
    envelope.dsn_return = RETURN_HEADERS;
    check_mail_line(&line, "MAIL FROM:<> SIZE=5 BODY=8BITMIME RET=HDRS\r\n");
}

TEST(add_mail, requires_tls_where_that_is_offered_and_asked_for)
{
    struct envelope envelope = {.tls_wish = TLS_WISH_REQUIRED};
    struct mail_line line = {.sender = "a@b.example", .envelope = &envelope};

    check_mail_line(&line, "MAIL FROM:<a@b.example>\r\n");
    line.offers_requiretls = true;
    check_mail_line(&line, "MAIL FROM:<a@b.example> REQUIRETLS\r\n");
    envelope.tls_wish = TLS_WISH_WAIVED;
    check_mail_line(&line, "MAIL FROM:<a@b.example>\r\n");
}

TEST(add_rcpt, carries_notify_and_orcpt_where_dsn_is_offered)
{
    struct recipient recipient = {"c@d.example", "rfc822;x@y.example",
                                  NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY};
    struct bytes into;

    bytes_init(&into, 4096);
    assert_int_equal(command_add_rcpt(&into, &recipient, false), RESULT_OK);
    assert_int_equal(command_add_rcpt(&into, &recipient, true), RESULT_OK);
    recipient = (struct recipient){"c@d.example", NULL, NOTIFY_NEVER};
    assert_int_equal(command_add_rcpt(&into, &recipient, true), RESULT_OK);
    recipient.notify = 0;
    assert_int_equal(command_add_rcpt(&into, &recipient, true), RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&into),
                                 "RCPT TO:<c@d.example>\r\n"
                                 "RCPT TO:<c@d.example> NOTIFY=SUCCESS,FAILURE,DELAY "
                                 "ORCPT=rfc822;x@y.example\r\n"
                                 "RCPT TO:<c@d.example> NOTIFY=NEVER\r\n"
                                 "RCPT TO:<c@d.example>\r\n"));
    bytes_fini(&into);
}

TEST(add, never_makes_two_lines_of_one)
{
    struct envelope envelope = {.envid = "a\r\nDATA", .dsn_return = RETURN_FULL};
    struct mail_line line = {"a@b.example", false, false, false, true, &envelope, false};
    struct recipient recipient = {"c@d.example>\r\nDATA", NULL, 0};
    struct bytes into;

    bytes_init(&into, 4096);
    assert_int_equal(command_add_mail(&into, &line), RESULT_INVALID);
    assert_int_equal(command_add_rcpt(&into, &recipient, true), RESULT_INVALID);
    assert_int_equal(into.length, 0);
    bytes_fini(&into);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(split, takes_a_verb_of_letters_and_the_trimmed_rest),
        RUN(split, refuses_what_is_no_verb),
        RUN(mail, takes_every_parameter_in_any_case_and_order),
        RUN(mail, takes_the_null_sender_and_a_blank_behind_the_colon),
        RUN(mail, takes_the_largest_size_and_none_above),
        RUN(mail, says_what_is_wrong),
        RUN(mail, shows_a_part_of_a_long_parameter_only),
        RUN(mail, takes_sixteen_parameters_and_not_one_more),
        RUN(mail, holds_envid_and_auth_to_their_length),
        RUN(rcpt, takes_notify_and_orcpt),
        RUN(rcpt, says_what_is_wrong),
        RUN(rcpt, holds_the_whole_orcpt_to_its_length),
        RUN(bdat, takes_a_number_and_last),
        RUN(bdat, refuses_what_is_no_size),
        RUN(helo, takes_domains_and_literals_leniently),
        RUN(auth, tells_no_response_from_an_empty_one),
        RUN(auth, refuses_bad_mechanisms_and_more_words),
        RUN(add_mail, says_only_what_the_server_offers),
        RUN(add_mail, says_only_what_the_message_needs),
        RUN(add_mail, requires_tls_where_that_is_offered_and_asked_for),
        RUN(add_rcpt, carries_notify_and_orcpt_where_dsn_is_offered),
        RUN(add, never_makes_two_lines_of_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
