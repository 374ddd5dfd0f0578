/* Keys from their files; signatures on several threads. */
#include "private_key.h"

#include "key_samples.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct private_key *parse(const char *pem)
{
    struct private_key *key = NULL;
    struct fault fault;

    assert_int_equal(private_key_parse(pem, "sample", &key, &fault), RESULT_OK);
    return key;
}

static void expect_no_key(const char *pem, const char *why)
{
    struct private_key *key = NULL;
    struct fault fault;

    assert_int_equal(private_key_parse(pem, "sample", &key, &fault), RESULT_INVALID);
    assert_null(key);
    assert_non_null(strstr(fault.text, "sample"));
    assert_non_null(strstr(fault.text, why));
}

TEST(private_key, both_kinds_are_known)
{
    struct private_key *rsa = parse(rsa_pem);
    struct private_key *ed25519 = parse(ed25519_pem);

    assert_int_equal(private_key_kind(rsa), KEY_RSA);
    assert_int_equal(private_key_bits(rsa), 1024);
    assert_int_equal(private_key_kind(ed25519), KEY_ED25519);
    assert_string_equal(key_kind_name(KEY_RSA), "rsa");
    assert_string_equal(key_kind_algorithm(KEY_ED25519), "ed25519-sha256");
    private_key_free(rsa);
    private_key_free(ed25519);
}

TEST(private_key, the_public_part_is_what_the_dns_has)
{
    static const char *const known[] = {"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
                                        "iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2"
                                        "jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/"
                                        "8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvH"
                                        "O9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
                                        ed25519_public};
    static const char *const pems[] = {rsa_pem, ed25519_pem};

    for (int i = 0; i < 2; i++) {
        struct private_key *key = parse(pems[i]);
        struct bytes plain;
        struct bytes text;

        bytes_init(&plain, 1000);
        bytes_init(&text, 1000);
        assert_int_equal(private_key_public(key, &plain), RESULT_OK);
        assert_int_equal(bytes_add_base64(&text, bytes_view(&plain)), RESULT_OK);
        assert_true(slice_equal_text(bytes_view(&text), known[i]));
        bytes_fini(&plain);
        bytes_fini(&text);
        private_key_free(key);
    }
}

TEST(private_key, what_is_no_key_is_named)
{
    static char long_text[10000];

    expect_no_key("", "smtpd dkim keygen");
    expect_no_key("hello\n", "smtpd dkim keygen");
    expect_no_key(p256_pem, "smtpd dkim keygen");
    expect_no_key("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "PEM");
    memset(long_text, 'A', sizeof long_text - 1);
    memcpy(long_text, "-----BEGIN PRIVATE KEY-----\n", 28);
    memcpy(long_text + 9900, "\n-----END PRIVATE KEY-----\n", 28);
    expect_no_key(long_text, "PEM");
}

TEST(private_key, new_keys_are_read_back)
{
    static const enum key_kind kinds[] = {KEY_RSA, KEY_ED25519};

    for (int i = 0; i < 2; i++) {
        struct private_key *key;
        struct bytes pem;

        bytes_init(&pem, 10000);
        assert_int_equal(private_key_generate(kinds[i], 1024, &pem), RESULT_OK);
        assert_int_equal(bytes_add(&pem, (struct slice){"", 1}), RESULT_OK);
        key = parse(pem.data);
        assert_int_equal(private_key_kind(key), kinds[i]);
        private_key_free(key);
        bytes_fini(&pem);
    }
}

TEST(private_key, a_file_is_loaded_and_judged_by_its_mode)
{
    static const struct {
        mode_t mode;
        bool is_exposed;
    } modes[] = {{0600, false}, {0640, false}, {0644, true}};
    char path[] = "/tmp/smtpd-key-XXXXXX";
    int fd = mkstemp(path);
    struct private_key *key;
    struct fault fault;
    bool is_exposed;

    assert_int_equal(write(fd, ed25519_pem, sizeof ed25519_pem - 1),
                     sizeof ed25519_pem - 1);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fchmod(fd, modes[i].mode), 0);
        assert_int_equal(private_key_load(path, &key, &is_exposed, &fault), RESULT_OK);
        assert_int_equal(is_exposed, modes[i].is_exposed);
        private_key_free(key);
    }
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(private_key_load(path, &key, &is_exposed, &fault), RESULT_TOO_LARGE);
    assert_non_null(strstr(fault.text, path));
    (void)close(fd);
    (void)unlink(path);
    assert_int_equal(private_key_load(path, &key, &is_exposed, &fault), RESULT_NOT_FOUND);
    assert_non_null(strstr(fault.text, path));
    assert_int_equal(private_key_load("/tmp", &key, &is_exposed, &fault), RESULT_IO);
}

TEST(private_key, a_key_that_contradicts_itself_gives_no_signature)
{
    struct private_key *key = parse(broken_pem);
    uint8_t digest[DIGEST_BYTES] = {1};
    uint8_t signature[SIGNATURE_BYTES_MAX];
    size_t length;

    for (int i = 0; i < 3; i++)
        assert_int_equal(private_key_sign(key, digest, signature, &length), RESULT_IO);
    private_key_free(key);
}

enum { THREADS = 4, ROUNDS = 20 };

static void *sign_many(void *argument)
{
    uint8_t digest[DIGEST_BYTES] = "a hash of thirty-two bytes, no?";
    uint8_t *mine = NEW_ARRAY(uint8_t, SIGNATURE_BYTES_MAX);
    size_t length;

    for (int i = 0; i < ROUNDS; i++)
        if (private_key_sign(argument, digest, mine, &length) != RESULT_OK || length != 128)
            break;
    return mine;
}

TEST(private_key, threads_sign_alike_with_one_key)
{
    struct private_key *key = parse(rsa_pem);
    uint8_t digest[DIGEST_BYTES] = "a hash of thirty-two bytes, no?";
    uint8_t expected[SIGNATURE_BYTES_MAX];
    pthread_t threads[THREADS];
    size_t length;

    assert_int_equal(private_key_sign(key, digest, expected, &length), RESULT_OK);
    assert_int_equal(length, 128);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sign_many, key), 0);
    for (int i = 0; i < THREADS; i++) {
        void *signature = NULL;

        assert_int_equal(pthread_join(threads[i], &signature), 0);
        assert_memory_equal(signature, expected, 128);
        memory_free(signature);
    }
    private_key_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(private_key, both_kinds_are_known),
        RUN(private_key, the_public_part_is_what_the_dns_has),
        RUN(private_key, what_is_no_key_is_named),
        RUN(private_key, new_keys_are_read_back),
        RUN(private_key, a_file_is_loaded_and_judged_by_its_mode),
        RUN(private_key, a_key_that_contradicts_itself_gives_no_signature),
        RUN(private_key, threads_sign_alike_with_one_key),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
