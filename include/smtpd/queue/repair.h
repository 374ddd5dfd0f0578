/* A queue file while no server runs: is it whole, and a copy of it without holes.
 *
 * Owns      nothing beyond a call. All of it blocks: for commands, never on the loop.
 * Promises  verify writes nothing but the process id into the file `lock`. compact leaves the
 *           old file or the new one, whole, wherever it is cut off.
 * Ignores   how it is shown.
 */
#ifndef SMTPD_QUEUE_REPAIR_H
#define SMTPD_QUEUE_REPAIR_H

#include "smtpd/base/result.h"

#include <stdbool.h>
#include <stdint.h>

/* A broken rule. The texts live during the call. */
struct verify_finding {
    const char *rule;   /* one word of docs/repair.md */
    const char *table;  /* or "file" */
    const char *record; /* "ID", "ID/GROUP", "ID+CHUNK", a name, "page N"; "" */
    const char *text;   /* what was found, for people */
};
typedef void verify_finding_fn(void *owner, const struct verify_finding *finding);

struct verify_numbers {
    uint64_t format;
    uint64_t messages;
    uint64_t groups;
    uint64_t recipients;
    uint64_t chunks;
    uint64_t body_bytes; /* of header sections too */
    uint64_t drafts;     /* of a dead process; the next start removes them */
    uint64_t imports;
    uint64_t pages;
    uint64_t free_pages;
    uint64_t page_bytes;
    uint64_t findings;
    uint64_t all; /* messages, as the file counts them: for progress */
};

struct verify_wanted {
    const char *folder;
    int64_t now_ms;
    verify_finding_fn *on_finding;
    void (*on_progress)(void *owner); /* now and then; NULL: never */
    void *owner;
    /* The caller's, filled as it goes on: also when this process dies of a damaged page. */
    struct verify_numbers *numbers;
};
/* RESULT_OK: all of it was looked at, see findings. RESULT_BUSY: a server holds the folder;
 * RESULT_NOT_FOUND: there is no queue; RESULT_INVALID: of a newer format; RESULT_IO. */
enum result MUST_CHECK queue_verify(const struct verify_wanted *wanted,
                                    struct fault *fault);

struct compact_numbers {
    uint64_t bytes_before;
    uint64_t bytes_after;
    uint64_t records; /* of all tables */
};
/* RESULT_NO_SPACE: no room for the copy; nothing was begun. */
enum result MUST_CHECK queue_compact(const char *folder, struct compact_numbers *numbers,
                                     struct fault *fault);

#endif
