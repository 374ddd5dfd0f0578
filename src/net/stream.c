/* One connection, plain or TLS.
 *
 * Small writes of one turn of the loop leave together: they gather in `out` and are flushed
 * behind the turn (or at 16 KiB), so that the replies to a pipelined batch are one segment.
 *
 *   new --stream_start--> open --stream_secure_*--> securing --> open (TLS)
 *   open --stream_close--> closing (flush, shutdown, wait for the peer) --> freed
 */
#include "smtpd/net/stream.h"

#include "inner.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/loop/uv_handle.h"
#include "tls_engine.h"

#include <string.h>

enum {
    FLUSH_AT = 16384,
    UNSENT_MARK = 65536,
    OUT_MAX = 16 << 20,
    EARLY_MAX = 262144, /* ciphertext that came during a handshake step */
    CLOSE_MS = 5000,    /* for the last words to leave and the peer to go */
    HANDSHAKE_MS = 60000,
    HANDSHAKES_MAX = 1000,
    HANDSHAKES_PER_ADDRESS_MAX = 100,
    ADDRESSES_MAX = 100000,
    PLAIN_PIECE = 16384
};

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
    struct deferred flush;
    struct deferred broken; /* on_closed for what failed inside a call of the owner's */
    struct deferred resume;
    struct timer timer; /* of the handshake, then of closing */
    struct fault fault;
    struct endpoint peer;
    struct endpoint local;
    struct endpoint proxy;
    bool has_proxy;
    struct tls_engine *engine;
    struct job *job;    /* a handshake step on the pool */
    struct bytes early; /* came while a step ran */
    stream_secured_fn *on_secured;
    struct deferred secured;
    struct tls_facts facts;
    bool is_reading;
    bool is_paused;
    bool is_securing;
    bool is_client;  /* of TLS */
    bool is_counted; /* among the running handshakes */
    bool is_broken;  /* nothing can be sent or read any more */
    bool closed_was_told;
    bool wants_drained;
    bool is_closing; /* the owner is gone */
    bool is_shut;    /* shutdown was asked for */
    bool is_uv_closed;
    bool is_orphan; /* the room is gone, only libuv holds this */
};

static void start_reading(struct stream *stream);
static void step_handshake(struct stream *stream);
static void finish_close(struct stream *stream);

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
    bytes_init(&stream->out, OUT_MAX);
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
    memory_free(stream);
}

static void count_out(struct stream *stream)
{
    struct slice key = {(const char *)stream->peer.ip.bytes, sizeof stream->peer.ip.bytes};
    struct handshake_count *count;

    if (!stream->is_counted)
        return;
    stream->is_counted = false;
    stream->net->statistics.handshakes_running--;
    count = map_get(stream->net->handshakes_by_address, key);
    if (count && --count->running == 0) {
        (void)map_remove(stream->net->handshakes_by_address, key);
        memory_free(count);
    }
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
    count_out(stream);
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
        on_secured(stream->owner, &stream->fault);
    } else if (stream->events) {
        stream->events->on_closed(stream->owner, &stream->fault);
    }
}

static void break_stream(struct stream *stream, enum result code, const char *text)
{
    if (stream->is_broken)
        return;
    stream->is_broken = true;
    (void)fault_set(&stream->fault, code, "%s", text);
    if (stream->is_reading)
        (void)uv_read_stop((uv_stream_t *)&stream->tcp);
    stream->is_reading = false;
    if (stream->is_closing)
        close_handle(stream);
    else
        loop_defer(stream->net->loop, &stream->broken, tell_closed, stream);
}

static void break_uv(struct stream *stream, int status)
{
    break_stream(stream, result_of_uv(status),
                 status == UV_EOF ? "the peer closed the connection" : uv_strerror(status));
}

/* ---- writing ---- */

struct write {
    uv_write_t request;
    struct stream *stream;
    struct bytes data;
};

size_t stream_unsent(const struct stream *stream)
{
    return stream->out.length + stream->in_flight;
}

static void tell_drained(struct stream *stream)
{
    if (!stream->wants_drained || stream->is_closing || stream_unsent(stream) > 0)
        return;
    stream->wants_drained = false;
    if (stream->events && stream->events->on_drained)
        stream->events->on_drained(stream->owner);
}

