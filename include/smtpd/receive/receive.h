/* The SMTP server: clients that talk to us, until their message is in the queue.
 *
 * Owns      the sessions.
 * Promises  no `250` to a final dot before the queue said that the message is durable. A
 *           session keeps the settings, TLS and access objects it began with. Every reply
 *           comes from the table of smtp/reply.h; every verb from the table of verbs.
 * Ignores   delivery.
 */
#ifndef SMTPD_RECEIVE_RECEIVE_H
#define SMTPD_RECEIVE_RECEIVE_H

#include "smtpd/mail/pool_rule.h"
#include "smtpd/net/stream.h"
#include "smtpd/policy/access.h"
#include "smtpd/policy/auth.h"
#include "smtpd/policy/limits.h"
#include "smtpd/policy/pressure.h"
#include "smtpd/policy/rate.h"
#include "smtpd/policy/screen.h"
#include "smtpd/policy/suppression.h"
#include "smtpd/queue/queue.h"
#include "smtpd/sign/signer.h"

enum receive_mode { MODE_SUBMISSION, MODE_RELAY };
enum receive_tls { RECEIVE_TLS_NONE, RECEIVE_TLS_STARTTLS, RECEIVE_TLS_IMPLICIT };

/* Fields removed, then fields added, at the end of the header section. */
struct header_rule {
    const char *const *listeners; /* "0.0.0.0:587" as it was bound; none: every one */
    size_t listener_count;
    const char *const *users; /* "*": whoever logged in; none: everybody */
    size_t user_count;
    const char *const *remove; /* names of fields, any case */
    size_t remove_count;
    const char *const *add; /* "X-Tag: value" */
    size_t add_count;
};

/* What only clients meet that neither log in nor are trusted; all zero: nothing. */
enum stranger_check { STRANGERS_OFF, STRANGERS_LOG, STRANGERS_REJECT };
struct stranger_settings {
    int64_t greeting_delay_ms; /* on relay listeners */
    enum stranger_check helo_checks;
    enum stranger_check reverse_dns;
    unsigned unknown_recipients; /* of a session */
    unsigned errors;
    int64_t tarpit_ms;    /* from half of these on, more each time */
    int64_t offenders_ms; /* who reached one of these may not come back before */
};

/* What a message says of its place among others (docs/delivery.md); only of who logged in. */
struct tenancy_settings {
    const char *tenant_header;       /* NULL: the tenant is the user */
    const char *const *tenant_users; /* who may name one; "*": whoever logged in */
    size_t tenant_user_count;
    const char *priority_header; /* NULL: all are equal */
    const char *pool_header;     /* names the pool of our addresses; NULL: no field does */
    const char *const *pool_users; /* who may; "*": whoever logged in */
    size_t pool_user_count;
    const struct pool_rule *pool_rules; /* all pools, in their order */
    size_t pool_rule_count;
};

struct receive_settings {
    const char *hostname;
    uint64_t message_size_bytes;
    unsigned recipients_per_message;
    unsigned received_hops;
    int64_t idle_timeout_ms;
    bool add_missing_headers; /* Date, Message-ID: on submission listeners only */
    bool remove_bcc;          /* on submission listeners only */
    bool hide_client;         /* no name and address in Received, for who logged in there */
    const struct header_rule *header_rules; /* copied */
    size_t header_rule_count;
    struct tenancy_settings tenancy; /* copied */
    bool auth_in_clear_on_loopback;
    struct stranger_settings strangers;
    bool has_users; /* a users file is configured: AUTH is offered */
};

/* Why strangers were refused. */
enum receive_rule {
    RECEIVE_RULE_GREETING_DELAY,
    RECEIVE_RULE_DNSBL,
    RECEIVE_RULE_REVERSE_DNS,
    RECEIVE_RULE_HELO_CHECKS,
    RECEIVE_RULE_COUNT
};

/* What came of its connections; the listener's owner keeps it, receive counts. */
struct receive_listener_statistics {
    uint64_t accepted;
    uint64_t refused;
};

/* What a listener adds; small, copied. `tls` is referenced while sessions use it. */
struct receive_listener {
    enum receive_mode mode;
    enum receive_tls tls_mode;
    struct tls_server *tls;                         /* NULL: none */
    const char *name;                               /* "0.0.0.0:587" for the log */
    struct receive_listener_statistics *statistics; /* NULL: not counted */
};

struct receive;

