/* Each piece, at the end of the memory too, and against snprintf(). */
#include "smtpd/base/pen.h"

#include "test.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

TEST(pen, pieces_follow_each_other)
{
    char text[64];
    struct pen pen = pen_on(text, sizeof text);

    assert_string_equal(text, "");
    pen_text(&pen, "250 ");
    pen_number(&pen, 2);
    pen_byte(&pen, '.');
    pen_slice(&pen, (struct slice){"1.0 rest", 3});
    pen_text(&pen, "");
    pen_text(&pen, NULL);
    assert_string_equal(text, "250 2.1.0");
    assert_ptr_equal(pen.at, text + 9);
}

TEST(pen, numbers_are_those_of_snprintf)
{
    static const uint64_t values[] = {
        0, 1, 9, 10, 99, 100, 12345, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX / 10};
    char text[64];
    char expected[64];

    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        for (int width = 0; width <= 20; width++) {
            struct pen pen = pen_on(text, sizeof text);

            pen_padded(&pen, values[i], (unsigned)width);
            (void)snprintf(expected, sizeof expected, "%0*" PRIu64, width, values[i]);
            assert_string_equal(text, expected);
            pen = pen_on(text, sizeof text);
            pen_number(&pen, values[i]);
            (void)snprintf(expected, sizeof expected, "%" PRIu64, values[i]);
            assert_string_equal(text, expected);
        }
}

TEST(pen, what_does_not_fit_is_cut_off)
{
    for (size_t bytes = 1; bytes < 12; bytes++) {
        char text[16];
        char expected[16];
        struct pen pen;

        memset(text, '#', sizeof text);
        pen = pen_on(text, bytes);
        pen_text(&pen, "ab");
        pen_number(&pen, 1234);
        pen_byte(&pen, 'c');
        pen_text(&pen, "defg");
        memcpy(expected, "ab1234cdefg", bytes - 1);
        expected[bytes - 1] = '\0';
        assert_string_equal(text, expected);
        assert_int_equal(text[bytes], '#');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(pen, pieces_follow_each_other),
        RUN(pen, numbers_are_those_of_snprintf),
        RUN(pen, what_does_not_fit_is_cut_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
