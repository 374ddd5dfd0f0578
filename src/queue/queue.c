/* The door: opening, ids, room, statistics, closing. */
#include "smtpd/queue/queue.h"

#include "inner.h"
#include "lock.h"
#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <string.h>

/* IDS_RESERVED: for sessions that were told yes, and for reports; half of what is raised. */
enum { IDS_RESERVED = 32768, COMMIT_PATIENCE_US = 10000000 };

static void default_lane(void *owner, const char *address, char lane[LANE_TEXT])
{
    const char *at = strrchr(address, '@');

    (void)owner;
    if (!at || !slice_copy_text(slice_of(at + 1), lane, LANE_TEXT))
        lane[0] = '\0';
}

static struct queue *queue_new(struct loop *loop, struct offload *offload)
{
    struct queue *queue = NEW(struct queue);

    queue->loop = loop;
    queue->offload = offload;
    queue->lane_of = default_lane;
    list_init(&queue->drafts);
    list_init(&queue->held_back);
    list_init(&queue->operations);
    list_init(&queue->leases);
    list_init(&queue->loads);
    list_init(&queue->visits);
    list_init(&queue->takes);
    list_init(&queue->exports);
    list_init(&queue->readers);
    list_init(&queue->window_turns);
    drops_init(queue);
    return queue;
}

enum result queue_open(struct loop *loop, struct offload *offload,
                       const struct queue_settings *settings, struct queue **opened,
                       struct fault *fault)
{
    struct store_settings store = {loop, settings->data_dir, settings->map_bytes};
    struct queue *queue;
    int lock = -1;
    uint32_t chunk;
    enum result result =
        lock_take(settings->data_dir, settings->allow_network_filesystem, &lock, fault);

    if (result != RESULT_OK)
        return result;
    queue = queue_new(loop, offload);
    queue->lock = lock;
    result = store_open(&store, &queue->store, &queue->first_id, fault);
    if (result != RESULT_OK) {
        lock_give_up(lock);
        memory_free(queue);
        return result;
    }
    queue->next_id = queue->first_id;
    chunk = store_chunk_bytes(queue->store);
    queue->piece_bytes = (size_t)(LIMIT_PIECE_BYTES / chunk) * chunk;
    queue->line = reading_line_new(loop, offload, queue->store);
    queue->waiting = waiting_new(loop, queue, LIMIT_DOMAIN_QUEUES);
    queue->cache = cache_new(LIMIT_FRESH_BYTES);
    waiting_on_overflow(queue->waiting, rebuild_overflow, queue);
    queue_apply(queue, settings);
    rebuild_start(queue);
    *opened = queue;
    return RESULT_OK;
}

/* No retry is further away, jitter included. */
static int64_t longest_wait(const struct queue_settings *settings)
{
    int64_t longest_ms = 0;

    for (size_t i = 0; i < settings->retry_count && i < QUEUE_RETRY_MAX; i++)
        if (settings->retry_ms[i] > longest_ms)
            longest_ms = settings->retry_ms[i];
    return longest_ms > 0 ? longest_ms + longest_ms / 10 : settings->expire_ms;
}

void queue_apply(struct queue *queue, const struct queue_settings *settings)
{
    queue->min_free_space_bytes = settings->min_free_space_bytes;
    queue->receiving_most =
        settings->receiving_bytes ? settings->receiving_bytes : LIMIT_RECEIVING_BYTES;
    queue->pending_most =
        settings->pending_bytes ? settings->pending_bytes : LIMIT_PENDING_BYTES;
    cache_set_most(queue->cache, settings->fresh_bytes ? (size_t)settings->fresh_bytes
                                                       : LIMIT_FRESH_BYTES);
    waiting_set_expire(queue->waiting, settings->expire_ms);
    queue->longest_wait_ms = longest_wait(settings);
    queue->expire_ms = settings->expire_ms;
}

void queue_set_lanes(struct queue *queue, queue_lane_fn *lane_of, void *owner)
{
    queue->lane_of = lane_of;
    queue->lane_owner = owner;
}

void queue_watch(struct queue *queue, queue_due_fn *on_due, queue_due_fn *on_gone,
                 void *owner)
{
    waiting_watch(queue->waiting, on_due, on_gone, owner);
}

