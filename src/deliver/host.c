/* What is remembered of each host, in memory: its back-off, and what was learned there. */
#include "host.h"

#include "clock.h"
#include "inner.h"
#include "source.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/pen.h"
#include "smtpd/base/secure.h"
#include "smtpd/queue/schedule.h"

enum {
    HOST_FIRST_MS = 30000,
    HOST_MOST_MS = 900000,
    DANE_FIRST_MS = 15000,
    DANE_MOST_MS = 300000,
    HOSTS_MAX = 100000,
    HOST_KEY = 720,
    JUDGES = 2,       /* attempts at once at a host that is not known to work */
    KNOWN_MS = 60000, /* so long it is known, once it worked */
    FORGET_LOOK = 16
};

struct hosts {
    struct map *map;
    size_t hand; /* where the last one was forgotten */
};

struct hosts *hosts_new(void)
{
    struct hosts *hosts = NEW(struct hosts);

    hosts->map = map_new(HOSTS_MAX);
    return hosts;
}

void hosts_free(struct hosts *hosts)
{
    struct host_memory *host;
    size_t position = 0;

    while ((host = map_next(hosts->map, &position, NULL)))
        memory_free(host);
    map_free(hosts->map);
    memory_free(hosts);
}

void hosts_move_clock(struct hosts *hosts, int64_t by_ms)
{
    struct host_memory *host;
    size_t position = 0;

    while ((host = map_next(hosts->map, &position, NULL))) {
        int64_t *const times[] = {&host->until_ms,        &host->worked_ms,
                                  &host->clear_until_ms,  &host->lock_step_until_ms,
                                  &host->chunks_until_ms, &host->no_probe_until_ms,
                                  &host->dane_until_ms,   &host->recipients_max_until_ms};

        for (size_t i = 0; i < sizeof times / sizeof *times; i++)
            clock_move(times[i], by_ms);
        family_move_clock(&host->families, by_ms);
    }
}

/* By the name of the block: its number moves when the file is edited. The names of blocks and routes may
 * have any byte, so they stand last. */
static struct slice host_key(const struct host_way *way, const char *name,
                             char text[HOST_KEY])
{
    const struct plan *plan = way->plan;
    struct pen pen = pen_on(text, HOST_KEY);

    pen_text(&pen, name);
    pen_byte(&pen, ':');
    pen_number(&pen, plan->port);
    if (way->source) {
        pen_byte(&pen, ' ');
        pen_text(&pen, way->source);
    }
    if (plan->is_route || way->block) {
        pen_byte(&pen, plan->is_route ? '/' : '#');
        pen_text(&pen, plan->is_route ? plan->route_name : way->block);
    }
    return (struct slice){text, (size_t)(pen.at - text)};
}

static struct host_way way_of(const struct destination *destination)
{
    return (struct host_way){.plan = &destination->plan,
                             .block = destination->block,
                             .source =
                                 destination->source ? destination->source->name : NULL};
}

const struct host_memory *host_look(const struct deliver *deliver,
                                    const struct host_way *way, const char *name)
{
    char text[HOST_KEY];

    return map_get(deliver->hosts->map, host_key(way, name, text));
}

struct host_memory *host_find(const struct destination *destination, const char *name)
{
    struct host_way way = way_of(destination);
    char text[HOST_KEY];

    return map_get(destination->deliver->hosts->map, host_key(&way, name, text));
}

/* Full: the next in turn goes, but those that attempts look at. */
static void forget_one(struct hosts *hosts)
{
    for (int i = 0; i < FORGET_LOOK; i++) {
        struct slice key;
        struct host_memory *host = map_next(hosts->map, &hosts->hand, &key);

        if (!host) {
            hosts->hand = 0;
        } else if (host->opening == 0 && host->waiting.count == 0) {
            memory_free(map_remove(hosts->map, key));
            return;
        }
    }
}

struct host_memory *host_memory(struct destination *destination, const char *name)
{
    struct hosts *hosts = destination->deliver->hosts;
    struct host_memory *host = host_find(destination, name);
    struct host_way way = way_of(destination);
    char text[HOST_KEY];
    struct slice mine = host_key(&way, name, text);

    if (host)
        return host;
    host = NEW(struct host_memory);
    list_init(&host->waiting);
    if (map_set(hosts->map, mine, host) == RESULT_OK)
        return host;
    forget_one(hosts);
    if (map_set(hosts->map, mine, host) == RESULT_OK)
        return host;
    memory_free(host);
    return NULL;
}

/* ---- who goes there ---- */

