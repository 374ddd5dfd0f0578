/* Recipient domain -> ordered hosts (RFC 5321 5.1, RFC 7505). The questions are asked
 * through the resolver, which joins and caches them; what the answers mean is decided here.
 */
#include "inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLAN_LEAST_MS = 30000, PLAN_MOST_MS = 3600000 };

void plan_fini(struct plan *plan)
{
    memory_free(plan->hosts);
    plan->hosts = NULL;
    plan->host_count = 0;
}

static void plan_verdict(struct plan *plan, enum plan_kind kind, const char *status,
                         const char *text)
{
    plan->kind = kind;
    (void)snprintf(plan->status, sizeof plan->status, "%s", status);
    (void)snprintf(plan->text, sizeof plan->text, "%s", text);
}

/* Equal preferences in random order (RFC 5321 5.1): `order` gets indexes of hosts. */
void plan_order(const struct plan *plan, uint8_t order[LIMIT_MX_HOSTS])
{
    for (size_t i = 0; i < plan->host_count; i++)
        order[i] = (uint8_t)i;
    for (size_t i = 0; i + 1 < plan->host_count; i++) {
        uint32_t same = 1;
        size_t other;
        uint8_t swapped = order[i];

        while (i + same < plan->host_count &&
               plan->hosts[i + same].preference == plan->hosts[i].preference)
            same++;
        other = i + secure_random_below(same);
        order[i] = order[other];
        order[other] = swapped;
    }
}

void plan_key(const struct plan *plan, const char *lane, struct bytes *key)
{
    static const char *const kinds[] = {"", "local:", "fail:", "defer:", "regroup:"};
    enum result added = RESULT_OK;

    if (plan->kind != PLAN_HOSTS) {
        added = bytes_format(key, "%s%s", kinds[plan->kind], lane);
    } else if (plan->is_route) {
        added = bytes_format(key, "route:%s", plan->route_name);
    } else {
        for (size_t i = 0; i < plan->host_count && added == RESULT_OK; i++)
            added = bytes_format(
                key, "%s%s",
                i == 0                                                       ? ""
                : plan->hosts[i].preference == plan->hosts[i - 1].preference ? "="
                                                                             : ">",
                plan->hosts[i].name);
        if (added == RESULT_OK && plan->rule >= 0)
            added = bytes_format(key, "#%d", plan->rule);
    }
    (void)added; /* the ceiling is far above 20 names */
}

/* ---- what the answer to MX means ---- */

static int by_preference(const void *a, const void *b)
{
    const struct plan_host *left = a;
    const struct plan_host *right = b;

    if (left->preference != right->preference)
        return left->preference < right->preference ? -1 : 1;
    return strcmp(left->name, right->name);
}

static void add_host(struct plan *plan, const char *name, uint16_t preference)
{
    struct plan_host *host;

    plan->hosts = memory_resize(plan->hosts, (plan->host_count + 1) * sizeof *plan->hosts);
    host = &plan->hosts[plan->host_count++];
    memset(host, 0, sizeof *host);
    host->preference = preference;
    (void)snprintf(host->name, sizeof host->name, "%s", name);
}

bool router_judge_mx(const struct dns_answer *answer, const char *domain, struct plan *plan)
{
    plan->expires_ms = answer->ttl_ms;
    plan->is_authentic = answer->is_authentic;
    if (answer->result == RESULT_DNS_NXDOMAIN) {
        plan_verdict(plan, PLAN_FAIL, "5.1.2", "the domain does not exist (NXDOMAIN)");
        return true;
    }
    if (answer->result == RESULT_DNS_NODATA) {
        add_host(plan, domain, 0); /* RFC 5321 5.1: the implicit MX */
        return false;
    }
    if (answer->result != RESULT_OK) {
        plan_verdict(plan, PLAN_DEFER, "4.4.3",
                     answer->text[0] ? answer->text : "DNS look-up failed");
        return true;
    }
    if (answer->mx_count == 1 && answer->mx[0].host[0] == '\0') {
        plan_verdict(plan, PLAN_FAIL, "5.1.10", "the domain takes no mail (null MX)");
        return true;
    }
    for (size_t i = 0; i < answer->mx_count; i++)
        if (answer->mx[i].host[0])
            add_host(plan, answer->mx[i].host, answer->mx[i].preference);
    if (plan->host_count == 0) {
        plan_verdict(plan, PLAN_FAIL, "5.4.4", "the domain has no usable mail exchanger");
        return true;
    }
    qsort(plan->hosts, plan->host_count, sizeof *plan->hosts, by_preference);
    if (plan->host_count > LIMIT_MX_HOSTS)
        plan->host_count = LIMIT_MX_HOSTS;
    return false;
}

