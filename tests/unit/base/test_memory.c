/* The heap. Sanitizers see what these cannot. */
#include "smtpd/base/memory.h"

#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(memory, new_memory_is_zeroed)
{
    unsigned char *bytes = memory_new(1000);
    int *numbers = NEW_ARRAY(int, 10);

    for (int i = 0; i < 1000; i++)
        assert_int_equal(bytes[i], 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(numbers[i], 0);
    memory_free(bytes);
    memory_free(numbers);
}

TEST(memory, nothing_is_still_something_that_can_be_freed)
{
    void *none = memory_new(0);
    void *no_array = memory_new_array(0, 8);
    void *no_copy = memory_copy("", 0);

    assert_non_null(none);
    assert_non_null(no_array);
    assert_non_null(no_copy);
    memory_free(none);
    memory_free(no_array);
    memory_free(no_copy);
    memory_free(NULL);
}

TEST(memory, resizing_keeps_what_was_there)
{
    char *text = memory_text("hello");

    text = memory_resize(text, 100000);
    assert_string_equal(text, "hello");
    memory_free(text);
}

TEST(memory, texts_are_copies_and_null_stays_null)
{
    char original[] = "abc";
    char *copy = memory_text(original);

    original[0] = 'x';
    assert_string_equal(copy, "abc");
    memory_free(copy);
    assert_null(memory_text(NULL));
}

TEST(memory, a_formatted_text_is_as_long_as_it_needs)
{
    char *text = memory_format("%0*d|%s", 700, 5, "end");

    assert_int_equal(strlen(text), 704);
    assert_string_equal(text + 698, "05|end");
    memory_free(text);
}

TEST(memory, an_array_whose_size_overflows_aborts)
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)close(STDERR_FILENO);
        memory_free(memory_new_array(SIZE_MAX / 4, 8));
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    /* A sanitizer refuses the size by an exit of its own. */
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(memory, new_memory_is_zeroed),
        RUN(memory, nothing_is_still_something_that_can_be_freed),
        RUN(memory, resizing_keeps_what_was_there),
        RUN(memory, texts_are_copies_and_null_stays_null),
        RUN(memory, a_formatted_text_is_as_long_as_it_needs),
        RUN(memory, an_array_whose_size_overflows_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
