/* The door of the room: settings for sessions to come, the list of those that are there,
 * and how they all end. */
#include "smtpd/receive/receive.h"

#include "header_rules.h"
#include "journal.h"
#include "session.h"
#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "tenancy.h"
#include "transaction.h"

/* One pass over the input of a session fills at most one read buffer's worth of replies. */
enum { OUTPUT_BYTES_MAX = 4 * LIMIT_SESSION_OUTPUT };

void profile_unref(struct profile *profile)
{
    if (!profile || --profile->references > 0)
        return;
    access_unref(profile->access);
    header_rules_free(profile->header_rules);
    tenancy_free(profile->tenancy);
    memory_free((char *)(uintptr_t)profile->settings.hostname); /* our copy */
    memory_free(profile);
}

struct receive *receive_new(const struct receive_rooms *rooms)
{
    struct receive *receive = NEW(struct receive);

    receive->rooms = *rooms;
    list_init(&receive->sessions);
    bytes_init(&receive->output, OUTPUT_BYTES_MAX);
    receive_statistics_init(receive);
    /* Ids of sessions must differ between two runs: they stand in logs side by side. */
    secure_random(&receive->next_session, sizeof receive->next_session);
    return receive;
}

void receive_apply(struct receive *receive, const struct receive_settings *settings,
                   struct access *access)
{
    struct profile *profile = NEW(struct profile);

    profile->references = 1;
    profile->settings = *settings;
    profile->settings.hostname = memory_text(settings->hostname);
    profile->access = access_ref(access);
    profile->header_rules =
        header_rules_new(settings->header_rules, settings->header_rule_count);
    profile->tenancy = tenancy_new(&settings->tenancy);
    profile->settings.tenancy = (struct tenancy_settings){0};
    profile->settings.header_rules = NULL; /* the settings' memory is not ours */
    profile_unref(receive->profile);
    receive->profile = profile;
}

/* Why a connection is not taken. */
struct refused {
    enum reply_name name;
    const char *rule; /* the option, for the log; NULL: none */
};

/* Said in clear on implicit TLS too nobody could read it: there the connection just ends.
 */
static void refuse(struct receive *receive, const struct receive_listener *listener,
                   struct stream *stream, const struct refused *why)
{
    struct reply reply;

    reply_named(&reply, why->name, receive->profile->settings.hostname);
    journal_refused(listener, &stream_peer(stream)->ip, &reply, why->rule);
    receive->statistics.connections_refused++;
    receive_count_reply(receive, why->name, &reply);
    if (listener->statistics)
        listener->statistics->refused++;
    if (listener->tls_mode == RECEIVE_TLS_IMPLICIT) {
        stream_abort(stream);
        return;
    }
    CHECK(receive->output.length == 0);
    if (reply_add(&receive->output, &reply) == RESULT_OK)
        (void)stream_write(stream, bytes_view(&receive->output));
    bytes_clear(&receive->output);
    stream_close(stream);
}

/* There is nothing to do on a submission listener but to log in. */
static bool is_locked_out(const struct receive *receive, const struct rate_client *client)
{
    return !client->is_exempt &&
           auth_address_is_locked_out(receive->rooms.auth, &client->peer);
}

void receive_on_stream(struct receive *receive, const struct receive_listener *listener,
                       struct stream *stream)
{
    static const struct refused replies[] = {
        [RATE_TOO_MANY] = {REPLY_GREETING_BUSY, "connections"},
        [RATE_TOO_MANY_FROM_ADDRESS] = {REPLY_GREETING_BUSY_ADDRESS,
                                        "connections_per_address"},
        [RATE_TOO_MANY_FROM_NETWORK] = {REPLY_GREETING_BUSY_NETWORK,
                                        "connections_per_network"},
        [RATE_BARRED] = {REPLY_GREETING_BARRED, "offenders"},
        [RATE_TOO_OFTEN] = {REPLY_GREETING_TOO_OFTEN, "connection_rate"},
        [RATE_TOO_OFTEN_FROM_NETWORK] = {REPLY_GREETING_TOO_OFTEN_NETWORK,
                                         "connection_rate_per_network"},
    };
    static const struct refused memory = {REPLY_GREETING_MEMORY, "memory"};
    static const struct refused leaving = {REPLY_SHUTTING_DOWN, NULL};
    static const struct refused locked_out = {REPLY_LOCKED_OUT, "failed_log_ins"};
    struct rate_client client = {.peer = stream_peer(stream)->ip};
    enum rate_verdict verdict;

    CHECK(receive->profile);
    receive->statistics.connections++;
    if (receive->is_draining) {
        refuse(receive, listener, stream, &leaving);
        return;
    }
    if (pressure_level(receive->rooms.pressure) != PRESSURE_NONE) {
        refuse(receive, listener, stream, &memory);
        return;
    }
    client.is_exempt = access_is_trusted(receive->profile->access, &client.peer);
    if (listener->mode == MODE_SUBMISSION && is_locked_out(receive, &client)) {
        refuse(receive, listener, stream, &locked_out);
        return;
    }
    verdict = rate_admit(receive->rooms.rate, &client, loop_now_ms(receive->rooms.loop));
    if (verdict != RATE_OK)
        refuse(receive, listener, stream, &replies[verdict]);
    else {
        if (listener->statistics)
            listener->statistics->accepted++;
        session_start(receive, listener, stream, &client);
    }
}

static void on_nobody_left(void *owner)
{
    struct receive *receive = owner;
    loop_fn *on_empty = receive->on_empty;

    receive->on_empty = NULL;
    if (on_empty)
        on_empty(receive->on_empty_owner);
}

void receive_drain(struct receive *receive, loop_fn *on_empty, void *owner)
{
    struct link *link;
    struct link *next;

    receive->is_draining = true;
    receive->on_empty = on_empty;
    receive->on_empty_owner = owner;
    for (link = list_first(&receive->sessions); link; link = next) {
        next = list_next(&receive->sessions, link);
        session_leave_if_idle(CONTAINER_OF(link, struct session, link));
    }
    if (receive->sessions.count == 0)
        loop_defer(receive->rooms.loop, &receive->empty, on_nobody_left, receive);
}

void receive_on_session_freed(struct receive *receive)
{
    if (receive->is_draining && receive->sessions.count == 0)
        loop_defer(receive->rooms.loop, &receive->empty, on_nobody_left, receive);
}

void receive_abort(struct receive *receive)
{
    struct link *link;
    struct link *next;

    receive->is_draining = true;
    receive->on_empty = NULL;
    for (link = list_first(&receive->sessions); link; link = next) {
        struct session *session = CONTAINER_OF(link, struct session, link);

        next = list_next(&receive->sessions, link);
        session_reply_close(session, REPLY_SHUTTING_DOWN, "shutdown");
        /* Its commit may end well; there is nobody left to tell. */
        transaction_abandon(session);
        loop_defer(receive->rooms.loop, &session->deferred, session_free_deferred, session);
    }
}

void receive_free(struct receive *receive)
{
    struct link *link;

    if (!receive)
        return;
    receive->on_empty = NULL;
    while ((link = list_first(&receive->sessions))) {
        struct session *session = CONTAINER_OF(link, struct session, link);

        CHECK(!session->stream); /* receive_abort() comes first */
        session_free(session);
    }
    deferred_cancel(receive->rooms.loop, &receive->empty);
    profile_unref(receive->profile);
    bytes_fini(&receive->output);
    memory_free(receive);
}
