/* lane -> plan (as lane.c finds it) -> TLSA records, a host at a time -> what is known of them now */
#include "smtpd/deliver/explain.h"

#include "dane.h"
#include "destinations_ask.h"
#include "host.h"
#include "inner.h"
#include "reach.h"
#include "pool.h"
#include "smtpd/base/memory.h"
#include "sts.h"
#include "sts_file.h"

#include <stdio.h>
#include <string.h>

struct explain {
    struct link link; /* in deliver->explains */
    struct deliver *deliver;
    struct plan_settings *settings; /* the rule and the route are its */
    char address[LIMIT_ADDRESS + 1];
    char sender[LIMIT_ADDRESS + 1];
    char tenant[LIMIT_USER_NAME + 1]; /* "": none */
    struct explain_source sources[DELIVER_POOL_MEMBERS_MAX];
    char lane[LANE_TEXT];
    char domain[LANE_TEXT]; /* of DANE: a route's host */
    const struct route *route;
    struct plan plan;
    struct route_search *search;
    struct dane *dane;
    struct explain_host hosts[LIMIT_MX_HOSTS];
    struct pace_view paces[PACES_TOLD];
    size_t at;
    struct deferred now; /* nothing must be asked */
    explain_fn *on_end;
    void *owner;
};

static void explain_free(struct explain *explain)
{
    list_remove(&explain->deliver->explains, &explain->link);
    plan_fini(&explain->plan);
    settings_unref(explain->settings);
    memory_free(explain);
}

static const struct destination_settings *settings_of(const struct explain *explain)
{
    return settings_for(explain->settings, &explain->plan);
}

/* ---- what is known now ---- */

static int64_t if_ahead(const struct explain *explain, int64_t until_ms)
{
    return until_ms > deliver_now(explain->deliver) ? until_ms : 0;
}

/* What is remembered of it for one source (NULL: without a pool): the latest is told. */
static void tell_memory(const struct explain *explain, struct explain_host *host,
                        const char *source)
{
    const struct host_way way = {.plan = &explain->plan,
                                 .block = settings_block(explain->settings, &explain->plan),
                                 .source = source};
    const struct host_memory *memory = host_look(explain->deliver, &way, host->name);
    int64_t until_ms = memory ? if_ahead(explain, memory->until_ms) : 0;
    int64_t clear_until_ms = memory ? if_ahead(explain, memory->clear_until_ms) : 0;

    host->until_count += until_ms > 0;
    host->clear_count += clear_until_ms > 0;
    if (until_ms > host->until_ms) {
        host->until_ms = until_ms;
        host->until_source = source;
    }
    if (clear_until_ms > host->clear_until_ms) {
        host->clear_until_ms = clear_until_ms;
        host->clear_source = source;
    }
}

static void tell_hosts(struct explain *explain, struct explanation *explanation)
{
    for (size_t i = 0; i < explain->plan.host_count; i++) {
        const struct plan_host *from = &explain->plan.hosts[i];
        struct explain_host *host = &explain->hosts[i];

        host->name = from->name;
        host->preference = from->preference;
        host->addresses = from->addresses;
        host->address_count = from->address_count;
        if (!explanation->pool)
            tell_memory(explain, host, NULL);
        for (size_t k = 0; k < explanation->source_count; k++)
            tell_memory(explain, host, explanation->sources[k].name);
    }
    explanation->hosts = explain->hosts;
    explanation->host_count = explain->plan.host_count;
}

/* Of a pool the mail waits in the head, and what goes and fails does so by its sources. */
static void tell_sources(struct explanation *explanation)
{
    const struct explain_source *first = NULL; /* that comes back, of those that back off */
    size_t resting = 0;

    for (size_t i = 0; i < explanation->source_count; i++) {
        const struct explain_source *one = &explanation->sources[i];

        explanation->is_known |= one->is_known;
        explanation->connections += one->connections;
        explanation->running += one->running;
        if (one->why != WHY_DESTINATION)
            continue;
        resting++;
        if (!first || one->until_ms < first->until_ms)
            first = one;
    }
    if (!first || resting < explanation->source_count)
        return; /* another goes on, or waits for something else */
    explanation->until_ms = first->until_ms;
    explanation->fault = first->text;
}

static void tell_destination(const struct explain *explain, struct slice key,
                             struct explanation *explanation)
{
    const struct destination *destination =
        destination_find_head(explain->deliver, key, explanation->pool);

    if (destination) {
        explanation->is_known = true;
        explanation->connections = destination->connections;
        explanation->running = destination->running;
        explanation->ready =
            destination->ready.works.count + destination->ready.chosen.count;
        explanation->until_ms = if_ahead(explain, destination->until_ms);
        if (explanation->until_ms)
            explanation->fault = destination->fault;
    }
    tell_sources(explanation);
}

static void tell_rule(const struct explain *explain, struct explanation *explanation)
{
    const struct deliver_settings *values = &explain->settings->values;

    if (!settings_block(explain->settings, &explain->plan))
        return;
    explanation->match = values->rules[explain->plan.rule].match;
    explanation->match_count = values->rules[explain->plan.rule].match_count;
    explanation->rule = values->rules[explain->plan.rule].name;
}

