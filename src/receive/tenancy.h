/* What a message says of its place among others: its tenant, and how urgent it is.
 *
 * Owns      a copy of the settings; immutable.
 * Promises  only who logged in is asked, and only who may names another tenant than himself.
 */
#ifndef SMTPD_RECEIVE_TENANCY_H
#define SMTPD_RECEIVE_TENANCY_H

#include "grants.h"

struct tenancy *tenancy_new(const struct tenancy_settings *settings);
void tenancy_free(struct tenancy *tenancy); /* NULL is fine */

/* The field that is taken out of the mail of who logged in; NULL: none. */
const char *tenancy_header(const struct tenancy *tenancy);

/* Puts tenant and priority into the envelope of the session's transaction, as its header section
 * says. False: the tenant is no name; `why` says so. */
bool tenancy_apply(struct session *session, struct slice section, char why[GRANTS_TEXT]);

#endif
