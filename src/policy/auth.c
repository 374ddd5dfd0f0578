/* Log-ins. argon2id takes tens of milliseconds, so it runs on the password pool; who logged
 * in a moment ago is answered from a cache of digests. Equal log-ins that arrive while one
 * of them is being computed share its result: a sender who opens a hundred connections at
 * once with one password costs one hash, not a full pool. */
#include "smtpd/policy/auth.h"

#include "smtpd/base/check.h"
#include "smtpd/base/limits.h"
#include "smtpd/base/log.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"
#include "users_table.h"

#include <string.h>

enum {
    CACHE_ENTRIES = 10000,
    CACHE_MS = 5 * 60 * 1000,
    FOLLOW_MS = 10000,
    VERIFICATIONS_MAX = 1000 /* the pool is full long before */
};

/* What an unknown user is measured against: same parameters as ours, so the same time
 *. Its password was random and is forgotten, and a match would still be
 * refused. */
static const char nobody[] = "$argon2id$v=19$m=19456,t=2,p=1$Pq9nB9PB3bXfILPE8wqswA$"
                             "E7EpAgJSoeeRCcA9AUyC5fsScS07GzZe5W+tkMV8YNQ";

struct good_login {
    struct link link; /* oldest first: all live equally long */
    uint8_t digest[SECURE_DIGEST];
    int64_t expires_ms;
};

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
    enum result result;
};

/* Input of the job that looks at the file. */
struct look {
    char *path;
    struct users_stamp stamp; /* known; then found */
    bool has_stamp;
    bool is_changed;
    enum result result;
    struct fault fault;
    struct map *table;
};

struct auth {
    struct loop *loop;
    struct offload *offload;
    struct map *table; /* name -> hash text; NULL: none */
    uint32_t generation;
    struct map *cache; /* digest -> struct good_login */
    struct list cache_order;
    struct map *pending; /* digest -> struct verification */
    struct list verifications;
    struct list ending;
    char *path;
    struct users_stamp stamp;
    bool has_stamp;
    bool is_missing;
    struct timer timer;
    struct job *look_job;
};

/* ---- the cache ---- */

static struct slice digest_key(const uint8_t digest[SECURE_DIGEST])
{
    return (struct slice){(const char *)digest, SECURE_DIGEST};
}

static void forget(struct auth *auth, struct good_login *login)
{
    (void)map_remove(auth->cache, digest_key(login->digest));
    list_remove(&auth->cache_order, &login->link);
    secure_wipe(login, sizeof *login);
    memory_free(login);
}

static void forget_all(struct auth *auth)
{
    struct link *link;

    while ((link = list_first(&auth->cache_order)))
        forget(auth, CONTAINER_OF(link, struct good_login, link));
}

static void forget_expired(struct auth *auth)
{
    int64_t now_ms = loop_now_ms(auth->loop);
    struct link *link;

    while ((link = list_first(&auth->cache_order))) {
        struct good_login *login = CONTAINER_OF(link, struct good_login, link);

        if (login->expires_ms > now_ms)
            break;
        forget(auth, login);
    }
}

static void remember(struct auth *auth, const uint8_t digest[SECURE_DIGEST])
{
    struct good_login *login;

    forget_expired(auth);
    if (map_get(auth->cache, digest_key(digest)))
        return;
    if (map_count(auth->cache) == CACHE_ENTRIES)
        forget(auth, CONTAINER_OF(list_first(&auth->cache_order), struct good_login, link));
    login = NEW(struct good_login);
    memcpy(login->digest, digest, SECURE_DIGEST);
    login->expires_ms = loop_now_ms(auth->loop) + CACHE_MS;
    list_push_back(&auth->cache_order, &login->link);
    CHECK(map_set(auth->cache, digest_key(login->digest), login) == RESULT_OK);
}

/* ---- the table ---- */

static void use_table(struct auth *auth, struct map *table)
{
    users_table_free(auth->table);
    auth->table = table;
    auth->generation++;
    forget_all(auth);
}

enum result auth_load(struct auth *auth, const char *path, struct fault *fault)
{
    struct map *table = NULL;
    enum result result;

    if (!path) {
        use_table(auth, NULL);
        auth->has_stamp = false;
        return RESULT_OK;
    }
    result = users_table_load(path, &table, &auth->stamp, fault);
    if (result != RESULT_OK)
        return result;
    auth->has_stamp = true;
    use_table(auth, table);
    return RESULT_OK;
}

static void look_free(void *input)
{
    struct look *look = input;

    users_table_free(look->table);
    memory_free(look->path);
    memory_free(look);
}

static void look_run(void *input)
{
    struct look *look = input;
    struct users_stamp found;

    look->result = users_stamp_read(look->path, &found);
    if (look->result != RESULT_OK) {
        (void)fault_set(&look->fault, look->result, "cannot look at the users file %s",
                        look->path);
        return;
    }
    look->is_changed = !look->has_stamp || !users_stamp_equal(&found, &look->stamp);
    look->stamp = found;
    if (look->is_changed)
        look->result =
            users_table_load(look->path, &look->table, &look->stamp, &look->fault);
}

/* Once per version of the file, not every 10 s. */
static void log_unreadable(struct auth *auth, const struct look *look)
{
    struct log_line line;

    if (!look->is_changed && auth->is_missing)
        return;
    log_start(&line, LOG_ERROR, "policy.users_unreadable");
    log_text(&line, "message", look->fault.text);
    log_end(&line);
}

