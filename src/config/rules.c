/* Rules between options: a predicate and a sentence each. Files are not opened here; what
 * can only be seen on the machine (a certificate that fits its key) is for the rooms to
 * say. */
#include "options.h"
#include "sources.h"

#include <string.h>

#define LISTENS(config) ((const struct config_listen *)(config)->listen.items)

static bool has_twice(const struct config_listen *mine, const struct config_listen *other)
{
    const struct endpoint *ours = mine->address.items;
    const struct endpoint *theirs = other->address.items;

    for (size_t i = 0; i < mine->address.count; i++)
        for (size_t k = 0; k < (mine == other ? i : other->address.count); k++)
            if (endpoint_equal(&ours[i], &theirs[k]))
                return true;
    return false;
}

/* Else the last one would silently set the mode and the TLS of all. */
static bool listens_once(const struct config *config, const void *element)
{
    const struct config_listen *mine = element;

    for (const struct config_listen *other = LISTENS(config); other <= mine; other++)
        if (has_twice(mine, other))
            return false;
    return true;
}

static bool has_listener(const struct config *config, const void *element)
{
    (void)element;
    return config->listen.count > 0;
}

static const char *destination_name(const struct config_destination *destination)
{
    const char *const *match = destination->match.items;

    if (destination->name)
        return destination->name;
    return destination->match.count > 0 ? match[0] : "";
}

/* Limits and what was learned are kept under it. */
static bool destination_is_alone(const struct config *config, const void *element)
{
    const struct config_destination *mine = element;

    if (mine->name && strlen(mine->name) > 100)
        return false;
    for (const struct config_destination *other = config->destination.items; other < mine;
         other++)
        if (strcmp(destination_name(other), destination_name(mine)) == 0)
            return false;
    return true;
}

static bool has_hostname(const struct config *config, const void *element)
{
    (void)element;
    return config->hostname && strchr(config->hostname, '.');
}

static bool certificates_have_keys(const struct config *config, const void *element)
{
    (void)element;
    return config->tls_certificate.count == config->tls_key.count;
}

static bool listener_has_certificate(const struct config *config, const void *element)
{
    const struct config_listen *listen = element;

    return listen->tls == RECEIVE_TLS_NONE || config->tls_certificate.count > 0;
}

static bool submission_has_users(const struct config *config, const void *element)
{
    const struct config_listen *listen = element;

    return listen->mode != MODE_SUBMISSION || config->users_file;
}

static bool clear_submission_is_meant(const struct config *config, const void *element)
{
    const struct config_listen *listen = element;

    return listen->mode != MODE_SUBMISSION || listen->tls != RECEIVE_TLS_NONE ||
           config->auth_in_clear_on_loopback;
}

static bool relay_has_postmaster(const struct config *config, const void *element)
{
    const struct config_listen *listen = element;

    return listen->mode != MODE_RELAY || config->postmaster;
}

static bool proxy_has_networks(const struct config *config, const void *element)
{
    const struct config_listen *listen = element;

    return !listen->proxy_protocol || config->proxy_networks.count > 0;
}

static bool local_has_postmaster(const struct config *config, const void *element)
{
    (void)element;
    return config->postmaster;
}

static bool local_is_alone(const struct config *config, const void *element)
{
    const struct config_local *mine = element;
    const struct config_local *other = config->local.items;
    size_t i;

    for (i = 0; i < config->local.count; i++)
        if (&other[i] < mine && !other[i].element.is_bad &&
            strcmp(other[i].domain, mine->domain) == 0)
            return false;
    return true;
}

static bool user_is_known(const struct config_local *local, struct slice user)
{
    const char *const *users = local->users.items;
    size_t i;

    for (i = 0; i < local->users.count; i++)
        if (strcmp(users[i], "*") == 0 || slice_equal_text_fold(user, users[i]))
            return true;
    return false;
}

/* Else mail for an unlisted postmaster would be sent on to an unlisted postmaster. */
static bool postmaster_exists(const struct config *config, const void *element)
{
    const struct config_local *local = element;
    struct slice mailbox = slice_of(config->postmaster);
    size_t at = slice_find(mailbox, '@');

    if (!config->postmaster || at >= mailbox.length ||
        !slice_equal_text_fold(slice_from(mailbox, at + 1), local->domain))
        return true;
    return user_is_known(local, slice_part(mailbox, 0, at));
}

static bool maildir_names_user(const struct config *config, const void *element)
{
    const struct config_local *local = element;

    (void)config;
    return strstr(local->maildir, "{user}") != NULL;
}

static bool users_are_names(const struct config *config, const void *element)
{
    const struct config_local *local = element;
    const char *const *users = local->users.items;
    size_t i;

    (void)config;
    for (i = 0; i < local->users.count; i++)
        if (!users[i][0] || users[i][0] == '.' || strpbrk(users[i], "/@ "))
            return false;
    return true;
}