/* ---- the search ---- */

struct route_search {
    struct deliver *deliver;
    struct plan_settings *settings;
    char domain[LANE_TEXT];
    struct plan plan;
    struct lookup *lookup;
    struct lookup *addresses[LIMIT_MX_HOSTS];
    struct host_search {
        struct route_search *search;
        size_t at;
        bool has_failed; /* for now */
        bool was_private;
        char text[160];
    } hosts[LIMIT_MX_HOSTS];
    size_t waiting;
    struct deferred end;
    route_search_fn *on_end;
    void *owner;
};

static void search_free(struct route_search *search)
{
    settings_unref(search->settings);
    plan_fini(&search->plan);
    memory_free(search);
}

static void end(void *owner)
{
    struct route_search *search = owner;
    route_search_fn *on_end = search->on_end;
    void *told = search->owner;
    struct plan plan = search->plan;
    int64_t life_ms = plan.expires_ms;

    if (life_ms < PLAN_LEAST_MS)
        life_ms = PLAN_LEAST_MS;
    if (life_ms > PLAN_MOST_MS)
        life_ms = PLAN_MOST_MS;
    plan.expires_ms = deliver_now(search->deliver) + life_ms;
    search->plan.hosts = NULL; /* the owner's now */
    search->plan.host_count = 0;
    search_free(search);
    on_end(told, &plan);
}

static bool is_ourselves(const struct plan_settings *settings, const struct plan_host *host,
                         uint16_t port)
{
    if (strcmp(host->name, settings->values.hostname) == 0)
        return true;
    for (size_t i = 0; i < settings->values.own_count; i++) {
        const struct endpoint *own = &settings->values.own_addresses[i];

        for (size_t k = 0; k < host->address_count; k++)
            if (own->port == port && ip_equal(&own->ip, &host->addresses[k]))
                return true;
    }
    return false;
}

/* RFC 5321 5.1: ourselves and all that is less preferred goes: or mail would circle. */
static bool drop_ourselves(struct route_search *search)
{
    struct plan *plan = &search->plan;

    for (size_t i = 0; i < plan->host_count; i++) {
        if (!is_ourselves(search->settings, &plan->hosts[i], plan->port))
            continue;
        while (i > 0 && plan->hosts[i - 1].preference == plan->hosts[i].preference)
            i--;
        plan->host_count = i;
        return true;
    }
    return false;
}

static void drop_hosts_without_address(struct route_search *search)
{
    struct plan *plan = &search->plan;
    size_t kept = 0;

    for (size_t i = 0; i < plan->host_count; i++)
        if (plan->hosts[i].address_count > 0)
            plan->hosts[kept++] = plan->hosts[i];
    plan->host_count = kept;
}

