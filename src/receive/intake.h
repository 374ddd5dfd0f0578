/* The data of a message: DATA and BDAT, from the 354 to the last byte.
 *
 * Promises  exactly one verdict per message: what goes wrong in the middle is kept until
 *           the end of the data (RFC 5321 4.2.5), while the rest is read and thrown away.
 */
#ifndef SMTPD_RECEIVE_INTAKE_H
#define SMTPD_RECEIVE_INTAKE_H

#include "session.h"

/* How much more than the limit a client may send before the connection ends. */
enum { INTAKE_EXCESS_BYTES = 10 << 20 };

/* 354, or the first BDAT: takes an id, writes the trace field. */
void intake_begin(struct session *session);
void intake_take(struct session *session, struct slice piece);
/* The final dot or the last chunk: commits, or says what was wrong. */
void intake_end(struct session *session);
/* A chunk of BDAT was read to its end; it may be of no transaction (session->has_chunk). */
void intake_end_chunk(struct session *session);

#endif
