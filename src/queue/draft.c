/* Messages on their way in: drafts and their commits, with the two budgets (docs/queue.md).
 *
 *   draft_write  --(above 256 KiB, or 64 MiB in sum)--> chunks at the store, the session pauses
 *   draft_commit --(above 64 MiB pending)--> held back --> at the store --> told
 */
#include "inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { SMALL_PIECE = 4096 };

struct draft {
    struct link link;
    struct queue *queue;
    uint64_t id;
    struct piece **pieces;
    size_t piece_count;
    size_t piece_capacity;
    uint64_t body_bytes;
    uint64_t memory_bytes; /* of the pieces here */
    uint64_t stored_bytes; /* handed to the store before */
    struct draft_write *write;
    enum result failed;
    bool is_discarded;
    struct commit *commit; /* waits for the write */
    draft_room_fn *on_room;
    void *owner;
};

struct draft_write { /* chunks at the store */
    struct operation operation;
    struct draft *draft;
    struct piece **pieces;
    size_t piece_count;
    struct slice *parts;
    uint64_t bytes;
};

struct commit {
    struct operation operation;
    struct message message;
    queue_end_fn *on_end; /* NULL: cancelled */
    void *owner;
    enum result failed; /* known before: told from the loop */
    struct deferred fail;
};

/* ---- operations ---- */

void operation_submit(struct operation *operation)
{
    list_push_back(&operation->queue->operations, &operation->link);
    store_submit(operation->queue->store, &operation->op);
}

void operation_end(struct operation *operation)
{
    list_remove(&operation->queue->operations, &operation->link);
}

/* ---- drafts ---- */

struct draft *queue_draft_open(struct queue *queue, draft_room_fn *on_room, void *owner)
{
    struct draft *draft = NEW(struct draft);

    draft->queue = queue;
    draft->id = queue_next_id(queue);
    draft->on_room = on_room;
    draft->owner = owner;
    list_push_back(&queue->drafts, &draft->link);
    return draft;
}

uint64_t draft_id(const struct draft *draft)
{
    return draft->id;
}

uint64_t draft_body_bytes(const struct draft *draft)
{
    return draft->body_bytes;
}

static void forget_pieces(struct draft *draft)
{
    for (size_t i = 0; i < draft->piece_count; i++)
        piece_drop(draft->pieces[i]);
    memory_free(draft->pieces);
    draft->pieces = NULL;
    draft->piece_count = draft->piece_capacity = 0;
    draft->queue->receiving_bytes -= draft->memory_bytes;
    draft->memory_bytes = 0;
}

static void draft_free(struct draft *draft)
{
    forget_pieces(draft);
    list_remove(&draft->queue->drafts, &draft->link);
    memory_free(draft);
}

static void add_piece(struct draft *draft, size_t capacity)
{
    if (draft->piece_count == draft->piece_capacity) {
        draft->piece_capacity = draft->piece_capacity ? draft->piece_capacity * 2 : 4;
        draft->pieces =
            memory_resize(draft->pieces, draft->piece_capacity * sizeof(struct piece *));
    }
    draft->pieces[draft->piece_count++] = piece_new(capacity);
}

static size_t room_in_last(struct draft *draft, size_t wanted)
{
    size_t most = draft->queue->piece_bytes;
    struct piece **last;
    size_t capacity;

    if (draft->piece_count == 0 || draft->pieces[draft->piece_count - 1]->length == most)
        add_piece(draft, wanted < SMALL_PIECE ? SMALL_PIECE
                         : wanted < most      ? wanted
                                              : most);
    last = &draft->pieces[draft->piece_count - 1];
    if ((*last)->length == (*last)->capacity) {
        capacity = (*last)->capacity * 2 < most ? (*last)->capacity * 2 : most;
        *last = piece_grow(*last, capacity);
    }
    return (*last)->capacity - (*last)->length;
}

static void keep(struct draft *draft, struct slice body)
{
    draft->body_bytes += body.length;
    draft->memory_bytes += body.length;
    draft->queue->receiving_bytes += body.length;
    while (body.length > 0) {
        size_t room = room_in_last(draft, body.length);
        size_t take = body.length < room ? body.length : room;
        struct piece *last = draft->pieces[draft->piece_count - 1];

        memcpy(last->data + last->length, body.data, take);
        last->length += take;
        body = slice_from(body, take);
    }
}

