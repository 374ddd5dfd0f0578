/* See smtp_peer.h. Trusting code: its peers are our own rooms. */
#include "smtp_peer.h"

#include "dialogue.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <string.h>

enum { INPUT_MAX = 64 << 20, LINE_BYTES = 8192, FLOOD_LINES = 200 };

struct peer_connection {
    struct link link;
    struct smtp_peer *peer;
    struct stream *stream; /* NULL: over */
    const char *rest;      /* of the script */
    unsigned line;         /* of the script */
    struct bytes input;
    struct bytes output;     /* lines that leave as one packet */
    struct bytes recipients; /* of a transaction, in <serve> */
    unsigned number;
    bool is_held;
    bool is_securing;
    bool is_serving;
    bool is_in_data;
    bool was_closed;
};

static void complain(struct peer_connection *connection, const char *what, const char *text)
{
    struct smtp_peer *peer = connection->peer;

    if (!peer->complaint[0])
        (void)snprintf(peer->complaint, sizeof peer->complaint,
                       "connection %u, script line %u: %s: %.300s", connection->number,
                       connection->line, what, text);
}

static void flush(struct peer_connection *connection)
{
    if (connection->stream && connection->output.length > 0)
        (void)stream_write(connection->stream, bytes_view(&connection->output));
    bytes_clear(&connection->output);
}

static void end(struct peer_connection *connection, bool at_once)
{
    if (!connection->stream)
        return;
    flush(connection);
    connection->peer->open--;
    if (at_once)
        stream_abort(connection->stream);
    else
        stream_close(connection->stream);
    connection->stream = NULL;
}

static void say(struct peer_connection *connection, const char *text)
{
    CHECK(bytes_format(&connection->output, "%s\r\n", text) == RESULT_OK);
}

/* The next whole line of the client, without its end. */
static bool next_line(struct peer_connection *connection, char line[LINE_BYTES])
{
    struct slice input = bytes_view(&connection->input);
    size_t at = slice_find(input, '\n');

    if (at >= input.length)
        return false;
    if (at == 0 || input.data[at - 1] != '\r')
        complain(connection, "a bare line feed", "");
    else if (!slice_copy_text(slice_part(input, 0, at - 1), line, LINE_BYTES))
        complain(connection, "a line that is too long or has NUL", "");
    bytes_drop_front(&connection->input, at + 1);
    return true;
}

static void keep_data(struct smtp_peer *peer, const char *line)
{
    CHECK(bytes_format(&peer->data, "%s\n", line) == RESULT_OK);
}

/* True: the dot has come. */
static bool read_data(struct peer_connection *connection)
{
    char line[LINE_BYTES] = "";

    if (!connection->is_in_data)
        bytes_clear(&connection->peer->data);
    connection->is_in_data = true;
    while (next_line(connection, line)) {
        if (strcmp(line, ".") == 0) {
            connection->is_in_data = false;
            return true;
        }
        keep_data(connection->peer, line);
    }
    return false;
}

/* ---- <serve> ---- */

static void note_recipient(struct peer_connection *connection, const char *line)
{
    const char *from = strchr(line, '<');
    const char *to = from ? strchr(from, '>') : NULL;

    CHECK(to);
    CHECK(bytes_format(&connection->recipients, "%.*s;", (int)(to - from - 1), from + 1) ==
          RESULT_OK);
}

static void serve_command(struct peer_connection *connection, const char *line)
{
    if (strncmp(line, "EHLO ", 5) == 0) {
        say(connection, "250-peer.test\r\n250-8BITMIME\r\n250 PIPELINING");
        return;
    }
    if (strcmp(line, "DATA") == 0) {
        say(connection, "354 go on");
        connection->is_in_data = true;
        bytes_clear(&connection->peer->data);
        return;
    }
    if (strncmp(line, "MAIL FROM:", 10) == 0)
        bytes_clear(&connection->recipients);
    else if (strncmp(line, "RCPT TO:", 8) == 0)
        note_recipient(connection, line);
    else if (strcmp(line, "RSET") != 0 && strcmp(line, "QUIT") != 0)
        complain(connection, "a strange command", line);
    say(connection, line[0] == 'Q' ? "221 bye" : "250 ok");
    if (line[0] == 'Q')
        end(connection, false);
}

