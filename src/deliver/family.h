/* IPv4 and IPv6: one that keeps failing where the other works stands behind it, for one host or for
 * all; a single connection finds out whether it works again. */
#ifndef SMTPD_DELIVER_FAMILY_H
#define SMTPD_DELIVER_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

struct ip;

enum family { FAMILY_IPV4, FAMILY_IPV6, FAMILIES };

enum {
    FAMILY_HOST_FAILURES = 2, /* in a row: it stands behind at this host */
    FAMILY_ALL_FAILURES = 5,  /* at so many hosts in a row: everywhere */
    FAMILY_BEHIND_MS = 600000
};

struct family_memory { /* of a host, or of all; zeroed: nothing is known */
    struct {
        unsigned failures;
        int64_t behind_until_ms; /* wall; 0: it is not */
        const void *last; /* the host of the last failure: compared, never looked into */
    } of[FAMILIES];
};

enum family family_of(const struct ip *ip);
bool family_stands_behind(const struct family_memory *memory, enum family family,
                          int64_t now_ms);
/* For a connection that has both. When the time is over it is the probe, and to others the family
 * stands behind for as long again. */
void family_probe(struct family_memory *memory, enum family family, int64_t now_ms);
/* It failed where the other one connected. True: it stands behind from now on. For the memory of all
 * hosts a second failure at the same `host` in a row is none; NULL: each counts. */
bool family_failed(struct family_memory *memory, enum family family, const void *host,
                   int64_t now_ms);
/* True: it stood behind until now. */
bool family_works(struct family_memory *memory, enum family family);
/* The time of day stepped. */
void family_move_clock(struct family_memory *memory, int64_t by_ms);
/* The events; no host: everywhere. */
void family_log_behind(enum family family, const char *host);
void family_log_back(enum family family, const char *host);

#endif
