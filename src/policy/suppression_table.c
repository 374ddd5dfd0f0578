/* An entry is one piece of memory, and a slot a pointer: a million of them cost about 130 MB.
 * Open addressing with backward-shift removal, as base/map; that one would keep each key twice
 * and grow as a whole, which takes a tenth of a second at a million. */
#include "suppression_table.h"

#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <string.h>

enum {
    FIRST_SLOTS = 8,
    SHARD_SHIFT = 54, /* 64 - 10 bits: a shard's own slots are chosen by the low ones */
    KEY_MAX = LIMIT_USER_NAME + 1 + SUPPRESSION_ADDRESS
};

struct kept {
    uint64_t hash;
    int64_t created_ms;
    int64_t expires_ms;
    uint16_t address_at;
    uint16_t reason_at;
    uint8_t source;
    char text[]; /* tenant, address, reason, each with its NUL */
};

struct shard {
    struct kept **slots; /* NULL: free */
    size_t slot_count;   /* a power of two, or 0 */
    size_t count;
};

struct suppression_table {
    struct shard shards[SUPPRESSION_SHARDS];
    size_t count;
};

struct key {
    const char *tenant;
    const char *address;
    uint64_t hash;
};

static struct key key_of(const char *tenant, const char *address)
{
    char text[KEY_MAX];
    size_t tenant_bytes = strlen(tenant) + 1;
    size_t address_bytes = strlen(address);

    if (tenant_bytes > LIMIT_USER_NAME + 1) /* of no entry */
        tenant_bytes = LIMIT_USER_NAME + 1;
    if (address_bytes > SUPPRESSION_ADDRESS)
        address_bytes = SUPPRESSION_ADDRESS;
    memcpy(text, tenant, tenant_bytes);
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): hashed, and never a string */
    memcpy(text + tenant_bytes, address, address_bytes);
    return (struct key){
        tenant, address,
        secure_short_hash((struct slice){text, tenant_bytes + address_bytes})};
}

static bool is_key(const struct kept *kept, const struct key *key)
{
    return kept->hash == key->hash && strcmp(kept->text, key->tenant) == 0 &&
           strcmp(kept->text + kept->address_at, key->address) == 0;
}

static struct shard *shard_of(const struct suppression_table *table, uint64_t hash)
{
    return (struct shard *)(uintptr_t)&table->shards[hash >> SHARD_SHIFT];
}

/* The slot of the key, or the free one where it would go. */
static struct kept **find(const struct shard *shard, const struct key *key)
{
    size_t mask = shard->slot_count - 1;
    size_t at = (size_t)key->hash & mask;

    while (shard->slots[at] && !is_key(shard->slots[at], key))
        at = (at + 1) & mask;
    return &shard->slots[at];
}

static struct suppression_entry view(const struct kept *kept)
{
    return (struct suppression_entry){
        .tenant = kept->text,
        .address = kept->text + kept->address_at,
        .reason = kept->text + kept->reason_at,
        .source = (enum suppression_source)kept->source,
        .created_ms = kept->created_ms,
        .expires_ms = kept->expires_ms,
    };
}

static struct kept *keep(const struct suppression_entry *entry, uint64_t hash)
{
    size_t tenant_bytes = strlen(entry->tenant) + 1;
    size_t address_bytes = strlen(entry->address) + 1;
    size_t reason_bytes = strlen(entry->reason) + 1;
    struct kept *kept =
        memory_new(sizeof *kept + tenant_bytes + address_bytes + reason_bytes);

    kept->hash = hash;
    kept->created_ms = entry->created_ms;
    kept->expires_ms = entry->expires_ms;
    kept->source = (uint8_t)entry->source;
    kept->address_at = (uint16_t)tenant_bytes;
    kept->reason_at = (uint16_t)(tenant_bytes + address_bytes);
    memcpy(kept->text, entry->tenant, tenant_bytes);
    memcpy(kept->text + kept->address_at, entry->address, address_bytes);
    memcpy(kept->text + kept->reason_at, entry->reason, reason_bytes);
    return kept;
}

