/* A deep copy of the settings, counted: a reload makes a new one, attempts keep theirs. */
#include "inner.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <stdlib.h>
#include <string.h>

enum { SETTINGS_MAX = 64 << 20 };

static const char *copy_text(struct arena *arena, const char *text)
{
    return text ? arena_text(arena, slice_of(text)) : NULL;
}

static const char *const *copy_texts(struct arena *arena, const char *const *texts,
                                     size_t count)
{
    const char **copies = arena_alloc(arena, (count + 1) * sizeof *copies);

    for (size_t i = 0; copies && i < count; i++)
        copies[i] = copy_text(arena, texts[i]);
    return copies;
}

static const void *copy_bytes(struct arena *arena, const void *from, size_t bytes)
{
    void *copy = from && bytes > 0 ? arena_alloc(arena, bytes) : NULL;

    if (copy)
        memcpy(copy, from, bytes);
    return copy;
}

static void copy_transfer(struct arena *arena, struct destination_settings *transfer)
{
    transfer->timeouts = copy_bytes(arena, transfer->timeouts, sizeof *transfer->timeouts);
    transfer->retry_ms = copy_bytes(arena, transfer->retry_ms,
                                    transfer->retry_count * sizeof *transfer->retry_ms);
    if (!transfer->retry_ms)
        transfer->retry_count = 0;
    transfer->pool = copy_text(arena, transfer->pool);
}

static void copy_rules(struct plan_settings *settings)
{
    struct deliver_settings *values = &settings->values;
    struct destination_rule *rules =
        arena_alloc(&settings->arena, (values->rule_count + 1) * sizeof *rules);

    for (size_t i = 0; rules && i < values->rule_count; i++) {
        rules[i] = values->rules[i];
        if (!rules[i].name && rules[i].match_count > 0)
            rules[i].name = rules[i].match[0];
        rules[i].name = copy_text(&settings->arena, rules[i].name);
        copy_transfer(&settings->arena, &rules[i].settings);
        rules[i].match = copy_texts(&settings->arena, rules[i].match, rules[i].match_count);
    }
    values->rules = rules;
}

static void copy_routes(struct plan_settings *settings)
{
    struct deliver_settings *values = &settings->values;
    struct route *routes =
        arena_alloc(&settings->arena, (values->route_count + 1) * sizeof *routes);

    for (size_t i = 0; routes && i < values->route_count; i++) {
        routes[i] = values->routes[i];
        copy_transfer(&settings->arena, &routes[i].settings);
        routes[i].name = copy_text(&settings->arena, routes[i].name);
        routes[i].match =
            copy_texts(&settings->arena, routes[i].match, routes[i].match_count);
        routes[i].host = copy_text(&settings->arena, routes[i].host);
        routes[i].user = copy_text(&settings->arena, routes[i].user);
        routes[i].password = copy_text(&settings->arena, routes[i].password);
    }
    values->routes = routes;
}

static int by_name(const void *a, const void *b)
{
    const struct deliver_tenant *left = a;
    const struct deliver_tenant *right = b;

    return strcmp(left->name, right->name);
}

static void copy_tenants(struct plan_settings *settings)
{
    struct deliver_settings *values = &settings->values;
    struct deliver_tenant *tenants =
        arena_alloc(&settings->arena, (values->tenant_count + 1) * sizeof *tenants);

    for (size_t i = 0; tenants && i < values->tenant_count; i++)
        tenants[i] =
            (struct deliver_tenant){copy_text(&settings->arena, values->tenants[i].name),
                                    values->tenants[i].weight};
    if (tenants)
        qsort(tenants, values->tenant_count, sizeof *tenants, by_name);
    values->tenants = tenants;
}

static const struct deliver_tenant *find_tenant(const struct plan_settings *settings,
                                                const char *name)
{
    const struct deliver_tenant wanted = {name, 1};

    return bsearch(&wanted, settings->values.tenants, settings->values.tenant_count,
                   sizeof wanted, by_name);
}

