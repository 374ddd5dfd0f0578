/* How fast, and by how many connections, mail goes to one scope from one source.
 *
 * Owns      its two buckets, the number of connections that it has learned, and what reactions did
 *           to it.
 * Promises  O(1); each change is one event, deliver.pace_changed, with its cause.
 *           Connections: from 5 (or the ceiling) one more for each message while all are in use,
 *           until the first objection; from then on one more for each round of messages. An
 *           objection (421, 4xx before mail was taken, silence) halves them, once a second at most.
 * Ignores   who waits for it: scope.h.
 */
#ifndef SMTPD_DELIVER_PACE_H
#define SMTPD_DELIVER_PACE_H

#include "bucket.h"
#include "smtpd/deliver/deliver.h"

struct pace_limits {
    unsigned connections; /* the ceiling */
    struct quota messages;
    struct quota new_connections;
};

enum pace_hold {
    PACE_GOES,
    PACE_CONNECTIONS, /* as many run as may */
    PACE_MESSAGES,
    PACE_NEW_CONNECTIONS,
    PACE_SUSPENDED
};

struct pace_time {
    int64_t now_ms;  /* monotonic */
    int64_t wall_ms; /* what is kept over restarts is told by this one */
};

struct pace_cause {
    const char *kind; /* "reply", "silence", "success", "recovery", "operator" and so on */
    const char *text; /* or NULL */
};

enum {
    PACE_TEXT = 256,
    PACE_BACKOFFS_MAX = 4,     /* doublings */
    PACE_BOUNCED_MAX = 1000000 /* of one reaction */
};

/* What waits is bounced: since a reaction, for a while. */
struct pace_bounce {
    int64_t until_ms;  /* wall; 0: none is under way */
    int64_t before_ms; /* wall: what arrived earlier */
    unsigned left;     /* 0: no more is bounced, and none begins before its time is over */
    char text[PACE_TEXT];
};

typedef void pace_changed_fn(void *owner);

struct pace {
    const char *scope;
    const char *source;
    pace_changed_fn *on_changed; /* or NULL */
    void *owner;
    struct deliver_pace_changes *counts;
    struct pace_limits limits;
    unsigned window; /* attempts at once, and so connections */
    unsigned successes;
    bool has_shrunk;
    int64_t changed_ms; /* wall; 0: never */
    int64_t shrunk_ms;  /* monotonic */
    unsigned running;
    unsigned riding;            /* of these: on a connection behind another */
    unsigned promised_messages; /* attempts that have not said MAIL yet */
    unsigned promised_connections;
    int64_t started_ms; /* monotonic: the last attempt */
    int64_t opening_ms; /* how long a connection takes to be ready, smoothed */
    struct bucket messages;
    struct bucket new_connections;
    int64_t suspended_until_ms; /* wall; 0: it is not */
    char suspension[PACE_TEXT];
    unsigned backoffs; /* in a row */
    unsigned permille; /* of the rate; 1000: all of it */
    int64_t slowed_ms; /* wall */
    unsigned step;     /* what it gets back at a time */
    int64_t step_ms;
    int64_t next_step_ms; /* wall */
    char slowness[PACE_TEXT];
    struct quota measured; /* slowed without a limit of its own: of what it did before */
    uint32_t counted[2];   /* messages of this minute and the last one */
    int64_t minute;
    struct pace_bounce bounce;
};

/* What an attempt has been promised, and has not used. */
struct pace_claim {
    bool is_running;
    bool rides;
    bool has_message;
    bool has_connection;
    bool has_token; /* for the connection that is being made */
};

/* Both texts live longer. No limits yet. */
void pace_init(struct pace *pace, const char *scope, const char *source,
               struct deliver_pace_changes *counts, const struct pace_time *time);
/* A limit that is new begins with an empty bucket, which fills from `since_ms` on. */
void pace_set_limits(struct pace *pace, const struct pace_limits *limits, int64_t since_ms,
                     const struct pace_time *time);

/* May one more attempt start? `until_ms` (monotonic): when to ask again; 0: when one has ended. */
enum pace_hold pace_look(struct pace *pace, bool has_idle, const struct pace_time *time,
                         int64_t *until_ms);
/* The same for one that goes behind another, on its connection. */
enum pace_hold pace_look_behind(struct pace *pace, const struct pace_time *time,
                                int64_t *until_ms);
unsigned pace_connections(const struct pace *pace); /* in use */
void pace_start(struct pace *pace, bool has_idle, struct pace_claim *claim,
                const struct pace_time *time);
/* It goes behind another, or does so no more. */
void pace_rides(struct pace *pace, struct pace_claim *claim, bool rides);
void pace_end(struct pace *pace, struct pace_claim *claim);
/* Now, on the way out: 0, and it is taken; else so many ms are to be waited. */
int64_t pace_take_message(struct pace *pace, struct pace_claim *claim,
                          const struct pace_time *time);
/* One more transaction, if all that were promised can still be had. */
bool pace_take_spare(struct pace *pace, const struct pace_time *time);
int64_t pace_take_connection(struct pace *pace, struct pace_claim *claim,
                             const struct pace_time *time);
/* It was not made, and nobody outside has seen of it. */
void pace_return_connection(struct pace *pace, struct pace_claim *claim,
                            const struct pace_time *time);

void pace_opened(struct pace *pace, int64_t took_ms);
void pace_works(struct pace *pace, const struct pace_time *time); /* a message was taken */
/* The next hop objects to how many we are. */
void pace_objects(struct pace *pace, const struct pace_cause *cause,
                  const struct pace_time *time);
/* Longer than now, if it is suspended. */
void pace_suspend(struct pace *pace, int64_t until_ms, const struct pace_cause *cause,
                  const struct pace_time *time);
/* For so long, twice as long if nothing was taken since the last time, up to 16 times. */
void pace_back_off(struct pace *pace, int64_t for_ms, const struct pace_cause *cause,
                   const struct pace_time *time);
/* The time of day stepped: what is to last goes on for as long. */
void pace_move_clock(struct pace *pace, int64_t by_ms);
void pace_resume(struct pace *pace, const struct pace_cause *cause,
                 const struct pace_time *time);
/* `permille` of what it is now, and back to all of it in `recovery_ms`. */
void pace_slow(struct pace *pace, unsigned permille, int64_t recovery_ms,
               const struct pace_cause *cause, const struct pace_time *time);

/* What arrived before now is bounced when it is due, for so long, at most so many groups. One that is
 * under way goes on as it is. */
void pace_bounce(struct pace *pace, int64_t for_ms, unsigned most,
                 const struct pace_cause *cause, const struct pace_time *time);
/* One that arrived then is due. True: it is bounced, for bounce.text, and counted. */
bool pace_take_bounce(struct pace *pace, int64_t arrival_ms, const struct pace_time *time);
/* Nothing more is bounced by the one under way, and no other begins before its time is over. */
void pace_bounce_no_more(struct pace *pace, const struct pace_cause *cause,
                         const struct pace_time *time);
/* What another process had learned; before its limits are set. */
void pace_restore(struct pace *pace, const struct pace *kept);
/* Has it learned nothing that is worth keeping? */
bool pace_is_plain(const struct pace *pace);

#endif
