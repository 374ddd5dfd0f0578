/* Builds the rooms from below, wires them, runs the loop, and takes them down from above.
 * The only place that knows all of them. */
#include "smtpd/server/server.h"

#include "duplicates.h"
#include "inner.h"
#include "privileges.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WATCHDOG_MS = 1000, LAST_WORDS_MS = 500, FRESH_SHARE = 8, FRESH_MOST = 256 << 20 };

/* ---- settings: at the start and at each reload ---- */

/* Of a small container fresh mail gets a small part. */
static void cut_queue(const struct server *server, struct queue_settings *queue)
{
    uint64_t memory =
        server->config->memory_bytes ? server->config->memory_bytes : server->memory_limit;

    config_queue(server->config, queue);
    queue->fresh_bytes = memory / FRESH_SHARE;
    if (queue->fresh_bytes > FRESH_MOST)
        queue->fresh_bytes = FRESH_MOST;
}

void server_apply_settings(struct server *server)
{
    struct config *config = server->config;
    struct receive_settings receive;
    struct deliver_settings deliver;
    struct access_settings access;
    struct queue_settings queue;
    struct local_settings local;
    struct rate_settings rate;
    struct limits_settings limits;
    struct auth_settings auth;
    struct pressure_settings pressure;
    struct screen_settings screen;
    struct suppression_settings suppression;

    cut_queue(server, &queue);
    queue_apply(server->queue, &queue);
    config_rate(config, &rate);
    rate_apply(server->rate, &rate);
    config_pressure(config, &pressure);
    pressure_apply(server->pressure, &pressure);
    config_screen(config, &screen);
    screen_apply(server->screen, &screen);
    config_suppression(config, &suppression);
    suppression_apply(server->suppression, &suppression);
    config_access(config, &access);
    access_unref(server->access);
    server->access = access_new(&access);
    config_receive(config, &receive);
    receive_apply(server->receive, &receive, server->access);
    config_local(config, &local);
    local_apply(server->local, &local);
    config_deliver(config, &deliver);
    deliver_apply(server->deliver, &deliver, server->tls_client);
    config_limits(config, &limits);
    limits_apply(server->limits, &limits);
    config_auth(config, &auth);
    auth_apply(server->auth, &auth);
    auth_follow(server->auth, config->users_file);
}

void server_use_resolver(struct server *server, struct resolver *resolver)
{
    struct resolver *before = server->resolver;

    server->resolver = resolver;
    deliver_set_resolver(server->deliver, resolver);
    screen_set_resolver(server->screen, resolver);
    admin_set_resolver(server->admin, resolver);
    resolver_free(before);
}

/* ---- start ---- */

static enum result open_net(struct server *server, struct fault *fault)
{
    struct tls_settings tls;

    server->loop = loop_new();
    server->offload = offload_new(server->loop);
    config_tls(server->config, &tls);
    server->net = net_new(server->loop, server->offload, &tls);
    systemd_init(&server->systemd, server->loop);
    if (systemd_inherit(&server->systemd, server->net, fault) != RESULT_OK)
        return RESULT_INVALID;
    return listeners_open(server, server->config, fault);
}

static enum result open_tls(struct server *server, struct fault *fault)
{
    struct tls_server_settings tls;
    enum result result = RESULT_OK;

    server->follow_stamp = follow_stamp(server->config);
    server->config_stamp = follow_config_stamp(server->config_path);
    config_tls_server(server->config, &tls);
    if (tls.pair_count > 0)
        result = tls_server_new(&tls, &server->tls_server, fault);
    if (result == RESULT_OK)
        result = tls_client_new(server->config->ca_file, &server->tls_client, fault);
    return result;
}

static enum result open_signer(struct server *server, struct fault *fault)
{
    struct sign_settings settings;
    struct sign_keys *keys = NULL;
    enum result result;

    config_sign(server->config, &settings);
    result = sign_keys_load(&settings, &keys, fault);
    if (result != RESULT_OK)
        return result;
    server->signer = signer_new(server->loop, server->offload);
    signer_use(server->signer, keys);
    return RESULT_OK;
}

static void open_limits(struct server *server)
{
    char *path = memory_format("%s/limits", server->config->data_dir);

    server->limits = limits_open(server->loop, server->offload, path);
    memory_free(path);
}

static enum result open_keepers(struct server *server, struct fault *fault)
{
    struct resolver_settings resolver;
    struct queue_settings queue;
    struct rate_settings rate;
    enum result result;

