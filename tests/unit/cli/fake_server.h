/* A server that says what the test told it, one answer a connection, on a thread of its own; and
 * a command run against it with its two outputs caught. */
#ifndef SMTPD_TESTS_CLI_FAKE_SERVER_H
#define SMTPD_TESTS_CLI_FAKE_SERVER_H

#include "test.h"

#include "smtpd/base/bytes.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/cli/cli.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

enum { FAKE_MOST = 32, TEXT_MOST = 16 << 20 };

struct fake {
    pthread_t thread;
    int fd;
    char folder[96];
    char path[112];
    struct slice answers[FAKE_MOST]; /* whole, as they go over the socket; ours */
    size_t answer_count;
    /* Of the thread, and ours after fake_stop(): */
    char *requests[FAKE_MOST];
    size_t request_count;
    /* Of the last command. */
    char *out;
    char *err;
};

/* ---- the server ---- */

static bool fake_has_all(const struct bytes *request)
{
    const char *end =
        request->length ? memmem(request->data, request->length, "\r\n\r\n", 4) : NULL;
    const char *length =
        end ? memmem(request->data, request->length, "Content-Length: ", 16) : NULL;

    return end && (!length || request->length - (size_t)(end + 4 - request->data) >=
                                  strtoul(length + 16, NULL, 10));
}

static char *fake_read(int fd)
{
    struct bytes request;
    char *text;
    ssize_t got = 1;

    bytes_init(&request, TEXT_MOST);
    while (got > 0 && !fake_has_all(&request)) {
        char *room = bytes_reserve(&request, 65536);

        CHECK(room);
        got = read(fd, room, 65536);
        request.length += got > 0 ? (size_t)got : 0;
    }
    text = slice_to_text(bytes_view(&request));
    bytes_fini(&request);
    return text;
}

static void *fake_serve(void *owner)
{
    struct fake *fake = owner;
    int fd;

    while ((fd = accept(fake->fd, NULL, NULL)) >= 0) {
        struct slice answer = {NULL, 0};

        CHECK(fake->request_count < FAKE_MOST);
        if (fake->request_count < fake->answer_count)
            answer = fake->answers[fake->request_count];
        fake->requests[fake->request_count++] = fake_read(fd);
        while (answer.length > 0) {
            ssize_t sent = send(fd, answer.data, answer.length, MSG_NOSIGNAL);

            if (sent <= 0)
                break;
            answer = slice_from(answer, (size_t)sent);
        }
        (void)close(fd);
    }
    return NULL;
}

static UNUSED int set_up(void **state)
{
    struct fake *fake = NEW(struct fake);

    (void)snprintf(fake->folder, sizeof fake->folder, "%.60s/smtpd-cli-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(fake->folder));
    (void)snprintf(fake->path, sizeof fake->path, "%s/control.sock", fake->folder);
    fake->fd = -1;
    *state = fake;
    return 0;
}

/* No answer is told behind this. */
static UNUSED void fake_start(struct fake *fake)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.107s", fake->path);
    fake->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fake->fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fake->fd, 8), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_serve, fake), 0);
}

static UNUSED void fake_stop(struct fake *fake)
{
    if (fake->fd < 0)
        return;
    (void)shutdown(fake->fd, SHUT_RDWR); /* accept() ends */
    (void)pthread_join(fake->thread, NULL);
    (void)close(fake->fd);
    fake->fd = -1;
    (void)unlink(fake->path);
}

static UNUSED int tear_down(void **state)
{
    struct fake *fake = *state;
    int result;

    fake_stop(fake);
    for (size_t i = 0; i < FAKE_MOST; i++) {
        memory_free((char *)(uintptr_t)fake->answers[i].data);
        memory_free(fake->requests[i]);
    }
    memory_free(fake->out);
    memory_free(fake->err);
    result = rmdir(fake->folder);
    memory_free(fake);
    return result;
}

static UNUSED void fake_answers_raw(struct fake *fake, struct slice answer)
{
    assert_true(fake->answer_count < FAKE_MOST && fake->fd < 0);
    fake->answers[fake->answer_count++] =
        (struct slice){slice_to_text(answer), answer.length};
}

static UNUSED void fake_answers(struct fake *fake, unsigned status, const char *body)
{
    char *text = memory_format("HTTP/1.0 %u Whatever\r\nContent-Type: application/json\r\n"
                               "Content-Length: %zu\r\n\r\n%s",
                               status, strlen(body), body);

    fake_answers_raw(fake, slice_of(text));
    memory_free(text);
}

/* ---- the command ---- */

static char *fake_text_of(int fd)
{
    off_t end = lseek(fd, 0, SEEK_END);
    char *text = memory_new((size_t)end + 1);

    assert_int_equal(pread(fd, text, (size_t)end, 0), end);
    (void)close(fd);
    return text;
}

typedef int fake_command_fn(const struct cli_context *context, int argc, char **argv);

/* Runs it with the words (the last is NULL); its output is then in out and err. */
static UNUSED int fake_run(struct fake *fake, fake_command_fn *command, bool wants_json,
                           const char *const *words)
{
    struct cli_context context = {.socket_path = fake->path, .wants_json = wants_json};
    char *argv[1100] = {NULL};
    int kept[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    int caught[2] = {memfd_create("out", MFD_CLOEXEC), memfd_create("err", MFD_CLOEXEC)};
    int argc = 0;
    int code;

    for (; words[argc]; argc++)
        argv[argc] = (char *)(uintptr_t)words[argc];
    (void)fflush(stdout);
    (void)dup2(caught[0], STDOUT_FILENO);
    (void)dup2(caught[1], STDERR_FILENO);
    code = command(&context, argc, argv);
    (void)fflush(stdout);
    (void)dup2(kept[0], STDOUT_FILENO);
    (void)dup2(kept[1], STDERR_FILENO);
    (void)close(kept[0]);
    (void)close(kept[1]);
    memory_free(fake->out);
    memory_free(fake->err);
    fake->out = fake_text_of(caught[0]);
    fake->err = fake_text_of(caught[1]);
    return code;
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The first line of a request. */
static UNUSED void fake_expect(const struct fake *fake, size_t at, const char *line)
{
    assert_true(at < fake->request_count);
    if (strncmp(fake->requests[at], line, strlen(line)) != 0 ||
        fake->requests[at][strlen(line)] != '\r')
        fail_msg("%s, and not %s", fake->requests[at], line);
}

static UNUSED const char *fake_body(const struct fake *fake, size_t at)
{
    const char *end;

    assert_true(at < fake->request_count);
    end = strstr(fake->requests[at], "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

#define assert_has(text, part)                                                             \
    do {                                                                                   \
        if (!strstr((text), (part)))                                                       \
            fail_msg("\"%s\" has no \"%s\"", (text), (part));                              \
    } while (0)

#endif
