/* How many in how long: "1000/h", "10/m", "20/10m".
 *
 * Promises  pure; what parses prints again to the same meaning, in its shortest form.
 * Ignores   what is counted, and how: see policy/limits.h.
 */
#ifndef SMTPD_BASE_QUOTA_H
#define SMTPD_BASE_QUOTA_H

#include "smtpd/base/bytes.h"

enum {
    QUOTA_TEXT = 64,
    QUOTAS_MAX = 4 /* windows at once */
};

struct quota {
    uint32_t count;
    int64_t window_ms;
};

/* Several windows at once: all of them hold. */
struct quotas {
    size_t count; /* 0: no limit */
    struct quota items[QUOTAS_MAX];
};

/* A number of at least 1, a slash, and "s", "m", "h", "d" or a duration from 1s to 31d. */
enum result MUST_CHECK quota_parse(struct slice text, struct quota *quota);
void quota_print(const struct quota *quota, char text[QUOTA_TEXT]);
/* "10/m,1000/h": between 1 and QUOTAS_MAX, each window once. */
enum result MUST_CHECK quotas_parse(struct slice text, struct quotas *quotas);
/* Copies the first QUOTAS_MAX items. */
void quotas_set(struct quotas *quotas, const struct quota *items, size_t count);

#endif
