/* Who is believed, and who is asked at all. */
#include "dns_servers.h"

#include "test.h"

#include <string.h>

static struct endpoint server_at(const char *address)
{
    struct endpoint server = {.port = 53};

    assert_int_equal(ip_parse(slice_of(address), &server.ip), RESULT_OK);
    return server;
}

TEST(dns_servers, who_is_believed_about_authenticity)
{
    static const struct {
        const char *address;
        bool trusts_ad;
        bool is_believed;
    } cases[] = {{"127.0.0.53", false, true}, {"::1", false, true},
                 {"192.0.2.1", false, false}, {"2001:db8::1", false, false},
                 {"192.0.2.1", true, true},   {"127.0.0.1", true, true}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct endpoint server = server_at(cases[i].address);

        assert_int_equal(dns_server_is_believed(&server, cases[i].trusts_ad),
                         cases[i].is_believed);
    }
}

TEST(dns_servers, beside_a_believed_one_no_other_is_asked)
{
    struct endpoint given[] = {server_at("192.0.2.1"), server_at("127.0.0.1"),
                               server_at("192.0.2.2"), server_at("::1")};
    struct resolver_settings settings = {
        .servers = given, .server_count = 4, .wants_authentic = true};
    struct dns_servers servers;

    assert_int_equal(dns_servers_choose(&settings, &servers, NULL), RESULT_OK);
    assert_int_equal(servers.count, 2);
    assert_int_equal(servers.left_out, 2);
    assert_true(ip_equal(&servers.items[0].ip, &given[1].ip));
    assert_true(ip_equal(&servers.items[1].ip, &given[3].ip));
    /* Nobody asks for authenticity: all of them help. */
    settings.wants_authentic = false;
    assert_int_equal(dns_servers_choose(&settings, &servers, NULL), RESULT_OK);
    assert_int_equal(servers.count, 4);
    assert_int_equal(servers.left_out, 0);
    settings.wants_authentic = true;
    settings.trusts_ad = true;
    assert_int_equal(dns_servers_choose(&settings, &servers, NULL), RESULT_OK);
    assert_int_equal(servers.count, 4);
}

TEST(dns_servers, without_a_believed_one_all_are_asked)
{
    struct endpoint given[] = {server_at("192.0.2.1"), server_at("192.0.2.2")};
    struct resolver_settings settings = {
        .servers = given, .server_count = 2, .wants_authentic = true};
    struct dns_servers servers;

    assert_int_equal(dns_servers_choose(&settings, &servers, NULL), RESULT_OK);
    assert_int_equal(servers.count, 2);
    assert_int_equal(servers.left_out, 0);
}

TEST(dns_servers, without_any_those_of_the_system_are_asked)
{
    struct resolver_settings settings = {0};
    struct dns_servers servers;

    assert_int_equal(dns_servers_choose(&settings, &servers, NULL), RESULT_OK);
    assert_in_range(servers.count, 1, LIMIT_DNS_SERVERS);
    assert_int_equal(servers.items[0].port, 53);
}

TEST(dns_servers, too_many_are_refused)
{
    struct endpoint given[LIMIT_DNS_SERVERS + 1];
    struct resolver_settings settings = {.servers = given,
                                         .server_count = LIMIT_DNS_SERVERS + 1};
    struct dns_servers servers;
    struct fault fault = {0};

    for (size_t i = 0; i <= LIMIT_DNS_SERVERS; i++)
        given[i] = server_at("127.0.0.1");
    assert_int_equal(dns_servers_choose(&settings, &servers, &fault), RESULT_TOO_LARGE);
    assert_non_null(strstr(fault.text, "at most"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(dns_servers, who_is_believed_about_authenticity),
        RUN(dns_servers, beside_a_believed_one_no_other_is_asked),
        RUN(dns_servers, without_a_believed_one_all_are_asked),
        RUN(dns_servers, without_any_those_of_the_system_are_asked),
        RUN(dns_servers, too_many_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
