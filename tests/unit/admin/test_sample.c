/* Numbers out of files that look like the kernel's. */
#include "sample.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[300];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

TEST(sample, reads_what_the_kernel_writes)
{
    char folder[] = "/tmp/smtpd-sample-XXXXXX";
    char path[300];
    struct sample_values values = {0};

    assert_non_null(mkdtemp(folder));
    write_file(
        folder, "status",
        "Name:\tsmtpd\nVmRSS:\t  999 kB\nRssAnon:\t    1234 kB\nRssFile:\t      56 kB\n"
        "RssShmem:\t       7 kB\nThreads:\t15\n");
    (void)snprintf(path, sizeof path, "%s/net", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file(folder, "net/sockstat",
               "sockets: used 5\nTCP: inuse 2 orphan 0 tw 0 alloc 3 mem 11\nUDP: inuse 1 "
               "mem 99\n");
    (void)snprintf(path, sizeof path, "%s/fd", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < 4; i++) { /* one of them is the look itself */
        char name[32];

        (void)snprintf(name, sizeof name, "fd/%d", i);
        write_file(folder, name, "");
    }
    sample_take(folder, &values);
    assert_int_equal(values.anonymous_bytes, 1234 * 1024);
    assert_int_equal(values.file_bytes, 56 * 1024);
    assert_int_equal(values.threads, 15);
    assert_int_equal(values.socket_bytes, 11 * sysconf(_SC_PAGESIZE));
    assert_int_equal(values.descriptors, 3);
    assert_true(values.descriptors_max > 0);
    (void)snprintf(path, sizeof path, "rm -rf '%s'", folder);
    assert_int_equal(system(path), 0);
}

TEST(sample, what_cannot_be_read_stays_nothing)
{
    struct sample_values values = {0};

    sample_take("/nowhere", &values);
    assert_int_equal(values.anonymous_bytes, 0);
    assert_int_equal(values.descriptors, 0);
}

TEST(sample, the_real_process_has_memory_threads_and_descriptors)
{
    struct sample_values values = {0};
    struct sample_values more = {0};
    int fd;

    sample_take("/proc/self", &values);
    assert_true(values.anonymous_bytes > 4096 && values.file_bytes > 4096);
    assert_true(values.threads >= 1);
    fd = dup(0);
    assert_true(fd >= 0);
    sample_take("/proc/self", &more);
    assert_int_equal(more.descriptors, values.descriptors + 1);
    (void)close(fd);
}

TEST(sample, comes_by_itself_from_the_file_pool)
{
    struct loop *loop = loop_new();
    struct offload *offload = offload_new(loop);
    struct sample *sample = sample_new(loop, offload);

    for (int i = 0; i < 1000 && sample_read(sample)->taken_ms == 0; i++)
        loop_run_for(loop, 10);
    assert_true(sample_read(sample)->taken_ms > 0);
    assert_true(sample_read(sample)->descriptors > 0);
    sample_free(sample);
    offload_free(offload);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(sample, reads_what_the_kernel_writes),
        RUN(sample, what_cannot_be_read_stays_nothing),
        RUN(sample, the_real_process_has_memory_threads_and_descriptors),
        RUN(sample, comes_by_itself_from_the_file_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
