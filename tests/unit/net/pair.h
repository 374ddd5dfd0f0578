/* Two real streams that are connected over loopback, and what came through them. */
#ifndef SMTPD_TESTS_PAIR_H
#define SMTPD_TESTS_PAIR_H

#include "test.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/net/dialer.h"
#include "smtpd/net/listener.h"

#include <string.h>

struct end {
    struct stream *stream;
    struct bytes got;
    unsigned closed;
    unsigned drained;
    unsigned secured;
    struct fault fault;
};

struct pair {
    struct loop *loop;
    struct offload *offload;
    struct net *net;
    struct listener *listener;
    struct dial *dial;
    struct end server;
    struct end client;
    struct fault dial_fault;
    unsigned dial_ends;
};

static inline void end_on_bytes(void *owner, struct slice bytes)
{
    struct end *end = owner;

    CHECK(bytes_add(&end->got, bytes) == RESULT_OK);
}

static inline void end_on_closed(void *owner, const struct fault *why)
{
    struct end *end = owner;

    end->closed++;
    end->fault = *why;
}

static inline void end_on_drained(void *owner)
{
    struct end *end = owner;

    end->drained++;
}

static inline void end_on_secured(void *owner, const struct fault *fault)
{
    struct end *end = owner;

    end->secured++;
    if (fault)
        end->fault = *fault;
}

static const struct stream_events end_events = {end_on_bytes, end_on_closed,
                                                end_on_drained};

static inline void pair_on_stream(void *owner, struct listener *listener,
                                  struct stream *stream)
{
    struct pair *pair = owner;

    (void)listener;
    pair->server.stream = stream;
    stream_start(stream, &end_events, &pair->server);
}

static inline void pair_on_dialed(void *owner, struct stream *stream,
                                  const struct fault *fault)
{
    struct pair *pair = owner;

    pair->dial_ends++;
    pair->dial = NULL;
    pair->client.stream = stream;
    if (fault)
        pair->dial_fault = *fault;
    else
        stream_start(stream, &end_events, &pair->client);
}

static inline void pair_init(struct pair *pair, const struct tls_settings *tls)
{
    struct endpoint endpoint;
    struct fault fault;

    memset(pair, 0, sizeof *pair);
    secure_init();
    pair->loop = loop_new();
    pair->offload = offload_new(pair->loop);
    pair->net = net_new(pair->loop, pair->offload, tls);
    bytes_init(&pair->server.got, 64 << 20);
    bytes_init(&pair->client.got, 64 << 20);
    assert_int_equal(endpoint_parse(SLICE("127.0.0.1:0"), &endpoint), RESULT_OK);
    assert_int_equal(listener_open(pair->net, &endpoint, &pair->listener, &fault),
                     RESULT_OK);
    listener_start(pair->listener, pair_on_stream, pair);
}

/* Turns the loop until the condition holds; at most 20 s. */
#define PAIR_UNTIL(pair, condition)                                                        \
    do {                                                                                   \
        for (int turns_ = 0; turns_ < 4000 && !(condition); turns_++)                      \
            loop_run_for((pair)->loop, 5);                                                 \
        assert_true(condition);                                                            \
    } while (0)

static inline void pair_connect(struct pair *pair)
{
    struct dial_request request = {
        .addresses = listener_endpoint(pair->listener), .count = 1, .timeout_ms = 5000};

    pair->dial = dial_start(pair->net, &request, pair_on_dialed, pair);
    assert_int_equal(pair->dial_ends, 0); /* never inside the call */
    PAIR_UNTIL(pair, pair->server.stream && pair->client.stream);
}

static inline void pair_open(struct pair *pair)
{
    struct tls_settings tls = {0, 0};

    pair_init(pair, &tls);
    pair_connect(pair);
}

static inline void pair_close(struct pair *pair)
{
    struct net_statistics statistics;

    if (pair->client.stream)
        stream_abort(pair->client.stream);
    if (pair->server.stream)
        stream_abort(pair->server.stream);
    listener_close(pair->listener);
    /* Every stream is gone: nothing leaks. */
    do {
        loop_run_for(pair->loop, 5);
        net_statistics(pair->net, &statistics);
    } while (statistics.streams > 0);
    offload_free(pair->offload);
    loop_run_for(pair->loop, 5);
    net_free(pair->net);
    loop_free(pair->loop);
    bytes_fini(&pair->server.got);
    bytes_fini(&pair->client.got);
}

static inline void end_close(struct end *end)
{
    stream_close(end->stream);
    end->stream = NULL;
}

#endif