static bool route_has_one_password(const struct config *config, const void *element)
{
    const struct config_route *route = element;
    int ways = (route->password != NULL) + (route->password_file != NULL) +
               (route->password_env != NULL);

    (void)config;
    return ways == (route->user ? 1 : 0);
}

static bool route_password_is_safe(const struct config *config, const void *element)
{
    const struct config_route *route = element;
    struct ip ip;

    (void)config;
    if (!route->user || route->implicit_tls || route->transfer.tls >= TLS_REQUIRED)
        return true;
    return ip_parse(slice_of(route->host), &ip) == RESULT_OK && ip_is_loopback(&ip);
}

/* A shipped one has filled it in. */
static bool destination_has_match(const struct config *config, const void *element)
{
    (void)config;
    return ((const struct config_destination *)element)->match.count > 0;
}

static bool route_is_alone(const struct config *config, const void *element)
{
    const struct config_route *mine = element;
    const struct config_route *other = config->route.items;
    size_t i;

    for (i = 0; i < config->route.count; i++)
        if (&other[i] < mine && !other[i].element.is_bad &&
            strcmp(other[i].name, mine->name) == 0)
            return false;
    return true;
}

static bool destination_retries(const struct config *config, const void *element)
{
    const struct config_destination *destination = element;
    size_t count = destination->transfer.retry.count;

    (void)config;
    return count > 0 && count <= QUEUE_RETRY_MAX;
}

static bool route_retries(const struct config *config, const void *element)
{
    const struct config_route *route = element;
    size_t count = route->transfer.retry.count;

    (void)config;
    return count > 0 && count <= QUEUE_RETRY_MAX;
}

static bool reaction_has_reply(const struct config *config, const void *element)
{
    const struct config_reaction *reaction = element;

    (void)config;
    return (reaction->code || reaction->status || reaction->text ||
            reaction->class.count > 0) &&
           (!reaction->text || strlen(reaction->text) <= REACTION_PATTERN_MAX) &&
           (!reaction->status || strlen(reaction->status) <= REACTION_PATTERN_MAX);
}

static bool reaction_code_is_one(const struct config *config, const void *element)
{
    const char *code = ((const struct config_reaction *)element)->code;

    (void)config;
    return !code || (strspn(code, "45") > 0 && strspn(code, "0123456789x") == 3 &&
                     strlen(code) == 3);
}

static bool bounce_is_meant(const struct config *config, const void *element)
{
    const struct config_reaction *reaction = element;

    (void)config;
    return reaction->action != REACTION_BOUNCE || reaction->limit > 0;
}

static bool retry_is_given(const struct config *config, const void *element)
{
    (void)element;
    return config->retry.count > 0 && config->retry.count <= QUEUE_RETRY_MAX;
}

static bool dns_servers_fit(const struct config *config, const void *element)
{
    (void)element;
    return config->dns_servers.count <= 6;
}

static bool admin_listeners_fit(const struct config *config, const void *element)
{
    (void)element;
    return config->admin_listen.count <= 16;
}

static bool is_quotas(const struct value_list *list)
{
    const struct quota *quota = list->items;

    for (size_t i = 0; i < list->count; i++)
        for (size_t k = 0; k < i; k++)
            if (quota[i].window_ms == quota[k].window_ms)
                return false;
    return list->count <= QUOTAS_MAX;
}

static bool messages_per_user_fit(const struct config *config, const void *element)
{
    (void)element;
    return is_quotas(&config->messages_per_user);
}

static bool recipients_per_user_fit(const struct config *config, const void *element)
{
    (void)element;
    return is_quotas(&config->recipients_per_user);
}

static bool messages_per_address_fit(const struct config *config, const void *element)
{
    (void)element;
    return is_quotas(&config->messages_per_address);
}

static bool recipients_per_address_fit(const struct config *config, const void *element)
{
    (void)element;
    return is_quotas(&config->recipients_per_address);
}

static bool connection_rate_fits(const struct config *config, const void *element)
{
    (void)element;
    return is_quotas(&config->connection_rate);
}

static bool network_rate_fits(const struct config *config, const void *element)
{
    (void)element;
    return is_quotas(&config->connection_rate_per_network);
}

static bool address_failures_fit(const struct config *config, const void *element)
{
    (void)element;
    return is_quotas(&config->failures_per_address);
}

static bool user_failures_fit(const struct config *config, const void *element)
{
    (void)element;
    return is_quotas(&config->failures_per_user);
}

static bool memory_is_enough(const struct config *config, const void *element)
{
    (void)element;
    return config->memory_bytes == 0 || config->memory_bytes >= (16 << 20);
}

