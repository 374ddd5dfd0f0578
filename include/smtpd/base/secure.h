/* libsodium behind a wall: randomness, wiping, constant-time comparison, password hashes,
 * and the exchange of keys.
 *
 * Promises  no secret is printed. Password functions take tens of milliseconds of CPU:
 *           call them on a pool, never on the loop.
 */
#ifndef SMTPD_BASE_SECURE_H
#define SMTPD_BASE_SECURE_H

#include "smtpd/base/bytes.h"

enum { SECURE_HASH_TEXT = 128, SECURE_DIGEST = 32, SECURE_X25519 = 32 };

void secure_init(void); /* once, before anything else; aborts on failure */
void secure_random(void *into, size_t bytes);
uint32_t secure_random_below(uint32_t bound); /* uniform in [0, bound) */
void secure_wipe(void *memory, size_t bytes);
bool secure_equal(struct slice a, struct slice b); /* time depends on the lengths only */
/* Keyed 32-byte hash with a key drawn at secure_init(): equal within this process only. */
void secure_process_digest(struct slice input, uint8_t digest[SECURE_DIGEST]);
/* BLAKE2b-256 without a key, over pieces: the same in every process. */
struct secure_sum;
struct secure_sum *secure_sum_new(void);
void secure_sum_add(struct secure_sum *sum, struct slice piece);
void secure_sum_end(struct secure_sum *sum, uint8_t digest[SECURE_DIGEST]); /* frees it */
uint64_t secure_short_hash(struct slice input); /* keyed SipHash, for maps */
/* argon2id, 19 MiB, 2 passes. The text form of libsodium ("$argon2id$...").
 */
enum result MUST_CHECK secure_password_hash(struct slice password,
                                            char hash[SECURE_HASH_TEXT]);
bool secure_password_verify(const char *hash, struct slice password);
/* X25519 (RFC 7748 5) in constant time. false: `x` is one of the few points whose product is
 * nothing. */
bool secure_x25519(const uint8_t scalar[SECURE_X25519], const uint8_t x[SECURE_X25519],
                   uint8_t product[SECURE_X25519]);

#endif
