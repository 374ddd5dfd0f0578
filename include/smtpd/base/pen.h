/* Short text put together in memory of the caller, piece by piece.
 *
 * Promises  the text always ends with a NUL within its memory; what does not fit is cut off,
 *           as snprintf() does. No format strings and no locale: reading the formats of log
 *           lines and replies took a quarter of the relay's own instructions.
 */
#ifndef SMTPD_BASE_PEN_H
#define SMTPD_BASE_PEN_H

#include "smtpd/base/bytes.h"

struct pen {
    char *at;  /* where the next byte goes; a NUL stands there */
    char *end; /* the last byte, which stays a NUL */
};

struct pen pen_on(char *memory, size_t bytes); /* bytes > 0 */
void pen_slice(struct pen *pen, struct slice text);
void pen_text(struct pen *pen, const char *text);
void pen_byte(struct pen *pen, char byte);
void pen_number(struct pen *pen, uint64_t value);
/* With zeros in front, up to `width` (at most 20) digits. */
void pen_padded(struct pen *pen, uint64_t value, unsigned width);

#endif
