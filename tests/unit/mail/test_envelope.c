/* Ids as text: 13 letters, one text for each id, and nothing else is an id. */
#include "smtpd/mail/envelope.h"

#include "test.h"

#include <string.h>

TEST(id, prints_as_thirteen_letters_and_reads_back)
{
    static const struct {
        uint64_t id;
        const char *text;
    } examples[] = {
        {0, "aaaaaaaaaaaaa"},          {1, "aaaaaaaaaaaab"},
        {25, "aaaaaaaaaaaaz"},         {26, "aaaaaaaaaaaa2"},
        {31, "aaaaaaaaaaaa7"},         {32, "aaaaaaaaaaaba"},
        {UINT64_MAX, "p777777777777"}, {UINT64_C(1) << 63, "iaaaaaaaaaaaa"},
    };

    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        char text[ID_TEXT];
        uint64_t again = ~examples[i].id;

        id_print(examples[i].id, text);
        assert_string_equal(text, examples[i].text);
        assert_true(id_parse(text, strlen(text), &again));
        assert_true(again == examples[i].id);
    }
}

TEST(id, survives_print_and_parse_with_any_bit_set)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t id = UINT64_C(1) << bit | UINT64_C(0x5a5a);
        uint64_t again = 0;
        char text[ID_TEXT];

        id_print(id, text);
        assert_int_equal(strlen(text), ID_TEXT - 1);
        assert_true(id_parse(text, ID_TEXT - 1, &again));
        assert_true(again == id);
    }
}

TEST(id, is_read_in_either_case_and_up_to_its_length)
{
    uint64_t id = 0;

    assert_true(id_parse("AAAAAAAAAAAAB", 13, &id));
    assert_true(id == 1);
    assert_true(id_parse("aaaaaaaaaaaac and more", 13, &id));
    assert_true(id == 2);
}

TEST(id, is_refused_when_it_is_none_and_then_not_set)
{
    static const char *const bad[] = {
        "",
        "aaaaaaaaaaaa",   /* 12 */
        "aaaaaaaaaaaaaa", /* 14 */
        "aaaaaaaaaaaa0",
        "aaaaaaaaaaaa1",
        "aaaaaaaaaaaa8",
        "aaaaaaaaaaaa=",
        " aaaaaaaaaaaa",
        "-aaaaaaaaaaaa",
        "aaaaaa.aaaaaa",
        "aaaaaaaaaaa\303\251",
        "qaaaaaaaaaaaa", /* 2 to the 64th */
        "7777777777777",
    };
    uint64_t id = 42;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (id_parse(bad[i], strlen(bad[i]), &id))
            fail_msg("taken: %s", bad[i]);
    assert_false(id_parse("aaaaaa\0aaaaaa", 13, &id));
    assert_true(id == 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(id, prints_as_thirteen_letters_and_reads_back),
        RUN(id, survives_print_and_parse_with_any_bit_set),
        RUN(id, is_read_in_either_case_and_up_to_its_length),
        RUN(id, is_refused_when_it_is_none_and_then_not_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
