/* Our addresses: which may be used now, and how much the new ones may send.
 *
 * Owns      what is known of each source, under its name, over reloads; the file of the warm-up.
 * Promises  a source whose address cannot be bound to is set aside with one event, looked after every
 *           30 s without any mail, and comes back by itself. No more is sent in a day of a warm-up than
 *           its quota, over reloads, restarts and crashes. What one has behind it is known for 30 days
 *           after it left the settings. SOURCES_KNOWN_MAX names since the start.
 * Ignores   destinations and pools: pool.h.
 */
#ifndef SMTPD_DELIVER_SOURCE_H
#define SMTPD_DELIVER_SOURCE_H

#include "inner.h"
#include "warm_up.h"

struct source {
    struct deliver *deliver;
    char name[DELIVER_SOURCE_TEXT];
    bool is_known; /* in the settings in force, whose are: */
    struct ip ip;
    unsigned weight;
    bool is_aside;
    int64_t aside_until_ms; /* wall */
    char fault[160];
    struct warm_up warm;
    int64_t gone_day; /* since 1970, from when on it is not in the settings; 0: it is */
    uint32_t asked;   /* on its way to the disk, of the day: */
    int64_t asked_day;
    bool is_full;        /* said already */
    struct list waiting; /* struct pool_member: whose mail waits for it */
    unsigned connections;
    struct deliver_result result;
};

/* With those that left (of another process), those that leave and those that come. */
enum {
    SOURCES_KNOWN_MAX = 4 * DELIVER_SOURCES_MAX,
    SOURCES_GONE_MAX = SOURCES_KNOWN_MAX - 2 * DELIVER_SOURCES_MAX
};

struct sources *sources_new(struct deliver *deliver);
void sources_free(struct sources *sources);
/* Those of the settings in force; each is looked after. */
void sources_apply(struct sources *sources);
void sources_move_clock(struct sources *sources,
                        int64_t by_ms); /* the time of day stepped */
struct source *source_find(const struct sources *sources, const char *name); /* or NULL */

enum source_state {
    SOURCE_GOES,
    SOURCE_WAITS, /* a moment: source_await() */
    SOURCE_IS_FULL,
    SOURCE_IS_ASIDE
};
/* `until_ms` (wall): of the last two. */
enum source_state source_look(struct source *source, int64_t *until_ms);
/* A connection could not be made: is it by its address? Then it is set aside. */
bool source_blame(struct source *source);

/* One message of its warm-up. */
void source_promise(struct source *source);
void source_break(struct source *source);
/* The first takes nothing; what it needs is asked for. */
bool source_may_take(struct source *source, bool was_promised);
bool source_take(struct source *source, bool was_promised);
/* What waits for it looks again. */
void source_wake(struct source *source);

#endif
