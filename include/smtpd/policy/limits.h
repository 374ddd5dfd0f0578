/* Messages and recipients in a time, per user and per client address.
 *
 * Owns      a count per user and per address (IPv6: /64) that has a limit, and the file that
 *           carries the counts over a restart.
 * Promises  a limit is never exceeded, in no span of its window's length: what is asked for is
 *           reserved, counted when it was accepted, given back when not. Bounded: 100,000
 *           users and as many addresses; beyond, a newcomer is refused until old counts are
 *           empty. The file is written by rename, 5 s after a change at the latest and at the
 *           end; a crash forgets at most that. A damaged file is a warning and an empty start.
 * Ignores   what a message is. The limits of rights.messages go before the settings'.
 */
#ifndef SMTPD_POLICY_LIMITS_H
#define SMTPD_POLICY_LIMITS_H

#include "smtpd/loop/offload.h"
#include "smtpd/policy/account.h"

enum limits_kind {
    LIMITS_USER_MESSAGES,
    LIMITS_USER_RECIPIENTS,
    LIMITS_ADDRESS_MESSAGES,
    LIMITS_ADDRESS_RECIPIENTS,
    LIMITS_KINDS
};
enum { LIMITS_TEXT = 200 };

struct limits_settings {
    struct quotas quotas[LIMITS_KINDS]; /* of users without their own */
};

/* Who sends. */
struct limits_client {
    const char *user;            /* NULL: nobody logged in */
    const struct rights *rights; /* of the user */
    struct ip peer;
};

/* What one message has reserved; zero it before. */
struct limits_claim {
    struct limits_subject *subjects[LIMITS_KINDS];
    uint32_t counts[LIMITS_KINDS];
};

struct limits;
/* Blocking read of the file. */
struct limits *limits_open(struct loop *loop, struct offload *offload, const char *path);
void limits_stop(struct limits *limits); /* nothing is written by the pool any more */
/* Behind limits_stop() and offload_free(): writes, blocking. NULL is fine. */
void limits_close(struct limits *limits);
void limits_apply(struct limits *limits, const struct limits_settings *settings);

/* One message / one recipient more. false: `why` names the limit and when it frees. */
bool MUST_CHECK limits_take_message(struct limits *limits,
                                    const struct limits_client *client,
                                    struct limits_claim *claim, char why[LIMITS_TEXT]);
bool MUST_CHECK limits_take_recipient(struct limits *limits,
                                      const struct limits_client *client,
                                      struct limits_claim *claim, char why[LIMITS_TEXT]);
void limits_return_recipient(struct limits *limits, struct limits_claim *claim);
void limits_keep(struct limits *limits, struct limits_claim *claim);    /* accepted */
void limits_release(struct limits *limits, struct limits_claim *claim); /* not; or kept */

struct limits_statistics {
    uint64_t reached[LIMITS_KINDS];
    uint64_t full; /* refused because too many were counted */
    size_t counted[LIMITS_KINDS];
    uint64_t writes_failed;
};
void limits_statistics(const struct limits *limits, struct limits_statistics *statistics);

#endif
