/* The same export without a server: a queue of our own under the folder's lock, on a loop that
 * ends with it. Nobody watches this queue, so nothing is leased. */
#include "smtpd/queue/moving.h"

#include "smtpd/base/memory.h"
#include "smtpd/loop/loop.h"

#include <string.h>

struct offline {
    const struct offline_export *wanted;
    struct loop *loop;
    struct queue *queue;
    uint64_t *ids;
    size_t count;
    size_t capacity;
    int64_t now_ms;
    struct export_counts *counts;
    struct fault *fault;
    enum result result;
};

static void on_exported(void *owner, enum result result, const struct export_counts *counts,
                        const struct fault *fault)
{
    struct offline *offline = owner;

    *offline->counts = *counts;
    offline->result = result;
    if (result != RESULT_OK)
        *offline->fault = *fault;
    loop_stop(offline->loop);
}

/* The owner of on_failed is another one: handed on. */
static void on_failed(void *owner, uint64_t id, const char *why)
{
    struct offline *offline = owner;

    offline->wanted->on_failed(offline->wanted->owner, id, why);
}

static void export(struct offline *offline)
{
    const struct offline_export *wanted = offline->wanted;

    if (wanted->on_matched)
        wanted->on_matched(wanted->owner, offline->count);
    if (wanted->is_dry_run) {
        loop_stop(offline->loop);
        return;
    }
    queue_export_start(offline->queue, &(struct queue_export){
                                           wanted->directory, offline->ids, offline->count,
                                           on_failed, on_exported, offline});
}

static bool visit(void *owner, const struct envelope *envelope, const struct group *group)
{
    struct offline *offline = owner;

    if (offline->count > 0 && offline->ids[offline->count - 1] == envelope->id)
        return true;
    if (!selection_fits(offline->wanted->selection, NULL, offline->now_ms, envelope, group))
        return true;
    if (offline->count == offline->capacity) {
        offline->capacity = offline->capacity ? offline->capacity * 2 : 256;
        offline->ids =
            memory_resize(offline->ids, offline->capacity * sizeof *offline->ids);
    }
    offline->ids[offline->count++] = envelope->id;
    return true;
}

static void on_visited(void *owner, enum result result)
{
    struct offline *offline = owner;

    if (result == RESULT_OK) {
        export(offline);
        return;
    }
    offline->result = fault_set(offline->fault, result, "the queue cannot be read: %s",
                                result_text(result));
    loop_stop(offline->loop);
}

static enum result run(struct offline *offline, struct offload *offload)
{
    const struct offline_export *wanted = offline->wanted;
    enum result result = queue_open(offline->loop, offload, wanted->settings,
                                    &offline->queue, offline->fault);

    if (result != RESULT_OK)
        return result;
    offline->now_ms = loop_wall_ms(offline->loop);
    if (wanted->ids) {
        offline->ids = memory_copy(wanted->ids, wanted->id_count * sizeof *wanted->ids);
        offline->count = wanted->id_count;
        export(offline);
    } else {
        (void)queue_visit_start(offline->queue, 0, visit, on_visited, offline);
    }
    if (!(wanted->ids && wanted->is_dry_run))
        loop_run(offline->loop);
    queue_close(offline->queue);
    return offline->result;
}

enum result queue_export_offline(const struct offline_export *wanted,
                                 struct export_counts *counts, struct fault *fault)
{
    struct offline offline = {.wanted = wanted,
                              .loop = loop_new(),
                              .counts = counts,
                              .fault = fault,
                              .result = RESULT_OK};
    struct offload *offload = offload_new(offline.loop);
    enum result result;

    memset(counts, 0, sizeof *counts);
    result = run(&offline, offload);
    offload_free(offload);
    loop_free(offline.loop);
    memory_free(offline.ids);
    return result;
}