static void write_free(struct operation *operation)
{
    struct draft_write *write = CONTAINER_OF(operation, struct draft_write, operation);

    for (size_t i = 0; i < write->piece_count; i++)
        piece_drop(write->pieces[i]);
    memory_free(write->pieces);
    memory_free(write->parts);
    memory_free(write);
}

static void commit_go(struct commit *commit);

static void on_written(void *owner, struct store_op *op)
{
    struct draft_write *write = owner;
    struct draft *draft = write->draft;
    struct queue *queue = draft->queue;
    enum result result = op->result;

    queue->receiving_bytes -= write->bytes;
    operation_end(&write->operation);
    write_free(&write->operation);
    draft->write = NULL;
    if (result != RESULT_OK)
        draft->failed = result;
    if (draft->is_discarded) {
        drop_at_store(queue, draft->id);
        draft_free(draft);
    } else if (draft->commit) {
        struct commit *commit = draft->commit;

        if (draft->failed != RESULT_OK)
            commit->failed = draft->failed;
        if (commit->failed != RESULT_OK)
            drop_at_store(queue, draft->id);
        draft_free(draft);
        commit_go(commit);
    } else {
        draft->on_room(draft->owner);
    }
}

/* All whole pieces go; the last one, which is not full, stays. */
static void write_out(struct draft *draft)
{
    struct draft_write *write = NEW(struct draft_write);
    size_t whole = draft->piece_count - 1;
    uint32_t chunk = store_chunk_bytes(draft->queue->store);

    write->draft = draft;
    write->pieces = NEW_ARRAY(struct piece *, whole + 1);
    write->parts = NEW_ARRAY(struct slice, whole + 1);
    write->piece_count = whole;
    for (size_t i = 0; i < whole; i++) {
        write->pieces[i] = draft->pieces[i];
        write->parts[i] = (struct slice){draft->pieces[i]->data, draft->pieces[i]->length};
        write->bytes += draft->pieces[i]->length;
    }
    draft->pieces[0] = draft->pieces[whole];
    draft->piece_count = 1;
    draft->memory_bytes -= write->bytes; /* still in the sum until it is written */
    write->operation.queue = draft->queue;
    write->operation.free = write_free;
    write->operation.op.kind = STORE_DRAFT_WRITE;
    write->operation.op.id = draft->id;
    write->operation.op.chunks = (struct store_run){
        STORE_BODY_CHUNK + (uint32_t)(draft->stored_bytes / chunk), write->parts, whole};
    write->operation.op.on_end = on_written;
    write->operation.op.owner = write;
    draft->stored_bytes += write->bytes;
    draft->write = write;
    operation_submit(&write->operation);
}

enum result draft_write(struct draft *draft, struct slice body)
{
    struct queue *queue = draft->queue;

    if (draft->failed != RESULT_OK)
        return draft->failed;
    keep(draft, body);
    if (draft->memory_bytes <= LIMIT_DRAFT_MEMORY &&
        queue->receiving_bytes <= queue->receiving_most)
        return RESULT_OK;
    if (draft->write)
        return RESULT_AGAIN;
    if (draft->piece_count < 2)
        return RESULT_OK; /* too little to write out: others are larger */
    write_out(draft);
    return RESULT_AGAIN;
}

void draft_discard(struct draft *draft)
{
    if (draft->write) {
        draft->is_discarded = true;
        return;
    }
    if (draft->stored_bytes > 0)
        drop_at_store(draft->queue, draft->id);
    draft_free(draft);
}

/* ---- commits ---- */

static void commit_free(struct operation *operation)
{
    struct commit *commit = CONTAINER_OF(operation, struct commit, operation);

    deferred_cancel(commit->operation.queue->loop, &commit->fail);
    message_fini(&commit->message);
    memory_free(commit);
}

static void commit_tell(struct commit *commit, enum result result)
{
    queue_end_fn *on_end = commit->on_end;
    void *owner = commit->owner;

    commit_free(&commit->operation);
    if (on_end)
        on_end(owner, result);
}

