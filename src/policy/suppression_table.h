/* The entries of the suppression list in memory.
 *
 * Owns      the entries.
 * Promises  no call takes long whatever the count: the table is a thousand small ones (shards),
 *           each growing by itself; who walks it takes a few shards at a time. An entry never
 *           changes its shard.
 * Ignores   expiry, but for suppression_table_purge(); limits.
 */
#ifndef SMTPD_POLICY_SUPPRESSION_TABLE_H
#define SMTPD_POLICY_SUPPRESSION_TABLE_H

#include "smtpd/policy/suppression.h"

enum { SUPPRESSION_SHARDS = 1024 };

struct suppression_table;
struct suppression_table *suppression_table_new(void);
void suppression_table_free(struct suppression_table *table);
size_t suppression_table_count(const struct suppression_table *table);
/* `entry` looks into the table. */
bool suppression_table_find(const struct suppression_table *table, const char *tenant,
                            const char *address, struct suppression_entry *entry);
/* Copies. true: it is new; false: it took the place of another. */
bool suppression_table_set(struct suppression_table *table,
                           const struct suppression_entry *entry);
bool suppression_table_remove(struct suppression_table *table, const char *tenant,
                              const char *address);
/* All of the shard `at`; nothing may be changed meanwhile. How many. */
size_t suppression_table_visit(const struct suppression_table *table, size_t at,
                               suppression_visit_fn *visit, void *owner);
/* Removes what has expired from a shard. How many. */
size_t suppression_table_purge(struct suppression_table *table, size_t at, int64_t now_ms);

#endif
