/* An Ed25519 key in PKCS #8 has one form only, so that it is compared and not parsed. */
#include "ed25519.h"

#include "smtpd/base/check.h"
#include "smtpd/base/secure.h"

#include <sodium.h>
#include <string.h>

_Static_assert((int)ED25519_PUBLIC == (int)crypto_sign_ed25519_PUBLICKEYBYTES,
               "public key");
_Static_assert((int)ED25519_SECRET == (int)crypto_sign_ed25519_SECRETKEYBYTES,
               "secret key");
_Static_assert((int)ED25519_SIGNATURE == (int)crypto_sign_ed25519_BYTES, "signature");

enum { SEED = crypto_sign_ed25519_SEEDBYTES };

/* RFC 8410 7: version 0, id-Ed25519, an OCTET STRING of an OCTET STRING of 32 bytes. */
static const char pkcs8[] =
    "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

static const struct slice prefix = {pkcs8, sizeof pkcs8 - 1};

enum result ed25519_parse(struct slice der, struct ed25519 *key)
{
    if (der.length != prefix.length + SEED ||
        !slice_equal(slice_part(der, 0, prefix.length), prefix))
        return RESULT_INVALID;
    CHECK(crypto_sign_ed25519_seed_keypair(key->public_key, key->secret,
                                           (const unsigned char *)der.data +
                                               prefix.length) == 0);
    return RESULT_OK;
}

void ed25519_sign(const struct ed25519 *key, const uint8_t digest[DIGEST_BYTES],
                  uint8_t signature[ED25519_SIGNATURE])
{
    CHECK(crypto_sign_ed25519_detached(signature, NULL, digest, DIGEST_BYTES,
                                       key->secret) == 0);
}

enum result ed25519_generate(struct bytes *der)
{
    char seed[SEED];
    enum result result = bytes_add(der, prefix);

    secure_random(seed, sizeof seed);
    if (result == RESULT_OK)
        result = bytes_add(der, (struct slice){seed, sizeof seed});
    secure_wipe(seed, sizeof seed);
    return result;
}
