/* What is kept is found under its key, for a while, and so many. */
#include "tls_sessions.h"

#include "smtpd/base/limits.h"
#include "test.h"

#include <stdio.h>

static const int64_t HOUR_MS = 3600000;

static struct tls_session session_of(struct slice bytes, int64_t judged_ms)
{
    return (struct tls_session){bytes, {.judged_ms = judged_ms, .is_verified = true}};
}

TEST(tls_sessions, one_is_found_under_its_own_key_only)
{
    struct tls_sessions *sessions = tls_sessions_new();
    struct tls_session first = session_of(SLICE("first"), 0);
    struct tls_session second = session_of(SLICE("second"), 0);

    assert_null(tls_sessions_find(sessions, SLICE("a"), 0));
    tls_sessions_put(sessions, SLICE("a"), &first);
    assert_null(tls_sessions_find(sessions, SLICE("b"), 0));
    assert_true(
        slice_equal(tls_sessions_find(sessions, SLICE("a"), 0)->bytes, first.bytes));
    assert_true(tls_sessions_find(sessions, SLICE("a"), 0)->verdict.is_verified);
    tls_sessions_put(sessions, SLICE("a"), &second);
    assert_int_equal(tls_sessions_count(sessions), 1);
    assert_true(
        slice_equal(tls_sessions_find(sessions, SLICE("a"), 0)->bytes, second.bytes));
    tls_sessions_forget(sessions, SLICE("a"));
    assert_null(tls_sessions_find(sessions, SLICE("a"), 0));
    tls_sessions_forget(sessions, SLICE("a"));
    tls_sessions_free(sessions);
}

TEST(tls_sessions, a_verdict_holds_for_an_hour)
{
    struct tls_sessions *sessions = tls_sessions_new();
    struct tls_session session = session_of(SLICE("x"), 1000);

    tls_sessions_put(sessions, SLICE("a"), &session);
    assert_non_null(tls_sessions_find(sessions, SLICE("a"), 1000 + HOUR_MS));
    assert_null(tls_sessions_find(sessions, SLICE("a"), 1001 + HOUR_MS));
    assert_int_equal(tls_sessions_count(sessions), 0);
    tls_sessions_free(sessions);
}

TEST(tls_sessions, so_many_and_the_first_goes)
{
    struct tls_sessions *sessions = tls_sessions_new();
    struct tls_session session = session_of(SLICE("x"), 0);
    char key[32];

    for (int i = 0; i <= LIMIT_TLS_SESSIONS; i++) {
        int length = snprintf(key, sizeof key, "%d", i);

        tls_sessions_put(sessions, (struct slice){key, (size_t)length}, &session);
    }
    assert_int_equal(tls_sessions_count(sessions), LIMIT_TLS_SESSIONS);
    assert_null(tls_sessions_find(sessions, SLICE("0"), 0));
    assert_non_null(tls_sessions_find(sessions, SLICE("1"), 0));
    tls_sessions_free(sessions);
}

TEST(tls_sessions, what_is_no_session_is_not_kept)
{
    static char huge[20000];
    struct tls_sessions *sessions = tls_sessions_new();
    struct tls_session none = session_of(SLICE_NONE, 0);
    struct tls_session large = session_of((struct slice){huge, sizeof huge}, 0);

    tls_sessions_put(sessions, SLICE("a"), &none);
    tls_sessions_put(sessions, SLICE("b"), &large);
    assert_int_equal(tls_sessions_count(sessions), 0);
    tls_sessions_free(sessions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tls_sessions, one_is_found_under_its_own_key_only),
        RUN(tls_sessions, a_verdict_holds_for_an_hour),
        RUN(tls_sessions, so_many_and_the_first_goes),
        RUN(tls_sessions, what_is_no_session_is_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
