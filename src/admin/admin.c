/* The control socket: for root and the server's own user, everything. */
#include "smtpd/admin/admin.h"

#include "http.h"
#include "sample.h"
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
    struct http *http;
    struct sample *sample;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

const struct admin_rooms *admin_rooms_of(const struct admin *admin)
{
    return &admin->rooms;
}

const struct sample *admin_sample_of(const struct admin *admin)
{
    return admin->sample;
}

/* RFC-less but decisive: who is at the other end of the socket. */
static bool peer_may_command(int fd)
{
    struct ucred peer = {0};
    socklen_t length = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid();
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
    (void)snprintf(opened->path, sizeof opened->path, "%s", socket_path);
    opened->http = http_open(&(struct http_settings){
        .loop = rooms->loop,
        .admin = opened,
        .fd = fd,
        .routes = request_routes,
        .route_count = request_route_count,
        .may_ask = peer_may_command,
        .body_bytes_max = REQUEST_BODY_MAX,
        .connections = REQUEST_CONNECTIONS,
        .idle_s = REQUEST_TIMEOUT_S,
    });
    if (!opened->http) {
        memory_free(opened);
        return fault_set(fault, RESULT_IO, "the HTTP library does not start on %s",
                         socket_path);
    }
    opened->sample = sample_new(rooms->loop, rooms->offload);
    *admin = opened;
    return RESULT_OK;
}

void admin_set_resolver(struct admin *admin, struct resolver *resolver)
{
    admin->rooms.resolver = resolver;
}

void admin_close(struct admin *admin)
{
    if (!admin)
        return;
    http_close(admin->http);
    sample_free(admin->sample);
    (void)unlink(admin->path);
    memory_free(admin);
}
