/* Certificates made here, and what TLSA records say of them. The chain is
 *
 *   root -> middle -> own ("mx.test")
 *
 * and next to it stand a stranger's, and one whose time is over. */
#include "tls_dane.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecp.h>
#include <mbedtls/entropy.h>
#include <mbedtls/sha256.h>
#include <mbedtls/sha512.h>
#include <mbedtls/x509.h>
#include <stdio.h>
#include <string.h>

enum { DER_MOST = 2048 };

struct made {
    const char *name; /* of the subject */
    mbedtls_pk_context key;
    unsigned char der[DER_MOST];
    size_t length;
};

static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;
static struct made root, middle, own, stranger, old;

static void make(struct made *made, const char *name, struct made *issuer,
                 bool is_authority, const char *until)
{
    mbedtls_x509write_cert writing;
    mbedtls_x509_san_list alternative = {
        .node = {.type = MBEDTLS_X509_SAN_DNS_NAME,
                 .san = {.unstructured_name = {.p = (unsigned char *)(uintptr_t)name,
                                               .len = strlen(name)}}}};
    unsigned char serial[1] = {1};
    unsigned char buffer[DER_MOST];
    char subject[128];
    char signer[128];
    int length;

    made->name = name;
    mbedtls_pk_init(&made->key);
    assert_int_equal(
        mbedtls_pk_setup(&made->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(made->key),
                                         mbedtls_ctr_drbg_random, &drbg),
                     0);
    if (!issuer)
        issuer = made;
    (void)snprintf(subject, sizeof subject, "CN=%s", name);
    (void)snprintf(signer, sizeof signer, "CN=%s", issuer->name);
    mbedtls_x509write_crt_init(&writing);
    mbedtls_x509write_crt_set_version(&writing, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&writing, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&writing, &made->key);
    mbedtls_x509write_crt_set_issuer_key(&writing, &issuer->key);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&writing, subject), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&writing, signer), 0);
    assert_int_equal(mbedtls_x509write_crt_set_serial_raw(&writing, serial, 1), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&writing, "20200101000000", until),
                     0);
    assert_int_equal(
        mbedtls_x509write_crt_set_basic_constraints(&writing, is_authority, -1), 0);
    assert_int_equal(
        mbedtls_x509write_crt_set_subject_alternative_name(&writing, &alternative), 0);
    length = mbedtls_x509write_crt_der(&writing, buffer, sizeof buffer,
                                       mbedtls_ctr_drbg_random, &drbg);
    assert_true(length > 0);
    made->length = (size_t)length;
    memcpy(made->der, buffer + sizeof buffer - length,
           made->length); /* it writes backwards */
    mbedtls_x509write_crt_free(&writing);
}

static int make_all(void **state)
{
    static const char later[] = "20491231235959";

    (void)state;
    secure_init();
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    assert_int_equal(mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0),
                     0);
    make(&root, "root", NULL, true, later);
    make(&middle, "middle", &root, true, later);
    make(&own, "mx.test", &middle, false, later);
    make(&stranger, "mx.test", NULL, true, later);
    make(&old, "mx.test", &middle, false, "20200102000000");
    return 0;
}

static int forget_all(void **state)
{
    (void)state;
    mbedtls_pk_free(&root.key);
    mbedtls_pk_free(&middle.key);
    mbedtls_pk_free(&own.key);
    mbedtls_pk_free(&stranger.key);
    mbedtls_pk_free(&old.key);
    mbedtls_ctr_drbg_free(&drbg);
    mbedtls_entropy_free(&entropy);
    return 0;
}

/* ---- records of a certificate ---- */

static unsigned char kept[8][DER_MOST];
static size_t kept_count;

static struct tlsa record(unsigned usage, unsigned selector, unsigned matching,
                          const struct made *of)
{
    unsigned char *data = kept[kept_count++ % 8];
    mbedtls_x509_crt certificate;
    const mbedtls_x509_buf *part;
    size_t length;

    mbedtls_x509_crt_init(&certificate);
    assert_int_equal(mbedtls_x509_crt_parse_der(&certificate, of->der, of->length), 0);
    part = selector ? &certificate.pk_raw : &certificate.raw;
    length = matching == TLSA_FULL ? part->len : matching == TLSA_SHA256 ? 32 : 64;
    if (matching == TLSA_FULL)
        memcpy(data, part->p, part->len);
    else if (matching == TLSA_SHA256)
        assert_int_equal(mbedtls_sha256(part->p, part->len, data, 0), 0);
    else
        assert_int_equal(mbedtls_sha512(part->p, part->len, data, 0), 0);
    mbedtls_x509_crt_free(&certificate);
    return (struct tlsa){
        (uint8_t)usage, (uint8_t)selector, (uint8_t)matching, {(const char *)data, length}};
}

