/* A listener behind a balancer: real sockets, headers whole, in pieces, wrong or never. */
#include "pair.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define LITERAL(text) ((struct slice){text, sizeof(text) - 1})

static int balancer_connect(const struct pair *pair)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_port = __builtin_bswap16(listener_endpoint(pair->listener)->port);
    address.sin_addr.s_addr = __builtin_bswap32(0x7f000001);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, struct slice bytes)
{
    assert_int_equal(send(fd, bytes.data, bytes.length, MSG_NOSIGNAL), bytes.length);
}

/* The end, or a reset: the other side closed with our bytes unread. */
static bool is_closed(int fd)
{
    char byte;
    ssize_t count = recv(fd, &byte, 1, MSG_DONTWAIT);

    return count == 0 || (count < 0 && errno != EAGAIN);
}

static void open_behind(struct pair *pair, const char *network)
{
    struct tls_settings tls = {0, 0};
    struct network balancers;

    pair_init(pair, &tls);
    assert_int_equal(network_parse(slice_of(network), &balancers), RESULT_OK);
    listener_expect_proxy(pair->listener, &balancers, 1);
}

TEST(proxy_wait, the_client_is_who_the_header_names)
{
    struct pair pair;
    char text[IP_TEXT];
    int fd;

    open_behind(&pair, "127.0.0.0/8");
    fd = balancer_connect(&pair);
    say(fd, LITERAL("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\nEHLO me\r\n"));
    PAIR_UNTIL(&pair, pair.server.got.length == 9);
    endpoint_print(stream_peer(pair.server.stream), text);
    assert_string_equal(text, "192.0.2.7:40000");
    endpoint_print(stream_local(pair.server.stream), text);
    assert_string_equal(text, "198.51.100.1:25");
    ip_print(&stream_proxy(pair.server.stream)->ip, text);
    assert_string_equal(text, "127.0.0.1");
    /* Not one byte behind the header is lost. */
    assert_memory_equal(pair.server.got.data, "EHLO me\r\n", 9);
    (void)close(fd);
    pair_close(&pair);
}

TEST(proxy_wait, a_header_in_pieces_is_one)
{
    static const char line[] = "PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n";
    struct pair pair;
    int fd;

    open_behind(&pair, "127.0.0.1");
    fd = balancer_connect(&pair);
    for (size_t i = 0; i + 1 < sizeof line; i++) {
        assert_null(pair.server.stream);
        say(fd, (struct slice){line + i, 1});
        loop_run_for(pair.loop, 2);
    }
    PAIR_UNTIL(&pair, pair.server.stream);
    say(fd, LITERAL("x"));
    PAIR_UNTIL(&pair, pair.server.got.length == 1);
    (void)close(fd);
    pair_close(&pair);
}

TEST(proxy_wait, a_balancer_that_speaks_for_itself_keeps_its_address)
{
    struct pair pair;
    char text[IP_TEXT];
    int fd;

    open_behind(&pair, "127.0.0.1");
    fd = balancer_connect(&pair);
    say(fd, LITERAL("\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"));
    PAIR_UNTIL(&pair, pair.server.stream);
    ip_print(&stream_peer(pair.server.stream)->ip, text);
    assert_string_equal(text, "127.0.0.1");
    (void)close(fd);
    pair_close(&pair);
}

TEST(proxy_wait, who_is_no_balancer_is_closed)
{
    struct pair pair;
    int fd;

    open_behind(&pair, "192.0.2.0/24");
    fd = balancer_connect(&pair);
    PAIR_UNTIL(&pair, is_closed(fd));
    assert_null(pair.server.stream);
    (void)close(fd);
    pair_close(&pair);
}

TEST(proxy_wait, without_a_header_the_connection_is_closed)
{
    struct pair pair;
    int talker;
    int leaver;

    open_behind(&pair, "127.0.0.1");
    talker = balancer_connect(&pair);
    leaver = balancer_connect(&pair);
    say(talker, LITERAL("EHLO me\r\n"));
    say(leaver, LITERAL("PROXY TC"));
    PAIR_UNTIL(&pair, is_closed(talker));
    assert_int_equal(shutdown(leaver, SHUT_WR), 0); /* in the middle of its header */
    PAIR_UNTIL(&pair, is_closed(leaver));
    loop_run_for(pair.loop, 20);
    assert_null(pair.server.stream);
    (void)close(talker);
    (void)close(leaver);
    pair_close(&pair);
}

TEST(proxy_wait, closing_the_listener_drops_who_waits)
{
    struct tls_settings tls = {0, 0};
    struct network balancers;
    struct listener *second = NULL;
    struct endpoint endpoint;
    struct fault fault;
    struct pair pair;
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    pair_init(&pair, &tls);
    assert_int_equal(endpoint_parse(SLICE("127.0.0.1:0"), &endpoint), RESULT_OK);
    assert_int_equal(listener_open(pair.net, &endpoint, &second, &fault), RESULT_OK);
    assert_int_equal(network_parse(SLICE("127.0.0.1"), &balancers), RESULT_OK);
    listener_expect_proxy(second, &balancers, 1);
    listener_start(second, pair_on_stream, &pair);
    address.sin_port = __builtin_bswap16(listener_endpoint(second)->port);
    address.sin_addr.s_addr = __builtin_bswap32(0x7f000001);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    say(fd, LITERAL("PROXY "));
    loop_run_for(pair.loop, 20);
    listener_close(second);
    loop_run_for(pair.loop, 20);
    assert_true(is_closed(fd));
    assert_null(pair.server.stream);
    (void)close(fd);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(proxy_wait, the_client_is_who_the_header_names),
        RUN(proxy_wait, a_header_in_pieces_is_one),
        RUN(proxy_wait, a_balancer_that_speaks_for_itself_keeps_its_address),
        RUN(proxy_wait, who_is_no_balancer_is_closed),
        RUN(proxy_wait, without_a_header_the_connection_is_closed),
        RUN(proxy_wait, closing_the_listener_drops_who_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
