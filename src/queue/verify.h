/* What the files of `verify` share. */
#ifndef SMTPD_QUEUE_VERIFY_H
#define SMTPD_QUEUE_VERIFY_H

#include "raw.h"
#include "record.h"
#include "smtpd/queue/repair.h"

enum { VERIFY_TEXT = 512 };

/* One table, record by record in order of id. */
struct walk {
    enum raw_table table;
    MDB_cursor *cursor; /* NULL: there is no such table */
    MDB_val key;
    MDB_val data;
    uint64_t id;
    bool is_over;
};

struct verify {
    const struct verify_wanted *wanted;
    struct verify_numbers *numbers;
    struct raw raw;
    struct walk walks[RAW_IMPORT]; /* envelope, group, body, draft */
    uint64_t chunk_bytes;
    uint64_t id_limit;
};

/* `record` may be NULL. */
void verify_tell(struct verify *verify, const char *rule, const char *table,
                 const char *record, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Of a message: "ID", with `mark` and `number` behind it unless mark is 0. */
struct verify_place {
    enum raw_table table;
    uint64_t id;
    char mark;
    uint32_t number;
};
void verify_tell_at(struct verify *verify, const char *rule,
                    const struct verify_place *place, const char *text);
/* The walk's next record with a proper key. */
void verify_next(struct verify *verify, enum raw_table table);

/* verify_pages.c: each page is in one tree, or free, once. False: the rest of the file cannot
 * be read. */
bool verify_pages(struct verify *verify);

/* verify_message.c: everything that the tables hold of this id, from where the walks stand;
 * they end behind it. */
void verify_message(struct verify *verify, uint64_t id);

#endif
