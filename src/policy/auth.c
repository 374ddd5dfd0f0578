/* Log-ins. argon2id takes tens of milliseconds, so it runs on the password pool; who logged
 * in a moment ago is answered from a cache of digests. Equal log-ins that arrive while one
 * of them is being computed share its result: a sender who opens a hundred connections at
 * once with one password costs one hash, not a full pool. */
#include "smtpd/policy/auth.h"

#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"
#include "lockout.h"
#include "logins.h"
#include "users_retired.h"
#include "users_watch.h"

#include <string.h>

enum {
    VERIFICATIONS_MAX = 1000 /* the pool is full long before */
};

/* What an unknown user is measured against: same parameters as ours, so the same time
 *. Its password was random and is forgotten, and a match would still be
 * refused. */
static const char nobody[] = "$argon2id$v=19$m=19456,t=2,p=1$Pq9nB9PB3bXfILPE8wqswA$"
                             "E7EpAgJSoeeRCcA9AUyC5fsScS07GzZe5W+tkMV8YNQ";

/* Input of a job: owned by it until it ended. */
struct trial {
    char hash[SECURE_HASH_TEXT];
    char password[LIMIT_PASSWORD];
    size_t length;
    bool is_known;
    bool is_good;
};

struct verification {
    struct link link;
    struct auth *auth;
    struct job *job;
    struct list checks;
    uint8_t digest[SECURE_DIGEST];
    uint32_t generation; /* of the table it began with */
};

struct auth_check {
    struct link link; /* in its verification, or in auth->ending */
    struct deferred deferred;
    struct auth *auth;
    struct verification *verification; /* NULL: ending */
    auth_end_fn *on_end;
    void *owner;
    enum auth_verdict refusal; /* decided before; AUTH_OK: none */
    struct auth_answer answer;
    struct ip peer;
    bool has_peer;
    size_t user_length; /* 0: it can be no user's */
    char user[LIMIT_USER_NAME];
};

struct auth {
    struct loop *loop;
    struct offload *offload;
    struct map *table;             /* name -> struct account; NULL: none */
    struct users_retired *retired; /* tables before it */
    uint32_t generation;
    struct logins *logins;
    struct lockout *lockout;
    struct auth_statistics statistics;
    struct map *pending; /* digest -> struct verification */
    struct list verifications;
    struct list ending;
    struct users_watch *watch;
};

static struct slice digest_key(const uint8_t digest[SECURE_DIGEST])
{
    return (struct slice){(const char *)digest, SECURE_DIGEST};
}

/* ---- the table ---- */

static struct account *find(const struct auth *auth, struct slice user)
{
    return auth->table && auth_user_name_is_valid(user) ? map_get(auth->table, user) : NULL;
}

static void use_table(struct auth *auth, struct map *table)
{
    users_retired_take(auth->retired, auth->table);
    auth->table = table;
    auth->generation++;
    logins_clear(auth->logins);
}

enum result auth_load(struct auth *auth, const char *path, struct fault *fault)
{
    struct users_stamp stamp;
    struct map *table = NULL;
    enum result result;

    if (!path) {
        use_table(auth, NULL);
        users_watch_knows(auth->watch, NULL);
        return RESULT_OK;
    }
    result = users_table_load(path, &table, &stamp, fault);
    if (result != RESULT_OK)
        return result;
    users_watch_knows(auth->watch, &stamp);
    use_table(auth, table);
    return RESULT_OK;
}

static void on_table(void *owner, struct map *table)
{
    use_table(owner, table);
}

static void on_unwanted(void *owner, struct map *table)
{
    struct auth *auth = owner;

    users_retired_take(auth->retired, table);
}

void auth_follow(struct auth *auth, const char *path)
{
    users_watch_follow(auth->watch, path);
    if (!path)
        use_table(auth, NULL);
}

size_t auth_user_count(const struct auth *auth)
{
    return auth->table ? map_count(auth->table) : 0;
}

struct account *auth_account(const struct auth *auth, const char *user)
{
    return find(auth, slice_of(user));
}

/* ---- verifying ---- */

static struct lockout_try try_of(const struct auth_check *check)
{
    return (struct lockout_try){{check->user, check->user_length},
                                check->has_peer ? &check->peer : NULL};
}

/* Locks that closed while the password was computed hold too: however many tries run at once,
 * no more of them than the limit learn anything. */
static enum auth_verdict judge(const struct auth_check *check, enum auth_verdict computed)
{
    struct lockout_try try = try_of(check);

    if (computed == AUTH_BUSY)
        return computed;
    if (check->refusal == AUTH_LOCKED_OUT)
        return check->refusal;
    if (check->refusal == AUTH_WRONG_NETWORK && computed == AUTH_OK)
        return check->refusal;
    if (lockout_holds_user(check->auth->lockout, &try) ||
        (check->has_peer && lockout_holds_address(check->auth->lockout, &check->peer)))
        return AUTH_LOCKED_OUT;
    return computed;
}

