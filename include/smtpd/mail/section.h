/* Where the header section ends, while the message still comes in.
 *
 * Promises  pure; any split of the same bytes finds the same end; each byte is looked at
 *           once.
 * Ignores   what the fields mean: see header.h.
 */
#ifndef SMTPD_MAIL_SECTION_H
#define SMTPD_MAIL_SECTION_H

#include "smtpd/base/bytes.h"

enum section_end {
    SECTION_OPEN,       /* not yet seen */
    SECTION_EMPTY_LINE, /* `length` includes the empty line */
    SECTION_BODY_LINE   /* a line that is no field stands behind `length`: the body begins
                         * there, and the section lacks its empty line */
};

struct section {
    size_t scanned; /* whole lines already judged */
    bool has_field;
};

void section_init(struct section *section);
/* `text` is everything from the first byte of the message on: longer at each call. */
enum section_end section_find(struct section *section, struct slice text, size_t *length);

#endif
