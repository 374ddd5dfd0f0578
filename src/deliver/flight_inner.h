/* The inside of a flight: flight.c has the row and its turns, window.c how long the row may be. */
#ifndef SMTPD_DELIVER_FLIGHT_INNER_H
#define SMTPD_DELIVER_FLIGHT_INNER_H

#include "attempt_inner.h"
#include "connection_inner.h"
#include "flight.h"

enum { WINDOW_FIRST = 2 };

static inline struct attempt *flight_of_link(struct link *link)
{
    return CONTAINER_OF(link, struct attempt, in_flight);
}

static inline struct attempt *flight_front(const struct flight *flight)
{
    return flight_of_link(list_first(&flight->attempts));
}

static inline struct attempt *flight_last(const struct flight *flight)
{
    return flight_of_link(flight->attempts.head.prev);
}

static inline bool flight_is_begun(const struct attempt *attempt)
{
    return attempt->sent > 0;
}

static inline uint64_t flight_size(const struct lease *lease)
{
    return lease->envelope.header_bytes + lease->envelope.body_bytes;
}

/* window.c */
/* One that takes this message now; NULL: there is none. */
struct connection *flight_find(struct destination *destination, const struct work *work);
/* Nothing is said ahead of an answer to that host, for a day. */
void flight_mark(struct connection *connection, const char *text);
void flight_note_end_at_probe(const struct attempt *attempt);

#endif
