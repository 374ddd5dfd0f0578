/* Bound sockets. */
#include "pair.h"

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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
    struct dial_request request = {.count = 1, .timeout_ms = 2000};
    struct listener *second = NULL;
    struct endpoint endpoint;
    struct fault fault;
    struct pair pair;

    pair_init(&pair, &tls);
    assert_int_equal(endpoint_parse(SLICE("127.0.0.1:0"), &endpoint), RESULT_OK);
    assert_int_equal(listener_open(pair.net, &endpoint, &second, &fault), RESULT_OK);
    request.addresses = listener_endpoint(second);
    pair.dial = dial_start(pair.net, &request, pair_on_dialed, &pair);
    PAIR_UNTIL(&pair, pair.client.stream); /* the backlog took it */
    loop_run_for(pair.loop, 20);
    assert_null(pair.server.stream);
    listener_start(second, pair_on_stream, &pair);
    PAIR_UNTIL(&pair, pair.server.stream);
    listener_close(second);
    pair_close(&pair);
}

TEST(listener, a_stopped_one_lets_clients_wait_until_it_is_started_again)
{
    struct tls_settings tls = {0, 0};
    struct dial_request request = {.count = 1, .timeout_ms = 2000};
    struct listener *second = NULL;
    struct network balancers;
    struct endpoint endpoint;
    struct fault fault;
    struct pair pair;

    pair_init(&pair, &tls);
    assert_int_equal(endpoint_parse(SLICE("127.0.0.1:0"), &endpoint), RESULT_OK);
    assert_int_equal(network_parse(SLICE("127.0.0.0/8"), &balancers), RESULT_OK);
    assert_int_equal(listener_open(pair.net, &endpoint, &second, &fault), RESULT_OK);
    listener_expect_proxy(second, &balancers, 1);
    listener_start(second, pair_on_stream, &pair);
    listener_stop(second);
    listener_stop(second);
    request.addresses = listener_endpoint(second);
    pair.dial = dial_start(pair.net, &request, pair_on_dialed, &pair);
    PAIR_UNTIL(&pair, pair.client.stream); /* the backlog took it */
    loop_run_for(pair.loop, 20);
    assert_null(pair.server.stream);
    listener_start(second, pair_on_stream, &pair); /* a header is not expected any more */
    PAIR_UNTIL(&pair, pair.server.stream);
    listener_stop(second);
    listener_close(second);
    pair_close(&pair);
}

static unsigned accept_count;

/* In the place of the C library's. */
int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict length, int flags)
{
    accept_count++;
    return (int)syscall(SYS_accept4, fd, address.__sockaddr__, length, flags);
}

static int connect_to(const struct pair *pair)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_port = htons(listener_endpoint(pair->listener)->port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void let_descriptors_be(rlim_t count)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* The spare descriptor may be lost to another thread between its close and its return. */
TEST(listener, a_lost_spare_descriptor_is_taken_again_and_nothing_spins)
{
    struct tls_settings tls = {0, 0};
    struct rlimit before;
    struct pair pair;
    char said[64] = "";
    int fds[2];
    int highest;
    unsigned tries;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    pair_init(&pair, &tls);
    fds[0] = connect_to(&pair);
    let_descriptors_be(3); /* no descriptor can be made: the spare one is lost */
    loop_run_for(pair.loop, 20);
    accept_count = 0;
    loop_run_for(pair.loop, 1000);
    tries = accept_count;
    assert_null(pair.server.stream);
    let_descriptors_be(before.rlim_cur);
    PAIR_UNTIL(&pair, pair.server.stream); /* and the client that waited is taken */
    assert_true(tries < 200); /* once a pause; a spinning loop tries 64 times a turn */
    fds[1] = connect_to(&pair);
    highest = dup(0);
    let_descriptors_be((rlim_t)highest);
    (void)close(highest);
    while (dup(0) >= 0)
        ;
    loop_run_for(pair.loop, 50);
    assert_true(recv(fds[1], said, sizeof said - 1, MSG_DONTWAIT) > 0);
    assert_memory_equal(said, "421 4.3.2", 9);
    let_descriptors_be(before.rlim_cur);
    (void)close(fds[0]);
    (void)close(fds[1]);
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
        RUN(listener, a_stopped_one_lets_clients_wait_until_it_is_started_again),
        RUN(listener, a_lost_spare_descriptor_is_taken_again_and_nothing_spins),
        RUN(listener, out_of_descriptors_a_client_hears_421),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
