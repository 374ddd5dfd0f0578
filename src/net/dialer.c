/* Connection attempts to the addresses of one host, staggered (RFC 8305 5), until one connects. */
#include "smtpd/net/dialer.h"

#include "inner.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <unistd.h>

enum {
    UNDER_WAY_MOST = 8,
    DELAY_MS = 250 /* RFC 8305 8 */
};

struct attempt { /* one connect in progress; outlives a cancelled dial */
    uv_connect_t request;
    struct link link;  /* of its dial, the oldest first */
    struct dial *dial; /* NULL: cancelled, or given up */
    struct stream *stream;
    size_t at;
    int64_t started_ms;
};

struct dial {
    struct net *net;
    struct endpoint *addresses;
    size_t count;
    size_t at; /* the next one */
    struct ip source[2];
    bool has_source[2]; /* IPv4, IPv6 */
    bool has_sources;
    int64_t delay_ms;
    int64_t timeout_ms;
    dial_tried_fn *on_tried;
    void *tried_owner;
    dial_end_fn *on_end;
    void *owner;
    struct list under_way;
    struct timer stagger;
    struct timer deadline;
    struct deferred first;
    struct fault fault;
};

static void go_on(struct dial *dial);

static void dial_free(struct dial *dial)
{
    timer_cancel(&dial->stagger);
    timer_cancel(&dial->deadline);
    deferred_cancel(dial->net->loop, &dial->first);
    memory_free(dial->addresses);
    memory_free(dial);
}

/* Its callback, which comes with the close, frees it. */
static void give_up(struct attempt *attempt)
{
    list_remove(&attempt->dial->under_way, &attempt->link);
    attempt->dial = NULL;
    stream_abort(attempt->stream);
}

static struct attempt *oldest(const struct dial *dial)
{
    struct link *link = list_first(&dial->under_way);

    return link ? CONTAINER_OF(link, struct attempt, link) : NULL;
}

static void tell(const struct dial *dial, size_t at, enum dial_outcome outcome)
{
    if (dial->on_tried)
        dial->on_tried(dial->tried_owner, &dial->addresses[at], outcome);
}

static void end(struct dial *dial, struct stream *stream)
{
    dial_end_fn *on_end = dial->on_end;
    void *owner = dial->owner;
    struct fault fault = dial->fault;

    dial_free(dial);
    on_end(owner, stream, stream ? NULL : &fault);
}

/* ---- what comes of one ---- */

static void note_failure(struct dial *dial, size_t at, enum result code, const char *why)
{
    char text[IP_TEXT];

    endpoint_print(&dial->addresses[at], text);
    (void)fault_set(&dial->fault, code, "cannot connect to %s: %s", text, why);
}

/* Full tables and the like say nothing about the address. */
static bool is_ours(int status)
{
    return status == UV_EMFILE || status == UV_ENFILE || status == UV_ENOBUFS ||
           status == UV_ENOMEM;
}

static void note_status(struct dial *dial, size_t at, int status)
{
    note_failure(dial, at, is_ours(status) ? RESULT_BUSY : result_of_uv(status),
                 uv_strerror(status));
    if (!is_ours(status))
        tell(dial, at, DIAL_FAILED);
}

static void note_silence(struct dial *dial, size_t at, int64_t waited_ms)
{
    char why[64];

    (void)snprintf(why, sizeof why, "no answer within %lld s",
                   (long long)((waited_ms + 999) / 1000));
    note_failure(dial, at, RESULT_TIMEOUT, why);
    tell(dial, at, DIAL_FAILED);
}

static void win(struct dial *dial, const struct attempt *winner)
{
    struct attempt *loser;

    while ((loser = oldest(dial))) {
        if (winner->started_ms - loser->started_ms >= dial->delay_ms)
            tell(dial, loser->at, DIAL_LATE);
        give_up(loser);
    }
    tell(dial, winner->at, DIAL_WON);
}

static void on_connect(uv_connect_t *request, int status)
{
    struct attempt *attempt = (struct attempt *)request;
    struct dial *dial = attempt->dial;
    struct stream *stream = attempt->stream;

    if (!dial) {
        memory_free(attempt);
        return;
    }
    list_remove(&dial->under_way, &attempt->link);
    if (status == 0) {
        stream_connected(stream);
        win(dial, attempt);
        memory_free(attempt);
        end(dial, stream);
        return;
    }
    stream_abort(stream);
    note_status(dial, attempt->at, status);
    memory_free(attempt);
    go_on(dial);
}

static void on_deadline(void *owner)
{
    struct dial *dial = owner;
    struct attempt *attempt;

    while ((attempt = oldest(dial))) {
        size_t at = attempt->at;

        give_up(attempt);
        note_silence(dial, at, dial->timeout_ms);
    }
    end(dial, NULL);
}

/* ---- the next one ---- */

static int bind_source(struct dial *dial, struct stream *stream, bool is_v4)
{
    int fd;
    int status;

    if (!dial->has_sources)
        return 0;
    fd = socket_bound_to(&dial->source[is_v4 ? 0 : 1]);
    if (fd < 0)
        return fd;
    status = uv_tcp_open(stream_tcp(stream), fd);
    if (status != 0)
        (void)close(fd);
    return status;
}