static void settle(struct auth_check *check)
{
    struct auth *auth = check->auth;
    struct lockout_try try = try_of(check);
    struct auth_answer *answer = &check->answer;

    answer->verdict = judge(check, answer->verdict);
    auth->statistics.answers[answer->verdict]++;
    answer->account = NULL;
    if (answer->verdict == AUTH_OK) {
        answer->account = find(auth, try.user);
        lockout_succeeded(auth->lockout, &try);
    } else if (answer->verdict != AUTH_BUSY) {
        answer->delay_ms = lockout_failed(auth->lockout, &try);
    }
    if (answer->verdict == AUTH_OK && !answer->account)
        answer->verdict = AUTH_WRONG; /* removed a moment ago */
}

static void on_check_ends(void *owner)
{
    struct auth_check *check = owner;
    auth_end_fn *on_end = check->on_end;
    void *to = check->owner;
    struct auth_answer answer;

    settle(check);
    answer = check->answer;
    list_remove(&check->auth->ending, &check->link);
    memory_free(check);
    on_end(to, &answer);
}

static void end_later(struct auth_check *check, enum auth_verdict computed)
{
    check->verification = NULL;
    check->answer.verdict = computed;
    list_push_back(&check->auth->ending, &check->link);
    loop_defer(check->auth->loop, &check->deferred, on_check_ends, check);
}

static void trial_free(void *input)
{
    secure_wipe(input, sizeof(struct trial));
    memory_free(input);
}

static void trial_run(void *input)
{
    struct trial *trial = input;
    bool is_match =
        secure_password_verify(trial->hash, (struct slice){trial->password, trial->length});

    trial->is_good = is_match && trial->is_known;
    secure_wipe(trial->password, sizeof trial->password);
}

static void verification_free(struct verification *verification)
{
    struct auth *auth = verification->auth;

    /* Another one, of a newer table, may stand there by now. */
    if (map_get(auth->pending, digest_key(verification->digest)) == verification)
        (void)map_remove(auth->pending, digest_key(verification->digest));
    list_remove(&auth->verifications, &verification->link);
    memory_free(verification);
}

static void on_tried(void *owner, void *input)
{
    struct verification *verification = owner;
    struct auth *auth = verification->auth;
    struct trial *trial = input;
    struct link *link;

    /* A table that changed meanwhile may no longer hold this user: answered, not
     * remembered. */
    if (trial->is_good && verification->generation == auth->generation)
        logins_add(auth->logins, verification->digest);
    while ((link = list_pop_front(&verification->checks)))
        end_later(CONTAINER_OF(link, struct auth_check, link),
                  trial->is_good ? AUTH_OK : AUTH_WRONG);
    verification_free(verification);
    trial_free(trial);
}

static struct trial *trial_new(const struct auth *auth, struct slice user,
                               struct slice password)
{
    struct trial *trial = NEW(struct trial);
    const struct account *account = find(auth, user);

    trial->is_known = account != NULL;
    CHECK(slice_copy_text(slice_of(account ? account->hash : nobody), trial->hash,
                          sizeof trial->hash));
    if (password.length > 0)
        memcpy(trial->password, password.data, password.length);
    trial->length = password.length;
    return trial;
}

/* A try that is refused whatever its password is must neither be answered from the cache nor
 * share the answer of one that is not: its digest is another. */
static void digest_login(struct slice user, struct slice password, bool is_refused,
                         uint8_t digest[SECURE_DIGEST])
{
    char text[LIMIT_USER_NAME + 2 + LIMIT_PASSWORD];
    size_t length = user.length;

    /* A valid user has no NUL, so no two log-ins make the same text. */
    if (user.length > 0)
        memcpy(text, user.data, user.length);
    text[length++] = '\0';
    text[length++] = is_refused ? 'r' : 'l';
    if (password.length > 0)
        memcpy(text + length, password.data, password.length);
    secure_process_digest((struct slice){text, length + password.length}, digest);
    secure_wipe(text, sizeof text);
}

static struct verification *verification_start(struct auth *auth, struct slice user,
                                               struct slice password,
                                               const uint8_t digest[SECURE_DIGEST])
{
    struct verification *verification = NEW(struct verification);
    struct trial *trial = trial_new(auth, user, password);

    verification->auth = auth;
    verification->generation = auth->generation;
    memcpy(verification->digest, digest, SECURE_DIGEST);
    list_init(&verification->checks);
    list_push_back(&auth->verifications, &verification->link);
    if (map_set(auth->pending, digest_key(digest), verification) == RESULT_OK &&
        job_start(auth->offload, POOL_PASSWORD, trial_run, on_tried, trial_free, trial,
                  verification, &verification->job) == RESULT_OK)
        return verification;
    trial_free(trial);
    verification_free(verification);
    return NULL;
}