/* clang-format off */
static bool listens_on(const struct config_listen *listen, const struct endpoint *endpoint)
{
    const struct endpoint *address = listen->address.items;

    for (size_t i = 0; i < listen->address.count; i++)
        if (endpoint_equal(&address[i], endpoint))
            return true;
    return false;
}

static bool rule_listener_exists(const struct config *config, const void *element)
{
    const struct config_header_rule *rule = element;
    const struct endpoint *wanted = rule->listener.items;
    const struct config_listen *listen = LISTENS(config);

    for (size_t i = 0; i < rule->listener.count; i++) {
        bool is_found = false;

        for (size_t k = 0; k < config->listen.count && !is_found; k++)
            is_found = listens_on(&listen[k], &wanted[i]);
        if (!is_found)
            return false;
    }
    return true;
}

static bool rule_is_small(const struct config *config, const void *element)
{
    const struct config_header_rule *rule = element;

    (void)config;
    return rule->remove.count <= LIMIT_HEADER_RULE_REMOVED &&
           rule->add.count <= LIMIT_HEADER_RULE_ADDED &&
           rule->remove.count + rule->add.count > 0;
}

/* One without the other does nothing, which nobody can want. */
static bool tenant_header_has_users(const struct config *config, const void *element)
{
    (void)element;
    return !config->tenant_header || config->tenant_users.count > 0;
}

static bool tenant_users_have_header(const struct config *config, const void *element)
{
    (void)element;
    return config->tenant_users.count == 0 || config->tenant_header;
}

static bool headers_are_two(const struct config *config, const void *element)
{
    (void)element;
    return !config->tenant_header || !config->priority_header ||
           !slice_equal_text_fold(slice_of(config->tenant_header), config->priority_header);
}

static bool tenant_is_alone(const struct config *config, const void *element)
{
    const struct config_tenant *mine = element;
    const struct config_tenant *other = config->tenant.items;

    for (; other < mine; other++)
        if (!other->element.is_bad && strcmp(other->name, mine->name) == 0)
            return false;
    return true;
}

static bool report_has_contact(const struct config *config, const void *element)
{
    (void)element;
    return !config->tls_report_organization || config->tls_report_contact;
}

static bool report_has_organization(const struct config *config, const void *element)
{
    (void)element;
    return !config->tls_report_contact || config->tls_report_organization;
}

static bool tenant_is_name(const struct config *config, const void *element)
{
    const struct config_tenant *tenant = element;
    size_t length = strlen(tenant->name);

    (void)config;
    return length > 0 && length <= LIMIT_USER_NAME;
}

#define RATES_FIT "at most 4 rates, each with another time"

