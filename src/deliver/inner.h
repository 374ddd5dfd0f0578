/* The inside of the room deliver.
 *
 *   queue --due--> lane --(router)--> destination --> attempt --> connection --> next hop
 *                    ^                    |              |
 *                    +---- rests until <--+--- fault     +--> outcomes --> settle
 */
#ifndef SMTPD_DELIVER_INNER_H
#define SMTPD_DELIVER_INNER_H

#include "asking.h"
#include "family.h"
#include "host.h"
#include "ready.h"
#include "smtpd/base/arena.h"
#include "smtpd/base/list.h"
#include "smtpd/base/map.h"
#include "smtpd/deliver/deliver.h"
#include "smtpd/net/dialer.h"
#include "smtpd/smtp/reply.h"
#include "wakes.h"

/* ---- settings: immutable, counted; attempts keep theirs to the end ---- */

struct plan_settings {
    unsigned references;
    struct arena arena;
    struct deliver_settings values;
    struct tls_client *tls;
};
struct plan_settings *settings_new(const struct deliver_settings *values,
                                   struct tls_client *tls);
struct plan_settings *settings_ref(struct plan_settings *settings);
void settings_unref(struct plan_settings *settings);
const struct route *settings_find_route(const struct plan_settings *settings,
                                        const char *domain);
const struct route *settings_route_by_name(const struct plan_settings *settings,
                                           const char *name);
bool settings_is_local(const struct plan_settings *settings, const char *domain);
/* The [[destination]] rule of a domain or of its mail exchangers; -1: the defaults. */
int settings_find_rule(const struct plan_settings *settings, const char *domain,
                       const char *const *hosts, size_t host_count);
const struct deliver_source *settings_source(const struct plan_settings *settings,
                                             const char *name); /* NULL: none */
/* Of a tenant, or of what has none (NULL). */
unsigned settings_weight(const struct plan_settings *settings, const char *tenant);

/* ---- where a lane's mail goes ---- */

struct plan_host {
    char name[256];
    uint16_t preference;
    struct ip addresses[LIMIT_HOST_ADDRESSES];
    size_t address_count;
};

enum plan_kind {
    PLAN_HOSTS,  /* by SMTP */
    PLAN_LOCAL,  /* into a mailbox */
    PLAN_FAIL,   /* 5.x.y at once */
    PLAN_DEFER,  /* DNS cannot say now */
    PLAN_REGROUP /* the route is gone */
};

struct plan {
    enum plan_kind kind;
    struct plan_host *hosts;
    size_t host_count;
    uint16_t port;
    int rule; /* of the settings; -1 */
    bool is_route;
    bool is_authentic; /* the answer that the hosts came from (RFC 4033): DANE may apply */
    char route_name[128];
    char status[16]; /* FAIL, DEFER */
    char text[300];
    int64_t expires_ms; /* wall */
};
void plan_fini(struct plan *plan);
void plan_order(const struct plan *plan, uint8_t order[LIMIT_MX_HOSTS]);
/* "mx1>mx2=mx3", "route:NAME", "local:DOMAIN" and so on. */
void plan_key(const struct plan *plan, const char *lane, struct bytes *key);

struct route_search;
typedef void route_search_fn(void *owner, struct plan *plan); /* the plan is the owner's */
/* For a domain that no route and no mailbox takes. The completion rule (docs/architecture.md). */
struct route_search *route_search_start(struct deliver *deliver, const char *domain,
                                        route_search_fn *on_end, void *owner);
/* To the host of a route, whatever the domain. */
struct route_search *route_search_start_route(struct deliver *deliver,
                                              const struct route *route,
                                              route_search_fn *on_end, void *owner);
void route_search_cancel(struct route_search *search);
/* The first question needs no answer of a server: it is a literal, or in the cache. The route is
 * NULL for a domain that none takes. */
bool route_search_is_quick(struct deliver *deliver, const char *domain,
                           const struct route *route);
/* What an answer of the DNS means: pure. False: more must be asked (the plan has host
 * names). */
bool router_judge_mx(const struct dns_answer *answer, const char *domain,
                     struct plan *plan);

/* What a message asks of TLS beside the settings: it stays with its domain, whoever shares the
 * destination. */
