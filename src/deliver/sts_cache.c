/* Records in a map and in the order of their use. What changed is written by one job at a time, so
 * that the last word about a domain is the last one on disk. */
#include "sts_cache.h"

#include "clock.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/list.h"
#include "smtpd/base/log.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

#define MINUTE_MS INT64_C(60000)
#define HOUR_MS INT64_C(3600000)
#define DAY_MS INT64_C(86400000)
enum { CHANGES_MAX = 2 * LIMIT_STS_POLICIES, FAILURE_DOUBLINGS = 4 };

struct entry {
    struct link link; /* by use, the oldest first */
    struct sts_record record;
    bool is_changed; /* among the changes */
    bool is_unsaved; /* a write failed */
};

struct failure {
    struct link link; /* the oldest first */
    char domain[STS_DOMAIN_TEXT];
    unsigned count;
    int64_t until_ms;
};

struct change { /* the file of this domain is to be what the cache has: or not to be */
    struct link link;
    char domain[STS_DOMAIN_TEXT];
};

struct sts_cache {
    struct loop *loop;
    struct offload *offload; /* NULL: in memory only */
    char *folder;
    struct map *entries;
    struct list by_use;
    struct map *failures;
    struct list failing;
    struct list changes;
    struct job *load;
    struct job *save;
    struct deferred loaded;
    loop_fn *on_loaded;
    void *owner;
};

static struct entry *entry_of(struct link *link)
{
    return CONTAINER_OF(link, struct entry, link);
}

/* ---- to the disk ---- */

struct save {
    char *folder;
    char domain[STS_DOMAIN_TEXT];
    struct bytes text; /* empty: the file goes */
    enum result result;
    struct fault fault;
};

static void save_free(void *input)
{
    struct save *save = input;

    memory_free(save->folder);
    bytes_fini(&save->text);
    memory_free(save);
}

static void save_run(void *input)
{
    struct save *save = input;

    if (save->text.length == 0)
        sts_file_remove(save->folder, save->domain);
    else
        save->result = sts_file_write(save->folder, save->domain, bytes_view(&save->text),
                                      &save->fault);
}

static void save_next(struct sts_cache *cache);

static void on_saved(void *owner, void *input)
{
    struct sts_cache *cache = owner;
    struct save *save = input;
    struct entry *entry;

    cache->save = NULL;
    if (save->result != RESULT_OK) {
        log_message(
            LOG_WARNING, "deliver.sts_write_failed",
            "%s; the MTA-STS policy of %s is kept in memory, and written again in a "
            "minute",
            save->fault.text, save->domain);
        entry = map_get(cache->entries, slice_of(save->domain));
        if (entry)
            entry->is_unsaved = true;
        save_free(save);
        return; /* the others would fail too: sts_cache_tidy() goes on */
    }
    save_free(save);
    save_next(cache);
}

static struct save *save_new(const struct sts_cache *cache, const struct change *change,
                             const struct entry *entry)
{
    struct save *save = NEW(struct save);

    save->folder = memory_text(cache->folder);
    (void)snprintf(save->domain, sizeof save->domain, "%s", change->domain);
    bytes_init(&save->text, STS_BODY_MAX);
    if (entry && sts_record_print(&entry->record, &save->text) != RESULT_OK)
        bytes_clear(&save->text); /* 100 patterns fit: it cannot be */
    return save;
}

static void save_next(struct sts_cache *cache)
{
    struct link *link = list_first(&cache->changes);
    struct change *change;
    struct entry *entry;
    struct save *save;

    if (cache->save || cache->load || !link)
        return;
    change = CONTAINER_OF(link, struct change, link);
    entry = map_get(cache->entries, slice_of(change->domain));
    save = save_new(cache, change, entry);
    if (job_start(cache->offload, POOL_FILE, save_run, on_saved, save_free, save, cache,
                  &cache->save) != RESULT_OK) {
        save_free(save); /* the pool is full: sts_cache_tidy() tries again */
        return;
    }
    if (entry)
        entry->is_changed = entry->is_unsaved = false;
    list_remove(&cache->changes, link);
    memory_free(change);
}

static void note_change(struct sts_cache *cache, const char *domain, struct entry *entry)
{
    struct change *change;

    if (!cache->offload || (entry && entry->is_changed))
        return;
    if (cache->changes.count >= CHANGES_MAX) {
        if (entry)
            entry->is_unsaved = true;
        return; /* a file too many: it is over some day, and read as that */
    }
    change = NEW(struct change);
    (void)snprintf(change->domain, sizeof change->domain, "%s", domain);
    list_push_back(&cache->changes, &change->link);
    if (entry)
        entry->is_changed = true;
    save_next(cache);
}

/* ---- records ---- */

