/* How much may be under way on a connection: what it has earned, and what is known of its host. */
#include "flight_inner.h"
#include "lack.h"
#include "smtpd/base/log.h"

enum {
    WINDOW_BYTES = 1 << 20,
    BEHIND_MOST_MS =
        1000,       /* that a message may wait behind others, as far as can be foreseen */
    LOOK_MOST = 16, /* connections that one message is offered to */
    REMEMBER_MS = 86400000
};

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

void flight_mark(struct connection *connection, const char *text)
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
        flight_mark(connection, text);
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
    return !attempt->work->was_unheard && knows_chunks(attempt->connection) &&
           refuses_chunks_well(attempt->connection) &&
           flight_size(attempt->lease) <= WINDOW_BYTES;
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
void flight_note_end_at_probe(const struct attempt *attempt)
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
    if (is_taken && flight_last(flight) == attempt)
        connection_set_needs_reset(attempt->connection, false);
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
           count < room_of(connection) && flight_is_begun(flight_last(flight)) &&
           is_quick(flight) &&
           connection->messages + count <
               destination_settings(connection->destination)->messages_per_connection;
}

static bool takes(const struct connection *connection, const struct work *work,
                  const struct tls_policy *policy)
{
    return has_room(connection) &&
           connection->flight.bytes + flight_size(work->lease) <= WINDOW_BYTES &&
           lack_of(work->lease, &connection->capabilities,
                   connection_is_trusted(connection, policy)) == LACK_NOTHING &&
           connection_satisfies(connection, policy);
}

struct connection *flight_find(struct destination *destination, const struct work *work)
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
    return flight_find(destination, work) != NULL;
}
