/* One datagram per word. They are sent without waiting: a manager that does not read is no
 * reason to stop serving mail. */
#include "systemd.h"

#include "smtpd/base/check.h"
#include "smtpd/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_FD = 3, WATCHDOG_LEAST_MS = 10 };

/* A positive number of the environment, or 0; the variable is gone then. */
static long take_number(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    long number = 0;

    if (text) {
        errno = 0;
        number = strtol(text, &end, 10);
        if (errno != 0 || end == text || *end || number < 0)
            number = 0;
    }
    (void)unsetenv(name);
    return number;
}

/* For us and nobody before us in a chain of processes. */
static bool is_for_us(const char *name)
{
    bool is_set = getenv(name) != NULL;
    long pid = take_number(name);

    return !is_set || pid == (long)getpid();
}

static void open_socket(struct systemd *systemd)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;

    systemd->fd = -1;
    if (length > 1 && length < sizeof systemd->address.sun_path &&
        (path[0] == '/' || path[0] == '@')) {
        systemd->address.sun_family = AF_UNIX;
        memcpy(systemd->address.sun_path, path, length);
        if (path[0] == '@') /* an abstract name */
            systemd->address.sun_path[0] = '\0';
        systemd->address_bytes =
            (unsigned)(offsetof(struct sockaddr_un, sun_path) + length);
        systemd->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    (void)unsetenv("NOTIFY_SOCKET");
}

static void say(const struct systemd *systemd, const char *words)
{
    if (systemd->fd >= 0)
        (void)sendto(systemd->fd, words, strlen(words), MSG_NOSIGNAL,
                     (const struct sockaddr *)&systemd->address, systemd->address_bytes);
}

static void on_timer(void *owner)
{
    struct systemd *systemd = owner;

    say(systemd, "WATCHDOG=1");
    timer_start(&systemd->timer, systemd->watchdog_ms);
}

void systemd_init(struct systemd *systemd, struct loop *loop)
{
    long usec;
    bool is_ours = is_for_us("WATCHDOG_PID");

    memset(systemd, 0, sizeof *systemd);
    open_socket(systemd);
    timer_init(&systemd->timer, loop, on_timer, systemd);
    usec = take_number("WATCHDOG_USEC");
    if (!is_ours || usec == 0)
        return;
    systemd->watchdog_ms = usec / 2000; /* twice in the time that is given */
    if (systemd->watchdog_ms < WATCHDOG_LEAST_MS)
        systemd->watchdog_ms = WATCHDOG_LEAST_MS;
}

enum result systemd_inherit(struct systemd *systemd, struct net *net, struct fault *fault)
{
    bool is_ours = getenv("LISTEN_PID") != NULL && is_for_us("LISTEN_PID");
    long count = take_number("LISTEN_FDS");
    enum result result = RESULT_OK;

    (void)unsetenv("LISTEN_FDNAMES");
    if (!is_ours)
        return RESULT_OK;
    if (count > SYSTEMD_SOCKETS_MAX)
        return fault_set(fault, RESULT_TOO_LARGE,
                         "%ld inherited sockets are more than the %d that can be used",
                         count, SYSTEMD_SOCKETS_MAX);
    for (long i = 0; i < count && result == RESULT_OK; i++) {
        struct listener *listener = NULL;

        result = listener_adopt(net, FIRST_FD + (int)i, &listener, fault);
        if (result == RESULT_OK)
            systemd->inherited[systemd->inherited_count++] = listener;
    }
    return result;
}

struct listener *systemd_take(struct systemd *systemd, const struct endpoint *endpoint)
{
    for (unsigned i = 0; i < systemd->inherited_count; i++) {
        struct listener *listener = systemd->inherited[i];

        if (!endpoint_equal(listener_endpoint(listener), endpoint))
            continue;
        systemd->inherited[i] = systemd->inherited[--systemd->inherited_count];
        return listener;
    }
    return NULL;
}

static void tell_unused(const struct listener *listener)
{
    char text[IP_TEXT];

    endpoint_print(listener_endpoint(listener), text);
    log_message(LOG_WARNING, "server.socket_unused",
                "the service manager gave a socket for %s, but no [[listen]] table has "
                "this address: its clients wait until a reload brings one",
                text);
}

void systemd_give_back(struct systemd *systemd, struct listener *listener)
{
    listener_stop(listener);
    tell_unused(listener);
    CHECK(systemd->inherited_count < SYSTEMD_SOCKETS_MAX); /* it came from here */
    systemd->inherited[systemd->inherited_count++] = listener;
}

void systemd_tell_unused(const struct systemd *systemd)
{
    for (unsigned i = 0; i < systemd->inherited_count; i++)
        tell_unused(systemd->inherited[i]);
}

void systemd_ready(struct systemd *systemd)
{
    say(systemd, "READY=1\nSTATUS=Serving mail");
    if (systemd->watchdog_ms > 0)
        timer_start(&systemd->timer, 0);
}

void systemd_reloading(struct systemd *systemd)
{
    struct timespec now = {0};
    char words[96];

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    (void)snprintf(words, sizeof words,
                   "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Reading the configuration",
                   (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    say(systemd, words);
}

void systemd_stopping(struct systemd *systemd)
{
    say(systemd, "STOPPING=1\nSTATUS=Leaving: what is in hand may finish");
}

void systemd_fini(struct systemd *systemd)
{
    while (systemd->inherited_count > 0)
        listener_close(systemd->inherited[--systemd->inherited_count]);
    timer_cancel(&systemd->timer);
    if (systemd->fd >= 0)
        (void)close(systemd->fd);
    systemd->fd = -1;
}
