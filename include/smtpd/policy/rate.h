/* Counters per client: connections open at once, and new ones in a time.
 *
 * Owns      a count per address and per network with a connection open; a record per address
 *           and per network that connected of late, or per address that misbehaved.
 * Promises  bounded: the counts by the connections themselves, the records by
 *           RATE_RECORDS_MAX. When those are full, the one that came longest ago is
 *           forgotten. Clients that are exempt (trusted networks, who logged in) count in
 *           `connections` and `connections_per_address` only.
 * Ignores   clocks: the caller brings the time.
 */
#ifndef SMTPD_POLICY_RATE_H
#define SMTPD_POLICY_RATE_H

#include "smtpd/base/ip.h"
#include "smtpd/base/quota.h"

enum { RATE_RECORDS_MAX = 20000 };

struct rate_settings {
    unsigned connections;
    unsigned connections_per_address; /* IPv6: per /64 */
    unsigned connections_per_network; /* IPv4: per /24, IPv6: per /48 */
    struct quotas connection_rate;    /* new ones per address */
    struct quotas network_rate;       /* new ones per network */
};

struct rate;
enum rate_verdict {
    RATE_OK,
    RATE_TOO_MANY,
    RATE_TOO_MANY_FROM_ADDRESS,
    RATE_TOO_MANY_FROM_NETWORK,
    RATE_TOO_OFTEN,
    RATE_TOO_OFTEN_FROM_NETWORK,
    RATE_BARRED, /* an offender: rate_bar() */
};

/* Who connects. */
struct rate_client {
    struct ip peer;
    bool is_exempt;
};

struct rate *rate_new(const struct rate_settings *settings);
void rate_apply(struct rate *rate, const struct rate_settings *settings);
void rate_free(struct rate *rate);
/* RATE_OK: counted, until rate_leave() with the same client. */
enum rate_verdict rate_admit(struct rate *rate, const struct rate_client *client,
                             int64_t now_ms);
/* It logged in: what only strangers meet is given back. */
void rate_exempt(struct rate *rate, struct rate_client *client);
void rate_leave(struct rate *rate, const struct rate_client *client);
/* No connection from that address (IPv6: /64) before `until_ms`, unless it is exempt. */
void rate_bar(struct rate *rate, const struct ip *peer, int64_t until_ms, int64_t now_ms);
unsigned rate_connections(const struct rate *rate);
size_t rate_records(const struct rate *rate);

#endif
