/* The client side of a session, up to where it can take mail:
 *
 *   dial -> [secure, where TLS is implicit] -> greeting -> ehlo, or helo
 *   ehlo -> [starttls -> secure -> ehlo] -> [auth: plain in one step, login in three] -> ready
 *   any of them -> broken
 *
 * Time limits are RFC 5321 4.5.3.2's, for a whole reply, not for a byte of it. */
#include "connection.h"

#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/loop/machine.h"
#include "smtpd/smtp/framing.h"

#include <stdio.h>
#include <string.h>

enum state {
    STATE_DIAL,
    STATE_GREETING,
    STATE_EHLO,
    STATE_HELO,
    STATE_STARTTLS,
    STATE_SECURE,
    STATE_EHLO_SECURE,
    STATE_AUTH,
    STATE_AUTH_USER,
    STATE_AUTH_PASSWORD,
    STATE_READY,
    STATE_BROKEN,
    STATE_COUNT
};

enum { INPUT_MAX = 65536, CLEAR_MEMORY_MS = 3600000 };

struct connection {
    struct link link; /* in its destination, while it rests */
    struct destination *destination;
    struct deliver *deliver;
    struct plan_settings *settings;
    const struct route *route; /* of the settings; NULL by MX */
    const struct connection_events *events;
    void *owner;
    struct plan_host host;
    enum tls_level level;
    bool without_tls; /* TLS broke here once: in clear, at once (opportunistic only) */
    char peer[360];
    struct machine machine;
    struct dial *dial;
    struct stream *stream;
    struct framing framing;
    struct bytes input;
    struct reply_reader reader;
    struct capabilities capabilities;
    struct reply reply;
    bool has_reply;
    bool is_secured;
    bool is_resting;
    bool needs_reset; /* a transaction was left half-way */
    bool is_told;     /* on_broken was deferred or called */
    struct fault fault;
    struct deferred tell;
    struct timer patience; /* once it is ready */
    const char *stage;
    unsigned messages;
    unsigned depth; /* our frames that run */
    bool is_closed;
    int64_t started_ms;
    int64_t connect_ms;
};

/* ---- helpers ---- */

static const struct deliver_timeouts *timeouts(const struct connection *connection)
{
    return &connection->settings->values.timeouts;
}

static void say(struct connection *connection, struct slice line)
{
    struct bytes text;

    bytes_init(&text, LIMIT_AUTH_LINE);
    if (framing_add_line(&text, line) == RESULT_OK)
        (void)stream_write(connection->stream, bytes_view(&text));
    if (text.data)
        secure_wipe(text.data, text.length);
    bytes_fini(&text);
}

static void say_text(struct connection *connection, const char *format,
                     const char *argument)
{
    char line[1024];

    (void)snprintf(line, sizeof line, "%s%s", format, argument);
    say(connection, slice_of(line));
}

static void tell_broken(void *owner)
{
    struct connection *connection = owner;

    connection->events->on_broken(connection->owner, &connection->fault);
}

static void broken(struct connection *connection, enum result code, const char *text)
{
    if (connection->is_told)
        return;
    connection->is_told = true;
    deferred_cancel(connection->deliver->rooms.loop,
                    &connection->tell); /* "ready" is over */
    timer_cancel(&connection->patience);
    (void)fault_set(&connection->fault, code, "%s: %s", connection->peer, text);
    loop_defer(connection->deliver->rooms.loop, &connection->tell, tell_broken, connection);
}

static void stage_fault(struct connection *connection, const char *stage)
{
    char text[LIMIT_REPLY_TEXT + 128];
    char words[LIMIT_REPLY_TEXT + 64];

    if (machine_timed_out(&connection->machine)) {
        (void)snprintf(text, sizeof text, "no answer to %s in time", stage);
        broken(connection, RESULT_TIMEOUT, text);
        return;
    }
    reply_print(&connection->reply, words, sizeof words);
    (void)snprintf(text, sizeof text, "%s was answered %.400s", stage, words);
    broken(connection, RESULT_REFUSED, text);
}

