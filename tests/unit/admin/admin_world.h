/* The control socket over a real loop, real pools and a real queue in a folder of its own, and a
 * tiny HTTP client. The rooms that the control socket only asks are simulated: their doors stand
 * here, so the libraries of those rooms are not linked. A commit can be held up, and who is at
 * the other end of the socket can be told otherwise than it is. */
#ifndef SMTPD_TESTS_ADMIN_ADMIN_WORLD_H
#define SMTPD_TESTS_ADMIN_ADMIN_WORLD_H

#include "request.h"
#include "test.h"

#include "smtpd/deliver/destinations.h"
#include "smtpd/deliver/explain.h"
#include "smtpd/deliver/tls_report.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

enum { WAIT_MS = 10000, WOKEN_MOST = 16, DUE_MOST = 64, ANSWER_MOST = 64 << 20 };

struct world {
    struct loop *loop;
    struct offload *offload;
    struct queue *queue;
    struct suppression *suppression;
    struct admin *admin;
    struct queue_settings settings;
    struct admin_facts facts;
    char folder[96];
    char path[128]; /* of the socket */
    struct bytes answer;
    json_t *json; /* of the last answer, or NULL */
    size_t ends;
    enum result last;
    struct lease *lease;
    struct domain_queue *due[DUE_MOST]; /* held by the world */
    size_t due_count;
};

/* ---- the rooms that are only asked ---- */

static struct why world_why;       /* of the lane world_why_lane, or of every lane */
static const char *world_why_lane; /* NULL: every lane */
static char world_woken[WOKEN_MOST][LANE_TEXT];
static size_t world_woken_count;

void deliver_why(const struct deliver *deliver, const char *lane, const struct envelope *of,
                 struct why *why)
{
    (void)of;
    (void)deliver;
    *why = (struct why){.kind = WHY_SCHEDULED};
    if (!world_why_lane || strcmp(world_why_lane, lane) == 0)
        *why = world_why;
}

static struct deliver_bounce world_bounce; /* the last one asked for */
static struct queue_target world_bounced UNUSED;
static char world_bounced_reason[DELIVER_REASON_MAX + 1] UNUSED;

void deliver_bounce(struct deliver *deliver, const struct deliver_bounce *wanted)
{
    struct queue_counts counts = {.changed = wanted->count};

    (void)deliver;
    world_bounce = *wanted;
    world_bounced = wanted->targets[0];
    (void)snprintf(world_bounced_reason, sizeof world_bounced_reason, "%s",
                   wanted->reason ? wanted->reason : "");
    wanted->on_end(wanted->owner, RESULT_OK, &counts);
}

/* tests/e2e/test_explain.py asks the real one. */
struct explain *explain_start(struct deliver *deliver,
                              const struct explain_request *request, explain_fn *on_end,
                              void *owner)
{
    (void)deliver;
    (void)request;
    (void)on_end;
    (void)owner;
    return NULL;
}

void explain_cancel(struct explain *explain)
{
    (void)explain;
}

/* tests/e2e/test_destinations.py asks the real ones. */
const char *const reach_names[REACH_COUNT] = {"domain", "destination", "scope"};

enum result deliver_reach(const struct deliver *deliver, const char *text, enum reach as,
                          struct reached *reached, struct fault *fault)
{
    (void)deliver;
    if (!text[0])
        return fault_set(fault, RESULT_INVALID, "a name is needed");
    reached->reach = as == REACH_COUNT ? REACH_DOMAIN : as;
    (void)snprintf(reached->name, sizeof reached->name, "%s", text);
    return RESULT_OK;
}

struct destinations_ask *destinations_ask_start(struct deliver *deliver,
                                                const struct destinations_filter *filter,
                                                destinations_fn *on_end, void *owner)
{
    (void)deliver;
    (void)filter;
    (void)on_end;
    (void)owner;
    return NULL;
}

void destinations_ask_cancel(struct destinations_ask *ask)
{
    (void)ask;
}

