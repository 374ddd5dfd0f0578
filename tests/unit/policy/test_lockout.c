/* Failures counted by address and by name, the delay, the lock, and who is spared. */
#include "lockout.h"

#include "smtpd/base/log.h"
#include "test.h"

#include <stdio.h>

struct world {
    struct loop *loop;
    struct lockout *lockout;
    struct auth_settings settings;
    struct ip peer;
    struct ip other;
};

static struct ip ip_of(const char *text)
{
    struct ip ip;

    assert_int_equal(ip_parse(slice_of(text), &ip), RESULT_OK);
    return ip;
}

static void open_world(struct world *w)
{
    struct log_settings log = {.output = "/dev/null", .level = LOG_DEBUG, .node = "test"};

    secure_init();
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    w->loop = loop_new();
    w->lockout = lockout_new(w->loop);
    w->peer = ip_of("192.0.2.1");
    w->other = ip_of("198.51.100.1");
    w->settings = (struct auth_settings){
        .failure_delay_ms = 100,
        .failures_per_address = {1, {{5, 3600000}}},
        .failures_per_user = {1, {{3, 3600000}}},
        .lockout_ms = 3600000,
    };
    lockout_apply(w->lockout, &w->settings);
}

static void close_world(struct world *w)
{
    lockout_free(w->lockout);
    loop_free(w->loop);
    log_close();
}

static int64_t fail_once(struct world *w, const char *user, const struct ip *peer)
{
    struct lockout_try try = {slice_of(user), peer};

    return lockout_failed(w->lockout, &try);
}

static bool holds_user(struct world *w, const char *user, const struct ip *peer)
{
    struct lockout_try try = {slice_of(user), peer};

    return lockout_holds_user(w->lockout, &try);
}

TEST(lockout, delays_grow_up_to_a_bound_whoever_is_counted)
{
    static const int64_t wanted[] = {100, 200, 400, 800, 800, 800, 800};
    struct world w;

    open_world(&w);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        char user[32];

        (void)snprintf(user, sizeof user, "u%zu", i);
        assert_int_equal(fail_once(&w, user, &w.peer), wanted[i]); /* by address */
        assert_int_equal(fail_once(&w, "alice", NULL), wanted[i]); /* by name */
    }
    assert_int_equal(fail_once(&w, "bob", &w.other), 100);
    w.settings.failure_delay_ms = 20000;
    lockout_apply(w.lockout, &w.settings);
    assert_int_equal(fail_once(&w, "alice", &w.peer), 30000);
    w.settings.failure_delay_ms = 0;
    lockout_apply(w.lockout, &w.settings);
    assert_int_equal(fail_once(&w, "alice", &w.peer), 0);
    close_world(&w);
}

TEST(lockout, locks_a_name_whether_it_exists_or_not)
{
    struct world w;
    struct auth_statistics statistics = {0};

    open_world(&w);
    (void)fail_once(&w, "alice", NULL);
    (void)fail_once(&w, "alice", NULL);
    assert_false(holds_user(&w, "alice", NULL));
    (void)fail_once(&w, "alice", NULL);
    assert_true(holds_user(&w, "alice", NULL));
    assert_true(holds_user(&w, "alice", &w.other));
    assert_false(holds_user(&w, "bob", NULL));
    assert_false(holds_user(&w, "", NULL));
    lockout_statistics(w.lockout, &statistics);
    assert_int_equal(statistics.lockouts_of_users, 1);
    assert_int_equal(statistics.locked_users, 1);
    assert_int_equal(statistics.locked_addresses, 0);
    close_world(&w);
}

