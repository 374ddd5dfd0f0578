/* One session of the load client: each step of SMTP waits for its reply, unless pipelining is
 * asked for and offered. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

static void finish(struct session *session)
{
    struct load *load = session->load;

    wire_close(&session->wire, &load->client);
    session->step = STEP_DOWN;
}

static void fail(struct session *session, const char *why)
{
    finish(session);
    load_on_failure(session->load, session, why);
}

/* ---- saying ---- */

static void on_sent(struct session *session)
{
    if (session->step == STEP_BODY)
        session->ended_ns = now_ns();
}

static void send_pieces(struct session *session)
{
    switch (wire_send(&session->wire, &session->load->client, session)) {
    case WIRE_DONE:
        on_sent(session);
        break;
    case WIRE_AGAIN:
        break;
    case WIRE_BROKEN:
        fail(session, "the connection broke while something was sent");
        break;
    }
}

/* `text` is what stands in session->head, or static. */
static void say(struct session *session, enum step step, const char *text, size_t length)
{
    struct wire *wire = &session->wire;

    session->step = step;
    memset(wire->pieces, 0, sizeof wire->pieces);
    wire->pieces[WIRE_PIECES - 1] = (struct iovec){(char *)text, length};
    wire->piece = WIRE_PIECES - 1;
    send_pieces(session);
}

static void say_text(struct session *session, enum step step, const char *text)
{
    say(session, step, text, strlen(text));
}

/* Formatted into session->head beforehand. */
static void say_head(struct session *session, enum step step, int length)
{
    MUST(length > 0 && (size_t)length < sizeof session->head, "a command is too long");
    say(session, step, session->head, (size_t)length);
}

/* ---- a message ---- */

static void say_mail(struct session *session)
{
    const struct options *options = &session->load->options;
    char *head = session->head;
    size_t room = sizeof session->head;

    say_head(session, STEP_MAIL,
             session->can_pipeline
                 ? snprintf(head, room, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n",
                            options->from, options->to)
                 : snprintf(head, room, "MAIL FROM:<%s>\r\n", options->from));
}

static void say_recipient(struct session *session)
{
    say_head(session, STEP_RCPT,
             snprintf(session->head, sizeof session->head, "RCPT TO:<%s>\r\n",
                      session->load->options.to));
}

/* Header fields, then as much of the body as the size wants, then the end. */
static void say_message(struct session *session)
{
    static const char end[] = "\r\n.\r\n";
    const struct options *options = &session->load->options;
    struct wire *wire = &session->wire;
    const char *body = session->load->body;
    int head =
        snprintf(session->head, sizeof session->head,
                 "From: <%s>\r\nTo: <%s>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
                 "Message-ID: <%llu.%lld@load.bench.test>\r\nSubject: load\r\n\r\n",
                 options->from, options->to, (unsigned long long)session->message.number,
                 (long long)session->load->schedule.began_ns);
    size_t rest = 2; /* the line break before the dot belongs to the message */

    MUST(head > 0 && (size_t)head < sizeof session->head, "the addresses are too long");
    if (session->message.size > (size_t)head + 2)
        rest = session->message.size - (size_t)head;
    rest -= 2;
    if (rest > 0 && body[rest - 1] == '\r')
        rest--;
    wire->pieces[0] = (struct iovec){session->head, (size_t)head};
    wire->pieces[1] = (struct iovec){(char *)body, rest};
    wire->pieces[2] = (struct iovec){(char *)end, sizeof end - 1};
    wire->piece = 0;
    session->step = STEP_BODY;
    session->load->schedule.bytes += (size_t)head + rest + 2;
    send_pieces(session);
}

static void end_message(struct session *session, bool is_good)
{
    struct schedule *schedule = &session->load->schedule;
    int64_t now = now_ns();

    session->has_message = false;
    session->on_connection++;
    schedule->ended++;
    if (!is_good) {
        schedule->failures++;
        return;
    }
    schedule->last_ns = now;
    samples_add(&schedule->reply, now - session->ended_ns);
    samples_add(&schedule->latency,
                now - (session->load->options.rate > 0 ? session->message.due_ns
                                                       : session->ended_ns));
}