struct suppression_table *suppression_table_new(void)
{
    return NEW(struct suppression_table);
}

void suppression_table_free(struct suppression_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < SUPPRESSION_SHARDS; i++) {
        struct shard *shard = &table->shards[i];

        for (size_t at = 0; at < shard->slot_count; at++)
            memory_free(shard->slots[at]);
        memory_free(shard->slots);
    }
    memory_free(table);
}

size_t suppression_table_count(const struct suppression_table *table)
{
    return table->count;
}

bool suppression_table_find(const struct suppression_table *table, const char *tenant,
                            const char *address, struct suppression_entry *entry)
{
    struct key key = key_of(tenant, address);
    const struct shard *shard = shard_of(table, key.hash);
    const struct kept *kept = shard->count > 0 ? *find(shard, &key) : NULL;

    if (kept)
        *entry = view(kept);
    return kept != NULL;
}

static void grow(struct shard *shard)
{
    struct shard larger = {.slot_count =
                               shard->slot_count ? shard->slot_count * 2 : FIRST_SLOTS,
                           .count = shard->count};

    larger.slots = NEW_ARRAY(struct kept *, larger.slot_count);
    for (size_t i = 0; i < shard->slot_count; i++) {
        size_t at;

        if (!shard->slots[i])
            continue;
        at = (size_t)shard->slots[i]->hash & (larger.slot_count - 1);
        while (larger.slots[at])
            at = (at + 1) & (larger.slot_count - 1);
        larger.slots[at] = shard->slots[i];
    }
    memory_free(shard->slots);
    *shard = larger;
}

bool suppression_table_set(struct suppression_table *table,
                           const struct suppression_entry *entry)
{
    struct key key = key_of(entry->tenant, entry->address);
    struct shard *shard = shard_of(table, key.hash);
    struct kept *kept = keep(entry, key.hash);
    struct kept **slot;
    bool is_new;

    if ((shard->count + 1) * 4 > shard->slot_count * 3)
        grow(shard);
    slot = find(shard, &key);
    is_new = !*slot;
    shard->count += is_new;
    table->count += is_new;
    memory_free(*slot);
    *slot = kept;
    return is_new;
}

/* What stands behind a hole moves up, or it would not be found any more. */
static void take_out(struct suppression_table *table, struct shard *shard, size_t hole)
{
    size_t mask = shard->slot_count - 1;

    memory_free(shard->slots[hole]);
    shard->slots[hole] = NULL;
    for (size_t at = (hole + 1) & mask; shard->slots[at]; at = (at + 1) & mask) {
        size_t home = (size_t)shard->slots[at]->hash & mask;

        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        shard->slots[hole] = shard->slots[at];
        shard->slots[at] = NULL;
        hole = at;
    }
    shard->count--;
    table->count--;
}

bool suppression_table_remove(struct suppression_table *table, const char *tenant,
                              const char *address)
{
    struct key key = key_of(tenant, address);
    struct shard *shard = shard_of(table, key.hash);
    struct kept **slot = shard->count > 0 ? find(shard, &key) : NULL;

    if (!slot || !*slot)
        return false;
    take_out(table, shard, (size_t)(slot - shard->slots));
    return true;
}

size_t suppression_table_visit(const struct suppression_table *table, size_t at,
                               suppression_visit_fn *visit, void *owner)
{
    const struct shard *shard = &table->shards[at];

    for (size_t i = 0; i < shard->slot_count; i++) {
        struct suppression_entry entry;

        if (!shard->slots[i])
            continue;
        entry = view(shard->slots[i]);
        visit(owner, &entry);
    }
    return shard->count;
}

size_t suppression_table_purge(struct suppression_table *table, size_t at, int64_t now_ms)
{
    struct shard *shard = &table->shards[at];
    size_t purged = 0;
    size_t i = 0;

    while (i < shard->slot_count) {
        const struct kept *kept = shard->slots[i];

        if (kept && kept->expires_ms && kept->expires_ms <= now_ms) {
            take_out(table, shard, i); /* another may stand here now */
            purged++;
        } else {
            i++;
        }
    }
    return purged;
}
