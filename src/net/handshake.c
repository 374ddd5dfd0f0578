/* The handshake of a stream: its steps run on the crypto pool, one at a time, and a step that
 * runs has the engine to itself. How many go on at once, in all and for one address, is
 * counted here. */
#include "smtpd/net/stream.h"

#include "inner.h"
#include "smtpd/base/memory.h"
#include "stream_inner.h"

#include <string.h>

enum {
    EARLY_MAX = 262144, /* ciphertext that came during a step */
    HANDSHAKE_MS = 60000
};

/* ---- how many ---- */

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

void handshake_count_out(struct stream *stream)
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

/* ---- steps ---- */

static void end_handshake(struct stream *stream, const struct fault *fault)
{
    stream_secured_fn *on_secured = stream->on_secured;
    struct net_handshakes *direction =
        stream->is_client ? &stream->net->statistics.out : &stream->net->statistics.in;

    handshake_count_out(stream);
    timer_cancel(&stream->timer);
    stream->on_secured = NULL;
    if (fault) {
        stream->net->statistics.handshakes_failed++;
        direction->failed++;
        tls_engine_forget_session(stream->engine);
        stream_flush(stream); /* the alert, as far as it goes */
        stream_set_fault(stream, fault->code, fault->text);
        stream->is_broken = true;
        stream->closed_was_told = true;
        (void)uv_read_stop((uv_stream_t *)&stream->tcp);
        stream->is_reading = false;
        on_secured(stream->owner, stream->fault);
        return;
    }
    stream->net->statistics.handshakes_done++;
    stream->is_securing = false;
    stream->facts = NEW(struct tls_facts);
    tls_engine_facts(stream->engine, stream->facts);
    tls_engine_keep_session(stream->engine);
    direction->done++;
    direction->resumed += stream->facts->is_resumed;
    on_secured(stream->owner, NULL);
    /* What came behind the handshake is delivered when the owner has had its turn. */
    if (!stream->is_closing)
        stream_resume_later(stream);
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
        stream_break(stream, RESULT_TLS, "the peer sent too much during the TLS handshake");
    bytes_release(&stream->early);
}

static void on_step(void *owner, void *input)
{
    struct stream *stream = owner;
    struct step *step = input;
    enum tls_step result = step->result;

    memory_free(step);
    stream->job = NULL;
    stream_take_engine_output(stream);
    take_early(stream);
    if (stream->is_broken || stream->is_closing)
        return; /* closing: nobody is left to be told */
    if (result == TLS_STEP_FAILED) {
        struct fault fault = *tls_engine_fault(stream->engine);

        end_handshake(stream, &fault);
        return;
    }
    stream_start_reading(stream);
    if (result == TLS_STEP_DONE)
        end_handshake(stream, NULL);
    else if (tls_engine_has_input(stream->engine))
        handshake_step(stream);
}

void handshake_step(struct stream *stream)
{
    struct step *step = NEW(struct step);

    step->engine = stream->engine;
    if (job_start(stream->net->offload, POOL_CRYPTO, run_step, on_step, drop_step, step,
                  stream, &stream->job) == RESULT_OK)
        return;
    memory_free(step);
    stream_break(stream, RESULT_BUSY, "too many TLS handshakes wait");
}

static void on_handshake_timeout(void *owner)
{
    struct stream *stream = owner;
    struct fault fault;

    (void)fault_set(&fault, RESULT_TIMEOUT, "the TLS handshake took longer than %d s",
                    HANDSHAKE_MS / 1000);
    end_handshake(stream, &fault);
}

static void secure(struct stream *stream, struct tls_engine *engine,
                   stream_secured_fn *on_end)
{
    /* Plain words that wait go out before the first TLS byte. */
    stream_flush(stream);
    stream->engine = engine;
    stream->on_secured = on_end;
    stream->is_securing = true;
    stream->is_paused = false;
    bytes_init(&stream->early, EARLY_MAX);
    timer_init(&stream->timer, stream->net->loop, on_handshake_timeout, stream);
    timer_start(&stream->timer, HANDSHAKE_MS);
    if (stream->is_broken || stream->is_ended) {
        stream->closed_was_told = false; /* not to this end of the handshake */
        stream_tell_closed_later(stream);
        return;
    }
    stream_start_reading(stream);
    handshake_step(stream);
}

enum result stream_secure_server(struct stream *stream, struct tls_server *server,
                                 stream_secured_fn *on_end)
{
    if (count_in(stream) != RESULT_OK)
        return RESULT_BUSY;
    secure(stream, tls_engine_new_server(server), on_end);
    return RESULT_OK;
}

/* The same peer, from the same address of ours. */
static void resume(struct stream *stream, struct tls_engine *engine)
{
    char way[2 * sizeof stream->peer.ip.bytes + sizeof stream->peer.port];

    if (!stream->may_resume)
        return;
    if (stream->begins_anew)
        tls_engine_begin_anew(engine);
    memcpy(way, stream->peer.ip.bytes, sizeof stream->peer.ip.bytes);
    memcpy(way + sizeof stream->peer.ip.bytes, stream->local.ip.bytes,
           sizeof stream->local.ip.bytes);
    memcpy(way + 2 * sizeof stream->peer.ip.bytes, &stream->peer.port,
           sizeof stream->peer.port);
    tls_engine_resume(engine, (struct slice){way, sizeof way},
                      loop_now_ms(stream->net->loop));
}

void stream_allow_resumption(struct stream *stream, bool begins_anew)
{
    stream->may_resume = true;
    stream->begins_anew = begins_anew;
}

bool stream_offered_session(const struct stream *stream)
{
    return stream->engine && tls_engine_offered_session(stream->engine);
}

enum result stream_secure_client(struct stream *stream, struct tls_client *client,
                                 enum tls_level level, const char *name,
                                 stream_secured_fn *on_end)
{
    struct tls_engine *engine;

    if (count_in(stream) != RESULT_OK)
        return RESULT_BUSY;
    stream->is_client = true;
    engine = tls_engine_new_client(client, level, name);
    resume(stream, engine);
    secure(stream, engine, on_end);
    return RESULT_OK;
}

enum result stream_secure_client_dane(struct stream *stream, struct tls_client *client,
                                      struct tlsa_set *set, stream_secured_fn *on_end)
{
    struct tls_engine *engine;

    if (count_in(stream) != RESULT_OK)
        return RESULT_BUSY;
    stream->is_client = true;
    engine = tls_engine_new_client(client, TLS_REQUIRED, tlsa_set_name(set, 0));
    tls_engine_take_dane(engine, set);
    resume(stream, engine);
    secure(stream, engine, on_end);
    return RESULT_OK;
}
