/* A receive room whose streams and queue are simulated: bytes go in and come out in memory,
 * the handshake ends when the test says so, and the queue fails on request. Loop, offload,
 * auth, rate and access are the real ones. Defines the doors of net/stream.h and queue.h
 * that receive uses, so the libraries of those rooms are not linked. */
#ifndef SMTPD_TESTS_RECEIVE_WORLD_H
#define SMTPD_TESTS_RECEIVE_WORLD_H

#include "dialogue.h"
#include "session.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef UNUSED
#define UNUSED __attribute__((unused))
#endif

/* ---- the stream ---- */

struct stream {
    const struct stream_events *events;
    void *owner;
    struct endpoint peer;
    struct tls_facts tls;
    stream_secured_fn *on_secured;
    struct bytes output;
    struct bytes kept; /* sent by the test while paused */
    bool is_paused;
    bool is_closed;
    bool says_again;
};

struct tls_server {
    int references;
};

static enum result world_secure_result = RESULT_OK;

void stream_start(struct stream *stream, const struct stream_events *events, void *owner)
{
    stream->events = events;
    stream->owner = owner;
}

enum result stream_write(struct stream *stream, struct slice bytes)
{
    assert_false(stream->is_closed);
    assert_int_equal(bytes_add(&stream->output, bytes), RESULT_OK);
    return stream->says_again ? RESULT_AGAIN : RESULT_OK;
}

void stream_pause(struct stream *stream)
{
    stream->is_paused = true;
}

void stream_resume(struct stream *stream)
{
    stream->is_paused = false;
}

void stream_close(struct stream *stream)
{
    assert_false(stream->is_closed);
    stream->is_closed = true;
}

void stream_abort(struct stream *stream)
{
    stream_close(stream);
}

enum result stream_secure_server(struct stream *stream, struct tls_server *server,
                                 stream_secured_fn *on_end)
{
    assert_non_null(server);
    if (world_secure_result == RESULT_OK)
        stream->on_secured = on_end;
    return world_secure_result;
}

bool stream_may_secure(const struct stream *stream)
{
    (void)stream;
    return world_secure_result == RESULT_OK;
}

const struct endpoint *stream_local(const struct stream *stream)
{
    static const struct endpoint local; /* "::": nobody claims that */

    (void)stream;
    return &local;
}

const struct endpoint *stream_peer(const struct stream *stream)
{
    return &stream->peer;
}

const struct endpoint *stream_proxy(const struct stream *stream)
{
    (void)stream;
    return NULL;
}

const struct tls_facts *stream_tls(const struct stream *stream)
{
    return &stream->tls;
}

struct tls_server *tls_server_ref(struct tls_server *server)
{
    server->references++;
    return server;
}

void tls_server_unref(struct tls_server *server)
{
    if (server)
        server->references--;
}

/* ---- the queue ---- */

enum { WORLD_STORED_MAX = 64 };

struct stored {
    uint64_t id;
    char *message; /* header and body, NUL-terminated */
    size_t header_bytes;
    char *sender;
    char *envid;
    char *user;
    char *tenant;
    char *pool;
    char *recipients; /* "a@b c@d " */
    char *orcpts;
    uint8_t notify; /* of the first */
    struct envelope envelope;
};

struct queue {
    struct loop *loop;
    enum result room;
    enum result write_result;
    enum result commit_result;
    bool holds_commits;
    uint64_t next_id;
    int drafts;
    draft_room_fn *on_room;
    void *on_room_owner;
    struct commit *held;
    struct stored stored[WORLD_STORED_MAX];
    size_t stored_count;
};

struct draft {
    struct queue *queue;
    uint64_t id;
    struct bytes body;
    draft_room_fn *on_room;
    void *owner;
};

struct commit {
    struct deferred deferred;
    struct queue *queue;
    queue_end_fn *on_end;
    void *owner;
};

enum result queue_has_room(struct queue *queue)
{
    return queue->room;
}

struct draft *queue_draft_open(struct queue *queue, draft_room_fn *on_room, void *owner)
{
    struct draft *draft = NEW(struct draft);

    draft->queue = queue;
    draft->id = ++queue->next_id;
    draft->on_room = on_room;
    draft->owner = owner;
    bytes_init(&draft->body, 256 << 20);
    queue->drafts++;
    return draft;
}

uint64_t draft_id(const struct draft *draft)
{
    return draft->id;
}

