/* The making of one line, in the caller's memory: JSON, or columns for a terminal. A field
 * that does not fit leaves no trace, so a line is whole JSON whatever is put into it.
 * Rejected: a JSON library (a line would be a tree of allocations first). */
#include "log_sink.h"

#include "smtpd/base/log.h"
#include "smtpd/base/moment.h"
#include "smtpd/base/pen.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    CLOSING_ROOM = 16, /* kept for the braces and the line feed */
    VALUE_MOST = 1024, /* bytes of a value; the rest is cut off */
    DEPTH_MOST = 4
};

static const char *const level_names[] = {"error", "warning", "notice", "info", "debug"};

static bool put(struct log_line *line, const char *text, size_t length)
{
    if (line->length + length > LOG_LINE_MAX - CLOSING_ROOM)
        return false;
    memcpy(line->text + line->length, text, length);
    line->length += length;
    return true;
}

static bool put_text(struct log_line *line, const char *text)
{
    return put(line, text, strlen(text));
}

/* ---- values ---- */

/* Bytes that a sequence with this first byte has, and the range of its second byte, which
 * is where overlong forms, surrogates and what is above U+10FFFF show (RFC 3629 4). */
struct utf8_lead {
    unsigned char first;
    unsigned char last;
    unsigned char length;
    unsigned char least;
    unsigned char most;
};

static const struct utf8_lead utf8_leads[] = {
    {0x00, 0x7f, 1, 0, 0},       {0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf},
    {0xe1, 0xec, 3, 0x80, 0xbf}, {0xed, 0xed, 3, 0x80, 0x9f}, {0xee, 0xef, 3, 0x80, 0xbf},
    {0xf0, 0xf0, 4, 0x90, 0xbf}, {0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f}};

