/* An exchange moves one way:
 *
 *   waiting --room--> udp --answer, failure--> end
 *                      '--truncated--> tcp --answer, failure--> end
 *
 * No table of machine.h: each state has one way on, and time-outs are those of the layers.
 * What counts as in flight is what udns has in hand, with what nobody waits for any more:
 * it is udns that loses answers when there are too many. */
#include "dns_client.h"

#include "dns_servers.h"
#include "dns_tcp.h"
#include "dns_udp.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

enum { TCP_DEADLINE_MS = 10000 };

enum exchange_state { EXCHANGE_WAITING, EXCHANGE_UDP, EXCHANGE_TCP };

struct dns_client {
    struct loop *loop;
    struct dns_udp *udp;
    bool trusts_ad;
    struct list waiting;
    struct list running;
    size_t tcp_count;
    uint64_t query_count;
    uint64_t over_tcp_count;
    struct dns_space space;
};

struct dns_exchange {
    struct link link; /* waiting or running */
    struct dns_client *client;
    enum exchange_state state;
    struct dns_question question;
    struct endpoint server; /* asked over TCP */
    struct dns_udp_query *udp;
    struct dns_tcp *tcp;
    dns_exchange_end_fn *on_end;
    void *owner;
};

static size_t in_flight(const struct dns_client *client)
{
    return dns_udp_count(client->udp) + client->tcp_count;
}

/* Out of the lists; its operations have ended or are cancelled. */
static void exchange_free(struct dns_exchange *exchange)
{
    struct dns_client *client = exchange->client;

    list_remove(exchange->state == EXCHANGE_WAITING ? &client->waiting : &client->running,
                &exchange->link);
    if (exchange->state == EXCHANGE_TCP)
        client->tcp_count--;
    memory_free(exchange);
}

/* The space holds the answer. */
static void end(struct dns_exchange *exchange)
{
    struct dns_client *client = exchange->client;
    dns_exchange_end_fn *on_end = exchange->on_end;
    void *owner = exchange->owner;

    exchange_free(exchange);
    on_end(owner, &client->space);
}

static void read_answer(struct dns_exchange *exchange, struct slice packet,
                        const struct endpoint *server)
{
    struct dns_space *space = &exchange->client->space;

    dns_answer_parse(packet, &exchange->question, space);
    if (!dns_server_is_believed(server, exchange->client->trusts_ad))
        space->answer.is_authentic = false;
}

static void ask_waiting(struct dns_client *client);

static void on_tcp_end(void *owner, struct slice packet, const char *failure)
{
    struct dns_exchange *exchange = owner;
    struct dns_client *client = exchange->client;

    if (failure)
        dns_space_reset(&client->space, RESULT_DNS_FAILURE, failure);
    else
        read_answer(exchange, packet, &exchange->server);
    end(exchange);
    ask_waiting(client);
}

static void ask_over_tcp(struct dns_exchange *exchange, const struct endpoint *server)
{
    struct dns_client *client = exchange->client;
    struct dns_tcp_request request = {
        .server = server, .question = &exchange->question, .deadline_ms = TCP_DEADLINE_MS};

    exchange->state = EXCHANGE_TCP;
    exchange->server = *server;
    exchange->tcp = dns_tcp_start(client->loop, &request, on_tcp_end, exchange);
    client->tcp_count++;
    client->over_tcp_count++;
}

static void on_udp_end(void *owner, const struct dns_udp_result *result)
{
    struct dns_exchange *exchange = owner;

    switch (result->end) {
    case DNS_UDP_TRUNCATED:
        ask_over_tcp(exchange, &result->server);
        return;
    case DNS_UDP_ANSWERED:
        read_answer(exchange, result->packet, &result->server);
        break;
    case DNS_UDP_FAILED:
        dns_space_reset(&exchange->client->space, RESULT_DNS_FAILURE, result->text);
        break;
    }
    end(exchange);
}

