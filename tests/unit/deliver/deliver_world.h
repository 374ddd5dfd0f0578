/* The whole room on a real loop: a real queue in a folder of its own, a name server and three next
 * hops on loopback that say what the test tells them to (tests/support/), and a mailbox room that
 * waits for the test. No clock: what waits for hours is woken by deliver_wake(), and old messages
 * arrive with an old date. */
#ifndef SMTPD_TESTS_DELIVER_WORLD_H
#define SMTPD_TESTS_DELIVER_WORLD_H

#include "inner.h"

#include "certificates.h"
#include "failing_commits.h"
#include "fake_dns.h"
#include "smtp_peer.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PEERS = 3,
    LOCALS_MOST = 32,
    SEEN_MOST = 512,
    TURNS_MOST = 20000,
    HOUR_MS = 3600000
};

struct seen { /* a group, as it stands on disk */
    uint64_t id;
    char sender[128];
    char lane[64];
    char recipients[256]; /* "a@b.test;c@d.test;" */
    uint32_t attempts;
    int64_t next_attempt_ms;
    bool delay_notified;
    uint16_t code;
    char status[16];
    char text[512];
    char host[256];
};

struct world {
    struct loop *loop;
    struct offload *offload;
    struct net *net;
    struct fake_dns *dns;
    struct resolver *resolver;
    struct queue *queue;
    struct queue_settings queue_settings;
    struct deliver *deliver;
    struct deliver_settings settings; /* world_apply() after a change */
    const char *warm_up_path; /* NULL: nothing is kept; world_restart() after a change */
    struct tls_client *tls;
    struct tls_server *server_tls;
    struct certificates certificates;
    struct smtp_peer peers[PEERS]; /* mx1.test, mx2.test, mx3.test */
    char folder[64];
    char log[96];
    /* the next messages */
    struct envelope envelope;
    struct recipient recipient; /* notify and orcpt of each */
    const char *body;
    size_t commits;
    enum result last;
    /* what was seen on disk */
    struct seen seen[SEEN_MOST];
    size_t seen_count;
    bool is_visited;
    /* the mailbox room */
    struct {
        const struct lease *lease;
        deliver_local_end_fn *on_end;
        void *owner;
    } local[LOCALS_MOST];
    size_t local_count; /* that were handed over */
    size_t local_ended;
    unsigned empties; /* on_empty was called so often */
};

/* What the TLSA records of mx2.test are, all of them authentic; empty: there are none. */
static char world_tlsa[8192];

/* Where rua.test wants its reports of TLS: a record. */
static char world_rua[256];

/* MX of: a.test and b.test mx1; c.test mx3; two.test mx1, then mx2; down.test a host where nobody listens;
 * *.full.test mx1, with an MTA-STS policy whose server cannot be found; halfdown.test that one, then mx2; sure.test and unsure.test mx2, the first of them authentic. */
/* clang-format off */
static const struct fake_dns_row world_rows[] = {
    {"a.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx1.test", 0, false},
    {"b.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx1.test", 0, false},
    {"c.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx3.test", 0, false},
    {"two.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx1.test;MX 20 mx2.test", 0, false},
    {"down.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx9.test", 0, false},
    {"halfdown.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx9.test;MX 20 mx2.test", 0, false},
    {"*.full.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx1.test", 0, false},
    {"*.full.test", 16, FAKE_DNS_ANSWERS, 0, 300, "TXT v=STSv1\\059 id=1\\059", 0, false},
    {"*.full.test", 28, FAKE_DNS_ANSWERS, 0, 300, NULL, 0, false},
    {.name = "*.full.test", .manner = FAKE_DNS_IS_SILENT},
    {"mx1.test", 1, FAKE_DNS_ANSWERS, 0, 300, "A 127.0.0.1", 0, false},
    {"mx2.test", 1, FAKE_DNS_ANSWERS, 0, 300, "A 127.0.0.2", 0, true},
    {"mx2.test", 28, FAKE_DNS_ANSWERS, 0, 300, NULL, 0, true},
    {"sure.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx2.test", 0, true},
    {"unsure.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx2.test", 0, false},
    {"*.mx2.test", 52, FAKE_DNS_ANSWERS, 0, 300, world_tlsa, 0, true},
    {"mx3.test", 1, FAKE_DNS_ANSWERS, 0, 300, "A 127.0.0.3", 0, false},
    {"many.test", 15, FAKE_DNS_ANSWERS, 0, 300, "MX 10 mx5.test", 0, false},
    {"mx5.test", 1, FAKE_DNS_ANSWERS, 0, 300, "A 127.0.0.9;A 127.0.0.2", 0, false},
    {"mx9.test", 1, FAKE_DNS_ANSWERS, 0, 300, "A 127.0.0.9", 0, false},
    {.name = "nx.test", .rcode = 3},
    {.name = "servfail.test", .rcode = 2},
    {.name = "*.servfail.test", .rcode = 2},
    {"_smtp._tls.rua.test", 16, FAKE_DNS_ANSWERS, 0, 300, world_rua, 0, false},
    {.name = "silent.test", .manner = FAKE_DNS_IS_SILENT},
    {.name = "*.silent.test", .manner = FAKE_DNS_IS_SILENT},
    {.name = "*"}};
