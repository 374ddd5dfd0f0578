/* The users file, looked at every 10 s on the file pool and read when it changed.
 *
 * Promises  a file that cannot be read leaves the table in effect, and says so once per version
 *           of the file.
 */
#ifndef SMTPD_POLICY_USERS_WATCH_H
#define SMTPD_POLICY_USERS_WATCH_H

#include "smtpd/loop/offload.h"
#include "users_table.h"

/* The table is the callback's. */
typedef void users_watch_fn(void *owner, struct map *table);
struct users_watch_calls {
    users_watch_fn *on_table;
    users_watch_fn *on_unwanted; /* read when the path was another one; to be freed */
    void *owner;
};

struct users_watch *users_watch_new(struct loop *loop, struct offload *offload,
                                    const struct users_watch_calls *calls);
void users_watch_free(struct users_watch *watch);
/* What was read already by other means; NULL: nothing. */
void users_watch_knows(struct users_watch *watch, const struct users_stamp *stamp);
void users_watch_follow(struct users_watch *watch, const char *path); /* NULL: nothing */

#endif
