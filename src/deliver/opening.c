/* From the address to a session that takes mail:
 *
 *   [dane] -> policy -> dial -> [secure, where TLS is implicit] -> greeting -> ehlo, or helo
 *   ehlo -> [starttls -> secure -> ehlo] -> [auth: plain in one step, login in three] -> ready
 *   any of them -> broken
 *
 * Time limits are RFC 5321 4.5.3.2's, for a whole reply, not for a byte of it. */
#include "connection_inner.h"

#include "source.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <stdio.h>
#include <string.h>

enum { CLEAR_MEMORY_MS = 3600000 };

/* ---- helpers ---- */

static const struct deliver_timeouts *timeouts(const struct connection *connection)
{
    return destination_timeouts(connection->destination, connection->settings);
}

static void say_text(struct connection *connection, const char *format,
                     const char *argument)
{
    char line[1024];

    (void)snprintf(line, sizeof line, "%s%s", format, argument);
    connection_say(connection, slice_of(line));
}

static void stage_fault(struct connection *connection, const char *stage)
{
    char text[LIMIT_REPLY_TEXT + 128];
    char words[LIMIT_REPLY_TEXT + 64];

    if (machine_timed_out(&connection->machine)) {
        connection->objects = true;
        (void)snprintf(text, sizeof text, "no answer to %s in time", stage);
        connection_broken(connection, RESULT_TIMEOUT, text);
        return;
    }
    connection->objects = reply_is_transient(&connection->reply);
    connection->is_refused = true;
    reply_print(&connection->reply, words, sizeof words);
    (void)snprintf(text, sizeof text, "%s was answered %.400s", stage, words);
    connection_refused(connection, text);
}

static bool take_reply(struct connection *connection)
{
    bool has_reply = connection->has_reply;

    connection->has_reply = false;
    return has_reply;
}

/* TLS is not what the policy asks for. */
static int policy_failed(struct connection *connection, enum result code, const char *text)
{
    connection->fails_policy =
        connection->is_raised ||
        ((connection->dane || connection->has_sts) && code == RESULT_UNTRUSTED);
    connection_broken(connection, code, text);
    return STATE_BROKEN;
}

/* ---- states ---- */

static void dial_enter(void *self)
{
    struct connection *connection = self;

    connection->deliver->statistics.connections++;
    connection->dialing.destination = connection->destination;
    connection->dialing.host = &connection->host;
    connection->dial = dialing_start(&connection->dialing, timeouts(connection),
                                     connection_on_dialed, connection);
}

static int dial_done(void *self)
{
    struct connection *connection = self;

    if (!connection->stream)
        return STATE_BROKEN; /* the fault is set */
    return connection->route && connection->route->tls_is_implicit ? STATE_SECURE
                                                                   : STATE_GREETING;
}

static int greeting_done(void *self)
{
    struct connection *connection = self;

    if (take_reply(connection) && connection->reply.code == 220) {
        struct slice text = slice_of(connection->reply.text);

        slice_copy_start(slice_next_word(&text), connection->helo, sizeof connection->helo);
        return STATE_EHLO;
    }
    stage_fault(connection, "the greeting");
    return STATE_BROKEN;
}

/* A source is known by its own name, which its address has in the DNS. */
static const char *our_name(const struct connection *connection)
{
    const struct source *source = connection->destination->source;
    const struct deliver_source *own =
        source ? settings_source(connection->settings, source->name) : NULL;

    return own && own->ehlo ? own->ehlo : connection->settings->values.hostname;
}

static void ehlo_enter(void *self)
{
    struct connection *connection = self;

    memset(&connection->capabilities, 0, sizeof connection->capabilities);
    say_text(connection, "EHLO ", our_name(connection));
}

static bool clear_is_allowed(const struct connection *connection)
{
    return connection->level == TLS_NONE || connection->level == TLS_OPPORTUNISTIC;
}

static int after_ehlo(struct connection *connection)
{
    if (!connection->route || !connection->route->user)
        return STATE_READY;
    if (!connection->capabilities.auth_plain && !connection->capabilities.auth_login) {
        connection_broken(connection, RESULT_DENIED,
                          "it offers no AUTH PLAIN or LOGIN for the route's user");
        return STATE_BROKEN;
    }
    return STATE_AUTH;
}