enum host_state host_state(const struct destination *destination,
                           const struct host_memory *host)
{
    int64_t now_ms = deliver_now(destination->deliver);

    if (!host)
        return HOST_IS_FREE;
    if (host->until_ms > now_ms)
        return HOST_RESTS;
    if (host->opening < JUDGES || now_ms - host->worked_ms < KNOWN_MS)
        return HOST_IS_FREE;
    return host->failures > 0 ? HOST_IS_TRIED : HOST_IS_NEW;
}

/* All of them: who is too many waits again. */
static void tell_waiting(const struct destination *destination, struct host_memory *host)
{
    struct link *link;

    while ((link = list_pop_front(&host->waiting))) {
        struct host_wait *wait = CONTAINER_OF(link, struct host_wait, link);

        wait->host = NULL;
        loop_defer(destination->deliver->rooms.loop, wait->turn, wait->on_turn,
                   wait->owner);
    }
}

struct host_memory *host_begin(struct destination *destination, const char *name)
{
    struct host_memory *host = host_memory(destination, name);

    if (host)
        host->opening++;
    return host;
}

void host_end(const struct destination *destination, struct host_memory *host)
{
    host->opening--;
    tell_waiting(destination, host);
}

void host_await(struct host_memory *host, struct host_wait *wait)
{
    wait->host = host;
    list_push_back(&host->waiting, &wait->link);
}

void host_await_cancel(struct host_wait *wait)
{
    if (wait->host)
        list_remove(&wait->host->waiting, &wait->link);
    wait->host = NULL;
}

static bool is_followed_by_its_equal(const struct plan *plan, const uint8_t *order,
                                     size_t at)
{
    return at + 1 < plan->host_count &&
           plan->hosts[order[at]].preference == plan->hosts[order[at + 1]].preference;
}

bool host_choose(const struct destination *destination, struct host_choice *choice)
{
    const struct plan *plan = &destination->plan;
    bool missed = choice->missed;

    choice->awaited = NULL;
    for (size_t at = choice->at; at < plan->host_count; at++) {
        unsigned index = choice->order[at];
        struct host_memory *host = host_find(destination, plan->hosts[index].name);
        enum host_state state = host_state(destination, host);

        if (choice->lacking & UINT32_C(1) << index)
            continue;
        if (state == HOST_IS_FREE) {
            choice->at = at;
            choice->missed = missed;
            return true;
        }
        missed = true;
        if (state != HOST_RESTS)
            choice->awaited = host;
        /* While nothing is known of it, those behind it are not its substitutes. */
        if (state == HOST_IS_NEW && !is_followed_by_its_equal(plan, choice->order, at))
            return false;
    }
    if (choice->awaited)
        return false;
    choice->at = plan->host_count;
    choice->missed = missed;
    return false;
}

/* ---- what came of it ---- */

void host_fault(struct destination *destination, const char *name)
{
    struct host_memory *host = host_memory(destination, name);
    int64_t now_ms = deliver_now(destination->deliver);
    uint32_t random;

    if (!host || host->until_ms > now_ms)
        return;
    secure_random(&random, sizeof random);
    host->failures++;
    host->worked_ms = 0;
    host->until_ms =
        now_ms + schedule_backoff(host->failures, HOST_FIRST_MS, HOST_MOST_MS, random);
    tell_waiting(destination, host);
}

void host_works(struct destination *destination, const char *name)
{
    struct host_memory *host = host_find(destination, name);

    if (!host)
        return;
    host->failures = 0;
    host->until_ms = 0;
    host->worked_ms = deliver_now(destination->deliver);
    tell_waiting(destination, host);
}

void host_note_dane(struct destination *destination, const char *name, bool is_known)
{
    struct host_memory *host =
        is_known ? host_find(destination, name) : host_memory(destination, name);
    uint32_t random;

    if (!host)
        return;
    if (is_known) {
        host->dane_failures = 0;
        host->dane_until_ms = 0;
        return;
    }
    secure_random(&random, sizeof random);
    host->dane_failures++;
    host->dane_generation = destination->deliver->generation;
    host->dane_until_ms =
        deliver_now(destination->deliver) +
        schedule_backoff(host->dane_failures, DANE_FIRST_MS, DANE_MOST_MS, random);
}

bool host_dane_is_unknown(const struct destination *destination, const char *name)
{
    const struct host_memory *host = host_find(destination, name);

    return host && host->dane_until_ms > deliver_now(destination->deliver) &&
           host->dane_generation == destination->deliver->generation;
}
