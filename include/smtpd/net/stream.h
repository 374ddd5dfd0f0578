/* One duplex byte stream, plain or TLS.
 *
 * Owns      the socket, unsent output, the TLS engine.
 * Promises  callbacks run from the loop, never inside a call of this door; none after
 *           stream_close() or stream_abort(). An idle stream holds no read buffer: all
 *           streams share one. Output is bounded by the caller, who looks at
 *           stream_unsent() or the return of stream_write() and waits for on_drained.
 * Ignores   what the bytes mean.
 */
#ifndef SMTPD_NET_STREAM_H
#define SMTPD_NET_STREAM_H

#include "smtpd/base/ip.h"
#include "smtpd/net/tls.h"

struct net; /* loop, pools, counters of this room; made once */
struct stream;

struct net *net_new(struct loop *loop, struct offload *offload,
                    const struct tls_settings *tls);
/* Every owner has closed its streams. Those that still send are cut off. */
void net_free(struct net *net);
struct net_statistics {
    uint64_t streams; /* open now */
    uint64_t handshakes_running;
    uint64_t handshakes_done;
    uint64_t handshakes_failed;
    uint64_t handshakes_refused; /* by the caps */
    struct net_handshakes {
        uint64_t done;
        uint64_t failed;
        uint64_t resumed; /* of those done */
    } in, out;
};
void net_statistics(const struct net *net, struct net_statistics *statistics);

struct stream_events {
    /* `bytes` lives during the call only. The owner takes all of it. */
    void (*on_bytes)(void *owner, struct slice bytes);
    /* The peer said its last (RESULT_CLOSED: it may still listen, and what is written goes
     * out) or the connection broke. Called once; sooner or later the owner calls
     * stream_close(). */
    void (*on_closed)(void *owner, const struct fault *why);
    /* Unsent output fell to zero after stream_write() had said RESULT_AGAIN. May be NULL.
     */
    void (*on_drained)(void *owner);
};

/* A new stream reads nothing until stream_start(). */
void stream_start(struct stream *stream, const struct stream_events *events, void *owner);
/* Copies (or sends at once) all of `bytes`. RESULT_OK, or RESULT_AGAIN when more than 64
 * KiB are unsent now: the bytes are taken all the same, but write no more before
 * on_drained. A broken stream takes everything silently; on_closed tells. */
enum result stream_write(struct stream *stream, struct slice bytes);
/* The same for two parts that belong together: they leave in one segment where they can. */
enum result stream_write_both(struct stream *stream, struct slice first,
                              struct slice second);
size_t stream_unsent(const struct stream *stream);
/* Bytes on the wire, of the handshake and of records too: all that were made; those that are unsent
 * are the last of them. */
uint64_t stream_written(const struct stream *stream);
void stream_pause(struct stream *stream); /* no on_bytes (the kernel's buffer fills) */
void stream_resume(struct stream *stream);
/* Sends what is unsent (for at most 5 s; TLS: then close_notify), then closes. Frees
 * itself. */
void stream_close(struct stream *stream);
void stream_abort(struct stream *stream); /* at once */

typedef void stream_secured_fn(void *owner, const struct fault *fault); /* NULL: secured */

/* Starts the handshake behind what was written before. Bytes read from now on are TLS;
 * bytes that on_bytes gave before are the owner's to forget (RFC 3207 4.2). `on_end` runs
 * once; after a failure the stream is of no more use: close it. Until then nothing can be
 * said: what is written is dropped, and a close is an abort. RESULT_BUSY: the caps of
 * tls_settings are reached, nothing was started. */
enum result MUST_CHECK stream_secure_server(struct stream *stream,
                                            struct tls_server *server,
                                            stream_secured_fn *on_end);
/* Whether the caps would let a handshake start now: a server asks before it says "go
 * ahead". */
bool stream_may_secure(const struct stream *stream);
/* `name`: sent as SNI (unless it is an address literal) and what the certificate must fit.
 */
enum result MUST_CHECK stream_secure_client(struct stream *stream,
                                            struct tls_client *client, enum tls_level level,
                                            const char *name, stream_secured_fn *on_end);

/* The same by DANE: a certificate that does not fit the set is a failure (RESULT_UNTRUSTED), one
 * that does is good whoever signed it. The server is asked for the first name of the set. On
 * RESULT_OK the set is the stream's. */
enum result MUST_CHECK stream_secure_client_dane(struct stream *stream,
                                                 struct tls_client *client,
                                                 struct tlsa_set *set,
                                                 stream_secured_fn *on_end);

/* Before stream_secure_client: a session that was kept of this peer, from this address of ours, with
 * the same client, level, name and records, may be resumed. Its verdict is that of the handshake that
 * it began with, at most an hour ago. `begins_anew`: none is, and those to come are kept. */
void stream_allow_resumption(struct stream *stream, bool begins_anew);
/* One was offered: when that handshake fails, the next one begins anew. */
bool stream_offered_session(const struct stream *stream);

/* TLS: the peer said itself that it has said its last (close_notify). An end without that may be
 * anybody's doing. */
bool stream_is_whole(const struct stream *stream);
const struct endpoint *stream_peer(const struct stream *stream);
/* The balancer that said who the peer is; NULL: nobody did. */
const struct endpoint *stream_proxy(const struct stream *stream);
const struct endpoint *stream_local(const struct stream *stream);
const struct tls_facts *stream_tls(const struct stream *stream);
/* Of a handshake that ended, well or not: of one that failed for the certificate's sake. */
enum tls_flaw stream_tls_flaw(const struct stream *stream);

#endif
