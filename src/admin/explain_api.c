/* GET /v1/explain?address=...: what would become of mail for it. */
#include "destination_json.h"
#include "smtpd/deliver/explain.h"
#include "smtpd/mail/address.h"
#include "why.h"

#include <stdio.h>
#include <string.h>

static const char *const kinds[] = {[EXPLAIN_HOSTS] = "hosts",
                                    [EXPLAIN_LOCAL] = "local",
                                    [EXPLAIN_FAIL] = "fail",
                                    [EXPLAIN_DEFER] = "defer"};
static const char *const danes[] = {[EXPLAIN_DANE_OFF] = "off",
                                    [EXPLAIN_DANE_NONE] = "none",
                                    [EXPLAIN_DANE_UNUSABLE] = "unusable",
                                    [EXPLAIN_DANE_MATCH] = "match",
                                    [EXPLAIN_DANE_UNKNOWN] = "unknown"};
static const char *const levels[] = {[TLS_NONE] = "off",
                                     [TLS_OPPORTUNISTIC] = "opportunistic",
                                     [TLS_REQUIRED] = "required",
                                     [TLS_VERIFIED] = "verified"};

/* Without a pool there is none. */
static int source_count(const char *source, unsigned count)
{
    return source ? (int)count : 0;
}

static json_t *host_json(const struct explain_host *host)
{
    json_t *addresses = json_array();

    for (size_t i = 0; i < host->address_count; i++) {
        char text[IP_TEXT];

        ip_print(&host->addresses[i], text);
        (void)json_array_append_new(addresses, json_string(text));
    }
    return json_pack(
        "{s:o,s:i,s:o,s:s,s:o,s:b,s:I,s:o,s:i,s:I,s:o,s:i}", "name",
        request_text(host->name), "preference", (int)host->preference, "addresses",
        addresses, "dane", danes[host->dane], "dane_text", text_or_null(host->dane_text),
        "is_forbidden", (int)host->is_forbidden, "backs_off_until_ms",
        (json_int_t)host->until_ms, "backs_off_source", text_or_null(host->until_source),
        "backs_off_sources", source_count(host->until_source, host->until_count),
        "in_clear_until_ms", (json_int_t)host->clear_until_ms, "in_clear_source",
        text_or_null(host->clear_source), "in_clear_sources",
        source_count(host->clear_source, host->clear_count));
}

static json_t *match_json(const struct explanation *explanation)
{
    json_t *match = json_array();

    for (size_t i = 0; i < explanation->match_count; i++)
        (void)json_array_append_new(match, request_text(explanation->match[i]));
    return match;
}

static json_t *limits_json(const struct destination_settings *settings)
{
    return json_pack("{s:i,s:i,s:i,s:o,s:o}", "connections", (int)settings->connections,
                     "messages_per_connection", (int)settings->messages_per_connection,
                     "recipients_per_transaction",
                     (int)settings->recipients_per_transaction, "message_rate",
                     rate_json(&settings->message_rate), "connection_rate",
                     rate_json(&settings->connection_rate));
}

static json_t *state_json(const struct explanation *explanation)
{
    if (!explanation->is_known)
        return json_null();
    return json_pack("{s:i,s:i,s:I,s:I,s:o}", "connections", (int)explanation->connections,
                     "attempts", (int)explanation->running, "ready",
                     (json_int_t)explanation->ready, "backs_off_until_ms",
                     (json_int_t)explanation->until_ms, "fault",
                     text_or_null(explanation->fault));
}

static json_t *sts_json(const struct explain_sts *sts)
{
    if (!sts->is_wanted)
        return json_null();
    return json_pack("{s:o,s:o,s:I,s:I,s:b}", "mode", text_or_null(sts->mode), "id",
                     text_or_null(sts->id), "fetched_ms", (json_int_t)sts->fetched_ms,
                     "until_ms", (json_int_t)sts->until_ms, "has_failed",
                     (int)sts->has_failed);
}