static size_t follow(const struct utf8_lead *lead, const unsigned char *at, size_t left)
{
    if (lead->length > left)
        return 0;
    if (lead->length > 1 && (at[1] < lead->least || at[1] > lead->most))
        return 0;
    for (size_t i = 2; i < lead->length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return lead->length;
}

/* Length of the valid UTF-8 sequence at the front, or 0. */
static size_t utf8_length(const unsigned char *at, size_t left)
{
    for (size_t i = 0; i < sizeof utf8_leads / sizeof *utf8_leads; i++)
        if (at[0] >= utf8_leads[i].first && at[0] <= utf8_leads[i].last)
            return follow(&utf8_leads[i], at, left);
    return 0;
}

static bool put_code(struct log_line *line, unsigned code)
{
    char escape[8];

    (void)snprintf(escape, sizeof escape, "\\u%04x", code);
    return put_text(line, escape);
}

static bool put_character(struct log_line *line, const unsigned char *at, size_t length)
{
    if (length == 0)
        return put_text(line, "\xef\xbf\xbd"); /* U+FFFD */
    if (*at == '"' || *at == '\\')
        return put(line, "\\", 1) && put(line, (const char *)at, 1);
    if (*at < 0x20 || *at == 0x7f)
        return put_code(line, *at);
    if (*at == 0xc2 && at[1] < 0xa0) /* C1 controls: some terminals obey them */
        return put_code(line, at[1]);
    return put(line, (const char *)at, length);
}

/* Nearly all of nearly every value: ASCII that stands for itself. */
static size_t plain_length(const unsigned char *at, size_t left)
{
    size_t length = 0;

    while (length < left && at[length] >= 0x20 && at[length] < 0x7f && at[length] != '"' &&
           at[length] != '\\')
        length++;
    return length;
}

static bool put_quoted(struct log_line *line, struct slice value)
{
    const unsigned char *at = (const unsigned char *)value.data;
    size_t left = value.length;

    if (!put(line, "\"", 1))
        return false;
    while (left > 0) {
        size_t length = plain_length(at, left);

        if (length > 0) {
            if (!put(line, (const char *)at, length))
                return false;
            at += length;
            left -= length;
            continue;
        }
        length = utf8_length(at, left);
        if (!put_character(line, at, length))
            return false;
        at += length ? length : 1;
        left -= length ? length : 1;
    }
    return put(line, "\"", 1);
}

/* ---- fields ---- */

static bool put_name(struct log_line *line, const char *name)
{
    if (line->format == LOG_TEXT)
        return put(line, " ", 1) && put_text(line, line->prefix) && put_text(line, name) &&
               put(line, "=", 1);
    if (line->needs_comma && !put(line, ",", 1))
        return false;
    line->needs_comma = true;
    return put(line, "\"", 1) && put_text(line, name) && put(line, "\":", 2);
}

static void put_field(struct log_line *line, const char *name, struct slice value,
                      bool is_text)
{
    size_t length = line->length;
    bool needs_comma = line->needs_comma;

    if (put_name(line, name) &&
        (is_text ? put_quoted(line, value) : put(line, value.data, value.length)))
        return;
    line->length = length;
    line->needs_comma = needs_comma;
}

static bool takes_fields(const struct log_line *line)
{
    return line->is_written && line->skipped == 0;
}

void log_slice(struct log_line *line, const char *name, struct slice value)
{
    if (!takes_fields(line))
        return;
    if (value.length > VALUE_MOST) {
        value.length = VALUE_MOST;
        /* Not within a character: at most three bytes follow a first one. */
        for (int i = 0; i < 3 && ((unsigned char)value.data[value.length] & 0xc0) == 0x80;
             i++)
            value.length--;
    }
    put_field(line, name, value, true);
}

void log_text(struct log_line *line, const char *name, const char *value)
{
    if (value && takes_fields(line))
        log_slice(line, name, slice_of(value));
}

void log_number(struct log_line *line, const char *name, int64_t value)
{
    char text[32];
    struct pen pen;

    if (!takes_fields(line))
        return;
    pen = pen_on(text, sizeof text);
    if (value < 0)
        pen_byte(&pen, '-');
    pen_number(&pen, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    put_field(line, name, slice_of(text), false);
}

void log_seconds(struct log_line *line, const char *name, int64_t ms)
{
    char text[40];
    int64_t shown = ms < 0 ? 0 : ms;
    struct pen pen;

    if (!takes_fields(line))
        return;
    pen = pen_on(text, sizeof text);
    pen_number(&pen, (uint64_t)shown / 1000);
    pen_byte(&pen, '.');
    pen_padded(&pen, (uint64_t)shown % 1000, 3);
    put_field(line, name, slice_of(text), false);
}

void log_bool(struct log_line *line, const char *name, bool value)
{
    if (takes_fields(line))
        put_field(line, name, value ? SLICE("true") : SLICE("false"), false);
}

/* ---- objects ---- */

static bool open_object(struct log_line *line, const char *name)
{
    size_t used = strlen(line->prefix);

    if (line->depth == DEPTH_MOST)
        return false;
    if (line->format == LOG_TEXT) {
        if (used + strlen(name) + 2 > sizeof line->prefix)
            return false;
        (void)snprintf(line->prefix + used, sizeof line->prefix - used, "%s.", name);
        return true;
    }
    return put_name(line, name) && put(line, "{", 1);
}

/* An object that does not fit is skipped as a whole, with all that is put into it. */
void log_object(struct log_line *line, const char *name)
{
    size_t length;
    bool needs_comma;

    if (!line->is_written)
        return;
    length = line->length;
    needs_comma = line->needs_comma;
    if (line->skipped > 0 || !open_object(line, name)) {
        line->skipped++;
        line->length = length;
        line->needs_comma = needs_comma;
        return;
    }
    line->depth++;
    line->needs_comma = false;
}

static void leave_prefix(struct log_line *line)
{
    size_t length = strlen(line->prefix);

    length -= length > 0; /* the dot of the object that ends */
    while (length > 0 && line->prefix[length - 1] != '.')
        length--;
    line->prefix[length] = '\0';
}

void log_object_end(struct log_line *line)
{
    if (!line->is_written)
        return;
    if (line->skipped > 0) {
        line->skipped--;
        return;
    }
    if (line->depth == 0)
        return;
    line->depth--;
    line->needs_comma = true;
    if (line->format == LOG_TEXT)
        leave_prefix(line);
    else
        line->text[line->length++] = '}'; /* within CLOSING_ROOM */
}

/* ---- lines ---- */

static int64_t wall_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void start_text(struct log_line *line, const char *time, const char *event,
                       bool has_colour)
{
    static const char *const colours[] = {"\033[31m", "\033[33m", "\033[1m", "", "\033[2m"};
    char head[160];

    (void)snprintf(head, sizeof head, "%.23s %s%-7s %-28s%s", time,
                   has_colour ? colours[line->level] : "", level_names[line->level], event,
                   has_colour ? "\033[0m" : "");
    (void)put_text(line, head);
}

static void start(struct log_line *line, enum log_level level, const char *event,
                  bool is_final)
{
    struct log_look look;
    char time[MOMENT_TEXT];

    line->is_written = is_final || log_would_write(level);
    if (!line->is_written)
        return;
    log_sink_look(&look);
    line->is_final = is_final;
    line->needs_comma = false;
    line->depth = 0;
    line->skipped = 0;
    line->length = 0;
    line->level = level;
    line->format = look.format;
    line->prefix[0] = '\0';
    moment_rfc3339(wall_us(), time);
    if (line->format == LOG_TEXT) {
        start_text(line, time, event, look.has_colour);
        return;
    }
    (void)put(line, "{", 1);
    log_text(line, "time", time);
    log_text(line, "node", look.node);
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

void log_line_close(struct log_line *line)
{
    line->skipped = 0;
    while (line->depth > 0)
        log_object_end(line);
    if (line->format == LOG_JSON)
        line->text[line->length++] = '}';
    line->text[line->length++] = '\n';
}

void log_end(struct log_line *line)
{
    if (!line->is_written)
        return;
    log_line_close(line);
    log_sink_take(line);
    line->is_written = false;
}

void log_message(enum log_level level, const char *event, const char *format, ...)
{
    struct log_line line;
    char text[VALUE_MOST];
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
