/* Addresses and a port -> a stream: the attempts staggered (RFC 8305), the first that connects wins.
 *
 * Owns      the attempts under way: at most eight.
 * Promises  a failure starts the next attempt at once, silence after the stagger; the losers are
 *           closed, and all together take no longer than the time limit.
 * Ignores   which address ought to come first: the order is the caller's. */
#ifndef SMTPD_NET_DIALER_H
#define SMTPD_NET_DIALER_H

#include "smtpd/net/stream.h"

struct dial;
/* `stream` is the owner's, or NULL with a fault (of the last address that failed). */
typedef void dial_end_fn(void *owner, struct stream *stream, const struct fault *fault);

enum dial_outcome {
    DIAL_WON,    /* told last */
    DIAL_FAILED, /* and not by a fault of ours */
    DIAL_LATE    /* silent, when one that began a stagger later had connected */
};
/* What came of an address: before on_end, from the loop. Nothing is cancelled from here. */
typedef void dial_tried_fn(void *owner, const struct endpoint *address,
                           enum dial_outcome outcome);

/* Ours to bind to; NULL: none of that family, and its addresses are not used. */
struct dial_sources {
    const struct ip *v4;
    const struct ip *v6;
};

/* Can an address be bound to at all? RESULT_UNREACHABLE: it is not ours (now). */
enum result MUST_CHECK dial_source_check(const struct ip *source);

struct dial_request {
    const struct endpoint *addresses; /* in their order: see dial_interleave() */
    size_t count;
    const struct dial_sources *sources; /* NULL: the kernel chooses */
    int64_t delay_ms;                   /* the stagger; 0: 250 ms */
    int64_t timeout_ms;                 /* of all together */
    dial_tried_fn *on_tried;            /* may be NULL */
    void *tried_owner;
};

/* Copies the request. The completion rule (docs/architecture.md). */
struct dial *dial_start(struct net *net, const struct dial_request *request,
                        dial_end_fn *on_end, void *owner);
void dial_cancel(struct dial *dial);

/* RFC 8305 4: the families in turn; within each the order stays. */
void dial_interleave(struct endpoint *addresses, size_t count, bool is_v4_first);

#endif