enum result draft_write(struct draft *draft, struct slice body)
{
    assert_int_equal(bytes_add(&draft->body, body), RESULT_OK);
    draft->queue->on_room = draft->on_room;
    draft->queue->on_room_owner = draft->owner;
    return draft->queue->write_result;
}

void draft_discard(struct draft *draft)
{
    draft->queue->drafts--;
    draft->queue->on_room = NULL;
    bytes_fini(&draft->body);
    memory_free(draft);
}

static void world_on_commit_end(void *owner)
{
    struct commit *commit = owner;
    queue_end_fn *on_end = commit->on_end;
    void *to = commit->owner;
    enum result result = commit->queue->commit_result;

    commit->queue->held = NULL;
    memory_free(commit);
    on_end(to, result);
}

static void world_store(struct queue *queue, const struct draft *draft,
                        const struct submission *submission)
{
    struct stored *stored = &queue->stored[queue->stored_count++ % WORLD_STORED_MAX];
    struct bytes text;
    struct bytes orcpts;

    assert_true(queue->stored_count <= WORLD_STORED_MAX);
    bytes_init(&text, 256 << 20);
    assert_int_equal(bytes_add(&text, submission->header), RESULT_OK);
    assert_int_equal(bytes_add(&text, bytes_view(&draft->body)), RESULT_OK);
    stored->id = draft->id;
    stored->message = slice_to_text(bytes_view(&text));
    stored->header_bytes = submission->header.length;
    bytes_clear(&text);
    bytes_init(&orcpts, 1 << 20);
    for (size_t i = 0; i < submission->recipient_count; i++) {
        const struct recipient *recipient = &submission->recipients[i];

        assert_int_equal(bytes_format(&text, "%s ", recipient->address), RESULT_OK);
        assert_int_equal(
            bytes_format(&orcpts, "%s ", recipient->orcpt ? recipient->orcpt : "-"),
            RESULT_OK);
    }
    stored->recipients = slice_to_text(bytes_view(&text));
    stored->orcpts = slice_to_text(bytes_view(&orcpts));
    stored->notify = submission->recipients[0].notify;
    stored->sender = memory_text(submission->envelope->sender);
    stored->envid = memory_text(submission->envelope->envid);
    stored->user = memory_text(submission->envelope->user);
    stored->tenant = memory_text(submission->envelope->tenant);
    stored->pool = memory_text(submission->envelope->pool);
    stored->envelope = *submission->envelope;
    bytes_fini(&text);
    bytes_fini(&orcpts);
}

struct commit *draft_commit(struct draft *draft, const struct submission *submission,
                            queue_end_fn *on_end, void *owner)
{
    struct queue *queue = draft->queue;
    struct commit *commit = NEW(struct commit);

    commit->queue = queue;
    commit->on_end = on_end;
    commit->owner = owner;
    if (queue->commit_result == RESULT_OK)
        world_store(queue, draft, submission);
    draft_discard(draft);
    if (queue->holds_commits)
        queue->held = commit;
    else
        loop_defer(queue->loop, &commit->deferred, world_on_commit_end, commit);
    return commit;
}

void commit_cancel(struct commit *commit)
{
    deferred_cancel(commit->queue->loop, &commit->deferred);
    commit->queue->held = NULL;
    memory_free(commit);
}

/* ---- the world ---- */

struct world {
    struct loop *loop;
    struct offload *offload;
    struct auth *auth;
    struct rate *rate;
    struct limits *limits;
    char limits_path[64];
    struct access *access;
    struct signer *signer;
    struct queue queue;
    struct tls_server tls;
    struct receive *receive;
    struct receive_settings settings;
    struct receive_listener listener;
    struct stream *streams[512];
    size_t stream_count;
    struct stream *stream; /* the last one */
    struct dialogue dialogue;
    char users_path[64];
    const char *log_output;
    int empty_count;
};

static UNUSED void world_on_empty(void *owner)
{
    ((struct world *)owner)->empty_count++;
}

static void world_send(void *owner, struct slice bytes)
{
    struct stream *stream = ((struct world *)owner)->stream;

    if (stream->is_closed)
        return;
    if (stream->is_paused || stream->on_secured)
        assert_int_equal(bytes_add(&stream->kept, bytes), RESULT_OK);
    else
        stream->events->on_bytes(stream->owner, bytes);
}

