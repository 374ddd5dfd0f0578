/* Addresses that failed: only they are kept, and forgotten when they work. */
#include "address_memory.h"

#include "clock.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "smtpd/queue/schedule.h"

#include <string.h>

enum { FIRST_MS = 30000, MOST_MS = 900000, PROBE_MS = 30000, KEY_BYTES = 18 };

struct address { /* one that failed */
    unsigned failures;
    int64_t until_ms;
    bool is_probed; /* until_ms is that of the probe */
};

struct address_memory {
    struct map *map;
    size_t hand; /* where the last one was forgotten */
};

struct address_memory *address_memory_new(void)
{
    struct address_memory *memory = NEW(struct address_memory);

    memory->map = map_new(LIMIT_DEAD_ADDRESSES);
    return memory;
}

void address_memory_free(struct address_memory *memory)
{
    struct address *address;
    size_t position = 0;

    while ((address = map_next(memory->map, &position, NULL)))
        memory_free(address);
    map_free(memory->map);
    memory_free(memory);
}

static struct slice key_of(const struct endpoint *endpoint, char bytes[KEY_BYTES])
{
    memcpy(bytes, endpoint->ip.bytes, 16);
    bytes[16] = (char)(endpoint->port >> 8);
    bytes[17] = (char)(endpoint->port & 0xff);
    return (struct slice){bytes, KEY_BYTES};
}

bool address_is_dead(struct address_memory *memory, const struct endpoint *endpoint,
                     int64_t now_ms)
{
    char bytes[KEY_BYTES];
    struct address *address = map_get(memory->map, key_of(endpoint, bytes));

    if (!address)
        return false;
    if (address->until_ms > now_ms)
        return true;
    address->until_ms = now_ms + PROBE_MS;
    address->is_probed = true;
    return false;
}

static void forget_one(struct address_memory *memory)
{
    struct slice key;

    if (!map_next(memory->map, &memory->hand, &key)) {
        memory->hand = 0;
        if (!map_next(memory->map, &memory->hand, &key))
            return;
    }
    memory_free(map_remove(memory->map, key));
}

static struct address *remember(struct address_memory *memory, struct slice key)
{
    struct address *address = map_get(memory->map, key);

    if (address)
        return address;
    if (map_count(memory->map) >= LIMIT_DEAD_ADDRESSES)
        forget_one(memory);
    address = NEW(struct address);
    if (map_set(memory->map, key, address) == RESULT_OK)
        return address;
    memory_free(address);
    return NULL;
}

int64_t address_failed(struct address_memory *memory, const struct endpoint *endpoint,
                       int64_t now_ms)
{
    char bytes[KEY_BYTES];
    struct address *address = remember(memory, key_of(endpoint, bytes));
    uint32_t random;
    int64_t wait_ms;

    if (!address || (address->until_ms > now_ms && !address->is_probed))
        return 0; /* one that began before says nothing new */
    secure_random(&random, sizeof random);
    wait_ms = schedule_backoff(++address->failures, FIRST_MS, MOST_MS, random);
    address->until_ms = now_ms + wait_ms;
    address->is_probed = false;
    return wait_ms;
}

void address_works(struct address_memory *memory, const struct endpoint *endpoint)
{
    char bytes[KEY_BYTES];

    memory_free(map_remove(memory->map, key_of(endpoint, bytes)));
}

void address_memory_move_clock(struct address_memory *memory, int64_t by_ms)
{
    struct address *address;
    size_t position = 0;

    while ((address = map_next(memory->map, &position, NULL)))
        clock_move(&address->until_ms, by_ms);
}

size_t address_memory_count(const struct address_memory *memory)
{
    return map_count(memory->map);
}
