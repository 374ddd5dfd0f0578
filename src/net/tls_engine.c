/* mbedTLS over two byte buffers. The library calls back for input and output; both come
 * from and go to memory, so a handshake step can run on any thread. */
#include "tls_engine.h"

#include "smtpd/base/ip.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "tls_dane.h"
#include "tls_inner.h"

#include <mbedtls/error.h>
#include <stdio.h>
#include <string.h>

enum {
    INPUT_MAX = 1 << 20, /* ciphertext that came while a handshake step ran */
    SESSION_KEY_MAX = 1024,
    SESSION_MAX = 16384,
    TICKETS_MOST = 4,    /* of a connection: the last of them is kept */
    OUTPUT_MAX = 8 << 20 /* bounded by the stream's own limit long before */
};

struct tls_engine {
    mbedtls_ssl_context ssl;
    struct tls_server *server;
    struct tls_client *client;
    enum tls_level level;
    char *name;    /* of the other side; NULL: it has none */
    bool has_name; /* one that a certificate can be checked against */
    bool is_done;
    uint8_t dane_name;
    enum tls_dane dane;
    struct tlsa_set *dane_set; /* NULL: none, or judged */
    struct bytes session_key;  /* empty: none is kept */
    bool begins_anew;
    bool offered_session;
    unsigned ticket_count;
    int64_t begun_ms;
    struct tls_verdict verdict; /* of the session that was offered; then of this one */
    bool has_certificate; /* the handshake came by the server's: it is no resumed one */
    struct bytes input;
    size_t taken; /* of the input */
    struct bytes output;
    struct fault *fault; /* NULL: none */
};

