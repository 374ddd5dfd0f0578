/* One question at a time, UDP then TCP; many at a time, in order. */
#include "dns_client.h"

#include "fake_dns.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static const struct fake_dns_row rows[] = {
    {.name = "mail.test", .records = "MX 10 mx1.test", .ttl_s = 60, .is_authentic = true},
    {.name = "large.test", .manner = FAKE_DNS_TRUNCATES, .mx_count = 90},
    {.name = "closes.test", .manner = FAKE_DNS_CLOSES_TCP, .mx_count = 90},
    {.name = "garbled.test", .manner = FAKE_DNS_GARBLES, .records = "MX 10 mx1.test"},
    {.name = "silent.test", .manner = FAKE_DNS_IS_SILENT},
    {.name = "*", .records = "MX 10 mx1.test"},
};

struct world {
    struct loop *loop;
    struct fake_dns *fake;
    struct dns_client *client;
    unsigned ends;
    unsigned expected;
    unsigned ok;
    bool is_authentic;
    enum result result;
    size_t mx_count;
    char text[160];
};

static void world_open(struct world *w)
{
    struct endpoint server;
    struct resolver_settings settings = {.servers = &server, .server_count = 1};

    memset(w, 0, sizeof *w);
    w->loop = loop_new();
    w->fake = fake_dns_open(w->loop, rows, sizeof rows / sizeof rows[0]);
    server = fake_dns_endpoint(w->fake);
    assert_int_equal(dns_client_open(w->loop, &settings, &w->client, NULL), RESULT_OK);
}

static void world_close(struct world *w)
{
    dns_client_close(w->client);
    fake_dns_close(w->fake);
    loop_free(w->loop);
}

static void on_end(void *owner, struct dns_space *space)
{
    struct world *w = owner;

    w->ends++;
    w->result = space->answer.result;
    w->ok += w->result == RESULT_OK;
    w->mx_count = space->answer.mx_count;
    w->is_authentic = space->answer.is_authentic;
    memcpy(w->text, space->answer.text, sizeof w->text);
    if (w->ends == w->expected)
        loop_stop(w->loop);
}

static struct dns_exchange *start(struct world *w, const char *name)
{
    struct dns_question question;

    assert_int_equal(dns_question_set(&question, name, RECORD_MX), RESULT_OK);
    w->expected++;
    return dns_exchange_start(w->client, &question, on_end, w);
}

static void ask(struct world *w, const char *name)
{
    (void)start(w, name);
    assert_int_equal(w->ends, 0);
    loop_run_for(w->loop, 8000);
    assert_int_equal(w->ends, 1);
}

TEST(dns_client, a_server_on_loopback_is_believed_about_authenticity)
{
    struct world w;

    world_open(&w);
    ask(&w, "mail.test");
    assert_int_equal(w.result, RESULT_OK);
    assert_int_equal(w.mx_count, 1);
    assert_true(w.is_authentic);
    world_close(&w);
}

TEST(dns_client, what_was_truncated_comes_over_tcp)
{
    struct resolver_statistics statistics = {0};
    struct world w;

    world_open(&w);
    ask(&w, "large.test");
    assert_int_equal(w.result, RESULT_OK);
    assert_int_equal(w.mx_count, 90);
    dns_client_statistics(w.client, &statistics);
    assert_int_equal(statistics.over_tcp, 1);
    assert_int_equal(statistics.in_flight, 0);
    assert_int_equal(statistics.queries, 1);
    world_close(&w);
}

TEST(dns_client, tcp_that_closes_early_is_a_failure)
{
    struct world w;

    world_open(&w);
    ask(&w, "closes.test");
    assert_int_equal(w.result, RESULT_DNS_FAILURE);
    assert_string_equal(w.text, "DNS over TCP: closed before the answer was whole");
    world_close(&w);
}

TEST(dns_client, a_garbled_answer_is_a_failure)
{
    struct world w;

    world_open(&w);
    ask(&w, "garbled.test");
    assert_int_equal(w.result, RESULT_DNS_FAILURE);
    assert_string_equal(w.text, "malformed answer");
    world_close(&w);
}

TEST(dns_client, a_thousand_questions_are_answered_at_most_200_at_a_time)
{
    struct resolver_statistics statistics = {0};
    struct world w;
    char name[32];

    world_open(&w);
    fake_dns_delay(w.fake, 20);
    for (unsigned i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "d%u.test", i);
        (void)start(&w, name);
    }
    dns_client_statistics(w.client, &statistics);
    assert_int_equal(statistics.in_flight, LIMIT_DNS_IN_FLIGHT);
    assert_int_equal(statistics.waiting, 1000 - LIMIT_DNS_IN_FLIGHT);
    loop_run_for(w.loop, 20000);
    assert_int_equal(w.ends, 1000);
    assert_int_equal(w.ok, 1000);
    assert_true(fake_dns_most_pending(w.fake) <= LIMIT_DNS_IN_FLIGHT);
    assert_true(fake_dns_most_pending(w.fake) > LIMIT_DNS_IN_FLIGHT / 2);
    world_close(&w);
}

TEST(dns_client, cancelled_questions_still_count_while_udns_has_them)
{
    struct resolver_statistics statistics = {0};
    struct dns_exchange *exchanges[LIMIT_DNS_IN_FLIGHT];
    struct dns_exchange *last;
    struct world w;

    world_open(&w);
    for (size_t i = 0; i < LIMIT_DNS_IN_FLIGHT; i++)
        exchanges[i] = start(&w, "silent.test");
    last = start(&w, "mail.test");
    assert_true(dns_exchange_is_waiting(last));
    for (size_t i = 0; i < LIMIT_DNS_IN_FLIGHT; i++)
        dns_exchange_cancel(exchanges[i]);
    assert_true(dns_exchange_is_waiting(last));
    dns_client_statistics(w.client, &statistics);
    assert_int_equal(statistics.in_flight, LIMIT_DNS_IN_FLIGHT);
    loop_run_for(w.loop, 50);
    assert_int_equal(w.ends, 0);
    dns_exchange_cancel(last);
    world_close(&w);
}

TEST(dns_client, the_waiting_list_has_an_end)
{
    struct world w;

    world_open(&w);
    for (size_t i = 0; i < LIMIT_DNS_IN_FLIGHT + LIMIT_DNS_WAITING - 1; i++)
        (void)start(&w, "silent.test");
    assert_true(dns_client_has_room(w.client, 1));
    assert_false(dns_client_has_room(w.client, 2));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(dns_client, a_server_on_loopback_is_believed_about_authenticity),
        RUN(dns_client, what_was_truncated_comes_over_tcp),
        RUN(dns_client, tcp_that_closes_early_is_a_failure),
        RUN(dns_client, a_garbled_answer_is_a_failure),
        RUN(dns_client, a_thousand_questions_are_answered_at_most_200_at_a_time),
        RUN(dns_client, cancelled_questions_still_count_while_udns_has_them),
        RUN(dns_client, the_waiting_list_has_an_end),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
