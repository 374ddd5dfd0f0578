/* One process a data folder: a second taker is told who holds it, the kernel gives the lock
 * up with its holder, and what is no proper data folder is refused with its name. */
#include "lock.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH = 512 };

struct world {
    char folder[PATH / 4]; /* holds `data` */
    char data[PATH / 2];
    char lock[PATH];
    struct fault fault;
    int fd;
};

static int set_up(void **state)
{
    static struct world world;
    const char *above = getenv("TMPDIR");

    world = (struct world){.fd = -1};
    (void)snprintf(world.folder, sizeof world.folder, "%s/smtpd-lock-XXXXXX",
                   above ? above : "/tmp");
    assert_non_null(mkdtemp(world.folder));
    (void)snprintf(world.data, sizeof world.data, "%s/data", world.folder);
    (void)snprintf(world.lock, sizeof world.lock, "%s/lock", world.data);
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    lock_give_up(world->fd);
    (void)unlink(world->lock);
    (void)rmdir(world->data);
    (void)unlink(world->data);
    return rmdir(world->folder);
}

/* The folder of a test may lie on an overlay: allowed, but in the test of that rule. */
static enum result take(struct world *world, int *fd)
{
    return lock_take(world->data, true, fd, &world->fault);
}

static void read_lock(const struct world *world, char text[PATH])
{
    FILE *file = fopen(world->lock, "r");
    size_t length;

    assert_non_null(file);
    length = fread(text, 1, PATH - 1, file);
    text[length] = 0;
    (void)fclose(file);
}

/* ---- taking ---- */

