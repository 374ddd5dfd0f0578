/* Packets, honest and hostile, through the parser. */
#include "dns_answer.h"

#include "fake_dns.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

struct fixture {
    struct dns_question question;
    struct dns_space space;
    size_t length;
    uint8_t packet[FAKE_DNS_PACKET];
};

static struct fixture *f;

static int set_up(void **state)
{
    (void)state;
    f = NEW(struct fixture);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    memory_free(f);
    return 0;
}

static void parse(void)
{
    /* A copy of the exact size, so that the sanitizer sees a byte too far. */
    char *copy = memory_copy(f->packet, f->length);

    dns_answer_parse((struct slice){copy, f->length}, &f->question, &f->space);
    memory_free(copy);
}

/* Asks mail.test for `type`; the packet is what a server with this row says. */
static const struct dns_answer *answer(enum record_type type,
                                       const struct fake_dns_row *row)
{
    uint8_t query[DNS_QUERY_BYTES];
    size_t query_bytes;

    assert_int_equal(dns_question_set(&f->question, "mail.test", type), RESULT_OK);
    query_bytes = dns_question_write(&f->question, 7, query);
    f->length = fake_dns_answer(row, query, query_bytes, f->packet);
    parse();
    return &f->space.answer;
}

static const struct dns_answer *answer_of(enum record_type type, const char *records)
{
    struct fake_dns_row row = {.ttl_s = 300, .records = records};

    return answer(type, &row);
}

TEST(dns_answer, mx_records_come_with_preference_host_and_least_ttl)
{
    struct fake_dns_row row = {.ttl_s = 300,
                               .records = "MX 10 MX1.Mail.test;MX 20 mx2.test",
                               .is_authentic = true};
    const struct dns_answer *a = answer(RECORD_MX, &row);

    assert_int_equal(a->result, RESULT_OK);
    assert_int_equal(a->mx_count, 2);
    assert_int_equal(a->mx[0].preference, 10);
    assert_string_equal(a->mx[0].host, "mx1.mail.test");
    assert_string_equal(a->mx[1].host, "mx2.test");
    assert_int_equal(a->ttl_ms, 300000);
    assert_true(a->is_authentic);
}

TEST(dns_answer, the_root_as_mx_is_the_null_mx)
{
    const struct dns_answer *a = answer_of(RECORD_MX, "MX 0 .");

    assert_int_equal(a->result, RESULT_OK);
    assert_int_equal(a->mx_count, 1);
    assert_string_equal(a->mx[0].host, "");
}

TEST(dns_answer, addresses_of_both_families_are_read_once_each)
{
    const struct dns_answer *a = answer_of(RECORD_A, "A 192.0.2.1;A 192.0.2.2;A 192.0.2.1");
    char text[IP_TEXT];

    assert_int_equal(a->address_count, 2);
    ip_print(&a->addresses[1], text);
    assert_string_equal(text, "192.0.2.2");
    a = answer_of(RECORD_AAAA, "AAAA 2001:db8::1");
    assert_int_equal(a->address_count, 1);
    ip_print(&a->addresses[0], text);
    assert_string_equal(text, "2001:db8::1");
}

TEST(dns_answer, aliases_are_followed)
{
    const struct dns_answer *a =
        answer_of(RECORD_A, "CNAME a.test;CNAME b.test;A 192.0.2.9");

    assert_int_equal(a->result, RESULT_OK);
    assert_int_equal(a->address_count, 1);
    assert_int_equal(answer_of(RECORD_A, "CNAME a.test")->result, RESULT_DNS_NODATA);
}

TEST(dns_answer, aliases_are_followed_out_of_order_too)
{
    static const char packet[] =
        "\0\7\x81\x80\0\1\0\2\0\0\0\0\4mail\4test\0\0\1\0\1"
        "\1a\4test\0\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x09" /* a.test A 192.0.2.9 */
        "\xc0\x0c\0\5\0\1\0\0\0\x3c\0\x08\1a\4test\0";  /* mail.test CNAME a.test */

    assert_int_equal(dns_question_set(&f->question, "mail.test", RECORD_A), RESULT_OK);
    f->length = sizeof packet - 1;
    memcpy(f->packet, packet, f->length);
    parse();
    assert_int_equal(f->space.answer.result, RESULT_OK);
    assert_int_equal(f->space.answer.address_count, 1);
    assert_int_equal(f->space.answer.ttl_ms, 60000);
}

