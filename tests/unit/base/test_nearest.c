#include "smtpd/base/nearest.h"

#include "test.h"

static const char *nearest_of(const char *wanted)
{
    static const char *const names[] = {"senders", "networks", "size", "messages"};
    struct nearest nearest = {.wanted = wanted};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        nearest_offer(&nearest, names[i]);
    return nearest.name;
}

TEST(nearest, finds_what_was_meant)
{
    assert_string_equal(nearest_of("sender"), "senders");
    assert_string_equal(nearest_of("sizze"), "size");
    assert_string_equal(nearest_of("netwroks"), "networks");
    assert_string_equal(nearest_of("massage"), "messages");
    assert_string_equal(nearest_of("size"), "size");
}

TEST(nearest, bears_with_names_of_any_length)
{
    char name[1000];

    for (size_t i = 0; i + 1 < sizeof name; i++)
        name[i] = 'x';
    name[sizeof name - 1] = '\0';
    assert_non_null(nearest_of(name));
    assert_non_null(nearest_of(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(nearest, finds_what_was_meant),
        RUN(nearest, bears_with_names_of_any_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
