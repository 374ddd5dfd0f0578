/* Lines are made in the caller's memory, handed to a bounded list, and written by a thread of
 * their own: stdout may be a pipe that nobody reads. The log sink is the one global of the
 * house. Rejected: writing from the loop (it would block), and one lock-free ring (lines vary
 * from 200 bytes to 8 KiB, and a lock held for a list operation costs less than the write). */
#include "smtpd/base/log.h"

#include "smtpd/base/list.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/moment.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RING_BYTES = 4 << 20, LOOK_BACK = 64, CLOSE_WAIT_S = 5, RETRY_MS = 200 };

struct log_entry {
    struct link link;
    bool is_final;
    size_t length;
    char text[];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_t writer;
    struct list lines;
    size_t bytes;      /* of the lines that wait */
    size_t ring_bytes;
    bool is_open;
    bool is_closing;
    int fd;
    int next_fd; /* -1: none */
    bool owns_fd;
    bool next_is_owned;
    uint64_t dropped;
    bool room_is_awaited;
    void (*on_room)(void *owner);
    void *on_room_owner;
    char node[256];
    _Atomic int level;
    _Atomic int format;
    bool has_colour;
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .fd = STDERR_FILENO,
          .next_fd = -1,
          .level = LOG_INFO};

static const char *const level_names[] = {"error", "warning", "notice", "info", "debug"};

/* ---- writing ---- */

static void wait_ms(long ms)
{
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

    (void)nanosleep(&pause, NULL);
}

static bool is_closing(void)
{
    bool closing;

    (void)pthread_mutex_lock(&sink.lock);
    closing = sink.is_closing;
    (void)pthread_mutex_unlock(&sink.lock);
    return closing;
}

/* A full disk or a slow pipe passes: the line is kept and tried again. Only while closing is it
 * given up, after one more try. */
static void write_all(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, text, length);

        if (written > 0) {
            text += written;
            length -= (size_t)written;
            continue;
        }
        if (written < 0 && errno == EINTR)
            continue;
        if (is_closing() || errno == EPIPE || errno == EBADF)
            return;
        wait_ms(RETRY_MS);
    }
}

static void swap_descriptor(void)
{
    if (sink.next_fd < 0)
        return;
    if (sink.owns_fd)
        (void)close(sink.fd);
    sink.fd = sink.next_fd;
    sink.owns_fd = sink.next_is_owned;
    sink.next_fd = -1;
}

/* Takes lines up to `most` bytes into `batch`; called with the lock held. */
static size_t take_batch(char *batch, size_t most)
{
    size_t length = 0;
    struct link *link;

    while ((link = list_first(&sink.lines))) {
        struct log_entry *entry = CONTAINER_OF(link, struct log_entry, link);

        if (length + entry->length > most)
            break;
        memcpy(batch + length, entry->text, entry->length);
        length += entry->length;
        list_remove(&sink.lines, link);
        sink.bytes -= entry->length;
        memory_free(entry);
    }
    return length;
}

static void tell_room(void)
{
    void (*fn)(void *) = NULL;
    void *owner = NULL;

    if (sink.room_is_awaited && sink.bytes < sink.ring_bytes / 2) {
        sink.room_is_awaited = false;
        fn = sink.on_room;
        owner = sink.on_room_owner;
    }
    if (fn)
        fn(owner);
}

static void *write_lines(void *unused)
{
    static char batch[8 * LOG_LINE_MAX];

    (void)unused;
    (void)pthread_mutex_lock(&sink.lock);
    for (;;) {
        size_t length;

        swap_descriptor();
        length = take_batch(batch, sizeof batch);
        tell_room();
        if (length == 0 && sink.is_closing)
            break;
        if (length == 0) {
            (void)pthread_cond_wait(&sink.work, &sink.lock);
            continue;
        }
        (void)pthread_mutex_unlock(&sink.lock);
        write_all(sink.fd, batch, length);
        (void)pthread_mutex_lock(&sink.lock);
    }
    (void)pthread_mutex_unlock(&sink.lock);
    return NULL;
}