struct tls_policy {
    bool wants_dane; /* the way to the hosts is authentic: their TLSA records count */
    bool wants_sts;  /* where DANE has no answer, the MTA-STS policy counts */
    bool has_sts;    /* it was asked for; else only DANE will do */
    const struct sts_policy *sts; /* NULL: it has none; counted by who holds this */
    const char *domain;           /* of the mail; of a route its host */
    enum tls_wish wish;           /* of the message itself (RFC 8689) */
    bool is_authentic;            /* the way to the hosts (DNSSEC) */
};

const struct destination_settings *settings_for(const struct plan_settings *settings,
                                                const struct plan *plan);

/* Name of the [[destination]] that a plan by these settings has; NULL: of none. */
const char *settings_block(const struct plan_settings *settings, const struct plan *plan);

/* ---- what came of a recipient ---- */

enum verdict { VERDICT_OPEN, VERDICT_DELIVERED, VERDICT_DEFERRED, VERDICT_FAILED };

struct said { /* a remote reply, or words of our own */
    bool is_remote;
    enum deliver_class class; /* of a reply: once it is settled */
    uint16_t code;
    char status[16];
    char text[GROUP_REPLY_TEXT];
    char host[256];
};

struct outcome {
    enum verdict verdict;
    const struct said *said; /* of the attempt's arena */
    bool is_relayed;         /* handed to a hop that does not report (no DSN) */
    bool is_local;
    bool is_expired;
    bool is_operator; /* somebody decided it */
    bool is_suppressed;
    bool is_about_it; /* the reply was to this recipient, or there was no other */
    bool is_silent;   /* no report */
    bool
        is_untried; /* this is no attempt: its report names the last one that was, or none */
};
struct said *said_reply(struct arena *arena, const struct reply *reply, const char *host);
struct said *said_words(struct arena *arena, enum deliver_class class, unsigned code,
                        const char *status, const char *text, const char *host);
enum verdict verdict_of(const struct reply *reply);
/* Of a recipient behind accepted ones: no more in this transaction. */
bool verdict_is_too_many(const struct reply *reply);
enum deliver_class verdict_class(const struct outcome *outcome);
enum deliver_class settings_classify(const struct plan_settings *settings,
                                     const struct class_reply *reply);

/* ---- lanes, destinations ---- */

struct lane {
    struct link link; /* in the ready queue of its destination; and its two turns there */
    struct turn ahead;
    struct turn starting;
    struct list loaded;   /* struct work: of it, in memory there */
    struct link faulty;   /* in deliver->faulty, while something holds it */
    struct link attached; /* in destination->attached, while it names one */
    struct link expiring; /* in deliver->expiring, while more of it may have expired */
    struct deliver *deliver;
    struct domain_queue *domain_queue;
    struct destination *destination; /* while it has due work there, or the last one */
    struct asking_place asking;
    struct route_search *search;
    struct sts_ask *ask;
    struct sts_policy *sts; /* NULL: there is none */
    bool has_sts;           /* it was asked for with the plan */
    struct plan plan;
    bool has_plan;
    bool is_held;   /* by us: on_due came, rest was not said yet */
    bool was_tried; /* a round of it failed since the start */
    unsigned dns_failures;
    unsigned policy_failures;
    int64_t policy_until_ms; /* wall: no host fits the policy of its domain */
    int64_t room_until_ms;   /* wall: we had no room for a connection */
    enum why_kind why;
    char *fault;      /* NULL: none. There may be a million lanes */
    int64_t until_ms; /* wall */
};
enum { FAULT_TEXT = 300 };
const char *lane_fault(const struct lane *lane); /* "": none */

/* Where a ready queue stands for the turns of a scope: a destination in its own one, a head in that of
 * each of its paths. */
struct scope_place {
    struct turns_place in_line; /* for each tenant that has something in the ready queue */
    struct turns_node chosen;   /* for what was chosen there already, whosever it is */
    struct destination *head;   /* whose ready queue it is */
    struct destination *way;    /* whose scope; NULL: none yet */
    struct turns_node *of; /* whose turn was admitted; NULL: whose the ready queue says */
    unsigned kept;         /* turns whose group is being read */
    bool has_turn;         /* it was the next, whosever mail goes */
    bool was_refused;      /* by the scope, in this run */
};

/* The mail for some hosts, in its turn, and the way there. With a pool that is two: the head, which has
 * the turns, and a path for each source, which has the way (pool.h). */