/* Where TLS was to be tried: an old server is one without it. */
static void note_no_starttls(const struct connection *connection)
{
    bool is_old = reply_is_permanent(&connection->reply);

    if (connection->level != TLS_NONE && !connection->is_secured &&
        !connection->without_tls &&
        (is_old ||
         (reply_is_positive(&connection->reply) && !connection->capabilities.starttls)))
        connection_tally_failure(connection, TALLY_NO_STARTTLS,
                                 is_old ? "EHLO was refused" : NULL);
}

static int ehlo_done(void *self)
{
    struct connection *connection = self;

    if (!take_reply(connection)) {
        stage_fault(connection, "EHLO");
        return STATE_BROKEN;
    }
    note_no_starttls(connection);
    if (reply_is_permanent(&connection->reply) && clear_is_allowed(connection))
        return STATE_HELO; /* RFC 5321 4.1.1.1: an old server */
    if (!reply_is_positive(&connection->reply)) {
        /* Mail of others may go in by HELO. */
        connection->fails_policy =
            connection->is_raised && reply_is_permanent(&connection->reply);
        stage_fault(connection, "EHLO");
        return STATE_BROKEN;
    }
    if (connection->level != TLS_NONE && !connection->is_secured &&
        connection->capabilities.starttls && !connection->without_tls)
        return STATE_STARTTLS;
    if (!clear_is_allowed(connection) && !connection->is_secured)
        return policy_failed(
            connection, RESULT_TLS,
            connection->has_sts ? "it offers no STARTTLS, which the MTA-STS policy of the "
                                  "domain requires"
            : connection->is_raised ? "it offers no STARTTLS, and has TLSA records (DANE)"
                                    : "it offers no STARTTLS, which is required");
    return after_ehlo(connection);
}

static void helo_enter(void *self)
{
    struct connection *connection = self;

    say_text(connection, "HELO ", our_name(connection));
}

static int helo_done(void *self)
{
    struct connection *connection = self;

    if (take_reply(connection) && reply_is_positive(&connection->reply))
        return after_ehlo(connection);
    stage_fault(connection, "HELO");
    return STATE_BROKEN;
}

static void starttls_enter(void *self)
{
    connection_say(self, SLICE("STARTTLS"));
}

/* Opportunistic: what does not work is remembered for an hour, and the mail goes in clear
 * on a new connection, at once. */
static int tls_failed(struct connection *connection, const char *text)
{
    struct host_memory *host;
    char words[sizeof connection->fault.text + 64];

    /* Too many handshakes here say nothing about the host: others could make us send in clear. */
    if (connection->fault.code == RESULT_BUSY) {
        connection_broken(connection, RESULT_BUSY, text);
        return STATE_BROKEN;
    }
    /* It may be the session of before that it stumbles over: once again without. */
    if (connection->fault.code != RESULT_UNTRUSTED &&
        stream_offered_session(connection->stream)) {
        connection->wants_again = true;
        connection_broken(connection, RESULT_TLS, text);
        return STATE_BROKEN;
    }
    connection_tally_tls(connection);
    if (connection->level == TLS_OPPORTUNISTIC) {
        host = host_memory(connection->destination, connection->host.name);
        if (host)
            host->clear_until_ms = deliver_now(connection->deliver) + CLEAR_MEMORY_MS;
        connection->without_tls = true;
    }
    if (connection->fault.code == RESULT_UNTRUSTED)
        return policy_failed(connection, RESULT_UNTRUSTED, text);
    (void)snprintf(words, sizeof words, "%s%s",
                   connection->has_sts     ? "TLS is a must here (MTA-STS): "
                   : connection->is_raised ? "TLS is a must here (DANE): "
                                           : "",
                   text);
    return policy_failed(connection, RESULT_TLS, words);
}

static int starttls_done(void *self)
{
    struct connection *connection = self;

    if (take_reply(connection) && connection->reply.code == 220)
        return STATE_SECURE;
    if (connection->reply.code >= 400)
        connection_tally_failure(connection, TALLY_NO_STARTTLS, connection->reply.text);
    if (connection->level == TLS_OPPORTUNISTIC && connection->reply.code >= 400) {
        connection->without_tls = true;
        return after_ehlo(connection); /* it said no: the session goes on in clear */
    }
    connection->fails_policy = connection->is_raised;
    stage_fault(connection, "STARTTLS");
    return STATE_BROKEN;
}

static void on_secured(void *owner, const struct fault *fault)
{
    struct connection *connection = owner;

    if (fault)
        connection->fault = *fault;
    else
        connection->is_secured = true;
    machine_advance(&connection->machine);
}