static bool take_reply(struct connection *connection)
{
    bool has_reply = connection->has_reply;

    connection->has_reply = false;
    return has_reply;
}

/* ---- states ---- */

static void on_dialed(void *owner, struct stream *stream, const struct fault *fault);
static const struct stream_events stream_events;

static void dial_enter(void *self)
{
    struct connection *connection = self;
    struct endpoint addresses[LIMIT_HOST_ADDRESSES];

    for (size_t i = 0; i < connection->host.address_count; i++)
        addresses[i] = (struct endpoint){connection->host.addresses[i],
                                         connection->destination->plan.port};
    connection->deliver->statistics.connections++;
    connection->dial = dial_start(connection->deliver->rooms.net, addresses,
                                  connection->host.address_count, NULL,
                                  timeouts(connection)->connect, on_dialed, connection);
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

    if (take_reply(connection) && connection->reply.code == 220)
        return STATE_EHLO;
    stage_fault(connection, "the greeting");
    return STATE_BROKEN;
}

static void ehlo_enter(void *self)
{
    struct connection *connection = self;

    memset(&connection->capabilities, 0, sizeof connection->capabilities);
    say_text(connection, "EHLO ", connection->settings->values.hostname);
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
        broken(connection, RESULT_DENIED,
               "it offers no AUTH PLAIN or LOGIN for the route's user");
        return STATE_BROKEN;
    }
    return STATE_AUTH;
}

static int ehlo_done(void *self)
{
    struct connection *connection = self;

    if (!take_reply(connection)) {
        stage_fault(connection, "EHLO");
        return STATE_BROKEN;
    }
    if (reply_is_permanent(&connection->reply) && clear_is_allowed(connection))
        return STATE_HELO; /* RFC 5321 4.1.1.1: an old server */
    if (!reply_is_positive(&connection->reply)) {
        stage_fault(connection, "EHLO");
        return STATE_BROKEN;
    }
    if (connection->level != TLS_NONE && !connection->is_secured &&
        connection->capabilities.starttls && !connection->without_tls)
        return STATE_STARTTLS;
    if (!clear_is_allowed(connection) && !connection->is_secured) {
        broken(connection, RESULT_TLS, "it offers no STARTTLS, which is required");
        return STATE_BROKEN;
    }
    return after_ehlo(connection);
}

static void helo_enter(void *self)
{
    struct connection *connection = self;

    say_text(connection, "HELO ", connection->settings->values.hostname);
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
    say(self, SLICE("STARTTLS"));
}

/* Opportunistic: what does not work is remembered for an hour, and the mail goes in clear
 * on a new connection, at once. */
static int tls_failed(struct connection *connection, const char *text)
{
    struct host_memory *host;

    if (connection->level == TLS_OPPORTUNISTIC) {
        host = host_memory(connection->destination, connection->host.name);
        if (host)
            host->clear_until_ms = deliver_now(connection->deliver) + CLEAR_MEMORY_MS;
        connection->without_tls = true;
    }
    broken(connection, RESULT_TLS, text);
    return STATE_BROKEN;
}

