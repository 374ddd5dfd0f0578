/* Log-ins against the users file: verdicts, the cache, what is shared, what is followed. */
#include "smtpd/policy/auth.h"

#include "smtpd/base/limits.h"
#include "smtpd/base/log.h"
#include "users_folder.h"

struct world {
    struct users_folder users;
    struct loop *loop;
    struct offload *offload;
    struct auth *auth;
    enum result results[200];
    size_t count;
};

static void on_end(void *owner, enum result result)
{
    struct world *w = owner;

    w->results[w->count++] = result;
}

static void open_world(struct world *w)
{
    struct log_settings log = {.output = "/dev/null", .level = LOG_DEBUG, .node = "test"};
    struct fault fault;
    bool was_there;

    memset(w, 0, sizeof *w);
    secure_init();
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    users_folder_open(&w->users);
    assert_int_equal(
        users_file_set(w->users.path, "alice", SLICE("secret"), &was_there, &fault),
        RESULT_OK);
    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    w->auth = auth_new(w->loop, w->offload);
    assert_int_equal(auth_load(w->auth, w->users.path, &fault), RESULT_OK);
    assert_int_equal(auth_user_count(w->auth), 1);
}

static void close_world(struct world *w)
{
    auth_free(w->auth);
    offload_free(w->offload);
    loop_free(w->loop);
    users_folder_close(&w->users);
    log_close();
}

static void run_until(struct world *w, size_t count)
{
    for (int i = 0; i < 2000 && w->count < count; i++)
        loop_run_for(w->loop, 5);
    assert_int_equal(w->count, count);
}

static enum result verify(struct world *w, struct slice user, struct slice password)
{
    size_t before = w->count;

    (void)auth_verify(w->auth, user, password, on_end, w);
    assert_int_equal(w->count, before); /* never inside the call */
    run_until(w, before + 1);
    return w->results[before];
}

static uint64_t hashes(const struct world *w)
{
    struct pool_statistics statistics;

    offload_statistics(w->offload, POOL_PASSWORD, &statistics);
    return statistics.done;
}

TEST(auth, knows_right_from_wrong)
{
    struct world w;
    char text[LIMIT_PASSWORD + 1] = "secret";

    open_world(&w);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), RESULT_OK);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("Secret")), RESULT_DENIED);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE_NONE), RESULT_DENIED);
    assert_int_equal(verify(&w, SLICE("Alice"), SLICE("secret")), RESULT_DENIED);
    assert_int_equal(verify(&w, SLICE("bob"), SLICE("secret")), RESULT_DENIED);
    assert_int_equal(verify(&w, SLICE_NONE, SLICE_NONE), RESULT_DENIED);
    assert_int_equal(verify(&w, SLICE("alice\0x"), SLICE("secret")), RESULT_DENIED);
    assert_int_equal(verify(&w, SLICE("alice"), (struct slice){text, sizeof text}),
                     RESULT_DENIED);
    assert_int_equal(hashes(&w), 8); /* each of them cost the same */
    close_world(&w);
}

TEST(auth, remembers_what_was_good_and_only_that)
{
    struct world w;

    open_world(&w);
    for (int i = 0; i < 5; i++)
        assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), RESULT_OK);
    assert_int_equal(hashes(&w), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(verify(&w, SLICE("alice"), SLICE("wrong")), RESULT_DENIED);
    assert_int_equal(hashes(&w), 4);
    close_world(&w);
}

TEST(auth, forgets_when_the_file_changes)
{
    struct world w;
    struct fault fault;
    bool was_there;

    open_world(&w);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), RESULT_OK);
    assert_int_equal(
        users_file_set(w.users.path, "alice", SLICE("other"), &was_there, &fault),
        RESULT_OK);
    assert_int_equal(auth_load(w.auth, w.users.path, &fault), RESULT_OK);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), RESULT_DENIED);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("other")), RESULT_OK);
    close_world(&w);
}

