/* address -> [cname] -> TLSA of the host's canonical name, else of its own -> [mx]
 *
 * The address is asked for again although the route search had it: its answer is in the cache of
 * the resolver, says whether it is authentic and what the host is an alias of, and so nothing of
 * DANE has to be kept with a route. */
#include "dane.h"

#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum { BASES = 2, TLSA_NAME = 256 + 16, RECORDS_TEXT = 4096 };

struct dane {
    struct link link; /* in deliver->danes, while it waits for an answer */
    struct deliver *deliver;
    struct lookup *lookup;
    struct {
        enum lookup_kind kind;
        char name[TLSA_NAME];
        lookup_end_fn *on_answer;
    } asked;
    char domain[256];
    char host[256];
    uint16_t port;
    bool is_route;
    char bases[BASES][256]; /* names that are asked for records, best first */
    size_t base_count;
    size_t base_at;
    enum dane_wish wish;
    struct tlsa_set *set;
    struct bytes records; /* in words */
    char text[sizeof((struct dns_answer *)NULL)->text];
    loop_fn *on_end;
    void *owner;
};

static void end(struct dane *dane, enum dane_wish wish)
{
    dane->wish = wish;
    dane->on_end(dane->owner);
}

static void end_unknown(struct dane *dane, const struct dns_answer *answer)
{
    (void)snprintf(dane->text, sizeof dane->text, "%s",
                   answer->text[0] ? answer->text : "DNS look-up failed");
    end(dane, DANE_IS_UNKNOWN);
}

static void ask_resolver(struct dane *dane)
{
    dane->lookup = lookup_start(dane->deliver->rooms.resolver, dane->asked.kind,
                                dane->asked.name, dane->asked.on_answer, dane);
}

static void ask(struct dane *dane, enum lookup_kind kind, const char *name,
                lookup_end_fn *on_answer)
{
    dane->asked.kind = kind;
    dane->asked.on_answer = on_answer;
    (void)snprintf(dane->asked.name, sizeof dane->asked.name, "%s", name);
    list_push_back(&dane->deliver->danes, &dane->link);
    ask_resolver(dane);
}

static struct dane *answered(void *owner)
{
    struct dane *dane = owner;

    dane->lookup = NULL;
    list_remove(&dane->deliver->danes, &dane->link);
    return dane;
}

static void add_base(struct dane *dane, const char *name)
{
    (void)snprintf(dane->bases[dane->base_count++], sizeof dane->bases[0], "%s", name);
}

/* RFC 7672 3.2.2: what the domain is an alias of is a name of it too. */
static void on_mx(void *owner, const struct dns_answer *answer)
{
    struct dane *dane = answered(owner);

    if (answer->is_authentic && answer->canonical)
        tlsa_set_add_name(dane->set, answer->canonical);
    end(dane, DANE_WANTS_MATCH);
}

static bool has_anchor(const struct tlsa_set *set)
{
    for (size_t i = 0; i < tlsa_set_count(set); i++)
        if (tlsa_set_at(set, i)->usage == TLSA_DANE_TA)
            return true;
    return false;
}

static void print_records(struct dane *dane, const struct dns_answer *answer)
{
    enum result added = RESULT_OK;

    bytes_clear(&dane->records);
    for (size_t i = 0; i < answer->tlsa_count && added == RESULT_OK; i++) {
        const struct tlsa *tlsa = &answer->tlsa[i];

        added = bytes_format(&dane->records, "%s%u %u %u ", i > 0 ? "|" : "", tlsa->usage,
                             tlsa->selector, tlsa->matching);
        for (size_t k = 0; k < tlsa->data.length && added == RESULT_OK; k++)
            added = bytes_format(&dane->records, "%02X", (unsigned char)tlsa->data.data[k]);
    }
    if (added == RESULT_OK)
        added = bytes_add(&dane->records, (struct slice){"", 1});
    if (added != RESULT_OK) /* longer than anybody reads */
        bytes_clear(&dane->records);
}

static void take_records(struct dane *dane, const struct dns_answer *answer)
{
    print_records(dane, answer);
    dane->set = tlsa_set_new(answer->tlsa, answer->tlsa_count);
    if (!dane->set) {
        end(dane, DANE_WANTS_TLS); /* RFC 7672 2.2: none of them is usable */
        return;
    }
    tlsa_set_add_name(dane->set, dane_base(dane));
    tlsa_set_add_name(dane->set, dane->domain);
    if (!dane->is_route && has_anchor(dane->set))
        ask(dane, LOOKUP_MX, dane->domain, on_mx);
    else
        end(dane, DANE_WANTS_MATCH);
}

