/* Maildir: tmp, then new, once; nothing is left of a message that was given up. */
#include "maildir.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* fsync() stands here, in front of the library's: which folders were synced is noted. */
enum { SYNCED_MOST = 64 };
static ino_t synced[SYNCED_MOST];
static size_t synced_count;
static ino_t refused; /* its sync fails */

int fsync(int fd)
{
    struct stat about;

    if (fstat(fd, &about) == 0 && about.st_ino == refused) {
        errno = EIO;
        return -1;
    }
    if (synced_count < SYNCED_MOST)
        synced[synced_count++] = about.st_ino;
    return (int)syscall(SYS_fsync, fd);
}

struct world {
    char folder[64];
    char box[96];
    struct maildir_box boxes[2];
    struct maildir_message message;
};

static int set_up(void **state)
{
    struct world *world = NEW(struct world);

    (void)strcpy(world->folder, "/tmp/smtpd-maildir-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    (void)snprintf(world->box, sizeof world->box, "%s/a.test/bob", world->folder);
    *state = world;
    synced_count = 0;
    refused = 0;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    char command[128];
    int result;

    (void)snprintf(command, sizeof command, "rm -rf '%s'", world->folder);
    result = system(command);
    memory_free(world);
    return result;
}

static struct maildir_message *message_of(struct world *world)
{
    memset(&world->message, 0, sizeof world->message);
    memset(world->boxes, 0, sizeof world->boxes);
    world->boxes[0].folder = world->box;
    world->boxes[0].fd = -1;
    (void)strcpy(world->message.name, "aaaaaaaaaaaab.0.relay.test");
    world->message.boxes = world->boxes;
    world->message.box_count = 1;
    return &world->message;
}

static size_t count_files(const struct world *world, const char *sub)
{
    char path[128];
    size_t count = 0;
    DIR *folder;

    (void)snprintf(path, sizeof path, "%s/%s", world->box, sub);
    folder = opendir(path);
    if (!folder)
        return 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    (void)closedir(folder);
    return count;
}

static void store(struct world *world, const char *first, const char *second)
{
    struct maildir_message *message = message_of(world);

    maildir_open(message, SLICE("Return-Path: <s@b.test>\n"));
    maildir_write(message, slice_of(first));
    maildir_write(message, slice_of(second));
    maildir_finish(message);
}

TEST(maildir, a_message_appears_in_new_with_line_feeds_and_for_its_owner_alone)
{
    struct world *world = *state;
    char path[192];
    char text[256] = "";
    struct stat about;
    FILE *file;

    store(world, "Subject: s\r", "\n\r\na\rb\r\n");
    assert_int_equal(world->boxes[0].result, RESULT_OK);
    assert_int_equal(count_files(world, "new"), 1);
    assert_int_equal(count_files(world, "tmp"), 0);
    (void)snprintf(path, sizeof path, "%s/new/aaaaaaaaaaaab.0.relay.test", world->box);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 077, 0);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    (void)fclose(file);
    assert_string_equal(text, "Return-Path: <s@b.test>\nSubject: s\n\na\rb\n");
}

TEST(maildir, a_repeat_is_not_stored_twice)
{
    struct world *world = *state;

    store(world, "Subject: s\r\n\r\n", "x\r\n");
    store(world, "Subject: s\r\n\r\n", "x\r\n");
    assert_true(world->boxes[0].is_there);
    assert_int_equal(world->boxes[0].result, RESULT_OK);
    assert_int_equal(count_files(world, "new"), 1);
    assert_int_equal(count_files(world, "tmp"), 0);
}

TEST(maildir, a_repeat_after_it_was_read_is_seen_in_cur)
{
    struct world *world = *state;
    char from[192];
    char to[192];

    store(world, "Subject: s\r\n\r\n", "x\r\n");
    (void)snprintf(from, sizeof from, "%s/new/aaaaaaaaaaaab.0.relay.test", world->box);
    (void)snprintf(to, sizeof to, "%s/cur/aaaaaaaaaaaab.0.relay.test:2,S", world->box);
    assert_int_equal(rename(from, to), 0);
    store(world, "Subject: s\r\n\r\n", "x\r\n");
    assert_int_equal(world->boxes[0].result, RESULT_OK);
    assert_int_equal(count_files(world, "new") + count_files(world, "cur"), 1);
}

