/* Portions of the file: opened by the first, renamed by the last. */
#include "limits_portion.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TEST(limits_portion, appears_whole_or_not_at_all)
{
    char folder[] = "/tmp/smtpd-portion-XXXXXX";
    char path[64];
    char beside[80];
    struct portion *portion;

    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/limits", folder);
    (void)snprintf(beside, sizeof beside, "%s.new", path);
    portion = portion_new(path);
    portion->count = 1;
    portion->records[0] = (struct limits_record){
        .kind = LIMITS_USER_MESSAGES, .name = "a", .window_count = 1};
    window_init(&portion->records[0].windows[0], 3600000, 1790000000000);
    window_add(&portion->records[0].windows[0], 1);
    portion_run(portion);
    assert_false(portion->has_failed);
    assert_int_equal(access(path, F_OK), -1);
    portion->is_first = false;
    portion->is_last = true;
    portion_run(portion);
    assert_false(portion->has_failed);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(access(beside, F_OK), -1);
    assert_int_equal(portion->sealed.lines, 2);
    portion_free(portion);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

TEST(limits_portion, says_that_it_failed)
{
    struct portion *portion = portion_new("/nowhere/limits");

    portion->is_last = true;
    portion_run(portion);
    assert_true(portion->has_failed);
    assert_true(portion->error != 0);
    portion_free(portion);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(limits_portion, appears_whole_or_not_at_all),
        RUN(limits_portion, says_that_it_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
