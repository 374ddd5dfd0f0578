/* Names on the wire. */
#include "dns_question.h"

#include "test.h"

#include <string.h>

TEST(dns_question, a_name_becomes_labels)
{
    struct dns_question question;

    assert_int_equal(dns_question_set(&question, "Mail.Example.test", RECORD_MX),
                     RESULT_OK);
    assert_int_equal(question.name_length, 19);
    assert_memory_equal(question.name, "\4mail\7example\4test", 19);
}

TEST(dns_question, a_backslash_is_a_byte_not_an_escape)
{
    struct dns_question question;

    assert_int_equal(dns_question_set(&question, "a\\046b.test", RECORD_A), RESULT_OK);
    assert_memory_equal(question.name, "\6a\\046b\4test", 13);
}

TEST(dns_question, names_that_cannot_be_are_refused)
{
    static const char *const names[] = {"",      ".",        "a..test", ".test",
                                        "test.", "a b.test", "a\tb",    "\xc3\xa9.test"};
    struct dns_question question;
    char label[66];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(dns_question_set(&question, names[i], RECORD_A), RESULT_INVALID);
    memset(label, 'a', sizeof label);
    label[64] = '\0';
    assert_int_equal(dns_question_set(&question, label, RECORD_A), RESULT_INVALID);
    label[63] = '\0';
    assert_int_equal(dns_question_set(&question, label, RECORD_A), RESULT_OK);
}

TEST(dns_question, the_longest_name_has_253_characters)
{
    struct dns_question question;
    char name[300];

    memset(name, 'a', sizeof name);
    name[63] = name[127] = name[191] = '.';
    name[254] = '\0';
    assert_int_equal(dns_question_set(&question, name, RECORD_A), RESULT_INVALID);
    name[253] = '\0';
    assert_int_equal(dns_question_set(&question, name, RECORD_A), RESULT_OK);
    assert_int_equal(question.name_length, DNS_WIRE_NAME);
}

TEST(dns_question, a_query_asks_for_recursion_and_dnssec)
{
    static const char expected[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01"
                                   "\4test\0\0\x0f\0\1"
                                   "\0\0\x29\x04\xd0\0\0\x80\0\0\0";
    struct dns_question question;
    uint8_t packet[DNS_QUERY_BYTES];

    assert_int_equal(dns_question_set(&question, "test", RECORD_MX), RESULT_OK);
    assert_int_equal(dns_question_write(&question, 0x1234, packet), sizeof expected - 1);
    assert_memory_equal(packet, expected, sizeof expected - 1);
}

TEST(dns_question, an_address_has_a_reverse_name)
{
    char name[DNS_REVERSE_NAME];
    struct ip ip;

    assert_int_equal(ip_parse(slice_of("192.0.2.10"), &ip), RESULT_OK);
    dns_question_reverse_name(&ip, name);
    assert_string_equal(name, "10.2.0.192.in-addr.arpa");
    assert_int_equal(ip_parse(slice_of("2001:db8::ab"), &ip), RESULT_OK);
    dns_question_reverse_name(&ip, name);
    assert_string_equal(name,
                        "b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2."
                        "ip6.arpa");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(dns_question, a_name_becomes_labels),
        RUN(dns_question, a_backslash_is_a_byte_not_an_escape),
        RUN(dns_question, names_that_cannot_be_are_refused),
        RUN(dns_question, the_longest_name_has_253_characters),
        RUN(dns_question, a_query_asks_for_recursion_and_dnssec),
        RUN(dns_question, an_address_has_a_reverse_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