TEST(maildir, what_is_given_up_leaves_nothing)
{
    struct world *world = *state;
    struct maildir_message *message = message_of(world);

    maildir_open(message, SLICE("X: y\n"));
    maildir_write(message, SLICE("half a mess"));
    assert_int_equal(count_files(world, "tmp"), 1);
    maildir_abandon(message);
    assert_int_equal(count_files(world, "tmp"), 0);
    assert_int_equal(count_files(world, "new"), 0);
}

/* write() ends early, and then fails: 8 KB go into a file that may have 4. */
static void store_large(struct maildir_message *message)
{
    struct rlimit before;
    char line[1024];

    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, before.rlim_max}), 0);
    memset(line, 'x', sizeof line);
    for (int i = 0; i < 8; i++)
        maildir_write(message, (struct slice){line, sizeof line});
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_DFL);
}

TEST(maildir, what_could_not_be_written_whole_leaves_nothing)
{
    struct world *world = *state;
    struct maildir_message *message = message_of(world);

    maildir_open(message, SLICE("X: y\n"));
    assert_int_equal(count_files(world, "tmp"), 1);
    store_large(message);
    assert_int_equal(count_files(world, "tmp"), 0); /* at once: it needs the room */
    maildir_finish(message);
    assert_int_equal(world->boxes[0].result, RESULT_IO);
    assert_true(world->boxes[0].text[0]);
    assert_int_equal(count_files(world, "tmp"), 0);
    assert_int_equal(count_files(world, "new"), 0);
    store(world, "x\r\n", ""); /* and the next try is not in its way */
    assert_int_equal(world->boxes[0].result, RESULT_OK);
    assert_int_equal(count_files(world, "new"), 1);
}

TEST(maildir, a_folder_that_cannot_be_made_is_said)
{
    struct world *world = *state;
    char path[96];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/a.test", world->folder);
    file = fopen(path, "w"); /* a file where a folder must be */
    assert_non_null(file);
    (void)fclose(file);
    store(world, "x\r\n", "");
    assert_true(world->boxes[0].result != RESULT_OK);
    assert_true(world->boxes[0].text[0]);
}

static ino_t inode_of(const char *folder, const char *sub)
{
    char path[192];
    struct stat about;

    (void)snprintf(path, sizeof path, "%s%s", folder, sub);
    assert_int_equal(stat(path, &about), 0);
    return about.st_ino;
}

static bool was_synced(ino_t inode)
{
    for (size_t i = 0; i < synced_count; i++)
        if (synced[i] == inode)
            return true;
    return false;
}

/* The message is on the disk only when the way to it is. */
TEST(maildir, the_folders_around_new_ones_are_synced)
{
    struct world *world = *state;

    store(world, "x\r\n", "");
    assert_true(was_synced(inode_of(world->folder, "")));
    assert_true(was_synced(inode_of(world->folder, "/a.test")));
    assert_true(was_synced(inode_of(world->box, "")));
    assert_true(was_synced(inode_of(world->box, "/new")));
}

/* It may stand in `new` only in memory: a sync that failed, or a kill before it. */
TEST(maildir, a_repeat_is_stored_only_when_the_folder_is_synced)
{
    struct world *world = *state;

    store(world, "x\r\n", "");
    refused = inode_of(world->box, "/new");
    store(world, "x\r\n", "");
    assert_int_equal(world->boxes[0].result, RESULT_IO);
    refused = 0;
    synced_count = 0;
    store(world, "x\r\n", "");
    assert_int_equal(world->boxes[0].result, RESULT_OK);
    assert_true(was_synced(inode_of(world->box, "/new")));
    assert_int_equal(count_files(world, "new"), 1);
}