static json_t *source_json(const struct explain_source *source)
{
    char address[IP_TEXT];

    ip_print(&source->ip, address);
    return json_pack(
        "{s:s,s:s,s:i,s:o,s:o,s:I,s:i,s:i,s:o}", "name", source->name, "address", address,
        "weight", (int)source->weight, "waits",
        source->why == WHY_SCHEDULED ? json_null() : json_string(why_name(source->why)),
        "text", text_or_null(source->text), "until_ms", (json_int_t)source->until_ms,
        "connections", (int)source->connections, "most", (int)source->most, "warm_up",
        source->is_warming
            ? json_pack("{s:i,s:I,s:I}", "day", (int)source->day, "quota",
                        (json_int_t)source->quota, "sent", (json_int_t)source->used)
            : json_null());
}

static void add_pool(json_t *json, const struct explanation *explanation)
{
    json_t *sources = json_array();

    for (size_t i = 0; i < explanation->source_count; i++)
        (void)json_array_append_new(sources, source_json(&explanation->sources[i]));
    (void)json_object_set_new(json, "pool", text_or_null(explanation->pool));
    (void)json_object_set_new(json, "sources", sources);
}

static void add_way(json_t *json, const struct explanation *explanation)
{
    json_t *hosts = json_array();

    for (size_t i = 0; i < explanation->host_count; i++)
        (void)json_array_append_new(hosts, host_json(&explanation->hosts[i]));
    (void)json_object_set_new(json, "hosts", hosts);
    (void)json_object_set_new(json, "destination", text_or_null(explanation->destination));
    (void)json_object_set_new(json, "route", text_or_null(explanation->route));
    (void)json_object_set_new(json, "logs_in", json_boolean(explanation->logs_in));
    (void)json_object_set_new(json, "port", json_integer(explanation->port));
    (void)json_object_set_new(json, "match", match_json(explanation));
    (void)json_object_set_new(json, "rule", text_or_null(explanation->rule));
    (void)json_object_set_new(json, "scope", text_or_null(explanation->scope));
    (void)json_object_set_new(json, "paces",
                              paces_json(explanation->paces, explanation->pace_count));
    (void)json_object_set_new(json, "tls", json_string(levels[explanation->settings.tls]));
    (void)json_object_set_new(json, "mta_sts", sts_json(&explanation->sts));
    (void)json_object_set_new(json, "is_authentic",
                              json_boolean(explanation->is_authentic));
    (void)json_object_set_new(json, "limits", limits_json(&explanation->settings));
    (void)json_object_set_new(json, "state", state_json(explanation));
    add_pool(json, explanation);
}

static void on_explained(void *owner, const struct explanation *explanation)
{
    struct request *request = owner;
    const struct why *waits = &explanation->lane_waits;
    json_t *json = json_pack(
        "{s:o,s:s,s:o,s:o,s:{s:s,s:o,s:I}}", "lane", request_text(explanation->lane),
        "kind", kinds[explanation->kind], "status", text_or_null(explanation->status),
        "text", text_or_null(explanation->text), "waits", "kind", why_name(waits->kind),
        "text", text_or_null(waits->text), "until_ms", (json_int_t)waits->until_ms);

    (void)json_object_set_new(json, "suspension", suspension_json(explanation->suspension));
    request->on_gone = NULL;
    request->work = NULL;
    if (explanation->kind == EXPLAIN_HOSTS)
        add_way(json, explanation);
    request_answer(request, MHD_HTTP_OK, json);
}

static void explain_gone(struct request *request)
{
    explain_cancel(request->work);
    request->work = NULL;
}

void explain_handle(struct request *request)
{
    const char *text = request_query(request, "address");
    struct address address;
    char at_domain[LIMIT_ADDRESS + 1];

    /* A domain alone will do. */
    if (text && !strchr(text, '@')) {
        (void)snprintf(at_domain, sizeof at_domain, "postmaster@%s", text);
        text = at_domain;
    }
    if (!text || address_parse_mailbox(slice_of(text), &address) != RESULT_OK) {
        request_answer_error(request, MHD_HTTP_BAD_REQUEST,
                             "address is a mail address, or a domain");
        return;
    }
    request->on_gone = explain_gone;
    request->work = explain_start(
        request->rooms->deliver,
        &(struct explain_request){address.text, request_query(request, "from"),
                                  request_query(request, "tenant")},
        on_explained, request);
}
