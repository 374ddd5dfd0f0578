/* Two ways to hold bytes: a borrowed view and a growing buffer with a ceiling.
 *
 * Promises  a buffer never passes its ceiling: the call that would says RESULT_TOO_LARGE
 *           and changes nothing.
 * Ignores   character sets; only ASCII case is folded.
 */
#ifndef SMTPD_BASE_BYTES_H
#define SMTPD_BASE_BYTES_H

#include "smtpd/base/result.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed: lives as long as what it looks at. Not NUL-terminated. */
struct slice {
    const char *data;
    size_t length;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
#define SLICE_NONE ((struct slice){NULL, 0})

struct slice slice_of(const char *text); /* NULL gives SLICE_NONE */
bool slice_equal(struct slice a, struct slice b);
bool slice_equal_text(struct slice a, const char *text);
bool slice_equal_fold(struct slice a, struct slice b); /* ASCII case folded */
bool slice_equal_text_fold(struct slice a, const char *text);
bool slice_starts_fold(struct slice a, const char *prefix);
bool slice_ends_fold(struct slice a, const char *suffix);
struct slice slice_from(struct slice a, size_t offset); /* offset <= length */
struct slice slice_part(struct slice a, size_t offset, size_t length);
struct slice slice_trim(struct slice a); /* blanks and tabs at both ends */
bool slice_has_8bit(struct slice a);     /* a byte above 127 */
/* Index of the first `byte`, or a.length. */
size_t slice_find(struct slice a, char byte);
/* Takes the next word up to blanks off the front of *rest; empty at the end. */
struct slice slice_next_word(struct slice *rest);
/* Decimal digits only, no sign; RESULT_INVALID, or RESULT_TOO_LARGE above `most`. */
enum result MUST_CHECK slice_to_u64(struct slice a, uint64_t most, uint64_t *value);
/* Copies into `into` with a NUL; false (and an empty text) if it does not fit or holds a
 * NUL. */
bool slice_copy_text(struct slice a, char *into, size_t into_bytes);
/* Copies the start that fits, with a NUL; no half of a character in UTF-8 is left at its end. */
void slice_copy_start(struct slice a, char *into, size_t into_bytes);
char *slice_to_text(struct slice a); /* on the heap, NUL-terminated */

struct bytes {
    char *data;
    size_t length;
    size_t capacity;
    size_t ceiling;
};

void bytes_init(struct bytes *bytes, size_t ceiling); /* allocates nothing */
void bytes_fini(struct bytes *bytes);
struct slice bytes_view(const struct bytes *bytes);
enum result MUST_CHECK bytes_add(struct bytes *bytes, struct slice more);
enum result MUST_CHECK bytes_add_text(struct bytes *bytes, const char *text);
enum result MUST_CHECK bytes_format(struct bytes *bytes, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Room for `bytes` more; the caller writes there, then adds to length. NULL above the
 * ceiling. */
char *bytes_reserve(struct bytes *bytes, size_t more);
void bytes_drop_front(struct bytes *bytes, size_t count);
void bytes_clear(struct bytes *bytes);   /* keeps the memory */
void bytes_release(struct bytes *bytes); /* gives the memory back, keeps the ceiling */

/* Base64 (RFC 4648 4): strict, padding required. */
enum result MUST_CHECK bytes_add_base64(struct bytes *bytes, struct slice plain);
enum result MUST_CHECK bytes_add_base64_decoded(struct bytes *bytes, struct slice encoded);

#endif
