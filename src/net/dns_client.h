/* Questions to the DNS servers: over UDP, and over TCP what did not fit.
 *
 * Owns      the questions from start to end; at most LIMIT_DNS_IN_FLIGHT are asked at
 *           once, the others wait in order.
 * Promises  the completion rule (docs/architecture.md). The answer is parsed, and authentic only
 *           if a server on loopback says so (anybody could set that bit on the way), or one
 *           that the settings trust.
 * Ignores   caching, and how long somebody wants to wait.
 */
#ifndef SMTPD_NET_DNS_CLIENT_H
#define SMTPD_NET_DNS_CLIENT_H

#include "dns_answer.h"

struct dns_client;
struct dns_exchange;

/* `space` lives during the call; the owner may change it. */
typedef void dns_exchange_end_fn(void *owner, struct dns_space *space);

enum result MUST_CHECK dns_client_open(struct loop *loop,
                                       const struct resolver_settings *settings,
                                       struct dns_client **client, struct fault *fault);
void dns_client_close(struct dns_client *client); /* no callbacks any more */
/* False: LIMIT_DNS_WAITING would be passed by so many more questions. */
bool dns_client_has_room(const struct dns_client *client, size_t question_count);
/* Copies the question. */
struct dns_exchange *dns_exchange_start(struct dns_client *client,
                                        const struct dns_question *question,
                                        dns_exchange_end_fn *on_end, void *owner);
void dns_exchange_cancel(struct dns_exchange *exchange);
bool dns_exchange_is_waiting(const struct dns_exchange *exchange); /* not asked yet */
/* Fills queries, in_flight, waiting and over_tcp. */
void dns_client_statistics(const struct dns_client *client,
                           struct resolver_statistics *statistics);

#endif
