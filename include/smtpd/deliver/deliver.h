/* Getting messages out: routes, destinations, connections, attempts, results, reports.
 *
 * Owns      destinations (limits, back-off, ready groups), outbound connections, attempts,
 *           the DNS-derived routes.
 * Promises  a fault of a host or destination spends no attempt of the waiting groups and
 *           writes no record; only an answer about this message does. Every recipient ends
 *           delivered, or reported, or in a final log line.
 * Ignores   clients. Mail for local domains is handed to the `local` callback.
 */
#ifndef SMTPD_DELIVER_DELIVER_H
#define SMTPD_DELIVER_DELIVER_H

#include "smtpd/base/quota.h"
#include "smtpd/deliver/classify.h"
#include "smtpd/mail/pool_rule.h"
#include "smtpd/net/resolver.h"
#include "smtpd/net/stream.h"
#include "smtpd/queue/queue.h"

enum { DELIVER_MATCHES_MAX = 64, DELIVER_WHY_MAX = 512 };

/* RFC 5321 4.5.3.2, in ms. 0: the RFC's value; 30 s to connect to one of a host's addresses, with
 * 250 ms from one attempt to the next; idle: no connection is kept. */
struct deliver_timeouts {
    int64_t connect, attempt_delay, greeting, ehlo, starttls, auth, mail, rcpt, data, block,
        final_dot, rset, quit, idle;
};

/* What may differ by destination. */
struct destination_settings {
    unsigned connections;
    unsigned messages_per_connection;
    unsigned recipients_per_transaction;
    unsigned pipeline_window; /* messages under way on one connection; 1: lock step */
    enum tls_level tls;
    struct quota message_rate;               /* transactions; count 0: no limit */
    struct quota connection_rate;            /* new ones */
    const struct deliver_timeouts *timeouts; /* NULL: those of the settings */
    const int64_t *retry_ms;                 /* retry_count 0: that of the settings */
    size_t retry_count;
    bool dane;         /* RFC 7672, at TLS_OPPORTUNISTIC and TLS_REQUIRED */
    bool mta_sts;      /* RFC 8461, at the same; by MX only */
    const char *pool;  /* of mail that names none; NULL: the system chooses the address */
    bool has_own_pool; /* it stands there itself: of a route it is that of all mail */
};

enum {
    DELIVER_SOURCES_MAX = 500,
    DELIVER_POOLS_MAX = 1000,
    DELIVER_POOL_MEMBERS_MAX = 100,
    DELIVER_SOURCE_TEXT = 65,
    DELIVER_WARM_UP_DAYS = 100
};
#define DELIVER_NO_POOL                                                                    \
    "none" /* the system chooses, whatever the message says: of routes */

/* Of a source, or of a pool: letters, digits, ".", "-", "_". */
bool deliver_source_name_is_valid(struct slice name);

struct deliver_source { /* [[source]]: an address of ours */
    const char *name;   /* stable over reloads: what was learned is kept under it */
    struct ip ip;
    const char *ehlo; /* NULL: our hostname */
    unsigned weight;
    const uint32_t *warm_up; /* so many transactions on its first days with mail */
    size_t warm_up_count;
};

struct deliver_pool_member {
    const char *source;
    unsigned weight; /* 0: that of the source */
};

struct deliver_pool { /* [[pool]] */
    const char *name;
    const struct deliver_pool_member *members;
    size_t member_count;
};

struct destination_rule {     /* [[destination]]: the first that matches the domain or an MX
                                 host */
    const char *name;         /* stable over reloads; NULL: the first of match */
    const char *const *match; /* domain patterns, normal */
    size_t match_count;
    struct destination_settings settings;
};

enum reaction_action {
    REACTION_NONE,
    REACTION_SLOW,     /* the rate, to `percent` of what it is */
    REACTION_BACK_OFF, /* nothing for a time, twice as long when it comes again at once */
    REACTION_SUSPEND,  /* nothing for a time */
    REACTION_BOUNCE    /* what waits for the destination now, at most `limit` groups */
};
enum { REACTION_PATTERN_MAX = 200 }; /* bytes */

struct reaction {             /* [[reaction]]: the first that fits; NULL: any */
    const char *code;         /* "421", "4xx" */
    const char *status;       /* "4.7.28", "4.7.*" */
    const char *text;         /* somewhere in it; `*`: anything between */
    const char *const *match; /* patterns: who said it, or the recipient's domain */
    size_t match_count;
    int64_t for_ms;
    uint32_t classes; /* 1 << enum deliver_class, each; 0: any */
    enum reaction_action action;
    unsigned percent;
    unsigned limit;
};