void deliver_suspensions(const struct deliver *deliver, suspension_view_fn *each,
                         void *owner)
{
    (void)deliver;
    (void)each;
    (void)owner;
}

bool deliver_suspension_of(const struct deliver *deliver, const struct reached *reached,
                           struct suspension_view *view)
{
    (void)deliver;
    (void)reached;
    (void)view;
    return false;
}

enum result destinations_act_start(struct deliver *deliver,
                                   const struct destinations_wish *wish,
                                   struct destinations_act **act, struct fault *fault)
{
    (void)deliver;
    (void)wish;
    *act = NULL;
    return fault_set(fault, RESULT_BUSY, "too many commands are under way: try again");
}

void destinations_act_cancel(struct destinations_act *act)
{
    (void)act;
}

void deliver_why_leased(const struct deliver *deliver, const char *lane,
                        const struct envelope *of, const struct queue_target *group,
                        struct why *why)
{
    (void)of;
    (void)deliver;
    (void)lane;
    (void)group;
    why->kind = WHY_LEASED;
    why->until_ms = 0;
    (void)snprintf(why->text, sizeof why->text, "an attempt is running");
}

bool deliver_lane_of_route(const struct deliver *deliver, const char *name,
                           char lane[LANE_TEXT])
{
    (void)deliver;
    (void)snprintf(lane, LANE_TEXT, "route:%s", name);
    return strcmp(name, "known") == 0;
}

size_t deliver_tls_report_walk(const struct deliver *deliver, size_t first, size_t most,
                               deliver_tls_report_fn *each, void *owner)
{
    (void)deliver;
    (void)first;
    (void)most;
    (void)each;
    (void)owner;
    return 0;
}

bool deliver_tls_report_is_on(const struct deliver *deliver)
{
    (void)deliver;
    return false;
}

enum result deliver_tls_report_json(const struct deliver *deliver, const char *domain,
                                    struct bytes *into)
{
    (void)deliver;
    (void)domain;
    (void)into;
    return RESULT_NOT_FOUND;
}

size_t deliver_tls_report_send(struct deliver *deliver, const char *domain)
{
    (void)deliver;
    (void)domain;
    return 0;
}

/* One at a time, which ends in the same turn of the loop. */
static struct {
    struct deferred turn;
    struct loop *loop;
    deliver_woken_fn *on_end;
    void *owner;
    bool is_held; /* it does not end */
} world_waking;

static void world_on_woken(void *owner)
{
    deliver_woken_fn *on_end = world_waking.on_end;

    (void)owner;
    world_waking.on_end = NULL;
    if (on_end)
        on_end(world_waking.owner);
}

struct deliver_wake *deliver_wake_start(struct deliver *deliver,
                                        const char (*lanes)[LANE_TEXT], size_t count,
                                        deliver_woken_fn *on_end, void *owner)
{
    (void)deliver;
    assert_true(!world_waking.on_end && world_woken_count + count <= WOKEN_MOST);
    for (size_t i = 0; i < count; i++)
        (void)snprintf(world_woken[world_woken_count++], LANE_TEXT, "%s", lanes[i]);
    world_waking.on_end = on_end;
    world_waking.owner = owner;
    if (!world_waking.is_held)
        loop_defer(world_waking.loop, &world_waking.turn, world_on_woken, NULL);
    return (struct deliver_wake *)&world_waking;
}

void deliver_wake_cancel(struct deliver_wake *wake)
{
    assert_ptr_equal(wake, &world_waking);
    world_waking.on_end = NULL;
}

void deliver_statistics(const struct deliver *deliver,
                        struct deliver_statistics *statistics)
{
    (void)deliver;
    *statistics = (struct deliver_statistics){.recipients_delivered = 101,
                                              .recipients_deferred = 102,
                                              .recipients_failed = 103,
                                              .recipients_expired = 104,
                                              .reports_queued = 105,
                                              .connections = 106,
                                              .connections_failed = 107,
                                              .connections_open = 108,
                                              .attempts_running = 109,
                                              .destinations = 110,
                                              .destinations_backing_off = 111,
                                              .messages_reused_connection = 112};
}