struct destination {
    struct link link;    /* of all */
    struct link stalled; /* in deliver->stalled: it has work, and there was no room */
    struct deliver *deliver;
    char *key;
    char *name;            /* no other one has it: the key, and its source or its pool */
    struct source *source; /* of a path; NULL: the system chooses the address */
    char *pool;            /* of a head; NULL: it is none */
    struct pool_member *members;
    size_t member_count;
    unsigned pool_generation; /* of the settings that the members are of */
    unsigned plan_version;
    const struct destination *plan_of; /* of a path: whose it has; may be gone */
    bool has_family[FAMILIES];         /* of a head: some host has such an address */
    struct list users; /* struct pool_member: of a path, whose mail goes by it */
    enum plan_kind kind;
    struct plan plan; /* copy of the hosts */
    char *block; /* name of the [[destination]] that it was made by, whatever its number is
                       * since; NULL: none */
    struct ready ready;
    struct list attached;     /* lanes that name it: they may wait for hours */
    struct list attempts;     /* under way there */
    struct list idle;         /* struct connection */
    struct list flights;      /* struct flight: connections with attempts on them */
    unsigned riding;          /* of those that run: on a connection behind another */
    struct scope *scope;      /* whose limits hold; NULL: of none yet, or no limits */
    struct scope_place place; /* of one that is its own way */
    unsigned standing;        /* places in the scope that wait to start something here */
    struct link able;         /* in it, while there are any, and a connection that rests */
    unsigned running;
    unsigned connections;
    uint32_t
        passed; /* bit by bit the hosts that were asked in vain before a rate allowed no further
                      * connection: the next one is for the others, however long that takes */
    unsigned failures;
    int64_t until_ms; /* wall */
    char fault[300];
    enum deliver_class fault_class;
    struct { /* the last failure, of a message or its own; kept when it works again */
        int64_t ms; /* wall; 0: none */
        enum deliver_class class;
        char *text;
    } last;
    struct { /* of the last listing: see destinations_ask.c */
        unsigned round;
        unsigned seen; /* in that round it was looked at */
        uint64_t groups;
        uint64_t lanes;
    } census;
    struct deferred run;
    struct timer again; /* of a head: a source of its pool comes back */
    int64_t used_ms;    /* monotonic */
    struct {
        uint32_t slot; /* from 1; 0: no name */
        uint32_t minute;
        uint32_t settled; /* in that minute */
    } busy;               /* of busiest.c */
};

struct work { /* a lease on its way */
    struct link link;
    struct destination *destination;
    struct lane *lane; /* valid while its domain queue lives: see lane_forget */
    struct lease *lease;
    struct lease_load *load;
    struct queue_entry entry;
    struct link of_lane; /* while it waits in memory */
    bool is_chosen;      /* its turn came before it was in memory */
    bool is_rider;       /* it goes behind others, on a connection under way: flight.h */
    bool is_authentic;   /* the lane's plan, when it was taken */
    bool was_unheard;    /* its chunk went to a connection that had been closed */
};

struct deliver {
    struct deliver_rooms rooms;
    struct plan_settings *settings;
    unsigned generation; /* of the settings */
    struct scopes *scopes;
    struct sources *sources;
    struct map *destinations;
    struct list all_destinations;
    struct hosts *hosts; /* of host.c */
    size_t
        read_ahead; /* groups in ready queues or on their way there, of all destinations */
    size_t read_ahead_most;
    struct {
        bool runs;
        uint32_t steps;
        int64_t offset_ms; /* wall without monotonic */
    } clock;               /* of clock.c */
    int64_t full_said_ms;  /* monotonic: that no more destinations can be known */
    struct address_memory *addresses;
    struct family_memory families; /* at all hosts together */
    struct list faulty;
    struct list expiring;
    struct list attempts;
    struct list loading; /* struct work */
    struct list settling;
    struct list regroups;
    struct list dismissals;
    struct list stalled;  /* destinations */
    struct list idle;     /* connections that rest, the longest last */
    struct asking asking; /* lanes, for their way */
    struct list danes;    /* that wait for an answer: see dane.c */
    struct list explains; /* under way */
    struct list acts;     /* commands of operators: see destinations_act.c */
    struct list asks;     /* listings: see destinations_ask.c */
    struct wakes wakes;   /* lanes that a retry wakes */
    struct census *census;
    struct suspensions *suspensions;
    struct sts *sts; /* what is known of MTA-STS: see sts.c */
    struct tls_report *tls_report;
    struct timer room; /* for them */
    struct timer sweep;
    struct timer expiry; /* the next step of its round */
    size_t expiry_left;  /* lanes of that round; 0: none runs */
    struct deliver_statistics statistics;
    struct busiest *busiest;
    struct {
        struct link *at; /* NULL: no count runs */
        uint64_t count;
        uint64_t told;
        struct deferred turn;
    } resting; /* of resting.c */
    unsigned sweeps;
    bool is_draining;
    loop_fn *on_empty;
    void *on_empty_owner;
    struct deferred empty;
    uint64_t turn; /* to vary equal preferences */
};

