/* The event log: one event is one JSON object on a line.
 *
 * Owns      a bounded ring and the writer thread that empties it into a descriptor (stdout
 *           may be a blocked pipe; the loop never waits for it).
 * Promises  a final event (one that ends a recipient's life) is dropped for no other: while the
 *           ring has no room for them log_has_room() is false, and new mail, new attempts and
 *           removals wait. What was under way by then may fill the ring to four times its size;
 *           final events above that are lost, counted, and told of ("log.final_lost") once there
 *           is room. Other events are dropped when the ring is full, and counted.
 *           Text is escaped; bytes that are not UTF-8 are written as U+FFFD. Secrets have
 *           no printer.
 * Ignores   which events there are: docs/events.md lists them.
 *
 *   struct log_line line;
 *   log_start(&line, LOG_NOTICE, "receive.accepted");
 *   log_text(&line, "id", id);
 *   log_number(&line, "size", size);
 *   log_end(&line);
 */
#ifndef SMTPD_BASE_LOG_H
#define SMTPD_BASE_LOG_H

#include "smtpd/base/bytes.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_JSON, LOG_TEXT }; /* text: columns (and colour) for a terminal */

/* A longer line loses its last fields, never its JSON form. A value is cut after 1 KiB. */
enum { LOG_LINE_MAX = 8192 };

struct log_settings {
    const char
        *output; /* "stdout", "stderr" or a path (appended; opened again at SIGHUP) */
    enum log_level level;
    enum log_format format;
    const char *node;    /* "node" field of every line: our host name */
    uint64_t ring_bytes; /* 0: 4 MiB; at least 64 KiB */
};

struct log_line {
    bool is_written; /* false: below the level, all calls on it do nothing */
    bool is_final;
    bool needs_comma;
    unsigned depth;   /* open objects */
    unsigned skipped; /* open objects that did not fit: their fields are left out */
    size_t length;
    enum log_level level;
    enum log_format format;
    char prefix[32]; /* of the open object, in the text format */
    char text[LOG_LINE_MAX];
};

/* Before log_open() lines go to stderr at once, unbuffered (command line, start). */
enum result MUST_CHECK log_open(const struct log_settings *settings, struct fault *fault);
/* Applies new settings and opens the file again. On failure the old log goes on. */
enum result MUST_CHECK log_reopen(const struct log_settings *settings, struct fault *fault);
void log_close(void);    /* writes what is left (waits at most 5 s for a blocked output) */
bool log_has_room(void); /* room for final events; see Promises */
/* Asks the writer to call `fn` (from its own thread; it should only wake the loop) once
 * after log_has_room() became true again. */
void log_on_room(void (*fn)(void *owner), void *owner);
uint64_t log_dropped_count(void);
uint64_t log_final_lost_count(void); /* see Promises */
bool log_would_write(enum log_level level);

void log_start(struct log_line *line, enum log_level level, const char *event);
void log_start_final(struct log_line *line, enum log_level level, const char *event);
void log_text(struct log_line *line, const char *name,
              const char *value); /* NULL: left out */
void log_slice(struct log_line *line, const char *name, struct slice value);
void log_number(struct log_line *line, const char *name, int64_t value);
void log_seconds(struct log_line *line, const char *name, int64_t ms); /* 1.234 */
void log_bool(struct log_line *line, const char *name, bool value);
void log_object(struct log_line *line, const char *name); /* fields until log_object_end */
void log_object_end(struct log_line *line);
void log_end(struct log_line *line); /* hands the line over */

/* For lines with at most a message: event, and "message" formatted. */
void log_message(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