void receive_statistics(const struct receive *receive,
                        struct receive_statistics *statistics)
{
    (void)receive;
    *statistics = (struct receive_statistics){.connections = 201,
                                              .connections_open = 202,
                                              .connections_refused = 203,
                                              .messages_accepted = 204,
                                              .recipients_accepted = 205,
                                              .bytes_accepted = 206,
                                              .messages_rejected = 207,
                                              .auth_ok = 208,
                                              .auth_failed = 209,
                                              .replies_2xx = 210,
                                              .replies_4xx = 211,
                                              .replies_5xx = 212};
}

void net_statistics(const struct net *net, struct net_statistics *statistics)
{
    (void)net;
    *statistics = (struct net_statistics){.streams = 301,
                                          .handshakes_running = 302,
                                          .handshakes_done = 303,
                                          .handshakes_failed = 304,
                                          .handshakes_refused = 305};
}

void deliver_busiest(const struct deliver *deliver, struct deliver_busiest *busiest)
{
    (void)deliver;
    memset(busiest, 0, sizeof *busiest);
}

void deliver_sources(const struct deliver *deliver, deliver_source_fn *each, void *owner)
{
    struct deliver_source_state state = {.name = "mail-a",
                                         .is_warming = true,
                                         .quota = 50,
                                         .used = 7,
                                         .connections = 3,
                                         .result = {1, 2, 4}};

    (void)deliver;
    each(owner, &state);
}

bool deliver_has_source(const struct deliver *deliver, const char *name)
{
    (void)deliver;
    return strcmp(name, "mail-a") == 0;
}

bool deliver_may_leave_by(const struct deliver *deliver, const char *source,
                          const char *lane, const struct envelope *of)
{
    return deliver_has_source(deliver, source) &&
           (strcmp(lane, "one.test") == 0 || (of->pool && strcmp(of->pool, "news") == 0));
}

enum deliver_class deliver_classify(const struct deliver *deliver,
                                    const struct class_reply *reply)
{
    (void)deliver;
    (void)reply;
    return CLASS_OTHER;
}

const char *deliver_class_name(enum deliver_class name)
{
    (void)name;
    return "class";
}

const char *tls_server_certificate(const struct tls_server *server, size_t at,
                                   int64_t *expires_ms)
{
    (void)server;
    (void)at;
    *expires_ms = 0;
    return NULL;
}

static struct resolver *world_resolver_asked;

void resolver_statistics(const struct resolver *resolver,
                         struct resolver_statistics *statistics)
{
    world_resolver_asked = (struct resolver *)(uintptr_t)resolver;
    *statistics = (struct resolver_statistics){401, 402, 403, 404, 405, 406, 407, 408, 409};
}

/* ---- who is at the other end ---- */

static bool world_peer_is_told;
static uid_t world_peer_uid;
static int world_peer_error;

