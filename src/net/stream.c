/* One connection, plain or TLS. Its writing is in stream_write.c.
 *
 *   new --stream_start--> open --stream_secure_*--> securing --> open (TLS)
 *   open --stream_close--> closing (flush, shutdown, wait for the peer) --> freed
 */
#include "smtpd/net/stream.h"

#include "inner.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/loop/uv_handle.h"
#include "stream_inner.h"

#include <string.h>

enum {
    CLOSE_MS = 5000, /* for the last words to leave and the peer to go */
    HANDSHAKES_MAX = 1000,
    HANDSHAKES_PER_ADDRESS_MAX = 100,
    ADDRESSES_MAX = 100000,
    PLAIN_PIECE = 16384
};

/* A connection rests most of its life: with the session on it, it is to stay below 2 KiB. */
_Static_assert(sizeof(struct stream) <= 768, "an idle connection has grown");

/* ---- the room ---- */

struct net *net_new(struct loop *loop, struct offload *offload,
                    const struct tls_settings *tls)
{
    struct net *net = NEW(struct net);

    net->loop = loop;
    net->offload = offload;
    net->uv = loop_uv(loop);
    net->tls = *tls;
    if (net->tls.handshakes_max == 0)
        net->tls.handshakes_max = HANDSHAKES_MAX;
    if (net->tls.handshakes_per_address_max == 0)
        net->tls.handshakes_per_address_max = HANDSHAKES_PER_ADDRESS_MAX;
    net->handshakes_by_address = map_new(ADDRESSES_MAX);
    list_init(&net->streams);
    return net;
}

void net_statistics(const struct net *net, struct net_statistics *statistics)
{
    *statistics = net->statistics;
}

/* ---- life ---- */

struct stream *stream_new(struct net *net)
{
    struct stream *stream = NEW(struct stream);

    stream->net = net;
    bytes_init(&stream->out, STREAM_OUT_MAX);
    CHECK(uv_tcp_init(net->uv, &stream->tcp) == 0);
    stream->tcp.data = stream;
    net->statistics.streams++;
    list_push_back(&net->streams, &stream->link);
    return stream;
}

uv_tcp_t *stream_tcp(struct stream *stream)
{
    return &stream->tcp;
}

void stream_connected(struct stream *stream)
{
    struct sockaddr_storage address;
    int length = sizeof address;

    (void)uv_tcp_nodelay(&stream->tcp, 1);
    if (uv_tcp_getpeername(&stream->tcp, (struct sockaddr *)&address, &length) == 0)
        endpoint_from_sockaddr(&address, &stream->peer);
    length = sizeof address;
    if (uv_tcp_getsockname(&stream->tcp, (struct sockaddr *)&address, &length) == 0)
        endpoint_from_sockaddr(&address, &stream->local);
}

void stream_set_client(struct stream *stream, const struct proxy_header *header)
{
    stream->has_proxy = true;
    stream->proxy = stream->peer;
    if (!header->has_client)
        return;
    stream->peer = header->client;
    stream->local = header->server;
}

static void on_uv_closed(uv_handle_t *handle)
{
    struct stream *stream = handle->data;

    if (!stream->is_orphan) {
        stream->net->statistics.streams--;
        list_remove(&stream->net->streams, &stream->link);
    }
    bytes_fini(&stream->out);
    bytes_fini(&stream->early);
    memory_free(stream->fault);
    memory_free(stream->facts);
    memory_free(stream);
}

/* A handshake step that runs keeps the engine until it ends: the job's drop frees it. */
static void let_go_of_engine(struct stream *stream)
{
    if (stream->job)
        job_cancel(stream->job);
    else
        tls_engine_free(stream->engine);
    stream->job = NULL;
    stream->engine = NULL;
}

static void close_handle(struct stream *stream)
{
    if (stream->is_uv_closed)
        return;
    stream->is_uv_closed = true;
    stream->is_closing = true;
    handshake_count_out(stream);
    let_go_of_engine(stream);
    deferred_cancel(stream->net->loop, &stream->flush);
    deferred_cancel(stream->net->loop, &stream->broken);
    deferred_cancel(stream->net->loop, &stream->resume);
    deferred_cancel(stream->net->loop, &stream->secured);
    if (stream->timer.loop)
        timer_cancel(&stream->timer);
    uv_close((uv_handle_t *)&stream->tcp, on_uv_closed);
}

void stream_abort(struct stream *stream)
{
    close_handle(stream);
}

