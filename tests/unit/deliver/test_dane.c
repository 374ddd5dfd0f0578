/* What the DNS says of a host, and what that asks of a connection to it. The room is not needed:
 * a resolver, a small name server, and an empty struct deliver that holds them. */
#include "dane.h"

#include "fake_dns.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <string.h>

enum { A = 1, CNAME = 5, MX = 15, AAAA = 28, TLSA = 52, PORT = 25 };

#define DIGEST "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OWN "TLSA 3 1 1 " DIGEST
#define ANCHOR "TLSA 2 0 1 " DIGEST
/* clang-format off */
#define ROW(name, type, rcode, records, sure) {name, type, FAKE_DNS_ANSWERS, rcode, 300, records, 0, sure}
#define HOST(name, sure) ROW(name, A, 0, "A 192.0.2.1", sure), ROW(name, AAAA, 0, NULL, sure)
#define ALIAS(name, of, sure) \
    ROW(name, A, 0, "CNAME " of ";A 192.0.2.1", sure), ROW(name, AAAA, 0, "CNAME " of, sure)
static const struct fake_dns_row rows[] = {
    HOST("own.test", true),      ROW("_25._tcp.own.test", TLSA, 0, OWN, true),
    HOST("anchor.test", true),   ROW("_25._tcp.anchor.test", TLSA, 0, ANCHOR, true),
    HOST("useless.test", true),  ROW("_25._tcp.useless.test", TLSA, 0, "TLSA 1 1 1 " DIGEST, true),
    HOST("none.test", true),     ROW("_25._tcp.none.test", TLSA, 3, NULL, true),
    HOST("nodata.test", true),   ROW("_25._tcp.nodata.test", TLSA, 0, NULL, true),
    HOST("unsigned.test", true), ROW("_25._tcp.unsigned.test", TLSA, 0, OWN, false),
    HOST("bogus.test", true),    ROW("_25._tcp.bogus.test", TLSA, 2, NULL, false),
    HOST("plain.test", false),   ROW("_25._tcp.plain.test", TLSA, 0, OWN, true),
    ROW("lost.test", 0, 2, NULL, false),
    /* One family that fails: what is left is authentic all the same. */
    ROW("half.test", A, 0, "A 192.0.2.1", true), ROW("half.test", AAAA, 2, NULL, false),
    ROW("_25._tcp.half.test", TLSA, 0, OWN, true),
    /* Aliases: records at the end, at the beginning only, none; an end that is not signed. */
    ALIAS("end.test", "own.test", true),
    ALIAS("begin.test", "none.test", true), ROW("_25._tcp.begin.test", TLSA, 0, OWN, true),
    ALIAS("neither.test", "none.test", true), ROW("_25._tcp.neither.test", TLSA, 3, NULL, true),
    ALIAS("out.test", "elsewhere.test", false), ROW("out.test", CNAME, 0, "CNAME elsewhere.test", true),
    ROW("_25._tcp.out.test", TLSA, 0, OWN, true),
    ROW("_25._tcp.elsewhere.test", TLSA, 0, ANCHOR, true),
    ALIAS("off.test", "elsewhere.test", false), ROW("off.test", CNAME, 0, "CNAME elsewhere.test", false),
    ROW("_25._tcp.off.test", TLSA, 0, OWN, true),
    ALIAS("lostalias.test", "elsewhere.test", false), ROW("lostalias.test", CNAME, 2, NULL, false),
    ALIAS("bogusend.test", "bogus.test", true), ROW("_25._tcp.bogusend.test", TLSA, 0, OWN, true),
    /* Domains of the mail. */
    ROW("domain.test", MX, 0, "MX 10 anchor.test", true),
    ROW("alias.test", MX, 0, "CNAME domain.test;MX 10 anchor.test", true),
    ROW("unsure.test", MX, 0, "CNAME domain.test;MX 10 anchor.test", false),
};
/* clang-format on */

struct world {
    struct loop *loop;
    struct fake_dns *fake;
    struct deliver deliver;
    struct dane *dane;
    unsigned ends;
};

