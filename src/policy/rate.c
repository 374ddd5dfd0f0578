/* One counter per address that has a connection open now: the map never holds more entries
 * than there are connections. The count is kept in the value itself, so that a connection
 * costs no allocation but the first key of its address. */
#include "smtpd/policy/rate.h"

#include "smtpd/base/check.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"

enum { ADDRESSES_MAX = 1000000, IPV6_CLIENT_BYTES = 8 };

struct rate {
    struct rate_settings settings;
    struct map *addresses; /* -> the count, as a pointer */
    unsigned connections;
};

/* A /64 is one client: its owner may take any address in it. */
static struct slice client_key(const struct ip *peer)
{
    return (struct slice){(const char *)peer->bytes,
                          ip_is_v4(peer) ? sizeof peer->bytes : (size_t)IPV6_CLIENT_BYTES};
}

struct rate *rate_new(const struct rate_settings *settings)
{
    struct rate *rate = NEW(struct rate);

    rate->settings = *settings;
    rate->addresses = map_new(ADDRESSES_MAX);
    return rate;
}

void rate_apply(struct rate *rate, const struct rate_settings *settings)
{
    rate->settings = *settings;
}

void rate_free(struct rate *rate)
{
    if (!rate)
        return;
    map_free(rate->addresses);
    memory_free(rate);
}

enum rate_verdict rate_admit(struct rate *rate, const struct ip *peer)
{
    struct slice key = client_key(peer);
    uintptr_t count;

    if (rate->connections >= rate->settings.connections)
        return RATE_TOO_MANY;
    count = (uintptr_t)map_get(rate->addresses, key);
    if (count >= rate->settings.connections_per_address)
        return RATE_TOO_MANY_FROM_ADDRESS;
    if (map_set(rate->addresses, key, (void *)(count + 1)) != RESULT_OK)
        return RATE_TOO_MANY;
    rate->connections++;
    return RATE_OK;
}

void rate_leave(struct rate *rate, const struct ip *peer)
{
    struct slice key = client_key(peer);
    uintptr_t count = (uintptr_t)map_get(rate->addresses, key);

    CHECK(count > 0 && rate->connections > 0);
    rate->connections--;
    if (count == 1)
        (void)map_remove(rate->addresses, key);
    else
        CHECK(map_set(rate->addresses, key, (void *)(count - 1)) == RESULT_OK);
}

unsigned rate_connections(const struct rate *rate)
{
    return rate->connections;
}