/* Why the password does not matter; AUTH_OK: it does. */
static enum auth_verdict refusal_of(const struct auth *auth, const struct auth_check *check,
                                    const struct ip *peer)
{
    struct lockout_try try = try_of(check);
    const struct account *account = find(auth, try.user);

    if (lockout_holds_user(auth->lockout, &try) ||
        (check->has_peer && lockout_holds_address(auth->lockout, &check->peer)))
        return AUTH_LOCKED_OUT;
    return account && !account_may_log_in_from(account, peer) ? AUTH_WRONG_NETWORK
                                                              : AUTH_OK;
}

static struct auth_check *check_new(struct auth *auth, const struct auth_try *try)
{
    struct auth_check *check = NEW(struct auth_check);

    check->auth = auth;
    if (auth_user_name_is_valid(try->user)) {
        check->user_length = try->user.length;
        memcpy(check->user, try->user.data, try->user.length);
    }
    check->peer = try->peer;
    check->has_peer = !try->is_trusted;
    check->refusal = refusal_of(auth, check, &try->peer);
    return check;
}

static struct verification *find_pending(struct auth *auth,
                                         const uint8_t digest[SECURE_DIGEST])
{
    struct verification *verification = map_get(auth->pending, digest_key(digest));

    /* A password changed a moment ago must not be answered from the old table. */
    if (verification && verification->generation != auth->generation) {
        (void)map_remove(auth->pending, digest_key(digest));
        verification = NULL;
    }
    return verification;
}

struct auth_check *auth_verify(struct auth *auth, const struct auth_try *try,
                               auth_end_fn *on_end, void *owner)
{
    struct auth_check *check = check_new(auth, try);
    struct slice user = try->user;
    struct slice password = try->password;
    bool is_refused = check->refusal != AUTH_OK;
    struct verification *verification;
    uint8_t digest[SECURE_DIGEST];

    check->on_end = on_end;
    check->owner = owner;
    /* What no user can have is tried all the same, against nobody: it must take as long. */
    if (check->user_length == 0 || password.length > LIMIT_PASSWORD)
        user = password = SLICE_NONE;
    digest_login(user, password, is_refused, digest);
    if (!is_refused && logins_has(auth->logins, digest)) {
        end_later(check, AUTH_OK);
        return check;
    }
    verification = find_pending(auth, digest);
    if (!verification)
        verification = verification_start(auth, user, password, digest);
    if (!verification) {
        end_later(check, AUTH_BUSY);
        return check;
    }
    check->verification = verification;
    list_push_back(&verification->checks, &check->link);
    return check;
}

bool auth_address_is_locked_out(struct auth *auth, const struct ip *peer)
{
    return lockout_holds_address(auth->lockout, peer);
}

void auth_apply(struct auth *auth, const struct auth_settings *settings)
{
    lockout_apply(auth->lockout, settings);
}

void auth_statistics(const struct auth *auth, struct auth_statistics *statistics)
{
    *statistics = auth->statistics;
    lockout_statistics(auth->lockout, statistics);
    statistics->retired_users = users_retired_count(auth->retired);
}

void auth_cancel(struct auth_check *check)
{
    if (check->verification) {
        list_remove(&check->verification->checks, &check->link);
    } else {
        list_remove(&check->auth->ending, &check->link);
        deferred_cancel(check->auth->loop, &check->deferred);
    }
    memory_free(check);
}

/* ---- life ---- */

struct auth *auth_new(struct loop *loop, struct offload *offload)
{
    struct auth *auth = NEW(struct auth);

    auth->loop = loop;
    auth->offload = offload;
    auth->logins = logins_new(loop);
    auth->lockout = lockout_new(loop);
    auth->pending = map_new(VERIFICATIONS_MAX);
    list_init(&auth->verifications);
    list_init(&auth->ending);
    auth->retired = users_retired_new(loop);
    auth->watch = users_watch_new(loop, offload,
                                  &(struct users_watch_calls){on_table, on_unwanted, auth});
    return auth;
}

void auth_free(struct auth *auth)
{
    struct link *link;

    if (!auth)
        return;
    users_watch_free(auth->watch);
    while ((link = list_first(&auth->verifications))) {
        struct verification *verification = CONTAINER_OF(link, struct verification, link);

        job_cancel(verification->job);
        while ((link = list_first(&verification->checks)))
            auth_cancel(CONTAINER_OF(link, struct auth_check, link));
        verification_free(verification);
    }
    while ((link = list_first(&auth->ending)))
        auth_cancel(CONTAINER_OF(link, struct auth_check, link));
    logins_free(auth->logins);
    lockout_free(auth->lockout);
    map_free(auth->pending);
    users_table_free(auth->table);
    users_retired_free(auth->retired);
    memory_free(auth);
}