static void tell_pool(struct explain *explain, struct explanation *explanation)
{
    const struct deliver_settings *values = &explain->settings->values;
    const char *asked =
        pool_rule_choose(values->pool_rules, values->pool_rule_count, explain->sender,
                         explain->tenant[0] ? explain->tenant : NULL);

    explanation->pool = pool_name(explain->settings, &explain->plan, asked);
    explanation->sources = explain->sources;
    if (explanation->pool)
        explanation->source_count =
            pool_explain(explain->deliver, explanation->pool, &explain->plan,
                         explanation->destination, explain->sources);
}

/* Before any mail went there too: what was learned in another process is kept by the scope, whose
 * limits come with the first mail. */
static void tell_scope(struct explain *explain, struct slice key, const char *source,
                       struct explanation *explanation)
{
    struct scope *scope = scope_find(explain->deliver, &explain->plan, key, source);
    const struct destination_settings *settings = &explanation->settings;
    struct pace_view *view = &explain->paces[explanation->pace_count];

    if (!scope || explanation->pace_count == PACES_TOLD)
        return;
    explanation->scope = scope->key;
    explanation->paces = explain->paces;
    explanation->pace_count++;
    *view = scope_view(scope);
    if (scope->generation > 0)
        return;
    view->ceiling = settings->connections;
    view->message_rate = settings->message_rate;
    view->connection_rate = settings->connection_rate;
}

static void tell_scopes(struct explain *explain, struct slice key,
                        struct explanation *explanation)
{
    if (!explanation->pool)
        tell_scope(explain, key, "", explanation);
    for (size_t i = 0; i < explanation->source_count; i++)
        tell_scope(explain, key, explain->sources[i].name, explanation);
}

/* A scope that is not known yet may be suspended all the same. */
static void tell_suspension(const struct explain *explain, struct slice key,
                            struct explanation *explanation)
{
    struct bytes scope;

    bytes_init(&scope, 16384);
    scope_key(explain->settings, &explain->plan, key.data, &scope);
    if (bytes_add(&scope, (struct slice){"", 1}) == RESULT_OK)
        explanation->suspension = reach_suspension_of(
            explain->deliver, explain->lane, reach_hosts(&explain->plan, key), scope.data);
    bytes_fini(&scope);
}

static enum explain_kind kind_of(const struct plan *plan)
{
    switch (plan->kind) {
    case PLAN_LOCAL:
        return EXPLAIN_LOCAL;
    case PLAN_FAIL:
        return EXPLAIN_FAIL;
    case PLAN_DEFER:
        return EXPLAIN_DEFER;
    case PLAN_HOSTS:
    case PLAN_REGROUP:
        break;
    }
    return EXPLAIN_HOSTS;
}

static void tell_sts(struct explain *explain, struct explain_sts *sts)
{
    const struct destination_settings *settings = settings_of(explain);
    const struct sts_record *record;

    sts->is_wanted = settings->mta_sts && !explain->route &&
                     (settings->tls == TLS_OPPORTUNISTIC || settings->tls == TLS_REQUIRED);
    if (!sts->is_wanted)
        return;
    record = sts_known(explain->deliver->sts, explain->domain, &sts->has_failed);
    if (!record)
        return;
    sts->mode = sts_mode_name(sts_policy_mode(record->policy));
    sts->id = record->id;
    sts->fetched_ms = record->fetched_ms;
    sts->until_ms = record->fetched_ms + sts_policy_max_age_ms(record->policy);
    for (size_t i = 0; i < explain->plan.host_count; i++)
        explain->hosts[i].is_forbidden =
            sts_policy_mode(record->policy) == STS_ENFORCE &&
            !sts_policy_matches(record->policy, explain->plan.hosts[i].name);
}

static void tell(struct explain *explain)
{
    struct explanation explanation = {.lane = explain->lane,
                                      .kind = kind_of(&explain->plan),
                                      .status = explain->plan.status,
                                      .text = explain->plan.text,
                                      .fault = "",
                                      .scope = ""};
    explain_fn *on_end = explain->on_end;
    void *owner = explain->owner;
    struct bytes key;

    bytes_init(&key, 8192);
    if (explanation.kind == EXPLAIN_HOSTS) {
        plan_key(&explain->plan, explain->lane, &key);
        explanation.route = explain->route ? explain->route->name : NULL;
        explanation.logs_in = explain->route && explain->route->user;
        explanation.port = explain->plan.port;
        explanation.settings = *settings_of(explain);
        if (bytes_add(&key, (struct slice){"", 1}) == RESULT_OK) {
            explanation.destination = key.data;
            tell_pool(explain, &explanation);
            tell_destination(explain, slice_of(key.data), &explanation);
            tell_scopes(explain, slice_of(key.data), &explanation);
            tell_suspension(explain, slice_of(key.data), &explanation);
        }
        explanation.is_authentic = explain->plan.is_authentic;
        tell_hosts(explain, &explanation);
        tell_rule(explain, &explanation);
        tell_sts(explain, &explanation.sts);
    }
    if (explanation.kind == EXPLAIN_LOCAL)
        explanation.suspension =
            reach_suspension_of(explain->deliver, explain->lane, SLICE_NONE, "");
    deliver_why(explain->deliver, explain->lane, NULL, &explanation.lane_waits);
    on_end(owner, &explanation);
    bytes_fini(&key);
    explain_free(explain);
}

