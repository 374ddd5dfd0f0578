/* The words of RFC 8460 4.4. Their kinds are checked by a program that did not write them:
 * tests/e2e/test_tls_report.py. */
#include "tally_json.h"

#include "test.h"

#include <string.h>

TEST(tally_json, says_what_was_counted)
{
    static const char expected[] =
        "{\"organization-name\": \"A \\\"B\\\" \\\\ \\u0009C\",\n"
        " \"date-range\": {\"start-datetime\": \"1970-01-02T00:00:00Z\", "
        "\"end-datetime\": \"1970-01-02T23:59:59Z\"},\n"
        " \"contact-info\": \"tls@c.test\",\n"
        " \"report-id\": \"1@c.test\",\n"
        " \"policies\": [\n"
        " {\"policy\": {\"policy-type\": \"sts\", \"policy-string\": [\"mode: testing\", "
        "\"mx: *.a.test\", \"mx: b.test\"], \"policy-domain\": \"a.test\", "
        "\"mx-host\": [\"*.a.test\", \"b.test\"]},\n"
        "  \"summary\": {\"total-successful-session-count\": 1, "
        "\"total-failure-session-count\": 2},\n"
        "  \"failure-details\": [\n"
        "   {\"result-type\": \"certificate-expired\", \"receiving-mx-hostname\": "
        "\"mx.a.test\", "
        "\"failure-reason-code\": \"\\\"old\\\"\", \"failed-session-count\": 2}]},\n"
        " {\"policy\": {\"policy-type\": \"no-policy-found\", \"policy-domain\": "
        "\"a.test\"},\n"
        "  \"summary\": {\"total-successful-session-count\": 1, "
        "\"total-failure-session-count\": 0}}]}\n";
    struct tally *tally = tally_new();
    struct tally_session session = {.domain = "a.test",
                                    .type = TALLY_STS,
                                    .policy = "mode: testing|mx: *.a.test|mx: b.test"};
    struct tally_reporter reporter = {
        .organization = "A \"B\" \\ \tC", .contact = "tls@c.test", .id = "1@c.test"};
    struct bytes text;

    assert_true(tally_count(tally, &session, 90000000));
    session.result = TALLY_EXPIRED;
    session.texts[TALLY_MX] = "mx.a.test";
    session.texts[TALLY_REASON] = "\"old\"";
    assert_true(tally_count(tally, &session, 90000000));
    assert_true(tally_count(tally, &session, 90000000));
    assert_true(tally_count(
        tally, &(struct tally_session){.domain = "a.test", .policy = ""}, 90000000));
    tally_close_day(tally, 2 * TALLY_DAY_MS);
    bytes_init(&text, TALLY_JSON_MAX);
    assert_int_equal(
        tally_json(CONTAINER_OF(list_first(tally_closed(tally)), struct tally_domain, link),
                   &reporter, &text),
        RESULT_OK);
    assert_int_equal(bytes_add(&text, (struct slice){"", 1}), RESULT_OK);
    assert_string_equal(text.data, expected);
    bytes_fini(&text);
    bytes_init(&text, 100);
    assert_int_equal(
        tally_json(CONTAINER_OF(list_first(tally_closed(tally)), struct tally_domain, link),
                   &reporter, &text),
        RESULT_TOO_LARGE);
    bytes_fini(&text);
    tally_free(tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tally_json, says_what_was_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
