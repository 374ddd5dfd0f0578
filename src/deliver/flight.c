/* Several transactions under way on one connection: docs/delivery-engine.md, "One flight for each
 * message".
 *
 *   attempts:  [front] ........ [writer] [waits]
 *              is answered next  speaks   begins when the writer has handed over its end
 */
#include "flight.h"

#include "attempt_inner.h"
#include "connection_inner.h"
#include "lack.h"
#include "smtpd/base/check.h"
#include "smtpd/base/log.h"

#include <stdio.h>

enum {
    WINDOW_FIRST = 2,
    WINDOW_BYTES = 1 << 20,
    BEHIND_MOST_MS =
        1000,       /* that a message may wait behind others, as far as can be foreseen */
    LOOK_MOST = 16, /* connections that one message is offered to */
    REMEMBER_MS = 86400000,
    GOODBYE_MS = 5000
};

static void go_on(struct connection *connection);

/* ---- who is in it ---- */

static struct attempt *of_link(struct link *link)
{
    return CONTAINER_OF(link, struct attempt, in_flight);
}

static struct attempt *front_of(const struct flight *flight)
{
    return of_link(list_first(&flight->attempts));
}

static struct attempt *last_of(const struct flight *flight)
{
    return of_link(flight->attempts.head.prev);
}

static bool is_begun(const struct attempt *attempt)
{
    return attempt->sent > 0;
}

static uint64_t size_of(const struct lease *lease)
{
    return lease->envelope.header_bytes + lease->envelope.body_bytes;
}

static void put_in(struct connection *connection, struct attempt *attempt)
{
    struct flight *flight = &connection->flight;
    struct destination *destination = connection->destination;

    if (flight->attempts.count > 0) {
        destination->riding++;
        pacing_rides(attempt, true);
    } else {
        list_push_back(&destination->flights, &flight->link);
        pacing_rides(attempt, false);
        flight->answered_ms = loop_now_ms(connection->deliver->rooms.loop);
    }
    list_push_back(&flight->attempts, &attempt->in_flight);
    flight->bytes += size_of(attempt->lease);
    attempt->connection = connection;
    attempt->sent = attempt->got = 0;
    attempt->is_in_body = attempt->dot_was_sent = attempt->waits_for_drain = false;
    attempt->runs_ahead = attempt->is_turned_away = false;
}

static struct connection *take_out(struct attempt *attempt)
{
    struct connection *connection = attempt->connection;
    struct flight *flight = &connection->flight;

    pacing_rides(attempt, false); /* or the next one holds the connection now */
    list_remove(&flight->attempts, &attempt->in_flight);
    flight->bytes -= size_of(attempt->lease);
    if (flight->writer == attempt)
        flight->writer = NULL;
    if (flight->attempts.count > 0) {
        connection->destination->riding--;
        pacing_rides(front_of(flight), false);
    } else {
        list_remove(&connection->destination->flights, &flight->link);
    }
    timer_cancel(&attempt->pause);
    payload_close(
        attempt); /* or its next piece would go to another connection, or to none */
    attempt->is_in_body = false;
    attempt->connection = NULL;
    attempt->is_ready = false;
    return connection;
}

/* ---- what is known of the host ---- */

static int64_t now(const struct connection *connection)
{
    return deliver_now(connection->deliver);
}

bool flight_is_lock_step(const struct connection *connection)
{
    const struct host_memory *memory =
        host_find(connection->destination, connection->host.name);

    return memory && memory->lock_step_until_ms > now(connection);
}

static bool refuses_chunks_well(const struct connection *connection)
{
    const struct host_memory *memory =
        host_find(connection->destination, connection->host.name);

    return memory && memory->chunks_until_ms > now(connection);
}

static void mark(struct connection *connection, const char *text)
{
    struct host_memory *memory =
        host_memory(connection->destination, connection->host.name);
    struct log_line line;

    if (!memory || memory->lock_step_until_ms > now(connection))
        return;
    memory->lock_step_until_ms = now(connection) + REMEMBER_MS;
    memory->chunks_until_ms = 0;
    connection->deliver->statistics.hosts_lock_step++;
    log_start(&line, LOG_WARNING, "deliver.lock_step");
    log_text(&line, "destination", connection->destination->key);
    log_text(&line, "host", connection->host.name);
    log_text(&line, "message", text);
    log_end(&line);
}

void flight_spoke_idle(struct connection *connection, const char *text)
{
    if (connection->flight.has_chunked)
        mark(connection, text);
}

/* A first message has gone its way by DATA, step by step. */
static bool has_earned(const struct connection *connection)
{
    return connection->messages > 0 && connection->capabilities.pipelining &&
           destination_settings(connection->destination)->pipeline_window > 1 &&
           !flight_is_lock_step(connection);
}

