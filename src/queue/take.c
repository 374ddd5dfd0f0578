/* Leases by id, whatever their time is: for what an operator ends by a report. The groups
 * are kept from being leased while their records are read, then leave the heap of their
 * domain queue together. */
#include "inner.h"

#include "smtpd/base/memory.h"

#include <stdlib.h>
#include <string.h>

struct target { /* touched by the pool */
    uint64_t id;
    uint32_t group;
    enum result result;
    struct bytes envelope;
    struct bytes record;
};

struct input {
    size_t count;
    struct target targets[];
};

struct queue_take {
    struct link link;
    struct queue *queue;
    struct waiting_change *changes;
    struct domain_queue **domain_queues; /* by change, once the records are read */
    size_t count;
    struct queue_counts counts;
    struct reading *reading;
    struct deferred nothing;
    queue_taken_fn *on_taken;
    void *owner;
};

static void take_free(struct queue_take *take)
{
    deferred_cancel(take->queue->loop, &take->nothing);
    list_remove(&take->queue->takes, &take->link);
    memory_free(take->changes);
    memory_free(take->domain_queues);
    memory_free(take);
}

static void drop(void *argument)
{
    struct input *input = argument;

    for (size_t i = 0; i < input->count; i++) {
        bytes_fini(&input->targets[i].envelope);
        bytes_fini(&input->targets[i].record);
    }
    memory_free(input);
}

static void run(struct store *store, void *argument)
{
    struct input *input = argument;

    for (size_t i = 0; i < input->count; i++) {
        struct target *target = &input->targets[i];

        target->result = store_read_group(store, target->id, target->group,
                                          &target->envelope, &target->record);
    }
}

/* Where it waits, and until when. */
static struct domain_queue *place(struct queue_take *take, const struct target *target,
                                  struct waiting_change *change)
{
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct envelope envelope;
    struct group group;
    uint32_t groups;
    struct waiting_key key;

    if (target->result != RESULT_OK ||
        record_decode_envelope(bytes_view(&target->envelope), target->id, &envelope,
                               &groups) != RESULT_OK ||
        record_decode_group(bytes_view(&target->record), target->group, &group,
                            recipients) != RESULT_OK)
        return NULL;
    key =
        (struct waiting_key){group.lane, envelope.tenant, envelope.priority, envelope.pool};
    change->moved_ms = record_due_ms(&group, envelope.arrival_ms + take->queue->expire_ms);
    change->moves_held = group_is_held(&group, loop_wall_ms(take->queue->loop));
    return waiting_find(take->queue->waiting, &key);
}

struct placed {
    struct domain_queue *domain_queue;
    struct waiting_change *change;
};

static int by_place(const void *a, const void *b)
{
    uintptr_t left = (uintptr_t)((const struct placed *)a)->domain_queue;
    uintptr_t right = (uintptr_t)((const struct placed *)b)->domain_queue;

    return (left > right) - (left < right);
}

/* Told to the index by domain queue, so that each heap is walked once. */
static void lease_all(struct queue_take *take)
{
    struct waiting_change **list = NEW_ARRAY(struct waiting_change *, take->count + 1);
    struct placed *placed = NEW_ARRAY(struct placed, take->count + 1);
    size_t at = 0;

    for (size_t i = 0; i < take->count; i++)
        placed[i] = (struct placed){take->domain_queues[i], &take->changes[i]};
    qsort(placed, take->count, sizeof *placed, by_place);
    while (at < take->count) {
        struct waiting_changes changes = {list, 0, placed[at].domain_queue};

        while (at < take->count && placed[at].domain_queue == changes.domain_queue)
            list[changes.count++] = placed[at++].change;
        if (changes.domain_queue)
            waiting_change_lease(take->queue->waiting, &changes);
        else
            waiting_change_end(take->queue->waiting, &changes, WAITING_UNCHANGED, 0);
    }
    memory_free(list);
    memory_free(placed);
}

