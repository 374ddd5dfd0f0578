/* The sink: a bounded list of whole lines and the thread that writes them, because stdout
 * may be a pipe that nobody reads. It is the one global of the house. Rejected: writing
 * from the loop (it would block), and a lock-free ring (lines vary from 200 bytes to 8 KiB,
 * and a lock held for a list operation costs less than the write). */
#include "smtpd/base/log.h"

#include "log_sink.h"
#include "smtpd/base/bell.h"
#include "smtpd/base/check.h"
#include "smtpd/base/list.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    RING_BYTES = 4 << 20,
    RING_BYTES_LEAST = 65536,
    RING_GROWTH = 4,     /* final lines may grow the ring to so many times its size */
    BATCH_BYTES = 65536, /* of one write; larger than any line */
    GATHER_NS = 1000000, /* how long a line may wait for company */
    BLOCKED_MS = 100,    /* how long the writer waits for a pipe before it looks up */
    PAUSE_MS = 20,       /* after a failed write, doubled each time up to ... */
    PAUSE_MOST_MS = 1000,
    GIVE_UP_MS = 4000, /* of log_close(): then the writer stops trying */
    CLOSE_WAIT_S = 5   /* then the process no longer waits for the writer */
};

struct log_entry {
    struct link link;  /* in sink.lines */
    struct link loose; /* in sink.droppable, unless the line is final */
    size_t length;
    char text[];
};

static struct {
    pthread_mutex_t lock;
    struct bell work;  /* wakes the writer; lives on, a thread may still be at it */
    struct bell ended; /* the writer has */
    bool has_bells;
    pthread_t writer;
    struct list lines;     /* oldest first */
    struct list droppable; /* those of them that are not final */
    size_t bytes;          /* of the lines that wait, with their heads */
    size_t ring_bytes;
    bool is_open;
    bool is_closing;
    atomic_bool is_writing; /* what the writer took out of the ring */
    int64_t give_up_ms;     /* monotonic; while closing */
    int fd;                 /* this and the next two: the writer's own while it runs */
    bool owns_fd;
    size_t write_most; /* a pipe that can be written takes this without blocking */
    int next_fd;       /* -1: none */
    bool next_is_owned;
    uint64_t dropped;
    uint64_t final_lost;
    uint64_t final_lost_told;
    bool room_is_awaited;
    void (*on_room)(void *owner);
    void *on_room_owner;
    _Atomic int level;
    struct log_look look;
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .fd = STDERR_FILENO,
          .next_fd = -1,
          .level = LOG_INFO};

static void lock(void)
{
    CHECK(pthread_mutex_lock(&sink.lock) == 0);
}

static void unlock(void)
{
    CHECK(pthread_mutex_unlock(&sink.lock) == 0);
}

