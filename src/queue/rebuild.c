/* The index after a start: a scan in the background, in batches on the file pool. Mail is
 * accepted meanwhile; ids of this process are not scanned, since they enter the index by
 * themselves. The same reading serves the overflow: entries that had no domain queue. */
#include "inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <string.h>

/* ADD_A_TURN: the loop, which puts them into the index, has its other work between. */
enum {
    BATCH_ENVELOPES = 250,
    BATCH_GROUPS = 1000,
    ADD_A_TURN = 100,
    OVERFLOW_ENTRIES = 100,
    AGAIN_MS = 5000,
    REST_MS = 60000
};

struct found {
    struct queue_entry entry;
    int64_t hold_ms;
    char lane[LANE_TEXT];
    char tenant[LIMIT_USER_NAME + 1];
    bool has_tenant;
    char pool[LIMIT_POOL_NAME + 1]; /* "": none */
    int8_t priority;
};

struct rebuild {
    struct queue *queue;
    struct reading *reading;
    struct reading *overflow;
    struct timer again;
    int64_t tell_ms; /* loop clock: of records of the overflow that cannot be read */
    uint64_t next_id;
    uint64_t groups;
    bool is_over;
    bool is_stale;        /* what is being read was changed meanwhile */
    struct batch *adding; /* read, and on its way into the index */
    size_t added;
    struct deferred add;
};

struct batch { /* touched by the pool */
    struct store_scan scan;
    struct queue_entry *wanted; /* of the overflow; NULL: a scan */
    size_t wanted_count;
    size_t unread_count; /* of them, in front: they could not be read now */
    struct found *found;
    size_t count;
    size_t capacity;
    size_t corrupt;
    enum result result;
};

static void keep(void *owner, uint64_t id, uint32_t number, struct slice envelope_record,
                 struct slice record)
{
    struct batch *batch = owner;
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct envelope envelope;
    struct group group;
    struct found *found;
    uint32_t groups;

    if (record_decode_envelope(envelope_record, id, &envelope, &groups) != RESULT_OK ||
        record_decode_group(record, number, &group, recipients) != RESULT_OK) {
        batch->corrupt++;
        return;
    }
    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity ? batch->capacity * 2 : 64;
        batch->found = memory_resize(batch->found, batch->capacity * sizeof *batch->found);
    }
    found = &batch->found[batch->count++];
    memset(found, 0, sizeof *found);
    found->entry = (struct queue_entry){id, number, (uint32_t)(envelope.arrival_ms / 1000),
                                        group.next_attempt_ms, group.is_held};
    found->hold_ms = group.not_before_ms;
    (void)slice_copy_text(slice_of(group.lane), found->lane, sizeof found->lane);
    found->has_tenant =
        envelope.tenant &&
        slice_copy_text(slice_of(envelope.tenant), found->tenant, sizeof found->tenant);
    found->priority = envelope.priority;
    (void)slice_copy_text(slice_of(envelope.pool ? envelope.pool : ""), found->pool,
                          sizeof found->pool);
}

static void scan_run(struct store *store, void *argument)
{
    struct batch *batch = argument;

    batch->scan.fn = keep;
    batch->scan.owner = batch;
    batch->result = store_scan_groups(store, &batch->scan);
}

static void read_wanted(struct store *store, struct batch *batch,
                        const struct queue_entry *wanted)
{
    struct bytes envelope;
    struct bytes record;
    enum result result;

    bytes_init(&envelope, RECORD_MAX);
    bytes_init(&record, RECORD_MAX);
    result = store_read_group(store, wanted->id, wanted->group, &envelope, &record);
    if (result == RESULT_OK)
        keep(batch, wanted->id, wanted->group, bytes_view(&envelope), bytes_view(&record));
    else if (result != RESULT_NOT_FOUND)
        batch->wanted[batch->unread_count++] = *wanted;
    bytes_fini(&envelope);
    bytes_fini(&record);
}

