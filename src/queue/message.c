/* A new message: recipients are sorted into groups by lane, records are made, bytes are cut
 * into pieces. One place for mail that comes in and for reports. */
#include "inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <stdlib.h>
#include <string.h>

struct placed { /* a recipient and its lane */
    const struct recipient *recipient;
    const char *lane;
    size_t order;
};

static int by_lane(const void *a, const void *b)
{
    const struct placed *left = a;
    const struct placed *right = b;
    int order = strcmp(left->lane, right->lane);

    if (order)
        return order;
    return (left->order > right->order) - (left->order < right->order);
}

static struct placed *place(struct message *message, const struct message_source *source)
{
    struct queue *queue = message->queue;
    struct placed *placed = NEW_ARRAY(struct placed, source->recipient_count);

    message->lane_texts = memory_new_array(source->recipient_count, LANE_TEXT);
    for (size_t i = 0; i < source->recipient_count; i++) {
        char *lane = message->lane_texts + i * LANE_TEXT;

        queue->lane_of(queue->lane_owner, source->recipients[i].address, lane);
        placed[i] = (struct placed){&source->recipients[i], lane, i};
    }
    qsort(placed, source->recipient_count, sizeof *placed, by_lane);
    return placed;
}

/* Recipients from `at` on that share a group: one lane, 100 of them, 2,000 bytes. */
static size_t group_size(const struct placed *placed, size_t at, size_t count)
{
    size_t bytes = 0;
    size_t size = 0;

    while (at + size < count && size < LIMIT_GROUP_RECIPIENTS &&
           strcmp(placed[at + size].lane, placed[at].lane) == 0) {
        bytes += record_recipient_bytes(placed[at + size].recipient);
        if (size > 0 && bytes > LIMIT_GROUP_BYTES)
            break;
        size++;
    }
    return size;
}

static enum result add_group(struct message *message, const struct placed *placed,
                             size_t size)
{
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct group group = {
        .number = (uint32_t)message->group_count,
        .lane = placed->lane,
        .next_attempt_ms = message->arrival_ms,
        .recipient_count = (uint32_t)size,
        .recipients = recipients,
        .last_status = "",
        .last_text = "",
        .last_host = "",
    };
    size_t start = message->groups.length;
    enum result result;

    for (size_t i = 0; i < size; i++)
        recipients[i] = *placed[i].recipient;
    result = record_encode_group(&group, &message->groups);
    /* The buffer may move: for now the length alone, see finish_records(). */
    message->records[message->group_count].length = message->groups.length - start;
    message->lanes[message->group_count] = placed->lane;
    message->group_count++;
    return result;
}

static void finish_records(struct message *message)
{
    size_t at = 0;

    for (size_t i = 0; i < message->group_count; i++) {
        message->records[i].data = message->groups.data + at;
        at += message->records[i].length;
    }
}

static enum result add_groups(struct message *message, const struct message_source *source)
{
    struct placed *placed = place(message, source);
    enum result result = RESULT_OK;
    size_t at = 0;

    message->records = NEW_ARRAY(struct slice, source->recipient_count);
    message->lanes = NEW_ARRAY(const char *, source->recipient_count);
    while (at < source->recipient_count && result == RESULT_OK) {
        size_t size = group_size(placed, at, source->recipient_count);

        result = add_group(message, placed + at, size);
        at += size;
    }
    finish_records(message);
    memory_free(placed);
    return result;
}

struct piece **pieces_of(struct queue *queue, struct slice text, size_t *count)
{
    size_t needed = (text.length + queue->piece_bytes - 1) / queue->piece_bytes;
    struct piece **pieces = NEW_ARRAY(struct piece *, needed + 1);

    for (size_t i = 0; i < needed; i++) {
        struct slice part = slice_part(text, i * queue->piece_bytes, queue->piece_bytes);

        pieces[i] = piece_new(part.length);
        memcpy(pieces[i]->data, part.data, part.length);
        pieces[i]->length = part.length;
    }
    *count = needed;
    return pieces;
}

