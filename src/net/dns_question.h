/* What is asked of the DNS: a name and a type, in the form of the wire.
 *
 * Owns      nothing: a plain value.
 * Promises  only names that the wire can carry: labels of 1 to 63 bytes, 255 in all,
 *           printable.
 * Ignores   udns and resolver.h, on purpose: each has its own `struct dns_mx`, and this
 *           header is seen by files that include either.
 */
#ifndef SMTPD_NET_DNS_QUESTION_H
#define SMTPD_NET_DNS_QUESTION_H

#include "smtpd/base/ip.h"

enum record_type {
    RECORD_A = 1,
    RECORD_CNAME = 5,
    RECORD_PTR = 12,
    RECORD_MX = 15,
    RECORD_TXT = 16,
    RECORD_AAAA = 28,
    RECORD_TLSA = 52
};

enum {
    DNS_CLASS_IN = 1,
    DNS_WIRE_NAME = 255, /* RFC 1035 2.3.4 */
    DNS_LABEL = 63,
    DNS_HEADER_BYTES = 12,
    DNS_UDP_BYTES = 1232, /* larger answers risk fragments; they come over TCP */
    DNS_QUERY_BYTES = DNS_HEADER_BYTES + DNS_WIRE_NAME + 4 + 11,
    DNS_REVERSE_NAME = 80 /* 32 nibbles, their dots, "ip6.arpa" */
};

struct dns_question {
    enum record_type type;
    size_t name_length;          /* with the root label */
    uint8_t name[DNS_WIRE_NAME]; /* lower case, not compressed */
};

/* RESULT_INVALID: a name that cannot exist. No dot at the end. */
enum result MUST_CHECK dns_question_set(struct dns_question *question, const char *name,
                                        enum record_type type);
/* The whole query with recursion desired, EDNS0 and DO; returns its length. */
size_t dns_question_write(const struct dns_question *question, uint16_t id,
                          uint8_t packet[DNS_QUERY_BYTES]);
/* "4.3.2.1.in-addr.arpa" and the like. */
void dns_question_reverse_name(const struct ip *ip, char name[DNS_REVERSE_NAME]);

#endif
