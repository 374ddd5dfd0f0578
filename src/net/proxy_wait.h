/* Accepted connections whose PROXY header has not come yet.
 *
 * Owns      the descriptors that wait, at most LIMIT_PROXY_WAITING, each for at most ten
 *           seconds.
 * Promises  takes the header off the socket and not a byte more. `on_ready` from the loop:
 *           the descriptor is the callee's then. What comes to nothing is closed and logged.
 */
#ifndef SMTPD_NET_PROXY_WAIT_H
#define SMTPD_NET_PROXY_WAIT_H

#include "inner.h"
#include "smtpd/net/proxy_protocol.h"

struct proxy_waits;
typedef void proxy_ready_fn(void *owner, int fd, const struct proxy_header *header);

struct proxy_waits *proxy_waits_new(struct net *net, proxy_ready_fn *on_ready, void *owner);
/* Takes the descriptor; closes it at once when too many wait. */
void proxy_waits_take(struct proxy_waits *waits, int fd, const struct endpoint *balancer);
void proxy_waits_free(struct proxy_waits *waits); /* NULL is fine; not inside on_ready */

#endif