static void join_pieces(struct message *message, const struct message_source *source)
{
    struct piece **header =
        pieces_of(message->queue, source->header, &message->header_pieces);

    message->piece_count = message->header_pieces + source->body_count;
    message->pieces = NEW_ARRAY(struct piece *, message->piece_count + 1);
    message->parts = NEW_ARRAY(struct slice, message->piece_count + 1);
    if (message->header_pieces)
        memcpy(message->pieces, header, message->header_pieces * sizeof(struct piece *));
    if (source->body_count)
        memcpy(message->pieces + message->header_pieces, source->body,
               source->body_count * sizeof(struct piece *));
    memory_free(header);
    for (size_t i = 0; i < message->piece_count; i++) {
        message->parts[i] =
            (struct slice){message->pieces[i]->data, message->pieces[i]->length};
        message->bytes += message->pieces[i]->length;
    }
}

static void fill_store(struct message *message, const struct message_source *source)
{
    struct store_message *store = &message->store;
    uint32_t chunk = store_chunk_bytes(message->queue->store);

    store->id = source->envelope->id;
    store->envelope = bytes_view(&message->envelope);
    store->groups = message->records;
    store->group_count = message->group_count;
    store->was_draft = source->stored_bytes > 0;
    store->run_count = 1;
    store->runs[0] = (struct store_run){0, message->parts, message->piece_count};
    if (!store->was_draft)
        return;
    store->runs[0].part_count = message->header_pieces;
    store->runs[1] =
        (struct store_run){STORE_BODY_CHUNK + (uint32_t)(source->stored_bytes / chunk),
                           message->parts + message->header_pieces, source->body_count};
    store->run_count = 2;
}

enum result message_build(struct message *message, struct queue *queue,
                          const struct message_source *source)
{
    enum result result;

    memset(message, 0, sizeof *message);
    message->queue = queue;
    message->arrival_ms = source->envelope->arrival_ms;
    message->tenant = memory_text(source->envelope->tenant);
    message->priority = source->envelope->priority;
    message->pool = memory_text(source->envelope->pool);
    bytes_init(&message->envelope, RECORD_MAX);
    bytes_init(&message->groups, (source->recipient_count + 1) * RECORD_MAX);
    join_pieces(message, source);
    result = add_groups(message, source);
    if (result == RESULT_OK)
        result = record_encode_envelope(source->envelope, (uint32_t)message->group_count,
                                        &message->envelope);
    fill_store(message, source);
    return result;
}

void message_fini(struct message *message)
{
    for (size_t i = 0; i < message->piece_count; i++)
        piece_drop(message->pieces[i]);
    memory_free(message->pieces);
    memory_free(message->parts);
    memory_free(message->records);
    memory_free(message->lanes);
    memory_free(message->lane_texts);
    memory_free(message->tenant);
    memory_free(message->pool);
    bytes_fini(&message->envelope);
    bytes_fini(&message->groups);
}

void message_publish(struct message *message)
{
    struct queue *queue = message->queue;
    int64_t next_ms = loop_wall_ms(queue->loop);
    struct cache_message cached = {message->store.id,    message->pieces,
                                   message->piece_count, bytes_view(&message->envelope),
                                   message->records,     message->group_count};

    /* Due now, even if the clock was put back since it came. */
    if (next_ms > message->arrival_ms)
        next_ms = message->arrival_ms;
    queue->messages_committed++;
    if (!message->store.was_draft) /* a streamed one has left memory on purpose */
        cache_add(queue->cache, &cached, loop_now_ms(queue->loop));
    for (size_t i = 0; i < message->group_count; i++) {
        struct waiting_key key = {message->lanes[i], message->tenant, message->priority,
                                  message->pool};
        struct queue_entry entry = {message->store.id, (uint32_t)i,
                                    (uint32_t)(message->arrival_ms / 1000), next_ms, false};

        waiting_add(queue->waiting, &key, &entry, true);
    }
}