unsigned settings_weight(const struct plan_settings *settings, const char *tenant)
{
    const struct deliver_tenant *found = tenant ? find_tenant(settings, tenant) : NULL;

    if (!found)
        found = find_tenant(settings, "*");
    return found ? found->weight : 1;
}

static void copy_reactions(struct plan_settings *settings)
{
    struct deliver_settings *values = &settings->values;
    struct arena *arena = &settings->arena;
    struct reaction *reactions =
        arena_alloc(arena, (values->reaction_count + 1) * sizeof *reactions);

    for (size_t i = 0; reactions && i < values->reaction_count; i++) {
        struct reaction *one = &reactions[i];

        *one = values->reactions[i];
        one->code = copy_text(arena, one->code);
        one->status = copy_text(arena, one->status);
        one->text = copy_text(arena, one->text);
        one->match = copy_texts(arena, one->match, one->match_count);
    }
    values->reactions = reactions;
}

static void copy_sources(struct plan_settings *settings)
{
    struct deliver_settings *values = &settings->values;
    struct arena *arena = &settings->arena;
    struct deliver_source *sources =
        arena_alloc(arena, (values->source_count + 1) * sizeof *sources);

    for (size_t i = 0; sources && i < values->source_count; i++) {
        struct deliver_source *one = &sources[i];

        *one = values->sources[i];
        one->name = copy_text(arena, one->name);
        one->ehlo = copy_text(arena, one->ehlo);
        one->warm_up =
            copy_bytes(arena, one->warm_up, one->warm_up_count * sizeof *one->warm_up);
    }
    values->sources = sources;
}

static void copy_pools(struct plan_settings *settings)
{
    struct deliver_settings *values = &settings->values;
    struct arena *arena = &settings->arena;
    struct deliver_pool *pools =
        arena_alloc(arena, (values->pool_count + 1) * sizeof *pools);

    for (size_t i = 0; pools && i < values->pool_count; i++) {
        const struct deliver_pool *from = &values->pools[i];
        struct deliver_pool_member *members =
            arena_alloc(arena, (from->member_count + 1) * sizeof *members);

        pools[i] = (struct deliver_pool){copy_text(arena, from->name), members,
                                         from->member_count};
        for (size_t k = 0; members && k < from->member_count; k++)
            members[k] = (struct deliver_pool_member){
                copy_text(arena, from->members[k].source), from->members[k].weight};
    }
    values->pools = pools;
}

static void copy_pool_rules(struct plan_settings *settings)
{
    struct deliver_settings *values = &settings->values;
    struct arena *arena = &settings->arena;
    struct pool_rule *rules =
        arena_alloc(arena, (values->pool_rule_count + 1) * sizeof *rules);

    for (size_t i = 0; rules && i < values->pool_rule_count; i++) {
        struct pool_rule *one = &rules[i];

        *one = values->pool_rules[i];
        one->pool = copy_text(arena, one->pool);
        one->senders = copy_texts(arena, one->senders, one->sender_count);
        one->sender_domains =
            copy_texts(arena, one->sender_domains, one->sender_domain_count);
        one->tenants = copy_texts(arena, one->tenants, one->tenant_count);
    }
    values->pool_rules = rules;
}

const struct deliver_source *settings_source(const struct plan_settings *settings,
                                             const char *name)
{
    for (size_t i = 0; i < settings->values.source_count; i++)
        if (strcmp(settings->values.sources[i].name, name) == 0)
            return &settings->values.sources[i];
    return NULL;
}

struct plan_settings *settings_new(const struct deliver_settings *values,
                                   struct tls_client *tls)
{
    struct plan_settings *settings = NEW(struct plan_settings);
    struct endpoint *own;

