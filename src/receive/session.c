/* The life of one connection. It is no state table of loop/machine: a session does not wait
 * for one answer at a time but takes whatever lines come, and which of them are allowed is
 * the verb table's to say. What is here: bytes in, replies out, TLS, patience, the end.
 *
 *   [handshake] -> greeting -> READ_COMMANDS <-> READ_AUTH
 *                                   |    \____ READ_DATA, READ_CHUNK -> [WAIT_SIGN] -> WAIT_COMMIT -> back
 *                                   +-- STARTTLS: WAIT_HANDSHAKE -> back, knowing nothing
 *
 * Replies are gathered in one buffer of the room while a callback runs and written when it
 * ends. The timer is not moved at every byte: it fires, looks at what happened since, and
 * starts again for the rest. */
#include "session.h"

#include "auth_dialogue.h"
#include "intake.h"
#include "journal.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "strangers.h"
#include "transaction.h"
#include "verbs.h"

enum {
    INPUT_BYTES_MAX =
        4 * LIMIT_SESSION_INPUT, /* several reads may come before a pause holds */
    COMMANDS_PER_TURN = 200,
    DATA_BYTES_PER_SECOND = 100 /* less, over an idle time-out, is a slow attack */
};

/* A session rests most of its life: with the connection under it, it is to stay below 2 KiB. */
_Static_assert(sizeof(struct session) <= 640, "an idle session has grown");

static int64_t now_ms(const struct session *session)
{
    return loop_now_ms(session->receive->rooms.loop);
}

/* ---- replies ---- */

static void count_reply(struct session *session, enum reply_name name,
                        const struct reply *reply)
{
    receive_count_reply(session->receive, name, reply);
    if (reply->code >= 400 && session->borrowed_recipient)
        session->receive->statistics.recipients_rejected++;
    /* A failed log-in has an event of its own. */
    if (reply->code >= 400 && name != REPLY_AUTH_FAILED)
        journal_rejected(session, reply);
}

static void say(struct session *session, enum reply_name name, const char *argument)
{
    struct reply reply;

    if (!session->stream)
        return;
    reply_named(&reply, name, argument ? argument : session->profile->settings.hostname);
    if (!session->is_counted)
        count_reply(session, name, &reply);
    session->is_counted = false;
    if (reply_add(&session->receive->output, &reply) != RESULT_OK)
        session_close(session, "replies are not read");
}

static void start_delay(struct session *session, int64_t delay_ms, enum reply_name name,
                        const char *argument)
{
    session_wait_for(session, WAIT_DELAY);
    session->delay_ms = delay_ms;
    session->delayed = name;
    session->delayed_argument = memory_text(argument);
    timer_start(&session->timer, delay_ms);
}

/* Counted and logged now, while it is known what it speaks of; said later. */
static void hold_back(struct session *session, int64_t delay_ms, enum reply_name name,
                      const char *argument)
{
    struct reply reply;

    if (!session->stream)
        return;
    reply_named(&reply, name, argument ? argument : session->profile->settings.hostname);
    count_reply(session, name, &reply);
    session->is_counted = true;
    start_delay(session, delay_ms, name, argument);
}

void session_reply(struct session *session, enum reply_name name, const char *argument)
{
    if (verbs_is_fault(name) && ++session->bad_commands >= LIMIT_BAD_COMMANDS) {
        session_reply_close(session, REPLY_TOO_MANY_ERRORS, "too many errors");
        return;
    }
    if (strangers_give_up(session, name))
        return;
    if (strangers_delay(session, name) > 0)
        hold_back(session, strangers_delay(session, name), name, argument);
    else
        say(session, name, argument);
}

void session_flush(struct session *session)
{
    struct bytes *output = &session->receive->output;

    if (session->stream && output->length > 0 &&
        stream_write(session->stream, bytes_view(output)) == RESULT_AGAIN)
        session->is_behind = true;
    bytes_clear(output);
}

/* ---- the end ---- */

void session_free(struct session *session)
{
    struct receive *receive = session->receive;

    transaction_abandon(session);
    deferred_cancel(receive->rooms.loop, &session->deferred);
    list_remove(&receive->sessions, &session->link);
    tls_server_unref(session->tls);
    profile_unref(session->profile);
    bytes_fini(&session->input);
    memory_free(session->helo);
    memory_free(session->user);
    account_unref(session->account);
    memory_free(session->screened);
    memory_free(session->delayed_argument);
    memory_free(session);
    receive_on_session_freed(receive);
}

void session_free_deferred(void *owner)
{
    session_free(owner);
}