TEST(dns_answer, aliases_in_a_circle_end)
{
    const struct dns_answer *a =
        answer_of(RECORD_A, "CNAME a.test;CNAME mail.test;CNAME a.test;CNAME mail.test");

    assert_int_equal(a->result, RESULT_DNS_FAILURE);
    assert_string_equal(a->text, "too many aliases");
}

TEST(dns_answer, the_first_pointer_name_stands)
{
    const struct dns_answer *a = answer_of(RECORD_PTR, "PTR Host.test;PTR other.test");

    assert_int_equal(a->result, RESULT_OK);
    assert_string_equal(a->name, "host.test");
}

TEST(dns_answer, the_strings_of_a_text_are_joined)
{
    const struct dns_answer *a = answer_of(RECORD_TXT, "TXT v=one |p=AAAA;TXT b||c");

    assert_int_equal(a->result, RESULT_OK);
    assert_int_equal(a->ttl_ms, 300000);
    assert_int_equal(a->txt_count, 2);
    assert_true(slice_equal_text(a->txt[0], "v=one p=AAAA"));
    assert_true(slice_equal_text(a->txt[1], "bc"));
}

TEST(dns_answer, texts_beyond_the_limits_are_passed_over)
{
    char records[20 * 256];
    size_t length = 0;

    for (int i = 0; i < 20; i++)
        length += (size_t)snprintf(records + length, sizeof records - length, "%sTXT %d",
                                   i > 0 ? ";" : "", i);
    (void)answer_of(RECORD_TXT, records);
    assert_int_equal(f->space.answer.result, RESULT_OK);
    assert_int_equal(f->space.answer.txt_count, LIMIT_DNS_ANSWER_TXT);
    assert_true(slice_equal_text(f->space.answer.txt[LIMIT_DNS_ANSWER_TXT - 1], "15"));
}

TEST(dns_answer, a_text_whose_string_is_longer_than_its_record_is_malformed)
{
    static const char packet[] = "\0\7\x81\x80\0\1\0\1\0\0\0\0\4mail\4test\0\0\x10\0\1"
                                 "\xc0\x0c\0\x10\0\1\0\0\0\x3c\0\3\5ab";

    assert_int_equal(dns_question_set(&f->question, "mail.test", RECORD_TXT), RESULT_OK);
    f->length = sizeof packet - 1;
    memcpy(f->packet, packet, f->length);
    parse();
    assert_string_equal(f->space.answer.text, "malformed records only");
}

TEST(dns_answer, absence_has_two_forms)
{
    struct fake_dns_row row = {.rcode = 3};

    assert_int_equal(answer(RECORD_MX, &row)->result, RESULT_DNS_NXDOMAIN);
    row.rcode = 0;
    assert_int_equal(answer(RECORD_MX, &row)->result, RESULT_DNS_NODATA);
}

TEST(dns_answer, a_server_in_trouble_is_named)
{
    struct fake_dns_row row = {.rcode = 2};

    assert_int_equal(answer(RECORD_MX, &row)->result, RESULT_DNS_FAILURE);
    assert_string_equal(f->space.answer.text, "the server answered SERVFAIL");
    row.rcode = 11;
    assert_int_equal(answer(RECORD_MX, &row)->result, RESULT_DNS_FAILURE);
    assert_string_equal(f->space.answer.text, "the server answered rcode 11");
}

TEST(dns_answer, insane_host_names_are_skipped_never_repaired)
{
    const struct dns_answer *a = answer_of(
        RECORD_MX,
        "MX 1 a\\046b.test;MX 2 a\\000b.test;MX 3 a\\032b.test;MX 4 good_1-x.test");

    assert_int_equal(a->result, RESULT_OK);
    assert_int_equal(a->mx_count, 1);
    assert_string_equal(a->mx[0].host, "good_1-x.test");

    a = answer_of(RECORD_MX, "MX 1 a\\046b.test");
    assert_int_equal(a->result, RESULT_DNS_FAILURE);
    assert_string_equal(a->text, "malformed records only");
    assert_int_equal(answer_of(RECORD_PTR, "PTR a\\013\\010b.test")->result,
                     RESULT_DNS_FAILURE);
}

TEST(dns_answer, more_records_than_we_keep_do_no_harm)
{
    struct fake_dns_row row = {.mx_count = 600, .ttl_s = 60};
    const struct dns_answer *a = answer(RECORD_MX, &row);

    assert_int_equal(a->result, RESULT_OK);
    assert_int_equal(a->mx_count, LIMIT_DNS_ANSWER_MX);
}