struct route {        /* [[route]]: the first that matches the recipient domain */
    const char *name; /* lane "route:NAME"; stable over reloads */
    const char *const *match;
    size_t match_count;
    const char *host; /* name, or address literal without brackets */
    uint16_t port;
    struct destination_settings settings;
    bool tls_is_implicit;
    const char *user; /* NULL: no AUTH */
    const char *password;
};

struct deliver_tenant { /* [[tenant]]: whose turn it is at a destination */
    const char *name;   /* "*": all others, and what has none */
    unsigned weight;    /* 1 to 1000; 1 where there is no such table */
};

struct deliver_settings {
    const char *hostname;
    const char *postmaster; /* told when a report itself cannot be delivered; or NULL */
    struct destination_settings defaults;
    const struct destination_rule *rules;
    size_t rule_count;
    const struct route *routes;
    size_t route_count;
    const struct deliver_tenant *tenants;
    size_t tenant_count;
    const struct reaction *reactions;
    size_t reaction_count;
    const struct deliver_source *sources;
    size_t source_count;
    const struct deliver_pool *pools;
    size_t pool_count;
    const struct pool_rule *pool_rules; /* what receive chose by: for explain */
    size_t pool_rule_count;
    bool shipped_reactions;           /* those too, behind */
    const char *const *local_domains; /* normal */
    size_t local_count;
    uint16_t port;         /* of MX hosts; 25 */
    uint16_t mta_sts_port; /* of hosts with MTA-STS policies; 443 */
    bool allow_private_networks;
    int64_t retry_ms[QUEUE_RETRY_MAX];
    size_t retry_count;
    int64_t expire_ms;
    int64_t delay_notice_ms;    /* 0: off */
    uint64_t report_body_bytes; /* RET=FULL copies at most this much, else headers only */
    struct deliver_timeouts timeouts;
    const struct endpoint *own_addresses; /* our listeners: "ourselves in the MX set" */
    size_t own_count;
    const char *tls_report_organization; /* RFC 8460: who reports, or NULL: nobody does */
    const char *tls_report_contact;      /* an address */
    struct classifier *classifier; /* NULL: every failure that a peer tells is "other" */
};

/* How one group of a local domain is stored; implemented by the room `local`, wired by
 * server/. `results` has an entry per recipient of the group: RESULT_OK, RESULT_NOT_FOUND
 * (unknown user: failed 5.1.1), anything else: for now. The completion rule
 * (docs/architecture.md). */
typedef void deliver_local_end_fn(void *owner, const enum result *results,
                                  const char *text);
typedef void deliver_local_fn(void *local, struct queue *queue, const struct lease *lease,
                              deliver_local_end_fn *on_end, void *owner);

/* Who gets no mail: what a policy says before an attempt, and what it is told behind one. */
struct deliver_policy {
    /* A recipient that is not to be tried: `why` is for the report, if one is wanted. */
    bool (*is_suppressed)(void *owner, const struct envelope *envelope, const char *address,
                          char why[DELIVER_WHY_MAX], bool *wants_report);
    /* The next hop says for good that there is no such mailbox. */
    void (*on_hard_bounce)(void *owner, const struct envelope *envelope,
                           const char *address, const char *said);
    void *owner;
};

/* Signs mail of our own: as the room `sign` does, wired by server/. NULL from `start`: no key is its
 * author's; else the completion rule holds. `fields`: to be put in front. */
typedef void deliver_signed_fn(void *owner, enum result result, struct slice fields);
struct deliver_unsigned {
    struct slice section; /* its header */
    struct slice body;
    uint64_t id; /* for the log */
};
struct deliver_signing {
    void *(*start)(void *owner, const struct deliver_unsigned *mail,
                   deliver_signed_fn *on_end, void *end_owner);
    void (*cancel)(void *signing);
    void *owner;
};

struct deliver;
struct offload;
struct deliver_rooms {
    struct loop *loop;
    struct net *net;
    struct resolver *resolver;
    struct queue *queue;
    deliver_local_fn *deliver_local;
    void *local;
    struct deliver_policy policy;   /* all NULL: none */
    struct deliver_signing signing; /* all NULL: nothing is signed */
    /* For what is kept over restarts, beside the queue; NULL: nothing is. */
    struct offload *offload;
    const char *data_dir;   /* copied */
    const char *paces_path; /* what paces have learned is kept there; NULL: nowhere */
    const char
        *warm_up_path; /* and what sources have sent of their warm-up; NULL: nowhere */
};

/* Registers itself as the queue's watcher and gives the queue its lanes. */
struct deliver *deliver_new(const struct deliver_rooms *rooms);
/* Deep copy. `tls` is referenced. Connections in use keep theirs to the end of the attempt.
 */
void deliver_apply(struct deliver *deliver, const struct deliver_settings *settings,
                   struct tls_client *tls);
