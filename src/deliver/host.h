/* What is remembered of a host, by its name; apart for each port, route, [[destination]] and source,
 * because a fault may lie in what these ask for (TLS, a log-in), or in our address. */
#ifndef SMTPD_DELIVER_HOST_H
#define SMTPD_DELIVER_HOST_H

#include "family.h"
#include "smtpd/base/list.h"
#include "smtpd/loop/loop.h"

struct deliver;
struct destination;
struct plan;
struct hosts; /* of deliver: bounded, the oldest give way */

struct host_memory {
    unsigned failures;
    unsigned opening;        /* attempts on their way to an answered MAIL */
    int64_t until_ms;        /* wall: back-off */
    int64_t worked_ms;       /* wall: MAIL was answered; 0: never, or it failed since */
    int64_t clear_until_ms;  /* wall: TLS is broken there */
    unsigned recipients_max; /* learned, and believed: */
    int64_t recipients_max_until_ms; /* wall */
    int64_t lock_step_until_ms; /* wall: replies did not fit; nothing goes ahead of them */
    int64_t chunks_until_ms;    /* wall: it refuses a chunk as it should (RFC 3030 4.2) */
    int64_t no_probe_until_ms;  /* wall: it ended a connection when that was asked */
    unsigned dane_failures;
    unsigned dane_generation; /* of the settings that it was asked under */
    int64_t dane_until_ms;    /* wall: its TLSA records cannot be had */
    struct list waiting;      /* struct host_wait */
    struct family_memory families;
};

/* One that is not known to work is judged by two attempts, whatever else is ready: a dead one costs
 * one time-out, and not one of each message. */
enum host_state {
    HOST_IS_FREE,
    HOST_RESTS,    /* backs off */
    HOST_IS_TRIED, /* it failed, and two attempts judge it: another host meanwhile */
    HOST_IS_NEW /* nothing is known, and two attempts find out: the others wait for them */
};

struct host_wait {
    struct link link; /* of its host */
    struct host_memory *host;
    struct deferred *turn;
    loop_fn *on_turn;
    void *owner;
};

struct hosts *hosts_new(void);
void hosts_free(struct hosts *hosts);
void hosts_move_clock(struct hosts *hosts, int64_t by_ms); /* the time of day stepped */

/* What it is kept apart by, beside the name. */
struct host_way {
    const struct plan *plan; /* port and route */
    const char *block;       /* name of the [[destination]]; NULL: none */
    const char *source;      /* NULL: the system chooses our address */
};
const struct host_memory *host_look(const struct deliver *deliver,
                                    const struct host_way *way, const char *name);
struct host_memory *host_find(const struct destination *destination, const char *name);
/* NULL: nothing more can be remembered. */
struct host_memory *host_memory(struct destination *destination, const char *name);
enum host_state host_state(const struct destination *destination,
                           const struct host_memory *host);
/* An attempt goes there; NULL: it cannot be remembered. Until host_end() it judges. */
struct host_memory *host_begin(struct destination *destination, const char *name);
void host_end(const struct destination *destination, struct host_memory *host);
/* Its turn comes, from the loop, when there is news of the host: then it asks again. */
void host_await(struct host_memory *host, struct host_wait *wait);
/* Whether it waits or not; the deferred is its owner's. */
void host_await_cancel(struct host_wait *wait);

struct host_choice {
    const uint8_t *order; /* of the plan's hosts */
    uint32_t lacking;     /* bit by bit the hosts that will not do */
    size_t at;            /* begins there; the host, or behind the last: none is left */
    bool missed;          /* one that could not be asked */
    struct host_memory *awaited; /* none can be asked now, but then */
};
/* The next host that may be tried. False: there is none, or `awaited`. */
bool host_choose(const struct destination *destination, struct host_choice *choice);

/* The second fault of the same round is none. */
void host_fault(struct destination *destination, const char *name);
void host_works(struct destination *destination, const char *name);

/* A look-up of its TLSA records that takes its time is not repeated by each attempt, which would hold a
 * connection's place meanwhile: not for 15 s, doubling to 5 min, nor over a reload. */
void host_note_dane(struct destination *destination, const char *name, bool is_known);
bool host_dane_is_unknown(const struct destination *destination, const char *name);

#endif
