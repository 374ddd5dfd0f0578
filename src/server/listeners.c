/* Listening sockets over reloads: new ones are bound first, kept ones keep their
 * descriptor, removed ones close last, so that no client ever finds a closed door. What the service
 * manager gave is never closed by a reload: see systemd_give_back(). */
#include "inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

static struct server_listener *find(struct server *server, const struct endpoint *endpoint)
{
    for (struct link *link = list_first(&server->listeners); link;
         link = list_next(&server->listeners, link)) {
        struct server_listener *known = CONTAINER_OF(link, struct server_listener, link);

        if (endpoint_equal(listener_endpoint(known->listener), endpoint))
            return known;
    }
    return NULL;
}

static void forget(struct server *server, struct server_listener *listener)
{
    list_remove(&server->listeners, &listener->link);
    if (listener->is_inherited)
        systemd_give_back(&server->systemd, listener->listener);
    else
        listener_close(listener->listener);
    tls_server_unref(listener->settings.tls);
    memory_free(listener);
}

/* Listeners without settings yet (no name) were opened by this reload only. */
static void forget_new(struct server *server)
{
    struct link *next;

    for (struct link *link = list_first(&server->listeners); link; link = next) {
        struct server_listener *known = CONTAINER_OF(link, struct server_listener, link);

        next = list_next(&server->listeners, link);
        if (!known->settings.name)
            forget(server, known);
    }
}

/* ---- what stands in the way ---- */

static bool holds(const struct endpoint *own, const struct endpoint *wanted)
{
    return endpoint_equal(own, wanted) || endpoint_overlaps(own, wanted);
}

static void add_holder(struct fault *fault, const struct endpoint *own, bool is_inherited)
{
    size_t length = strlen(fault->text);
    char text[IP_TEXT];

    endpoint_print(own, text);
    (void)snprintf(fault->text + length, sizeof fault->text - length,
                   is_inherited ? "; the service manager's socket for %s holds the port: "
                                  "change its unit, and restart both"
                                : "; our own socket for %s holds the port until it closes: "
                                  "this change needs a restart",
                   text);
}

/* New sockets are bound before old ones close, and the kernel does not give a port of 0.0.0.0 to
 * 127.0.0.1 beside it, or the other way round. Rejected: to close the old one first, because behind a
 * reload that fails there might be none. */
static void explain(const struct server *server, const struct endpoint *wanted,
                    struct fault *fault)
{
    const struct endpoint *admin;

    if (!server->is_listening) /* at the start nothing old is there */
        return;
    for (struct link *link = list_first(&server->listeners); link;
         link = list_next(&server->listeners, link)) {
        const struct server_listener *known =
            CONTAINER_OF(link, struct server_listener, link);

        /* Without a name and not given, it is of the same file: a restart would not help. */
        if ((known->settings.name || known->is_inherited) &&
            holds(listener_endpoint(known->listener), wanted)) {
            add_holder(fault, listener_endpoint(known->listener), known->is_inherited);
            return;
        }
    }
    for (unsigned i = 0; i < server->systemd.inherited_count; i++) {
        const struct endpoint *own = listener_endpoint(server->systemd.inherited[i]);

        if (holds(own, wanted)) {
            add_holder(fault, own, true);
            return;
        }
    }
    admin = server->config->admin_listen.items;
    for (size_t i = 0; i < server->config->admin_listen.count; i++)
        if (holds(&admin[i], wanted)) {
            add_holder(fault, &admin[i], false);
            return;
        }
}

/* Of probes and metrics. Those that are open already are not in the way of themselves. */
static enum result bind_admin(struct server *server, const struct config *config,
                              struct fault *fault)
{
    const struct endpoint *wanted = config->admin_listen.items;
    enum result result = RESULT_OK;

    for (size_t i = 0; i < config->admin_listen.count && result == RESULT_OK; i++) {
        result = admin_public_bind(server->public, &wanted[i], 1, fault);
        if (result != RESULT_OK)
            explain(server, &wanted[i], fault);
    }
    return result;
}

/* ---- opening ---- */

