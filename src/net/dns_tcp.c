/* A non-blocking socket in three steps: connect, send the query, receive the answer; each
 * step is one function that runs when the socket is ready and leaves when it would block.
 * Not over net/stream: a stream is for a conversation and brings TLS, buffers and events
 * for it.
 *
 * The answer's buffer grows as bytes arrive, so that a server which announces 64 KiB and
 * sends nothing costs nothing. */
#include "dns_tcp.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LENGTH_BYTES = 2, MOST_ANSWER_BYTES = LENGTH_BYTES + 65535, READ_BYTES = 4096 };

struct dns_tcp {
    struct loop *loop;
    dns_tcp_end_fn *on_end;
    void *owner;
    int fd; /* -1: none */
    struct watch *watch;
    struct timer timer;
    struct deferred deferred;
    size_t query_length; /* with the two bytes of length */
    size_t sent;
    uint8_t query[LENGTH_BYTES + DNS_QUERY_BYTES];
    struct bytes answer; /* with the two bytes of length */
    char failure[128];
};

static void tcp_free(struct dns_tcp *tcp)
{
    timer_cancel(&tcp->timer);
    deferred_cancel(tcp->loop, &tcp->deferred);
    if (tcp->watch)
        watch_stop(tcp->watch);
    if (tcp->fd >= 0)
        (void)close(tcp->fd);
    bytes_fini(&tcp->answer);
    memory_free(tcp);
}

static void end(struct dns_tcp *tcp, struct slice packet, const char *failure)
{
    tcp->on_end(tcp->owner, packet, failure);
    tcp_free(tcp);
}

static void fail(struct dns_tcp *tcp, const char *what, int error)
{
    if (error)
        (void)snprintf(tcp->failure, sizeof tcp->failure, "DNS over TCP: %s: %s", what,
                       strerror(error));
    else
        (void)snprintf(tcp->failure, sizeof tcp->failure, "DNS over TCP: %s", what);
    end(tcp, SLICE_NONE, tcp->failure);
}

static void on_deferred_failure(void *owner)
{
    struct dns_tcp *tcp = owner;

    end(tcp, SLICE_NONE, tcp->failure);
}

static void on_deadline(void *owner)
{
    fail(owner, "no answer in time", 0);
}

static bool would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* ---- receive ---- */

/* Length of the whole answer with its two bytes; 0: not known yet. */
static size_t whole_length(const struct dns_tcp *tcp)
{
    const uint8_t *data = (const uint8_t *)tcp->answer.data;

    if (tcp->answer.length < LENGTH_BYTES)
        return 0;
    return LENGTH_BYTES + ((size_t)data[0] << 8 | data[1]);
}

static void judge(struct dns_tcp *tcp)
{
    struct slice packet = slice_from(bytes_view(&tcp->answer), LENGTH_BYTES);

    if (packet.length < DNS_HEADER_BYTES ||
        memcmp(packet.data, tcp->query + LENGTH_BYTES, 2) != 0) {
        fail(tcp, "an answer to another query", 0);
        return;
    }
    end(tcp, packet, NULL);
}

static void on_readable(void *owner)
{
    struct dns_tcp *tcp = owner;
    size_t whole = whole_length(tcp);
    size_t most = whole ? whole - tcp->answer.length : LENGTH_BYTES - tcp->answer.length;
    char *room;
    ssize_t count;

    if (most > READ_BYTES)
        most = READ_BYTES;
    room = bytes_reserve(&tcp->answer, most);
    if (!room) { /* cannot be: the ceiling is what two bytes can announce */
        fail(tcp, "answer too large", 0);
        return;
    }
    count = recv(tcp->fd, room, most, 0);
    if (count < 0) {
        if (!would_block(errno))
            fail(tcp, "receive", errno);
        return;
    }
    if (count == 0) {
        fail(tcp, "closed before the answer was whole", 0);
        return;
    }
    tcp->answer.length += (size_t)count;
    whole = whole_length(tcp);
    if (whole && tcp->answer.length == whole)
        judge(tcp);
}

/* ---- connect and send ---- */

static void on_writable(void *owner)
{
    struct dns_tcp *tcp = owner;
    int error = 0;
    socklen_t error_bytes = sizeof error;
    ssize_t count;

    if (getsockopt(tcp->fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) < 0 || error) {
        fail(tcp, "connect", error ? error : errno);
        return;
    }
    count =
        send(tcp->fd, tcp->query + tcp->sent, tcp->query_length - tcp->sent, MSG_NOSIGNAL);
    if (count < 0) {
        if (!would_block(errno))
            fail(tcp, "send", errno);
        return;
    }
    tcp->sent += (size_t)count;
    if (tcp->sent < tcp->query_length)
        return;
    watch_stop(tcp->watch);
    tcp->watch = watch_start(tcp->loop, tcp->fd, WATCH_READABLE, on_readable, tcp);
}

static int connect_to(int fd, const struct endpoint *server)
{
    if (ip_is_v4(&server->ip)) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(server->port)};

        memcpy(&in.sin_addr, server->ip.bytes + 12, 4);
        return connect(fd, (const struct sockaddr *)&in, sizeof in);
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(server->port)};

    memcpy(&in6.sin6_addr, server->ip.bytes, sizeof server->ip.bytes);
    return connect(fd, (const struct sockaddr *)&in6, sizeof in6);
}

/* False with errno. */
static bool begin(struct dns_tcp *tcp, const struct endpoint *server)
{
    int family = ip_is_v4(&server->ip) ? AF_INET : AF_INET6;

    tcp->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (tcp->fd < 0)
        return false;
    if (connect_to(tcp->fd, server) < 0 && errno != EINPROGRESS)
        return false;
    tcp->watch = watch_start(tcp->loop, tcp->fd, WATCH_WRITABLE, on_writable, tcp);
    return true;
}

struct dns_tcp *dns_tcp_start(struct loop *loop, const struct dns_tcp_request *request,
                              dns_tcp_end_fn *on_end, void *owner)
{
    struct dns_tcp *tcp = NEW(struct dns_tcp);
    uint16_t id;
    size_t length;

    tcp->loop = loop;
    tcp->on_end = on_end;
    tcp->owner = owner;
    timer_init(&tcp->timer, loop, on_deadline, tcp);
    bytes_init(&tcp->answer, MOST_ANSWER_BYTES);
    secure_random(&id, sizeof id);
    length = dns_question_write(request->question, id, tcp->query + LENGTH_BYTES);
    tcp->query[0] = (uint8_t)(length >> 8);
    tcp->query[1] = (uint8_t)length;
    tcp->query_length = LENGTH_BYTES + length;
    if (!begin(tcp, request->server)) {
        (void)snprintf(tcp->failure, sizeof tcp->failure, "DNS over TCP: connect: %s",
                       strerror(errno));
        loop_defer(loop, &tcp->deferred, on_deferred_failure, tcp);
        return tcp;
    }
    timer_start(&tcp->timer, request->deadline_ms);
    return tcp;
}

void dns_tcp_cancel(struct dns_tcp *tcp)
{
    if (tcp)
        tcp_free(tcp);
}