/* clang-format on */

/* ---- what an operator does ---- */

/* "queue retry" of a lane; NULL: of every one. */
static inline void deliver_wake(struct deliver *deliver, const char *lane)
{
    struct domain_queue *domain_queue;
    char name[1][LANE_TEXT];
    size_t position = 0;

    if (lane) {
        (void)snprintf(name[0], sizeof name[0], "%s", lane);
        (void)deliver_wake_start(deliver, (const char(*)[LANE_TEXT])name, 1, NULL, NULL);
        return;
    }
    while ((domain_queue = queue_next_domain_queue(deliver->rooms.queue, &position)))
        deliver_wake(deliver, domain_queue_lane(domain_queue));
}

/* ---- waiting ---- */

static inline void world_check_peers(const struct world *w)
{
    for (size_t i = 0; i < PEERS; i++)
        if (w->peers[i].complaint[0])
            fail_msg("mx%zu.test: %s", i + 1, w->peers[i].complaint);
}

/* Turns the loop until the condition holds; at most 20 s. */
#define WORLD_UNTIL(w, condition)                                                          \
    do {                                                                                   \
        for (int turns_ = 0; turns_ < TURNS_MOST && !(condition); turns_++) {              \
            world_check_peers(w);                                                          \
            loop_run_for((w)->loop, 1);                                                    \
        }                                                                                  \
        world_check_peers(w);                                                              \
        assert_true(condition);                                                            \
    } while (0)

static inline struct queue_statistics world_numbers(const struct world *w)
{
    struct queue_statistics statistics;

    queue_statistics(w->queue, &statistics);
    return statistics;
}

static inline struct deliver_statistics world_counts(const struct world *w)
{
    struct deliver_statistics statistics;

    deliver_statistics(w->deliver, &statistics);
    return statistics;
}

static inline struct why world_why(const struct world *w, const char *lane)
{
    struct why why;

    deliver_why(w->deliver, lane, NULL, &why);
    return why;
}

/* No attempt runs, nothing is being settled, nothing is leased. */
static inline bool world_is_quiet(const struct world *w)
{
    return w->deliver->settling.count == 0 && world_numbers(w).groups_leased == 0 &&
           world_counts(w).attempts_running == 0;
}

static inline bool world_is_empty(const struct world *w)
{
    return world_is_quiet(w) && world_numbers(w).groups_waiting == 0;
}

/* ---- what stands on disk ---- */

