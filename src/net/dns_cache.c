/* Map plus a list in order of use. Answers are packed, because `struct dns_mx` holds 256
 * bytes for a name of twenty: 200,000 entries of three hosts take 65 MB, not 200. */
#include "dns_cache.h"

#include "smtpd/base/check.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { LEAST_TTL_MS = 30 * 1000, MOST_TTL_MS = 3600 * 1000, NEGATIVE_TTL_MS = 300 * 1000 };

struct dns_packed {
    int64_t expires_ms;
    enum result result;
    bool is_authentic;
    uint16_t mx_count;
    uint16_t address_count;
    bool has_name;
    bool has_canonical;
    uint8_t txt_count;
    uint8_t tlsa_count;
    uint32_t data_bytes;
    /* MX: preference, name with NUL. Then the addresses. Then the name with NUL, and the
     * canonical one. Then each text behind its length. Then each TLSA record: its three
     * numbers, its length, its data. */
    uint8_t data[];
};

struct entry {
    struct link link; /* front: used last */
    struct dns_packed *packed;
    size_t key_length;
    char key[];
};

struct dns_cache {
    struct map *entries;
    struct list by_use;
    size_t most_entries;
};

/* ---- packing ---- */

static uint8_t *put(uint8_t *into, const void *data, size_t length)
{
    if (length > 0)
        memcpy(into, data, length);
    return into + length;
}

static uint8_t *put_data(uint8_t *into, struct slice data)
{
    uint16_t length = (uint16_t)data.length;

    into = put(into, &length, sizeof length);
    return put(into, data.data, length);
}

static uint8_t *put_tlsa(uint8_t *into, const struct tlsa *tlsa)
{
    *into++ = tlsa->usage;
    *into++ = tlsa->selector;
    *into++ = tlsa->matching;
    return put_data(into, tlsa->data);
}

static size_t packed_bytes(const struct dns_answer *answer)
{
    size_t bytes = answer->address_count * sizeof(struct ip);

    for (size_t i = 0; i < answer->mx_count; i++)
        bytes += sizeof answer->mx[i].preference + strlen(answer->mx[i].host) + 1;
    if (answer->name)
        bytes += strlen(answer->name) + 1;
    if (answer->canonical)
        bytes += strlen(answer->canonical) + 1;
    for (size_t i = 0; i < answer->txt_count; i++)
        bytes += sizeof(uint16_t) + answer->txt[i].length;
    for (size_t i = 0; i < answer->tlsa_count; i++)
        bytes += 3 + sizeof(uint16_t) + answer->tlsa[i].data.length;
    return bytes;
}

struct dns_packed *dns_pack(const struct dns_answer *answer, int64_t expires_ms)
{
    size_t bytes = packed_bytes(answer);
    struct dns_packed *packed;
    uint8_t *at;

    packed = memory_new(sizeof *packed + bytes);
    packed->expires_ms = expires_ms;
    packed->result = answer->result;
    packed->is_authentic = answer->is_authentic;
    packed->mx_count = (uint16_t)answer->mx_count;
    packed->address_count = (uint16_t)answer->address_count;
    packed->has_name = answer->name != NULL;
    packed->has_canonical = answer->canonical != NULL;
    packed->txt_count = (uint8_t)answer->txt_count;
    packed->tlsa_count = (uint8_t)answer->tlsa_count;
    packed->data_bytes = (uint32_t)bytes;
    at = packed->data;
    for (size_t i = 0; i < answer->mx_count; i++) {
        const struct dns_mx *mx = &answer->mx[i];

        at = put(at, &mx->preference, sizeof mx->preference);
        at = put(at, mx->host, strlen(mx->host) + 1);
    }
    at = put(at, answer->addresses, answer->address_count * sizeof(struct ip));
    if (answer->name)
        at = put(at, answer->name, strlen(answer->name) + 1);
    if (answer->canonical)
        at = put(at, answer->canonical, strlen(answer->canonical) + 1);
    for (size_t i = 0; i < answer->txt_count; i++)
        at = put_data(at, answer->txt[i]);
    for (size_t i = 0; i < answer->tlsa_count; i++)
        at = put_tlsa(at, &answer->tlsa[i]);
    CHECK(at == packed->data + bytes);
    return packed;
}

struct dns_packed *dns_packed_copy(const struct dns_packed *packed)
{
    return memory_copy(packed, sizeof *packed + packed->data_bytes);
}

void dns_packed_free(struct dns_packed *packed)
{
    memory_free(packed);
}

static const uint8_t *get_text(const uint8_t *at, char into[256])
{
    size_t length = strlen((const char *)at) + 1;

    memcpy(into, at, length);
    return at + length;
}

static const uint8_t *get_data(const uint8_t *at, struct dns_space *space,
                               struct slice *data)
{
    uint16_t length;