/* Between two messages. */
static void go_on(struct session *session)
{
    const struct options *options = &session->load->options;

    if (options->per_connection > 0 && session->on_connection >= options->per_connection) {
        say_text(session, STEP_QUIT, "QUIT\r\n");
        return;
    }
    session->step = STEP_READY;
    load_on_available(session->load, session);
}

/* ---- what a reply leads to ---- */

static void on_ready(struct session *session)
{
    struct load *load = session->load;

    if (load->options.mode == MODE_LOG_INS) {
        say_text(session, STEP_QUIT, "QUIT\r\n");
        return;
    }
    session->step = STEP_READY;
    if (load->options.mode == MODE_IDLE)
        load_on_held(load, session);
    else if (session->has_message)
        say_mail(session);
    else
        load_on_available(load, session);
}

static void on_greeting(struct session *session)
{
    say_text(session, STEP_EHLO, "EHLO load.bench.test\r\n");
}

static void on_ehlo(struct session *session)
{
    struct load *load = session->load;

    session->can_pipeline = load->options.pipelines && session->wire.saw_pipelining;
    if (load->options.tls == LOAD_STARTTLS && !session->is_secure)
        say_text(session, STEP_STARTTLS, "STARTTLS\r\n");
    else if (load->options.user && !session->is_logged_in)
        say_head(session, STEP_AUTH,
                 snprintf(session->head, sizeof session->head, "AUTH PLAIN %s\r\n",
                          load->secret));
    else
        on_ready(session);
}

static void go_on_with_handshake(struct session *session)
{
    struct load *load = session->load;

    switch (wire_handshake(&session->wire, &load->client)) {
    case WIRE_AGAIN:
        wire_watch(&session->wire, &load->client, session,
                   SSL_want_write(session->wire.ssl));
        return;
    case WIRE_BROKEN:
        fail(session, "the TLS handshake failed");
        return;
    case WIRE_DONE:
        break;
    }
    wire_watch(&session->wire, &load->client, session, false);
    session->is_secure = true;
    session->step = STEP_GREETING;
    if (load->options.tls == LOAD_STARTTLS)
        on_greeting(session);
}

static void begin_handshake(struct session *session)
{
    struct load *load = session->load;

    session->step = STEP_HANDSHAKE;
    wire_secure(&session->wire, &load->client,
                load->options.resumes ? &session->ticket : NULL);
    go_on_with_handshake(session);
}

static void on_logged_in(struct session *session)
{
    session->is_logged_in = true;
    on_ready(session);
}

/* Pipelined, the next command is on its way already. */
static void on_mail(struct session *session)
{
    session->step = STEP_RCPT;
    if (!session->can_pipeline)
        say_recipient(session);
}

static void on_recipient(struct session *session)
{
    session->step = STEP_DATA;
    if (!session->can_pipeline)
        say_text(session, STEP_DATA, "DATA\r\n");
}

/* A refused transaction that is told to go on all the same (RFC 2920 3.1) has no text. */
static void on_data(struct session *session)
{
    if (session->is_refused)
        say_text(session, STEP_BODY, ".\r\n");
    else
        say_message(session);
}

static void on_accepted(struct session *session)
{
    end_message(session, !session->is_refused);
    go_on(session);
}

static void on_goodbye(struct session *session)
{
    struct load *load = session->load;
    bool is_log_in = load->options.mode == MODE_LOG_INS;

    if (is_log_in) {
        load->log_ins++;
        load->schedule.last_ns = now_ns();
        samples_add(&load->schedule.latency, load->schedule.last_ns - session->began_ns);
    }
    finish(session);
    load_on_available(load, session);
}

