/* The system's servers are read by the C library, which knows the file. */
#include "dns_servers.h"

#include <netinet/in.h>
#include <resolv.h>
#include <string.h>

static void add(struct dns_servers *servers, const struct endpoint *server)
{
    if (servers->count < LIMIT_DNS_SERVERS)
        servers->items[servers->count++] = *server;
}

static struct endpoint system_server(const struct __res_state *state, int i)
{
    const struct sockaddr_in *four = &state->nsaddr_list[i];
    const struct sockaddr_in6 *six = state->_u._ext.nsaddrs[i];
    struct endpoint server = {0};
    uint8_t bytes[4];

    /* An entry of the one list or of the other. */
    if (four->sin_family == AF_INET) {
        memcpy(bytes, &four->sin_addr, sizeof bytes);
        server.ip = ip_from_v4(bytes);
        server.port = ntohs(four->sin_port);
    } else if (six) {
        memcpy(server.ip.bytes, &six->sin6_addr, sizeof server.ip.bytes);
        server.port = ntohs(six->sin6_port);
    }
    return server;
}

static void add_those_of_the_system(struct dns_servers *servers)
{
    struct __res_state state = {0};

    if (res_ninit(&state) != 0)
        return;
    for (int i = 0; i < state.nscount && i < MAXNS; i++) {
        struct endpoint server = system_server(&state, i);

        if (server.port != 0)
            add(servers, &server);
    }
    res_nclose(&state);
}

bool dns_server_is_believed(const struct endpoint *server, bool trusts_ad)
{
    return trusts_ad || ip_is_loopback(&server->ip);
}

static void leave_out_the_others(struct dns_servers *servers, bool trusts_ad)
{
    size_t believed = 0;

    for (size_t i = 0; i < servers->count; i++)
        believed += dns_server_is_believed(&servers->items[i], trusts_ad);
    if (believed == 0)
        return;
    servers->left_out = servers->count - believed;
    believed = 0;
    for (size_t i = 0; i < servers->count; i++)
        if (dns_server_is_believed(&servers->items[i], trusts_ad))
            servers->items[believed++] = servers->items[i];
    servers->count = believed;
}

enum result dns_servers_choose(const struct resolver_settings *settings,
                               struct dns_servers *servers, struct fault *fault)
{
    static const uint8_t own[4] = {127, 0, 0, 1};
    struct endpoint here = {.ip = ip_from_v4(own), .port = 53};

    *servers = (struct dns_servers){0};
    if (settings->server_count > LIMIT_DNS_SERVERS)
        return fault_set(fault, RESULT_TOO_LARGE,
                         "%zu DNS servers are given, at most %d serve",
                         settings->server_count, LIMIT_DNS_SERVERS);
    for (size_t i = 0; i < settings->server_count; i++)
        add(servers, &settings->servers[i]);
    if (servers->count == 0)
        add_those_of_the_system(servers);
    if (servers->count == 0)
        add(servers, &here);
    if (settings->wants_authentic)
        leave_out_the_others(servers, settings->trusts_ad);
    return RESULT_OK;
}
