/* The only file that knows libsodium. */
#include "smtpd/base/secure.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <sodium.h>
#include <string.h>

/* Enough to hurt a guesser, little enough for two threads of log-ins. */
enum { ARGON2_PASSES = 2, ARGON2_BYTES = 19 * 1024 * 1024 };

/* Drawn once, never written again: the exception to "no globals" that keyed hashes need. */
static uint8_t digest_key[crypto_generichash_KEYBYTES];
static uint8_t short_key[crypto_shorthash_KEYBYTES];

void secure_init(void)
{
    CHECK(sodium_init() >= 0);
    randombytes_buf(digest_key, sizeof digest_key);
    randombytes_buf(short_key, sizeof short_key);
}

void secure_random(void *into, size_t bytes)
{
    randombytes_buf(into, bytes);
}

uint32_t secure_random_below(uint32_t bound)
{
    return randombytes_uniform(bound);
}

void secure_wipe(void *memory, size_t bytes)
{
    sodium_memzero(memory, bytes);
}

bool secure_equal(struct slice a, struct slice b)
{
    return a.length == b.length && sodium_memcmp(a.data, b.data, a.length) == 0;
}

void secure_process_digest(struct slice input, uint8_t digest[SECURE_DIGEST])
{
    CHECK(crypto_generichash(digest, SECURE_DIGEST, (const unsigned char *)input.data,
                             input.length, digest_key, sizeof digest_key) == 0);
}

/* The state wants an alignment that the heap does not promise. */
enum { SUM_ALIGNMENT = 64 };

struct secure_sum {
    crypto_generichash_state *state;
    unsigned char room[sizeof(crypto_generichash_state) + SUM_ALIGNMENT];
};

struct secure_sum *secure_sum_new(void)
{
    struct secure_sum *sum = NEW(struct secure_sum);
    size_t over = (uintptr_t)sum->room % SUM_ALIGNMENT;

    sum->state = (void *)(sum->room + (over ? SUM_ALIGNMENT - over : 0));
    CHECK(crypto_generichash_init(sum->state, NULL, 0, SECURE_DIGEST) == 0);
    return sum;
}

void secure_sum_add(struct secure_sum *sum, struct slice piece)
{
    CHECK(crypto_generichash_update(sum->state, (const unsigned char *)piece.data,
                                    piece.length) == 0);
}

void secure_sum_end(struct secure_sum *sum, uint8_t digest[SECURE_DIGEST])
{
    CHECK(crypto_generichash_final(sum->state, digest, SECURE_DIGEST) == 0);
    memory_free(sum);
}

uint64_t secure_short_hash(struct slice input)
{
    uint64_t hash;
    uint8_t bytes[crypto_shorthash_BYTES];

    (void)crypto_shorthash(bytes, (const unsigned char *)(input.data ? input.data : ""),
                           input.length, short_key);
    memcpy(&hash, bytes, sizeof hash);
    return hash;
}

enum result secure_password_hash(struct slice password, char hash[SECURE_HASH_TEXT])
{
    if (crypto_pwhash_str_alg(hash, password.data, password.length, ARGON2_PASSES,
                              ARGON2_BYTES, crypto_pwhash_ALG_ARGON2ID13) != 0)
        return RESULT_NO_SPACE;
    return RESULT_OK;
}

bool secure_password_verify(const char *hash, struct slice password)
{
    return crypto_pwhash_str_verify(hash, password.data, password.length) == 0;
}

bool secure_x25519(const uint8_t scalar[SECURE_X25519], const uint8_t x[SECURE_X25519],
                   uint8_t product[SECURE_X25519])
{
    return crypto_scalarmult_curve25519(product, scalar, x) == 0;
}
