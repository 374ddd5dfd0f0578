/* What a user of the users file may: the "key=value key=value" behind the hash.
 *
 * Owns      one record per user; immutable, counted by reference, of the loop's thread once
 *           the table is in use.
 * Promises  strict: an unknown key, a key given twice and a value that cannot be are faults
 *           that say what would be right. What is not given is not limited here.
 * Ignores   passwords (auth.h), counters (limits.h).
 */
#ifndef SMTPD_POLICY_ACCOUNT_H
#define SMTPD_POLICY_ACCOUNT_H

#include "smtpd/base/ip.h"
#include "smtpd/base/quota.h"
#include "smtpd/mail/address.h"

enum { ACCOUNT_SENDERS_MAX = 100, ACCOUNT_NETWORKS_MAX = 100, ACCOUNT_TEXT_MAX = 16384 };

struct sender_pattern {
    char *local;  /* lower case; NULL: any */
    char *domain; /* normal; "*.example.com", "*" */
};

struct rights {
    struct sender_pattern *senders; /* none: any */
    size_t sender_count;
    struct network *networks; /* none: from anywhere */
    size_t network_count;
    uint64_t size_bytes;          /* 0: as everybody */
    unsigned recipients;          /* per message; 0: as everybody */
    struct quotas messages;       /* none: as everybody */
    struct quotas recipient_rate; /* none: as everybody */
};

/* The table of keys: the errors, `smtpd user --help` and the manual come from it. */
struct right_key {
    const char *name;
    enum result (*parse)(struct slice value, struct rights *rights);
    const char *how;      /* how it is written */
    const char *sentence; /* what it does */
    bool is_list;
};
const struct right_key *rights_keys(size_t *count);

/* Takes the next "key=value" off the front of *rest; false at the end, or when there is none
 * (then *rest is not empty). */
bool rights_next(struct slice *rest, struct slice *key, struct slice *value);

struct account {
    unsigned references;
    char *hash;
    struct rights rights;
};

/* NULL: the fault says what is wrong. */
struct account *account_new(struct slice hash, struct slice rights, struct fault *fault);
struct account *account_ref(struct account *account);
void account_unref(struct account *account); /* NULL is fine */

/* `address` is not null. */
bool account_may_send_as(const struct account *account, const struct address *address);
bool account_may_log_in_from(const struct account *account, const struct ip *peer);

#endif