/* ---- TLSA records ---- */

static void ask_dane(struct explain *explain);

static void on_dane(void *owner)
{
    static const enum explain_dane words[] = {[DANE_IS_UNKNOWN] = EXPLAIN_DANE_UNKNOWN,
                                              [DANE_IS_SILENT] = EXPLAIN_DANE_NONE,
                                              [DANE_WANTS_TLS] = EXPLAIN_DANE_UNUSABLE,
                                              [DANE_WANTS_MATCH] = EXPLAIN_DANE_MATCH};
    struct explain *explain = owner;
    struct explain_host *host = &explain->hosts[explain->at++];

    host->dane = words[dane_wish(explain->dane)];
    (void)snprintf(host->dane_text, sizeof host->dane_text, "%s", dane_text(explain->dane));
    dane_free(explain->dane);
    explain->dane = NULL;
    ask_dane(explain);
}

static bool wants_dane(const struct explain *explain)
{
    const struct destination_settings *settings = settings_of(explain);

    return settings->dane &&
           (settings->tls == TLS_OPPORTUNISTIC || settings->tls == TLS_REQUIRED) &&
           explain->plan.is_authentic;
}

static void ask_dane(struct explain *explain)
{
    struct dane_request request = {.domain = explain->domain,
                                   .port = explain->plan.port,
                                   .is_route = explain->plan.is_route};

    if (explain->at >= explain->plan.host_count || !wants_dane(explain)) {
        tell(explain);
        return;
    }
    request.host = explain->plan.hosts[explain->at].name;
    explain->dane = dane_start(explain->deliver, &request, on_dane, explain);
}

/* ---- the way ---- */

static void on_way(void *owner, struct plan *plan)
{
    struct explain *explain = owner;

    explain->search = NULL;
    explain->plan = *plan;
    if (plan->kind == PLAN_HOSTS)
        ask_dane(explain);
    else
        tell(explain);
}

static void on_now(void *owner)
{
    tell(owner);
}

static void find_way(struct explain *explain)
{
    struct deliver *deliver = explain->deliver;

    if (explain->route) {
        (void)snprintf(explain->domain, sizeof explain->domain, "%s", explain->route->host);
        explain->search =
            route_search_start_route(deliver, explain->route, on_way, explain);
    } else if (settings_is_local(explain->settings, explain->domain)) {
        explain->plan.kind = PLAN_LOCAL;
        loop_defer(deliver->rooms.loop, &explain->now, on_now, explain);
    } else {
        explain->search = route_search_start(deliver, explain->domain, on_way, explain);
    }
}

/* The lane, by the settings in force: those that its search goes by. */
static void find_lane(struct explain *explain)
{
    settings_unref(explain->settings);
    explain->settings = settings_ref(explain->deliver->settings);
    explain->route = NULL;
    deliver_lane_of(explain->deliver, explain->address, explain->lane);
    (void)snprintf(explain->domain, sizeof explain->domain, "%s", explain->lane);
    if (strncmp(explain->lane, "route:", 6) == 0)
        explain->route = settings_route_by_name(explain->settings, explain->lane + 6);
}

struct explain *explain_start(struct deliver *deliver,
                              const struct explain_request *request, explain_fn *on_end,
                              void *owner)
{
    struct explain *explain = NEW(struct explain);

    explain->deliver = deliver;
    explain->on_end = on_end;
    explain->owner = owner;
    explain->plan.rule = -1;
    (void)snprintf(explain->address, sizeof explain->address, "%s", request->address);
    (void)snprintf(explain->sender, sizeof explain->sender, "%s",
                   request->sender ? request->sender : "");
    (void)snprintf(explain->tenant, sizeof explain->tenant, "%s",
                   request->tenant ? request->tenant : "");
    list_push_back(&deliver->explains, &explain->link);
    find_lane(explain);
    find_way(explain);
    return explain;
}

void explain_ask_again(struct deliver *deliver)
{
    for (struct link *link = list_first(&deliver->explains); link;
         link = list_next(&deliver->explains, link)) {
        struct explain *explain = CONTAINER_OF(link, struct explain, link);

        if (!explain->search)
            continue; /* a look-up of DANE asks again by itself */
        route_search_cancel(explain->search);
        explain->search = NULL;
        find_lane(explain);
        find_way(explain);
    }
}

void explain_cancel(struct explain *explain)
{
    if (explain->search)
        route_search_cancel(explain->search);
    dane_free(explain->dane);
    deferred_cancel(explain->deliver->rooms.loop, &explain->now);
    explain_free(explain);
}
