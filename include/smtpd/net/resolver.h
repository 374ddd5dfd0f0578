/* DNS: MX, addresses, names, texts and TLSA, with deadline, cache, joined look-ups and TCP fallback.
 *
 * Owns      the udns context; the cache (LIMIT_DNS_CACHE entries, TTL between 30 s and 1
 *           h, negative answers 5 min, failures 0); at most LIMIT_DNS_IN_FLIGHT queries at
 *           once, the rest waits (at most LIMIT_DNS_WAITING, then RESULT_DNS_FAILURE).
 * Promises  the completion rule (docs/architecture.md). A cached answer never waits behind a cold
 *           one. Two look-ups of the same question are one query. A truncated answer is
 *           asked again over TCP. Every answer ends within `deadline_ms`.
 * Ignores   what an answer means for mail: see deliver/router.
 */
#ifndef SMTPD_NET_RESOLVER_H
#define SMTPD_NET_RESOLVER_H

#include "smtpd/base/bytes.h"
#include "smtpd/base/ip.h"
#include "smtpd/loop/loop.h"
#include "smtpd/net/tlsa.h"

struct resolver;
struct lookup;

struct resolver_settings {
    const struct endpoint *servers; /* none: the system's (/etc/resolv.conf) */
    size_t server_count;            /* at most LIMIT_DNS_SERVERS */
    int64_t deadline_ms;            /* 0: 30 s */
    bool trusts_ad;                 /* of servers that are not on loopback too */
    bool wants_authentic; /* beside a server that is believed, no other is asked */
};

enum lookup_kind {
    LOOKUP_MX,
    LOOKUP_IPV4,    /* A alone: block lists have nothing else */
    LOOKUP_ADDRESS, /* A and AAAA in one answer: IPv6 first, each in the order it came */
    LOOKUP_PTR,     /* of an address, by lookup_start_ptr */
    LOOKUP_TXT,     /* each record's strings joined (RFC 7208 3.3, RFC 6376 3.6.2.2) */
    LOOKUP_CNAME,   /* whether a name is an alias, and an authentic one: `name` */
    LOOKUP_TLSA     /* RFC 6698; of "_25._tcp.mx.example.com" */
};

struct dns_mx {
    uint16_t preference;
    char host[256]; /* lower case, no dot at the end; "" is the root (null MX, RFC 7505) */
};

/* Lives during the callback only. */
struct dns_answer {
    /* RESULT_OK (at least one record), RESULT_DNS_NXDOMAIN, RESULT_DNS_NODATA,
     * RESULT_DNS_FAILURE (SERVFAIL, time-out, malformed: for now). For LOOKUP_ADDRESS one
     * family is enough for RESULT_OK; a failure of one and no data of the other is a
     * failure. */
    enum result result;
    char text[160]; /* of a failure: what to tell the operator */
    int64_t ttl_ms; /* what is left of it */
    /* AD bit, from a resolver on loopback (or a trusted one, see above). For LOOKUP_ADDRESS: of
     * what was answered; a family that failed says nothing, an attacker cannot make it so. */
    bool is_authentic;
    const char *canonical; /* what the name is an alias of; NULL: of nothing */
    const struct dns_mx *mx;
    size_t mx_count; /* in no order; at most LIMIT_DNS_ANSWER_MX */
    const struct ip *addresses;
    size_t address_count; /* at most 2 * LIMIT_HOST_ADDRESSES; no family pushes out the
                             other */
    const char *name;     /* PTR, CNAME */
    /* TXT: any bytes; at most LIMIT_DNS_ANSWER_TXT records of LIMIT_DNS_TXT_BYTES in all. */
    const struct slice *txt;
    size_t txt_count;
    /* TLSA: at most LIMIT_DNS_ANSWER_TLSA. One that is larger than LIMIT_DNS_TXT_BYTES has no
     * data: it is there, and not usable. */
    const struct tlsa *tlsa;
    size_t tlsa_count;
};

typedef void lookup_end_fn(void *owner, const struct dns_answer *answer);

enum result MUST_CHECK resolver_new(struct loop *loop,
                                    const struct resolver_settings *settings,
                                    struct resolver **resolver, struct fault *fault);
void resolver_free(struct resolver *resolver); /* no callbacks any more */
/* `name` is lower-case ASCII without a dot at the end; one that cannot exist (too long, an
 * empty label, blanks) is RESULT_DNS_NXDOMAIN. Not for address literals. */
struct lookup *lookup_start(struct resolver *resolver, enum lookup_kind kind,
                            const char *name, lookup_end_fn *on_end, void *owner);
struct lookup *lookup_start_ptr(struct resolver *resolver, const struct ip *ip,
                                lookup_end_fn *on_end, void *owner);
void lookup_cancel(struct lookup *lookup);
/* Would the answer come without a question to a server? */
bool resolver_knows(struct resolver *resolver, enum lookup_kind kind, const char *name);

struct resolver_statistics {
    uint64_t queries;
    uint64_t answers_ok;
    uint64_t answers_negative;
    uint64_t answers_failed;
    uint64_t cache_hits;
    uint64_t cache_entries;
    uint64_t in_flight;
    uint64_t waiting;
    uint64_t over_tcp;
};
void resolver_statistics(const struct resolver *resolver,
                         struct resolver_statistics *statistics);

#endif
