/* Randomness, comparison, password hashes. */
#include "smtpd/base/secure.h"

#include "test.h"

#include <string.h>

TEST(secure, random_bytes_differ_and_fill_the_whole)
{
    uint8_t a[32] = {0};
    uint8_t b[32] = {0};
    uint8_t sum[32] = {0};

    secure_random(a, sizeof a);
    secure_random(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    for (int turn = 0; turn < 20; turn++) {
        secure_random(a, sizeof a);
        for (size_t i = 0; i < sizeof a; i++)
            sum[i] |= a[i];
    }
    for (size_t i = 0; i < sizeof sum; i++)
        assert_int_not_equal(sum[i], 0);
}

TEST(secure, a_random_number_stays_below_its_bound_and_reaches_all)
{
    unsigned seen = 0;

    for (int i = 0; i < 1000; i++) {
        uint32_t number = secure_random_below(5);

        assert_true(number < 5);
        seen |= 1U << number;
    }
    assert_int_equal(seen, 31);
}

TEST(secure, wiping_leaves_zeros)
{
    char secret[] = "secret";
    static const char zeros[sizeof secret];

    secure_wipe(secret, sizeof secret);
    assert_memory_equal(secret, zeros, sizeof secret);
}

TEST(secure, equality_is_of_all_bytes_and_the_length)
{
    assert_true(secure_equal(SLICE("abc"), SLICE("abc")));
    assert_false(secure_equal(SLICE("abc"), SLICE("abd")));
    assert_false(secure_equal(SLICE("abc"), SLICE("abcd")));
    assert_true(secure_equal(SLICE_NONE, SLICE("")));
}

TEST(secure, digests_are_equal_for_equal_input_only)
{
    uint8_t a[SECURE_DIGEST];
    uint8_t b[SECURE_DIGEST];
    uint8_t c[SECURE_DIGEST];

    secure_process_digest(SLICE("abc"), a);
    secure_process_digest(SLICE("abc"), b);
    secure_process_digest(SLICE("abd"), c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    secure_process_digest(SLICE_NONE, a);
    secure_process_digest(SLICE(""), b);
    assert_memory_equal(a, b, sizeof a);
}

TEST(secure, digests_and_hashes_depend_on_the_key_of_the_process)
{
    uint8_t before[SECURE_DIGEST];
    uint8_t after[SECURE_DIGEST];
    uint64_t hash = secure_short_hash(SLICE("abc"));

    assert_true(hash == secure_short_hash(SLICE("abc")));
    assert_true(hash != secure_short_hash(SLICE("abd")));
    secure_process_digest(SLICE("abc"), before);
    secure_init(); /* draws new keys, as another process would */
    secure_process_digest(SLICE("abc"), after);
    assert_memory_not_equal(before, after, sizeof before);
    assert_true(hash != secure_short_hash(SLICE("abc")));
}

TEST(secure, a_password_fits_its_own_hash_only)
{
    char hash[SECURE_HASH_TEXT];
    char again[SECURE_HASH_TEXT];

    assert_int_equal(secure_password_hash(SLICE("correct horse"), hash), RESULT_OK);
    /* 19 MiB = 19456 KiB, 2 passes. */
    assert_memory_equal(hash, "$argon2id$v=19$m=19456,t=2,p=1$", 31);
    assert_true(secure_password_verify(hash, SLICE("correct horse")));
    assert_false(secure_password_verify(hash, SLICE("correct horsf")));
    assert_false(secure_password_verify(hash, SLICE("")));
    assert_int_equal(secure_password_hash(SLICE("correct horse"), again), RESULT_OK);
    assert_string_not_equal(hash, again); /* the salt */
}

TEST(secure, what_is_no_hash_fits_no_password)
{
    assert_false(secure_password_verify("", SLICE("x")));
    assert_false(secure_password_verify("x", SLICE("x")));
    assert_false(secure_password_verify("$argon2id$v=19$m=19456,t=2,p=1$", SLICE("")));
}

/* RFC 7748 6.1: what Alice and Bob agree on. */
TEST(secure, x25519_gives_the_known_answer)
{
    static const uint8_t alice[] = "\x77\x07\x6d\x0a\x73\x18\xa5\x7d\x3c\x16\xc1\x72\x51"
                                   "\xb2\x66\x45\xdf\x4c\x2f\x87\xeb"
                                   "\xc0\x99\x2a\xb1\x77\xfb\xa5\x1d\xb9\x2c\x2a";
    static const uint8_t bob[] = "\xde\x9e\xdb\x7d\x7b\x7d\xc1\xb4\xd3\x5b\x61\xc2\xec\xe4"
                                 "\x35\x37\x3f\x83\x43\xc8\x5b"
                                 "\x78\x67\x4d\xad\xfc\x7e\x14\x6f\x88\x2b\x4f";
    static const uint8_t nothing[SECURE_X25519] = {0};
    uint8_t product[SECURE_X25519];

    assert_true(secure_x25519(alice, bob, product));
    assert_memory_equal(
        product,
        "\x4a\x5d\x9d\x5b\xa4\xce\x2d\xe1\x72\x8e\x3b\xf4\x80\x35\x0f\x25\xe0"
        "\x7e\x21\xc9\x47\xd1\x9e\x33\x76\xf0\x9b\x3c\x1e\x16\x17\x42",
        SECURE_X25519);
    assert_false(secure_x25519(alice, nothing, product));
}

static int set_up(void **state)
{
    (void)state;
    secure_init();
    return 0;
}

TEST(secure, a_sum_over_pieces_is_blake2b_256_of_the_whole)
{
    /* RFC 7693 with 32 bytes, of "abc"; as b2sum -l 256 says. */
    static const uint8_t expected[SECURE_DIGEST] = {
        0xbd, 0xdd, 0x81, 0x3c, 0x63, 0x42, 0x39, 0x72, 0x31, 0x71, 0xef,
        0x3f, 0xee, 0x98, 0x57, 0x9b, 0x94, 0x96, 0x4e, 0x3b, 0xb1, 0xcb,
        0x3e, 0x42, 0x72, 0x62, 0xc8, 0xc0, 0x68, 0xd5, 0x23, 0x19};
    struct secure_sum *sum = secure_sum_new();
    uint8_t digest[SECURE_DIGEST];

    secure_sum_add(sum, SLICE("a"));
    secure_sum_add(sum, SLICE(""));
    secure_sum_add(sum, SLICE("bc"));
    secure_sum_end(sum, digest);
    assert_memory_equal(digest, expected, sizeof digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(secure, a_sum_over_pieces_is_blake2b_256_of_the_whole),
        RUN(secure, random_bytes_differ_and_fill_the_whole),
        RUN(secure, a_random_number_stays_below_its_bound_and_reaches_all),
        RUN(secure, wiping_leaves_zeros),
        RUN(secure, equality_is_of_all_bytes_and_the_length),
        RUN(secure, digests_are_equal_for_equal_input_only),
        RUN(secure, digests_and_hashes_depend_on_the_key_of_the_process),
        RUN(secure, a_password_fits_its_own_hash_only),
        RUN(secure, what_is_no_hash_fits_no_password),
        RUN(secure, x25519_gives_the_known_answer),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
