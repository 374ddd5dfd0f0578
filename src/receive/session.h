/* One client's connection, from the greeting to the close.
 *
 * Owns      the stream, unprocessed input, the transaction, the log-in.
 * Promises  every callback ends with one flush: replies to pipelined commands leave
 *           together. session_close() may be called anywhere; the session is freed by the
 *           loop.
 * Ignores   what commands mean (verbs.h) and what becomes of a message (transaction.h).
 */
#ifndef SMTPD_RECEIVE_SESSION_H
#define SMTPD_RECEIVE_SESSION_H

#include "smtpd/base/limits.h"
#include "smtpd/base/list.h"
#include "smtpd/receive/receive.h"
#include "smtpd/smtp/framing.h"
#include "smtpd/smtp/reply.h"

struct header_rules;
struct tenancy;

/* Settings as they were when the session began. */
struct profile {
    unsigned references;
    struct receive_settings settings; /* hostname is ours */
    struct access *access;
    struct header_rules *header_rules;
    struct tenancy *tenancy;
};
void profile_unref(struct profile *profile);

struct receive {
    struct receive_rooms rooms;
    struct profile *profile;
    struct list sessions;
    struct bytes output; /* replies of the session that runs now; empty between callbacks */
    uint64_t next_session;
    bool is_draining;
    loop_fn *on_empty;
    void *on_empty_owner;
    struct deferred empty;
    struct receive_statistics statistics;
    uint64_t replies[REPLY_NAME_COUNT];
    uint64_t rejections[REPLY_NAME_COUNT]; /* of messages, by the reply */
};

/* statistics.c */
void receive_statistics_init(struct receive *receive);
void receive_count_reply(struct receive *receive, enum reply_name name,
                         const struct reply *reply);
void receive_count_rejected(struct receive *receive, enum reply_name name);
struct tls_facts;
void receive_count_session(struct receive *receive, const struct tls_facts *tls);

void receive_on_session_freed(struct receive *receive);

/* What commands are allowed depends on this; the verb table speaks of these states. */
enum session_state {
    STATE_FRESH,   /* no EHLO yet */
    STATE_GREETED, /* no transaction */
    STATE_MAIL,    /* a sender, no recipient yet */
    STATE_RCPT,    /* sender and recipients */
    STATE_CHUNKS,  /* between two BDATs of a message */
    STATE_COUNT
};

/* What the next bytes are. */
enum session_reading { READ_COMMANDS, READ_AUTH, READ_DATA, READ_CHUNK };

/* Whom the session waits for, when it takes no input. */
enum session_wait {
    WAIT_NOTHING,
    WAIT_HANDSHAKE, /* the client's TLS */
    WAIT_OUTPUT,    /* the client, who does not read our replies */
    WAIT_TURN,      /* other sessions, after many commands at once */
    WAIT_AUTH,      /* the password pool */
    WAIT_ROOM,      /* the draft */
    WAIT_SIGN,      /* the crypto pool: signatures */
    WAIT_COMMIT,    /* the store */
    WAIT_GREETING,  /* a client that talks too early */
    WAIT_SCREEN,    /* the DNS, about the client */
    WAIT_DELAY      /* nobody: a reply is held back (session_reply_later) */
};

/* A reply that is decided but not yet said. */
struct refusal {
    enum reply_name name;
    const char *argument; /* static, or NULL */
};

struct auth_dialogue;
struct transaction;
struct verb;

struct session {
    struct link link;
    struct receive *receive;
    struct profile *profile;
    struct stream *stream; /* NULL: closed */
    struct tls_server *tls;
    struct ip peer;
    struct rate_client client; /* as policy/rate counts it */
    uint64_t id;
    enum receive_mode mode;
    enum receive_tls tls_mode;
    char listener[IP_TEXT];

    uint8_t state;   /* enum session_state */
    uint8_t reading; /* enum session_reading */
    uint8_t wait;    /* enum session_wait */
    bool is_greeted;
    bool is_secured;
    bool is_extended; /* EHLO, not HELO */
    bool is_paused;   /* the stream gives no bytes */
    bool is_behind;   /* the stream has more than 64 KiB unsent */
    bool
        has_ended; /* the client says no more; it is answered and closed when we are done */
    bool drops_input; /* what was read behind this command is forgotten */
    unsigned bad_commands;
    unsigned unknown_recipients;
    unsigned limit_refusals; /* since the last message that was accepted */

    struct framing framing;
    struct bytes input;  /* unprocessed; no memory while empty */
    size_t input_behind; /* bytes read behind the command that runs now */
    struct timer timer;
    struct deferred deferred;
    int64_t started_ms;
    int64_t waiting_since_ms;
    int64_t last_byte_ms;
    int64_t line_began_ms;   /* first byte of an unfinished line; 0: none */
    int64_t window_began_ms; /* of the slowest data that we bear with */
    uint64_t window_bytes;

    char *helo;
    const char *helo_fault;         /* static; NULL: none, or nobody looks */
    struct screening *screening;    /* runs */
    struct screen_result *screened; /* ended; NULL: not asked */
    char *user;
    struct account *account;        /* the rights of the user; NULL without one */
    const struct verb *verb;        /* the last command, for the log */
    const char *borrowed_sender;    /* of the MAIL that is being answered, for the log */
    const char *borrowed_recipient; /* of the RCPT */
    const char *rule; /* the option that the reply being said comes from; or NULL */
    struct auth_dialogue *auth;
    struct transaction *transaction;
    struct refusal chunk_refusal; /* READ_CHUNK without has_chunk: said at its end */
    int64_t delay_ms;             /* WAIT_DELAY: from waiting_since_ms on */
    enum reply_name delayed;      /* said then, with ... */
    char *delayed_argument;       /* NULL: none */
    bool is_counted;              /* the delayed reply was counted and logged already */
    bool has_chunk;               /* the chunk belongs to the transaction */
    uint64_t chunk_bytes;
    bool is_last_chunk;
    uint64_t messages;
    uint64_t bytes_read;
};

void session_start(struct receive *receive, const struct receive_listener *listener,
                   struct stream *stream, const struct rate_client *client);

/* Adds a reply; sent when the running callback ends. Counts bad commands: too many of them,
 * and the reply is a 421 and the end. */
void session_reply(struct session *session, enum reply_name name, const char *argument);
/* The same after `delay_ms`: until then no input is taken (a tarpit, a failed log-in).
 * Copies the argument. The session's end cancels it. */
void session_reply_later(struct session *session, int64_t delay_ms, enum reply_name name,
                         const char *argument);
/* A reply, then the end. `reason` is for the log. */
void session_reply_close(struct session *session, enum reply_name name, const char *reason);
void session_close(struct session *session, const char *reason);
void session_free(struct session *session); /* closed before */
void session_free_deferred(void *owner);    /* as a loop_fn */

/* No input is processed until session_resume(). */
void session_wait_for(struct session *session, enum session_wait wait);
/* From the callback that was waited for. Nothing happens when the session is closed. */
void session_resume(struct session *session);
/* What comes next are commands / data: the clock of the client's patience starts anew. */
void session_read(struct session *session, enum session_reading reading);
void session_flush(struct session *session);
/* The client logged in, or stands in a network that may relay without. */
bool session_may_relay(const struct session *session);
/* Replies 421 and closes if the session waits for a command. */
void session_leave_if_idle(struct session *session);
/* STARTTLS: 220, then the handshake, then a session that knows nothing. */
void session_secure(struct session *session);

#endif
