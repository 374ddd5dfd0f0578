/* dial -> handshake -> request -> answer, under one timer. */
#include "smtpd/net/https.h"

#include "https_answer.h"
#include "inner.h"
#include "smtpd/base/memory.h"
#include "smtpd/net/dialer.h"

#include <stdio.h>

enum { HTTPS_PORT = 443, REQUEST_MAX = 2048, SENT_MAX = 16 << 20 };

struct https {
    struct net *net;
    struct tls_client *tls;
    struct dial *dial;
    struct stream *stream;
    struct timer deadline;
    struct deferred end;
    struct https_answer answer;
    char host[256];
    char media_type[64];
    char request[REQUEST_MAX];
    struct bytes sent; /* behind the request: of a POST */
    char peer[360];    /* for the words of a fault */
    bool is_secured;
    bool is_ended;
    enum https_result result;
    struct fault fault;
    https_end_fn *on_end;
    void *owner;
};

static void exchange_free(struct https *https)
{
    if (https->dial)
        dial_cancel(https->dial);
    if (https->stream)
        stream_abort(https->stream);
    timer_cancel(&https->deadline);
    deferred_cancel(https->net->loop, &https->end);
    https_answer_fini(&https->answer);
    bytes_fini(&https->sent);
    tls_client_unref(https->tls);
    memory_free(https);
}

void https_cancel(struct https *https)
{
    if (https)
        exchange_free(https);
}

static void tell(void *owner)
{
    struct https *https = owner;
    struct slice body =
        https->result == HTTPS_OK ? bytes_view(&https->answer.body) : SLICE_NONE;

    https->on_end(https->owner, https->result, body, &https->fault);
    exchange_free(https);
}

/* Not below a frame of the stream: who is told may do anything. */
static void end(struct https *https, enum https_result result, enum result code,
                const char *text)
{
    if (https->is_ended)
        return;
    https->is_ended = true;
    https->result = result;
    timer_cancel(&https->deadline);
    if (result != HTTPS_OK)
        (void)fault_set(&https->fault, code, "%s: %s", https->peer, text);
    loop_defer(https->net->loop, &https->end, tell, https);
}

static void on_deadline(void *owner)
{
    struct https *https = owner;

    end(https, HTTPS_NO_CONNECTION, RESULT_TIMEOUT, "no whole answer in time");
}

static void judge(struct https *https, enum https_step step)
{
    if (step == HTTPS_DONE)
        end(https, HTTPS_OK, RESULT_OK, "");
    else if (step == HTTPS_BAD)
        end(https, HTTPS_NO_ANSWER, RESULT_INVALID, https->answer.text);
}

static void on_bytes(void *owner, struct slice bytes)
{
    struct https *https = owner;

    if (!https->is_ended)
        judge(https, https_answer_read(&https->answer, bytes));
}

static void on_closed(void *owner, const struct fault *why)
{
    struct https *https = owner;

    if (https->is_secured && why->code == RESULT_CLOSED)
        judge(https, https_answer_end(&https->answer, stream_is_whole(https->stream)));
    else
        end(https, HTTPS_NO_CONNECTION, why->code, why->text);
}

static const struct stream_events events = {on_bytes, on_closed, NULL};

static void on_secured(void *owner, const struct fault *fault)
{
    struct https *https = owner;

    if (fault) {
        end(https, HTTPS_NO_TLS, fault->code, fault->text);
        return;
    }
    https->is_secured = true;
    (void)stream_write(https->stream, slice_of(https->request));
    if (https->sent.length > 0)
        (void)stream_write(https->stream, bytes_view(&https->sent));
}

static void on_dialed(void *owner, struct stream *stream, const struct fault *fault)
{
    struct https *https = owner;
    char text[IP_TEXT];

    https->dial = NULL;
    https->stream = stream;
    if (!stream) {
        end(https, HTTPS_NO_CONNECTION, fault->code, fault->text);
        return;
    }
    endpoint_print(stream_peer(stream), text);
    (void)snprintf(https->peer, sizeof https->peer, "%.250s [%s]", https->host, text);
    stream_start(stream, &events, https);
    if (stream_secure_client(stream, https->tls, TLS_VERIFIED, https->host, on_secured) !=
        RESULT_OK)
        end(https, HTTPS_NO_TLS, RESULT_BUSY, "too many TLS handshakes are running");
}

static void write_request(struct https *https, const struct https_request *request)
{
    unsigned port = request->address_count > 0 ? request->addresses[0].port : HTTPS_PORT;
    char number[16] = "";

    if (port != HTTPS_PORT)
        (void)snprintf(number, sizeof number, ":%u", port);
    if (request->body_type)
        (void)snprintf(https->request, sizeof https->request,
                       "POST %.511s HTTP/1.1\r\nHost: %s%s\r\nUser-Agent: smtpd\r\n"
                       "Content-Type: %s\r\nContent-Length: %zu\r\n"
                       "Connection: close\r\n\r\n",
                       request->path, https->host, number, request->body_type,
                       https->sent.length);
    else
        (void)snprintf(
            https->request, sizeof https->request,
            "GET %.511s HTTP/1.1\r\nHost: %s%s\r\nUser-Agent: smtpd\r\nAccept: %s\r\n"
            "Accept-Encoding: identity\r\nConnection: close\r\n\r\n",
            request->path, https->host, number, https->media_type);
}

struct https *https_start(struct net *net, const struct https_request *request,
                          https_end_fn *on_end, void *owner)
{
    struct https *https = NEW(struct https);

    https->net = net;
    https->tls = tls_client_ref(request->tls);
    https->on_end = on_end;
    https->owner = owner;
    (void)snprintf(https->host, sizeof https->host, "%s", request->host);
    (void)snprintf(https->peer, sizeof https->peer, "%s", request->host);
    (void)snprintf(https->media_type, sizeof https->media_type, "%s",
                   request->body_type ? "" : request->media_type);
    https_answer_init(&https->answer, request->body_type ? NULL : https->media_type,
                      request->body_max);
    bytes_init(&https->sent, SENT_MAX);
    if (request->body_type && bytes_add(&https->sent, request->body) != RESULT_OK)
        end(https, HTTPS_NO_CONNECTION, RESULT_TOO_LARGE, "it is too much to send");
    write_request(https, request);
    timer_init(&https->deadline, net->loop, on_deadline, https);
    timer_start(&https->deadline, request->deadline_ms);
    https->dial = dial_start(net,
                             &(struct dial_request){.addresses = request->addresses,
                                                    .count = request->address_count,
                                                    .timeout_ms = request->deadline_ms},
                             on_dialed, https);
    return https;
}
