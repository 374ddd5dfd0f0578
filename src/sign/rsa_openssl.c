/* RSA by OpenSSL's libcrypto (3.0 or later). A key is shared by the threads: the library
 * locks what it must. Its pool of errors is emptied after each failure, since nobody reads
 * it. */
#include "rsa.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

struct rsa {
    EVP_PKEY *pkey;
};

enum result rsa_parse(const char *pem, struct rsa **parsed)
{
    /* Without a callback this is the password: nobody is asked for one on a terminal. */
    static char no_password[] = "";
    BIO *bio = BIO_new_mem_buf(pem, (int)strlen(pem));
    EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, no_password) : NULL;

    BIO_free(bio);
    ERR_clear_error();
    *parsed = NULL;
    if (!pkey || EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA) {
        EVP_PKEY_free(pkey);
        return RESULT_INVALID;
    }
    *parsed = NEW(struct rsa);
    (*parsed)->pkey = pkey;
    return RESULT_OK;
}

void rsa_free(struct rsa *rsa)
{
    if (!rsa)
        return;
    EVP_PKEY_free(rsa->pkey);
    memory_free(rsa);
}

unsigned rsa_bits(const struct rsa *rsa)
{
    return (unsigned)EVP_PKEY_get_bits(rsa->pkey);
}

/* A key whose parts contradict each other gives signatures that are wrong, without a word. To
 * verify costs a thirtieth of signing. */
static bool is_good(const struct rsa *rsa, const uint8_t digest[DIGEST_BYTES],
                    const uint8_t *signature, size_t length)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(rsa->pkey, NULL);
    bool is_verified =
        context && EVP_PKEY_verify_init(context) == 1 &&
        EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
        EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1 &&
        EVP_PKEY_verify(context, signature, length, digest, DIGEST_BYTES) == 1;

    EVP_PKEY_CTX_free(context);
    return is_verified;
}

enum result rsa_sign(struct rsa *rsa, const uint8_t digest[DIGEST_BYTES],
                     uint8_t signature[RSA_SIGNATURE_MAX], size_t *length)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(rsa->pkey, NULL);
    bool is_signed;

    *length = RSA_SIGNATURE_MAX;
    is_signed = context && EVP_PKEY_sign_init(context) == 1 &&
                EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
                EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1 &&
                EVP_PKEY_sign(context, signature, length, digest, DIGEST_BYTES) == 1 &&
                is_good(rsa, digest, signature, *length);
    EVP_PKEY_CTX_free(context);
    ERR_clear_error();
    return is_signed ? RESULT_OK : RESULT_IO;
}

enum result rsa_public(const struct rsa *rsa, struct bytes *into)
{
    unsigned char *der = NULL;
    int length = i2d_PUBKEY(rsa->pkey, &der);
    enum result result = RESULT_IO;

    if (length > 0)
        result = bytes_add(into, (struct slice){(const char *)der, (size_t)length});
    OPENSSL_free(der);
    ERR_clear_error();
    return result;
}

enum result rsa_generate(unsigned bits, struct bytes *pem)
{
    EVP_PKEY *pkey = EVP_RSA_gen(bits);
    BIO *bio = BIO_new(BIO_s_secmem());
    enum result result = RESULT_IO;
    char *text = NULL;
    long length = 0;

    if (pkey && bio &&
        PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL) == 1) {
        length = BIO_get_mem_data(bio, &text);
        result = bytes_add(pem, (struct slice){text, (size_t)length});
        secure_wipe(text, (size_t)length);
    }
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    return result;
}