int getsockopt(int fd, int level, int name, void *restrict value,
               socklen_t *restrict length)
{
    int (*real)(int, int, int, void *, socklen_t *) = NULL;

    if (level == SOL_SOCKET && name == SO_PEERCRED && world_peer_is_told) {
        struct ucred peer = {.pid = 1, .uid = world_peer_uid, .gid = 0};

        memcpy(value, &peer, sizeof peer);
        errno = world_peer_error;
        return world_peer_error ? -1 : 0;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getsockopt");
    return real(fd, level, name, value, length);
}

/* ---- commits that are held up, or fail ---- */

static _Atomic bool world_holds_commits;
static _Atomic unsigned world_held;
static _Atomic int world_fail_code;

int mdb_txn_commit(void *txn);
void mdb_txn_abort(void *txn);
int mdb_txn_commit(void *txn)
{
    int (*commit)(void *) = NULL;

    world_held++;
    while (world_holds_commits)
        (void)usleep(500);
    if (world_fail_code) {
        mdb_txn_abort(txn);
        return world_fail_code;
    }
    *(void **)&commit = dlsym(RTLD_NEXT, "mdb_txn_commit");
    return commit(txn);
}

/* ---- life ---- */

static void world_on_due(void *owner, struct domain_queue *domain_queue)
{
    struct world *world = owner;

    assert_true(world->due_count < DUE_MOST);
    world->due[world->due_count++] = domain_queue;
}

/* As the router without routes has it. */
static void world_lane_of(void *owner, const char *address, char lane[LANE_TEXT])
{
    char normal[DOMAIN_TEXT];

    (void)owner;
    assert_int_equal(domain_normalise(slice_of(strrchr(address, '@') + 1), normal),
                     RESULT_OK);
    (void)snprintf(lane, LANE_TEXT, "%s", normal);
}

static void world_tell_facts(void *owner, struct admin_facts *facts)
{
    *facts = ((struct world *)owner)->facts;
}

static enum result world_open_admin(struct world *world, const char *path,
                                    struct fault *fault)
{
    struct admin_rooms rooms = {.loop = world->loop,
                                .offload = world->offload,
                                .queue = world->queue,
                                .suppression = world->suppression,
                                .facts = world_tell_facts,
                                .owner = world};

    return admin_open(&rooms, path, &world->admin, fault);
}

static enum result world_open_list(struct world *world, struct fault *fault)
{
    struct suppression_settings settings = {.entries = 10000};
    char path[128];
    enum result result;

    (void)snprintf(path, sizeof path, "%s/suppression", world->folder);
    result =
        suppression_open(world->loop, world->offload, path, &world->suppression, fault);
    if (result == RESULT_OK)
        suppression_apply(world->suppression, &settings);
    return result;
}

static UNUSED int set_up(void **state)
{
    struct log_settings log = {.output = "/dev/null", .level = LOG_DEBUG, .node = "test"};
    struct world *world = NEW(struct world);
    struct fault fault = {0};

    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    (void)snprintf(world->folder, sizeof world->folder, "%.60s/smtpd-admin-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(world->folder));
    (void)snprintf(world->path, sizeof world->path, "%s/control.sock", world->folder);
    world->settings = (struct queue_settings){.data_dir = world->folder,
                                              .allow_network_filesystem = true,
                                              .retry_ms = {3600000},
                                              .retry_count = 1,
                                              .expire_ms = INT64_C(86400000)};
    world->facts = (struct admin_facts){.version = "1.2.3", .hostname = "relay.test"};
    bytes_init(&world->answer, ANSWER_MOST);
    world->loop = loop_new();
    world_waking.loop = world->loop;
    world->offload = offload_new(world->loop);
    if (queue_open(world->loop, world->offload, &world->settings, &world->queue, &fault) !=
            RESULT_OK ||
        world_open_list(world, &fault) != RESULT_OK ||
        world_open_admin(world, world->path, &fault) != RESULT_OK)
        fail_msg("%s", fault.text);
    queue_watch(world->queue, world_on_due, NULL, world);
    queue_set_lanes(world->queue, world_lane_of, NULL);
    *state = world;
    return 0;
}

static void world_reset(void)
{
    world_holds_commits = false;
    world_fail_code = 0;
    world_peer_is_told = false;
    world_peer_error = 0;
    world_why = (struct why){0};
    world_why_lane = NULL;
    world_woken_count = 0;
    world_waking.is_held = false;
}

static UNUSED int tear_down(void **state)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "lock", "suppression"};
    struct world *world = *state;
    char path[128];
    int result;

    world_reset();
    admin_close(world->admin);
    queue_close(world->queue);
    suppression_stop(world->suppression);
    offload_free(world->offload);
    suppression_close(world->suppression);
    loop_free(world->loop);
    log_close();
    json_decref(world->json);
    bytes_fini(&world->answer);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", world->folder, names[i]);
        (void)unlink(path);
    }
    result = rmdir(world->folder); /* the socket went with its owner */
    memory_free(world);
    return result;
}

/* Turns the loop until the condition holds. */
#define WORLD_UNTIL(world, condition)                                                      \
    do {                                                                                   \
        for (int turns_ = 0; turns_ < WAIT_MS && !(condition); turns_++)                   \
            loop_run_for((world)->loop, 1);                                                \
        assert_true(condition);                                                            \
    } while (0)

