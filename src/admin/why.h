/* Why a group waits, in one word, in words for people, and until when. */
#ifndef SMTPD_ADMIN_WHY_H
#define SMTPD_ADMIN_WHY_H

#include "request.h"

const char *why_name(enum why_kind kind);
json_t *why_json(const struct admin_rooms *rooms, const struct envelope *envelope,
                 const struct group *group);
/* The end of a hold: what the operator said, or the expiry (wall). */
int64_t why_held_until(const struct admin_rooms *rooms, const struct envelope *envelope,
                       const struct group *group);

#endif
