/* Rights and limits of the process. What cannot be taken back is tried in a child. */
#include "privileges.h"

#include "test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct folder {
    char path[96];
    char data[112];
};

static int set_up(void **state)
{
    static struct folder folder;

    (void)snprintf(folder.path, sizeof folder.path, "%.60s/smtpd-rights-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(folder.path));
    assert_int_equal(chmod(folder.path, 0755), 0); /* the user will look into it */
    (void)snprintf(folder.data, sizeof folder.data, "%s/data", folder.path);
    *state = &folder;
    return 0;
}

static int tear_down(void **state)
{
    const struct folder *folder = *state;

    (void)rmdir(folder->data);
    return rmdir(folder->path);
}

typedef int child_fn(const struct folder *folder);

/* The child's word: 0, or the number of what went wrong. */
static int in_a_child(child_fn *fn, const struct folder *folder)
{
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(fn(folder));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int raise_limits(const struct folder *folder)
{
    struct rlimit limit;

    (void)folder;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < 65)
        return 1;
    limit.rlim_cur = 64;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 2;
    privileges_raise_limits();
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 3;
    return limit.rlim_cur == limit.rlim_max ? 0 : 4;
}

TEST(privileges, as_many_descriptors_as_may_be)
{
    assert_int_equal(in_a_child(raise_limits, *state), 0);
}

TEST(privileges, the_data_folder_is_made_for_its_owner_alone)
{
    const struct folder *folder = *state;
    struct stat facts;
    struct fault fault;
    mode_t mask = umask(0);

    assert_int_equal(privileges_drop(folder->data, NULL, NULL, &fault), RESULT_OK);
    assert_int_equal(stat(folder->data, &facts), 0);
    assert_true(S_ISDIR(facts.st_mode));
    assert_int_equal(facts.st_mode & 07777, 0700);
    assert_int_equal(facts.st_uid, geteuid());
    assert_int_equal(privileges_drop(folder->data, NULL, NULL, &fault),
                     RESULT_OK); /* is there */
    (void)umask(mask);
}

TEST(privileges, a_data_folder_that_cannot_be_made_is_named)
{
    struct fault fault = {0};

    (void)state;
    assert_int_equal(privileges_drop("/nowhere/at/all", NULL, NULL, &fault), RESULT_IO);
    assert_non_null(strstr(fault.text, "server.data_dir /nowhere/at/all"));
}

static int become_unknown(const struct folder *folder)
{
    struct fault fault = {0};

    if (privileges_drop(folder->data, NULL, "no-such-user", &fault) != RESULT_NOT_FOUND)
        return 1;
    if (!strstr(fault.text, "\"no-such-user\""))
        return 2;
    return access(folder->data, F_OK) == 0 ? 3 : 0; /* nothing was begun */
}

TEST(privileges, a_user_that_is_not_there_is_named)
{
    if (geteuid() != 0)
        skip();
    assert_int_equal(in_a_child(become_unknown, *state), 0);
}

static bool can_bind(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_bound;

    address.sin_addr.s_addr = htonl(0x7f000000U + (uint32_t)getpid() % 0xfffffdU + 2);
    is_bound = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    (void)close(fd);
    return is_bound;
}

static int become_nobody(const struct folder *folder)
{
    const struct passwd *nobody = getpwnam("nobody");
    struct fault fault;
    struct stat facts;
    uid_t uid[3];
    gid_t gid[3];

    if (!can_bind(9))
        return 99; /* this machine does not let root itself */
    if (!nobody || privileges_drop(folder->data, NULL, "nobody", &fault) != RESULT_OK)
        return 1;
    if (getresuid(&uid[0], &uid[1], &uid[2]) != 0 ||
        getresgid(&gid[0], &gid[1], &gid[2]) != 0)
        return 2;
    for (int i = 0; i < 3; i++)
        if (uid[i] != nobody->pw_uid || gid[i] != nobody->pw_gid)
            return 3;
    if (stat(folder->data, &facts) != 0 || facts.st_uid != nobody->pw_uid ||
        facts.st_gid != nobody->pw_gid)
        return 4;
    if (!can_bind(9))
        return 5; /* the one right that a reload needs */
    if (setuid(0) == 0 || access("/etc/shadow", R_OK) == 0)
        return 6; /* and no other */
    return 0;
}

TEST(privileges, root_becomes_the_user_and_keeps_one_right)
{
    int word;

    if (geteuid() != 0)
        skip();
    word = in_a_child(become_nobody, *state);
    if (word == 99)
        skip();
    assert_int_equal(word, 0);
}

#define WITH_FOLDER(name)                                                                  \
    cmocka_unit_test_setup_teardown(privileges_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(as_many_descriptors_as_may_be),
        WITH_FOLDER(the_data_folder_is_made_for_its_owner_alone),
        WITH_FOLDER(a_data_folder_that_cannot_be_made_is_named),
        WITH_FOLDER(a_user_that_is_not_there_is_named),
        WITH_FOLDER(root_becomes_the_user_and_keeps_one_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
