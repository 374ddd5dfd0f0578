/* handshake: what the TLS library alone takes for a handshake and for a session: mbedTLS talking to
 * itself in memory, set up as the relay sets it up. No socket, no loop, no SMTP.
 *
 *   handshake --certificate F --key F --seconds S [--resume]
 *     -> JSON: CPU microseconds of the server's and of the client's side for each handshake, and
 *        the heap that the server's side of an open session holds */
#include <getopt.h>
#include <malloc.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <psa/crypto.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIPE_BYTES = 65536, TICKET_LIFE_S = 86400 };

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    (void)fprintf(stderr, "handshake: %s\n", what);
    exit(1);
}

struct pipe {
    unsigned char data[PIPE_BYTES];
    size_t from;
    size_t to;
};

/* One end, and what it has cost: CPU within the library, heap taken and given back there. */
struct end {
    mbedtls_ssl_context ssl;
    struct pipe *in;
    struct pipe *out;
    int64_t cpu_ns;
    int64_t heap_bytes;
};

struct bench {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context drbg;
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
    mbedtls_ssl_ticket_context tickets;
    mbedtls_ssl_config server;
    mbedtls_ssl_config client;
    mbedtls_ssl_session session;
    bool resumes;
    bool has_session;
    char tls[80];
};

static int put(void *context, const unsigned char *data, size_t length)
{
    struct pipe *pipe = ((struct end *)context)->out;

    if (pipe->from == pipe->to)
        pipe->from = pipe->to = 0;
    must(length <= PIPE_BYTES - pipe->to, "a flight is too long");
    memcpy(pipe->data + pipe->to, data, length);
    pipe->to += length;
    return (int)length;
}