static int start_attempt(struct dial *dial, size_t at)
{
    struct attempt *attempt = NEW(struct attempt);
    struct sockaddr_storage address;
    int status;

    attempt->dial = dial;
    attempt->at = at;
    attempt->started_ms = loop_now_ms(dial->net->loop);
    attempt->stream = stream_new(dial->net);
    endpoint_to_sockaddr(&dial->addresses[at], &address);
    status = bind_source(dial, attempt->stream, ip_is_v4(&dial->addresses[at].ip));
    if (status != 0) {
        note_failure(dial, at, is_ours(status) ? RESULT_BUSY : result_of_uv(status),
                     "its source address cannot be used");
    } else {
        status = uv_tcp_connect(&attempt->request, stream_tcp(attempt->stream),
                                (const struct sockaddr *)&address, on_connect);
        if (status == 0) {
            list_push_back(&dial->under_way, &attempt->link);
            return 0;
        }
        note_status(dial, at, status);
    }
    stream_abort(attempt->stream);
    memory_free(attempt);
    return status;
}

static bool has_family(const struct dial *dial, size_t at)
{
    return !dial->has_sources ||
           dial->has_source[ip_is_v4(&dial->addresses[at].ip) ? 0 : 1];
}

static bool start_next(struct dial *dial)
{
    while (dial->at < dial->count) {
        size_t at = dial->at++;

        if (!has_family(dial, at))
            note_failure(dial, at, RESULT_UNREACHABLE,
                         "there is no source address of its family");
        else if (start_attempt(dial, at) == 0)
            return true;
    }
    return false;
}

/* With more addresses than may be under way the oldest gives way, but not before half of the time. */
static int64_t until_next_ms(const struct dial *dial)
{
    int64_t left_ms;

    if (dial->under_way.count < UNDER_WAY_MOST)
        return dial->delay_ms;
    left_ms =
        oldest(dial)->started_ms + dial->timeout_ms / 2 - loop_now_ms(dial->net->loop);
    return left_ms > dial->delay_ms ? left_ms : dial->delay_ms;
}

static void go_on(struct dial *dial)
{
    if (dial->under_way.count < UNDER_WAY_MOST)
        (void)start_next(dial);
    if (dial->under_way.count == 0)
        end(dial, NULL);
    else if (dial->at < dial->count)
        timer_start(&dial->stagger, until_next_ms(dial));
    else
        timer_cancel(&dial->stagger);
}

static void on_stagger(void *owner)
{
    struct dial *dial = owner;
    struct attempt *attempt = oldest(dial);

    if (dial->under_way.count >= UNDER_WAY_MOST) {
        size_t at = attempt->at;

        give_up(attempt);
        note_silence(dial, at, dial->timeout_ms / 2);
    }
    go_on(dial);
}

static void on_first(void *owner)
{
    struct dial *dial = owner;

    timer_start(&dial->deadline, dial->timeout_ms);
    go_on(dial);
}

/* ---- the door ---- */

enum result dial_source_check(const struct ip *source)
{
    int fd = socket_bound_to(source);

    if (fd >= 0)
        (void)close(fd);
    /* Full tables and the like are no fault of the address. */
    return fd >= 0 || is_ours(fd) ? RESULT_OK : RESULT_UNREACHABLE;
}

static void take_sources(struct dial *dial, const struct dial_sources *sources)
{
    const struct ip *each[2];

    if (!sources)
        return;
    each[0] = sources->v4;
    each[1] = sources->v6;
    dial->has_sources = true;
    for (int i = 0; i < 2; i++) {
        dial->has_source[i] = each[i] != NULL;
        if (each[i])
            dial->source[i] = *each[i];
    }
}

struct dial *dial_start(struct net *net, const struct dial_request *request,
                        dial_end_fn *on_end, void *owner)
{
    struct dial *dial = NEW(struct dial);

    dial->net = net;
    dial->addresses =
        memory_copy(request->addresses, request->count * sizeof *request->addresses);
    dial->count = request->count;
    dial->delay_ms = request->delay_ms ? request->delay_ms : DELAY_MS;
    dial->timeout_ms = request->timeout_ms;
    dial->on_tried = request->on_tried;
    dial->tried_owner = request->tried_owner;
    dial->on_end = on_end;
    dial->owner = owner;
    take_sources(dial, request->sources);
    list_init(&dial->under_way);
    (void)fault_set(&dial->fault, RESULT_UNREACHABLE, "there is no address to connect to");
    timer_init(&dial->stagger, net->loop, on_stagger, dial);
    timer_init(&dial->deadline, net->loop, on_deadline, dial);
    loop_defer(net->loop, &dial->first, on_first, dial);
    return dial;
}

void dial_cancel(struct dial *dial)
{
    struct attempt *attempt;

    while ((attempt = oldest(dial)))
        give_up(attempt);
    dial_free(dial);
}

/* The next of that family from `at` on; count: there is none. */
static size_t find_family(const struct endpoint *addresses, size_t count, size_t at,
                          bool is_v4)
{
    while (at < count && ip_is_v4(&addresses[at].ip) != is_v4)
        at++;
    return at;
}

void dial_interleave(struct endpoint *addresses, size_t count, bool is_v4_first)
{
    bool is_v4 = is_v4_first;

    for (size_t at = 0; at < count; at++, is_v4 = !is_v4) {
        size_t from = find_family(addresses, count, at, is_v4);
        struct endpoint moved;

        if (from == count)
            return; /* the rest is of one family */
        moved = addresses[from];
        for (; from > at; from--)
            addresses[from] = addresses[from - 1];
        addresses[at] = moved;
    }
}
