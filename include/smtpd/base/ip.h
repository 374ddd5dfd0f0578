/* IP addresses, networks and endpoints as plain values. IPv4 is kept as ::ffff:a.b.c.d, so
 * that one comparison serves both. */
#ifndef SMTPD_BASE_IP_H
#define SMTPD_BASE_IP_H

#include "smtpd/base/bytes.h"

enum { IP_TEXT = 64 };

struct ip {
    uint8_t bytes[16];
};

struct endpoint {
    struct ip ip;
    uint16_t port;
};

struct network {
    struct ip ip;
    uint8_t prefix; /* of 128 */
};

bool ip_is_v4(const struct ip *ip);
bool ip_equal(const struct ip *a, const struct ip *b);
enum result MUST_CHECK ip_parse(struct slice text, struct ip *ip);
void ip_print(const struct ip *ip, char text[IP_TEXT]);
/* "192.0.2.1" or "IPv6:2001:db8::1": how SMTP writes it (RFC 5321 4.1.3, without brackets).
 */
void ip_print_smtp(const struct ip *ip, char text[IP_TEXT]);
struct ip ip_from_v4(const uint8_t bytes[4]);
/* Loopback, RFC 1918, RFC 4193, link-local, shared (RFC 6598), unspecified, multicast,
 * documentation and benchmark nets: nowhere that mail of the internet may lead. */
bool ip_is_private(const struct ip *ip);
bool ip_is_loopback(const struct ip *ip);

/* "192.0.2.0/24", "2001:db8::/32", or a single address. Host bits must be zero. */
enum result MUST_CHECK network_parse(struct slice text, struct network *network);
bool network_contains(const struct network *network, const struct ip *ip);
void network_print(const struct network *network, char text[IP_TEXT]);

/* "192.0.2.1:25", "[2001:db8::1]:25", "*:25" is refused: say "0.0.0.0:25" and "[::]:25". */
enum result MUST_CHECK endpoint_parse(struct slice text, struct endpoint *endpoint);
void endpoint_print(const struct endpoint *endpoint, char text[IP_TEXT]);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
/* One is the port on all addresses of a family, the other the port on one of them: the kernel binds
 * only one of the two. */
bool endpoint_overlaps(const struct endpoint *a, const struct endpoint *b);

#endif
