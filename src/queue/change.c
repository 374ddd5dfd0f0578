/* Changes by operators: at most a thousand groups in one commit. A group that is leased now
 * is left alone; one that is being changed cannot be leased meanwhile. A hold is a time in
 * the record, so that it ends by itself and lasts over a restart. */
#include "inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <stdlib.h>
#include <string.h>

struct change {
    struct operation operation;
    enum queue_change_kind kind;
    char lane[LANE_TEXT]; /* QUEUE_REROUTE */
    struct store_target *targets;
    struct waiting_change *changes;
    size_t count; /* targets that are not done yet */
    struct queue_counts counts;
    struct deferred nothing;
    queue_changed_fn *on_end;
    void (*drop)(void *owner);
    void *owner;
};

static void change_free(struct operation *operation)
{
    struct change *change = CONTAINER_OF(operation, struct change, operation);

    deferred_cancel(operation->queue->loop, &change->nothing);
    for (size_t i = 0; i < change->count; i++) {
        bytes_fini(&change->targets[i].envelope);
        bytes_fini(&change->targets[i].record);
    }
    memory_free(change->targets);
    memory_free(change->changes);
    memory_free(change);
}

/* The queue closes. */
static void change_drop(struct operation *operation)
{
    struct change *change = CONTAINER_OF(operation, struct change, operation);

    if (change->drop)
        change->drop(change->owner);
    change_free(operation);
}

static void log_removed(const char *event, const struct store_target *target,
                        const struct group *group, const struct envelope *envelope)
{
    char id[ID_TEXT];

    id_print(target->id, id);
    for (uint32_t i = 0; i < group->recipient_count; i++) {
        struct log_line line;

        log_start_final(&line, LOG_NOTICE, event);
        log_text(&line, "id", id);
        log_text(&line, "sender", envelope->sender);
        log_text(&line, "recipient", group->recipients[i].address);
        log_end(&line);
    }
}

static const char *const events[] = {[QUEUE_HOLD] = "queue.held",
                                     [QUEUE_RELEASE] = "queue.released",
                                     [QUEUE_REROUTE] = "queue.rerouted"};

/* One line for the group. */
static void log_moved(const struct change *change, const struct store_target *target,
                      const struct group *group, const struct envelope *envelope)
{
    struct log_line line;
    char id[ID_TEXT];

    id_print(target->id, id);
    log_start(&line, LOG_NOTICE, events[change->kind]);
    log_text(&line, "id", id);
    log_text(&line, "sender", envelope->sender);
    log_text(&line, "recipient", group->recipients[0].address);
    log_number(&line, "recipients", group->recipient_count);
    if (change->kind == QUEUE_HOLD)
        log_seconds(&line, "seconds",
                    change->operation.op.until_ms - change->operation.op.now_ms);
    if (change->kind == QUEUE_REROUTE) {
        log_text(&line, "from", group->lane);
        log_text(&line, "to", change->lane);
    }
    log_end(&line);
}

struct placed_change {
    struct waiting_change *change;
    struct domain_queue *domain_queue;
    enum waiting_change_end end;
};

static const enum waiting_change_end ends[] = {
    [QUEUE_RETRY] = WAITING_RETRIED,    [QUEUE_REMOVE] = WAITING_REMOVED,
    [QUEUE_HOLD] = WAITING_MOVED,       [QUEUE_RELEASE] = WAITING_MOVED,
    [QUEUE_EXPORTED] = WAITING_REMOVED, [QUEUE_REROUTE] = WAITING_MOVED};

/* When it is due from now on; `group` is as it was before. */
static void note_move(struct change *change, size_t at, struct group *group,
                      int64_t expiry_ms)
{
    if (change->kind == QUEUE_REROUTE) {
        group->next_attempt_ms = change->operation.op.now_ms;
        group->is_held = group_is_held(group, change->operation.op.now_ms);
    } else {
        group->is_held = change->kind == QUEUE_HOLD;
        group->not_before_ms = change->operation.op.until_ms;
    }
    change->changes[at].moved_ms = record_due_ms(group, expiry_ms);
    change->changes[at].moves_held = group->is_held;
}