static int64_t monotonic_ms(void)
{
    struct timespec now;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- writing ---- */

static void use_descriptor(int fd, bool is_owned)
{
    struct stat status;

    sink.fd = fd;
    sink.owns_fd = is_owned;
    sink.write_most =
        fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? BATCH_BYTES : PIPE_BUF;
}

/* With the lock held. */
static bool switch_descriptor(void)
{
    if (sink.next_fd < 0)
        return false;
    if (sink.owns_fd)
        (void)close(sink.fd);
    use_descriptor(sink.next_fd, sink.next_is_owned);
    sink.next_fd = -1;
    return true;
}

static bool take_new_descriptor(void)
{
    bool is_new;

    lock();
    is_new = switch_descriptor();
    unlock();
    return is_new;
}

/* Bytes written, 0 for a pipe that is full, -1 for a failure. */
static ssize_t write_some(const char *text, size_t length)
{
    struct pollfd output = {.fd = sink.fd, .events = POLLOUT};
    ssize_t written;

    if (poll(&output, 1, BLOCKED_MS) == 0)
        return 0;
    written = write(sink.fd, text, length < sink.write_most ? length : sink.write_most);
    if (written < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return written;
}

/* While closing: too late to try again? Then what is left counts as dropped. */
static bool give_up(const char *left, size_t length)
{
    bool is_late;

    lock();
    is_late = sink.is_closing && monotonic_ms() >= sink.give_up_ms;
    for (size_t i = 0; is_late && i < length; i++)
        sink.dropped += left[i] == '\n';
    unlock();
    return is_late;
}

static int pause_for(int ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

    (void)nanosleep(&time, NULL);
    return ms * 2 < PAUSE_MOST_MS ? ms * 2 : PAUSE_MOST_MS;
}

/* A full disk or a slow pipe passes: what is left is tried again, ever more slowly. A new
 * output (SIGHUP) ends the waiting and gets the broken line from its beginning. */
static void write_batch(const char *batch, size_t length)
{
    size_t at = 0;
    int pause_ms = PAUSE_MS;

    while (at < length) {
        ssize_t written = write_some(batch + at, length - at);

        if (written > 0) {
            at += (size_t)written;
            pause_ms = PAUSE_MS;
            continue;
        }
        if (give_up(batch + at, length - at))
            return;
        if (written < 0)
            pause_ms = pause_for(pause_ms);
        if (take_new_descriptor())
            while (at > 0 && batch[at - 1] != '\n')
                at--;
    }
}

/* ---- the ring; all with the lock held ---- */

static size_t entry_bytes(const struct log_entry *entry)
{
    return sizeof *entry + entry->length;
}

static void remove_entry(struct log_entry *entry)
{
    list_remove(&sink.lines, &entry->link);
    list_remove(&sink.droppable, &entry->loose);
    sink.bytes -= entry_bytes(entry);
    memory_free(entry);
}

static bool drop_oldest(void)
{
    struct link *loose = list_first(&sink.droppable);

    if (!loose)
        return false;
    remove_entry(CONTAINER_OF(loose, struct log_entry, loose));
    sink.dropped++;
    return true;
}

static size_t take_batch(char *batch)
{
    size_t length = 0;
    struct link *link;

    while ((link = list_first(&sink.lines))) {
        struct log_entry *entry = CONTAINER_OF(link, struct log_entry, link);

        if (length + entry->length > BATCH_BYTES)
            break;
        memcpy(batch + length, entry->text, entry->length);
        length += entry->length;
        remove_entry(entry);
    }
    return length;
}

/* Well below the mark, or it would be told at every second line. The lock is held on
 * purpose: after log_on_room(NULL, NULL) the old function no longer runs. */
static void tell_room(void)
{
    if (!sink.room_is_awaited || sink.bytes >= sink.ring_bytes / 2)
        return;
    sink.room_is_awaited = false;
    if (sink.on_room)
        sink.on_room(sink.on_room_owner);
}

/* With the lock held: final lines that were lost and that no line tells of yet, once there is room
 * for one that does. */
static uint64_t lost_to_tell(void)
{
    uint64_t count = sink.final_lost - sink.final_lost_told;

    if (count == 0 || (sink.bytes >= sink.ring_bytes / 2 && !sink.is_closing))
        return 0;
    sink.final_lost_told = sink.final_lost;
    return count;
}

/* By the writer itself, behind its batch: a log that is closing takes no lines any more. */
static void tell_lost(uint64_t count)
{
    struct log_line line;

    if (count == 0)
        return;
    log_start(&line, LOG_ERROR, "log.final_lost");
    log_number(&line, "lines", (int64_t)count);
    log_line_close(&line);
    write_batch(line.text, line.length);
}

/* A line seldom comes alone: one wake-up and one write for those of a moment. Waking for each
 * took the core from the loop at every line. */
static void gather(void)
{
    static const struct timespec moment = {.tv_nsec = GATHER_NS};

    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
}

static void *write_lines(void *argument)
{
    char *batch = argument;

    for (;;) {
        uint64_t lost;
        size_t length;

        lock();
        while (!list_first(&sink.lines) && !sink.is_closing && sink.next_fd < 0) {
            unlock();
            bell_wait(&sink.work);
            gather();
            lock();
        }
        /* Under the same lock as the batch: no line that came behind log_reopen() may go to
         * the old output. */
        (void)switch_descriptor();
        length = take_batch(batch);
        atomic_store(&sink.is_writing, length > 0);
        tell_room();
        lost = lost_to_tell();
        if (length == 0 && sink.is_closing) {
            unlock();
            break;
        }
        unlock();
        write_batch(batch, length);
        tell_lost(lost);
        atomic_store(&sink.is_writing, false);
    }
    memory_free(batch);
    bell_ring(&sink.ended);
    return NULL;
}

/* Of a process that is about to abort: what gathers still tells why. One attempt, and none if
 * the lock is taken, maybe by who ends; then it stays taken, and nothing comes behind. */
static void write_last_lines(void)
{
    struct link *link;

    if (pthread_mutex_trylock(&sink.lock) != 0 || !sink.is_open)
        return;
    for (int i = 0; i < BLOCKED_MS && atomic_load(&sink.is_writing); i++)
        (void)pause_for(1);
    for (link = list_first(&sink.lines); link; link = list_next(&sink.lines, link)) {
        const struct log_entry *entry = CONTAINER_OF(link, struct log_entry, link);

        if (write_some(entry->text, entry->length) < (ssize_t)entry->length)
            return;
    }
}

/* With the lock held. What makes final lines stops at log_has_room(), so there is place for all of them
 * but in one case: more attempts than that with a hundred recipients each were under way when the output
 * stopped. Then the line is lost, and counted. Rejected: to wait for the output here (the loop would
 * hang for as long as it does, and with it all mail), to take every line (memory has no ceiling then),
 * and to abort (the lines that wait are lost with the process, and what its attempts delivered would be
 * delivered again: worse than no line about it). */
static bool has_place(const struct log_entry *entry, bool is_final)
{
    size_t most = is_final ? sink.ring_bytes * RING_GROWTH : sink.ring_bytes;

    return sink.bytes + entry_bytes(entry) <= most;
}

void log_sink_take(const struct log_line *line)
{
    struct log_entry *entry = memory_resize(NULL, sizeof *entry + line->length);

    *entry = (struct log_entry){.length = line->length};
    memcpy(entry->text, line->text, line->length);
    lock();
    if (!sink.is_open) {
        /* One attempt: there is nobody to tell that stderr is gone. */
        if (write(STDERR_FILENO, line->text, line->length) < 0)
            sink.dropped++;
        unlock();
        memory_free(entry);
        return;
    }
    while (sink.bytes + entry_bytes(entry) > sink.ring_bytes && drop_oldest())
        ;
    if (!has_place(entry, line->is_final)) {
        sink.dropped += !line->is_final;
        sink.final_lost += line->is_final;
        unlock();
        memory_free(entry);
        return;
    }
    sink.bytes += entry_bytes(entry);
    list_push_back(&sink.lines, &entry->link);
    if (!line->is_final)
        list_push_back(&sink.droppable, &entry->loose);
    unlock();
    bell_ring(&sink.work);
}

void log_sink_look(struct log_look *look)
{
    lock();
    *look = sink.look;
    unlock();
}

/* ---- questions ---- */

bool log_has_room(void)
{
    bool has_room;

    lock();
    has_room = !sink.is_open || sink.bytes < sink.ring_bytes / 4 * 3;
    if (!has_room)
        sink.room_is_awaited = true;
    unlock();
    return has_room;
}

void log_on_room(void (*fn)(void *owner), void *owner)
{
    lock();
    sink.on_room = fn;
    sink.on_room_owner = owner;
    unlock();
}

uint64_t log_dropped_count(void)
{
    uint64_t count;

    lock();
    count = sink.dropped;
    unlock();
    return count;
}

uint64_t log_final_lost_count(void)
{
    uint64_t count;

    lock();
    count = sink.final_lost;
    unlock();
    return count;
}

bool log_would_write(enum log_level level)
{
    return (int)level <= atomic_load(&sink.level);
}

/* ---- opening and closing ---- */

/* With the lock held, or before the writer runs. */
static void apply(const struct log_settings *settings, int fd)
{
    uint64_t ring_bytes = settings->ring_bytes ? settings->ring_bytes : RING_BYTES;

    atomic_store(&sink.level, (int)settings->level);
    sink.look.format = settings->format;
    sink.look.has_colour = isatty(fd) == 1;
    sink.ring_bytes = ring_bytes > RING_BYTES_LEAST ? (size_t)ring_bytes : RING_BYTES_LEAST;
    (void)snprintf(sink.look.node, sizeof sink.look.node, "%s",
                   settings->node ? settings->node : "");
}

/* Signals are for the loop's thread; and a reader that went away is EPIPE here, not
 * SIGPIPE. */
static bool start_writer(void)
{
    char *batch = memory_new(BATCH_BYTES);
    sigset_t all;
    sigset_t before;
    bool has_started;

    CHECK(sigfillset(&all) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    has_started = pthread_create(&sink.writer, NULL, write_lines, batch) == 0;
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    if (!has_started)
        memory_free(batch);
    return has_started;
}

static void forget_next(void)
{
    if (sink.next_fd >= 0 && sink.next_is_owned)
        (void)close(sink.next_fd);
    sink.next_fd = -1;
}

enum result log_open(const struct log_settings *settings, struct fault *fault)
{
    int fd;
    bool is_owned;
    enum result result = log_output_open(settings->output, &fd, &is_owned, fault);

    if (result != RESULT_OK)
        return result;
    lock();
    CHECK(!sink.is_open);
    list_init(&sink.lines);
    list_init(&sink.droppable);
    sink.bytes = 0;
    sink.is_closing = false;
    sink.room_is_awaited = false;
    forget_next();
    use_descriptor(fd, is_owned);
    apply(settings, fd);
    if (!sink.has_bells) {
        bell_init(&sink.work);
        bell_init(&sink.ended);
    }
    sink.has_bells = true;
    /* One that was given up may have ended since. */
    (void)bell_wait_until(&sink.ended, &(struct timespec){0, 0});
    check_before_end(write_last_lines);
    sink.is_open = start_writer();
    if (!sink.is_open) {
        if (is_owned)
            (void)close(fd);
        result = fault_set(fault, RESULT_IO, "cannot start the thread of the log");
    }
    unlock();
    return result;
}

enum result log_reopen(const struct log_settings *settings, struct fault *fault)
{
    int fd;
    bool is_owned;
    enum result result = log_output_open(settings->output, &fd, &is_owned, fault);

    if (result != RESULT_OK)
        return result;
    lock();
    forget_next();
    sink.next_fd = fd;
    sink.next_is_owned = is_owned;
    apply(settings, fd);
    unlock();
    bell_ring(&sink.work);
    return RESULT_OK;
}

void log_close(void)
{
    struct timespec deadline;
    uint64_t dropped_before;
    uint64_t dropped_now;

    lock();
    if (!sink.is_open) {
        unlock();
        return;
    }
    sink.is_closing = true;
    sink.is_open = false; /* later lines go to stderr */
    sink.give_up_ms = monotonic_ms() + GIVE_UP_MS;
    dropped_before = sink.dropped;
    unlock();
    bell_ring(&sink.work);
    /* Not by the wall's clock, which may be set meanwhile. */
    CHECK(clock_gettime(CLOCK_MONOTONIC, &deadline) == 0);
    deadline.tv_sec += CLOSE_WAIT_S;
    if (!bell_wait_until(&sink.ended, &deadline)) {
        (void)fprintf(stderr,
                      "smtpd: the log takes no more lines; its last ones are lost\n");
        return; /* the process ends with the thread still in write() */
    }
    CHECK(pthread_join(sink.writer, NULL) == 0);
    dropped_now = log_dropped_count();
    if (dropped_now > dropped_before)
        (void)fprintf(stderr, "smtpd: %llu log lines could not be written\n",
                      (unsigned long long)(dropped_now - dropped_before));
    if (sink.owns_fd)
        (void)close(sink.fd);
    sink.fd = STDERR_FILENO;
    sink.owns_fd = false;
}
