/* The counter in data_dir. */
#include "duplicates.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(const char *folder, const char *text)
{
    char path[300];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/possible_duplicates", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

TEST(duplicates, come_back_as_they_were_written)
{
    char folder[] = "/tmp/smtpd-duplicates-XXXXXX";
    char command[300];

    assert_non_null(mkdtemp(folder));
    assert_int_equal(duplicates_read(folder), 0);
    assert_true(duplicates_write(folder, 7));
    assert_int_equal(duplicates_read(folder), 7);
    assert_true(duplicates_write(folder, UINT64_C(5000000000)));
    assert_int_equal(duplicates_read(folder), UINT64_C(5000000000));
    put(folder, "");
    assert_int_equal(duplicates_read(folder), 0);
    put(folder, "-1\n");
    assert_int_equal(duplicates_read(folder), 0);
    put(folder, "nonsense");
    assert_int_equal(duplicates_read(folder), 0);
    (void)snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
}

TEST(duplicates, a_folder_that_is_not_there_is_said_and_changes_nothing)
{
    assert_false(duplicates_write("/nowhere/at/all", 7));
    assert_int_equal(duplicates_read("/nowhere/at/all"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(duplicates, come_back_as_they_were_written),
        RUN(duplicates, a_folder_that_is_not_there_is_said_and_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
