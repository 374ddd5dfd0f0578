/* What the bytes of a message say, however they are cut; and what an envelope may not deny. */
#include "facts.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

static struct facts facts_of(const char *header, const char *body, size_t piece)
{
    char text[512];
    struct slice rest = {text, strlen(header) + strlen(body)};
    struct facts facts;

    (void)snprintf(text, sizeof text, "%s%s", header, body);
    facts_init(&facts, strlen(header));
    while (rest.length > 0) {
        struct slice part = slice_part(rest, 0, piece);

        facts_add(&facts, part);
        rest = slice_from(rest, part.length);
    }
    return facts;
}

static const char header[] = "Subject: x\r\n\r\n";

TEST(facts, how_a_message_is_cut_makes_no_difference)
{
    static const char body[] = "one\r\n.two\r\n\r\nf\xc3\xbcr all\r\nx\r\n";
    struct facts whole = facts_of(header, body, 512);

    assert_true(whole.has_8bit && whole.has_dot_line && !whole.has_bare_lf);
    assert_int_equal(whole.longest_line, strlen("f\xc3\xbcr all\r\n"));
    assert_int_equal(whole.line_bytes, 0);
    for (size_t piece = 1; piece < 40; piece++) {
        struct facts cut = facts_of(header, body, piece);

        assert_memory_equal(&cut, &whole, sizeof cut);
    }
}

/* The rules in order, with a space behind each. */
static void quarrels(const struct facts *facts, const struct envelope *envelope,
                     const char *wanted)
{
    struct facts_quarrel found[FACTS_QUARRELS];
    size_t count = facts_compare(facts, envelope, found);
    char rules[256] = "";

    for (size_t i = 0; i < count; i++)
        (void)snprintf(rules + strlen(rules), sizeof rules - strlen(rules), "%s ",
                       found[i].rule);
    assert_string_equal(rules, wanted);
}

TEST(facts, an_envelope_may_say_more_than_the_bytes_do_and_never_less)
{
    struct envelope all = {.has_8bit = true, .has_dot_line = true, .longest_line = 1000};
    struct envelope none = {.longest_line = 2};
    struct facts plain = facts_of(header, "\r\n", 9);
    struct facts rich = facts_of(header, ".\xff\r\n", 9);

    quarrels(&plain, &all, "");
    quarrels(&plain, &none, "");
    quarrels(&rich, &all, "");
    quarrels(&rich, &none, "flag-8bit flag-dot-line longest-line ");
}

TEST(facts, the_header_section_ends_with_an_empty_line)
{
    struct envelope any = {.longest_line = 1000};
    struct facts none = facts_of("\r\n", "text\r\n", 1);
    struct facts missing = facts_of("Subject: x\r\n", "text\r\n", 1);
    struct facts only = facts_of(header, "", 3);

    quarrels(&none, &any, "");
    quarrels(&only, &any, "");
    quarrels(&missing, &any, "header-end ");
}

TEST(facts, every_line_ends_in_crlf_and_a_bare_cr_ends_none)
{
    struct envelope any = {.longest_line = 1000};
    struct facts bare = facts_of(header, "a\nb\r\n", 1);
    struct facts alone = facts_of(header, "\n", 1);
    struct facts open = facts_of(header, "a\r\nb", 2);
    struct facts carriage = facts_of(header, "a\rb\r\n", 2);

    quarrels(&bare, &any, "line-end ");
    quarrels(&alone, &any, "line-end ");
    quarrels(&open, &any, "line-end ");
    quarrels(&carriage, &any, "");
}

TEST(facts, dots_and_long_lines_of_the_header_section_count_as_they_go_out)
{
    struct envelope none = {.longest_line = 3};
    struct facts facts = facts_of(".: xxxxxxxxxxxx\r\n\r\n", "a\r\n", 5);

    quarrels(&facts, &none, "flag-dot-line ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(facts, how_a_message_is_cut_makes_no_difference),
        RUN(facts, an_envelope_may_say_more_than_the_bytes_do_and_never_less),
        RUN(facts, the_header_section_ends_with_an_empty_line),
        RUN(facts, every_line_ends_in_crlf_and_a_bare_cr_ends_none),
        RUN(facts, dots_and_long_lines_of_the_header_section_count_as_they_go_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
