/* What sources have sent, on disk: read as it was written, or not at all. */
#include "warm_up_file.h"

#include "test.h"

#include <string.h>

struct seen {
    struct warm_up_line lines[4];
    size_t count;
};

static void on_line(void *owner, const struct warm_up_line *line)
{
    struct seen *seen = owner;

    seen->lines[seen->count++] = *line;
}

static void write_two(struct bytes *text)
{
    static const struct warm_up_line lines[] = {{"mail-a", 20786, 3, 450, 0},
                                                {"end", 20000, 0, UINT32_MAX, 20790}};
    struct sealed sealed;

    bytes_init(text, WARM_UP_FILE_MAX);
    assert_int_equal(warm_up_file_begin(text, &sealed), RESULT_OK);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(warm_up_file_add(text, &sealed, &lines[i]), RESULT_OK);
    assert_int_equal(warm_up_file_end(text, &sealed), RESULT_OK);
}

TEST(warm_up_file, is_read_as_it_was_written)
{
    struct seen seen = {.count = 0};
    struct fault fault;
    struct bytes text;

    write_two(&text);
    assert_int_equal(warm_up_file_parse(bytes_view(&text), on_line, &seen, &fault),
                     RESULT_OK);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.lines[0].name, "mail-a");
    assert_int_equal(seen.lines[0].day, 20786);
    assert_int_equal(seen.lines[0].step, 3);
    assert_int_equal(seen.lines[0].used, 450);
    assert_int_equal(seen.lines[0].gone_day, 0);
    assert_string_equal(seen.lines[1].name, "end");
    assert_int_equal(seen.lines[1].used, UINT32_MAX);
    assert_int_equal(seen.lines[1].gone_day, 20790);
    bytes_fini(&text);
}

TEST(warm_up_file, one_byte_that_is_another_spoils_it_all)
{
    struct fault fault;
    struct bytes text;

    write_two(&text);
    for (size_t i = 0; i < text.length; i++) {
        struct seen seen = {.count = 0};

        text.data[i] ^= 1;
        assert_int_equal(warm_up_file_parse(bytes_view(&text), on_line, &seen, &fault),
                         RESULT_CORRUPT);
        assert_int_equal(seen.count, 0);
        text.data[i] ^= 1;
    }
    bytes_fini(&text);
}

/* Without absent sources an older release reads it too. */
TEST(warm_up_file, only_an_absence_has_a_word_of_its_own)
{
    static const char kept[] = "source mail-a 20786 3 450\n";
    static const char gone[] = "source end 20000 0 4294967295 20790\n";
    struct bytes text;

    write_two(&text);
    assert_non_null(memmem(text.data, text.length, kept, strlen(kept)));
    assert_non_null(memmem(text.data, text.length, gone, strlen(gone)));
    bytes_fini(&text);
}

TEST(warm_up_file, names_are_plain)
{
    char longest[DELIVER_SOURCE_TEXT + 1];

    assert_true(deliver_source_name_is_valid(SLICE("Mail-a_1.b")));
    assert_false(deliver_source_name_is_valid(SLICE("")));
    assert_false(deliver_source_name_is_valid(SLICE("a b")));
    assert_false(deliver_source_name_is_valid(SLICE("a/b")));
    memset(longest, 'x', sizeof longest);
    assert_true(deliver_source_name_is_valid((struct slice){longest, 64}));
    assert_false(deliver_source_name_is_valid((struct slice){longest, 65}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(warm_up_file, is_read_as_it_was_written),
        RUN(warm_up_file, one_byte_that_is_another_spoils_it_all),
        RUN(warm_up_file, only_an_absence_has_a_word_of_its_own),
        RUN(warm_up_file, names_are_plain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
