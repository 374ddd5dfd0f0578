/* Addresses as text and back. inet_pton and inet_ntop know the grammar of IPv6. */
#include "smtpd/base/ip.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool ip_is_v4(const struct ip *ip)
{
    return memcmp(ip->bytes, v4_prefix, sizeof v4_prefix) == 0;
}

bool ip_equal(const struct ip *a, const struct ip *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

struct ip ip_from_v4(const uint8_t bytes[4])
{
    struct ip ip;

    memcpy(ip.bytes, v4_prefix, sizeof v4_prefix);
    memcpy(ip.bytes + 12, bytes, 4);
    return ip;
}

enum result ip_parse(struct slice text, struct ip *ip)
{
    char copy[IP_TEXT];
    uint8_t four[4];

    if (!slice_copy_text(text, copy, sizeof copy))
        return RESULT_INVALID;
    if (inet_pton(AF_INET, copy, four) == 1) {
        *ip = ip_from_v4(four);
        return RESULT_OK;
    }
    return inet_pton(AF_INET6, copy, ip->bytes) == 1 ? RESULT_OK : RESULT_INVALID;
}

void ip_print(const struct ip *ip, char text[IP_TEXT])
{
    const char *printed = ip_is_v4(ip) ? inet_ntop(AF_INET, ip->bytes + 12, text, IP_TEXT)
                                       : inet_ntop(AF_INET6, ip->bytes, text, IP_TEXT);

    if (!printed)
        text[0] = '\0';
}

void ip_print_smtp(const struct ip *ip, char text[IP_TEXT])
{
    char plain[IP_TEXT];

    ip_print(ip, plain);
    (void)snprintf(text, IP_TEXT, "%s%.50s", ip_is_v4(ip) ? "" : "IPv6:", plain);
}

static bool has_prefix(const struct ip *ip, const struct ip *net, unsigned prefix)
{
    unsigned whole = prefix / 8;
    unsigned rest = prefix % 8;
    uint8_t mask = (uint8_t)(0xff00U >> rest);

    if (memcmp(ip->bytes, net->bytes, whole) != 0)
        return false;
    return rest == 0 || ((ip->bytes[whole] ^ net->bytes[whole]) & mask) == 0;
}

bool network_contains(const struct network *network, const struct ip *ip)
{
    return has_prefix(ip, &network->ip, network->prefix);
}

enum result network_parse(struct slice text, struct network *network)
{
    size_t slash = slice_find(text, '/');
    uint64_t prefix;
    bool is_v4;

    if (ip_parse(slice_part(text, 0, slash), &network->ip) != RESULT_OK)
        return RESULT_INVALID;
    is_v4 = ip_is_v4(&network->ip);
    prefix = is_v4 ? 32 : 128;
    if (slash < text.length &&
        slice_to_u64(slice_from(text, slash + 1), is_v4 ? 32 : 128, &prefix) != RESULT_OK)
        return RESULT_INVALID;
    network->prefix = (uint8_t)(prefix + (is_v4 ? 96 : 0));
    for (unsigned bit = network->prefix; bit < 128; bit++)
        if (network->ip.bytes[bit / 8] & (0x80U >> bit % 8))
            return RESULT_INVALID;
    return RESULT_OK;
}

void network_print(const struct network *network, char text[IP_TEXT])
{
    char plain[IP_TEXT];
    bool is_v4 = ip_is_v4(&network->ip) && network->prefix >= 96;

    ip_print(&network->ip, plain);
    (void)snprintf(text, IP_TEXT, "%.50s/%u", plain, network->prefix - (is_v4 ? 96U : 0U));
}

enum result endpoint_parse(struct slice text, struct endpoint *endpoint)
{
    size_t colon = text.length;
    struct slice host;
    uint64_t port;

    while (colon > 0 && text.data[colon - 1] != ':')
        colon--;
    if (colon == 0 || slice_to_u64(slice_from(text, colon), 65535, &port) != RESULT_OK)
        return RESULT_INVALID;
    host = slice_part(text, 0, colon - 1);
    if (host.length > 2 && host.data[0] == '[' && host.data[host.length - 1] == ']')
        host = slice_part(host, 1, host.length - 2);
    else if (slice_find(host, ':') < host.length)
        return RESULT_INVALID; /* IPv6 needs its brackets */
    endpoint->port = (uint16_t)port;
    return ip_parse(host, &endpoint->ip);
}

void endpoint_print(const struct endpoint *endpoint, char text[IP_TEXT])
{
    char plain[IP_TEXT];
    bool is_v4 = ip_is_v4(&endpoint->ip);

    ip_print(&endpoint->ip, plain);
    (void)snprintf(text, IP_TEXT, "%s%.48s%s:%u", is_v4 ? "" : "[", plain, is_v4 ? "" : "]",
                   endpoint->port);
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && ip_equal(&a->ip, &b->ip);
}

static bool is_any(const struct ip *ip)
{
    static const struct ip any;
    static const uint8_t any_v4[4];
    struct ip v4 = ip_from_v4(any_v4);

    return ip_equal(ip, &any) || ip_equal(ip, &v4);
}

bool endpoint_overlaps(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && ip_is_v4(&a->ip) == ip_is_v4(&b->ip) &&
           is_any(&a->ip) != is_any(&b->ip);
}

bool ip_is_loopback(const struct ip *ip)
{
    static const struct ip one = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

    return ip_is_v4(ip) ? ip->bytes[12] == 127 : ip_equal(ip, &one);
}

bool ip_is_private(const struct ip *ip)
{
    static const char *const nets[] = {
        "0.0.0.0/8",      "10.0.0.0/8",    "100.64.0.0/10",   "127.0.0.0/8",
        "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",    "192.0.2.0/24",
        "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/3",    "::/128",        "::1/128",         "fc00::/7",
        "fe80::/10",      "ff00::/8",      "2001:db8::/32",   "100::/64"};
    struct network network;

    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++)
        if (network_parse(slice_of(nets[i]), &network) == RESULT_OK &&
            network_contains(&network, ip))
            return true;
    return false;
}
