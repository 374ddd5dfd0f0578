/* What operators suspended: at most SUSPENSIONS_MAX domains, destinations and scopes.
 *
 * Owns      the list, in the order of their ends, and the file.
 * Promises  a change holds at once; who asks is told once it is on the disk. The whole file is
 *           written, one write at a time. What is over is forgotten, with an event. A file that is
 *           not sound is named in the log, put aside as suspensions.damaged, and nothing is suspended.
 * Ignores   whom it stops: reach.h.
 */
#ifndef SMTPD_DELIVER_SUSPENSIONS_H
#define SMTPD_DELIVER_SUSPENSIONS_H

#include "smtpd/base/list.h"
#include "smtpd/deliver/destinations.h"
#include "smtpd/loop/offload.h"

struct suspensions;
/* `path` NULL: nothing is kept. `on_ended`: the time of one was over. */
struct suspensions *suspensions_new(struct loop *loop, struct offload *offload,
                                    const char *path, suspension_view_fn *on_ended,
                                    void *owner);
void suspensions_free(struct suspensions *suspensions);

/* NULL: there is none, or it is over. Of a kind that has none it costs nothing. */
const struct suspension_view *suspensions_find(const struct suspensions *suspensions,
                                               enum reach reach, struct slice name);
size_t suspensions_count(const struct suspensions *suspensions, enum reach reach);
void suspensions_each(const struct suspensions *suspensions, suspension_view_fn *each,
                      void *owner);

/* Copies; replaces that of the name. RESULT_BUSY: there are too many. */
enum result MUST_CHECK suspensions_set(struct suspensions *suspensions,
                                       const struct suspension_view *view);
bool suspensions_remove(struct suspensions *suspensions, enum reach reach,
                        const char *name);

/* Runs, from the loop, once what was changed until now is on the disk, or cannot be put there. */
struct suspensions_wait {
    struct link link;
    unsigned change;
    void (*on_end)(void *owner, bool is_kept);
    void *owner;
};
void suspensions_wait_start(struct suspensions *suspensions, struct suspensions_wait *wait,
                            void (*on_end)(void *owner, bool is_kept), void *owner);
void suspensions_wait_cancel(struct suspensions *suspensions,
                             struct suspensions_wait *wait);

#endif
