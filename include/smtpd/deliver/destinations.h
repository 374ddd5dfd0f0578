/* Where mail goes, for operators: what each destination does now, and three commands: `smtpd
 * destination`.
 *
 * Owns      the operator's suspensions, kept over restarts in data_dir/suspensions.
 * Promises  what is told is bounded: the destinations with the most mail first. A command holds at
 *           once for what starts from then on; what is on its way ends. The completion rule
 *           (docs/architecture.md).
 * Ignores   single messages: those are the queue's.
 */
#ifndef SMTPD_DELIVER_DESTINATIONS_H
#define SMTPD_DELIVER_DESTINATIONS_H

#include "smtpd/deliver/deliver.h"

/* What a command reaches. */
enum reach {
    REACH_DOMAIN,      /* the mail of a recipient domain, whoever shares its hosts */
    REACH_DESTINATION, /* these hosts: "mx1>mx2=mx3", or "route:NAME" */
    REACH_SCOPE,       /* all that a [[destination]] block matches by host: "rule:NAME" */
    REACH_COUNT
};
extern const char *const reach_names[REACH_COUNT]; /* "domain", "destination", "scope" */

enum { REACH_NAME = 9000, SUSPENSIONS_MAX = 1000, DESTINATIONS_LISTED = 1000 };

struct reached {
    enum reach reach;
    char name[REACH_NAME]; /* its normal form */
};
/* "rule:NAME" or the name of a [[destination]] block that stands for hosts, a destination that is
 * known, else a domain; with `as` (or REACH_COUNT: as it is understood) that and nothing else. */
enum result MUST_CHECK deliver_reach(const struct deliver *deliver, const char *text,
                                     enum reach as, struct reached *reached,
                                     struct fault *fault);

/* ---- what is there ---- */

struct pace_view {
    const char *source;        /* "": the only one */
    unsigned window;           /* connections that it has learned */
    unsigned ceiling;          /* the limit of the settings */
    unsigned running;          /* attempts */
    struct quota message_rate; /* in force, before it is slowed; count 0: none */
    unsigned permille;         /* of it; 1000: all */
    const char *slowness;      /* why; "": it is not */
    struct quota connection_rate;
    int64_t next_ms; /* wall: the next attempt may start; 0: now, or when one ends */
    int64_t suspended_until_ms; /* wall; 0: it is not */
    const char *suspension;     /* why: the reply */
    unsigned bounces_left;      /* of what waits, at most; 0: none */
    int64_t bounces_until_ms;   /* wall */
    const char *bounces_for;    /* the reply */
};

struct destination_view {
    const char *name;  /* the hosts in order, "route:NAME" */
    const char *scope; /* "": none yet */
    const char *rule;  /* the [[destination]] block that holds; "": none */
    uint64_t waiting;  /* groups that are not on their way; see lanes */
    uint64_t lanes;    /* domain queues with mail that were due there in this process */
    unsigned ready;    /* groups loaded, in their turn */
    unsigned running;
    unsigned connections;
    int64_t backs_off_until_ms; /* wall; 0: it does not */
    const char *fault;          /* why */
    enum deliver_class fault_class;
    int64_t failed_ms; /* wall: the last failure, of a message or of its own; 0: none */
    enum deliver_class failed_class;
    const char *failed_text;
    const struct pace_view *paces;
    size_t pace_count;
    const struct suspension_view
        *suspension; /* the operator's, of it or its scope; or NULL */
};

struct suspension_view {
    enum reach reach;
    const char *name;
    const char *reason; /* "": none */
    int64_t since_ms;   /* wall */
    int64_t until_ms;
};

enum destinations_state {
    DESTINATIONS_ALL,
    DESTINATIONS_SUSPENDED,
    DESTINATIONS_BACKING_OFF
};

struct destinations_filter {
    const struct reached *reached; /* NULL: all; copied */
    const char *text; /* somewhere in the name or the scope; NULL: any; copied */
    enum destinations_state state;
    size_t limit; /* at most DESTINATIONS_LISTED */
};

struct destinations_answer {
    const struct destination_view *views; /* the most mail first */
    size_t count;
    size_t matched; /* so many would have been told without a limit */
    size_t known;
};

struct destinations_ask;
/* `answer` lives during the call. */
typedef void destinations_fn(void *owner, const struct destinations_answer *answer);
struct destinations_ask *destinations_ask_start(struct deliver *deliver,
                                                const struct destinations_filter *filter,
                                                destinations_fn *on_end, void *owner);
void destinations_ask_cancel(struct destinations_ask *ask);

/* The operator's, in the order of their ends. */
typedef void suspension_view_fn(void *owner, const struct suspension_view *view);
void deliver_suspensions(const struct deliver *deliver, suspension_view_fn *each,
                         void *owner);
/* Of a domain: its own, or that of where its mail goes. */
bool deliver_suspension_of(const struct deliver *deliver, const struct reached *reached,
                           struct suspension_view *view);

/* ---- commands ---- */

enum destinations_change { DESTINATIONS_SUSPEND, DESTINATIONS_RESUME, DESTINATIONS_FLUSH };

struct destinations_done {
    bool is_kept;    /* on the disk */
    bool was_there;  /* a suspension, whoever made it: it was replaced, or ended */
    uint64_t lanes;  /* domain queues that were woken */
    uint64_t groups; /* that are tried now, of a flush */
};
typedef void destinations_done_fn(void *owner, const struct destinations_done *done);

struct destinations_wish {
    enum destinations_change change;
    const struct reached *reached; /* copied */
    const char *reason; /* or NULL; of a suspension; at most DELIVER_REASON_MAX */
    int64_t until_ms;   /* wall; of a suspension */
    destinations_done_fn *on_end;
    void *owner;
};

struct destinations_act;
/* RESULT_BUSY: there are too many suspensions, or commands under way. It goes on when it is
 * cancelled: then nobody is told. */
enum result MUST_CHECK destinations_act_start(struct deliver *deliver,
                                              const struct destinations_wish *wish,
                                              struct destinations_act **act,
                                              struct fault *fault);
void destinations_act_cancel(struct destinations_act *act);

#endif
