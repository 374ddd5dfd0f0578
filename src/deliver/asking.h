/* Which lanes ask the DNS for their way: so many at once, the others in turn.
 *
 * Owns      the order of those that wait; at most LIMIT_DNS_ASKING_KNOWN ask at once.
 * Promises  a lane whose way was known goes before those that are new, and these before those whose
 *           look-up failed; each of the latter leaves places that only the former may take, so that
 *           names that nobody answers keep nobody from asking.
 * Ignores   answers that are in the cache: who has one does not come here.
 */
#ifndef SMTPD_DELIVER_ASKING_H
#define SMTPD_DELIVER_ASKING_H

#include "smtpd/base/list.h"
#include "smtpd/loop/loop.h"

struct deliver;
struct lane;

enum asking_rank { ASKING_KNOWN, ASKING_NEW, ASKING_FAILED, ASKING_RANKS };

struct asking {
    struct list waiting[ASKING_RANKS]; /* struct lane */
    unsigned running;
    struct deferred turn;
};

struct asking_place { /* of a lane */
    struct link link;
    enum asking_rank rank;
    bool is_taken;
};

void asking_init(struct deliver *deliver);
void asking_fini(struct deliver *deliver); /* the lanes are gone */
/* True: it asks now, or has a place already. False: lane_ask() is called when it is its turn. */
bool asking_start(struct lane *lane, enum asking_rank rank);
/* It asks no more, or waits no more; of others nothing is said. */
void asking_end(struct lane *lane);

#endif
