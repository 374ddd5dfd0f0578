/* What leaves a stream: small writes of one turn of the loop together, large ones at once and
 * without a copy of what the socket takes. */
#include "inner.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "stream_inner.h"

enum { FLUSH_AT = 16384, PARTS_MAX = 2, UNSENT_MARK = 65536, SPARE_BYTES = 4096 };

struct write {
    uv_write_t request;
    struct stream *stream;
    struct bytes data;
};

size_t stream_unsent(const struct stream *stream)
{
    return stream->out.length + stream->in_flight;
}

uint64_t stream_written(const struct stream *stream)
{
    return stream->written;
}

static enum result add_out(struct stream *stream, struct slice bytes)
{
    struct net *net = stream->net;

    if (!stream->out.data && net->spare_count > 0 && bytes.length > 0)
        stream->out = net->spares[--net->spare_count];
    stream->written += bytes.length;
    return bytes_add(&stream->out, bytes);
}

static void release_out(struct stream *stream)
{
    struct net *net = stream->net;

    if (!stream->out.data || stream->out.capacity > SPARE_BYTES ||
        net->spare_count == NET_SPARES) {
        bytes_release(&stream->out);
        return;
    }
    bytes_clear(&stream->out);
    net->spares[net->spare_count++] = stream->out;
    bytes_init(&stream->out, STREAM_OUT_MAX);
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
        stream_break_uv(stream, status);
    else if (stream->is_closing)
        stream_finish_close(stream);
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
    bytes_init(&stream->out, STREAM_OUT_MAX);
    buffer = uv_buf_init(write->data.data, (unsigned)write->data.length);
    stream->in_flight += write->data.length;
    status = uv_write(&write->request, (uv_stream_t *)&stream->tcp, &buffer, 1, on_written);
    if (status == 0)
        return;
    stream->in_flight -= write->data.length;
    bytes_fini(&write->data);
    memory_free(write);
    stream_break_uv(stream, status);
}

/* Sends what the socket takes at once of `out` and then of the parts, without copying them;
 * what it does not take of the parts is copied into `out`. false: broken. */
static bool try_write(struct stream *stream, const struct slice *parts, unsigned count)
{
    uv_buf_t buffers[1 + PARTS_MAX];
    size_t sent = 0;

    CHECK(count <= PARTS_MAX);
    buffers[0] = uv_buf_init(stream->out.data, (unsigned)stream->out.length);
    for (unsigned i = 0; i < count; i++)
        buffers[1 + i] =
            uv_buf_init((char *)(uintptr_t)parts[i].data, (unsigned)parts[i].length);
    if (stream->in_flight == 0) {
        bool has_out = stream->out.length > 0;
        int status =
            uv_try_write((uv_stream_t *)&stream->tcp, buffers + !has_out, count + has_out);

        if (status < 0 && status != UV_EAGAIN) {
            stream_break_uv(stream, status);
            return false;
        }
        sent = status > 0 ? (size_t)status : 0;
    }
    for (unsigned i = 0; i <= count; i++) {
        size_t gone = sent < buffers[i].len ? sent : buffers[i].len;

        sent -= gone;
        stream->written += i > 0 ? gone : 0;
        if (i == 0)
            bytes_drop_front(&stream->out, gone);
        else if (add_out(stream, slice_from(parts[i - 1], gone)) != RESULT_OK) {
            stream_break(stream, RESULT_TOO_LARGE, "too much output is unsent");
            return false;
        }
    }
    return true;
}

void stream_flush(struct stream *stream)
{
    if (stream->out.length == 0 || stream->is_broken || stream->is_uv_closed) {
        release_out(stream); /* try_write() may have sent all of it, with its parts */
        return;
    }
    if (!try_write(stream, NULL, 0))
        return;
    if (stream->out.length > 0)
        queue_write(stream);
    else
        release_out(stream);
}

static void on_flush(void *owner)
{
    struct stream *stream = owner;

    stream_flush(stream);
    if (stream->is_uv_closed)
        return;
    if (stream->is_closing)
        stream_finish_close(stream);
    else
        tell_drained(stream);
}

void stream_flush_later(struct stream *stream)
{
    if (!link_is_in_list(&stream->flush.link))
        loop_defer(stream->net->loop, &stream->flush, on_flush, stream);
}

/* What the engine made goes to the socket. */
void stream_take_engine_output(struct stream *stream)
{
    struct bytes *output = tls_engine_output(stream->engine);

    if (output->length == 0)
        return;
    if (add_out(stream, bytes_view(output)) != RESULT_OK)
        stream_break(stream, RESULT_TOO_LARGE, "too much output is unsent");
    bytes_release(output);
    stream_flush_later(stream);
}

static enum result write_parts(struct stream *stream, const struct slice *parts,
                               unsigned count)
{
    enum result result = RESULT_OK;
    size_t length = stream->out.length;

    for (unsigned i = 0; i < count; i++)
        length += parts[i].length;
    if (stream->engine) {
        for (unsigned i = 0; i < count && result == RESULT_OK; i++)
            result = tls_engine_write(stream->engine, parts[i]);
        stream_take_engine_output(stream);
    } else if (length >= FLUSH_AT) {
        (void)try_write(stream, parts, count);
    } else {
        for (unsigned i = 0; i < count && result == RESULT_OK; i++)
            result = add_out(stream, parts[i]);
    }
    return result;
}

static enum result write_all(struct stream *stream, const struct slice *parts,
                             unsigned count)
{
    enum result result;

    /* on_closed tells; in a handshake the engine may be the pool's, and nothing is said. */
    if (stream->is_broken || stream->is_closing || stream->is_securing)
        return RESULT_OK;
    result = write_parts(stream, parts, count);
    if (result != RESULT_OK) {
        stream_break(stream, result, "the connection cannot be written to");
        return RESULT_OK;
    }
    if (stream->out.length >= FLUSH_AT)
        stream_flush(stream);
    if (stream->out.length > 0)
        stream_flush_later(stream);
    if (stream_unsent(stream) <= UNSENT_MARK)
        return RESULT_OK;
    stream->wants_drained = true;
    return RESULT_AGAIN;
}

enum result stream_write(struct stream *stream, struct slice bytes)
{
    return write_all(stream, &bytes, 1);
}

enum result stream_write_both(struct stream *stream, struct slice first,
                              struct slice second)
{
    const struct slice parts[] = {first, second};

    return write_all(stream, parts, 2);
}