static struct placed_change judge(struct change *change, size_t at, bool is_committed)
{
    struct store_target *target = &change->targets[at];
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct placed_change placed = {&change->changes[at], NULL, WAITING_UNCHANGED};
    struct queue *queue = change->operation.queue;
    struct envelope envelope;
    struct group group;
    uint32_t groups;

    if (!is_committed || target->end == STORE_TARGET_CORRUPT ||
        target->end == STORE_TARGET_SKIPPED)
        return placed;
    placed.end = target->end == STORE_TARGET_GONE ? WAITING_REMOVED : ends[change->kind];
    cache_forget_group(queue->cache, target->id, target->group);
    if (target->end == STORE_TARGET_CHANGED &&
        record_decode_envelope(bytes_view(&target->envelope), target->id, &envelope,
                               &groups) == RESULT_OK &&
        record_decode_group(bytes_view(&target->record), target->group, &group,
                            recipients) == RESULT_OK) {
        struct waiting_key key = {group.lane, envelope.tenant, envelope.priority,
                                  envelope.pool};

        placed.domain_queue = waiting_find(queue->waiting, &key);
        if (change->kind == QUEUE_REMOVE || change->kind == QUEUE_EXPORTED)
            log_removed(change->kind == QUEUE_REMOVE ? "queue.removed" : "queue.exported",
                        target, &group, &envelope);
        else if (change->kind != QUEUE_RETRY)
            log_moved(change, target, &group, &envelope);
        note_move(change, at, &group, envelope.arrival_ms + queue->expire_ms);
        change->changes[at].arrival_s = (uint32_t)(envelope.arrival_ms / 1000);
    }
    return placed;
}

static int by_place(const void *a, const void *b)
{
    const struct placed_change *left = a;
    const struct placed_change *right = b;
    uintptr_t l = (uintptr_t)left->domain_queue;
    uintptr_t r = (uintptr_t)right->domain_queue;

    if (l != r)
        return l < r ? -1 : 1;
    return (int)left->end - (int)right->end;
}

/* Out of its domain queue and into that of the new lane. What the index does not know yet it will
 * find there by itself. */
static void tell_rerouted(struct change *change, const struct waiting_changes *changes)
{
    struct waiting *waiting = change->operation.queue->waiting;

    if (!changes->domain_queue) {
        waiting_change_end(waiting, changes, WAITING_UNCHANGED, 0);
        return;
    }
    waiting_change_lease(waiting, changes);
    for (size_t i = 0; i < changes->count; i++) {
        const struct waiting_change *one = changes->list[i];
        struct waiting_key key = waiting_key_of(changes->domain_queue);
        const struct queue_entry entry = {.id = one->id,
                                          .group = one->group,
                                          .arrival_s = one->arrival_s,
                                          .next_attempt_ms = one->moved_ms,
                                          .is_held = one->moves_held};

        if (!one->is_leased)
            continue;
        key.lane = change->lane;
        waiting_add(waiting, &key, &entry, false);
        /* Last: the domain queue may go with its last entry. */
        waiting_end_lease(changes->domain_queue, one->id, one->group, NULL);
    }
}

/* Told to the index by domain queue, so that each heap is walked once. */
static void tell_index(struct change *change, struct placed_change *placed)
{
    struct waiting_change **list = NEW_ARRAY(struct waiting_change *, change->count + 1);
    size_t at = 0;

    qsort(placed, change->count, sizeof *placed, by_place);
    while (at < change->count) {
        struct waiting_changes changes = {list, 0, placed[at].domain_queue};
        size_t first = at;

        while (at < change->count && by_place(&placed[first], &placed[at]) == 0)
            list[changes.count++] = placed[at++].change;
        if (change->kind == QUEUE_REROUTE && placed[first].end == WAITING_MOVED)
            tell_rerouted(change, &changes);
        else
            waiting_change_end(change->operation.queue->waiting, &changes,
                               placed[first].end, change->operation.op.now_ms);
    }
    memory_free(list);
}

static void tell(struct change *change, enum result result)
{
    queue_changed_fn *on_end = change->on_end;
    void *owner = change->owner;
    struct queue_counts counts = change->counts;

    change_free(&change->operation);
    on_end(owner, result, &counts);
}

