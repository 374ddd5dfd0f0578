/* The inside of an attempt: attempt.c has hosts, faults and the end, transaction.c what is said about
 * the message. */
#ifndef SMTPD_DELIVER_ATTEMPT_INNER_H
#define SMTPD_DELIVER_ATTEMPT_INNER_H

#include "connection.h"
#include "inner.h"
#include "scope.h"
#include "smtpd/smtp/framing.h"

struct attempt {
    struct link link;
    struct link in_flight; /* on its connection */
    struct link of_destination;
    struct deliver *deliver;
    struct destination *destination;
    struct work *work;
    const struct lease *lease;
    struct plan_settings *settings;
    struct arena arena;
    struct outcome *outcomes; /* per recipient of the lease */
    uint8_t order[LIMIT_MX_HOSTS];
    size_t host_at;
    size_t hosts_tried;
    struct connection *connection;
    struct host_memory *judged; /* while it is on its way there; NULL: it is not */
    struct host_wait wait;
    struct scope *scope;     /* NULL: nothing limits it */
    struct pace_claim claim; /* on its pace */
    bool has_promise;        /* of its source's warm-up */
    struct timer pause;      /* until the pace lets it go on */
    bool is_ready;
    bool is_reused;
    bool has_transacted; /* this connection, in this attempt: it has worked */
    unsigned stale;      /* idle connections that were gone when used */
    bool goes_in_clear;  /* the same host again, without TLS */
    bool goes_again;     /* or without the TLS session of before */
    unsigned drops;      /* in the middle of a transaction */
    struct tls_policy policy;
    const char
        *policy_fault;  /* of a host that was not what it asks for; NULL: there was none */
    struct fault fault; /* of the last host */
    enum deliver_class fault_class;
    const struct said *lack; /* what a host lacked for this message */
    uint32_t lacking;        /* bit by bit the hosts of the plan that did */
    uint32_t passed;         /* those that others asked in vain: see struct destination */
    bool missed_host;        /* one that could not be asked */
    /* the transaction */
    uint32_t batch[LIMIT_GROUP_RECIPIENTS];
    uint32_t batch_count;
    bool accepted[LIMIT_GROUP_RECIPIENTS];
    uint32_t accepted_count;
    uint32_t prefix;     /* steps before MAIL */
    bool has_probe;      /* among these a chunk that is refused */
    bool is_chunked;     /* BDAT, before the answers to the recipients; else DATA */
    bool runs_ahead;     /* it spoke before what was said before was answered */
    uint64_t end_at;     /* of the connection's bytes: behind its last one */
    bool is_turned_away; /* by 421, in the middle of what was sent */
    bool mail_is_ok;
    bool is_in_body;
    bool dot_was_sent;
    bool is_lone_dot;
    bool rest_waits; /* 452 behind accepted recipients: a further transaction */
    uint32_t sent;
    uint32_t got;
    struct deferred again; /* the next host, from the loop */
    struct body_reader *body;
    struct framing_stuffing stuffing;
    bool waits_for_drain;
    int64_t started_ms;       /* wall */
    int64_t transfer_from_ms; /* monotonic */
};

/* attempt.c */
void attempt_learn_policy(const struct work *work, struct tls_policy *policy);
void attempt_on_ready(struct attempt *attempt);
void attempt_on_reused(struct attempt *attempt); /* it has a connection that others used */
bool attempt_has_outcome(const struct attempt *attempt);
/* It was not tried, and has left its connection: first in line again. What has an outcome ends. */
void attempt_hand_back(struct attempt *attempt);
void attempt_set_open(struct attempt *attempt, enum verdict verdict,
                      const struct said *said);
bool attempt_has_open(const struct attempt *attempt);
void attempt_finish(struct attempt *attempt);     /* outcomes to the settlement; frees */
void attempt_host_works(struct attempt *attempt); /* it answers about a message */
/* The host cannot take this message: another one, from the loop. */
void attempt_lacks(struct attempt *attempt, const struct said *lack);
void attempt_note_fault(struct attempt *attempt, const struct fault *fault);
void attempt_broken(struct attempt *attempt, const struct fault *fault);
/* It cannot go on for long: back into the queue, or what is left of it (`text`) if something was
 * said about the message. */
void attempt_postpone(struct attempt *attempt, int64_t wait_ms, const char *text);

/* pacing.c */
void pacing_start(struct attempt *attempt);
/* It goes behind another on one connection, or does so no more. */
void pacing_rides(struct attempt *attempt, bool rides);
void pacing_end(struct attempt *attempt);
/* False: `again` is called in a moment, or the attempt is over. */
bool pacing_may_connect(struct attempt *attempt, loop_fn *again);
void pacing_gives_back(struct attempt *attempt); /* that connection was not begun */
/* False: transaction_begin() is called again in a moment, or the attempt is over. */
bool pacing_may_send(struct attempt *attempt);
/* A transaction without a message, beside its own. */
bool pacing_may_probe(struct attempt *attempt);
void pacing_opened(struct attempt *attempt);
void pacing_works(struct attempt *attempt);
void pacing_objects(struct attempt *attempt, const char *kind, const char *text);
void pacing_reacts(struct attempt *attempt, const struct reply *reply);
/* Does another attempt have a session with this host, which so takes us, only not so many? */
bool pacing_has_others(const struct attempt *attempt, const char *host);

/* transaction.c */
void transaction_begin(struct attempt *attempt); /* with the recipients that are open */
void transaction_on_reply(struct attempt *attempt, const struct reply *reply);
void transaction_await(struct attempt *attempt);
bool transaction_is_under_way(const struct attempt *attempt); /* MAIL was answered */

/* payload.c */
void payload_start(struct attempt *attempt);
void payload_end(struct attempt *attempt, struct slice last);
void payload_on_drained(struct attempt *attempt);
void payload_close(struct attempt *attempt);

#endif
