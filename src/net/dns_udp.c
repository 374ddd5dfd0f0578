/* The only file that knows udns. What it needs to be told, and what it must not be asked:
 *
 * No result: our parse function hands back a marker, so udns allocates nothing that would
 * be ours to release. The packet is seen in the debug hook, which is also the only place
 * that sees negative and truncated ones; udns ends the query right behind the hook, and the
 * packet stands in its buffer until then.
 *
 * No dns_cancel(): it leaks the query in 0.4 and 0.6. A cancelled query loses its owner and
 * ends in its own time. No timer callback: it stays silent when a timer fires early; we ask
 * after each event. Time is whole seconds, and 0 would mean "read the clock": ours is
 * monotonic, from 1.
 *
 * DO stands in each query, not in the context, so that a server which knows no EDNS0 can be
 * asked again without (otherwise udns sends it OPT for ever). */
#include "dns_udp.h"

#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/memory.h"

#include <udns.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    RECEIVE_BUFFER_BYTES = 1 << 20, /* answers to 200 queries may come in one turn */
    TRY_S = 3,                      /* then 6, then 12 */
    TRIES = 3
};

struct dns_udp {
    struct dns_ctx *context;
    struct loop *loop;
    struct watch *watch;
    struct timer timer;
    loop_fn *on_room;
    void *owner;
    struct list queries;
    struct list truncated; /* within one dns_ioevent() only */
};

struct dns_udp_query {
    struct link link;
    struct link truncated_link;
    struct dns_udp *udp;
    dns_udp_end_fn *on_end; /* NULL: nobody waits */
    void *owner;
    struct dns_question question;
    struct slice packet; /* in udns's buffer: from the hook to the end, see above */
    struct endpoint server;
    int last_rcode; /* -1: no answer yet */
    bool is_truncated;
    bool is_plain; /* asked without DO */
};

static time_t seconds(const struct dns_udp *udp)
{
    return (time_t)(loop_now_ms(udp->loop) / 1000 + 1);
}

static struct endpoint endpoint_of(const struct sockaddr *address)
{
    struct endpoint endpoint = {0};

    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        uint8_t bytes[4];

        memcpy(&in, address, sizeof in);
        memcpy(bytes, &in.sin_addr, sizeof bytes);
        endpoint.ip = ip_from_v4(bytes);
        endpoint.port = ntohs(in.sin_port);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, address, sizeof in6);
        memcpy(endpoint.ip.bytes, &in6.sin6_addr, sizeof endpoint.ip.bytes);
        endpoint.port = ntohs(in6.sin6_port);
    }
    return endpoint;
}

static void query_free(struct dns_udp_query *query)
{
    list_remove(&query->udp->truncated, &query->truncated_link);
    list_remove(&query->udp->queries, &query->link);
    memory_free(query);
}

static void say_why(const struct dns_udp_query *query, char *text, size_t text_bytes)
{
    if (query->last_rcode < 0)
        (void)snprintf(text, text_bytes, "no DNS server answered");
    else if (query->last_rcode == DNS_R_NOERROR)
        (void)snprintf(text, text_bytes, "no usable answer");
    else
        (void)snprintf(text, text_bytes, "the server answered %s",
                       dns_rcodename((enum dns_rcode)query->last_rcode));
}

/* ---- what udns calls ---- */

static int on_packet_parse(dnscc_t *name, dnscc_t *packet, dnscc_t *at, dnscc_t *packet_end,
                           void **result)
{
    static char marker;

    (void)name;
    (void)packet;
    (void)at;
    (void)packet_end;
    *result = &marker;
    return DNS_E_NOERROR;
}

/* NOLINTNEXTLINE(readability-function-size): seven parameters are udns's idea */
static void on_udns_event(int code, const struct sockaddr *from, unsigned from_bytes,
                          dnscc_t *packet, int packet_bytes,
                          const struct dns_query *udns_query, void *data)
{
    struct dns_udp_query *query = data;

    (void)from_bytes;
    (void)udns_query;
    if (code != 0 || !query) /* a query that was sent, or a stray packet */
        return;
    query->server = endpoint_of(from);
    query->packet = (struct slice){(const char *)packet, (size_t)packet_bytes};
    query->last_rcode = dns_rcode(packet);
    if (dns_tc(packet) && query->last_rcode == DNS_R_NOERROR && !query->is_truncated) {
        query->is_truncated = true;
        list_push_back(&query->udp->truncated, &query->truncated_link);
    }
}

static void submit(struct dns_udp_query *query);

static void on_udns_end(struct dns_ctx *context, void *result, void *data)
{
    struct dns_udp_query *query = data;
    struct dns_udp *udp = query->udp;
    struct dns_udp_result ended = {.end = DNS_UDP_FAILED, .server = query->server};
    dns_udp_end_fn *on_end = query->on_end;
    void *owner = query->owner;
    int status = dns_status(context);

    (void)result; /* the marker */
    if (status == DNS_E_NOERROR || status == DNS_E_NXDOMAIN || status == DNS_E_NODATA) {
        ended.end = DNS_UDP_ANSWERED;
        ended.packet = query->packet;
    } else if (query->is_truncated) {
        ended.end = DNS_UDP_TRUNCATED;
    } else if (query->on_end && !query->is_plain &&
               (query->last_rcode == DNS_R_FORMERR || query->last_rcode == DNS_R_NOTIMPL)) {
        query->is_plain = true;
        submit(query);
        return;
    } else {
        say_why(query, ended.text, sizeof ended.text);
    }
    query_free(query); /* first: whoever looks sees that there is room */
    if (on_end)
        on_end(owner, &ended);
    udp->on_room(udp->owner);
}

