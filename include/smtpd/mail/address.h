/* Mailboxes and domains: parse, normalise, print.
 *
 * Promises  pure; bounded by limits.h; what parses prints again to the same meaning.
 * Ignores   whether anything exists, routing, DNS.
 *
 * Grammar: RFC 5321 4.1.2 with RFC 6531 3.3 (UTF-8 in local part and domain), address
 * literals 4.1.3. A source route ("@a,@b:user@c") is accepted and dropped (RFC
 * 5321 4.1.1.3).
 */
#ifndef SMTPD_MAIL_ADDRESS_H
#define SMTPD_MAIL_ADDRESS_H

#include "smtpd/base/bytes.h"
#include "smtpd/base/limits.h"

struct address {
    char text[LIMIT_ADDRESS +
              1];          /* local@domain as given, without brackets and route; "" null */
    uint16_t local_length; /* the domain starts at text + local_length + 1 */
    bool is_null;          /* <> */
    bool needs_smtputf8;   /* a byte above 127 anywhere */
    bool is_literal;       /* domain is [192.0.2.1] or [IPv6:...] */
    bool is_bare_postmaster; /* <postmaster> without a domain (RFC 5321 4.5.1) */
};

/* The path of MAIL or RCPT with its angle brackets, off the front of *rest ("<a@b>
 * SIZE=1"). A missing pair of brackets is RESULT_INVALID. */
enum result MUST_CHECK address_parse_path(struct slice *rest, struct address *address);
/* A bare mailbox, "user@example.com" (configuration, command line). Never null. */
enum result MUST_CHECK address_parse_mailbox(struct slice text, struct address *address);

struct slice address_local(const struct address *address);
struct slice
address_domain(const struct address *address); /* empty for null and bare postmaster */

enum { DOMAIN_TEXT = LIMIT_DOMAIN + 1 };
/* Lower case, A-labels (RFC 5891 by libidn2, non-transitional), no dot at the end. This
 * form is what lanes, routes, DNS and limits use. Literals are kept in brackets, lower
 * case. RESULT_INVALID when it is no domain of RFC 5321. */
enum result MUST_CHECK domain_normalise(struct slice domain, char normal[DOMAIN_TEXT]);
/* "example.com" matches itself; "*.example.com" what is below it; "*" everything. All
 * normal. */
bool domain_matches(const char *pattern, const char *domain);

/* RFC 3461 4: xtext of ENVID and ORCPT. */
enum result MUST_CHECK xtext_decode(struct slice xtext, struct bytes *plain);
enum result MUST_CHECK xtext_encode(struct slice plain, struct bytes *xtext);

#endif
