/* A destination that mail of a pool goes to: which of the pool's sources takes the next message.
 *
 *   destination "mx1>mx2@pool:P"  --member--> destination "mx1>mx2@A" (a path)
 *     (the ready queue)           --member--> destination "mx1>mx2@B"
 *
 * Owns      the members. Paths are destinations of their own, shared by the pools that have their source:
 *           with their back-off, their connections and their scope; they have no ready queue.
 * Promises  of the sources that can take one now each has its share by weight (smooth weighted round
 *           robin); one that cannot leaves its share to the others. Nothing goes by a source that is
 *           not of the pool. O(members), of which there are DELIVER_POOL_MEMBERS_MAX.
 * Ignores   whose mail it is.
 */
#ifndef SMTPD_DELIVER_POOL_H
#define SMTPD_DELIVER_POOL_H

#include "inner.h"
#include "source.h"

struct pool_member {
    struct link of_path; /* in path->users */
    struct link waiting; /* in source->waiting */
    struct destination *head;
    struct source *source;
    struct destination *path; /* NULL: nothing went there yet */
    struct scope_place place; /* of the head, in the scope of the path */
    unsigned weight;
    int64_t credit;
    unsigned plan_version; /* of the head's, that the path has a copy of */
    bool is_able;
};

struct pool_hold { /* none of its sources can take anything */
    enum why_kind why;
    int64_t until_ms; /* wall */
    enum deliver_class class;
    char text[FAULT_TEXT];
};

/* The pool of mail for this plan that asks for `asked` (or NULL); NULL: none. It may be one that there is
 * not. */
const char *pool_name(const struct plan_settings *settings, const struct plan *plan,
                      const char *asked);
/* NULL: none of that name. */
const struct deliver_pool *pool_find(const struct plan_settings *settings,
                                     const char *name);

/* Its members, by the settings in force. */
void pool_renew(struct destination *head);
void pool_fini(struct destination *destination); /* a head or a path */
/* False: the hold has when the first of those comes back that cannot (0: all can). */
bool pool_holds(struct destination *head, struct pool_hold *hold);
/* The path of the next message, which may start there now: its place there. NULL: none, and it is run
 * again when one may. */
struct scope_place *pool_choose(struct destination *head);
/* The same of a connection that takes one more behind others; NULL: none. */
struct scope_place *pool_choose_ridden(struct destination *head);
/* Of its own, or by each of its paths. */
void pool_each_place(struct destination *destination,
                     void (*each)(struct scope_place *place));
/* Could the next message start by another one now? */
bool pool_goes_elsewhere(const struct destination *head, const struct destination *path);
/* How long a lane rests that would wait so long for this path: another source may come back earlier. */
int64_t pool_rest_ms(struct destination *head, const struct destination *path,
                     int64_t wait_ms);
/* It went there. */
void pool_pay(struct destination *head, const struct destination *path);
/* How many more attempts might start. */
unsigned pool_slots(const struct destination *head);
/* All paths that can be used are on probation: nothing is read ahead. */
bool pool_is_judged(const struct destination *head);
void pool_wake_users(struct destination *path);         /* they are run again */
unsigned pool_running(const struct destination *head);  /* by all of its paths */
size_t pool_lane_count(const struct destination *path); /* that wait for it */

struct explain_source;
/* Its sources as they stand for these hosts: nothing is changed. Returns how many. */
size_t pool_explain(struct deliver *deliver, const char *pool, const struct plan *plan,
                    const char *key, struct explain_source *sources);

/* Has the source an address of a family of the host? Any host, if there is no source. */
bool pool_can_reach(const struct source *source, const struct plan_host *host);

#endif
