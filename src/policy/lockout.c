/* One record per address and one per name, each with the windows of its limit. Oldest failure
 * first, so that the record to forget is at the front. */
#include "lockout.h"

#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"
#include "window.h"

#include <string.h>

enum {
    RECORDS_MAX = 20000,
    KNOWN_MAX = 20000,
    KNOWN_MS = 24 * 3600 * 1000,
    QUIET_MS = 10 * 60 * 1000, /* without a failure: the delay begins anew */
    DELAY_FACTOR_MAX = 8,
    DELAY_MS_MAX = 30000,
    PEER_KEY_BYTES = 16,
    IPV6_CLIENT_BYTES = 8,
    KEY_MAX = LIMIT_USER_NAME + 1 + PEER_KEY_BYTES
};

struct record {
    struct link link;   /* by the last failure */
    struct link locked; /* by the beginning of the lock */
    size_t key_length;
    char key[KEY_MAX];
    int64_t failed_ms;
    int64_t locked_until_ms;
    unsigned streak;
    size_t window_count;
    struct window windows[QUOTAS_MAX];
};

struct records {
    struct lockout *lockout;
    struct map *map; /* key -> record */
    struct list order;
    struct list locked;
    struct quotas quotas;
    uint64_t locks;
};

/* A user came well from there. */
struct known {
    struct link link; /* by the time of the log-in */
    size_t key_length;
    char key[KEY_MAX];
    int64_t until_ms;
};

struct lockout {
    struct loop *loop;
    int64_t delay_ms;
    int64_t lockout_ms;
    struct records addresses;
    struct records users;
    struct map *known;
    struct list known_order;
};

static int64_t now_ms(const struct lockout *lockout)
{
    return loop_now_ms(lockout->loop);
}

/* A /64 is one client: its owner may take any address in it. */
static struct slice peer_key(const struct ip *peer)
{
    return (struct slice){(const char *)peer->bytes,
                          ip_is_v4(peer) ? PEER_KEY_BYTES : (size_t)IPV6_CLIENT_BYTES};
}

/* ---- records ---- */

static void records_init(struct records *records, struct lockout *lockout)
{
    records->lockout = lockout;
    records->map = map_new(RECORDS_MAX);
    list_init(&records->order);
    list_init(&records->locked);
}

static void record_free(struct records *records, struct record *record)
{
    (void)map_remove(records->map, (struct slice){record->key, record->key_length});
    list_remove(&records->order, &record->link);
    list_remove(&records->locked, &record->locked);
    memory_free(record);
}

static void records_fini(struct records *records)
{
    struct link *link;

    while ((link = list_first(&records->order)))
        record_free(records, CONTAINER_OF(link, struct record, link));
    map_free(records->map);
}

static void fit_windows(const struct records *records, struct record *record)
{
    bool is_same = record->window_count == records->quotas.count;

    for (size_t i = 0; is_same && i < record->window_count; i++)
        is_same = record->windows[i].window_ms == records->quotas.items[i].window_ms;
    if (is_same)
        return;
    record->window_count = records->quotas.count;
    for (size_t i = 0; i < record->window_count; i++)
        window_init(&record->windows[i], records->quotas.items[i].window_ms,
                    now_ms(records->lockout));
}

static struct record *take_record(struct records *records, struct slice key)
{
    struct record *record = map_get(records->map, key);

    if (!record) {
        if (map_count(records->map) == RECORDS_MAX)
            record_free(records,
                        CONTAINER_OF(list_first(&records->order), struct record, link));
        record = NEW(struct record);
        CHECK(key.length <= KEY_MAX);
        memcpy(record->key, key.data, key.length);
        record->key_length = key.length;
        CHECK(map_set(records->map, key, record) == RESULT_OK);
    }
    list_remove(&records->order, &record->link);
    list_push_back(&records->order, &record->link);
    fit_windows(records, record);
    return record;
}

static bool is_locked(const struct records *records, const struct record *record)
{
    return record && record->locked_until_ms > now_ms(records->lockout);
}

/* ---- the lock ---- */

static void log_lock(const struct records *records, const struct record *record)
{
    const struct lockout *lockout = records->lockout;
    struct log_line line;
    char text[IP_TEXT] = "";
    struct network network = {.prefix = 64};

    log_start(&line, LOG_WARNING, "policy.locked_out");
    if (records == &lockout->users) {
        log_slice(&line, "user", (struct slice){record->key, record->key_length});
    } else {
        memcpy(network.ip.bytes, record->key, record->key_length);
        if (record->key_length == PEER_KEY_BYTES)
            ip_print(&network.ip, text);
        else
            network_print(&network, text);
        log_text(&line, "peer", text);
    }
    log_seconds(&line, "wait", lockout->lockout_ms);
    log_end(&line);
}

static void lock(struct records *records, struct record *record)
{
    record->locked_until_ms = now_ms(records->lockout) + records->lockout->lockout_ms;
    list_remove(&records->locked, &record->locked);
    list_push_back(&records->locked, &record->locked);
    records->locks++;
    /* Behind the lock it may try as often again. */
    for (size_t i = 0; i < record->window_count; i++)
        window_init(&record->windows[i], record->windows[i].window_ms,
                    now_ms(records->lockout));
    log_lock(records, record);
}

