/* Names for the hundred busiest destinations. Counting is an increment in a slot. A name is
 * given at once while there is room; later, once a minute, to those who did at least twice
 * as much in it as the quietest that has one. So nothing is ever sorted, and no walk goes
 * over all destinations. */
#include "busiest.h"

#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum { CANDIDATES = 8 };
static const uint64_t HASH_START = 14695981039346656037U; /* FNV-1a */
static const uint64_t HASH_PRIME = 1099511628211U;

struct slot {
    char name[DELIVER_NAME_TEXT];
    struct destination *destination; /* NULL: it was forgotten; the counts stay */
    struct deliver_result result;
    uint32_t generation;
};

struct busiest {
    struct slot slots[DELIVER_NAMED_MAX];
    size_t count;
    struct deliver_result other;
    struct destination *candidates[CANDIDATES];
    uint32_t minute;
};

struct busiest *busiest_new(void)
{
    struct busiest *busiest = NEW(struct busiest);

    busiest->minute = 1;
    return busiest;
}

void busiest_free(struct busiest *busiest)
{
    memory_free(busiest);
}

/* A label must be clean text, and no two destinations may share one. */
static void set_name(struct slot *slot, const char *key)
{
    uint64_t hash = HASH_START;
    bool is_clean = strlen(key) < sizeof slot->name;
    char *end;

    (void)snprintf(slot->name, sizeof slot->name - 18, "%s", key);
    for (const char *at = key; *at; at++)
        hash = (hash ^ (unsigned char)*at) * HASH_PRIME;
    for (char *at = slot->name; *at; at++)
        if (*at <= ' ' || *at >= 0x7f || *at == '"' || *at == '\\') {
            *at = '?';
            is_clean = false;
        }
    end = slot->name + strlen(slot->name);
    if (!is_clean)
        (void)snprintf(end, 18, "#%016llx", (unsigned long long)hash);
    else
        (void)snprintf(slot->name, sizeof slot->name, "%s", key);
}

static uint32_t recent(const struct busiest *busiest, const struct destination *destination)
{
    if (!destination || destination->busy.minute != busiest->minute)
        return 0;
    return destination->busy.settled;
}

static void take_slot(struct busiest *busiest, size_t at, struct destination *destination)
{
    struct slot *slot = &busiest->slots[at];

    if (slot->destination)
        slot->destination->busy.slot = 0;
    slot->destination = destination;
    slot->generation++;
    memset(&slot->result, 0, sizeof slot->result);
    set_name(slot, destination->name);
    destination->busy.slot = (uint32_t)at + 1;
}

static void propose(struct busiest *busiest, struct destination *destination)
{
    size_t least = 0;

    for (size_t i = 0; i < CANDIDATES; i++) {
        if (busiest->candidates[i] == destination)
            return;
        if (recent(busiest, busiest->candidates[i]) <
            recent(busiest, busiest->candidates[least]))
            least = i;
    }
    if (recent(busiest, destination) > recent(busiest, busiest->candidates[least]))
        busiest->candidates[least] = destination;
}

struct busiest_mark busiest_settles(struct busiest *busiest,
                                    struct destination *destination)
{
    struct busiest_mark mark = {0};

    if (destination->busy.minute != busiest->minute) {
        destination->busy.minute = busiest->minute;
        destination->busy.settled = 0;
    }
    destination->busy.settled++;
    if (destination->busy.slot == 0 && busiest->count < DELIVER_NAMED_MAX)
        take_slot(busiest, busiest->count++, destination);
    if (destination->busy.slot == 0) {
        propose(busiest, destination);
        return mark;
    }
    mark.slot = destination->busy.slot;
    mark.generation = busiest->slots[mark.slot - 1].generation;
    return mark;
}

struct deliver_result *busiest_result(struct busiest *busiest, struct busiest_mark mark)
{
    struct slot *slot = mark.slot > 0 ? &busiest->slots[mark.slot - 1] : NULL;

    return slot && slot->generation == mark.generation ? &slot->result : &busiest->other;
}

void busiest_forget(struct busiest *busiest, struct destination *destination)
{
    for (size_t i = 0; i < CANDIDATES; i++)
        if (busiest->candidates[i] == destination)
            busiest->candidates[i] = NULL;
    if (destination->busy.slot > 0)
        busiest->slots[destination->busy.slot - 1].destination = NULL;
    destination->busy.slot = 0;
}

static size_t quietest(const struct busiest *busiest)
{
    size_t least = 0;

    for (size_t i = 1; i < busiest->count; i++)
        if (recent(busiest, busiest->slots[i].destination) <
            recent(busiest, busiest->slots[least].destination))
            least = i;
    return least;
}

void busiest_review(struct busiest *busiest)
{
    for (size_t i = 0; i < CANDIDATES; i++) {
        struct destination *one = busiest->candidates[i];
        size_t least = quietest(busiest);

        busiest->candidates[i] = NULL;
        if (one && recent(busiest, one) >=
                       2 * recent(busiest, busiest->slots[least].destination) + 1)
            take_slot(busiest, least, one);
    }
    busiest->minute++;
}

void busiest_read(const struct busiest *busiest, int64_t now_ms,
                  struct deliver_busiest *into)
{
    into->count = busiest->count;
    into->other = busiest->other;
    for (size_t i = 0; i < busiest->count; i++) {
        const struct slot *slot = &busiest->slots[i];
        struct deliver_named *named = &into->named[i];

        memcpy(named->name, slot->name, sizeof named->name);
        named->result = slot->result;
        named->connections = slot->destination ? slot->destination->connections : 0;
        named->attempts = slot->destination ? slot->destination->running : 0;
        named->is_backing_off = slot->destination && slot->destination->until_ms > now_ms;
    }
}