TEST(dns_answer, every_shortened_packet_is_a_failure)
{
    size_t whole;

    (void)answer_of(RECORD_MX, "CNAME a.test;MX 10 mx1.test;MX 20 mx2.test");
    assert_int_equal(f->space.answer.result, RESULT_OK);
    whole = f->length;
    for (f->length = 0; f->length < whole; f->length++) {
        parse();
        assert_int_equal(f->space.answer.result, RESULT_DNS_FAILURE);
        assert_true(strlen(f->space.answer.text) > 0);
    }
}

TEST(dns_answer, pointers_lead_backwards_only)
{
    /* The owner of the record points to itself, forwards, and into the header. */
    static const uint8_t targets[] = {27, 60, 4};

    for (size_t i = 0; i < sizeof targets; i++) {
        (void)answer_of(RECORD_A, "A 192.0.2.1");
        assert_int_equal(f->space.answer.result, RESULT_OK);
        assert_int_equal(f->packet[27], 0xc0);
        f->packet[28] = targets[i];
        parse();
        assert_int_equal(f->space.answer.result, RESULT_DNS_FAILURE);
    }
}

TEST(dns_answer, what_is_no_answer_to_our_question_is_refused)
{
    (void)answer_of(RECORD_A, "A 192.0.2.1");
    f->packet[2] &= 0x7f; /* a query, not a response */
    parse();
    assert_int_equal(f->space.answer.result, RESULT_DNS_FAILURE);

    (void)answer_of(RECORD_A, "A 192.0.2.1");
    f->packet[13] = 'x'; /* another name */
    parse();
    assert_int_equal(f->space.answer.result, RESULT_DNS_FAILURE);
    assert_string_equal(f->space.answer.text, "an answer to another question");

    (void)answer_of(RECORD_A, "A 192.0.2.1");
    f->packet[2] |= 0x02; /* truncated */
    parse();
    assert_string_equal(f->space.answer.text, "truncated answer");
}

TEST(dns_answer, records_of_other_names_are_ignored)
{
    static const char packet[] = "\0\7\x81\x80\0\1\0\1\0\0\0\0\4mail\4test\0\0\1\0\1"
                                 "\4evil\4test\0\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x09";

    assert_int_equal(dns_question_set(&f->question, "mail.test", RECORD_A), RESULT_OK);
    f->length = sizeof packet - 1;
    memcpy(f->packet, packet, f->length);
    parse();
    assert_int_equal(f->space.answer.result, RESULT_DNS_NODATA);
}

TEST(dns_answer, a_ttl_with_the_top_bit_is_zero)
{
    struct fake_dns_row row = {.ttl_s = 0x80000001, .records = "A 192.0.2.1"};

    assert_int_equal(answer(RECORD_A, &row)->result, RESULT_OK);
    assert_int_equal(f->space.answer.ttl_ms, 0);
}

TEST(dns_answer, an_address_of_the_wrong_size_is_malformed)
{
    static const char packet[] = "\0\7\x81\x80\0\1\0\1\0\0\0\0\4mail\4test\0\0\1\0\1"
                                 "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\5\xc0\0\2\x09\0";

    assert_int_equal(dns_question_set(&f->question, "mail.test", RECORD_A), RESULT_OK);
    f->length = sizeof packet - 1;
    memcpy(f->packet, packet, f->length);
    parse();
    assert_int_equal(f->space.answer.result, RESULT_DNS_FAILURE);
    assert_string_equal(f->space.answer.text, "malformed records only");
}

TEST(dns_answer, tlsa_records_come_as_they_are)
{
    const struct dns_answer *a =
        answer_of(RECORD_TLSA, "TLSA 3 1 1 00ff10;TLSA 255 9 200 ab;TLSA 2 0 1 ");

    assert_int_equal(a->result, RESULT_OK);
    assert_int_equal(a->tlsa_count, 3);
    assert_int_equal(a->tlsa[0].usage, 3);
    assert_int_equal(a->tlsa[0].selector, 1);
    assert_int_equal(a->tlsa[0].matching, 1);
    assert_true(slice_equal(a->tlsa[0].data, SLICE("\0\xff\x10")));
    assert_int_equal(a->tlsa[1].usage, 255);
    assert_int_equal(a->tlsa[1].matching, 200);
    assert_int_equal(a->tlsa[2].data.length, 0); /* there, and of no use */
}

