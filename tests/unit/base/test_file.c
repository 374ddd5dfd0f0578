#include "smtpd/base/file.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/smtpd-file-XXXXXX";

static char *path_of(const char *name)
{
    return memory_format("%s/%s", folder, name);
}

static void expect_text(const char *path, const char *wanted)
{
    struct bytes text;
    struct fault fault;

    bytes_init(&text, 1 << 20);
    assert_int_equal(file_read(path, &text, &fault), RESULT_OK);
    assert_true(slice_equal_text(bytes_view(&text), wanted));
    bytes_fini(&text);
}

TEST(file, is_replaced_as_a_whole)
{
    char *path = path_of("one");
    char *beside = path_of("one.new");
    struct fault fault;
    struct stat status;

    assert_int_equal(file_replace(path, SLICE("first\n"), &fault), RESULT_OK);
    expect_text(path, "first\n");
    assert_int_equal(file_replace(path, SLICE("2\n"), &fault), RESULT_OK);
    expect_text(path, "2\n");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_not_equal(access(beside, F_OK), 0);
    memory_free(beside);
    memory_free(path);
}

TEST(file, that_cannot_be_replaced_is_what_it_was)
{
    char *path = path_of("two");
    char *inside = path_of("two/inside");
    char *beside = path_of("two.new");
    struct fault fault;

    assert_int_equal(mkdir(path, 0700), 0); /* in the way of the renaming */
    assert_int_equal(mkdir(inside, 0700), 0);
    assert_int_equal(file_replace(path, SLICE("x"), &fault), RESULT_IO);
    assert_true(fault.text[0]);
    assert_int_equal(access(inside, F_OK), 0);
    assert_int_not_equal(access(beside, F_OK), 0);
    assert_int_equal(file_replace("/nowhere/at/all", SLICE("x"), &fault), RESULT_IO);
    assert_string_equal(fault.text, "No such file or directory");
    assert_int_equal(rmdir(inside), 0);
    assert_int_equal(rmdir(path), 0);
    memory_free(beside);
    memory_free(inside);
    memory_free(path);
}

TEST(file, is_read_up_to_the_ceiling)
{
    enum { SIZE = 300000 };
    char *path = path_of("three");
    char *data = memory_new(SIZE);
    struct bytes text;
    struct fault fault;

    memset(data, 'x', SIZE);
    assert_int_equal(file_write(path, (struct slice){data, SIZE}, &fault), RESULT_OK);
    bytes_init(&text, 1 << 20);
    assert_int_equal(file_read(path, &text, &fault), RESULT_OK);
    assert_int_equal(text.length, SIZE);
    bytes_fini(&text);
    bytes_init(&text, 100000);
    assert_int_equal(file_read(path, &text, &fault), RESULT_TOO_LARGE);
    assert_string_equal(fault.text, "it is too large");
    bytes_fini(&text);
    bytes_init(&text, 1 << 20);
    assert_int_equal(file_read("/nowhere", &text, &fault), RESULT_NOT_FOUND);
    assert_int_equal(file_read(folder, &text, &fault), RESULT_IO);
    bytes_fini(&text);
    memory_free(data);
    memory_free(path);
}

TEST(file, folders_are_synced)
{
    char *path = path_of("three");
    struct fault fault;

    assert_int_equal(file_sync_parent(path, &fault), RESULT_OK);
    assert_int_equal(file_sync_parent("here", &fault), RESULT_OK);
    assert_int_equal(file_sync_parent("/here", &fault), RESULT_OK);
    assert_int_equal(file_sync_folder("/nowhere", &fault), RESULT_IO);
    assert_string_equal(fault.text, "cannot sync /nowhere: No such file or directory");
    memory_free(path);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    static const char *const names[] = {"one", "three"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_of(names[i]);

        (void)unlink(path);
        memory_free(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(file, is_replaced_as_a_whole),
        RUN(file, that_cannot_be_replaced_is_what_it_was),
        RUN(file, is_read_up_to_the_ceiling),
        RUN(file, folders_are_synced),
    };

    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
