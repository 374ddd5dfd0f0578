/* Contexts as the engine sees them. Only tls.c and tls_engine.c include this. */
#ifndef SMTPD_NET_TLS_INNER_H
#define SMTPD_NET_TLS_INNER_H

#include "smtpd/net/tls.h"
#include "tls_sessions.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/x509_crt.h>
#include <stdatomic.h>

struct tls_random { /* guarded inside by the library's own lock */
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context drbg;
};

struct tls_pair {
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
    char *file; /* of the certificate */
    int64_t expires_ms;
};

struct tls_server {
    atomic_uint references;
    struct tls_random random;
    struct tls_pair *pairs;
    size_t pair_count;
    mbedtls_ssl_config config;
    mbedtls_ssl_ticket_context tickets;
    int *suites;
    int64_t expires_ms;
};

struct tls_client {
    atomic_uint references;
    struct tls_random random;
    mbedtls_x509_crt authorities;
    bool has_authorities;
    struct tls_sessions *sessions;    /* new with every client: a reload resumes nothing */
    mbedtls_ssl_config strict;        /* forward secrecy only */
    mbedtls_ssl_config opportunistic; /* static RSA too */
    int *strict_suites;
    int *opportunistic_suites;
};

#endif
