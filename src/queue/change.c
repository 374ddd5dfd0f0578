/* Changes by operators: at most a thousand groups in one commit. A group that is leased now
 * is left alone; one that is being changed cannot be leased meanwhile. A hold is a time in
 * the record, so that it ends by itself and lasts over a restart.
 *
 * A removal ends recipients, and each is a final line of the log: it waits for room there, before its
 * commit and between the groups that it tells. Rejected: commits of fewer groups, because the groups
 * of one exported message go together, and those may be a hundred thousand recipients. */
#include "inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Lines told in one go; then the loop does other things first. */
enum { TELL_LINES = 250, ROOM_MS = 100 };

struct change {
    struct operation operation; /* in the queue's list also while it is not at the store */
    enum queue_change_kind kind;
    char lane[LANE_TEXT]; /* QUEUE_REROUTE */
    struct store_target *targets;
    struct waiting_change *changes;
    size_t count; /* targets that are not done yet */
    size_t done;  /* those of the last commit; the others are left for the next */
    size_t told;  /* of those: in the log */
    bool is_at_store;
    bool is_telling;
    bool is_committed;
    struct queue_counts counts;
    struct deferred turn;
    struct timer room;
    queue_changed_fn *on_end;
    void (*drop)(void *owner);
    void *owner;
};

static void change_free(struct operation *operation)
{
    struct change *change = CONTAINER_OF(operation, struct change, operation);

    deferred_cancel(operation->queue->loop, &change->turn);
    timer_cancel(&change->room);
    for (size_t i = 0; i < change->count; i++) {
        bytes_fini(&change->targets[i].envelope);
        bytes_fini(&change->targets[i].record);
    }
    memory_free(change->targets);
    memory_free(change->changes);
    memory_free(change);
}

/* ---- the log ---- */

static bool is_removal(const struct change *change)
{
    return change->kind == QUEUE_REMOVE || change->kind == QUEUE_EXPORTED;
}

/* As they were before the change. `recipients` has room for LIMIT_GROUP_RECIPIENTS. */
static bool read_records(const struct store_target *target, struct envelope *envelope,
                         struct group *group, struct recipient *recipients)
{
    uint32_t groups;

    return target->end == STORE_TARGET_CHANGED &&
           record_decode_envelope(bytes_view(&target->envelope), target->id, envelope,
                                  &groups) == RESULT_OK &&
           record_decode_group(bytes_view(&target->record), target->group, group,
                               recipients) == RESULT_OK;
}

/* How many lines it was. */
static size_t log_removed(const struct change *change, const struct store_target *target)
{
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct envelope envelope;
    struct group group;
    char id[ID_TEXT];

    if (!read_records(target, &envelope, &group, recipients))
        return 0;
    id_print(target->id, id);
    for (uint32_t i = 0; i < group.recipient_count; i++) {
        struct log_line line;

        log_start_final(&line, LOG_NOTICE,
                        change->kind == QUEUE_REMOVE ? "queue.removed" : "queue.exported");
        log_text(&line, "id", id);
        log_text(&line, "sender", envelope.sender);
        log_text(&line, "recipient", group.recipients[i].address);
        log_end(&line);
    }
    return group.recipient_count;
}

/* Those at the end of the list did not fit into the transaction. */
static size_t find_left(const struct change *change)
{
    size_t at = 0;

    while (at < change->count && change->targets[at].end != STORE_TARGET_LEFT)
        at++;
    return at;
}

static void note_commit(struct change *change)
{
    change->is_at_store = false;
    change->is_telling = true;
    change->is_committed = change->operation.op.result == RESULT_OK;
    change->done = change->is_committed ? find_left(change) : change->count;
    change->told = 0;
}

static bool has_to_tell(const struct change *change)
{
    return is_removal(change) && change->is_telling && change->is_committed &&
           change->told < change->done;
}

/* The queue closes; the last commit is over. What is removed is told, whatever room the log has. */
static void change_drop(struct operation *operation)
{
    struct change *change = CONTAINER_OF(operation, struct change, operation);

    if (change->is_at_store)
        note_commit(change);
    while (has_to_tell(change))
        (void)log_removed(change, &change->targets[change->told++]);
    if (change->drop)
        change->drop(change->owner);
    change_free(operation);
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

/* ---- the index ---- */

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

static struct placed_change judge(struct change *change, size_t at)
{
    struct store_target *target = &change->targets[at];
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct placed_change placed = {&change->changes[at], NULL, WAITING_UNCHANGED};
    struct queue *queue = change->operation.queue;
    struct envelope envelope;
    struct group group;

    if (!change->is_committed || target->end == STORE_TARGET_CORRUPT ||
        target->end == STORE_TARGET_SKIPPED)
        return placed;
    placed.end = target->end == STORE_TARGET_GONE ? WAITING_REMOVED : ends[change->kind];
    cache_forget_group(queue->cache, target->id, target->group);
    if (read_records(target, &envelope, &group, recipients)) {
        struct waiting_key key = {group.lane, envelope.tenant, envelope.priority,
                                  envelope.pool};

        placed.domain_queue = waiting_find(queue->waiting, &key);
        if (!is_removal(change) && change->kind != QUEUE_RETRY)
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

/* ---- its end ---- */

static void tell(struct change *change, enum result result)
{
    queue_changed_fn *on_end = change->on_end;
    void *owner = change->owner;
    struct queue_counts counts = change->counts;

    operation_end(&change->operation);
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

static void submit(struct change *change)
{
    if (is_removal(change) && !log_has_room()) {
        timer_start(&change->room, ROOM_MS);
        return;
    }
    change->is_at_store = true;
    change->operation.op.result = RESULT_SHUTDOWN; /* unless the store comes to it */
    operation_end(&change->operation);
    operation_submit(&change->operation);
}

/* Told: now the index, for all of them together. */
static void place(struct change *change)
{
    size_t all = change->count;
    struct placed_change *placed = NEW_ARRAY(struct placed_change, change->done + 1);

    for (size_t i = 0; i < change->done; i++)
        placed[i] = judge(change, i);
    change->count = change->done;
    tell_index(change, placed);
    memory_free(placed);
    if (change->is_committed)
        count_ends(change);
    change->count = all;
    change->is_telling = false;
    if (change->done == all) {
        tell(change, change->operation.op.result);
        return;
    }
    keep_left(change, change->done);
    submit(change);
}

static void on_turn(void *owner)
{
    struct change *change = owner;
    size_t lines = 0;

    while (has_to_tell(change)) {
        if (!log_has_room()) {
            timer_start(&change->room, ROOM_MS);
            return;
        }
        if (lines >= TELL_LINES) {
            loop_defer(change->operation.queue->loop, &change->turn, on_turn, change);
            return;
        }
        lines += log_removed(change, &change->targets[change->told++]);
    }
    place(change);
}

static void on_room(void *owner)
{
    struct change *change = owner;

    if (change->is_telling)
        on_turn(change);
    else
        submit(change);
}

static void on_changed(void *owner, struct store_op *op)
{
    struct change *change = owner;

    (void)op;
    note_commit(change);
    /* Before anything is waited for: what it reads from now on is as the commit left it. */
    rebuild_changed(change->operation.queue);
    on_turn(change);
}

static void on_nothing(void *owner)
{
    tell(owner, RESULT_OK);
}

/* ---- its start ---- */

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
    timer_init(&change->room, queue->loop, on_room, change);
    list_push_back(&queue->operations, &change->operation.link);
    if (change->count > 0)
        submit(change);
    else
        loop_defer(queue->loop, &change->turn, on_nothing, change);
}