/* ---- driving udns ---- */

static void submit(struct dns_udp_query *query)
{
    struct dns_udp *udp = query->udp;
    int flags = query->is_plain ? DNS_NOSRCH : DNS_NOSRCH | DNS_SET_DO;

    /* It fails for want of memory only. */
    CHECK(dns_submit_dn(udp->context, query->question.name, DNS_C_IN,
                        (int)query->question.type, flags, on_packet_parse, on_udns_end,
                        query));
    timer_start(&udp->timer, 0); /* udns sends when its time-outs are looked at */
}

static void look_at_timeouts(void *owner)
{
    struct dns_udp *udp = owner;
    int wait_s = dns_timeouts(udp->context, -1, seconds(udp));

    /* Callbacks within may have started more; those were sent in the same call. */
    if (wait_s < 0)
        timer_cancel(&udp->timer);
    else
        timer_start(&udp->timer, (int64_t)wait_s * 1000);
}

/* udns would go on to the next server with a truncated answer; TCP is the better answer.
 * Not inside the hook: udns still works on the query there. */
static void end_truncated(struct dns_udp *udp)
{
    struct link *link;

    while ((link = list_pop_front(&udp->truncated))) {
        struct dns_udp_query *query =
            CONTAINER_OF(link, struct dns_udp_query, truncated_link);
        struct dns_udp_result result = {.end = DNS_UDP_TRUNCATED, .server = query->server};
        dns_udp_end_fn *on_end = query->on_end;

        query->on_end = NULL;
        if (on_end)
            on_end(query->owner, &result);
    }
}

static void on_readable(void *owner)
{
    struct dns_udp *udp = owner;

    dns_ioevent(udp->context, seconds(udp));
    end_truncated(udp);
    look_at_timeouts(udp);
}

/* ---- door ---- */

static void add_server(struct dns_ctx *context, const struct endpoint *server)
{
    struct sockaddr_storage address = {0};
    int count;

    if (ip_is_v4(&server->ip)) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(server->port)};

        memcpy(&in.sin_addr, server->ip.bytes + 12, 4);
        memcpy(&address, &in, sizeof in);
    } else {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
                                   .sin6_port = htons(server->port)};

        memcpy(&in6.sin6_addr, server->ip.bytes, sizeof server->ip.bytes);
        memcpy(&address, &in6, sizeof in6);
    }
    count = dns_add_serv_s(context, (const struct sockaddr *)&address);
    CHECK(count > 0); /* the count was checked, the family is ours */
}

static struct dns_ctx *context_new(const struct endpoint *servers, size_t server_count)
{
    struct dns_ctx *context;

    dns_reset(NULL); /* dns_new() copies the default context and aborts if there is none */
    context = dns_new(NULL);
    CHECK(context); /* memory */
    for (size_t i = 0; i < server_count; i++)
        add_server(context, &servers[i]);
    (void)dns_add_srch(context, NULL);
    (void)dns_set_opt(context, DNS_OPT_FLAGS, DNS_NOSRCH);
    (void)dns_set_opt(context, DNS_OPT_UDPSIZE, DNS_UDP_BYTES);
    (void)dns_set_opt(context, DNS_OPT_TIMEOUT, TRY_S);
    (void)dns_set_opt(context, DNS_OPT_NTRIES, TRIES);
    return context;
}

enum result dns_udp_open(struct loop *loop, const struct dns_udp_settings *settings,
                         struct dns_udp **udp, struct fault *fault)
{
    int buffer_bytes = RECEIVE_BUFFER_BYTES;
    struct dns_ctx *context;
    struct dns_udp *opened;
    int fd;

    *udp = NULL;
    CHECK(settings->server_count > 0 && settings->server_count <= LIMIT_DNS_SERVERS);
    context = context_new(settings->servers, settings->server_count);
    fd = dns_open(context);
    if (fd < 0) {
        (void)fault_set(fault, RESULT_IO, "cannot open a socket for DNS: %s",
                        strerror(errno));
        dns_free(context);
        return RESULT_IO;
    }
    /* The kernel's ceiling may be lower: then bursts cost a retry after seconds. */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    dns_set_dbgfn(context, on_udns_event);

    opened = NEW(struct dns_udp);
    opened->context = context;
    opened->loop = loop;
    opened->on_room = settings->on_room;
    opened->owner = settings->owner;
    list_init(&opened->queries);
    list_init(&opened->truncated);
    timer_init(&opened->timer, loop, look_at_timeouts, opened);
    opened->watch = watch_start(loop, fd, WATCH_READABLE, on_readable, opened);
    *udp = opened;
    return RESULT_OK;
}

void dns_udp_close(struct dns_udp *udp)
{
    struct link *link;

    if (!udp)
        return;
    timer_cancel(&udp->timer);
    watch_stop(udp->watch);
    dns_free(udp->context); /* drops its queries without a word */
    while ((link = list_first(&udp->queries)))
        query_free(CONTAINER_OF(link, struct dns_udp_query, link));
    memory_free(udp);
}

struct dns_udp_query *dns_udp_start(struct dns_udp *udp,
                                    const struct dns_question *question,
                                    dns_udp_end_fn *on_end, void *owner)
{
    struct dns_udp_query *query = NEW(struct dns_udp_query);

    query->udp = udp;
    query->question = *question;
    query->on_end = on_end;
    query->owner = owner;
    query->last_rcode = -1;
    list_push_back(&udp->queries, &query->link);
    submit(query);
    return query;
}

void dns_udp_cancel(struct dns_udp_query *query)
{
    query->on_end = NULL;
}

size_t dns_udp_count(const struct dns_udp *udp)
{
    return udp->queries.count;
}