static void on_committed(void *owner, struct store_op *op)
{
    struct commit *commit = owner;
    struct queue *queue = commit->operation.queue;
    enum result result = op->result;

    operation_end(&commit->operation);
    queue->pending_bytes -= commit->message.bytes;
    if (result == RESULT_OK)
        message_publish(&commit->message);
    else if (commit->message.store.was_draft)
        drop_at_store(queue, commit->message.store.id);
    commit_tell(commit, result);
    commits_go_on(queue);
}

static void on_failed(void *owner)
{
    struct commit *commit = owner;

    list_remove(&commit->operation.queue->operations, &commit->operation.link);
    commit_tell(commit, commit->failed);
}

static void commit_submit(struct commit *commit)
{
    commit->operation.queue->pending_bytes += commit->message.bytes;
    operation_submit(&commit->operation);
}

void commits_go_on(struct queue *queue)
{
    struct link *link;

    while ((link = list_first(&queue->held_back))) {
        struct commit *commit = CONTAINER_OF(CONTAINER_OF(link, struct operation, link),
                                             struct commit, operation);

        if (queue->pending_bytes > 0 &&
            queue->pending_bytes + commit->message.bytes > queue->pending_most)
            return;
        list_remove(&queue->held_back, link);
        queue->receiving_bytes -= commit->message.bytes;
        commit_submit(commit);
    }
}

static void commit_go(struct commit *commit)
{
    struct queue *queue = commit->operation.queue;

    if (commit->failed != RESULT_OK) {
        list_push_back(&queue->operations, &commit->operation.link);
        loop_defer(queue->loop, &commit->fail, on_failed, commit);
        return;
    }
    commit->operation.op.kind = STORE_ACCEPT;
    commit->operation.op.messages = &commit->message.store;
    commit->operation.op.message_count = 1;
    commit->operation.op.on_end = on_committed;
    commit->operation.op.owner = commit;
    list_push_back(&queue->held_back, &commit->operation.link);
    /* In memory, and not pending yet: others write their drafts out for it. */
    queue->receiving_bytes += commit->message.bytes;
    commits_go_on(queue);
}

void commit_cancel(struct commit *commit)
{
    commit->on_end = NULL;
}

struct commit *draft_commit(struct draft *draft, const struct submission *submission,
                            queue_end_fn *on_end, void *owner)
{
    struct commit *commit = NEW(struct commit);
    struct envelope envelope = *submission->envelope;
    struct message_source source = {
        .envelope = &envelope,
        .header = submission->header,
        .body = draft->pieces,
        .body_count = draft->piece_count,
        .stored_bytes = draft->stored_bytes,
        .recipients = submission->recipients,
        .recipient_count = submission->recipient_count,
    };

    envelope.id = draft->id;
    envelope.header_bytes = submission->header.length;
    envelope.body_bytes = draft->body_bytes;
    envelope.is_streamed = draft->stored_bytes > 0;
    commit->operation.queue = draft->queue;
    commit->operation.free = commit_free;
    commit->on_end = on_end;
    commit->owner = owner;
    commit->failed = draft->failed;
    if (message_build(&commit->message, draft->queue, &source) != RESULT_OK)
        commit->failed = RESULT_IO;
    /* The pieces are the message's now. */
    draft->queue->receiving_bytes -= draft->memory_bytes;
    draft->memory_bytes = 0;
    draft->piece_count = 0;
    if (draft->write) {
        draft->commit = commit; /* the chunks before it first: they may fail */
        return commit;
    }
    if (commit->failed != RESULT_OK && draft->stored_bytes > 0)
        drop_at_store(draft->queue, draft->id);
    draft_free(draft);
    commit_go(commit);
    return commit;
}

/* At the end of the process: what is not committed was never acknowledged. */
void drafts_free(struct queue *queue)
{
    struct link *link;

    while ((link = list_pop_front(&queue->held_back)))
        commit_free(CONTAINER_OF(link, struct operation, link));
    while ((link = list_first(&queue->drafts))) {
        struct draft *draft = CONTAINER_OF(link, struct draft, link);

        if (draft->commit)
            commit_free(&draft->commit->operation);
        draft_free(draft);
    }
}
