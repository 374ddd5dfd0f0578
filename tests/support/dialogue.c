/* See dialogue.h. Knows nothing of SMTP but the shape of its reply lines. */
#include "dialogue.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    INPUT_MAX = 64 << 20,
    STEP_MS = 2,
    PATIENCE_MS = 10000,
    SILENCE_MS = 50,
    LINE_MAX_BYTES = 1200
};

void dialogue_init(struct dialogue *dialogue, char say, const struct dialogue_end *end)
{
    *dialogue = (struct dialogue){.end = *end, .say = say};
    bytes_init(&dialogue->input, INPUT_MAX);
    bytes_init(&dialogue->batch, INPUT_MAX);
}

void dialogue_fini(struct dialogue *dialogue)
{
    bytes_fini(&dialogue->input);
    bytes_fini(&dialogue->batch);
}

bool dialogue_matches(const char *pattern, const char *text)
{
    const char *star = NULL;
    const char *again = NULL;

    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            again = text;
        } else if (*pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++again;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

static void flush(struct dialogue *dialogue)
{
    if (dialogue->batch.length > 0)
        dialogue->end.send(dialogue->end.owner, bytes_view(&dialogue->batch));
    bytes_clear(&dialogue->batch);
}

void dialogue_send(struct dialogue *dialogue, struct slice bytes)
{
    flush(dialogue);
    dialogue->end.send(dialogue->end.owner, bytes);
}

static void pull(struct dialogue *dialogue, int64_t ms)
{
    dialogue->end.wait(dialogue->end.owner, ms);
    if (!dialogue->is_closed &&
        !dialogue->end.receive(dialogue->end.owner, &dialogue->input))
        dialogue->is_closed = true;
}

/* The next whole line, without its end; false: none came in time. */
static bool next_line(struct dialogue *dialogue, char line[LINE_MAX_BYTES])
{
    for (int64_t waited = 0; waited <= PATIENCE_MS; waited += STEP_MS) {
        struct slice input = bytes_view(&dialogue->input);
        size_t end = slice_find(input, '\n');

        if (end < input.length) {
            assert_true(end > 0 && input.data[end - 1] == '\r');
            assert_true(
                slice_copy_text(slice_part(input, 0, end - 1), line, LINE_MAX_BYTES));
            bytes_drop_front(&dialogue->input, end + 1);
            return true;
        }
        if (dialogue->is_closed)
            return false;
        pull(dialogue, waited == 0 ? 0 : STEP_MS);
    }
    return false;
}

static bool is_continuation(const char *line)
{
    return strlen(line) > 3 && line[3] == '-';
}

static void expect_line(struct dialogue *dialogue, const char *pattern)
{
    char line[LINE_MAX_BYTES];

    do {
        if (!next_line(dialogue, line))
            fail_msg("script line %u: \"%s\" did not come%s", dialogue->line, pattern,
                     dialogue->is_closed ? ": closed" : "");
        if (dialogue->say == 'C' && is_continuation(line) && !is_continuation(pattern))
            continue;
        if (dialogue_matches(pattern, line)) {
            memcpy(dialogue->last, line, sizeof dialogue->last);
            return;
        }
    } while (dialogue->say == 'C' && is_continuation(line));
    fail_msg("script line %u: wanted \"%s\", got \"%s\"", dialogue->line, pattern, line);
}

static void expect_closed(struct dialogue *dialogue)
{
    char line[LINE_MAX_BYTES];

    if (next_line(dialogue, line))
        fail_msg("script line %u: wanted the end, got \"%s\"", dialogue->line, line);
    if (!dialogue->is_closed)
        fail_msg("script line %u: still open", dialogue->line);
}

static void expect_silence(struct dialogue *dialogue)
{
    pull(dialogue, SILENCE_MS);
    if (dialogue->input.length > 0 || dialogue->is_closed)
        fail_msg("script line %u: wanted silence, got %s\"%.*s\"", dialogue->line,
                 dialogue->is_closed ? "the end, and " : "", (int)dialogue->input.length,
                 dialogue->input.data);
}

static void expect(struct dialogue *dialogue, const char *pattern)
{
    flush(dialogue);
    if (strcmp(pattern, "<closed>") == 0)
        expect_closed(dialogue);
    else if (strcmp(pattern, "<silence>") == 0)
        expect_silence(dialogue);
    else
        expect_line(dialogue, pattern);
}

static char unescape(const char **at)
{
    char letter = *++*at;
    char digits[3] = "";

    (*at)++;
    if (letter != 'x')
        return letter == 'r'   ? '\r'
               : letter == 'n' ? '\n'
               : letter == 't' ? '\t'
               : letter == '0' ? '\0'
                               : letter;
    digits[0] = (*at)[0];
    digits[1] = (*at)[1];
    *at += 2;
    return (char)strtol(digits, NULL, 16);
}

static void say(struct dialogue *dialogue, const char *text, bool is_line)
{
    while (*text) {
        char byte = *text;

        if (byte == '\\')
            byte = unescape(&text);
        else
            text++;
        assert_int_equal(bytes_add(&dialogue->batch, (struct slice){&byte, 1}), RESULT_OK);
    }
    if (is_line)
        assert_int_equal(bytes_add_text(&dialogue->batch, "\r\n"), RESULT_OK);
}

static void pass_time(struct dialogue *dialogue, const char *text)
{
    char *unit;
    long count = strtol(text, &unit, 10);

    flush(dialogue);
    pull(dialogue, strcmp(unit, "s") == 0 ? count * 1000 : count);
}

static void play_line(struct dialogue *dialogue, const char *line)
{
    if (!line[0] || line[0] == '#')
        return;
    if (line[0] == '+') {
        pass_time(dialogue, line + 1);
        return;
    }
    if ((line[0] != 'C' && line[0] != 'S') || (line[1] != ':' && line[1] != '>'))
        fail_msg("script line %u is none: %s", dialogue->line, line);
    if (line[0] == dialogue->say)
        say(dialogue, line + 2 + (line[2] == ' '), line[1] == ':');
    else
        expect(dialogue, line + 2 + (line[2] == ' '));
}

void dialogue_play(struct dialogue *dialogue, const char *script)
{
    struct slice rest = slice_of(script);

    dialogue->line = 0;
    while (rest.length > 0) {
        size_t end = slice_find(rest, '\n');
        char line[65536];

        dialogue->line++;
        assert_true(slice_copy_text(slice_part(rest, 0, end), line, sizeof line));
        rest = slice_from(rest, end + 1);
        play_line(dialogue, line);
    }
    flush(dialogue);
    pull(dialogue, 0);
    if (dialogue->input.length > 0)
        fail_msg("at the end of the script \"%.*s\" is unread", (int)dialogue->input.length,
                 dialogue->input.data);
}

/* ---- over a socket ---- */

static void run_loop(void *owner, int64_t ms)
{
    const struct dialogue_socket *socket = owner;

    loop_run_for(socket->loop, ms);
}

static void socket_send(void *owner, struct slice bytes)
{
    const struct dialogue_socket *socket = owner;

    while (bytes.length > 0) {
        ssize_t count = send(socket->fd, bytes.data, bytes.length, MSG_NOSIGNAL);

        if (count > 0) {
            bytes = slice_from(bytes, (size_t)count);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            run_loop(owner, STEP_MS);
        } else {
            return; /* the other side is gone: the next expectation says so */
        }
    }
}

static bool socket_receive(void *owner, struct bytes *into)
{
    const struct dialogue_socket *socket = owner;

    for (;;) {
        char piece[16384];
        ssize_t count = recv(socket->fd, piece, sizeof piece, 0);

        if (count < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        if (count == 0)
            return false;
        assert_int_equal(bytes_add(into, (struct slice){piece, (size_t)count}), RESULT_OK);
    }
}

struct dialogue_end dialogue_over_socket(struct dialogue_socket *socket)
{
    int flags = fcntl(socket->fd, F_GETFL);

    assert_true(flags >= 0 && fcntl(socket->fd, F_SETFL, flags | O_NONBLOCK) == 0);
    return (struct dialogue_end){socket_send, socket_receive, run_loop, socket};
}
