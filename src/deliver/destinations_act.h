/* What commands on destinations do, and what the end of a suspension does without one. */
#ifndef SMTPD_DELIVER_DESTINATIONS_ACT_H
#define SMTPD_DELIVER_DESTINATIONS_ACT_H

#include "smtpd/deliver/destinations.h"

/* The lanes that rest because it was suspended look again. */
void act_wake_scope(struct deliver *deliver, const char *key);
suspension_view_fn act_on_suspension_ended; /* the owner is the deliver */
void acts_abort(struct deliver *deliver);

#endif
