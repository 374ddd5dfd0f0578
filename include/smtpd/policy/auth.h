/* User and password against the users file.
 *
 * Owns      the table read from the file; a cache of good log-ins (keyed hash with a key
 *           of the process, 10,000 entries, 5 minutes, emptied when the file changes).
 *           Failures are never cached.
 * Promises  the completion rule (docs/architecture.md). An unknown user costs the same argon2 as
 *           a wrong password. Passwords are wiped after use and never printed.
 *
 * The file: a line per user, "name:hash[:key=value...]"; "#" begins a comment. Written by
 * `smtpd user add`, which replaces it by rename.
 */
#ifndef SMTPD_POLICY_AUTH_H
#define SMTPD_POLICY_AUTH_H

#include "smtpd/base/secure.h"
#include "smtpd/loop/offload.h"

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

struct auth_check;
/* RESULT_OK: in; RESULT_DENIED: 535 5.7.8; RESULT_BUSY: 454 4.7.0 (the pool is full). */
typedef void auth_end_fn(void *owner, enum result result);
struct auth_check *auth_verify(struct auth *auth, struct slice user, struct slice password,
                               auth_end_fn *on_end, void *owner);
void auth_cancel(struct auth_check *check);

/* The command line (no loop): exclusive lock, new file beside, sync, rename. */
bool auth_user_name_is_valid(struct slice name);
enum result MUST_CHECK users_file_set(const char *path, const char *name,
                                      struct slice password, bool *was_there,
                                      struct fault *fault);
enum result MUST_CHECK users_file_remove(const char *path, const char *name,
                                         struct fault *fault);
typedef void users_file_fn(void *owner, const char *name);
enum result MUST_CHECK users_file_list(const char *path, users_file_fn *each, void *owner,
                                       struct fault *fault);

#endif
