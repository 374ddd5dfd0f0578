/* Local mailboxes: Maildir (tmp, fsync, rename into new, folder synced).
 *
 * Owns      nothing but its settings; all file work runs on the file pool.
 * Promises  file names are made of id and group, so that a repeat after a crash is not
 *           stored twice. The completion rule (docs/architecture.md).
 * Ignores   who may send here (policy/access).
 */
#ifndef SMTPD_LOCAL_LOCAL_H
#define SMTPD_LOCAL_LOCAL_H

#include "smtpd/queue/queue.h"

struct local_mailboxes { /* [[local]] */
    const char *domain;  /* normal */
    const char *maildir; /* "/var/mail/{domain}/{user}"; {domain} and {user} are replaced */
    const char *const *users; /* as in policy/access.h */
    size_t user_count;
};

struct local_settings {
    const char *hostname;
    const struct local_mailboxes *mailboxes;
    size_t mailbox_count;
};

struct local;
struct local *local_new(struct loop *loop, struct offload *offload);
void local_apply(struct local *local,
                 const struct local_settings *settings); /* deep copy */
void local_free(struct local *local);                    /* no callbacks any more */

typedef void local_end_fn(void *owner, const enum result *results, const char *text);
/* Stores one group. The signature is deliver_local_fn of deliver/deliver.h. `local` is a
 * struct local. A Return-Path and a Delivered-To field are put in front (RFC 5321 4.4). */
void local_deliver(void *local, struct queue *queue, const struct lease *lease,
                   local_end_fn *on_end, void *owner);

#endif
