/* CHECK ends the process: each case runs in a child. */
#include "smtpd/base/check.h"

#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child's wait status; what it said on stderr in `said`. */
static int run_child(int value, char *said, size_t said_bytes)
{
    int ends[2];
    int status = 0;
    ssize_t length;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(ends[1], STDERR_FILENO);
        CHECK(value == 7);
        _exit(0);
    }
    (void)close(ends[1]);
    length = read(ends[0], said, said_bytes - 1);
    said[length > 0 ? length : 0] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

TEST(check, what_holds_goes_on_in_silence)
{
    char said[256];
    int status = run_child(7, said, sizeof said);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_string_equal(said, "");
}

TEST(check, what_does_not_hold_says_the_place_and_aborts)
{
    char said[256];
    int status = run_child(8, said, sizeof said);

    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(said, "test_check.c:"));
    assert_non_null(strstr(said, "value == 7"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(check, what_holds_goes_on_in_silence),
        RUN(check, what_does_not_hold_says_the_place_and_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