void net_free(struct net *net)
{
    struct handshake_count *count;
    struct link *link;
    size_t position = 0;

    /* What still says its last words has had its time. libuv gives the handles back in the
     * last turns of the loop, when this room is no more. */
    while ((link = list_pop_front(&net->streams))) {
        struct stream *stream = CONTAINER_OF(link, struct stream, link);

        CHECK(stream->is_closing); /* its owner let go of it */
        close_handle(stream);
        stream->is_orphan = true;
    }
    while ((count = map_next(net->handshakes_by_address, &position, NULL)))
        memory_free(count);
    map_free(net->handshakes_by_address);
    while (net->spare_count > 0)
        bytes_fini(&net->spares[--net->spare_count]);
    memory_free(net);
}

/* ---- failure ---- */

static void tell_closed(void *owner)
{
    struct stream *stream = owner;

    if (stream->is_closing || stream->closed_was_told)
        return;
    stream->closed_was_told = true;
    if (stream->on_secured) {
        stream_secured_fn *on_secured = stream->on_secured;

        stream->on_secured = NULL;
        tls_engine_forget_session(stream->engine);
        on_secured(stream->owner, stream->fault);
    } else if (stream->events) {
        stream->events->on_closed(stream->owner, stream->fault);
    }
}

void stream_set_fault(struct stream *stream, enum result code, const char *text)
{
    if (!stream->fault)
        stream->fault = NEW(struct fault);
    (void)fault_set(stream->fault, code, "%s", text);
}

void stream_break(struct stream *stream, enum result code, const char *text)
{
    if (stream->is_broken)
        return;
    stream->is_broken = true;
    stream_set_fault(stream, code, text);
    if (stream->is_reading)
        (void)uv_read_stop((uv_stream_t *)&stream->tcp);
    stream->is_reading = false;
    if (stream->is_closing)
        close_handle(stream);
    else
        loop_defer(stream->net->loop, &stream->broken, tell_closed, stream);
}

void stream_tell_closed_later(struct stream *stream)
{
    loop_defer(stream->net->loop, &stream->broken, tell_closed, stream);
}

/* The peer's last byte was read. What it asked for may still be answered (RFC 9293 3.6: a
 * connection is closed one way at a time), so that is no break, but in a handshake. */
static void end_input(struct stream *stream)
{
    static const char words[] = "the peer closed the connection";

    if (stream->is_securing) {
        stream_break(stream, RESULT_CLOSED, words);
        return;
    }
    if (stream->is_broken || stream->is_ended)
        return;
    stream->is_ended = true;
    stream_set_fault(stream, RESULT_CLOSED, words);
    if (stream->is_reading)
        (void)uv_read_stop((uv_stream_t *)&stream->tcp);
    stream->is_reading = false;
    loop_defer(stream->net->loop, &stream->broken, tell_closed, stream);
}

void stream_break_uv(struct stream *stream, int status)
{
    stream_break(stream, result_of_uv(status), uv_strerror(status));
}

/* ---- reading ---- */

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct stream *stream = handle->data;

    (void)suggested;
    *buffer = uv_buf_init(stream->net->read_buffer, NET_READ_BUFFER);
}

static bool may_deliver(const struct stream *stream)
{
    return !stream->is_closing && !stream->is_paused && !stream->is_securing &&
           !stream->closed_was_told;
}

static void on_plain(struct stream *stream, struct slice bytes)
{
    if (stream->events && may_deliver(stream))
        stream->events->on_bytes(stream->owner, bytes);
}

/* Decrypts what is there, until the owner pauses. */
static void read_engine(struct stream *stream)
{
    while (may_deliver(stream)) {
        char plain[PLAIN_PIECE];
        size_t length = 0;
        enum result result = tls_engine_read(stream->engine, plain, sizeof plain, &length);

        if (result == RESULT_AGAIN)
            break;
        if (result == RESULT_CLOSED) {
            stream->is_whole = true;
            end_input(stream);
            break;
        }
        if (result != RESULT_OK) {
            stream_break(stream, result, "the TLS connection is broken");
            return;
        }
        on_plain(stream, (struct slice){plain, length});
    }
    if (stream->engine)
        stream_take_engine_output(stream); /* alerts, key updates */
}

static void on_ciphertext(struct stream *stream, struct slice bytes)
{
    if (tls_engine_feed(stream->engine, bytes) != RESULT_OK) {
        stream_break(stream, RESULT_TLS, "the peer sent too much during the TLS handshake");
        return;
    }
    if (!stream->is_securing)
        read_engine(stream);
    else if (!stream->job)
        handshake_step(stream);
}

