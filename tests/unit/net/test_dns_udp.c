/* udns behind its wall. */
#include "dns_udp.h"

#include "fake_dns.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <string.h>

static const struct fake_dns_row rows[] = {
    {.name = "mail.test", .records = "MX 10 mx1.test", .ttl_s = 60},
    {.name = "servfail.test", .rcode = 2},
    {.name = "large.test", .manner = FAKE_DNS_TRUNCATES},
    {.name = "old.test", .manner = FAKE_DNS_KNOWS_NO_EDNS, .records = "MX 10 mx1.test"},
    {.name = "silent.test", .manner = FAKE_DNS_IS_SILENT},
};

struct world {
    struct loop *loop;
    struct fake_dns *fake;
    struct dns_udp *udp;
    unsigned ends;
    unsigned rooms;
    struct dns_udp_result result;
};

static void on_room(void *owner)
{
    ((struct world *)owner)->rooms++;
}

static void world_open_with(struct world *w, const struct endpoint *first)
{
    struct endpoint servers[2];
    struct dns_udp_settings settings = {servers, 0, on_room, w};

    memset(w, 0, sizeof *w);
    w->loop = loop_new();
    w->fake = fake_dns_open(w->loop, rows, sizeof rows / sizeof rows[0]);
    if (first)
        servers[settings.server_count++] = *first;
    servers[settings.server_count++] = fake_dns_endpoint(w->fake);
    assert_int_equal(dns_udp_open(w->loop, &settings, &w->udp, NULL), RESULT_OK);
}

static void world_open(struct world *w)
{
    world_open_with(w, NULL);
}

static void world_close(struct world *w)
{
    dns_udp_close(w->udp);
    fake_dns_close(w->fake);
    loop_free(w->loop);
}

static void on_end(void *owner, const struct dns_udp_result *result)
{
    struct world *w = owner;

    w->ends++;
    w->result = *result;
    loop_stop(w->loop);
}

static struct dns_udp_query *start(struct world *w, const char *name)
{
    struct dns_question question;
    struct dns_udp_query *query;

    assert_int_equal(dns_question_set(&question, name, RECORD_MX), RESULT_OK);
    query = dns_udp_start(w->udp, &question, on_end, w);
    assert_int_equal(w->ends, 0);
    return query;
}

static void ask(struct world *w, const char *name)
{
    (void)start(w, name);
    loop_run_for(w->loop, 8000);
    assert_int_equal(w->ends, 1);
}

TEST(dns_udp, an_answer_comes_with_its_packet_and_server)
{
    struct world w;
    struct endpoint server;

    world_open(&w);
    ask(&w, "mail.test");
    server = fake_dns_endpoint(w.fake);
    assert_int_equal(w.result.end, DNS_UDP_ANSWERED);
    assert_true(w.result.packet.length > 12);
    assert_true(endpoint_equal(&w.result.server, &server));
    assert_int_equal(fake_dns_udp_count(w.fake), 1);
    assert_int_equal(dns_udp_count(w.udp), 0);
    assert_int_equal(w.rooms, 1);
    world_close(&w);
}

TEST(dns_udp, absence_is_an_answer_with_its_packet)
{
    struct world w;

    world_open(&w);
    ask(&w, "nowhere.test");
    assert_int_equal(w.result.end, DNS_UDP_ANSWERED);
    assert_true(w.result.packet.length > 12);
    assert_int_equal(fake_dns_udp_count(w.fake), 1);
    world_close(&w);
}

TEST(dns_udp, truncation_is_told_at_once)
{
    struct world w;

    world_open(&w);
    ask(&w, "large.test");
    assert_int_equal(w.result.end, DNS_UDP_TRUNCATED);
    assert_int_equal(w.result.server.port, fake_dns_endpoint(w.fake).port);
    world_close(&w);
}

TEST(dns_udp, truncation_does_not_wait_for_other_servers)
{
    struct world w;
    struct loop *loop = loop_new();
    struct fake_dns *second = fake_dns_open(loop, rows, 1); /* never runs: silent */
    struct endpoint servers[2];
    struct dns_udp_settings settings = {servers, 2, on_room, &w};

    world_open(&w);
    dns_udp_close(w.udp);
    servers[0] = fake_dns_endpoint(w.fake);
    servers[1] = fake_dns_endpoint(second);
    assert_int_equal(dns_udp_open(w.loop, &settings, &w.udp, NULL), RESULT_OK);
    (void)start(&w, "large.test");
    loop_run_for(w.loop, 500); /* udns would wait a second for the next server */
    assert_int_equal(w.ends, 1);
    assert_int_equal(w.result.end, DNS_UDP_TRUNCATED);
    assert_int_equal(dns_udp_count(w.udp), 1); /* udns has not finished with it */
    world_close(&w);
    fake_dns_close(second);
    loop_free(loop);
}

TEST(dns_udp, a_server_that_does_not_answer_is_passed_over)
{
    struct world w;
    struct loop *loop = loop_new();
    struct fake_dns *first = fake_dns_open(loop, rows, 1); /* never runs: silent */
    struct endpoint endpoint = fake_dns_endpoint(first);

    world_open_with(&w, &endpoint);
    ask(&w, "mail.test");
    assert_int_equal(w.result.end, DNS_UDP_ANSWERED);
    world_close(&w);
    fake_dns_close(first);
    loop_free(loop);
}

TEST(dns_udp, a_servers_trouble_is_a_failure_with_its_name)
{
    struct world w;

    world_open(&w);
    ask(&w, "servfail.test");
    assert_int_equal(w.result.end, DNS_UDP_FAILED);
    assert_string_equal(w.result.text, "the server answered SERVFAIL");
    world_close(&w);
}

TEST(dns_udp, a_server_without_edns_is_asked_without)
{
    struct world w;

    world_open(&w);
    ask(&w, "old.test");
    assert_int_equal(w.result.end, DNS_UDP_ANSWERED);
    world_close(&w);
}

TEST(dns_udp, a_lost_answer_is_asked_for_again)
{
    struct world w;

    world_open(&w);
    (void)start(&w, "silent.test");
    loop_run_for(w.loop, 4500);
    assert_int_equal(w.ends, 0);
    assert_int_equal(fake_dns_udp_count(w.fake), 2);
    world_close(&w);
}

TEST(dns_udp, nothing_is_said_after_cancel)
{
    struct world w;

    world_open(&w);
    dns_udp_cancel(start(&w, "mail.test"));
    assert_int_equal(dns_udp_count(w.udp), 1);
    loop_run_for(w.loop, 100);
    assert_int_equal(w.ends, 0);
    assert_int_equal(w.rooms, 1); /* but that there is room again */
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(dns_udp, an_answer_comes_with_its_packet_and_server),
        RUN(dns_udp, absence_is_an_answer_with_its_packet),
        RUN(dns_udp, truncation_is_told_at_once),
        RUN(dns_udp, truncation_does_not_wait_for_other_servers),
        RUN(dns_udp, a_server_that_does_not_answer_is_passed_over),
        RUN(dns_udp, a_servers_trouble_is_a_failure_with_its_name),
        RUN(dns_udp, a_server_without_edns_is_asked_without),
        RUN(dns_udp, a_lost_answer_is_asked_for_again),
        RUN(dns_udp, nothing_is_said_after_cancel),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
