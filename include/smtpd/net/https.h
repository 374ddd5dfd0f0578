/* One GET or POST over HTTPS: no redirects, no cache, no proxy, no cookies.
 *
 * Owns      its connection, the answer as far as it came.
 * Promises  the completion rule (docs/architecture.md). The certificate is valid for `host` and
 *           leads to an authority of `tls`, or nothing is asked. Ends within `deadline_ms`,
 *           whatever the other side does; at most `body_max` bytes of body are held.
 * Ignores   names: the addresses are given.
 */
#ifndef SMTPD_NET_HTTPS_H
#define SMTPD_NET_HTTPS_H

#include "smtpd/net/stream.h"

struct https_request { /* lives during the call of https_start() only */
    const struct endpoint *addresses;
    size_t address_count;
    const char *host;
    const char *path;       /* "/x" */
    const char *media_type; /* that the answer must have */
    const char *
        body_type; /* POST, of `body`; any 2xx will do, whatever comes with it. NULL: GET */
    struct slice body; /* copied */
    size_t body_max;
    int64_t deadline_ms;
    struct tls_client *tls; /* referenced */
};

enum https_result {
    HTTPS_OK,
    HTTPS_NO_CONNECTION, /* none, or it broke, or took too long */
    HTTPS_NO_TLS,        /* the handshake or the certificate */
    HTTPS_NO_ANSWER      /* not 200 (POST: 2xx), another type, too long, no HTTP */
};

struct https;
/* `body` lives during the call; `fault` says what was wrong, with the address. */
typedef void https_end_fn(void *owner, enum https_result result, struct slice body,
                          const struct fault *fault);

struct https *https_start(struct net *net, const struct https_request *request,
                          https_end_fn *on_end, void *owner);
void https_cancel(struct https *https); /* NULL is fine */

#endif
