/* Reading a message in pieces: fresh mail from memory, old mail on the file pool. */
#include "inner.h"

#include "smtpd/base/memory.h"

struct body_reader {
    struct link link;
    struct link turn; /* in queue->window_turns, while it waits for its window */
    struct queue *queue;
    bool has_window;
    uint64_t id;
    uint64_t header_bytes;
    uint64_t total;
    bool is_streamed;
    uint64_t offset;
    struct piece *piece; /* of the cache, or of our own */
    body_piece_fn *on_piece;
    void *owner;
    struct slice ready;
    bool is_ready;  /* the owner asked for it within the call that told it the one before */
    bool *is_freed; /* NULL: no such call is under way */
    struct reading *reading;
    struct deferred deferred;
};

struct read_input { /* touched by the pool */
    struct store_piece want;
    struct piece *piece;
    enum result result;
};

static bool has_room_for_window(const struct queue *queue)
{
    return queue->outbound_bytes + LIMIT_PIECE_BYTES <= LIMIT_OUTBOUND_WINDOW_BYTES;
}

static void take_window(struct body_reader *reader)
{
    reader->has_window = true;
    reader->queue->outbound_bytes += LIMIT_PIECE_BYTES;
}

struct body_reader *body_reader_open_in_turn(struct queue *queue,
                                             const struct envelope *envelope)
{
    struct body_reader *reader = NEW(struct body_reader);

    reader->queue = queue;
    reader->id = envelope->id;
    reader->header_bytes = envelope->header_bytes;
    reader->total = envelope->header_bytes + envelope->body_bytes;
    reader->is_streamed = envelope->is_streamed;
    list_push_back(&queue->readers, &reader->link);
    return reader;
}

enum result body_reader_open(struct queue *queue, const struct envelope *envelope,
                             struct body_reader **opened)
{
    if (!has_room_for_window(queue))
        return RESULT_BUSY;
    *opened = body_reader_open_in_turn(queue, envelope);
    take_window(*opened);
    return RESULT_OK;
}

static void let_go(struct body_reader *reader)
{
    piece_drop(reader->piece);
    reader->piece = NULL;
}

/* What is in memory follows within one turn of the loop, so that a small message leaves in one
 * write; a large one gives the turn up after each LIMIT_PIECE_BYTES. */
static void tell(void *owner)
{
    struct body_reader *reader = owner;
    bool is_freed = false;
    size_t told = 0;

    reader->is_freed = &is_freed;
    do {
        told += reader->ready.length;
        reader->offset += reader->ready.length;
        reader->is_ready = false;
        reader->on_piece(reader->owner, reader->ready, RESULT_OK);
        if (is_freed)
            return;
    } while (reader->is_ready && told < LIMIT_PIECE_BYTES);
    reader->is_freed = NULL;
    if (reader->is_ready)
        loop_defer(reader->queue->loop, &reader->deferred, tell, reader);
}

static void read_run(struct store *store, void *argument)
{
    struct read_input *input = argument;

    input->result = store_read_piece(store, &input->want);
}

static void read_drop(void *argument)
{
    struct read_input *input = argument;

    piece_drop(input->piece);
    memory_free(input);
}

static void read_end(void *owner, void *argument)
{
    struct body_reader *reader = owner;
    struct read_input *input = argument;
    enum result result = input->result;

    reader->reading = NULL;
    reader->piece = input->piece;
    memory_free(input);
    if (result != RESULT_OK) {
        reader->on_piece(reader->owner, SLICE_NONE, result);
        return;
    }
    reader->ready = (struct slice){reader->piece->data, reader->piece->length};
    tell(reader);
}

static const struct reading_kind read_kind = {read_run, read_end, read_drop};

static void read_cold(struct body_reader *reader)
{
    struct read_input *input = NEW(struct read_input);
    uint64_t end = reader->total;
    bool is_body = reader->is_streamed && reader->offset >= reader->header_bytes;

    input->want.id = reader->id;
    input->want.first_chunk = is_body ? STORE_BODY_CHUNK : 0;
    input->want.offset = is_body ? reader->offset - reader->header_bytes : reader->offset;
    if (reader->is_streamed && !is_body)
        end = reader->header_bytes;
    input->want.want = end - reader->offset < LIMIT_PIECE_BYTES
                           ? (size_t)(end - reader->offset)
                           : LIMIT_PIECE_BYTES;
    input->piece = piece_new(input->want.want);
    input->piece->length = input->want.want;
    input->want.into = input->piece->data;
    input->result = RESULT_IO;
    reader->reading = reading_start(reader->queue->line, &read_kind, input, reader);
}

static void read_on(void *owner)
{
    struct body_reader *reader = owner;
    size_t skip = 0;

    reader->ready = SLICE_NONE;
    if (reader->offset < reader->total) {
        reader->piece =
            cache_piece(reader->queue->cache, reader->id, reader->offset, &skip);
        if (!reader->piece) {
            read_cold(reader);
            return;
        }
        reader->ready =
            (struct slice){reader->piece->data + skip, reader->piece->length - skip};
    }
    reader->is_ready = true;
    if (!reader->is_freed)
        loop_defer(reader->queue->loop, &reader->deferred, tell, reader);
}

bool body_reader_waits(const struct body_reader *reader)
{
    return link_is_in_list(&reader->turn);
}

uint64_t body_reader_left(const struct body_reader *reader)
{
    return reader->total - reader->offset;
}

void body_reader_next(struct body_reader *reader, body_piece_fn *on_piece, void *owner)
{
    struct queue *queue = reader->queue;

    let_go(reader);
    reader->on_piece = on_piece;
    reader->owner = owner;
    if (!reader->has_window) {
        if (!has_room_for_window(queue) || queue->window_turns.count > 0) {
            list_push_back(&queue->window_turns, &reader->turn);
            return;
        }
        take_window(reader);
    }
    read_on(reader);
}

static void give_window_on(struct queue *queue)
{
    struct link *link;

    while (has_room_for_window(queue) && (link = list_pop_front(&queue->window_turns))) {
        struct body_reader *next = CONTAINER_OF(link, struct body_reader, turn);

        take_window(next);
        loop_defer(queue->loop, &next->deferred, read_on, next);
    }
}

static void reader_free(struct body_reader *reader)
{
    struct queue *queue = reader->queue;

    if (reader->is_freed)
        *reader->is_freed = true;
    deferred_cancel(queue->loop, &reader->deferred);
    if (reader->reading)
        reading_cancel(reader->reading);
    let_go(reader);
    list_remove(&queue->window_turns, &reader->turn);
    if (reader->has_window)
        queue->outbound_bytes -= LIMIT_PIECE_BYTES;
    list_remove(&queue->readers, &reader->link);
    memory_free(reader);
}

void body_reader_close(struct body_reader *reader)
{
    struct queue *queue = reader->queue;

    reader_free(reader);
    give_window_on(queue);
}

void readers_free(struct queue *queue)
{
    struct link *link;

    while ((link = list_first(&queue->readers)))
        reader_free(CONTAINER_OF(link, struct body_reader, link));
}