static void on_looked(void *owner, void *input)
{
    struct auth *auth = owner;
    struct look *look = input;

    auth->look_job = NULL;
    if (look->result == RESULT_OK && look->is_changed) {
        log_message(LOG_NOTICE, "policy.users_loaded", "%zu users", map_count(look->table));
        use_table(auth, look->table);
        look->table = NULL;
    } else if (look->result != RESULT_OK) {
        log_unreadable(auth, look);
    }
    auth->is_missing = look->result != RESULT_OK && !look->is_changed;
    if (look->is_changed) {
        auth->stamp = look->stamp;
        auth->has_stamp = true;
    }
    look_free(look);
    timer_start(&auth->timer, FOLLOW_MS);
}

static void on_follow_timer(void *owner)
{
    struct auth *auth = owner;
    struct look *look = NEW(struct look);

    look->path = memory_text(auth->path);
    look->stamp = auth->stamp;
    look->has_stamp = auth->has_stamp;
    if (job_start(auth->offload, POOL_FILE, look_run, on_looked, look_free, look, auth,
                  &auth->look_job) == RESULT_OK)
        return;
    look_free(look);
    timer_start(&auth->timer, FOLLOW_MS);
}

void auth_follow(struct auth *auth, const char *path)
{
    bool is_same = path && auth->path && strcmp(path, auth->path) == 0;

    if (auth->look_job)
        job_cancel(auth->look_job);
    auth->look_job = NULL;
    timer_cancel(&auth->timer);
    if (!is_same) {
        /* The first call follows what auth_load() read; another path is another file. */
        if (auth->path)
            auth->has_stamp = false;
        memory_free(auth->path);
        auth->path = memory_text(path);
    }
    if (path)
        timer_start(&auth->timer, 0);
    else
        use_table(auth, NULL);
}

size_t auth_user_count(const struct auth *auth)
{
    return auth->table ? map_count(auth->table) : 0;
}

/* ---- verifying ---- */

static void on_check_ends(void *owner)
{
    struct auth_check *check = owner;
    auth_end_fn *on_end = check->on_end;
    void *to = check->owner;
    enum result result = check->result;

    list_remove(&check->auth->ending, &check->link);
    memory_free(check);
    on_end(to, result);
}

static void end_later(struct auth_check *check, enum result result)
{
    check->verification = NULL;
    check->result = result;
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
        remember(auth, verification->digest);
    while ((link = list_pop_front(&verification->checks)))
        end_later(CONTAINER_OF(link, struct auth_check, link),
                  trial->is_good ? RESULT_OK : RESULT_DENIED);
    verification_free(verification);
    trial_free(trial);
}

static struct trial *trial_new(const struct auth *auth, struct slice user,
                               struct slice password)
{
    struct trial *trial = NEW(struct trial);
    const char *hash =
        auth->table && auth_user_name_is_valid(user) ? map_get(auth->table, user) : NULL;

    trial->is_known = hash != NULL;
    CHECK(slice_copy_text(slice_of(hash ? hash : nobody), trial->hash, sizeof trial->hash));
    if (password.length > 0)
        memcpy(trial->password, password.data, password.length);
    trial->length = password.length;
    return trial;
}

static void digest_login(struct slice user, struct slice password,
                         uint8_t digest[SECURE_DIGEST])
{
    char text[LIMIT_USER_NAME + 1 + LIMIT_PASSWORD];
    size_t length = user.length;

    /* A valid user has no NUL, so no two log-ins make the same text. */
    if (user.length > 0)
        memcpy(text, user.data, user.length);
    text[length++] = '\0';
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

struct auth_check *auth_verify(struct auth *auth, struct slice user, struct slice password,
                               auth_end_fn *on_end, void *owner)
{
    struct auth_check *check = NEW(struct auth_check);
    struct verification *verification;
    uint8_t digest[SECURE_DIGEST];

    check->auth = auth;
    check->on_end = on_end;
    check->owner = owner;
    /* What no user can have is tried all the same, against nobody: it must take as long. */
    if (!auth_user_name_is_valid(user) || password.length > LIMIT_PASSWORD)
        user = password = SLICE_NONE;
    digest_login(user, password, digest);
    forget_expired(auth);
    if (map_get(auth->cache, digest_key(digest))) {
        end_later(check, RESULT_OK);
        return check;
    }
    verification = map_get(auth->pending, digest_key(digest));
    /* A password changed a moment ago must not be answered from the old table. */
    if (verification && verification->generation != auth->generation) {
        (void)map_remove(auth->pending, digest_key(digest));
        verification = NULL;
    }
    if (!verification)
        verification = verification_start(auth, user, password, digest);
    if (!verification) {
        end_later(check, RESULT_BUSY);
        return check;
    }
    check->verification = verification;
    list_push_back(&verification->checks, &check->link);
    return check;
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
    auth->cache = map_new(CACHE_ENTRIES);
    auth->pending = map_new(VERIFICATIONS_MAX);
    list_init(&auth->cache_order);
    list_init(&auth->verifications);
    list_init(&auth->ending);
    timer_init(&auth->timer, loop, on_follow_timer, auth);
    return auth;
}

void auth_free(struct auth *auth)
{
    struct link *link;

    if (!auth)
        return;
    timer_cancel(&auth->timer);
    if (auth->look_job)
        job_cancel(auth->look_job);
    while ((link = list_first(&auth->verifications))) {
        struct verification *verification = CONTAINER_OF(link, struct verification, link);

        job_cancel(verification->job);
        while ((link = list_first(&verification->checks)))
            auth_cancel(CONTAINER_OF(link, struct auth_check, link));
        verification_free(verification);
    }
    while ((link = list_first(&auth->ending)))
        auth_cancel(CONTAINER_OF(link, struct auth_check, link));
    forget_all(auth);
    map_free(auth->cache);
    map_free(auth->pending);
    users_table_free(auth->table);
    memory_free(auth->path);
    memory_free(auth);
}
