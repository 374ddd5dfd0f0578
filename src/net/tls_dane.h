/* Whether what a server presented is what its TLSA records say (RFC 7671 5, RFC 7672 3). */
#ifndef SMTPD_NET_TLS_DANE_H
#define SMTPD_NET_TLS_DANE_H

#include "smtpd/base/secure.h"
#include "smtpd/net/tls.h"

#include <mbedtls/x509_crt.h>

struct tls_dane_verdict {
    enum tls_dane by;
    uint8_t name;   /* of DANE-TA: which name of the set the certificate bears */
    char text[160]; /* why not */
};

/* `chain`: as presented, the server's own first; NULL: nothing was. Takes milliseconds for DANE-TA:
 * signatures are verified. */
void tls_dane_judge(const struct tlsa_set *set, const mbedtls_x509_crt *chain,
                    struct tls_dane_verdict *verdict);

/* The same for the same records, and names where they matter. */
void tls_dane_digest(const struct tlsa_set *set, uint8_t digest[SECURE_DIGEST]);

#endif
