/* The door, against a small server on the same loop. */
#include "smtpd/net/resolver.h"

#include "fake_dns.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

enum { A = 1, CNAME = 5, PTR = 12, MX = 15, AAAA = 28, TLSA = 52 };

static const struct fake_dns_row rows[] = {
    {"mail.test", MX, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx1.test;MX 20 mx2.test", 0, true},
    {"null.test", MX, FAKE_DNS_ANSWERS, 0, 300, "MX 0 .", 0, false},
    {"alias.test", MX, FAKE_DNS_ANSWERS, 0, 60, "CNAME mail.test;MX 10 mx1.test", 0, false},
    {"short.test", MX, FAKE_DNS_ANSWERS, 0, 1, "MX 10 mx1.test", 0, false},
    {"nodata.test", 0, FAKE_DNS_ANSWERS, 0, 0, NULL, 0, false},
    {"servfail.test", 0, FAKE_DNS_ANSWERS, 2, 0, NULL, 0, false},
    {"silent.test", 0, FAKE_DNS_IS_SILENT, 0, 0, NULL, 0, false},
    {"large.test", MX, FAKE_DNS_TRUNCATES, 0, 300, NULL, 90, false},
    {"closes.test", MX, FAKE_DNS_CLOSES_TCP, 0, 300, NULL, 90, false},
    {"garbled.test", MX, FAKE_DNS_GARBLES, 0, 300, "MX 10 mx1.test", 0, false},
    {"odd.test", MX, FAKE_DNS_ANSWERS, 0, 300, "MX 10 a\\046b.test", 0, false},
    {"both.test", A, FAKE_DNS_ANSWERS, 0, 300, "A 192.0.2.1;A 192.0.2.2", 0, true},
    {"both.test", AAAA, FAKE_DNS_ANSWERS, 0, 90, "AAAA 2001:db8::1", 0, true},
    {"four.test", A, FAKE_DNS_ANSWERS, 0, 300, "A 192.0.2.1", 0, false},
    {"four.test", AAAA, FAKE_DNS_ANSWERS, 0, 0, NULL, 0, false},
    {"half.test", A, FAKE_DNS_ANSWERS, 0, 300, "A 192.0.2.1", 0, false},
    {"half.test", AAAA, FAKE_DNS_ANSWERS, 2, 0, NULL, 0, false},
    {"slowhalf.test", A, FAKE_DNS_ANSWERS, 0, 300, "A 192.0.2.1", 0, false},
    {"slowhalf.test", AAAA, FAKE_DNS_IS_SILENT, 0, 0, NULL, 0, false},
    {"bad.test", A, FAKE_DNS_ANSWERS, 0, 0, NULL, 0, false},
    {"bad.test", AAAA, FAKE_DNS_ANSWERS, 2, 0, NULL, 0, false},
    {"1.2.0.192.in-addr.arpa", PTR, FAKE_DNS_ANSWERS, 0, 300, "PTR Host.test", 0, false},
    {"sure4.test", A, FAKE_DNS_ANSWERS, 0, 300, "A 192.0.2.1", 0, true},
    {"sure4.test", AAAA, FAKE_DNS_ANSWERS, 2, 0, NULL, 0, false},
    {"sure6.test", A, FAKE_DNS_ANSWERS, 2, 0, NULL, 0, false},
    {"sure6.test", AAAA, FAKE_DNS_ANSWERS, 0, 300, "AAAA 2001:db8::1", 0, true},
    {"mixed.test", A, FAKE_DNS_ANSWERS, 0, 300, "A 192.0.2.1", 0, true},
    {"mixed.test", AAAA, FAKE_DNS_ANSWERS, 0, 300, "AAAA 2001:db8::1", 0, false},
    {"aka.test", A, FAKE_DNS_ANSWERS, 0, 300, "CNAME real.test;A 192.0.2.1", 0, true},
    {"aka.test", AAAA, FAKE_DNS_ANSWERS, 0, 300, "CNAME real.test", 0, true},
    {"aka.test", CNAME, FAKE_DNS_ANSWERS, 0, 300, "CNAME Real.test", 0, true},
    {"_25._tcp.mx.test", TLSA, FAKE_DNS_ANSWERS, 0, 300,
     "TLSA 3 1 1 00ff;TLSA 2 0 2 010203", 0, true},
    {"_25._tcp.large.test", TLSA, FAKE_DNS_TRUNCATES, 0, 300, "TLSA 3 1 1 00ff", 0, true},
    {"nowhere.test", 0, FAKE_DNS_ANSWERS, 3, 0, NULL, 0, false},
    {"*", 0, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx1.test;A 192.0.2.7;AAAA 2001:db8::7", 0,
     false},
};

struct world {
    struct loop *loop;
    struct fake_dns *fake;
    struct resolver *resolver;
    unsigned ends;
    unsigned expected;
    unsigned ok;
    struct dns_answer last; /* its pointers are dead; what they led to: */
    struct dns_mx mx[2];
    char addresses[3][IP_TEXT];
    char name[256];
    char canonical[256];
    uint8_t usages[2];
    uint8_t data[3];          /* of the second TLSA record */
    struct lookup *neighbour; /* cancelled by the next answer */
};

static void world_open(struct world *w, int64_t deadline_ms)
{
    struct endpoint server;
    struct resolver_settings settings = {
        .servers = &server, .server_count = 1, .deadline_ms = deadline_ms};

    memset(w, 0, sizeof *w);
    w->loop = loop_new();
    w->fake = fake_dns_open(w->loop, rows, sizeof rows / sizeof rows[0]);
    server = fake_dns_endpoint(w->fake);
    assert_int_equal(resolver_new(w->loop, &settings, &w->resolver, NULL), RESULT_OK);
}

static void world_close(struct world *w)
{
    resolver_free(w->resolver);
    fake_dns_close(w->fake);
    loop_free(w->loop);
}

static void on_answer(void *owner, const struct dns_answer *answer)
{
    struct world *w = owner;

    w->ends++;
    w->ok += answer->result == RESULT_OK;
    w->last = *answer;
    for (size_t i = 0; i < answer->mx_count && i < 2; i++)
        w->mx[i] = answer->mx[i];
    for (size_t i = 0; i < answer->address_count && i < 3; i++)
        ip_print(&answer->addresses[i], w->addresses[i]);
    if (answer->name)
        (void)snprintf(w->name, sizeof w->name, "%s", answer->name);
    if (answer->canonical)
        (void)snprintf(w->canonical, sizeof w->canonical, "%s", answer->canonical);
    for (size_t i = 0; i < answer->tlsa_count && i < 2; i++)
        w->usages[i] = answer->tlsa[i].usage;
    if (answer->tlsa_count == 2)
        memcpy(w->data, answer->tlsa[1].data.data, sizeof w->data);
    lookup_cancel(w->neighbour);
    w->neighbour = NULL;
    if (w->ends == w->expected)
        loop_stop(w->loop);
}

static struct lookup *start(struct world *w, enum lookup_kind kind, const char *name)
{
    unsigned ends = w->ends;
    struct lookup *lookup = lookup_start(w->resolver, kind, name, on_answer, w);

    assert_int_equal(w->ends, ends); /* never inside lookup_start() */
    w->expected++;
    return lookup;
}

static void ask(struct world *w, enum lookup_kind kind, const char *name)
{
    (void)start(w, kind, name);
    loop_run_for(w->loop, 10000);
    assert_int_equal(w->ends, w->expected);
}

TEST(resolver, mx_hosts_are_found)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "mail.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_int_equal(w.last.mx_count, 2);
    assert_int_equal(w.mx[1].preference, 20);
    assert_string_equal(w.mx[1].host, "mx2.test");
    assert_int_equal(w.last.ttl_ms, 300000);
    assert_true(w.last.is_authentic);
    world_close(&w);
}