void queue_close(struct queue *queue)
{
    struct link *link;

    rebuild_free(queue);
    visits_free(queue);
    takes_free(queue);
    exports_free(queue);
    readers_free(queue);
    leases_free(queue); /* before the line: loads are readings */
    reading_line_free(queue->line);
    store_close(queue->store);
    drafts_free(queue);
    drops_free(queue);
    while ((link = list_pop_front(&queue->operations))) {
        struct operation *operation = CONTAINER_OF(link, struct operation, link);

        operation->free(operation);
    }
    waiting_free(queue->waiting);
    cache_free(queue->cache);
    lock_give_up(queue->lock);
    memory_free(queue);
}

/* ---- ids and room ---- */

uint64_t queue_next_id(struct queue *queue)
{
    uint64_t id = queue->next_id;

    /* queue_has_room() says no long before. */
    CHECK(id < store_id_limit(queue->store));
    queue->next_id++;
    store_use_id(queue->store, id);
    return id;
}

bool queue_is_broken(const struct queue *queue)
{
    return store_is_broken(queue->store);
}

enum result queue_can_commit(const struct queue *queue)
{
    int64_t failed_us = store_commit_failed_us(queue->store);

    if (store_is_broken(queue->store))
        return RESULT_IO;
    if (store_commit_runs_us(queue->store) > COMMIT_PATIENCE_US)
        return RESULT_TIMEOUT;
    return failed_us > 0 && failed_us < COMMIT_PATIENCE_US ? RESULT_IO : RESULT_OK;
}

enum result queue_has_room(struct queue *queue)
{
    if (store_is_broken(queue->store))
        return RESULT_IO;
    if (store_room_bytes(queue->store) < queue->min_free_space_bytes ||
        store_id_limit(queue->store) - queue->next_id < IDS_RESERVED)
        return RESULT_NO_SPACE;
    return log_has_room() ? RESULT_OK : RESULT_BUSY;
}

bool queue_can_lease(const struct queue *queue)
{
    return !waiting_is_full(queue->waiting);
}

/* ---- looking ---- */

struct domain_queue *queue_find_domain_queue(struct queue *queue, const char *lane)
{
    return waiting_find_lane(queue->waiting, lane);
}

struct domain_queue *queue_find_domain_queue_of(struct queue *queue, const char *lane,
                                                const struct envelope *of)
{
    const struct waiting_key key = {lane, of->tenant, of->priority, of->pool};

    return waiting_find(queue->waiting, &key);
}

struct domain_queue *queue_next_domain_queue(struct queue *queue, size_t *position)
{
    return waiting_next(queue->waiting, position);
}

bool queue_is_leased(const struct queue *queue, uint64_t id, uint32_t group)
{
    return waiting_is_leased(queue->waiting, id, group);
}

int64_t queue_expire_ms(const struct queue *queue)
{
    return queue->expire_ms;
}

void queue_statistics(struct queue *queue, struct queue_statistics *statistics)
{
    struct store_numbers store;
    struct waiting_numbers waiting;

    store_read_numbers(queue->store, &store);
    waiting_read_numbers(queue->waiting, &waiting);
    *statistics = (struct queue_statistics){
        .groups_waiting = waiting.waiting,
        .groups_held = waiting.held,
        .groups_leased = waiting.leased,
        .groups_overflow = waiting.overflow,
        .domain_queues = waiting.domain_queues,
        .drafts = queue->drafts.count,
        .receiving_bytes = queue->receiving_bytes,
        .pending_bytes = queue->pending_bytes,
        .commits = store.commits,
        .commits_failed = store.commits_failed,
        .messages_committed = queue->messages_committed,
        .commit_us_last = store.commit_us_last,
        .commit_us_max = store.commit_us_max,
        .batch_last = store.batch_last,
        .is_rebuilding = rebuild_is_running(queue),
        .rebuilt_groups = rebuild_count(queue),
        .free_bytes = store.free_bytes,
        .file_bytes = store.file_bytes,
        .has_room = queue_has_room(queue) == RESULT_OK,
        .oldest_ms = waiting.oldest_ms,
        .outbound_window_bytes = queue->outbound_bytes,
        .disk_free_bytes = store.disk_free_bytes,
        .free_page_bytes = store.free_page_bytes,
        .map_bytes = store.map_bytes,
        .commit = store.commit,
        .batch = store.batch,
    };
    memcpy(statistics->groups_by_reason, waiting.by_reason,
           sizeof statistics->groups_by_reason);
}
