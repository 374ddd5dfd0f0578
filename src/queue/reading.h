/* Reads of the store on the file pool, one callback each.
 *
 * Promises  `run` runs on a pool thread with the store open, and touches only `input`;
 *           then `on_end` runs once on the loop. When the pool is full the read waits in
 *           line. After reading_cancel() `on_end` does not run, and `drop` frees the input
 *           in its time.
 */
#ifndef SMTPD_QUEUE_READING_H
#define SMTPD_QUEUE_READING_H

#include "smtpd/loop/offload.h"
#include "store.h"

struct reading;
struct reading_line; /* all reads of one queue */

typedef void reading_run_fn(struct store *store, void *input);

struct reading_kind {
    reading_run_fn *run;
    job_end_fn *on_end; /* gets `owner`; the input is then the owner's again */
    job_drop_fn *drop;
};

struct reading_line *reading_line_new(struct loop *loop, struct offload *offload,
                                      struct store *store);
void reading_line_free(struct reading_line *line); /* cancels what is left */
struct reading *reading_start(struct reading_line *line, const struct reading_kind *kind,
                              void *input, void *owner);
void reading_cancel(struct reading *reading);

#endif
