/* What a service manager asks of a process: to say when it is ready, reloads and leaves, to
 * say now and then that it lives, and to use the sockets that it was given.
 *
 * Owns      the notification socket, the inherited listeners while nobody has taken them.
 * Promises  without NOTIFY_SOCKET, WATCHDOG_USEC and LISTEN_FDS in the environment nothing
 *           happens. The variables are removed, so that no child takes them for its own.
 * Ignores   which manager it is: the protocol (sd_notify(3), sd_listen_fds(3)) is a few
 *           words, and a library for it would bring more than it saves.
 */
#ifndef SMTPD_SERVER_SYSTEMD_H
#define SMTPD_SERVER_SYSTEMD_H

#include "smtpd/net/listener.h"

#include <sys/un.h>

enum { SYSTEMD_SOCKETS_MAX = 64 };

struct systemd {
    int fd; /* -1: nobody wants to be told */
    struct sockaddr_un address;
    unsigned address_bytes;
    int64_t watchdog_ms; /* 0: nobody watches */
    struct timer timer;
    struct listener *inherited[SYSTEMD_SOCKETS_MAX];
    unsigned inherited_count;
};

void systemd_init(struct systemd *systemd, struct loop *loop);
/* The sockets of socket activation. A descriptor that is no listening TCP socket is a
 * fault. */
enum result MUST_CHECK systemd_inherit(struct systemd *systemd, struct net *net,
                                       struct fault *fault);
/* The inherited listener of this address, the caller's from now on; or NULL. */
struct listener *systemd_take(struct systemd *systemd, const struct endpoint *endpoint);
/* One that was taken and is not wanted any more: it is stopped, named in the log and kept, because the
 * manager holds the port, and a later reload can have it from here only. */
void systemd_give_back(struct systemd *systemd, struct listener *listener);
/* Names those that no [[listen]] wanted. */
void systemd_tell_unused(const struct systemd *systemd);

void systemd_ready(struct systemd *systemd); /* at the start, and behind a reload */
void systemd_reloading(struct systemd *systemd);
void systemd_stopping(struct systemd *systemd);
void systemd_fini(struct systemd *systemd);

#endif
