/* The header is peeked at until it is whole, then read exactly: what stands behind it is
 * the client's (a TLS hello, at once). SO_RCVLOWAT keeps the loop from turning on a half
 * header. Rejected: reading it through a stream, which would then have to give bytes back
 * to a TLS engine that does not exist yet. */
#include "proxy_wait.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000 };

struct proxy_waits {
    struct net *net;
    proxy_ready_fn *on_ready;
    void *owner;
    struct list waiting;
};

struct proxy_wait {
    struct link link;
    struct proxy_waits *waits;
    struct watch *watch;
    struct timer timer;
    struct endpoint balancer;
    size_t seen;
    int fd;
};

static void forget(struct proxy_wait *wait)
{
    list_remove(&wait->waits->waiting, &wait->link);
    timer_cancel(&wait->timer);
    watch_stop(wait->watch);
    memory_free(wait);
}

/* A balancer that looks whether the port is open says nothing and goes: no news. */
static void log_refused(const struct endpoint *balancer, enum log_level level,
                        const char *reason)
{
    struct log_line line;
    char text[IP_TEXT];

    ip_print(&balancer->ip, text);
    log_start(&line, level, "net.proxy_refused");
    log_text(&line, "proxy", text);
    log_text(&line, "message", reason);
    log_end(&line);
}

static void give_up(struct proxy_wait *wait, enum log_level level, const char *reason)
{
    int fd = wait->fd;

    log_refused(&wait->balancer, level, reason);
    forget(wait);
    (void)close(fd);
}

static void wait_for(const struct proxy_wait *wait, size_t bytes)
{
    int least = (int)bytes;

    (void)setsockopt(wait->fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least);
}

static void take(struct proxy_wait *wait, const struct proxy_header *header)
{
    struct proxy_waits *waits = wait->waits;
    char bytes[PROXY_HEADER_MAX];
    int fd = wait->fd;

    if (recv(fd, bytes, header->length, 0) != (ssize_t)header->length) {
        give_up(wait, LOG_WARNING, "the header could not be read");
        return;
    }
    wait_for(wait, 1);
    forget(wait);
    waits->on_ready(waits->owner, fd, header);
}

static void on_readable(void *owner)
{
    struct proxy_wait *wait = owner;
    char bytes[PROXY_HEADER_MAX];
    struct proxy_header header;
    ssize_t count = recv(wait->fd, bytes, sizeof bytes, MSG_PEEK);
    enum result result;

    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    /* Woken without a new byte: nothing more will come. */
    if (count <= 0 || (size_t)count == wait->seen) {
        give_up(wait, wait->seen > 0 ? LOG_WARNING : LOG_DEBUG,
                "closed before its PROXY header was whole");
        return;
    }
    wait->seen = (size_t)count;
    result = proxy_header_parse((struct slice){bytes, (size_t)count}, &header);
    if (result == RESULT_OK)
        take(wait, &header);
    else if (result == RESULT_AGAIN)
        wait_for(wait, header.length);
    else
        give_up(wait, LOG_WARNING,
                "no PROXY header in front: set proxy_protocol = false on this listener, or "
                "let the balancer send it");
}

static void on_timer(void *owner)
{
    give_up(owner, LOG_WARNING, "no whole PROXY header in ten seconds");
}

void proxy_waits_take(struct proxy_waits *waits, int fd, const struct endpoint *balancer)
{
    struct proxy_wait *wait;

    if (waits->waiting.count >= LIMIT_PROXY_WAITING) {
        log_refused(balancer, LOG_WARNING, "too many connections wait for their header");
        (void)close(fd);
        return;
    }
    wait = NEW(struct proxy_wait);
    wait->waits = waits;
    wait->fd = fd;
    wait->balancer = *balancer;
    list_push_back(&waits->waiting, &wait->link);
    timer_init(&wait->timer, waits->net->loop, on_timer, wait);
    timer_start(&wait->timer, PATIENCE_MS);
    wait->watch = watch_start(waits->net->loop, fd, WATCH_READABLE, on_readable, wait);
}

struct proxy_waits *proxy_waits_new(struct net *net, proxy_ready_fn *on_ready, void *owner)
{
    struct proxy_waits *waits = NEW(struct proxy_waits);

    waits->net = net;
    waits->on_ready = on_ready;
    waits->owner = owner;
    list_init(&waits->waiting);
    return waits;
}

void proxy_waits_free(struct proxy_waits *waits)
{
    struct link *link;

    if (!waits)
        return;
    while ((link = list_first(&waits->waiting))) {
        struct proxy_wait *wait = CONTAINER_OF(link, struct proxy_wait, link);
        int fd = wait->fd;

        forget(wait);
        (void)close(fd);
    }
    memory_free(waits);
}
