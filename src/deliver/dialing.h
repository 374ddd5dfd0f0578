/* The addresses of a host in the order in which they are tried, and what is learned of each. */
#ifndef SMTPD_DELIVER_DIALING_H
#define SMTPD_DELIVER_DIALING_H

#include "inner.h"

struct dialing { /* lives as long as its dial */
    struct destination *destination;
    const struct plan_host *host;
    struct endpoint failed[LIMIT_HOST_ADDRESSES];
    size_t failed_count;
};

/* IPv6 and IPv4 in turn, then those of a family that stands behind, then the addresses that are known
 * to be dead. Returns how many. */
size_t dialing_order(struct destination *destination, const struct plan_host *host,
                     struct endpoint addresses[LIMIT_HOST_ADDRESSES]);
struct dial *dialing_start(struct dialing *dialing, const struct deliver_timeouts *timeouts,
                           dial_end_fn *on_end, void *owner);
void dialing_tried(void *owner, const struct endpoint *address, enum dial_outcome outcome);
/* It connected, and broke before it took mail: the host has others. */
void dialing_blame(struct destination *destination, const struct plan_host *host,
                   const struct endpoint *address);

#endif