/* DANE asks for the name that the records stand under, which may be what the host is an alias of. */
static enum result secure(struct connection *connection)
{
    enum tls_level level =
        connection->level == TLS_NONE ? TLS_OPPORTUNISTIC : connection->level;
    struct dane *dane = connection->dane;
    struct tlsa_set *set;
    enum result result;

    if (!dane || dane_wish(dane) != DANE_WANTS_MATCH)
        return stream_secure_client(connection->stream, connection->settings->tls, level,
                                    dane && dane_wish(dane) == DANE_WANTS_TLS &&
                                            !connection->has_sts
                                        ? dane_base(dane)
                                        : connection->host.name,
                                    on_secured);
    set = dane_take_set(dane);
    result = stream_secure_client_dane(connection->stream, connection->settings->tls, set,
                                       on_secured);
    if (result != RESULT_OK)
        tlsa_set_free(set);
    return result;
}

static void secure_enter(void *self)
{
    struct connection *connection = self;

    bytes_clear(&connection->input); /* bytes in clear behind the 220 are nobody's */
    framing_read_lines(&connection->framing);
    reply_reader_init(&connection->reader);
    /* Or it might break at a session of another address, or of another connection, too. */
    stream_allow_resumption(connection->stream, connection->begins_anew);
    if (secure(connection) == RESULT_OK)
        return;
    (void)fault_set(&connection->fault, RESULT_BUSY, "too many TLS handshakes are running");
    machine_advance(&connection->machine);
}

static int secure_done(void *self)
{
    struct connection *connection = self;
    char text[sizeof connection->fault.text];

    if (connection->is_secured)
        connection_tally_secured(connection);
    if (connection->is_secured)
        return connection->route && connection->route->tls_is_implicit ? STATE_GREETING
                                                                       : STATE_EHLO_SECURE;
    (void)snprintf(text, sizeof text, "%s",
                   connection->fault.text[0] ? connection->fault.text : "no TLS in time");
    return tls_failed(connection, text);
}

/* RFC 4954 4: PLAIN in one step. The password leaves the buffers at once. */
static void auth_enter(void *self)
{
    struct connection *connection = self;
    struct bytes plain;
    struct bytes line;
    char zero = '\0';

    if (!connection->capabilities.auth_plain) {
        connection_say(connection, SLICE("AUTH LOGIN"));
        return;
    }
    bytes_init(&plain, 4096);
    bytes_init(&line, 8192);
    if (bytes_add(&plain, (struct slice){&zero, 1}) == RESULT_OK &&
        bytes_add_text(&plain, connection->route->user) == RESULT_OK &&
        bytes_add(&plain, (struct slice){&zero, 1}) == RESULT_OK &&
        bytes_add_text(&plain, connection->route->password) == RESULT_OK &&
        bytes_add_text(&line, "AUTH PLAIN ") == RESULT_OK &&
        bytes_add_base64(&line, bytes_view(&plain)) == RESULT_OK)
        connection_say(connection, bytes_view(&line));
    secure_wipe(plain.data, plain.length);
    secure_wipe(line.data, line.length);
    bytes_fini(&plain);
    bytes_fini(&line);
}

static int auth_failed(struct connection *connection)
{
    stage_fault(connection, "the log-in");
    return STATE_BROKEN;
}

static int auth_done(void *self)
{
    struct connection *connection = self;

    if (!take_reply(connection))
        return auth_failed(connection);
    if (connection->reply.code == 235)
        return STATE_READY;
    if (connection->reply.code == 334 && !connection->capabilities.auth_plain)
        return STATE_AUTH_USER;
    return auth_failed(connection);
}

static void say_base64(struct connection *connection, const char *text)
{
    struct bytes line;

    bytes_init(&line, 8192);
    if (bytes_add_base64(&line, slice_of(text)) == RESULT_OK)
        connection_say(connection, bytes_view(&line));
    if (line.data)
        secure_wipe(line.data, line.length);
    bytes_fini(&line);
}

static void auth_user_enter(void *self)
{
    struct connection *connection = self;

    say_base64(connection, connection->route->user);
}

static int auth_user_done(void *self)
{
    struct connection *connection = self;

    return take_reply(connection) && connection->reply.code == 334
               ? STATE_AUTH_PASSWORD
               : auth_failed(connection);
}

