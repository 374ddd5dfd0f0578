/* Moving messages out: a batch after the other,
 *
 *   which groups -> kept from being leased -> files written and synced, on the pool
 *   -> removed in one commit, and only then is the file the message
 *
 * A crash before the commit leaves the message in the queue too: the same export again writes the
 * file anew. The groups are kept from the first step to the commit, so that the file has their
 * last state and nobody tries them meanwhile. */
#include "smtpd/queue/moving.h"

#include "inner.h"
#include "smtpd/base/memory.h"
#include "transfer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BATCH_MESSAGES = 64 };

struct input { /* touched by the pool */
    char *directory;
    struct transfer_item items[BATCH_MESSAGES];
    size_t count;
    enum result result; /* of the folder */
    struct fault fault;
};

struct keeping { /* of a message: its groups, kept from being leased */
    struct waiting_change *changes;
    size_t count;
};

struct exporting {
    struct link link;
    struct queue *queue;
    struct queue_export wanted;
    char *directory;
    uint64_t *ids;
    size_t next;
    struct input *input; /* not at the pool */
    struct keeping kept[BATCH_MESSAGES];
    struct export_counts counts;
    struct reading *reading;
    struct deferred end;
    enum result result;
    struct fault fault;
    size_t removing; /* messages whose removal is being committed */
};

static void input_free(void *argument)
{
    struct input *input = argument;

    for (size_t i = 0; i < input->count; i++)
        memory_free(input->items[i].groups);
    memory_free(input->directory);
    memory_free(input);
}

/* ---- groups that nobody may lease ---- */

static void let_go(struct exporting *exporting, size_t at)
{
    struct keeping *kept = &exporting->kept[at];
    struct waiting_change **list = NEW_ARRAY(struct waiting_change *, kept->count + 1);

    for (size_t i = 0; i < kept->count; i++)
        list[i] = &kept->changes[i];
    if (kept->count > 0)
        waiting_change_end(exporting->queue->waiting,
                           &(struct waiting_changes){list, kept->count, NULL},
                           WAITING_UNCHANGED, 0);
    memory_free(list);
    memory_free(kept->changes);
    *kept = (struct keeping){0};
}

/* All of them, or none. */
static bool keep(struct exporting *exporting, size_t at)
{
    const struct transfer_item *item = &exporting->input->items[at];
    struct keeping *kept = &exporting->kept[at];

    kept->changes = NEW_ARRAY(struct waiting_change, item->group_count + 1);
    for (; kept->count < item->group_count; kept->count++) {
        kept->changes[kept->count] =
            (struct waiting_change){.id = item->id, .group = item->groups[kept->count]};
        if (waiting_change_begin(exporting->queue->waiting, &kept->changes[kept->count]))
            continue;
        let_go(exporting, at);
        return false;
    }
    return true;
}

static void exporting_free(struct exporting *exporting)
{
    struct queue *queue = exporting->queue;

    deferred_cancel(queue->loop, &exporting->end);
    if (exporting->reading)
        reading_cancel(exporting->reading);
    for (size_t i = 0; i < BATCH_MESSAGES; i++)
        let_go(exporting, i);
    if (exporting->input)
        input_free(exporting->input);
    list_remove(&queue->exports, &exporting->link);
    memory_free(exporting->directory);
    memory_free(exporting->ids);
    memory_free(exporting);
}

/* ---- the end ---- */

static void on_end(void *owner)
{
    struct exporting *exporting = owner;
    exported_fn *fn = exporting->wanted.on_end;
    void *told = exporting->wanted.owner;
    struct export_counts counts = exporting->counts;
    struct fault fault = exporting->fault;
    enum result result = exporting->result;

    exporting_free(exporting);
    fn(told, result, &counts, &fault);
}

static void end(struct exporting *exporting, enum result result)
{
    exporting->result = result;
    loop_defer(exporting->queue->loop, &exporting->end, on_end, exporting);
}

/* ---- removing what has a file ---- */

static void start_batch(struct exporting *exporting);

static void on_removed(void *owner, enum result result, const struct queue_counts *counts)
{
    struct exporting *exporting = owner;

    (void)counts;
    if (result != RESULT_OK) {
        end(exporting, fault_set(&exporting->fault, result,
                                 "the removal from the queue failed (%s): say it again",
                                 result_text(result)));
        exporting->removing = 0;
        return;
    }
    exporting->counts.exported += exporting->removing;
    exporting->removing = 0;
    start_batch(exporting);
}

/* In one turn of the loop: nobody can lease between the two. */
static void remove_written(struct exporting *exporting, const struct input *input)
{
    struct queue_target *targets;
    size_t count = 0;
    size_t most = 0;

    for (size_t i = 0; i < input->count; i++)
        most += input->items[i].group_count;
    targets = NEW_ARRAY(struct queue_target, most + 1);
    for (size_t i = 0; i < input->count; i++) {
        const struct transfer_item *item = &input->items[i];

        let_go(exporting, i);
        if (item->result != RESULT_OK)
            continue;
        exporting->removing++;
        exporting->counts.bytes += item->bytes;
        for (size_t k = 0; k < item->group_count; k++)
            targets[count++] = (struct queue_target){item->id, item->groups[k]};
    }
    if (count > 0)
        queue_change_start(exporting->queue,
                           &(struct queue_change){QUEUE_EXPORTED, targets, count,
                                                  on_removed, exporting, 0, NULL, NULL});
    else
        start_batch(exporting);
    memory_free(targets);
}