static void on_written(uv_write_t *request, int status)
{
    struct write *write = (struct write *)request;
    struct stream *stream = write->stream;

    stream->in_flight -= write->data.length;
    bytes_fini(&write->data);
    memory_free(write);
    if (stream->is_uv_closed)
        return;
    if (status < 0)
        break_uv(stream, status);
    else if (stream->is_closing)
        finish_close(stream);
    else
        tell_drained(stream);
}

static void queue_write(struct stream *stream)
{
    struct write *write = NEW(struct write);
    uv_buf_t buffer;
    int status;

    write->stream = stream;
    write->data = stream->out;
    bytes_init(&stream->out, OUT_MAX);
    buffer = uv_buf_init(write->data.data, (unsigned)write->data.length);
    stream->in_flight += write->data.length;
    status = uv_write(&write->request, (uv_stream_t *)&stream->tcp, &buffer, 1, on_written);
    if (status == 0)
        return;
    stream->in_flight -= write->data.length;
    bytes_fini(&write->data);
    memory_free(write);
    break_uv(stream, status);
}

static void flush(struct stream *stream)
{
    if (stream->out.length == 0 || stream->is_broken || stream->is_uv_closed) {
        bytes_clear(&stream->out);
        return;
    }
    if (stream->in_flight == 0) {
        uv_buf_t buffer = uv_buf_init(stream->out.data, (unsigned)stream->out.length);
        int sent = uv_try_write((uv_stream_t *)&stream->tcp, &buffer, 1);

        if (sent < 0 && sent != UV_EAGAIN) {
            break_uv(stream, sent);
            return;
        }
        if (sent > 0)
            bytes_drop_front(&stream->out, (size_t)sent);
    }
    if (stream->out.length > 0)
        queue_write(stream);
    else
        bytes_release(&stream->out); /* an idle stream holds nothing */
}

static void on_flush(void *owner)
{
    struct stream *stream = owner;

    flush(stream);
    if (stream->is_uv_closed)
        return;
    if (stream->is_closing)
        finish_close(stream);
    else
        tell_drained(stream);
}

static void flush_later(struct stream *stream)
{
    if (!link_is_in_list(&stream->flush.link))
        loop_defer(stream->net->loop, &stream->flush, on_flush, stream);
}

/* What the engine made goes to the socket. */
static void take_engine_output(struct stream *stream)
{
    struct bytes *output = tls_engine_output(stream->engine);

    if (output->length == 0)
        return;
    if (bytes_add(&stream->out, bytes_view(output)) != RESULT_OK)
        break_stream(stream, RESULT_TOO_LARGE, "too much output is unsent");
    bytes_release(output);
    flush_later(stream);
}

enum result stream_write(struct stream *stream, struct slice bytes)
{
    enum result result = RESULT_OK;

    if (stream->is_broken || stream->is_closing)
        return RESULT_OK; /* on_closed tells */
    if (stream->engine) {
        result = tls_engine_write(stream->engine, bytes);
        take_engine_output(stream);
    } else {
        result = bytes_add(&stream->out, bytes);
    }
    if (result != RESULT_OK) {
        break_stream(stream, result, "the connection cannot be written to");
        return RESULT_OK;
    }
    if (stream->out.length >= FLUSH_AT)
        flush(stream);
    if (stream->out.length > 0)
        flush_later(stream);
    if (stream_unsent(stream) <= UNSENT_MARK)
        return RESULT_OK;
    stream->wants_drained = true;
    return RESULT_AGAIN;
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
        if (result != RESULT_OK) {
            break_stream(stream, result,
                         result == RESULT_CLOSED ? "the peer closed the connection"
                                                 : "the TLS connection is broken");
            return;
        }
        on_plain(stream, (struct slice){plain, length});
    }
    if (stream->engine)
        take_engine_output(stream); /* alerts, key updates */
}

static void on_ciphertext(struct stream *stream, struct slice bytes)
{
    if (tls_engine_feed(stream->engine, bytes) != RESULT_OK) {
        break_stream(stream, RESULT_TLS, "the peer sent too much during the TLS handshake");
        return;
    }
    if (!stream->is_securing)
        read_engine(stream);
    else if (!stream->job)
        step_handshake(stream);
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
    if (count < 0) {
        break_uv(stream, (int)count);
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
            break_stream(stream, RESULT_TLS,
                         "the peer sent too much during the TLS handshake");
        return;
    }
    on_ciphertext(stream, (struct slice){buffer->base, (size_t)count});
}

