/* A key that signs, of either kind: from a PEM file, into a signature.
 *
 * Promises  immutable once loaded, and signs on several threads at once; the private part is
 *           wiped. Which kind it is, only this module asks.
 */
#ifndef SMTPD_SIGN_PRIVATE_KEY_H
#define SMTPD_SIGN_PRIVATE_KEY_H

#include "digest.h"
#include "smtpd/sign/keys.h"

enum { PRIVATE_KEY_FILE_MAX = 65536, SIGNATURE_BYTES_MAX = 512 };

struct private_key;

/* Blocking. The fault names the file and what would be right. `is_exposed`: others than its
 * owner and group may read it. */
enum result MUST_CHECK private_key_load(const char *path, struct private_key **loaded,
                                        bool *is_exposed, struct fault *fault);
enum result MUST_CHECK private_key_parse(const char *pem, const char *name,
                                         struct private_key **parsed, struct fault *fault);
void private_key_free(struct private_key *key); /* NULL is fine */

enum key_kind private_key_kind(const struct private_key *key);
unsigned private_key_bits(const struct private_key *key);
const char *key_kind_name(enum key_kind kind);      /* "rsa", as the tag k= */
const char *key_kind_algorithm(enum key_kind kind); /* "rsa-sha256", as the tag a= */

/* From any thread. */
enum result MUST_CHECK private_key_sign(const struct private_key *key,
                                        const uint8_t digest[DIGEST_BYTES],
                                        uint8_t signature[SIGNATURE_BYTES_MAX],
                                        size_t *length);
/* What the tag p= has in base64. */
enum result MUST_CHECK private_key_public(const struct private_key *key,
                                          struct bytes *into);
/* A new key as PEM. Takes seconds for RSA. */
enum result MUST_CHECK private_key_generate(enum key_kind kind, unsigned bits,
                                            struct bytes *pem);

#endif
