/* Results and faults. */
#include "smtpd/base/result.h"

#include "test.h"

#include <string.h>

TEST(result, every_result_has_a_text_of_its_own)
{
    for (int i = 0; i < RESULT_COUNT; i++) {
        const char *text = result_text((enum result)i);

        assert_non_null(text);
        assert_true(strlen(text) > 0);
        for (int other = 0; other < i; other++)
            assert_string_not_equal(text, result_text((enum result)other));
    }
}

TEST(result, a_code_outside_the_list_still_has_a_text)
{
    assert_string_equal(result_text(RESULT_COUNT), "unknown result");
}

TEST(result, a_fault_keeps_code_and_text_and_returns_the_code)
{
    struct fault fault;

    assert_int_equal(fault_set(&fault, RESULT_IO, "cannot read %s", "x"), RESULT_IO);
    assert_int_equal(fault.code, RESULT_IO);
    assert_string_equal(fault.text, "cannot read x");
}

TEST(result, a_fault_may_be_absent)
{
    assert_int_equal(fault_set(NULL, RESULT_BUSY, "%d", 1), RESULT_BUSY);
}

TEST(result, a_long_fault_is_cut_and_still_ends)
{
    struct fault fault;
    char text[2000];

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)fault_set(&fault, RESULT_IO, "%s", text);
    assert_int_equal(strlen(fault.text), sizeof fault.text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(result, every_result_has_a_text_of_its_own),
        RUN(result, a_code_outside_the_list_still_has_a_text),
        RUN(result, a_fault_keeps_code_and_text_and_returns_the_code),
        RUN(result, a_fault_may_be_absent),
        RUN(result, a_long_fault_is_cut_and_still_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