const struct option_rule config_rules[] = {
    {NULL, "server.hostname", has_hostname, "our name must be fully qualified; set server.hostname, as \"relay.example.com\"", NULL},
    {NULL, "listen", has_listener, "nothing listens; add a [[listen]] table with an address, as \"0.0.0.0:587\"", NULL},
    {NULL, "tls.key", certificates_have_keys, "each certificate needs its key; give tls.certificate and tls.key the same number of files, in the same order", "tls.certificate"},
    {NULL, "queue.retry", retry_is_given, "needs between 1 and 32 durations", NULL},
    {NULL, "dns.servers", dns_servers_fit, "at most 6 name servers are asked", NULL},
    {NULL, "admin.listen", admin_listeners_fit, "at most 16 addresses", NULL},
    {NULL, "limits.messages_per_user", messages_per_user_fit, RATES_FIT, NULL},
    {NULL, "limits.recipients_per_user", recipients_per_user_fit, RATES_FIT, NULL},
    {NULL, "limits.messages_per_address", messages_per_address_fit, RATES_FIT, NULL},
    {NULL, "limits.recipients_per_address", recipients_per_address_fit, RATES_FIT, NULL},
    {NULL, "limits.connection_rate", connection_rate_fits, RATES_FIT, NULL},
    {NULL, "limits.connection_rate_per_network", network_rate_fits, RATES_FIT, NULL},
    {NULL, "auth.failures_per_address", address_failures_fit, RATES_FIT, NULL},
    {NULL, "auth.failures_per_user", user_failures_fit, RATES_FIT, NULL},
    {NULL, "delivery.tenant_header", tenant_header_has_users, "needs delivery.tenant_users, the users who may name a tenant; \"*\": whoever logged in", "delivery.tenant_users"},
    {NULL, "delivery.tenant_users", tenant_users_have_header, "needs delivery.tenant_header, the field that names a tenant", "delivery.tenant_header"},
    {NULL, "delivery.priority_header", headers_are_two, "needs another field than delivery.tenant_header", "delivery.tenant_header"},
    {NULL, "tls_report.organization", report_has_contact, "needs tls_report.contact, the address that reports come from", "tls_report.contact"},
    {NULL, "tls_report.contact", report_has_organization, "needs tls_report.organization, the name of who reports", "tls_report.organization"},
    {"tenant", "name", tenant_is_alone, "another [[tenant]] table has this name", NULL},
    {"tenant", "name", tenant_is_name, "a name of 1 to 128 bytes, as a user's", NULL},
    {NULL, "delivery.pool", delivery_has_pool, "no [[pool]] table has this name", NULL},
    {NULL, "delivery.pool_header", pool_header_has_users, "goes with delivery.pool_users, the users who may name a pool; \"*\": whoever logged in", "delivery.pool_users"},
    {NULL, "delivery.pool_header", pool_header_is_own, "needs another field than delivery.tenant_header and delivery.priority_header", NULL},
    {"source", "name", source_is_named, "a name of its own: letters, digits, \".\", \"-\", \"_\", at most 64", NULL},
    {"source", "address", source_has_address, "is an IPv4 or IPv6 address of this machine, without a port", NULL},
    {"source", "warm_up", source_warms_up, "at most 100 days", NULL},
    {"pool", "name", pool_is_named, "a name of its own: letters, digits, \".\", \"-\", \"_\", at most 64, and not \"none\"", NULL},
    {"pool", "sources", pool_has_sources, "names of 1 to 100 [[source]] tables, each once, as \"mail-a\" or \"mail-a=3\" (weights 1 to 1000)", NULL},
    {"pool", "senders", pool_has_senders, "addresses, as \"news@example.com\"; domains go into sender_domains", NULL},
    {"destination", "pool", destination_has_pool, "no [[pool]] table has this name", NULL},
    {"route", "pool", route_has_pool, "no [[pool]] table has this name; \"none\": the system chooses our address", NULL},
    {NULL, "limits.memory", memory_is_enough, "less than 16MiB would refuse everything", NULL},
    {"listen", "address", listens_once, "an address stands here twice; each is listened on once, with one mode and one tls", NULL},
    {"listen", "tls", listener_has_certificate, "needs tls.certificate and tls.key; or set tls = \"none\"", "tls.certificate"},
    {"listen", "mode", submission_has_users, "submission needs auth.users_file, or nobody could log in", "auth.users_file"},
    {"listen", "tls", clear_submission_is_meant, "submission without TLS works on loopback only, with auth.allow_clear_on_loopback = true; else use \"starttls\" or \"implicit\"", "auth.allow_clear_on_loopback"},
    {"listen", "mode", relay_has_postmaster, "mode = \"relay\" needs server.postmaster (RFC 5321 4.5.1)", "server.postmaster"},
    {"listen", "proxy_protocol", proxy_has_networks, "needs proxy.trusted_networks: the balancers that may say who a client is", "proxy.trusted_networks"},
    {"local", "domain", local_has_postmaster, "a local domain needs server.postmaster (RFC 5321 4.5.1)", "server.postmaster"},
    {"local", "domain", local_is_alone, "this domain has a [[local]] table already", NULL},
    {"local", "users", postmaster_exists, "server.postmaster is in this domain and must be one of its users", "server.postmaster"},
    {"local", "maildir", maildir_names_user, "must contain {user}, as \"/var/mail/{domain}/{user}\"", NULL},
    {"local", "users", users_are_names, "a user is a local part: no blank, \"/\", \"@\" or leading dot", NULL},
    {"destination", "name", destination_is_alone, "another block has this name (without one it is the first of match); give each its own, of at most 100 bytes", NULL},
    {"destination", "match", destination_has_match, "needs recipient domains or names of mail exchangers, unless name is that of a shipped block (smtpd document destinations)", NULL},
    {"destination", "retry", destination_retries, "needs between 1 and 32 durations", "queue.retry"},
    {"route", "retry", route_retries, "needs between 1 and 32 durations", "queue.retry"},
    {"reaction", "code", reaction_has_reply, "needs code, status, class or text (of at most 200 bytes), or it would react to every refusal", NULL},
    {"reaction", "code", reaction_code_is_one, "is a code of a refusal: \"421\", \"45x\" or \"4xx\"", NULL},
    {"reaction", "limit", bounce_is_meant, "action = \"bounce\" ends mail for good: say with limit how much at most", NULL},
    {"route", "user", route_has_one_password, "user needs exactly one of password_file, password_env and password, and none of them goes without user", NULL},
    {"route", "tls", route_password_is_safe, "a password must not travel in clear: set tls = \"required\" or \"verified\" (or implicit_tls = true)", NULL},
    {"route", "name", route_is_alone, "another route has this name; give each its own name", NULL},
    {"header_rule", "listener", rule_listener_exists, "no [[listen]] table has this address; write it as it stands there", NULL},
    {"header_rule", "remove", rule_is_small, "a rule removes at most 32 fields, adds at most 8, and does one of both", NULL},
};
/* clang-format on */
const size_t config_rule_count = sizeof config_rules / sizeof *config_rules;
