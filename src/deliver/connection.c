/* The client side of a session: bytes and replies, the patience of each stage, and resting between
 * messages. How it gets to where it can take mail: opening.c. */
#include "connection.h"

#include "connection_inner.h"
#include "flight.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "source.h"
#include "sts_policy.h"

#include <stdio.h>

enum { INPUT_MAX = 65536 };

/* ---- helpers ---- */

static const struct deliver_timeouts *timeouts(const struct connection *connection)
{
    return destination_timeouts(connection->destination, connection->settings);
}

void connection_say(struct connection *connection, struct slice line)
{
    struct bytes text;

    bytes_init(&text, LIMIT_AUTH_LINE);
    if (framing_add_line(&text, line) == RESULT_OK)
        (void)stream_write(connection->stream, bytes_view(&text));
    if (text.data)
        secure_wipe(text.data, text.length);
    bytes_fini(&text);
}

void connection_tell_broken(void *owner)
{
    struct connection *connection = owner;

    connection->events->on_broken(connection->owner, &connection->fault);
}

void connection_broken(struct connection *connection, enum result code, const char *text)
{
    if (connection->is_told)
        return;
    connection->is_told = true;
    deferred_cancel(connection->deliver->rooms.loop,
                    &connection->tell); /* "ready" is over */
    timer_cancel(&connection->patience);
    (void)fault_set(&connection->fault, code, "%s: %s", connection->peer, text);
    connection->fault_class = deliver_class_of_result(code);
    loop_defer(connection->deliver->rooms.loop, &connection->tell, connection_tell_broken,
               connection);
}

void connection_refused(struct connection *connection, const char *text)
{
    const struct classifier *classifier = connection->settings->values.classifier;

    if (connection->is_told)
        return;
    connection_broken(connection, RESULT_REFUSED, text);
    connection->fault_class =
        classifier_match_reply(classifier, &connection->reply, connection->host.name).class;
}

void connection_broken_off(struct connection *connection, const struct reply *reply,
                           bool objects)
{
    const struct classifier *classifier = connection->settings->values.classifier;

    connection->objects = objects;
    connection->fault_class =
        classifier_match_reply(classifier, reply, connection->host.name).class;
}

void connection_enter(struct connection *connection)
{
    connection->depth++;
}

void connection_exit(struct connection *connection)
{
    connection->depth--;
    if (connection->is_closed && connection->depth == 0)
        memory_free(connection);
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
        connection_broken(connection, RESULT_INVALID, "it spoke out of turn");
        return;
    }
    if (connection->is_resting) { /* 421 or worse: an idle connection has nothing to hear */
        if (connection->reply.code != 421)
            flight_spoke_idle(connection, connection->reply.text);
        connection_broken(connection, RESULT_CLOSED, "it spoke while idle");
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
            connection_broken(connection, RESULT_INVALID, "its answer is no reply of SMTP");
            machine_stop(&connection->machine);
            connection->deliver->statistics.connections_failed++;
        } else {
            connection_broken(connection, RESULT_INVALID, "its answer is no reply of SMTP");
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
        connection_broken(connection, RESULT_TOO_LARGE,
                          "it sends more than a reply can be");
        return;
    }
    connection_enter(connection);
    read_lines(connection);
    connection_exit(connection);
}

static void on_closed(void *owner, const struct fault *why)
{
    struct connection *connection = owner;

    if (connection->machine.state != STATE_READY &&
        connection->machine.state != STATE_BROKEN) {
        connection_broken(connection, why->code, why->text);
        machine_stop(&connection->machine);
        connection->deliver->statistics.connections_failed++;
        return;
    }
    connection_broken(connection, why->code, why->text);
}

static void on_drained(void *owner)
{
    struct connection *connection = owner;

    if (connection->machine.state == STATE_READY && !connection->is_resting &&
        !connection->is_told)
        connection->events->on_drained(connection->owner);
}

static const struct stream_events stream_events = {on_bytes, on_closed, on_drained};

void connection_on_dialed(void *owner, struct stream *stream, const struct fault *fault)
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
        connection->fault_class = deliver_class_of_result(fault->code);
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
    connection->objects = true;
    connection_broken(connection, RESULT_TIMEOUT, text);
}

/* A new one is made beside those that rest: they may not be too many together. */
static void make_room(struct destination *destination)
{
    struct scope *scope = scope_of(destination);

    while (scope && scope->resting.count > 0 && scope->connections >= scope->pace.window)
        connection_close(CONTAINER_OF(scope->resting.head.prev, struct connection, resting),
                         true);
}

