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
    struct ip peer;
    struct auth_answer answers[200];
    enum auth_verdict results[200];
    size_t count;
};

static void on_end(void *owner, const struct auth_answer *answer)
{
    struct world *w = owner;

    w->answers[w->count] = *answer;
    w->results[w->count++] = answer->verdict;
}

static void open_world(struct world *w)
{
    struct log_settings log = {.output = "/dev/null", .level = LOG_DEBUG, .node = "test"};
    struct fault fault;
    bool was_there;

    memset(w, 0, sizeof *w);
    secure_init();
    assert_int_equal(ip_parse(SLICE("192.0.2.1"), &w->peer), RESULT_OK);
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

static struct auth_check *start(struct world *w, struct slice user, struct slice password)
{
    struct auth_try try = {user, password, w->peer, false};

    return auth_verify(w->auth, &try, on_end, w);
}

static void run_until(struct world *w, size_t count)
{
    for (int i = 0; i < 20000 && w->count < count; i++)
        loop_run_for(w->loop, 5);
    assert_int_equal(w->count, count);
}

static enum auth_verdict verify(struct world *w, struct slice user, struct slice password)
{
    size_t before = w->count;

    (void)start(w, user, password);
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
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_OK);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("Secret")), AUTH_WRONG);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE_NONE), AUTH_WRONG);
    assert_int_equal(verify(&w, SLICE("Alice"), SLICE("secret")), AUTH_WRONG);
    assert_int_equal(verify(&w, SLICE("bob"), SLICE("secret")), AUTH_WRONG);
    assert_int_equal(verify(&w, SLICE_NONE, SLICE_NONE), AUTH_WRONG);
    assert_int_equal(verify(&w, SLICE("alice\0x"), SLICE("secret")), AUTH_WRONG);
    assert_int_equal(verify(&w, SLICE("alice"), (struct slice){text, sizeof text}),
                     AUTH_WRONG);
    assert_int_equal(hashes(&w), 8); /* each of them cost the same */
    close_world(&w);
}

TEST(auth, remembers_what_was_good_and_only_that)
{
    struct world w;

    open_world(&w);
    for (int i = 0; i < 5; i++)
        assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_OK);
    assert_int_equal(hashes(&w), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(verify(&w, SLICE("alice"), SLICE("wrong")), AUTH_WRONG);
    assert_int_equal(hashes(&w), 4);
    close_world(&w);
}

TEST(auth, forgets_when_the_file_changes)
{
    struct world w;
    struct fault fault;
    bool was_there;

    open_world(&w);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_OK);
    assert_int_equal(
        users_file_set(w.users.path, "alice", SLICE("other"), &was_there, &fault),
        RESULT_OK);
    assert_int_equal(auth_load(w.auth, w.users.path, &fault), RESULT_OK);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_WRONG);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("other")), AUTH_OK);
    close_world(&w);
}

TEST(auth, shares_one_hash_between_equal_log_ins)
{
    struct world w;

    open_world(&w);
    for (int i = 0; i < 100; i++)
        (void)start(&w, SLICE("alice"), SLICE("secret"));
    run_until(&w, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(w.results[i], AUTH_OK);
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
        (void)start(&w, SLICE("alice"), slice_of(password));
    }
    assert_int_equal(w.count, 0);
    run_until(&w, 100);
    for (int i = 0; i < 100; i++) {
        assert_int_not_equal(w.results[i], AUTH_OK);
        busy += w.results[i] == AUTH_BUSY;
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
    first = start(&w, SLICE("alice"), SLICE("secret"));
    second = start(&w, SLICE("alice"), SLICE("secret"));
    auth_cancel(first);
    run_until(&w, 1);
    (void)second;
    first = start(&w, SLICE("alice"), SLICE("secret")); /* cached */
    auth_cancel(first);
    loop_run_for(w.loop, 50);
    assert_int_equal(w.count, 1);
    (void)start(&w, SLICE("alice"), SLICE("left over"));
    (void)start(&w, SLICE("alice"), SLICE("secret"));
    close_world(&w);
    assert_int_equal(w.count, 1);
}

TEST(auth, follows_the_file)
{
    struct world w;
    struct fault fault;
    bool was_there;

    open_world(&w);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_OK);
    auth_follow(w.auth, w.users.path);
    loop_run_for(w.loop, 100);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_OK);
    assert_int_equal(hashes(&w), 1); /* unchanged: nothing was forgotten */
    assert_int_equal(users_file_set(w.users.path, "bob", SLICE("two"), &was_there, &fault),
                     RESULT_OK);
    auth_follow(w.auth, w.users.path); /* a reload looks at once */
    for (int i = 0; i < 400 && auth_user_count(w.auth) != 2; i++)
        loop_run_for(w.loop, 5);
    assert_int_equal(verify(&w, SLICE("bob"), SLICE("two")), AUTH_OK);
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

TEST(auth, a_table_that_is_replaced_is_freed_little_by_little)
{
    struct auth_statistics statistics;
    struct world w;
    struct fault fault;
    struct bytes text;

    open_world(&w);
    bytes_init(&text, 1 << 20);
    for (int i = 0; i < 3000; i++) {
        char line[64];

        (void)snprintf(line, sizeof line, "user-%d:$argon2id$x\n", i);
        assert_int_equal(bytes_add_text(&text, line), RESULT_OK);
    }
    assert_int_equal(bytes_add(&text, (struct slice){"", 1}), RESULT_OK);
    users_folder_write(&w.users, text.data);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(auth_load(w.auth, w.users.path, &fault), RESULT_OK);
        auth_statistics(w.auth, &statistics);
        assert_int_equal(statistics.retired_users, 1 + 3000 * i);
    }
    for (int i = 0; i < 2000 && statistics.retired_users > 0; i++) {
        loop_run_for(w.loop, 5);
        auth_statistics(w.auth, &statistics);
    }
    assert_int_equal(statistics.retired_users, 0);
    assert_int_equal(auth_user_count(w.auth), 3000);
    assert_int_equal(auth_load(w.auth, NULL, &fault), RESULT_OK);
    bytes_fini(&text);
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
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_OK);
    assert_int_equal(auth_load(w.auth, NULL, &fault), RESULT_OK);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_WRONG);
    close_world(&w);
}