static void finish(struct route_search *search)
{
    struct plan *plan = &search->plan;
    const char *failed = NULL;
    const char *names[LIMIT_MX_HOSTS] = {NULL};
    bool was_private = false;
    bool were_we_in_it;

    were_we_in_it = drop_ourselves(search);
    for (size_t i = 0; i < plan->host_count; i++) {
        if (search->hosts[i].has_failed)
            failed = search->hosts[i].text;
        was_private |= search->hosts[i].was_private;
    }
    drop_hosts_without_address(search);
    for (size_t i = 0; i < plan->host_count; i++)
        names[i] = plan->hosts[i].name;
    plan->kind = PLAN_HOSTS;
    plan->rule =
        settings_find_rule(search->settings, search->domain, names, plan->host_count);
    if (plan->host_count == 0 && failed) /* we may be the backup of one that is there */
        plan_verdict(plan, PLAN_DEFER, "4.4.3", failed);
    else if (plan->host_count == 0 && were_we_in_it)
        plan_verdict(plan, PLAN_FAIL, "5.4.6",
                     "the mail exchangers of the domain are this server");
    else if (plan->host_count == 0 && was_private)
        plan_verdict(plan, PLAN_FAIL, "5.4.4",
                     "the mail exchangers have private addresses only "
                     "(delivery.allow_private_networks)");
    else if (plan->host_count == 0)
        plan_verdict(plan, PLAN_FAIL, "5.4.4",
                     "no mail exchanger of the domain has an address");
    end(search);
}

static void take_addresses(struct route_search *search, size_t at,
                           const struct dns_answer *answer)
{
    struct plan_host *host = &search->plan.hosts[at];

    for (size_t i = 0;
         i < answer->address_count && host->address_count < LIMIT_HOST_ADDRESSES; i++) {
        if (!search->settings->values.allow_private_networks &&
            ip_is_private(&answer->addresses[i])) {
            search->hosts[at].was_private = true;
            continue;
        }
        host->addresses[host->address_count++] = answer->addresses[i];
    }
}

static void on_addresses(void *owner, const struct dns_answer *answer)
{
    struct host_search *host = owner;
    struct route_search *search = host->search;

    search->addresses[host->at] = NULL;
    if (answer->result == RESULT_OK)
        take_addresses(search, host->at, answer);
    else if (answer->result != RESULT_DNS_NXDOMAIN && answer->result != RESULT_DNS_NODATA)
        host->has_failed = true;
    (void)snprintf(host->text, sizeof host->text, "%s", answer->text);
    if (answer->ttl_ms > 0 && answer->ttl_ms < search->plan.expires_ms)
        search->plan.expires_ms = answer->ttl_ms;
    if (--search->waiting == 0)
        finish(search);
}

static void ask_addresses(struct route_search *search)
{
    search->waiting = search->plan.host_count;
    for (size_t i = 0; i < search->plan.host_count; i++) {
        search->hosts[i].search = search;
        search->hosts[i].at = i;
        search->addresses[i] =
            lookup_start(search->deliver->rooms.resolver, LOOKUP_ADDRESS,
                         search->plan.hosts[i].name, on_addresses, &search->hosts[i]);
    }
}

static void on_mx(void *owner, const struct dns_answer *answer)
{
    struct route_search *search = owner;

    search->lookup = NULL;
    if (router_judge_mx(answer, search->domain, &search->plan))
        end(search);
    else
        ask_addresses(search);
}

static void on_literal(void *owner)
{
    struct route_search *search = owner;
    struct slice inside = slice_of(search->domain + 1);
    struct ip ip;

    inside.length--;
    if (slice_starts_fold(inside, "ipv6:"))
        inside = slice_from(inside, 5);
    search->plan.expires_ms = PLAN_MOST_MS;
    if (ip_parse(inside, &ip) != RESULT_OK) {
        plan_verdict(&search->plan, PLAN_FAIL, "5.1.2", "the address literal is malformed");
        end(search);
        return;
    }
    add_host(&search->plan, search->domain, 0);
    if (search->settings->values.allow_private_networks || !ip_is_private(&ip)) {
        search->plan.hosts[0].addresses[0] = ip;
        search->plan.hosts[0].address_count = 1;
    } else {
        search->hosts[0].was_private = true;
    }
    finish(search);
}

/* ---- the host of a route: it may be private, or ourselves, for the operator wrote it ---- */

