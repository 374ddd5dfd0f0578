/* What the rest of the house knows of TLS: contexts made of settings, facts of a
 * connection.
 *
 * Owns      certificates, keys, trust anchors, tickets; the handshakes in progress, which
 *           run on the crypto pool, one thread owning a connection's context at a time.
 *           Promises TLS 1.2 and 1.3; forward secrecy, but for TLS_OPPORTUNISTIC, which
 *           also takes static RSA (better than clear). Contexts are reference-counted: a
 *           reload replaces them, connections keep theirs.
 * Ignores   SMTP.
 */
#ifndef SMTPD_NET_TLS_H
#define SMTPD_NET_TLS_H

#include "smtpd/base/bytes.h"
#include "smtpd/loop/offload.h"
#include "smtpd/net/tlsa.h"

struct tls_server; /* certificates and keys of the listeners */
struct tls_client; /* trust anchors of outbound connections */

struct tls_server_settings {
    const char *const *certificate_files; /* PEM chains; the first is the default */
    const char *const *key_files;
    size_t pair_count;
    bool min_version_is_13;
};

/* Blocking file reads: at start, or on the file pool. RESULT_INVALID says which file and
 * why (unreadable, key does not match certificate, expired is only a warning in the log).
 */
enum result MUST_CHECK tls_server_new(const struct tls_server_settings *settings,
                                      struct tls_server **server, struct fault *fault);
struct tls_server *tls_server_ref(struct tls_server *server);
void tls_server_unref(struct tls_server *server); /* NULL is fine */
int64_t
tls_server_expires_ms(const struct tls_server *server); /* earliest notAfter, wall */

/* The file of the at-th certificate; NULL: there are no more. */
const char *tls_server_certificate(const struct tls_server *server, size_t at,
                                   int64_t *expires_ms);

/* `ca_file` may be NULL: nothing verifies. A CA file that cannot be read is RESULT_INVALID.
 */
enum result MUST_CHECK tls_client_new(const char *ca_file, struct tls_client **client,
                                      struct fault *fault);
struct tls_client *tls_client_ref(struct tls_client *client);
void tls_client_unref(struct tls_client *client);

enum tls_level {
    TLS_NONE,
    TLS_OPPORTUNISTIC, /* any certificate; any suite */
    TLS_REQUIRED,      /* any certificate; forward secrecy */
    TLS_VERIFIED       /* the chain must lead to a trust anchor and fit the name */
};

/* How a certificate fits the TLSA records that it was asked to fit. */
enum tls_dane {
    TLS_DANE_NONE, /* none were given */
    TLS_DANE_EE,   /* it is one of them */
    TLS_DANE_TA    /* it leads to one of them, and bears a name */
};

/* What is wrong with a certificate, by the authorities. */
enum tls_flaw {
    TLS_FLAW_NONE,
    TLS_FLAW_AUTHORITY, /* it leads to none, or is not sound */
    TLS_FLAW_EXPIRED,   /* or not valid yet; else nothing */
    TLS_FLAW_NAME       /* nothing but the name */
};

/* What was seen; the verdict for the name is always computed, whatever the level. */
struct tls_facts {
    bool is_secure;
    bool is_verified; /* chain and name are good */
    bool is_resumed;
    uint8_t dane_name; /* TLS_DANE_TA: which name of the set the certificate bears */
    enum tls_dane dane;
    enum tls_flaw flaw;
    char version[16]; /* "TLSv1.3" */
    char cipher[64];
    char name[256];        /* SNI sent (client) or asked for (server) */
    char verify_text[160]; /* why not verified */
};

struct tls_settings {
    unsigned handshakes_max;             /* in progress in all; 0: 1,000 */
    unsigned handshakes_per_address_max; /* 0: 100 */
};

#endif
