/* Who a message says that it is from.
 *
 * Promises  pure and linear, whatever the field holds.
 */
#ifndef SMTPD_MAIL_AUTHOR_H
#define SMTPD_MAIL_AUTHOR_H

#include "smtpd/mail/address.h"

/* The normal domain of the first mailbox in the first From field of a header section
 * (RFC 5322 3.6.2, with display names, comments, groups and routes). false: there is none
 * that is a domain. */
bool author_domain(struct slice section, char normal[DOMAIN_TEXT]);

#endif
