#include "smtpd/mail/mailboxes.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

/* "a@b c@d ", or "wrong" at the end. */
static void check(const char *value, const char *wanted)
{
    struct mailboxes walk;
    struct address address;
    char found[1000] = "";
    size_t length = 0;

    mailboxes_init(&walk, slice_of(value));
    while (mailboxes_next(&walk, &address))
        length +=
            (size_t)snprintf(found + length, sizeof found - length, "%s ", address.text);
    if (walk.is_wrong)
        (void)snprintf(found + length, sizeof found - length, "wrong");
    if (strcmp(found, wanted) != 0)
        fail_msg("%s: \"%s\" and not \"%s\"", value, found, wanted);
}

TEST(mailboxes, finds_every_address)
{
    check(" a@b.test\r\n", "a@b.test ");
    check(" Ann <a@b.test>\r\n", "a@b.test ");
    check("\"Ann, B.\" <a@b.test>, c@d.test", "a@b.test c@d.test ");
    check(" \"evil@bank.test\" <a@b.test>", "a@b.test ");
    check(" \"a \\\" b\" <a@b.test> (a, comment (in it) \\) too)", "a@b.test ");
    check(" =?utf-8?q?Ann?=\r\n <a@b.test>,\r\n\tc@d.test\r\n", "a@b.test c@d.test ");
    check(" a@b.test,, ,c@d.test,", "a@b.test c@d.test ");
    check(" (hidden) a@b.test (Ann)", "a@b.test ");
    check(" \"quoted local\"@b.test", "\"quoted local\"@b.test ");
    check(" <@one.test,@two.test:a@b.test>", "a@b.test ");
    check(" a@[192.0.2.1]", "a@[192.0.2.1] ");
    check(" a@[IPv6:2001:db8::1], c@d.test", "a@[IPv6:2001:db8::1] c@d.test ");
    check(" M. Ann Smith <a@b.test>", "a@b.test ");
}

TEST(mailboxes, looks_into_groups)
{
    check(" friends: a@b.test, Bob <c@d.test>;", "a@b.test c@d.test ");
    check(" undisclosed recipients:;", "");
    check(" x: a@b.test;, c@d.test", "a@b.test c@d.test ");
    check("", "");
    check(" (nothing)", "");
}

TEST(mailboxes, refuses_what_could_be_read_in_two_ways)
{
    static const char *const bad[] = {
        " a@b.test <c@d.test>",
        " <a@b.test> <c@d.test>",
        " <a@b.test> c@d.test",
        " a@b.test c@d.test",
        " a @ b.test",
        " Ann",
        " <>",
        " <postmaster>",
        " <a@b.test",
        " \"Ann <a@b.test>",
        " (Ann a@b.test",
        " a@b.test)",
        " x: a@b.test",
        " a@b.test;",
        " x: y: a@b.test;",
        " a@b.test: c@d.test;",
        " : a@b.test;",
        " <a b@c.test>",
        " a@[192.0.2.1",
        " a@b.test\\",
        " (\\",
        " a@b.test,<c@d.test",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mailboxes walk;
        struct address address;

        mailboxes_init(&walk, slice_of(bad[i]));
        while (mailboxes_next(&walk, &address))
            continue;
        if (!walk.is_wrong)
            fail_msg("\"%s\" was taken", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(mailboxes, finds_every_address),
        RUN(mailboxes, looks_into_groups),
        RUN(mailboxes, refuses_what_could_be_read_in_two_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
