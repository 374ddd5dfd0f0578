/* The PROXY protocol, versions 1 and 2, as a load balancer writes it in front of a
 * connection: who the client behind it is.
 *
 * Promises  pure; looks at no byte behind the header; a header is at most
 *           PROXY_HEADER_MAX bytes.
 * Ignores   who may write one: see listener.h.
 */
#ifndef SMTPD_NET_PROXY_PROTOCOL_H
#define SMTPD_NET_PROXY_PROTOCOL_H

#include "smtpd/base/ip.h"

enum { PROXY_HEADER_MAX = 4096 };

struct proxy_header {
    /* false: the balancer speaks for itself (LOCAL, UNKNOWN), or of no TCP connection: the
     * addresses of the connection hold. */
    bool has_client;
    struct endpoint client;
    struct endpoint server; /* where the client connected to */
    size_t length; /* RESULT_OK: of the header; RESULT_AGAIN: at least so many bytes
                             * are needed to say more */
};

/* `bytes` begin at the connection's first byte. RESULT_OK, RESULT_AGAIN (incomplete),
 * RESULT_INVALID (no header, or a broken one: close). */
enum result MUST_CHECK proxy_header_parse(struct slice bytes, struct proxy_header *header);

#endif
