/* Counts of what is open stand in the values of two maps, so that a connection costs no
 * allocation but the first key of its address and network: the maps never hold more entries
 * than there are connections. What has to be remembered longer (how often an address came,
 * whether it misbehaved) is a record in a list, oldest first. Rejected: token buckets; they
 * let through the burst and then the rate, twice what the option says. */
#include "smtpd/policy/rate.h"

#include "smtpd/base/check.h"
#include "smtpd/base/list.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"
#include "window.h"

#include <string.h>

enum {
    OPEN_MAX = 1000000,
    IPV6_CLIENT_BYTES = 8,
    IPV6_NETWORK_BYTES = 6,
    IPV4_NETWORK_BYTES = 15, /* of ::ffff:a.b.c.d */
    TIDY_EACH_TIME = 2       /* records looked at per connection */
};

struct record {
    struct link link; /* by the last time it was touched */
    struct ip whose;  /* its key: of an address, or of a network */
    size_t key_length;
    const struct quotas *quotas; /* of the settings */
    int64_t barred_until_ms;
    size_t window_count;
    struct window windows[]; /* as many as the rate has quotas */
};

struct rate {
    struct rate_settings settings;
    struct map *addresses; /* -> the count, as a pointer */
    struct map *networks;
    struct map *records; /* address or network -> record: their keys differ in length */
    struct list order;
    unsigned connections;
};

/* A /64 is one client: its owner may take any address in it. */
static struct slice client_key(const struct ip *peer)
{
    return (struct slice){(const char *)peer->bytes,
                          ip_is_v4(peer) ? sizeof peer->bytes : (size_t)IPV6_CLIENT_BYTES};
}

static struct slice network_key(const struct ip *peer)
{
    return (struct slice){(const char *)peer->bytes, ip_is_v4(peer)
                                                         ? (size_t)IPV4_NETWORK_BYTES
                                                         : (size_t)IPV6_NETWORK_BYTES};
}

struct rate *rate_new(const struct rate_settings *settings)
{
    struct rate *rate = NEW(struct rate);

    rate->settings = *settings;
    rate->addresses = map_new(OPEN_MAX);
    rate->networks = map_new(OPEN_MAX);
    rate->records = map_new(RATE_RECORDS_MAX);
    list_init(&rate->order);
    return rate;
}

static void record_free(struct rate *rate, struct record *record)
{
    struct slice key = {(const char *)record->whose.bytes, record->key_length};

    (void)map_remove(rate->records, key);
    list_remove(&rate->order, &record->link);
    memory_free(record);
}

static struct record *oldest(const struct rate *rate)
{
    struct link *link = list_first(&rate->order);

    return link ? CONTAINER_OF(link, struct record, link) : NULL;
}

static void forget_all(struct rate *rate)
{
    struct record *record;

    while ((record = oldest(rate)))
        record_free(rate, record);
}

/* Windows of other lengths cannot be carried over. */
static bool has_same_windows(const struct quotas *a, const struct quotas *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->items[i].window_ms != b->items[i].window_ms)
            return false;
    return true;
}

void rate_apply(struct rate *rate, const struct rate_settings *settings)
{
    bool is_same =
        has_same_windows(&rate->settings.connection_rate, &settings->connection_rate) &&
        has_same_windows(&rate->settings.network_rate, &settings->network_rate);

    rate->settings = *settings;
    if (!is_same)
        forget_all(rate);
}

void rate_free(struct rate *rate)
{
    if (!rate)
        return;
    forget_all(rate);
    map_free(rate->addresses);
    map_free(rate->networks);
    map_free(rate->records);
    memory_free(rate);
}

/* ---- records ---- */

static struct record *find(const struct rate *rate, struct slice key)
{
    return map_get(rate->records, key);
}

static void touch(struct rate *rate, struct record *record)
{
    list_remove(&rate->order, &record->link);
    list_push_back(&rate->order, &record->link);
}

static struct record *find_or_make(struct rate *rate, struct slice key,
                                   const struct quotas *quotas, int64_t now_ms)
{
    struct record *record = find(rate, key);

    if (record) {
        touch(rate, record);
        return record;
    }
    if (map_count(rate->records) == RATE_RECORDS_MAX)
        record_free(rate, oldest(rate));
    record = memory_new(sizeof *record + quotas->count * sizeof(struct window));
    memcpy(record->whose.bytes, key.data, key.length);
    record->key_length = key.length;
    record->quotas = quotas;
    record->window_count = quotas->count;
    for (size_t i = 0; i < quotas->count; i++)
        window_init(&record->windows[i], quotas->items[i].window_ms, now_ms);
    CHECK(map_set(rate->records, key, record) == RESULT_OK);
    list_push_back(&rate->order, &record->link);
    return record;
}

static bool is_over(struct record *record, int64_t now_ms)
{
    if (record->barred_until_ms > now_ms)
        return false;
    for (size_t i = 0; i < record->window_count; i++) {
        window_advance(&record->windows[i], now_ms);
        if (window_sum(&record->windows[i]) > 0)
            return false;
    }
    return true;
}

