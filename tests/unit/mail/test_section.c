/* Where the header section ends, for any split of the bytes. */
#include "smtpd/mail/section.h"

#include "test.h"

struct example {
    const char *text;
    enum section_end end;
    size_t length;
};

static const struct example examples[] = {
    {"A: b\r\n\r\nbody\r\n", SECTION_EMPTY_LINE, 8},
    {"A: b\r\n c\r\n\td\r\nE: f\r\n\r\n", SECTION_EMPTY_LINE, 22},
    {"\r\nbody", SECTION_EMPTY_LINE, 2},
    {"text\r\nA: b\r\n\r\n", SECTION_BODY_LINE, 0},
    {" folded\r\n\r\n", SECTION_BODY_LINE, 0},
    {"A: b\r\nno field\r\n\r\n", SECTION_BODY_LINE, 6},
    {": empty name\r\n", SECTION_BODY_LINE, 0},
    {"A: b\r\n", SECTION_OPEN, 0},
    {"A: b\r\nC", SECTION_OPEN, 0},
    {"", SECTION_OPEN, 0},
    /* A bare LF ends nothing. */
    {"A: b\n\nstill A\r\n\r\n", SECTION_EMPTY_LINE, 17},
};

TEST(section, is_found_for_any_split)
{
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        struct slice text = slice_of(examples[i].text);

        for (size_t step = 1; step <= text.length + 1; step++) {
            enum section_end end = SECTION_OPEN;
            struct section section;
            size_t length = 0;

            section_init(&section);
            for (size_t at = step; end == SECTION_OPEN && at < text.length + step;
                 at += step)
                end = section_find(&section, slice_part(text, 0, at), &length);
            assert_int_equal(end, examples[i].end);
            assert_int_equal(length, examples[i].length);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(section, is_found_for_any_split),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
