/* Which records count, and what a set keeps of them. */
#include "smtpd/net/tlsa.h"

#include "test.h"

#include <string.h>

static const char bytes[64] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";

static struct tlsa record(unsigned usage, unsigned selector, unsigned matching,
                          size_t length)
{
    return (struct tlsa){
        (uint8_t)usage, (uint8_t)selector, (uint8_t)matching, {bytes, length}};
}

TEST(tlsa, what_mail_can_use)
{
    static const struct {
        unsigned usage, selector, matching;
        size_t length;
        bool is_usable;
    } cases[] = {{3, 1, 1, 32, true},    {3, 0, 2, 64, true},    {2, 0, 0, 1, true},
                 {2, 1, 0, 5, true},     {0, 1, 1, 32, false},   {1, 1, 1, 32, false},
                 {4, 1, 1, 32, false},   {255, 1, 1, 32, false}, {3, 2, 1, 32, false},
                 {3, 255, 1, 32, false}, {3, 1, 3, 32, false},   {3, 1, 255, 32, false},
                 {3, 1, 1, 31, false},   {3, 1, 1, 64, false},   {3, 1, 2, 32, false},
                 {3, 1, 0, 0, false},    {3, 1, 1, 0, false}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tlsa tlsa =
            record(cases[i].usage, cases[i].selector, cases[i].matching, cases[i].length);

        assert_int_equal(tlsa_is_usable(&tlsa), cases[i].is_usable);
    }
}

TEST(tlsa, a_set_has_copies_of_what_is_usable)
{
    char data[33] = "0123456789abcdef0123456789abcdef";
    struct tlsa records[] = {
        record(1, 1, 1, 32), {3, 1, 1, {data, 32}}, record(2, 0, 0, 7)};
    struct tlsa_set *set = tlsa_set_new(records, 3);

    memset(data, 'x', 32);
    assert_int_equal(tlsa_set_count(set), 2);
    assert_int_equal(tlsa_set_at(set, 0)->usage, 3);
    assert_true(
        slice_equal_text(tlsa_set_at(set, 0)->data, "0123456789abcdef0123456789abcdef"));
    assert_int_equal(tlsa_set_at(set, 1)->usage, 2);
    assert_true(slice_equal_text(tlsa_set_at(set, 1)->data, "0123456"));
    tlsa_set_free(set);
}

TEST(tlsa, nothing_usable_is_no_set)
{
    struct tlsa records[] = {record(0, 0, 1, 32), record(3, 1, 1, 4)};

    assert_null(tlsa_set_new(records, 2));
    assert_null(tlsa_set_new(NULL, 0));
    tlsa_set_free(NULL);
}

/* RFC 7671 9: who breaks the weaker digest must not profit from its being there. */
TEST(tlsa, the_strongest_digest_counts)
{
    struct tlsa records[] = {record(3, 1, 1, 32), record(3, 1, 2, 64), record(3, 1, 0, 9),
                             record(3, 0, 1, 32), record(2, 1, 1, 32)};
    struct tlsa broken[] = {record(3, 1, 1, 32), record(3, 1, 2, 63)};
    struct tlsa_set *set = tlsa_set_new(records, 5);

    assert_int_equal(tlsa_set_count(set), 4);
    assert_int_equal(tlsa_set_at(set, 0)->matching, TLSA_SHA512);
    assert_int_equal(tlsa_set_at(set, 1)->matching, TLSA_FULL);
    assert_int_equal(tlsa_set_at(set, 2)->selector, TLSA_CERTIFICATE);
    assert_int_equal(tlsa_set_at(set, 3)->usage, TLSA_DANE_TA);
    tlsa_set_free(set);
    set = tlsa_set_new(broken, 2); /* what is not usable pushes nobody out */
    assert_int_equal(tlsa_set_count(set), 1);
    assert_int_equal(tlsa_set_at(set, 0)->matching, TLSA_SHA256);
    tlsa_set_free(set);
}

TEST(tlsa, names_are_kept_once_each)
{
    struct tlsa tlsa = record(3, 1, 1, 32);
    struct tlsa_set *set = tlsa_set_new(&tlsa, 1);

    assert_null(tlsa_set_name(set, 0));
    tlsa_set_add_name(set, "mx.test");
    tlsa_set_add_name(set, "mx.test");
    tlsa_set_add_name(set, "a.test");
    tlsa_set_add_name(set, "b.test");
    tlsa_set_add_name(set, "c.test"); /* no room: it is not looked for */
    assert_string_equal(tlsa_set_name(set, 0), "mx.test");
    assert_string_equal(tlsa_set_name(set, 1), "a.test");
    assert_string_equal(tlsa_set_name(set, 2), "b.test");
    assert_null(tlsa_set_name(set, 3));
    tlsa_set_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(tlsa, what_mail_can_use),        RUN(tlsa, a_set_has_copies_of_what_is_usable),
        RUN(tlsa, nothing_usable_is_no_set), RUN(tlsa, the_strongest_digest_counts),
        RUN(tlsa, names_are_kept_once_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
