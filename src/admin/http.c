/* libmicrohttpd on our loop: it has an epoll descriptor of its own, which we watch, and a
 * time-out, which we serve with a timer. No thread of its own. A request that must wait is
 * suspended and resumed when its answer is there. The control socket and the probes' TCP
 * listeners are both this, with other routes and other limits. */
#include "http.h"

#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { VISITS_LOOKED_AT_MS = 1000 };

struct http {
    struct http_settings settings;
    struct MHD_Daemon *daemon;
    struct watch *watch;
    struct timer timer;
    struct timer patience;
    struct list requests;
    struct list visitors;
    bool is_closing; /* who comes now is not let in: nobody would answer */
};

struct visitor { /* a connection; only where their life is limited */
    struct link link;
    struct http *http;
    int fd;
    int64_t since_ms;
};

static void turn(void *owner);

/* The library says when it wants to be run again at the latest. */
static void arm(struct http *http)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;

    if (MHD_get_timeout(http->daemon, &ms) == MHD_YES)
        timer_start(&http->timer, (int64_t)ms);
    else
        timer_cancel(&http->timer);
}

static void turn(void *owner)
{
    struct http *http = owner;

    (void)MHD_run(http->daemon);
    arm(http);
}

void http_turn_soon(struct http *http)
{
    timer_start(&http->timer, 0);
}

const char *request_query(struct request *request, const char *name)
{
    const char *value = NULL;

    if (MHD_lookup_connection_value_n(request->connection, MHD_GET_ARGUMENT_KIND, name,
                                      strlen(name), &value, NULL) != MHD_YES)
        return NULL;
    return value ? value : "";
}

const char *request_argument(const struct request *request)
{
    const char *slash = strrchr(request->path, '/');

    return slash ? slash + 1 : request->path;
}

void request_answer_response(struct request *request, unsigned status,
                             struct MHD_Response *response)
{
    if (request->is_answered) {
        MHD_destroy_response(response);
        return;
    }
    request->is_answered = true;
    request->status = status;
    request->response = response;
    if (request->is_suspended) {
        request->is_suspended = false;
        MHD_resume_connection(request->connection);
        http_turn_soon(request->http);
    }
}

void request_answer_bytes(struct request *request, unsigned status, const char *type,
                          struct slice text)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        text.length, (void *)(uintptr_t)text.data, MHD_RESPMEM_MUST_COPY);

    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    request_answer_response(request, status, response);
}

void request_answer(struct request *request, unsigned status, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII);
    size_t length = text ? strlen(text) : 0;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE);

    json_decref(json);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  "application/json");
    request_answer_response(request, status, response);
}

json_t *request_text(const char *text)
{
    json_t *json = json_string(text);
    struct slice left = slice_of(text);
    char *clean;

    for (int i = 0; !json && i < 3 && left.length > 0; i++) {
        left.length--;
        json = json_stringn(left.data, left.length);
    }
    if (json)
        return json;
    clean = memory_text(text);
    for (char *at = clean; *at; at++)
        if ((unsigned char)*at > 0x7f)
            *at = '?';
    json = json_string(clean);
    memory_free(clean);
    return json;
}

void request_answer_error(struct request *request, unsigned status, const char *text)
{
    char line[512];

    if (!request->http->settings.is_plain) {
        request_answer(request, status, json_pack("{s:o}", "error", request_text(text)));
        return;
    }
    (void)snprintf(line, sizeof line, "%s\n", text);
    request_answer_bytes(request, status, "text/plain; charset=utf-8", slice_of(line));
}

static bool route_matches(const struct request_route *route, const char *path)
{
    size_t length = strlen(route->path);

    if (route->path[length - 1] != '/')
        return strcmp(route->path, path) == 0;
    return strncmp(route->path, path, length) == 0 && path[length] &&
           !strchr(path + length, '/');
}

