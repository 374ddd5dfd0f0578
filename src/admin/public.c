/* The TCP listeners: probes and metrics, no other command. New ones are bound before old
 * ones go, as the SMTP listeners do it; what connects before the start waits in the
 * kernel. */
#include "smtpd/admin/public.h"

#include "http.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/net/listener.h"

#include <unistd.h>

enum {
    VISITORS = 64,
    VISITORS_PER_ADDRESS = 32,
    BODY_BYTES = 4096, /* nobody needs one */
    IDLE_S = 5,
    VISIT_MS = 10000
};

struct public_listener {
    struct link link;
    struct endpoint endpoint;
    int fd;            /* until the server takes it */
    struct http *http; /* NULL: bound, not started */
};

struct admin_public {
    struct list listeners;
};

/* clang-format off */
static const struct request_route routes[] = {
    {"GET", "/livez",    probe_handle_live},
    {"GET", "/readyz",   probe_handle_ready},
    {"GET", "/startupz", probe_handle_startup},
    {"GET", "/metrics",  metrics_handle},
};
/* clang-format on */

static struct public_listener *find(const struct admin_public *open,
                                    const struct endpoint *endpoint)
{
    for (struct link *link = list_first(&open->listeners); link;
         link = list_next(&open->listeners, link)) {
        struct public_listener *known = CONTAINER_OF(link, struct public_listener, link);

        if (endpoint_equal(&known->endpoint, endpoint))
            return known;
    }
    return NULL;
}

static void forget(struct admin_public *open, struct public_listener *listener)
{
    list_remove(&open->listeners, &listener->link);
    if (listener->http)
        http_close(listener->http);
    else
        (void)close(listener->fd);
    memory_free(listener);
}

struct admin_public *admin_public_new(void)
{
    struct admin_public *open = NEW(struct admin_public);

    list_init(&open->listeners);
    return open;
}

void admin_public_forget_new(struct admin_public *open)
{
    struct link *next;

    for (struct link *link = list_first(&open->listeners); link; link = next) {
        struct public_listener *known = CONTAINER_OF(link, struct public_listener, link);

        next = list_next(&open->listeners, link);
        if (!known->http)
            forget(open, known);
    }
}

static enum result bind_one(struct admin_public *open, const struct endpoint *endpoint,
                            struct fault *fault)
{
    struct public_listener *opened;
    struct endpoint bound;
    enum result result;
    int fd = -1;

    if (find(open, endpoint))
        return RESULT_OK;
    result = listener_open_socket(endpoint, &fd, &bound, fault);
    if (result != RESULT_OK)
        return result;
    opened = NEW(struct public_listener);
    opened->endpoint = *endpoint;
    opened->fd = fd;
    list_push_back(&open->listeners, &opened->link);
    return RESULT_OK;
}

enum result admin_public_bind(struct admin_public *open, const struct endpoint *endpoints,
                              size_t count, struct fault *fault)
{
    enum result result = RESULT_OK;

    for (size_t i = 0; i < count && result == RESULT_OK; i++)
        result = bind_one(open, &endpoints[i], fault);
    if (result != RESULT_OK)
        admin_public_forget_new(open);
    return result;
}

static void start(struct public_listener *listener, struct admin *admin)
{
    char text[IP_TEXT];

    endpoint_print(&listener->endpoint, text);
    listener->http = http_open(&(struct http_settings){
        .loop = admin_rooms_of(admin)->loop,
        .admin = admin,
        .fd = listener->fd,
        .routes = routes,
        .route_count = sizeof routes / sizeof *routes,
        .is_plain = true,
        .body_bytes_max = BODY_BYTES,
        .connections = VISITORS,
        .connections_per_address = VISITORS_PER_ADDRESS,
        .idle_s = IDLE_S,
        .visit_ms = VISIT_MS,
    });
    if (listener->http)
        log_message(LOG_NOTICE, "server.listening", "probes and metrics on %s", text);
}

static bool is_wanted(const struct endpoint *endpoints, size_t count,
                      const struct public_listener *listener)
{
    for (size_t i = 0; i < count; i++)
        if (endpoint_equal(&endpoints[i], &listener->endpoint))
            return true;
    return false;
}

void admin_public_apply(struct admin_public *open, struct admin *admin,
                        const struct endpoint *endpoints, size_t count)
{
    struct link *next;

    for (struct link *link = list_first(&open->listeners); link; link = next) {
        struct public_listener *known = CONTAINER_OF(link, struct public_listener, link);

        next = list_next(&open->listeners, link);
        if (!is_wanted(endpoints, count, known)) {
            forget(open, known);
            continue;
        }
        if (!known->http)
            start(known, admin);
        if (known->http)
            continue;
        log_message(LOG_ERROR, "server.admin_failed",
                    "the HTTP library does not start: there are no probes and metrics "
                    "until a reload");
        list_remove(&open->listeners, &known->link); /* the descriptor is closed */
        memory_free(known);
    }
}

void admin_public_close(struct admin_public *open)
{
    struct link *link;

    if (!open)
        return;
    while ((link = list_first(&open->listeners)))
        forget(open, CONTAINER_OF(link, struct public_listener, link));
    memory_free(open);
}
