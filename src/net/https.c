/* dial -> handshake -> request -> answer, under one timer. */
#include "smtpd/net/https.h"

#include "https_answer.h"
#include "inner.h"
#include "smtpd/base/memory.h"
#include "smtpd/net/dialer.h"

#include <stdio.h>

enum { HTTPS_PORT = 443, REQUEST_MAX = 1024 };

struct https_get {
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
    char peer[360]; /* for the words of a fault */
    bool is_secured;
    bool is_ended;
    enum https_result result;
    struct fault fault;
    https_end_fn *on_end;
    void *owner;
};

static void get_free(struct https_get *get)
{
    if (get->dial)
        dial_cancel(get->dial);
    if (get->stream)
        stream_abort(get->stream);
    timer_cancel(&get->deadline);
    deferred_cancel(get->net->loop, &get->end);
    https_answer_fini(&get->answer);
    tls_client_unref(get->tls);
    memory_free(get);
}

void https_get_cancel(struct https_get *get)
{
    if (get)
        get_free(get);
}

static void tell(void *owner)
{
    struct https_get *get = owner;
    struct slice body =
        get->result == HTTPS_OK ? bytes_view(&get->answer.body) : SLICE_NONE;

    get->on_end(get->owner, get->result, body, &get->fault);
    get_free(get);
}

/* Not below a frame of the stream: who is told may do anything. */
static void end(struct https_get *get, enum https_result result, enum result code,
                const char *text)
{
    if (get->is_ended)
        return;
    get->is_ended = true;
    get->result = result;
    timer_cancel(&get->deadline);
    if (result != HTTPS_OK)
        (void)fault_set(&get->fault, code, "%s: %s", get->peer, text);
    loop_defer(get->net->loop, &get->end, tell, get);
}

static void on_deadline(void *owner)
{
    struct https_get *get = owner;

    end(get, HTTPS_NO_CONNECTION, RESULT_TIMEOUT, "no whole answer in time");
}

static void judge(struct https_get *get, enum https_step step)
{
    if (step == HTTPS_DONE)
        end(get, HTTPS_OK, RESULT_OK, "");
    else if (step == HTTPS_BAD)
        end(get, HTTPS_NO_ANSWER, RESULT_INVALID, get->answer.text);
}

static void on_bytes(void *owner, struct slice bytes)
{
    struct https_get *get = owner;

    if (!get->is_ended)
        judge(get, https_answer_read(&get->answer, bytes));
}

static void on_closed(void *owner, const struct fault *why)
{
    struct https_get *get = owner;

    if (get->is_secured && why->code == RESULT_CLOSED)
        judge(get, https_answer_end(&get->answer, stream_is_whole(get->stream)));
    else
        end(get, HTTPS_NO_CONNECTION, why->code, why->text);
}

static const struct stream_events events = {on_bytes, on_closed, NULL};

static void on_secured(void *owner, const struct fault *fault)
{
    struct https_get *get = owner;

    if (fault) {
        end(get, HTTPS_NO_TLS, fault->code, fault->text);
        return;
    }
    get->is_secured = true;
    (void)stream_write(get->stream, slice_of(get->request));
}

static void on_dialed(void *owner, struct stream *stream, const struct fault *fault)
{
    struct https_get *get = owner;
    char text[IP_TEXT];

    get->dial = NULL;
    get->stream = stream;
    if (!stream) {
        end(get, HTTPS_NO_CONNECTION, fault->code, fault->text);
        return;
    }
    endpoint_print(stream_peer(stream), text);
    (void)snprintf(get->peer, sizeof get->peer, "%.250s [%s]", get->host, text);
    stream_start(stream, &events, get);
    if (stream_secure_client(stream, get->tls, TLS_VERIFIED, get->host, on_secured) !=
        RESULT_OK)
        end(get, HTTPS_NO_TLS, RESULT_BUSY, "too many TLS handshakes are running");
}

static void write_request(struct https_get *get, const struct https_request *request)
{
    unsigned port = request->address_count > 0 ? request->addresses[0].port : HTTPS_PORT;
    char number[16] = "";

    if (port != HTTPS_PORT)
        (void)snprintf(number, sizeof number, ":%u", port);
    (void)snprintf(
        get->request, sizeof get->request,
        "GET %.200s HTTP/1.1\r\nHost: %s%s\r\nUser-Agent: smtpd\r\nAccept: %s\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n\r\n",
        request->path, get->host, number, get->media_type);
}

struct https_get *https_get_start(struct net *net, const struct https_request *request,
                                  https_end_fn *on_end, void *owner)
{
    struct https_get *get = NEW(struct https_get);

    get->net = net;
    get->tls = tls_client_ref(request->tls);
    get->on_end = on_end;
    get->owner = owner;
    (void)snprintf(get->host, sizeof get->host, "%s", request->host);
    (void)snprintf(get->peer, sizeof get->peer, "%s", request->host);
    (void)snprintf(get->media_type, sizeof get->media_type, "%s", request->media_type);
    https_answer_init(&get->answer, get->media_type, request->body_max);
    write_request(get, request);
    timer_init(&get->deadline, net->loop, on_deadline, get);
    timer_start(&get->deadline, request->deadline_ms);
    get->dial = dial_start(net,
                           &(struct dial_request){.addresses = request->addresses,
                                                  .count = request->address_count,
                                                  .timeout_ms = request->deadline_ms},
                           on_dialed, get);
    return get;
}
