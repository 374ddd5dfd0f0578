/* The inside of a connection: connection.c has the bytes and the life, opening.c the way from the
 * address to a session that takes mail. */
#ifndef SMTPD_DELIVER_CONNECTION_INNER_H
#define SMTPD_DELIVER_CONNECTION_INNER_H

#include "connection.h"
#include "dane.h"
#include "dialing.h"
#include "scope.h"
#include "smtpd/smtp/framing.h"
#include "tally.h"

enum state {
    STATE_DANE,
    STATE_POLICY,
    STATE_DIAL,
    STATE_GREETING,
    STATE_EHLO,
    STATE_HELO,
    STATE_STARTTLS,
    STATE_SECURE,
    STATE_EHLO_SECURE,
    STATE_AUTH,
    STATE_AUTH_USER,
    STATE_AUTH_PASSWORD,
    STATE_READY,
    STATE_BROKEN,
    STATE_COUNT
};

struct flight {             /* of flight.c */
    struct link link;       /* in its destination, while an attempt is in it */
    struct list attempts;   /* in the order in which they speak */
    struct attempt *writer; /* NULL: whoever is next */
    unsigned window;        /* messages at once, by chunks */
    uint64_t bytes;         /* of those in it */
    int64_t answered_ms;    /* monotonic: a message was, or the first of them began */
    int64_t gap_ms;         /* from one answered message to the next, smoothed */
    bool has_chunked;
    bool is_unheard;       /* it rested, and has answered nothing since */
    bool is_ending;        /* nobody else may speak */
    bool has_said_goodbye; /* 421: what came behind that command was not looked at */
    bool is_breaking;
    struct deferred later; /* it goes on, once those who leave have left */
};

struct connection {
    struct link link;    /* in its destination, while it rests */
    struct link resting; /* in its scope, too */
    struct link idle;    /* and in deliver->idle */
    struct scope *scope; /* NULL: no limit holds */
    struct destination *destination;
    struct deliver *deliver;
    struct plan_settings *settings;
    const struct route *route; /* of the settings; NULL by MX */
    const struct connection_events *events;
    void *owner;
    struct plan_host host;
    enum tls_level level;
    struct dane *dane;        /* NULL: the policy did not ask */
    bool dane_is_unknown;     /* as the last look-up found, which is not repeated yet */
    struct tls_policy policy; /* who it was made for; its domain is copied */
    char helo[128];           /* the name in its greeting */
    bool has_sts;             /* it was made as their MTA-STS policy asks */
    bool is_raised;           /* the level, from opportunistic, by DANE or MTA-STS */
    bool fails_policy;
    bool objects;
    bool is_refused;  /* by `reply` */
    bool wants_again; /* TLS broke while a session was resumed */
    bool begins_anew; /* for that: no session is resumed */
    bool without_tls; /* TLS broke here once: in clear, at once (opportunistic only) */
    char peer[360];
    struct machine machine;
    struct dial *dial;
    struct dialing dialing;
    struct stream *stream;
    struct framing framing;
    struct bytes input;
    struct reply_reader reader;
    struct capabilities capabilities;
    struct reply reply;
    bool has_reply;
    bool is_secured;
    bool is_resting;
    bool needs_reset; /* a transaction was left half-way */
    bool is_told;     /* on_broken was deferred or called */
    struct fault fault;
    enum deliver_class fault_class;
    struct deferred tell;
    struct timer patience; /* once it is ready */
    const char *stage;
    unsigned messages;
    unsigned depth; /* our frames that run */
    bool is_closed;
    struct flight flight;
    int64_t started_ms;
    int64_t connect_ms;
};

/* connection.c */
void connection_say(struct connection *connection, struct slice line);
/* Of no more use: the owner is told, once, from the loop. */
void connection_broken(struct connection *connection, enum result code, const char *text);
void connection_refused(struct connection *connection, const char *text); /* by its reply */
void connection_tell_broken(void *owner); /* for loop_defer: the fault is set */
void connection_on_dialed(void *owner, struct stream *stream, const struct fault *fault);

/* Nothing is freed below its own frame: it lives until the outermost of them is left. */
void connection_enter(struct connection *connection);
void connection_exit(struct connection *connection);

/* opening.c */
const struct machine_row *opening_rows(int *count);
int64_t opening_patience(void *self, int state, int64_t row_ms);

/* connection_tally.c: what is told to its domain (RFC 8460). `reason` NULL: none. */
void connection_tally_failure(const struct connection *connection, enum tally_result result,
                              const char *reason);
void connection_tally_secured(const struct connection *connection);
/* The handshake failed: the fault is set. */
void connection_tally_tls(const struct connection *connection);

/* connection_policy.c */
/* May mail with this policy go over it? */
bool connection_satisfies(const struct connection *connection,
                          const struct tls_policy *policy);
/* Before the machine begins, with STATE_DANE. */
void opening_ask_dane(struct connection *connection, const char *domain);
/* Rows of the table. */
int opening_dane_done(void *self);
void opening_policy_enter(void *self);
int opening_policy_done(void *self);

#endif