static void serve(struct peer_connection *connection)
{
    char line[LINE_BYTES] = "";

    while (connection->stream) {
        if (connection->is_in_data) {
            if (!read_data(connection))
                return;
            connection->peer->messages++;
            CHECK(bytes_add(&connection->peer->recipients,
                            bytes_view(&connection->recipients)) == RESULT_OK);
            say(connection, "250 taken");
        } else if (next_line(connection, line)) {
            serve_command(connection, line);
        } else {
            return;
        }
    }
}

/* ---- scripts ---- */

static void play(struct peer_connection *connection);
static void play_end(struct peer_connection *connection);

static void on_secured(void *owner, const struct fault *fault)
{
    struct peer_connection *connection = owner;

    connection->is_securing = false;
    if (fault)
        connection->was_closed = true;
    if (fault)
        play_end(connection);
    else
        play(connection);
}

static void flood(struct peer_connection *connection)
{
    for (int i = 0; i < FLOOD_LINES; i++)
        say(connection, "250-more");
}

static void secure(struct peer_connection *connection)
{
    flush(connection);
    bytes_clear(&connection->input);
    connection->is_securing = true;
    CHECK(stream_secure_server(connection->stream, connection->peer->borrowed_tls,
                               on_secured) == RESULT_OK);
}

static void hold(struct peer_connection *connection)
{
    connection->is_held = true;
    connection->peer->held++;
}

static void say_line(struct peer_connection *connection, const char *text)
{
    if (strcmp(text, "<close>") == 0)
        end(connection, false);
    else if (strcmp(text, "<abort>") == 0)
        end(connection, true);
    else if (strcmp(text, "<tls>") == 0)
        secure(connection);
    else if (strcmp(text, "<hold>") == 0)
        hold(connection);
    else if (strcmp(text, "<deaf>") == 0)
        stream_pause(connection->stream);
    else if (strcmp(text, "<listen>") == 0)
        stream_resume(connection->stream);
    else if (strcmp(text, "<flood>") == 0)
        flood(connection);
    else if (strcmp(text, "<serve>") == 0)
        connection->is_serving = true;
    else
        say(connection, text);
}

/* True: it was fulfilled. */
static bool expect_line(struct peer_connection *connection, const char *pattern)
{
    char line[LINE_BYTES] = "";

    if (strcmp(pattern, "<rest>") == 0)
        bytes_clear(&connection->input);
    if (strcmp(pattern, "<data>") == 0)
        return read_data(connection);
    if (strcmp(pattern, "<closed>") == 0 || strcmp(pattern, "<rest>") == 0)
        return connection->was_closed;
    if (strcmp(pattern, "<nothing>") == 0) {
        if (connection->input.length > 0)
            complain(connection, "something stands behind",
                     next_line(connection, line) ? line : "half a line");
        return true;
    }
    if (!next_line(connection, line))
        return false;
    if (!dialogue_matches(pattern, line))
        complain(connection, pattern, line);
    return true;
}

static bool next_script_line(struct peer_connection *connection, char text[LINE_BYTES],
                             size_t *bytes)
{
    struct slice rest = slice_of(connection->rest);

    *bytes = slice_find(rest, '\n');
    if (rest.length == 0)
        return false;
    CHECK(slice_copy_text(slice_part(rest, 0, *bytes), text, LINE_BYTES));
    CHECK((text[0] == 'S' || text[0] == 'C') && text[1] == ':' && text[2] == ' ');
    if (*bytes < rest.length)
        ++*bytes;
    return true;
}

