/* One question over UDP: the wall in front of udns.
 *
 * Owns      the udns context, its socket and its timer.
 * Promises  `on_end` runs once, from the loop; never inside dns_udp_start(), never after
 *           dns_udp_cancel(). A truncated answer ends the query at once, with its server.
 * Ignores   what an answer says, TCP, deadlines (udns gives up after 21 to 36 s by
 *           itself), and how many queries there are: above some 200 udns loses answers,
 *           see resolver.c.
 */
#ifndef SMTPD_NET_DNS_UDP_H
#define SMTPD_NET_DNS_UDP_H

#include "dns_question.h"
#include "smtpd/loop/loop.h"

struct dns_udp;
struct dns_udp_query;

enum dns_udp_end { DNS_UDP_ANSWERED, DNS_UDP_TRUNCATED, DNS_UDP_FAILED };

/* Lives during the callback only. */
struct dns_udp_result {
    enum dns_udp_end end;
    struct slice packet; /* ANSWERED: NOERROR or NXDOMAIN to our question, else unchecked */
    struct endpoint server; /* ANSWERED, TRUNCATED: who said so */
    char text[128];         /* FAILED: why */
};
typedef void dns_udp_end_fn(void *owner, const struct dns_udp_result *result);

struct dns_udp_settings {
    const struct endpoint *servers; /* one to LIMIT_DNS_SERVERS */
    size_t server_count;
    loop_fn *on_room; /* from the loop, each time that dns_udp_count() has gone down */
    void *owner;
};

enum result MUST_CHECK dns_udp_open(struct loop *loop,
                                    const struct dns_udp_settings *settings,
                                    struct dns_udp **udp, struct fault *fault);
void dns_udp_close(struct dns_udp *udp); /* no callbacks any more */
/* Copies the question. */
struct dns_udp_query *dns_udp_start(struct dns_udp *udp,
                                    const struct dns_question *question,
                                    dns_udp_end_fn *on_end, void *owner);
/* udns goes on with it in silence, so it stays in dns_udp_count(). */
void dns_udp_cancel(struct dns_udp_query *query);
size_t dns_udp_count(const struct dns_udp *udp); /* what udns has in hand */

#endif
