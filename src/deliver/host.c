/* What is remembered of each host, in memory: its back-off, and what was learned there. */
#include "host.h"

#include "inner.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/pen.h"
#include "smtpd/base/secure.h"
#include "smtpd/queue/schedule.h"

enum { HOST_FIRST_MS = 30000, HOST_MOST_MS = 900000, HOSTS_MAX = 100000, HOST_KEY = 640 };

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

static struct slice host_key(const struct destination *destination, const char *name,
                             char text[HOST_KEY])
{
    const struct plan *plan = &destination->plan;
    struct pen pen = pen_on(text, HOST_KEY);

    pen_text(&pen, name);
    pen_byte(&pen, ':');
    pen_number(&pen, plan->port);
    pen_byte(&pen, plan->is_route ? '/' : '#');
    if (plan->is_route)
        pen_text(&pen, plan->route_name);
    else
        pen_number(&pen, (uint64_t)plan->rule + 1); /* -1, none, is 0 */
    return (struct slice){text, (size_t)(pen.at - text)};
}

struct host_memory *host_find(const struct destination *destination, const char *name)
{
    char text[HOST_KEY];

    return map_get(destination->deliver->hosts->map, host_key(destination, name, text));
}

/* Full: the next in turn goes. */
static void forget_one(struct hosts *hosts)
{
    struct slice key;

    if (!map_next(hosts->map, &hosts->hand, &key)) {
        hosts->hand = 0;
        if (!map_next(hosts->map, &hosts->hand, &key))
            return;
    }
    memory_free(map_remove(hosts->map, key));
}

struct host_memory *host_memory(struct destination *destination, const char *name)
{
    struct hosts *hosts = destination->deliver->hosts;
    struct host_memory *host = host_find(destination, name);
    char text[HOST_KEY];
    struct slice mine = host_key(destination, name, text);

    if (host)
        return host;
    host = NEW(struct host_memory);
    if (map_set(hosts->map, mine, host) == RESULT_OK)
        return host;
    forget_one(hosts);
    if (map_set(hosts->map, mine, host) == RESULT_OK)
        return host;
    memory_free(host);
    return NULL;
}

void host_fault(struct destination *destination, const char *name)
{
    struct host_memory *host = host_memory(destination, name);
    uint32_t random;

    if (!host)
        return;
    secure_random(&random, sizeof random);
    host->failures++;
    host->until_ms = deliver_now(destination->deliver) +
                     schedule_backoff(host->failures, HOST_FIRST_MS, HOST_MOST_MS, random);
}

void host_works(struct destination *destination, const char *name)
{
    struct host_memory *host = host_find(destination, name);

    if (host)
        host->failures = 0, host->until_ms = 0;
}
