/* Bound sockets. We accept by ourselves: libuv has a trick of its own for a process without
 * descriptors, but it closes the waiting clients without a word. When the process has no
 * descriptor left, a spare one is given up so that the waiting client can be told, instead
 * of hanging in the backlog. */
#include "smtpd/net/listener.h"

#include "proxy_wait.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096, COMPLAIN_MS = 60000, ACCEPTS_A_TURN = 64, PAUSE_MS = 100 };

struct listener {
    struct net *net;
    struct endpoint endpoint;
    int fd;
    struct watch *watch;
    listener_stream_fn *on_stream;
    void *owner;
    int spare_fd;       /* -1: lost to another thread; taken again when there is one */
    struct timer pause; /* nothing can be accepted just now */
    struct network *balancers;
    size_t balancer_count;
    struct proxy_waits *proxy_waits; /* NULL: none ever expected */
    int64_t complained_ms;
    int64_t refused_ms;
    bool is_closed; /* by its owner, inside on_stream */
    bool is_accepting;
};

static int open_socket(const struct sockaddr_storage *address, socklen_t length)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)address, length) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static void on_pause_over(void *owner);

static void take_spare(struct listener *listener)
{
    if (listener->spare_fd < 0)
        listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

enum result listener_open_socket(const struct endpoint *endpoint, int *fd,
                                 struct endpoint *bound, struct fault *fault)
{
    struct sockaddr_storage address;
    socklen_t length =
        ip_is_v4(&endpoint->ip) ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    char text[IP_TEXT];

    endpoint_to_sockaddr(endpoint, &address);
    endpoint_print(endpoint, text);
    errno = 0;
    *fd = open_socket(&address, length);
    if (*fd < 0)
        return fault_set(fault, RESULT_IO, "cannot listen on %s: %s%s", text,
                         strerror(errno),
                         errno == EACCES ? " (ports below 1024 need root, or "
                                           "CAP_NET_BIND_SERVICE)"
                                         : "");
    *bound = *endpoint;
    length = sizeof address;
    if (getsockname(*fd, (struct sockaddr *)&address, &length) == 0)
        endpoint_from_sockaddr(&address, bound);
    return RESULT_OK;
}

static struct listener *listener_new(struct net *net, int fd, const struct endpoint *bound)
{
    struct listener *listener = NEW(struct listener);

    listener->net = net;
    listener->fd = fd;
    listener->endpoint = *bound;
    listener->spare_fd = -1;
    timer_init(&listener->pause, net->loop, on_pause_over, listener);
    take_spare(listener);
    return listener;
}

enum result listener_open(struct net *net, const struct endpoint *endpoint,
                          struct listener **listener, struct fault *fault)
{
    struct endpoint bound;
    int fd = -1;
    enum result result = listener_open_socket(endpoint, &fd, &bound, fault);

    if (result == RESULT_OK)
        *listener = listener_new(net, fd, &bound);
    return result;
}

static bool is_listening(int fd)
{
    int value = 0;
    socklen_t length = sizeof value;

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value == 1;
}

enum result listener_adopt(struct net *net, int fd, struct listener **listener,
                           struct fault *fault)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    struct endpoint bound;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || !is_listening(fd) ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0 ||
        (address.ss_family != AF_INET && address.ss_family != AF_INET6))
        return fault_set(fault, RESULT_INVALID,
                         "the inherited descriptor %d is no listening TCP socket", fd);
    (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    endpoint_from_sockaddr(&address, &bound);
    *listener = listener_new(net, fd, &bound);
    return RESULT_OK;
}

static void complain(struct listener *listener)
{
    int64_t now_ms = loop_now_ms(listener->net->loop);

    if (listener->complained_ms && now_ms - listener->complained_ms < COMPLAIN_MS)
        return;
    listener->complained_ms = now_ms ? now_ms : 1;
    log_message(LOG_ERROR, "net.no_descriptors",
                "no file descriptors are left: new connections get 421. Raise the limit "
                "(LimitNOFILE, ulimit -n) or lower limits.connections");
}

/* The client hears why, in the one place that speaks without the room smtp: there is no
 * descriptor for a session. False: there was not even one for that. */
static bool refuse_one(struct listener *listener)
{
    static const char words[] = "421 4.3.2 Too many connections here: try again later\r\n";
    int fd;

    complain(listener);
    if (listener->spare_fd < 0)
        return false;
    (void)close(listener->spare_fd);
    listener->spare_fd = -1;
    fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        (void)send(fd, words, sizeof words - 1, MSG_NOSIGNAL);
        (void)close(fd);
    }
    take_spare(listener);
    return fd >= 0;
}

