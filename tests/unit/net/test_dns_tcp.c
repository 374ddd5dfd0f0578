/* The fallback for large answers, against a server that behaves and some that do not. */
#include "dns_tcp.h"

#include "fake_dns.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <string.h>

static const struct fake_dns_row rows[] = {
    {.name = "large.test", .manner = FAKE_DNS_TRUNCATES, .mx_count = 200},
    {.name = "closes.test", .manner = FAKE_DNS_CLOSES_TCP, .mx_count = 200},
    {.name = "confuses.test", .manner = FAKE_DNS_CONFUSES_TCP, .mx_count = 2},
    {.name = "silent.test", .manner = FAKE_DNS_IS_SILENT_OVER_TCP},
};

struct world {
    struct loop *loop;
    struct fake_dns *fake;
    struct endpoint server;
    unsigned ends;
    size_t packet_bytes;
    char failure[160];
};

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->loop = loop_new();
    w->fake = fake_dns_open(w->loop, rows, sizeof rows / sizeof rows[0]);
    w->server = fake_dns_endpoint(w->fake);
}

static void world_close(struct world *w)
{
    fake_dns_close(w->fake);
    loop_free(w->loop);
}

static void on_end(void *owner, struct slice packet, const char *failure)
{
    struct world *w = owner;

    w->ends++;
    w->packet_bytes = packet.length;
    if (failure)
        (void)slice_copy_text(slice_of(failure), w->failure, sizeof w->failure);
    loop_stop(w->loop);
}

static struct dns_tcp *start(struct world *w, const char *name, int64_t deadline_ms)
{
    struct dns_question question;
    struct dns_tcp_request request = {&w->server, &question, deadline_ms};
    struct dns_tcp *tcp;

    assert_int_equal(dns_question_set(&question, name, RECORD_MX), RESULT_OK);
    tcp = dns_tcp_start(w->loop, &request, on_end, w);
    assert_int_equal(w->ends, 0); /* never inside the starting call */
    return tcp;
}

TEST(dns_tcp, a_large_answer_comes_whole)
{
    struct world w;

    world_open(&w);
    (void)start(&w, "large.test", 5000);
    loop_run_for(w.loop, 5000);
    assert_int_equal(w.ends, 1);
    assert_string_equal(w.failure, "");
    assert_true(w.packet_bytes > 4096);
    world_close(&w);
}

TEST(dns_tcp, a_server_that_closes_within_the_answer_is_a_failure)
{
    struct world w;

    world_open(&w);
    (void)start(&w, "closes.test", 5000);
    loop_run_for(w.loop, 5000);
    assert_int_equal(w.ends, 1);
    assert_string_equal(w.failure, "DNS over TCP: closed before the answer was whole");
    world_close(&w);
}

TEST(dns_tcp, an_answer_with_another_id_is_a_failure)
{
    struct world w;

    world_open(&w);
    (void)start(&w, "confuses.test", 5000);
    loop_run_for(w.loop, 5000);
    assert_string_equal(w.failure, "DNS over TCP: an answer to another query");
    world_close(&w);
}

TEST(dns_tcp, a_silent_server_ends_with_the_deadline)
{
    struct world w;

    world_open(&w);
    (void)start(&w, "silent.test", 50);
    loop_run_for(w.loop, 5000);
    assert_int_equal(w.ends, 1);
    assert_string_equal(w.failure, "DNS over TCP: no answer in time");
    world_close(&w);
}

TEST(dns_tcp, a_refused_connection_is_a_failure_from_the_loop)
{
    struct world w;

    world_open(&w);
    fake_dns_close(w.fake);
    assert_int_equal(endpoint_parse(SLICE("127.0.0.1:1"), &w.server), RESULT_OK);
    (void)start(&w, "large.test", 5000);
    loop_run_for(w.loop, 5000);
    assert_int_equal(w.ends, 1);
    assert_non_null(strstr(w.failure, "connect: "));
    loop_free(w.loop);
}

TEST(dns_tcp, an_impossible_server_is_a_failure_from_the_loop_too)
{
    struct world w;

    world_open(&w);
    /* Multicast: connect() itself refuses. */
    assert_int_equal(ip_parse(SLICE("224.0.0.1"), &w.server.ip), RESULT_OK);
    (void)start(&w, "large.test", 5000);
    loop_run_for(w.loop, 5000);
    assert_int_equal(w.ends, 1);
    assert_non_null(strstr(w.failure, "connect: "));
    world_close(&w);
}

TEST(dns_tcp, nothing_is_said_after_cancel)
{
    struct world w;

    world_open(&w);
    dns_tcp_cancel(start(&w, "large.test", 5000));
    loop_run_for(w.loop, 50);
    assert_int_equal(w.ends, 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(dns_tcp, a_large_answer_comes_whole),
        RUN(dns_tcp, a_server_that_closes_within_the_answer_is_a_failure),
        RUN(dns_tcp, an_answer_with_another_id_is_a_failure),
        RUN(dns_tcp, a_silent_server_ends_with_the_deadline),
        RUN(dns_tcp, a_refused_connection_is_a_failure_from_the_loop),
        RUN(dns_tcp, an_impossible_server_is_a_failure_from_the_loop_too),
        RUN(dns_tcp, nothing_is_said_after_cancel),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
