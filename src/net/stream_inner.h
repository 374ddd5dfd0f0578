/* The inside of a stream, for stream.c, stream_write.c and handshake.c. */
#ifndef SMTPD_NET_STREAM_INNER_H
#define SMTPD_NET_STREAM_INNER_H

#include "inner.h"
#include "tls_engine.h"

enum { STREAM_OUT_MAX = 16 << 20 };

struct handshake_count {
    unsigned running;
};

struct stream {
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    struct net *net;
    struct link link; /* among the room's streams */
    const struct stream_events *events;
    void *owner;
    struct bytes out; /* not yet given to libuv */
    size_t in_flight; /* given to libuv, not yet written */
    uint64_t written; /* ever, with these two */
    struct deferred flush;
    struct deferred broken; /* on_closed for what failed inside a call of the owner's */
    struct deferred resume;
    struct timer timer; /* of the handshake, then of closing */
    struct fault
        *fault; /* NULL: none yet. Most connections never have one, and rest long */
    struct endpoint peer;
    struct endpoint local;
    struct endpoint proxy;
    bool has_proxy;
    struct tls_engine *engine;
    struct job *job;    /* a handshake step on the pool */
    struct bytes early; /* came while a step ran */
    stream_secured_fn *on_secured;
    struct deferred secured;
    struct tls_facts *facts; /* NULL: plain */
    bool is_reading;
    bool is_paused;
    bool is_securing;
    bool is_client;  /* of TLS */
    bool may_resume; /* a session of before */
    bool begins_anew;
    bool is_counted; /* among the running handshakes */
    bool is_broken;  /* nothing can be sent or read any more */
    bool is_ended;   /* the peer says no more; it may still listen */
    bool is_whole;   /* and said so inside of TLS */
    bool closed_was_told;
    bool wants_drained;
    bool is_closing; /* the owner is gone */
    bool is_shut;    /* shutdown was asked for */
    bool is_uv_closed;
    bool is_orphan; /* the room is gone, only libuv holds this */
};

/* stream_write.c */
void stream_flush(struct stream *stream);
void stream_flush_later(struct stream *stream);        /* behind this turn of the loop */
void stream_take_engine_output(struct stream *stream); /* goes to the socket */

/* stream.c */
void stream_start_reading(struct stream *stream);
void stream_set_fault(struct stream *stream, enum result code, const char *text);
void stream_break(struct stream *stream, enum result code, const char *text);
void stream_break_uv(struct stream *stream, int status);
void stream_finish_close(struct stream *stream); /* once everything has left */
void stream_tell_closed_later(struct stream *stream);
void stream_resume_later(struct stream *stream); /* what has come is given from the loop */

/* handshake.c */
void handshake_step(struct stream *stream); /* there is input, and no step runs */
void handshake_count_out(struct stream *stream);

#endif