TEST(lockout, locks_an_address_and_a_v6_network)
{
    struct world w;
    struct ip a = ip_of("2001:db8:1:2::1");
    struct ip b = ip_of("2001:db8:1:2:ffff::2");
    struct ip c = ip_of("2001:db8:1:3::1");
    struct auth_statistics statistics = {0};

    open_world(&w);
    for (int i = 0; i < 5; i++) {
        char user[32];

        assert_false(lockout_holds_address(w.lockout, &w.peer));
        assert_false(lockout_holds_address(w.lockout, &b));
        (void)snprintf(user, sizeof user, "u%d", i);
        (void)fail_once(&w, user, &w.peer);
        (void)fail_once(&w, user, &a);
    }
    assert_true(lockout_holds_address(w.lockout, &w.peer));
    assert_false(lockout_holds_address(w.lockout, &w.other));
    assert_true(lockout_holds_address(w.lockout, &b));
    assert_false(lockout_holds_address(w.lockout, &c));
    lockout_statistics(w.lockout, &statistics);
    assert_int_equal(statistics.locked_addresses, 2);
    close_world(&w);
}

TEST(lockout, spares_the_addresses_that_a_user_came_from)
{
    struct world w;
    struct lockout_try good = {SLICE("alice"), &w.peer};

    open_world(&w);
    lockout_succeeded(w.lockout, &good);
    for (int i = 0; i < 3; i++)
        (void)fail_once(&w, "alice", &w.other);
    assert_true(holds_user(&w, "alice", &w.other));
    assert_true(holds_user(&w, "alice", NULL));
    assert_false(holds_user(&w, "alice", &w.peer));
    close_world(&w);
}

TEST(lockout, ends_and_counts_anew)
{
    struct world w;
    struct auth_statistics statistics = {0};

    open_world(&w);
    w.settings.lockout_ms = 50;
    lockout_apply(w.lockout, &w.settings);
    for (int i = 0; i < 3; i++)
        (void)fail_once(&w, "alice", NULL);
    for (int i = 0; i < 2000 && holds_user(&w, "alice", NULL); i++)
        loop_run_for(w.loop, 10);
    assert_false(holds_user(&w, "alice", NULL));
    (void)fail_once(&w, "alice", NULL);
    (void)fail_once(&w, "alice", NULL);
    assert_false(holds_user(&w, "alice", NULL));
    lockout_statistics(w.lockout, &statistics);
    assert_int_equal(statistics.lockouts_of_users, 1);
    assert_int_equal(statistics.locked_users, 0);
    w.settings.lockout_ms = 3600000;
    lockout_apply(w.lockout, &w.settings);
    (void)fail_once(&w, "alice", NULL);
    assert_true(holds_user(&w, "alice", NULL));
    close_world(&w);
}

TEST(lockout, locks_nobody_without_a_limit)
{
    struct world w;

    open_world(&w);
    w.settings.failures_per_address.count = w.settings.failures_per_user.count = 0;
    lockout_apply(w.lockout, &w.settings);
    for (int i = 0; i < 1000; i++)
        (void)fail_once(&w, "alice", &w.peer);
    assert_false(holds_user(&w, "alice", NULL));
    assert_false(lockout_holds_address(w.lockout, &w.peer));
    close_world(&w);
}

TEST(lockout, forgets_the_oldest_when_it_is_full)
{
    struct world w;

    open_world(&w);
    for (int i = 0; i < 3; i++)
        (void)fail_once(&w, "first", NULL);
    assert_true(holds_user(&w, "first", NULL));
    for (int i = 0; i < 20000; i++) {
        char user[32];

        (void)snprintf(user, sizeof user, "u%d", i);
        (void)fail_once(&w, user, NULL);
    }
    assert_false(holds_user(&w, "first", NULL));
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(lockout, delays_grow_up_to_a_bound_whoever_is_counted),
        RUN(lockout, locks_a_name_whether_it_exists_or_not),
        RUN(lockout, locks_an_address_and_a_v6_network),
        RUN(lockout, spares_the_addresses_that_a_user_came_from),
        RUN(lockout, ends_and_counts_anew),
        RUN(lockout, locks_nobody_without_a_limit),
        RUN(lockout, forgets_the_oldest_when_it_is_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
