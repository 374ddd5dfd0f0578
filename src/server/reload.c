/* SIGHUP: the whole file or nothing. Files are read on the file pool; then new listeners
 * are bound; only when nothing failed do the rooms get their new settings. */
#include "inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <string.h>

struct preparation { /* made on the file pool */
    char *path;
    struct config *config;
    struct tls_server *tls_server;
    struct tls_client *tls_client;
    uint64_t follow_stamp;
    uint64_t config_stamp;
    struct sign_keys *sign_keys;
    struct config_problems problems;
    struct fault fault;
};

static enum result read_files(struct preparation *preparation)
{
    struct config *config = preparation->config;
    struct tls_server_settings tls;
    struct sign_settings sign;
    enum result result = RESULT_OK;

    preparation->follow_stamp = follow_stamp(config);
    config_tls_server(config, &tls);
    if (tls.pair_count > 0)
        result = tls_server_new(&tls, &preparation->tls_server, &preparation->fault);
    if (result == RESULT_OK)
        result =
            tls_client_new(config->ca_file, &preparation->tls_client, &preparation->fault);
    if (result == RESULT_OK && config->users_file)
        result = users_file_check(config->users_file, &preparation->fault);
    config_sign(config, &sign);
    if (result == RESULT_OK)
        result = sign_keys_load(&sign, &preparation->sign_keys, &preparation->fault);
    return result;
}

static void prepare(void *input)
{
    struct preparation *preparation = input;

    preparation->config_stamp = follow_config_stamp(preparation->path);
    preparation->config = config_load(preparation->path, &preparation->problems);
    if (preparation->config && read_files(preparation) != RESULT_OK) {
        config_free(preparation->config);
        preparation->config = NULL;
    }
}

static void drop(void *input)
{
    struct preparation *preparation = input;

    config_free(preparation->config);
    tls_server_unref(preparation->tls_server);
    tls_client_unref(preparation->tls_client);
    sign_keys_unref(preparation->sign_keys);
    memory_free(preparation->path);
    memory_free(preparation);
}

static void log_change(void *owner, const char *key, const char *before, const char *after,
                       bool needs_restart)
{
    struct log_line line;

    (void)owner;
    log_start(&line, needs_restart ? LOG_WARNING : LOG_NOTICE, "server.option_changed");
    log_text(&line, "option", key);
    log_text(&line, "before", before);
    log_text(&line, "after", after);
    log_bool(&line, "needs_restart", needs_restart);
    log_end(&line);
}

static void log_failure(struct server *server, const struct preparation *preparation)
{
    struct bytes text;

    server->reloads_failed++;
    bytes_init(&text, 4096);
    config_problems_print(&preparation->problems, server->config_path, &text);
    if (text.length == 0 && bytes_add_text(&text, preparation->fault.text) != RESULT_OK)
        bytes_clear(&text);
    log_message(LOG_ERROR, "server.reload_failed",
                "nothing was changed; mend this and reload again: %.*s", (int)text.length,
                text.data ? text.data : "");
    bytes_fini(&text);
}

/* What needs a restart stays as it is, whatever the new file says; and so it is told at
 * every reload until the restart, and not when the file says again what is in effect. */
static void keep_fixed(struct config *config, const struct config *before)
{
    config->data_dir = arena_text(&config->arena, slice_of(before->data_dir));
    config->user = before->user ? arena_text(&config->arena, slice_of(before->user)) : NULL;
    config->allow_network_filesystem = before->allow_network_filesystem;
    config->handshakes = before->handshakes;
    config->handshakes_per_address = before->handshakes_per_address;
}

static bool same_dns(const struct config *a, const struct config *b)
{
    struct resolver_settings left;
    struct resolver_settings right;

    config_resolver(a, &left);
    config_resolver(b, &right);
    return left.wants_authentic == right.wants_authentic &&
           a->dns_deadline_ms == b->dns_deadline_ms && a->dns_trust_ad == b->dns_trust_ad &&
           a->dns_servers.count == b->dns_servers.count &&
           (a->dns_servers.count == 0 ||
            memcmp(a->dns_servers.items, b->dns_servers.items,
                   a->dns_servers.count * sizeof(struct endpoint)) == 0);
}

static enum result open_all(struct server *server, struct preparation *preparation,
                            struct resolver **resolver)
{
    struct resolver_settings settings;
    enum result result = RESULT_OK;

    config_resolver(preparation->config, &settings);
    if (!same_dns(server->config, preparation->config))
        result = resolver_new(server->loop, &settings, resolver, &preparation->fault);
    if (result == RESULT_OK)
        result = listeners_open(server, preparation->config, &preparation->fault);
    if (result != RESULT_OK && *resolver)
        resolver_free(*resolver);
    return result;
}

static void apply(struct server *server, struct preparation *preparation,
                  struct resolver *resolver)
{
    struct log_settings log;
    struct fault fault;

    config_compare(server->config, preparation->config, log_change, NULL);
    keep_fixed(preparation->config, server->config);
    tls_server_unref(server->tls_server);
    tls_client_unref(server->tls_client);
    server->tls_server = preparation->tls_server;
    server->tls_client = preparation->tls_client;
    server->follow_stamp = preparation->follow_stamp;
    server->expiry_warned_ms = 0;
    preparation->tls_server = NULL;
    preparation->tls_client = NULL;
    signer_use(server->signer, preparation->sign_keys);
    preparation->sign_keys = NULL;
    if (resolver)
        server_use_resolver(server, resolver);
    /* The old values live until every room has copied the new ones. */
    struct config *before = server->config;
    server->config = preparation->config;
    preparation->config = before;
    server_apply_settings(server);
    listeners_apply(server);
    config_log(server->config, &log);
    if (log_reopen(&log, &fault) != RESULT_OK)
        log_message(LOG_ERROR, "server.log_failed", "the old log goes on: %s", fault.text);
    server->reloads++;
    log_message(LOG_NOTICE, "server.reloaded", "%s is in effect", server->config_path);
}

static void start(struct server *server);

static void on_prepared(void *owner, void *input)
{
    struct server *server = owner;
    struct preparation *preparation = input;
    struct resolver *resolver = NULL;

    server->reload = NULL;
    server->config_stamp = preparation->config_stamp;
    if (preparation->config && !server->is_draining &&
        open_all(server, preparation, &resolver) == RESULT_OK)
        apply(server, preparation, resolver);
    else if (!server->is_draining)
        log_failure(server, preparation);
    /* Not all at once, if they were not taken. */
    signer_retire(server->signer, preparation->sign_keys);
    preparation->sign_keys = NULL;
    drop(preparation);
    if (server->reload_again) {
        server->reload_again = false;
        start(server);
    } else if (!server->is_draining) {
        systemd_ready(&server->systemd);
    }
}

static void start(struct server *server)
{
    struct preparation *preparation = NEW(struct preparation);

    preparation->path = memory_text(server->config_path);
    if (job_start(server->offload, POOL_FILE, prepare, on_prepared, drop, preparation,
                  server, &server->reload) == RESULT_OK)
        return;
    (void)fault_set(&preparation->fault, RESULT_BUSY,
                    "the file pool is full; reload again later");
    log_failure(server, preparation);
    drop(preparation);
    systemd_ready(&server->systemd);
}

void reload_start(struct server *server)
{
    if (server->is_draining)
        return;
    systemd_reloading(&server->systemd);
    if (server->reload)
        server->reload_again = true;
    else
        start(server);
}

void reload_on_signal(void *owner, int signal_number)
{
    (void)signal_number;
    reload_start(owner);
}
