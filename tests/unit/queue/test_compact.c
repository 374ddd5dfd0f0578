/* A copy without holes takes the place of the file; cut off anywhere, the file is whole: the child
 * that does it is killed inside each call that touches the disk. */
#include "smtpd/queue/repair.h"

#include "broken_file.h"
#include "lock.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

/* ---- calls that kill, fail, or say what a test wants ---- */

enum call { CALL_NONE, CALL_WRITE, CALL_FSYNC, CALL_RENAME, CALL_UNLINK, CALL_CHOWN };

static enum call victim;
static int skip;     /* so many go well before */
static int fails_by; /* an errno; 0: it kills */
static uint64_t disk_bytes;
static char events[64][32]; /* what happened to the disk, in order */
static size_t event_count;

static void note(const char *what)
{
    if (event_count < 64)
        (void)snprintf(events[event_count++], sizeof events[0], "%s", what);
}

/* True: it fails. */
static bool meet(enum call call)
{
    if (call != victim || skip-- > 0)
        return false;
    if (fails_by == 0)
        (void)kill(getpid(), SIGKILL);
    errno = fails_by;
    return true;
}

#define REAL(type, name, ...)                                                              \
    type (*real)(__VA_ARGS__) = NULL;                                                      \
    *(void **)&real = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t length)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return length > 4096 && meet(CALL_WRITE) ? -1 : real(fd, data, length);
}

int fsync(int fd)
{
    struct stat status;
    REAL(int, "fsync", int);

    (void)fstat(fd, &status);
    note(S_ISDIR(status.st_mode) ? "sync folder" : "sync file");
    return meet(CALL_FSYNC) ? -1 : real(fd);
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    note("rename");
    return meet(CALL_RENAME) ? -1 : real(from, to);
}

int fchown(int fd, uid_t user, gid_t group)
{
    REAL(int, "fchown", int, uid_t, gid_t);
    return meet(CALL_CHOWN) ? -1 : real(fd, user, group);
}

int statvfs(const char *path, struct statvfs *disk)
{
    REAL(int, "statvfs", const char *, struct statvfs *);
    int result = real(path, disk);

    if (disk_bytes) {
        disk->f_frsize = 4096;
        disk->f_bavail = disk_bytes / 4096;
    }
    return result;
}

/* ---- life ---- */

struct world {
    struct file file;
    struct compact_numbers numbers;
    char data[FILE_PATH + 32];
    char copy[FILE_PATH + 64];
};

enum { FILL_END = 700, FILL_LIVE = 150 };

/* Most of it is holes. */
static void fill(struct file *file)
{
    file_begin(file);
    for (uint64_t id = 10; id < FILL_END; id++)
        file_put_plain(file, id);
    file_end(file);
    file_begin(file);
    for (uint64_t id = 10; id < FILL_END - FILL_LIVE; id++) {
        for (uint32_t i = 0; i < 3; i++)
            file_delete_chunk(file, id, i);
        for (uint32_t i = 0; i < 2; i++) {
            struct store_group_key key = store_key(id, i);

            file_delete(file, "group", (struct slice){(char *)key.text, sizeof key.text});
        }
        file_delete(file, "envelope", file_id(&id));
    }
    file_end(file);
}

static int set_up(void **state)
{
    struct world *world = NEW(struct world);

    victim = CALL_NONE;
    skip = fails_by = 0;
    disk_bytes = 0;
    file_make(&world->file);
    fill(&world->file);
    event_count = 0;
    (void)snprintf(world->data, sizeof world->data, "%s/data.mdb", world->file.folder);
    (void)snprintf(world->copy, sizeof world->copy, "%s.compact", world->data);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    victim = CALL_NONE;
    disk_bytes = 0;
    file_remove(&world->file);
    memory_free(world);
    return 0;
}

static enum result compact(struct world *world)
{
    return queue_compact(world->file.folder, &world->numbers, &world->file.fault);
}

static off_t size_of(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 ? status.st_size : -1;
}

