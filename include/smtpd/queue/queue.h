/* Every accepted message, from its draft to the last settled recipient.
 *
 * Owns      the LMDB environment, its one writing thread (group commit), the index in
 *           memory, the cache of fresh bodies, the ids, the lock of the data folder.
 * Promises  G1-G6 (docs/queue.md). The completion rule (docs/architecture.md) for every `on_end`.
 * Ignores   SMTP, DNS, hosts. It knows that somebody watches, not who.
 *
 * Words: a *group* is the recipients of one message in one *lane* (a recipient domain, or
 * the name of a route); it is the unit of lease, retry and report. A *domain queue* is the
 * groups of one lane that wait.
 */
#ifndef SMTPD_QUEUE_QUEUE_H
#define SMTPD_QUEUE_QUEUE_H

#include "smtpd/base/bytes.h"
#include "smtpd/base/histogram.h"
#include "smtpd/base/limits.h"
#include "smtpd/loop/offload.h"
#include "smtpd/mail/address.h"
#include "smtpd/mail/envelope.h"

struct queue;

enum { LANE_TEXT = DOMAIN_TEXT + 8 };
/* Which lane a recipient goes to: a normal domain, or "route:NAME". Pure, from the loop. */
typedef void queue_lane_fn(void *owner, const char *recipient_address,
                           char lane[LANE_TEXT]);

enum { QUEUE_RETRY_MAX = 32 };

struct queue_settings {
    const char *data_dir;
    bool allow_network_filesystem;
    uint64_t min_free_space_bytes;
    int64_t retry_ms[QUEUE_RETRY_MAX]; /* the last one repeats */
    size_t retry_count;
    int64_t expire_ms;
    uint64_t map_bytes;       /* 0: 1 TiB, halved on ENOMEM */
    uint64_t receiving_bytes; /* 0: LIMIT_RECEIVING_BYTES */
    uint64_t pending_bytes;   /* 0: LIMIT_PENDING_BYTES */
    uint64_t fresh_bytes;     /* of fresh mail in memory; 0: LIMIT_FRESH_BYTES */
};

/* Blocking (start of the process). RESULT_BUSY: the fault says which process holds the
 * folder. Drafts of a dead process are removed; the index is rebuilt in the background
 * afterwards. */
enum result MUST_CHECK queue_open(struct loop *loop, struct offload *offload,
                                  const struct queue_settings *settings,
                                  struct queue **opened, struct fault *fault);
/* All but data_dir and map_bytes take effect. */
void queue_apply(struct queue *queue, const struct queue_settings *settings);
void queue_set_lanes(struct queue *queue, queue_lane_fn *lane_of, void *owner);
/* Commits what is pending (blocking), stops the thread, gives up the lock. No callbacks. */
void queue_close(struct queue *queue);

/* ---- acceptance ---- */

/* RESULT_OK; RESULT_NO_SPACE below min_free_space (452 4.3.1); RESULT_BUSY when final log
 * lines have no room; RESULT_IO when the store cannot commit at all. Cheap. */
enum result queue_has_room(struct queue *queue);

/* A commit failed in a way that leaves the file in doubt: every later one fails too. The
 * process should end and be started again; nothing acknowledged is lost. */
bool queue_is_broken(const struct queue *queue);

/* RESULT_OK; RESULT_IO: broken, or the last commit failed less than ten seconds ago (then
 * it is worth another try); RESULT_TIMEOUT: a commit has been running for ten seconds. */
enum result queue_can_commit(const struct queue *queue);

struct draft;
typedef void draft_room_fn(void *owner);

/* Takes an id: never used twice, whatever happens. */
struct draft *queue_draft_open(struct queue *queue, draft_room_fn *on_room, void *owner);
uint64_t draft_id(const struct draft *draft);
/* The *body* (what stands behind the header section). RESULT_OK: go on. RESULT_AGAIN:
 * taken, but stop reading until `on_room`. RESULT_NO_SPACE, RESULT_IO: the draft is lost;
 * say so at the end of the data and discard it. */
enum result MUST_CHECK draft_write(struct draft *draft, struct slice body);
uint64_t draft_body_bytes(const struct draft *draft);

struct submission {
    /* Used: sender, envid, user, tenant, pool, session, dsn_return, body_type, smtputf8,
     * priority, arrival_ms, has_8bit, has_dot_line, longest_line. The queue fills the rest.
     */
    const struct envelope *envelope;
    struct slice header; /* complete section with its empty line, our additions in front */
    const struct recipient *recipients;
    size_t recipient_count;
};

