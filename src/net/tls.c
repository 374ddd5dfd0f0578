/* TLS contexts: certificates, keys, trust anchors, and which suites are taken. The
 * connection itself is in tls_engine.c. */
#include "smtpd/net/tls.h"

#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "tls_inner.h"
#include "tls_x25519.h"

#include <mbedtls/error.h>
#include <psa/crypto.h>
#include <stdio.h>
#include <string.h>

enum { TICKET_LIFE_S = 86400, DNS_NAME_TAG = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2 };

/* ---- randomness ---- */

static enum result random_init(struct tls_random *random, struct fault *fault)
{
    mbedtls_entropy_init(&random->entropy);
    mbedtls_ctr_drbg_init(&random->drbg);
    /* Here, so that a failure shows at the start and not in a connection. */
    if (psa_crypto_init() != PSA_SUCCESS ||
        mbedtls_ctr_drbg_seed(&random->drbg, mbedtls_entropy_func, &random->entropy, NULL,
                              0) != 0)
        return fault_set(fault, RESULT_TLS, "the TLS library has no source of randomness");
    if (!tls_x25519_is_right())
        return fault_set(fault, RESULT_TLS, "X25519 gives a wrong answer");
    return RESULT_OK;
}

static void random_fini(struct tls_random *random)
{
    mbedtls_ctr_drbg_free(&random->drbg);
    mbedtls_entropy_free(&random->entropy);
}

/* ---- suites ---- */

