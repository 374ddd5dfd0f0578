/* [[header_rule]]: fields that the operator removes and adds, by listener and user.
 *
 * Owns      a copy of the rules of the settings; immutable.
 */
#ifndef SMTPD_RECEIVE_HEADER_RULES_H
#define SMTPD_RECEIVE_HEADER_RULES_H

#include "session.h"

/* Names of all the rules that fit one session: all tables, each with as many as it may have. */
enum { HEADER_RULES_REMOVED_MAX = LIMIT_HEADER_RULES * LIMIT_HEADER_RULE_REMOVED };

struct header_rules *header_rules_new(const struct header_rule *rules, size_t count);
void header_rules_free(struct header_rules *rules); /* NULL is fine */

/* Names of fields to remove, at most `most`. Returns how many. */
size_t header_rules_removed(const struct header_rules *rules, const struct session *session,
                            const char **names, size_t most);
/* Adds the fields, each with CR LF. */
enum result MUST_CHECK header_rules_add(const struct header_rules *rules,
                                        const struct session *session, struct bytes *into);

#endif