static void entry_free(struct sts_cache *cache, struct entry *entry)
{
    (void)map_remove(cache->entries, slice_of(entry->record.domain));
    list_remove(&cache->by_use, &entry->link);
    sts_policy_unref(entry->record.policy);
    memory_free(entry);
}

static void drop(struct sts_cache *cache, struct entry *entry)
{
    char domain[STS_DOMAIN_TEXT];

    (void)snprintf(domain, sizeof domain, "%s", entry->record.domain);
    entry_free(cache, entry);
    note_change(cache, domain, NULL);
}

/* Nor is one believed that comes from the future: a clock was wrong. */
static bool is_over(const struct sts_record *record, int64_t now_ms)
{
    return now_ms - record->fetched_ms >= sts_policy_max_age_ms(record->policy) ||
           record->fetched_ms > now_ms + DAY_MS;
}

static struct entry *add(struct sts_cache *cache, const char *domain)
{
    struct entry *entry = map_get(cache->entries, slice_of(domain));

    if (entry)
        return entry;
    if (map_count(cache->entries) >= LIMIT_STS_POLICIES)
        drop(cache, entry_of(list_first(&cache->by_use)));
    entry = NEW(struct entry);
    (void)snprintf(entry->record.domain, sizeof entry->record.domain, "%s", domain);
    if (map_set(cache->entries, slice_of(domain), entry) != RESULT_OK) {
        memory_free(entry);
        return NULL;
    }
    list_push_back(&cache->by_use, &entry->link);
    return entry;
}

const struct sts_record *sts_cache_find(struct sts_cache *cache, const char *domain)
{
    struct entry *entry = map_get(cache->entries, slice_of(domain));

    if (!entry)
        return NULL;
    if (is_over(&entry->record, loop_wall_ms(cache->loop))) {
        drop(cache, entry);
        return NULL;
    }
    return &entry->record;
}

void sts_cache_touch(struct sts_cache *cache, const char *domain)
{
    struct entry *entry = map_get(cache->entries, slice_of(domain));

    if (!entry)
        return;
    entry->record.used_ms = loop_wall_ms(cache->loop);
    list_remove(&cache->by_use, &entry->link);
    list_push_back(&cache->by_use, &entry->link);
}

static void forget_failure(struct sts_cache *cache, const char *domain)
{
    struct failure *failure = map_remove(cache->failures, slice_of(domain));

    if (!failure)
        return;
    list_remove(&cache->failing, &failure->link);
    memory_free(failure);
}

void sts_cache_put(struct sts_cache *cache, const char *domain, const char *id,
                   struct sts_policy *policy)
{
    struct entry *entry = add(cache, domain);
    int64_t now_ms = loop_wall_ms(cache->loop);

    forget_failure(cache, domain);
    if (!entry) {
        sts_policy_unref(policy);
        return;
    }
    sts_policy_unref(entry->record.policy);
    entry->record.policy = policy;
    (void)snprintf(entry->record.id, sizeof entry->record.id, "%s", id);
    entry->record.fetched_ms = now_ms;
    if (entry->record.used_ms == 0)
        entry->record.used_ms = now_ms;
    note_change(cache, domain, entry);
}

size_t sts_cache_count(const struct sts_cache *cache)
{
    return map_count(cache->entries);
}

/* ---- failures ---- */

int64_t sts_cache_note_failure(struct sts_cache *cache, const char *domain)
{
    struct failure *failure = map_get(cache->failures, slice_of(domain));
    int64_t wait_ms;

    if (!failure) {
        if (map_count(cache->failures) >= LIMIT_STS_FAILURES)
            forget_failure(
                cache,
                CONTAINER_OF(list_first(&cache->failing), struct failure, link)->domain);
        failure = NEW(struct failure);
        (void)snprintf(failure->domain, sizeof failure->domain, "%s", domain);
        if (map_set(cache->failures, slice_of(domain), failure) != RESULT_OK) {
            memory_free(failure);
            return 0;
        }
    }
    list_remove(&cache->failing, &failure->link);
    list_push_back(&cache->failing, &failure->link);
    wait_ms = (5 * MINUTE_MS) << (failure->count < FAILURE_DOUBLINGS ? failure->count
                                                                     : FAILURE_DOUBLINGS);
    failure->count++;
    if (wait_ms > HOUR_MS)
        wait_ms = HOUR_MS;
    failure->until_ms = loop_wall_ms(cache->loop) + wait_ms;
    return wait_ms;
}

void sts_cache_move_clock(struct sts_cache *cache, int64_t by_ms)
{
    for (struct link *link = list_first(&cache->failing); link;
         link = list_next(&cache->failing, link))
        clock_move(&CONTAINER_OF(link, struct failure, link)->until_ms, by_ms);
}

