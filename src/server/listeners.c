/* Listening sockets over reloads: new ones are bound first, kept ones keep their
 * descriptor, removed ones close last, so that no client ever finds a closed door. */
#include "inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

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

static enum result open_one(struct server *server, const struct endpoint *endpoint,
                            struct fault *fault)
{
    struct server_listener *opened;
    struct listener *listener = NULL;
    enum result result = RESULT_OK;

    if (find(server, endpoint))
        return RESULT_OK;
    listener = systemd_take(&server->systemd, endpoint);
    if (!listener)
        result = listener_open(server->net, endpoint, &listener, fault);
    if (result != RESULT_OK)
        return result;
    opened = NEW(struct server_listener);
    opened->server = server;
    opened->listener = listener;
    list_push_back(&server->listeners, &opened->link);
    return RESULT_OK;
}

enum result listeners_open(struct server *server, const struct config *config,
                           struct fault *fault)
{
    const struct config_listen *listen = config->listen.items;
    enum result result = admin_public_bind(server->public, config->admin_listen.items,
                                           config->admin_listen.count, fault);

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

    while ((link = list_first(&server->listeners)))
        forget(server, CONTAINER_OF(link, struct server_listener, link));
}
