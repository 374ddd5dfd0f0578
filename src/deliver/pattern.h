/* Many text patterns matched at once (Aho-Corasick): one pass over a reply tells all that fit.
 *
 * Promises  immutable once made. Letters of ASCII match in either case, a run of blanks matches
 *           one blank. The time is linear in the text (and in what is found in it), however many
 *           patterns there are. Bounded in patterns, pieces and bytes; a byte takes one node at most.
 * Ignores   codes and hosts: see classify.
 *
 * A `*` stands for anything, also for nothing. PATTERN_WITHIN may lie anywhere in the text;
 * PATTERN_WHOLE is the text from its first byte to its last ("421*": begins with 421).
 */
#ifndef SMTPD_DELIVER_PATTERN_H
#define SMTPD_DELIVER_PATTERN_H

#include "smtpd/base/bytes.h"

enum {
    PATTERN_BYTES_MAX = 200,
    PATTERN_PIECES_MAX = 8, /* between the stars */
    PATTERNS_MAX = 4000,
    PATTERN_TEXT_MAX = 2048 /* more of a text is not looked at */
};

enum pattern_kind { PATTERN_WITHIN, PATTERN_WHOLE };

struct pattern {
    const char *text;
    enum pattern_kind kind;
};

/* NULL: it can be used; else what is wrong with it. */
const char *pattern_complaint(struct slice text);

struct pattern_set;
/* Copies all. NULL: too many, or one that cannot be used. */
struct pattern_set *pattern_set_new(const struct pattern *patterns, size_t count);
void pattern_set_free(struct pattern_set *set); /* NULL is fine */
/* hits[i]: the i-th pattern fits. `hits` has an entry for each pattern. */
void pattern_set_match(const struct pattern_set *set, struct slice text, bool *hits);

#endif