static void world_wait(void *owner, int64_t ms)
{
    struct world *w = owner;
    struct stream *stream = w->stream;

    loop_run_for(w->loop, ms);
    if (stream->kept.length > 0 && !stream->is_paused && !stream->is_closed &&
        !stream->on_secured) {
        struct bytes kept = stream->kept;

        bytes_init(&stream->kept, 64 << 20);
        stream->events->on_bytes(stream->owner, bytes_view(&kept));
        bytes_fini(&kept);
    }
}

static bool world_receive(void *owner, struct bytes *into)
{
    struct stream *stream = ((struct world *)owner)->stream;

    assert_int_equal(bytes_add(into, bytes_view(&stream->output)), RESULT_OK);
    bytes_clear(&stream->output);
    return !stream->is_closed;
}

/* The defaults of a test: a submission listener with STARTTLS at 192.0.2.9, users "alice"
 * with the password "secret", local domain "home.test" with "bob" and a postmaster. Change
 * `settings` and `listener`, then world_start(). */
static UNUSED void world_prepare(struct world *w)
{
    memset(w, 0, sizeof *w);
    world_secure_result = RESULT_OK;
    w->settings = (struct receive_settings){.hostname = "relay.test",
                                            .message_size_bytes = 100000,
                                            .recipients_per_message = 100,
                                            .received_hops = 5,
                                            .idle_timeout_ms = 60000,
                                            .add_missing_headers = true,
                                            .remove_bcc = true,
                                            .has_users = true};
    w->listener = (struct receive_listener){.mode = MODE_SUBMISSION,
                                            .tls_mode = RECEIVE_TLS_STARTTLS,
                                            .tls = &w->tls,
                                            .name = "0.0.0.0:587"};
    w->tls.references = 1;
    w->log_output = "/dev/null";
}

static void world_write_users(struct world *w)
{
    struct fault fault;
    bool was_there;

    (void)snprintf(w->users_path, sizeof w->users_path, "/tmp/smtpd-users-%d",
                   (int)getpid());
    (void)unlink(w->users_path);
    assert_int_equal(
        users_file_set(w->users_path, "alice", SLICE("secret"), &was_there, &fault),
        RESULT_OK);
    assert_int_equal(auth_load(w->auth, w->users_path, &fault), RESULT_OK);
}

static UNUSED void world_connect(struct world *w, const char *address)
{
    struct stream *stream = NEW(struct stream);
    struct dialogue_end end = {world_send, world_receive, world_wait, w};

    assert_true(w->stream_count < 512);
    assert_int_equal(ip_parse(slice_of(address), &stream->peer.ip), RESULT_OK);
    bytes_init(&stream->output, 64 << 20);
    bytes_init(&stream->kept, 64 << 20);
    w->streams[w->stream_count++] = w->stream = stream;
    if (w->stream_count > 1)
        dialogue_fini(&w->dialogue);
    dialogue_init(&w->dialogue, 'C', &end);
    receive_on_stream(w->receive, &w->listener, stream);
}

/* Rooms, but no connection. */
static UNUSED void world_start(struct world *w)
{
    static const char *const users[] = {"bob", "carol"};
    static const struct local_domain domain = {"home.test", users, 2};
    static const struct rate_settings rate = {
        .connections = 8, .connections_per_address = 4, .connections_per_network = 8};
    struct network trusted;
    struct access_settings access = {&trusted, 1, &domain, 1, "bob@home.test"};
    struct log_settings log = {.output = w->log_output, .level = LOG_DEBUG, .node = "test"};
    struct receive_rooms rooms;

    secure_init();
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    assert_int_equal(network_parse(SLICE("10.0.0.0/8"), &trusted), RESULT_OK);
    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    w->auth = auth_new(w->loop, w->offload);
    world_write_users(w);
    w->rate = rate_new(&rate);
    (void)snprintf(w->limits_path, sizeof w->limits_path, "/tmp/smtpd-limits-%d",
                   (int)getpid());
    (void)unlink(w->limits_path);
    w->limits = limits_open(w->loop, w->offload, w->limits_path);
    w->signer = signer_new(w->loop, w->offload);
    w->access = access_new(&access);
    w->queue.loop = w->loop;
    rooms = (struct receive_rooms){.loop = w->loop,
                                   .queue = &w->queue,
                                   .auth = w->auth,
                                   .rate = w->rate,
                                   .signer = w->signer,
                                   .limits = w->limits};
    w->receive = receive_new(&rooms);
    receive_apply(w->receive, &w->settings, w->access);
}

