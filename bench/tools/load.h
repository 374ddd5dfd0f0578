/* The load client of the benchmarks: many SMTP sessions on one epoll loop.
 *
 *   load.c           the loop, what is printed
 *   load_options.c   what is wanted
 *   load_schedule.c  which message comes when, and how large; what was measured
 *   load_session.c   one session: the commands, their replies
 *   load_wire.c      one connection: bytes, TLS (OpenSSL), replies
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Prints and ends: a benchmark that goes on after a fault measures nothing. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define MUST(holds, what)                                                                  \
    do {                                                                                   \
        if (!(holds))                                                                      \
            die("%s", what);                                                               \
    } while (0)

int64_t now_ns(void); /* monotonic */

/* ---- what is wanted ---- */

enum load_mode { MODE_MESSAGES, MODE_IDLE, MODE_LOG_INS };
enum load_tls { LOAD_CLEAR, LOAD_STARTTLS, LOAD_IMPLICIT };

struct options {
    enum load_mode mode;
    const char *host;
    unsigned port;
    unsigned sessions;
    unsigned idle; /* sessions to hold */
    unsigned
        sources; /* addresses of 127/8 that connections come from; 0: the system's choice */
    uint64_t messages; /* 0: as many as the time allows */
    double seconds;    /* 0: until the messages are through */
    double rate;       /* messages a second in sum; 0: each session as fast as it can */
    uint64_t per_connection; /* 0: the connection is kept */
    size_t size;             /* 0: mix */
    enum load_tls tls;
    int tls_version; /* 0: any */
    const char *groups;
    bool resumes;
    bool pipelines;
    const char *user;
    const char *password;
    const char *from;
    const char *to;
    bool is_json;
};

void options_read(struct options *options, int count, char **words);

/* ---- load_schedule.c ---- */

struct samples { /* microseconds */
    uint32_t *values;
    size_t count;
    size_t room;
};
void samples_add(struct samples *samples, int64_t ns);
/* As a JSON object; sorts. */
void samples_print(struct samples *samples);

struct message {
    uint64_t number;
    size_t size;
    int64_t due_ns; /* when it was to begin */
};

struct schedule {
    const struct options *options;
    int64_t began_ns; /* 0: not yet */
    int64_t last_ns;  /* the last end of a message */
    uint64_t started;
    uint64_t ended; /* well or not */
    uint64_t failures;
    uint64_t late;          /* a session was free only after the message was due */
    struct samples waiting; /* from when it was due until it began */
    struct samples
        latency;          /* as the options say: from due, or from the end of the message */
    struct samples reply; /* from the end of the message until its 250 */
    uint64_t bytes;
    double cpu_began_s;
};
void schedule_begin(struct schedule *schedule);
/* The next message that is due; false: none now, or none any more. */
bool schedule_take(struct schedule *schedule, struct message *message);
/* When the next is due (monotonic); 0: there is none, or it is due when a session is free. */
int64_t schedule_next_ns(const struct schedule *schedule);
bool schedule_is_over(const struct schedule *schedule); /* nothing more will begin */
double cpu_seconds(void);

/* ---- load_wire.c ---- */

enum { WIRE_INPUT = 2048, WIRE_PIECES = 3 };
enum wire_state { WIRE_DONE, WIRE_AGAIN, WIRE_BROKEN };

struct wire {
    int descriptor; /* -1: none */
    bool waits_to_write;
    SSL *ssl;
    struct iovec pieces[WIRE_PIECES]; /* unsent; what they point at is the caller's */
    size_t piece;                     /* the first that has something left */
    size_t input_length;
    bool saw_pipelining; /* in the last reply of several lines */
    char input[WIRE_INPUT];
};

struct client { /* what all connections share */
    const struct options *options;
    int epoll;
    SSL_CTX *tls; /* or NULL */
    uint64_t connections;
    uint64_t handshakes;
    uint64_t resumed;
    char last_failure[160];
    char tls_text[96]; /* version, suite and group of a handshake */
};
void client_init(struct client *client, const struct options *options);
enum wire_state wire_connect(struct wire *wire, struct client *client, void *owner);
/* Of a connection that could be written to: whether it stands. */
bool wire_is_connected(const struct wire *wire);
void wire_close(struct wire *wire, struct client *client);
/* `ticket` is offered when it is not NULL, and gets the newest one. */
void wire_secure(struct wire *wire, struct client *client, SSL_SESSION **ticket);
enum wire_state wire_handshake(struct wire *wire, struct client *client);
enum wire_state wire_send(struct wire *wire, struct client *client, void *owner);
enum wire_state wire_receive(struct wire *wire);
/* The code of the next reply that is there as a whole and takes it; 0: none, -1: no SMTP. */
int wire_reply(struct wire *wire, char *text, size_t text_bytes);
void wire_watch(struct wire *wire, struct client *client, void *owner, bool writes);

/* ---- load_session.c ---- */

enum step {
    STEP_DOWN,
    STEP_CONNECT,
    STEP_HANDSHAKE,
    STEP_GREETING,
    STEP_EHLO,
    STEP_STARTTLS,
    STEP_AUTH,
    STEP_READY,
    STEP_MAIL,
    STEP_RCPT,
    STEP_DATA,
    STEP_BODY,
    STEP_RESET,
    STEP_QUIT,
    STEP_COUNT
};

struct load;

struct session {
    struct load *load;
    struct wire wire;
    enum step step;
    bool is_secure;
    bool is_logged_in;
    bool can_pipeline;
    bool has_message;
    bool is_refused; /* the message: a command of it was answered with no */
    bool is_available;
    struct message message;
    uint64_t on_connection; /* messages */
    int64_t began_ns;       /* of the connection */
    int64_t ended_ns;       /* the end of the message left */
    int64_t rests_until_ns; /* after a failure */
    SSL_SESSION *ticket;
    char head[1024];
};

struct load {
    struct options options;
    struct client client;
    struct schedule schedule;
    struct session *sessions;
    size_t session_count;
    struct session **available; /* a stack: kept connections stay warm, as a pool's do */
    size_t available_count;
    struct session **resting; /* a ring, the longest rest first */
    size_t resting_first;
    size_t resting_count;
    size_t ready;     /* that were ready at least once (idle: that are held) */
    size_t opened;    /* idle: begun */
    size_t lost;      /* idle: held, and closed by the other side */
    uint64_t log_ins; /* done */
    const char *body; /* long enough for each message */
    char *secret;     /* of AUTH PLAIN, in base64 */
};

void session_connect(struct session *session);
/* With a message in `session->message`. */
void session_begin(struct session *session);
void session_on_event(struct session *session, uint32_t events);
/* load.c: a session has nothing to do; it is up, or down. */
void load_on_available(struct load *load, struct session *session);
void load_on_failure(struct load *load, struct session *session, const char *why);
void load_on_held(struct load *load, struct session *session);

#endif
