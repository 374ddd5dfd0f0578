/* What paces have learned, kept over restarts: data_dir/paces.
 *
 * Owns      the list of scopes whose pace is worth keeping, the file, the job that writes it.
 * Promises  written at most every 5 s, after a change, by the file pool, beside and renamed; the
 *           loop only formats, a portion each turn. PACES_KEPT_MAX scopes at most: the longest
 *           unchanged goes. What is older than a week is not read, unless it is suspended, or
 *           bounces, still. A file that is not sound is named in the log, and the paces begin
 *           anew.
 */
#ifndef SMTPD_DELIVER_KEEPER_H
#define SMTPD_DELIVER_KEEPER_H

#include "paces_file.h"
#include "smtpd/loop/offload.h"

struct keeper;
struct kept { /* in who has a pace */
    struct link link;
    const struct pace *pace;
    unsigned round; /* the last one that wrote it */
};

struct keeper *keeper_new(struct loop *loop, struct offload *offload, const char *path);
/* Reads the file (blocking, at the start): `each` for what is not too old. */
void keeper_load(struct keeper *keeper, paces_file_fn *each, void *owner);
void keeper_note(struct keeper *keeper, struct kept *kept); /* it was changed */
/* Adds one that was read. */
void keeper_add(struct keeper *keeper, struct kept *kept);
void keeper_forget(struct keeper *keeper, struct kept *kept);
/* Writes what was changed, now (blocking: nobody waits for the loop any more). */
void keeper_free(struct keeper *keeper);

#endif
