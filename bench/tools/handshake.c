/* handshake: what mbedTLS's part of a handshake costs with nothing around it, as a server.
 *
 *   handshake --certificate F --key F [--seconds 1] [--threads 1] [--tls-version 1.2|1.3]
 *             [--groups LIST] [--server-groups LIST] [--resume]
 *   -> {"handshakes":..,"resumed":..,"server_us":..,"client_us":..,"server_bytes":..,"tls":".."}
 *
 * Both sides are in one process and pass bytes through memory: no socket, no system call, no
 * hand-over between threads. The client is OpenSSL; only the thread's CPU time inside of the
 * server's calls is counted, from mbedtls_ssl_setup() to mbedtls_ssl_free(). Each thread has a
 * configuration, a key and a source of randomness of its own, so no lock is contended. The
 * settings are those of src/net/tls.c, as far as they cost: preset, suites, tickets.
 *
 * server_bytes is what an open connection holds: the context and what the heap has for it. */
#include "smtpd/base/secure.h"

#include <getopt.h>
#include <malloc.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/x509_crt.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <psa/crypto.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS_MOST = 64, GROUPS_MOST = 8, SUITES_MOST = 256, HELD = 100 };

struct options {
    const char *certificate;
    const char *key;
    const char *groups;
    const char *server_groups;
    double seconds;
    unsigned threads;
    int version;
    bool resumes;
};

struct side { /* of a thread */
    const struct options *options;
    pthread_t thread;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context drbg;
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
    mbedtls_ssl_config config;
    mbedtls_ssl_ticket_context tickets;
    uint16_t groups[GROUPS_MOST];
    int suites[SUITES_MOST];
    SSL_CTX *client;
    SSL_SESSION *ticket;
    uint64_t handshakes;
    uint64_t resumed;
    double server_s; /* CPU */
    double client_s;
    size_t server_bytes;
    char tls[96];
};

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    (void)fprintf(stderr, "handshake: %s\n", what);
    exit(1);
}

/* ---- the server ---- */

static void choose_groups(struct side *side, const char *list)
{
    static const struct {
        const char *name;
        uint16_t group;
    } names[] = {{"X25519", MBEDTLS_SSL_IANA_TLS_GROUP_X25519},
                 {"P-256", MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1},
                 {"P-384", MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1}};
    size_t count = 0;

    while (*list) {
        size_t length = strcspn(list, ":");
        size_t before = count;

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (strlen(names[i].name) == length &&
                strncmp(names[i].name, list, length) == 0)
                side->groups[count++] = names[i].group;
        must(count == before + 1 && count < GROUPS_MOST,
             "--server-groups: X25519:P-256:P-384");
        list += length + (list[length] == ':');
    }
    mbedtls_ssl_conf_groups(&side->config, side->groups);
}

/* As choose_suites() of src/net/tls.c. */
static void choose_suites(struct side *side)
{
    static const char *const wanted[] = {"TLS1-3-", "TLS-ECDHE-RSA-WITH-",
                                         "TLS-ECDHE-ECDSA-WITH-", "TLS-DHE-RSA-WITH-"};
    size_t count = 0;

    for (const int *each = mbedtls_ssl_list_ciphersuites(); *each; each++) {
        const char *name = mbedtls_ssl_get_ciphersuite_name(*each);

        for (size_t i = 0; i < 4 && count < SUITES_MOST - 1; i++)
            if (strncmp(name, wanted[i], strlen(wanted[i])) == 0 && !strstr(name, "NULL"))
                side->suites[count++] = *each;
    }
    mbedtls_ssl_conf_ciphersuites(&side->config, side->suites);
}

