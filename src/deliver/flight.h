/* Several transactions under way on one connection.
 *
 * Owns      which attempts are on a connection, in which order they speak, how many may.
 * Promises  a reply goes to the attempt that it answers; at the first one that does not fit all of
 *           them have an end: answered, answer lost, or untried and handed back.
 * Ignores   what is said about one message: transaction.c. */
#ifndef SMTPD_DELIVER_FLIGHT_H
#define SMTPD_DELIVER_FLIGHT_H

#include "connection.h"

/* ---- for the destination ---- */

/* Has any connection under way room for one more? */
bool flight_has_room(struct destination *destination);
/* Is there a connection under way that takes this one behind the others? Then attempt_start() with
 * work->is_rider set puts it there. */
bool flight_can_take(struct destination *destination, const struct work *work);

/* ---- for an attempt ---- */

/* It leads a new connection, or one that rested (false: there is none). */
void flight_open(struct attempt *attempt, const struct plan_host *host);
bool flight_take_idle(struct attempt *attempt);
/* Behind others; begun as soon as they have spoken. */
void flight_join(struct attempt *attempt);
/* All of its outcomes are known: the connection goes on, or rests. */
void flight_leave(struct attempt *attempt);
/* The host has said what became of its message. */
void flight_answered(struct attempt *attempt);
/* It has no end on this connection, which must not be used behind those who spoke before it. */
void flight_abandon(struct attempt *attempt);
/* A further transaction, behind those who wait. */
void flight_again(struct attempt *attempt);
/* Its last byte is handed over: the next may speak. */
void flight_written(struct attempt *attempt);
/* Only who is to be answered next is waited for. */
void flight_await(struct attempt *attempt, int64_t patience_ms, const char *stage);
/* A reply said that the connection is over, and answers this command. True: all of the message was
 * sent. The host may answer the rest. */
bool flight_goodbye(struct attempt *attempt, const struct fault *fault);
/* It is untried, and was answered. */
void flight_give_back(struct attempt *attempt);
/* The same behind the end of a message, whose answer it is. */
void flight_said_goodbye(struct attempt *attempt);
void flight_misfit(struct attempt *attempt, const struct fault *fault);

/* Others are before it, whose answers are not here yet. */
bool flight_is_behind(const struct attempt *attempt);
bool flight_is_ending(const struct attempt *attempt);
/* The body may follow before the answers to the recipients (RFC 3030 4.2). */
bool flight_may_chunk(const struct attempt *attempt);
/* It is to be found out what the host does with a chunk that it refuses. */
bool flight_wants_probe(const struct attempt *attempt);
void flight_probed(struct attempt *attempt);
void flight_chunks(struct attempt *attempt);
/* The chunk was taken, or refused as it should be. */
void flight_chunk_answered(struct attempt *attempt, bool is_taken);
/* Nothing is said ahead of an answer. */
bool flight_is_lock_step(const struct connection *connection);

/* ---- for the connection ---- */

void flight_init(struct connection *connection);
/* It spoke without being asked, behind chunks. */
void flight_spoke_idle(struct connection *connection, const char *text);

#endif