static void count(struct records *records, struct record *record)
{
    bool is_full = false;

    for (size_t i = 0; i < record->window_count; i++) {
        window_advance(&record->windows[i], now_ms(records->lockout));
        window_add(&record->windows[i], 1);
        is_full =
            is_full || window_sum(&record->windows[i]) >= records->quotas.items[i].count;
    }
    if (is_full && records->lockout->lockout_ms > 0)
        lock(records, record);
}

/* One more failure of one address or name: how many in a row. */
static unsigned fail(struct records *records, struct slice key)
{
    struct record *record = take_record(records, key);
    int64_t now = now_ms(records->lockout);

    if (now - record->failed_ms > QUIET_MS)
        record->streak = 0;
    record->failed_ms = now;
    if (record->streak < DELAY_FACTOR_MAX)
        record->streak++;
    if (!is_locked(records, record))
        count(records, record);
    return record->streak;
}

/* ---- addresses that a user came from ---- */

static struct slice known_key(const struct lockout_try *try, char key[KEY_MAX])
{
    struct slice peer = peer_key(try->peer);

    memcpy(key, try->user.data, try->user.length);
    key[try->user.length] = '\0';
    memcpy(key + try->user.length + 1, peer.data, peer.length);
    return (struct slice){key, try->user.length + 1 + peer.length};
}

static void known_free(struct lockout *lockout, struct known *known)
{
    (void)map_remove(lockout->known, (struct slice){known->key, known->key_length});
    list_remove(&lockout->known_order, &known->link);
    memory_free(known);
}

static bool is_known(struct lockout *lockout, const struct lockout_try *try)
{
    char key[KEY_MAX];
    const struct known *known;

    if (!try->peer)
        return false;
    known = map_get(lockout->known, known_key(try, key));
    return known && known->until_ms > now_ms(lockout);
}

void lockout_succeeded(struct lockout *lockout, const struct lockout_try *try)
{
    char text[KEY_MAX];
    struct known *known;
    struct slice key;

    if (!try->peer || try->user.length == 0 || try->user.length > LIMIT_USER_NAME)
        return;
    key = known_key(try, text);
    known = map_get(lockout->known, key);
    if (!known) {
        if (map_count(lockout->known) == KNOWN_MAX)
            known_free(lockout,
                       CONTAINER_OF(list_first(&lockout->known_order), struct known, link));
        known = NEW(struct known);
        memcpy(known->key, key.data, key.length);
        known->key_length = key.length;
        CHECK(map_set(lockout->known, key, known) == RESULT_OK);
    }
    known->until_ms = now_ms(lockout) + KNOWN_MS;
    list_remove(&lockout->known_order, &known->link);
    list_push_back(&lockout->known_order, &known->link);
}

/* ---- questions ---- */

bool lockout_holds_address(struct lockout *lockout, const struct ip *peer)
{
    return is_locked(&lockout->addresses, map_get(lockout->addresses.map, peer_key(peer)));
}

bool lockout_holds_user(struct lockout *lockout, const struct lockout_try *try)
{
    if (try->user.length == 0 || try->user.length > LIMIT_USER_NAME)
        return false;
    return is_locked(&lockout->users, map_get(lockout->users.map, try->user)) &&
           !is_known(lockout, try);
}

int64_t lockout_failed(struct lockout *lockout, const struct lockout_try *try)
{
    unsigned streak = 1;
    int64_t delay_ms;

    if (try->peer)
        streak = fail(&lockout->addresses, peer_key(try->peer));
    if (try->user.length > 0 && try->user.length <= LIMIT_USER_NAME) {
        unsigned of_user = fail(&lockout->users, try->user);

        streak = of_user > streak ? of_user : streak;
    }
    delay_ms = lockout->delay_ms;
    for (unsigned i = 1, factor = 1; i < streak && factor < DELAY_FACTOR_MAX; i++) {
        factor *= 2;
        delay_ms *= 2;
    }
    return delay_ms < DELAY_MS_MAX ? delay_ms : DELAY_MS_MAX;
}

static size_t locked_now(struct records *records)
{
    struct link *link;

    while ((link = list_first(&records->locked)) &&
           !is_locked(records, CONTAINER_OF(link, struct record, locked)))
        list_remove(&records->locked, link);
    return records->locked.count;
}

void lockout_statistics(struct lockout *lockout, struct auth_statistics *statistics)
{
    statistics->lockouts_of_addresses = lockout->addresses.locks;
    statistics->lockouts_of_users = lockout->users.locks;
    statistics->locked_addresses = locked_now(&lockout->addresses);
    statistics->locked_users = locked_now(&lockout->users);
}

/* ---- life ---- */

void lockout_apply(struct lockout *lockout, const struct auth_settings *settings)
{
    lockout->delay_ms = settings->failure_delay_ms;
    lockout->lockout_ms = settings->lockout_ms;
    lockout->addresses.quotas = settings->failures_per_address;
    lockout->users.quotas = settings->failures_per_user;
}

struct lockout *lockout_new(struct loop *loop)
{
    struct lockout *lockout = NEW(struct lockout);

    lockout->loop = loop;
    records_init(&lockout->addresses, lockout);
    records_init(&lockout->users, lockout);
    lockout->known = map_new(KNOWN_MAX);
    list_init(&lockout->known_order);
    return lockout;
}

void lockout_free(struct lockout *lockout)
{
    struct link *link;

    if (!lockout)
        return;
    records_fini(&lockout->addresses);
    records_fini(&lockout->users);
    while ((link = list_first(&lockout->known_order)))
        known_free(lockout, CONTAINER_OF(link, struct known, link));
    map_free(lockout->known);
    memory_free(lockout);
}
