/* What a message needs, against what a next hop offers. */
#include "lack.h"

#include "test.h"

static struct recipient recipients[] = {{.address = "x@a.test"}};
static struct lease lease_of(const char *sender, bool smtputf8, bool has_8bit)
{
    struct lease lease = {.envelope = {.sender = sender,
                                       .smtputf8 = smtputf8,
                                       .has_8bit = has_8bit,
                                       .header_bytes = 60,
                                       .body_bytes = 40}};

    lease.group.recipients = recipients;
    lease.group.recipient_count = 1;
    return lease;
}

TEST(lack, plain_mail_lacks_nothing)
{
    struct capabilities none = {0};
    struct lease lease = lease_of("s@s.test", false, false);

    assert_int_equal(lack_of(&lease, &none, false), LACK_NOTHING);
}

TEST(lack, eight_bits_need_8bitmime)
{
    struct capabilities theirs = {0};
    struct lease lease = lease_of("s@s.test", false, true);

    assert_int_equal(lack_of(&lease, &theirs, false), LACK_8BITMIME);
    theirs.eightbitmime = true;
    assert_int_equal(lack_of(&lease, &theirs, false), LACK_NOTHING);
}

TEST(lack, utf8_needs_smtputf8_where_there_is_any)
{
    struct capabilities theirs = {.eightbitmime = true};
    struct lease plain = lease_of("s@s.test", true, false);
    struct lease real = lease_of("\xc3\xbc@s.test", true, false);

    assert_int_equal(lack_of(&plain, &theirs, false), LACK_NOTHING);
    assert_int_equal(lack_of(&real, &theirs, false), LACK_SMTPUTF8);
    theirs.smtputf8 = true;
    assert_int_equal(lack_of(&real, &theirs, false), LACK_NOTHING);
}

TEST(lack, a_size_is_a_limit_when_it_says_one)
{
    struct capabilities theirs = {.size = true};
    struct lease lease = lease_of("s@s.test", false, false);

    assert_int_equal(lack_of(&lease, &theirs, false), LACK_NOTHING);
    theirs.size_limit = 100;
    assert_int_equal(lack_of(&lease, &theirs, false), LACK_NOTHING);
    theirs.size_limit = 99;
    assert_int_equal(lack_of(&lease, &theirs, false), LACK_SIZE);
}

TEST(lack, its_words_name_the_host)
{
    struct arena arena;
    const struct said *said;

    arena_init(&arena, 4096);
    said = lack_said(LACK_SIZE, &arena, "mx1.test");
    assert_int_equal(said->code, 552);
    assert_string_equal(said->status, "5.3.4");
    assert_string_equal(said->host, "mx1.test");
    arena_clear(&arena);
}

TEST(lack, mail_that_requires_tls_needs_the_offer_and_trust)
{
    struct lease lease = lease_of("s@s.test", false, false);
    struct capabilities theirs = {0};

    lease.envelope.tls_wish = TLS_WISH_REQUIRED;
    assert_int_equal(lack_of(&lease, &theirs, true), LACK_REQUIRETLS);
    theirs.requiretls = true;
    assert_int_equal(lack_of(&lease, &theirs, false), LACK_REQUIRETLS);
    assert_int_equal(lack_of(&lease, &theirs, true), LACK_NOTHING);
    lease.envelope.tls_wish = TLS_WISH_WAIVED;
    theirs.requiretls = false;
    assert_int_equal(lack_of(&lease, &theirs, false), LACK_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lack_plain_mail_lacks_nothing),
        cmocka_unit_test(lack_eight_bits_need_8bitmime),
        cmocka_unit_test(lack_utf8_needs_smtputf8_where_there_is_any),
        cmocka_unit_test(lack_a_size_is_a_limit_when_it_says_one),
        cmocka_unit_test(lack_mail_that_requires_tls_needs_the_offer_and_trust),
        cmocka_unit_test(lack_its_words_name_the_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
