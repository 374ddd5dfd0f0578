/* The events of this room, in one place so that fields keep their names. */
#ifndef SMTPD_RECEIVE_JOURNAL_H
#define SMTPD_RECEIVE_JOURNAL_H

#include "session.h"

void journal_connected(const struct session *session);
void journal_disconnected(const struct session *session, const char *reason);
void journal_refused(const struct receive_listener *listener, const struct ip *peer,
                     const struct reply *reply, const char *rule);
void journal_screened(const struct session *session); /* what the DNS says */
void journal_helo(const struct session *session);
/* A command or message that got 4xx or 5xx: the reply is the rule that fired. */
void journal_rejected(const struct session *session, const struct reply *reply);
void journal_accepted(const struct session *session);
void journal_auth_ok(const struct session *session, const char *user,
                     const char *mechanism);
/* The client hears none of the reasons: "password", "network", "locked out". */
void journal_auth_failed(const struct session *session, const char *user,
                         const char *mechanism, const char *reason);

#endif