static void server_init(struct side *side)
{
    const struct options *options = side->options;

    mbedtls_entropy_init(&side->entropy);
    mbedtls_ctr_drbg_init(&side->drbg);
    mbedtls_x509_crt_init(&side->certificate);
    mbedtls_pk_init(&side->key);
    mbedtls_ssl_config_init(&side->config);
    mbedtls_ssl_ticket_init(&side->tickets);
    must(mbedtls_ctr_drbg_seed(&side->drbg, mbedtls_entropy_func, &side->entropy, NULL,
                               0) == 0,
         "no randomness");
    must(mbedtls_x509_crt_parse_file(&side->certificate, options->certificate) == 0,
         "cannot use the certificate");
    must(mbedtls_pk_parse_keyfile(&side->key, options->key, NULL, mbedtls_ctr_drbg_random,
                                  &side->drbg) == 0,
         "cannot use the key");
    must(mbedtls_ssl_config_defaults(&side->config, MBEDTLS_SSL_IS_SERVER,
                                     MBEDTLS_SSL_TRANSPORT_STREAM,
                                     MBEDTLS_SSL_PRESET_DEFAULT) == 0,
         "no configuration");
    mbedtls_ssl_conf_rng(&side->config, mbedtls_ctr_drbg_random, &side->drbg);
    choose_suites(side);
    if (options->server_groups)
        choose_groups(side, options->server_groups);
    must(mbedtls_ssl_conf_own_cert(&side->config, &side->certificate, &side->key) == 0 &&
             mbedtls_ssl_ticket_setup(&side->tickets, mbedtls_ctr_drbg_random, &side->drbg,
                                      MBEDTLS_CIPHER_AES_256_GCM, 86400) == 0,
         "no tickets");
    mbedtls_ssl_conf_session_tickets_cb(&side->config, mbedtls_ssl_ticket_write,
                                        mbedtls_ssl_ticket_parse, &side->tickets);
}

/* ---- the client ---- */

static int ticket_index;

static int on_ticket(SSL *ssl, SSL_SESSION *made)
{
    struct side *side = SSL_get_ex_data(ssl, ticket_index);

    SSL_SESSION_free(side->ticket);
    side->ticket = made;
    return 1;
}

static void client_init(struct side *side)
{
    const struct options *options = side->options;

    side->client = SSL_CTX_new(TLS_client_method());
    must(side->client && SSL_CTX_set1_groups_list(side->client, options->groups) == 1,
         "OpenSSL cannot be set up");
    SSL_CTX_set_verify(side->client, SSL_VERIFY_NONE, NULL);
    if (options->version)
        must(SSL_CTX_set_min_proto_version(side->client, options->version) == 1 &&
                 SSL_CTX_set_max_proto_version(side->client, options->version) == 1,
             "no such version");
    if (!options->resumes)
        return;
    (void)SSL_CTX_set_session_cache_mode(side->client, SSL_SESS_CACHE_CLIENT |
                                                           SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(side->client, on_ticket);
}

static SSL *client_new(struct side *side)
{
    SSL *ssl = SSL_new(side->client);

    must(ssl, "OpenSSL: no connection");
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl);
    (void)SSL_set_ex_data(ssl, ticket_index, side);
    if (side->ticket)
        (void)SSL_set_session(ssl, side->ticket);
    return ssl;
}

/* What the client wrote is what the server reads, and the other way round. */
static int server_reads(void *owner, unsigned char *into, size_t most)
{
    int got = BIO_read(SSL_get_wbio(owner), into, (int)most);

    return got > 0 ? got : MBEDTLS_ERR_SSL_WANT_READ;
}

static int server_writes(void *owner, const unsigned char *data, size_t length)
{
    return BIO_write(SSL_get_rbio(owner), data, (int)length);
}

/* ---- one handshake ---- */

static double thread_cpu_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void shake(struct side *side, mbedtls_ssl_context *server, SSL *client)
{
    double began = thread_cpu_s();
    int error = 0;

    mbedtls_ssl_init(server);
    must(mbedtls_ssl_setup(server, &side->config) == 0, "no server");
    mbedtls_ssl_set_bio(server, client, server_writes, server_reads, NULL);
    side->server_s += thread_cpu_s() - began;
    do {
        began = thread_cpu_s();
        (void)SSL_do_handshake(client);
        side->client_s += thread_cpu_s() - began;
        began = thread_cpu_s();
        error = mbedtls_ssl_handshake(server);
        side->server_s += thread_cpu_s() - began;
    } while (error == MBEDTLS_ERR_SSL_WANT_READ);
    must(error == 0, "the handshake fails");
    began = thread_cpu_s();
    (void)SSL_do_handshake(client);
    side->client_s += thread_cpu_s() - began;
}

static void note(struct side *side, SSL *client)
{
    char nothing[16];

    must(SSL_is_init_finished(client) == 1, "the client is not through");
    (void)SSL_read(client, nothing, sizeof nothing); /* TLS 1.3: the ticket */
    ERR_clear_error();
    side->handshakes++;
    side->resumed += SSL_session_reused(client) == 1;
    (void)snprintf(side->tls, sizeof side->tls, "%s %s", SSL_get_version(client),
                   SSL_get_cipher_name(client));
    SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
}

