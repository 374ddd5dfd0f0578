/* Streams over real loopback sockets. */
#include "stream_inner.h"

#include "pair.h"

#include <errno.h>
#include <signal.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MEGABYTE = 1 << 20 };

TEST(stream, what_one_end_writes_the_other_gets)
{
    struct pair pair;

    pair_open(&pair);
    (void)stream_write(pair.client.stream, SLICE("one "));
    (void)stream_write(pair.client.stream, SLICE("two"));
    PAIR_UNTIL(&pair, pair.server.got.length == 7);
    assert_memory_equal(pair.server.got.data, "one two", 7);
    assert_int_equal(stream_unsent(pair.client.stream), 0);
    pair_close(&pair);
}

TEST(stream, much_output_says_again_and_drains)
{
    struct pair pair;
    char *block = memory_new(MEGABYTE);
    enum result result = RESULT_OK;
    size_t sent = 0;

    pair_open(&pair);
    stream_pause(pair.server.stream);
    while (result == RESULT_OK && sent < 64) {
        result = stream_write(pair.client.stream, (struct slice){block, MEGABYTE / 4});
        sent++;
    }
    assert_int_equal(result, RESULT_AGAIN);
    assert_true(stream_unsent(pair.client.stream) > 65536);
    loop_run_for(pair.loop, 20);
    assert_int_equal(pair.client.drained, 0);
    assert_int_equal(pair.server.got.length, 0); /* paused */
    stream_resume(pair.server.stream);
    assert_int_equal(pair.server.got.length, 0); /* never inside the call */
    PAIR_UNTIL(&pair,
               pair.server.got.length == sent * MEGABYTE / 4 && pair.client.drained == 1);
    memory_free(block);
    pair_close(&pair);
}

TEST(stream, an_idle_one_holds_no_memory_for_what_it_wrote)
{
    struct pair pair;
    char *block = memory_new(MEGABYTE);

    pair_open(&pair);
    for (size_t large = 0; large <= MEGABYTE / 32; large += MEGABYTE / 32) {
        size_t before = pair.server.got.length;

        /* The second leaves with the first, and past the buffer. */
        (void)stream_write(pair.client.stream, (struct slice){block, 12000});
        (void)stream_write(pair.client.stream, (struct slice){block, large});
        PAIR_UNTIL(&pair, pair.server.got.length == before + 12000 + large);
        loop_run_for(pair.loop, 1);
        assert_null(pair.client.stream->out.data);
    }
    memory_free(block);
    pair_close(&pair);
}

TEST(stream, a_close_sends_what_is_unsent_and_the_peer_hears_it_once)
{
    struct pair pair;
    char *block = memory_new(4 * MEGABYTE);

    pair_open(&pair);
    (void)stream_write(pair.client.stream, (struct slice){block, 4 * MEGABYTE});
    end_close(&pair.client);
    PAIR_UNTIL(&pair, pair.server.closed == 1);
    assert_int_equal(pair.server.got.length, 4 * MEGABYTE);
    assert_int_equal(pair.server.fault.code, RESULT_CLOSED);
    loop_run_for(pair.loop, 50);
    assert_int_equal(pair.server.closed, 1);
    assert_int_equal(pair.client.closed, 0); /* never after the owner's close */
    memory_free(block);
    pair_close(&pair);
}

/* RFC 1122 4.2.2.13: a close with unread input resets, and the last words would be lost. */
TEST(stream, the_last_words_arrive_although_the_peer_still_talks)
{
    struct pair pair;
    char *block = memory_new(MEGABYTE);

    pair_open(&pair);
    stream_pause(pair.server.stream);
    (void)stream_write(pair.client.stream, (struct slice){block, MEGABYTE});
    loop_run_for(pair.loop, 20);
    (void)stream_write(pair.server.stream, SLICE("421 bye\r\n"));
    end_close(&pair.server);
    PAIR_UNTIL(&pair, pair.client.got.length == 9);
    memory_free(block);
    pair_close(&pair);
}

