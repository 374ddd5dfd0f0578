/* From fields as people and programs write them, and the domain that they mean. */
#include "smtpd/mail/author.h"

#include "smtpd/mail/header.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static const char *domain_of(const char *section)
{
    static char domain[DOMAIN_TEXT];

    return author_domain(slice_of(section), domain) ? domain : NULL;
}

TEST(author, the_domain_is_found_in_every_form)
{
    static const char *const values[] = {
        "a@Example.TEST",
        "<a@example.test>",
        "Joe <a@example.test>",
        "\"x@y.test, (z)\" <a@example.test>",
        "Joe (b@y.test) <a@example.test> (c@z.test)",
        "(deep (er \\) x@y.test) ) a@example.test",
        "a@example.test, b@y.test",
        "A <a@example.test>, B <b@y.test>",
        "Friends: a@example.test, b@y.test;",
        "<@r.test,@s.test:a@example.test>",
        "\"quo\\\"ted@y.test\"@example.test",
        "a..b@example.test",
        "first\r\n\t<a\r\n @example.test>",
        ", a@example.test",
        "a (c) @ (d) example . test",
    };

    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char section[256];

        (void)snprintf(section, sizeof section, "To: x@to.test\r\nFROM: %s\r\nX: y\r\n",
                       values[i]);
        if (!domain_of(section))
            fail_msg("no domain in %s", values[i]);
        assert_string_equal(domain_of(section), "example.test");
    }
}

TEST(author, an_international_domain_comes_normal)
{
    assert_string_equal(domain_of("From: a@B\xc3\xbc"
                                  "cher.test\r\n"),
                        "xn--bcher-kva.test");
}

TEST(author, the_first_field_counts)
{
    assert_string_equal(domain_of("From: a@one.test\r\nFrom: b@two.test\r\n"), "one.test");
}

TEST(author, what_has_no_domain_has_none)
{
    assert_null(domain_of("To: a@b.test\r\n"));
    assert_null(domain_of("From:\r\n"));
    assert_null(domain_of("From: nobody\r\n"));
    assert_null(domain_of("From: a@\r\n"));
    assert_null(domain_of("From: <>\r\n"));
    assert_null(domain_of("From: a@b_c!.test\r\n"));
    assert_null(domain_of("From: (a@b.test\r\n"));
    assert_null(domain_of("From: \"a@b.test\r\n"));
    assert_null(domain_of("From: undisclosed:;\r\n"));
    assert_null(domain_of(""));
}

TEST(author, a_mailbox_of_any_length_ends)
{
    static char section[100000];

    memset(section, 'a', sizeof section - 1);
    memcpy(section, "From: ", 6);
    assert_null(domain_of(section));
    memcpy(section + 50000, " <b@c.test>\r\n", sizeof " <b@c.test>\r\n");
    assert_string_equal(domain_of(section), "c.test"); /* only its name is long */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(author, the_domain_is_found_in_every_form),
        RUN(author, an_international_domain_comes_normal),
        RUN(author, the_first_field_counts),
        RUN(author, what_has_no_domain_has_none),
        RUN(author, a_mailbox_of_any_length_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
