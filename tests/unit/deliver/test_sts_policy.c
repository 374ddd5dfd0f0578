/* The two texts of RFC 8461, and which hosts they name. */
#include "sts_policy.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

static bool has_id(const char *const *texts, size_t count, const char *id)
{
    struct slice records[8];
    char found[STS_ID_TEXT];
    bool is_one;

    for (size_t i = 0; i < count; i++)
        records[i] = slice_of(texts[i]);
    is_one = sts_record_id(records, count, found);
    assert_true(is_one || found[0] == '\0');
    return is_one && strcmp(found, id) == 0;
}

static bool is_id(const char *text, const char *id)
{
    return has_id(&text, 1, id);
}

TEST(sts_policy, the_id_of_a_record)
{
    (void)state;
    assert_true(is_id("v=STSv1; id=20160831085700Z;", "20160831085700Z"));
    assert_true(is_id("v=STSv1;id=1", "1"));
    assert_true(is_id("v=STSv1; \tx-y.z_1=a:b ; id=1 ;", "1"));
    assert_true(is_id("v=STSv1; id=1; id=2;", "1"));
    assert_true(is_id("v=STSv1; id=abcdefghijklmnopqrstuvwxyz012345",
                      "abcdefghijklmnopqrstuvwxyz012345"));
}