/* ---- the client ---- */

static UNUSED int world_dial(const struct world *world)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.107s", world->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static UNUSED void world_write(struct world *world, int fd, struct slice bytes)
{
    for (int turns = 0; turns < WAIT_MS && bytes.length > 0; turns++) {
        ssize_t sent = send(fd, bytes.data, bytes.length, MSG_NOSIGNAL);

        if (sent > 0)
            bytes = slice_from(bytes, (size_t)sent);
        else if (errno != EAGAIN)
            return; /* the server hung up: the answer says why */
        loop_run_for(world->loop, sent > 0 ? 0 : 1);
    }
    assert_int_equal(bytes.length, 0);
}

/* Adds what comes to world->answer. True: the server closed the connection. */
static UNUSED bool world_read(struct world *world, int fd)
{
    for (;;) {
        char *room = bytes_reserve(&world->answer, 65536);
        ssize_t got;

        assert_non_null(room);
        got = read(fd, room, 65536);
        if (got <= 0)
            return got == 0 || errno != EAGAIN;
        world->answer.length += (size_t)got;
    }
}

static UNUSED struct slice world_body(const struct world *world)
{
    const char *end = world->answer.data
                          ? memmem(world->answer.data, world->answer.length, "\r\n\r\n", 4)
                          : NULL;

    assert_non_null(end);
    return slice_from(bytes_view(&world->answer), (size_t)(end - world->answer.data) + 4);
}

/* Reads to the end of the connection. The status of the answer; 0: none came. */
static UNUSED unsigned world_finish(struct world *world, int fd)
{
    bool is_over = false;
    json_error_t error;
    struct slice body;

    bytes_clear(&world->answer);
    for (int turns = 0; turns < WAIT_MS && !is_over; turns++) {
        loop_run_for(world->loop, 1);
        is_over = world_read(world, fd);
    }
    assert_true(is_over);
    (void)close(fd);
    json_decref(world->json);
    world->json = NULL;
    if (world->answer.length < 12)
        return 0;
    assert_memory_equal(world->answer.data, "HTTP/1.", 7);
    body = world_body(world);
    world->json = json_loadb(body.data, body.length, 0, &error);
    return (unsigned)strtoul(world->answer.data + 9, NULL, 10);
}

static UNUSED int world_start(struct world *world, const char *method, const char *path,
                              const char *body)
{
    size_t length = body ? strlen(body) : 0;
    int fd = world_dial(world);
    struct bytes text;

    bytes_init(&text, ANSWER_MOST);
    assert_int_equal(bytes_format(&text, "%s %s HTTP/1.0\r\nContent-Length: %zu\r\n\r\n",
                                  method, path, length),
                     RESULT_OK);
    assert_int_equal(bytes_add_text(&text, body ? body : ""), RESULT_OK);
    world_write(world, fd, bytes_view(&text));
    bytes_fini(&text);
    return fd;
}

static UNUSED unsigned world_get(struct world *world, const char *path)
{
    return world_finish(world, world_start(world, "GET", path, NULL));
}

static UNUSED unsigned world_post(struct world *world, const char *path, const char *body)
{
    return world_finish(world, world_start(world, "POST", path, body));
}

static UNUSED const char *world_error(const struct world *world)
{
    const char *text = json_string_value(json_object_get(world->json, "error"));

    assert_non_null(text);
    return text;
}

/* The nth item of a listing. */
static UNUSED const json_t *world_item(const struct world *world, size_t at)
{
    const json_t *item = json_array_get(json_object_get(world->json, "items"), at);

    assert_non_null(item);
    return item;
}

static UNUSED size_t world_count(const struct world *world)
{
    const json_t *items = json_object_get(world->json, "items");

    assert_true(json_is_array(items));
    return json_array_size(items);
}

static UNUSED int64_t world_number(const json_t *object, const char *name)
{
    const json_t *number = json_object_get(object, name);

    if (!json_is_integer(number))
        fail_msg("%s is no number", name);
    return json_integer_value(number);
}

