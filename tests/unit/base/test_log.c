/* The sink: files, blocked pipes, failing outputs, threads. A FIFO stands for a blocked
 * stdout: the test holds its reading end and reads when it wants to. */
#include "smtpd/base/log.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RING = 65536, PAGE = 4096 };

static char folder[] = "/tmp/smtpd-log-XXXXXX";
static char path[64];
static char other_path[64];

static void open_log(const char *output, uint64_t ring_bytes)
{
    struct log_settings settings = {.output = output,
                                    .level = LOG_INFO,
                                    .format = LOG_JSON,
                                    .node = "relay.test",
                                    .ring_bytes = ring_bytes};
    struct fault fault;

    assert_int_equal(log_open(&settings, &fault), RESULT_OK);
}

static void event(const char *name, int64_t number, bool is_final)
{
    struct log_line line;

    if (is_final)
        log_start_final(&line, LOG_INFO, name);
    else
        log_start(&line, LOG_INFO, name);
    log_number(&line, "number", number);
    log_end(&line);
}

static char *read_file(const char *from)
{
    FILE *file = fopen(from, "r");
    char *text = memory_new(1 << 22);

    assert_non_null(file);
    assert_true(fread(text, 1, (1 << 22) - 1, file) < (1 << 22) - 1);
    (void)fclose(file);
    return text;
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;

    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
        count++;
    return count;
}

static void wait_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    (void)nanosleep(&time, NULL);
}

/* ---- files ---- */

TEST(log, lines_reach_the_file_whole_and_in_order)
{
    char *text;
    char *at;

    open_log(path, 0);
    for (int i = 0; i < 1000; i++)
        event("test.line", i, i % 7 == 0);
    log_close();
    at = text = read_file(path);
    for (int i = 0; i < 1000; i++) {
        char wanted[64];
        char *end = strchr(at, '\n');

        assert_non_null(end);
        *end = '\0';
        (void)snprintf(wanted, sizeof wanted, "\"event\":\"test.line\",\"number\":%d}", i);
        assert_int_equal(at[0], '{');
        assert_string_equal(end - strlen(wanted), wanted);
        at = end + 1;
    }
    assert_string_equal(at, "");
    assert_non_null(strstr(text, "\"node\":\"relay.test\""));
    memory_free(text);
}

TEST(log, a_file_is_appended_to_and_not_readable_by_others)
{
    struct stat status;
    char *text;

    open_log(path, 0);
    event("test.first", 1, false);
    log_close();
    open_log(path, 0);
    event("test.second", 2, false);
    log_close();
    text = read_file(path);
    assert_int_equal(count_of(text, "test.first"), 1);
    assert_int_equal(count_of(text, "test.second"), 1);
    memory_free(text);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07, 0);
}

TEST(log, a_file_that_cannot_be_opened_says_so_and_the_old_log_goes_on)
{
    struct log_settings bad = {.output = "/nowhere/at/all.log", .level = LOG_DEBUG};
    struct fault fault;
    char *text;

    assert_int_equal(log_open(&bad, &fault), RESULT_IO);
    assert_non_null(strstr(fault.text, "/nowhere/at/all.log"));
    open_log(path, 0);
    assert_int_equal(log_reopen(&bad, &fault), RESULT_IO);
    event("test.still", 1, false);
    assert_false(log_would_write(LOG_DEBUG));
    log_close();
    text = read_file(path);
    assert_int_equal(count_of(text, "test.still"), 1);
    memory_free(text);
}

TEST(log, a_rotated_file_is_followed_by_a_new_one_without_a_loss)
{
    struct log_settings settings = {
        .output = path, .level = LOG_INFO, .node = "relay.test"};
    char *old_text;
    char *new_text;

    open_log(path, 0);
    for (int i = 0; i < 500; i++)
        event("test.line", i, false);
    assert_int_equal(rename(path, other_path), 0);
    assert_int_equal(log_reopen(&settings, NULL), RESULT_OK);
    for (int i = 500; i < 1000; i++)
        event("test.line", i, false);
    log_close();
    old_text = read_file(other_path);
    new_text = read_file(path);
    assert_int_equal(count_of(old_text, "\n") + count_of(new_text, "\n"), 1000);
    assert_non_null(strstr(new_text, "\"number\":999}"));
    memory_free(old_text);
    memory_free(new_text);
}