static bool knows_chunks(const struct connection *connection)
{
    return has_earned(connection) && connection->capabilities.chunking;
}

bool flight_may_chunk(const struct attempt *attempt)
{
    return knows_chunks(attempt->connection) && refuses_chunks_well(attempt->connection) &&
           size_of(attempt->lease) <= WINDOW_BYTES;
}

/* Only when somebody waits for what it opens: the host counts it as an error of ours. */
bool flight_wants_probe(const struct attempt *attempt)
{
    const struct connection *connection = attempt->connection;
    const struct host_memory *memory =
        host_find(connection->destination, connection->host.name);

    return flight_is_behind(attempt) && knows_chunks(connection) &&
           !refuses_chunks_well(connection) &&
           (!memory || memory->no_probe_until_ms <= now(connection));
}

/* It may be chance, and is no answer: but each connection would end there. */
static void note_end_at_probe(const struct attempt *attempt)
{
    struct connection *connection = attempt->connection;
    struct host_memory *memory;

    if (!attempt->has_probe || attempt->sent == 0 || attempt->got >= attempt->prefix)
        return;
    memory = host_memory(connection->destination, connection->host.name);
    if (memory)
        memory->no_probe_until_ms = now(connection) + REMEMBER_MS;
}

void flight_chunks(struct attempt *attempt)
{
    attempt->connection->flight.has_chunked = true;
}

void flight_probed(struct attempt *attempt)
{
    struct connection *connection = attempt->connection;
    struct host_memory *memory =
        host_memory(connection->destination, connection->host.name);

    if (memory)
        memory->chunks_until_ms = now(connection) + REMEMBER_MS;
}

void flight_chunk_answered(struct attempt *attempt, bool is_taken)
{
    struct flight *flight = &attempt->connection->flight;
    unsigned most = destination_settings(attempt->connection->destination)->pipeline_window;

    if (is_taken && flight->window < most)
        flight->window++;
    if (is_taken && last_of(flight) == attempt)
        connection_set_needs_reset(attempt->connection, false);
}

/* ---- joining ---- */

static unsigned room_of(const struct connection *connection)
{
    unsigned most = destination_settings(connection->destination)->pipeline_window;

    if (!has_earned(connection))
        return 1;
    if (!knows_chunks(connection) || !refuses_chunks_well(connection))
        return WINDOW_FIRST < most ? WINDOW_FIRST : most;
    return connection->flight.window < most ? connection->flight.window : most;
}

/* More than fill the way to the host and back only wait there, and what is urgent would wait behind
 * them. */
static bool is_quick(const struct flight *flight)
{
    size_t count = flight->attempts.count;

    return count < WINDOW_FIRST || (int64_t)count * flight->gap_ms < BEHIND_MOST_MS;
}

static bool has_room(const struct connection *connection)
{
    const struct flight *flight = &connection->flight;
    size_t count = flight->attempts.count;

    return connection->machine.state == STATE_READY && !connection->is_told &&
           connection->stream && !flight->is_ending &&
           connection->settings == connection->deliver->settings &&
           count < room_of(connection) && is_begun(last_of(flight)) && is_quick(flight) &&
           connection->messages + count <
               destination_settings(connection->destination)->messages_per_connection;
}

static bool takes(const struct connection *connection, const struct work *work,
                  const struct tls_policy *policy)
{
    return has_room(connection) &&
           connection->flight.bytes + size_of(work->lease) <= WINDOW_BYTES &&
           lack_of(work->lease, &connection->capabilities,
                   connection_is_trusted(connection, policy)) == LACK_NOTHING &&
           connection_satisfies(connection, policy);
}

static struct connection *find(struct destination *destination, const struct work *work)
{
    struct tls_policy policy;
    struct link *link = list_first(&destination->flights);

    attempt_learn_policy(work, &policy);
    for (int looked = 0; link && looked < LOOK_MOST; looked++) {
        struct connection *connection = CONTAINER_OF(link, struct connection, flight.link);

        if (takes(connection, work, &policy))
            return connection;
        link = list_next(&destination->flights, link);
    }
    return NULL;
}

bool flight_has_room(struct destination *destination)
{
    struct link *link = list_first(&destination->flights);

    for (int looked = 0; link && looked < LOOK_MOST; looked++) {
        if (has_room(CONTAINER_OF(link, struct connection, flight.link)))
            return true;
        link = list_next(&destination->flights, link);
    }
    return false;
}

bool flight_can_take(struct destination *destination, const struct work *work)
{
    return find(destination, work) != NULL;
}

/* ---- turns ---- */

/* Who has not begun stands at the end. */
static struct attempt *first_unbegun(const struct flight *flight)
{
    struct attempt *found = NULL;