static void count_ends(struct change *change)
{
    for (size_t i = 0; i < change->count; i++) {
        change->counts.changed += change->targets[i].end == STORE_TARGET_CHANGED;
        change->counts.gone += change->targets[i].end == STORE_TARGET_GONE;
        change->counts.skipped += change->targets[i].end == STORE_TARGET_SKIPPED;
    }
}

/* Those at the end of the list did not fit into the transaction. */
static size_t find_left(const struct change *change)
{
    size_t at = 0;

    while (at < change->count && change->targets[at].end != STORE_TARGET_LEFT)
        at++;
    return at;
}

static void keep_left(struct change *change, size_t done)
{
    for (size_t i = 0; i < done; i++) {
        bytes_fini(&change->targets[i].envelope);
        bytes_fini(&change->targets[i].record);
    }
    change->count -= done;
    memmove(change->targets, change->targets + done,
            change->count * sizeof *change->targets);
    memmove(change->changes, change->changes + done,
            change->count * sizeof *change->changes);
    change->operation.op.target_count = change->count;
}

static void on_changed(void *owner, struct store_op *op)
{
    struct change *change = owner;
    bool is_committed = op->result == RESULT_OK;
    size_t all = change->count;
    size_t done = is_committed ? find_left(change) : all;
    struct placed_change *placed = NEW_ARRAY(struct placed_change, done + 1);

    operation_end(&change->operation);
    for (size_t i = 0; i < done; i++)
        placed[i] = judge(change, i, is_committed);
    change->count = done;
    rebuild_changed(change->operation.queue);
    tell_index(change, placed);
    memory_free(placed);
    if (is_committed)
        count_ends(change);
    change->count = all;
    if (done == all) {
        tell(change, op->result);
        return;
    }
    keep_left(change, done);
    operation_submit(&change->operation);
}

static void on_nothing(void *owner)
{
    struct change *change = owner;

    operation_end(&change->operation);
    tell(change, RESULT_OK);
}

static void take_targets(struct change *change, const struct queue_target *targets,
                         size_t count)
{
    change->targets = NEW_ARRAY(struct store_target, count + 1);
    change->changes = NEW_ARRAY(struct waiting_change, count + 1);
    for (size_t i = 0; i < count; i++) {
        struct waiting_change *begun = &change->changes[change->count];
        struct store_target *target = &change->targets[change->count];

        *begun = (struct waiting_change){.id = targets[i].id, .group = targets[i].group};
        if (!waiting_change_begin(change->operation.queue->waiting, begun)) {
            change->counts.busy++;
            continue;
        }
        target->id = targets[i].id;
        target->group = targets[i].group;
        bytes_init(&target->envelope, RECORD_MAX);
        bytes_init(&target->record, RECORD_MAX);
        change->count++;
    }
}

static const enum store_change store_changes[] = {
    [QUEUE_RETRY] = STORE_RETRY,     [QUEUE_REMOVE] = STORE_REMOVE,
    [QUEUE_HOLD] = STORE_HOLD,       [QUEUE_RELEASE] = STORE_RELEASE,
    [QUEUE_EXPORTED] = STORE_REMOVE, [QUEUE_REROUTE] = STORE_REROUTE};

void queue_change_start(struct queue *queue, const struct queue_change *wanted)
{
    struct change *change = NEW(struct change);
    struct store_op *op = &change->operation.op;

    change->operation.queue = queue;
    change->operation.free = change_drop;
    change->kind = wanted->kind;
    change->on_end = wanted->on_end;
    change->drop = wanted->drop;
    change->owner = wanted->owner;
    take_targets(change, wanted->targets, wanted->count);
    op->kind = STORE_CHANGE;
    op->targets = change->targets;
    op->target_count = change->count;
    op->change = store_changes[wanted->kind];
    op->now_ms = loop_wall_ms(queue->loop);
    op->until_ms = wanted->until_ms;
    if (wanted->lane)
        (void)slice_copy_text(slice_of(wanted->lane), change->lane, LANE_TEXT);
    op->lane = change->lane;
    op->on_end = on_changed;
    op->owner = change;
    if (change->count > 0) {
        operation_submit(&change->operation);
        return;
    }
    list_push_back(&queue->operations, &change->operation.link);
    loop_defer(queue->loop, &change->nothing, on_nothing, change);
}
