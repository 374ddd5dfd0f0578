/* The record of a key in the DNS (RFC 6376 3.6.1): what it should say, and what a found one
 * says instead.
 *
 * Promises  pure; whatever stands there, each thing that is wrong with it is named.
 */
#ifndef SMTPD_SIGN_RECORD_H
#define SMTPD_SIGN_RECORD_H

#include "private_key.h"
#include "smtpd/sign/check.h"

enum { RECORD_MAX = 4096, RECORD_STRING = 255 };

/* "SELECTOR._domainkey.DOMAIN"; false: too long to be a name. */
enum { RECORD_NAME = 320 };
bool record_name(const char *domain, const char *selector, char name[RECORD_NAME]);

/* "v=DKIM1; k=rsa; p=..." */
enum result MUST_CHECK record_write(const struct private_key *key, struct bytes *into);
/* NAME. IN TXT ( "..." "..." ), strings of at most 255 bytes (RFC 1035 3.3). */
enum result MUST_CHECK record_write_zone(const char *name, struct slice record,
                                         struct bytes *into);

/* What is wrong with the text of a record, for this key; returns how much. */
size_t record_judge(struct slice text, enum key_kind kind, struct slice public_key,
                    struct check_problem problems[CHECK_PROBLEMS_MAX]);

#endif
