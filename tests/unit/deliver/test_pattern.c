/* Patterns: what fits, in which case, and that a set finds what each one alone would. */
#include "pattern.h"
#include "smtpd/base/memory.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

static bool fits(const char *pattern, enum pattern_kind kind, const char *text)
{
    struct pattern one = {pattern, kind};
    struct pattern_set *set = pattern_set_new(&one, 1);
    bool hit;

    assert_non_null(set);
    pattern_set_match(set, slice_of(text), &hit);
    pattern_set_free(set);
    return hit;
}

TEST(pattern, a_text_lies_anywhere_in_either_case)
{
    assert_true(fits("User Unknown", PATTERN_WITHIN, "550 5.1.1 <a@b>: user unknown here"));
    assert_true(fits("user unknown", PATTERN_WITHIN, "USER UNKNOWN"));
    assert_true(fits("user unknown", PATTERN_WITHIN, "user \t  unknown"));
    assert_false(fits("user unknown", PATTERN_WITHIN, "user is unknown"));
    assert_false(fits("user", PATTERN_WITHIN, "use"));
    assert_false(fits("user", PATTERN_WITHIN, ""));
}

TEST(pattern, a_star_is_anything_between_in_that_order)
{
    assert_true(
        fits("user * unknown", PATTERN_WITHIN, "the user a@b.test is unknown: user"));
    assert_true(fits("ab*cd", PATTERN_WITHIN, "abcd"));
    assert_false(fits("unknown*user", PATTERN_WITHIN, "user unknown"));
    /* Pieces lie behind each other: no byte counts twice. */
    assert_false(fits("aba*aba", PATTERN_WITHIN, "ababa"));
    assert_true(fits("aba*aba", PATTERN_WITHIN, "abaaba"));
    assert_false(fits("a*a", PATTERN_WITHIN, "a"));
    assert_true(fits("a*a", PATTERN_WITHIN, "aa"));
    assert_true(fits("*a*", PATTERN_WITHIN, "bab"));
}

TEST(pattern, a_whole_one_holds_both_ends)
{
    assert_true(fits("421*", PATTERN_WHOLE, "421 4.7.0 busy"));
    assert_false(fits("421*", PATTERN_WHOLE, "450 421"));
    assert_true(fits("*busy", PATTERN_WHOLE, "421 busy, very busy"));
    assert_false(fits("*busy", PATTERN_WHOLE, "421 busy, later"));
    assert_true(fits("421 busy", PATTERN_WHOLE, "421 BUSY"));
    assert_false(fits("421 busy", PATTERN_WHOLE, "421 busy."));
    assert_false(fits("421 busy", PATTERN_WHOLE, "x421 busy"));
    assert_true(fits("4*4", PATTERN_WHOLE, "4 44"));
    assert_false(fits("4*4", PATTERN_WHOLE, "4"));
}

TEST(pattern, what_cannot_be_used_says_why)
{
    char longest[PATTERN_BYTES_MAX + 2];
    struct pattern empty = {"", PATTERN_WITHIN};

    memset(longest, 'a', sizeof longest);
    assert_null(pattern_complaint((struct slice){longest, PATTERN_BYTES_MAX}));
    assert_non_null(pattern_complaint((struct slice){longest, PATTERN_BYTES_MAX + 1}));
    assert_null(pattern_complaint(slice_of("a*b*c*d*e*f*g*h")));
    assert_non_null(pattern_complaint(slice_of("a*b*c*d*e*f*g*h*i")));
    assert_non_null(pattern_complaint(slice_of("**")));
    assert_non_null(pattern_complaint(slice_of("a\nb")));
    assert_null(pattern_set_new(&empty, 1));
    assert_null(pattern_set_new(NULL, PATTERNS_MAX + 1));
}

/* Small alphabets make pieces that are ends of each other, which is where the links matter. */
TEST(pattern, a_set_finds_what_each_finds_alone)
{
    enum { PATTERNS = 200, TEXTS = 300 };
    static char texts[PATTERNS][12];
    static struct pattern patterns[PATTERNS];
    static bool hits[PATTERNS];
    uint32_t random = 1;
    struct pattern_set *set;
    char text[40];

    for (size_t i = 0; i < PATTERNS; i++) {
        size_t length = 1 + (random >> 16) % 9;

        for (size_t k = 0; k < length; k++) {
            random = random * 1103515245 + 12345;
            texts[i][k] = "aabbcx*"[(random >> 16) % 7];
        }
        if (pattern_complaint(slice_of(texts[i])))
            (void)strcpy(texts[i], "ab");
        patterns[i] = (struct pattern){texts[i], i % 3 ? PATTERN_WITHIN : PATTERN_WHOLE};
    }
    set = pattern_set_new(patterns, PATTERNS);
    for (int n = 0; n < TEXTS; n++) {
        size_t length = (random >> 16) % (sizeof text - 1);

        memset(text, 0, sizeof text);
        for (size_t k = 0; k < length; k++) {
            random = random * 1103515245 + 12345;
            text[k] = "abcxA"[(random >> 16) % 5];
        }
        pattern_set_match(set, slice_of(text), hits);
        for (size_t i = 0; i < PATTERNS; i++)
            if (hits[i] != fits(texts[i], patterns[i].kind, text))
                fail_msg("%s in %s", texts[i], text);
    }
    pattern_set_free(set);
}

TEST(pattern, a_text_that_is_too_long_is_looked_at_as_far_as_it_goes)
{
    char *text = memory_new(PATTERN_TEXT_MAX + 16);

    memset(text, 'a', PATTERN_TEXT_MAX + 8);
    memcpy(text + PATTERN_TEXT_MAX - 1, "bc", 2);
    assert_true(fits("b", PATTERN_WITHIN, text));
    assert_false(fits("bc", PATTERN_WITHIN, text));
    memory_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(pattern, a_text_lies_anywhere_in_either_case),
        RUN(pattern, a_star_is_anything_between_in_that_order),
        RUN(pattern, a_whole_one_holds_both_ends),
        RUN(pattern, what_cannot_be_used_says_why),
        RUN(pattern, a_set_finds_what_each_finds_alone),
        RUN(pattern, a_text_that_is_too_long_is_looked_at_as_far_as_it_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
