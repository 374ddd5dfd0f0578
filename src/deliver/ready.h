/* A destination's ready queue: what is due, and what of it is in memory.
 *
 * Owns      the lanes that may have due work, the groups that were read, whose turn it is.
 * Promises  what was read never decides the choice: each tenant's turn chooses among its own, and
 *           reads that tenant's next group if none is in memory. At most LIMIT_READY_GROUPS are read
 *           ahead, LIMIT_READ_AHEAD_GROUPS by all destinations together (fewer by each from half of
 *           them on), and LIMIT_READY_TURNS because their turn came.
 * Ignores   limits and faults of the destination.
 */
#ifndef SMTPD_DELIVER_READY_H
#define SMTPD_DELIVER_READY_H

#include "smtpd/base/list.h"
#include "turns.h"

struct deliver;
struct destination;
struct lane;
struct plan_settings;
struct work;

struct ready {
    struct list lanes;     /* struct lane: those that may have due work */
    struct list works;     /* struct work: in memory, until their turn */
    struct list chosen;    /* struct work: their turn came before they were in memory */
    struct turns ahead;    /* lanes: whose next group is read ahead */
    struct turns starting; /* lanes: which one starts its next group */
    unsigned loading;      /* groups that are being read, all */
    unsigned choosing;     /* of these, those whose turn has come */
};

void ready_init(struct ready *ready);
void ready_fini(struct ready *ready);
bool ready_is_empty(const struct ready *ready); /* and nothing is being read */

/* A lane that is in one already is fine. */
void ready_join(struct destination *destination, struct lane *lane);
void ready_leave(struct ready *ready, struct lane *lane);

/* Reads ahead until so many are in memory or on their way. */
void ready_fill(struct destination *destination, size_t most);
/* Is there anything to choose from? */
bool ready_waits(struct ready *ready);
/* The next to start, which is the caller's. NULL: there is none, or it is being read, one for each of
 * the `slots` that are free: then the destination is run again. */
struct work *ready_take(struct destination *destination, size_t slots);

/* The next of this tenant only. `goes_on`: there may be more to take, of it or another one. */
struct work *ready_take_of(struct destination *destination,
                           const struct turns_tenant *tenant, bool *goes_on);
/* Of what its turn came for and was not taken yet, the first. False: there is nothing. */
bool ready_chosen_key(const struct ready *ready, struct turns_key *key);

/* It was not tried, or cannot go now: it is the next. */
void ready_put_back(struct ready *ready, struct work *work);

/* Leases in memory go back, of this lane only or (NULL) of all. */
void ready_release(struct ready *ready, const struct lane *lane);
/* A load was cancelled. */
void ready_forget_load(struct ready *ready, const struct work *work);
/* Weights of the settings that are new. */
void ready_reweigh(struct ready *ready, const struct plan_settings *settings);

#endif