TEST(log, the_text_format_has_columns_and_dotted_names)
{
    struct log_settings settings = {.output = path, .level = LOG_INFO, .format = LOG_TEXT};
    struct log_line line;
    char *text;

    assert_int_equal(log_open(&settings, NULL), RESULT_OK);
    log_start(&line, LOG_NOTICE, "deliver.delivered");
    log_text(&line, "id", "abc");
    log_object(&line, "reply");
    log_number(&line, "code", 250);
    log_object(&line, "inner");
    log_bool(&line, "deep", true);
    log_object_end(&line);
    log_number(&line, "again", 1);
    log_object_end(&line);
    log_number(&line, "size", 7);
    log_end(&line);
    log_close();
    text = read_file(path);
    assert_string_equal(text + 24,
                        "notice  deliver.delivered            id=\"abc\" reply.code=250 "
                        "reply.inner.deep=true reply.again=1 size=7\n");
    assert_null(strchr(text, '\033')); /* a file is no terminal */
    memory_free(text);
}

TEST(log, messages_below_the_level_are_not_written)
{
    char *text;

    open_log(path, 0);
    log_message(LOG_INFO, "test.shown", "%s %d", "number", 5);
    log_message(LOG_DEBUG, "test.hidden", "%s", "x");
    log_close();
    text = read_file(path);
    assert_non_null(strstr(text, "\"message\":\"number 5\"}"));
    assert_null(strstr(text, "hidden"));
    memory_free(text);
}

/* ---- an output that is blocked ---- */

static int open_fifo(void)
{
    int fd;

    assert_int_equal(mkfifo(path, 0600), 0);
    fd = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(fd >= 0);
    return fd;
}

/* A pipe with one page left, then a line that is longer: once the pipe is full, the writer
 * stands in the midst of that line, and whatever comes next stays in the ring. */
static void block_output(int fd)
{
    static const char junk[PAGE];
    int size = fcntl(fd, F_GETPIPE_SZ);
    int writing_end = open(path, O_WRONLY | O_NONBLOCK);
    struct log_line line;
    char value[1000];
    int held = 0;

    for (int left = size - PAGE; left > 0; left -= PAGE)
        assert_int_equal(write(writing_end, junk, PAGE), PAGE);
    (void)close(writing_end);
    memset(value, 'x', sizeof value);
    log_start_final(&line, LOG_INFO, "test.blocker");
    for (int i = 0; i < 6; i++)
        log_slice(&line, "value", (struct slice){value, sizeof value});
    log_end(&line);
    for (int i = 0; i < 1000 && held < size; i++) {
        wait_ms(5);
        assert_int_equal(ioctl(fd, FIONREAD, &held), 0);
    }
    assert_int_equal(held, size);
}

struct reader {
    int fd;
    pthread_t thread;
    char *text;
};

/* Until all writers have closed. */
static void *read_all(void *argument)
{
    struct reader *reader = argument;
    size_t length = 0;

    for (;;) {
        char piece[PAGE];
        ssize_t got = read(reader->fd, piece, sizeof piece);

        if (got <= 0)
            return NULL;
        for (ssize_t i = 0; i < got; i++)
            if (piece[i] != '\0')
                reader->text[length++] = piece[i];
    }
}

static void start_reader(struct reader *reader, int fd)
{
    reader->fd = fd;
    reader->text = memory_new(1 << 22);
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    assert_int_equal(pthread_create(&reader->thread, NULL, read_all, reader), 0);
}

static char *close_log_and_read(int fd)
{
    struct reader reader;

    start_reader(&reader, fd);
    log_close();
    assert_int_equal(pthread_join(reader.thread, NULL), 0);
    (void)close(fd);
    return reader.text;
}