static void take(struct listener *listener, int fd, const struct proxy_header *header)
{
    struct stream *stream = stream_new(listener->net);

    if (uv_tcp_open(stream_tcp(stream), fd) != 0) {
        (void)close(fd);
        stream_abort(stream);
        return;
    }
    stream_connected(stream);
    if (header)
        stream_set_client(stream, header);
    listener->on_stream(listener->owner, listener, stream);
}

static bool is_balancer(const struct listener *listener, const struct endpoint *peer)
{
    for (size_t i = 0; i < listener->balancer_count; i++)
        if (network_contains(&listener->balancers[i], &peer->ip))
            return true;
    return false;
}

/* Who is no balancer could write any address it likes. */
static void refuse_stranger(struct listener *listener, const struct endpoint *peer)
{
    int64_t now_ms = loop_now_ms(listener->net->loop);
    char text[IP_TEXT];

    if (listener->refused_ms && now_ms - listener->refused_ms < COMPLAIN_MS)
        return;
    listener->refused_ms = now_ms ? now_ms : 1;
    ip_print(&peer->ip, text);
    log_message(LOG_WARNING, "net.proxy_refused",
                "%s is not in proxy.trusted_networks and may not connect to a listener "
                "with proxy_protocol = true (said once a minute)",
                text);
}

static void take_accepted(struct listener *listener, int fd,
                          const struct sockaddr_storage *address)
{
    struct endpoint peer;

    if (listener->balancer_count == 0) {
        take(listener, fd, NULL);
        return;
    }
    endpoint_from_sockaddr(address, &peer);
    if (is_balancer(listener, &peer)) {
        proxy_waits_take(listener->proxy_waits, fd, &peer);
        return;
    }
    refuse_stranger(listener, &peer);
    (void)close(fd);
}

static void on_header(void *owner, int fd, const struct proxy_header *header)
{
    take(owner, fd, header);
}

void listener_expect_proxy(struct listener *listener, const struct network *balancers,
                           size_t count)
{
    memory_free(listener->balancers);
    listener->balancers = NULL;
    if (count > 0)
        listener->balancers = memory_copy(balancers, count * sizeof *balancers);
    listener->balancer_count = count;
    if (count > 0 && !listener->proxy_waits)
        listener->proxy_waits = proxy_waits_new(listener->net, on_header, listener);
}

static void listener_free(struct listener *listener)
{
    timer_cancel(&listener->pause);
    proxy_waits_free(listener->proxy_waits);
    memory_free(listener->balancers);

    if (listener->spare_fd >= 0)
        (void)close(listener->spare_fd);
    if (listener->watch)
        watch_stop(listener->watch);
    (void)close(listener->fd);
    memory_free(listener);
}

/* Clients wait and cannot be taken: looking again at once would only burn the processor. */
static void pause_accepting(struct listener *listener)
{
    if (listener->watch)
        watch_stop(listener->watch);
    listener->watch = NULL;
    timer_start(&listener->pause, PAUSE_MS);
}

/* A bounded number in one turn: the sessions that are there have their turn too. */
static void on_readable(void *owner)
{
    struct listener *listener = owner;

    listener->is_accepting = true;
    for (int i = 0; i < ACCEPTS_A_TURN && !listener->is_closed && listener->on_stream;
         i++) {
        struct sockaddr_storage address;
        socklen_t length = sizeof address;
        int fd = accept4(listener->fd, (struct sockaddr *)&address, &length,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            take_spare(listener);
            take_accepted(listener, fd, &address);
            continue;
        }
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if ((errno == EMFILE || errno == ENFILE) && refuse_one(listener))
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) /* else: nobody waits */
            pause_accepting(listener);
        break;
    }
    listener->is_accepting = false;
    if (listener->is_closed)
        listener_free(listener);
}

static void on_pause_over(void *owner)
{
    struct listener *listener = owner;

    take_spare(listener);
    listener->watch = watch_start(listener->net->loop, listener->fd, WATCH_READABLE,
                                  on_readable, listener);
}

void listener_start(struct listener *listener, listener_stream_fn *on_stream, void *owner)
{
    listener->on_stream = on_stream;
    listener->owner = owner;
    if (!listener->watch && !timer_is_waiting(&listener->pause))
        listener->watch = watch_start(listener->net->loop, listener->fd, WATCH_READABLE,
                                      on_readable, listener);
}

void listener_stop(struct listener *listener)
{
    timer_cancel(&listener->pause);
    if (listener->watch)
        watch_stop(listener->watch);
    listener->watch = NULL;
    listener->on_stream = NULL;
    proxy_waits_free(listener->proxy_waits);
    listener->proxy_waits = NULL;
    listener_expect_proxy(listener, NULL, 0);
}

void listener_close(struct listener *listener)
{
    listener->is_closed = true;
    if (!listener->is_accepting)
        listener_free(listener);
}

const struct endpoint *listener_endpoint(const struct listener *listener)
{
    return &listener->endpoint;
}