TEST(dns_answer, a_tlsa_record_that_is_too_short_is_malformed)
{
    static const char packet[] = "\0\7\x81\x80\0\1\0\1\0\0\0\0\4mail\4test\0\0\x34\0\1"
                                 "\xc0\x0c\0\x34\0\1\0\0\0\x3c\0\2\3\1";

    assert_int_equal(dns_question_set(&f->question, "mail.test", RECORD_TLSA), RESULT_OK);
    f->length = sizeof packet - 1;
    memcpy(f->packet, packet, f->length);
    parse();
    assert_int_equal(f->space.answer.result, RESULT_DNS_FAILURE);
    assert_string_equal(f->space.answer.text, "malformed records only");
}

/* Else a host with too many or too large ones would be taken for one without. */
TEST(dns_answer, tlsa_records_beyond_the_limits_are_still_there)
{
    enum { RECORDS = LIMIT_DNS_ANSWER_TLSA + 5, HEX = 2 * (LIMIT_DNS_TXT_BYTES + 1) };
    char *text = memory_new(HEX + 64);
    struct fake_dns_row row = {.ttl_s = 300, .records = text};
    size_t length = 0;

    for (int i = 0; i < RECORDS; i++)
        length += (size_t)snprintf(text + length, 64, "%sTLSA 3 1 1 %02x", i ? ";" : "",
                                   (unsigned)i);
    assert_int_equal(answer(RECORD_TLSA, &row)->result, RESULT_OK);
    assert_int_equal(f->space.answer.tlsa_count, LIMIT_DNS_ANSWER_TLSA);

    length = (size_t)snprintf(text, 64, "TLSA 3 0 0 ");
    memset(text + length, 'a', HEX);
    text[length + HEX] = '\0';
    assert_int_equal(answer(RECORD_TLSA, &row)->result, RESULT_OK);
    assert_int_equal(f->space.answer.tlsa_count, 1);
    assert_int_equal(f->space.answer.tlsa[0].data.length, 0);
    memory_free(text);
}

TEST(dns_answer, the_end_of_the_aliases_is_told)
{
    const struct dns_answer *a =
        answer_of(RECORD_A, "CNAME one.test;CNAME Two.test;A 192.0.2.1");

    assert_string_equal(a->canonical, "two.test");
    a = answer_of(RECORD_AAAA, "CNAME one.test");
    assert_int_equal(a->result, RESULT_DNS_NODATA);
    assert_string_equal(a->canonical, "one.test");
    assert_null(answer_of(RECORD_A, "A 192.0.2.1")->canonical);
    a = answer_of(RECORD_CNAME, "CNAME One.test");
    assert_int_equal(a->result, RESULT_OK);
    assert_string_equal(a->name, "one.test");
    assert_null(a->canonical);
}

#define RUN_HERE(name) cmocka_unit_test_setup_teardown(dns_answer_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_HERE(mx_records_come_with_preference_host_and_least_ttl),
        RUN_HERE(the_root_as_mx_is_the_null_mx),
        RUN_HERE(addresses_of_both_families_are_read_once_each),
        RUN_HERE(aliases_are_followed),
        RUN_HERE(aliases_are_followed_out_of_order_too),
        RUN_HERE(aliases_in_a_circle_end),
        RUN_HERE(the_first_pointer_name_stands),
        RUN_HERE(the_strings_of_a_text_are_joined),
        RUN_HERE(texts_beyond_the_limits_are_passed_over),
        RUN_HERE(a_text_whose_string_is_longer_than_its_record_is_malformed),
        RUN_HERE(absence_has_two_forms),
        RUN_HERE(a_server_in_trouble_is_named),
        RUN_HERE(insane_host_names_are_skipped_never_repaired),
        RUN_HERE(more_records_than_we_keep_do_no_harm),
        RUN_HERE(every_shortened_packet_is_a_failure),
        RUN_HERE(pointers_lead_backwards_only),
        RUN_HERE(what_is_no_answer_to_our_question_is_refused),
        RUN_HERE(records_of_other_names_are_ignored),
        RUN_HERE(a_ttl_with_the_top_bit_is_zero),
        RUN_HERE(an_address_of_the_wrong_size_is_malformed),
        RUN_HERE(tlsa_records_come_as_they_are),
        RUN_HERE(a_tlsa_record_that_is_too_short_is_malformed),
        RUN_HERE(tlsa_records_beyond_the_limits_are_still_there),
        RUN_HERE(the_end_of_the_aliases_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
