/* Paces and suspensions as JSON: of the listing of destinations, and of `smtpd explain`. */
#ifndef SMTPD_ADMIN_DESTINATION_JSON_H
#define SMTPD_ADMIN_DESTINATION_JSON_H

#include "request.h"
#include "smtpd/deliver/destinations.h"

json_t *paces_json(const struct pace_view *paces, size_t count);
json_t *suspension_json(const struct suspension_view *view); /* NULL: null */
json_t *rate_json(const struct quota *quota);                /* "500/m"; none: null */
json_t *text_or_null(const char *text);

#endif
