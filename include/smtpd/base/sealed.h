/* A text that shows whether it is whole: a heading, lines, how many they are and their sum.
 *
 *   smtpd-paces 1
 *   mx1.example.net>mx2.example.net - 1792000000000 3
 *   end 1 9f3c61b2a4d5e607
 *
 * Behind "end": the number of lines, and FNV-1a (64 bits) of every byte in front of this line. It
 * finds what a disk lost or tore; it is no defence against people.
 *
 * Promises  pure. What is read is sound as a whole, or nothing of it is used.
 * Ignores   what a line means; none begins with "end ".
 */
#ifndef SMTPD_BASE_SEALED_H
#define SMTPD_BASE_SEALED_H

#include "smtpd/base/bytes.h"

struct sealed { /* what the end will say */
    uint64_t hash;
    uint64_t lines;
};

/* ---- writing, in as many pieces as one likes ---- */

/* `heading` is a line without its end. */
enum result MUST_CHECK sealed_begin(struct sealed *sealed, const char *heading,
                                    struct bytes *into);
/* `lines` are whole ones that were written behind what was told before. */
void sealed_note(struct sealed *sealed, struct slice lines);
/* The same of one that began at `start` and has all of its words: its end stands for the blank behind
 * the last one. */
void sealed_end_line(struct sealed *sealed, struct bytes *into, size_t start);
enum result MUST_CHECK sealed_end(const struct sealed *sealed, struct bytes *into);

/* A word of a line and a blank. "-" stands for the empty one; bytes that would break a line, or the
 * word, stand as %XX. */
enum result MUST_CHECK sealed_add_word(struct bytes *into, const char *word);

/* ---- reading ---- */

/* Called for each line twice: to judge it (false: it is not sound), then, when all were, with
 * `is_sound`, to use it. */
typedef bool sealed_line_fn(void *owner, struct slice line, bool is_sound);
/* RESULT_CORRUPT with the reason: nothing was used. */
enum result MUST_CHECK sealed_parse(struct slice text, const char *heading,
                                    sealed_line_fn *each, void *owner, struct fault *fault);
/* Takes one off the front of *rest. False: it is no word, or does not fit. */
bool MUST_CHECK sealed_take_word(struct slice *rest, char *into, size_t into_bytes);
bool MUST_CHECK sealed_take_number(struct slice *rest, uint64_t most, uint64_t *number);

#endif