static void play(struct peer_connection *connection)
{
    char text[LINE_BYTES] = "";
    size_t bytes = 0;

    while (!connection->is_held && !connection->is_securing && !connection->is_serving &&
           next_script_line(connection, text, &bytes)) {
        if (text[0] == 'S')
            say_line(connection, text + 3);
        else if (!expect_line(connection, text + 3))
            break;
        connection->line++;
        connection->rest += bytes;
    }
    if (connection->is_serving)
        serve(connection);
    else if (!connection->rest[0] && !connection->is_held && !connection->is_securing &&
             next_line(connection, text) && strcmp(text, "QUIT") != 0)
        complain(connection, "something comes behind the end", text);
    flush(connection);
}

/* ---- connections ---- */

static void on_bytes(void *owner, struct slice bytes)
{
    struct peer_connection *connection = owner;

    CHECK(bytes_add(&connection->input, bytes) == RESULT_OK);
    play(connection);
}

/* What the script says behind the end of the connection is judged once it does not hold. */
static void play_end(struct peer_connection *connection)
{
    play(connection);
    if (connection->is_held)
        return;
    if (connection->rest[0] && !connection->is_serving)
        complain(connection, "the client went away", "too early");
    end(connection, false);
}

static void on_closed(void *owner, const struct fault *why)
{
    struct peer_connection *connection = owner;

    (void)why;
    connection->was_closed = true;
    play_end(connection);
}

static const struct stream_events events = {on_bytes, on_closed, NULL};

static void on_stream(void *owner, struct listener *listener, struct stream *stream)
{
    struct smtp_peer *peer = owner;
    struct peer_connection *connection = NEW(struct peer_connection);

    (void)listener;
    connection->peer = peer;
    connection->stream = stream;
    connection->line = 1;
    connection->number = ++peer->accepted;
    bytes_init(&connection->input, INPUT_MAX);
    bytes_init(&connection->output, INPUT_MAX);
    bytes_init(&connection->recipients, INPUT_MAX);
    list_push_back(&peer->connections, &connection->link);
    if (++peer->open > peer->most_open)
        peer->most_open = peer->open;
    connection->rest = "S: 220 peer.test\nS: <serve>\n";
    if (connection->number <= peer->script_count)
        connection->rest = peer->scripts[connection->number - 1];
    else if (!peer->serves)
        complain(connection, "it comes", "unexpected");
    stream_start(stream, &events, connection);
    play(connection);
}

/* ---- the peer ---- */

bool smtp_peer_open(struct smtp_peer *peer, struct net *net, const char *address,
                    uint16_t port)
{
    struct endpoint endpoint = {.port = port};
    struct fault fault;

    memset(peer, 0, sizeof *peer);
    CHECK(ip_parse(slice_of(address), &endpoint.ip) == RESULT_OK);
    if (listener_open(net, &endpoint, &peer->listener, &fault) != RESULT_OK)
        return false;
    peer->net = net;
    peer->endpoint = *listener_endpoint(peer->listener);
    list_init(&peer->connections);
    bytes_init(&peer->recipients, INPUT_MAX);
    bytes_init(&peer->data, INPUT_MAX);
    listener_start(peer->listener, on_stream, peer);
    return true;
}

void smtp_peer_close(struct smtp_peer *peer)
{
    struct link *link;

    while ((link = list_pop_front(&peer->connections))) {
        struct peer_connection *connection =
            CONTAINER_OF(link, struct peer_connection, link);

        end(connection, true);
        bytes_fini(&connection->input);
        bytes_fini(&connection->output);
        bytes_fini(&connection->recipients);
        memory_free(connection);
    }
    listener_close(peer->listener);
    bytes_fini(&peer->recipients);
    bytes_fini(&peer->data);
}

void smtp_peer_play(struct smtp_peer *peer, const char *script)
{
    CHECK(peer->script_count < SMTP_PEER_SCRIPTS);
    peer->scripts[peer->script_count++] = script;
}

void smtp_peer_go(struct smtp_peer *peer)
{
    struct link *next;

    for (struct link *link = list_first(&peer->connections); link; link = next) {
        struct peer_connection *connection =
            CONTAINER_OF(link, struct peer_connection, link);

        next = list_next(&peer->connections, link);
        if (!connection->is_held)
            continue;
        connection->is_held = false;
        peer->held--;
        if (connection->was_closed)
            play_end(connection);
        else
            play(connection);
    }
}