struct connection *connection_open(struct destination *destination,
                                   const struct plan_host *host,
                                   const struct tls_policy *policy,
                                   const struct connection_events *events, void *owner)
{
    struct connection *connection = NEW(struct connection);
    struct deliver *deliver = destination->deliver;
    const struct host_memory *memory = host_find(destination, host->name);
    const struct machine_row *rows;
    int row_count;

    make_room(destination);
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
    flight_init(connection);
    destination->connections++;
    if (destination->source)
        destination->source->connections++;
    connection->policy = *policy;
    connection->policy.domain = memory_text(policy->domain ? policy->domain : "");
    connection->policy.sts = sts_policy_ref(policy->sts);
    if (scope_of(destination)) {
        connection->scope = scope_ref(destination->scope);
        connection->scope->connections++;
    }
    rows = opening_rows(&row_count);
    machine_init(&connection->machine, deliver->rooms.loop, rows, row_count, connection);
    connection->machine.patience = opening_patience;
    /* "off" and "verified" are the operator's own word, which no record changes. */
    if (policy->wants_dane &&
        (connection->level == TLS_OPPORTUNISTIC || connection->level == TLS_REQUIRED))
        opening_ask_dane(connection, policy->domain);
    machine_begin(&connection->machine, connection->dane ? STATE_DANE : STATE_POLICY);
    return connection;
}

static void leave_scope(struct connection *connection)
{
    struct scope *scope = connection->scope;

    if (!scope)
        return;
    list_remove(&scope->resting, &connection->resting);
    scope->connections--;
    connection->scope = NULL;
    scope_unref(scope);
}

void connection_set_owner(struct connection *connection, void *owner)
{
    connection->owner = owner;
}

void connection_close(struct connection *connection, bool is_polite)
{
    struct deliver *deliver = connection->deliver;

    if (connection->is_resting) {
        list_remove(&connection->destination->idle, &connection->link);
        scope_note_idle(connection->destination);
    }
    list_remove(&deliver->idle, &connection->idle);
    leave_scope(connection);
    dane_free(connection->dane);
    sts_policy_unref(connection->policy.sts);
    memory_free((char *)(uintptr_t)connection->policy.domain); /* our own copy */
    if (connection->dial)
        dial_cancel(connection->dial);
    if (connection->stream) {
        if (is_polite && connection->machine.state == STATE_READY && !connection->is_told)
            connection_say(connection, SLICE("QUIT"));
        deliver->statistics.connections_open--;
        stream_close(connection->stream);
        connection->stream = NULL;
    }
    machine_stop(&connection->machine);
    timer_cancel(&connection->patience);
    deferred_cancel(deliver->rooms.loop, &connection->tell);
    deferred_cancel(deliver->rooms.loop, &connection->flight.later);
    bytes_fini(&connection->input);
    settings_unref(connection->settings);
    connection->destination->connections--;
    if (connection->destination->source)
        connection->destination->source->connections--;
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

enum result connection_send_both(struct connection *connection, struct slice first,
                                 struct slice second)
{
    return stream_write_both(connection->stream, first, second);
}

uint64_t connection_written(const struct connection *connection)
{
    return stream_written(connection->stream);
}

uint64_t connection_left(const struct connection *connection)
{
    return stream_written(connection->stream) - stream_unsent(connection->stream);
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

bool connection_objects(const struct connection *connection)
{
    return connection->objects;
}

const struct reply *connection_refusal(const struct connection *connection)
{
    return connection->is_refused ? &connection->reply : NULL;
}

bool connection_wants_clear(const struct connection *connection)
{
    return connection->without_tls && connection->level == TLS_OPPORTUNISTIC;
}

bool connection_was_dialed(const struct connection *connection)
{
    return connection->stream;
}

bool connection_wants_again(const struct connection *connection)
{
    return connection->wants_again;
}

void connection_blame_address(const struct connection *connection)
{
    if (connection->stream)
        dialing_blame(connection->destination, &connection->host,
                      stream_peer(connection->stream));
}

enum deliver_class connection_fault_class(const struct connection *connection)
{
    return connection->fault_class;
}

bool connection_fails_policy(const struct connection *connection)
{
    return connection->fails_policy;
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
        connection->settings != connection->deliver->settings ||
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
    list_push_front(&connection->deliver->idle, &connection->idle);
    if (connection->scope)
        list_push_front(&connection->scope->resting, &connection->resting);
    scope_note_idle(connection->destination);
    if (connection->deliver->idle.count > LIMIT_IDLE_CONNECTIONS)
        connection_close_longest_idle(connection->deliver);
}

void connection_close_longest_idle(struct deliver *deliver)
{
    if (deliver->idle.count > 0)
        connection_close(CONTAINER_OF(deliver->idle.head.prev, struct connection, idle),
                         true);
}

static struct connection *find_idle(struct destination *destination,
                                    const struct tls_policy *policy)
{
    struct link *next;

    for (struct link *link = list_first(&destination->idle); link; link = next) {
        struct connection *connection = CONTAINER_OF(link, struct connection, link);

        next = list_next(&destination->idle, link);
        /* One that was made under other settings may lead to another host, or be without TLS. */
        if (connection->settings != destination->deliver->settings)
            connection_close(connection, true);
        else if (connection_satisfies(connection, policy))
            return connection;
    }
    return NULL;
}

struct connection *connection_take_idle(struct destination *destination,
                                        const struct tls_policy *policy,
                                        const struct connection_events *events, void *owner)
{
    struct connection *connection = find_idle(destination, policy);

    if (!connection) {
        make_room(destination); /* now: its going takes a moment */
        return NULL;
    }
    list_remove(&destination->idle, &connection->link);
    list_remove(&destination->deliver->idle, &connection->idle);
    if (connection->scope)
        list_remove(&connection->scope->resting, &connection->resting);
    scope_note_idle(destination);
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
