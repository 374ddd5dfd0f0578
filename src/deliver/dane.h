/* What the TLSA records of a host ask of a connection to it (RFC 7672).
 *
 * Owns      its look-ups, the records that were found, the names that go with them.
 * Promises  `on_end` runs once, from the loop: never inside dane_start(), never after
 *           dane_free(). Only authentic answers count, and a look-up that fails is never
 *           taken for "there are none": DANE_IS_UNKNOWN.
 * Ignores   whether the way from the domain to the host is authentic: who asks knows that
 *           it is (struct tls_policy).
 */
#ifndef SMTPD_DELIVER_DANE_H
#define SMTPD_DELIVER_DANE_H

#include "inner.h"

enum dane_wish {
    DANE_IS_UNKNOWN, /* for now, or until dane_start() has ended: the host must not be used */
    DANE_IS_SILENT,  /* no records: as the settings say */
    DANE_WANTS_TLS,  /* records, and none that we can use: TLS, any certificate */
    DANE_WANTS_MATCH /* TLS, and the certificate must fit */
};

struct dane_request {   /* lives during the call of dane_start() only */
    const char *domain; /* of the mail, or the route's host: a name of DANE-TA */
    const char *host;
    uint16_t port;
    bool is_route; /* the domain has no MX that led here */
};

struct dane;
struct dane *dane_start(struct deliver *deliver, const struct dane_request *request,
                        loop_fn *on_end, void *owner);
/* What the old resolver was asked the new one is asked: it is about to go. */
void dane_ask_again(struct deliver *deliver);
void dane_free(struct dane *dane); /* at any time; NULL is fine */

enum dane_wish dane_wish(const struct dane *dane);
const char *dane_text(const struct dane *dane); /* of DANE_IS_UNKNOWN: why */
/* The name that the records stand under: what the server is asked for (SNI). */
const char *dane_base(const struct dane *dane);
/* The records as they stand in the DNS, parted by '|'; "": there are none. */
const char *dane_records(const struct dane *dane);
/* DANE_WANTS_MATCH: the set, once; then it is the caller's. */
struct tlsa_set *dane_take_set(struct dane *dane);
/* May mail of this domain go over a connection that was made after this, with these facts? A
 * certificate that bears the name of another domain is none of ours. */
bool dane_fits(const struct dane *dane, const struct tls_facts *facts, const char *domain);
/* How the TLS of such a connection is told. */
enum deliver_tls_policy dane_policy(const struct dane *dane);

#endif