static UNUSED const char *world_text(const json_t *object, const char *name)
{
    const json_t *text = json_object_get(object, name);

    if (!json_is_string(text))
        fail_msg("%s is no text", name);
    return json_string_value(text);
}

/* ---- messages ---- */

static const struct slice WORLD_HEADER = {"Subject: s\r\n\r\n", 14};

static void world_on_end(void *owner, enum result result)
{
    struct world *world = owner;

    world->last = result;
    world->ends++;
}

static UNUSED void world_on_room(void *owner)
{
    (void)owner;
}

struct world_mail {
    const char *sender;
    const char *user;
    const char *tenant;
    const char *pool;
    int64_t age_ms;
    const char *recipients[8];
    struct slice body;
};

static UNUSED uint64_t world_send(struct world *world, const struct world_mail *mail)
{
    struct recipient recipients[8] = {{0}};
    struct envelope envelope = {.sender = mail->sender ? mail->sender : "a@from.test",
                                .user = mail->user,
                                .tenant = mail->tenant,
                                .pool = mail->pool,
                                .arrival_ms = loop_wall_ms(world->loop) - mail->age_ms,
                                .longest_line = 78};
    struct submission submission = {
        .envelope = &envelope, .header = WORLD_HEADER, .recipients = recipients};
    struct draft *draft = queue_draft_open(world->queue, world_on_room, world);
    struct slice body = mail->body.length ? mail->body : SLICE("body\r\n");
    uint64_t id = draft_id(draft);
    size_t before = world->ends;

    for (size_t i = 0; i < 8 && mail->recipients[i]; i++)
        recipients[submission.recipient_count++].address = mail->recipients[i];
    while (body.length > 0) {
        struct slice piece = slice_part(body, 0, body.length < 65536 ? body.length : 65536);

        if (draft_write(draft, piece) == RESULT_AGAIN)
            loop_run_for(world->loop, 1);
        body = slice_from(body, piece.length);
    }
    (void)draft_commit(draft, &submission, world_on_end, world);
    WORLD_UNTIL(world, world->ends > before);
    assert_int_equal(world->last, RESULT_OK);
    return id;
}

static UNUSED uint64_t world_send_to(struct world *world, const char *address)
{
    return world_send(world, &(struct world_mail){.recipients = {address}});
}

static void world_on_lease(void *owner, struct lease *lease, enum result result)
{
    struct world *world = owner;

    assert_int_equal(result, RESULT_OK);
    world->lease = lease;
}

/* An attempt begins at the lane's next due group. */
static UNUSED struct lease *world_take(struct world *world, const char *lane)
{
    struct domain_queue *found = NULL;
    struct queue_entry entry;

    for (int turns = 0; turns < WAIT_MS && !found; turns++) {
        loop_run_for(world->loop, 1);
        for (size_t i = 0; i < world->due_count; i++)
            if (strcmp(domain_queue_lane(world->due[i]), lane) == 0)
                found = world->due[i];
    }
    assert_non_null(found);
    assert_true(domain_queue_take(found, &entry));
    world->lease = NULL;
    (void)queue_lease_load(found, &entry, world_on_lease, world);
    WORLD_UNTIL(world, world->lease != NULL);
    return world->lease;
}

/* The attempt ends with an answer for now. */
static UNUSED void world_defer(struct world *world, struct lease *lease, int64_t delay_ms)
{
    bool settled[8] = {0};
    size_t before = world->ends;
    struct settlement settlement = {.is_settled = settled,
                                    .next_attempt_ms = loop_wall_ms(world->loop) + delay_ms,
                                    .counts_attempt = true,
                                    .last_code = 451,
                                    .last_status = "4.2.2",
                                    .last_text = "mailbox is full",
                                    .last_host = "mx.to.test"};

    lease_settle(lease, &settlement, world_on_end, world);
    WORLD_UNTIL(world, world->ends > before);
    assert_int_equal(world->last, RESULT_OK);
}

#endif