static void on_read(uv_stream_t *uv_stream, ssize_t count, const uv_buf_t *buffer)
{
    struct stream *stream = uv_stream->data;

    if (count == 0)
        return;
    if (stream->is_closing) {
        if (count < 0)
            close_handle(stream); /* the peer is gone too */
        return;
    }
    if (count == UV_EOF) {
        end_input(stream);
        return;
    }
    if (count < 0) {
        stream_break_uv(stream, (int)count);
        return;
    }
    if (!stream->engine) {
        on_plain(stream, (struct slice){buffer->base, (size_t)count});
        return;
    }
    /* A step on the pool owns the engine: its input must wait outside. */
    if (stream->job) {
        (void)uv_read_stop(uv_stream);
        stream->is_reading = false;
        if (bytes_add(&stream->early, (struct slice){buffer->base, (size_t)count}) !=
            RESULT_OK)
            stream_break(stream, RESULT_TLS,
                         "the peer sent too much during the TLS handshake");
        return;
    }
    on_ciphertext(stream, (struct slice){buffer->base, (size_t)count});
}

void stream_start_reading(struct stream *stream)
{
    if (stream->is_reading || stream->is_broken || stream->is_ended || stream->is_uv_closed)
        return;
    if (uv_read_start((uv_stream_t *)&stream->tcp, give_buffer, on_read) == 0)
        stream->is_reading = true;
}

void stream_start(struct stream *stream, const struct stream_events *events, void *owner)
{
    stream->events = events;
    stream->owner = owner;
    if ((stream->is_broken || stream->is_ended) && !stream->closed_was_told)
        stream_tell_closed_later(stream);
    stream_start_reading(stream);
}

void stream_pause(struct stream *stream)
{
    stream->is_paused = true;
    if (stream->is_reading && !stream->is_securing) {
        (void)uv_read_stop((uv_stream_t *)&stream->tcp);
        stream->is_reading = false;
    }
}

/* Decrypted bytes may wait: they are given from the loop, never inside the call. */
static void on_resumed(void *owner)
{
    struct stream *stream = owner;

    if (stream->is_closing || stream->is_paused)
        return;
    if (stream->engine && !stream->is_securing)
        read_engine(stream);
    if (!stream->is_closing && !stream->is_paused)
        stream_start_reading(stream);
}

void stream_resume_later(struct stream *stream)
{
    loop_defer(stream->net->loop, &stream->resume, on_resumed, stream);
}

void stream_resume(struct stream *stream)
{
    if (!stream->is_paused || stream->is_closing)
        return;
    stream->is_paused = false;
    stream_resume_later(stream);
}

/* ---- closing ---- */

static void on_close_timeout(void *owner)
{
    close_handle(owner);
}

static void on_shut(uv_shutdown_t *request, int status)
{
    struct stream *stream = request->handle->data;

    /* Whoever said no more before hears our last words, and then there is nobody to wait for. */
    if ((status < 0 || stream->is_ended) && !stream->is_uv_closed)
        close_handle(stream);
}

/* Everything is written: say that no more comes, and read on until the peer goes too.
 * Closing at once, with input unread, would reset the connection and lose the last reply.
 */
void stream_finish_close(struct stream *stream)
{
    if (stream->is_uv_closed || stream_unsent(stream) > 0 || stream->is_shut)
        return;
    stream->is_shut = true;
    if (uv_shutdown(&stream->shutdown, (uv_stream_t *)&stream->tcp, on_shut) != 0) {
        close_handle(stream);
        return;
    }
    if (!stream->is_ended)
        stream_start_reading(stream);
}

void stream_close(struct stream *stream)
{
    if (stream->is_closing)
        return;
    stream->is_closing = true;
    handshake_count_out(stream);
    deferred_cancel(stream->net->loop, &stream->broken);
    if (stream->is_securing && stream->engine) /* or the next one would stall as well */
        tls_engine_forget_session(stream->engine);
    /* In a handshake there are no last words, and its step must not come back to the owner. */
    if (stream->is_broken || stream->is_securing) {
        close_handle(stream);
        return;
    }
    if (stream->engine) {
        tls_engine_say_goodbye(stream->engine);
        stream_take_engine_output(stream);
    }
    timer_init(&stream->timer, stream->net->loop, on_close_timeout, stream);
    timer_start(&stream->timer, CLOSE_MS);
    stream_flush_later(stream);
}

/* ---- facts ---- */

bool stream_is_whole(const struct stream *stream)
{
    return stream->is_whole;
}

const struct endpoint *stream_peer(const struct stream *stream)
{
    return &stream->peer;
}

const struct endpoint *stream_proxy(const struct stream *stream)
{
    return stream->has_proxy ? &stream->proxy : NULL;
}

const struct endpoint *stream_local(const struct stream *stream)
{
    return &stream->local;
}

const struct tls_facts *stream_tls(const struct stream *stream)
{
    static const struct tls_facts plain;

    return stream->facts ? stream->facts : &plain;
}

enum tls_flaw stream_tls_flaw(const struct stream *stream)
{
    return stream->engine ? tls_engine_flaw(stream->engine) : TLS_FLAW_NONE;
}