/* scheduler.c */
void deliver_lane_of(struct deliver *deliver, const char *address, char lane[LANE_TEXT]);
int64_t deliver_now(const struct deliver *deliver); /* wall */
void deliver_check_empty(struct deliver *deliver);
void work_release(struct work *work); /* gives the lease back; frees */
void work_free(struct work *work);
void regroups_abort(struct deliver *deliver); /* those at the store end by themselves */
/* For log lines that are never dropped, and for outcomes on their way to the disk. */
bool deliver_has_room(const struct deliver *deliver);

/* destination.c */
struct destination *destination_get(struct deliver *deliver, const struct plan *plan,
                                    const char *lane);
/* The one of a pool (NULL: of none). NULL: there are too many. */
struct destination *destination_get_head(struct deliver *deliver, const struct plan *plan,
                                         const char *lane, const char *pool);
/* Only if it is known. */
const struct destination *destination_find_head(const struct deliver *deliver,
                                                struct slice key, const char *pool);
struct destination *destination_get_path(const struct destination *head,
                                         struct source *source);
void destination_note_families(struct destination *destination, const struct plan *plan);
/* `block`: see there; copied. */
void destination_take_plan(struct destination *destination, const struct plan *plan,
                           const char *block);
/* May it start one more attempt now? The first only looks; with the second it has had its turn, or stands
 * in the queue for it. */
bool destination_could_start(struct scope_place *place);
bool destination_may_start(struct scope_place *place);
/* May one more go behind those on a connection there? */
bool destination_may_ride(struct scope_place *place);
/* What an attempt did not begin is the next there. */
void destination_take_back(struct work *work);
unsigned destination_slots(const struct destination *destination); /* so many more */
void destination_stall(struct destination *destination); /* it is run again in a moment */
/* Nothing can go there before; of heads: by no source of the pool. `lane` NULL: whatever the lane. */
struct pool_hold;
bool destination_holds(struct destination *destination, const struct lane *lane,
                       struct pool_hold *hold);
void destination_run_later(struct destination *destination);
bool destination_rests(const struct destination *destination); /* it backs off */
void destination_on_room(void *owner); /* of deliver->room: looks after the stalled ones */
const struct destination_settings *
destination_settings(const struct destination *destination);
/* Of these settings, which may be older than those in force. */
const struct deliver_timeouts *destination_timeouts(const struct destination *destination,
                                                    const struct plan_settings *settings);
/* The whole destination is at fault: one back-off, nothing written. */
void destination_fault(struct destination *destination, const struct fault *fault,
                       enum deliver_class class);
/* For who asks what failed last; `text` is copied. */
void destination_failed(struct destination *destination, enum deliver_class class,
                        const char *text);
/* Every host of it is backing off: it waits for the first of them, without a fault of its
 * own. */
void destination_wait_for_hosts(struct destination *destination);
void destination_works(struct destination *destination);
void destination_ended(struct destination *destination); /* an attempt or load is over */
void destination_free(struct destination *destination);

/* lane.c; the first two are the queue's watchers */
void lane_on_due(void *owner, struct domain_queue *domain_queue);
void lane_on_gone(void *owner, struct domain_queue *domain_queue);
/* Of the domain queues of a lane that have such mail (NULL: any): one that waits for a reason, if there is
 * any. NULL: none is known. */
const struct lane *lane_find(const struct deliver *deliver, const char *name,
                             const struct envelope *of);
void lane_set_why(struct lane *lane, enum why_kind why);
void lane_rest(struct lane *lane, int64_t until_ms, enum why_kind why, const char *fault);
/* No host of its destination is what its domain asks for (DANE): the lane backs off, those that it
 * shares the hosts with do not. */
