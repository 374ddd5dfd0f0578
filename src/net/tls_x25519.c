/* The multiplication of points that the TLS library calls, for one curve by libsodium. */
#include "tls_x25519.h"

#include "smtpd/base/secure.h"

#include <mbedtls/ecp.h>
#include <string.h>

typedef int random_fn(void *owner, unsigned char *into, size_t length);

/* The names that the linker's --wrap gives: of the library's own, and of what stands before them.
 * Weak: without --wrap they are nowhere, and nobody calls. */
int library_multiply(mbedtls_ecp_group *group, mbedtls_ecp_point *product,
                     const mbedtls_mpi *factor, const mbedtls_ecp_point *point,
                     random_fn *random, void *owner) __asm__("__real_mbedtls_ecp_mul")
    __attribute__((weak));
int library_multiply_in_parts(
    mbedtls_ecp_group *group, mbedtls_ecp_point *product, const mbedtls_mpi *factor,
    const mbedtls_ecp_point *point, random_fn *random, void *owner,
    mbedtls_ecp_restart_ctx *restart) __asm__("__real_mbedtls_ecp_mul_restartable")
    __attribute__((weak));
int multiply(mbedtls_ecp_group *group, mbedtls_ecp_point *product,
             const mbedtls_mpi *factor, const mbedtls_ecp_point *point, random_fn *random,
             void *owner) __asm__("__wrap_mbedtls_ecp_mul");
int multiply_in_parts(
    mbedtls_ecp_group *group, mbedtls_ecp_point *product, const mbedtls_mpi *factor,
    const mbedtls_ecp_point *point, random_fn *random, void *owner,
    mbedtls_ecp_restart_ctx *restart) __asm__("__wrap_mbedtls_ecp_mul_restartable");

/* Montgomery's curves are x alone, and the least byte comes first (RFC 7748 5). */
static int x25519(mbedtls_ecp_point *product, const mbedtls_mpi *factor,
                  const mbedtls_ecp_point *point)
{
    uint8_t scalar[SECURE_X25519];
    uint8_t x[SECURE_X25519];
    uint8_t result[SECURE_X25519];
    int error = mbedtls_mpi_write_binary_le(factor, scalar, sizeof scalar);

    if (!error)
        error = mbedtls_mpi_write_binary_le(&point->MBEDTLS_PRIVATE(X), x, sizeof x);
    if (error || !secure_x25519(scalar, x, result))
        error = MBEDTLS_ERR_ECP_INVALID_KEY;
    if (!error)
        error =
            mbedtls_mpi_read_binary_le(&product->MBEDTLS_PRIVATE(X), result, sizeof result);
    if (!error)
        error = mbedtls_mpi_lset(&product->MBEDTLS_PRIVATE(Z), 1);
    mbedtls_mpi_free(&product->MBEDTLS_PRIVATE(Y));
    secure_wipe(scalar, sizeof scalar);
    secure_wipe(result, sizeof result);
    return error;
}

/* NOLINTNEXTLINE(readability-function-size): the library's own parameters */
int multiply(mbedtls_ecp_group *group, mbedtls_ecp_point *product,
             const mbedtls_mpi *factor, const mbedtls_ecp_point *point, random_fn *random,
             void *owner)
{
    if (group->id == MBEDTLS_ECP_DP_CURVE25519)
        return x25519(product, factor, point);
    return library_multiply(group, product, factor, point, random, owner);
}

/* NOLINTNEXTLINE(readability-function-size): the library's own parameters */
int multiply_in_parts(mbedtls_ecp_group *group, mbedtls_ecp_point *product,
                      const mbedtls_mpi *factor, const mbedtls_ecp_point *point,
                      random_fn *random, void *owner, mbedtls_ecp_restart_ctx *restart)
{
    if (group->id == MBEDTLS_ECP_DP_CURVE25519)
        return x25519(product, factor, point);
    return library_multiply_in_parts(group, product, factor, point, random, owner, restart);
}

/* ---- the check at start ---- */

static int no_secret(void *owner, unsigned char *into, size_t length)
{
    (void)owner;
    secure_random(into, length);
    return 0;
}

static int exchange(mbedtls_ecp_group *group, mbedtls_ecp_point *point, mbedtls_mpi *factor,
                    uint8_t product[SECURE_X25519])
{
    /* RFC 7748 5.2, the first vector; the scalar is decoded already. */
    static const uint8_t scalar[] = "\xa0\x46\xe3\x6b\xf0\x52\x7c\x9d\x3b\x16\x15\x4b\x82"
                                    "\x46\x5e\xdd\x62\x14\x4c\x0a\xc1"
                                    "\xfc\x5a\x18\x50\x6a\x22\x44\xba\x44\x9a\x44";
    static const uint8_t x[] = "\xe6\xdb\x68\x67\x58\x30\x30\xdb\x35\x94\xc1\xa4\x24\xb1"
                               "\x5f\x7c\x72\x66\x24\xec\x26"
                               "\xb3\x35\x3b\x10\xa9\x03\xa6\xd0\xab\x1c\x4c";
    size_t length = 0;
    int error = mbedtls_ecp_group_load(group, MBEDTLS_ECP_DP_CURVE25519);

    if (!error)
        error = mbedtls_mpi_read_binary_le(factor, scalar, SECURE_X25519);
    if (!error)
        error = mbedtls_ecp_point_read_binary(group, point, x, SECURE_X25519);
    if (!error)
        error = mbedtls_ecp_mul(group, point, factor, point, no_secret, NULL);
    if (!error)
        error = mbedtls_ecp_point_write_binary(group, point, MBEDTLS_ECP_PF_UNCOMPRESSED,
                                               &length, product, SECURE_X25519);
    return error;
}

bool tls_x25519_is_right(void)
{
    static const uint8_t wanted[] = "\xc3\xda\x55\x37\x9d\xe9\xc6\x90\x8e\x94\xea\x4d\xf2"
                                    "\x8d\x08\x4f\x32\xec\xcf\x03\x49"
                                    "\x1c\x71\xf7\x54\xb4\x07\x55\x77\xa2\x85\x52";
    uint8_t product[SECURE_X25519];
    mbedtls_ecp_group group;
    mbedtls_ecp_point point;
    mbedtls_mpi factor;
    bool is_right;

    mbedtls_ecp_group_init(&group);
    mbedtls_ecp_point_init(&point);
    mbedtls_mpi_init(&factor);
    is_right = exchange(&group, &point, &factor, product) == 0 &&
               memcmp(product, wanted, sizeof product) == 0;
    mbedtls_mpi_free(&factor);
    mbedtls_ecp_point_free(&point);
    mbedtls_ecp_group_free(&group);
    return is_right;
}