static struct resolver *resolver_of(struct world *w)
{
    struct endpoint server = fake_dns_endpoint(w->fake);
    struct resolver_settings settings = {.servers = &server, .server_count = 1};
    struct resolver *resolver = NULL;

    assert_int_equal(resolver_new(w->loop, &settings, &resolver, NULL), RESULT_OK);
    return resolver;
}

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    secure_init();
    w->loop = loop_new();
    w->fake = fake_dns_open(w->loop, rows, sizeof rows / sizeof rows[0]);
    w->deliver.rooms.loop = w->loop;
    w->deliver.rooms.resolver = resolver_of(w);
    list_init(&w->deliver.danes);
}

static void world_close(struct world *w)
{
    dane_free(w->dane);
    assert_int_equal(w->deliver.danes.count, 0);
    resolver_free(w->deliver.rooms.resolver);
    fake_dns_close(w->fake);
    loop_free(w->loop);
}

static void on_end(void *owner)
{
    struct world *w = owner;

    w->ends++;
    loop_stop(w->loop);
}

static void start(struct world *w, const char *domain, const char *host, bool is_route)
{
    struct dane_request request = {domain, host, PORT, is_route};

    dane_free(w->dane);
    w->ends = 0;
    w->dane = dane_start(&w->deliver, &request, on_end, w);
    assert_int_equal(w->ends, 0); /* never inside the call */
    assert_int_equal(dane_wish(w->dane), DANE_IS_UNKNOWN);
}

static void ask(struct world *w, const char *domain, const char *host, bool is_route)
{
    start(w, domain, host, is_route);
    loop_run_for(w->loop, 10000);
    assert_int_equal(w->ends, 1);
}

TEST(dane, what_the_records_of_a_host_ask_for)
{
    static const struct {
        const char *host;
        enum dane_wish wish;
        const char *base;
    } cases[] = {
        {"own.test", DANE_WANTS_MATCH, "own.test"},
        {"anchor.test", DANE_WANTS_MATCH, "anchor.test"},
        {"useless.test", DANE_WANTS_TLS, "useless.test"},
        {"none.test", DANE_IS_SILENT, NULL},
        {"nodata.test", DANE_IS_SILENT, NULL},
        {"unsigned.test", DANE_IS_SILENT, NULL},
        {"bogus.test", DANE_IS_UNKNOWN, NULL},
        {"plain.test", DANE_IS_SILENT, NULL},
        {"lost.test", DANE_IS_UNKNOWN, NULL},
        {"half.test", DANE_WANTS_MATCH, "half.test"},
        {"end.test", DANE_WANTS_MATCH, "own.test"},
        {"begin.test", DANE_WANTS_MATCH, "begin.test"},
        {"neither.test", DANE_IS_SILENT, NULL},
        {"out.test", DANE_WANTS_MATCH, "out.test"},
        {"off.test", DANE_IS_SILENT, NULL},
        {"lostalias.test", DANE_IS_UNKNOWN, NULL},
        {"bogusend.test", DANE_IS_UNKNOWN, NULL},
    };
    struct world w;

    world_open(&w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask(&w, "domain.test", cases[i].host, false);
        if (dane_wish(w.dane) != cases[i].wish)
            fail_msg("%s: %d", cases[i].host, (int)dane_wish(w.dane));
        if (cases[i].base)
            assert_string_equal(dane_base(w.dane), cases[i].base);
    }
    world_close(&w);
}

TEST(dane, what_cannot_be_known_says_why)
{
    struct world w;

    world_open(&w);
    ask(&w, "domain.test", "bogus.test", false);
    assert_non_null(strstr(dane_text(w.dane), "TLSA of _25._tcp.bogus.test"));
    assert_non_null(strstr(dane_text(w.dane), "SERVFAIL"));
    ask(&w, "domain.test", "lost.test", false);
    assert_non_null(strstr(dane_text(w.dane), "lost.test"));
    world_close(&w);
}

