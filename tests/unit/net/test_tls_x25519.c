/* The library's multiplication of points, led to libsodium for one curve: RFC 7748's vectors, and
 * all that must stay the library's. With SMTPD_X25519=mbedtls the same holds of the library. */
#include "tls_x25519.h"

#include "test.h"

#include "smtpd/base/secure.h"

#include <mbedtls/ecdh.h>
#include <mbedtls/ecp.h>
#include <string.h>

enum { BYTES = SECURE_X25519 };

static unsigned asked; /* for random bytes */

static int random_bytes(void *owner, unsigned char *into, size_t length)
{
    (void)owner;
    asked++;
    secure_random(into, length);
    return 0;
}

struct numbers {
    mbedtls_ecp_group group;
    mbedtls_ecp_point point;
    mbedtls_ecp_point product;
    mbedtls_mpi factor;
};

static void numbers_init(struct numbers *numbers, mbedtls_ecp_group_id curve)
{
    mbedtls_ecp_group_init(&numbers->group);
    mbedtls_ecp_point_init(&numbers->point);
    mbedtls_ecp_point_init(&numbers->product);
    mbedtls_mpi_init(&numbers->factor);
    assert_int_equal(mbedtls_ecp_group_load(&numbers->group, curve), 0);
}

static void numbers_fini(struct numbers *numbers)
{
    mbedtls_mpi_free(&numbers->factor);
    mbedtls_ecp_point_free(&numbers->product);
    mbedtls_ecp_point_free(&numbers->point);
    mbedtls_ecp_group_free(&numbers->group);
}

/* The library wants a scalar that is decoded (RFC 7748 5). */
static int multiply(struct numbers *numbers, const uint8_t scalar[BYTES],
                    const uint8_t x[BYTES], uint8_t product[BYTES])
{
    uint8_t decoded[BYTES];
    size_t length = 0;
    int error;

    memcpy(decoded, scalar, BYTES);
    decoded[0] &= 248;
    decoded[31] = (uint8_t)((decoded[31] & 127) | 64);
    assert_int_equal(mbedtls_mpi_read_binary_le(&numbers->factor, decoded, BYTES), 0);
    assert_int_equal(
        mbedtls_ecp_point_read_binary(&numbers->group, &numbers->point, x, BYTES), 0);
    error = mbedtls_ecp_mul(&numbers->group, &numbers->product, &numbers->factor,
                            &numbers->point, random_bytes, NULL);
    if (!error)
        assert_int_equal(mbedtls_ecp_point_write_binary(&numbers->group, &numbers->product,
                                                        MBEDTLS_ECP_PF_UNCOMPRESSED,
                                                        &length, product, BYTES),
                         0);
    return error;
}

TEST(tls_x25519, the_check_at_start_passes)
{
    assert_true(tls_x25519_is_right());
}

/* RFC 7748 5.2: after one round, and after a thousand. */
TEST(tls_x25519, many_rounds_give_the_known_answer)
{
    uint8_t scalar[BYTES] = {9};
    uint8_t x[BYTES] = {9};
    uint8_t product[BYTES];
    struct numbers numbers;

    numbers_init(&numbers, MBEDTLS_ECP_DP_CURVE25519);
    for (unsigned round = 0; round < 1000; round++) {
        assert_int_equal(multiply(&numbers, scalar, x, product), 0);
        memcpy(x, scalar, BYTES);
        memcpy(scalar, product, BYTES);
        if (round == 0)
            assert_memory_equal(
                scalar,
                "\x42\x2c\x8e\x7a\x62\x27\xd7\xbc\xa1\x35\x0b\x3e\x2b\xb7\x27"
                "\x9f\x78\x97\xb8\x7b\xb6\x85\x4b\x78\x3c\x60\xe8\x03\x11\xae"
                "\x30\x79",
                BYTES);
    }
    assert_memory_equal(
        scalar,
        "\x68\x4c\xf5\x9b\xa8\x33\x09\x55\x28\x00\xef\x56\x6f\x2f\x4d\x3c\x1c"
        "\x38\x87\xc4\x93\x60\xe3\x87\x5f\x2e\xb9\x4d\x99\x53\x2c\x51",
        BYTES);
    numbers_fini(&numbers);
}