TEST(resolver, a_null_mx_is_an_empty_host)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "null.test");
    assert_int_equal(w.last.mx_count, 1);
    assert_string_equal(w.mx[0].host, "");
    assert_false(w.last.is_authentic);
    world_close(&w);
}

TEST(resolver, the_mx_of_an_alias_is_found)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "alias.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_string_equal(w.mx[0].host, "mx1.test");
    world_close(&w);
}

TEST(resolver, addresses_are_of_both_families)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_ADDRESS, "both.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_int_equal(w.last.address_count, 3);
    assert_string_equal(w.addresses[0], "2001:db8::1");
    assert_string_equal(w.addresses[1], "192.0.2.1");
    assert_string_equal(w.addresses[2], "192.0.2.2");
    assert_int_equal(w.last.ttl_ms, 90000);
    assert_true(w.last.is_authentic);
    world_close(&w);
}

TEST(resolver, one_family_is_enough)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_ADDRESS, "four.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_int_equal(w.last.address_count, 1);
    assert_int_equal(w.last.ttl_ms, 300000);
    ask(&w, LOOKUP_ADDRESS, "half.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_int_equal(w.last.ttl_ms, 30000); /* soon asked again for the other family */
    world_close(&w);
}

TEST(resolver, a_family_that_fails_has_no_say_about_authenticity)
{
    static const struct {
        const char *name;
        bool is_authentic;
    } cases[] = {{"sure4.test", true}, {"sure6.test", true}, {"mixed.test", false},
                 {"half.test", false}, {"bad.test", false},  {"both.test", true}};
    struct world w;

    world_open(&w, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask(&w, LOOKUP_ADDRESS, cases[i].name);
        assert_int_equal(w.last.is_authentic, cases[i].is_authentic);
        ask(&w, LOOKUP_ADDRESS, cases[i].name); /* from the cache */
        assert_int_equal(w.last.is_authentic, cases[i].is_authentic);
    }
    world_close(&w);
}

