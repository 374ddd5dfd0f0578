/* Rules: each part narrows, the first that fits holds. What the shipped ones make of replies is in
 * unit/config/test_classes.c. */
#include "inner.h"

#include "test.h"

#include <string.h>

static const struct class_rule rules[] = {
    {CLASS_RATE, "421", NULL, "slow down", NULL, "f", 1},
    {CLASS_REPUTATION, "55x", "5.7.*", "blocked * list", NULL, "f", 2},
    {CLASS_POLICY, NULL, "*.7.1", NULL, "*.example.com", "f", 3},
    {CLASS_BAD_MAILBOX, "5xx", "5.1.1", NULL, NULL, "f", 4},
    {CLASS_CONTENT, NULL, NULL, "Spam", NULL, "f", 5},
};

static unsigned line_of(unsigned code, const char *status, const char *text,
                        const char *host)
{
    struct classifier *classifier = classifier_new(rules, sizeof rules / sizeof *rules);
    struct class_reply reply = {code, status, text, host};
    struct class_match match;
    unsigned line;

    assert_non_null(classifier);
    match = classifier_match(classifier, &reply);
    line = match.rule ? match.rule->line : 0;
    assert_int_equal(match.class, line ? rules[line - 1].class : CLASS_OTHER);
    classifier_unref(classifier);
    return line;
}

TEST(classify, every_part_of_a_rule_must_fit)
{
    assert_int_equal(line_of(421, "4.7.0", "please slow down", NULL), 1);
    assert_int_equal(line_of(450, "4.7.0", "please slow down", NULL), 0);
    assert_int_equal(line_of(550, "5.7.1", "blocked by our list", NULL), 2);
    assert_int_equal(line_of(559, "5.7.999", "Blocked by our LIST", NULL), 2);
    assert_int_equal(line_of(560, "5.7.1", "blocked by our list", NULL), 0);
    assert_int_equal(line_of(550, "5.1.7", "blocked by our list", NULL), 0);
    assert_int_equal(line_of(450, "4.7.1", "", "mx.example.com"), 3);
    assert_int_equal(line_of(450, "4.7.1", "", "mx.example.net"), 0);
    assert_int_equal(line_of(450, "4.7.1", "", NULL), 0);
    assert_int_equal(line_of(550, "5.1.1", "", NULL), 4);
    assert_int_equal(line_of(550, "5.1.10", "", NULL), 0);
    assert_int_equal(line_of(550, "5.1", "", NULL), 0);
    assert_int_equal(line_of(450, "4.1.1", "", NULL), 0);
    assert_int_equal(line_of(0, NULL, "no SPAM", NULL), 5);
}

TEST(classify, the_first_that_fits_holds)
{
    assert_int_equal(line_of(550, "5.7.1", "blocked as spam by a list", "mx.example.com"),
                     2);
    assert_int_equal(line_of(550, "5.7.1", "spam", "mx.example.com"), 3);
    assert_int_equal(line_of(550, "5.1.1", "spam", NULL), 4);
    assert_int_equal(line_of(550, "5.0.0", "spam", NULL), 5);
}

TEST(classify, without_rules_all_is_other)
{
    struct classifier *none = classifier_new(NULL, 0);
    struct class_reply reply = {550, "5.1.1", "user unknown", NULL};

    assert_int_equal(classifier_match(NULL, &reply).class, CLASS_OTHER);
    assert_int_equal(classifier_match(none, &reply).class, CLASS_OTHER);
    classifier_unref(none);
    classifier_unref(NULL);
}

TEST(classify, codes_and_statuses_are_looked_at_when_they_are_read)
{
    static const char *const codes[] = {"550", "45x", "5xx", "4XX"};
    static const char *const no_codes[] = {"",    "55",  "5500", "xxx",
                                           "250", "35x", "5x0",  "abc"};
    static const char *const statuses[] = {"5.1.1", "4.7.*", "*.7.1", "*.*.*", "5.7.509"};
    static const char *const no_statuses[] = {
        "",     "5",      "5.1",    "5.1.", "2.1.1",  "5.1.x",   "5.1.1.",
        "5..1", "5.7.1*", "5.*1.1", ".1.1", "55.1.1", "5.7.1234"};
    struct class_rule bad = {CLASS_OTHER, "250", NULL, NULL, NULL, "f", 1};

    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        assert_null(class_code_complaint(slice_of(codes[i])));
    for (size_t i = 0; i < sizeof no_codes / sizeof *no_codes; i++)
        if (!class_code_complaint(slice_of(no_codes[i])))
            fail_msg("%s", no_codes[i]);
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        assert_null(class_status_complaint(slice_of(statuses[i])));
    for (size_t i = 0; i < sizeof no_statuses / sizeof *no_statuses; i++)
        if (!class_status_complaint(slice_of(no_statuses[i])))
            fail_msg("%s", no_statuses[i]);
    assert_null(classifier_new(&bad, 1));
}

TEST(classify, a_whole_reply_is_looked_at_with_its_codes)
{
    static const struct class_rule by_text = {CLASS_RATE, NULL, NULL, "421 4.7.0 slow",
                                              NULL,       "f",  1};
    struct classifier *classifier = classifier_new(&by_text, 1);
    struct reply reply = {.code = 421, .enhanced = {4, 7, 0}, .text = "slow down"};

    assert_int_equal(classifier_match_reply(classifier, &reply, "mx.test").class,
                     CLASS_RATE);
    classifier_unref(classifier);
}

TEST(classify, names_are_read_as_they_are_written)
{
    enum deliver_class class;
    struct slice rest = SLICE(CLASS_CHOICES);
    int expected = CLASS_BAD_MAILBOX;

    for (size_t end; rest.length > 0;
         rest = end < rest.length ? slice_from(rest, end + 1) : SLICE_NONE) {
        end = slice_find(rest, '|');
        assert_true(deliver_class_parse(slice_part(rest, 0, end), &class));
        assert_int_equal(class, expected++);
    }
    assert_int_equal(expected, CLASS_COUNT);
    assert_false(deliver_class_parse(SLICE("delivered"), &class));
    assert_string_equal(deliver_class_name(CLASS_EXPIRED), "expired");
}

TEST(classify, failures_of_our_own_have_the_class_of_their_kind)
{
    assert_int_equal(deliver_class_of_result(RESULT_TIMEOUT), CLASS_CONNECTION);
    assert_int_equal(deliver_class_of_result(RESULT_REFUSED), CLASS_CONNECTION);
    assert_int_equal(deliver_class_of_result(RESULT_UNTRUSTED), CLASS_TLS);
    assert_int_equal(deliver_class_of_result(RESULT_DNS_FAILURE), CLASS_DNS);
    assert_int_equal(deliver_class_of_result(RESULT_INVALID), CLASS_PROTOCOL);
    assert_int_equal(deliver_class_of_result(RESULT_DENIED), CLASS_RELAYING);
    assert_int_equal(deliver_class_of_result(RESULT_BUSY), CLASS_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(classify, every_part_of_a_rule_must_fit),
        RUN(classify, the_first_that_fits_holds),
        RUN(classify, without_rules_all_is_other),
        RUN(classify, codes_and_statuses_are_looked_at_when_they_are_read),
        RUN(classify, a_whole_reply_is_looked_at_with_its_codes),
        RUN(classify, names_are_read_as_they_are_written),
        RUN(classify, failures_of_our_own_have_the_class_of_their_kind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