    config_resolver(server->config, &resolver);
    result = resolver_new(server->loop, &resolver, &server->resolver, fault);
    if (result != RESULT_OK)
        return result;
    server->auth = auth_new(server->loop, server->offload);
    result = auth_load(server->auth, server->config->users_file, fault);
    if (result == RESULT_OK)
        result = open_signer(server, fault);
    if (result != RESULT_OK)
        return result;
    config_rate(server->config, &rate);
    server->rate = rate_new(&rate);
    server->pressure = pressure_new(server->loop, server->offload);
    server->screen = screen_new(server->loop, server->resolver);
    server->memory_limit = pressure_limit();
    cut_queue(server, &queue);
    result = queue_open(server->loop, server->offload, &queue, &server->queue, fault);
    if (result == RESULT_OK) { /* data_dir is ours from here on */
        open_limits(server);
        result = suppress_open(server, fault);
    }
    return result;
}

static void tell_facts(void *owner, struct admin_facts *facts)
{
    const struct server *server = owner;

    *facts = (struct admin_facts){
        .version = SERVER_VERSION,
        .hostname = server->config->hostname,
        .started_ms = server->started_ms,
        .is_listening = server->is_listening,
        .is_draining = server->is_draining,
        .possible_duplicates = server->possible_duplicates,
        .listeners = (unsigned)server->listeners.count,
        .reloads = server->reloads,
        .reloads_failed = server->reloads_failed,
        .tls_server = server->tls_server,
    };
}

static enum result open_control(struct server *server, struct fault *fault)
{
    struct admin_rooms rooms = {
        .loop = server->loop,
        .offload = server->offload,
        .net = server->net,
        .resolver = server->resolver,
        .queue = server->queue,
        .signer = server->signer,
        .receive = server->receive,
        .deliver = server->deliver,
        .suppression = server->suppression,
        .facts = tell_facts,
        .compare = compare_start,
        .compare_cancel = compare_cancel,
        .listeners = listeners_tell,
        .owner = server,
    };
    char *path = memory_format("%s/control.sock", server->config->data_dir);
    enum result result = admin_open(&rooms, path, &server->admin, fault);

    memory_free(path);
    return result;
}

/* Receiving and delivering never meet: each knows the queue, and only this file knows both.
 */
static enum result open_workers(struct server *server, struct fault *fault)
{
    struct receive_rooms receive = {.loop = server->loop,
                                    .net = server->net,
                                    .queue = server->queue,
                                    .auth = server->auth,
                                    .rate = server->rate,
                                    .signer = server->signer,
                                    .limits = server->limits,
                                    .screen = server->screen,
                                    .pressure = server->pressure,
                                    .suppression = server->suppression};
    struct deliver_rooms deliver = {.loop = server->loop,
                                    .net = server->net,
                                    .resolver = server->resolver,
                                    .queue = server->queue,
                                    .deliver_local = local_deliver,
                                    .policy = suppress_policy(server),
                                    .signing = sign_own(server)};
    char *paces = memory_format("%s/paces", server->config->data_dir);
    char *warm_up = memory_format("%s/warm_up", server->config->data_dir);

    server->local = local_new(server->loop, server->offload);
    deliver.local = server->local;
    deliver.offload = server->offload;
    deliver.data_dir = server->config->data_dir;
    deliver.paces_path = paces;
    deliver.warm_up_path = warm_up;
    server->deliver = deliver_new(&deliver);
    memory_free(paces);
    memory_free(warm_up);
    server->receive = receive_new(&receive);
    server_apply_settings(server);
    return open_control(server, fault);
}

static void on_watchdog(void *owner)
{
    struct server *server = owner;

    timer_start(&server->watchdog, WATCHDOG_MS);
    if (!queue_is_broken(server->queue))
        return;
    log_message(
        LOG_ERROR, "server.store_failed",
        "the queue in %s cannot be written any more; look at the disk and at the messages "
        "above. Stopping: every message that got a 250 is safe, and a restart may help",
        server->config->data_dir);
    server->exit_code = 1;
    drain_stop(server);
}

/* What asks us to go while we start must not be lost: to process 1 of a container a signal
 * that nobody handles yet is no signal at all. It waits until somebody does. */
static void hold_signals(sigset_t *before)
{
    sigset_t held;

    (void)sigemptyset(&held);
    (void)sigaddset(&held, SIGTERM);
    (void)sigaddset(&held, SIGINT);
    (void)sigaddset(&held, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &held, before);
}

static void watch_signals(struct server *server)
{
    (void)signal(SIGPIPE, SIG_IGN);
    server->on_term = signal_watch_start(server->loop, SIGTERM, drain_on_signal, server);
    server->on_int = signal_watch_start(server->loop, SIGINT, drain_on_signal, server);
    server->on_hup = signal_watch_start(server->loop, SIGHUP, reload_on_signal, server);
}

static const char *log_file(const struct config *config)
{
    bool is_file = config->log_output && strcmp(config->log_output, "stdout") != 0 &&
                   strcmp(config->log_output, "stderr") != 0;

    return is_file ? config->log_output : NULL;
}

