/* Lanes that are woken by "queue retry": those of one request behind those of another, some in each turn
 * of the loop. A lane may have as many domain queues as there are tenants.
 *
 * Promises  one that is gone meanwhile is no harm: wakes_forget().
 */
#ifndef SMTPD_DELIVER_WAKES_H
#define SMTPD_DELIVER_WAKES_H

#include "smtpd/base/list.h"
#include "smtpd/loop/loop.h"

struct deliver;
struct domain_queue;

enum {
    WAKES_A_TURN = 64
}; /* domain queues; a deferred round of it, of which a turn has some */

struct wakes {
    struct list waiting; /* struct deliver_wake: the first is under way */
    struct deferred turn;
    struct domain_queue *at;    /* the next of its lane; NULL: none was begun */
    struct domain_queue *first; /* where the walk over them ends */
};
void wakes_init(struct wakes *wakes);
void wakes_forget(struct deliver *deliver, const struct domain_queue *domain_queue);
void wakes_abort(struct deliver *deliver);

#endif
