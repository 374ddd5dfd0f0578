/* One question over TCP, for answers that do not fit into a datagram (RFC 7766).
 *
 * Owns      its connection, from connect to the whole answer.
 * Promises  `on_end` runs once, from the loop: never inside dns_tcp_start(), never after
 *           dns_tcp_cancel(). Then the operation frees itself. The packet answers our id
 *           and is whole; whether it answers our question is the parser's to say
 *           (dns_answer.h).
 */
#ifndef SMTPD_NET_DNS_TCP_H
#define SMTPD_NET_DNS_TCP_H

#include "dns_question.h"
#include "smtpd/loop/loop.h"

struct dns_tcp;

/* `packet` lives during the call; or `failure` says what went wrong. */
typedef void dns_tcp_end_fn(void *owner, struct slice packet, const char *failure);

/* Lives during the call of dns_tcp_start() only. */
struct dns_tcp_request {
    const struct endpoint *server;
    const struct dns_question *question;
    int64_t deadline_ms; /* from now */
};
struct dns_tcp *dns_tcp_start(struct loop *loop, const struct dns_tcp_request *request,
                              dns_tcp_end_fn *on_end, void *owner);
void dns_tcp_cancel(struct dns_tcp *tcp);

#endif