TEST(log, a_blocked_output_drops_the_oldest_plain_lines_and_no_final_one)
{
    int fd = open_fifo();
    uint64_t dropped_before = log_dropped_count();
    size_t plain;
    char *text;

    open_log(path, RING);
    block_output(fd);
    for (int i = 0; i < 4000; i++)
        event(i % 40 == 0 ? "test.final" : "test.plain", i, i % 40 == 0);
    text = close_log_and_read(fd);
    assert_int_equal(count_of(text, "test.final"), 100);
    plain = count_of(text, "test.plain");
    assert_true(plain > 0 && plain < 3900);
    assert_int_equal(log_dropped_count() - dropped_before, 3900 - plain);
    /* The newest stayed, without a hole. */
    for (size_t i = 3999; plain > 0; i--) {
        char wanted[32];

        (void)snprintf(wanted, sizeof wanted, "\"number\":%zu}", i);
        assert_non_null(strstr(text, wanted));
        plain -= i % 40 != 0;
    }
    memory_free(text);
}

static void tell(void *owner)
{
    atomic_fetch_add((_Atomic int *)owner, 1);
}

TEST(log, without_room_it_says_so_and_tells_once_when_there_is_room_again)
{
    _Atomic int told = 0;
    int fd = open_fifo();
    int written = 0;
    struct reader reader;

    open_log(path, RING);
    log_on_room(tell, &told);
    block_output(fd);
    assert_true(log_has_room());
    while (log_has_room() && written < 100000)
        event("test.final", written++, true);
    assert_true(written > 100 && written < 500);
    /* What was under way when the room ended still goes in. */
    for (int i = 0; i < 200; i++)
        event("test.final", written++, true);
    assert_false(log_has_room());
    assert_int_equal(atomic_load(&told), 0);
    start_reader(&reader, fd);
    for (int i = 0; i < 500 && atomic_load(&told) == 0; i++)
        wait_ms(10);
    assert_int_equal(atomic_load(&told), 1);
    assert_true(log_has_room());
    log_close();
    assert_int_equal(atomic_load(&told), 1);
    log_on_room(NULL, NULL);
    assert_int_equal(pthread_join(reader.thread, NULL), 0);
    assert_int_equal(count_of(reader.text, "test.final"), (size_t)written);
    memory_free(reader.text);
    (void)close(fd);
}

TEST(log, final_lines_grow_the_ring_to_four_times_and_what_is_above_is_lost_and_told)
{
    uint64_t dropped_before = log_dropped_count();
    uint64_t lost_before = log_final_lost_count();
    int fd = open_fifo();
    struct reader reader;
    char wanted[64];
    uint64_t lost;
    size_t kept;

    open_log(path, RING);
    block_output(fd);
    for (int i = 0; i < 10000; i++)
        event("test.final", i, true);
    event("test.plain", 0, false);
    lost = log_final_lost_count() - lost_before;
    kept = 10000 - (size_t)lost;
    assert_true(kept > 3 * RING / 300 && kept < 4 * RING / 100);
    assert_int_equal(log_dropped_count() - dropped_before, 1); /* the plain one */
    assert_false(log_has_room());
    start_reader(&reader, fd);
    for (int i = 0; i < 500 && !log_has_room(); i++)
        wait_ms(10);
    assert_true(log_has_room());
    event("test.final", 10000, true);
    log_close();
    assert_int_equal(pthread_join(reader.thread, NULL), 0);
    (void)close(fd);
    assert_int_equal(log_final_lost_count() - lost_before, lost);
    assert_int_equal(count_of(reader.text, "test.final"), kept + 1);
    assert_int_equal(count_of(reader.text, "log.final_lost"), 1);
    (void)snprintf(wanted, sizeof wanted, "\"log.final_lost\",\"lines\":%llu}",
                   (unsigned long long)lost);
    assert_non_null(strstr(reader.text, wanted));
    memory_free(reader.text);
}

TEST(log, the_last_lines_before_our_fault_are_written)
{
    int status = 0;
    char *text;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(99);
        open_log(path, 0);
        event("test.before", 1, false);
        event("test.last", 2, true);
        CHECK(!path[0]); /* long before the lines have gathered */
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    text = read_file(path);
    assert_int_equal(count_of(text, "test.before"), 1);
    assert_int_equal(count_of(text, "test.last"), 1);
    memory_free(text);
}