static void overflow_run(struct store *store, void *argument)
{
    struct batch *batch = argument;

    batch->result = RESULT_OK;
    for (size_t i = 0; i < batch->wanted_count; i++)
        read_wanted(store, batch, &batch->wanted[i]);
}

static void drop(void *argument)
{
    struct batch *batch = argument;

    memory_free(batch->wanted);
    memory_free(batch->found);
    memory_free(batch);
}

/* Until its end, or until the expiry, whichever comes first. */
static void hold(const struct queue *queue, int64_t until_ms, int64_t now_ms,
                 struct queue_entry *entry)
{
    int64_t expiry_ms = (int64_t)entry->arrival_s * 1000 + queue->expire_ms;

    entry->is_held = until_ms > now_ms;
    if (until_ms > expiry_ms)
        until_ms = expiry_ms;
    if (until_ms > now_ms + queue->expire_ms)
        until_ms = now_ms + queue->expire_ms;
    if (until_ms > entry->next_attempt_ms)
        entry->next_attempt_ms = until_ms;
}

/* What is further away than any retry was written before the clock was put back. */
static void add_found(struct queue *queue, const struct found *found)
{
    struct waiting_key key = {found->lane, found->has_tenant ? found->tenant : NULL,
                              found->priority, found->pool[0] ? found->pool : NULL};
    struct queue_entry entry = found->entry;
    int64_t now_ms = loop_wall_ms(queue->loop);
    int64_t latest_ms = now_ms + queue->longest_wait_ms;

    if (entry.next_attempt_ms > latest_ms)
        entry.next_attempt_ms = latest_ms;
    if (entry.is_held)
        hold(queue, found->hold_ms, now_ms, &entry);
    waiting_add(queue->waiting, &key, &entry, false);
}

static void log_corrupt(const struct batch *batch)
{
    if (batch->corrupt > 0)
        log_message(LOG_ERROR, "queue.unreadable",
                    "%zu records cannot be read and are left alone", batch->corrupt);
}

static void scan_on(void *owner);

static void on_batch_end(struct rebuild *rebuild)
{
    struct batch *batch = rebuild->adding;

    rebuild->adding = NULL;
    log_corrupt(batch);
    rebuild->groups += batch->count;
    rebuild->next_id = batch->scan.next_id;
    rebuild->is_over = batch->scan.is_over;
    drop(batch);
    if (rebuild->is_over)
        log_message(LOG_INFO, "queue.rebuilt",
                    "the index holds %llu groups of before the start",
                    (unsigned long long)rebuild->groups);
    else
        scan_on(rebuild);
}

static void add_some(void *owner)
{
    struct rebuild *rebuild = owner;
    struct batch *batch = rebuild->adding;

    for (int i = 0; i < ADD_A_TURN && rebuild->added < batch->count; i++)
        add_found(rebuild->queue, &batch->found[rebuild->added++]);
    if (rebuild->added < batch->count)
        loop_defer(rebuild->queue->loop, &rebuild->add, add_some, rebuild);
    else
        on_batch_end(rebuild);
}

/* What was read before a change must not come into the index behind it. */
void rebuild_changed(struct queue *queue)
{
    struct rebuild *rebuild = queue->rebuild;

    rebuild->is_stale = true;
    while (rebuild->adding && rebuild->added < rebuild->adding->count)
        add_found(queue, &rebuild->adding->found[rebuild->added++]);
}

static void on_scanned(void *owner, void *argument)
{
    struct rebuild *rebuild = owner;
    struct batch *batch = argument;

    rebuild->reading = NULL;
    if (rebuild->is_stale) {
        drop(batch);
        scan_on(rebuild);
        return;
    }
    if (batch->result != RESULT_OK) { /* the disk: later again, all of it */
        drop(batch);
        timer_start(&rebuild->again, AGAIN_MS);
        return;
    }
    rebuild->adding = batch;
    rebuild->added = 0;
    add_some(rebuild);
}

