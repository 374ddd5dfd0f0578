/* Addresses in turn, each with its time limit, until one connects. */
#include "smtpd/net/dialer.h"

#include "inner.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

struct attempt { /* one connect in progress; outlives a cancelled dial */
    uv_connect_t request;
    struct dial *dial; /* NULL: cancelled, or given up */
    struct stream *stream;
};

struct dial {
    struct net *net;
    struct endpoint *addresses;
    size_t count;
    size_t at;
    struct ip source;
    bool has_source;
    int64_t timeout_ms;
    dial_end_fn *on_end;
    void *owner;
    struct attempt *attempt;
    struct timer timer;
    struct deferred next;
    struct fault fault;
};

static void try_next(void *owner);

static void dial_free(struct dial *dial)
{
    timer_cancel(&dial->timer);
    deferred_cancel(dial->net->loop, &dial->next);
    memory_free(dial->addresses);
    memory_free(dial);
}

static void give_up_attempt(struct dial *dial)
{
    if (!dial->attempt)
        return;
    dial->attempt->dial = NULL; /* its callback, which comes with the close, frees it */
    stream_abort(dial->attempt->stream);
    dial->attempt = NULL;
}

static void end(struct dial *dial, struct stream *stream)
{
    dial_end_fn *on_end = dial->on_end;
    void *owner = dial->owner;
    struct fault fault = dial->fault;

    dial_free(dial);
    on_end(owner, stream, stream ? NULL : &fault);
}

static void note_failure(struct dial *dial, enum result code, const char *why)
{
    char text[IP_TEXT];

    endpoint_print(&dial->addresses[dial->at], text);
    (void)fault_set(&dial->fault, code, "cannot connect to %s: %s", text, why);
    dial->at++;
}

static void on_connect(uv_connect_t *request, int status)
{
    struct attempt *attempt = (struct attempt *)request;
    struct dial *dial = attempt->dial;
    struct stream *stream = attempt->stream;

    memory_free(attempt);
    if (!dial)
        return;
    dial->attempt = NULL;
    timer_cancel(&dial->timer);
    if (status == 0) {
        stream_connected(stream);
        end(dial, stream);
        return;
    }
    stream_abort(stream);
    note_failure(dial, result_of_uv(status), uv_strerror(status));
    try_next(dial);
}

static void on_timeout(void *owner)
{
    struct dial *dial = owner;
    char why[64];

    (void)snprintf(why, sizeof why, "no answer within %lld s",
                   (long long)((dial->timeout_ms + 999) / 1000));
    give_up_attempt(dial);
    note_failure(dial, RESULT_TIMEOUT, why);
    try_next(dial);
}

static int bind_source(struct dial *dial, struct stream *stream)
{
    struct endpoint source = {dial->source, 0};
    struct sockaddr_storage address;

    if (!dial->has_source)
        return 0;
    endpoint_to_sockaddr(&source, &address);
    return uv_tcp_bind(stream_tcp(stream), (const struct sockaddr *)&address, 0);
}

static int start_attempt(struct dial *dial)
{
    struct attempt *attempt = NEW(struct attempt);
    struct sockaddr_storage address;
    int status;

    attempt->dial = dial;
    attempt->stream = stream_new(dial->net);
    endpoint_to_sockaddr(&dial->addresses[dial->at], &address);
    status = bind_source(dial, attempt->stream);
    if (status == 0)
        status = uv_tcp_connect(&attempt->request, stream_tcp(attempt->stream),
                                (const struct sockaddr *)&address, on_connect);
    if (status == 0) {
        dial->attempt = attempt;
        timer_start(&dial->timer, dial->timeout_ms);
        return 0;
    }
    stream_abort(attempt->stream);
    memory_free(attempt);
    return status;
}

static bool family_fits(const struct dial *dial)
{
    return !dial->has_source ||
           ip_is_v4(&dial->source) == ip_is_v4(&dial->addresses[dial->at].ip);
}

static void try_next(void *owner)
{
    struct dial *dial = owner;

    for (; dial->at < dial->count;) {
        int status;

        if (!family_fits(dial)) {
            note_failure(dial, RESULT_UNREACHABLE,
                         "the source address is of the other family");
            continue;
        }
        status = start_attempt(dial);
        if (status == 0)
            return;
        note_failure(dial, result_of_uv(status), uv_strerror(status));
    }
    end(dial, NULL);
}

/* NOLINTNEXTLINE(readability-function-size): the door's seven parameters */
struct dial *dial_start(struct net *net, const struct endpoint *addresses, size_t count,
                        const struct ip *source, int64_t timeout_each_ms,
                        dial_end_fn *on_end, void *owner)
{
    struct dial *dial = NEW(struct dial);

    dial->net = net;
    dial->addresses = memory_copy(addresses, count * sizeof *addresses);
    dial->count = count;
    dial->timeout_ms = timeout_each_ms;
    dial->on_end = on_end;
    dial->owner = owner;
    if (source) {
        dial->source = *source;
        dial->has_source = true;
    }
    (void)fault_set(&dial->fault, RESULT_UNREACHABLE, "there is no address to connect to");
    timer_init(&dial->timer, net->loop, on_timeout, dial);
    loop_defer(net->loop, &dial->next, try_next, dial);
    return dial;
}

void dial_cancel(struct dial *dial)
{
    give_up_attempt(dial);
    dial_free(dial);
}
