/* How many destinations rest after a fault of theirs, without a long walk on the loop. */
#ifndef SMTPD_DELIVER_RESTING_H
#define SMTPD_DELIVER_RESTING_H

#include "inner.h"

uint64_t resting_count(const struct deliver *deliver);
void resting_go_round(struct deliver *deliver); /* now and then */
void resting_forget(struct destination *destination);
void resting_stop(struct deliver *deliver);

#endif
