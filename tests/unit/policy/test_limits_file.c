/* The file of counts: what was written is read; what is damaged is not. */
#include "limits_file.h"

#include "test.h"

#include <string.h>

struct read {
    struct limits_record records[8];
    size_t count;
};

static void on_record(void *owner, const struct limits_record *record)
{
    struct read *read = owner;

    assert_true(read->count < 8);
    read->records[read->count++] = *record;
}

static void write_sample(struct bytes *text)
{
    struct limits_record one = {.kind = LIMITS_USER_MESSAGES, .name = "newsletter"};
    struct limits_record two = {.kind = LIMITS_ADDRESS_RECIPIENTS, .name = "2001:db8::"};
    struct sealed sealed;

    one.window_count = 2;
    window_init(&one.windows[0], 3600000, INT64_C(1790000000000));
    one.windows[0].counts[0] = 17;
    one.windows[0].counts[2] = 3;
    window_init(&one.windows[1], 86400000, INT64_C(1790000000000)); /* empty: no line */
    two.window_count = 1;
    window_init(&two.windows[0], 60000, INT64_C(1790000000000));
    two.windows[0].counts[WINDOW_STEPS] = UINT32_MAX;
    bytes_init(text, 1 << 20);
    assert_int_equal(limits_file_begin(text, &sealed), RESULT_OK);
    assert_int_equal(limits_file_add(text, &sealed, &one), RESULT_OK);
    assert_int_equal(limits_file_add(text, &sealed, &two), RESULT_OK);
    assert_int_equal(limits_file_end(text, &sealed), RESULT_OK);
}

TEST(limits_file, reads_what_it_wrote)
{
    struct read read = {.count = 0};
    struct bytes text;
    struct fault fault;

    write_sample(&text);
    assert_non_null(
        memmem(text.data, text.length, "user-messages newsletter 3600000 ", 33));
    assert_int_equal(limits_file_parse(bytes_view(&text), on_record, &read, &fault),
                     RESULT_OK);
    assert_int_equal(read.count, 2);
    assert_string_equal(read.records[0].name, "newsletter");
    assert_int_equal(read.records[0].kind, LIMITS_USER_MESSAGES);
    assert_int_equal(read.records[0].windows[0].counts[0], 17);
    assert_int_equal(read.records[0].windows[0].counts[2], 3);
    assert_int_equal(window_sum(&read.records[0].windows[0]), 20);
    assert_int_equal(read.records[1].kind, LIMITS_ADDRESS_RECIPIENTS);
    assert_int_equal(read.records[1].windows[0].counts[WINDOW_STEPS], UINT32_MAX);
    bytes_fini(&text);
}

/* Any byte changed, any tail cut off: nothing of it is taken. */
TEST(limits_file, takes_nothing_of_a_damaged_file)
{
    struct read read = {.count = 0};
    struct bytes text;
    struct fault fault;

    write_sample(&text);
    for (size_t i = 0; i < text.length; i++) {
        char before = text.data[i];

        text.data[i] ^= 1;
        assert_int_equal(limits_file_parse(bytes_view(&text), on_record, &read, &fault),
                         RESULT_CORRUPT);
        text.data[i] = before;
        assert_int_equal(limits_file_parse(slice_part(bytes_view(&text), 0, i), on_record,
                                           &read, &fault),
                         RESULT_CORRUPT);
    }
    assert_int_equal(bytes_add_text(&text, "more\n"), RESULT_OK);
    assert_int_equal(limits_file_parse(bytes_view(&text), on_record, &read, &fault),
                     RESULT_CORRUPT);
    assert_int_equal(read.count, 0);
    bytes_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(limits_file, reads_what_it_wrote),
        RUN(limits_file, takes_nothing_of_a_damaged_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