struct receive_rooms {
    struct loop *loop;
    struct net *net;
    struct queue *queue;
    struct auth *auth;
    struct rate *rate;
    struct signer *signer;
    struct limits *limits;
    struct screen *screen;           /* NULL: nobody is looked up */
    struct pressure *pressure;       /* NULL: memory is never short */
    struct suppression *suppression; /* NULL: none */
};

struct receive *receive_new(const struct receive_rooms *rooms);
/* For sessions from now on. Copies the settings; takes a reference of `access`. */
void receive_apply(struct receive *receive, const struct receive_settings *settings,
                   struct access *access);
/* A new connection: greets, serves, frees itself. */
void receive_on_stream(struct receive *receive, const struct receive_listener *listener,
                       struct stream *stream);
/* Leaving: sessions get 421 at their next idle point; a message in DATA may
 * finish; `on_empty` once no session is left. receive_abort() ends them all now (421). */
void receive_drain(struct receive *receive, loop_fn *on_empty, void *owner);
void receive_abort(struct receive *receive);
void receive_free(struct receive *receive); /* no sessions left, or after receive_abort() */

enum { RECEIVE_VERBS_MAX = 24, RECEIVE_CODES_MAX = 64 };
struct receive_code { /* a reply code that this server can give */
    uint16_t code;
    uint64_t replies;
    uint64_t messages_rejected; /* by it, at or after the final dot */
};

/* Limits that a client met, whatever it heard. */
enum receive_limit {
    RECEIVE_LIMIT_CONNECTIONS,
    RECEIVE_LIMIT_CONNECTIONS_PER_ADDRESS,
    RECEIVE_LIMIT_CONNECTIONS_PER_NETWORK,
    RECEIVE_LIMIT_CONNECTION_RATE,
    RECEIVE_LIMIT_NETWORK_CONNECTION_RATE,
    RECEIVE_LIMIT_HANDSHAKES,
    RECEIVE_LIMIT_PASSWORD_POOL,
    RECEIVE_LIMIT_FAILED_LOG_INS,
    RECEIVE_LIMIT_RECIPIENTS,
    RECEIVE_LIMIT_MESSAGE_SIZE,
    RECEIVE_LIMIT_HEADER_SECTION,
    RECEIVE_LIMIT_RECEIVED_HOPS,
    RECEIVE_LIMIT_BAD_COMMANDS,
    RECEIVE_LIMIT_IDLE,
    RECEIVE_LIMIT_SPACE,
    RECEIVE_LIMIT_MEMORY,
    RECEIVE_LIMIT_UNKNOWN_RECIPIENTS,
    RECEIVE_LIMIT_OFFENDERS,
    RECEIVE_LIMIT_MEMORY_CONNECTIONS,
    RECEIVE_LIMIT_MEMORY_MESSAGES,
    RECEIVE_LIMIT_COUNT
};

enum receive_tls_version { RECEIVE_TLS_CLEAR, RECEIVE_TLS_1_2, RECEIVE_TLS_1_3 };

struct receive_statistics {
    uint64_t connections; /* since the start */
    uint64_t connections_open;
    uint64_t connections_refused;
    uint64_t messages_accepted;
    uint64_t recipients_accepted;
    uint64_t bytes_accepted;
    uint64_t messages_rejected; /* at or after the final dot */
    uint64_t auth_ok;
    uint64_t auth_failed;
    uint64_t auth_busy; /* 454: the password pool was full */
    uint64_t replies_2xx, replies_4xx, replies_5xx;
    uint64_t recipients_rejected;
    uint64_t sessions_by_tls[RECEIVE_TLS_1_3 + 1]; /* ended ones */
    uint64_t limits[RECEIVE_LIMIT_COUNT];
    uint64_t rules[RECEIVE_RULE_COUNT];
    struct screen_statistics screen;
    struct receive_code codes[RECEIVE_CODES_MAX]; /* rising; filled when read */
    size_t code_count;
    struct histogram final_dot; /* us, from the final dot to its answer, of accepted ones */
    struct histogram whole;     /* us, from MAIL to the 250 */
    struct auth_statistics auth;
    struct limits_statistics sending;
    struct pressure_statistics pressure;
};
void receive_statistics(const struct receive *receive,
                        struct receive_statistics *statistics);

/* docs/verbs.md, made of the verb table and the reply table. */
enum result MUST_CHECK receive_document_verbs(struct bytes *into);

#endif