static enum result start(struct server *server, struct fault *fault)
{
    struct log_settings log;
    enum result result;

    (void)umask(0077);
    privileges_raise_limits();
    config_log(server->config, &log);
    result = log_open(&log, fault);
    if (result == RESULT_OK)
        result = open_net(server, fault);
    if (result == RESULT_OK)
        result = privileges_drop(server->config->data_dir, log_file(server->config),
                                 server->config->user, fault);
    if (result == RESULT_OK)
        result = open_tls(server, fault);
    if (result == RESULT_OK)
        result = open_keepers(server, fault);
    if (result == RESULT_OK)
        result = open_workers(server, fault);
    if (result != RESULT_OK)
        return result;
    watch_signals(server);
    loop_measure_lag(server->loop);
    timer_init(&server->watchdog, server->loop, on_watchdog, server);
    timer_start(&server->watchdog, WATCHDOG_MS);
    server->possible_duplicates = duplicates_read(server->config->data_dir);
    server->started_ms = loop_wall_ms(server->loop);
    listeners_apply(server);
    server->is_listening = true;
    follow_start(server);
    systemd_tell_unused(&server->systemd);
    systemd_ready(&server->systemd);
    return RESULT_OK;
}

/* ---- stop ---- */

static void close_workers(struct server *server)
{
    admin_public_close(server->public);
    if (server->admin)
        admin_close(server->admin);
    if (server->receive) {
        receive_abort(server->receive);
        receive_free(server->receive);
    }
    if (server->deliver) {
        drain_abort_deliveries(server);
        deliver_free(server->deliver);
    }
    if (server->local)
        local_free(server->local);
}

static void close_keepers(struct server *server)
{
    if (server->queue)
        queue_close(server->queue);
    if (server->rate)
        rate_free(server->rate);
    limits_stop(server->limits);
    suppression_stop(server->suppression);
    pressure_free(server->pressure);
    screen_free(server->screen);
    if (server->auth)
        auth_free(server->auth);
    signer_free(server->signer);
    if (server->resolver)
        resolver_free(server->resolver);
    access_unref(server->access);
    tls_server_unref(server->tls_server);
    tls_client_unref(server->tls_client);
}

static void stop_watching(struct server *server)
{
    sigset_t before;

    /* From here on nothing is to be asked for: the last commit is on its way. They are held
     * first and ignored last: a watch that stops gives its signal back to the system's own
     * action, which is our end. */
    hold_signals(&before);
    if (server->on_term)
        signal_watch_stop(server->on_term);
    if (server->on_int)
        signal_watch_stop(server->on_int);
    if (server->on_hup)
        signal_watch_stop(server->on_hup);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    if (server->reload)
        job_cancel(server->reload);
    timer_cancel(&server->watchdog);
    follow_stop(server);
}

/* Streams send what is left (421) and close; who does not go in time is cut off. */
static void say_last_words(struct server *server)
{
    struct net_statistics statistics = {0};

    for (int waited_ms = 0; server->net && waited_ms < LAST_WORDS_MS; waited_ms += 10) {
        loop_run_for(server->loop, 10);
        net_statistics(server->net, &statistics);
        if (statistics.streams == 0)
            return;
    }
}

static void stop(struct server *server)
{
    stop_watching(server);
    systemd_fini(&server->systemd);
    listeners_close(server);
    close_workers(server);
    say_last_words(server);
    close_keepers(server);
    if (server->net)
        net_free(server->net);
    if (server->offload)
        offload_free(server->offload);
    limits_close(server->limits);
    suppression_close(server->suppression);
    loop_free(server->loop);
}

int server_run(struct config *config, const char *config_path)
{
    struct server *server = NEW(struct server);
    struct fault fault = {0};
    sigset_t before;
    int exit_code;

    hold_signals(&before);
    server->config = config;
    server->config_path = config_path;
    list_init(&server->listeners);
    server->public = admin_public_new();
    if (start(server, &fault) == RESULT_OK) {
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        log_message(LOG_NOTICE, "server.started", "smtpd %s, queue in %s", SERVER_VERSION,
                    config->data_dir);
        loop_run(server->loop);
        log_message(LOG_NOTICE, "server.stopping", "last commit");
    } else {
        (void)fprintf(stderr, "smtpd: %s\n", fault.text);
        server->exit_code = 1;
    }
    if (server->loop)
        stop(server);
    else
        admin_public_close(server->public);
    exit_code = server->exit_code;
    config_free(server->config);
    memory_free(server);
    log_message(LOG_NOTICE, "server.stopped", "exit code %d", exit_code);
    log_close();
    return exit_code;
}
