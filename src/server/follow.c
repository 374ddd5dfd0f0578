/* Certificates, keys and trust anchors are read again when their files change (looked at
 * every ten seconds on the file pool): whoever renews them need not know that we run, and
 * Kubernetes swaps a link. A half-written pair is a failure that mends itself at a later
 * look; until then the old ones stay. smtpd.toml itself is followed where it says so: a
 * person in the middle of editing it would be surprised. */
#include "inner.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/moment.h"
#include "smtpd/base/secure.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FOLLOW_MS = 10000, DAY_MS = 24 * 3600 * 1000, STAMP_TEXT_MAX = 65536 };

static const int64_t WARN_MS = INT64_C(1) * LIMIT_EXPIRY_WARNING_DAYS * DAY_MS;

/* Of a job: touches nothing else while it runs. */
struct look {
    const char **certificates;
    const char **keys;
    size_t pair_count;
    bool min_version_is_13;
    char *ca_file;
    char *config_path; /* NULL: not followed */
    uint64_t stamp;    /* known; then found */
    bool is_changed;
    uint64_t config_stamp;
    bool config_is_changed;
    unsigned reloads; /* of the server when it began */
    enum result result;
    struct fault fault;
    struct tls_server *tls_server;
    struct tls_client *tls_client;
};

/* ---- stamps ---- */

