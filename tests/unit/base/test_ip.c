/* Addresses, networks, endpoints. */
#include "smtpd/base/ip.h"

#include "test.h"

#include <string.h>

static struct ip ip_of(const char *text)
{
    struct ip ip;

    assert_int_equal(ip_parse(slice_of(text), &ip), RESULT_OK);
    return ip;
}

TEST(ip, addresses_are_printed_in_their_usual_form)
{
    static const char *const pairs[][3] = {
        {"192.0.2.1", "192.0.2.1", "192.0.2.1"},
        {"2001:DB8:0:0::1", "2001:db8::1", "IPv6:2001:db8::1"},
        {"::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"},
        {"::", "::", "IPv6:::"}};
    char text[IP_TEXT];

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct ip ip = ip_of(pairs[i][0]);

        ip_print(&ip, text);
        assert_string_equal(text, pairs[i][1]);
        ip_print_smtp(&ip, text);
        assert_string_equal(text, pairs[i][2]);
    }
}

TEST(ip, what_is_no_address_is_refused)
{
    static const char *const bad[] = {
        "",      "1.2.3", "1.2.3.256",    "01.2.3.4",          "1.2.3.4 ",
        "[::1]", "::g",   "fe80::1%eth0", "1:2:3:4:5:6:7:8:9", "localhost"};
    struct ip ip;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ip_parse(slice_of(bad[i]), &ip), RESULT_INVALID);
    assert_int_equal(ip_parse(SLICE("1.2.3.4\0x"), &ip), RESULT_INVALID);
}

TEST(ip, both_forms_of_an_ipv4_address_are_one)
{
    static const uint8_t four[4] = {192, 0, 2, 1};
    struct ip a = ip_of("192.0.2.1");
    struct ip b = ip_of("::ffff:192.0.2.1");
    struct ip c = ip_from_v4(four);
    struct ip d = ip_of("192.0.2.2");

    assert_true(ip_equal(&a, &b));
    assert_true(ip_equal(&a, &c));
    assert_false(ip_equal(&a, &d));
    assert_true(ip_is_v4(&a));
    d = ip_of("2001:db8::1");
    assert_false(ip_is_v4(&d));
}

TEST(ip, networks_contain_their_addresses_and_no_others)
{
    static const struct {
        const char *network;
        const char *ip;
        bool is_in;
    } cases[] = {{"192.0.2.0/24", "192.0.2.255", true},
                 {"192.0.2.0/24", "192.0.3.0", false},
                 {"192.0.2.128/25", "192.0.2.127", false},
                 {"192.0.2.128/25", "192.0.2.128", true},
                 {"10.0.0.1", "10.0.0.1", true},
                 {"10.0.0.1", "10.0.0.2", false},
                 {"0.0.0.0/0", "255.1.2.3", true},
                 {"0.0.0.0/0", "2001:db8::1", false},
                 {"::/0", "2001:db8::1", true},
                 {"2001:db8::/33", "2001:db8:7fff::", true},
                 {"2001:db8::/33", "2001:db8:8000::", false}};
    struct network network;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ip ip = ip_of(cases[i].ip);

        assert_int_equal(network_parse(slice_of(cases[i].network), &network), RESULT_OK);
        assert_int_equal(network_contains(&network, &ip), cases[i].is_in);
    }
}

TEST(ip, networks_with_host_bits_or_a_bad_prefix_are_refused)
{
    static const char *const bad[] = {"192.0.2.1/24", "192.0.2.0/33",   "192.0.2.0/",
                                      "/24",          "2001:db8::1/32", "::/129",
                                      "192.0.2.0/-1", "10.0.0.0/ 8"};
    struct network network;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(network_parse(slice_of(bad[i]), &network), RESULT_INVALID);
}

TEST(ip, a_printed_network_is_the_same_when_read_again)
{
    static const char *const nets[] = {"192.0.2.0/24", "10.0.0.1/32", "2001:db8::/32",
                                       "::1/128",      "0.0.0.0/0",   "::/0"};
    struct network network;
    char text[IP_TEXT];

    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        assert_int_equal(network_parse(slice_of(nets[i]), &network), RESULT_OK);
        network_print(&network, text);
        assert_string_equal(text, nets[i]);
    }
}

