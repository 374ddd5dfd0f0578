/* The file of counts: a sealed text (smtpd/base/sealed.h), a line per window.
 *
 *   smtpd-limits 1
 *   user-messages newsletter 3600000 496205 17,0,3
 *   address-recipients 2001:db8:1:2:: 86400000 8270 4
 *   end 2 9f3c61b2a4d5e607
 *
 * Kind, subject, length of the window in ms, number of its running step (of 24) since 1970, and
 * the counts of that step and of those before it, without the zeros at the end.
 */
#ifndef SMTPD_POLICY_LIMITS_FILE_H
#define SMTPD_POLICY_LIMITS_FILE_H

#include "smtpd/base/sealed.h"
#include "smtpd/policy/limits.h"
#include "window.h"

enum { LIMITS_NAME = LIMIT_USER_NAME, LIMITS_FILE_MAX = 512 << 20 };

/* Of one user or address. */
struct limits_record {
    enum limits_kind kind;
    char name[LIMITS_NAME + 1];
    size_t window_count;
    struct window windows[QUOTAS_MAX];
};

enum result MUST_CHECK limits_file_begin(struct bytes *into, struct sealed *sealed);
enum result MUST_CHECK limits_file_add(struct bytes *into, struct sealed *sealed,
                                       const struct limits_record *record);
enum result MUST_CHECK limits_file_end(struct bytes *into, struct sealed *sealed);

/* A record of one window for each line, once the whole was found sound. Else nothing is called
 * and the fault says what is wrong. */
typedef void limits_record_fn(void *owner, const struct limits_record *record);
enum result MUST_CHECK limits_file_parse(struct slice text, limits_record_fn *each,
                                         void *owner, struct fault *fault);

#endif
