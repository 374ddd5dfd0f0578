/* A DNS packet -> records. Pure: no I/O, no clock, no udns; what comes in may be hostile.
 *
 * Promises  every packet gives an answer; one that makes no sense gives
 *           RESULT_DNS_FAILURE. Host names are letters, digits, '-', '_' and single dots,
 *           in lower case: a record with any other name is skipped, never repaired.
 * Ignores   the id (who sent the query knows it), authority and additional records.
 */
#ifndef SMTPD_NET_DNS_ANSWER_H
#define SMTPD_NET_DNS_ANSWER_H

#include "dns_question.h"
#include "smtpd/base/limits.h"
#include "smtpd/net/resolver.h"

enum { DNS_ANSWER_ADDRESSES = 2 * LIMIT_HOST_ADDRESSES };

/* An answer with the room that its pointers point to: 43 KB, so there is one per resolver.
 */
struct dns_space {
    struct dns_answer answer;
    struct dns_mx mx[LIMIT_DNS_ANSWER_MX];
    struct ip addresses[DNS_ANSWER_ADDRESSES];
    char name[256];
    char canonical[256];
    struct slice txt[LIMIT_DNS_ANSWER_TXT];
    struct tlsa tlsa[LIMIT_DNS_ANSWER_TLSA];
    char txt_bytes[LIMIT_DNS_TXT_BYTES]; /* of TLSA data too */
    size_t txt_length;
};

/* Empties it: no records, `result`, `text` (a copy; NULL: none). */
void dns_space_reset(struct dns_space *space, enum result result, const char *text);
/* ttl_ms is the least of the records and aliases used, as the server said it; is_authentic
 * is the AD bit, whoever set it. */
void dns_answer_parse(struct slice packet, const struct dns_question *question,
                      struct dns_space *space);

#endif