/* What is shown is judged by one record (or two) and one name (or two). */
struct shown {
    const struct made *chain[4];
    const char *names[3];
};

static struct tls_dane_verdict judge_all(const struct shown *shown,
                                         const struct tlsa *records, size_t count)
{
    struct tlsa_set *set = tlsa_set_new(records, count);
    struct tls_dane_verdict verdict;
    mbedtls_x509_crt chain;

    assert_non_null(set);
    mbedtls_x509_crt_init(&chain);
    for (size_t i = 0; i < 4 && shown->chain[i]; i++)
        assert_int_equal(mbedtls_x509_crt_parse_der(&chain, shown->chain[i]->der,
                                                    shown->chain[i]->length),
                         0);
    for (size_t i = 0; i < 3 && shown->names[i]; i++)
        tlsa_set_add_name(set, shown->names[i]);
    tls_dane_judge(set, &chain, &verdict);
    mbedtls_x509_crt_free(&chain);
    tlsa_set_free(set);
    if (verdict.by == TLS_DANE_NONE)
        assert_true(verdict.text[0] != '\0');
    return verdict;
}

static struct tls_dane_verdict judge(const struct shown *shown, struct tlsa tlsa)
{
    return judge_all(shown, &tlsa, 1);
}

static const struct shown whole = {{&own, &middle, &root}, {"mx.test"}};
static const struct shown without_root = {{&own, &middle}, {"mx.test"}};

/* ---- DANE-EE ---- */

TEST(tls_dane, the_own_certificate_and_key_fit_in_every_form)
{
    for (unsigned selector = 0; selector <= 1; selector++)
        for (unsigned matching = 0; matching <= 2; matching++) {
            assert_int_equal(
                judge(&whole, record(TLSA_DANE_EE, selector, matching, &own)).by,
                TLS_DANE_EE);
            assert_int_equal(
                judge(&whole, record(TLSA_DANE_EE, selector, matching, &stranger)).by,
                TLS_DANE_NONE);
        }
}

/* RFC 7672 3.1.1 */
TEST(tls_dane, names_dates_and_authorities_are_nothing_to_an_own_one)
{
    static const struct shown other_name = {{&own}, {"other.test"}};
    static const struct shown over = {{&old}, {"other.test"}};
    static const struct shown nobodys = {{&stranger}, {"other.test"}};

    assert_int_equal(judge(&other_name, record(3, 1, 1, &own)).by, TLS_DANE_EE);
    assert_int_equal(judge(&over, record(3, 0, 1, &old)).by, TLS_DANE_EE);
    assert_int_equal(judge(&nobodys, record(3, 1, 2, &stranger)).by, TLS_DANE_EE);
}

TEST(tls_dane, an_own_one_is_the_first_that_is_shown)
{
    assert_int_equal(judge(&whole, record(3, 1, 1, &middle)).by, TLS_DANE_NONE);
    assert_int_equal(judge(&whole, record(3, 1, 1, &root)).by, TLS_DANE_NONE);
}

/* ---- DANE-TA ---- */

TEST(tls_dane, a_chain_leads_to_its_anchor_in_every_form)
{
    for (unsigned selector = 0; selector <= 1; selector++)
        for (unsigned matching = 0; matching <= 2; matching++) {
            assert_int_equal(
                judge(&whole, record(TLSA_DANE_TA, selector, matching, &root)).by,
                TLS_DANE_TA);
            assert_int_equal(
                judge(&without_root, record(TLSA_DANE_TA, selector, matching, &middle)).by,
                TLS_DANE_TA);
            assert_int_equal(
                judge(&whole, record(TLSA_DANE_TA, selector, matching, &stranger)).by,
                TLS_DANE_NONE);
        }
}

TEST(tls_dane, an_anchor_that_is_not_shown_must_stand_in_the_record)
{
    assert_int_equal(judge(&without_root, record(2, 0, 1, &root)).by, TLS_DANE_NONE);
    assert_int_equal(judge(&without_root, record(2, 1, 0, &root)).by, TLS_DANE_NONE);
    assert_int_equal(judge(&without_root, record(2, 0, 0, &root)).by, TLS_DANE_TA);
}