TEST(ip, endpoints_are_printed_as_they_are_read)
{
    static const char *const good[] = {"192.0.2.1:25", "[2001:db8::1]:587", "0.0.0.0:0",
                                       "[::]:65535"};
    struct endpoint endpoint;
    struct endpoint again;
    char text[IP_TEXT];

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(endpoint_parse(slice_of(good[i]), &endpoint), RESULT_OK);
        endpoint_print(&endpoint, text);
        assert_string_equal(text, good[i]);
        assert_int_equal(endpoint_parse(slice_of(text), &again), RESULT_OK);
        assert_true(endpoint_equal(&endpoint, &again));
        again.port++;
        assert_false(endpoint_equal(&endpoint, &again));
    }
}

TEST(ip, endpoints_without_an_address_or_port_are_refused)
{
    static const char *const bad[] = {
        "",      ":25",     "*:25",  "192.0.2.1",       "192.0.2.1:", "::1:25",
        "[::1]", "[::1:25", "[]:25", "192.0.2.1:65536", "1.2.3.4:x"};
    struct endpoint endpoint;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_not_equal(endpoint_parse(slice_of(bad[i]), &endpoint), RESULT_OK);
}

TEST(ip, mail_of_the_internet_leads_to_public_addresses_only)
{
    static const char *const inside[] = {"127.0.0.1",
                                         "10.1.2.3",
                                         "172.31.255.255",
                                         "192.168.0.1",
                                         "169.254.1.1",
                                         "100.64.0.1",
                                         "0.0.0.0",
                                         "224.0.0.1",
                                         "255.255.255.255",
                                         "::",
                                         "::1",
                                         "fe80::1",
                                         "fd00::1",
                                         "ff02::1",
                                         "2001:db8::1",
                                         "::ffff:10.0.0.1",
                                         "192.0.2.5",
                                         "198.18.0.1"};
    static const char *const outside[] = {"8.8.8.8",     "172.32.0.1",   "100.128.0.1",
                                          "192.169.0.1", "2606:4700::1", "223.255.255.255",
                                          "11.0.0.0"};

    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        struct ip ip = ip_of(inside[i]);

        assert_true(ip_is_private(&ip));
    }
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        struct ip ip = ip_of(outside[i]);

        assert_false(ip_is_private(&ip));
    }
}

TEST(ip, loopback_is_127_and_1)
{
    struct ip ip = ip_of("127.9.9.9");

    assert_true(ip_is_loopback(&ip));
    ip = ip_of("::1");
    assert_true(ip_is_loopback(&ip));
    ip = ip_of("128.0.0.1");
    assert_false(ip_is_loopback(&ip));
    ip = ip_of("::2");
    assert_false(ip_is_loopback(&ip));
}

static bool overlap(const char *a, const char *b)
{
    struct endpoint left;
    struct endpoint right;

    assert_int_equal(endpoint_parse(slice_of(a), &left), RESULT_OK);
    assert_int_equal(endpoint_parse(slice_of(b), &right), RESULT_OK);
    assert_int_equal(endpoint_overlaps(&left, &right), endpoint_overlaps(&right, &left));
    return endpoint_overlaps(&left, &right);
}

TEST(ip, a_port_of_all_addresses_overlaps_with_that_of_one)
{
    assert_true(overlap("0.0.0.0:587", "127.0.0.1:587"));
    assert_true(overlap("[::]:587", "[2001:db8::1]:587"));
    assert_false(overlap("0.0.0.0:587", "127.0.0.1:25"));
    assert_false(overlap("0.0.0.0:587", "[::1]:587")); /* ours take no IPv4 */
    assert_false(overlap("[::]:587", "192.0.2.1:587"));
    assert_false(overlap("0.0.0.0:587", "[::]:587"));
    assert_false(overlap("0.0.0.0:587", "0.0.0.0:587")); /* the same one */
    assert_false(overlap("192.0.2.1:587", "192.0.2.2:587"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(ip, addresses_are_printed_in_their_usual_form),
        RUN(ip, what_is_no_address_is_refused),
        RUN(ip, both_forms_of_an_ipv4_address_are_one),
        RUN(ip, networks_contain_their_addresses_and_no_others),
        RUN(ip, networks_with_host_bits_or_a_bad_prefix_are_refused),
        RUN(ip, a_printed_network_is_the_same_when_read_again),
        RUN(ip, endpoints_are_printed_as_they_are_read),
        RUN(ip, endpoints_without_an_address_or_port_are_refused),
        RUN(ip, mail_of_the_internet_leads_to_public_addresses_only),
        RUN(ip, loopback_is_127_and_1),
        RUN(ip, a_port_of_all_addresses_overlaps_with_that_of_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
