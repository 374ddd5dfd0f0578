/* What the DNS said lately, by question, least recently used out first.
 *
 * Owns      at most `most_entries` answers, each packed into one small block.
 * Promises  constant time. An answer is given out up to its TTL: 30 s to 1 h as the server
 *           said for records, 5 min for their absence. Failures are not kept.
 */
#ifndef SMTPD_NET_DNS_CACHE_H
#define SMTPD_NET_DNS_CACHE_H

#include "dns_answer.h"

struct dns_cache;
struct dns_packed; /* an answer in one block of the heap */

struct dns_packed *dns_pack(const struct dns_answer *answer, int64_t expires_ms);
struct dns_packed *dns_packed_copy(const struct dns_packed *packed);
void dns_packed_free(struct dns_packed *packed);
void dns_unpack(const struct dns_packed *packed, int64_t now_ms, struct dns_space *space);

/* How long an answer may be used: the limits above. 0: not at all. */
int64_t dns_cache_ttl_ms(enum result result, int64_t ttl_ms);

struct dns_cache *dns_cache_new(size_t most_entries);
void dns_cache_free(struct dns_cache *cache);
size_t dns_cache_count(const struct dns_cache *cache);
/* Borrowed until the next call; NULL: not there, or too old. */
const struct dns_packed *dns_cache_get(struct dns_cache *cache, struct slice key,
                                       int64_t now_ms);
/* answer->ttl_ms is what dns_cache_ttl_ms() said; 0 is not kept. */
void dns_cache_put(struct dns_cache *cache, struct slice key,
                   const struct dns_answer *answer, int64_t now_ms);

#endif