TEST(log, closing_waits_for_a_blocked_output_but_not_for_ever)
{
    int fd = open_fifo();
    uint64_t dropped_before = log_dropped_count();
    struct timespec start;
    struct timespec end;

    open_log(path, RING);
    block_output(fd);
    for (int i = 0; i < 300; i++)
        event("test.final", i, true);
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    log_close();
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    assert_in_range(end.tv_sec - start.tv_sec, 3, 6);
    assert_int_equal(log_dropped_count() - dropped_before, 301); /* lost, and counted */
    (void)close(fd);
}

/* ---- an output that fails ---- */

TEST(log, a_reader_that_went_away_loses_nothing_when_the_log_is_opened_elsewhere)
{
    struct log_settings settings = {.output = other_path, .level = LOG_INFO};
    int fd = open_fifo();
    char *text;

    open_log(path, RING);
    block_output(fd);
    for (int i = 0; i < 100; i++)
        event("test.final", i, true);
    (void)close(fd);
    assert_int_equal(log_reopen(&settings, NULL), RESULT_OK);
    log_close();
    text = read_file(other_path);
    assert_int_equal(count_of(text, "test.final"), 100);
    assert_memory_equal(text, "{\"time\"", 7); /* the broken line is whole here */
    assert_int_equal(count_of(text, "test.blocker"), 1);
    memory_free(text);
}

TEST(log, a_full_disk_passes_and_the_lines_are_still_there)
{
    struct rlimit limit;
    struct rlimit full;
    char *text;

    /* A limit of the file size stands for a full disk: write() fails, later it does not. */
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    full = limit;
    full.rlim_cur = 1000;
    open_log(path, RING);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    for (int i = 0; i < 100; i++)
        event("test.final", i, true);
    wait_ms(150);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    log_close();
    text = read_file(path);
    assert_int_equal(count_of(text, "\"event\":\"test.final\""), 100);
    assert_int_equal(count_of(text, "\n"), 100);
    memory_free(text);
}

/* ---- threads ---- */

enum { THREADS = 4, LINES_EACH = 500 };

static void *write_many(void *argument)
{
    for (int i = 0; i < LINES_EACH; i++) {
        event("test.thread", i, i % 2 == 0);
        (void)log_has_room();
    }
    return argument;
}

TEST(log, many_threads_write_while_the_file_is_opened_again)
{
    struct log_settings settings = {
        .output = path, .level = LOG_INFO, .node = "another.test"};
    pthread_t threads[THREADS];
    char *text;

    open_log(path, 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, NULL), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(log_reopen(&settings, NULL), RESULT_OK);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    log_close();
    text = read_file(path);
    assert_int_equal(count_of(text, "\"event\":\"test.thread\""), THREADS * LINES_EACH);
    assert_int_equal(count_of(text, "\n{\"time\""), THREADS * LINES_EACH - 1);
    memory_free(text);
}

static int set_up(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "%s/log", folder);
    (void)snprintf(other_path, sizeof other_path, "%s/log.1", folder);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)unlink(other_path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(folder);
}

#define RUN_CLEAN(name) cmocka_unit_test_teardown(log_##name, clean)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_CLEAN(lines_reach_the_file_whole_and_in_order),
        RUN_CLEAN(a_file_is_appended_to_and_not_readable_by_others),
        RUN_CLEAN(a_file_that_cannot_be_opened_says_so_and_the_old_log_goes_on),
        RUN_CLEAN(a_rotated_file_is_followed_by_a_new_one_without_a_loss),
        RUN_CLEAN(the_text_format_has_columns_and_dotted_names),
        RUN_CLEAN(messages_below_the_level_are_not_written),
        RUN_CLEAN(a_blocked_output_drops_the_oldest_plain_lines_and_no_final_one),
        RUN_CLEAN(without_room_it_says_so_and_tells_once_when_there_is_room_again),
        RUN_CLEAN(
            final_lines_grow_the_ring_to_four_times_and_what_is_above_is_lost_and_told),
        RUN_CLEAN(the_last_lines_before_our_fault_are_written),
        RUN_CLEAN(closing_waits_for_a_blocked_output_but_not_for_ever),
        RUN_CLEAN(a_reader_that_went_away_loses_nothing_when_the_log_is_opened_elsewhere),
        RUN_CLEAN(a_full_disk_passes_and_the_lines_are_still_there),
        RUN_CLEAN(many_threads_write_while_the_file_is_opened_again),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