static void on_route_address(void *owner, const struct dns_answer *answer)
{
    struct route_search *search = owner;
    struct plan *plan = &search->plan;
    struct plan_host *host = &plan->hosts[0];
    char text[sizeof plan->text];

    search->lookup = NULL;
    plan->expires_ms = answer->ttl_ms;
    plan->is_authentic = answer->is_authentic;
    plan->kind = PLAN_HOSTS;
    for (size_t i = 0; i < answer->address_count && i < LIMIT_HOST_ADDRESSES; i++)
        host->addresses[host->address_count++] = answer->addresses[i];
    if (host->address_count == 0) {
        (void)snprintf(text, sizeof text,
                       "the host of the route, %.120s, has no address: %.120s", host->name,
                       answer->text[0] ? answer->text : result_text(answer->result));
        plan_verdict(plan, PLAN_DEFER,
                     answer->result == RESULT_DNS_FAILURE ? "4.4.3" : "4.4.4", text);
    }
    end(search);
}

static void on_route_literal(void *owner)
{
    struct route_search *search = owner;
    struct plan *plan = &search->plan;

    CHECK(ip_parse(slice_of(plan->hosts[0].name), &plan->hosts[0].addresses[0]) ==
          RESULT_OK);
    plan->hosts[0].address_count = 1;
    plan->kind = PLAN_HOSTS;
    plan->expires_ms = PLAN_MOST_MS;
    end(search);
}

static struct route_search *search_new(struct deliver *deliver, route_search_fn *on_end,
                                       void *owner)
{
    struct route_search *search = NEW(struct route_search);

    search->deliver = deliver;
    search->settings = settings_ref(deliver->settings);
    search->on_end = on_end;
    search->owner = owner;
    search->plan.rule = -1;
    return search;
}

struct route_search *route_search_start_route(struct deliver *deliver,
                                              const struct route *route,
                                              route_search_fn *on_end, void *owner)
{
    struct route_search *search = search_new(deliver, on_end, owner);
    struct plan *plan = &search->plan;
    struct ip ip;

    plan->is_route = true;
    plan->port = route->port;
    (void)snprintf(plan->route_name, sizeof plan->route_name, "%s", route->name);
    add_host(plan, route->host, 0);
    if (ip_parse(slice_of(route->host), &ip) == RESULT_OK)
        loop_defer(deliver->rooms.loop, &search->end, on_route_literal, search);
    else
        search->lookup = lookup_start(deliver->rooms.resolver, LOOKUP_ADDRESS, route->host,
                                      on_route_address, search);
    return search;
}

struct route_search *route_search_start(struct deliver *deliver, const char *domain,
                                        route_search_fn *on_end, void *owner)
{
    struct route_search *search = search_new(deliver, on_end, owner);

    search->plan.port = search->settings->values.port;
    (void)snprintf(search->domain, sizeof search->domain, "%s", domain);
    if (domain[0] == '[')
        loop_defer(deliver->rooms.loop, &search->end, on_literal, search);
    else
        search->lookup =
            lookup_start(deliver->rooms.resolver, LOOKUP_MX, search->domain, on_mx, search);
    return search;
}

bool route_search_is_quick(struct deliver *deliver, const char *domain,
                           const struct route *route)
{
    struct ip ip;

    if (!route)
        return domain[0] == '[' ||
               resolver_knows(deliver->rooms.resolver, LOOKUP_MX, domain);
    return ip_parse(slice_of(route->host), &ip) == RESULT_OK ||
           resolver_knows(deliver->rooms.resolver, LOOKUP_ADDRESS, route->host);
}

void route_search_cancel(struct route_search *search)
{
    if (search->lookup)
        lookup_cancel(search->lookup);
    for (size_t i = 0; i < LIMIT_MX_HOSTS; i++)
        if (search->addresses[i])
            lookup_cancel(search->addresses[i]);
    deferred_cancel(search->deliver->rooms.loop, &search->end);
    search_free(search);
}
