/* RSA by mbedTLS. One context computes one signature at a time (it holds a lock while it
 * does, for the values that blind the exponent), so a key that two threads use grows a second
 * context; contexts are kept, and there are never more than threads. */
#include "rsa.h"

#include "smtpd/base/list.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <mbedtls/pk.h>
#include <mbedtls/rsa.h>
#include <pthread.h>
#include <string.h>

enum { PUBLIC_MAX = 1024, PRIVATE_PEM_MAX = 16384, EXPONENT = 65537 };

struct worker {
    struct link link;
    mbedtls_rsa_context context;
};

struct rsa {
    mbedtls_pk_context pk; /* read, never computed with */
    unsigned bits;
    pthread_mutex_t lock;
    struct list idle;
};

static int random_bytes(void *unused, unsigned char *into, size_t count)
{
    (void)unused;
    secure_random(into, count);
    return 0;
}

enum result rsa_parse(const char *pem, struct rsa **parsed)
{
    struct rsa *rsa = NEW(struct rsa);
    int failed;

    *parsed = NULL;
    mbedtls_pk_init(&rsa->pk);
    list_init(&rsa->idle);
    (void)pthread_mutex_init(&rsa->lock, NULL);
    failed = mbedtls_pk_parse_key(&rsa->pk, (const unsigned char *)pem, strlen(pem) + 1,
                                  NULL, 0, random_bytes, NULL);
    if (failed == 0 && mbedtls_pk_get_type(&rsa->pk) == MBEDTLS_PK_RSA) {
        rsa->bits = (unsigned)mbedtls_pk_get_bitlen(&rsa->pk);
        *parsed = rsa;
        return RESULT_OK;
    }
    rsa_free(rsa);
    return RESULT_INVALID;
}

static void worker_free(struct worker *worker)
{
    mbedtls_rsa_free(&worker->context);
    memory_free(worker);
}

void rsa_free(struct rsa *rsa)
{
    struct link *link;

    if (!rsa)
        return;
    while ((link = list_pop_front(&rsa->idle)))
        worker_free(CONTAINER_OF(link, struct worker, link));
    (void)pthread_mutex_destroy(&rsa->lock);
    mbedtls_pk_free(&rsa->pk);
    memory_free(rsa);
}

unsigned rsa_bits(const struct rsa *rsa)
{
    return rsa->bits;
}

static struct worker *worker_borrow(struct rsa *rsa)
{
    struct worker *worker;
    struct link *link;

    (void)pthread_mutex_lock(&rsa->lock);
    link = list_pop_front(&rsa->idle);
    if (link) {
        (void)pthread_mutex_unlock(&rsa->lock);
        return CONTAINER_OF(link, struct worker, link);
    }
    worker = NEW(struct worker);
    mbedtls_rsa_init(&worker->context);
    if (mbedtls_rsa_copy(&worker->context, mbedtls_pk_rsa(rsa->pk)) != 0) {
        worker_free(worker);
        worker = NULL;
    }
    (void)pthread_mutex_unlock(&rsa->lock);
    return worker;
}

static void worker_return(struct rsa *rsa, struct worker *worker)
{
    (void)pthread_mutex_lock(&rsa->lock);
    list_push_front(&rsa->idle, &worker->link);
    (void)pthread_mutex_unlock(&rsa->lock);
}

enum result rsa_sign(struct rsa *rsa, const uint8_t digest[DIGEST_BYTES],
                     uint8_t signature[RSA_SIGNATURE_MAX], size_t *length)
{
    struct worker *worker = worker_borrow(rsa);
    int failed;

    if (!worker)
        return RESULT_IO;
    failed = mbedtls_rsa_pkcs1_sign(&worker->context, random_bytes, NULL, MBEDTLS_MD_SHA256,
                                    DIGEST_BYTES, digest, signature);
    *length = mbedtls_rsa_get_len(&worker->context);
    worker_return(rsa, worker);
    return failed == 0 ? RESULT_OK : RESULT_IO;
}

enum result rsa_public(const struct rsa *rsa, struct bytes *into)
{
    unsigned char der[PUBLIC_MAX]; /* written at its end */
    int length = mbedtls_pk_write_pubkey_der(&rsa->pk, der, sizeof der);

    if (length <= 0)
        return RESULT_IO;
    return bytes_add(
        into, (struct slice){(const char *)der + sizeof der - length, (size_t)length});
}

enum result rsa_generate(unsigned bits, struct bytes *pem)
{
    unsigned char text[PRIVATE_PEM_MAX] = {0};
    mbedtls_pk_context pk;
    enum result result = RESULT_IO;

    mbedtls_pk_init(&pk);
    if (mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(MBEDTLS_PK_RSA)) == 0 &&
        mbedtls_rsa_gen_key(mbedtls_pk_rsa(pk), random_bytes, NULL, bits, EXPONENT) == 0 &&
        mbedtls_pk_write_key_pem(&pk, text, sizeof text) == 0)
        result = bytes_add_text(pem, (const char *)text);
    mbedtls_pk_free(&pk);
    secure_wipe(text, sizeof text);
    return result;
}