static const struct reading_kind scan_kind = {scan_run, on_scanned, drop};

static void scan_on(void *owner)
{
    struct rebuild *rebuild = owner;
    struct batch *batch = NEW(struct batch);

    batch->scan.next_id = rebuild->next_id;
    batch->scan.before_id = rebuild->queue->first_id;
    batch->scan.most_envelopes = BATCH_ENVELOPES;
    batch->scan.most_groups = BATCH_GROUPS;
    /* Of a message that is half in the index a group may be leased, and regrouped: the scan
     * would find the new ones once more. */
    batch->scan.keeps_messages = true;
    batch->result = RESULT_IO;
    rebuild->is_stale = false;
    rebuild->reading = reading_start(rebuild->queue->line, &scan_kind, batch, rebuild);
}

void rebuild_start(struct queue *queue)
{
    struct rebuild *rebuild = NEW(struct rebuild);

    rebuild->queue = queue;
    timer_init(&rebuild->again, queue->loop, scan_on, rebuild);
    queue->rebuild = rebuild;
    scan_on(rebuild);
}

/* Behind the others with them. The sweep comes every second: that it failed is told once a
 * minute. */
static void put_back(struct rebuild *rebuild, const struct batch *batch)
{
    struct queue *queue = rebuild->queue;
    int64_t now_ms = loop_now_ms(queue->loop);
    int64_t again_ms = loop_wall_ms(queue->loop) + REST_MS;

    if (batch->unread_count > 0 && now_ms >= rebuild->tell_ms) {
        rebuild->tell_ms = now_ms + REST_MS;
        log_message(LOG_ERROR, "queue.unreadable",
                    "%zu records cannot be read now, and will be tried again",
                    batch->unread_count);
    }
    for (size_t i = 0; i < batch->unread_count; i++) {
        struct queue_entry entry = batch->wanted[i];

        if (entry.next_attempt_ms < again_ms)
            entry.next_attempt_ms = again_ms;
        waiting_overflow_put(queue->waiting, &entry);
    }
}

static void on_overflow_read(void *owner, void *argument)
{
    struct rebuild *rebuild = owner;
    struct batch *batch = argument;

    rebuild->overflow = NULL;
    log_corrupt(batch);
    for (size_t i = 0; i < batch->count; i++)
        add_found(rebuild->queue, &batch->found[i]);
    put_back(rebuild, batch);
    drop(batch);
}

static const struct reading_kind overflow_kind = {overflow_run, on_overflow_read, drop};

void rebuild_overflow(void *owner)
{
    struct queue *queue = owner;
    struct rebuild *rebuild = queue->rebuild;
    struct batch *batch;

    if (rebuild->overflow)
        return;
    batch = NEW(struct batch);
    batch->wanted = NEW_ARRAY(struct queue_entry, OVERFLOW_ENTRIES);
    batch->wanted_count =
        waiting_overflow_take(queue->waiting, batch->wanted, OVERFLOW_ENTRIES);
    rebuild->overflow = reading_start(queue->line, &overflow_kind, batch, rebuild);
}

void rebuild_free(struct queue *queue)
{
    struct rebuild *rebuild = queue->rebuild;

    if (rebuild->reading)
        reading_cancel(rebuild->reading);
    if (rebuild->overflow)
        reading_cancel(rebuild->overflow);
    timer_cancel(&rebuild->again);
    deferred_cancel(queue->loop, &rebuild->add);
    if (rebuild->adding)
        drop(rebuild->adding);
    memory_free(rebuild);
    queue->rebuild = NULL;
}

bool rebuild_is_running(const struct queue *queue)
{
    return !queue->rebuild->is_over;
}

bool queue_is_indexed(const struct queue *queue, uint64_t id)
{
    return queue->rebuild->is_over || id >= queue->first_id || id < queue->rebuild->next_id;
}

uint64_t rebuild_count(const struct queue *queue)
{
    return queue->rebuild->groups;
}