void session_close(struct session *session, const char *reason)
{
    if (!session->stream)
        return;
    session_flush(session);
    journal_disconnected(session, reason);
    receive_count_session(session->receive,
                          session->is_secured ? stream_tls(session->stream) : NULL);
    stream_close(session->stream);
    session->stream = NULL;
    timer_cancel(&session->timer);
    strangers_end(session);
    rate_leave(session->receive->rooms.rate, &session->client);
    auth_dialogue_end(session);
    /* A commit cannot be undone: it ends, is logged as accepted, and only then we are free.
     */
    if (session->wait == WAIT_COMMIT)
        return;
    transaction_abandon(session);
    loop_defer(session->receive->rooms.loop, &session->deferred, session_free_deferred,
               session);
}

void session_reply_close(struct session *session, enum reply_name name, const char *reason)
{
    say(session, name, NULL);
    session_close(session, reason);
}

bool session_may_relay(const struct session *session)
{
    return session->user || (session->mode == MODE_RELAY &&
                             access_is_trusted(session->profile->access, &session->peer));
}

void session_leave_if_idle(struct session *session)
{
    bool is_idle = (session->wait == WAIT_NOTHING || session->wait == WAIT_GREETING) &&
                   (session->state == STATE_FRESH || session->state == STATE_GREETED) &&
                   (session->reading == READ_COMMANDS || session->reading == READ_AUTH);

    if (session->stream && is_idle)
        session_reply_close(session, REPLY_SHUTTING_DOWN, "shutdown");
}

/* ---- patience ---- */

/* Until when the client may let us wait; 0: it is we who let it wait. */
static int64_t deadline_ms(const struct session *session)
{
    int64_t idle_ms = session->profile->settings.idle_timeout_ms;
    int64_t since_ms;

    if (session->wait == WAIT_HANDSHAKE || session->wait == WAIT_OUTPUT)
        return session->waiting_since_ms + idle_ms;
    if (session->wait != WAIT_NOTHING)
        return 0;
    if (session->reading == READ_COMMANDS || session->reading == READ_AUTH)
        /* A command must be whole within the time-out from its first byte: a byte a minute
         * is no sign of life. */
        since_ms =
            session->line_began_ms ? session->line_began_ms : session->waiting_since_ms;
    else
        since_ms = session->window_began_ms < session->last_byte_ms
                       ? session->window_began_ms
                       : session->last_byte_ms;
    return since_ms + idle_ms;
}

static void start_window(struct session *session)
{
    session->window_began_ms = now_ms(session);
    session->window_bytes = 0;
}

/* The window of slow data is over: were there enough bytes, and one of late? */
static bool may_go_on(struct session *session)
{
    int64_t idle_ms = session->profile->settings.idle_timeout_ms;

    if (session->wait != WAIT_NOTHING || session->reading == READ_COMMANDS ||
        session->reading == READ_AUTH)
        return false;
    if (now_ms(session) - session->last_byte_ms >= idle_ms)
        return false;
    if (session->window_bytes < (uint64_t)(idle_ms * DATA_BYTES_PER_SECOND / 1000))
        return false;
    start_window(session);
    return true;
}

void session_reply_later(struct session *session, int64_t delay_ms, enum reply_name name,
                         const char *argument)
{
    if (!session->stream)
        return;
    if (delay_ms <= 0) {
        session_reply(session, name, argument);
        return;
    }
    start_delay(session, delay_ms, name, argument);
}

/* The one timer of a session came for its delay, or for its patience a little before. */
static void end_delay(struct session *session, int64_t left_ms)
{
    char *argument = session->delayed_argument;

    if (left_ms > 0) {
        timer_start(&session->timer, left_ms);
        return;
    }
    timer_start(&session->timer, session->profile->settings.idle_timeout_ms);
    session->delayed_argument = NULL;
    session->wait = WAIT_NOTHING;
    if (session->is_counted)
        say(session, session->delayed, argument);
    else
        session_reply(session, session->delayed, argument);
    memory_free(argument);
    if (session->wait == WAIT_NOTHING) /* else it is held back once more */
        session_resume(session);
}

static void on_timer(void *owner)
{
    struct session *session = owner;
    int64_t deadline = deadline_ms(session);
    int64_t left_ms = deadline - now_ms(session);

    if (session->wait == WAIT_GREETING) {
        strangers_on_timer(session);
        return;
    }
    if (session->wait == WAIT_DELAY) {
        end_delay(session, session->waiting_since_ms + session->delay_ms - now_ms(session));
        return;
    }
    if (deadline == 0 || (left_ms <= 0 && may_go_on(session)))
        left_ms = session->profile->settings.idle_timeout_ms;
    if (left_ms > 0)
        timer_start(&session->timer, left_ms);
    else if (session->wait == WAIT_HANDSHAKE)
        session_close(session, "TLS handshake timed out");
    else
        session_reply_close(session, REPLY_IDLE, "idle");
}

