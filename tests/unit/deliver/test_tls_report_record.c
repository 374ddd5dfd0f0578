/* Where a domain wants its reports. */
#include "tls_report_record.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

static struct tls_report_place places[TLS_REPORT_PLACES_MAX];

static size_t read(const char *record)
{
    struct slice text = slice_of(record);

    return tls_report_record(&text, 1, places);
}

TEST(tls_report_record, names_mailboxes_and_web_servers_in_order)
{
    assert_int_equal(read("v=TLSRPTv1;rua=mailto:a@b.test"), 1);
    assert_true(places[0].is_mail);
    assert_string_equal(places[0].address, "a@b.test");
    assert_int_equal(read("v=TLSRPTv1 ; x=y; rua=https://W.test:8443/in?a=b#c , "
                          "MAILTO:a%2Bb@c.test?subject=x;"),
                     2);
    assert_false(places[0].is_mail);
    assert_string_equal(places[0].host, "w.test");
    assert_int_equal(places[0].port, 8443);
    assert_string_equal(places[0].path, "/in?a=b");
    assert_int_equal(read("v=TLSRPTv1; rua=https://w.test"), 1);
    assert_int_equal(places[0].port, 443);
    assert_string_equal(places[0].path, "/");
}

TEST(tls_report_record, what_follows_no_grammar_is_none)
{
    static const char *const bad[] = {
        "",
        "v=TLSRPTv1",
        "v=TLSRPTv1;",
        "v=TLSRPTv1; rua=",
        "v=TLSRPTv1; rua=,,",
        "v=TLSRPTv2; rua=mailto:a@b.test",
        "v=tlsrptv1; rua=mailto:a@b.test",
        "v=TLSRPTv10; rua=mailto:a@b.test",
        " v=TLSRPTv1; rua=mailto:a@b.test",
        "v=TLSRPTv1; rua=mailto:a",
        "v=TLSRPTv1; rua=mailto:a%0d%0aX:y@b.test",
        "v=TLSRPTv1; rua=mailto:a%2",
        "v=TLSRPTv1; rua=mailto:<a@b.test>",
        "v=TLSRPTv1; rua=http://w.test/",
        "v=TLSRPTv1; rua=https:///x",
        "v=TLSRPTv1; rua=https://u@w.test/x",
        "v=TLSRPTv1; rua=https://w.test:0/x",
        "v=TLSRPTv1; rua=https://w.test:65536/x",
        "v=TLSRPTv1; rua=https://w.test:/x",
        "v=TLSRPTv1; rua=https://w.test/a b",
        "v=TLSRPTv1; rua=https://[::1]/",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (read(bad[i]) != 0)
            fail_msg("taken: %s", bad[i]);
}

TEST(tls_report_record, two_records_are_none_and_others_beside_it_do_not_matter)
{
    struct slice records[] = {SLICE("v=spf1 -all"),
                              SLICE("v=TLSRPTv1; rua=mailto:a@b.test"),
                              SLICE("v=TLSRPTv1; rua=mailto:c@d.test")};

    assert_int_equal(tls_report_record(records, 2, places), 1);
    assert_int_equal(tls_report_record(records, 3, places), 0);
    assert_int_equal(tls_report_record(records, 0, places), 0);
}

TEST(tls_report_record, so_many_places_and_no_more)
{
    char record[1024] = "v=TLSRPTv1; rua=mailto:a@b.test";

    for (int i = 0; i < 20; i++)
        (void)strcat(record, ",mailto:a@b.test");
    assert_int_equal(read(record), TLS_REPORT_PLACES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tls_report_record, names_mailboxes_and_web_servers_in_order),
        RUN(tls_report_record, what_follows_no_grammar_is_none),
        RUN(tls_report_record, two_records_are_none_and_others_beside_it_do_not_matter),
        RUN(tls_report_record, so_many_places_and_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
