/* A region: many small allocations, one release. Used per session and per transaction.
 *
 * Promises  never more than its ceiling: arena_alloc returns NULL then, and the caller
 *           answers the peer (452 or 500). Out of heap aborts as in memory.h.
 */
#ifndef SMTPD_BASE_ARENA_H
#define SMTPD_BASE_ARENA_H

#include "smtpd/base/bytes.h"

struct arena {
    struct arena_block *blocks;
    size_t used_bytes;
    size_t ceiling_bytes;
};

void arena_init(struct arena *arena, size_t ceiling_bytes); /* allocates nothing */
void arena_clear(struct arena *arena);                      /* gives everything back */
void *arena_alloc(struct arena *arena,
                  size_t bytes); /* zeroed, aligned; NULL at the ceiling */
char *arena_text(struct arena *arena,
                 struct slice text); /* NUL-terminated copy; NULL at the ceiling */

#endif