static void ask_records(struct dane *dane);

static void on_records(void *owner, const struct dns_answer *answer)
{
    struct dane *dane = answered(owner);

    if (answer->result == RESULT_DNS_FAILURE) {
        end_unknown(dane, answer);
    } else if (answer->result == RESULT_OK && answer->is_authentic) {
        take_records(dane, answer);
    } else {
        dane->base_at++;
        ask_records(dane);
    }
}

static void ask_records(struct dane *dane)
{
    char name[TLSA_NAME];

    if (dane->base_at == dane->base_count) {
        dane->base_at = 0;
        end(dane, DANE_IS_SILENT);
        return;
    }
    (void)snprintf(name, sizeof name, "_%u._tcp.%s", (unsigned)dane->port, dane_base(dane));
    ask(dane, LOOKUP_TLSA, name, on_records);
}

/* RFC 7672 2.2.2: an alias that is authentic itself, and leads to where nothing is. */
static void on_alias(void *owner, const struct dns_answer *answer)
{
    struct dane *dane = answered(owner);

    if (answer->result == RESULT_DNS_FAILURE)
        end_unknown(dane, answer);
    else if (answer->result == RESULT_OK && answer->is_authentic)
        ask_records(dane);
    else
        end(dane, DANE_IS_SILENT);
}

static void on_address(void *owner, const struct dns_answer *answer)
{
    struct dane *dane = answered(owner);

    if (answer->result == RESULT_DNS_FAILURE) {
        end_unknown(dane, answer);
        return;
    }
    if (answer->is_authentic && answer->canonical)
        add_base(dane, answer->canonical);
    add_base(dane, dane->host);
    if (answer->is_authentic)
        ask_records(dane);
    else if (answer->canonical)
        ask(dane, LOOKUP_CNAME, dane->host, on_alias);
    else
        end(dane, DANE_IS_SILENT);
}

struct dane *dane_start(struct deliver *deliver, const struct dane_request *request,
                        loop_fn *on_end, void *owner)
{
    struct dane *dane = NEW(struct dane);

    dane->deliver = deliver;
    bytes_init(&dane->records, RECORDS_TEXT);
    (void)snprintf(dane->domain, sizeof dane->domain, "%s", request->domain);
    (void)snprintf(dane->host, sizeof dane->host, "%s", request->host);
    dane->port = request->port;
    dane->is_route = request->is_route;
    dane->on_end = on_end;
    dane->owner = owner;
    ask(dane, LOOKUP_ADDRESS, dane->host, on_address);
    return dane;
}

void dane_ask_again(struct deliver *deliver)
{
    for (struct link *link = list_first(&deliver->danes); link;
         link = list_next(&deliver->danes, link)) {
        struct dane *dane = CONTAINER_OF(link, struct dane, link);

        lookup_cancel(dane->lookup);
        ask_resolver(dane);
    }
}

void dane_free(struct dane *dane)
{
    if (!dane)
        return;
    lookup_cancel(dane->lookup);
    list_remove(&dane->deliver->danes, &dane->link);
    tlsa_set_free(dane->set);
    bytes_fini(&dane->records);
    memory_free(dane);
}

enum dane_wish dane_wish(const struct dane *dane)
{
    return dane->wish;
}

const char *dane_text(const struct dane *dane)
{
    return dane->text;
}

const char *dane_base(const struct dane *dane)
{
    return dane->bases[dane->base_at];
}

const char *dane_records(const struct dane *dane)
{
    return dane->records.length > 0 ? dane->records.data : "";
}

struct tlsa_set *dane_take_set(struct dane *dane)
{
    struct tlsa_set *set = dane->set;

    dane->set = NULL;
    return set;
}

bool dane_fits(const struct dane *dane, const struct tls_facts *facts, const char *domain)
{
    /* Names of a set: the first is the host's, which serves every domain that it serves. */
    return facts->dane != TLS_DANE_TA || facts->dane_name == 0 ||
           strcmp(dane->domain, domain) == 0;
}

enum deliver_tls_policy dane_policy(const struct dane *dane)
{
    switch (dane->wish) {
    case DANE_WANTS_TLS:
        return DELIVER_TLS_DANE_UNUSABLE;
    case DANE_WANTS_MATCH:
        return DELIVER_TLS_DANE;
    case DANE_IS_UNKNOWN:
    case DANE_IS_SILENT:
        break;
    }
    return DELIVER_TLS_AS_SET;
}
