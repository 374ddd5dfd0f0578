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
                                   .slowness = "-",
                                   .backoffs = 3,
                                   .bounce = {.until_ms = 1792003600000,
                                              .before_ms = 1792000000500,
                                              .left = 7000,
                                              .text = "450 4.7.1 no more"}};

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
    assert_int_equal(seen->last.backoffs, 3);
    assert_true(seen->last.bounce.until_ms == slowed.bounce.until_ms);
    assert_true(seen->last.bounce.before_ms == slowed.bounce.before_ms);
    assert_int_equal(seen->last.bounce.left, 7000);
    assert_string_equal(seen->last.bounce.text, slowed.bounce.text);
    bytes_fini(&text);
    free(seen);
}

#define LINE                                                                               \
    "rule:x - 1792000001000 2 500 50 360000 1792000300000 120 60000 1792000900000 a b"

static enum result parse_of(const char *heading, const char *line, struct seen *seen)
{
    struct sealed sealed;
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, PACES_FILE_MAX);
    assert_int_equal(sealed_begin(&sealed, heading, &text), RESULT_OK);
    assert_int_equal(bytes_format(&text, "%s\n", line), RESULT_OK);
    sealed_note(&sealed, slice_from(bytes_view(&text), strlen(heading) + 1));
    assert_int_equal(sealed_end(&sealed, &text), RESULT_OK);
    result = paces_file_parse(bytes_view(&text), on_pace, seen, &fault);
    bytes_fini(&text);
    return result;
}

TEST(paces_file, one_of_the_version_before_is_read)
{
    struct seen *seen = calloc(1, sizeof *seen);

    assert_int_equal(parse_of("smtpd-paces 1", LINE, seen), RESULT_OK);
    assert_int_equal(seen->count, 1);
    assert_string_equal(seen->scope, "rule:x");
    assert_int_equal(seen->last.permille, 500);
    assert_string_equal(seen->last.slowness, "b");
    assert_int_equal(seen->last.backoffs, 0);
    assert_int_equal(seen->last.bounce.until_ms, 0);
    /* Each version has its own lines. */
    assert_int_equal(parse_of("smtpd-paces 2", LINE, seen), RESULT_CORRUPT);
    assert_int_equal(parse_of("smtpd-paces 1", LINE " 1 0 0 0 -", seen), RESULT_CORRUPT);
    assert_int_equal(parse_of("smtpd-paces 2", LINE " 1 0 0 0 -", seen), RESULT_OK);
    assert_int_equal(seen->count, 2);
    assert_int_equal(seen->last.backoffs, 1);
    assert_int_equal(parse_of("smtpd-paces 3", LINE " 1 0 0 0 -", seen), RESULT_CORRUPT);
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
    pace = slowed;
    pace.backoffs = PACE_BACKOFFS_MAX + 1;
    expect_no_pace(pace);
    pace = slowed;
    pace.bounce.left = PACE_BOUNCED_MAX + 1;
    expect_no_pace(pace);
    pace = slowed;
    pace.bounce.before_ms = pace.bounce.until_ms + 1; /* of what is still to come */
    expect_no_pace(pace);
    pace = slowed;
    pace.bounce.until_ms = 0;
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
        RUN(paces_file, one_of_the_version_before_is_read),
        RUN(paces_file, nothing_of_one_that_is_not_sound_is_used),
        RUN(paces_file, numbers_that_no_pace_has_are_refused),
        RUN(paces_file, more_than_are_kept_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
