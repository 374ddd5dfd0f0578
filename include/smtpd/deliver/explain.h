/* What would become of mail for an address, without sending any: `smtpd explain`.
 *
 * Promises  nothing is connected to and nothing is changed. The names are looked up as for a
 *           delivery, through the same cache. The completion rule (docs/architecture.md).
 * Ignores   messages: what waits for the same lane is in `smtpd queue why`.
 */
#ifndef SMTPD_DELIVER_EXPLAIN_H
#define SMTPD_DELIVER_EXPLAIN_H

#include "smtpd/base/limits.h"
#include "smtpd/deliver/deliver.h"
#include "smtpd/deliver/destinations.h"

enum explain_kind {
    EXPLAIN_HOSTS, /* by SMTP, to the mail exchangers of the domain or the host of a route */
    EXPLAIN_LOCAL, /* into a mailbox here */
    EXPLAIN_FAIL,  /* a report at once: `status`, `text` */
    EXPLAIN_DEFER  /* the DNS cannot say now: `status`, `text` */
};

enum explain_dane {
    EXPLAIN_DANE_OFF,      /* not asked for: the settings, or a way that is not authentic */
    EXPLAIN_DANE_NONE,     /* no records */
    EXPLAIN_DANE_UNUSABLE, /* TLS is a must, any certificate will do */
    EXPLAIN_DANE_MATCH,    /* TLS is a must, and the certificate must fit the records */
    EXPLAIN_DANE_UNKNOWN   /* the look-up failed: the host is passed over */
};

/* What is known of the domain's MTA-STS policy: nothing is fetched for an explanation. */
struct explain_sts {
    bool is_wanted;   /* by the settings */
    const char *mode; /* "enforce", "testing", "none"; NULL: none is known */
    const char *id;
    int64_t fetched_ms; /* wall */
    int64_t until_ms;   /* wall: so long it holds */
    bool has_failed;    /* the last fetch: not asked again yet */
};

struct explain_host {
    const char *name;
    uint16_t preference;
    const struct ip *addresses;
    size_t address_count;
    enum explain_dane dane;
    char dane_text[160]; /* EXPLAIN_DANE_UNKNOWN: why */
    bool is_forbidden;   /* by the MTA-STS policy, which does not name it */
    /* Of several sources the latest, and how many of them; NULL: without a pool, or by none. */
    int64_t until_ms; /* wall: it backs off; 0: it does not */
    const char *until_source;
    unsigned until_count;
    int64_t
        clear_until_ms; /* wall: TLS was broken there, opportunistic mail goes in clear */
    const char *clear_source;
    unsigned clear_count;
};

struct explain_source { /* of the pool */
    const char *name;
    struct ip ip;
    unsigned weight;
    enum why_kind why; /* what holds it at this destination; WHY_SCHEDULED: nothing */
    int64_t until_ms;  /* wall */
    char text[300];
    bool is_warming;
    unsigned day; /* of its warm-up */
    uint32_t quota, used;
    bool is_known; /* mail went there by it: the following are about it */
    unsigned connections,
        most;         /* there: open, and allowed by what it has learned; 0: not known */
    unsigned running; /* attempts */
};

/* Lives during the callback only. */
struct explanation {
    const char *lane;
    enum explain_kind kind;
    const char *status;
    const char *text;
    const char *route;       /* name of the [[route]], or NULL */
    bool logs_in;            /* the route has a user */
    const char *destination; /* its key; NULL: none */
    uint16_t port;
    const char *const *match; /* of the [[destination]] that matched; NULL: none did */
    size_t match_count;
    const char *rule; /* its name, or NULL */
    struct destination_settings settings;
    struct explain_sts sts;
    bool is_authentic; /* the way from the domain to the hosts (DNSSEC) */
    const struct explain_host *hosts;
    size_t host_count;
    const char *pool; /* NULL: the system chooses our address */
    const struct explain_source *sources;
    size_t source_count;
    bool is_known;        /* mail went there, or waits: the following are about it */
    unsigned connections; /* open */
    unsigned running;     /* attempts */
    size_t ready;         /* groups loaded, in their turn */
    int64_t until_ms;     /* wall: it backs off; 0: it does not */
    const char *fault;    /* "": none */
    const char *scope;    /* whose limits; "": none yet */
    const struct pace_view *paces; /* of the scope, by source */
    size_t pace_count;
    const struct suspension_view
        *suspension;       /* an operator's, of the domain too; NULL: none */
    struct why lane_waits; /* what holds mail of this lane now; `until_ms` 0: nothing */
};

struct explain;
typedef void explain_fn(void *owner, const struct explanation *explanation);
/* `address` has a domain (an address literal too). `sender` and `tenant`: whose mail; or NULL. */
struct explain_request {
    const char *address;
    const char *sender;
    const char *tenant;
};
struct explain *explain_start(struct deliver *deliver,
                              const struct explain_request *request, explain_fn *on_end,
                              void *owner);
void explain_cancel(struct explain *explain); /* before on_end */

#endif