bool sts_cache_has_failure(const struct sts_cache *cache, const char *domain)
{
    const struct failure *failure = map_get(cache->failures, slice_of(domain));

    return failure && failure->until_ms > loop_wall_ms(cache->loop);
}

unsigned sts_cache_failures(const struct sts_cache *cache, const char *domain)
{
    const struct failure *failure = map_get(cache->failures, slice_of(domain));

    return failure ? failure->count : 0;
}

/* ---- upkeep ---- */

static bool is_stale(const struct sts_cache *cache, const struct sts_record *record,
                     int64_t now_ms)
{
    int64_t age_ms = sts_policy_max_age_ms(record->policy) / 2;

    if (age_ms > DAY_MS)
        age_ms = DAY_MS;
    if (age_ms < MINUTE_MS)
        age_ms = MINUTE_MS;
    return now_ms - record->fetched_ms >= age_ms &&
           now_ms - record->used_ms < 30 * DAY_MS &&
           !sts_cache_has_failure(cache, record->domain);
}

void sts_cache_each_stale(struct sts_cache *cache, sts_stale_fn *fn, void *owner)
{
    int64_t now_ms = loop_wall_ms(cache->loop);

    for (struct link *link = list_first(&cache->by_use); link;
         link = list_next(&cache->by_use, link)) {
        const struct sts_record *record = &entry_of(link)->record;

        if (is_stale(cache, record, now_ms) && !fn(owner, record))
            return;
    }
}

void sts_cache_tidy(struct sts_cache *cache)
{
    int64_t now_ms = loop_wall_ms(cache->loop);
    struct link *next;

    for (struct link *link = list_first(&cache->by_use); link; link = next) {
        struct entry *entry = entry_of(link);

        next = list_next(&cache->by_use, link);
        if (is_over(&entry->record, now_ms))
            drop(cache, entry);
        else if (entry->is_unsaved)
            note_change(cache, entry->record.domain, entry);
    }
    if (cache->offload)
        save_next(cache);
}

/* ---- from the disk ---- */

struct load {
    char *folder;
    struct sts_record *records;
    size_t count;
};

static void load_free(void *input)
{
    struct load *load = input;

    for (size_t i = 0; i < load->count; i++)
        sts_policy_unref(load->records[i].policy);
    memory_free(load->records);
    memory_free(load->folder);
    memory_free(load);
}

static void load_run(void *input)
{
    struct load *load = input;

    load->count = sts_file_read_all(load->folder, LIMIT_STS_POLICIES, &load->records);
}

static void take(struct sts_cache *cache, struct sts_record *record)
{
    struct entry *entry = add(cache, record->domain);

    if (!entry)
        return;
    entry->record = *record;
    record->policy = NULL;
}

static void on_load(void *owner, void *input)
{
    struct sts_cache *cache = owner;
    struct load *load = input;

    cache->load = NULL;
    for (size_t i = 0; i < load->count; i++)
        take(cache, &load->records[i]);
    load_free(load);
    sts_cache_tidy(cache);
    cache->on_loaded(cache->owner);
}

static void on_nothing_to_load(void *owner)
{
    struct sts_cache *cache = owner;

    cache->on_loaded(cache->owner);
}

struct sts_cache *sts_cache_new(struct loop *loop, struct offload *offload,
                                const char *folder, loop_fn *on_loaded, void *owner)
{
    struct sts_cache *cache = NEW(struct sts_cache);
    struct load *load = NEW(struct load);

    cache->loop = loop;
    cache->offload = offload;
    cache->folder = memory_text(folder);
    cache->entries = map_new(LIMIT_STS_POLICIES);
    cache->failures = map_new(LIMIT_STS_FAILURES);
    list_init(&cache->by_use);
    list_init(&cache->failing);
    list_init(&cache->changes);
    cache->on_loaded = on_loaded;
    cache->owner = owner;
    load->folder = memory_text(folder);
    if (offload && job_start(offload, POOL_FILE, load_run, on_load, load_free, load, cache,
                             &cache->load) == RESULT_OK)
        return cache;
    load_free(load);
    loop_defer(loop, &cache->loaded, on_nothing_to_load, cache);
    return cache;
}

void sts_cache_free(struct sts_cache *cache)
{
    struct link *link;

    if (cache->load)
        job_cancel(cache->load);
    if (cache->save)
        job_cancel(cache->save);
    deferred_cancel(cache->loop, &cache->loaded);
    while ((link = list_first(&cache->by_use)))
        entry_free(cache, entry_of(link));
    while ((link = list_first(&cache->failing)))
        forget_failure(cache, CONTAINER_OF(link, struct failure, link)->domain);
    while ((link = list_pop_front(&cache->changes)))
        memory_free(CONTAINER_OF(link, struct change, link));
    map_free(cache->entries);
    map_free(cache->failures);
    memory_free(cache->folder);
    memory_free(cache);
}
