/* What the room remembers of a host: of the MX hosts of the world, which no rule matches. */
#ifndef SMTPD_TESTS_DELIVER_KNOWN_HOSTS_H
#define SMTPD_TESTS_DELIVER_KNOWN_HOSTS_H

#include "deliver_world.h"

static inline struct destination world_destination(const struct world *w)
{
    return (struct destination){.deliver = w->deliver,
                                .plan = {.port = w->settings.port, .rule = -1}};
}

static inline struct host_memory *world_host(const struct world *w, const char *name)
{
    struct destination any = world_destination(w);

    return host_memory(&any, name);
}

/* It need not be judged by two first. */
static inline void world_know_host(const struct world *w, const char *name)
{
    struct destination any = world_destination(w);

    assert_non_null(host_memory(&any, name));
    host_works(&any, name);
}

#endif
