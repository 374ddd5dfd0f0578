/* One function per event. Nothing here ever sees a password or a byte of a message. */
#include "journal.h"

#include "smtpd/base/log.h"
#include "transaction.h"
#include "verbs.h"

static void start(struct log_line *line, enum log_level level, const char *event,
                  const struct session *session)
{
    char peer[IP_TEXT];
    char id[ID_TEXT];

    log_start(line, level, event);
    if (!line->is_written)
        return;
    id_print(session->id, id);
    ip_print(&session->peer, peer);
    log_text(line, "session", id);
    log_text(line, "peer", peer);
    log_text(line, "listener", session->listener);
}

static void add_tls(struct log_line *line, const struct session *session)
{
    const struct tls_facts *tls;

    if (!session->is_secured || !session->stream)
        return;
    tls = stream_tls(session->stream);
    log_object(line, "tls");
    log_text(line, "version", tls->version);
    log_text(line, "cipher", tls->cipher);
    log_object_end(line);
}

static void add_proxy(struct log_line *line, const struct stream *stream)
{
    const struct endpoint *proxy = stream_proxy(stream);
    char text[IP_TEXT];

    if (!proxy)
        return;
    ip_print(&proxy->ip, text);
    log_text(line, "proxy", text);
}

static void add_reply(struct log_line *line, const struct reply *reply)
{
    char status[16];

    reply_status(reply, status);
    log_object(line, "reply");
    log_number(line, "code", reply->code);
    log_text(line, "enhanced", status);
    log_text(line, "text", reply->text);
    log_object_end(line);
}

void journal_connected(const struct session *session)
{
    struct log_line line;

    start(&line, LOG_DEBUG, "receive.connected", session);
    add_proxy(&line, session->stream);
    log_end(&line);
}

void journal_disconnected(const struct session *session, const char *reason)
{
    struct log_line line;

    start(&line, LOG_INFO, "receive.disconnected", session);
    log_text(&line, "reason", reason);
    log_number(&line, "messages", (int64_t)session->messages);
    log_number(&line, "bytes", (int64_t)session->bytes_read);
    log_text(&line, "user", session->user);
    add_tls(&line, session);
    log_end(&line);
}

void journal_refused(const struct receive_listener *listener, const struct ip *peer,
                     const struct reply *reply, const char *rule)
{
    struct log_line line;
    char text[IP_TEXT];

    log_start(&line, LOG_INFO, "receive.refused");
    ip_print(peer, text);
    log_text(&line, "peer", text);
    log_text(&line, "listener", listener->name);
    log_text(&line, "rule", rule);
    add_reply(&line, reply);
    log_end(&line);
}

void journal_screened(const struct session *session)
{
    static const char *const names[SCREEN_NAME_COUNT] = {
        [SCREEN_NAME_NONE] = "none",
        [SCREEN_NAME_UNCONFIRMED] = "unconfirmed",
        [SCREEN_NAME_CONFIRMED] = "confirmed",
        [SCREEN_NAME_FAILED] = "failed",
    };
    const struct screen_result *result = session->screened;
    struct log_line line;

    start(&line, LOG_INFO, "receive.screened", session);
    log_number(&line, "weight", result->weight);
    log_text(&line, "lists", result->lists[0] ? result->lists : NULL);
    log_text(&line, "reverse_dns", names[result->state]);
    log_text(&line, "client_name", result->name[0] ? result->name : NULL);
    log_end(&line);
}

void journal_helo(const struct session *session)
{
    struct log_line line;

    start(&line, LOG_INFO, "receive.helo_suspect", session);
    log_text(&line, "helo", session->helo);
    log_text(&line, "reason", session->helo_fault);
    log_end(&line);
}

static void add_client_name(struct log_line *line, const struct session *session)
{
    if (session->screened && session->screened->name[0])
        log_text(line, "client_name", session->screened->name);
}

static void add_transaction(struct log_line *line, const struct session *session)
{
    const struct transaction *transaction = session->transaction;
    char id[ID_TEXT];

    if (!transaction) {
        log_text(line, "sender", session->borrowed_sender);
        return;
    }
    if (transaction->envelope.id) {
        id_print(transaction->envelope.id, id);
        log_text(line, "id", id);
    }
    log_text(line, "sender", transaction->envelope.sender);
    if (session->borrowed_recipient)
        log_text(line, "recipient", session->borrowed_recipient);
    else if (transaction->recipient_count == 1)
        log_text(line, "recipient", transaction->recipients[0].address);
    log_number(line, "recipients", (int64_t)transaction->recipient_count);
}

void journal_rejected(const struct session *session, const struct reply *reply)
{
    struct log_line line;

    if (!log_would_write(LOG_INFO))
        return;
    start(&line, LOG_INFO, "receive.rejected", session);
    log_text(&line, "verb", session->verb ? session->verb->name : NULL);
    add_transaction(&line, session);
    log_text(&line, "user", session->user);
    log_text(&line, "rule", session->rule);
    add_client_name(&line, session);
    add_reply(&line, reply);
    log_end(&line);
}

void journal_accepted(const struct session *session)
{
    const struct transaction *transaction = session->transaction;
    struct log_line line;
    char id[ID_TEXT];

    start(&line, LOG_NOTICE, "receive.accepted", session);
    id_print(transaction->envelope.id, id);
    log_text(&line, "id", id);
    log_text(&line, "sender", transaction->envelope.sender);
    log_number(&line, "recipients", (int64_t)transaction->recipient_count);
    if (transaction->recipient_count == 1)
        log_text(&line, "recipient", transaction->recipients[0].address);
    log_number(&line, "size", (int64_t)transaction->bytes);
    log_text(&line, "user", session->user);
    log_text(&line, "tenant", transaction->envelope.tenant);
    if (transaction->envelope.priority)
        log_number(&line, "priority", transaction->envelope.priority);
    log_text(&line, "message_id", transaction->message_id);
    add_client_name(&line, session);
    if (transaction->signature_count > 0)
        log_number(&line, "signatures", (int64_t)transaction->signature_count);
    add_tls(&line, session);
    log_object(&line, "delays");
    log_seconds(&line, "receive",
                loop_now_ms(session->receive->rooms.loop) - transaction->began_ms);
    log_object_end(&line);
    log_end(&line);
}

void journal_auth_ok(const struct session *session, const char *user, const char *mechanism)
{
    struct log_line line;

    start(&line, LOG_INFO, "receive.auth_ok", session);
    log_text(&line, "user", user);
    log_text(&line, "mechanism", mechanism);
    add_tls(&line, session);
    log_end(&line);
}

void journal_auth_failed(const struct session *session, const char *user,
                         const char *mechanism, const char *reason)
{
    struct log_line line;

    start(&line, LOG_NOTICE, "receive.auth_failed", session);
    log_text(&line, "user", user);
    log_text(&line, "mechanism", mechanism);
    log_text(&line, "reason", reason);
    add_tls(&line, session);
    log_end(&line);
}