static bool starts(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Forward secrecy: TLS 1.3, and ECDHE or DHE with a certificate (no PSK, no anonymous). */
static bool suite_is_wanted(const char *name, bool takes_static_rsa)
{
    return starts(name, "TLS1-3-") || starts(name, "TLS-ECDHE-RSA-WITH-") ||
           starts(name, "TLS-ECDHE-ECDSA-WITH-") || starts(name, "TLS-DHE-RSA-WITH-") ||
           (takes_static_rsa && starts(name, "TLS-RSA-WITH-AES-"));
}

static int *choose_suites(bool takes_static_rsa)
{
    const int *all = mbedtls_ssl_list_ciphersuites();
    size_t count = 0;
    int *chosen;

    while (all[count])
        count++;
    chosen = NEW_ARRAY(int, count + 1);
    for (size_t i = 0, n = 0; i < count; i++) {
        const char *name = mbedtls_ssl_get_ciphersuite_name(all[i]);

        /* SHA-1 MACs are left to opportunistic peers, NULL ciphers to nobody. */
        if (name && suite_is_wanted(name, takes_static_rsa) && !strstr(name, "NULL"))
            chosen[n++] = all[i];
    }
    return chosen;
}

/* ---- certificates ---- */

/* Days since 1970 of a date, by eras of 400 years that begin on 1 March. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int64_t wall_ms_of(const mbedtls_x509_time *time)
{
    int64_t hours = days_of(time->year, time->mon, time->day) * 24 + time->hour;

    return ((hours * 60 + time->min) * 60 + time->sec) * 1000;
}

static void describe(int error, char text[160])
{
    mbedtls_strerror(error, text, 160);
}

static enum result load_pair(struct tls_pair *pair, const char *certificate_file,
                             const char *key_file, struct tls_random *random,
                             struct fault *fault)
{
    char why[160];
    int error = mbedtls_x509_crt_parse_file(&pair->certificate, certificate_file);

    if (error) {
        describe(error, why);
        return fault_set(fault, RESULT_INVALID, "cannot use the certificate %s: %s",
                         certificate_file, why);
    }
    error = mbedtls_pk_parse_keyfile(&pair->key, key_file, NULL, mbedtls_ctr_drbg_random,
                                     &random->drbg);
    if (error) {
        describe(error, why);
        return fault_set(fault, RESULT_INVALID, "cannot use the key %s: %s", key_file, why);
    }
    if (mbedtls_pk_check_pair(&pair->certificate.pk, &pair->key, mbedtls_ctr_drbg_random,
                              &random->drbg) != 0)
        return fault_set(fault, RESULT_INVALID,
                         "the key %s does not belong to the certificate %s", key_file,
                         certificate_file);
    if (mbedtls_x509_time_is_past(&pair->certificate.valid_to))
        log_message(LOG_WARNING, "tls.certificate_expired",
                    "the certificate %s has expired", certificate_file);
    return RESULT_OK;
}

static bool name_matches(struct slice pattern, struct slice name)
{
    size_t dot;

    if (pattern.length > 2 && pattern.data[0] == '*' && pattern.data[1] == '.') {
        dot = slice_find(name, '.');
        return dot > 0 && dot < name.length &&
               slice_equal_fold(slice_from(pattern, 1), slice_from(name, dot));
    }
    return slice_equal_fold(pattern, name);
}

static bool certificate_fits(const mbedtls_x509_crt *certificate, struct slice name)
{
    const mbedtls_x509_sequence *each = &certificate->subject_alt_names;

    for (; each; each = each->next) {
        struct slice pattern = {(const char *)each->buf.p, each->buf.len};

        if (each->buf.tag == DNS_NAME_TAG && pattern.length > 0 &&
            name_matches(pattern, name))
            return true;
    }
    return false;
}

/* Server name indication: all pairs that fit the name, ECDSA before RSA (their order). None
 * fits: the configured list stays, as mail wants it; never an alert. */
static int choose_by_name(void *owner, mbedtls_ssl_context *ssl, const unsigned char *name,
                          size_t length)
{
    struct tls_server *server = owner;
    struct slice wanted = {(const char *)name, length};

    for (size_t i = 0; i < server->pair_count; i++) {
        struct tls_pair *pair = &server->pairs[i];
        int error;

        if (!certificate_fits(&pair->certificate, wanted))
            continue;
        error = mbedtls_ssl_set_hs_own_cert(ssl, &pair->certificate, &pair->key);
        if (error)
            return error;
    }
    return 0;
}

static bool is_rsa(const struct tls_pair *pair)
{
    return mbedtls_pk_can_do(&pair->key, MBEDTLS_PK_RSA);
}

static enum result load_pairs(struct tls_server *server,
                              const struct tls_server_settings *settings,
                              struct fault *fault)
{
    server->pairs = NEW_ARRAY(struct tls_pair, settings->pair_count);
    for (size_t i = 0; i < settings->pair_count; i++) {
        mbedtls_x509_crt_init(&server->pairs[i].certificate);
        mbedtls_pk_init(&server->pairs[i].key);
    }
    server->pair_count = settings->pair_count;
    for (size_t i = 0; i < settings->pair_count; i++) {
        enum result loaded = load_pair(&server->pairs[i], settings->certificate_files[i],
                                       settings->key_files[i], &server->random, fault);
        int64_t expires_ms = wall_ms_of(&server->pairs[i].certificate.valid_to);

        if (loaded != RESULT_OK)
            return loaded;
        server->pairs[i].file = memory_text(settings->certificate_files[i]);
        server->pairs[i].expires_ms = expires_ms;
        if (server->expires_ms == 0 || expires_ms < server->expires_ms)
            server->expires_ms = expires_ms;
    }
    return RESULT_OK;
}

static enum result configure_server(struct tls_server *server, bool min_version_is_13,
                                    struct fault *fault)
{
    mbedtls_ssl_config *config = &server->config;
    int error = mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_SERVER,
                                            MBEDTLS_SSL_TRANSPORT_STREAM,
                                            MBEDTLS_SSL_PRESET_DEFAULT);

    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &server->random.drbg);
    mbedtls_ssl_conf_min_tls_version(config, min_version_is_13
                                                 ? MBEDTLS_SSL_VERSION_TLS1_3
                                                 : MBEDTLS_SSL_VERSION_TLS1_2);
    server->suites = choose_suites(false);
    mbedtls_ssl_conf_ciphersuites(config, server->suites);
    mbedtls_ssl_conf_sni(config, choose_by_name, server);
    /* ECDSA first: it costs us a third of RSA's arithmetic. */
    for (int wants_rsa = 0; wants_rsa < 2 && !error; wants_rsa++)
        for (size_t i = 0; i < server->pair_count && !error; i++)
            if (is_rsa(&server->pairs[i]) == (wants_rsa == 1))
                error = mbedtls_ssl_conf_own_cert(config, &server->pairs[i].certificate,
                                                  &server->pairs[i].key);
    if (!error)
        error = mbedtls_ssl_ticket_setup(&server->tickets, mbedtls_ctr_drbg_random,
                                         &server->random.drbg, MBEDTLS_CIPHER_AES_256_GCM,
                                         TICKET_LIFE_S);
    mbedtls_ssl_conf_session_tickets_cb(config, mbedtls_ssl_ticket_write,
                                        mbedtls_ssl_ticket_parse, &server->tickets);
    if (error)
        return fault_set(fault, RESULT_TLS, "TLS cannot be set up (error -0x%04x)",
                         (unsigned)-error);
    return RESULT_OK;
}

static void server_free(struct tls_server *server)
{
    mbedtls_ssl_config_free(&server->config);
    mbedtls_ssl_ticket_free(&server->tickets);
    for (size_t i = 0; i < server->pair_count; i++) {
        mbedtls_x509_crt_free(&server->pairs[i].certificate);
        mbedtls_pk_free(&server->pairs[i].key);
        memory_free(server->pairs[i].file);
    }
    memory_free(server->pairs);
    memory_free(server->suites);
    random_fini(&server->random);
    memory_free(server);
}