static void taking_makes_the_folder_and_a_file_for_the_owner_only(void **state)
{
    struct world *world = *state;
    mode_t before = umask(0);
    struct stat about;

    assert_int_equal(take(world, &world->fd), RESULT_OK);
    (void)umask(before);
    assert_true(world->fd >= 0);
    assert_int_equal(stat(world->data, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0700);
    assert_int_equal(stat(world->lock, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
}

static void the_file_says_who_holds_the_folder_and_nothing_of_holders_before(void **state)
{
    struct world *world = *state;
    char expected[32];
    char text[PATH];
    FILE *file;

    assert_int_equal(mkdir(world->data, 0700), 0);
    file = fopen(world->lock, "w");
    assert_non_null(file);
    assert_true(fputs("99999999999999999999\nlong before\n", file) >= 0);
    (void)fclose(file);
    assert_int_equal(take(world, &world->fd), RESULT_OK);
    (void)snprintf(expected, sizeof expected, "%ld\n", (long)getpid());
    read_lock(world, text);
    assert_string_equal(text, expected);
}

static void a_program_that_is_started_does_not_inherit_the_lock(void **state)
{
    struct world *world = *state;

    assert_int_equal(take(world, &world->fd), RESULT_OK);
    assert_true(fcntl(world->fd, F_GETFD) & FD_CLOEXEC);
}

static void a_lock_that_was_given_up_can_be_taken_again_and_its_file_stays(void **state)
{
    struct world *world = *state;
    struct stat before;
    struct stat after;
    int fd;

    assert_int_equal(take(world, &fd), RESULT_OK);
    assert_int_equal(stat(world->lock, &before), 0);
    lock_give_up(fd);
    assert_int_equal(stat(world->lock, &after), 0); /* never removed: see lock.c */
    assert_int_equal(take(world, &world->fd), RESULT_OK);
    assert_int_equal(stat(world->lock, &after), 0);
    assert_true(before.st_ino == after.st_ino);
}

static void giving_up_no_lock_is_fine(void **state)
{
    (void)state;
    lock_give_up(-1);
}

/* ---- held ---- */

static void a_held_folder_is_busy_and_the_fault_says_by_whom(void **state)
{
    struct world *world = *state;
    char process[64];
    int second = -1;

    assert_int_equal(take(world, &world->fd), RESULT_OK);
    assert_int_equal(take(world, &second), RESULT_BUSY);
    assert_int_equal(second, -1);
    assert_int_equal(world->fault.code, RESULT_BUSY);
    (void)snprintf(process, sizeof process, "process %ld:", (long)getpid());
    assert_non_null(strstr(world->fault.text, world->lock));
    assert_non_null(strstr(world->fault.text, process));
    assert_int_equal(lock_take(world->data, true, &second, NULL), RESULT_BUSY);
}

static void a_holder_that_left_no_name_is_unknown(void **state)
{
    struct world *world = *state;
    int second;

    assert_int_equal(take(world, &world->fd), RESULT_OK);
    assert_int_equal(truncate(world->lock, 0), 0);
    assert_int_equal(take(world, &second), RESULT_BUSY);
    assert_non_null(strstr(world->fault.text, "(unknown)"));
}

/* Takes the lock, says so, and waits to be killed. */
static void hold_until_killed(struct world *world, int say)
{
    char word = take(world, &world->fd) == RESULT_OK ? 'y' : 'n';

    if (write(say, &word, 1) == 1)
        for (;;)
            (void)pause();
    _exit(1);
}

static void a_killed_process_holds_nothing_any_more(void **state)
{
    struct world *world = *state;
    char process[64];
    char word = 0;
    int ends[2];
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        hold_until_killed(world, ends[1]);
    assert_int_equal(read(ends[0], &word, 1), 1);
    assert_int_equal(word, 'y');
    assert_int_equal(take(world, &world->fd), RESULT_BUSY);
    (void)snprintf(process, sizeof process, "process %ld:", (long)child);
    assert_non_null(strstr(world->fault.text, process));

    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(take(world, &world->fd), RESULT_OK);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* ---- what is no data folder ---- */

static void a_folder_that_cannot_be_made_is_named(void **state)
{
    struct world *world = *state;

    (void)snprintf(world->lock, sizeof world->lock, "%s/none/data", world->folder);
    assert_int_equal(lock_take(world->lock, true, &world->fd, &world->fault), RESULT_IO);
    assert_non_null(strstr(world->fault.text, world->lock));
    assert_non_null(strstr(world->fault.text, strerror(ENOENT)));
    assert_int_equal(world->fd, -1);
}

static void a_file_in_place_of_the_folder_is_refused(void **state)
{
    struct world *world = *state;
    int file = open(world->data, O_CREAT | O_WRONLY, 0600);

    assert_true(file >= 0);
    (void)close(file);
    assert_int_equal(take(world, &world->fd), RESULT_IO);
    assert_non_null(strstr(world->fault.text, world->data));
}

static void a_symbolic_link_in_place_of_the_lock_is_not_followed(void **state)
{
    struct world *world = *state;
    char victim[PATH];
    struct stat about;

    (void)snprintf(victim, sizeof victim, "%s/victim", world->folder);
    assert_int_equal(mkdir(world->data, 0700), 0);
    assert_int_equal(symlink(victim, world->lock), 0);
    assert_int_equal(take(world, &world->fd), RESULT_IO);
    assert_int_not_equal(stat(victim, &about), 0);
}

static void a_path_beyond_all_limits_is_refused(void **state)
{
    struct world *world = *state;
    static char path[5000];

    memset(path, '/', sizeof path - 1);
    assert_int_not_equal(lock_take(path, true, &world->fd, &world->fault), RESULT_OK);
    /* Still a valid name, but its lock's is not. */
    path[4094] = 0;
    assert_int_equal(lock_take(path, true, &world->fd, &world->fault), RESULT_TOO_LARGE);
    assert_int_equal(world->fd, -1);
}

/* ---- file systems ---- */

static void file_systems_that_may_lose_mail_have_names(void **state)
{
    (void)state;
    assert_string_equal(lock_unsafe_filesystem(0x6969), "nfs");
    assert_string_equal(lock_unsafe_filesystem(0xff534d42), "cifs");
    assert_string_equal(lock_unsafe_filesystem(0xfe534d42), "smb2");
    assert_string_equal(lock_unsafe_filesystem(0x794c7630), "overlay");
    assert_string_equal(lock_unsafe_filesystem(0x65735546), "fuse");
    assert_string_equal(lock_unsafe_filesystem(0x01021997), "9p");
    assert_string_equal(lock_unsafe_filesystem(0x00c36400), "ceph");
}

static void local_file_systems_are_safe(void **state)
{
    (void)state;
    assert_null(lock_unsafe_filesystem(0xef53));     /* ext4 */
    assert_null(lock_unsafe_filesystem(0x58465342)); /* xfs */
    assert_null(lock_unsafe_filesystem(0x9123683e)); /* btrfs */
    assert_null(lock_unsafe_filesystem(0x01021994)); /* tmpfs */
    assert_null(lock_unsafe_filesystem(0x2fc12fc1)); /* zfs */
    assert_null(lock_unsafe_filesystem(0xf2f52010)); /* f2fs */
}

/* Of whatever kind the folder of temporary files is. */
static void an_unsafe_file_system_is_denied_unless_it_is_allowed(void **state)
{
    struct world *world = *state;
    struct statfs statistics;
    const char *unsafe;
    enum result result;

    assert_int_equal(statfs(world->folder, &statistics), 0);
    unsafe = lock_unsafe_filesystem((unsigned long)statistics.f_type & 0xffffffffUL);
    result = lock_take(world->data, false, &world->fd, &world->fault);
    assert_int_equal(result, unsafe ? RESULT_DENIED : RESULT_OK);
    if (unsafe) {
        assert_non_null(strstr(world->fault.text, unsafe));
        assert_non_null(strstr(world->fault.text, "allow_network_filesystem = true"));
        assert_int_equal(take(world, &world->fd), RESULT_OK);
    }
}

#define LOCK(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCK(taking_makes_the_folder_and_a_file_for_the_owner_only),
        LOCK(the_file_says_who_holds_the_folder_and_nothing_of_holders_before),
        LOCK(a_program_that_is_started_does_not_inherit_the_lock),
        LOCK(a_lock_that_was_given_up_can_be_taken_again_and_its_file_stays),
        LOCK(giving_up_no_lock_is_fine),
        LOCK(a_held_folder_is_busy_and_the_fault_says_by_whom),
        LOCK(a_holder_that_left_no_name_is_unknown),
        LOCK(a_killed_process_holds_nothing_any_more),
        LOCK(a_folder_that_cannot_be_made_is_named),
        LOCK(a_file_in_place_of_the_folder_is_refused),
        LOCK(a_symbolic_link_in_place_of_the_lock_is_not_followed),
        LOCK(a_path_beyond_all_limits_is_refused),
        LOCK(file_systems_that_may_lose_mail_have_names),
        LOCK(local_file_systems_are_safe),
        LOCK(an_unsafe_file_system_is_denied_unless_it_is_allowed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