static int give_input(void *owner, unsigned char *into, size_t most)
{
    struct tls_engine *engine = owner;
    size_t left = engine->input.length - engine->taken;

    if (left == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    if (left > most)
        left = most;
    memcpy(into, engine->input.data + engine->taken, left);
    engine->taken += left;
    if (engine->taken == engine->input.length) {
        bytes_clear(&engine->input);
        engine->taken = 0;
    }
    return (int)left;
}

static int take_output(void *owner, const unsigned char *data, size_t length)
{
    struct tls_engine *engine = owner;

    if (bytes_add(&engine->output, (struct slice){(const char *)data, length}) != RESULT_OK)
        return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    return (int)length;
}

static struct fault *engine_fault(struct tls_engine *engine)
{
    if (!engine->fault)
        engine->fault = NEW(struct fault);
    return engine->fault;
}

static struct tls_engine *engine_new(const mbedtls_ssl_config *config)
{
    struct tls_engine *engine = NEW(struct tls_engine);
    int error;

    bytes_init(&engine->input, INPUT_MAX);
    bytes_init(&engine->output, OUTPUT_MAX);
    bytes_init(&engine->session_key, SESSION_KEY_MAX);
    mbedtls_ssl_init(&engine->ssl);
    error = mbedtls_ssl_setup(&engine->ssl, config);
    if (error)
        (void)fault_set(engine_fault(engine), RESULT_TLS,
                        "TLS cannot be set up (error -0x%04x)", (unsigned)-error);
    mbedtls_ssl_set_bio(&engine->ssl, engine, take_output, give_input, NULL);
    return engine;
}

struct tls_engine *tls_engine_new_server(struct tls_server *server)
{
    struct tls_engine *engine = engine_new(&server->config);

    engine->server = tls_server_ref(server);
    return engine;
}

struct tls_engine *tls_engine_new_client(struct tls_client *client, enum tls_level level,
                                         const char *name)
{
    struct tls_engine *engine =
        engine_new(level == TLS_OPPORTUNISTIC ? &client->opportunistic : &client->strict);
    struct ip ip;

    engine->client = tls_client_ref(client);
    engine->level = level;
    /* RFC 6066 3: a literal address is not sent as a server name. */
    engine->has_name = name && ip_parse(slice_of(name), &ip) != RESULT_OK && name[0] != '[';
    engine->name = engine->has_name ? memory_text(name) : NULL;
    if (mbedtls_ssl_set_hostname(&engine->ssl, engine->has_name ? name : NULL) != 0)
        (void)fault_set(engine_fault(engine), RESULT_TLS,
                        "the name %.200s... is too long for TLS", name);
    return engine;
}

void tls_engine_take_dane(struct tls_engine *engine, struct tlsa_set *set)
{
    engine->dane_set = set;
}

void tls_engine_free(struct tls_engine *engine)
{
    if (!engine)
        return;
    mbedtls_ssl_free(&engine->ssl);
    bytes_fini(&engine->input);
    bytes_fini(&engine->output);
    bytes_fini(&engine->session_key);
    tlsa_set_free(engine->dane_set);
    memory_free(engine->name);
    memory_free(engine->fault);
    tls_server_unref(engine->server);
    tls_client_unref(engine->client);
    memory_free(engine);
}

enum result tls_engine_feed(struct tls_engine *engine, struct slice ciphertext)
{
    return bytes_add(&engine->input, ciphertext);
}

bool tls_engine_has_input(const struct tls_engine *engine)
{
    return engine->input.length > engine->taken;
}

struct bytes *tls_engine_output(struct tls_engine *engine)
{
    return &engine->output;
}

const struct fault *tls_engine_fault(const struct tls_engine *engine)
{
    static const struct fault none;

    return engine->fault ? engine->fault : &none;
}

/* Who waits for the other side holds no buffer for it. */
static void rest(struct tls_engine *engine)
{
    if (!tls_engine_has_input(engine))
        bytes_release(&engine->input);
}

static enum tls_step failed(struct tls_engine *engine, int error)
{
    char why[160];

    mbedtls_strerror(error, why, sizeof why);
    (void)fault_set(engine_fault(engine), RESULT_TLS, "TLS handshake failed: %s", why);
    return TLS_STEP_FAILED;
}

static bool is_resumed(const struct tls_engine *engine)
{
    return engine->offered_session && !engine->has_certificate;
}

static bool is_verified(const struct tls_engine *engine)
{
    if (is_resumed(engine))
        return engine->verdict.is_verified;
    return engine->client && engine->has_name && engine->client->has_authorities &&
           mbedtls_ssl_get_verify_result(&engine->ssl) == 0;
}

static void verify_text(const struct tls_engine *engine, char *text, size_t text_bytes)
{
    uint32_t flags = mbedtls_ssl_get_verify_result(&engine->ssl);
    char *end = text + text_bytes;
    char *at = text;

    text[0] = '\0';
    if (!engine->client || is_verified(engine))
        return;
    if (is_resumed(engine))
        (void)snprintf(text, text_bytes, "%s", engine->verdict.text);
    else if (!engine->has_name)
        (void)snprintf(text, text_bytes, "an address has no name to verify");
    else if (!engine->client->has_authorities)
        (void)snprintf(text, text_bytes, "no trusted authorities are configured");
    else
        (void)mbedtls_x509_crt_verify_info(text, text_bytes, "", flags);
    for (; at < end && *at; at++)
        if (*at == '\n')
            *at = at[1] ? ';' : '\0';
}

enum tls_flaw tls_engine_flaw(const struct tls_engine *engine)
{
    uint32_t flags = mbedtls_ssl_get_verify_result(&engine->ssl);
    const uint32_t times = MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE;

    if (!engine->client || is_verified(engine))
        return TLS_FLAW_NONE;
    if (is_resumed(engine))
        return engine->verdict.flaw;
    if (!engine->has_name || !engine->client->has_authorities ||
        flags & ~(times | MBEDTLS_X509_BADCERT_CN_MISMATCH))
        return TLS_FLAW_AUTHORITY;
    return flags & times ? TLS_FLAW_EXPIRED : TLS_FLAW_NAME;
}

/* As mbedtls_ssl_handshake(), which does not tell whether a session was resumed. */
static int handshake(struct tls_engine *engine)
{
    int error = 0;

    while (!error && !mbedtls_ssl_is_handshake_over(&engine->ssl)) {
        if (engine->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_SERVER_CERTIFICATE)
            engine->has_certificate = true;
        error = mbedtls_ssl_handshake_step(&engine->ssl);
    }
    return error;
}

static bool fits_dane(struct tls_engine *engine)
{
    struct tls_dane_verdict verdict;

    tls_dane_judge(engine->dane_set, mbedtls_ssl_get_peer_cert(&engine->ssl), &verdict);
    tlsa_set_free(engine->dane_set);
    engine->dane_set = NULL;
    engine->dane = verdict.by;
    engine->dane_name = verdict.name;
    if (verdict.by == TLS_DANE_NONE)
        (void)fault_set(engine_fault(engine), RESULT_UNTRUSTED,
                        "the certificate does not fit the TLSA records of %s (DANE): %s",
                        engine->name ? engine->name : "this host", verdict.text);
    return verdict.by != TLS_DANE_NONE;
}

enum tls_step tls_engine_handshake(struct tls_engine *engine)
{
    int error;

    if (engine->fault)
        return TLS_STEP_FAILED;
    error = handshake(engine);
    if (error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE)
        return TLS_STEP_WANT_READ;
    if (error)
        return failed(engine, error);
    if (engine->level == TLS_VERIFIED && !is_verified(engine)) {
        char why[160];

        verify_text(engine, why, sizeof why);
        (void)fault_set(engine_fault(engine), RESULT_UNTRUSTED,
                        "the certificate is not valid for %s: %s",
                        engine->has_name ? engine->name : "this host", why);
        return TLS_STEP_FAILED;
    }
    if (is_resumed(engine)) { /* it fits these very records: they are in the key */
        engine->dane = engine->verdict.dane;
        engine->dane_name = engine->verdict.dane_name;
    } else if (engine->dane_set && !fits_dane(engine)) {
        return TLS_STEP_FAILED;
    }
    engine->is_done = true;
    rest(engine);
    return TLS_STEP_DONE;
}

void tls_engine_facts(const struct tls_engine *engine, struct tls_facts *facts)
{
    memset(facts, 0, sizeof *facts);
    facts->is_secure = engine->is_done;
    facts->is_verified = is_verified(engine);
    facts->is_resumed = engine->is_done && !engine->has_certificate;
    facts->dane = engine->dane;
    facts->flaw = tls_engine_flaw(engine);
    facts->dane_name = engine->dane_name;
    (void)snprintf(facts->version, sizeof facts->version, "%s",
                   mbedtls_ssl_get_version(&engine->ssl));
    (void)snprintf(facts->cipher, sizeof facts->cipher, "%s",
                   mbedtls_ssl_get_ciphersuite(&engine->ssl));
    (void)snprintf(facts->name, sizeof facts->name, "%s", engine->name ? engine->name : "");
    verify_text(engine, facts->verify_text, sizeof facts->verify_text);
}

/* ---- sessions ---- */

/* All that the verdict depends on, beside the authorities, which are the client's. */
static enum result write_key(struct tls_engine *engine, struct slice way)
{
    const char level = (char)('0' + (int)engine->level);
    struct bytes *key = &engine->session_key;
    uint8_t digest[SECURE_DIGEST];
    enum result added = bytes_add(key, (struct slice){&level, 1});

    if (added == RESULT_OK)
        added = bytes_add(key, way);
    if (added == RESULT_OK)
        added = bytes_format(key, "/%s/", engine->name ? engine->name : "");
    if (added == RESULT_OK && engine->dane_set) {
        tls_dane_digest(engine->dane_set, digest);
        added = bytes_add(key, (struct slice){(const char *)digest, sizeof digest});
    }
    return added;
}

static void offer(struct tls_engine *engine, const struct tls_session *kept)
{
    mbedtls_ssl_session session;

    mbedtls_ssl_session_init(&session);
    if (mbedtls_ssl_session_load(&session, (const unsigned char *)kept->bytes.data,
                                 kept->bytes.length) == 0 &&
        mbedtls_ssl_set_session(&engine->ssl, &session) == 0) {
        engine->verdict = kept->verdict;
        engine->offered_session = true;
    }
    mbedtls_ssl_session_free(&session);
}

void tls_engine_begin_anew(struct tls_engine *engine)
{
    engine->begins_anew = true;
}

void tls_engine_resume(struct tls_engine *engine, struct slice way, int64_t now_ms)
{
    const struct tls_session *kept;

    if (write_key(engine, way) != RESULT_OK) {
        bytes_clear(&engine->session_key); /* too long a name: nothing is kept */
        return;
    }
    engine->begun_ms = now_ms;
    if (engine->begins_anew)
        return;
    kept = tls_sessions_find(engine->client->sessions, bytes_view(&engine->session_key),
                             now_ms);
    if (kept)
        offer(engine, kept);
}

bool tls_engine_offered_session(const struct tls_engine *engine)
{
    return engine->offered_session;
}

static void put_session(struct tls_engine *engine)
{
    mbedtls_ssl_session session;
    struct bytes bytes;
    size_t length = 0;
    char *into;

    mbedtls_ssl_session_init(&session);
    bytes_init(&bytes, SESSION_MAX);
    if (mbedtls_ssl_get_session(&engine->ssl, &session) == 0) {
        (void)mbedtls_ssl_session_save(&session, NULL, 0, &length);
        into = length > 0 ? bytes_reserve(&bytes, length) : NULL;
        if (into && mbedtls_ssl_session_save(&session, (unsigned char *)into, length,
                                             &length) == 0) {
            bytes.length = length;
            tls_sessions_put(engine->client->sessions, bytes_view(&engine->session_key),
                             &(struct tls_session){bytes_view(&bytes), engine->verdict});
            secure_wipe(bytes.data, bytes.length);
        }
    }
    mbedtls_ssl_session_free(&session);
    bytes_fini(&bytes);
}

/* A step may still have the rest of the engine. */
void tls_engine_forget_session(const struct tls_engine *engine)
{
    if (engine->session_key.length > 0)
        tls_sessions_forget(engine->client->sessions, bytes_view(&engine->session_key));
}

void tls_engine_keep_session(struct tls_engine *engine)
{
    if (engine->session_key.length == 0)
        return;
    if (!is_resumed(engine)) {
        engine->verdict = (struct tls_verdict){.judged_ms = engine->begun_ms,
                                               .is_verified = is_verified(engine),
                                               .dane = engine->dane,
                                               .dane_name = engine->dane_name,
                                               .flaw = tls_engine_flaw(engine)};
        verify_text(engine, engine->verdict.text, sizeof engine->verdict.text);
    }
    if (mbedtls_ssl_get_version_number(&engine->ssl) == MBEDTLS_SSL_VERSION_TLS1_2)
        put_session(engine);
}

static void take_ticket(struct tls_engine *engine)
{
    if (engine->session_key.length > 0 && engine->ticket_count++ < TICKETS_MOST)
        put_session(engine);
}

/* A ticket has come, and is read by the next call: nothing more need come for that. */
static bool has_ticket(const struct tls_engine *engine, int got)
{
    return got == MBEDTLS_ERR_SSL_WANT_READ &&
           engine->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_TLS1_3_NEW_SESSION_TICKET;
}

enum result tls_engine_read(struct tls_engine *engine, char *into, size_t most,
                            size_t *length)
{
    int got;

    do {
        got = mbedtls_ssl_read(&engine->ssl, (unsigned char *)into, most);
        if (got == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
            take_ticket(engine);
    } while (got == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET || has_ticket(engine, got));
    if (got > 0) {
        *length = (size_t)got;
        return RESULT_OK;
    }
    if (got == MBEDTLS_ERR_SSL_WANT_READ || got == MBEDTLS_ERR_SSL_WANT_WRITE) {
        rest(engine);
        return RESULT_AGAIN;
    }
    if (got == 0 || got == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        return RESULT_CLOSED;
    return RESULT_TLS;
}

/* The library takes at most one record at a time, and says how much. */
enum result tls_engine_write(struct tls_engine *engine, struct slice plain)
{
    while (plain.length > 0) {
        int taken = mbedtls_ssl_write(&engine->ssl, (const unsigned char *)plain.data,
                                      plain.length);

        if (taken <= 0)
            return RESULT_TLS;
        plain = slice_from(plain, (size_t)taken);
    }
    return RESULT_OK;
}

void tls_engine_say_goodbye(struct tls_engine *engine)
{
    if (engine->is_done)
        (void)mbedtls_ssl_close_notify(&engine->ssl);
}