TEST(maildir, what_could_not_be_synced_or_moved_leaves_nothing)
{
    struct world *world = *state;
    struct maildir_message *message = message_of(world);
    char path[192];

    maildir_open(message, SLICE("X: y\n"));
    refused = inode_of(world->box, "/tmp/aaaaaaaaaaaab.0.relay.test");
    maildir_finish(message);
    assert_int_equal(world->boxes[0].result, RESULT_IO);
    assert_int_equal(count_files(world, "tmp"), 0);
    assert_int_equal(count_files(world, "new"), 0);
    refused = 0;
    message = message_of(world);
    maildir_open(message, SLICE("X: y\n"));
    (void)snprintf(path, sizeof path, "%s/new", world->box);
    assert_int_equal(rmdir(path), 0);
    maildir_finish(message);
    assert_int_equal(world->boxes[0].result, RESULT_IO);
    assert_int_equal(count_files(world, "tmp"), 0);
}

/* It is in `new` already: its bytes are safe, and the next try finds them. */
TEST(maildir, what_was_moved_stays_when_the_folder_is_not_synced)
{
    struct world *world = *state;
    struct maildir_message *message = message_of(world);

    maildir_open(message, SLICE("X: y\n"));
    refused = inode_of(world->box, "/new");
    maildir_finish(message);
    maildir_abandon(message);
    assert_int_equal(world->boxes[0].result, RESULT_IO);
    assert_int_equal(count_files(world, "new"), 1);
}

/* bob and BOB of one message. */
TEST(maildir, two_recipients_with_one_folder_get_one_copy_and_one_result)
{
    struct world *world = *state;
    struct maildir_message *message = message_of(world);

    world->boxes[1] = world->boxes[0];
    message->box_count = 2;
    maildir_open(message, SLICE("X: y\n"));
    maildir_write(message, SLICE("text\r\n"));
    maildir_finish(message);
    assert_int_equal(world->boxes[0].result, RESULT_OK);
    assert_int_equal(world->boxes[1].result, RESULT_OK);
    assert_int_equal(count_files(world, "new"), 1);
    assert_int_equal(count_files(world, "tmp"), 0);
    refused = inode_of(world->box, "/new");
    message = message_of(world);
    world->boxes[1] = world->boxes[0];
    message->box_count = 2;
    maildir_open(message, SLICE("X: y\n"));
    assert_int_equal(world->boxes[1].result, RESULT_IO);
    assert_string_equal(world->boxes[1].text, world->boxes[0].text);
}

/* A mailbox may hold a million of them. */
TEST(maildir, what_was_read_is_not_searched_at_a_first_try)
{
    struct world *world = *state;
    struct maildir_message *message;
    char from[192];
    char to[192];

    store(world, "x\r\n", "");
    (void)snprintf(from, sizeof from, "%s/new/aaaaaaaaaaaab.0.relay.test", world->box);
    (void)snprintf(to, sizeof to, "%s/cur/aaaaaaaaaaaab.0.relay.test:2,S", world->box);
    assert_int_equal(rename(from, to), 0);
    message = message_of(world);
    message->is_fresh = true;
    maildir_open(message, SLICE("X: y\n"));
    assert_false(world->boxes[0].is_there);
    maildir_abandon(message);
}

#define MAILDIR(name) cmocka_unit_test_setup_teardown(maildir_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MAILDIR(a_message_appears_in_new_with_line_feeds_and_for_its_owner_alone),
        MAILDIR(a_repeat_is_not_stored_twice),
        MAILDIR(a_repeat_after_it_was_read_is_seen_in_cur),
        MAILDIR(the_folders_around_new_ones_are_synced),
        MAILDIR(a_repeat_is_stored_only_when_the_folder_is_synced),
        MAILDIR(two_recipients_with_one_folder_get_one_copy_and_one_result),
        MAILDIR(what_was_read_is_not_searched_at_a_first_try),
        MAILDIR(what_is_given_up_leaves_nothing),
        MAILDIR(what_could_not_be_written_whole_leaves_nothing),
        MAILDIR(what_could_not_be_synced_or_moved_leaves_nothing),
        MAILDIR(what_was_moved_stays_when_the_folder_is_not_synced),
        MAILDIR(a_folder_that_cannot_be_made_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