/* ---- opening and closing ---- */

static enum result open_output(const char *output, int *fd, bool *is_owned, struct fault *fault)
{
    *is_owned = false;
    if (!output || strcmp(output, "stdout") == 0) {
        *fd = STDOUT_FILENO;
    } else if (strcmp(output, "stderr") == 0) {
        *fd = STDERR_FILENO;
    } else {
        *fd = open(output, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        *is_owned = true;
        if (*fd < 0)
            return fault_set(fault, RESULT_IO, "cannot open the log %s: %s", output,
                             strerror(errno));
    }
    return RESULT_OK;
}

static void apply(const struct log_settings *settings, int fd)
{
    atomic_store(&sink.level, (int)settings->level);
    atomic_store(&sink.format, (int)settings->format);
    sink.has_colour = isatty(fd) == 1;
    sink.ring_bytes = settings->ring_bytes ? settings->ring_bytes : RING_BYTES;
    (void)snprintf(sink.node, sizeof sink.node, "%s", settings->node ? settings->node : "");
}

enum result log_open(const struct log_settings *settings, struct fault *fault)
{
    int fd;
    bool is_owned;
    enum result result = open_output(settings->output, &fd, &is_owned, fault);

    if (result != RESULT_OK)
        return result;
    list_init(&sink.lines);
    sink.fd = fd;
    sink.owns_fd = is_owned;
    sink.is_closing = false;
    sink.bytes = 0;
    apply(settings, fd);
    if (pthread_create(&sink.writer, NULL, write_lines, NULL) != 0)
        return fault_set(fault, RESULT_IO, "cannot start the log's thread");
    sink.is_open = true;
    return RESULT_OK;
}

enum result log_reopen(const struct log_settings *settings, struct fault *fault)
{
    int fd;
    bool is_owned;
    enum result result = open_output(settings->output, &fd, &is_owned, fault);

