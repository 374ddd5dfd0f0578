/* Several transactions under way on one connection: docs/delivery-engine.md, "One flight for each
 * message".
 *
 *   attempts:  [front] ........ [writer] [waits]
 *              is answered next  speaks   begins when the writer has handed over its end
 */
#include "flight.h"

#include "flight_inner.h"

#include "smtpd/base/check.h"

enum { GOODBYE_MS = 5000 };

static void go_on(struct connection *connection);

/* ---- who is in it ---- */

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
    flight->bytes += flight_size(attempt->lease);
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
    flight->bytes -= flight_size(attempt->lease);
    if (flight->writer == attempt)
        flight->writer = NULL;
    if (flight->attempts.count > 0) {
        connection->destination->riding--;
        pacing_rides(flight_front(flight), false);
    } else {
        list_remove(&connection->destination->flights, &flight->link);
    }
    timer_cancel(&attempt->pause);
    payload_close(attempt); /* or its next piece would go to another connection */
    attempt->is_in_body = false;
    attempt->connection = NULL;
    attempt->is_ready = false;
    return connection;
}

/* ---- turns ---- */

/* Who has not begun stands at the end. */
static struct attempt *first_unbegun(const struct flight *flight)
{
    struct attempt *found = NULL;

    for (struct link *link = flight->attempts.head.prev; link != &flight->attempts.head;
         link = link->prev) {
        if (flight_is_begun(flight_of_link(link)))
            break;
        found = flight_of_link(link);
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

    while (flight->attempts.count > 0 && !flight_last(flight)->dot_was_sent)
        hand_back(flight_last(flight));
    if (flight->attempts.count == 0)
        connection_close(connection, false);
    else if (flight->has_said_goodbye)
        await_goodbye(connection);
    else
        transaction_await(flight_front(flight));
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
        transaction_await(flight_front(flight));
        turn(connection);
    }
    connection_exit(connection);
}

void flight_leave(struct attempt *attempt)
{
    go_on(take_out(attempt));
}

static void go_on_later(void *owner)
{
    go_on(owner);
}

void flight_abandon(struct attempt *attempt)
{
    bool was_begun = flight_is_begun(attempt);
    struct connection *connection = take_out(attempt);

    if (connection->flight.attempts.count == 0) {
        connection_close(connection, false);
        return;
    }
    if (was_begun)
        connection->flight.is_ending = true;
    if (connection->deliver->is_draining) /* who drains walks along all attempts */
        loop_defer(connection->deliver->rooms.loop, &connection->flight.later, go_on_later,
                   connection);
    else
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
    const struct flight *flight = &attempt->connection->flight;

    /* Behind a goodbye its own time holds, whatever still drains: end(). */
    if (flight_front(flight) == attempt && !flight->has_said_goodbye)
        connection_await(attempt->connection, patience_ms, stage);
}

bool flight_is_behind(const struct attempt *attempt)
{
    return flight_front(&attempt->connection->flight) != attempt;
}

bool flight_is_ending(const struct attempt *attempt)
{
    return attempt->connection->flight.is_ending;
}

/* ---- a connection that ends ---- */

/* It rested, and has answered nothing since: the other side had closed it. Not so behind silence. */
static bool was_closed_before(const struct flight *flight, const struct fault *fault)
{
    return flight->is_unheard && fault->code != RESULT_TIMEOUT &&
           fault->code != RESULT_INVALID;
}

/* Once: from then on it goes by DATA, whose end never leaves unheard. */
static void forget_end(struct attempt *attempt)
{
    attempt->work->was_unheard |= attempt->dot_was_sent;
    attempt->dot_was_sent = false;
}

/* The answer of who comes last is lost when its end was handed over: it may come twice. Behind a 421
 * nothing was looked at, and nothing where nobody was. */
static void break_last(struct flight *flight, const struct fault *fault)
{
    struct attempt *attempt = flight_last(flight);

    attempt->fault = *fault;
    attempt->fault_class = connection_fault_class(attempt->connection);
    if (was_closed_before(flight, fault))
        forget_end(attempt);
    if (!attempt->dot_was_sent || flight->has_said_goodbye)
        hand_back(attempt);
    else
        attempt_finish(attempt);
}

static void break_all(struct connection *connection, const struct fault *fault)
{
    struct flight *flight = &connection->flight;
    struct attempt *front = flight_front(flight);
    bool is_answered =
        flight->has_said_goodbye && front->is_turned_away && front->mail_is_ok;
    bool was_closed = was_closed_before(flight, fault);
    bool has_front = was_closed ? !connection->deliver->is_draining
                                : !flight->has_said_goodbye || is_answered;

    connection_enter(connection);
    flight->is_ending = flight->is_breaking = true;
    while (flight->attempts.count > has_front)
        break_last(flight, fault);
    if (flight->attempts.count == 0) {
        connection_close(connection, false);
    } else {
        if (was_closed)
            forget_end(front);
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
    const struct attempt *front = flight_front(flight);

    if (fault->code == RESULT_INVALID)
        return flight->has_chunked || flight->attempts.count > 1;
    return fault->code == RESULT_TIMEOUT && front->sent > front->got + 1 &&
           (front->got > 0 || front->runs_ahead);
}

static void on_broken(void *owner, const struct fault *fault)
{
    struct connection *connection = owner;

    flight_note_end_at_probe(flight_front(&connection->flight));
    if (may_have_lost(connection, fault))
        flight_mark(connection, fault->text);
    if (fault->code == RESULT_TIMEOUT || fault->code == RESULT_INVALID)
        connection->flight.has_said_goodbye = false;
    break_all(connection, fault);
}

void flight_misfit(struct attempt *attempt, const struct fault *fault)
{
    struct connection *connection = attempt->connection;

    if (attempt->runs_ahead || connection->flight.attempts.count > 1)
        flight_mark(connection, fault->text);
    break_all(connection, fault);
}

void flight_said_goodbye(struct attempt *attempt)
{
    struct flight *flight = &attempt->connection->flight;

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
    struct flight *flight = &attempt->connection->flight;

    flight_note_end_at_probe(attempt);
    if (attempt->dot_was_sent) { /* by a chunk: who goes on takes it */
        flight->is_ending = flight->has_said_goodbye = true;
        attempt_note_fault(attempt, fault);
        await_goodbye(attempt->connection);
        return true;
    }
    if (flight->attempts.count == 1) {
        attempt_broken(attempt, fault);
        return false;
    }
    flight->is_ending = flight->has_said_goodbye = true;
    attempt_note_fault(attempt, fault);
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
    attempt_on_ready(flight_front(&connection->flight));
    turn(connection);
    connection_exit(connection);
}

static void on_reply(void *owner, const struct reply *reply)
{
    struct connection *connection = owner;
    struct flight *flight = &connection->flight;

    flight->is_unheard = false;
    flight->has_said_goodbye = false; /* it goes on all the same: these are answers again */
    transaction_on_reply(flight_front(flight), reply);
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
    connection->begins_anew = attempt->goes_again;
    put_in(connection, attempt);
}

bool flight_take_idle(struct attempt *attempt)
{
    struct connection *connection =
        connection_take_idle(attempt->destination, &attempt->policy, &events, NULL);

    if (!connection)
        return false;
    connection_set_owner(connection, connection);
    connection->flight.is_unheard = true;
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
    struct connection *connection = flight_find(destination, attempt->work);

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