/* A new resolver (reload): look-ups in progress end first. */
void deliver_set_resolver(struct deliver *deliver, struct resolver *resolver);
/* No new lease; attempts before DATA are dropped and spend nothing; those behind the final
 * dot wait for their answer; `on_empty` once none is left and all is settled. */
void deliver_drain(struct deliver *deliver, loop_fn *on_empty, void *owner);
/* Ends the rest. Returns how many attempts stood behind the final dot, or had delivered
 * what is not on its way to the disk yet (possible duplicates). */
unsigned deliver_abort(struct deliver *deliver);
void deliver_free(struct deliver *deliver);

/* ---- operators ---- */

/* Who said what TLS a delivery needs: "policy" of the log lines. */
enum deliver_tls_policy {
    DELIVER_TLS_AS_SET,        /* the settings */
    DELIVER_TLS_DANE,          /* the certificate fits the TLSA records */
    DELIVER_TLS_DANE_UNUSABLE, /* none of the records can be used: only TLS was needed */
    DELIVER_TLS_STS,           /* the certificate and the host fit the MTA-STS policy */
    DELIVER_TLS_STS_TESTING,   /* there is one, which asks for nothing yet */
    DELIVER_TLS_POLICY_COUNT
};

/* What came of asking for an MTA-STS policy. */
enum deliver_sts_fetch {
    DELIVER_STS_FETCHED,
    DELIVER_STS_NO_ADDRESS,
    DELIVER_STS_NO_CONNECTION,
    DELIVER_STS_NO_TLS,    /* or a certificate that is not valid */
    DELIVER_STS_NO_ANSWER, /* no 200 with a text of a fitting size */
    DELIVER_STS_INVALID,   /* a text that is no policy */
    DELIVER_STS_BUSY,      /* too many TLS handshakes of our own: no fault of theirs */
    DELIVER_STS_FETCH_COUNT
};

/* What came of a report of TLS (RFC 8460). */
enum deliver_tls_report {
    DELIVER_TLS_REPORT_SENT,
    DELIVER_TLS_REPORT_UNWANTED, /* its domain asks for none */
    DELIVER_TLS_REPORT_FAILED,
    DELIVER_TLS_REPORT_COUNT
};

struct deliver_result { /* recipients */
    uint64_t delivered;
    uint64_t deferred;
    uint64_t failed; /* expired ones too */
};

enum deliver_pace_what {
    DELIVER_PACE_CONNECTIONS,
    DELIVER_PACE_RATE,
    DELIVER_PACE_SUSPENSION,
    DELIVER_PACE_BOUNCE,
    DELIVER_PACE_WHATS
};
struct deliver_pace_changes { /* of all paces, since the start */
    uint64_t up[DELIVER_PACE_WHATS];
    uint64_t down[DELIVER_PACE_WHATS];
};

struct deliver_statistics {
    uint64_t recipients_delivered;
    uint64_t recipients_deferred; /* answers, not waits */
    uint64_t recipients_failed;
    uint64_t recipients_expired;
    uint64_t recipients_suppressed; /* of those that failed */
    uint64_t reports_queued;
    uint64_t connections; /* made since the start */
    uint64_t connections_failed;
    uint64_t connections_open;
    uint64_t attempts_running;
    uint64_t destinations;
    uint64_t destinations_backing_off;
    uint64_t paces;
    uint64_t suspensions[3]; /* of operators, by enum reach: see destinations.h */
    struct deliver_pace_changes pace_changes;
    uint64_t messages_reused_connection;
    uint64_t messages_in_flight; /* that were begun before the one ahead was answered */
    uint64_t hosts_lock_step;    /* whose replies did not fit */
    uint64_t deferred_by_class[CLASS_COUNT]; /* recipients */
    uint64_t failed_by_class[CLASS_COUNT];
    uint64_t backoffs_by_class[CLASS_COUNT]; /* of destinations */
    uint64_t delivered_by_tls[3];            /* recipients: in clear, TLS 1.2, TLS 1.3 */
    uint64_t delivered_by_policy[DELIVER_TLS_POLICY_COUNT]; /* recipients, over TLS */
    uint64_t delivered_local;
    uint64_t sts_fetches[DELIVER_STS_FETCH_COUNT];
    uint64_t sts_policies;         /* known now */
    uint64_t sts_testing_failures; /* transactions that would have had to wait */
    uint64_t tls_sessions[3][2];   /* for reports: no policy, MTA-STS, TLSA; good and bad */
    uint64_t tls_sessions_uncounted; /* there was no room for their domain */
    uint64_t tls_reports[DELIVER_TLS_REPORT_COUNT];
    struct histogram delay_queue;    /* us, from arrival to the attempt */
    struct histogram delay_connect;  /* of attempts that made a connection */
    struct histogram delay_transfer; /* from MAIL to the last answer */
    struct histogram time_in_queue;  /* of recipients whose life ended */
};
void deliver_statistics(const struct deliver *deliver,
                        struct deliver_statistics *statistics);

