/* TLSA records: which certificates or keys a server may show (RFC 6698 2.1), and which of them
 * count for mail (RFC 7672 3.1).
 *
 * Owns      a set: copies of the records that can be used, and the names that a certificate
 *           below a trust anchor may bear.
 * Promises  pure. A record that cannot be used is never in a set.
 * Ignores   where the records came from, and whether that was authentic.
 */
#ifndef SMTPD_NET_TLSA_H
#define SMTPD_NET_TLSA_H

#include "smtpd/base/bytes.h"

enum tlsa_usage { TLSA_PKIX_TA, TLSA_PKIX_EE, TLSA_DANE_TA, TLSA_DANE_EE };
enum tlsa_selector { TLSA_CERTIFICATE, TLSA_KEY };
enum tlsa_matching { TLSA_FULL, TLSA_SHA256, TLSA_SHA512 };

struct tlsa {
    uint8_t usage; /* any number: see tlsa_is_usable() */
    uint8_t selector;
    uint8_t matching;
    struct slice data;
};

/* Usages 0 and 1 are not for mail (RFC 7672 3.1.3); a digest must have its length. */
bool tlsa_is_usable(const struct tlsa *tlsa);

enum { TLSA_NAMES = 3 };
struct tlsa_set;

/* NULL: none of them is usable. Of digests by the same usage and selector only the strongest
 * count (RFC 7671 9). */
struct tlsa_set *tlsa_set_new(const struct tlsa *records, size_t count);
void tlsa_set_free(struct tlsa_set *set); /* NULL is fine */
size_t tlsa_set_count(const struct tlsa_set *set);
const struct tlsa *tlsa_set_at(const struct tlsa_set *set, size_t at);
/* Copies; at most TLSA_NAMES, each once. The first is the name that the records stand under:
 * it is what the server is asked for. */
void tlsa_set_add_name(struct tlsa_set *set, const char *name);
const char *tlsa_set_name(const struct tlsa_set *set, size_t at); /* NULL: no more */

#endif