/* ---- input ---- */

void session_wait_for(struct session *session, enum session_wait wait)
{
    session->wait = (uint8_t)wait;
    session->waiting_since_ms = now_ms(session);
}

void session_read(struct session *session, enum session_reading reading)
{
    session->reading = (uint8_t)reading;
    session->waiting_since_ms = session->last_byte_ms = now_ms(session);
    start_window(session);
    if (reading == READ_COMMANDS || reading == READ_AUTH)
        framing_set_line_max(&session->framing, reading == READ_AUTH
                                                    ? (size_t)LIMIT_AUTH_LINE
                                                    : LIMIT_COMMAND_LINE);
}

static void take_bad_line(struct session *session, enum framing_event event)
{
    bool is_long = event == FRAMING_LINE_TOO_LONG;

    session->verb = NULL;
    if (session->reading == READ_AUTH)
        auth_dialogue_fail(session, is_long ? REPLY_AUTH_TOO_LONG : REPLY_AUTH_BAD_BASE64);
    else
        session_reply(session, is_long ? REPLY_LINE_TOO_LONG : REPLY_BAD_LINE, NULL);
}

static void take_data(struct session *session, enum framing_event event, struct slice piece)
{
    if (event == FRAMING_DATA) {
        if (session->reading == READ_DATA || session->has_chunk)
            intake_take(session, piece);
    } else if (session->reading == READ_CHUNK) {
        intake_end_chunk(session);
    } else {
        session_read(session, READ_COMMANDS);
        intake_end(session);
    }
}

static void take_event(struct session *session, enum framing_event event,
                       struct slice piece, size_t behind)
{
    if (event == FRAMING_DATA || event == FRAMING_DATA_END) {
        take_data(session, event, piece);
        return;
    }
    session->line_began_ms = 0;
    session->waiting_since_ms = now_ms(session);
    session->input_behind = behind;
    if (event != FRAMING_LINE)
        take_bad_line(session, event);
    else if (session->reading == READ_AUTH)
        auth_dialogue_line(session, piece);
    else
        verbs_dispatch(session, piece);
}

static void on_next_turn(void *owner)
{
    session_resume(owner);
}

/* Whether the next command may run now. Reading stops while the client does not take our
 * replies, and after many commands others have their turn. */
static bool may_process(struct session *session, unsigned events)
{
    if (!session->stream || session->wait != WAIT_NOTHING)
        return false;
    if (strangers_must_wait(session)) {
        session_wait_for(session, WAIT_SCREEN);
        return false;
    }
    if (session->receive->output.length > LIMIT_SESSION_OUTPUT / 2)
        session_flush(session);
    if (session->is_behind) {
        session_wait_for(session, WAIT_OUTPUT);
        return false;
    }
    if (events < COMMANDS_PER_TURN)
        return true;
    session_wait_for(session, WAIT_TURN);
    loop_defer(session->receive->rooms.loop, &session->deferred, on_next_turn, session);
    return false;
}

static void process(struct session *session, struct slice *input)
{
    unsigned events = 0;

    while (may_process(session, events++)) {
        struct slice piece;
        enum framing_event event = framing_next(&session->framing, input, &piece);

        if (event == FRAMING_MORE)
            break;
        take_event(session, event, piece, input->length);
        if (session->drops_input)
            *input = SLICE_NONE;
        session->drops_input = false;
    }
    if (input->length == 0)
        session->line_began_ms = 0;
    else if (session->line_began_ms == 0)
        session->line_began_ms = now_ms(session);
    if (session->receive->is_draining)
        session_leave_if_idle(session);
}

static void process_kept(struct session *session)
{
    struct slice input = bytes_view(&session->input);

    process(session, &input);
    bytes_drop_front(&session->input, session->input.length - input.length);
    if (session->input.length == 0)
        bytes_release(&session->input);
}

static void keep(struct session *session, struct slice bytes)
{
    if (bytes.length > 0 && bytes_add(&session->input, bytes) != RESULT_OK)
        session_close(session, "unprocessed input");
}

static void take_bytes(struct session *session, struct slice bytes)
{
    if (session->input.length > 0) {
        keep(session, bytes);
        process_kept(session);
        return;
    }
    process(session, &bytes); /* the usual case: nothing is copied */
    if (session->stream)
        keep(session, bytes);
}

static void on_bytes(void *owner, struct slice bytes)
{
    struct session *session = owner;

    session->bytes_read += bytes.length;
    session->window_bytes += bytes.length;
    session->last_byte_ms = now_ms(session);
    if (session->wait == WAIT_NOTHING) {
        take_bytes(session, bytes);
    } else if (session->wait == WAIT_GREETING) {
        strangers_talk_early(session);
    } else {
        keep(session, bytes);
    }
    /* Only now, that bytes came which nobody takes: most waits are over before that. */
    if (session->stream && session->wait != WAIT_NOTHING && session->input.length > 0 &&
        !session->is_paused) {
        session->is_paused = true;
        stream_pause(session->stream);
    }
    session_flush(session);
}

