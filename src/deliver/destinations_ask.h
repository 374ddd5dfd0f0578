/* What waits for each destination: counted over all domain queues, and chosen among all destinations, a
 * portion each turn, for whoever asks meanwhile. */
#ifndef SMTPD_DELIVER_DESTINATIONS_ASK_H
#define SMTPD_DELIVER_DESTINATIONS_ASK_H

#include "scope.h"
#include "smtpd/deliver/destinations.h"

struct census;
struct census *census_new(struct deliver *deliver);
void census_free(struct census *census); /* who still asks is told nothing */
/* It moves to the end of all destinations. */
void census_pass(struct census *census, const struct destination *destination);
void census_forget(struct census *census, const struct destination *destination);

enum { PACES_TOLD = 64 };
struct pace_view scope_view(struct scope *scope);

#endif
