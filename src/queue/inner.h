/* The inside of struct queue, for the files of this room above the store. */
#ifndef SMTPD_QUEUE_INNER_H
#define SMTPD_QUEUE_INNER_H

#include "cache.h"
#include "reading.h"
#include "record.h"
#include "smtpd/base/list.h"
#include "smtpd/queue/queue.h"
#include "store.h"
#include "waiting.h"

struct rebuild;

struct queue {
    struct loop *loop;
    struct offload *offload;
    int lock; /* descriptor */
    struct store *store;
    struct reading_line *line;
    struct waiting *waiting;
    struct cache *cache;
    queue_lane_fn *lane_of;
    void *lane_owner;
    uint64_t first_id; /* of this process: what is below was there before */
    uint64_t next_id;
    int64_t longest_wait_ms; /* between two attempts */
    int64_t expire_ms;
    uint64_t min_free_space_bytes;
    uint64_t receiving_most;
    uint64_t pending_most;
    uint64_t receiving_bytes; /* of drafts, in memory */
    uint64_t pending_bytes;   /* of messages at the store */
    uint64_t outbound_bytes;  /* windows of open body readers */
    uint64_t messages_committed;
    size_t piece_bytes; /* whole chunks, at most LIMIT_PIECE_BYTES */
    struct list drafts;
    struct list held_back;  /* commits above the pending budget */
    struct list operations; /* at the store: struct operation */
    struct list drops;      /* not at the store: there was no room for them */
    struct timer drop_again;
    struct list leases;
    struct list loads;
    struct list visits;
    struct list takes;
    struct list exports; /* the first runs */
    struct list readers;
    struct list window_turns; /* readers that wait for their window, first come first */
    struct rebuild *rebuild;
};

/* What was given to the store: freed by its end, or with the queue. */
struct operation {
    struct link link;
    struct queue *queue;
    struct store_op op;
    void (*free)(struct operation *operation);
};
void operation_submit(struct operation *operation);
void operation_end(struct operation *operation); /* takes it off the list */

/* message.c: a whole new message, as the store and the cache want it. */
struct message {
    struct queue *queue;
    struct piece **pieces; /* header section first */
    size_t piece_count;
    size_t header_pieces;
    struct slice *parts;   /* the same as slices */
    struct bytes envelope; /* record */
    struct bytes groups;   /* records, one behind the other */
    struct slice *records;
    size_t group_count;
    const char **lanes; /* by group */
    char *lane_texts;
    char *tenant;
    char *pool;
    int8_t priority;
    int64_t arrival_ms;
    struct store_message store;
    uint64_t bytes; /* what it adds to the file */
};
struct message_source {
    const struct envelope *envelope; /* its numbers are set already */
    struct slice header;
    struct piece **body; /* taken */
    size_t body_count;
    uint64_t stored_bytes; /* of the body, by draft writes */
    const struct recipient *recipients;
    size_t recipient_count;
};
/* RESULT_TOO_LARGE: a record does not fit. */
enum result MUST_CHECK message_build(struct message *message, struct queue *queue,
                                     const struct message_source *source);
void message_fini(struct message *message);
/* Committed: into the cache and the index. */
void message_publish(struct message *message);
/* Slices -> pieces, for a report. */
struct piece **pieces_of(struct queue *queue, struct slice text, size_t *count);

/* draft.c */
void drafts_free(struct queue *queue);
void commits_go_on(struct queue *queue);

/* drop.c: the chunks of a draft go, and are not waited for. */
void drop_at_store(struct queue *queue, uint64_t id);
void drops_init(struct queue *queue);
void drops_free(struct queue *queue);

/* lease.c, body.c, visit.c, take.c, export.c */
void leases_free(struct queue *queue);
void readers_free(struct queue *queue);
void visits_free(struct queue *queue);
void takes_free(struct queue *queue);
void exports_free(struct queue *queue);
/* A lease of a group that was taken out of the index; the records are copied. */
struct lease *lease_of_records(struct domain_queue *domain_queue,
                               const struct queue_entry *entry, struct slice envelope,
                               struct slice record);

/* rebuild.c */
void rebuild_start(struct queue *queue);
void rebuild_free(struct queue *queue);
void rebuild_changed(struct queue *queue); /* records were, by an operator */
bool rebuild_is_running(const struct queue *queue);
uint64_t rebuild_count(const struct queue *queue);
void rebuild_overflow(void *owner);

#endif
