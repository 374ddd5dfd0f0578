#include "cache.h"

#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/list.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"

#include <string.h>

/* A backlog that drains at once takes the oldest first: to drop that for the newest would make every
 * read of it cold, and to keep it makes a part of them warm. What has not left by then waits for
 * something. */
enum { MOVES_MS = 5000 };

struct cached {
    struct link link; /* oldest first */
    uint64_t id;
    int64_t added_ms;
    size_t bytes;
    struct piece **pieces;
    size_t piece_count;
    struct slice envelope; /* these point into `records` */
    struct slice *groups;  /* length 0: gone */
    size_t group_count;
    size_t groups_left;
    char *records;
};

struct cache {
    struct map *by_id;
    struct list order;
    size_t bytes;
    size_t most_bytes;
};

struct piece *piece_new(size_t capacity)
{
    struct piece *piece =
        memory_resize(NULL, sizeof *piece + capacity); /* data: not zeroed */

    *piece = (struct piece){.references = 1, .capacity = capacity};
    return piece;
}

struct piece *piece_grow(struct piece *piece, size_t capacity)
{
    CHECK(piece->references == 1);
    piece = memory_resize(piece, sizeof *piece + capacity);
    piece->capacity = capacity;
    return piece;
}

void piece_hold(struct piece *piece)
{
    piece->references++;
}

void piece_drop(struct piece *piece)
{
    if (piece && --piece->references == 0)
        memory_free(piece);
}

struct cache *cache_new(size_t most_bytes)
{
    struct cache *cache = NEW(struct cache);

    cache->by_id = map_new(LIMIT_FRESH_MESSAGES);
    cache->most_bytes = most_bytes;
    list_init(&cache->order);
    return cache;
}

static void evict(struct cache *cache, struct cached *cached)
{
    list_remove(&cache->order, &cached->link);
    (void)map_remove(cache->by_id, (struct slice){(char *)&cached->id, sizeof cached->id});
    cache->bytes -= cached->bytes;
    for (size_t i = 0; i < cached->piece_count; i++)
        piece_drop(cached->pieces[i]);
    memory_free(cached->pieces);
    memory_free(cached->groups);
    memory_free(cached->records);
    memory_free(cached);
}

/* false: all the room is taken by what moves. */
static bool make_room(struct cache *cache, size_t bytes, int64_t now_ms)
{
    while (cache->bytes + bytes > cache->most_bytes ||
           cache->order.count >= LIMIT_FRESH_MESSAGES) {
        struct cached *oldest =
            CONTAINER_OF(list_first(&cache->order), struct cached, link);

        if (now_ms - oldest->added_ms < MOVES_MS)
            return false;
        evict(cache, oldest);
    }
    return true;
}

void cache_free(struct cache *cache)
{
    struct link *link;

    while ((link = list_first(&cache->order)))
        evict(cache, CONTAINER_OF(link, struct cached, link));
    map_free(cache->by_id);
    memory_free(cache);
}

void cache_set_most(struct cache *cache, size_t most_bytes)
{
    struct link *link;

    cache->most_bytes = most_bytes;
    while (cache->bytes > most_bytes && (link = list_first(&cache->order)))
        evict(cache, CONTAINER_OF(link, struct cached, link));
}

static size_t copy_record(struct cached *cached, size_t at, struct slice record,
                          struct slice *copy)
{
    memcpy(cached->records + at, record.data, record.length);
    *copy = (struct slice){cached->records + at, record.length};
    return at + record.length;
}

void cache_add(struct cache *cache, const struct cache_message *message, int64_t now_ms)
{
    struct cached *cached;
    size_t records = message->envelope.length;
    size_t bytes;
    size_t at;

    for (size_t i = 0; i < message->group_count; i++)
        records += message->groups[i].length;
    bytes = sizeof *cached + records + message->group_count * sizeof(struct slice);
    for (size_t i = 0; i < message->piece_count; i++)
        bytes += sizeof(struct piece) + message->pieces[i]->capacity;
    if (bytes > cache->most_bytes / 4) /* it would drive out the others */
        return;
    if (!make_room(cache, bytes, now_ms))
        return;
    cached = NEW(struct cached);
    cached->bytes = bytes;
    cached->id = message->id;
    cached->added_ms = now_ms;
    cached->records = memory_new(records);
    cached->groups = NEW_ARRAY(struct slice, message->group_count + 1);
    cached->group_count = cached->groups_left = message->group_count;
    at = copy_record(cached, 0, message->envelope, &cached->envelope);
    for (size_t i = 0; i < message->group_count; i++)
        at = copy_record(cached, at, message->groups[i], &cached->groups[i]);
    cached->pieces = NEW_ARRAY(struct piece *, message->piece_count + 1);
    cached->piece_count = message->piece_count;
    for (size_t i = 0; i < message->piece_count; i++) {
        cached->pieces[i] = message->pieces[i];
        piece_hold(cached->pieces[i]);
    }
    CHECK(map_set(cache->by_id, (struct slice){(char *)&cached->id, sizeof cached->id},
                  cached) == RESULT_OK);
    list_push_back(&cache->order, &cached->link);
    cache->bytes += cached->bytes;
}

static struct cached *find(const struct cache *cache, uint64_t id)
{
    return map_get(cache->by_id, (struct slice){(char *)&id, sizeof id});
}

enum result cache_records(const struct cache *cache, uint64_t id, uint32_t group,
                          struct slice *envelope, struct slice *record)
{
    const struct cached *cached = find(cache, id);

    if (!cached || group >= cached->group_count || cached->groups[group].length == 0)
        return RESULT_NOT_FOUND;
    *envelope = cached->envelope;
    *record = cached->groups[group];
    return RESULT_OK;
}

struct piece *cache_piece(const struct cache *cache, uint64_t id, uint64_t offset,
                          size_t *skip)
{
    const struct cached *cached = find(cache, id);

    for (size_t i = 0; cached && i < cached->piece_count; i++) {
        struct piece *piece = cached->pieces[i];

        if (offset < piece->length) {
            piece_hold(piece);
            *skip = (size_t)offset;
            return piece;
        }
        offset -= piece->length;
    }
    return NULL;
}

void cache_forget_group(struct cache *cache, uint64_t id, uint32_t group)
{
    struct cached *cached = find(cache, id);

    if (!cached || group >= cached->group_count || cached->groups[group].length == 0)
        return;
    cached->groups[group] = SLICE_NONE;
    if (--cached->groups_left == 0)
        evict(cache, cached);
}

size_t cache_bytes(const struct cache *cache)
{
    return cache->bytes;
}