static void on_finding(void *owner, const struct verify_finding *finding)
{
    (void)owner;
    fail_msg("%s %s %s", finding->rule, finding->table, finding->record);
}

/* Everything that was put in is there. */
static void is_whole(struct world *world)
{
    struct verify_numbers numbers;
    struct verify_wanted wanted = {.folder = world->file.folder,
                                   .now_ms = FILE_NOW_MS,
                                   .on_finding = on_finding,
                                   .numbers = &numbers};

    if (queue_verify(&wanted, &world->file.fault) != RESULT_OK)
        fail_msg("%s", world->file.fault.text);
    assert_int_equal(numbers.messages, 2 + FILL_LIVE);
    assert_int_equal(numbers.groups, 3 + 2 * FILL_LIVE);
    assert_int_equal(numbers.chunks, 9 + 3 * FILL_LIVE);
    assert_int_equal(numbers.drafts, 1);
}

/* ---- what it does ---- */

static void the_file_becomes_small_and_keeps_everything(void **state)
{
    struct world *world = *state;
    off_t before = size_of(world->data);

    if (compact(world) != RESULT_OK)
        fail_msg("%s", world->file.fault.text);
    assert_int_equal(world->numbers.bytes_before, before);
    assert_int_equal(world->numbers.bytes_after, size_of(world->data));
    assert_true(size_of(world->data) * 3 < before);
    assert_int_equal(world->numbers.records, 2 + 3 + 9 + 6 * FILL_LIVE + 1 + 4);
    assert_int_equal(size_of(world->copy), -1);
    is_whole(world);
}

static void the_copy_is_on_the_disk_before_it_takes_the_place(void **state)
{
    struct world *world = *state;

    assert_int_equal(compact(world), RESULT_OK);
    assert_int_equal(event_count, 3);
    assert_string_equal(events[0], "sync file");
    assert_string_equal(events[1], "rename");
    assert_string_equal(events[2], "sync folder");
}

static void owner_and_rights_stay(void **state)
{
    struct world *world = *state;
    struct stat before;
    struct stat after;

    assert_int_equal(chmod(world->data, 0640), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(world->data, 12345, 54321), 0);
    assert_int_equal(stat(world->data, &before), 0);
    assert_int_equal(compact(world), RESULT_OK);
    assert_int_equal(stat(world->data, &after), 0);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_uid, before.st_uid);
    assert_int_equal(after.st_gid, before.st_gid);
    assert_int_not_equal(after.st_ino, before.st_ino);
}

static void what_an_earlier_try_left_is_overwritten(void **state)
{
    struct world *world = *state;
    int fd = open(world->copy, O_WRONLY | O_CREAT, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 50 << 20), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(compact(world), RESULT_OK);
    assert_int_equal(size_of(world->copy), -1);
    is_whole(world);
}

/* ---- what it refuses ---- */

static void without_room_for_the_copy_nothing_is_begun(void **state)
{
    struct world *world = *state;
    off_t before = size_of(world->data);

    disk_bytes = 1 << 20;
    assert_int_equal(compact(world), RESULT_NO_SPACE);
    assert_non_null(strstr(world->file.fault.text, "1048576"));
    assert_int_equal(size_of(world->copy), -1);
    assert_int_equal(size_of(world->data), before);
    disk_bytes = 4 << 20; /* of the pages in use, not of the file */
    assert_true(size_of(world->data) > 6 << 20);
    assert_int_equal(compact(world), RESULT_OK);
}

static void a_held_folder_is_left_alone(void **state)
{
    struct world *world = *state;
    off_t before = size_of(world->data);
    int lock;

    assert_int_equal(lock_take(world->file.folder, true, &lock, &world->file.fault),
                     RESULT_OK);
    assert_int_equal(compact(world), RESULT_BUSY);
    assert_int_equal(size_of(world->data), before);
    lock_give_up(lock);
}