TEST(auth, shares_one_hash_between_equal_log_ins)
{
    struct world w;

    open_world(&w);
    for (int i = 0; i < 100; i++)
        (void)auth_verify(w.auth, SLICE("alice"), SLICE("secret"), on_end, &w);
    run_until(&w, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(w.results[i], RESULT_OK);
    assert_int_equal(hashes(&w), 1);
    close_world(&w);
}

TEST(auth, says_busy_when_the_pool_is_full)
{
    struct world w;
    size_t busy = 0;
    char password[16];

    open_world(&w);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(password, sizeof password, "%d", i);
        (void)auth_verify(w.auth, SLICE("alice"), slice_of(password), on_end, &w);
    }
    assert_int_equal(w.count, 0);
    run_until(&w, 100);
    for (int i = 0; i < 100; i++) {
        assert_int_not_equal(w.results[i], RESULT_OK);
        busy += w.results[i] == RESULT_BUSY;
    }
    assert_true(busy >= 30 && busy <= 36);
    close_world(&w);
}

TEST(auth, is_silent_after_cancel)
{
    struct world w;
    struct auth_check *first;
    struct auth_check *second;

    open_world(&w);
    first = auth_verify(w.auth, SLICE("alice"), SLICE("secret"), on_end, &w);
    second = auth_verify(w.auth, SLICE("alice"), SLICE("secret"), on_end, &w);
    auth_cancel(first);
    run_until(&w, 1);
    (void)second;
    first = auth_verify(w.auth, SLICE("alice"), SLICE("secret"), on_end, &w); /* cached */
    auth_cancel(first);
    loop_run_for(w.loop, 50);
    assert_int_equal(w.count, 1);
    (void)auth_verify(w.auth, SLICE("alice"), SLICE("left over"), on_end, &w);
    (void)auth_verify(w.auth, SLICE("alice"), SLICE("secret"), on_end, &w);
    close_world(&w);
    assert_int_equal(w.count, 1);
}

TEST(auth, follows_the_file)
{
    struct world w;
    struct fault fault;
    bool was_there;

    open_world(&w);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), RESULT_OK);
    auth_follow(w.auth, w.users.path);
    loop_run_for(w.loop, 100);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), RESULT_OK);
    assert_int_equal(hashes(&w), 1); /* unchanged: nothing was forgotten */
    assert_int_equal(users_file_set(w.users.path, "bob", SLICE("two"), &was_there, &fault),
                     RESULT_OK);
    auth_follow(w.auth, w.users.path); /* a reload looks at once */
    for (int i = 0; i < 400 && auth_user_count(w.auth) != 2; i++)
        loop_run_for(w.loop, 5);
    assert_int_equal(verify(&w, SLICE("bob"), SLICE("two")), RESULT_OK);
    users_folder_write(&w.users, "broken\n");
    auth_follow(w.auth, w.users.path);
    loop_run_for(w.loop, 200);
    assert_int_equal(auth_user_count(w.auth), 2); /* the old table stays */
    assert_int_equal(unlink(w.users.path), 0);
    auth_follow(w.auth, w.users.path);
    loop_run_for(w.loop, 200);
    assert_int_equal(auth_user_count(w.auth), 2);
    auth_follow(w.auth, NULL);
    assert_int_equal(auth_user_count(w.auth), 0);
    close_world(&w);
}

TEST(auth, loads_all_or_nothing)
{
    struct world w;
    struct fault fault;

    open_world(&w);
    users_folder_write(&w.users, "a:$argon2id$x\nbroken\n");
    assert_int_equal(auth_load(w.auth, w.users.path, &fault), RESULT_INVALID);
    assert_non_null(strstr(fault.text, "line 2"));
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), RESULT_OK);
    assert_int_equal(auth_load(w.auth, NULL, &fault), RESULT_OK);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), RESULT_DENIED);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(auth, knows_right_from_wrong),
        RUN(auth, remembers_what_was_good_and_only_that),
        RUN(auth, forgets_when_the_file_changes),
        RUN(auth, shares_one_hash_between_equal_log_ins),
        RUN(auth, says_busy_when_the_pool_is_full),
        RUN(auth, is_silent_after_cancel),
        RUN(auth, follows_the_file),
        RUN(auth, loads_all_or_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