/* RFC 9110 9.3.2: HEAD wherever there is GET; the library leaves the body out. */
static bool method_matches(const struct request_route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(route->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

static void dispatch(struct request *request)
{
    const struct http_settings *settings = &request->http->settings;
    bool path_exists = false;

    for (size_t i = 0; i < settings->route_count; i++) {
        const struct request_route *route = &settings->routes[i];

        if (!route_matches(route, request->path))
            continue;
        path_exists = true;
        if (method_matches(route, request->method)) {
            route->handler(request);
            return;
        }
    }
    request_answer_error(request,
                         path_exists ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND,
                         path_exists ? "this path takes another method" : "no such path");
}

static struct request *request_new(struct http *http, struct MHD_Connection *connection,
                                   const char *path, const char *method)
{
    struct request *request = NEW(struct request);

    request->http = http;
    request->admin = http->settings.admin;
    request->rooms = admin_rooms_of(http->settings.admin);
    request->connection = connection;
    if (!slice_copy_text(slice_of(path), request->path, sizeof request->path))
        request->path[0] = '\0';
    (void)snprintf(request->method, sizeof request->method, "%s", method);
    bytes_init(&request->body, http->settings.body_bytes_max);
    list_push_back(&http->requests, &request->link);
    return request;
}

static bool is_allowed(const struct request *request)
{
    const struct http_settings *settings = &request->http->settings;
    const union MHD_ConnectionInfo *info;

    if (!settings->may_ask)
        return true;
    info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info && settings->may_ask(info->connect_fd);
}

static enum MHD_Result answer_ready(struct request *request)
{
    if (request->http->settings.visit_ms > 0)
        (void)MHD_add_response_header(request->response, MHD_HTTP_HEADER_CONNECTION,
                                      "close");
    return MHD_queue_response(request->connection, request->status, request->response);
}

/* The library lets nobody answer before the whole body has come. */
static void take_body(struct request *request, struct slice piece)
{
    if (request->is_too_large || bytes_add(&request->body, piece) == RESULT_OK)
        return;
    request->is_too_large = true;
    bytes_release(&request->body);
}

static void handle(struct request *request)
{
    char text[64];

    request->is_handled = true;
    if (!is_allowed(request)) {
        request_answer_error(request, MHD_HTTP_FORBIDDEN,
                             "only root and the server's user may command it");
    } else if (request->http->is_closing) {
        request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                             "the server is leaving");
    } else if (request->is_too_large) {
        (void)snprintf(text, sizeof text, "the body is larger than %zu bytes",
                       request->http->settings.body_bytes_max);
        request_answer_error(request, MHD_HTTP_CONTENT_TOO_LARGE, text);
    } else {
        dispatch(request);
    }
}

/* NOLINTNEXTLINE(readability-function-size): the library's own eight parameters */
static enum MHD_Result on_request(void *owner, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *data, size_t *data_bytes, void **state)
{
    struct request *request = *state;

    (void)version;
    if (!request) { /* headers only: the library allows no answer yet */
        *state = request_new(owner, connection, path, method);
        return MHD_YES;
    }
    if (*data_bytes > 0) {
        take_body(request, (struct slice){data, *data_bytes});
        *data_bytes = 0;
        return MHD_YES;
    }
    if (!request->is_handled)
        handle(request);
    if (request->is_answered)
        return answer_ready(request);
    if (!request->is_suspended) {
        request->is_suspended = true;
        MHD_suspend_connection(connection);
    }
    return MHD_YES;
}

static void on_completed(void *owner, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    struct http *http = owner;
    struct request *request = *state;

    (void)connection;
    (void)why;
    if (!request)
        return;
    *state = NULL;
    if (request->on_gone)
        request->on_gone(request);
    if (request->response)
        MHD_destroy_response(request->response);
    bytes_fini(&request->body);
    list_remove(&http->requests, &request->link);
    memory_free(request);
}

/* ---- connections whose life is limited ---- */

static struct visitor *visitor_new(struct http *http, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct visitor *visitor = NEW(struct visitor);

    visitor->http = http;
    visitor->fd = info ? info->connect_fd : -1;
    visitor->since_ms = loop_now_ms(http->settings.loop);
    list_push_back(&http->visitors, &visitor->link);
    if (!timer_is_waiting(&http->patience))
        timer_start(&http->patience, VISITS_LOOKED_AT_MS);
    return visitor;
}

static void on_visit(void *owner, struct MHD_Connection *connection, void **state,
                     enum MHD_ConnectionNotificationCode what)
{
    struct visitor *visitor = *state;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *state = visitor_new(owner, connection);
    } else if (visitor) {
        *state = NULL;
        list_remove(&visitor->http->visitors, &visitor->link);
        memory_free(visitor);
    }
}

/* The library's own time-out starts anew at every byte: who drips them would stay for ever.
 * It still owns the descriptor, sees the end of it, and cleans up. */
static void on_patience(void *owner)
{
    struct http *http = owner;
    int64_t now_ms = loop_now_ms(http->settings.loop);

    for (struct link *link = list_first(&http->visitors); link;
         link = list_next(&http->visitors, link)) {
        struct visitor *visitor = CONTAINER_OF(link, struct visitor, link);

        if (now_ms - visitor->since_ms > http->settings.visit_ms && visitor->fd >= 0)
            (void)shutdown(visitor->fd, SHUT_RDWR);
    }
    if (http->visitors.count > 0)
        timer_start(&http->patience, VISITS_LOOKED_AT_MS);
    http_turn_soon(http);
}

/* ---- the door ---- */

static struct MHD_Daemon *start(struct http *http)
{
    const struct http_settings *settings = &http->settings;
    struct MHD_OptionItem limits[] = {
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_visit, http},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)settings->connections_per_address,
         NULL},
        {MHD_OPTION_END, 0, NULL},
    };

    if (settings->visit_ms == 0)
        limits[0].option = MHD_OPTION_END;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, http,
        MHD_OPTION_LISTEN_SOCKET, settings->fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        http, MHD_OPTION_CONNECTION_TIMEOUT, settings->idle_s, MHD_OPTION_CONNECTION_LIMIT,
        settings->connections, MHD_OPTION_ARRAY, limits, MHD_OPTION_END);
}

struct http *http_open(const struct http_settings *settings)
{
    struct http *http = NEW(struct http);
    const union MHD_DaemonInfo *info;

    http->settings = *settings;
    list_init(&http->requests);
    list_init(&http->visitors);
    timer_init(&http->timer, settings->loop, turn, http);
    timer_init(&http->patience, settings->loop, on_patience, http);
    http->daemon = start(http);
    if (!http->daemon) {
        (void)close(settings->fd);
        memory_free(http);
        return NULL;
    }
    info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    http->watch = watch_start(settings->loop, info->epoll_fd, WATCH_READABLE, turn, http);
    arm(http);
    return http;
}

void http_close(struct http *http)
{
    struct link *link;

    if (!http)
        return;
    http->is_closing = true;
    /* The library refuses to stop with suspended connections. */
    for (link = list_first(&http->requests); link;
         link = list_next(&http->requests, link)) {
        struct request *request = CONTAINER_OF(link, struct request, link);

        if (request->on_gone)
            request->on_gone(request);
        request->on_gone = NULL;
        if (request->is_suspended)
            request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                                 "the server is leaving");
    }
    (void)MHD_run(http->daemon);
    timer_cancel(&http->timer);
    timer_cancel(&http->patience);
    watch_stop(http->watch);
    MHD_stop_daemon(http->daemon);
    memory_free(http);
}
