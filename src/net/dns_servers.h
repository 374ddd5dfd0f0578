/* Which name servers are asked.
 *
 * Promises  with `wants_authentic` and at least one believed server among them only the believed
 *           ones are left, in their order: the next server is asked after a SERVFAIL too, and one
 *           that does not validate would turn a bogus answer into a good one (RFC 4033 3.1).
 * Ignores   whether a server answers.
 */
#ifndef SMTPD_NET_DNS_SERVERS_H
#define SMTPD_NET_DNS_SERVERS_H

#include "smtpd/base/limits.h"
#include "smtpd/net/resolver.h"

struct dns_servers {
    struct endpoint items[LIMIT_DNS_SERVERS];
    size_t count;
    size_t left_out; /* not asked, because others are believed */
};

/* Whether what this server says of authenticity counts. */
bool dns_server_is_believed(const struct endpoint *server, bool trusts_ad);
/* RESULT_TOO_LARGE: more than LIMIT_DNS_SERVERS in the settings. Reads /etc/resolv.conf if they
 * have none; without that file it is 127.0.0.1. */
enum result MUST_CHECK dns_servers_choose(const struct resolver_settings *settings,
                                          struct dns_servers *servers, struct fault *fault);

#endif
