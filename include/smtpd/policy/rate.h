/* Counters per client. Now: connections open at once; rates come later behind the same
 * door. */
#ifndef SMTPD_POLICY_RATE_H
#define SMTPD_POLICY_RATE_H

#include "smtpd/base/ip.h"

struct rate_settings {
    unsigned connections;
    unsigned connections_per_address; /* IPv6: per /64 */
};

struct rate;
enum rate_verdict { RATE_OK, RATE_TOO_MANY, RATE_TOO_MANY_FROM_ADDRESS };

struct rate *rate_new(const struct rate_settings *settings);
void rate_apply(struct rate *rate, const struct rate_settings *settings);
void rate_free(struct rate *rate);
enum rate_verdict rate_admit(struct rate *rate,
                             const struct ip *peer);       /* RATE_OK: counted */
void rate_leave(struct rate *rate, const struct ip *peer); /* after RATE_OK */
unsigned rate_connections(const struct rate *rate);

#endif
