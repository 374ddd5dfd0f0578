/* The users file in memory, and where a line of it ends and its fields begin. */
#ifndef SMTPD_POLICY_USERS_TABLE_H
#define SMTPD_POLICY_USERS_TABLE_H

#include "smtpd/base/bytes.h"
#include "smtpd/base/map.h"
#include "smtpd/policy/account.h"

enum { USERS_MAX = 1000000, USERS_FILE_BYTES_MAX = 256 << 20, USERS_PATH_MAX = 4096 };

/* What tells one version of the file from the next. */
struct users_stamp {
    uint64_t inode;
    uint64_t bytes;
    int64_t changed_s;
    int64_t changed_ns;
};
/* RESULT_NOT_FOUND, RESULT_IO. */
enum result MUST_CHECK users_stamp_read(const char *path, struct users_stamp *stamp);
bool users_stamp_equal(const struct users_stamp *a, const struct users_stamp *b);

struct users_line {
    struct slice name; /* empty: a comment or blank line */
    struct slice hash;
    struct slice rights; /* "key=value key=value", not looked at */
};
/* Takes a line off the front of *rest, gives it whole (with its line end) as `raw` and its
 * fields. false at the end. RESULT in *result: RESULT_INVALID for a line that is neither.
 */
bool users_next_line(struct slice *rest, struct slice *raw, struct users_line *line,
                     enum result *result);

/* Reads a whole file. */
#define USERS_LINE_WANTED                                                                  \
    "not \"name:hash\" or \"name:hash:key=value key=value\" as `smtpd user add` writes it"

enum result MUST_CHECK users_read(const char *path, struct bytes *text,
                                  struct fault *fault);

/* name -> struct account. All of the file or nothing; the fault names file and line. */
enum result MUST_CHECK users_table_load(const char *path, struct map **table,
                                        struct users_stamp *stamp, struct fault *fault);
void users_table_free(struct map *table); /* NULL is fine */

#endif