static void start_reading(struct stream *stream)
{
    if (stream->is_reading || stream->is_broken || stream->is_uv_closed)
        return;
    if (uv_read_start((uv_stream_t *)&stream->tcp, give_buffer, on_read) == 0)
        stream->is_reading = true;
}

void stream_start(struct stream *stream, const struct stream_events *events, void *owner)
{
    stream->events = events;
    stream->owner = owner;
    if (stream->is_broken && !stream->closed_was_told)
        loop_defer(stream->net->loop, &stream->broken, tell_closed, stream);
    start_reading(stream);
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
        start_reading(stream);
}

void stream_resume(struct stream *stream)
{
    if (!stream->is_paused || stream->is_closing)
        return;
    stream->is_paused = false;
    loop_defer(stream->net->loop, &stream->resume, on_resumed, stream);
}

/* ---- the handshake ---- */

static void end_handshake(struct stream *stream, const struct fault *fault)
{
    stream_secured_fn *on_secured = stream->on_secured;
    struct net_handshakes *direction =
        stream->is_client ? &stream->net->statistics.out : &stream->net->statistics.in;

    count_out(stream);
    timer_cancel(&stream->timer);
    stream->on_secured = NULL;
    if (fault) {
        stream->net->statistics.handshakes_failed++;
        direction->failed++;
        stream->fault = *fault;
        stream->is_broken = true;
        stream->closed_was_told = true;
        (void)uv_read_stop((uv_stream_t *)&stream->tcp);
        stream->is_reading = false;
        flush(stream); /* the alert, as far as it goes */
        on_secured(stream->owner, &stream->fault);
        return;
    }
    stream->net->statistics.handshakes_done++;
    stream->is_securing = false;
    tls_engine_facts(stream->engine, &stream->facts);
    direction->done++;
    direction->resumed += stream->facts.is_resumed;
    on_secured(stream->owner, NULL);
    /* What came behind the handshake is delivered when the owner has had its turn. */
    if (!stream->is_closing)
        loop_defer(stream->net->loop, &stream->resume, on_resumed, stream);
}

struct step {
    struct tls_engine *engine;
    enum tls_step result;
};

static void run_step(void *input)
{
    struct step *step = input;

    step->result = tls_engine_handshake(step->engine);
}

/* Cancelled: the stream is gone, the engine is ours to free. */
static void drop_step(void *input)
{
    struct step *step = input;

    tls_engine_free(step->engine);
    memory_free(step);
}

static void take_early(struct stream *stream)
{
    if (stream->early.length == 0)
        return;
    if (tls_engine_feed(stream->engine, bytes_view(&stream->early)) != RESULT_OK)
        break_stream(stream, RESULT_TLS, "the peer sent too much during the TLS handshake");
    bytes_release(&stream->early);
}

static void on_step(void *owner, void *input)
{
    struct stream *stream = owner;
    struct step *step = input;
    enum tls_step result = step->result;

    memory_free(step);
    stream->job = NULL;
    take_engine_output(stream);
    take_early(stream);
    if (stream->is_broken)
        return;
    if (result == TLS_STEP_FAILED) {
        struct fault fault = *tls_engine_fault(stream->engine);

        end_handshake(stream, &fault);
        return;
    }
    start_reading(stream);
    if (result == TLS_STEP_DONE)
        end_handshake(stream, NULL);
    else if (tls_engine_has_input(stream->engine))
        step_handshake(stream);
}

static void step_handshake(struct stream *stream)
{
    struct step *step = NEW(struct step);

    step->engine = stream->engine;
    if (job_start(stream->net->offload, POOL_CRYPTO, run_step, on_step, drop_step, step,
                  stream, &stream->job) == RESULT_OK)
        return;
    memory_free(step);
    break_stream(stream, RESULT_BUSY, "too many TLS handshakes wait");
}

static void on_handshake_timeout(void *owner)
{
    struct stream *stream = owner;
    struct fault fault;

    (void)fault_set(&fault, RESULT_TIMEOUT, "the TLS handshake took longer than %d s",
                    HANDSHAKE_MS / 1000);
    end_handshake(stream, &fault);
}

