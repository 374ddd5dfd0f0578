/* SHA-256 by mbedTLS. */
#include "digest.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <mbedtls/sha256.h>

struct digest {
    mbedtls_sha256_context context;
};

/* Without hardware behind it nothing here can fail. */
struct digest *digest_new(void)
{
    struct digest *digest = NEW(struct digest);

    mbedtls_sha256_init(&digest->context);
    CHECK(mbedtls_sha256_starts(&digest->context, 0) == 0);
    return digest;
}

struct digest *digest_copy(const struct digest *digest)
{
    struct digest *copy = NEW(struct digest);

    mbedtls_sha256_init(&copy->context);
    mbedtls_sha256_clone(&copy->context, &digest->context);
    return copy;
}

void digest_add(struct digest *digest, struct slice more)
{
    if (more.length > 0)
        CHECK(mbedtls_sha256_update(&digest->context, (const unsigned char *)more.data,
                                    more.length) == 0);
}

void digest_finish(struct digest *digest, uint8_t result[DIGEST_BYTES])
{
    CHECK(mbedtls_sha256_finish(&digest->context, result) == 0);
    digest_free(digest);
}

void digest_free(struct digest *digest)
{
    if (!digest)
        return;
    mbedtls_sha256_free(&digest->context);
    memory_free(digest);
}