static int starttls_done(void *self)
{
    struct connection *connection = self;

    if (take_reply(connection) && connection->reply.code == 220)
        return STATE_SECURE;
    if (connection->level == TLS_OPPORTUNISTIC && connection->reply.code >= 400) {
        connection->without_tls = true;
        return after_ehlo(connection); /* it said no: the session goes on in clear */
    }
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

static void secure_enter(void *self)
{
    struct connection *connection = self;
    enum tls_level level =
        connection->level == TLS_NONE ? TLS_OPPORTUNISTIC : connection->level;

    bytes_clear(&connection->input); /* bytes in clear behind the 220 are nobody's */
    framing_read_lines(&connection->framing);
    reply_reader_init(&connection->reader);
    if (stream_secure_client(connection->stream, connection->settings->tls, level,
                             connection->host.name, on_secured) == RESULT_OK)
        return;
    (void)fault_set(&connection->fault, RESULT_BUSY, "too many TLS handshakes are running");
    machine_advance(&connection->machine);
}

static int secure_done(void *self)
{
    struct connection *connection = self;
    char text[sizeof connection->fault.text];

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
        say(connection, SLICE("AUTH LOGIN"));
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
        say(connection, bytes_view(&line));
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
        say(connection, bytes_view(&line));
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
    loop_defer(connection->deliver->rooms.loop, &connection->tell, tell_broken, connection);
}

#define END (TO(STATE_BROKEN))
/* clang-format off */
static const struct machine_row rows[STATE_COUNT] = {
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

const struct machine_row *connection_rows(int *count)
{
    *count = STATE_COUNT;
    return rows;
}

static int64_t patience(void *self, int state, int64_t row_ms)
{
    const struct deliver_timeouts *t = timeouts(self);
    int64_t ms = row_ms;

    if (state == STATE_GREETING)
        ms = t->greeting;
    else if (state == STATE_EHLO || state == STATE_HELO || state == STATE_EHLO_SECURE)
        ms = t->ehlo;
    else if (state == STATE_STARTTLS)
        ms = t->starttls;
    else if (state == STATE_SECURE && t->starttls > 0 && t->starttls < row_ms)
        ms = t->starttls;
    else if (state >= STATE_AUTH && state <= STATE_AUTH_PASSWORD)
        ms = t->auth;
    return ms ? ms : row_ms;
}

/* ---- bytes ---- */

static void on_whole_reply(struct connection *connection)
{
    connection->reply = connection->reader.reply;
    if (connection->machine.state != STATE_READY) {
        connection->has_reply = true;
        machine_advance(&connection->machine);
        return;
    }
    if (link_is_in_list(&connection->tell.link)) {
        broken(connection, RESULT_INVALID, "it spoke out of turn");
        return;
    }
    if (connection->is_resting) { /* 421 or worse: an idle connection has nothing to hear */
        broken(connection, RESULT_CLOSED, "it spoke while idle");
        return;
    }
    timer_cancel(&connection->patience);
    connection->events->on_reply(connection->owner, &connection->reply);
}

static void on_line(struct connection *connection, struct slice line)
{
    struct slice text = SLICE_NONE;
    bool is_first = connection->reader.line_count == 0 || connection->reader.is_complete;
    enum reply_event event = reply_reader_line(&connection->reader, line, &text);
    int state = connection->machine.state;

    if (event == REPLY_BAD) {
        if (state != STATE_READY) {
            broken(connection, RESULT_INVALID, "its answer is no reply of SMTP");
            machine_stop(&connection->machine);
            connection->deliver->statistics.connections_failed++;
        } else {
            broken(connection, RESULT_INVALID, "its answer is no reply of SMTP");
        }
        return;
    }
    if ((state == STATE_EHLO || state == STATE_EHLO_SECURE) && !is_first)
        capability_read(&connection->capabilities, text);
    if (event == REPLY_COMPLETE)
        on_whole_reply(connection);
}

static void read_lines(struct connection *connection)
{
    struct slice rest = bytes_view(&connection->input);
    size_t before = rest.length;

    while (!connection->is_told && connection->machine.state != STATE_SECURE) {
        struct slice line;
        enum framing_event event = framing_next(&connection->framing, &rest, &line);

        if (event == FRAMING_MORE)
            break;
        if (event != FRAMING_LINE) {
            line = SLICE("???"); /* bad or too long: no reply */
        }
        on_line(connection, line);
        if (!connection->stream)
            return; /* closed by the owner, who may also have freed us: see on_bytes */
    }
    if (connection->machine.state == STATE_SECURE)
        bytes_clear(&connection->input);
    else
        bytes_drop_front(&connection->input, before - rest.length);
    if (connection->input.length == 0)
        bytes_release(&connection->input);
}

static void on_bytes(void *owner, struct slice bytes)
{
    struct connection *connection = owner;

    if (bytes_add(&connection->input, bytes) != RESULT_OK) {
        broken(connection, RESULT_TOO_LARGE, "it sends more than a reply can be");
        return;
    }
    connection->depth++;
    read_lines(connection);
    connection->depth--;
    if (connection->is_closed)
        memory_free(connection);
}

static void on_closed(void *owner, const struct fault *why)
{
    struct connection *connection = owner;

    if (connection->machine.state != STATE_READY &&
        connection->machine.state != STATE_BROKEN) {
        broken(connection, why->code, why->text);
        machine_stop(&connection->machine);
        connection->deliver->statistics.connections_failed++;
        return;
    }
    broken(connection, why->code, why->text);
}

static void on_drained(void *owner)
{
    struct connection *connection = owner;

    if (connection->machine.state == STATE_READY && !connection->is_resting &&
        !connection->is_told)
        connection->events->on_drained(connection->owner);
}

static const struct stream_events stream_events = {on_bytes, on_closed, on_drained};

static void on_dialed(void *owner, struct stream *stream, const struct fault *fault)
{
    struct connection *connection = owner;
    char text[IP_TEXT];

    connection->dial = NULL;
    connection->stream = stream;
    if (stream) {
        connection->deliver->statistics.connections_open++;
        endpoint_print(stream_peer(stream), text);
        (void)snprintf(connection->peer, sizeof connection->peer, "%.256s [%s]",
                       connection->host.name, text);
        stream_start(stream, &stream_events, connection);
    } else {
        connection->fault = *fault;
    }
    machine_advance(&connection->machine);
}

/* ---- the inner door ---- */

static void on_patience(void *owner)
{
    struct connection *connection = owner;
    char text[128];

    (void)snprintf(text, sizeof text, "no answer to %s in time",
                   connection->stage ? connection->stage : "anything");
    broken(connection, RESULT_TIMEOUT, text);
}

struct connection *connection_open(struct destination *destination,
                                   const struct plan_host *host,
                                   const struct connection_events *events, void *owner)
{
    struct connection *connection = NEW(struct connection);
    struct deliver *deliver = destination->deliver;
    const struct host_memory *memory = host_find(destination, host->name);

    connection->destination = destination;
    connection->deliver = deliver;
    connection->settings = settings_ref(deliver->settings);
    if (destination->plan.is_route)
        connection->route =
            settings_route_by_name(connection->settings, destination->plan.route_name);
    connection->level = destination_settings(destination)->tls;
    connection->events = events;
    connection->owner = owner;
    connection->host = *host;
    connection->without_tls = memory && memory->clear_until_ms > deliver_now(deliver);
    (void)snprintf(connection->peer, sizeof connection->peer, "%s", host->name);
    framing_init(&connection->framing, LIMIT_REPLY_LINE);
    bytes_init(&connection->input, INPUT_MAX);
    reply_reader_init(&connection->reader);
    connection->started_ms = loop_now_ms(deliver->rooms.loop);
    timer_init(&connection->patience, deliver->rooms.loop, on_patience, connection);
    destination->connections++;
    machine_init(&connection->machine, deliver->rooms.loop, rows, STATE_COUNT, connection);
    connection->machine.patience = patience;
    machine_begin(&connection->machine, STATE_DIAL);
    return connection;
}

void connection_close(struct connection *connection, bool is_polite)
{
    struct deliver *deliver = connection->deliver;

    if (connection->is_resting)
        list_remove(&connection->destination->idle, &connection->link);
    if (connection->dial)
        dial_cancel(connection->dial);
    if (connection->stream) {
        if (is_polite && connection->machine.state == STATE_READY && !connection->is_told)
            say(connection, SLICE("QUIT"));
        deliver->statistics.connections_open--;
        stream_close(connection->stream);
        connection->stream = NULL;
    }
    machine_stop(&connection->machine);
    timer_cancel(&connection->patience);
    deferred_cancel(deliver->rooms.loop, &connection->tell);
    bytes_fini(&connection->input);
    settings_unref(connection->settings);
    connection->destination->connections--;
    destination_run_later(connection->destination);
    if (connection->depth > 0)
        connection->is_closed = true; /* freed when its own frames are left */
    else
        memory_free(connection);
}

void connection_await(struct connection *connection, int64_t patience_ms, const char *stage)
{
    connection->stage = stage;
    if (patience_ms > 0)
        timer_start(&connection->patience, patience_ms);
    else
        timer_cancel(&connection->patience);
}

enum result connection_send(struct connection *connection, struct slice bytes)
{
    return stream_write(connection->stream, bytes);
}

const struct capabilities *connection_capabilities(const struct connection *connection)
{
    return &connection->capabilities;
}

const char *connection_host(const struct connection *connection)
{
    return connection->host.name;
}

const char *connection_peer(const struct connection *connection)
{
    return connection->peer;
}

const struct tls_facts *connection_tls(const struct connection *connection)
{
    return stream_tls(connection->stream);
}

int64_t connection_connect_ms(const struct connection *connection)
{
    return connection->connect_ms;
}

struct plan_settings *connection_settings(const struct connection *connection)
{
    return connection->settings;
}

bool connection_wants_clear(const struct connection *connection)
{
    return connection->without_tls && connection->level == TLS_OPPORTUNISTIC;
}

unsigned connection_messages(const struct connection *connection)
{
    return connection->messages;
}

void connection_count_message(struct connection *connection)
{
    connection->messages++;
}

/* ---- resting ---- */

static void idle_broken(void *owner, const struct fault *fault)
{
    (void)fault; /* a server may close an idle connection at any time */
    connection_close(owner, false);
}

static void idle_reply(void *owner, const struct reply *reply)
{
    (void)owner;
    (void)reply;
}

static void idle_drained(void *owner)
{
    (void)owner;
}

static const struct connection_events idle_events = {NULL, idle_reply, idle_drained,
                                                     idle_broken};

static void on_idle_end(void *owner)
{
    connection_close(owner, true);
}

void connection_rest(struct connection *connection)
{
    int64_t idle_ms = timeouts(connection)->idle;

    if (connection->is_told || connection->deliver->is_draining || idle_ms == 0 ||
        connection->messages >=
            destination_settings(connection->destination)->messages_per_connection) {
        connection_close(connection, true);
        return;
    }
    connection->is_resting = true;
    connection->events = &idle_events;
    connection->owner = connection;
    timer_cancel(&connection->patience);
    timer_init(&connection->patience, connection->deliver->rooms.loop, on_idle_end,
               connection);
    timer_start(&connection->patience, idle_ms);
    list_push_front(&connection->destination->idle, &connection->link);
}

struct connection *connection_take_idle(struct destination *destination,
                                        const struct connection_events *events, void *owner)
{
    struct link *link = list_pop_front(&destination->idle);
    struct connection *connection;

    if (!link)
        return NULL;
    connection = CONTAINER_OF(link, struct connection, link);
    connection->is_resting = false;
    connection->events = events;
    connection->owner = owner;
    timer_cancel(&connection->patience);
    timer_init(&connection->patience, connection->deliver->rooms.loop, on_patience,
               connection);
    destination->deliver->statistics.messages_reused_connection++;
    return connection;
}

void connection_forget_idle(struct destination *destination, struct link *link)
{
    (void)destination;
    connection_close(CONTAINER_OF(link, struct connection, link), true);
}

void connection_set_needs_reset(struct connection *connection, bool needs_reset)
{
    connection->needs_reset = needs_reset;
}

bool connection_needs_reset(const struct connection *connection)
{
    return connection->needs_reset;
}
