/* Open addressing with linear probing and backward-shift removal: no tombstones, so a map
 * that lives for years does not silt up. */
#include "smtpd/base/map.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <string.h>

enum { FIRST_SLOTS = 16 };

struct slot {
    char *key; /* NULL: free */
    size_t key_length;
    uint64_t hash;
    void *value;
};

struct map {
    struct slot *slots;
    size_t slot_count; /* a power of two */
    size_t count;
    size_t most;
};

struct map *map_new(size_t most_entries)
{
    struct map *map = NEW(struct map);

    map->most = most_entries;
    return map;
}

void map_free(struct map *map)
{
    if (!map)
        return;
    /* Emptied before, it costs no walk over its slots: those who free a large one in portions. */
    for (size_t i = 0; i < map->slot_count && map->count > 0; i++)
        if (map->slots[i].key) {
            memory_free(map->slots[i].key);
            map->count--;
        }
    memory_free(map->slots);
    memory_free(map);
}

size_t map_count(const struct map *map)
{
    return map->count;
}

/* The slot of the key, or the free one where it would go. There is always a free one. */
static struct slot *find(const struct map *map, struct slice key, uint64_t hash)
{
    size_t at = (size_t)hash & (map->slot_count - 1);

    for (;;) {
        struct slot *slot = &map->slots[at];

        if (!slot->key ||
            (slot->hash == hash && slot->key_length == key.length &&
             (key.length == 0 || memcmp(slot->key, key.data, key.length) == 0)))
            return slot;
        at = (at + 1) & (map->slot_count - 1);
    }
}

void *map_get(const struct map *map, struct slice key)
{
    const struct slot *slot;

    if (map->count == 0)
        return NULL;
    slot = find(map, key, secure_short_hash(key));
    return slot->key ? slot->value : NULL;
}

static void grow(struct map *map)
{
    struct map larger = {.slot_count = map->slot_count ? map->slot_count * 2 : FIRST_SLOTS};

    larger.slots = NEW_ARRAY(struct slot, larger.slot_count);
    for (size_t i = 0; i < map->slot_count; i++) {
        const struct slot *slot = &map->slots[i];

        if (slot->key)
            *find(&larger, (struct slice){slot->key, slot->key_length}, slot->hash) = *slot;
    }
    memory_free(map->slots);
    map->slots = larger.slots;
    map->slot_count = larger.slot_count;
}

enum result map_set(struct map *map, struct slice key, void *value)
{
    uint64_t hash = secure_short_hash(key);
    struct slot *slot;

    CHECK(value);
    if ((map->count + 1) * 4 > map->slot_count * 3)
        grow(map);
    slot = find(map, key, hash);
    if (!slot->key) {
        if (map->count == map->most)
            return RESULT_TOO_LARGE;
        slot->key = memory_copy(key.data ? key.data : "", key.length);
        slot->key_length = key.length;
        slot->hash = hash;
        map->count++;
    }
    slot->value = value;
    return RESULT_OK;
}

/* Entries behind the hole that could stand in it move up. */
static void close_hole(struct map *map, size_t hole)
{
    size_t mask = map->slot_count - 1;
    size_t at = hole;

    for (;;) {
        size_t home;

        at = (at + 1) & mask;
        if (!map->slots[at].key)
            break;
        home = (size_t)map->slots[at].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->slots[hole] = map->slots[at];
            hole = at;
        }
    }
    map->slots[hole] = (struct slot){0};
}

void *map_remove(struct map *map, struct slice key)
{
    struct slot *slot;
    void *value;

    if (map->count == 0)
        return NULL;
    slot = find(map, key, secure_short_hash(key));
    if (!slot->key)
        return NULL;
    value = slot->value;
    memory_free(slot->key);
    slot->key = NULL;
    close_hole(map, (size_t)(slot - map->slots));
    map->count--;
    return value;
}

/* From the last slot to the first: backward-shift removal then moves only what was seen,
 * but for a chain that wraps round the end. */
void *map_next(const struct map *map, size_t *position, struct slice *key)
{
    while (*position < map->slot_count) {
        const struct slot *slot = &map->slots[map->slot_count - 1 - *position];

        (*position)++;
        if (!slot->key)
            continue;
        if (key)
            *key = (struct slice){slot->key, slot->key_length};
        return slot->value;
    }
    return NULL;
}
