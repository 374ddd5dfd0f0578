/* Bound sockets. */
#include "pair.h"

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

TEST(listener, a_taken_port_is_a_fault_that_names_it)
{
    struct tls_settings tls = {0, 0};
    struct listener *second = NULL;
    struct fault fault;
    struct pair pair;
    char text[IP_TEXT];

    pair_init(&pair, &tls);
    assert_int_equal(
        listener_open(pair.net, listener_endpoint(pair.listener), &second, &fault),
        RESULT_IO);
    endpoint_print(listener_endpoint(pair.listener), text);
    assert_non_null(strstr(fault.text, text));
    pair_close(&pair);
}

TEST(listener, nothing_is_accepted_before_the_start)
{
    struct tls_settings tls = {0, 0};
    struct listener *second = NULL;
    struct endpoint endpoint;
    struct fault fault;
    struct pair pair;

    pair_init(&pair, &tls);
    assert_int_equal(endpoint_parse(SLICE("127.0.0.1:0"), &endpoint), RESULT_OK);
    assert_int_equal(listener_open(pair.net, &endpoint, &second, &fault), RESULT_OK);
    pair.dial = dial_start(pair.net, listener_endpoint(second), 1, NULL, 2000,
                           pair_on_dialed, &pair);
    PAIR_UNTIL(&pair, pair.client.stream); /* the backlog took it */
    loop_run_for(pair.loop, 20);
    assert_null(pair.server.stream);
    listener_start(second, pair_on_stream, &pair);
    PAIR_UNTIL(&pair, pair.server.stream);
    listener_close(second);
    pair_close(&pair);
}

/* Without a descriptor the client is told, instead of hanging in the backlog. */
TEST(listener, out_of_descriptors_a_client_hears_421)
{
    struct tls_settings tls = {0, 0};
    struct rlimit before;
    struct rlimit few;
    struct pair pair;
    char said[64] = "";
    int clients[8];
    int last;

    pair_init(&pair, &tls);
    last = socket(AF_INET, SOCK_STREAM, 0);
    for (size_t i = 0; i < 8; i++)
        clients[i] = dup(0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = (rlim_t)clients[7] + 1;
    for (size_t i = 0; i < 8; i++)
        (void)close(clients[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (dup(0) >= 0)
        ;
    {
        struct sockaddr_in address = {.sin_family = AF_INET};

        address.sin_port = __builtin_bswap16(listener_endpoint(pair.listener)->port);
        address.sin_addr.s_addr = __builtin_bswap32(0x7f000001);
        assert_int_equal(connect(last, (struct sockaddr *)&address, sizeof address), 0);
    }
    loop_run_for(pair.loop, 50);
    assert_true(recv(last, said, sizeof said - 1, MSG_DONTWAIT) > 0);
    assert_memory_equal(said, "421 4.3.2", 9);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    (void)close(last);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(listener, a_taken_port_is_a_fault_that_names_it),
        RUN(listener, nothing_is_accepted_before_the_start),
        RUN(listener, out_of_descriptors_a_client_hears_421),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