TEST(resolver, what_a_host_is_an_alias_of_is_told)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_ADDRESS, "aka.test");
    assert_string_equal(w.canonical, "real.test");
    assert_int_equal(w.last.address_count, 1);
    w.canonical[0] = '\0';
    ask(&w, LOOKUP_ADDRESS, "aka.test"); /* from the cache */
    assert_string_equal(w.canonical, "real.test");
    ask(&w, LOOKUP_ADDRESS, "both.test");
    assert_null(w.last.canonical);
    ask(&w, LOOKUP_CNAME, "aka.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_string_equal(w.name, "real.test");
    assert_true(w.last.is_authentic);
    ask(&w, LOOKUP_CNAME, "nodata.test");
    assert_int_equal(w.last.result, RESULT_DNS_NODATA);
    world_close(&w);
}

TEST(resolver, tlsa_records_are_found_and_kept)
{
    struct world w;

    world_open(&w, 0);
    for (int i = 0; i < 2; i++) { /* the second time from the cache */
        memset(w.data, 0, sizeof w.data);
        ask(&w, LOOKUP_TLSA, "_25._tcp.mx.test");
        assert_int_equal(w.last.result, RESULT_OK);
        assert_true(w.last.is_authentic);
        assert_int_equal(w.last.tlsa_count, 2);
        assert_int_equal(w.usages[0], 3);
        assert_int_equal(w.usages[1], 2);
        assert_memory_equal(w.data, "\1\2\3", 3);
    }
    assert_int_equal(fake_dns_udp_count(w.fake), 1);
    ask(&w, LOOKUP_TLSA, "_25._tcp.large.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_true(w.last.is_authentic); /* over TCP too */
    assert_int_equal(fake_dns_tcp_count(w.fake), 1);
    ask(&w, LOOKUP_TLSA, "servfail.test");
    assert_int_equal(w.last.result, RESULT_DNS_FAILURE);
    assert_non_null(strstr(w.last.text, "TLSA of servfail.test"));
    world_close(&w);
}

TEST(resolver, a_failure_and_no_data_is_a_failure)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_ADDRESS, "bad.test");
    assert_int_equal(w.last.result, RESULT_DNS_FAILURE);
    assert_string_equal(w.last.text,
                        "DNS, addresses of bad.test: the server answered SERVFAIL");
    world_close(&w);
}