void lane_policy_fault(struct lane *lane, const char *text);
void lane_policy_works(struct lane *lane);
bool lane_policy_rests(const struct lane *lane);
/* What its mail needs (another connection than those that rest) is not to be had before. */
void lane_wait(struct lane *lane, int64_t until_ms, enum why_kind why, const char *text);
/* What it asks for now it asks for anew, by the settings and the resolver in force. */
void lane_ask_again(struct lane *lane);
void lane_ask(struct lane *lane);           /* its turn has come: see asking.h */
bool lane_has_way(const struct lane *lane); /* its plan is not too old */
void lane_attach(struct lane *lane, struct destination *destination); /* NULL: to none */
/* What waits behind a fault expires too (G6): some of it; called again and again. */
/* At most `most`; how many. */
size_t lane_expire_some(struct lane *lane, size_t most);
/* The senders of what waits there are told that it is late: at most so many groups are looked at,
 * each once. */
void lane_notice_some(struct lane *lane, size_t most);
/* Forgets the back-offs that hold it; its domain queue is woken by the caller. */
void lane_wake(struct lane *lane);

/* settle.c: takes work and outcomes (one per recipient of the lease, copied). */
struct settle_facts {
    const char *peer;   /* "host [address]:port", or NULL */
    const char *source; /* its name, or NULL */
    const struct tls_facts *tls;
    enum deliver_tls_policy tls_policy;
    int64_t connect_ms;
    int64_t transfer_ms;
    int64_t started_ms; /* wall: of the attempt */
};
void settle_start(struct work *work, const struct outcome *outcomes,
                  const struct settle_facts *facts);

/* An entry that is too old and behind a fault: loaded and settled without an attempt. */
void settle_expired(struct lane *lane, struct destination *destination,
                    const struct queue_entry *entry);
/* One that is late there: the sender is told (once, and if anybody wants it), and it waits on
 * as it did. */
void settle_late(struct lane *lane, const struct queue_entry *entry);
/* The same for all recipients of a lease, without an attempt. Takes the lease. */
struct decision {
    const struct outcome *outcomes; /* of each recipient, copied; or NULL, and: */
    unsigned code;
    const char *status;
    const char *text;
    bool is_expired;
    bool is_operator;
    void (*on_end)(void *owner, bool is_done); /* or NULL; from the loop */
    void *owner;
};
void settle_decided(struct deliver *deliver, struct lease *lease,
                    const struct decision *decision);
/* Is the outcome of this group on its way to the disk? */
bool settle_has(const struct deliver *deliver, const struct queue_target *group);
/* What is not submitted yet is given back; returns how many had delivered something. */
unsigned settle_abort(struct deliver *deliver);

/* operator.c */
void operator_abort(struct deliver *deliver);
/* True: an operator holds it, and the lease is taken care of. */
bool operator_holds(struct deliver *deliver, struct lease *lease);

/* suppress.c */
/* The outcomes of those recipients that get no mail; they are open before. */
void suppress_recipients(const struct deliver *deliver, const struct lease *lease,
                         struct outcome *outcomes, struct arena *arena);
/* True: none of them gets it, and the lease is taken care of. */
bool suppress_lease(struct deliver *deliver, struct lease *lease);
/* Tells of the recipients whose mailbox does not exist. */
void suppress_note(const struct deliver *deliver, const struct lease *lease,
                   const struct outcome *outcomes);

/* bounce.c */
struct bounce;
typedef void bounce_fn(void *owner, const struct report *reports, size_t count);
struct bounce *bounce_start(struct deliver *deliver, const struct lease *lease,
                            const struct outcome *outcomes, bool wants_delay_notice,
                            bounce_fn *on_bounced, void *owner);
void bounce_free(struct bounce *bounce); /* the reports go too */
/* Would anybody be told that it is late? */
bool bounce_tells_delay(const struct lease *lease);

/* attempt.c */
struct attempt;
void attempt_start(struct work *work);
/* Draining: true if it was dropped (nothing was spent), false if it must be waited for. */
void attempt_drain(struct attempt *attempt);
bool attempt_abort(struct attempt *attempt); /* true: it stood behind the final dot */
struct link *attempt_link(struct attempt *attempt);
struct attempt *attempt_of_link(struct link *link);

/* explain.c: what the old resolver was asked the new one is asked. */
void explain_ask_again(struct deliver *deliver);

/* local_attempt.c */
void local_attempt_start(struct work *work);

#endif
