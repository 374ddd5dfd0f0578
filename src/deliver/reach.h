/* What an operator's command reaches: names -> lanes and destinations.
 *
 * Promises  a look at whether something is suspended costs nothing while nothing is.
 * Ignores   how it is kept: suspensions.h.
 */
#ifndef SMTPD_DELIVER_REACH_H
#define SMTPD_DELIVER_REACH_H

#include "inner.h"
#include "smtpd/deliver/destinations.h"
#include "suspensions.h"

/* The hosts, or the route: without the number of the [[destination]] block, which moves when the file
 * is edited. */
struct slice reach_name_of(const struct destination *destination);
/* A domain: its lanes are found otherwise. */
/* The name of its scope; "": none is known yet. */
const char *reach_scope_of(const struct destination *destination);
bool reach_has(const struct reached *reached, const struct destination *destination);
/* The operator's, that ends last; `lane` NULL: of the whole destination. NULL: none. */
const struct suspension_view *reach_suspension(const struct destination *destination,
                                               const struct lane *lane);
/* Of what may not be known yet: a lane's name, the hosts as in a destination's key, a scope's key;
 * each may be empty. */
const struct suspension_view *reach_suspension_of(const struct deliver *deliver,
                                                  const char *lane, struct slice hosts,
                                                  const char *scope);
/* The hosts, or the route, of a plan with this destination key. */
struct slice reach_hosts(const struct plan *plan, struct slice key);

struct rest {
    int64_t until_ms; /* wall */
    char text[FAULT_TEXT];
};
/* Is it suspended, by an operator or by what was answered there? */
bool reach_rests(struct destination *destination, const struct lane *lane,
                 struct rest *rest);

#endif
