/* The file of what sources have sent of their warm-up: a text that is sealed (smtpd/base/sealed.h), a line
 * for each.
 *
 *   source mail-a 20786 3 450
 *   source mail-b 20786 3 450 20790
 *
 * Name, day (since 1970), which day of the schedule that was (from 0), and how many messages of it count
 * as sent; of one that is not in the settings also since which day it is not.
 *
 * Promises  pure. What is read is sound as a whole, or nothing of it is used.
 */
#ifndef SMTPD_DELIVER_WARM_UP_FILE_H
#define SMTPD_DELIVER_WARM_UP_FILE_H

#include "smtpd/base/sealed.h"
#include "smtpd/deliver/deliver.h"

enum { WARM_UP_KEPT_MAX = 4 * DELIVER_SOURCES_MAX, WARM_UP_FILE_MAX = 1 << 20 };

struct warm_up_line {
    char name[DELIVER_SOURCE_TEXT];
    int64_t day;
    uint32_t step;
    uint32_t used;
    int64_t gone_day; /* 0: it is in the settings */
};

enum result MUST_CHECK warm_up_file_begin(struct bytes *into, struct sealed *sealed);
enum result MUST_CHECK warm_up_file_add(struct bytes *into, struct sealed *sealed,
                                        const struct warm_up_line *line);
enum result MUST_CHECK warm_up_file_end(struct bytes *into, const struct sealed *sealed);

typedef void warm_up_file_fn(void *owner, const struct warm_up_line *line);
enum result MUST_CHECK warm_up_file_parse(struct slice text, warm_up_file_fn *each,
                                          void *owner, struct fault *fault);

#endif