static struct lease *adopt(struct queue_take *take, size_t at, const struct target *target)
{
    const struct waiting_change *change = &take->changes[at];
    struct queue_entry entry = {.id = change->id,
                                .group = change->group,
                                .next_attempt_ms = change->moved_ms,
                                .is_held = change->moves_held};

    return lease_of_records(take->domain_queues[at], &entry, bytes_view(&target->envelope),
                            bytes_view(&target->record));
}

static void on_read(void *owner, void *argument)
{
    struct queue_take *take = owner;
    struct input *input = argument;
    struct lease **leases = NEW_ARRAY(struct lease *, take->count + 1);
    struct queue_counts counts;
    queue_taken_fn *on_taken = take->on_taken;
    void *told = take->owner;

    take->reading = NULL;
    take->domain_queues = NEW_ARRAY(struct domain_queue *, take->count + 1);
    for (size_t i = 0; i < take->count; i++)
        take->domain_queues[i] = place(take, &input->targets[i], &take->changes[i]);
    rebuild_changed(take->queue);
    lease_all(take);
    for (size_t i = 0; i < take->count; i++) {
        if (take->changes[i].is_leased)
            leases[take->counts.changed++] = adopt(take, i, &input->targets[i]);
        else if (input->targets[i].result == RESULT_NOT_FOUND)
            take->counts.gone++;
        else
            take->counts.skipped++;
    }
    drop(input);
    counts = take->counts;
    take_free(take);
    on_taken(told, leases, &counts);
    memory_free(leases);
}

static const struct reading_kind kind = {run, on_read, drop};

static void on_nothing(void *owner)
{
    struct queue_take *take = owner;
    queue_taken_fn *on_taken = take->on_taken;
    void *told = take->owner;
    struct queue_counts counts = take->counts;

    take_free(take);
    on_taken(told, NULL, &counts);
}

static struct input *input_new(const struct queue_take *take)
{
    struct input *input = memory_new(sizeof *input + take->count * sizeof *input->targets);

    input->count = take->count;
    for (size_t i = 0; i < take->count; i++) {
        struct target *target = &input->targets[i];

        target->id = take->changes[i].id;
        target->group = take->changes[i].group;
        target->result = RESULT_IO;
        bytes_init(&target->envelope, RECORD_MAX);
        bytes_init(&target->record, RECORD_MAX);
    }
    return input;
}

struct queue_take *queue_take_start(struct queue *queue, const struct queue_target *targets,
                                    size_t count, queue_taken_fn *on_taken, void *owner)
{
    struct queue_take *take = NEW(struct queue_take);

    take->queue = queue;
    take->on_taken = on_taken;
    take->owner = owner;
    take->changes = NEW_ARRAY(struct waiting_change, count + 1);
    for (size_t i = 0; i < count; i++) {
        struct waiting_change *begun = &take->changes[take->count];

        *begun = (struct waiting_change){.id = targets[i].id, .group = targets[i].group};
        if (waiting_change_begin(queue->waiting, begun))
            take->count++;
        else
            take->counts.busy++;
    }
    list_push_back(&queue->takes, &take->link);
    if (take->count > 0)
        take->reading = reading_start(queue->line, &kind, input_new(take), take);
    else
        loop_defer(queue->loop, &take->nothing, on_nothing, take);
    return take;
}

void queue_take_cancel(struct queue_take *take)
{
    struct waiting_change **list = NEW_ARRAY(struct waiting_change *, take->count + 1);

    if (take->reading)
        reading_cancel(take->reading);
    for (size_t i = 0; i < take->count; i++)
        list[i] = &take->changes[i];
    waiting_change_end(take->queue->waiting,
                       &(struct waiting_changes){list, take->count, NULL},
                       WAITING_UNCHANGED, 0);
    memory_free(list);
    take_free(take);
}

void takes_free(struct queue *queue)
{
    struct link *link;

    while ((link = list_first(&queue->takes)))
        queue_take_cancel(CONTAINER_OF(link, struct queue_take, link));
}
