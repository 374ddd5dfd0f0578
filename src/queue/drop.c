/* The chunks of streamed messages that did not become mail leave the store. On a disk that is full
 * to the last page even that may not fit: then it is tried again, one at a time, so that results of
 * attempts do not share its failure. What is left at the end goes at the next start (G5). */
#include "inner.h"

#include "smtpd/base/memory.h"

enum { AGAIN_MS = 10000, LEFT_MOST = 10000 };

static void drop_next(void *owner)
{
    struct queue *queue = owner;
    struct link *link = list_pop_front(&queue->drops);

    if (link)
        operation_submit(CONTAINER_OF(link, struct operation, link));
}

static void on_dropped(void *owner, struct store_op *op)
{
    struct operation *operation = owner;
    struct queue *queue = operation->queue;
    enum result result = op->result;

    operation_end(operation);
    if (result == RESULT_NO_SPACE && queue->drops.count < LEFT_MOST) {
        list_push_back(&queue->drops, &operation->link);
        if (!timer_is_waiting(&queue->drop_again))
            timer_start(&queue->drop_again, AGAIN_MS);
        return;
    }
    memory_free(operation);
    if (result == RESULT_OK)
        drop_next(queue); /* there is room again */
    else if (queue->drops.count > 0 && !timer_is_waiting(&queue->drop_again))
        timer_start(&queue->drop_again, AGAIN_MS);
}

static void free_operation(struct operation *operation)
{
    memory_free(operation);
}

void drop_at_store(struct queue *queue, uint64_t id)
{
    struct operation *operation = NEW(struct operation);

    operation->queue = queue;
    operation->free = free_operation;
    operation->op.kind = STORE_DRAFT_DROP;
    operation->op.id = id;
    operation->op.on_end = on_dropped;
    operation->op.owner = operation;
    operation_submit(operation);
}

void drops_init(struct queue *queue)
{
    list_init(&queue->drops);
    timer_init(&queue->drop_again, queue->loop, drop_next, queue);
}

void drops_free(struct queue *queue)
{
    struct link *link;

    timer_cancel(&queue->drop_again);
    while ((link = list_pop_front(&queue->drops)))
        free_operation(CONTAINER_OF(link, struct operation, link));
}