TEST(resolver, the_name_of_an_address_is_found)
{
    struct world w;
    struct ip ip;

    world_open(&w, 0);
    assert_int_equal(ip_parse(SLICE("192.0.2.1"), &ip), RESULT_OK);
    (void)lookup_start_ptr(w.resolver, &ip, on_answer, &w);
    w.expected++;
    loop_run_for(w.loop, 5000);
    assert_int_equal(w.last.result, RESULT_OK);
    assert_string_equal(w.name, "host.test");
    world_close(&w);
}

TEST(resolver, absence_is_told_and_kept)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "nowhere.test");
    assert_int_equal(w.last.result, RESULT_DNS_NXDOMAIN);
    assert_int_equal(w.last.ttl_ms, 300000);
    ask(&w, LOOKUP_ADDRESS, "nowhere.test");
    assert_int_equal(w.last.result, RESULT_DNS_NXDOMAIN);
    ask(&w, LOOKUP_MX, "nodata.test");
    assert_int_equal(w.last.result, RESULT_DNS_NODATA);
    assert_int_equal(fake_dns_udp_count(w.fake), 4);
    ask(&w, LOOKUP_MX, "nodata.test");
    assert_int_equal(w.last.result, RESULT_DNS_NODATA);
    assert_int_equal(fake_dns_udp_count(w.fake), 4);
    world_close(&w);
}

TEST(resolver, failures_are_told_and_not_kept)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "servfail.test");
    assert_int_equal(w.last.result, RESULT_DNS_FAILURE);
    assert_string_equal(w.last.text,
                        "DNS, MX of servfail.test: the server answered SERVFAIL");
    assert_int_equal(w.last.ttl_ms, 0);
    ask(&w, LOOKUP_MX, "servfail.test");
    assert_int_equal(fake_dns_udp_count(w.fake), 2);
    world_close(&w);
}

TEST(resolver, silence_ends_with_the_deadline)
{
    struct resolver_statistics statistics;
    struct world w;

    world_open(&w, 200);
    ask(&w, LOOKUP_MX, "silent.test");
    assert_int_equal(w.last.result, RESULT_DNS_FAILURE);
    assert_string_equal(w.last.text, "DNS, MX of silent.test: no answer within 200 ms");
    resolver_statistics(w.resolver, &statistics);
    assert_int_equal(statistics.answers_failed, 1);
    world_close(&w);
}

TEST(resolver, at_the_deadline_one_family_is_enough_too)
{
    struct world w;

    world_open(&w, 200);
    ask(&w, LOOKUP_ADDRESS, "slowhalf.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_int_equal(w.last.address_count, 1);
    assert_string_equal(w.addresses[0], "192.0.2.1");
    world_close(&w);
}

TEST(resolver, a_truncated_answer_comes_over_tcp)
{
    struct resolver_statistics statistics;
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "large.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_int_equal(w.last.mx_count, 90);
    resolver_statistics(w.resolver, &statistics);
    assert_int_equal(statistics.over_tcp, 1);
    ask(&w, LOOKUP_MX, "closes.test");
    assert_int_equal(w.last.result, RESULT_DNS_FAILURE);
    world_close(&w);
}

TEST(resolver, malformed_answers_are_failures)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "garbled.test");
    assert_int_equal(w.last.result, RESULT_DNS_FAILURE);
    assert_string_equal(w.last.text, "DNS, MX of garbled.test: malformed answer");
    ask(&w, LOOKUP_MX, "odd.test");
    assert_int_equal(w.last.result, RESULT_DNS_FAILURE);
    assert_string_equal(w.last.text, "DNS, MX of odd.test: malformed records only");
    world_close(&w);
}