    if (result != RESULT_OK)
        return result;
    (void)pthread_mutex_lock(&sink.lock);
    if (sink.next_fd >= 0 && sink.next_is_owned)
        (void)close(sink.next_fd);
    sink.next_fd = fd;
    sink.next_is_owned = is_owned;
    apply(settings, fd);
    (void)pthread_cond_signal(&sink.work);
    (void)pthread_mutex_unlock(&sink.lock);
    return RESULT_OK;
}

void log_close(void)
{
    struct timespec deadline;

    if (!sink.is_open)
        return;
    (void)pthread_mutex_lock(&sink.lock);
    sink.is_closing = true;
    (void)pthread_cond_signal(&sink.work);
    (void)pthread_mutex_unlock(&sink.lock);
    (void)clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += CLOSE_WAIT_S;
    /* Past the deadline the process ends with the thread still in write(). */
    if (pthread_timedjoin_np(sink.writer, NULL, &deadline) != 0)
        return;
    if (sink.owns_fd)
        (void)close(sink.fd);
    sink.fd = STDERR_FILENO;
    sink.owns_fd = false;
    sink.is_open = false;
}

bool log_has_room(void)
{
    bool has_room = true;

    (void)pthread_mutex_lock(&sink.lock);
    if (sink.is_open && sink.bytes >= sink.ring_bytes / 4 * 3) {
        has_room = false;
        sink.room_is_awaited = true;
    }
    (void)pthread_mutex_unlock(&sink.lock);
    return has_room;
}

void log_on_room(void (*fn)(void *owner), void *owner)
{
    (void)pthread_mutex_lock(&sink.lock);
    sink.on_room = fn;
    sink.on_room_owner = owner;
    (void)pthread_mutex_unlock(&sink.lock);
}

uint64_t log_dropped_count(void)
{
    uint64_t count;

    (void)pthread_mutex_lock(&sink.lock);
    count = sink.dropped;
    (void)pthread_mutex_unlock(&sink.lock);
    return count;
}

bool log_would_write(enum log_level level)
{
    return (int)level <= atomic_load(&sink.level);
}

/* ---- making a line ---- */

/* Room is kept for what closes the line: a truncated one is still JSON. */
enum { CLOSING_ROOM = 16 };

static void put(struct log_line *line, const char *text, size_t length)
{
    if (line->length + length > LOG_LINE_MAX - CLOSING_ROOM)
        return;
    memcpy(line->text + line->length, text, length);
    line->length += length;
}

static void put_text(struct log_line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Length of the valid UTF-8 sequence (RFC 3629) at the front, or 0. */
static size_t utf8_length(const unsigned char *at, size_t left)
{
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;

    if (length == 0 || length > left || at[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

static void put_escaped(struct log_line *line, struct slice value)
{
    const unsigned char *at = (const unsigned char *)value.data;
    size_t left = value.length;

    while (left > 0) {
        size_t length = utf8_length(at, left);
        char escape[8];

        if (length == 0) {
            put(line, "\xef\xbf\xbd", 3);
            length = 1;
        } else if (*at == '"' || *at == '\\') {
            escape[0] = '\\';
            escape[1] = (char)*at;
            put(line, escape, 2);
        } else if (*at < 0x20 || *at == 0x7f) {
            (void)snprintf(escape, sizeof escape, "\\u%04x", *at);
            put(line, escape, 6);
        } else {
            put(line, (const char *)at, length);
        }
        at += length;
        left -= length;
    }
}

static bool room_for_field(const struct log_line *line, size_t length)
{
    /* Escapes may take six bytes for one. Long values are cut by their printers. */
    return line->length + length + CLOSING_ROOM + 64 < LOG_LINE_MAX;
}

static void put_name(struct log_line *line, const char *name)
{
    if (line->format == LOG_TEXT) {
        put(line, " ", 1);
        put_text(line, line->prefix);
        put_text(line, name);
        put(line, "=", 1);
        return;
    }
    if (line->needs_comma)
        put(line, ",", 1);
    put(line, "\"", 1);
    put_text(line, name);
    put(line, "\":", 2);
    line->needs_comma = true;
}

static int64_t wall_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void start_text(struct log_line *line, const char *time, const char *event)
{
    static const char *const colours[] = {"\033[31m", "\033[33m", "\033[1m", "", "\033[2m"};
    char head[160];

    (void)snprintf(head, sizeof head, "%.23s %s%-7s %-28s%s", time,
                   sink.has_colour ? colours[line->level] : "", level_names[line->level], event,
                   sink.has_colour ? "\033[0m" : "");
    put_text(line, head);
}

static void start(struct log_line *line, enum log_level level, const char *event, bool is_final)
{
    char time[MOMENT_TEXT];

    line->is_written = is_final || log_would_write(level);
    if (!line->is_written)
        return;
    line->is_final = is_final;
    line->needs_comma = false;
    line->depth = 0;
    line->length = 0;
    line->level = level;
    line->format = (enum log_format)atomic_load(&sink.format);
    line->prefix[0] = '\0';
    moment_rfc3339(wall_us(), time);
    if (line->format == LOG_TEXT) {
        start_text(line, time, event);
        return;
    }
    put(line, "{", 1);
    log_text(line, "time", time);
    log_text(line, "node", sink.node);
    log_text(line, "level", level_names[level]);
    log_text(line, "event", event);
}

void log_start(struct log_line *line, enum log_level level, const char *event)
{
    start(line, level, event, false);
}

void log_start_final(struct log_line *line, enum log_level level, const char *event)
{
    start(line, level, event, true);
}

void log_slice(struct log_line *line, const char *name, struct slice value)
{
    if (!line->is_written)
        return;
    if (value.length > 1024)
        value.length = 1024;
    if (!room_for_field(line, strlen(name) + 6 * value.length))
        return;
    put_name(line, name);
    put(line, "\"", 1);
    put_escaped(line, value);
    put(line, "\"", 1);
}

void log_text(struct log_line *line, const char *name, const char *value)
{
    if (value)
        log_slice(line, name, slice_of(value));
}

static void put_bare(struct log_line *line, const char *name, const char *value)
{
    if (!line->is_written || !room_for_field(line, strlen(name) + strlen(value)))
        return;
    put_name(line, name);
    put_text(line, value);
}

void log_number(struct log_line *line, const char *name, int64_t value)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%lld", (long long)value);
    put_bare(line, name, text);
}

void log_seconds(struct log_line *line, const char *name, int64_t ms)
{
    char text[40];

    (void)snprintf(text, sizeof text, "%lld.%03d", (long long)(ms / 1000), (int)(ms % 1000));
    put_bare(line, name, ms < 0 ? "0.000" : text);
}

void log_bool(struct log_line *line, const char *name, bool value)
{
    put_bare(line, name, value ? "true" : "false");
}

void log_object(struct log_line *line, const char *name)
{
    if (!line->is_written || line->depth >= 4 || !room_for_field(line, strlen(name)))
        return;
    line->depth++;
    if (line->format == LOG_TEXT) {
        (void)snprintf(line->prefix, sizeof line->prefix, "%.30s.", name);
        return;
    }
    put_name(line, name);
    put(line, "{", 1);
    line->needs_comma = false;
}

void log_object_end(struct log_line *line)
{
    if (!line->is_written || line->depth == 0)
        return;
    line->depth--;
    line->prefix[0] = '\0';
    if (line->format == LOG_JSON)
        line->text[line->length++] = '}'; /* CLOSING_ROOM */
    line->needs_comma = true;
}

/* ---- handing over ---- */

/* The oldest line that may go, among the first few; else the new one is the one to drop. */
static bool drop_one(void)
{
    struct link *link = list_first(&sink.lines);

    for (int i = 0; link && i < LOOK_BACK; i++, link = list_next(&sink.lines, link)) {
        struct log_entry *entry = CONTAINER_OF(link, struct log_entry, link);

        if (entry->is_final)
            continue;
        list_remove(&sink.lines, link);
        sink.bytes -= entry->length;
        sink.dropped++;
        memory_free(entry);
        return true;
    }
    return false;
}

static void hand_over(const struct log_line *line)
{
    struct log_entry *entry = memory_new(sizeof *entry + line->length);

    memcpy(entry->text, line->text, line->length);
    entry->length = line->length;
    entry->is_final = line->is_final;
    (void)pthread_mutex_lock(&sink.lock);
    while (!line->is_final && sink.bytes + entry->length > sink.ring_bytes) {
        if (!drop_one())
            break;
    }
    if (!line->is_final && sink.bytes + entry->length > sink.ring_bytes) {
        sink.dropped++;
        memory_free(entry);
    } else {
        /* Final lines always go in: what makes them stops at log_has_room(). */
        list_push_back(&sink.lines, &entry->link);
        sink.bytes += entry->length;
        (void)pthread_cond_signal(&sink.work);
    }
    (void)pthread_mutex_unlock(&sink.lock);
}

void log_end(struct log_line *line)
{
    if (!line->is_written)
        return;
    while (line->depth > 0)
        log_object_end(line);
    if (line->format == LOG_JSON)
        line->text[line->length++] = '}';
    line->text[line->length++] = '\n';
    if (sink.is_open)
        hand_over(line);
    else
        write_all(STDERR_FILENO, line->text, line->length);
    line->is_written = false;
}

void log_message(enum log_level level, const char *event, const char *format, ...)
{
    struct log_line line;
    char text[1024];
    va_list arguments;

    if (!log_would_write(level))
        return;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    log_start(&line, level, event);
    log_text(&line, "message", text);
    log_end(&line);
}
