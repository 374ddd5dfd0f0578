/* What a signature and a hash cost in CPU, with each library that could be the engine of
 * DKIM. Run by bench/sign, which alternates the rounds and prints medians.
 *
 *   sign_engines WHAT SECONDS KEY.pem KEY.der   -> operations (or MiB) per second of CPU
 */
#include <gmp.h>
#include <mbedtls/pk.h>
#include <mbedtls/rsa.h>
#include <mbedtls/sha256.h>
#include <nettle/rsa.h>
#include <nettle/sha2.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECE = 65536, DIGEST = 32 };

static unsigned char piece[PIECE];
static unsigned char digest[DIGEST] = "a digest of thirty-two bytes...";
static unsigned char signature[1024];

static void must(int holds, const char *what)
{
    if (!holds) {
        (void)fprintf(stderr, "sign_engines: %s\n", what);
        exit(1);
    }
}

static int random_bytes(void *unused, unsigned char *into, size_t count)
{
    (void)unused;
    randombytes_buf(into, count);
    return 0;
}

static void nettle_random(void *unused, size_t count, uint8_t *into)
{
    (void)unused;
    randombytes_buf(into, count);
}

/* ---- one operation of each kind ---- */

static mbedtls_pk_context mbedtls_key;

static void mbedtls_load(const char *pem, const char *der)
{
    (void)der;
    mbedtls_pk_init(&mbedtls_key);
    must(mbedtls_pk_parse_keyfile(&mbedtls_key, pem, NULL, random_bytes, NULL) == 0, pem);
}

static void mbedtls_rsa(void)
{
    must(mbedtls_rsa_pkcs1_sign(mbedtls_pk_rsa(mbedtls_key), random_bytes, NULL,
                                MBEDTLS_MD_SHA256, DIGEST, digest, signature) == 0,
         "mbedTLS does not sign");
}

static void mbedtls_hash(void)
{
    must(mbedtls_sha256(piece, sizeof piece, digest, 0) == 0, "mbedTLS does not hash");
}

static struct rsa_public_key nettle_public;
static struct rsa_private_key nettle_private;

static void nettle_load(const char *pem, const char *der)
{
    FILE *file = fopen(der, "rb");
    uint8_t text[8192];
    size_t length;

    (void)pem;
    must(file != NULL, der);
    length = fread(text, 1, sizeof text, file);
    (void)fclose(file);
    rsa_public_key_init(&nettle_public);
    rsa_private_key_init(&nettle_private);
    must(rsa_keypair_from_der(&nettle_public, &nettle_private, 0, length, text) == 1, der);
}

/* With blinding, as the others do by default. */
static void nettle_rsa(void)
{
    mpz_t made;

    mpz_init(made);
    must(rsa_sha256_sign_digest_tr(&nettle_public, &nettle_private, NULL, nettle_random,
                                   digest, made) == 1,
         "nettle does not sign");
    mpz_clear(made);
}

static void nettle_hash(void)
{
    struct sha256_ctx context;

    sha256_init(&context);
    sha256_update(&context, sizeof piece, piece);
    sha256_digest(&context, DIGEST, digest);
}

static EVP_PKEY *openssl_key;

static void openssl_load(const char *pem, const char *der)
{
    FILE *file = fopen(pem, "r");

    (void)der;
    must(file != NULL, pem);
    openssl_key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    (void)fclose(file);
    must(openssl_key != NULL, pem);
}

/* With a context made for each signature, as the program does. */
static void openssl_rsa(void)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(openssl_key, NULL);
    size_t length = sizeof signature;

    must(context && EVP_PKEY_sign_init(context) == 1 &&
             EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
             EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1 &&
             EVP_PKEY_sign(context, signature, &length, digest, DIGEST) == 1,
         "libcrypto does not sign");
    EVP_PKEY_CTX_free(context);
}

static void openssl_hash(void)
{
    must(EVP_Digest(piece, sizeof piece, digest, NULL, EVP_sha256(), NULL) == 1,
         "libcrypto does not hash");
}

static unsigned char sodium_secret[crypto_sign_SECRETKEYBYTES];

static void sodium_load(const char *pem, const char *der)
{
    unsigned char public_key[crypto_sign_PUBLICKEYBYTES];

    (void)pem;
    (void)der;
    must(crypto_sign_keypair(public_key, sodium_secret) == 0, "libsodium makes no key");
}

static void sodium_ed25519(void)
{
    must(crypto_sign_detached(signature, NULL, digest, DIGEST, sodium_secret) == 0,
         "libsodium does not sign");
}

static void sodium_hash(void)
{
    must(crypto_hash_sha256(digest, piece, sizeof piece) == 0, "libsodium does not hash");
}

static void load_nothing(const char *pem, const char *der)
{
    (void)pem;
    (void)der;
}

static const struct {
    const char *name;
    void (*load)(const char *pem, const char *der);
    void (*run)(void);
    double units; /* of one run */
} kinds[] = {
    {"rsa-mbedtls", mbedtls_load, mbedtls_rsa, 1},
    {"rsa-nettle", nettle_load, nettle_rsa, 1},
    {"rsa-libcrypto", openssl_load, openssl_rsa, 1},
    {"ed25519-libsodium", sodium_load, sodium_ed25519, 1},
    {"sha256-mbedtls", load_nothing, mbedtls_hash, PIECE / 1048576.0},
    {"sha256-libsodium", load_nothing, sodium_hash, PIECE / 1048576.0},
    {"sha256-nettle", load_nothing, nettle_hash, PIECE / 1048576.0},
    {"sha256-libcrypto", load_nothing, openssl_hash, PIECE / 1048576.0},
};

static double cpu_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    must(argc == 5 && sodium_init() >= 0, "usage: sign_engines WHAT SECONDS PEM DER");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        double seconds = strtod(argv[2], NULL);
        double units = 0;
        double began;
        double spent;

        if (strcmp(kinds[i].name, argv[1]) != 0)
            continue;
        kinds[i].load(argv[3], argv[4]);
        kinds[i].run();
        began = cpu_s();
        do {
            for (int k = 0; k < 20; k++)
                kinds[i].run();
            units += 20 * kinds[i].units;
            spent = cpu_s() - began;
        } while (spent < seconds);
        (void)printf("%.1f\n", units / spent);
        return 0;
    }
    must(0, "no such measurement");
    return 1;
}