/* RFC 7748 6.1: points of small order make a secret that everybody knows. */
TEST(tls_x25519, a_point_of_small_order_is_refused)
{
    static const uint8_t p_less_one[BYTES] = "\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                                             "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                                             "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    uint8_t scalar[BYTES] = {9};
    uint8_t nothing[BYTES] = {0};
    uint8_t one[BYTES] = {1};
    uint8_t product[BYTES];
    struct numbers numbers;

    numbers_init(&numbers, MBEDTLS_ECP_DP_CURVE25519);
    assert_int_not_equal(multiply(&numbers, scalar, nothing, product), 0);
    assert_int_not_equal(multiply(&numbers, scalar, one, product), 0);
    assert_int_not_equal(multiply(&numbers, scalar, p_less_one, product), 0);
    numbers_fini(&numbers);
}

/* The library blinds its own arithmetic with random bytes; libsodium has no need of them. */
TEST(tls_x25519, the_build_says_who_computes)
{
    uint8_t scalar[BYTES] = {9};
    uint8_t x[BYTES] = {9};
    uint8_t product[BYTES];
    struct numbers numbers;

    numbers_init(&numbers, MBEDTLS_ECP_DP_CURVE25519);
    asked = 0;
    assert_int_equal(multiply(&numbers, scalar, x, product), 0);
#ifdef SMTPD_X25519_SODIUM
    assert_int_equal(asked, 0);
#else
    assert_int_not_equal(asked, 0);
#endif
    numbers_fini(&numbers);
}

/* By way of the calls that TLS 1.2 makes; those of TLS 1.3 are in test_tls_engine.c. */
static void agree(mbedtls_ecp_group_id curve)
{
    mbedtls_mpi ours, theirs, secret, same;
    struct numbers a;
    struct numbers b;

    mbedtls_mpi_init(&ours);
    mbedtls_mpi_init(&theirs);
    mbedtls_mpi_init(&secret);
    mbedtls_mpi_init(&same);
    numbers_init(&a, curve);
    numbers_init(&b, curve);
    assert_int_equal(mbedtls_ecdh_gen_public(&a.group, &ours, &a.point, random_bytes, NULL),
                     0);
    assert_int_equal(
        mbedtls_ecdh_gen_public(&b.group, &theirs, &b.point, random_bytes, NULL), 0);
    assert_int_not_equal(mbedtls_mpi_cmp_mpi(&ours, &theirs), 0);
    assert_int_equal(
        mbedtls_ecdh_compute_shared(&a.group, &secret, &b.point, &ours, random_bytes, NULL),
        0);
    assert_int_equal(
        mbedtls_ecdh_compute_shared(&b.group, &same, &a.point, &theirs, random_bytes, NULL),
        0);
    assert_int_equal(mbedtls_mpi_cmp_mpi(&secret, &same), 0);
    numbers_fini(&b);
    numbers_fini(&a);
    mbedtls_mpi_free(&same);
    mbedtls_mpi_free(&secret);
    mbedtls_mpi_free(&theirs);
    mbedtls_mpi_free(&ours);
}

TEST(tls_x25519, two_sides_agree_on_each_curve)
{
    agree(MBEDTLS_ECP_DP_CURVE25519);
    agree(MBEDTLS_ECP_DP_CURVE448);
    agree(MBEDTLS_ECP_DP_SECP256R1);
    agree(MBEDTLS_ECP_DP_SECP384R1);
}

/* 2 G, and what stands in the library's own tables, are on the curve. */
TEST(tls_x25519, another_curve_is_the_librarys)
{
    struct numbers numbers;

    numbers_init(&numbers, MBEDTLS_ECP_DP_SECP256R1);
    asked = 0;
    assert_int_equal(mbedtls_mpi_lset(&numbers.factor, 2), 0);
    assert_int_equal(mbedtls_ecp_mul(&numbers.group, &numbers.product, &numbers.factor,
                                     &numbers.group.G, random_bytes, NULL),
                     0);
    assert_int_not_equal(asked, 0);
    assert_int_equal(mbedtls_ecp_check_pubkey(&numbers.group, &numbers.product), 0);
    numbers_fini(&numbers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tls_x25519, the_check_at_start_passes),
        RUN(tls_x25519, many_rounds_give_the_known_answer),
        RUN(tls_x25519, a_point_of_small_order_is_refused),
        RUN(tls_x25519, the_build_says_who_computes),
        RUN(tls_x25519, two_sides_agree_on_each_curve),
        RUN(tls_x25519, another_curve_is_the_librarys),
    };

    secure_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