static inline bool world_on_group(void *owner, const struct envelope *envelope,
                                  const struct group *group)
{
    struct world *w = owner;
    struct seen *seen = &w->seen[w->seen_count++];
    size_t length = 0;

    assert_true(w->seen_count < SEEN_MOST);
    *seen = (struct seen){.id = envelope->id,
                          .attempts = group->attempts,
                          .next_attempt_ms = group->next_attempt_ms,
                          .delay_notified = group->delay_notified,
                          .code = group->last_code};
    (void)snprintf(seen->sender, sizeof seen->sender, "%s", envelope->sender);
    (void)snprintf(seen->lane, sizeof seen->lane, "%s", group->lane);
    (void)snprintf(seen->status, sizeof seen->status, "%s", group->last_status);
    (void)snprintf(seen->text, sizeof seen->text, "%s", group->last_text);
    (void)snprintf(seen->host, sizeof seen->host, "%s", group->last_host);
    for (uint32_t i = 0; i < group->recipient_count && length < 200; i++)
        length +=
            (size_t)snprintf(seen->recipients + length, sizeof seen->recipients - length,
                             "%.64s;", group->recipients[i].address);
    return true;
}

static inline void world_on_visited(void *owner, enum result result)
{
    struct world *w = owner;

    assert_int_equal(result, RESULT_OK);
    w->is_visited = true;
}

/* How many groups stand on disk; they are in `seen`. */
static inline size_t world_look(struct world *w)
{
    w->seen_count = 0;
    w->is_visited = false;
    (void)queue_visit_start(w->queue, 0, world_on_group, world_on_visited, w);
    WORLD_UNTIL(w, w->is_visited);
    return w->seen_count;
}

/* The only group on disk. */
static inline const struct seen *world_group(struct world *w)
{
    assert_int_equal(world_look(w), 1);
    return &w->seen[0];
}

/* ---- the log ---- */

static inline void world_open_log(struct world *w)
{
    struct log_settings log = {.output = w->log, .level = LOG_DEBUG, .node = "test"};

    assert_int_equal(log_open(&log, NULL), RESULT_OK);
}