static void add_file(struct bytes *text, const char *path)
{
    struct stat status;
    enum result added = RESULT_OK;

    if (!path)
        return;
    if (stat(path, &status) == 0)
        added = bytes_format(text, "%llu %lld %lld %ld\n",
                             (unsigned long long)status.st_ino, (long long)status.st_size,
                             (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    else
        added = bytes_add_text(text, "-\n");
    (void)added; /* at the ceiling: hundreds of pairs; those behind wait for a SIGHUP */
}

static uint64_t stamp_of(const struct tls_server_settings *settings, const char *ca_file)
{
    struct bytes text;
    uint64_t stamp;

    bytes_init(&text, STAMP_TEXT_MAX);
    for (size_t i = 0; i < settings->pair_count; i++) {
        add_file(&text, settings->certificate_files[i]);
        add_file(&text, settings->key_files[i]);
    }
    add_file(&text, ca_file);
    stamp = secure_short_hash(bytes_view(&text));
    bytes_fini(&text);
    return stamp;
}

uint64_t follow_config_stamp(const char *path)
{
    struct bytes text;
    uint64_t stamp;

    bytes_init(&text, STAMP_TEXT_MAX);
    add_file(&text, path);
    stamp = secure_short_hash(bytes_view(&text));
    bytes_fini(&text);
    return stamp;
}

uint64_t follow_stamp(const struct config *config)
{
    struct tls_server_settings settings;

    config_tls_server(config, &settings);
    return stamp_of(&settings, config->ca_file);
}

/* ---- expiry ---- */

static void warn_of_expiry(struct server *server)
{
    int64_t expires_ms = server->tls_server ? tls_server_expires_ms(server->tls_server) : 0;
    int64_t now_ms = loop_wall_ms(server->loop);
    char date[MOMENT_TEXT];

    if (!server->tls_server || expires_ms - now_ms > WARN_MS)
        return;
    if (server->expiry_warned_ms && now_ms - server->expiry_warned_ms < DAY_MS)
        return;
    server->expiry_warned_ms = now_ms;
    moment_rfc5322(expires_ms, date);
    log_message(
        LOG_WARNING, "server.certificate_expires",
        "a certificate of [tls] %s on %s; renew it in its file, it is read again by "
        "itself",
        expires_ms <= now_ms ? "expired" : "expires", date);
}

/* ---- following ---- */

static const char **copy_paths(const char *const *paths, size_t count)
{
    const char **copies = NEW_ARRAY(const char *, count + 1);

    for (size_t i = 0; i < count; i++)
        copies[i] = memory_text(paths[i]);
    return copies;
}

static void free_paths(const char **paths, size_t count)
{
    for (size_t i = 0; i < count; i++)
        memory_free((char *)(uintptr_t)paths[i]); /* our copy */
    memory_free(paths);
}

static struct look *look_new(const struct server *server)
{
    struct look *look = NEW(struct look);
    struct tls_server_settings settings;

    config_tls_server(server->config, &settings);
    look->certificates = copy_paths(settings.certificate_files, settings.pair_count);
    look->keys = copy_paths(settings.key_files, settings.pair_count);
    look->pair_count = settings.pair_count;
    look->min_version_is_13 = settings.min_version_is_13;
    look->ca_file = memory_text(server->config->ca_file);
    look->stamp = server->follow_stamp;
    if (server->config->follow_file)
        look->config_path = memory_text(server->config_path);
    look->config_stamp = server->config_stamp;
    look->reloads = server->reloads + server->reloads_failed;
    return look;
}

static void look_drop(void *input)
{
    struct look *look = input;

    tls_server_unref(look->tls_server);
    tls_client_unref(look->tls_client);
    free_paths(look->certificates, look->pair_count);
    free_paths(look->keys, look->pair_count);
    memory_free(look->ca_file);
    memory_free(look->config_path);
    memory_free(look);
}

static void look_run(void *input)
{
    struct look *look = input;
    struct tls_server_settings settings = {look->certificates, look->keys, look->pair_count,
                                           look->min_version_is_13};
    uint64_t stamp = stamp_of(&settings, look->ca_file);
    uint64_t config_stamp =
        look->config_path ? follow_config_stamp(look->config_path) : look->config_stamp;

    look->config_is_changed = config_stamp != look->config_stamp;
    look->config_stamp = config_stamp;
    look->is_changed = stamp != look->stamp;
    look->stamp = stamp;
    if (!look->is_changed)
        return;
    if (look->pair_count > 0)
        look->result = tls_server_new(&settings, &look->tls_server, &look->fault);
    if (look->result == RESULT_OK)
        look->result = tls_client_new(look->ca_file, &look->tls_client, &look->fault);
}

static void use(struct server *server, struct look *look)
{
    struct tls_server *old_server = server->tls_server;
    struct tls_client *old_client = server->tls_client;

    server->tls_server = look->tls_server;
    server->tls_client = look->tls_client;
    look->tls_server = old_server;
    look->tls_client = old_client;
    server_apply_settings(server);
    listeners_apply(server);
    server->expiry_warned_ms = 0;
    log_message(LOG_NOTICE, "server.certificates_loaded",
                "changed files were read: %zu certificates are in effect for new "
                "connections",
                look->pair_count);
}

static void on_looked(void *owner, void *input)
{
    struct server *server = owner;
    struct look *look = input;
    /* A reload that came in between has read the files itself. */
    bool is_current =
        look->reloads == server->reloads + server->reloads_failed && !server->is_draining;

    server->follow_job = NULL;
    if (is_current && look->config_is_changed) {
        reload_start(server); /* it reads the other files too */
    } else if (is_current && look->is_changed) {
        server->follow_stamp = look->stamp;
        if (look->result == RESULT_OK)
            use(server, look);
        else
            log_message(LOG_ERROR, "server.certificates_unreadable",
                        "changed files cannot be used, the old certificates stay: %s",
                        look->fault.text);
    }
    look_drop(look);
    warn_of_expiry(server);
    timer_start(&server->follow_timer, FOLLOW_MS);
}

static void on_timer(void *owner)
{
    struct server *server = owner;
    struct look *look = look_new(server);

    if (job_start(server->offload, POOL_FILE, look_run, on_looked, look_drop, look, server,
                  &server->follow_job) == RESULT_OK)
        return;
    look_drop(look);
    timer_start(&server->follow_timer, FOLLOW_MS);
}

void follow_start(struct server *server)
{
    timer_init(&server->follow_timer, server->loop, on_timer, server);
    warn_of_expiry(server);
    timer_start(&server->follow_timer, FOLLOW_MS);
}

void follow_stop(struct server *server)
{
    timer_cancel(&server->follow_timer);
    if (server->follow_job)
        job_cancel(server->follow_job);
}