    for (struct link *link = flight->attempts.head.prev; link != &flight->attempts.head;
         link = link->prev) {
        if (is_begun(of_link(link)))
            break;
        found = of_link(link);
    }
    return found;
}

static void turn(struct connection *connection)
{
    struct flight *flight = &connection->flight;
    struct attempt *next = first_unbegun(flight);

    if (flight->writer || flight->is_ending || !next)
        return;
    flight->writer = next;
    if (flight_is_behind(next))
        connection->deliver->statistics.messages_in_flight++;
    transaction_begin(next);
}

static void hand_back(struct attempt *attempt)
{
    if (attempt->connection)
        (void)take_out(attempt);
    attempt_hand_back(attempt);
}

static void await_goodbye(struct connection *connection)
{
    connection_await(connection, GOODBYE_MS, "its goodbye: the connection stays open");
}

/* Nobody speaks any more: who has not handed over its end is untried, the others are waited for. */
static void end(struct connection *connection)
{
    struct flight *flight = &connection->flight;

    while (flight->attempts.count > 0 && !last_of(flight)->dot_was_sent)
        hand_back(last_of(flight));
    if (flight->attempts.count == 0)
        connection_close(connection, false);
    else if (flight->has_said_goodbye)
        await_goodbye(connection);
    else
        transaction_await(front_of(flight));
}

static void go_on(struct connection *connection)
{
    struct flight *flight = &connection->flight;

    connection_enter(connection);
    if (flight->is_breaking) {
        /* the breaking goes through all of them */
    } else if (flight->is_ending) {
        end(connection);
    } else if (flight->attempts.count == 0) {
        connection_await(connection, 0, "");
        connection_rest(connection);
    } else {
        transaction_await(front_of(flight));
        turn(connection);
    }
    connection_exit(connection);
}

void flight_leave(struct attempt *attempt)
{
    go_on(take_out(attempt));
}

void flight_answered(struct attempt *attempt)
{
    struct flight *flight = &attempt->connection->flight;
    int64_t now_ms = loop_now_ms(attempt->deliver->rooms.loop);
    int64_t gap_ms = now_ms - flight->answered_ms;

    flight->answered_ms = now_ms;
    flight->gap_ms =
        flight->gap_ms > 0 ? flight->gap_ms + (gap_ms - flight->gap_ms) / 4 : gap_ms;
}

void flight_abandon(struct attempt *attempt)
{
    bool was_begun = is_begun(attempt);
    struct connection *connection = take_out(attempt);

    if (connection->flight.attempts.count == 0) {
        connection_close(connection, false);
        return;
    }
    if (was_begun)
        connection->flight.is_ending = true;
    if (!connection->deliver->is_draining)
        go_on(connection);
}

void flight_again(struct attempt *attempt)
{
    struct connection *connection = take_out(attempt);

    put_in(connection, attempt);
    attempt->is_ready = true;
    go_on(connection);
}

void flight_written(struct attempt *attempt)
{
    struct connection *connection = attempt->connection;

    if (connection->flight.writer == attempt)
        connection->flight.writer = NULL;
    turn(connection);
    destination_run_later(connection->destination);
}

void flight_await(struct attempt *attempt, int64_t patience_ms, const char *stage)
{
    if (front_of(&attempt->connection->flight) == attempt)
        connection_await(attempt->connection, patience_ms, stage);
}

bool flight_is_behind(const struct attempt *attempt)
{
    return front_of(&attempt->connection->flight) != attempt;
}

bool flight_is_ending(const struct attempt *attempt)
{
    return attempt->connection->flight.is_ending;
}

/* ---- a connection that ends ---- */

/* The answer of who comes last is lost when its end was handed over: it may come twice. Behind a 421
 * nothing was looked at. */
static void break_last(struct flight *flight, const struct fault *fault)
{
    struct attempt *attempt = last_of(flight);

    attempt->fault = *fault;
    attempt->fault_class = connection_fault_class(attempt->connection);
    if (!attempt->dot_was_sent || flight->has_said_goodbye)
        hand_back(attempt);
    else
        attempt_finish(attempt);
}

static void break_all(struct connection *connection, const struct fault *fault)
{
    struct flight *flight = &connection->flight;
    struct attempt *front = front_of(flight);
    bool is_answered = flight->has_said_goodbye && front->is_turned_away;
    size_t least = flight->has_said_goodbye && !is_answered ? 0 : 1;

    connection_enter(connection);
    flight->is_ending = flight->is_breaking = true;
    while (flight->attempts.count > least)
        break_last(flight, fault);
    if (flight->attempts.count == 0) {
        connection_close(connection, false);
    } else {
        if (is_answered) /* by the goodbye, and what it had sent behind was not looked at */
            front->dot_was_sent = false;
        attempt_broken(front, fault);
    }
    connection_exit(connection);
}