/* The busiest destinations by name; what the others did is in `other`. Who has no name yet
 * gets one of a quieter destination when it did twice as much in a minute, so that names
 * stay and numbers under a name never go back while it is there. */
enum { DELIVER_NAMED_MAX = 100, DELIVER_NAME_TEXT = 128 };
struct deliver_named {
    char name[DELIVER_NAME_TEXT];
    struct deliver_result result;
    unsigned connections;
    unsigned attempts; /* running */
    bool is_backing_off;
};
struct deliver_busiest {
    struct deliver_named named[DELIVER_NAMED_MAX];
    size_t count;
    struct deliver_result other;
};
void deliver_busiest(const struct deliver *deliver, struct deliver_busiest *busiest);

/* A source, as it stands now. */
struct deliver_source_state {
    const char *name;
    struct ip ip;
    bool is_aside; /* its address cannot be used: tried again at `until_ms` */
    int64_t until_ms;
    const char *fault;
    bool is_warming;
    unsigned day;         /* of its warm-up, from 1 */
    uint32_t quota, used; /* of that day */
    unsigned connections; /* open */
    struct deliver_result result;
};
typedef void deliver_source_fn(void *owner, const struct deliver_source_state *state);
/* Those of the settings, in their order. */
void deliver_sources(const struct deliver *deliver, deliver_source_fn *each, void *owner);
bool deliver_has_source(const struct deliver *deliver, const char *name);
/* The pool of this mail has the source, by the settings in force; whether it goes just now is not asked. A
 * domain whose hosts are not known yet has what its name alone says. */
bool deliver_may_leave_by(const struct deliver *deliver, const char *source,
                          const char *lane, const struct envelope *of);

/* Why a lane waits now: the words of `smtpd queue why`. */
enum why_kind {
    WHY_SCHEDULED,   /* its own next attempt */
    WHY_LEASED,      /* an attempt is running or about to */
    WHY_DNS,         /* look-up failed; the domain queue backs off */
    WHY_DESTINATION, /* the host or destination backs off */
    WHY_CONNECTIONS, /* all connections of the destination are busy */
    WHY_READY_FULL,
    WHY_DRAINING,
    WHY_NO_ROOM,   /* log or outbound windows */
    WHY_RATE,      /* the destination's limit of messages or connections in a time */
    WHY_SUSPENDED, /* by an operator, or a reaction to what the destination said */
    WHY_SOURCE,    /* no source of its pool can be used */
    WHY_WARM_UP,   /* they have sent what their warm-up allows today */
    WHY_HELD,      /* the following are no reasons of a lane */
    WHY_REBUILDING,
    WHY_OVERFLOW, /* more domains wait than the index has room for */
    WHY_COUNT
};
struct why {
    enum why_kind kind;
    char destination[256];
    char text[512];   /* the fault, in words */
    int64_t until_ms; /* wall; 0: unknown */
};
/* Of mail with this tenant, priority and pool; NULL: of any. */
void deliver_why(const struct deliver *deliver, const char *lane, const struct envelope *of,
                 struct why *why);
/* Of a group that is leased: where it stands. */
void deliver_why_leased(const struct deliver *deliver, const char *lane,
                        const struct envelope *of, const struct queue_target *group,
                        struct why *why);
/* Ends these groups (at most 1,000) with a report "bounced by the operator"; report and
 * removal are one transaction (G3). What is leased is busy. Copies all. */
enum { DELIVER_REASON_MAX = 200 };
struct deliver_bounce {
    const struct queue_target *targets;
    size_t count;
    const char *reason; /* or NULL */
    queue_changed_fn *on_end;
    void *owner;
};
void deliver_bounce(struct deliver *deliver, const struct deliver_bounce *wanted);
/* The lane of a [[route]]; false: there is none of that name. */
bool deliver_lane_of_route(const struct deliver *deliver, const char *name,
                           char lane[LANE_TEXT]);
/* What class the settings give to a reply. */
enum deliver_class deliver_classify(const struct deliver *deliver,
                                    const struct class_reply *reply);

struct deliver_wake;
typedef void deliver_woken_fn(void *owner);
/* Back-offs that hold these lanes are forgotten, and all of their mail that is due is tried ("queue
 * retry"): some of them in each turn of the loop. The names are copied. It goes on when it is cancelled:
 * then nobody is told. */
struct deliver_wake *deliver_wake_start(struct deliver *deliver,
                                        const char (*lanes)[LANE_TEXT], size_t count,
                                        deliver_woken_fn *on_end, void *owner);
void deliver_wake_cancel(struct deliver_wake *wake);

#endif
