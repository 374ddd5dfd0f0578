/* DANE-EE: the server's own certificate or key is the one of a record, and nothing else of it
 * matters (RFC 7672 3.1.1: neither names nor dates). DANE-TA: it leads to a certificate of a
 * record, which was presented or stands in the record itself, and bears one of the names. */
#include "tls_dane.h"

#include "smtpd/base/memory.h"

#include <mbedtls/sha256.h>
#include <mbedtls/sha512.h>
#include <stdio.h>
#include <string.h>

enum {
    DIGEST_MAX = 64,
    PRESENTED_MAX = 16 /* certificates that are looked at as trust anchors */
};

static struct slice selected(const mbedtls_x509_crt *certificate, unsigned selector)
{
    const mbedtls_x509_buf *part =
        selector == TLSA_KEY ? &certificate->pk_raw : &certificate->raw;

    return (struct slice){(const char *)part->p, part->len};
}

static bool is_of(const mbedtls_x509_crt *certificate, const struct tlsa *tlsa)
{
    struct slice part = selected(certificate, tlsa->selector);
    const unsigned char *bytes = (const unsigned char *)part.data;
    unsigned char digest[DIGEST_MAX];
    int error = 0;

    if (tlsa->matching == TLSA_FULL)
        return slice_equal(part, tlsa->data);
    if (tlsa->matching == TLSA_SHA256)
        error = mbedtls_sha256(bytes, part.length, digest, 0);
    else
        error = mbedtls_sha512(bytes, part.length, digest, 0);
    return !error &&
           slice_equal((struct slice){(char *)digest, tlsa->data.length}, tlsa->data);
}

static bool judge_own(const struct tlsa_set *set, const mbedtls_x509_crt *own)
{
    for (size_t i = 0; i < tlsa_set_count(set); i++)
        if (tlsa_set_at(set, i)->usage == TLSA_DANE_EE && is_of(own, tlsa_set_at(set, i)))
            return true;
    return false;
}

static void tell_flags(uint32_t flags, char text[160])
{
    char lines[160] = "";

    (void)mbedtls_x509_crt_verify_info(lines, sizeof lines, "", flags);
    lines[strcspn(lines, "\n")] = '\0'; /* the first reason will do */
    (void)snprintf(text, 160, "%s", lines);
}

/* The chain leads to `anchor` (alone in its list), and the certificate bears a name. */
static bool leads_to(mbedtls_x509_crt *anchor, const mbedtls_x509_crt *chain,
                     const struct tlsa_set *set, struct tls_dane_verdict *verdict)
{
    const char *name;

    for (uint8_t i = 0; (name = tlsa_set_name(set, i)); i++) {
        uint32_t flags = 0;
        /* It changes nothing of the chain, but does not say so. */
        int error = mbedtls_x509_crt_verify((mbedtls_x509_crt *)(uintptr_t)chain, anchor,
                                            NULL, name, &flags, NULL, NULL);

        if (!error && !flags) {
            verdict->by = TLS_DANE_TA;
            verdict->name = i;
            return true;
        }
        tell_flags(flags, verdict->text);
        if (flags != MBEDTLS_X509_BADCERT_CN_MISMATCH)
            return false; /* another name mends nothing */
    }
    return false;
}

static bool leads_to_der(struct slice der, const mbedtls_x509_crt *chain,
                         const struct tlsa_set *set, struct tls_dane_verdict *verdict)
{
    mbedtls_x509_crt anchor;
    bool leads = false;

    mbedtls_x509_crt_init(&anchor);
    if (mbedtls_x509_crt_parse_der(&anchor, (const unsigned char *)der.data, der.length) ==
        0)
        leads = leads_to(&anchor, chain, set, verdict);
    mbedtls_x509_crt_free(&anchor);
    return leads;
}

/* RFC 7672 3.1.2: the anchor must be presented, since a digest of it is no certificate; a whole
 * certificate in the record is as good. */
static bool judge_anchor(const struct tlsa_set *set, const struct tlsa *tlsa,
                         const mbedtls_x509_crt *chain, struct tls_dane_verdict *verdict)
{
    const mbedtls_x509_crt *each = chain->next;

    for (int i = 0; each && i < PRESENTED_MAX; i++, each = each->next)
        if (is_of(each, tlsa) &&
            leads_to_der(selected(each, TLSA_CERTIFICATE), chain, set, verdict))
            return true;
    return tlsa->matching == TLSA_FULL && tlsa->selector == TLSA_CERTIFICATE &&
           leads_to_der(tlsa->data, chain, set, verdict);
}

void tls_dane_judge(const struct tlsa_set *set, const mbedtls_x509_crt *chain,
                    struct tls_dane_verdict *verdict)
{
    *verdict = (struct tls_dane_verdict){.by = TLS_DANE_NONE};
    if (chain && judge_own(set, chain)) {
        verdict->by = TLS_DANE_EE;
        return;
    }
    for (size_t i = 0; chain && i < tlsa_set_count(set); i++)
        if (tlsa_set_at(set, i)->usage == TLSA_DANE_TA &&
            judge_anchor(set, tlsa_set_at(set, i), chain, verdict))
            return;
    if (!chain)
        (void)snprintf(verdict->text, sizeof verdict->text, "no certificate was shown");
    else if (!verdict->text[0])
        (void)snprintf(verdict->text, sizeof verdict->text,
                       "none of the %zu usable records is of a certificate that was shown",
                       tlsa_set_count(set));
}

static void add_number(struct secure_sum *sum, size_t number)
{
    secure_sum_add(sum, (struct slice){(const char *)&number, sizeof number});
}

void tls_dane_digest(const struct tlsa_set *set, uint8_t digest[SECURE_DIGEST])
{
    struct secure_sum *sum = secure_sum_new();
    const char *name;
    bool has_anchor = false;

    for (size_t i = 0; i < tlsa_set_count(set); i++) {
        const struct tlsa *tlsa = tlsa_set_at(set, i);

        add_number(sum, tlsa->usage);
        add_number(sum, tlsa->selector);
        add_number(sum, tlsa->matching);
        add_number(sum, tlsa->data.length);
        secure_sum_add(sum, tlsa->data);
        has_anchor |= tlsa->usage == TLSA_DANE_TA;
    }
    /* Else names do not matter, and the domain of the mail is one. */
    for (size_t i = 0; has_anchor && (name = tlsa_set_name(set, i)); i++) {
        add_number(sum, strlen(name));
        secure_sum_add(sum, slice_of(name));
    }
    secure_sum_end(sum, digest);
}
