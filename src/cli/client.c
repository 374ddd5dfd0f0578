/* HTTP/1.0 over the control socket: one request a connection, the answer ends with it. So
 * small a client needs no library. */
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MAX = 256 << 20, HEAD_MAX = 16384 };

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof address.sun_path) {
        (void)fprintf(stderr, "smtpd: the socket's path is too long: %s\n", path);
    } else {
        (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        (void)fprintf(stderr, "smtpd: no server answers on %s: %s\n", path,
                      strerror(errno));
        if (errno == EACCES)
            (void)fprintf(stderr, "smtpd: run this as root or as the server's user\n");
    }
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

bool client_answers(const struct cli_context *context)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_there;

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", context->socket_path);
    is_there = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        (void)close(fd);
    return is_there;
}

static bool send_all(int fd, struct slice bytes)
{
    while (bytes.length > 0) {
        ssize_t sent = send(fd, bytes.data, bytes.length, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        bytes = slice_from(bytes, (size_t)sent);
    }
    return true;
}

static bool send_request(int fd, const char *path, const json_t *body)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    size_t length = text ? strlen(text) : 0;
    struct bytes request;
    bool is_sent;

    bytes_init(&request, ANSWER_MAX);
    is_sent =
        bytes_format(&request,
                     "%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
                     body ? "POST" : "GET", path, length) == RESULT_OK &&
        (!text || bytes_add_text(&request, text) == RESULT_OK) &&
        send_all(fd, bytes_view(&request));
    free(text); /* jansson's, from malloc */
    bytes_fini(&request);
    return is_sent;
}

struct head {
    size_t bytes;
    unsigned status;
    bool has_length;
    uint64_t length; /* of the body */
};

/* RFC 9110 8.6. A length that cannot be read is none. */
static void read_length(struct slice lines, struct head *head)
{
    static const char name[] = "content-length:";

    while (lines.length > 0) {
        struct slice line = slice_part(lines, 0, slice_find(lines, '\n'));

        lines = slice_from(lines, line.length + (line.length < lines.length));
        line.length -= line.length > 0 && line.data[line.length - 1] == '\r';
        if (slice_starts_fold(line, name))
            head->has_length = slice_to_u64(slice_trim(slice_from(line, sizeof name - 1)),
                                            UINT64_MAX, &head->length) == RESULT_OK;
    }
}

/* Reads at least the head; the rest of what came stays in `answer` behind it. */
static bool read_head(int fd, struct bytes *answer, struct head *head)
{
    const char *end = NULL;

    while (!end && answer->length < HEAD_MAX) {
        char *room = bytes_reserve(answer, HEAD_MAX);
        ssize_t got = room ? read(fd, room, HEAD_MAX) : -1;

        if (got <= 0)
            return false;
        answer->length += (size_t)got;
        end = memmem(answer->data, answer->length, "\r\n\r\n", 4);
    }
    if (!end || answer->length < 12 || strncmp(answer->data, "HTTP/1.", 7) != 0)
        return false;
    *head = (struct head){.bytes = (size_t)(end - answer->data) + 4};
    head->status = (unsigned)strtoul(answer->data + 9, NULL, 10);
    read_length(slice_part(bytes_view(answer), 0, head->bytes), head);
    return true;
}

static bool read_rest(int fd, struct bytes *answer)
{
    for (;;) {
        char *room = bytes_reserve(answer, 65536);
        ssize_t got = room ? read(fd, room, 65536) : -1;

        if (got <= 0)
            return got == 0;
        answer->length += (size_t)got;
    }
}

static int judge(struct slice body, unsigned status, json_t **answer)
{
    json_error_t error;
    json_t *json = json_loadb(body.data, body.length, 0, &error);
    const char *why;

    if (json && status == 200) {
        *answer = json;
        return CLI_DONE;
    }
    why = json_string_value(json_object_get(json, "error"));
    (void)fprintf(stderr, "smtpd: %s\n",
                  why ? why : "the server's answer is not understood");
    json_decref(json);
    return CLI_FAILED;
}

int client_ask(const struct cli_context *context, const char *path, const json_t *body,
               json_t **answer)
{
    int fd = connect_to(context->socket_path);
    struct bytes text;
    struct head head;
    int code = CLI_FAILED;

    if (fd < 0)
        return CLI_NOT_RUNNING;
    bytes_init(&text, ANSWER_MAX);
    if (send_request(fd, path, body) && read_head(fd, &text, &head) && read_rest(fd, &text))
        code = judge(slice_from(bytes_view(&text), head.bytes), head.status, answer);
    else
        (void)fprintf(stderr,
                      "smtpd: the server closed the connection without an answer\n");
    bytes_fini(&text);
    (void)close(fd);
    return code;
}

int client_probe(const struct cli_context *context, const char *path, struct bytes *text,
                 unsigned *status)
{
    struct timeval patience = {.tv_sec = 5};
    int fd = connect_to(context->socket_path);
    struct head head;
    int code = CLI_FAILED;

    if (fd < 0)
        return CLI_NOT_RUNNING;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (send_request(fd, path, NULL) && read_head(fd, text, &head) && read_rest(fd, text)) {
        *status = head.status;
        memmove(text->data, text->data + head.bytes, text->length - head.bytes);
        text->length -= head.bytes;
        code = CLI_DONE;
    } else {
        *status = 0;
        (void)fprintf(stderr, "smtpd: the server does not answer\n");
    }
    (void)close(fd);
    return code;
}

/* All that was announced: a server that leaves in the middle just closes. */
static bool copy_rest(int fd, struct slice first, const struct head *head)
{
    char piece[65536];
    uint64_t length = first.length;
    ssize_t got = 0;
    bool is_written = fwrite(first.data, 1, first.length, stdout) == first.length;

    while (is_written && (got = read(fd, piece, sizeof piece)) > 0) {
        is_written = fwrite(piece, 1, (size_t)got, stdout) == (size_t)got;
        length += (uint64_t)got;
    }
    return is_written && got == 0 && fflush(stdout) == 0 &&
           (!head->has_length || head->length == length);
}

int client_copy(const struct cli_context *context, const char *path)
{
    int fd = connect_to(context->socket_path);
    struct bytes text;
    struct head head;
    json_t *none = NULL;
    int code = CLI_FAILED;

    if (fd < 0)
        return CLI_NOT_RUNNING;
    bytes_init(&text, ANSWER_MAX);
    if (!send_request(fd, path, NULL) || !read_head(fd, &text, &head))
        (void)fprintf(stderr,
                      "smtpd: the server closed the connection without an answer\n");
    else if (head.status != 200 && read_rest(fd, &text))
        code = judge(slice_from(bytes_view(&text), head.bytes), head.status, &none);
    else if (head.status == 200 &&
             copy_rest(fd, slice_from(bytes_view(&text), head.bytes), &head))
        code = CLI_DONE;
    else
        (void)fprintf(stderr, "smtpd: the message did not arrive whole\n");
    bytes_fini(&text);
    (void)close(fd);
    return code;
}

enum result client_add_encoded(struct bytes *into, const char *text)
{
    enum result added = RESULT_OK;

    for (; *text && added == RESULT_OK; text++) {
        unsigned char byte = (unsigned char)*text;
        bool is_plain = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                        (byte >= '0' && byte <= '9') || strchr("-._~", byte);

        added = is_plain ? bytes_add(into, (struct slice){text, 1})
                         : bytes_format(into, "%%%02X", byte);
    }
    return added;
}
