/* User and password against the users file.
 *
 * Owns      the table read from the file; a cache of good log-ins (keyed hash with a key
 *           of the process, 10,000 entries, 5 minutes, emptied when the file changes).
 *           Failures are never cached. Failures of late, by address and by name.
 * Promises  the completion rule (docs/architecture.md). An unknown user, a locked-out one and one
 *           who comes from a wrong network cost the same argon2 as a wrong password, and count
 *           the same. Passwords are wiped after use and never printed.
 *
 * The file: a line per user, "name:hash[:key=value key=value]" (account.h); "#" begins a
 * comment. Written by
 * `smtpd user add`, which replaces it by rename.
 */
#ifndef SMTPD_POLICY_AUTH_H
#define SMTPD_POLICY_AUTH_H

#include "smtpd/base/secure.h"
#include "smtpd/loop/offload.h"
#include "smtpd/policy/account.h"

struct auth;
struct auth *auth_new(struct loop *loop, struct offload *offload);
void auth_free(struct auth *auth); /* no callbacks any more */
/* Blocking read (start, reload, or the file pool). NULL path: no users. All of it or
 * nothing: on failure the old table stays, the fault names file and line. */
enum result MUST_CHECK auth_load(struct auth *auth, const char *path, struct fault *fault);
/* Looks whether the file changed (size, time, inode) every 10 s and loads it on the file
 * pool; a broken file is logged ("policy.users_unreadable") and the old table stays. */
void auth_follow(struct auth *auth, const char *path);
size_t auth_user_count(const struct auth *auth);
/* The record of now, or NULL: there is no such user (any more). Borrowed until the loop turns;
 * account_ref() keeps it. */
struct account *auth_account(const struct auth *auth, const char *user);

/* What is done about failed log-ins. All zero: nothing. */
struct auth_settings {
    int64_t failure_delay_ms; /* of the first failure; doubles, up to eight times */
    struct quotas failures_per_address; /* IPv6: per /64 */
    struct quotas failures_per_user;    /* by the name that was said, known or not */
    int64_t lockout_ms;
};
void auth_apply(struct auth *auth, const struct auth_settings *settings);

enum auth_verdict {
    AUTH_OK,
    AUTH_WRONG,         /* 535 5.7.8 */
    AUTH_WRONG_NETWORK, /* 535 5.7.8 too: the user may not come from there */
    AUTH_LOCKED_OUT,    /* 535 5.7.8 too: user or address */
    AUTH_BUSY,          /* 454 4.7.0: the pool is full */
    AUTH_VERDICTS
};
struct auth_answer {
    enum auth_verdict verdict;
    int64_t delay_ms;        /* how long a failure is to be held back */
    struct account *account; /* AUTH_OK: the rights; borrowed until the callback returns */
};
struct auth_try {
    struct slice user;
    struct slice password;
    struct ip peer;
    bool is_trusted; /* the address is neither counted nor locked out */
};
struct auth_check;
typedef void auth_end_fn(void *owner, const struct auth_answer *answer);
struct auth_check *auth_verify(struct auth *auth, const struct auth_try *try,
                               auth_end_fn *on_end, void *owner);
/* What is no secret, unlike a user who is: 421 before any password is looked at. */
bool auth_address_is_locked_out(struct auth *auth, const struct ip *peer);

struct auth_statistics {
    uint64_t answers[AUTH_VERDICTS];
    uint64_t lockouts_of_addresses; /* since the start */
    uint64_t lockouts_of_users;
    size_t locked_addresses; /* now */
    size_t locked_users;
    size_t retired_users; /* of tables before this one, that are being freed */
};
void auth_statistics(const struct auth *auth, struct auth_statistics *statistics);
void auth_cancel(struct auth_check *check);

/* The command line (no loop): exclusive lock, new file beside, sync, rename. */
bool auth_user_name_is_valid(struct slice name);
/* What is to become of a user. A password may be empty: then it stays, and the user must be
 * there. Rights are "key=value"; "key=" removes the key; keys that are not named stay. */
struct users_change {
    const char *name;
    struct slice password;
    const char *const *rights;
    size_t right_count;
};
enum result MUST_CHECK users_file_change(const char *path,
                                         const struct users_change *change, bool *was_there,
                                         struct fault *fault);
enum result MUST_CHECK users_file_set(const char *path, const char *name,
                                      struct slice password, bool *was_there,
                                      struct fault *fault);
enum result MUST_CHECK users_file_remove(const char *path, const char *name,
                                         struct fault *fault);
/* `rights` as they stand in the file: see rights_next(). */
typedef void users_file_fn(void *owner, const char *name, struct slice rights);
enum result MUST_CHECK users_file_list(const char *path, users_file_fn *each, void *owner,
                                       struct fault *fault);
/* As the server would read it. */
enum result MUST_CHECK users_file_check(const char *path, struct fault *fault);

#endif
