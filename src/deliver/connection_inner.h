/* The inside of a connection: connection.c has the bytes and the life, opening.c the way from the
 * address to a session that takes mail. */
#ifndef SMTPD_DELIVER_CONNECTION_INNER_H
#define SMTPD_DELIVER_CONNECTION_INNER_H

#include "connection.h"
#include "dane.h"
#include "scope.h"
#include "smtpd/smtp/framing.h"

enum state {
    STATE_DANE,
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

struct connection {
    struct link link;    /* in its destination, while it rests */
    struct link resting; /* in its scope, too */
    struct scope *scope; /* NULL: no limit holds */
    struct destination *destination;
    struct deliver *deliver;
    struct plan_settings *settings;
    const struct route *route; /* of the settings; NULL by MX */
    const struct connection_events *events;
    void *owner;
    struct plan_host host;
    enum tls_level level;
    struct dane *dane; /* NULL: the policy did not ask */
    bool is_raised;    /* the level, from opportunistic, by DANE */
    bool fails_policy;
    bool objects;
    bool is_refused;  /* by `reply` */
    bool without_tls; /* TLS broke here once: in clear, at once (opportunistic only) */
    char peer[360];
    struct machine machine;
    struct dial *dial;
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
    struct deferred tell;
    struct timer patience; /* once it is ready */
    const char *stage;
    unsigned messages;
    unsigned depth; /* our frames that run */
    bool is_closed;
    int64_t started_ms;
    int64_t connect_ms;
};

/* connection.c */
void connection_say(struct connection *connection, struct slice line);
/* Of no more use: the owner is told, once, from the loop. */
void connection_broken(struct connection *connection, enum result code, const char *text);
void connection_tell_broken(void *owner); /* for loop_defer: the fault is set */
void connection_on_dialed(void *owner, struct stream *stream, const struct fault *fault);

/* opening.c */
const struct machine_row *opening_rows(int *count);
/* Before the machine begins, with STATE_DANE. */
void opening_ask_dane(struct connection *connection, const char *domain);
int64_t opening_patience(void *self, int state, int64_t row_ms);

#endif