/* How many lines of the log so far hold both texts. */
static inline unsigned world_logged(struct world *w, const char *event, const char *text)
{
    static char line[2 * LOG_LINE_MAX];
    unsigned count = 0;
    FILE *file;

    log_close();
    file = fopen(w->log, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        count += strstr(line, event) && strstr(line, text);
    (void)fclose(file);
    world_open_log(w);
    return count;
}

/* ---- the mailbox room ---- */

static inline void world_deliver_local(void *local, struct queue *queue,
                                       const struct lease *lease,
                                       deliver_local_end_fn *on_end, void *owner)
{
    struct world *w = local;

    assert_ptr_equal(queue, w->queue);
    assert_true(w->local_count < LOCALS_MOST);
    w->local[w->local_count].lease = lease;
    w->local[w->local_count].on_end = on_end;
    w->local[w->local_count++].owner = owner;
}

/* The group that was handed over first. */
static inline void world_end_local(struct world *w, const enum result *results,
                                   const char *text)
{
    size_t at = w->local_ended++;

    WORLD_UNTIL(w, w->local_count > at);
    w->local[at].on_end(w->local[at].owner, results, text);
}

static inline void world_on_empty(void *owner)
{
    struct world *w = owner;

    w->empties++;
}

/* ---- life ---- */

static inline void world_apply(struct world *w)
{
    deliver_apply(w->deliver, &w->settings, w->tls);
}

static inline void world_open_peers(struct world *w)
{
    for (int tries = 0; tries < 20; tries++) {
        size_t open = 0;

        while (open < PEERS) {
            char address[16];

            (void)snprintf(address, sizeof address, "127.0.0.%zu", open + 1);
            if (!smtp_peer_open(&w->peers[open], w->net, address,
                                open ? w->peers[0].endpoint.port : 0))
                break;
            open++;
        }
        if (open == PEERS)
            return;
        while (open > 0)
            smtp_peer_close(&w->peers[--open]);
    }
    fail_msg("no port is free on all of 127.0.0.1 to 127.0.0.3");
}

static inline void world_open_deliver(struct world *w)
{
    struct deliver_rooms rooms = {.loop = w->loop,
                                  .net = w->net,
                                  .resolver = w->resolver,
                                  .queue = w->queue,
                                  .deliver_local = world_deliver_local,
                                  .local = w};

    if (w->warm_up_path) {
        rooms.warm_up_path = w->warm_up_path;
        rooms.offload = w->offload;
    }
    w->deliver = deliver_new(&rooms);
    world_apply(w);
}

static inline void world_set_values(struct world *w)
{
    static const char *const locals[] = {"local.test"};

    w->queue_settings = (struct queue_settings){.data_dir = w->folder,
                                                .allow_network_filesystem = true,
                                                .retry_ms = {HOUR_MS},
                                                .retry_count = 1,
                                                .expire_ms = 24 * (int64_t)HOUR_MS};
    w->settings = (struct deliver_settings){
        .hostname = "relay.test",
        .defaults = {.connections = 5,
                     .messages_per_connection = 100,
                     .recipients_per_transaction = 100,
                     .pipeline_window = 32,
                     .tls = TLS_NONE},
        .local_domains = locals,
        .local_count = 1,
        .port = w->peers[0].endpoint.port,
        .allow_private_networks = true,
        .retry_ms = {HOUR_MS},
        .retry_count = 1,
        .expire_ms = 24 * (int64_t)HOUR_MS,
        .report_body_bytes = 1 << 20,
        .timeouts = {.connect = HOUR_MS, .idle = HOUR_MS},
    };
    w->envelope = (struct envelope){.sender = "sender@s.test", .longest_line = 78};
    w->body = "text\r\n";
}

static inline int set_up(void **state)
{
    struct tls_settings tls = {0, 0};
    struct resolver_settings resolver = {.server_count = 1};
    struct world *w = NEW(struct world);
    struct endpoint server;
    struct fault fault;

    secure_init();
    world_tlsa[0] = '\0';
    world_rua[0] = '\0';
    (void)strcpy(w->folder, "/tmp/smtpd-deliver-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->log, sizeof w->log, "%s/log", w->folder);
    world_open_log(w);
    w->loop = loop_new();
    w->offload = offload_new(w->loop);
    w->net = net_new(w->loop, w->offload, &tls);
    w->dns = fake_dns_open(w->loop, world_rows, sizeof world_rows / sizeof *world_rows);
    server = fake_dns_endpoint(w->dns);
    resolver.servers = &server;
    assert_int_equal(resolver_new(w->loop, &resolver, &w->resolver, &fault), RESULT_OK);
    world_open_peers(w);
    world_set_values(w);
    assert_int_equal(queue_open(w->loop, w->offload, &w->queue_settings, &w->queue, &fault),
                     RESULT_OK);
    world_open_deliver(w);
    *state = w;
    return 0;
}

/* The process starts again: what was in memory only is gone. */
static inline void world_restart(struct world *w)
{
    struct fault fault;

    deliver_free(w->deliver);
    queue_close(w->queue);
    assert_int_equal(queue_open(w->loop, w->offload, &w->queue_settings, &w->queue, &fault),
                     RESULT_OK);
    world_open_deliver(w);
}

static inline void world_wait_for_streams(struct world *w)
{
    struct net_statistics statistics;

    do {
        loop_run_for(w->loop, 1);
        net_statistics(w->net, &statistics);
    } while (statistics.streams > 0);
}

static inline int tear_down(void **state)
{
    static const char *const names[] = {"data.mdb", "lock.mdb",    "lock",       "log",
                                        "warm_up",  "warm_up.new", "warm_up.end"};
    struct world *w = *state;
    char path[128];
    unsigned complaints = 0;
    int result;

    world_fail_commits(0, 0);
    for (size_t i = 0; i < PEERS; i++)
        complaints += w->peers[i].complaint[0] != '\0';
    for (int turns = 0; turns < 2000 && w->deliver->settling.count > 0; turns++)
        loop_run_for(w->loop, 1);
    deliver_free(w->deliver);
    for (size_t i = 0; i < PEERS; i++)
        smtp_peer_close(&w->peers[i]);
    resolver_free(w->resolver);
    queue_close(w->queue);
    fake_dns_close(w->dns);
    world_wait_for_streams(w);
    tls_client_unref(w->tls);
    tls_server_unref(w->server_tls);
    if (w->server_tls)
        certificates_remove(&w->certificates);
    offload_free(w->offload);
    loop_run_for(w->loop, 1);
    net_free(w->net);
    loop_free(w->loop);
    log_close();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", w->folder, names[i]);
        (void)unlink(path);
    }
    result = rmdir(w->folder);
    memory_free(w);
    return result || complaints > 0;
}

/* The next hops have a certificate for `name`, which we trust. */
static inline void world_make_tls(struct world *w, const char *name)
{
    const char *certificate = w->certificates.certificate;
    const char *key = w->certificates.key;
    struct tls_server_settings server = {&certificate, &key, 1, false};
    struct fault fault;

    certificates_make(&w->certificates, name);
    assert_int_equal(tls_server_new(&server, &w->server_tls, &fault), RESULT_OK);
    assert_int_equal(tls_client_new(certificate, &w->tls, &fault), RESULT_OK);
    for (size_t i = 0; i < PEERS; i++)
        w->peers[i].borrowed_tls = w->server_tls;
    world_apply(w);
}

/* A TLSA record of the certificate that world_make_tls() made. */
static inline void world_publish_tls(const struct world *w)
{
    struct bytes der;
    char text[4096];
    char base64[4096];
    size_t length = 0;
    size_t at = (size_t)snprintf(world_tlsa, sizeof world_tlsa, "TLSA 3 0 0 ");
    FILE *file = fopen(w->certificates.certificate, "r");

    assert_non_null(file);
    while (fgets(text, sizeof text, file))
        if (text[0] != '-')
            for (const char *each = text; *each != '\n'; each++)
                base64[length++] = *each;
    (void)fclose(file);
    bytes_init(&der, sizeof base64);
    assert_int_equal(bytes_add_base64_decoded(&der, (struct slice){base64, length}),
                     RESULT_OK);
    for (size_t i = 0; i < der.length; i++)
        at += (size_t)snprintf(world_tlsa + at, sizeof world_tlsa - at, "%02x",
                               (unsigned)(unsigned char)der.data[i]);
    bytes_fini(&der);
}

/* ---- messages ---- */

static inline void world_on_commit(void *owner, enum result result)
{
    struct world *w = owner;

    w->last = result;
    w->commits++;
}

static inline void world_on_room(void *owner)
{
    (void)owner;
}

/* Accepts a message for the recipients ("a@b.test c@d.test"); returns its id. */
static inline uint64_t world_send(struct world *w, const char *addresses)
{
    char list[4096];
    struct recipient recipients[128];
    struct submission submission = {.envelope = &w->envelope,
                                    .header = SLICE("Subject: s\r\n\r\n"),
                                    .recipients = recipients};
    struct draft *draft = queue_draft_open(w->queue, world_on_room, w);
    uint64_t id = draft_id(draft);
    size_t before = w->commits;
    char *rest = list;

    (void)snprintf(list, sizeof list, "%s", addresses);
    for (char *one; (one = strtok_r(rest, " ", &rest));) {
        recipients[submission.recipient_count] = w->recipient;
        recipients[submission.recipient_count++].address = one;
    }
    if (!w->envelope.arrival_ms)
        w->envelope.arrival_ms = loop_wall_ms(w->loop);
    assert_true(draft_write(draft, slice_of(w->body)) <= RESULT_AGAIN);
    (void)draft_commit(draft, &submission, world_on_commit, w);
    WORLD_UNTIL(w, w->commits > before);
    assert_int_equal(w->last, RESULT_OK);
    return id;
}

/* ---- what scripts begin with ---- */

#define GREET "S: 220 mx ESMTP\nC: EHLO relay.test\nS: 250 mx\n"
#define GREET_PIPELINING                                                                   \
    "S: 220 mx ESMTP\nC: EHLO relay.test\nS: 250-mx\nS: 250 PIPELINING\n"
#define MAIL "C: MAIL FROM:<sender@s.test>\nC: <nothing>\nS: 250 ok\n"
#define RCPT "C: RCPT TO:<*>\nC: <nothing>\nS: 250 ok\n"
#define DATA "C: DATA\nC: <nothing>\nS: 354 go\nC: <data>\n"
#define TAKE MAIL RCPT DATA "S: 250 taken\n"

#define WITH_WORLD(group, name)                                                            \
    cmocka_unit_test_setup_teardown(group##_##name, set_up, tear_down)

#endif