/* ---- files ---- */

static void write_run(struct store *store, void *argument)
{
    struct input *input = argument;
    int folder = transfer_open_folder(input->directory, true, &input->fault);
    uint64_t bytes = 0;

    input->result = folder < 0 ? input->fault.code : RESULT_OK;
    for (size_t i = 0; folder >= 0 && i < input->count; i++) {
        struct transfer_item *item = &input->items[i];

        if (item->result != RESULT_OK)
            continue;
        if (bytes >= LIMIT_BATCH_BYTES) {
            item->result = RESULT_AGAIN;
            continue;
        }
        transfer_write(store, folder, item);
        bytes += item->bytes;
    }
    /* The names are durable before the queue lets go. */
    if (folder >= 0 && fsync(folder) != 0)
        input->result = fault_set(&input->fault, RESULT_IO, "cannot sync %s: %s",
                                  input->directory, strerror(errno));
    if (folder >= 0)
        (void)close(folder);
}

static void count_item(struct exporting *exporting, const struct transfer_item *item)
{
    if (item->result == RESULT_BUSY) {
        exporting->counts.busy++;
    } else if (item->result == RESULT_NOT_FOUND) {
        exporting->counts.gone++;
    } else if (item->result != RESULT_OK) {
        exporting->counts.failed++;
        exporting->wanted.on_failed(exporting->wanted.owner, item->id, item->why);
    }
}

/* From the first that did not go into this batch on all of them come again, those too that could
 * not be written: what is said of them is said then. */
static void count_items(struct exporting *exporting, const struct input *input)
{
    for (size_t i = 0; i < input->count; i++) {
        if (input->items[i].result == RESULT_AGAIN) {
            exporting->next -= input->count - i;
            return;
        }
        count_item(exporting, &input->items[i]);
    }
}

static void on_written(void *owner, void *argument)
{
    struct exporting *exporting = owner;
    struct input *input = argument;

    exporting->reading = NULL;
    if (input->result != RESULT_OK) {
        for (size_t i = 0; i < input->count; i++)
            let_go(exporting, i);
        exporting->fault = input->fault;
        end(exporting, input->result);
    } else {
        count_items(exporting, input);
        remove_written(exporting, input);
    }
    input_free(input);
}

static const struct reading_kind write_kind = {write_run, on_written, input_free};

/* ---- which groups ---- */

static void list_run(struct store *store, void *argument)
{
    struct input *input = argument;

    for (size_t i = 0; i < input->count; i++) {
        struct transfer_item *item = &input->items[i];

        item->result = transfer_list(store, item);
        if (item->result == RESULT_OK && item->group_count == 0)
            item->result = RESULT_NOT_FOUND;
        if (item->result != RESULT_OK)
            (void)snprintf(item->why, sizeof item->why, "its records cannot be read");
    }
}

static void on_listed(void *owner, void *argument)
{
    struct exporting *exporting = owner;

    exporting->input = argument;
    for (size_t i = 0; i < exporting->input->count; i++) {
        struct transfer_item *item = &exporting->input->items[i];

        if (item->result == RESULT_OK && !keep(exporting, i))
            item->result = RESULT_BUSY;
    }
    exporting->reading =
        reading_start(exporting->queue->line, &write_kind, exporting->input, exporting);
    exporting->input = NULL;
}

static const struct reading_kind list_kind = {list_run, on_listed, input_free};

static void start_batch(struct exporting *exporting)
{
    struct input *input;

    if (exporting->next == exporting->wanted.count) {
        end(exporting, RESULT_OK);
        return;
    }
    input = NEW(struct input);
    input->directory = memory_text(exporting->directory);
    input->result = RESULT_IO;
    while (input->count < BATCH_MESSAGES && exporting->next < exporting->wanted.count) {
        input->items[input->count].result = RESULT_IO;
        input->items[input->count++].id = exporting->ids[exporting->next++];
    }
    exporting->reading =
        reading_start(exporting->queue->line, &list_kind, input, exporting);
}

void queue_export_start(struct queue *queue, const struct queue_export *wanted)
{
    struct exporting *exporting = NEW(struct exporting);

    exporting->queue = queue;
    exporting->wanted = *wanted;
    exporting->directory = memory_text(wanted->directory);
    exporting->ids = memory_copy(wanted->ids, wanted->count * sizeof *wanted->ids);
    list_push_back(&queue->exports, &exporting->link);
    if (queue->exports.count > 1) {
        end(exporting, fault_set(&exporting->fault, RESULT_BUSY,
                                 "another export is running: say it again"));
        return;
    }
    start_batch(exporting);
}

void exports_free(struct queue *queue)
{
    struct link *link; /* a removal that is at the store has no callback any more */

    while ((link = list_first(&queue->exports)))
        exporting_free(CONTAINER_OF(link, struct exporting, link));
}