static size_t heap(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* Of many, so that what the allocator keeps for later does not count. The clients are gone before
 * the heap is looked at. */
static void measure_heap(struct side *side)
{
    static mbedtls_ssl_context servers[HELD];
    size_t before = heap();

    for (unsigned i = 0; i < HELD; i++) {
        SSL *client = client_new(side);

        shake(side, &servers[i], client);
        note(side, client);
        SSL_free(client);
    }
    side->server_bytes = sizeof *servers + (heap() - before) / HELD;
    for (unsigned i = 0; i < HELD; i++)
        mbedtls_ssl_free(&servers[i]);
}

static void once(struct side *side)
{
    mbedtls_ssl_context server;
    SSL *client = client_new(side);
    double began;

    shake(side, &server, client);
    note(side, client);
    began = thread_cpu_s();
    mbedtls_ssl_free(&server);
    side->server_s += thread_cpu_s() - began;
    SSL_free(client);
}

static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *run(void *owner)
{
    struct side *side = owner;
    double end = now_s() + side->options->seconds;

    side->handshakes = 0;
    side->resumed = 0;
    side->server_s = 0;
    side->client_s = 0;
    do
        once(side);
    while (now_s() < end);
    return NULL;
}

/* ---- */

static void read_options(struct options *options, int count, char **words)
{
    static const struct option table[] = {{"certificate", required_argument, NULL, 'c'},
                                          {"key", required_argument, NULL, 'k'},
                                          {"seconds", required_argument, NULL, 's'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"tls-version", required_argument, NULL, 'v'},
                                          {"groups", required_argument, NULL, 'g'},
                                          {"server-groups", required_argument, NULL, 'G'},
                                          {"resume", no_argument, NULL, 'r'},
                                          {NULL, 0, NULL, 0}};
    int which;

    while ((which = getopt_long(count, words, "", table, NULL)) != -1) {
        if (which == 'c')
            options->certificate = optarg;
        else if (which == 'k')
            options->key = optarg;
        else if (which == 's')
            options->seconds = strtod(optarg, NULL);
        else if (which == 't')
            options->threads = (unsigned)strtoul(optarg, NULL, 10);
        else if (which == 'v')
            options->version = strcmp(optarg, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
        else if (which == 'g')
            options->groups = optarg;
        else if (which == 'G')
            options->server_groups = optarg;
        else if (which == 'r')
            options->resumes = true;
        else
            exit(2);
    }
}

int main(int count, char **words)
{
    static struct side sides[THREADS_MOST];
    struct options options = {.seconds = 1, .threads = 1, .groups = "X25519:P-256"};
    uint64_t handshakes = 0;
    uint64_t resumed = 0;
    double server_s = 0;
    double client_s = 0;

    read_options(&options, count, words);
    must(options.certificate && options.key, "--certificate and --key are missing");
    must(options.threads >= 1 && options.threads <= THREADS_MOST, "--threads: 1 to 64");
#ifdef SMTPD_X25519_SODIUM
    secure_init(); /* libsodium chooses what is fastest here */
#endif
    must(psa_crypto_init() == PSA_SUCCESS, "no PSA");
    ticket_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    for (unsigned i = 0; i < options.threads; i++) {
        sides[i].options = &options;
        server_init(&sides[i]);
        client_init(&sides[i]);
        once(&sides[i]); /* fills caches, and gives a ticket */
    }
    measure_heap(&sides[0]);
    for (unsigned i = 0; i < options.threads; i++)
        must(pthread_create(&sides[i].thread, NULL, run, &sides[i]) == 0, "no thread");
    for (unsigned i = 0; i < options.threads; i++) {
        must(pthread_join(sides[i].thread, NULL) == 0, "no thread");
        handshakes += sides[i].handshakes;
        resumed += sides[i].resumed;
        server_s += sides[i].server_s;
        client_s += sides[i].client_s;
    }
    must(handshakes > 0, "no handshake");
    (void)printf(
        "{\"handshakes\":%llu,\"resumed\":%llu,\"server_us\":%.1f,\"client_us\":%.1f,"
        "\"server_bytes\":%zu,\"tls\":\"%s\"}\n",
        (unsigned long long)handshakes, (unsigned long long)resumed,
        server_s * 1e6 / (double)handshakes, client_s * 1e6 / (double)handshakes,
        sides[0].server_bytes, sides[0].tls);
    return 0;
}