/* The oldest records go when nothing in them counts any more. */
static void tidy(struct rate *rate, int64_t now_ms)
{
    for (int i = 0; i < TIDY_EACH_TIME; i++) {
        struct record *record = oldest(rate);

        if (!record || !is_over(record, now_ms))
            return;
        record_free(rate, record);
    }
}

static bool comes_too_often(const struct rate *rate, struct slice key, int64_t now_ms)
{
    struct record *record = find(rate, key);

    for (size_t i = 0; record && i < record->window_count; i++) {
        window_advance(&record->windows[i], now_ms);
        if (window_sum(&record->windows[i]) >= record->quotas->items[i].count)
            return true;
    }
    return false;
}

/* ---- what is open ---- */

static unsigned open_from(const struct map *map, struct slice key)
{
    return (unsigned)(uintptr_t)map_get(map, key);
}

static void count_open(struct map *map, struct slice key)
{
    uintptr_t count = (uintptr_t)map_get(map, key);

    CHECK(map_set(map, key, (void *)(count + 1)) == RESULT_OK);
}

static void count_closed(struct map *map, struct slice key)
{
    uintptr_t count = (uintptr_t)map_get(map, key);

    CHECK(count > 0);
    if (count == 1)
        (void)map_remove(map, key);
    else
        CHECK(map_set(map, key, (void *)(count - 1)) == RESULT_OK);
}

static enum rate_verdict judge_stranger(struct rate *rate, const struct ip *peer,
                                        int64_t now_ms)
{
    const struct record *record = find(rate, client_key(peer));

    if (record && record->barred_until_ms > now_ms)
        return RATE_BARRED;
    if (open_from(rate->networks, network_key(peer)) >=
        rate->settings.connections_per_network)
        return RATE_TOO_MANY_FROM_NETWORK;
    if (comes_too_often(rate, client_key(peer), now_ms))
        return RATE_TOO_OFTEN;
    return comes_too_often(rate, network_key(peer), now_ms) ? RATE_TOO_OFTEN_FROM_NETWORK
                                                            : RATE_OK;
}

static void count_new(struct rate *rate, struct slice key, const struct quotas *quotas,
                      int64_t now_ms)
{
    struct record *record;

    if (quotas->count == 0)
        return;
    record = find_or_make(rate, key, quotas, now_ms);
    for (size_t i = 0; i < record->window_count; i++) {
        window_advance(&record->windows[i], now_ms);
        window_add(&record->windows[i], 1);
    }
}

static void count_stranger(struct rate *rate, const struct ip *peer, int64_t now_ms)
{
    count_open(rate->networks, network_key(peer));
    count_new(rate, client_key(peer), &rate->settings.connection_rate, now_ms);
    count_new(rate, network_key(peer), &rate->settings.network_rate, now_ms);
}

enum rate_verdict rate_admit(struct rate *rate, const struct rate_client *client,
                             int64_t now_ms)
{
    struct slice key = client_key(&client->peer);
    enum rate_verdict verdict = RATE_OK;

    tidy(rate, now_ms);
    if (rate->connections >= rate->settings.connections || rate->connections == OPEN_MAX)
        return RATE_TOO_MANY;
    if (open_from(rate->addresses, key) >= rate->settings.connections_per_address)
        return RATE_TOO_MANY_FROM_ADDRESS;
    if (!client->is_exempt)
        verdict = judge_stranger(rate, &client->peer, now_ms);
    if (verdict != RATE_OK)
        return verdict;
    if (!client->is_exempt)
        count_stranger(rate, &client->peer, now_ms);
    count_open(rate->addresses, key);
    rate->connections++;
    return RATE_OK;
}

/* Its own connection is the latest one that is counted; a step or two later it is still in
 * the newest step that counts anything, or has left by itself. */
static void give_window_back(struct window *window)
{
    for (int i = 0; i < WINDOW_COUNTS; i++)
        if (window->counts[i] > 0) {
            window->counts[i]--;
            return;
        }
}

static void give_back(struct rate *rate, struct slice key)
{
    struct record *record = find(rate, key);

    for (size_t i = 0; record && i < record->window_count; i++)
        give_window_back(&record->windows[i]);
}

void rate_exempt(struct rate *rate, struct rate_client *client)
{
    if (client->is_exempt)
        return;
    client->is_exempt = true;
    count_closed(rate->networks, network_key(&client->peer));
    give_back(rate, client_key(&client->peer));
    give_back(rate, network_key(&client->peer));
}

void rate_leave(struct rate *rate, const struct rate_client *client)
{
    CHECK(rate->connections > 0);
    rate->connections--;
    count_closed(rate->addresses, client_key(&client->peer));
    if (!client->is_exempt)
        count_closed(rate->networks, network_key(&client->peer));
}

void rate_bar(struct rate *rate, const struct ip *peer, int64_t until_ms, int64_t now_ms)
{
    find_or_make(rate, client_key(peer), &rate->settings.connection_rate, now_ms)
        ->barred_until_ms = until_ms;
}

unsigned rate_connections(const struct rate *rate)
{
    return rate->connections;
}

size_t rate_records(const struct rate *rate)
{
    return map_count(rate->records);
}
