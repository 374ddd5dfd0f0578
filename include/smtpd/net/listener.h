/* Bound sockets -> new streams.
 *
 * Promises  out of descriptors: the connection is accepted by a spare descriptor, told
 *           "421 4.3.2" and closed, so that clients do not hang; logged once a minute.
 */
#ifndef SMTPD_NET_LISTENER_H
#define SMTPD_NET_LISTENER_H

#include "smtpd/net/stream.h"

struct listener;
typedef void listener_stream_fn(void *owner, struct listener *listener,
                                struct stream *stream);

/* Bound and listening (backlog 4096), but nothing is accepted before listener_start().
 * The fault names the address and the reason. Port 0 is fine for tests. */
enum result MUST_CHECK listener_open(struct net *net, const struct endpoint *endpoint,
                                     struct listener **listener, struct fault *fault);
/* The same as a bare descriptor, for a library that accepts by itself. The caller closes it.
 * `bound`: with the port that the kernel chose. */
enum result MUST_CHECK listener_open_socket(const struct endpoint *endpoint, int *fd,
                                            struct endpoint *bound, struct fault *fault);
/* The same around a socket that the process was given, bound and listening. RESULT_INVALID:
 * it is none. */
enum result MUST_CHECK listener_adopt(struct net *net, int fd, struct listener **listener,
                                      struct fault *fault);
void listener_start(struct listener *listener, listener_stream_fn *on_stream, void *owner);
/* The socket goes on listening, and clients wait in the kernel, until listener_start() is called again.
 * Who is about to write a PROXY header is let go. */
void listener_stop(struct listener *listener);
/* From now on every connection must come from one of these networks and begin with a
 * PROXY header (v1 or v2), which says who the client is; others are closed and logged. No
 * networks: connections are what they seem. Copies. */
void listener_expect_proxy(struct listener *listener, const struct network *balancers,
                           size_t count);
void listener_close(struct listener *listener); /* frees itself */
const struct endpoint *listener_endpoint(const struct listener *listener); /* as bound */

#endif
