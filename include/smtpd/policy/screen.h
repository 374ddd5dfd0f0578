/* What the DNS says of a client: block lists and allow lists, and its name.
 *
 * Owns      the look-ups of one client while they run.
 * Promises  the completion rule (docs/architecture.md); an answer within SCREEN_MS: a list
 *           that fails or is too slow counts 0 (and is logged once in ten minutes). A
 *           resolver that is replaced meanwhile is asked anew.
 * Ignores   what follows from it, and who is not to be asked about.
 */
#ifndef SMTPD_POLICY_SCREEN_H
#define SMTPD_POLICY_SCREEN_H

#include "smtpd/net/resolver.h"

enum { SCREEN_MS = 10000, SCREEN_LISTS_MAX = 32, SCREEN_TEXT = 256 };

struct screen_list {
    const char *zone;
    int weight; /* below 0: an allow list */
    const struct network *answers;
    size_t answer_count;
};

struct screen_settings {
    const struct screen_list *lists; /* copied; at most SCREEN_LISTS_MAX */
    size_t list_count;
    int reject_weight;
    bool wants_name;
};

enum screen_name {
    SCREEN_NAME_NOT_ASKED,
    SCREEN_NAME_NONE,
    SCREEN_NAME_UNCONFIRMED, /* the name does not lead back to the address */
    SCREEN_NAME_CONFIRMED,
    SCREEN_NAME_FAILED, /* nobody can tell now */
    SCREEN_NAME_COUNT
};

struct screen_result {
    int weight;
    bool is_rejected;       /* the weight reaches reject_weight */
    char zone[SCREEN_TEXT]; /* then: the heaviest list, and what it says; printable ASCII */
    char reason[SCREEN_TEXT]; /* "": nothing */
    char lists[SCREEN_TEXT];  /* "bl.example=3 wl.example=-2"; "": in none */
    enum screen_name state;
    char name[SCREEN_TEXT]; /* when confirmed; else "" */
};

struct screen_statistics {
    uint64_t listed, clear, failed; /* answers of lists */
};

struct screen;
struct screen *screen_new(struct loop *loop, struct resolver *resolver);
void screen_free(struct screen *screen); /* no screening runs any more; NULL is fine */
void screen_apply(struct screen *screen, const struct screen_settings *settings);
void screen_set_resolver(struct screen *screen, struct resolver *resolver);
void screen_statistics(const struct screen *screen, struct screen_statistics *statistics);

struct screening;
/* `result` lives during the call. */
typedef void screening_end_fn(void *owner, const struct screen_result *result);
/* NULL: there is nothing to ask, and nothing will be called. */
struct screening *screening_start(struct screen *screen, const struct ip *peer,
                                  screening_end_fn *on_end, void *owner);
void screening_cancel(struct screening *screening); /* NULL is fine */

#endif