TEST(sts_policy, a_record_that_is_malformed_is_none)
{
    static const char *const bad[] = {"",
                                      "v=STSv1",
                                      "v=STSv1;",
                                      "v=STSv1 ; id=1;",
                                      "v=stsv1; id=1;",
                                      " v=STSv1; id=1;",
                                      "v=STSv1; id=;",
                                      "v=STSv1; id=a-b;",
                                      "v=STSv1; id=abcdefghijklmnopqrstuvwxyz0123456;",
                                      "v=STSv1; id=1;;",
                                      "v=STSv1; id;",
                                      "v=STSv1; =1; id=1",
                                      "v=STSv1; x=a=b; id=1",
                                      "v=STSv1; x=a b; id=1",
                                      "v=STSv1; ID=1;",
                                      "v=STSv1; x=1;"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (is_id(bad[i], "1"))
            fail_msg("%s", bad[i]);
}

TEST(sts_policy, exactly_one_record_counts)
{
    static const char *const one[] = {"spf", "v=STSv2; id=9", "v=STSv1; id=1"};
    static const char *const two[] = {"v=STSv1; id=1", "v=STSv1; id=1"};
    static const char *const wrong[] = {"v=STSv1; id=1", "v=STSv1; nonsense"};

    (void)state;
    assert_true(has_id(one, 3, "1"));
    assert_false(has_id(two, 2, "1"));
    assert_false(has_id(wrong, 2, "1"));
    assert_false(has_id(NULL, 0, ""));
}

static struct sts_policy *parse(const char *text)
{
    char why[160] = "";
    struct sts_policy *policy = sts_policy_parse(slice_of(text), why);

    if (!policy)
        fail_msg("%s: %s", text, why);
    return policy;
}

#define REST "mx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"

TEST(sts_policy, a_policy_and_what_it_says)
{
    static const char *const texts[] = {
        "version: STSv1\r\nmode: enforce\r\n" REST,
        "version: STSv1\nmode: enforce\nmx: "
        "MAIL.example.com\nmx:*.Example.NET\nmax_age:604800",
        "mode:enforce \t\r\n\r\n" REST "version:STSv1\r\nnew_thing: x y \x80 z\r\n\n",
        "version: STSv1\nmode: enforce\nmode: none\nmax_age: 604800\nmax_age: x\nversion: "
        "9\n" REST,
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct sts_policy *policy = parse(texts[i]);

        assert_int_equal(sts_policy_mode(policy), STS_ENFORCE);
        assert_int_equal(sts_policy_max_age_ms(policy), 604800000);
        assert_int_equal(sts_policy_mx_count(policy), 2);
        assert_true(sts_policy_matches(policy, "mail.example.com"));
        assert_true(sts_policy_matches(policy, "mx1.example.net"));
        sts_policy_unref(policy);
    }
}

TEST(sts_policy, a_star_is_one_label)
{
    struct sts_policy *policy = parse("version: STSv1\nmode: testing\n" REST);

    (void)state;
    assert_int_equal(sts_policy_mode(policy), STS_TESTING);
    assert_false(sts_policy_matches(policy, "example.net"));
    assert_false(sts_policy_matches(policy, ".example.net"));
    assert_false(sts_policy_matches(policy, "a.b.example.net"));
    assert_false(sts_policy_matches(policy, "a.mail.example.com"));
    assert_false(sts_policy_matches(policy, "xmail.example.com"));
    assert_false(sts_policy_matches(policy, "a.notexample.net"));
    assert_false(sts_policy_matches(policy, ""));
    sts_policy_unref(policy);
}

TEST(sts_policy, the_longest_age_and_none)
{
    struct sts_policy *policy = parse("version: STSv1\nmode: none\nmax_age: 9999999999\n");

    (void)state;
    assert_int_equal(sts_policy_mode(policy), STS_NONE);
    assert_int_equal(sts_policy_max_age_ms(policy), INT64_C(31557600000));
    assert_false(sts_policy_matches(policy, "a.test"));
    sts_policy_unref(policy);
}

TEST(sts_policy, what_is_no_policy_says_why)
{
    static const struct {
        const char *text;
        const char *why;
    } bad[] = {
        {"", "no \"version\""},
        {"version: STSv1\n" REST, "no \"mode\""},
        {"version: STSv1\nmode: enforce\nmx: a.test\n", "no \"max_age\""},
        {"version: STSv1\nmode: enforce\nmax_age: 1\n", "no \"mx\""},
        {"version: STSv2\nmode: enforce\n" REST, "\"version\""},
        {"version: STSv1\nmode: Enforce\n" REST, "\"mode\""},
        {"version: STSv1\nmode: enforce\nmx: .example.com\nmax_age: 1\n", "\"mx\""},
        {"version: STSv1\nmode: enforce\nmx: a..b\nmax_age: 1\n", "\"mx\""},
        {"version: STSv1\nmode: enforce\nmx: a.b.\nmax_age: 1\n", "\"mx\""},
        {"version: STSv1\nmode: enforce\nmx: *.*.b\nmax_age: 1\n", "\"mx\""},
        {"version: STSv1\nmode: enforce\nmx: \nmax_age: 1\n", "\"mx\""},
        {"version: STSv1\nmode: enforce\nmx: a b\nmax_age: 1\n", "\"mx\""},
        {"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: -1\n", "\"max_age\""},
        {"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 12345678901\n",
         "\"max_age\""},
        {"<html>\n", "no field"},
        {": x\n", "no field"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char why[160] = "";

        assert_null(sts_policy_parse(slice_of(bad[i].text), why));
        if (!strstr(why, bad[i].why))
            fail_msg("%s: \"%s\" lacks \"%s\"", bad[i].text, why, bad[i].why);
    }
}

TEST(sts_policy, its_limits)
{
    static char text[STS_BODY_MAX + 2];
    size_t length = 0;
    char why[160] = "";
    struct sts_policy *policy;

    (void)state;
    for (int i = 0; i < STS_MX_MAX; i++)
        length +=
            (size_t)snprintf(text + length, sizeof text - length, "mx: mx%d.test\n", i);
    (void)snprintf(text + length, sizeof text - length,
                   "version: STSv1\nmode: enforce\nmax_age: 1\n");
    policy = parse(text);
    assert_int_equal(sts_policy_mx_count(policy), STS_MX_MAX);
    assert_true(sts_policy_matches(policy, "mx99.test"));
    sts_policy_unref(policy);
    strcat(text, "mx: a.test\n");
    assert_null(sts_policy_parse(slice_of(text), why));
    assert_non_null(strstr(why, "100"));
    memset(text, '\n', STS_BODY_MAX + 1);
    memcpy(text, "version: STSv1\nmode: none\nmax_age: 1\n", 37);
    policy = sts_policy_parse((struct slice){text, STS_BODY_MAX}, why);
    assert_non_null(policy);
    sts_policy_unref(policy);
    assert_null(sts_policy_parse((struct slice){text, STS_BODY_MAX + 1}, why));
    assert_non_null(strstr(why, "64 KiB"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(sts_policy, the_id_of_a_record),
        RUN(sts_policy, a_record_that_is_malformed_is_none),
        RUN(sts_policy, exactly_one_record_counts),
        RUN(sts_policy, a_policy_and_what_it_says),
        RUN(sts_policy, a_star_is_one_label),
        RUN(sts_policy, the_longest_age_and_none),
        RUN(sts_policy, what_is_no_policy_says_why),
        RUN(sts_policy, its_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
