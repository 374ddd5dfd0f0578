#include "smtpd/base/sealed.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

#define HEADING "smtpd-things 1"

struct seen {
    unsigned judged;
    unsigned used;
    char words[200];
};

static bool on_line(void *owner, struct slice line, bool is_sound)
{
    struct seen *seen = owner;
    char word[64];
    uint64_t number;

    if (!sealed_take_word(&line, word, sizeof word) ||
        !sealed_take_number(&line, 1000, &number) || line.length > 0)
        return false;
    if (!is_sound) {
        seen->judged++;
        return true;
    }
    seen->used++;
    (void)snprintf(seen->words + strlen(seen->words),
                   sizeof seen->words - strlen(seen->words), "[%s=%u]", word,
                   (unsigned)number);
    return true;
}

static void add(struct bytes *text, struct sealed *sealed, const char *word,
                unsigned number)
{
    size_t before = text->length;

    assert_int_equal(sealed_add_word(text, word), RESULT_OK);
    assert_int_equal(bytes_format(text, "%u\n", number), RESULT_OK);
    sealed_note(sealed, slice_from(bytes_view(text), before));
}

static void print(struct bytes *text)
{
    struct sealed sealed;

    bytes_init(text, 4096);
    assert_int_equal(sealed_begin(&sealed, HEADING, text), RESULT_OK);
    add(text, &sealed, "mx1>mx2", 17);
    add(text, &sealed, "", 0);
    add(text, &sealed, "-", 1);
    add(text, &sealed, "50% of\n\xc3\xa4", 1000);
    assert_int_equal(sealed_end(&sealed, text), RESULT_OK);
}

TEST(sealed, what_was_written_is_read)
{
    struct seen seen = {0};
    struct bytes text;
    struct fault fault;

    print(&text);
    assert_int_equal(sealed_parse(bytes_view(&text), HEADING, on_line, &seen, &fault),
                     RESULT_OK);
    assert_int_equal(seen.judged, 4);
    assert_int_equal(seen.used, 4);
    assert_string_equal(seen.words, "[mx1>mx2=17][=0][-=1][50% of\n\xc3\xa4=1000]");
    bytes_fini(&text);
}

TEST(sealed, nothing_is_used_of_what_is_torn_or_changed)
{
    struct seen seen = {0};
    struct bytes text;
    struct fault fault;

    print(&text);
    for (size_t i = 0; i < text.length; i++) {
        text.data[i] ^= 1;
        assert_int_equal(sealed_parse(bytes_view(&text), HEADING, on_line, &seen, &fault),
                         RESULT_CORRUPT);
        text.data[i] ^= 1;
        assert_int_equal(sealed_parse(slice_part(bytes_view(&text), 0, i), HEADING, on_line,
                                      &seen, &fault),
                         RESULT_CORRUPT);
    }
    assert_int_equal(bytes_add_text(&text, "x"), RESULT_OK);
    assert_int_equal(sealed_parse(bytes_view(&text), HEADING, on_line, &seen, &fault),
                     RESULT_CORRUPT);
    assert_int_equal(seen.used, 0);
    bytes_fini(&text);
}

TEST(sealed, says_what_is_wrong)
{
    struct seen seen = {0};
    struct fault fault;

    assert_int_equal(sealed_parse(SLICE("other 1\n"), HEADING, on_line, &seen, &fault),
                     RESULT_CORRUPT);
    assert_string_equal(fault.text, "it does not begin with " HEADING);
    assert_int_equal(
        sealed_parse(SLICE(HEADING "\nx 1\n"), HEADING, on_line, &seen, &fault),
        RESULT_CORRUPT);
    assert_string_equal(fault.text, "it has no end");
    assert_int_equal(
        sealed_parse(SLICE(HEADING "\nx 1\ny z\n"), HEADING, on_line, &seen, &fault),
        RESULT_CORRUPT);
    assert_string_equal(fault.text, "line 3 is not as we write it");
    assert_int_equal(sealed_parse(SLICE(HEADING "\nx 1\nend 1 0123456789abcdef\n"), HEADING,
                                  on_line, &seen, &fault),
                     RESULT_CORRUPT);
    assert_string_equal(fault.text, "the sum at its end is wrong");
}

TEST(sealed, words_are_bounded_and_whole)
{
    static const char *const bad[] = {"%4", "%zz", "%00", "a\nb", "%2", "\x7f", "12345678"};
    char into[8];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct slice rest = slice_of(bad[i]);

        assert_false(sealed_take_word(&rest, into, sizeof into));
    }
    for (size_t i = 0; i < 2; i++) {
        struct slice rest = slice_of(i ? "1234567 " : "%41%42 ");

        assert_true(sealed_take_word(&rest, into, sizeof into));
        assert_string_equal(into, i ? "1234567" : "AB");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(sealed, what_was_written_is_read),
        RUN(sealed, nothing_is_used_of_what_is_torn_or_changed),
        RUN(sealed, says_what_is_wrong),
        RUN(sealed, words_are_bounded_and_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