/* RESULT_OK only after the sync that made the message durable (G1); RESULT_NO_SPACE:
 * 452 4.3.1; RESULT_IO: 451 4.3.0. Nothing of the message is kept then (G2). */
typedef void queue_end_fn(void *owner, enum result result);

/* Takes the draft; copies the submission. Above the pending budget `on_end` comes later. */
struct commit *draft_commit(struct draft *draft, const struct submission *submission,
                            queue_end_fn *on_end, void *owner);
void commit_cancel(struct commit *commit); /* do not tell me; a commit stays committed */
void draft_discard(struct draft *draft);

/* ---- waiting ---- */

struct domain_queue;

/* The earliest entry of a resting domain queue is due: from now on the watcher holds it,
 * until domain_queue_rest(). From the loop, never inside another call of this door. */
typedef void queue_due_fn(void *owner, struct domain_queue *domain_queue);
/* One watcher. `on_gone` (may be NULL): an empty domain queue is about to be forgotten. */
void queue_watch(struct queue *queue, queue_due_fn *on_due, queue_due_fn *on_gone,
                 void *owner);

const char *domain_queue_lane(const struct domain_queue *domain_queue);
const char *domain_queue_tenant(const struct domain_queue *domain_queue); /* or NULL */
int domain_queue_priority(const struct domain_queue *domain_queue);
const char *domain_queue_pool(const struct domain_queue *domain_queue); /* or NULL */
size_t
domain_queue_count(const struct domain_queue *domain_queue); /* waiting, not leased */
size_t domain_queue_due_count(const struct domain_queue *domain_queue,
                              size_t most); /* due now, counted up to most */
/* Arrival, wall; 0: empty. Above a million groups it may be too early: that of one which left. */
int64_t domain_queue_oldest_ms(const struct domain_queue *domain_queue);
void *domain_queue_attachment(const struct domain_queue *domain_queue);
void domain_queue_attach(struct domain_queue *domain_queue,
                         void *attachment); /* NULL: none */

struct queue_entry {
    uint64_t id;
    uint32_t group;
    uint32_t arrival_s;      /* wall, seconds */
    int64_t next_attempt_ms; /* wall */
    bool is_held;            /* by an operator, until then */
};
/* False: LIMIT_LEASED_GROUPS are leased, and nothing is taken until some of them end. */
bool queue_can_lease(const struct queue *queue);
/* The earliest due entry; it is *leased* from now on (in memory only). false: none is due, or
 * nothing can be leased. */
bool domain_queue_take(struct domain_queue *domain_queue, struct queue_entry *entry);
/* Like take, for what has expired (arrival + expire is past), due or not, held too. */
bool domain_queue_take_expired(struct domain_queue *domain_queue,
                               struct queue_entry *entry);
/* Like take, due or not, for what arrived before `before_ms` (wall; to the second) and was not
 * taken so before in this process; held ones not. A call looks at a part: false may change. */
bool domain_queue_take_late(struct domain_queue *domain_queue, int64_t before_ms,
                            struct queue_entry *entry);
/* Gives a taken entry back as it was: no attempt spent, nothing written. */
void domain_queue_give_back(struct domain_queue *domain_queue,
                            const struct queue_entry *entry);
/* The watcher lets go. on_due comes again when an entry is due, but not before
 * `not_before_ms` (wall; 0: at once when due), for new mail neither. */
void domain_queue_rest(struct domain_queue *domain_queue, int64_t not_before_ms);
/* Why what waits here does: a number of the watcher's, below QUEUE_REASONS, that groups are
 * counted by (queue_statistics). 0, none, by itself once a rest is over. Cheap. */
enum { QUEUE_REASONS = 16 };
void domain_queue_note(struct domain_queue *domain_queue, unsigned reason);
size_t domain_queue_held_count(const struct domain_queue *domain_queue);
/* Moves the not-before of a resting domain queue (an operator said: retry now). */
void domain_queue_wake(struct domain_queue *domain_queue);
/* All that waits there and is not held is due now, until the next start; how many were moved. Takes
 * some 20 ns an entry: with many of them it is not to be done in one turn. */
size_t domain_queue_hasten(struct domain_queue *domain_queue);
struct domain_queue *queue_find_domain_queue(struct queue *queue, const char *lane);
/* That of mail with this tenant, priority and pool. NULL: none waits there. */
struct domain_queue *queue_find_domain_queue_of(struct queue *queue, const char *lane,
                                                const struct envelope *of);
