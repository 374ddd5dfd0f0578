/* Sessions are counted as what they were; at the limits the sums stay right. */
#include "tally.h"

#include "smtpd/base/limits.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static const int64_t NOON_MS = 20000 * INT64_C(86400000) + 43200000;
static const int64_t DAY_MS = 20000 * INT64_C(86400000);

static struct tally_session session_of(const char *domain, enum tally_result result)
{
    return (struct tally_session){.domain = domain,
                                  .type = TALLY_STS,
                                  .policy = "mode: enforce|mx: a.test",
                                  .result = result,
                                  .texts = {[TALLY_MX] = "mx.a.test"}};
}

static const struct tally_policy *policy_at(const struct tally_domain *domain, size_t at)
{
    struct link *link = list_first(&domain->policies);

    while (at-- > 0)
        link = list_next(&domain->policies, link);
    return CONTAINER_OF(link, struct tally_policy, link);
}

TEST(tally, counts_by_domain_policy_and_kind)
{
    struct tally *tally = tally_new();
    struct tally_session good = session_of("a.test", TALLY_SUCCESS);
    struct tally_session bad = session_of("a.test", TALLY_EXPIRED);
    struct tally_session none = session_of("a.test", TALLY_SUCCESS);
    const struct tally_domain *domain;

    none.type = TALLY_NO_POLICY;
    none.policy = "";
    assert_true(tally_count(tally, &good, NOON_MS));
    assert_true(tally_count(tally, &bad, NOON_MS));
    assert_true(tally_count(tally, &bad, NOON_MS));
    bad.texts[TALLY_ADDRESS] = "192.0.2.1";
    assert_true(tally_count(tally, &bad, NOON_MS));
    assert_true(tally_count(tally, &none, NOON_MS));
    domain = tally_find(tally, "a.test");
    assert_int_equal(domain->begin_ms, DAY_MS);
    assert_int_equal(domain->policies.count, 2);
    assert_int_equal(policy_at(domain, 0)->successes, 1);
    assert_int_equal(policy_at(domain, 0)->failures, 3);
    assert_int_equal(policy_at(domain, 0)->kinds.count, 2);
    assert_int_equal(policy_at(domain, 1)->successes, 1);
    assert_int_equal(tally_sessions(domain), 5);
    assert_null(tally_find(tally, "b.test"));
    tally_free(tally);
}

TEST(tally, texts_are_printable)
{
    struct tally *tally = tally_new();
    struct tally_session bad = session_of("a.test", TALLY_EXPIRED);
    const struct tally_failure *failure;

    bad.texts[TALLY_HELO] = "a\tb\nc\xc3\xa9";
    assert_true(tally_count(tally, &bad, NOON_MS));
    failure = CONTAINER_OF(list_first(&policy_at(tally_find(tally, "a.test"), 0)->kinds),
                           struct tally_failure, link);
    assert_string_equal(failure->texts[TALLY_HELO], "a?b?c??");
    assert_string_equal(failure->texts[TALLY_REASON], "");
    tally_free(tally);
}

TEST(tally, too_many_kinds_of_failure_lose_their_details_only)
{
    struct tally *tally = tally_new();
    struct tally_session bad = session_of("a.test", TALLY_EXPIRED);
    const struct tally_policy *policy;
    char reason[32];

    for (int i = 0; i < TALLY_FAILURES_MAX + 7; i++) {
        (void)snprintf(reason, sizeof reason, "%d", i);
        bad.texts[TALLY_REASON] = reason;
        assert_true(tally_count(tally, &bad, NOON_MS));
    }
    policy = policy_at(tally_find(tally, "a.test"), 0);
    assert_int_equal(policy->failures, TALLY_FAILURES_MAX + 7);
    assert_int_equal(policy->dropped, 7);
    assert_int_equal(policy->kinds.count, TALLY_FAILURES_MAX);
    tally_free(tally);
}

