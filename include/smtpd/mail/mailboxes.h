/* The mailboxes of an address field (From:, Sender:): RFC 5322 3.4, groups and comments too.
 *
 * Promises  pure and linear. Strict: what readers of mail could understand in two ways (two
 *           addresses in one place, an @ in an unquoted name, blanks inside an address) is
 *           wrong, so that what was checked is what people see.
 * Ignores   names of mailboxes.
 */
#ifndef SMTPD_MAIL_MAILBOXES_H
#define SMTPD_MAIL_MAILBOXES_H

#include "smtpd/mail/address.h"

struct mailboxes {
    struct slice rest;
    bool is_wrong; /* the walk ended at something that is no address list */
    bool is_group; /* inside "name: a@b, c@d;" */
};

/* The value of a field: what stands behind its colon, folded lines and all. */
void mailboxes_init(struct mailboxes *walk, struct slice value);
/* The next mailbox; false at the end, and when is_wrong. */
bool mailboxes_next(struct mailboxes *walk, struct address *address);

#endif