/* The others of its lane, by tenant, priority and pool: a ring, which comes back to the first. */
struct domain_queue *domain_queue_lane_next(const struct domain_queue *domain_queue);
/* Iteration over all; *position starts at 0; NULL at the end. Nothing may change meanwhile.
 */
struct domain_queue *queue_next_domain_queue(struct queue *queue, size_t *position);

/* ---- leases ---- */

enum { GROUP_REPLY_TEXT = 512 };

/* What changes: the state of a group. Plain values; texts belong to the lease or view. */
struct group {
    uint32_t number;
    const char *lane;
    int64_t next_attempt_ms; /* wall */
    int64_t not_before_ms;   /* wall: end of the hold; 0: none */
    uint32_t attempts;
    bool is_held;
    bool delay_notified;
    uint32_t recipient_count;
    const struct recipient *recipients;
    /* The last answer about this group, for people and reports: */
    uint16_t last_code;
    const char *last_status; /* "4.2.2" or "" */
    const char *last_text;   /* "" when there was none */
    const char *last_host;   /* "" */
    int64_t last_attempt_ms; /* 0: never */
};

/* A hold ends by itself. */
bool group_is_held(const struct group *group, int64_t now_ms);

struct lease {
    struct envelope envelope;
    struct group group;
    struct queue_entry entry;
    struct domain_queue *domain_queue;
    /* Attempts at this message that are over count from here on: first lease since the
     * start? */
    bool is_first_since_start;
};

/* NULL lease: RESULT_NOT_FOUND (removed meanwhile; the entry is gone), or RESULT_IO/CORRUPT
 * (the entry was given back and rests for a minute; logged). */
typedef void lease_fn(void *owner, struct lease *lease, enum result result);

struct lease_load;
struct lease_load *queue_lease_load(struct domain_queue *domain_queue,
                                    const struct queue_entry *entry, lease_fn *on_end,
                                    void *owner);
void lease_load_cancel(struct lease_load *load); /* gives the entry back */
/* Gives the lease back as it was: no attempt spent, nothing written. Frees it. */
void lease_release(struct lease *lease);

/* Gives the lease of a held group back: due at the end of the hold, or at the expiry. One
 * that has expired before it was looked at in this process rests for an hour first (G6). */
void lease_postpone(struct lease *lease);

/* The result of an attempt (or of a decision). */
struct settlement {
    const bool *is_settled; /* per recipient of the lease: true: removed from the group */
    /* For those that stay (ignored when none does): */
    int64_t next_attempt_ms;
    bool counts_attempt;
    bool delay_notified;
    uint16_t last_code;
    const char *last_status;
    const char *last_text;
    const char *last_host;
    /* Reports written in the same transaction (G3), each a whole new message: */
    const struct report *reports;
    size_t report_count;
};

struct report {
    uint64_t id;              /* from queue_next_id() */
    struct envelope envelope; /* sender is "" */
    struct recipient recipient;
    struct slice header;
    struct slice body;
};

uint64_t queue_next_id(struct queue *queue);

/* Frees the lease when `on_end` says RESULT_OK. On RESULT_NO_SPACE or RESULT_IO the lease
 * is still leased: the caller tries again later, so that nothing is delivered twice. Copies
 * all. */
void lease_settle(struct lease *lease, const struct settlement *settlement,
                  queue_end_fn *on_end, void *owner);
/* The lane of this group no longer exists (a route was removed): the group becomes groups
 * of the lanes that lane_of now gives. Frees the lease when RESULT_OK. */
void lease_regroup(struct lease *lease, queue_end_fn *on_end, void *owner);

/* ---- reading a message ---- */

/* Pieces of at most LIMIT_PIECE_BYTES of header section and body, from the first byte on.
 * An empty piece with RESULT_OK is the end. `piece` lives until the next body_reader_next()
 * or body_reader_close(). Anything but RESULT_OK: the message cannot be read (logged). */
typedef void body_piece_fn(void *owner, struct slice piece, enum result result);
struct body_reader;
/* RESULT_BUSY: all outbound windows together are used up. */
enum result MUST_CHECK body_reader_open(struct queue *queue,
                                        const struct envelope *envelope,
                                        struct body_reader **opened);
/* Never busy: the first piece comes when a window is free, first come first served. */
struct body_reader *body_reader_open_in_turn(struct queue *queue,
                                             const struct envelope *envelope);
void body_reader_next(struct body_reader *reader, body_piece_fn *on_piece, void *owner);
/* For its turn: the windows are others'. */
bool body_reader_waits(const struct body_reader *reader);
/* Bytes behind the piece that was told last: 0 there, and the next call only tells the end. */
uint64_t body_reader_left(const struct body_reader *reader);
void body_reader_close(struct body_reader *reader); /* at any time */

