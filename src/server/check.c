/* What `smtpd check` says of the machine: each file that the configuration names is read as
 * the service user would read it, and every fault is told, not only the first. */
#include "smtpd/server/server.h"

#include "privileges.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/moment.h"
#include "smtpd/base/limits.h"
#include "smtpd/policy/auth.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const int64_t DAY_MS = INT64_C(24) * 3600 * 1000;

static void add_at(struct config_problems *problems, const struct config_problem *from)
{
    if (problems->count == CONFIG_PROBLEMS_MAX)
        problems->left_out++;
    else
        problems->items[problems->count++] = *from;
}

static void add(struct config_problems *problems, bool is_warning, const char *text)
{
    struct config_problem problem = {.is_warning = is_warning};

    (void)snprintf(problem.text, sizeof problem.text, "%.380s", text);
    add_at(problems, &problem);
}

static void warn_of_expiry(const struct tls_server *server, const char *file,
                           struct config_problems *problems)
{
    int64_t expires_ms = tls_server_expires_ms(server);
    int64_t left_ms = expires_ms - (int64_t)time(NULL) * 1000;
    char date[MOMENT_TEXT];
    char text[512];

    if (left_ms > LIMIT_EXPIRY_WARNING_DAYS * DAY_MS)
        return;
    moment_rfc5322(expires_ms, date);
    (void)snprintf(text, sizeof text, "%.300s %s on %s; renew it", file,
                   left_ms <= 0 ? "expired" : "expires", date);
    add(problems, true, text);
}

static void check_certificates(const struct config *config,
                               struct config_problems *problems)
{
    struct tls_server_settings all;
    struct fault fault;

    config_tls_server(config, &all);
    for (size_t i = 0; i < all.pair_count; i++) {
        struct tls_server_settings one = {&all.certificate_files[i], &all.key_files[i], 1,
                                          all.min_version_is_13};
        struct tls_server *server = NULL;

        if (tls_server_new(&one, &server, &fault) == RESULT_OK)
            warn_of_expiry(server, all.certificate_files[i], problems);
        else
            add(problems, false, fault.text);
        tls_server_unref(server);
    }
}

static void check_anchors(const struct config *config, struct config_problems *problems)
{
    struct tls_client *client = NULL;
    struct fault fault;

    if (tls_client_new(config->ca_file, &client, &fault) != RESULT_OK)
        add(problems, false, fault.text);
    tls_client_unref(client);
}

static void check_users(const struct config *config, struct config_problems *problems)
{
    struct fault fault;

    if (config->users_file && users_file_check(config->users_file, &fault) != RESULT_OK)
        add(problems, false, fault.text);
}

static void check_keys(struct config *config, struct config_problems *problems)
{
    struct sign_settings settings;
    struct sign_keys *keys = NULL;
    struct fault fault;

    config_sign(config, &settings);
    if (sign_keys_load(&settings, &keys, &fault) != RESULT_OK)
        add(problems, false, fault.text);
    sign_keys_unref(keys);
}

/* Read by root a moment ago; a reload reads it, and the files of secrets that it names, as the
 * service user. What is no file (a pipe) can be read but once, and no reload reads it. */
static void check_reload(const char *path, struct config_problems *problems)
{
    struct config_problems *again;
    struct config *config;
    struct stat status;

    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        return;
    again = NEW(struct config_problems);
    config = config_load(path, again);

    for (size_t i = 0; !config && i < again->count; i++)
        if (!again->items[i].is_warning)
            add_at(problems, &again->items[i]);
    config_free(config);
    memory_free(again);
}

void server_check(struct config *config, const char *path, struct config_problems *problems)
{
    struct fault fault;
    uid_t before = geteuid();

    if (privileges_look_as(config->user, &fault) != RESULT_OK)
        add(problems, false, fault.text);
    else if (geteuid() != before)
        check_reload(path, problems);
    check_certificates(config, problems);
    check_anchors(config, problems);
    check_users(config, problems);
    check_keys(config, problems);
}