    settings->references = 1;
    arena_init(&settings->arena, SETTINGS_MAX);
    settings->values = *values;
    settings->tls = tls_client_ref(tls);
    classifier_ref(values->classifier);
    settings->values.hostname = copy_text(&settings->arena, values->hostname);
    settings->values.postmaster = copy_text(&settings->arena, values->postmaster);
    settings->values.tls_report_organization =
        copy_text(&settings->arena, values->tls_report_organization);
    settings->values.tls_report_contact =
        copy_text(&settings->arena, values->tls_report_contact);
    settings->values.local_domains =
        copy_texts(&settings->arena, values->local_domains, values->local_count);
    own = arena_alloc(&settings->arena, (values->own_count + 1) * sizeof *own);
    if (own && values->own_count)
        memcpy(own, values->own_addresses, values->own_count * sizeof *own);
    settings->values.own_addresses = own;
    settings->values.defaults.pool = copy_text(&settings->arena, values->defaults.pool);
    copy_rules(settings);
    copy_routes(settings);
    copy_tenants(settings);
    copy_reactions(settings);
    copy_sources(settings);
    copy_pools(settings);
    copy_pool_rules(settings);
    return settings;
}

struct plan_settings *settings_ref(struct plan_settings *settings)
{
    settings->references++;
    return settings;
}

void settings_unref(struct plan_settings *settings)
{
    if (!settings || --settings->references > 0)
        return;
    for (size_t i = 0; i < settings->values.route_count; i++) {
        const char *password = settings->values.routes[i].password;

        if (password)
            secure_wipe((char *)(uintptr_t)password, strlen(password)); /* our own copy */
    }
    tls_client_unref(settings->tls);
    classifier_unref(settings->values.classifier);
    arena_clear(&settings->arena);
    memory_free(settings);
}

static bool matches(const char *const *patterns, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (domain_matches(patterns[i], name))
            return true;
    return false;
}

const struct route *settings_find_route(const struct plan_settings *settings,
                                        const char *domain)
{
    for (size_t i = 0; i < settings->values.route_count; i++) {
        const struct route *route = &settings->values.routes[i];

        if (matches(route->match, route->match_count, domain))
            return route;
    }
    return NULL;
}

const struct route *settings_route_by_name(const struct plan_settings *settings,
                                           const char *name)
{
    for (size_t i = 0; i < settings->values.route_count; i++)
        if (strcmp(settings->values.routes[i].name, name) == 0)
            return &settings->values.routes[i];
    return NULL;
}

bool settings_is_local(const struct plan_settings *settings, const char *domain)
{
    for (size_t i = 0; i < settings->values.local_count; i++)
        if (strcmp(settings->values.local_domains[i], domain) == 0)
            return true;
    return false;
}

const char *settings_block(const struct plan_settings *settings, const struct plan *plan)
{
    return !plan->is_route && plan->rule >= 0 &&
                   (size_t)plan->rule < settings->values.rule_count
               ? settings->values.rules[plan->rule].name
               : NULL;
}

const struct destination_settings *settings_for(const struct plan_settings *settings,
                                                const struct plan *plan)
{
    const struct route *route;

    if (plan->is_route) {
        route = settings_route_by_name(settings, plan->route_name);
        return route ? &route->settings : &settings->values.defaults;
    }
    if (plan->rule >= 0 && (size_t)plan->rule < settings->values.rule_count)
        return &settings->values.rules[plan->rule].settings;
    return &settings->values.defaults;
}

int settings_find_rule(const struct plan_settings *settings, const char *domain,
                       const char *const *hosts, size_t host_count)
{
    for (size_t i = 0; i < settings->values.rule_count; i++) {
        const struct destination_rule *rule = &settings->values.rules[i];

        if (matches(rule->match, rule->match_count, domain))
            return (int)i;
        for (size_t k = 0; k < host_count; k++)
            if (matches(rule->match, rule->match_count, hosts[k]))
                return (int)i;
    }
    return -1;
}
