/* RSA behind one small door: keys from PEM, PKCS #1 v1.5 signatures over SHA-256 (RFC 8017
 * 8.2), new keys. Two engines (rsa_mbedtls.c, rsa_openssl.c); the CMake option SMTPD_RSA picks
 * the one that is built.
 *
 * Promises  a key is immutable once loaded, and signs on several threads at once. Private
 *           parts are wiped.
 */
#ifndef SMTPD_SIGN_RSA_H
#define SMTPD_SIGN_RSA_H

#include "digest.h"

enum { RSA_LEAST_BITS = 1024, RSA_MOST_BITS = 4096, RSA_SIGNATURE_MAX = RSA_MOST_BITS / 8 };

struct rsa;

/* PKCS #1 or PKCS #8, unencrypted. RESULT_INVALID: it is no RSA key that we can read. */
enum result MUST_CHECK rsa_parse(const char *pem, struct rsa **parsed);
void rsa_free(struct rsa *rsa); /* NULL is fine */
unsigned rsa_bits(const struct rsa *rsa);
/* From any thread. RESULT_IO: the arithmetic failed; a key that contradicts itself does. */
enum result MUST_CHECK rsa_sign(struct rsa *rsa, const uint8_t digest[DIGEST_BYTES],
                                uint8_t signature[RSA_SIGNATURE_MAX], size_t *length);
/* SubjectPublicKeyInfo in DER (RFC 6376 3.6.1). */
enum result MUST_CHECK rsa_public(const struct rsa *rsa, struct bytes *into);
/* Takes seconds. The private key as PEM. */
enum result MUST_CHECK rsa_generate(unsigned bits, struct bytes *pem);

#endif
