/* Walking over everything for operators: batches are read on the file pool and shown on the
 * loop, which has its other work between two batches. */
#include "inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

enum {
    BATCH_ENVELOPES = 64,
    BATCH_GROUPS = 64,
    BATCH_BYTES = 2 * BATCH_GROUPS * RECORD_MAX
};

struct queue_visit {
    struct link link;
    struct queue *queue;
    queue_visit_fn *visit;
    queue_visited_fn *on_end;
    void *owner;
    struct reading *reading;
    uint64_t next_id;
    uint32_t next_group;
};

struct view { /* offsets into the bytes */
    uint64_t id;
    uint32_t group;
    size_t envelope;
    size_t envelope_length;
    size_t record;
    size_t record_length;
};

struct batch { /* touched by the pool */
    struct store_scan scan;
    struct bytes bytes;
    struct view *views;
    size_t count;
    size_t capacity;
    enum result result;
};

static void keep(void *owner, uint64_t id, uint32_t group, struct slice envelope,
                 struct slice record)
{
    struct batch *batch = owner;
    struct view view = {id, group, batch->bytes.length, envelope.length, 0, record.length};

    if (bytes_add(&batch->bytes, envelope) != RESULT_OK)
        return;
    view.record = batch->bytes.length;
    if (bytes_add(&batch->bytes, record) != RESULT_OK)
        return;
    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity ? batch->capacity * 2 : 64;
        batch->views = memory_resize(batch->views, batch->capacity * sizeof *batch->views);
    }
    batch->views[batch->count++] = view;
}

static void run(struct store *store, void *argument)
{
    struct batch *batch = argument;

    batch->scan.fn = keep;
    batch->scan.owner = batch;
    batch->result = store_scan_groups(store, &batch->scan);
}

static void drop(void *argument)
{
    struct batch *batch = argument;

    bytes_fini(&batch->bytes);
    memory_free(batch->views);
    memory_free(batch);
}

static void start_batch(struct queue_visit *visit);

static void visit_free(struct queue_visit *visit)
{
    list_remove(&visit->queue->visits, &visit->link);
    memory_free(visit);
}

static void end(struct queue_visit *visit, enum result result)
{
    queue_visited_fn *on_end = visit->on_end;
    void *owner = visit->owner;

    visit_free(visit);
    on_end(owner, result);
}

static bool show(struct queue_visit *visit, const struct batch *batch,
                 const struct view *view)
{
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct envelope envelope;
    struct group group;
    uint32_t groups;

    if (record_decode_envelope(
            slice_part(bytes_view(&batch->bytes), view->envelope, view->envelope_length),
            view->id, &envelope, &groups) != RESULT_OK ||
        record_decode_group(
            slice_part(bytes_view(&batch->bytes), view->record, view->record_length),
            view->group, &group, recipients) != RESULT_OK)
        return true; /* logged when it is due */
    return visit->visit(visit->owner, &envelope, &group);
}

static void on_batch(void *owner, void *argument)
{
    struct queue_visit *visit = owner;
    struct batch *batch = argument;
    enum result result = batch->result;
    bool goes_on = result == RESULT_OK && !batch->scan.is_over;

    visit->reading = NULL;
    visit->next_id = batch->scan.next_id;
    visit->next_group = batch->scan.next_group;
    for (size_t i = 0; i < batch->count; i++) {
        if (show(visit, batch, &batch->views[i]))
            continue;
        goes_on = false;
        break;
    }
    drop(batch);
    if (goes_on)
        start_batch(visit);
    else
        end(visit, result);
}

static const struct reading_kind kind = {run, on_batch, drop};

static void start_batch(struct queue_visit *visit)
{
    struct batch *batch = NEW(struct batch);

    batch->scan.next_id = visit->next_id;
    batch->scan.next_group = visit->next_group;
    batch->scan.before_id = UINT64_MAX;
    batch->scan.most_envelopes = BATCH_ENVELOPES;
    batch->scan.most_groups = BATCH_GROUPS;
    batch->result = RESULT_IO;
    bytes_init(&batch->bytes, BATCH_BYTES);
    visit->reading = reading_start(visit->queue->line, &kind, batch, visit);
}

struct queue_visit *queue_visit_start(struct queue *queue, uint64_t first_id,
                                      queue_visit_fn *visit_fn, queue_visited_fn *on_end,
                                      void *owner)
{
    struct queue_visit *visit = NEW(struct queue_visit);

    visit->queue = queue;
    visit->next_id = first_id;
    visit->visit = visit_fn;
    visit->on_end = on_end;
    visit->owner = owner;
    list_push_back(&queue->visits, &visit->link);
    start_batch(visit);
    return visit;
}

void queue_visit_cancel(struct queue_visit *visit)
{
    if (visit->reading)
        reading_cancel(visit->reading);
    visit_free(visit);
}

void visits_free(struct queue *queue)
{
    struct link *link;

    while ((link = list_first(&queue->visits)))
        queue_visit_cancel(CONTAINER_OF(link, struct queue_visit, link));
}