static void give(struct world *w, const char *right)
{
    struct users_change change = {.name = "alice", .rights = &right, .right_count = 1};
    struct fault fault;
    bool was_there;

    assert_int_equal(users_file_change(w->users.path, &change, &was_there, &fault),
                     RESULT_OK);
    assert_int_equal(auth_load(w->auth, w->users.path, &fault), RESULT_OK);
}

TEST(auth, gives_the_rights_of_who_logged_in)
{
    struct world w;

    open_world(&w);
    give(&w, "size=1MiB");
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_OK);
    assert_int_equal(auth_account(w.auth, "alice")->rights.size_bytes, 1 << 20);
    assert_ptr_equal(w.answers[0].account, auth_account(w.auth, "alice"));
    assert_null(auth_account(w.auth, "bob"));
    close_world(&w);
}

TEST(auth, a_wrong_network_costs_a_hash_even_with_a_password_that_is_remembered)
{
    struct world w;

    open_world(&w);
    give(&w, "networks=192.0.2.1");
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_OK);
    assert_int_equal(hashes(&w), 1);
    assert_int_equal(ip_parse(SLICE("192.0.2.9"), &w.peer), RESULT_OK);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_WRONG_NETWORK);
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_WRONG_NETWORK);
    assert_int_equal(hashes(&w), 3);
    assert_null(w.answers[2].account);
    close_world(&w);
}

static void count_failures(struct world *w, uint32_t per_user, uint32_t per_address)
{
    struct auth_settings settings = {
        .failures_per_user = {1, {{per_user, 3600000}}},
        .failures_per_address = {1, {{per_address, 3600000}}},
        .lockout_ms = 3600000,
    };

    auth_apply(w->auth, &settings);
}

TEST(auth, a_locked_out_user_costs_and_looks_like_a_wrong_password)
{
    struct world w;
    struct auth_statistics statistics;

    open_world(&w);
    count_failures(&w, 3, 1000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(verify(&w, SLICE("alice"), SLICE("wrong")), AUTH_WRONG);
    assert_int_equal(hashes(&w), 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_LOCKED_OUT);
    assert_int_equal(hashes(&w), 6);
    /* A name that does not exist is locked out as well. */
    for (int i = 0; i < 3; i++)
        assert_int_equal(verify(&w, SLICE("nobody"), SLICE("wrong")), AUTH_WRONG);
    assert_int_equal(verify(&w, SLICE("nobody"), SLICE("wrong")), AUTH_LOCKED_OUT);
    auth_statistics(w.auth, &statistics);
    assert_int_equal(statistics.lockouts_of_users, 2);
    assert_int_equal(statistics.locked_users, 2);
    assert_int_equal(statistics.answers[AUTH_WRONG], 6);
    assert_int_equal(statistics.answers[AUTH_LOCKED_OUT], 4);
    close_world(&w);
}

TEST(auth, tries_that_run_at_once_learn_no_more_than_the_limit)
{
    struct world w;
    size_t wrong = 0;
    char password[16];

    open_world(&w);
    count_failures(&w, 5, 1000);
    for (int i = 0; i < 30; i++) {
        (void)snprintf(password, sizeof password, "%d", i);
        (void)start(&w, SLICE("alice"), slice_of(i == 29 ? "secret" : password));
    }
    run_until(&w, 30);
    for (int i = 0; i < 30; i++)
        wrong += w.results[i] == AUTH_WRONG;
    assert_int_equal(wrong, 5);
    assert_int_equal(w.results[29], AUTH_LOCKED_OUT);
    close_world(&w);
}

TEST(auth, an_address_is_locked_out_unless_it_is_trusted)
{
    struct world w;
    struct auth_try try = {SLICE("eve"), SLICE("x"), {{0}}, true};

    open_world(&w);
    count_failures(&w, 1000, 2);
    try.peer = w.peer;
    for (size_t i = 0; i < 3; i++) {
        (void)auth_verify(w.auth, &try, on_end, &w);
        run_until(&w, i + 1);
    }
    assert_false(auth_address_is_locked_out(w.auth, &w.peer));
    (void)verify(&w, SLICE("eve"), SLICE("x"));
    (void)verify(&w, SLICE("bob"), SLICE("x"));
    assert_true(auth_address_is_locked_out(w.auth, &w.peer));
    assert_int_equal(verify(&w, SLICE("alice"), SLICE("secret")), AUTH_LOCKED_OUT);
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
        RUN(auth, a_table_that_is_replaced_is_freed_little_by_little),
        RUN(auth, loads_all_or_nothing),
        RUN(auth, gives_the_rights_of_who_logged_in),
        RUN(auth, a_wrong_network_costs_a_hash_even_with_a_password_that_is_remembered),
        RUN(auth, a_locked_out_user_costs_and_looks_like_a_wrong_password),
        RUN(auth, tries_that_run_at_once_learn_no_more_than_the_limit),
        RUN(auth, an_address_is_locked_out_unless_it_is_trusted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
