/* What one limit holds for: a destination, or all destinations that a [[destination]] block matches
 * by their mail exchangers. A provider with one MX name for each customer is one provider.
 *
 * Owns      the paces (one for each scope and source), who waits for them, the connections that rest
 *           in them.
 * Promises  who waits is served in turn, by ends and by one timer; nothing polls: tenants by deficit
 *           round-robin, the higher rank first within each, then destinations in turn. O(log n) in
 *           tenants. One that has a connection that rests passes those that wait for a new one, whose
 *           place stays theirs. A scope that nobody uses is forgotten after an hour if it has learned
 *           nothing, and before others when there are too many.
 * Ignores   what is sent.
 */
#ifndef SMTPD_DELIVER_SCOPE_H
#define SMTPD_DELIVER_SCOPE_H

#include "inner.h"
#include "keeper.h"
#include "pace.h"

struct scope {          /* of one source: "": the system's */
    struct link unused; /* in scopes->unused, while nothing refers to it */
    struct deliver *deliver;
    char *key; /* its name, and behind the NUL the source's */
    size_t key_length;
    struct pace pace;
    struct kept kept;
    unsigned generation; /* of the settings whose limits are in force; 0: none yet */
    struct turns line;   /* who stands: tenants in turn, struct turns_node */
    struct list able;    /* destinations that some wait for, with a connection that rests */
    struct list resting; /* connections, the last used first */
    unsigned connections; /* all, resting ones too */
    unsigned references;
    bool owes_connection; /* one that passed took it from those that stand: nobody passes */
    int64_t used_ms;      /* monotonic */
    struct timer timer;
};

struct scopes *scopes_new(struct deliver *deliver);
void scopes_free(struct scopes *scopes); /* no references are left */
const struct deliver_pace_changes *scopes_counts(const struct scopes *scopes);
void scopes_move_clock(struct scopes *scopes, int64_t by_ms); /* the time of day stepped */
size_t scopes_count(const struct scopes *scopes);

enum { SCOPE_KEY_MAX = 9000 };
/* Pure: the name of the scope of a plan with this destination key. */
void scope_key(const struct plan_settings *settings, const struct plan *plan,
               const char *destination_key, struct bytes *key);

/* With this source ("": none). NULL: there is none yet. */
struct scope *scope_find(const struct deliver *deliver, const struct plan *plan,
                         struct slice destination_key, const char *source);
/* Of a source of a pool, whether mail went by it yet or not. NULL: there is none. */
struct pool_member;
struct scope *scope_of_member(const struct destination *head,
                              const struct pool_member *member);
/* Finds or makes it, and brings its limits up to date. NULL: nothing limits this kind, or there
 * are too many. */
struct scope *scope_of(struct destination *destination);
void scope_forget(struct destination *destination);
struct scope *scope_ref(struct scope *scope);
void scope_unref(struct scope *scope);
struct pace_time scope_time(const struct scope *scope);

/* What holds who would start one more attempt there? `until_ms` as of pace_look(). */
enum pace_hold scope_look(struct scope *scope, const struct destination *way,
                          int64_t *until_ms);
/* How many more attempts it might start now. */
unsigned scope_slots(const struct destination *destination);

/* ---- places in its line ---- */

void scope_place_init(struct scope_place *place, struct destination *head,
                      struct destination *way);
/* It is gone, or its way is. */
void scope_leave(struct scope_place *place);
/* Would it be admitted? Changes nothing. */
bool scope_would_admit(struct scope_place *place);
/* May its head start one more attempt there now: of the tenant `place->of`, if it is set? If not it
 * stands in the line, for each tenant that has something, and is run again in its turn. */
bool scope_admits(struct scope_place *place);
/* May it start one that goes behind another, on its connection? Not while others wait: a connection
 * that never comes to its end would never be theirs. */
bool scope_admits_behind(struct scope_place *place);
/* What went by the turn of `place->of` had had one before it was read. */
void scope_was_kept(struct scope_place *place);
/* A turn of `place->of` that nothing came of. */
void scope_turn_unused(struct scope_place *place);
/* Around each run of the head: who was not refused stands no more. */
void scope_run_begins(struct scope_place *place);
void scope_run_ends(struct scope_place *place);

/* The next in turn, if one may start. Call it when something ended. */
void scope_serve(struct scope *scope);
/* It has a connection that rests, or has none any more. */
void scope_note_idle(struct destination *destination);
/* A connection was made that was not foreseen: those that stand are to have the next one. */
void scope_owes_connection(struct scope *scope);
/* Until when (wall) the whole scope is suspended; 0: it is not. */
int64_t scope_suspended_until(struct destination *destination);
/* All that wait there look again: something that holds them changed. */
void scope_wake(struct scope *scope);
/* Ends what a reaction suspended or bounces there; of all scopes of these hosts or of this block ("rule:"
 * and its name), also of those that no mail went to yet. */
void scope_resume_all(struct scope *scope, const struct pace_cause *cause);
void scopes_resume(struct scopes *scopes, const char *name, const struct pace_cause *cause);
void scope_resume(struct scope *scope, const struct pace_cause *cause);
/* Is it one of what a reaction bounces? True: it is, and the lease is taken care of. */
bool scope_bounces(struct destination *destination, struct lease *lease);
/* What holds it now: words for `smtpd queue why`. False: nothing. */
bool scope_why(const struct destination *destination, struct why *why);

#endif