/* A server that starts meanwhile must find the folder held, also where no file `lock` was. */
static void a_folder_without_lock_gets_one(void **state)
{
    struct world *world = *state;
    char path[FILE_PATH + 32];

    (void)snprintf(path, sizeof path, "%s/lock", world->file.folder);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(compact(world), RESULT_OK);
    assert_int_equal(access(path, F_OK), 0);
}

static void a_newer_format_is_refused(void **state)
{
    struct world *world = *state;

    file_begin(&world->file);
    file_put_number(&world->file, "version", STORE_FORMAT + 1);
    file_end(&world->file);
    assert_int_equal(compact(world), RESULT_INVALID);
    assert_non_null(strstr(world->file.fault.text, "format 4, this program knows 3"));
}

static void a_folder_without_a_queue_is_named(void **state)
{
    struct world *world = *state;

    assert_int_equal(unlink(world->data), 0);
    assert_int_equal(compact(world), RESULT_NOT_FOUND);
    assert_int_equal(size_of(world->copy), -1);
}

/* ---- what goes wrong ---- */

static void a_call_that_fails_leaves_the_old_file(void **state)
{
    static const enum call calls[] = {CALL_WRITE, CALL_FSYNC, CALL_RENAME, CALL_CHOWN};
    struct world *world = *state;
    struct stat before;
    struct stat after;

    assert_int_equal(stat(world->data, &before), 0);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        victim = calls[i];
        skip = calls[i] == CALL_CHOWN && i == 3; /* the first is the lock's */
        fails_by = calls[i] == CALL_WRITE ? ENOSPC : EIO;
        assert_int_equal(compact(world),
                         calls[i] == CALL_WRITE ? RESULT_NO_SPACE : RESULT_IO);
        victim = CALL_NONE;
        assert_int_equal(stat(world->data, &after), 0);
        assert_int_equal(after.st_ino, before.st_ino);
        assert_int_equal(size_of(world->copy), -1);
        is_whole(world);
        {
            char path[FILE_PATH + 32];

            (void)snprintf(path, sizeof path, "%s/lock", world->file.folder);
            (void)unlink(path);
        }
    }
}

static bool dies_in(struct world *world, enum call call, int before)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        victim = call;
        skip = before;
        fails_by = 0;
        _exit(compact(world) == RESULT_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void killed_anywhere_the_file_is_whole_and_the_next_try_ends(void **state)
{
    static const struct {
        enum call call;
        int before;
    } points[] = {{CALL_CHOWN, 0}, {CALL_CHOWN, 1},  {CALL_WRITE, 0}, {CALL_WRITE, 1},
                  {CALL_FSYNC, 0}, {CALL_RENAME, 0}, {CALL_FSYNC, 1}};
    struct world *world = *state;

    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        file_remove(&world->file);
        file_make(&world->file);
        fill(&world->file);
        (void)snprintf(world->data, sizeof world->data, "%s/data.mdb", world->file.folder);
        (void)snprintf(world->copy, sizeof world->copy, "%s.compact", world->data);
        assert_true(dies_in(world, points[i].call, points[i].before));
        is_whole(world);
        assert_int_equal(compact(world), RESULT_OK);
        assert_int_equal(size_of(world->copy), -1);
        is_whole(world);
    }
}

#define RUN_COMPACT(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_COMPACT(the_file_becomes_small_and_keeps_everything),
        RUN_COMPACT(the_copy_is_on_the_disk_before_it_takes_the_place),
        RUN_COMPACT(owner_and_rights_stay),
        RUN_COMPACT(what_an_earlier_try_left_is_overwritten),
        RUN_COMPACT(without_room_for_the_copy_nothing_is_begun),
        RUN_COMPACT(a_held_folder_is_left_alone),
        RUN_COMPACT(a_folder_without_lock_gets_one),
        RUN_COMPACT(a_newer_format_is_refused),
        RUN_COMPACT(a_folder_without_a_queue_is_named),
        RUN_COMPACT(a_call_that_fails_leaves_the_old_file),
        RUN_COMPACT(killed_anywhere_the_file_is_whole_and_the_next_try_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