enum result tls_server_new(const struct tls_server_settings *settings,
                           struct tls_server **server, struct fault *fault)
{
    struct tls_server *made = NEW(struct tls_server);
    enum result result;

    atomic_init(&made->references, 1);
    mbedtls_ssl_config_init(&made->config);
    mbedtls_ssl_ticket_init(&made->tickets);
    result = random_init(&made->random, fault);
    if (result == RESULT_OK)
        result = load_pairs(made, settings, fault);
    if (result == RESULT_OK)
        result = configure_server(made, settings->min_version_is_13, fault);
    if (result == RESULT_OK)
        *server = made;
    else
        server_free(made);
    return result;
}

struct tls_server *tls_server_ref(struct tls_server *server)
{
    if (server)
        atomic_fetch_add(&server->references, 1);
    return server;
}

void tls_server_unref(struct tls_server *server)
{
    if (server && atomic_fetch_sub(&server->references, 1) == 1)
        server_free(server);
}

int64_t tls_server_expires_ms(const struct tls_server *server)
{
    return server->expires_ms;
}

const char *tls_server_certificate(const struct tls_server *server, size_t at,
                                   int64_t *expires_ms)
{
    if (at >= server->pair_count)
        return NULL;
    *expires_ms = server->pairs[at].expires_ms;
    return server->pairs[at].file;
}

/* ---- outbound ---- */

static int configure_client(struct tls_client *client, mbedtls_ssl_config *config,
                            const int *suites)
{
    int error = mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_CLIENT,
                                            MBEDTLS_SSL_TRANSPORT_STREAM,
                                            MBEDTLS_SSL_PRESET_DEFAULT);

    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &client->random.drbg);
    mbedtls_ssl_conf_min_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_ciphersuites(config, suites);
    /* The verdict is always computed and judged by us: a policy belongs to a domain. */
    mbedtls_ssl_conf_authmode(config, MBEDTLS_SSL_VERIFY_OPTIONAL);
    /* In TLS 1.3 the ticket comes behind the handshake. */
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(
        config, MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
    if (client->has_authorities)
        mbedtls_ssl_conf_ca_chain(config, &client->authorities, NULL);
    return error;
}

static void client_free(struct tls_client *client)
{
    mbedtls_ssl_config_free(&client->strict);
    mbedtls_ssl_config_free(&client->opportunistic);
    mbedtls_x509_crt_free(&client->authorities);
    memory_free(client->strict_suites);
    memory_free(client->opportunistic_suites);
    random_fini(&client->random);
    tls_sessions_free(client->sessions);
    memory_free(client);
}

static enum result load_authorities(struct tls_client *client, const char *ca_file,
                                    struct fault *fault)
{
    char why[160];
    int error;

    if (!ca_file)
        return RESULT_OK;
    /* Above 0: that many of the certificates are of a kind we cannot read; the others
     * count. */
    error = mbedtls_x509_crt_parse_file(&client->authorities, ca_file);
    if (error < 0) {
        describe(error, why);
        return fault_set(fault, RESULT_INVALID,
                         "cannot read delivery.ca_file %s: %s (package ca-certificates?)",
                         ca_file, why);
    }
    client->has_authorities = true;
    return RESULT_OK;
}

enum result tls_client_new(const char *ca_file, struct tls_client **client,
                           struct fault *fault)
{
    struct tls_client *made = NEW(struct tls_client);
    enum result result;

    atomic_init(&made->references, 1);
    mbedtls_x509_crt_init(&made->authorities);
    mbedtls_ssl_config_init(&made->strict);
    mbedtls_ssl_config_init(&made->opportunistic);
    made->sessions = tls_sessions_new();
    made->strict_suites = choose_suites(false);
    made->opportunistic_suites = choose_suites(true);
    result = random_init(&made->random, fault);
    if (result == RESULT_OK)
        result = load_authorities(made, ca_file, fault);
    if (result == RESULT_OK &&
        (configure_client(made, &made->strict, made->strict_suites) ||
         configure_client(made, &made->opportunistic, made->opportunistic_suites)))
        result = fault_set(fault, RESULT_TLS, "TLS for deliveries cannot be set up");
    if (result == RESULT_OK)
        *client = made;
    else
        client_free(made);
    return result;
}

struct tls_client *tls_client_ref(struct tls_client *client)
{
    if (client)
        atomic_fetch_add(&client->references, 1);
    return client;
}

void tls_client_unref(struct tls_client *client)
{
    if (client && atomic_fetch_sub(&client->references, 1) == 1)
        client_free(client);
}