static void auth_password_enter(void *self)
{
    struct connection *connection = self;

    say_base64(connection, connection->route->password);
}

static int auth_password_done(void *self)
{
    struct connection *connection = self;

    return take_reply(connection) && connection->reply.code == 235
               ? STATE_READY
               : auth_failed(connection);
}

static void tell_ready(void *owner)
{
    struct connection *connection = owner;

    connection->events->on_ready(connection->owner);
}

static void ready_enter(void *self)
{
    struct connection *connection = self;

    connection->connect_ms =
        loop_now_ms(connection->deliver->rooms.loop) - connection->started_ms;
    loop_defer(connection->deliver->rooms.loop, &connection->tell, tell_ready, connection);
}

static void broken_enter(void *self)
{
    struct connection *connection = self;

    connection->deliver->statistics.connections_failed++;
    if (connection->is_told)
        return;
    /* The dialer's fault, which names the address itself. */
    connection->is_told = true;
    if (!connection->fault.text[0])
        (void)fault_set(&connection->fault, RESULT_IO, "%s: failed", connection->peer);
    loop_defer(connection->deliver->rooms.loop, &connection->tell, connection_tell_broken,
               connection);
}

#define END (TO(STATE_BROKEN))
/* clang-format off */
static const struct machine_row rows[STATE_COUNT] = {
    [STATE_DANE]          = {"dane",          NULL,                opening_dane_done,  TO(STATE_POLICY) | END, 0},
    [STATE_POLICY]        = {"policy",        opening_policy_enter, opening_policy_done, TO(STATE_DIAL) | END, 0},
    [STATE_DIAL]          = {"dial",          dial_enter,          dial_done,          TO(STATE_GREETING) | TO(STATE_SECURE) | END, 0},
    [STATE_GREETING]      = {"greeting",      NULL,                greeting_done,      TO(STATE_EHLO) | END, 300000},
    [STATE_EHLO]          = {"ehlo",          ehlo_enter,          ehlo_done,          TO(STATE_HELO) | TO(STATE_STARTTLS) | TO(STATE_AUTH) | TO(STATE_READY) | END, 300000},
    [STATE_HELO]          = {"helo",          helo_enter,          helo_done,          TO(STATE_AUTH) | TO(STATE_READY) | END, 300000},
    [STATE_STARTTLS]      = {"starttls",      starttls_enter,      starttls_done,      TO(STATE_SECURE) | TO(STATE_AUTH) | TO(STATE_READY) | END, 300000},
    [STATE_SECURE]        = {"secure",        secure_enter,        secure_done,        TO(STATE_GREETING) | TO(STATE_EHLO_SECURE) | END, 120000},
    [STATE_EHLO_SECURE]   = {"ehlo again",    ehlo_enter,          ehlo_done,          TO(STATE_HELO) | TO(STATE_STARTTLS) | TO(STATE_AUTH) | TO(STATE_READY) | END, 300000},
    [STATE_AUTH]          = {"auth",          auth_enter,          auth_done,          TO(STATE_AUTH_USER) | TO(STATE_READY) | END, 300000},
    [STATE_AUTH_USER]     = {"auth user",     auth_user_enter,     auth_user_done,     TO(STATE_AUTH_PASSWORD) | END, 300000},
    [STATE_AUTH_PASSWORD] = {"auth password", auth_password_enter, auth_password_done, TO(STATE_READY) | END, 300000},
    [STATE_READY]         = {"ready",         ready_enter,         NULL,               0, 0},
    [STATE_BROKEN]        = {"broken",        broken_enter,        NULL,               0, 0},
};
/* clang-format on */

const struct machine_row *opening_rows(int *count)
{
    *count = STATE_COUNT;
    return rows;
}

int64_t opening_patience(void *self, int state, int64_t row_ms)
{
    const struct deliver_timeouts *t = timeouts(self);
    int64_t ms = row_ms;

    if (state == STATE_GREETING)
        ms = t->greeting;
    else if (state == STATE_EHLO || state == STATE_HELO || state == STATE_EHLO_SECURE)
        ms = t->ehlo;
    else if (state == STATE_STARTTLS ||
             (state == STATE_SECURE && t->starttls > 0 && t->starttls < row_ms))
        ms = t->starttls;
    else if (state >= STATE_AUTH && state <= STATE_AUTH_PASSWORD)
        ms = t->auth;
    return ms ? ms : row_ms;
}
