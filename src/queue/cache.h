/* Fresh mail in memory: the bytes and records of messages that were just committed, so that
 * one which is delivered at once never touches the map.
 *
 * Owns      its references to pieces, copies of records.
 * Promises  bounded: what has been here for five seconds makes room, the oldest first; if there is
 *           nothing such, the new one is not taken. A piece that is still read stays until its
 *           reader lets go of it.
 * Ignores   the disk: what is not here is read there.
 */
#ifndef SMTPD_QUEUE_CACHE_H
#define SMTPD_QUEUE_CACHE_H

#include "smtpd/base/bytes.h"
#include <stdbool.h>
#include <stdint.h>

/* At most LIMIT_PIECE_BYTES of a message. References are counted on the loop's thread; the
 * store thread only reads what an operation holds. */
struct piece {
    uint32_t references;
    size_t length;
    size_t capacity;
    char data[];
};

struct piece *piece_new(size_t capacity);
/* Room for `capacity` bytes in all; only while nobody else holds it. */
struct piece *piece_grow(struct piece *piece, size_t capacity);
void piece_hold(struct piece *piece);
void piece_drop(struct piece *piece); /* NULL is fine */

struct cache;
struct cache *cache_new(size_t most_bytes);
void cache_set_most(struct cache *cache,
                    size_t most_bytes); /* what is too much goes at once */
void cache_free(struct cache *cache);

struct cache_message {
    uint64_t id;
    struct piece *const
        *pieces; /* the whole message in order; the cache takes references */
    size_t piece_count;
    struct slice envelope;
    const struct slice *groups; /* records by number */
    size_t group_count;
};
/* `now_ms` is monotonic. */
void cache_add(struct cache *cache, const struct cache_message *message, int64_t now_ms);
/* RESULT_NOT_FOUND; or the two records, which live until the next call of the cache. */
enum result MUST_CHECK cache_records(const struct cache *cache, uint64_t id, uint32_t group,
                                     struct slice *envelope, struct slice *record);
/* A referenced piece that holds the byte at `offset`, and where in it; NULL: not here. */
struct piece *cache_piece(const struct cache *cache, uint64_t id, uint64_t offset,
                          size_t *skip);
/* The record of this group has changed or is gone. With the last one the message goes. */
void cache_forget_group(struct cache *cache, uint64_t id, uint32_t group);
size_t cache_bytes(const struct cache *cache);

#endif
