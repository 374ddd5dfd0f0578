/* The verb table: what each command is, where it is allowed, and what it says elsewhere. */
#ifndef SMTPD_RECEIVE_VERBS_H
#define SMTPD_RECEIVE_VERBS_H

#include "session.h"

#define IN(state) ((uint8_t)(1U << (state)))

/* Allow-lists: a new row is closed before TLS and log-in until someone opens it. */
enum verb_flags {
    BEFORE_TLS = 1,  /* submission: also in clear */
    BEFORE_AUTH = 2, /* submission: also before the log-in */
    ENDS_BATCH = 4   /* nothing may be pipelined behind it */
};

struct verb {
    const char *name;
    void (*handle)(struct session *session, struct slice rest);
    uint8_t allowed; /* IN(state) | ... */
    uint8_t flags;
    const char *elsewhere; /* 503 5.5.1 with these words */
    const char *usage;
    const char *summary;
    /* NULL: a refusal is said at once. BDAT reads its chunk first (RFC 3030 2). */
    void (*refuse)(struct session *session, struct slice rest,
                   const struct refusal *refusal);
};

const struct verb *verbs_table(size_t *count);
/* Why this command is refused here; false: it is allowed. */
bool verbs_refusal(const struct session *session, const struct verb *verb,
                   struct refusal *refusal);
/* Replies to what no well-meaning client says twenty times: they count as bad commands. An
 * unknown recipient is none: a long list has many. */
bool verbs_is_fault(enum reply_name name);
/* TLS, or a clear connection on which the settings trust passwords. */
bool verbs_allow_log_in(const struct session *session);
/* One command line. */
void verbs_dispatch(struct session *session, struct slice line);

#endif
