/* The message itself: from the queue's pieces to the socket, dots doubled where there are any and
 * DATA was said. A piece without them is not copied here. */
#include "attempt_inner.h"
#include "flight.h"
#include "smtpd/base/check.h"

void payload_close(struct attempt *attempt)
{
    if (attempt->body)
        body_reader_close(attempt->body);
    attempt->body = NULL;
}

static void fail_reading(struct attempt *attempt)
{
    /* Half a message must not end with a dot: nothing more is said there. */
    payload_close(attempt);
    flight_abandon(attempt);
    attempt_set_open(attempt, VERDICT_DEFERRED,
                     said_words(&attempt->arena, CLASS_OTHER, 451, "4.3.0",
                                "the message could not be read from the queue", NULL));
    attempt_finish(attempt);
}

/* While much of the end is unsent the patience is that of the data (RFC 5321 4.5.3.2.5): there is
 * nothing yet that the peer could answer; and the next transaction waits. */
void payload_end(struct attempt *attempt, struct slice last)
{
    struct slice end = attempt->is_chunked
                           ? SLICE_NONE
                           : framing_data_end(true); /* the queue keeps whole lines */

    attempt->is_in_body = false;
    attempt->dot_was_sent = true; /* from now on it may leave, whatever becomes of us */
    attempt->waits_for_drain =
        connection_send_both(attempt->connection, last, end) == RESULT_AGAIN;
    attempt->end_at = connection_written(attempt->connection);
    if (!attempt->is_chunked) /* it is over, whatever the answer is */
        connection_set_needs_reset(attempt->connection, false);
    transaction_await(attempt);
}

static enum result send_piece(struct attempt *attempt, struct slice piece)
{
    if (body_reader_left(attempt->body) > 0)
        return connection_send(attempt->connection, piece);
    payload_end(attempt, piece);
    payload_close(attempt); /* `piece` lived until here */
    return RESULT_OK;
}

static enum result send_stuffed(struct attempt *attempt, struct slice piece)
{
    struct bytes stuffed;
    enum result result;

    bytes_init(&stuffed, 2 * piece.length + 64);
    CHECK(framing_stuff(&attempt->stuffing, piece, &stuffed) == RESULT_OK);
    result = send_piece(attempt, bytes_view(&stuffed));
    bytes_fini(&stuffed);
    return result;
}

static void on_piece(void *owner, struct slice piece, enum result result)
{
    struct attempt *attempt = owner;
    bool is_stuffed = attempt->lease->envelope.has_dot_line && !attempt->is_chunked;
    enum result sent;

    if (result != RESULT_OK) {
        fail_reading(attempt);
        return;
    }
    transaction_await(attempt);
    sent = is_stuffed && piece.length > 0 ? send_stuffed(attempt, piece)
           : piece.length > 0             ? send_piece(attempt, piece)
                                          : RESULT_OK;
    if (piece.length == 0) {
        payload_close(attempt);
        payload_end(attempt, SLICE_NONE);
    }
    if (attempt->dot_was_sent) {
        if (!attempt->waits_for_drain)
            flight_written(attempt);
        return;
    }
    if (sent == RESULT_AGAIN)
        attempt->waits_for_drain = true;
    else
        body_reader_next(attempt->body, on_piece, attempt);
}

void payload_start(struct attempt *attempt)
{
    payload_close(attempt);
    attempt->body =
        body_reader_open_in_turn(attempt->deliver->rooms.queue, &attempt->lease->envelope);
    framing_stuffing_init(&attempt->stuffing);
    attempt->is_in_body = true;
    body_reader_next(attempt->body, on_piece, attempt);
}

void payload_on_drained(struct attempt *attempt)
{
    if (!attempt->waits_for_drain)
        return;
    attempt->waits_for_drain = false;
    transaction_await(attempt);
    if (attempt->dot_was_sent)
        flight_written(attempt);
    else
        body_reader_next(attempt->body, on_piece, attempt);
}