/* Silence, or a reply of nothing, while more was said than the one command: the host may have lost
 * what came ahead of its answers. */
static bool may_have_lost(const struct connection *connection, const struct fault *fault)
{
    const struct flight *flight = &connection->flight;
    const struct attempt *front = front_of(flight);

    if (fault->code == RESULT_INVALID)
        return flight->has_chunked || flight->attempts.count > 1;
    return fault->code == RESULT_TIMEOUT && front->sent > front->got + 1 &&
           (front->got > 0 || front->runs_ahead);
}

static void on_broken(void *owner, const struct fault *fault)
{
    struct connection *connection = owner;

    note_end_at_probe(front_of(&connection->flight));
    if (may_have_lost(connection, fault))
        mark(connection, fault->text);
    if (fault->code == RESULT_TIMEOUT || fault->code == RESULT_INVALID)
        connection->flight.has_said_goodbye = false;
    break_all(connection, fault);
}

void flight_misfit(struct attempt *attempt, const struct fault *fault)
{
    struct connection *connection = attempt->connection;

    if (attempt->runs_ahead || connection->flight.attempts.count > 1)
        mark(connection, fault->text);
    break_all(connection, fault);
}

void flight_said_goodbye(struct attempt *attempt)
{
    struct flight *flight = &attempt->connection->flight;

    if (flight->attempts.count > 1)
        flight->is_ending = flight->has_said_goodbye = true;
}

void flight_give_back(struct attempt *attempt)
{
    struct connection *connection = take_out(attempt);

    connection_enter(connection);
    hand_back(attempt);
    go_on(connection);
    connection_exit(connection);
}

bool flight_goodbye(struct attempt *attempt, const struct fault *fault)
{
    note_end_at_probe(attempt);
    struct flight *flight = &attempt->connection->flight;

    if (flight->attempts.count == 1 && !attempt->dot_was_sent) {
        attempt_broken(attempt, fault);
        return false;
    }
    flight->is_ending = flight->has_said_goodbye = true;
    attempt_note_fault(attempt, fault);
    if (attempt->dot_was_sent) {
        await_goodbye(attempt->connection);
        return true;
    }
    if (transaction_is_under_way(attempt) || attempt_has_outcome(attempt))
        attempt_finish(attempt);
    else
        flight_give_back(attempt);
    return false;
}

/* ---- events ---- */

static void on_ready(void *owner)
{
    struct connection *connection = owner;

    connection_enter(connection);
    attempt_on_ready(front_of(&connection->flight));
    turn(connection);
    connection_exit(connection);
}

static void on_reply(void *owner, const struct reply *reply)
{
    struct connection *connection = owner;
    struct flight *flight = &connection->flight;

    flight->has_said_goodbye = false; /* it goes on all the same: these are answers again */
    transaction_on_reply(front_of(flight), reply);
}

static void on_drained(void *owner)
{
    struct connection *connection = owner;

    connection_enter(connection);
    if (connection->flight.writer)
        payload_on_drained(connection->flight.writer);
    connection_exit(connection);
}

static const struct connection_events events = {on_ready, on_reply, on_drained, on_broken};

/* ---- leading, and joining ---- */

void flight_init(struct connection *connection)
{
    connection->flight = (struct flight){.window = WINDOW_FIRST};
    list_init(&connection->flight.attempts);
}

void flight_open(struct attempt *attempt, const struct plan_host *host)
{
    struct connection *connection =
        connection_open(attempt->destination, host, &attempt->policy, &events, NULL);

    connection_set_owner(connection, connection);
    put_in(connection, attempt);
}

bool flight_take_idle(struct attempt *attempt)
{
    struct connection *connection =
        connection_take_idle(attempt->destination, &attempt->policy, &events, NULL);

    if (!connection)
        return false;
    connection_set_owner(connection, connection);
    put_in(connection, attempt);
    attempt_on_reused(attempt);
    connection_enter(connection);
    turn(connection);
    connection_exit(connection);
    return true;
}

void flight_join(struct attempt *attempt)
{
    struct destination *destination = attempt->destination;
    struct connection *connection = find(destination, attempt->work);

    CHECK(connection);
    put_in(connection, attempt);
    /* The next one is offered to another first. */
    list_remove(&destination->flights, &connection->flight.link);
    list_push_back(&destination->flights, &connection->flight.link);
    attempt_on_reused(attempt);
    destination->deliver->statistics.messages_reused_connection++;
    connection_enter(connection);
    turn(connection);
    connection_exit(connection);
}
