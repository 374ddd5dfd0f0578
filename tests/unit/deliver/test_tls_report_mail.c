/* The form of the mail; that programs read it: tests/e2e/test_tls_report.py. */
#include "tls_report_mail.h"

#include "test.h"

#include <string.h>

TEST(tls_report_mail, is_the_form_of_rfc_8460)
{
    static const char json[] =
        "{\"a\": \"0123456789012345678901234567890123456789012345678901"
        "234567890123456789\"}\n";
    struct tls_report_letter letter = {.domain = "a.test",
                                       .submitter = "relay.test",
                                       .organization = "Caf\xc3\xa9",
                                       .contact = "tls@c.test",
                                       .to = "r@a.test",
                                       .id = "1@relay.test",
                                       .message_id = "abc",
                                       .boundary = "xyz",
                                       .begin_ms = 86400000,
                                       .end_ms = 172799000,
                                       .json = SLICE(json)};
    struct bytes text;
    struct slice rest;

    bytes_init(&text, 1 << 16);
    assert_int_equal(tls_report_mail(&letter, &text), RESULT_OK);
    for (rest = bytes_view(&text); rest.length > 0;) {
        size_t end = slice_find(rest, '\n');

        assert_true(end < rest.length && end >= 1 && end <= 79);
        assert_int_equal(rest.data[end - 1], '\r');
        for (size_t i = 0; i + 1 < end; i++)
            assert_true(rest.data[i] >= ' ' && rest.data[i] <= '~');
        rest = slice_from(rest, end + 1);
    }
    assert_int_equal(bytes_add(&text, (struct slice){"", 1}), RESULT_OK);
    assert_non_null(strstr(text.data, "\r\nFrom: <tls@c.test>\r\nTo: <r@a.test>\r\n"));
    assert_non_null(strstr(text.data, "\r\nTLS-Report-Domain: a.test\r\n"
                                      "TLS-Report-Submitter: relay.test\r\n"
                                      "TLS-Required: No\r\n"));
    assert_non_null(strstr(text.data, "multipart/report; report-type=\"tlsrpt\";"));
    assert_non_null(strstr(text.data, "filename=\"relay.test!a.test!86400!172799.json\""));
    assert_non_null(strstr(text.data, "\r\n--xyz--\r\n"));
    assert_null(strstr(text.data, "Caf"));
    bytes_fini(&text);
    bytes_init(&text, 300);
    assert_int_equal(tls_report_mail(&letter, &text), RESULT_TOO_LARGE);
    bytes_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tls_report_mail, is_the_form_of_rfc_8460),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
