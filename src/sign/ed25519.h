/* Ed25519 (RFC 8032) by libsodium, with keys as RFC 8410 writes them: the form of
 * `openssl genpkey -algorithm ed25519`. */
#ifndef SMTPD_SIGN_ED25519_H
#define SMTPD_SIGN_ED25519_H

#include "digest.h"

enum { ED25519_PUBLIC = 32, ED25519_SECRET = 64, ED25519_SIGNATURE = 64 };

struct ed25519 {
    uint8_t secret[ED25519_SECRET];
    uint8_t public_key[ED25519_PUBLIC];
};

/* PKCS #8 in DER. RESULT_INVALID: it is no Ed25519 key. */
enum result MUST_CHECK ed25519_parse(struct slice der, struct ed25519 *key);
/* RFC 8463 3: the signature is over the digest. */
void ed25519_sign(const struct ed25519 *key, const uint8_t digest[DIGEST_BYTES],
                  uint8_t signature[ED25519_SIGNATURE]);
/* A new key, in DER. */
enum result MUST_CHECK ed25519_generate(struct bytes *der);

#endif