TEST(tally, too_many_policies_of_a_domain_count_as_the_last_of_their_type)
{
    struct tally *tally = tally_new();
    struct tally_session good = session_of("a.test", TALLY_SUCCESS);
    const struct tally_domain *domain;
    char text[32];

    for (int i = 0; i < 20; i++) {
        (void)snprintf(text, sizeof text, "mode: %d", i);
        good.policy = text;
        assert_true(tally_count(tally, &good, NOON_MS));
    }
    good.type = TALLY_TLSA; /* one of another type still has its own */
    assert_true(tally_count(tally, &good, NOON_MS));
    domain = tally_find(tally, "a.test");
    assert_int_equal(domain->policies.count, TALLY_POLICIES_MAX + 1);
    assert_int_equal(policy_at(domain, TALLY_POLICIES_MAX - 1)->successes,
                     20 - TALLY_POLICIES_MAX + 1);
    assert_int_equal(tally_sessions(domain), 21);
    tally_free(tally);
}

TEST(tally, is_bounded_and_says_what_it_does_not_count)
{
    struct tally *tally = tally_new();
    struct tally_session bad = session_of("first.test", TALLY_EXPIRED);
    char name[64];
    static char reason[TALLY_FAILURE_TEXT];
    size_t counted = 0;

    memset(reason, 'x', sizeof reason - 1);
    bad.texts[TALLY_REASON] = reason;
    for (int i = 0; i < LIMIT_TLS_REPORT_DOMAINS + 10; i++) {
        (void)snprintf(name, sizeof name, "%d.test", i);
        bad.domain = name;
        counted += tally_count(tally, &bad, NOON_MS);
    }
    assert_true(counted > 1000 && counted <= LIMIT_TLS_REPORT_DOMAINS);
    /* One that is known is counted on, without details. */
    bad.domain = "0.test";
    bad.result = TALLY_NAME_MISMATCH;
    assert_true(tally_count(tally, &bad, NOON_MS));
    assert_int_equal(policy_at(tally_find(tally, "0.test"), 0)->failures, 2);
    tally_free(tally);
}

TEST(tally, a_day_ends_and_another_begins)
{
    struct tally *tally = tally_new();
    struct tally_session good = session_of("a.test", TALLY_SUCCESS);
    struct tally_domain *closed;

    assert_true(tally_count(tally, &good, NOON_MS));
    tally_close_day(tally, DAY_MS); /* its own beginning is no end */
    assert_int_equal(tally_closed(tally)->count, 0);
    tally_close_day(tally, DAY_MS + TALLY_DAY_MS);
    assert_int_equal(tally_closed(tally)->count, 1);
    assert_null(tally_find(tally, "a.test"));
    closed = CONTAINER_OF(list_first(tally_closed(tally)), struct tally_domain, link);
    assert_int_equal(closed->end_ms, DAY_MS + TALLY_DAY_MS);
    assert_true(tally_count(tally, &good, NOON_MS + TALLY_DAY_MS));
    assert_int_equal(tally_find(tally, "a.test")->begin_ms, DAY_MS + TALLY_DAY_MS);
    tally_remove(tally, closed);
    assert_int_equal(tally_closed(tally)->count, 0);
    tally_free(tally);
}

TEST(tally, what_is_closed_early_is_counted_on_from_there)
{
    struct tally *tally = tally_new();
    struct tally_session good = session_of("a.test", TALLY_SUCCESS);

    assert_null(tally_close(tally, "a.test", NOON_MS));
    assert_true(tally_count(tally, &good, NOON_MS));
    assert_non_null(tally_close(tally, "a.test", NOON_MS + 1000));
    assert_int_equal(tally_find(tally, "a.test")->begin_ms, NOON_MS + 1000);
    assert_null(tally_close(tally, "a.test", NOON_MS + 2000)); /* nothing came since */
    tally_close_day(tally, DAY_MS + TALLY_DAY_MS);
    assert_null(tally_find(tally, "a.test")); /* and nobody is told of nothing */
    assert_int_equal(tally_closed(tally)->count, 1);
    tally_free(tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tally, counts_by_domain_policy_and_kind),
        RUN(tally, texts_are_printable),
        RUN(tally, too_many_kinds_of_failure_lose_their_details_only),
        RUN(tally, too_many_policies_of_a_domain_count_as_the_last_of_their_type),
        RUN(tally, is_bounded_and_says_what_it_does_not_count),
        RUN(tally, a_day_ends_and_another_begins),
        RUN(tally, what_is_closed_early_is_counted_on_from_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
