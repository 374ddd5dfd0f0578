/* Folders that look like the kernel's, and the marks. */
#include "smtpd/policy/pressure.h"

#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BALLAST_BYTES = 4 << 20 };

struct tree {
    char folder[64];
    char proc[96];
    char cgroup[96];
};

static void write_file(const struct tree *tree, const char *name, const char *text)
{
    char path[300];
    char command[400];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", tree->folder, name);
    (void)snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\"", path);
    assert_int_equal(system(command), 0);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void tree_open(struct tree *tree, const char *cgroup_line)
{
    (void)snprintf(tree->folder, sizeof tree->folder, "/tmp/smtpd-pressure-XXXXXX");
    assert_non_null(mkdtemp(tree->folder));
    (void)snprintf(tree->proc, sizeof tree->proc, "%s/proc", tree->folder);
    (void)snprintf(tree->cgroup, sizeof tree->cgroup, "%s/cg", tree->folder);
    write_file(tree, "proc/status",
               "VmRSS:\t 9999 kB\nRssAnon:\t    1000 kB\n"
               "RssFile:\t 8000 kB\n");
    write_file(tree, "proc/net/sockstat",
               "sockets: used 5\nTCP: inuse 2 orphan 0 tw 0 alloc 3 mem 7\nUDP: mem 99\n");
    write_file(tree, "proc/cgroup", cgroup_line);
}

static void tree_close(const struct tree *tree)
{
    char command[128];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", tree->folder);
    assert_int_equal(system(command), 0);
}

static struct pressure_measure taken(const struct tree *tree)
{
    struct pressure_files files = {tree->proc, tree->cgroup, UINT64_C(1) << 40};
    struct pressure_measure measure;

    pressure_take(&files, &measure);
    return measure;
}

static uint64_t anonymous_and_namespace(void)
{
    return 1000 * 1024 + 7 * (uint64_t)sysconf(_SC_PAGESIZE);
}

TEST(pressure, without_a_cgroup_the_machine_is_the_limit)
{
    struct tree tree;

    tree_open(&tree, "");
    assert_int_equal(taken(&tree).limit_bytes, UINT64_C(1) << 40);
    assert_int_equal(taken(&tree).used_bytes, anonymous_and_namespace());
    tree_close(&tree);
}

TEST(pressure, of_version_2_the_least_limit_up_the_tree_holds)
{
    struct tree tree;

    tree_open(&tree, "0::/kubepods/pod7/box\n");
    write_file(&tree, "cg/kubepods/pod7/box/memory.max", "max\n");
    write_file(&tree, "cg/kubepods/pod7/box/memory.stat",
               "anon 5\nsock_something 3\nsock 4321\nshmem 6\n");
    write_file(&tree, "cg/kubepods/pod7/memory.max", "67108864\n");
    write_file(&tree, "cg/kubepods/pod7/memory.stat", "sock 9999\n");
    write_file(&tree, "cg/kubepods/memory.max", "134217728\n");
    assert_int_equal(taken(&tree).limit_bytes, 64 << 20);
    /* Its own sockets, and not those of its neighbours in the namespace. */
    assert_int_equal(taken(&tree).used_bytes, 1000 * 1024 + 4321);
    write_file(&tree, "cg/kubepods/pod7/box/memory.max", "33554432\n");
    assert_int_equal(taken(&tree).limit_bytes, 32 << 20);
    tree_close(&tree);
}

TEST(pressure, in_a_container_the_own_group_may_be_the_root)
{
    struct tree tree;

    tree_open(&tree, "0::/../elsewhere\n");
    write_file(&tree, "cg/memory.max", "33554432\n");
    assert_int_equal(taken(&tree).limit_bytes, 32 << 20);
    write_file(&tree, "proc/cgroup", "0::/\n");
    assert_int_equal(taken(&tree).limit_bytes, 32 << 20);
    tree_close(&tree);
}