/* Whoever shows the anchor beside a certificate of its own has proven nothing. */
TEST(tls_dane, an_anchor_beside_a_strangers_certificate_is_no_chain)
{
    static const struct shown beside = {{&stranger, &middle, &root}, {"mx.test"}};

    assert_int_equal(judge(&beside, record(2, 0, 1, &root)).by, TLS_DANE_NONE);
    assert_int_equal(judge(&beside, record(2, 1, 1, &middle)).by, TLS_DANE_NONE);
    assert_int_equal(judge(&beside, record(2, 0, 0, &root)).by, TLS_DANE_NONE);
}

TEST(tls_dane, the_own_certificate_is_no_anchor)
{
    static const struct shown alone = {{&stranger}, {"mx.test"}};

    assert_int_equal(judge(&alone, record(2, 0, 1, &stranger)).by, TLS_DANE_NONE);
    assert_int_equal(judge(&whole, record(2, 0, 1, &own)).by, TLS_DANE_NONE);
}

TEST(tls_dane, below_an_anchor_the_name_must_fit)
{
    static const struct shown second = {{&own, &middle}, {"mx.other.test", "mx.test"}};
    static const struct shown none = {{&own, &middle}, {"mx.other.test", "test"}};
    struct tls_dane_verdict verdict = judge(&second, record(2, 0, 1, &middle));

    assert_int_equal(verdict.by, TLS_DANE_TA);
    assert_int_equal(verdict.name, 1);
    assert_int_equal(judge(&without_root, record(2, 0, 1, &middle)).name, 0);
    verdict = judge(&none, record(2, 0, 1, &middle));
    assert_int_equal(verdict.by, TLS_DANE_NONE);
    assert_non_null(strstr(verdict.text, "does not match"));
}

TEST(tls_dane, below_an_anchor_the_time_must_not_be_over)
{
    static const struct shown over = {{&old, &middle}, {"mx.test"}};
    struct tls_dane_verdict verdict = judge(&over, record(2, 0, 1, &middle));

    assert_int_equal(verdict.by, TLS_DANE_NONE);
    assert_non_null(strstr(verdict.text, "expired"));
}

TEST(tls_dane, an_anchor_in_the_record_that_is_no_certificate_leads_nowhere)
{
    struct tlsa junk = {TLSA_DANE_TA, TLSA_CERTIFICATE, TLSA_FULL, SLICE("no certificate")};

    assert_int_equal(judge(&whole, junk).by, TLS_DANE_NONE);
}

/* ---- several ---- */

TEST(tls_dane, one_record_that_fits_is_enough)
{
    struct tlsa records[] = {record(3, 1, 1, &stranger), record(2, 0, 1, &stranger),
                             record(2, 0, 1, &middle), record(3, 0, 2, &own)};

    assert_int_equal(judge_all(&whole, records, 4).by, TLS_DANE_EE);
    assert_int_equal(judge_all(&whole, records, 3).by, TLS_DANE_TA);
    assert_int_equal(judge_all(&whole, records, 2).by, TLS_DANE_NONE);
}

TEST(tls_dane, who_shows_nothing_fits_nothing)
{
    struct tlsa tlsa = record(3, 1, 1, &own);
    struct tlsa_set *set = tlsa_set_new(&tlsa, 1);
    struct tls_dane_verdict verdict;

    tls_dane_judge(set, NULL, &verdict);
    assert_int_equal(verdict.by, TLS_DANE_NONE);
    assert_true(verdict.text[0] != '\0');
    tlsa_set_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tls_dane, the_own_certificate_and_key_fit_in_every_form),
        RUN(tls_dane, names_dates_and_authorities_are_nothing_to_an_own_one),
        RUN(tls_dane, an_own_one_is_the_first_that_is_shown),
        RUN(tls_dane, a_chain_leads_to_its_anchor_in_every_form),
        RUN(tls_dane, an_anchor_that_is_not_shown_must_stand_in_the_record),
        RUN(tls_dane, an_anchor_beside_a_strangers_certificate_is_no_chain),
        RUN(tls_dane, the_own_certificate_is_no_anchor),
        RUN(tls_dane, below_an_anchor_the_name_must_fit),
        RUN(tls_dane, below_an_anchor_the_time_must_not_be_over),
        RUN(tls_dane, an_anchor_in_the_record_that_is_no_certificate_leads_nowhere),
        RUN(tls_dane, one_record_that_fits_is_enough),
        RUN(tls_dane, who_shows_nothing_fits_nothing),
    };

    return cmocka_run_group_tests(tests, make_all, forget_all);
}
