/* Two streams over loopback with what they need to become TLS. */
#ifndef SMTPD_TESTS_SECURED_PAIR_H
#define SMTPD_TESTS_SECURED_PAIR_H

#include "pair.h"

#include "certificates.h"

static struct certificates certificates;

static inline int make_certificates(void **state)
{
    (void)state;
    certificates_make(&certificates, "hop.test");
    return 0;
}

static inline int remove_certificates(void **state)
{
    (void)state;
    certificates_remove(&certificates);
    return 0;
}

static inline struct tls_server *server_with(const char *certificate, const char *key,
                                             struct fault *fault)
{
    const char *certificate_files[] = {certificate};
    const char *key_files[] = {key};
    struct tls_server_settings settings = {certificate_files, key_files, 1, false};
    struct tls_server *server = NULL;

    (void)(tls_server_new(&settings, &server, fault) == RESULT_OK);
    return server;
}

struct tls_pair {
    struct pair pair;
    struct tls_server *server;
    struct tls_client *client;
};

static inline void open_with(struct tls_pair *both, const char *ca_file,
                             const struct tls_settings *tls)
{
    struct fault fault;

    both->server = server_with(certificates.certificate, certificates.key, &fault);
    assert_non_null(both->server);
    assert_int_equal(tls_client_new(ca_file, &both->client, &fault), RESULT_OK);
    pair_init(&both->pair, tls);
    pair_connect(&both->pair);
}

static inline void open_both(struct tls_pair *both, const char *ca_file)
{
    struct tls_settings tls = {0, 0};

    open_with(both, ca_file, &tls);
}

static inline void close_both(struct tls_pair *both)
{
    pair_close(&both->pair);
    tls_server_unref(both->server);
    tls_client_unref(both->client);
}

static inline void secure_both(struct tls_pair *both, enum tls_level level,
                               const char *name)
{
    struct pair *pair = &both->pair;

    assert_int_equal(
        stream_secure_server(pair->server.stream, both->server, end_on_secured), RESULT_OK);
    assert_int_equal(stream_secure_client(pair->client.stream, both->client, level, name,
                                          end_on_secured),
                     RESULT_OK);
    assert_int_equal(pair->client.secured + pair->server.secured, 0);
    PAIR_UNTIL(pair, pair->client.secured == 1);
}

#endif