void session_resume(struct session *session)
{
    if (!session->stream)
        return;
    session->wait = WAIT_NOTHING;
    session->waiting_since_ms = session->last_byte_ms = now_ms(session);
    if (session->line_began_ms)
        session->line_began_ms = session->waiting_since_ms;
    start_window(session);
    process_kept(session);
    if (session->has_ended && session->wait == WAIT_NOTHING)
        session_close(session, "the client closed");
    if (session->stream && session->is_paused && session->wait == WAIT_NOTHING) {
        session->is_paused = false;
        stream_resume(session->stream);
    }
    session_flush(session);
}

static void on_drained(void *owner)
{
    struct session *session = owner;

    session->is_behind = false;
    if (session->wait == WAIT_OUTPUT)
        session_resume(session);
}

/* A client that closes its side behind its last word is answered: else a message that is being
 * committed would be accepted without its 250, and come again. */
static void on_closed(void *owner, const struct fault *why)
{
    struct session *session = owner;

    if (why && why->code == RESULT_CLOSED && session->wait != WAIT_NOTHING &&
        session->wait != WAIT_HANDSHAKE && session->wait != WAIT_GREETING) {
        session->has_ended = true;
        return;
    }
    session_close(session, why && why->code != RESULT_CLOSED ? result_text(why->code)
                                                             : "the client closed");
}

/* ---- TLS ---- */

/* RFC 3207 4.2: what was said in clear was never said. */
static void forget(struct session *session)
{
    transaction_abandon(session);
    memory_free(session->helo);
    memory_free(session->user);
    account_unref(session->account);
    session->helo = session->user = NULL;
    session->account = NULL;
    session->verb = NULL;
    session->is_extended = false;
    session->state = STATE_FRESH;
    session->line_began_ms = 0;
    bytes_release(&session->input);
    framing_read_lines(&session->framing);
}

static void on_secured(void *owner, const struct fault *fault)
{
    struct session *session = owner;

    if (fault) {
        session_close(session, fault->text);
        return;
    }
    session->is_secured = true;
    if (session->is_greeted)
        forget(session);
    else
        strangers_begin(session);
    if (session->wait == WAIT_HANDSHAKE)
        session_resume(session);
}

static void start_handshake(struct session *session)
{
    session_wait_for(session, WAIT_HANDSHAKE);
    if (stream_secure_server(session->stream, session->tls, on_secured) != RESULT_OK)
        session_close(session, "too many TLS handshakes");
}

void session_secure(struct session *session)
{
    if (!stream_may_secure(session->stream)) {
        session_reply(session, REPLY_TLS_FAILED, NULL);
        return;
    }
    session_reply(session, REPLY_READY_FOR_TLS, NULL);
    if (!session->stream)
        return;
    session_flush(session); /* in clear, in front of the handshake */
    session->drops_input = true;
    start_handshake(session);
}

/* ---- the beginning ---- */

static struct session *session_new(struct receive *receive,
                                   const struct receive_listener *listener,
                                   struct stream *stream)
{
    struct session *session = NEW(struct session);

    session->receive = receive;
    session->profile = receive->profile;
    session->profile->references++;
    session->stream = stream;
    session->tls = listener->tls ? tls_server_ref(listener->tls) : NULL;
    session->peer = stream_peer(stream)->ip;
    session->id = receive->next_session++;
    session->mode = listener->mode;
    session->tls_mode = listener->tls_mode;
    (void)slice_copy_text(slice_of(listener->name), session->listener,
                          sizeof session->listener);
    framing_init(&session->framing, LIMIT_COMMAND_LINE);
    bytes_init(&session->input, INPUT_BYTES_MAX);
    timer_init(&session->timer, receive->rooms.loop, on_timer, session);
    session->started_ms = now_ms(session);
    list_push_back(&receive->sessions, &session->link);
    return session;
}

void session_start(struct receive *receive, const struct receive_listener *listener,
                   struct stream *stream, const struct rate_client *client)
{
    static const struct stream_events events = {on_bytes, on_closed, on_drained};
    struct session *session = session_new(receive, listener, stream);

    session->client = *client;
    journal_connected(session);
    stream_start(stream, &events, session);
    timer_start(&session->timer, session->profile->settings.idle_timeout_ms);
    session_read(session, READ_COMMANDS);
    if (session->tls_mode == RECEIVE_TLS_IMPLICIT && session->tls)
        start_handshake(session);
    else
        strangers_begin(session);
    session_flush(session);
}
