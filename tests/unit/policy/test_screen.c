/* Lists and names, against a name server that says what the rows say. */
#include "smtpd/policy/screen.h"

#include "fake_dns.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <string.h>

struct world {
    struct loop *loop;
    struct fake_dns *dns;
    struct resolver *resolver;
    struct screen *screen;
    struct network answers[2];
    struct screen_list lists[2];
    struct screen_settings settings;
    struct screen_result result;
    int ends;
};

static struct ip ip_of(const char *text)
{
    struct ip ip;

    assert_int_equal(ip_parse(slice_of(text), &ip), RESULT_OK);
    return ip;
}

static struct resolver *resolver_to(struct world *w)
{
    struct endpoint endpoint = fake_dns_endpoint(w->dns);
    struct resolver_settings settings = {
        .servers = &endpoint, .server_count = 1, .deadline_ms = 5000};
    struct resolver *resolver = NULL;
    struct fault fault;

    assert_int_equal(resolver_new(w->loop, &settings, &resolver, &fault), RESULT_OK);
    return resolver;
}

static void world_open(struct world *w, const struct fake_dns_row *rows, size_t count)
{
    memset(w, 0, sizeof *w);
    secure_init();
    w->loop = loop_new();
    w->dns = fake_dns_open(w->loop, rows, count);
    w->resolver = resolver_to(w);
    w->screen = screen_new(w->loop, w->resolver);
    assert_int_equal(network_parse(SLICE("127.0.0.2"), &w->answers[0]), RESULT_OK);
    assert_int_equal(network_parse(SLICE("127.0.0.0/8"), &w->answers[1]), RESULT_OK);
    w->lists[0] = (struct screen_list){"bl.test", 3, &w->answers[0], 1};
    w->lists[1] = (struct screen_list){"wl.test", -2, &w->answers[1], 1};
    w->settings = (struct screen_settings){w->lists, 2, 2, false};
    screen_apply(w->screen, &w->settings);
}

static void world_close(struct world *w)
{
    screen_free(w->screen);
    resolver_free(w->resolver);
    fake_dns_close(w->dns);
    loop_free(w->loop);
}

static void on_end(void *owner, const struct screen_result *result)
{
    struct world *w = owner;

    w->result = *result;
    w->ends++;
}

static void screen_one(struct world *w, const char *peer)
{
    struct ip ip = ip_of(peer);
    int before = w->ends;

    assert_non_null(screening_start(w->screen, &ip, on_end, w));
    assert_int_equal(w->ends, before); /* never inside the starting call */
    for (int i = 0; i < 2000 && w->ends == before; i++)
        loop_run_for(w->loop, 10);
    assert_int_equal(w->ends, before + 1);
}

#define OPEN(w, rows) world_open(w, rows, sizeof(rows) / sizeof *(rows))

TEST(screen, adds_weights_and_brings_the_words_of_the_list)
{
    static const struct fake_dns_row rows[] = {
        {.name = "1.2.0.192.bl.test", .type = 1, .ttl_s = 60, .records = "A 127.0.0.2"},
        {.name = "1.2.0.192.bl.test",
         .type = 16,
         .ttl_s = 60,
         .records = "TXT bad\\001one"},
        {.name = "2.2.0.192.bl.test", .type = 1, .ttl_s = 60, .records = "A 127.0.0.2"},
        {.name = "2.2.0.192.wl.test", .type = 1, .ttl_s = 60, .records = "A 127.0.9.9"},
        {.name = "3.2.0.192.bl.test", .type = 1, .ttl_s = 60, .records = "A 127.0.0.9"},
        {.name = "*", .rcode = 3},
    };
    struct screen_statistics statistics;
    struct world w;

    OPEN(&w, rows);
    screen_one(&w, "192.0.2.1");
    assert_true(w.result.is_rejected);
    assert_int_equal(w.result.weight, 3);
    assert_string_equal(w.result.zone, "bl.test");
    assert_string_equal(w.result.lists, "bl.test=3");
    assert_int_equal(strncmp(w.result.reason, "bad", 3), 0);
    for (const char *at = w.result.reason; *at; at++)
        assert_true(*at >= ' ' && *at <= '~');
    screen_one(&w, "192.0.2.2"); /* 3 - 2 is below 2 */
    assert_false(w.result.is_rejected);
    assert_int_equal(w.result.weight, 1);
    screen_one(&w, "192.0.2.3"); /* an answer that does not count */
    assert_int_equal(w.result.weight, 0);
    assert_string_equal(w.result.lists, "");
    screen_statistics(w.screen, &statistics);
    assert_int_equal(statistics.listed, 3);
    assert_int_equal(statistics.clear, 3);
    assert_int_equal(statistics.failed, 0);
    world_close(&w);
}

