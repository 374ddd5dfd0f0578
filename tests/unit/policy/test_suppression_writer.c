/* The journal on the disk: appended, written anew, and as it was before when that fails. */
#include "suppression_writer.h"

#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

struct world {
    char folder[64];
    char path[96];
    struct suppression_writer writer;
};

static off_t synced[8]; /* the length of the file, each time */
static size_t sync_count;

/* In front of the library's. */
int fdatasync(int fd)
{
    struct stat about;

    assert_int_equal(fstat(fd, &about), 0);
    assert_true(sync_count < sizeof synced / sizeof *synced);
    synced[sync_count++] = about.st_size;
    return fsync(fd);
}

static void open_world(struct world *w)
{
    (void)snprintf(w->folder, sizeof w->folder, "/tmp/smtpd-journal-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->path, sizeof w->path, "%s/suppression", w->folder);
    suppression_writer_init(&w->writer, w->path);
    sync_count = 0;
}

static void close_world(struct world *w)
{
    suppression_writer_fini(&w->writer);
    (void)unlink(w->path);
    assert_int_equal(rmdir(w->folder), 0); /* nothing is left beside */
}

static void is_text(const char *path, const char *wanted)
{
    char text[256] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_true(read(fd, text, sizeof text - 1) >= 0);
    (void)close(fd);
    assert_string_equal(text, wanted);
}

static void run(struct world *w, const char *append, const char *portion)
{
    bytes_clear(&w->writer.append);
    bytes_clear(&w->writer.portion);
    assert_int_equal(bytes_add_text(&w->writer.append, append), RESULT_OK);
    assert_int_equal(bytes_add_text(&w->writer.portion, portion), RESULT_OK);
    w->writer.has_run = false;
    suppression_writer_run(&w->writer);
    assert_true(w->writer.has_run);
}

static void appends(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    run(&w, "head\nfirst\n", "");
    assert_int_equal(w.writer.error, 0);
    run(&w, "second\n", "");
    is_text(w.path, "head\nfirst\nsecond\n");
    assert_int_equal(w.writer.length, 18);
    close_world(&w);
}

/* A power failure leaves a file that is known by its head, whatever became of the rest. */
static void syncs_the_head_before_the_rest(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    run(&w, "head\nfirst\n", "");
    assert_int_equal(sync_count, 2);
    assert_int_equal(synced[0], 5);
    assert_int_equal(synced[1], 11);
    run(&w, "second\n", "");
    assert_int_equal(sync_count, 3);
    close_world(&w);
}

static void writes_anew_beside(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    run(&w, "head\nfirst\n", "");
    w.writer.begins_anew = true;
    run(&w, "second\n", "HEAD\nlive\n");
    is_text(w.path, "head\nfirst\nsecond\n");
    is_text(w.writer.beside, "HEAD\nlive\nsecond\n");
    w.writer.begins_anew = false;
    w.writer.ends_anew = true;
    run(&w, "third\n", "last\n");
    assert_int_equal(w.writer.beside_error, 0);
    is_text(w.path, "HEAD\nlive\nsecond\nlast\nthird\n");
    w.writer.ends_anew = false;
    run(&w, "fourth\n", "");
    is_text(w.path, "HEAD\nlive\nsecond\nlast\nthird\nfourth\n");
    close_world(&w);
}

static void gives_the_new_file_up(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    run(&w, "head\nfirst\n", "");
    w.writer.begins_anew = true;
    run(&w, "", "HEAD\n");
    assert_int_equal(access(w.writer.beside, F_OK), 0);
    close_world(&w); /* in the middle of it */
    open_world(&w);
    run(&w, "head\n", "");
    assert_int_equal(mkdir(w.writer.beside, 0700), 0);
    w.writer.begins_anew = w.writer.ends_anew = true;
    run(&w, "more\n", "HEAD\n");
    assert_int_not_equal(w.writer.beside_error, 0);
    assert_int_equal(w.writer.error, 0);
    is_text(w.path, "head\nmore\n");
    assert_int_equal(rmdir(w.writer.beside), 0);
    close_world(&w);
}

/* A disk that is full in the middle: nothing of it stays, and there is no hole later. */
static void is_as_before_when_it_fails(void **state)
{
    struct rlimit before;
    struct rlimit small;
    struct world w;

    (void)state;
    open_world(&w);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    run(&w, "head\nfirst\n", "");
    small = before;
    small.rlim_cur = 15;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    run(&w, "too much\n", "");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_not_equal(w.writer.error, 0);
    assert_int_equal(w.writer.length, 11);
    is_text(w.path, "head\nfirst\n");
    run(&w, "second\n", "");
    assert_int_equal(w.writer.error, 0);
    is_text(w.path, "head\nfirst\nsecond\n");
    close_world(&w);
}

/* Until its folder is synced the new file may be the old one again after a power failure. */
static void promises_nothing_while_the_folder_is_doubtful(void **state)
{
    char folder[sizeof((struct suppression_writer *)NULL)->folder];
    struct world w;

    (void)state;
    open_world(&w);
    run(&w, "head\nfirst\n", "");
    (void)snprintf(folder, sizeof folder, "%s", w.writer.folder);
    (void)snprintf(w.writer.folder, sizeof w.writer.folder, "%s/nowhere", w.folder);
    w.writer.begins_anew = w.writer.ends_anew = true;
    run(&w, "", "HEAD\nlive\n");
    assert_int_not_equal(w.writer.beside_error, 0);
    w.writer.begins_anew = w.writer.ends_anew = false;
    run(&w, "second\n", "");
    assert_int_not_equal(w.writer.error, 0);
    is_text(w.path, "HEAD\nlive\n");
    (void)snprintf(w.writer.folder, sizeof w.writer.folder, "%s", folder);
    run(&w, "third\n", "");
    assert_int_equal(w.writer.error, 0);
    is_text(w.path, "HEAD\nlive\nthird\n");
    assert_false(w.writer.folder_is_doubtful);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends),
        cmocka_unit_test(syncs_the_head_before_the_rest),
        cmocka_unit_test(writes_anew_beside),
        cmocka_unit_test(gives_the_new_file_up),
        cmocka_unit_test(is_as_before_when_it_fails),
        cmocka_unit_test(promises_nothing_while_the_folder_is_doubtful),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
