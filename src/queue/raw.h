/* A queue file opened for reading only, without a store: for what looks at it from outside.
 *
 * Promises  nothing is written and nothing is made; the caller holds the folder's lock.
 */
#ifndef SMTPD_QUEUE_RAW_H
#define SMTPD_QUEUE_RAW_H

#include "store_inner.h"

enum raw_table {
    RAW_ENVELOPE,
    RAW_GROUP,
    RAW_BODY,
    RAW_DRAFT,
    RAW_IMPORT,
    RAW_META,
    RAW_TABLES
};
extern const char *const raw_table_names[RAW_TABLES];

struct raw {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi tables[RAW_TABLES];
    bool has[RAW_TABLES];
    uint64_t entries[RAW_TABLES];
    uint64_t page_bytes;
    uint64_t last_page;
    uint64_t used_pages; /* of all trees, with LMDB's own */
    uint64_t file_bytes; /* what the file system says */
};

/* RESULT_NOT_FOUND: there is no file; RESULT_CORRUPT: it is no queue, or its head is damaged;
 * RESULT_IO. raw_close() in any case. */
enum result MUST_CHECK raw_open(struct raw *raw, const char *path, struct fault *fault);
void raw_close(struct raw *raw);
/* False: it is not there, or no number. */
bool raw_meta(const struct raw *raw, const char *name, uint64_t *value);

#endif