static void ask_waiting(struct dns_client *client)
{
    struct link *link;

    while (in_flight(client) < LIMIT_DNS_IN_FLIGHT &&
           (link = list_pop_front(&client->waiting))) {
        struct dns_exchange *exchange = CONTAINER_OF(link, struct dns_exchange, link);

        list_push_back(&client->running, &exchange->link);
        exchange->state = EXCHANGE_UDP;
        exchange->udp =
            dns_udp_start(client->udp, &exchange->question, on_udp_end, exchange);
        client->query_count++;
    }
}

static void on_room(void *owner)
{
    ask_waiting(owner);
}

static enum result open_udp(struct dns_client *client, const struct dns_servers *servers,
                            struct fault *fault)
{
    struct dns_udp_settings settings = {.servers = servers->items,
                                        .server_count = servers->count,
                                        .on_room = on_room,
                                        .owner = client};

    return dns_udp_open(client->loop, &settings, &client->udp, fault);
}

enum result dns_client_open(struct loop *loop, const struct resolver_settings *settings,
                            struct dns_client **client, struct fault *fault)
{
    struct dns_client *opened;
    struct dns_servers servers;
    enum result result = dns_servers_choose(settings, &servers, fault);

    *client = NULL;
    if (result != RESULT_OK)
        return result;
    opened = NEW(struct dns_client);
    opened->loop = loop;
    opened->trusts_ad = settings->trusts_ad;
    list_init(&opened->waiting);
    list_init(&opened->running);
    result = open_udp(opened, &servers, fault);
    if (result != RESULT_OK) {
        memory_free(opened);
        return result;
    }
    if (servers.left_out > 0)
        log_message(LOG_WARNING, "net.dns_servers_left_out",
                    "%zu of %zu DNS servers are not asked: DANE needs answers that can be "
                    "believed. Those left are on loopback; dns.trust_ad believes all, "
                    "delivery.dane = false needs none of it",
                    servers.left_out, servers.left_out + servers.count);
    *client = opened;
    return RESULT_OK;
}

static void drop_all(struct list *exchanges)
{
    struct link *link;

    while ((link = list_first(exchanges))) {
        struct dns_exchange *exchange = CONTAINER_OF(link, struct dns_exchange, link);

        if (exchange->state == EXCHANGE_TCP)
            dns_tcp_cancel(exchange->tcp);
        exchange_free(exchange);
    }
}

void dns_client_close(struct dns_client *client)
{
    if (!client)
        return;
    dns_udp_close(client->udp);
    drop_all(&client->waiting);
    drop_all(&client->running);
    memory_free(client);
}

bool dns_client_has_room(const struct dns_client *client, size_t question_count)
{
    return client->waiting.count + question_count <= LIMIT_DNS_WAITING;
}

struct dns_exchange *dns_exchange_start(struct dns_client *client,
                                        const struct dns_question *question,
                                        dns_exchange_end_fn *on_end, void *owner)
{
    struct dns_exchange *exchange = NEW(struct dns_exchange);

    exchange->client = client;
    exchange->state = EXCHANGE_WAITING;
    exchange->question = *question;
    exchange->on_end = on_end;
    exchange->owner = owner;
    list_push_back(&client->waiting, &exchange->link);
    ask_waiting(client);
    return exchange;
}

void dns_exchange_cancel(struct dns_exchange *exchange)
{
    struct dns_client *client = exchange->client;

    switch (exchange->state) {
    case EXCHANGE_WAITING:
        break;
    case EXCHANGE_UDP:
        dns_udp_cancel(exchange->udp);
        break;
    case EXCHANGE_TCP:
        dns_tcp_cancel(exchange->tcp);
        break;
    }
    exchange_free(exchange);
    ask_waiting(client);
}

bool dns_exchange_is_waiting(const struct dns_exchange *exchange)
{
    return exchange->state == EXCHANGE_WAITING;
}

void dns_client_statistics(const struct dns_client *client,
                           struct resolver_statistics *statistics)
{
    statistics->queries = client->query_count;
    statistics->in_flight = in_flight(client);
    statistics->waiting = client->waiting.count;
    statistics->over_tcp = client->over_tcp_count;
}
