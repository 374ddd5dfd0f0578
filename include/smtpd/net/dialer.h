/* Addresses and a port -> a stream: in turn, each with its time limit. */
#ifndef SMTPD_NET_DIALER_H
#define SMTPD_NET_DIALER_H

#include "smtpd/net/stream.h"

struct dial;
/* `stream` is the owner's, or NULL with a fault (of the last address tried). */
typedef void dial_end_fn(void *owner, struct stream *stream, const struct fault *fault);

/* Copies the addresses. `source` (may be NULL) is the local address for its family;
 * addresses of the other family are skipped. The completion rule (docs/architecture.md). */
struct dial *dial_start(struct net *net, const struct endpoint *addresses, size_t count,
                        const struct ip *source, int64_t timeout_each_ms,
                        dial_end_fn *on_end, void *owner);
void dial_cancel(struct dial *dial);

#endif