TEST(resolver, joined_lookups_are_one_query)
{
    struct world w;

    world_open(&w, 0);
    for (int i = 0; i < 5; i++)
        (void)start(&w, LOOKUP_MX, i % 2 ? "mail.test" : "Mail.TEST");
    loop_run_for(w.loop, 5000);
    assert_int_equal(w.ends, 5);
    assert_int_equal(w.ok, 5);
    assert_int_equal(fake_dns_udp_count(w.fake), 1);
    world_close(&w);
}

TEST(resolver, one_of_two_joined_can_be_cancelled)
{
    struct world w;

    world_open(&w, 0);
    lookup_cancel(start(&w, LOOKUP_MX, "mail.test"));
    (void)start(&w, LOOKUP_MX, "mail.test");
    lookup_cancel(start(&w, LOOKUP_MX, "mail.test"));
    w.expected = 1;
    loop_run_for(w.loop, 5000);
    assert_int_equal(w.ends, 1);
    loop_run_for(w.loop, 50);
    assert_int_equal(w.ends, 1);
    assert_int_equal(fake_dns_udp_count(w.fake), 1);
    world_close(&w);
}

TEST(resolver, an_answer_may_cancel_its_neighbour)
{
    struct world w;

    world_open(&w, 0);
    (void)start(&w, LOOKUP_MX, "mail.test");
    w.neighbour = start(&w, LOOKUP_MX, "mail.test");
    w.expected = 1;
    loop_run_for(w.loop, 5000);
    loop_run_for(w.loop, 50);
    assert_int_equal(w.ends, 1);

    /* The same with an answer from the cache. */
    (void)start(&w, LOOKUP_MX, "mail.test");
    w.neighbour = start(&w, LOOKUP_MX, "mail.test");
    loop_run_for(w.loop, 50);
    assert_int_equal(w.ends, 2);
    world_close(&w);
}

TEST(resolver, a_cancelled_question_that_was_asked_fills_the_cache)
{
    struct resolver_statistics statistics;
    struct world w;

    world_open(&w, 0);
    lookup_cancel(start(&w, LOOKUP_MX, "mail.test"));
    loop_run_for(w.loop, 50);
    assert_int_equal(w.ends, 0);
    resolver_statistics(w.resolver, &statistics);
    assert_int_equal(statistics.cache_entries, 1);
    world_close(&w);
}

TEST(resolver, an_answer_is_cached_for_its_ttl)
{
    struct resolver_statistics statistics;
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "mail.test");
    loop_run_for(w.loop, 30);
    ask(&w, LOOKUP_MX, "mail.test");
    assert_int_equal(w.last.result, RESULT_OK);
    assert_int_equal(w.last.mx_count, 2);
    assert_string_equal(w.mx[1].host, "mx2.test");
    assert_true(w.last.ttl_ms < 300000 && w.last.ttl_ms > 290000);
    assert_int_equal(fake_dns_udp_count(w.fake), 1);
    ask(&w, LOOKUP_MX, "short.test");
    assert_int_equal(w.last.ttl_ms, 30000);
    resolver_statistics(w.resolver, &statistics);
    assert_int_equal(statistics.cache_hits, 1);
    assert_int_equal(statistics.cache_entries, 2);
    assert_int_equal(statistics.answers_ok, 2);
    world_close(&w);
}

TEST(resolver, a_cached_answer_never_waits_behind_a_cold_one)
{
    struct world w;
    char name[32];

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "mail.test");
    for (unsigned i = 0; i < 2 * LIMIT_DNS_IN_FLIGHT; i++) {
        (void)snprintf(name, sizeof name, "x%u.silent", i);
        (void)lookup_start(w.resolver, LOOKUP_MX, name, on_answer, &w);
    }
    fake_dns_delay(w.fake, 2000);
    (void)start(&w, LOOKUP_MX, "mail.test");
    loop_run_for(w.loop, 1000);
    assert_int_equal(w.ends, 2);
    world_close(&w);
}

