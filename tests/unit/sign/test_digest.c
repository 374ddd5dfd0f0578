/* SHA-256 of known texts (FIPS 180-4 examples), in pieces and from a copy. */
#include "digest.h"

#include "test.h"

static const uint8_t of_abc[DIGEST_BYTES] = {
    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
    0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
    0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
static const uint8_t of_nothing[DIGEST_BYTES] = {
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
    0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
    0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};
static const uint8_t of_a_million[DIGEST_BYTES] = {
    0xcd, 0xc7, 0x6e, 0x5c, 0x99, 0x14, 0xfb, 0x92, 0x81, 0xa1, 0xc7,
    0xe2, 0x84, 0xd7, 0x3e, 0x67, 0xf1, 0x80, 0x9a, 0x48, 0xa4, 0x97,
    0x20, 0x0e, 0x04, 0x6d, 0x39, 0xcc, 0xc7, 0x11, 0x2c, 0xd0};

TEST(digest, known_texts_have_their_known_digests)
{
    struct digest *digest = digest_new();
    uint8_t result[DIGEST_BYTES];

    digest_finish(digest, result);
    assert_memory_equal(result, of_nothing, DIGEST_BYTES);
    digest = digest_new();
    digest_add(digest, SLICE_NONE);
    digest_add(digest, SLICE("a"));
    digest_add(digest, SLICE("bc"));
    digest_finish(digest, result);
    assert_memory_equal(result, of_abc, DIGEST_BYTES);
    digest = digest_new();
    for (int i = 0; i < 100000; i++)
        digest_add(digest, SLICE("aaaaaaaaaa"));
    digest_finish(digest, result);
    assert_memory_equal(result, of_a_million, DIGEST_BYTES);
}

TEST(digest, a_copy_goes_its_own_way)
{
    struct digest *digest = digest_new();
    struct digest *copy;
    uint8_t result[DIGEST_BYTES];

    digest_add(digest, SLICE("ab"));
    copy = digest_copy(digest);
    digest_add(digest, SLICE("x"));
    digest_add(copy, SLICE("c"));
    digest_finish(copy, result);
    assert_memory_equal(result, of_abc, DIGEST_BYTES);
    digest_free(digest);
    digest_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(digest, known_texts_have_their_known_digests),
        RUN(digest, a_copy_goes_its_own_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
