/* By nettle, which uses the processor's instructions for SHA where there are any: the body is
 * hashed on the loop, and mbedTLS takes five times as long (docs/decisions/003-rsa-engine.md).
 * The library is in the process anyway, below libmicrohttpd. */
#include "digest.h"

#include "smtpd/base/memory.h"

#include <nettle/sha2.h>

_Static_assert((int)DIGEST_BYTES == (int)SHA256_DIGEST_SIZE, "SHA-256");

struct digest {
    struct sha256_ctx context;
};

struct digest *digest_new(void)
{
    struct digest *digest = NEW(struct digest);

    sha256_init(&digest->context);
    return digest;
}

struct digest *digest_copy(const struct digest *digest)
{
    return memory_copy(digest, sizeof *digest);
}

void digest_add(struct digest *digest, struct slice more)
{
    if (more.length > 0)
        sha256_update(&digest->context, more.length, (const uint8_t *)more.data);
}

void digest_finish(struct digest *digest, uint8_t result[DIGEST_BYTES])
{
    sha256_digest(&digest->context, DIGEST_BYTES, result);
    digest_free(digest);
}

void digest_free(struct digest *digest)
{
    memory_free(digest);
}