static int take(void *context, unsigned char *data, size_t room)
{
    struct pipe *pipe = ((struct end *)context)->in;
    size_t length = pipe->to - pipe->from;

    if (length == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    if (length > room)
        length = room;
    memcpy(data, pipe->data + pipe->from, length);
    pipe->from += length;
    return (int)length;
}

static int64_t cpu_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t heap(void)
{
    struct mallinfo2 info = mallinfo2();

    return (int64_t)(info.uordblks + info.hblkhd);
}

/* ---- one session ---- */

static void end_open(struct end *end, const mbedtls_ssl_config *config)
{
    int64_t before = heap();
    int64_t began = cpu_ns();

    mbedtls_ssl_init(&end->ssl);
    must(mbedtls_ssl_setup(&end->ssl, config) == 0, "setup");
    mbedtls_ssl_set_bio(&end->ssl, end, put, take, NULL);
    end->cpu_ns = cpu_ns() - began;
    end->heap_bytes = heap() - before;
}

static bool end_step(struct end *end)
{
    int64_t before = heap();
    int64_t began = cpu_ns();
    int error = mbedtls_ssl_handshake(&end->ssl);

    end->cpu_ns += cpu_ns() - began;
    end->heap_bytes += heap() - before;
    must(error == 0 || error == MBEDTLS_ERR_SSL_WANT_READ, "the handshake failed");
    return error == 0;
}

static void end_close(struct end *end)
{
    int64_t began = cpu_ns();

    mbedtls_ssl_free(&end->ssl);
    end->cpu_ns += cpu_ns() - began;
}

/* With TLS 1.3 a ticket comes behind the handshake, as if it were data. */
static void keep_session(struct bench *bench, struct end *client)
{
    unsigned char nothing[16];
    int error = MBEDTLS_ERR_SSL_WANT_READ;

    /* The library takes the message in one call and looks at it in a further one. */
    for (int i = 0; i < 8 && error == MBEDTLS_ERR_SSL_WANT_READ; i++)
        error = mbedtls_ssl_read(&client->ssl, nothing, sizeof nothing);
    must(error == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET, "no ticket came");
    mbedtls_ssl_session_free(&bench->session);
    mbedtls_ssl_session_init(&bench->session);
    must(mbedtls_ssl_get_session(&client->ssl, &bench->session) == 0, "no session");
    bench->has_session = true;
}

static void shake_hands(struct bench *bench, struct end *server, struct end *client)
{
    bool server_is_done = false;
    bool client_is_done = false;

    server->in->from = server->in->to = server->out->from = server->out->to = 0;
    end_open(server, &bench->server);
    end_open(client, &bench->client);
    (void)mbedtls_ssl_set_hostname(&client->ssl, NULL);
    if (bench->has_session)
        must(mbedtls_ssl_set_session(&client->ssl, &bench->session) == 0, "session");
    while (!server_is_done || !client_is_done) {
        client_is_done = client_is_done || end_step(client);
        server_is_done = server_is_done || end_step(server);
    }
    (void)snprintf(bench->tls, sizeof bench->tls, "%s %s",
                   mbedtls_ssl_get_version(&server->ssl),
                   mbedtls_ssl_get_ciphersuite(&server->ssl));
    if (bench->resumes)
        keep_session(bench, client);
    end_close(client);
    end_close(server);
}

/* ---- the settings of both ends ---- */

static void bench_open(struct bench *bench, const char *certificate, const char *key)
{
    mbedtls_entropy_init(&bench->entropy);
    mbedtls_ctr_drbg_init(&bench->drbg);
    mbedtls_x509_crt_init(&bench->certificate);
    mbedtls_pk_init(&bench->key);
    mbedtls_ssl_ticket_init(&bench->tickets);
    mbedtls_ssl_config_init(&bench->server);
    mbedtls_ssl_config_init(&bench->client);
    mbedtls_ssl_session_init(&bench->session);
    must(psa_crypto_init() == PSA_SUCCESS &&
             mbedtls_ctr_drbg_seed(&bench->drbg, mbedtls_entropy_func, &bench->entropy,
                                   NULL, 0) == 0,
         "no randomness");
    must(mbedtls_x509_crt_parse_file(&bench->certificate, certificate) == 0 &&
             mbedtls_pk_parse_keyfile(&bench->key, key, NULL, mbedtls_ctr_drbg_random,
                                      &bench->drbg) == 0,
         "certificate or key cannot be read");
    must(mbedtls_ssl_config_defaults(&bench->server, MBEDTLS_SSL_IS_SERVER,
                                     MBEDTLS_SSL_TRANSPORT_STREAM,
                                     MBEDTLS_SSL_PRESET_DEFAULT) == 0 &&
             mbedtls_ssl_config_defaults(&bench->client, MBEDTLS_SSL_IS_CLIENT,
                                         MBEDTLS_SSL_TRANSPORT_STREAM,
                                         MBEDTLS_SSL_PRESET_DEFAULT) == 0 &&
             mbedtls_ssl_conf_own_cert(&bench->server, &bench->certificate, &bench->key) ==
                 0 &&
             mbedtls_ssl_ticket_setup(&bench->tickets, mbedtls_ctr_drbg_random,
                                      &bench->drbg, MBEDTLS_CIPHER_AES_256_GCM,
                                      TICKET_LIFE_S) == 0,
         "TLS cannot be set up");
    mbedtls_ssl_conf_rng(&bench->server, mbedtls_ctr_drbg_random, &bench->drbg);
    mbedtls_ssl_conf_rng(&bench->client, mbedtls_ctr_drbg_random, &bench->drbg);
    mbedtls_ssl_conf_authmode(&bench->client, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_session_tickets_cb(&bench->server, mbedtls_ssl_ticket_write,
                                        mbedtls_ssl_ticket_parse, &bench->tickets);
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(
        &bench->client, MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
#endif
}

static void bench_close(struct bench *bench)
{
    mbedtls_ssl_session_free(&bench->session);
    mbedtls_ssl_config_free(&bench->client);
    mbedtls_ssl_config_free(&bench->server);
    mbedtls_ssl_ticket_free(&bench->tickets);
    mbedtls_pk_free(&bench->key);
    mbedtls_x509_crt_free(&bench->certificate);
    mbedtls_ctr_drbg_free(&bench->drbg);
    mbedtls_entropy_free(&bench->entropy);
}

static void run(struct bench *bench, double seconds)
{
    static struct pipe up;
    static struct pipe down;
    static struct end server = {.in = &up, .out = &down};
    static struct end client = {.in = &down, .out = &up};
    int64_t server_ns = 0;
    int64_t client_ns = 0;
    uint64_t count = 0;
    int64_t end;

    shake_hands(bench, &server,
                &client); /* the first one fills caches, and gives a session */
    end = cpu_ns() + (int64_t)(seconds * 1e9);
    while (count == 0 || cpu_ns() < end) {
        shake_hands(bench, &server, &client);
        server_ns += server.cpu_ns;
        client_ns += client.cpu_ns;
        count++;
    }
    (void)printf("{\"handshakes\":%llu,\"server_us\":%.2f,\"client_us\":%.2f,"
                 "\"server_bytes\":%lld,\"tls\":\"%s\"}\n",
                 (unsigned long long)count, (double)server_ns / 1000 / (double)count,
                 (double)client_ns / 1000 / (double)count,
                 (long long)(server.heap_bytes + (int64_t)sizeof server.ssl), bench->tls);
}

int main(int count, char **words)
{
    static const struct option options[] = {{"certificate", required_argument, NULL, 'c'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"resume", no_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    static struct bench bench;
    const char *certificate = NULL;
    const char *key = NULL;
    double seconds = 1;
    int option;

    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option == 'c')
            certificate = optarg;
        else if (option == 'k')
            key = optarg;
        else if (option == 's')
            seconds = strtod(optarg, NULL);
        else if (option == 'r')
            bench.resumes = true;
        else
            return 2;
    }
    must(certificate && key, "--certificate and --key are missing");
    bench_open(&bench, certificate, key);
    run(&bench, seconds);
    bench_close(&bench);
    return 0;
}
