/* SHA-256, in pieces. */
#ifndef SMTPD_SIGN_DIGEST_H
#define SMTPD_SIGN_DIGEST_H

#include "smtpd/base/bytes.h"

enum { DIGEST_BYTES = 32 };

struct digest;

struct digest *digest_new(void);
struct digest *digest_copy(const struct digest *digest);
void digest_add(struct digest *digest, struct slice more);
void digest_finish(struct digest *digest, uint8_t result[DIGEST_BYTES]); /* frees it */
void digest_free(struct digest *digest);                                 /* NULL is fine */

#endif