/* ---- operators ---- */

/* Every group in order of id, on the loop, in batches that yield. The views live during the
 * call. Return false to stop. */
typedef bool queue_visit_fn(void *owner, const struct envelope *envelope,
                            const struct group *group);
typedef void queue_visited_fn(void *owner, enum result result);
struct queue_visit;
struct queue_visit *queue_visit_start(struct queue *queue, uint64_t first_id,
                                      queue_visit_fn *visit, queue_visited_fn *on_end,
                                      void *owner);
void queue_visit_cancel(struct queue_visit *visit);
bool queue_is_leased(const struct queue *queue, uint64_t id, uint32_t group);
int64_t queue_expire_ms(const struct queue *queue);
/* False: the index is being rebuilt and has not come to this message. */
bool queue_is_indexed(const struct queue *queue, uint64_t id);

struct queue_target {
    uint64_t id;
    uint32_t group;
};
struct queue_counts {
    size_t changed; /* after a failure: how many were done before it */
    size_t busy;    /* leased now */
    size_t gone;
    size_t
        skipped; /* a retry of what is held, a release of what is not, a way that is theirs
                     * already */
};
/* At most 1,000 targets, in one commit, or in several where many bytes are removed. Each
 * removed recipient is one final log line "queue.removed"; a held, released or rerouted group is
 * one line. */
typedef void queue_changed_fn(void *owner, enum result result,
                              const struct queue_counts *counts);
/* QUEUE_EXPORTED: removed, because a file has it: see smtpd/queue/moving.h. */
enum queue_change_kind {
    QUEUE_RETRY,
    QUEUE_REMOVE,
    QUEUE_HOLD,
    QUEUE_RELEASE,
    QUEUE_EXPORTED,
    QUEUE_REROUTE
};
#define QUEUE_OWN_WAY "route:" /* the lane of no route */
struct queue_change {
    enum queue_change_kind kind;
    const struct queue_target *targets; /* copied */
    size_t count;
    queue_changed_fn *on_end;
    void *owner;
    int64_t until_ms; /* QUEUE_HOLD, wall; the expiry ends a hold too */
    /* Instead of on_end, when the queue is closed before it was told. NULL: nothing to do. */
    void (*drop)(void *owner);
    /* QUEUE_REROUTE: where they go from now on, due at once (held ones stay held). The lane of a
     * route that there is not makes them find their own way again: QUEUE_OWN_WAY. */
    const char *lane; /* copied */
};
void queue_change_start(struct queue *queue, const struct queue_change *wanted);

/* Leases these groups whatever their time is, held ones too: at most 1,000. `changed` leases
 * are the owner's now; `skipped`: not in the index yet. */
typedef void queue_taken_fn(void *owner, struct lease *const *leases,
                            const struct queue_counts *counts);
struct queue_take;
struct queue_take *queue_take_start(struct queue *queue, const struct queue_target *targets,
                                    size_t count, queue_taken_fn *on_taken, void *owner);
void queue_take_cancel(struct queue_take *take); /* before on_taken */

struct queue_statistics {
    uint64_t groups_waiting; /* held ones not */
    uint64_t groups_held;
    uint64_t groups_leased;
    uint64_t groups_overflow; /* waiting, and without a domain queue for now */
    uint64_t groups_by_reason[QUEUE_REASONS]; /* waiting, by domain_queue_note() */
    uint64_t domain_queues;
    uint64_t drafts;
    uint64_t receiving_bytes;
    uint64_t pending_bytes;
    uint64_t commits;
    uint64_t commits_failed;
    uint64_t messages_committed;
    int64_t commit_us_last;
    int64_t commit_us_max; /* of the last minute */
    uint64_t batch_last;   /* operations in the last commit */
    bool is_rebuilding;
    uint64_t rebuilt_groups;
    uint64_t free_bytes; /* disk plus free pages inside the file */
    uint64_t file_bytes;
    bool has_room;
    int64_t oldest_ms; /* arrival of the oldest waiting, wall; 0: none */
    uint64_t outbound_window_bytes;
    uint64_t disk_free_bytes;
    uint64_t free_page_bytes; /* inside the file */
    uint64_t map_bytes;
    struct histogram commit; /* us, from the first byte to the end of its syncs */
    struct histogram batch;  /* operations in a commit */
};
void queue_statistics(struct queue *queue, struct queue_statistics *statistics);

#endif
