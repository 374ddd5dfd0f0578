/* libmicrohttpd on our loop: it has an epoll descriptor of its own, which we watch, and a
 * time-out, which we serve with a timer. No thread of its own. A request that must wait is
 * suspended and resumed when its answer is there. */
#include "smtpd/admin/admin.h"

#include "request.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct admin {
    struct admin_rooms rooms;
    struct MHD_Daemon *daemon;
    struct watch *watch;
    struct timer timer;
    struct list requests;
    bool is_closing; /* who comes now is not let in: nobody would answer */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void turn(void *owner);

/* The library says when it wants to be run again at the latest. */
static void arm(struct admin *admin)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;

    if (MHD_get_timeout(admin->daemon, &ms) == MHD_YES)
        timer_start(&admin->timer, (int64_t)ms);
    else
        timer_cancel(&admin->timer);
}

static void turn(void *owner)
{
    struct admin *admin = owner;

    (void)MHD_run(admin->daemon);
    arm(admin);
}

void request_turn(struct admin *admin)
{
    timer_start(&admin->timer, 0);
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
        request_turn(request->admin);
    }
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

void request_answer_error(struct request *request, unsigned status, const char *text)
{
    request_answer(request, status, json_pack("{s:s}", "error", text));
}

static bool route_matches(const struct request_route *route, const char *path)
{
    size_t length = strlen(route->path);

    if (route->path[length - 1] != '/')
        return strcmp(route->path, path) == 0;
    return strncmp(route->path, path, length) == 0 && path[length] &&
           !strchr(path + length, '/');
}

static void dispatch(struct request *request)
{
    bool path_exists = false;

    for (size_t i = 0; i < request_route_count; i++) {
        if (!route_matches(&request_routes[i], request->path))
            continue;
        path_exists = true;
        if (strcmp(request_routes[i].method, request->method) == 0) {
            request_routes[i].handler(request);
            return;
        }
    }
    request_answer_error(request,
                         path_exists ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND,
                         path_exists ? "this path takes another method" : "no such path");
}

/* RFC-less but decisive: who is at the other end of the socket. */
static bool peer_may_command(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer = {0};
    socklen_t length = sizeof peer;

    if (!info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

static struct request *request_new(struct admin *admin, struct MHD_Connection *connection,
                                   const char *path, const char *method)
{
    struct request *request = NEW(struct request);

    request->admin = admin;
    request->rooms = &admin->rooms;
    request->connection = connection;
    if (!slice_copy_text(slice_of(path), request->path, sizeof request->path))
        request->path[0] = '\0';
    (void)snprintf(request->method, sizeof request->method, "%s", method);
    bytes_init(&request->body, REQUEST_BODY_MAX);
    list_push_back(&admin->requests, &request->link);
    return request;
}

static enum MHD_Result answer_ready(struct request *request)
{
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
    if (!peer_may_command(request->connection)) {
        request_answer_error(request, MHD_HTTP_FORBIDDEN,
                             "only root and the server's user may command it");
    } else if (request->admin->is_closing) {
        request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                             "the server is leaving");
    } else if (request->is_too_large) {
        (void)snprintf(text, sizeof text, "the body is larger than %d bytes",
                       (int)REQUEST_BODY_MAX);
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
    struct admin *admin = owner;
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
    list_remove(&admin->requests, &request->link);
    memory_free(request);
}

static int listen_on(const char *path, struct fault *fault)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask = umask(0177);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    (void)unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, REQUEST_CONNECTIONS) != 0) {
        (void)fault_set(fault, RESULT_IO, "cannot listen on %s: %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        fd = -1;
    }
    (void)umask(mask);
    return fd;
}

enum result admin_open(const struct admin_rooms *rooms, const char *socket_path,
                       struct admin **admin, struct fault *fault)
{
    struct admin *opened;
    const union MHD_DaemonInfo *info;
    int fd;

    if (strlen(socket_path) >= sizeof opened->path)
        return fault_set(
            fault, RESULT_TOO_LARGE,
            "the path of the control socket, %s, is longer than %zu bytes; choose a "
            "shorter server.data_dir",
            socket_path, sizeof opened->path - 1);
    fd = listen_on(socket_path, fault);
    if (fd < 0)
        return RESULT_IO;
    opened = NEW(struct admin);
    opened->rooms = *rooms;
    list_init(&opened->requests);
    (void)snprintf(opened->path, sizeof opened->path, "%s", socket_path);
    timer_init(&opened->timer, rooms->loop, turn, opened);
    opened->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, opened,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, opened,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)REQUEST_TIMEOUT_S,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)REQUEST_CONNECTIONS, MHD_OPTION_END);
    if (!opened->daemon) {
        (void)close(fd);
        memory_free(opened);
        return fault_set(fault, RESULT_IO, "the HTTP library does not start on %s",
                         socket_path);
    }
    info = MHD_get_daemon_info(opened->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    opened->watch = watch_start(rooms->loop, info->epoll_fd, WATCH_READABLE, turn, opened);
    arm(opened);
    *admin = opened;
    return RESULT_OK;
}

void admin_set_resolver(struct admin *admin, struct resolver *resolver)
{
    admin->rooms.resolver = resolver;
}

void admin_close(struct admin *admin)
{
    struct link *link;

    if (!admin)
        return;
    admin->is_closing = true;
    /* The library refuses to stop with suspended connections. */
    for (link = list_first(&admin->requests); link;
         link = list_next(&admin->requests, link)) {
        struct request *request = CONTAINER_OF(link, struct request, link);

        if (request->on_gone)
            request->on_gone(request);
        request->on_gone = NULL;
        if (request->is_suspended)
            request_answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                                 "the server is leaving");
    }
    (void)MHD_run(admin->daemon);
    timer_cancel(&admin->timer);
    watch_stop(admin->watch);
    MHD_stop_daemon(admin->daemon);
    (void)unlink(admin->path);
    memory_free(admin);
}
