/* Messages between machines: one file for each, in a folder (docs/moving.md).
 *
 * Promises  a message is in the queue or in a whole, synced file, at no moment in neither. A crash
 *           leaves it in both; the same call again makes it one. A file that is torn, broken or
 *           of another queue's message is never written over and never removed.
 * Ignores   how files get from one machine to the other.
 */
#ifndef SMTPD_QUEUE_MOVING_H
#define SMTPD_QUEUE_MOVING_H

#include "smtpd/queue/queue.h"
#include "smtpd/queue/selection.h"

struct export_counts { /* of messages */
    size_t exported;
    size_t busy; /* an attempt is running */
    size_t gone;
    size_t failed;
    uint64_t bytes;
};
/* One that was not exported, and why. */
typedef void export_failed_fn(void *owner, uint64_t id, const char *why);
/* Anything but RESULT_OK: it ended early, the fault says why; what `counts` has is done. */
typedef void exported_fn(void *owner, enum result result,
                         const struct export_counts *counts, const struct fault *fault);
struct queue_export {
    const char *directory; /* made if its parent is there; copied */
    const uint64_t *ids;   /* copied */
    size_t count;
    export_failed_fn *on_failed;
    exported_fn *on_end;
    void *owner;
};
/* From the loop, which never waits: files are the pool's. The completion rule holds. */
void queue_export_start(struct queue *queue, const struct queue_export *wanted);

/* ---- without a server: these block, and take the folder's lock ---- */

/* `ids` NULL: what the selection fits. RESULT_BUSY: a server runs. With `is_dry_run` it counts
 * in `matched` and stops there. */
struct offline_export {
    const struct queue_settings *settings;
    const char *directory;
    const uint64_t *ids;
    size_t id_count;
    const struct selection *selection;
    bool is_dry_run;
    void (*on_matched)(void *owner, size_t messages);
    export_failed_fn *on_failed;
    void *owner;
};
enum result MUST_CHECK queue_export_offline(const struct offline_export *wanted,
                                            struct export_counts *counts,
                                            struct fault *fault);

struct import_counts { /* of files */
    size_t imported;
    size_t known; /* imported by an earlier try: removed now */
    size_t failed;
    uint64_t bytes;
};
typedef void import_failed_fn(void *owner, const char *name, const char *why);
struct queue_import {
    const struct queue_settings *settings;
    const char *directory;
    const char
        *server_user; /* who must be able to open the queue; NULL: whoever runs this */
    import_failed_fn *on_failed;
    void *owner;
};
enum result MUST_CHECK queue_import(const struct queue_import *wanted,
                                    struct import_counts *counts, struct fault *fault);

#endif
