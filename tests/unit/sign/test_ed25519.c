/* The key and signature of RFC 8032 7.1 (test 1), and what is no key. */
#include "ed25519.h"

#include "smtpd/base/secure.h"
#include "test.h"

#include <string.h>

static const char der[] =
    "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"
    "\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4"
    "\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";

TEST(ed25519, the_public_key_follows_from_the_seed)
{
    static const uint8_t public_key[] = {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7,
                                         0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
                                         0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25,
                                         0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};
    struct ed25519 key;

    assert_int_equal(ed25519_parse((struct slice){der, sizeof der - 1}, &key), RESULT_OK);
    assert_memory_equal(key.public_key, public_key, ED25519_PUBLIC);
}

TEST(ed25519, other_bytes_are_no_key)
{
    struct ed25519 key;
    char changed[sizeof der];

    assert_int_equal(ed25519_parse((struct slice){der, sizeof der - 2}, &key),
                     RESULT_INVALID);
    assert_int_equal(ed25519_parse((struct slice){der, sizeof der}, &key), RESULT_INVALID);
    assert_int_equal(ed25519_parse(SLICE_NONE, &key), RESULT_INVALID);
    for (size_t i = 0; i < 16; i++) {
        memcpy(changed, der, sizeof der);
        changed[i] ^= 1;
        assert_int_equal(ed25519_parse((struct slice){changed, sizeof der - 1}, &key),
                         RESULT_INVALID);
    }
}

TEST(ed25519, a_new_key_is_read_back_and_is_another_each_time)
{
    struct ed25519 keys[2];
    uint8_t digest[DIGEST_BYTES] = {1, 2, 3};
    uint8_t signatures[2][ED25519_SIGNATURE];

    for (int i = 0; i < 2; i++) {
        struct bytes made;

        bytes_init(&made, 100);
        assert_int_equal(ed25519_generate(&made), RESULT_OK);
        assert_int_equal(ed25519_parse(bytes_view(&made), &keys[i]), RESULT_OK);
        bytes_fini(&made);
        ed25519_sign(&keys[i], digest, signatures[i]);
    }
    assert_memory_not_equal(keys[0].public_key, keys[1].public_key, ED25519_PUBLIC);
    assert_memory_not_equal(signatures[0], signatures[1], ED25519_SIGNATURE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(ed25519, the_public_key_follows_from_the_seed),
        RUN(ed25519, other_bytes_are_no_key),
        RUN(ed25519, a_new_key_is_read_back_and_is_another_each_time),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
