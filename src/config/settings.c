/* struct config -> the settings of each room. Rooms do not know this file: what they need
 * is handed to them as values. */
#include "smtpd/config/config.h"

#include "options.h"
#include "sources.h"

#include <string.h>

static const char *const *listener_names(struct config *config,
                                         const struct value_list *listener)
{
    const struct endpoint *endpoints = listener->items;
    const char **names = arena_alloc(&config->arena, (listener->count + 1) * sizeof *names);
    char text[IP_TEXT];

    for (size_t i = 0; names && i < listener->count; i++) {
        endpoint_print(&endpoints[i], text);
        names[i] = arena_text(&config->arena, slice_of(text));
        if (!names[i])
            names[i] = ""; /* the arena is full: the rule fits nobody */
    }
    return names;
}

static void add_header_rules(struct config *config, struct receive_settings *settings)
{
    const struct config_header_rule *from = config->header_rule.items;
    size_t count = config->header_rule.count;
    struct header_rule *rules = arena_alloc(&config->arena, (count + 1) * sizeof *rules);

    for (size_t i = 0; rules && i < count; i++)
        rules[i] = (struct header_rule){
            listener_names(config, &from[i].listener),
            from[i].listener.count,
            from[i].user.items,
            from[i].user.count,
            from[i].remove.items,
            from[i].remove.count,
            from[i].add.items,
            from[i].add.count,
        };
    settings->header_rules = rules;
    settings->header_rule_count = rules ? count : 0;
}

void config_receive(struct config *config, struct receive_settings *settings)
{
    *settings = (struct receive_settings){
        .hostname = config->hostname,
        .message_size_bytes = config->message_size_bytes,
        .recipients_per_message = config->recipients_per_message,
        .received_hops = config->received_hops,
        .idle_timeout_ms = config->idle_timeout_ms,
        .add_missing_headers = config->add_missing_headers,
        .remove_bcc = config->remove_bcc,
        .hide_client = config->hide_client,
        .auth_in_clear_on_loopback = config->auth_in_clear_on_loopback,
        .has_users = config->users_file != NULL,
        .tenancy = {config->tenant_header, config->tenant_users.items,
                    config->tenant_users.count, config->priority_header,
                    config->pool_header, config->pool_users.items, config->pool_users.count,
                    NULL, 0},
        .strangers =
            {
                .greeting_delay_ms = config->greeting_delay_ms,
                .helo_checks = (enum stranger_check)config->helo_checks,
                .reverse_dns = (enum stranger_check)config->reverse_dns,
                .unknown_recipients = config->unknown_recipients,
                .errors = config->errors,
                .tarpit_ms = config->tarpit_ms,
                .offenders_ms = config->offenders_ms,
            },
    };
    settings->tenancy.pool_rules =
        sources_pool_rules(config, &settings->tenancy.pool_rule_count);
    add_header_rules(config, settings);
}

static void set_quotas(struct quotas *quotas, const struct value_list *list)
{
    quotas_set(quotas, list->items, list->count);
}

void config_limits(const struct config *config, struct limits_settings *settings)
{
    set_quotas(&settings->quotas[LIMITS_USER_MESSAGES], &config->messages_per_user);
    set_quotas(&settings->quotas[LIMITS_USER_RECIPIENTS], &config->recipients_per_user);
    set_quotas(&settings->quotas[LIMITS_ADDRESS_MESSAGES], &config->messages_per_address);
    set_quotas(&settings->quotas[LIMITS_ADDRESS_RECIPIENTS],
               &config->recipients_per_address);
}

void config_auth(const struct config *config, struct auth_settings *settings)
{
    settings->failure_delay_ms = config->failure_delay_ms;
    settings->lockout_ms = config->lockout_ms;
    set_quotas(&settings->failures_per_address, &config->failures_per_address);
    set_quotas(&settings->failures_per_user, &config->failures_per_user);
}

void config_rate(const struct config *config, struct rate_settings *settings)
{
    settings->connections = config->connections;
    settings->connections_per_address = config->connections_per_address;
    settings->connections_per_network = config->connections_per_network;
    quotas_set(&settings->connection_rate, config->connection_rate.items,
               config->connection_rate.count);
    quotas_set(&settings->network_rate, config->connection_rate_per_network.items,
               config->connection_rate_per_network.count);
}