    memcpy(&length, at, sizeof length);
    at += sizeof length;
    memcpy(space->txt_bytes + space->txt_length, at, length);
    *data = (struct slice){space->txt_bytes + space->txt_length, length};
    space->txt_length += length;
    return at + length;
}

void dns_unpack(const struct dns_packed *packed, int64_t now_ms, struct dns_space *space)
{
    struct dns_answer *answer = &space->answer;
    const uint8_t *at = packed->data;

    dns_space_reset(space, packed->result, NULL);
    answer->ttl_ms = packed->expires_ms > now_ms ? packed->expires_ms - now_ms : 0;
    answer->is_authentic = packed->is_authentic;
    answer->mx_count = packed->mx_count;
    answer->address_count = packed->address_count;
    for (size_t i = 0; i < answer->mx_count; i++) {
        struct dns_mx *mx = &space->mx[i];
        size_t length = strlen((const char *)at + sizeof mx->preference) + 1;

        memcpy(&mx->preference, at, sizeof mx->preference);
        memcpy(mx->host, at + sizeof mx->preference, length);
        at += sizeof mx->preference + length;
    }
    if (answer->address_count > 0)
        memcpy(space->addresses, at, answer->address_count * sizeof(struct ip));
    at += answer->address_count * sizeof(struct ip);
    if (packed->has_name) {
        at = get_text(at, space->name);
        answer->name = space->name;
    }
    if (packed->has_canonical) {
        at = get_text(at, space->canonical);
        answer->canonical = space->canonical;
    }
    for (size_t i = 0; i < packed->txt_count; i++)
        at = get_data(at, space, &space->txt[answer->txt_count++]);
    for (size_t i = 0; i < packed->tlsa_count; i++) {
        struct tlsa *tlsa = &space->tlsa[answer->tlsa_count++];

        *tlsa = (struct tlsa){at[0], at[1], at[2], SLICE_NONE};
        at = get_data(at + 3, space, &tlsa->data);
    }
}

/* ---- cache ---- */

int64_t dns_cache_ttl_ms(enum result result, int64_t ttl_ms)
{
    if (result == RESULT_DNS_NXDOMAIN || result == RESULT_DNS_NODATA)
        return NEGATIVE_TTL_MS;
    if (result != RESULT_OK)
        return 0;
    if (ttl_ms < LEAST_TTL_MS)
        return LEAST_TTL_MS;
    return ttl_ms > MOST_TTL_MS ? MOST_TTL_MS : ttl_ms;
}

struct dns_cache *dns_cache_new(size_t most_entries)
{
    struct dns_cache *cache = NEW(struct dns_cache);

    CHECK(most_entries > 0);
    cache->entries = map_new(most_entries);
    cache->most_entries = most_entries;
    list_init(&cache->by_use);
    return cache;
}

static void entry_free(struct dns_cache *cache, struct entry *entry)
{
    (void)map_remove(cache->entries, (struct slice){entry->key, entry->key_length});
    list_remove(&cache->by_use, &entry->link);
    dns_packed_free(entry->packed);
    memory_free(entry);
}

void dns_cache_free(struct dns_cache *cache)
{
    struct link *link;

    if (!cache)
        return;
    while ((link = list_first(&cache->by_use)))
        entry_free(cache, CONTAINER_OF(link, struct entry, link));
    map_free(cache->entries);
    memory_free(cache);
}

size_t dns_cache_count(const struct dns_cache *cache)
{
    return cache->by_use.count;
}

const struct dns_packed *dns_cache_get(struct dns_cache *cache, struct slice key,
                                       int64_t now_ms)
{
    struct entry *entry = map_get(cache->entries, key);

    if (!entry)
        return NULL;
    if (entry->packed->expires_ms <= now_ms) {
        entry_free(cache, entry);
        return NULL;
    }
    list_remove(&cache->by_use, &entry->link);
    list_push_front(&cache->by_use, &entry->link);
    return entry->packed;
}

void dns_cache_put(struct dns_cache *cache, struct slice key,
                   const struct dns_answer *answer, int64_t now_ms)
{
    struct entry *entry = map_get(cache->entries, key);

    if (entry)
        entry_free(cache, entry);
    if (answer->ttl_ms <= 0)
        return;
    while (cache->by_use.count >= cache->most_entries)
        entry_free(cache, CONTAINER_OF(cache->by_use.head.prev, struct entry, link));
    entry = memory_new(sizeof *entry + key.length);
    entry->key_length = key.length;
    memcpy(entry->key, key.data, key.length);
    entry->packed = dns_pack(answer, now_ms + answer->ttl_ms);
    list_push_front(&cache->by_use, &entry->link);
    CHECK(map_set(cache->entries, key, entry) == RESULT_OK);
}
