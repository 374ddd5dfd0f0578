/* What is counted for reports of TLS (RFC 8460 4): sessions, by the domain of the mail, by the policy
 * that held, and by what came of them.
 *
 * Owns      the counts of the domains that are being counted, and of those that are closed and wait to
 *           be told.
 * Promises  pure. Bounded: at most LIMIT_TLS_REPORT_DOMAINS domains, and LIMIT_TLS_REPORT_BYTES of
 *           texts. Above them a domain that is new is not counted at all; of one that is known the
 *           sums stay right, and what has no room for its details is counted as `dropped`. All texts
 *           are printable ASCII: what is not is a question mark.
 * Ignores   whether anybody wants a report.
 */
#ifndef SMTPD_DELIVER_TALLY_H
#define SMTPD_DELIVER_TALLY_H

#include "smtpd/base/bytes.h"
#include "smtpd/base/list.h"

enum {
    TALLY_POLICIES_MAX = 8, /* of a domain; further ones count as the last of their type */
    TALLY_FAILURES_MAX = 100, /* kinds of failure of one policy */
    TALLY_DOMAIN_TEXT = 256,
    TALLY_POLICY_TEXT = 4096,
    TALLY_FAILURE_TEXT = 256
};
static const int64_t TALLY_DAY_MS = INT64_C(86400000);

enum tally_type { TALLY_NO_POLICY, TALLY_STS, TALLY_TLSA, TALLY_TYPES };

enum tally_result { /* RFC 8460 4.3 */
                    TALLY_SUCCESS,
                    TALLY_NO_STARTTLS,
                    TALLY_EXPIRED,
                    TALLY_NAME_MISMATCH,
                    TALLY_UNTRUSTED,
                    TALLY_VALIDATION,
                    TALLY_TLSA_INVALID,
                    TALLY_DNSSEC_INVALID,
                    TALLY_DANE_REQUIRED,
                    TALLY_STS_FETCH,
                    TALLY_STS_INVALID,
                    TALLY_STS_WEBPKI,
                    TALLY_RESULTS
};

enum tally_text {
    TALLY_MX,
    TALLY_HELO,
    TALLY_SOURCE,
    TALLY_ADDRESS,
    TALLY_REASON,
    TALLY_TEXTS
};

struct tally_session {
    const char *domain; /* of the mail */
    enum tally_type type;
    const char *policy; /* its lines, parted by '|'; "": none */
    enum tally_result result;
    const char *texts[TALLY_TEXTS]; /* of a failure; NULL: not known */
};

struct tally_failure {
    struct link link;
    enum tally_result result;
    uint64_t count;
    char *texts[TALLY_TEXTS]; /* "": not known */
};

struct tally_policy {
    struct link link;
    enum tally_type type;
    char *text;
    uint64_t successes;
    uint64_t failures;
    uint64_t dropped;  /* of the failures: without details */
    struct list kinds; /* struct tally_failure */
};

struct tally_domain {
    struct link link;
    char *domain;
    int64_t begin_ms;
    int64_t end_ms; /* 0: it is being counted */
    struct list policies;
    /* Of who sends reports; not kept: */
    int64_t not_before_ms;
    unsigned tries;
    bool is_sending;
};

struct tally;
struct tally *tally_new(void);
void tally_free(struct tally *tally);
/* What is read back may be a little more than what is counted: the last piece may have gone over. */
void tally_set_ceiling(struct tally *tally, size_t bytes);

/* False: there is no room for this domain. */
bool tally_count(struct tally *tally, const struct tally_session *session, int64_t now_ms);
/* NULL: nothing is counted of it. Until the next change. */
const struct tally_domain *tally_find(const struct tally *tally, const char *domain);
struct list *tally_open(struct tally *tally);   /* struct tally_domain */
struct list *tally_closed(struct tally *tally); /* the oldest first, but for: */
/* Behind all other closed ones. */
void tally_move_back(struct tally *tally, struct tally_domain *closed);

/* What began before `end_ms` ends then (RFC 8460 3: a day, UTC); who had no session is forgotten. */
void tally_close_day(struct tally *tally, int64_t end_ms);
/* This one ends now, and is counted on from there. NULL: it had no session. */
struct tally_domain *tally_close(struct tally *tally, const char *name, int64_t now_ms);
void tally_remove(struct tally *tally, struct tally_domain *closed);
uint64_t tally_sessions(const struct tally_domain *domain); /* good and bad ones */

const char *tally_type_name(enum tally_type type);       /* "no-policy-found" */
const char *tally_result_name(enum tally_result result); /* "certificate-expired" */

/* What a file says (tally_file.h). False, or NULL: there is no room, or it is there. */
struct tally_domain *tally_put_domain(struct tally *tally, const char *domain,
                                      int64_t begin_ms, int64_t end_ms);
struct tally_policy *tally_put_policy(struct tally *tally, struct tally_domain *domain,
                                      enum tally_type type, const char *text);
bool tally_put_failure(struct tally *tally, struct tally_policy *policy,
                       const struct tally_failure *failure);

#endif
