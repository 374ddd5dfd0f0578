/* AUTH (RFC 4954): PLAIN and LOGIN, from the command to the verdict. */
#ifndef SMTPD_RECEIVE_AUTH_DIALOGUE_H
#define SMTPD_RECEIVE_AUTH_DIALOGUE_H

#include "session.h"

void verb_auth(struct session *session, struct slice rest);
/* A line of the client in READ_AUTH. */
void auth_dialogue_line(struct session *session, struct slice line);
/* The line was too long, or held what no line may hold: `reply` says so and it is over. */
void auth_dialogue_fail(struct session *session, enum reply_name reply);
void auth_dialogue_end(struct session *session); /* wipes; cancels; nothing open is fine */

#endif
