/* What a message says of its place among others: its tenant, how urgent it is, and which of our addresses
 * it goes out by.
 *
 * Owns      a copy of the settings; immutable.
 * Promises  only who logged in is asked, and only who may names another tenant than himself, or a pool.
 */
#ifndef SMTPD_RECEIVE_TENANCY_H
#define SMTPD_RECEIVE_TENANCY_H

#include "grants.h"

struct tenancy *tenancy_new(const struct tenancy_settings *settings);
void tenancy_free(struct tenancy *tenancy); /* NULL is fine */

/* The fields that are taken out of the mail of who logged in. */
enum { TENANCY_HEADERS_MAX = 2 };
size_t tenancy_headers(const struct tenancy *tenancy,
                       const char *names[TENANCY_HEADERS_MAX]);

/* Puts tenant, priority and pool into the envelope of the session's transaction, as its header section
 * says. False: the tenant is no name, or the pool is none; `why` says so. */
bool tenancy_apply(struct session *session, struct slice section, char why[GRANTS_TEXT]);

#endif
