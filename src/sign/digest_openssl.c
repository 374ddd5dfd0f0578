/* SHA-256 by OpenSSL's libcrypto, which uses the processor's own instructions. */
#include "digest.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <openssl/evp.h>

struct digest {
    EVP_MD_CTX *context;
};

/* NULL and 0 mean that there was no memory: that ends the process, as in base/memory. */
struct digest *digest_new(void)
{
    struct digest *digest = NEW(struct digest);

    digest->context = EVP_MD_CTX_new();
    CHECK(digest->context);
    CHECK(EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) == 1);
    return digest;
}

struct digest *digest_copy(const struct digest *digest)
{
    struct digest *copy = NEW(struct digest);

    copy->context = EVP_MD_CTX_new();
    CHECK(copy->context);
    CHECK(EVP_MD_CTX_copy_ex(copy->context, digest->context) == 1);
    return copy;
}

void digest_add(struct digest *digest, struct slice more)
{
    if (more.length > 0)
        CHECK(EVP_DigestUpdate(digest->context, more.data, more.length) == 1);
}

void digest_finish(struct digest *digest, uint8_t result[DIGEST_BYTES])
{
    CHECK(EVP_DigestFinal_ex(digest->context, result, NULL) == 1);
    digest_free(digest);
}

void digest_free(struct digest *digest)
{
    if (!digest)
        return;
    EVP_MD_CTX_free(digest->context);
    memory_free(digest);
}
