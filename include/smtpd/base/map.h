/* A hash map with text keys and a ceiling: rates, caches, domains.
 *
 * Owns      copies of its keys; never the values.
 * Promises  keyed SipHash with a random key of the process: peers cannot make keys
 *           collide.
 */
#ifndef SMTPD_BASE_MAP_H
#define SMTPD_BASE_MAP_H

#include "smtpd/base/bytes.h"

struct map;

struct map *map_new(size_t most_entries);
void map_free(struct map *map);
size_t map_count(const struct map *map);
void *map_get(const struct map *map, struct slice key); /* NULL: not there */
/* Adds or replaces. RESULT_TOO_LARGE when a new key would pass the ceiling. value != NULL.
 */
enum result MUST_CHECK map_set(struct map *map, struct slice key, void *value);
void *map_remove(struct map *map, struct slice key); /* the value, or NULL */
/* Iteration: start with *position = 0; NULL at the end. The entry just returned may be
 * removed (an entry that wraps round the table's end may then be left out of this walk);
 * nothing may be added meanwhile. `key` may be NULL. */
void *map_next(const struct map *map, size_t *position, struct slice *key);

#endif