/* RFC 9293 3.6: a connection is closed one way at a time. */
TEST(stream, a_peer_that_says_no_more_is_still_answered)
{
    struct pair pair;
    struct endpoint to;
    struct sockaddr_in address = {.sin_family = AF_INET};
    char *block = memory_new(MEGABYTE);
    size_t got = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    pair_init(&pair, &(struct tls_settings){0, 0});
    to = *listener_endpoint(pair.listener);
    address.sin_port = htons(to.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, "ask", 3, 0), 3);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    PAIR_UNTIL(&pair, pair.server.closed == 1 && pair.server.got.length == 3);
    assert_int_equal(pair.server.fault.code, RESULT_CLOSED);
    (void)stream_write(pair.server.stream, (struct slice){block, MEGABYTE});
    end_close(&pair.server);
    while (got < MEGABYTE) {
        ssize_t count = recv(fd, block, MEGABYTE, MSG_DONTWAIT);

        loop_run_for(pair.loop, 1);
        assert_true(count != 0 && (count > 0 || errno == EAGAIN));
        got += count > 0 ? (size_t)count : 0;
    }
    assert_int_equal(recv(fd, block, 1, 0), 0);
    assert_int_equal(pair.server.closed, 1);
    (void)close(fd);
    memory_free(block);
    pair_close(&pair);
}

static void on_bytes_abort(void *owner, struct slice bytes)
{
    struct end *end = owner;

    (void)bytes;
    stream_abort(end->stream);
    end->stream = NULL;
    end->closed += 10; /* so often it ran */
}

TEST(stream, it_may_be_aborted_inside_on_bytes)
{
    static const struct stream_events events = {on_bytes_abort, end_on_closed, NULL};
    struct pair pair;

    pair_open(&pair);
    stream_start(pair.server.stream, &events, &pair.server);
    (void)stream_write(pair.client.stream, SLICE("x"));
    PAIR_UNTIL(&pair, pair.server.closed == 10);
    loop_run_for(pair.loop, 20);
    assert_int_equal(pair.server.closed, 10);
    pair_close(&pair);
}

TEST(stream, it_knows_both_ends)
{
    struct pair pair;
    struct ip loopback;

    pair_open(&pair);
    assert_int_equal(ip_parse(SLICE("127.0.0.1"), &loopback), RESULT_OK);
    assert_true(ip_equal(&stream_peer(pair.server.stream)->ip, &loopback));
    assert_true(
        endpoint_equal(stream_peer(pair.client.stream), listener_endpoint(pair.listener)));
    assert_true(
        endpoint_equal(stream_local(pair.client.stream), stream_peer(pair.server.stream)));
    assert_false(stream_tls(pair.client.stream)->is_secure);
    pair_close(&pair);
}

TEST(stream, writing_to_a_broken_stream_is_silent_and_told_once)
{
    struct pair pair;

    pair_open(&pair);
    stream_abort(pair.server.stream);
    pair.server.stream = NULL;
    for (int i = 0; i < 20; i++) {
        (void)stream_write(pair.client.stream, SLICE("into the void"));
        loop_run_for(pair.loop, 5);
    }
    PAIR_UNTIL(&pair, pair.client.closed == 1);
    loop_run_for(pair.loop, 20);
    assert_int_equal(pair.client.closed, 1);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(stream, what_one_end_writes_the_other_gets),
        RUN(stream, much_output_says_again_and_drains),
        RUN(stream, an_idle_one_holds_no_memory_for_what_it_wrote),
        RUN(stream, a_close_sends_what_is_unsent_and_the_peer_hears_it_once),
        RUN(stream, the_last_words_arrive_although_the_peer_still_talks),
        RUN(stream, a_peer_that_says_no_more_is_still_answered),
        RUN(stream, it_may_be_aborted_inside_on_bytes),
        RUN(stream, it_knows_both_ends),
        RUN(stream, writing_to_a_broken_stream_is_silent_and_told_once),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* as the server does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