void config_screen(struct config *config, struct screen_settings *settings)
{
    const struct config_dnsbl *from = config->dnsbl.items;
    size_t count = config->dnsbl.count;
    struct screen_list *lists = arena_alloc(&config->arena, (count + 1) * sizeof *lists);

    for (size_t i = 0; lists && i < count; i++)
        lists[i] = (struct screen_list){from[i].zone, from[i].weight, from[i].answers.items,
                                        from[i].answers.count};
    *settings = (struct screen_settings){
        .lists = lists,
        .list_count = lists ? count : 0,
        .reject_weight = (int)config->reject_weight,
        .wants_name = config->reverse_dns != STRANGERS_OFF,
    };
}

void config_pressure(const struct config *config, struct pressure_settings *settings)
{
    settings->memory_bytes = config->memory_bytes;
}

void config_suppression(const struct config *config, struct suppression_settings *settings)
{
    *settings = (struct suppression_settings){
        .at = (enum suppression_at)config->suppression_at,
        .wants_report = config->suppression_report,
        .adds_hard_bounces = config->suppression_hard_bounces,
        .expire_ms = config->suppression_expire_ms,
        .entries = config->suppression_entries,
    };
}

void config_access(struct config *config, struct access_settings *settings)
{
    const struct config_local *local = config->local.items;
    struct local_domain *domains =
        arena_alloc(&config->arena, (config->local.count + 1) * sizeof *domains);

    *settings = (struct access_settings){
        .trusted_networks = config->trusted_networks.items,
        .trusted_count = config->trusted_networks.count,
        .local_domains = domains,
        .local_count = domains ? config->local.count : 0,
        .postmaster = config->postmaster,
    };
    for (size_t i = 0; domains && i < settings->local_count; i++)
        domains[i] = (struct local_domain){local[i].domain, local[i].users.items,
                                           local[i].users.count};
}

static size_t copy_retry(const struct config *config, int64_t retry_ms[QUEUE_RETRY_MAX])
{
    memcpy(retry_ms, config->retry.items, config->retry.count * sizeof *retry_ms);
    return config->retry.count;
}

void config_queue(const struct config *config, struct queue_settings *settings)
{
    *settings = (struct queue_settings){
        .data_dir = config->data_dir,
        .allow_network_filesystem = config->allow_network_filesystem,
        .min_free_space_bytes = config->min_free_space_bytes,
        .expire_ms = config->expire_ms,
    };
    settings->retry_count = copy_retry(config, settings->retry_ms);
}

void config_tls(const struct config *config, struct tls_settings *settings)
{
    settings->handshakes_max = config->handshakes;
    settings->handshakes_per_address_max = config->handshakes_per_address;
}

void config_tls_server(const struct config *config, struct tls_server_settings *settings)
{
    *settings = (struct tls_server_settings){
        .certificate_files = config->tls_certificate.items,
        .key_files = config->tls_key.items,
        .pair_count = config->tls_certificate.count,
        .min_version_is_13 = config->tls_min_version == 1,
    };
}

/* DANE may be asked for somewhere: then answers must be such as can be believed. */
static bool wants_authentic(const struct config *config)
{
    const struct config_destination *destination = config->destination.items;
    const struct config_route *route = config->route.items;
    bool wanted = config->delivery.dane;

    for (size_t i = 0; i < config->destination.count; i++)
        wanted = wanted || destination[i].transfer.dane;
    for (size_t i = 0; i < config->route.count; i++)
        wanted = wanted || route[i].transfer.dane;
    return wanted;
}

void config_resolver(const struct config *config, struct resolver_settings *settings)
{
    settings->servers = config->dns_servers.items;
    settings->server_count = config->dns_servers.count;
    settings->deadline_ms = config->dns_deadline_ms;
    settings->trusts_ad = config->dns_trust_ad;
    settings->wants_authentic = wants_authentic(config);
}

static struct deliver_timeouts transfer_times(const struct config *config,
                                              const struct config_times *times)
{
    return (struct deliver_timeouts){
        .connect = times->connect_ms,
        .attempt_delay = config->attempt_delay_ms,
        .greeting = times->greeting_ms,
        .ehlo = times->command_ms,
        .starttls = times->command_ms,
        .auth = times->command_ms,
        .mail = times->command_ms,
        .rcpt = times->command_ms,
        .data = times->data_ms,
        .block = times->data_ms,
        .final_dot = times->final_dot_ms,
        .idle = times->idle_ms,
    };
}

