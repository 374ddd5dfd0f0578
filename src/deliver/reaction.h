/* What a reply does to the pace, beside what it means for the message: a table of patterns, the
 * first that fits holds. Those of the operator come before the shipped ones.
 *
 * Promises  pure; the time is bounded by the table, and only replies that refuse are looked at.
 * Ignores   how the pace is changed: pacing.c does it.
 */
#ifndef SMTPD_DELIVER_REACTION_H
#define SMTPD_DELIVER_REACTION_H

#include "inner.h"

/* NULL: none fits, or the one that fits does nothing. `domain` is the recipient's. */
const struct reaction *reaction_find(const struct plan_settings *settings,
                                     const struct reply *reply, const char *host,
                                     const char *domain);
/* Those that are shipped. */
const struct reaction *reaction_shipped(size_t *count);
/* "421", "45x", "4xx". */
bool reaction_code_matches(const char *pattern, unsigned code);
/* `*`: anything, also nothing; letters of ASCII in either case; anywhere in the text. */
bool reaction_text_matches(const char *pattern, const char *text);

#endif