static enum result open_one(struct server *server, const struct endpoint *endpoint,
                            struct fault *fault)
{
    struct server_listener *opened;
    struct listener *listener = NULL;
    enum result result = RESULT_OK;
    bool is_inherited;

    if (find(server, endpoint))
        return RESULT_OK;
    listener = systemd_take(&server->systemd, endpoint);
    is_inherited = listener != NULL;
    if (!listener)
        result = listener_open(server->net, endpoint, &listener, fault);
    if (result != RESULT_OK) {
        explain(server, endpoint, fault);
        return result;
    }
    opened = NEW(struct server_listener);
    opened->is_inherited = is_inherited;
    opened->server = server;
    opened->listener = listener;
    list_push_back(&server->listeners, &opened->link);
    return RESULT_OK;
}

enum result listeners_open(struct server *server, const struct config *config,
                           struct fault *fault)
{
    const struct config_listen *listen = config->listen.items;
    enum result result = bind_admin(server, config, fault);

    for (size_t i = 0; i < config->listen.count && result == RESULT_OK; i++) {
        const struct endpoint *endpoints = listen[i].address.items;

        for (size_t k = 0; k < listen[i].address.count && result == RESULT_OK; k++)
            result = open_one(server, &endpoints[k], fault);
    }
    if (result != RESULT_OK) {
        forget_new(server);
        admin_public_forget_new(server->public);
    }
    return result;
}

static void on_stream(void *owner, struct listener *listener, struct stream *stream)
{
    struct server_listener *known = owner;

    (void)listener;
    receive_on_stream(known->server->receive, &known->settings, stream);
}

static void apply_one(struct server *server, const struct config_listen *listen,
                      const struct endpoint *endpoint)
{
    struct server_listener *known = find(server, endpoint);
    bool is_new = known && !known->settings.name;

    if (!known)
        return;
    known->is_wanted = true;
    tls_server_unref(known->settings.tls);
    endpoint_print(endpoint, known->name);
    known->settings = (struct receive_listener){
        .mode = (enum receive_mode)listen->mode,
        .tls_mode = (enum receive_tls)listen->tls,
        .tls = listen->tls == RECEIVE_TLS_NONE ? NULL : tls_server_ref(server->tls_server),
        .name = known->name,
        .statistics = &known->statistics,
    };
    listener_expect_proxy(known->listener, server->config->proxy_networks.items,
                          listen->proxy_protocol ? server->config->proxy_networks.count
                                                 : 0);
    if (!is_new)
        return;
    listener_start(known->listener, on_stream, known);
    log_message(LOG_NOTICE, "server.listening", "listening on %s", known->name);
}

void listeners_apply(struct server *server)
{
    const struct config_listen *listen = server->config->listen.items;
    struct link *link;
    struct link *next;

    for (link = list_first(&server->listeners); link;
         link = list_next(&server->listeners, link))
        CONTAINER_OF(link, struct server_listener, link)->is_wanted = false;
    for (size_t i = 0; i < server->config->listen.count; i++) {
        const struct endpoint *endpoints = listen[i].address.items;

        for (size_t k = 0; k < listen[i].address.count; k++)
            apply_one(server, &listen[i], &endpoints[k]);
    }
    for (link = list_first(&server->listeners); link; link = next) {
        struct server_listener *known = CONTAINER_OF(link, struct server_listener, link);

        next = list_next(&server->listeners, link);
        if (!known->is_wanted)
            forget(server, known);
    }
    admin_public_apply(server->public, server->admin, server->config->admin_listen.items,
                       server->config->admin_listen.count);
}

void listeners_tell(void *owner, admin_listener_fn *each, void *each_owner)
{
    const struct server *server = owner;

    for (struct link *link = list_first(&server->listeners); link;
         link = list_next(&server->listeners, link)) {
        const struct server_listener *known =
            CONTAINER_OF(link, struct server_listener, link);

        each(each_owner, known->name, &known->statistics);
    }
}

void listeners_close(struct server *server)
{
    struct link *link;

    while ((link = list_first(&server->listeners))) {
        struct server_listener *known = CONTAINER_OF(link, struct server_listener, link);

        known->is_inherited = false; /* nobody comes back for it */
        forget(server, known);
    }
}