static struct destination_settings transfer_settings(struct config *config,
                                                     const struct config_transfer *transfer)
{
    struct deliver_timeouts *times = arena_alloc(&config->arena, sizeof *times);

    if (times)
        *times = transfer_times(config, &transfer->times);
    return (struct destination_settings){
        .connections = transfer->connections,
        .messages_per_connection = transfer->messages_per_connection,
        .recipients_per_transaction = transfer->recipients_per_transaction,
        .pipeline_window = transfer->pipeline_window,
        .message_rate = transfer->message_rate,
        .connection_rate = transfer->connection_rate,
        .timeouts = times,
        .retry_ms = transfer->retry.items,
        .retry_count = transfer->retry.count,
        .tls = (enum tls_level)transfer->tls,
        .dane = transfer->dane,
        .mta_sts = transfer->mta_sts,
        .pool = transfer->pool ? transfer->pool : config->delivery.pool,
        .has_own_pool = transfer->pool != NULL,
    };
}

static size_t add_some_rules(struct config *config, const struct value_list *list,
                             struct destination_rule *rules)
{
    const struct config_destination *from = list->items;
    size_t count = 0;

    for (size_t i = 0; i < list->count; i++)
        if (!from[i].is_replaced)
            rules[count++] = (struct destination_rule){
                .name = from[i].name,
                .match = from[i].match.items,
                .match_count = from[i].match.count,
                .settings = transfer_settings(config, &from[i].transfer)};
    return count;
}

/* Those of the file first: what they match is theirs. */
static void add_rules(struct config *config, struct deliver_settings *settings)
{
    size_t most = config->destination.count + config->shipped_destination.count;
    struct destination_rule *rules =
        arena_alloc(&config->arena, (most + 1) * sizeof *rules);

    if (!rules)
        return;
    settings->rule_count = add_some_rules(config, &config->destination, rules);
    settings->rule_count +=
        add_some_rules(config, &config->shipped_destination, rules + settings->rule_count);
    settings->rules = rules;
}

static void add_routes(struct config *config, struct deliver_settings *settings)
{
    const struct config_route *from = config->route.items;
    struct route *routes =
        arena_alloc(&config->arena, (config->route.count + 1) * sizeof *routes);

    if (!routes)
        return;
    for (size_t i = 0; i < config->route.count; i++)
        routes[i] = (struct route){
            .name = from[i].name,
            .match = from[i].match.items,
            .match_count = from[i].match.count,
            .host = from[i].host,
            .port = (uint16_t)from[i].port,
            .settings = transfer_settings(config, &from[i].transfer),
            .tls_is_implicit = from[i].implicit_tls,
            .user = from[i].user,
            .password = from[i].secret,
        };
    settings->routes = routes;
    settings->route_count = config->route.count;
}

static void add_tenants(struct config *config, struct deliver_settings *settings)
{
    const struct config_tenant *from = config->tenant.items;
    struct deliver_tenant *tenants =
        arena_alloc(&config->arena, (config->tenant.count + 1) * sizeof *tenants);

    for (size_t i = 0; tenants && i < config->tenant.count; i++)
        tenants[i] = (struct deliver_tenant){from[i].name, from[i].weight};
    settings->tenants = tenants;
    settings->tenant_count = tenants ? config->tenant.count : 0;
}

static uint32_t classes_of(const struct value_list *list)
{
    const int *choices = list->items;
    uint32_t classes = 0;

    for (size_t i = 0; i < list->count; i++)
        classes |= UINT32_C(1) << (CLASS_BAD_MAILBOX + choices[i]);
    return classes;
}

static void add_reactions(struct config *config, struct deliver_settings *settings)
{
    const struct config_reaction *from = config->reaction.items;
    struct reaction *reactions =
        arena_alloc(&config->arena, (config->reaction.count + 1) * sizeof *reactions);

    if (!reactions)
        return;
    for (size_t i = 0; i < config->reaction.count; i++)
        reactions[i] = (struct reaction){.code = from[i].code,
                                         .status = from[i].status,
                                         .text = from[i].text,
                                         .classes = classes_of(&from[i].class),
                                         .match = from[i].match.items,
                                         .match_count = from[i].match.count,
                                         .action = (enum reaction_action)from[i].action,
                                         .for_ms = from[i].for_ms,
                                         .percent = from[i].percent,
                                         .limit = from[i].limit};
    settings->reactions = reactions;
    settings->reaction_count = config->reaction.count;
}