TEST(resolver, a_name_that_cannot_be_does_not_exist)
{
    struct world w;
    char name[300];

    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = '\0';
    world_open(&w, 0);
    ask(&w, LOOKUP_MX, name);
    assert_int_equal(w.last.result, RESULT_DNS_NXDOMAIN);
    ask(&w, LOOKUP_ADDRESS, "a..test");
    assert_int_equal(w.last.result, RESULT_DNS_NXDOMAIN);
    ask(&w, LOOKUP_MX, "");
    assert_int_equal(w.last.result, RESULT_DNS_NXDOMAIN);
    assert_int_equal(fake_dns_udp_count(w.fake), 0);
    world_close(&w);
}

TEST(resolver, a_thousand_lookups_are_all_answered)
{
    struct resolver_statistics statistics;
    struct world w;
    char name[32];

    world_open(&w, 0);
    fake_dns_delay(w.fake, 10);
    for (unsigned i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "d%u.test", i);
        (void)start(&w, i % 2 ? LOOKUP_ADDRESS : LOOKUP_MX, name);
    }
    loop_run_for(w.loop, 20000);
    assert_int_equal(w.ends, 1000);
    assert_int_equal(w.ok, 1000);
    assert_int_equal(fake_dns_udp_count(w.fake), 1500);
    assert_true(fake_dns_most_pending(w.fake) <= LIMIT_DNS_IN_FLIGHT);
    resolver_statistics(w.resolver, &statistics);
    assert_int_equal(statistics.queries, 1500);
    assert_int_equal(statistics.answers_ok, 1000);
    assert_int_equal(statistics.in_flight, 0);
    assert_int_equal(statistics.waiting, 0);
    world_close(&w);
}

TEST(resolver, freeing_it_ends_everything_in_silence)
{
    struct world w;

    world_open(&w, 0);
    ask(&w, LOOKUP_MX, "mail.test");
    (void)start(&w, LOOKUP_MX, "mail.test");      /* known */
    (void)start(&w, LOOKUP_ADDRESS, "both.test"); /* asked */
    (void)start(&w, LOOKUP_MX, "large.test");
    for (unsigned i = 0; i < LIMIT_DNS_IN_FLIGHT; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "d%u.test", i);
        (void)start(&w, LOOKUP_MX, name); /* the last ones wait */
    }
    resolver_free(w.resolver);
    w.resolver = NULL;
    loop_run_for(w.loop, 50);
    assert_int_equal(w.ends, 1);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(resolver, mx_hosts_are_found),
        RUN(resolver, a_null_mx_is_an_empty_host),
        RUN(resolver, the_mx_of_an_alias_is_found),
        RUN(resolver, addresses_are_of_both_families),
        RUN(resolver, one_family_is_enough),
        RUN(resolver, a_family_that_fails_has_no_say_about_authenticity),
        RUN(resolver, what_a_host_is_an_alias_of_is_told),
        RUN(resolver, tlsa_records_are_found_and_kept),
        RUN(resolver, a_failure_and_no_data_is_a_failure),
        RUN(resolver, the_name_of_an_address_is_found),
        RUN(resolver, absence_is_told_and_kept),
        RUN(resolver, failures_are_told_and_not_kept),
        RUN(resolver, silence_ends_with_the_deadline),
        RUN(resolver, at_the_deadline_one_family_is_enough_too),
        RUN(resolver, a_truncated_answer_comes_over_tcp),
        RUN(resolver, malformed_answers_are_failures),
        RUN(resolver, joined_lookups_are_one_query),
        RUN(resolver, one_of_two_joined_can_be_cancelled),
        RUN(resolver, an_answer_may_cancel_its_neighbour),
        RUN(resolver, a_cancelled_question_that_was_asked_fills_the_cache),
        RUN(resolver, an_answer_is_cached_for_its_ttl),
        RUN(resolver, a_cached_answer_never_waits_behind_a_cold_one),
        RUN(resolver, a_name_that_cannot_be_does_not_exist),
        RUN(resolver, a_thousand_lookups_are_all_answered),
        RUN(resolver, freeing_it_ends_everything_in_silence),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