static UNUSED void world_play(struct world *w, const char *script)
{
    dialogue_play(&w->dialogue, script);
}

/* The handshake ends. */
static UNUSED void world_secure(struct world *w, const struct fault *fault)
{
    struct stream *stream = w->stream;
    stream_secured_fn *on_end = stream->on_secured;

    assert_non_null(on_end);
    stream->on_secured = NULL;
    if (!fault)
        stream->tls = (struct tls_facts){
            .is_secure = true, .version = "TLSv1.3", .cipher = "TLS_AES_128_GCM_SHA256"};
    on_end(stream->owner, fault);
}

static UNUSED void world_vanish(struct world *w)
{
    static const struct fault why = {RESULT_CLOSED, "closed"};

    w->stream->events->on_closed(w->stream->owner, &why);
}

/* Not a close of the client's side alone: nobody hears us any more. */
static UNUSED void world_break(struct world *w)
{
    static const struct fault why = {RESULT_IO, "no route"};

    w->stream->events->on_closed(w->stream->owner, &why);
}

/* From a fresh connection to a log-in under TLS. */
static UNUSED void world_log_in(struct world *w)
{
    world_play(w, "S: 220 relay.test ESMTP*\nC: EHLO client.test\nS: 250 *\nC: STARTTLS\n"
                  "S: 220 2.0.0 *\n");
    world_secure(w, NULL);
    world_play(w, "C: EHLO client.test\nS: 250 *\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\n"
                  "S: 235 2.7.0 *\n");
}

static UNUSED void world_end(struct world *w)
{
    receive_abort(w->receive);
    loop_run_for(w->loop, 1);
    assert_int_equal(w->queue.drafts, 0);
    assert_int_equal(rate_connections(w->rate), 0);
    receive_free(w->receive);
    auth_free(w->auth);
    signer_free(w->signer);
    rate_free(w->rate);
    access_unref(w->access);
    limits_stop(w->limits);
    offload_free(w->offload);
    limits_close(w->limits);
    (void)unlink(w->limits_path);
    loop_free(w->loop);
    if (w->stream_count > 0)
        dialogue_fini(&w->dialogue);
    for (size_t i = 0; i < w->stream_count; i++) {
        bytes_fini(&w->streams[i]->output);
        bytes_fini(&w->streams[i]->kept);
        memory_free(w->streams[i]);
    }
    assert_int_equal(w->tls.references, 1);
    for (size_t i = 0; i < w->queue.stored_count; i++) {
        struct stored *stored = &w->queue.stored[i];

        memory_free(stored->message);
        memory_free(stored->recipients);
        memory_free(stored->orcpts);
        memory_free(stored->sender);
        memory_free(stored->envid);
        memory_free(stored->user);
        memory_free(stored->tenant);
        memory_free(stored->pool);
    }
    log_close();
    (void)unlink(w->users_path);
}

/* ---- messages ---- */

#define START "S: 220 *\nC: EHLO a.test\nS: 250 *\n"
#define MESSAGE "C: MAIL FROM:<a@b.test>\nS: 250 *\nC: RCPT TO:<bob@home.test>\nS: 250 *\n"
#define DATA MESSAGE "C: DATA\nS: 354 *\n"

static UNUSED void start_relay(struct world *w)
{
    world_prepare(w);
    w->listener.mode = MODE_RELAY;
    world_start(w);
    world_connect(w, "10.1.1.1");
    world_play(w, START);
}

static UNUSED void start_submission(struct world *w)
{
    world_prepare(w);
    world_start(w);
    world_connect(w, "192.0.2.9");
    world_log_in(w);
}

static UNUSED const struct stored *last(const struct world *w)
{
    assert_true(w->queue.stored_count > 0);
    return &w->queue.stored[w->queue.stored_count - 1];
}

/* The stored message behind our Received field. */
static UNUSED const char *behind_trace(const struct stored *stored)
{
    const char *at = stored->message;

    assert_int_equal(strncmp(at, "Received: from a.test ([10.1.1.1])", 34), 0);
    do {
        at = strstr(at, "\r\n");
        assert_non_null(at);
        at += 2;
    } while (*at == ' ' || *at == '\t');
    return at;
}

#endif