TEST(pressure, of_version_1_too_and_no_limit_is_a_huge_number)
{
    struct tree tree;

    tree_open(&tree, "12:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/box\n0::/unified\n");
    write_file(&tree, "cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
    write_file(&tree, "cg/memory.max", "1\n"); /* of version 2: not ours */
    assert_int_equal(taken(&tree).limit_bytes, UINT64_C(1) << 40);
    write_file(&tree, "cg/memory/docker/box/memory.limit_in_bytes", "50331648\n");
    assert_int_equal(taken(&tree).limit_bytes, 48 << 20);
    assert_int_equal(taken(&tree).used_bytes, anonymous_and_namespace());
    tree_close(&tree);
}

TEST(pressure, sheds_connections_then_messages_and_comes_back_later_than_it_went)
{
    assert_int_equal(pressure_judge(PRESSURE_NONE, 699, 1000), PRESSURE_NONE);
    assert_int_equal(pressure_judge(PRESSURE_NONE, 700, 1000), PRESSURE_CONNECTIONS);
    assert_int_equal(pressure_judge(PRESSURE_NONE, 799, 1000), PRESSURE_CONNECTIONS);
    assert_int_equal(pressure_judge(PRESSURE_NONE, 800, 1000), PRESSURE_MESSAGES);
    assert_int_equal(pressure_judge(PRESSURE_MESSAGES, 750, 1000), PRESSURE_MESSAGES);
    assert_int_equal(pressure_judge(PRESSURE_MESSAGES, 749, 1000), PRESSURE_CONNECTIONS);
    assert_int_equal(pressure_judge(PRESSURE_CONNECTIONS, 750, 1000), PRESSURE_CONNECTIONS);
    assert_int_equal(pressure_judge(PRESSURE_CONNECTIONS, 650, 1000), PRESSURE_CONNECTIONS);
    assert_int_equal(pressure_judge(PRESSURE_CONNECTIONS, 649, 1000), PRESSURE_NONE);
    assert_int_equal(pressure_judge(PRESSURE_MESSAGES, 100, 1000), PRESSURE_NONE);
    assert_int_equal(pressure_judge(PRESSURE_MESSAGES, 100, 0), PRESSURE_NONE);
}

TEST(pressure, looks_more_often_near_the_limit)
{
    enum { MB = 1000000 };

    assert_int_equal(pressure_pause_ms(100 * MB, 0), 500);
    assert_int_equal(pressure_pause_ms(100 * MB, 1000 * MB), 500);
    assert_int_equal(pressure_pause_ms(650 * MB, 1000 * MB), 250);
    assert_int_equal(pressure_pause_ms(20 * MB, 70 * MB), 145);
    assert_int_equal(pressure_pause_ms(699 * MB, 1000 * MB), 25);
    assert_int_equal(pressure_pause_ms(2000 * MB, 1000 * MB), 25);
}

TEST(pressure, looks_by_itself_and_judges_again_when_the_limit_changes)
{
    static const struct pressure_settings small = {1 << 20};
    static const struct pressure_settings large = {UINT64_C(1) << 50};
    struct pressure_statistics statistics;
    struct loop *loop = loop_new();
    struct offload *offload = offload_new(loop);
    struct pressure *pressure = pressure_new(loop, offload);
    /* This program alone may take less than the small limit: an optimised one does. */
    volatile unsigned char *ballast = malloc(BALLAST_BYTES);

    assert_non_null(ballast);
    for (size_t at = 0; at < BALLAST_BYTES; at += 512)
        ballast[at] = 1;
    pressure_apply(pressure, &small);
    assert_int_equal(pressure_level(pressure), PRESSURE_NONE); /* nothing is known yet */
    for (int i = 0; i < 1000 && pressure_level(pressure) == PRESSURE_NONE; i++)
        loop_run_for(loop, 10);
    assert_int_equal(pressure_level(pressure), PRESSURE_MESSAGES);
    pressure_statistics(pressure, &statistics);
    assert_int_equal(statistics.limit_bytes, 1 << 20);
    assert_true(statistics.used_bytes > 800000);
    assert_int_equal(statistics.level, PRESSURE_MESSAGES);
    pressure_apply(pressure, &large);
    assert_int_equal(pressure_level(pressure), PRESSURE_NONE);
    free((void *)ballast);
    pressure_free(pressure);
    offload_free(offload);
    loop_free(loop);
    assert_int_equal(pressure_level(NULL), PRESSURE_NONE);
    pressure_statistics(NULL, &statistics);
    assert_int_equal(statistics.limit_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(pressure, without_a_cgroup_the_machine_is_the_limit),
        RUN(pressure, of_version_2_the_least_limit_up_the_tree_holds),
        RUN(pressure, in_a_container_the_own_group_may_be_the_root),
        RUN(pressure, of_version_1_too_and_no_limit_is_a_huge_number),
        RUN(pressure, sheds_connections_then_messages_and_comes_back_later_than_it_went),
        RUN(pressure, looks_more_often_near_the_limit),
        RUN(pressure, looks_by_itself_and_judges_again_when_the_limit_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
