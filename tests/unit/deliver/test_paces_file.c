/* What paces have learned, as text and back. */
#include "paces_file.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>

struct seen {
    size_t count;
    struct pace last;
    char scope[PACES_KEY_MAX];
};

static void on_pace(void *owner, const struct pace *pace)
{
    struct seen *seen = owner;

    seen->count++;
    seen->last = *pace;
    (void)strcpy(seen->scope, pace->scope);
}

static const struct pace slowed = {.scope = "rule:a b%c",
                                   .source = "",
                                   .changed_ms = 1792000001000,
                                   .window = 2,
                                   .permille = 500,
                                   .step = 50,
                                   .step_ms = 360000,
                                   .next_step_ms = 1792000300000,
                                   .measured = {120, 60000},
                                   .suspended_until_ms = 1792000900000,
                                   .suspension = "421 4.7.28 \303\274ber",
                                   .slowness = "-"};

static void print(struct bytes *text, const struct pace *pace, size_t count)
{
    struct sealed sealed;

    bytes_init(text, PACES_FILE_MAX);
    assert_int_equal(paces_file_begin(text, &sealed), RESULT_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(paces_file_add(text, &sealed, pace), RESULT_OK);
    assert_int_equal(paces_file_end(text, &sealed), RESULT_OK);
}

TEST(paces_file, what_is_written_is_read_again)
{
    struct seen *seen = calloc(1, sizeof *seen);
    struct bytes text;
    struct fault fault;

    print(&text, &slowed, 2);
    assert_int_equal(paces_file_parse(bytes_view(&text), on_pace, seen, &fault), RESULT_OK);
    assert_int_equal(seen->count, 2);
    assert_string_equal(seen->scope, slowed.scope);
    assert_int_equal(seen->last.window, 2);
    assert_int_equal(seen->last.permille, 500);
    assert_int_equal(seen->last.step, 50);
    assert_true(seen->last.step_ms == slowed.step_ms);
    assert_true(seen->last.next_step_ms == slowed.next_step_ms);
    assert_true(seen->last.changed_ms == slowed.changed_ms);
    assert_int_equal(seen->last.measured.count, 120);
    assert_true(seen->last.suspended_until_ms == slowed.suspended_until_ms);
    assert_string_equal(seen->last.suspension, slowed.suspension);
    assert_string_equal(seen->last.slowness, "-");
    bytes_fini(&text);
    free(seen);
}

TEST(paces_file, nothing_of_one_that_is_not_sound_is_used)
{
    struct seen *seen = calloc(1, sizeof *seen);
    struct bytes text;
    struct fault fault;

    print(&text, &slowed, 3);
    for (size_t i = 0; i < text.length; i++) {
        text.data[i] ^= 1;
        assert_int_equal(paces_file_parse(bytes_view(&text), on_pace, seen, &fault),
                         RESULT_CORRUPT);
        text.data[i] ^= 1;
        assert_int_equal(
            paces_file_parse(slice_part(bytes_view(&text), 0, i), on_pace, seen, &fault),
            RESULT_CORRUPT);
    }
    assert_int_equal(seen->count, 0);
    bytes_fini(&text);
    free(seen);
}

static void expect_no_pace(struct pace pace)
{
    struct bytes text;
    struct fault fault;

    print(&text, &pace, 1);
    assert_int_equal(paces_file_parse(bytes_view(&text), NULL, NULL, &fault),
                     RESULT_CORRUPT);
    assert_string_equal(fault.text, "line 2 is not as we write it");
    bytes_fini(&text);
}

TEST(paces_file, numbers_that_no_pace_has_are_refused)
{
    struct pace pace = slowed;

    pace.window = 0;
    expect_no_pace(pace);
    pace = slowed;
    pace.permille = 1001;
    expect_no_pace(pace);
    pace = slowed;
    pace.step = 0; /* it would never recover */
    expect_no_pace(pace);
    pace = slowed;
    pace.measured.window_ms = 5;
    expect_no_pace(pace);
    pace = slowed;
    pace.scope = "";
    expect_no_pace(pace);
}

TEST(paces_file, more_than_are_kept_are_refused)
{
    struct bytes text;
    struct fault fault;

    print(&text, &slowed, PACES_KEPT_MAX);
    assert_int_equal(paces_file_parse(bytes_view(&text), NULL, NULL, &fault), RESULT_OK);
    bytes_fini(&text);
    print(&text, &slowed, PACES_KEPT_MAX + 1);
    assert_int_equal(paces_file_parse(bytes_view(&text), NULL, NULL, &fault),
                     RESULT_CORRUPT);
    bytes_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(paces_file, what_is_written_is_read_again),
        RUN(paces_file, nothing_of_one_that_is_not_sound_is_used),
        RUN(paces_file, numbers_that_no_pace_has_are_refused),
        RUN(paces_file, more_than_are_kept_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