static const struct {
    int wanted;
    void (*then)(struct session *session);
} steps[STEP_COUNT] = {
    [STEP_GREETING] = {220, on_greeting},
    [STEP_EHLO] = {250, on_ehlo},
    [STEP_STARTTLS] = {220, begin_handshake},
    [STEP_AUTH] = {235, on_logged_in},
    [STEP_MAIL] = {250, on_mail},
    [STEP_RCPT] = {250, on_recipient},
    [STEP_DATA] = {354, on_data},
    [STEP_BODY] = {250, on_accepted},
    [STEP_RESET] = {250, go_on},
    [STEP_QUIT] = {221, on_goodbye},
};

static void on_refusal(struct session *session, int code, const char *text)
{
    bool more_replies = session->can_pipeline && session->step < STEP_DATA;

    if (code == 421 || session->step < STEP_MAIL || session->step > STEP_BODY) {
        fail(session, text);
        return;
    }
    (void)snprintf(session->load->client.last_failure,
                   sizeof session->load->client.last_failure, "%s", text);
    session->is_refused = true;
    if (more_replies) {
        session->step++;
        return;
    }
    end_message(session, false);
    if (session->step == STEP_BODY)
        go_on(session);
    else
        say_text(session, STEP_RESET, "RSET\r\n");
}

/* ---- events ---- */

static void take_replies(struct session *session)
{
    char text[160];
    int code;

    while (session->step != STEP_DOWN && session->step != STEP_HANDSHAKE &&
           (code = wire_reply(&session->wire, text, sizeof text)) != 0) {
        if (code > 0 && steps[session->step].wanted == code)
            steps[session->step].then(session);
        else if (code > 0 && steps[session->step].wanted)
            on_refusal(session, code, text);
        else
            fail(session, code > 0 ? text : "that is no SMTP");
    }
}

/* The other side left. Who had nothing to do loses nothing. */
static void on_broken(struct session *session)
{
    struct load *load = session->load;

    if (session->step == STEP_QUIT) {
        on_goodbye(session);
    } else if (session->step == STEP_READY) {
        finish(session);
        load->lost += load->options.mode == MODE_IDLE;
    } else {
        fail(session, "the connection was closed");
    }
}

static void read_some(struct session *session)
{
    enum wire_state state;

    do {
        state = wire_receive(&session->wire);
        if (state == WIRE_DONE)
            take_replies(session);
    } while (state == WIRE_DONE && session->wire.ssl && session->step != STEP_HANDSHAKE);
    if (state == WIRE_BROKEN && session->step != STEP_DOWN)
        on_broken(session);
}

void session_on_event(struct session *session, uint32_t events)
{
    if (session->step == STEP_DOWN)
        return; /* closed by an event before this one */
    if (session->step == STEP_CONNECT) {
        if (!wire_is_connected(&session->wire)) {
            fail(session, strerror(errno));
            return;
        }
        wire_watch(&session->wire, &session->load->client, session, false);
        session->step = STEP_GREETING;
        if (session->load->options.tls == LOAD_IMPLICIT)
            begin_handshake(session);
        return;
    }
    if (session->step == STEP_HANDSHAKE) {
        go_on_with_handshake(session);
        /* The greeting may have come in one piece with the handshake's end. */
        if (session->step == STEP_GREETING)
            read_some(session);
        return;
    }
    if (events & EPOLLOUT)
        send_pieces(session);
    if (session->step != STEP_DOWN && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        read_some(session);
}

void session_connect(struct session *session)
{
    session->is_secure = false;
    session->is_logged_in = false;
    session->on_connection = 0;
    session->began_ns = now_ns();
    session->step = STEP_CONNECT;
    if (wire_connect(&session->wire, &session->load->client, session) == WIRE_BROKEN) {
        session->step = STEP_DOWN;
        load_on_failure(session->load, session, strerror(errno));
    }
}

void session_begin(struct session *session)
{
    session->has_message = true;
    session->is_refused = false;
    if (session->step == STEP_DOWN)
        session_connect(session);
    else
        say_mail(session);
}
