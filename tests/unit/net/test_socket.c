/* Endpoints as the system wants them and back, and libuv's errors in our words. */
#include "inner.h"

#include "test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static struct endpoint endpoint_of(const char *text)
{
    struct endpoint endpoint;

    assert_int_equal(endpoint_parse(slice_of(text), &endpoint), RESULT_OK);
    return endpoint;
}

TEST(socket, a_v4_endpoint_is_a_v4_address_of_the_system)
{
    struct endpoint endpoint = endpoint_of("192.0.2.7:2525");
    struct sockaddr_storage storage;
    const struct sockaddr_in *address = (const struct sockaddr_in *)&storage;

    memset(&storage, 0xff, sizeof storage); /* nothing of before stays */
    endpoint_to_sockaddr(&endpoint, &storage);
    assert_int_equal(address->sin_family, AF_INET);
    assert_int_equal(address->sin_port, htons(2525));
    assert_int_equal(address->sin_addr.s_addr, inet_addr("192.0.2.7"));
    assert_int_equal(address->sin_zero[0], 0);
}

TEST(socket, a_v6_endpoint_is_a_v6_address_of_the_system)
{
    struct endpoint endpoint = endpoint_of("[2001:db8::9]:65535");
    struct sockaddr_storage storage;
    const struct sockaddr_in6 *address = (const struct sockaddr_in6 *)&storage;
    struct in6_addr expected;

    memset(&storage, 0xff, sizeof storage);
    endpoint_to_sockaddr(&endpoint, &storage);
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::9", &expected), 1);
    assert_int_equal(address->sin6_family, AF_INET6);
    assert_int_equal(address->sin6_port, htons(65535));
    assert_memory_equal(&address->sin6_addr, &expected, sizeof expected);
    assert_int_equal(address->sin6_scope_id, 0);
    assert_int_equal(address->sin6_flowinfo, 0);
}

TEST(socket, there_and_back_is_the_same)
{
    static const char *const texts[] = {
        "0.0.0.0:0", "127.0.0.1:25", "255.255.255.255:65535",
        "[::]:587",  "[::1]:465",    "[2001:db8:1:2:3:4:5:6]:25"};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct endpoint endpoint = endpoint_of(texts[i]);
        struct sockaddr_storage storage;
        struct endpoint back;

        endpoint_to_sockaddr(&endpoint, &storage);
        memset(&back, 0xff, sizeof back);
        endpoint_from_sockaddr(&storage, &back);
        assert_true(endpoint_equal(&endpoint, &back));
    }
}

/* A client over a socket that takes both: the same address as over IPv4. */
TEST(socket, a_v4_client_of_a_v6_socket_is_a_v4_client)
{
    struct endpoint expected = endpoint_of("192.0.2.7:2525");
    struct sockaddr_storage storage = {0};
    struct sockaddr_in6 *address = (struct sockaddr_in6 *)&storage;
    struct endpoint endpoint;

    address->sin6_family = AF_INET6;
    address->sin6_port = htons(2525);
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.7", &address->sin6_addr), 1);
    endpoint_from_sockaddr(&storage, &endpoint);
    assert_true(endpoint_equal(&endpoint, &expected));
    assert_true(ip_is_v4(&endpoint.ip));
}

TEST(socket, a_family_that_is_not_ours_is_no_endpoint)
{
    struct sockaddr_storage storage = {.ss_family = AF_UNIX};
    struct endpoint nothing;
    struct endpoint endpoint;

    memset(&nothing, 0, sizeof nothing);
    memset(&endpoint, 0xff, sizeof endpoint);
    endpoint_from_sockaddr(&storage, &endpoint);
    assert_memory_equal(&endpoint, &nothing, sizeof endpoint);
}

TEST(socket, errors_are_said_in_our_words)
{
    static const struct {
        int status;
        enum result result;
    } rows[] = {{0, RESULT_OK},
                {UV_EOF, RESULT_CLOSED},
                {UV_ECONNRESET, RESULT_CLOSED},
                {UV_EPIPE, RESULT_CLOSED},
                {UV_ENOTCONN, RESULT_CLOSED},
                {UV_ECONNREFUSED, RESULT_REFUSED},
                {UV_ETIMEDOUT, RESULT_TIMEOUT},
                {UV_ENETUNREACH, RESULT_UNREACHABLE},
                {UV_EHOSTUNREACH, RESULT_UNREACHABLE},
                {UV_EADDRNOTAVAIL, RESULT_UNREACHABLE},
                {UV_ENETDOWN, RESULT_UNREACHABLE},
                {UV_EACCES, RESULT_DENIED},
                {UV_EPERM, RESULT_DENIED},
                {UV_EADDRINUSE, RESULT_EXISTS},
                {UV_ENOMEM, RESULT_IO},
                {UV_EMFILE, RESULT_IO},
                {-12345, RESULT_IO}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(result_of_uv(rows[i].status), rows[i].result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(socket, a_v4_endpoint_is_a_v4_address_of_the_system),
        RUN(socket, a_v6_endpoint_is_a_v6_address_of_the_system),
        RUN(socket, there_and_back_is_the_same),
        RUN(socket, a_v4_client_of_a_v6_socket_is_a_v4_client),
        RUN(socket, a_family_that_is_not_ours_is_no_endpoint),
        RUN(socket, errors_are_said_in_our_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