bool stream_may_secure(const struct stream *stream)
{
    const struct net *net = stream->net;
    struct slice key = {(const char *)stream->peer.ip.bytes, sizeof stream->peer.ip.bytes};
    const struct handshake_count *count = map_get(net->handshakes_by_address, key);

    return net->statistics.handshakes_running < net->tls.handshakes_max &&
           (!count || count->running < net->tls.handshakes_per_address_max);
}

static enum result count_in(struct stream *stream)
{
    struct net *net = stream->net;
    struct slice key = {(const char *)stream->peer.ip.bytes, sizeof stream->peer.ip.bytes};
    struct handshake_count *count = map_get(net->handshakes_by_address, key);

    if (!stream_may_secure(stream)) {
        net->statistics.handshakes_refused++;
        return RESULT_BUSY;
    }
    if (!count) {
        count = NEW(struct handshake_count);
        if (map_set(net->handshakes_by_address, key, count) != RESULT_OK) {
            memory_free(count);
            net->statistics.handshakes_refused++;
            return RESULT_BUSY;
        }
    }
    count->running++;
    net->statistics.handshakes_running++;
    stream->is_counted = true;
    return RESULT_OK;
}

static void secure(struct stream *stream, struct tls_engine *engine,
                   stream_secured_fn *on_end)
{
    /* Plain words that wait go out before the first TLS byte. */
    flush(stream);
    stream->engine = engine;
    stream->on_secured = on_end;
    stream->is_securing = true;
    stream->is_paused = false;
    bytes_init(&stream->early, EARLY_MAX);
    timer_init(&stream->timer, stream->net->loop, on_handshake_timeout, stream);
    timer_start(&stream->timer, HANDSHAKE_MS);
    if (stream->is_broken) {
        loop_defer(stream->net->loop, &stream->broken, tell_closed, stream);
        return;
    }
    start_reading(stream);
    step_handshake(stream);
}

enum result stream_secure_server(struct stream *stream, struct tls_server *server,
                                 stream_secured_fn *on_end)
{
    if (count_in(stream) != RESULT_OK)
        return RESULT_BUSY;
    secure(stream, tls_engine_new_server(server), on_end);
    return RESULT_OK;
}

enum result stream_secure_client(struct stream *stream, struct tls_client *client,
                                 enum tls_level level, const char *name,
                                 stream_secured_fn *on_end)
{
    if (count_in(stream) != RESULT_OK)
        return RESULT_BUSY;
    stream->is_client = true;
    secure(stream, tls_engine_new_client(client, level, name), on_end);
    return RESULT_OK;
}

/* ---- closing ---- */

static void on_close_timeout(void *owner)
{
    close_handle(owner);
}

static void on_shut(uv_shutdown_t *request, int status)
{
    struct stream *stream = request->handle->data;

    if (status < 0 && !stream->is_uv_closed)
        close_handle(stream);
}

/* Everything is written: say that no more comes, and read on until the peer goes too.
 * Closing at once, with input unread, would reset the connection and lose the last reply.
 */
static void finish_close(struct stream *stream)
{
    if (stream->is_uv_closed || stream_unsent(stream) > 0 || stream->is_shut)
        return;
    stream->is_shut = true;
    if (uv_shutdown(&stream->shutdown, (uv_stream_t *)&stream->tcp, on_shut) != 0) {
        close_handle(stream);
        return;
    }
    start_reading(stream);
}

void stream_close(struct stream *stream)
{
    if (stream->is_closing)
        return;
    stream->is_closing = true;
    count_out(stream);
    deferred_cancel(stream->net->loop, &stream->broken);
    if (stream->is_broken) {
        close_handle(stream);
        return;
    }
    if (stream->engine && !stream->is_securing) {
        tls_engine_say_goodbye(stream->engine);
        take_engine_output(stream);
    }
    if (stream->timer.loop)
        timer_cancel(&stream->timer); /* of a handshake */
    timer_init(&stream->timer, stream->net->loop, on_close_timeout, stream);
    timer_start(&stream->timer, CLOSE_MS);
    flush_later(stream);
}

/* ---- facts ---- */

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
    return &stream->facts;
}