TEST(screen, a_list_that_fails_or_refuses_counts_nothing)
{
    static const struct fake_dns_row rows[] = {
        {.name = "1.2.0.192.bl.test", .rcode = 2},
        {.name = "1.2.0.192.wl.test",
         .type = 1,
         .ttl_s = 60,
         .records = "A 127.255.255.254"},
        {.name = "*", .rcode = 3},
    };
    struct screen_statistics statistics;
    struct world w;

    OPEN(&w, rows);
    screen_one(&w, "192.0.2.1");
    assert_int_equal(w.result.weight, 0);
    assert_false(w.result.is_rejected);
    screen_statistics(w.screen, &statistics);
    assert_int_equal(statistics.failed, 2);
    world_close(&w);
}

TEST(screen, asks_about_an_ipv6_address_by_nibbles)
{
    static const struct fake_dns_row rows[] = {
        {.name = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test",
         .type = 1,
         .ttl_s = 60,
         .records = "A 127.0.0.2"},
        {.name = "*", .rcode = 3},
    };
    struct world w;

    OPEN(&w, rows);
    screen_one(&w, "2001:db8::1");
    assert_int_equal(w.result.weight, 3);
    world_close(&w);
}

TEST(screen, a_name_counts_when_it_leads_back)
{
    static const struct fake_dns_row rows[] = {
        {.name = "1.2.0.192.in-addr.arpa", .ttl_s = 60, .records = "PTR good.test"},
        {.name = "2.2.0.192.in-addr.arpa", .ttl_s = 60, .records = "PTR good.test"},
        {.name = "3.2.0.192.in-addr.arpa", .rcode = 2},
        {.name = "good.test", .type = 1, .ttl_s = 60, .records = "A 192.0.2.9;A 192.0.2.1"},
        {.name = "good.test", .type = 28, .ttl_s = 60, .records = "AAAA 2001:db8::1"},
        {.name = "*", .rcode = 3},
    };
    struct world w;

    OPEN(&w, rows);
    w.settings = (struct screen_settings){NULL, 0, 1, true};
    screen_apply(w.screen, &w.settings);
    screen_one(&w, "192.0.2.1");
    assert_int_equal(w.result.state, SCREEN_NAME_CONFIRMED);
    assert_string_equal(w.result.name, "good.test");
    screen_one(&w, "192.0.2.2");
    assert_int_equal(w.result.state, SCREEN_NAME_UNCONFIRMED);
    assert_string_equal(w.result.name, "");
    screen_one(&w, "192.0.2.3");
    assert_int_equal(w.result.state, SCREEN_NAME_FAILED);
    screen_one(&w, "192.0.2.4");
    assert_int_equal(w.result.state, SCREEN_NAME_NONE);
    world_close(&w);
}

TEST(screen, asks_nothing_when_nothing_is_wanted_and_says_nothing_after_a_cancel)
{
    static const struct fake_dns_row rows[] = {{.name = "*", .rcode = 3}};
    struct screen_settings none = {NULL, 0, 1, false};
    struct ip peer = ip_of("192.0.2.1");
    struct world w;

    OPEN(&w, rows);
    screening_cancel(screening_start(w.screen, &peer, on_end, &w));
    screen_apply(w.screen, &none);
    assert_null(screening_start(w.screen, &peer, on_end, &w));
    loop_run_for(w.loop, 50);
    assert_int_equal(w.ends, 0);
    assert_null(screening_start(NULL, &peer, on_end, &w));
    world_close(&w);
}

TEST(screen, another_resolver_is_asked_anew)
{
    static const struct fake_dns_row rows[] = {
        {.name = "1.2.0.192.bl.test", .type = 1, .ttl_s = 60, .records = "A 127.0.0.2"},
        {.name = "*", .rcode = 3},
    };
    struct ip peer = ip_of("192.0.2.1");
    struct resolver *next;
    struct world w;

    OPEN(&w, rows);
    assert_non_null(screening_start(w.screen, &peer, on_end, &w));
    next = resolver_to(&w);
    screen_set_resolver(w.screen, next);
    resolver_free(w.resolver);
    w.resolver = next;
    for (int i = 0; i < 500 && w.ends == 0; i++)
        loop_run_for(w.loop, 10);
    assert_int_equal(w.ends, 1);
    assert_int_equal(w.result.weight, 3);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(screen, adds_weights_and_brings_the_words_of_the_list),
        RUN(screen, a_list_that_fails_or_refuses_counts_nothing),
        RUN(screen, asks_about_an_ipv6_address_by_nibbles),
        RUN(screen, a_name_counts_when_it_leads_back),
        RUN(screen, asks_nothing_when_nothing_is_wanted_and_says_nothing_after_a_cancel),
        RUN(screen, another_resolver_is_asked_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
