/* A DNS server for tests, on 127.0.0.1, on the loop of the test: UDP and TCP on one port.
 * It says what its rows say, and misbehaves as they ask. */
#ifndef SMTPD_TESTS_FAKE_DNS_H
#define SMTPD_TESTS_FAKE_DNS_H

#include "smtpd/base/ip.h"
#include "smtpd/loop/loop.h"

enum fake_dns_manner {
    FAKE_DNS_ANSWERS,
    FAKE_DNS_IS_SILENT,
    FAKE_DNS_TRUNCATES,          /* over UDP; over TCP all is there, in two pieces */
    FAKE_DNS_CLOSES_TCP,         /* truncates, then closes TCP within the answer */
    FAKE_DNS_CONFUSES_TCP,       /* truncates, then answers TCP with another id */
    FAKE_DNS_IS_SILENT_OVER_TCP, /* truncates, then accepts and says nothing */
    FAKE_DNS_GARBLES,            /* the answer ends within its first record */
    FAKE_DNS_KNOWS_NO_EDNS       /* FORMERR to OPT */
};

struct fake_dns_row {
    const char *name; /* "*": any; "*.a.test": below it */
    unsigned type;    /* 0: any */
    enum fake_dns_manner manner;
    unsigned rcode;
    uint32_t ttl_s;
    /* Separated by ';', each owned by the name before: "CNAME x.test;MX 10 mx.test",
     * "A 192.0.2.1", "AAAA 2001:db8::1", "PTR host.test", "TXT one string|another",
     * "TLSA 3 1 1 0123abcd" (hex; any data, none too). In names and TXT \DDD is a byte. */
    const char *records;
    unsigned mx_count; /* more records: "MX 10 mx<i>.test" */
    bool is_authentic;
};

struct fake_dns;

struct fake_dns *fake_dns_open(struct loop *loop, const struct fake_dns_row *rows,
                               size_t count);
void fake_dns_close(struct fake_dns *fake);
struct endpoint fake_dns_endpoint(const struct fake_dns *fake);
/* UDP answers leave so much later, all that came meanwhile together. */
void fake_dns_delay(struct fake_dns *fake, int64_t delay_ms);
unsigned fake_dns_udp_count(const struct fake_dns *fake);
unsigned fake_dns_tcp_count(const struct fake_dns *fake);
unsigned fake_dns_most_pending(const struct fake_dns *fake); /* unanswered at a time */

enum { FAKE_DNS_PACKET = 65535 };
/* The answer of a row to a query; for tests of the parser too. Returns its length. */
size_t fake_dns_answer(const struct fake_dns_row *row, const uint8_t *query,
                       size_t query_bytes, uint8_t packet[FAKE_DNS_PACKET]);

#endif