static void add_local_domains(struct config *config, struct deliver_settings *settings)
{
    const struct config_local *from = config->local.items;
    const char **domains =
        arena_alloc(&config->arena, (config->local.count + 1) * sizeof *domains);

    if (!domains)
        return;
    for (size_t i = 0; i < config->local.count; i++)
        domains[i] = from[i].domain;
    settings->local_domains = domains;
    settings->local_count = config->local.count;
}

static void add_own_addresses(struct config *config, struct deliver_settings *settings)
{
    const struct config_listen *listen = config->listen.items;
    struct endpoint *own;
    size_t count = 0;

    for (size_t i = 0; i < config->listen.count; i++)
        count += listen[i].address.count;
    own = arena_alloc(&config->arena, (count + 1) * sizeof *own);
    if (!own)
        return;
    settings->own_addresses = own;
    for (size_t i = 0; i < config->listen.count; i++) {
        memcpy(own, listen[i].address.items, listen[i].address.count * sizeof *own);
        own += listen[i].address.count;
    }
    settings->own_count = count;
}

void config_deliver(struct config *config, struct deliver_settings *settings)
{
    *settings = (struct deliver_settings){
        .hostname = config->hostname,
        .postmaster = config->postmaster,
        .defaults = transfer_settings(config, &config->delivery),
        .port = (uint16_t)config->delivery_port,
        .mta_sts_port = (uint16_t)config->mta_sts_port,
        .allow_private_networks = config->allow_private_networks,
        .shipped_reactions = config->shipped_reactions,
        .expire_ms = config->expire_ms,
        .delay_notice_ms = config->delay_notice_ms,
        .report_body_bytes = config->report_body_bytes,
        .timeouts = transfer_times(config, &config->delivery.times),
        .tls_report_organization = config->tls_report_organization,
        .tls_report_contact = config->tls_report_contact,
    };
    settings->retry_count = copy_retry(config, settings->retry_ms);
    settings->classifier = config_classifier(config);
    add_rules(config, settings);
    add_routes(config, settings);
    add_tenants(config, settings);
    add_reactions(config, settings);
    sources_add(config, settings);
    add_local_domains(config, settings);
    add_own_addresses(config, settings);
}

void config_sign(struct config *config, struct sign_settings *settings)
{
    const struct config_dkim *from = config->dkim.items;
    struct sign_key_settings *keys =
        arena_alloc(&config->arena, (config->dkim.count + 1) * sizeof *keys);

    *settings = (struct sign_settings){
        .keys = keys,
        .key_count = keys ? config->dkim.count : 0,
        .key_directory = config->key_directory,
        .relaxed_header = !(config->canonicalization & 2),
        .relaxed_body = !(config->canonicalization & 1),
        .expire_ms = config->signature_expire_ms,
    };
    for (size_t i = 0; keys && i < settings->key_count; i++)
        keys[i] = (struct sign_key_settings){from[i].domain, from[i].selector, from[i].key,
                                             from[i].subdomains};
}

void config_local(struct config *config, struct local_settings *settings)
{
    const struct config_local *from = config->local.items;
    struct local_mailboxes *mailboxes =
        arena_alloc(&config->arena, (config->local.count + 1) * sizeof *mailboxes);

    *settings = (struct local_settings){.hostname = config->hostname};
    if (!mailboxes)
        return;
    for (size_t i = 0; i < config->local.count; i++)
        mailboxes[i] = (struct local_mailboxes){from[i].domain, from[i].maildir,
                                                from[i].users.items, from[i].users.count};
    settings->mailboxes = mailboxes;
    settings->mailbox_count = config->local.count;
}

void config_log(const struct config *config, struct log_settings *settings)
{
    *settings = (struct log_settings){
        .output = config->log_output,
        .level = (enum log_level)config->log_level,
        .format = (enum log_format)config->log_format,
        .node = config->hostname,
    };
}