static void expect_names(struct world *w, const char *first, const char *second,
                         const char *third)
{
    const char *names[] = {first, second, third};
    struct tlsa_set *set = dane_take_set(w->dane);

    assert_non_null(set);
    assert_null(dane_take_set(w->dane)); /* once */
    for (size_t i = 0; i < 3; i++) {
        if (names[i])
            assert_string_equal(tlsa_set_name(set, i), names[i]);
        else
            assert_null(tlsa_set_name(set, i));
    }
    tlsa_set_free(set);
}

/* RFC 7672 3.2.2 */
TEST(dane, names_below_an_anchor_are_those_of_the_host_and_of_the_domain)
{
    struct world w;

    world_open(&w);
    ask(&w, "domain.test", "anchor.test", false);
    expect_names(&w, "anchor.test", "domain.test", NULL);
    ask(&w, "alias.test", "anchor.test", false);
    expect_names(&w, "anchor.test", "alias.test", "domain.test");
    ask(&w, "unsure.test", "anchor.test", false); /* who it is an alias of is not sure */
    expect_names(&w, "anchor.test", "unsure.test", NULL);
    ask(&w, "end.test", "end.test", true);
    expect_names(&w, "own.test", "end.test", NULL);
    world_close(&w);
}

TEST(dane, a_certificate_with_the_name_of_a_domain_serves_that_domain_only)
{
    struct tls_facts facts = {.is_secure = true};
    struct world w;

    world_open(&w);
    ask(&w, "domain.test", "anchor.test", false);
    assert_true(dane_fits(w.dane, &facts, "other.test"));
    facts.dane = TLS_DANE_EE;
    assert_true(dane_fits(w.dane, &facts, "other.test"));
    facts.dane = TLS_DANE_TA;
    assert_true(dane_fits(w.dane, &facts, "other.test")); /* the name of the host */
    facts.dane_name = 1;
    assert_false(dane_fits(w.dane, &facts, "other.test"));
    assert_true(dane_fits(w.dane, &facts, "domain.test"));
    world_close(&w);
}

TEST(dane, how_it_is_told)
{
    struct world w;

    world_open(&w);
    ask(&w, "domain.test", "own.test", false);
    assert_int_equal(dane_policy(w.dane), DELIVER_TLS_DANE);
    ask(&w, "domain.test", "useless.test", false);
    assert_int_equal(dane_policy(w.dane), DELIVER_TLS_DANE_UNUSABLE);
    ask(&w, "domain.test", "none.test", false);
    assert_int_equal(dane_policy(w.dane), DELIVER_TLS_AS_SET);
    world_close(&w);
}

/* At every step: the first answer comes, and the one behind it is not waited for. */
TEST(dane, freed_on_the_way_it_never_calls_back)
{
    struct world w;

    world_open(&w);
    start(&w, "domain.test", "own.test", false);
    for (int i = 0; i < 20 && w.ends == 0; i++) {
        start(&w, "domain.test", "own.test", false);
        loop_run_for(w.loop, i);
        dane_free(w.dane);
        w.dane = NULL;
        w.ends = 0;
        loop_run_for(w.loop, 5);
        assert_int_equal(w.ends, 0);
    }
    dane_free(NULL);
    world_close(&w);
}

TEST(dane, a_new_resolver_is_asked_what_the_old_one_was)
{
    struct resolver *before;
    struct world w;

    world_open(&w);
    start(&w, "domain.test", "own.test", false);
    before = w.deliver.rooms.resolver;
    w.deliver.rooms.resolver = resolver_of(&w);
    dane_ask_again(&w.deliver);
    resolver_free(before);
    loop_run_for(w.loop, 10000);
    assert_int_equal(w.ends, 1);
    assert_int_equal(dane_wish(w.dane), DANE_WANTS_MATCH);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(dane, what_the_records_of_a_host_ask_for),
        RUN(dane, what_cannot_be_known_says_why),
        RUN(dane, names_below_an_anchor_are_those_of_the_host_and_of_the_domain),
        RUN(dane, a_certificate_with_the_name_of_a_domain_serves_that_domain_only),
        RUN(dane, how_it_is_told),
        RUN(dane, freed_on_the_way_it_never_calls_back),
        RUN(dane, a_new_resolver_is_asked_what_the_old_one_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
