/* A struct server with a real loop, real pools, real sockets and a configuration file, but with
 * simulated rooms for clients and deliveries: their doors, and the wiring's, stand here, so those
 * libraries are not linked. Its listeners have a loopback address of this process alone. */
#ifndef SMTPD_TESTS_SERVER_SERVER_WORLD_H
#define SMTPD_TESTS_SERVER_SERVER_WORLD_H

#include "inner.h"
#include "test.h"

#include "smtpd/base/check.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

enum { WAIT_MS = 10000, LOG_MOST = 1 << 20 };

struct world {
    struct server server;
    char folder[96];
    char config_path[128];
    char log_path[128];
    char ip[20];
    /* What the rooms were told. */
    unsigned applied;
    unsigned resolvers;
    loop_fn *receive_empty;
    loop_fn *deliver_empty;
    void *drain_owner;
    unsigned receive_aborts;
    unsigned deliver_aborts;
    unsigned possible_duplicates;
    struct receive_listener settings; /* of the last stream */
    char name[IP_TEXT];
    unsigned streams;
};

static struct world *world_now;

/* ---- the rooms and the wiring ---- */

void receive_on_stream(struct receive *receive, const struct receive_listener *listener,
                       struct stream *stream)
{
    (void)receive;
    world_now->settings = *listener;
    (void)snprintf(world_now->name, sizeof world_now->name, "%s", listener->name);
    world_now->streams++;
    stream_abort(stream);
}

void receive_drain(struct receive *receive, loop_fn *on_empty, void *owner)
{
    (void)receive;
    world_now->receive_empty = on_empty;
    world_now->drain_owner = owner;
}

void receive_abort(struct receive *receive)
{
    (void)receive;
    world_now->receive_aborts++;
}

void deliver_drain(struct deliver *deliver, loop_fn *on_empty, void *owner)
{
    (void)deliver;
    world_now->deliver_empty = on_empty;
    assert_ptr_equal(world_now->drain_owner, owner);
}

unsigned deliver_abort(struct deliver *deliver)
{
    (void)deliver;
    world_now->deliver_aborts++;
    return world_now->possible_duplicates;
}

void server_apply_settings(struct server *server)
{
    assert_ptr_equal(server, &world_now->server);
    world_now->applied++;
}

void server_use_resolver(struct server *server, struct resolver *resolver)
{
    if (server->resolver)
        resolver_free(server->resolver);
    server->resolver = resolver;
    world_now->resolvers++;
}

/* No probes here: see tests/e2e/test_admin_listener.py. */
enum result admin_public_bind(struct admin_public *admin_public,
                              const struct endpoint *wanted, size_t count,
                              struct fault *fault)
{
    (void)admin_public;
    (void)wanted;
    (void)count;
    (void)fault;
    return RESULT_OK;
}

void admin_public_forget_new(struct admin_public *admin_public)
{
    (void)admin_public;
}

void admin_public_apply(struct admin_public *admin_public, struct admin *admin,
                        const struct endpoint *wanted, size_t count)
{
    (void)admin_public;
    (void)admin;
    (void)wanted;
    (void)count;
}

/* ---- life ---- */

/* In one step: the file may be being read. */
static UNUSED void world_write(struct world *world, const char *text)
{
    char path[140];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s.new", world->config_path);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(path, world->config_path), 0);
}

static UNUSED int set_up(void **state)
{
    struct world *world = NEW(struct world);
    struct tls_settings tls = {0, 0};
    struct log_settings log = {.output = world->log_path, .level = LOG_DEBUG};
    struct server *server = &world->server;
    unsigned pid = (unsigned)getpid();

    secure_init();
    (void)snprintf(world->folder, sizeof world->folder, "%.60s/smtpd-server-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(world->folder));
    (void)snprintf(world->config_path, sizeof world->config_path, "%s/smtpd.toml",
                   world->folder);
    (void)snprintf(world->log_path, sizeof world->log_path, "%s/log", world->folder);
    (void)snprintf(world->ip, sizeof world->ip, "127.%u.%u.%u", 1 + (pid >> 16) % 254,
                   (pid >> 8) % 256, 1 + pid % 254);
    assert_int_equal(log_open(&log, NULL), RESULT_OK);
    server->config_path = world->config_path;
    server->loop = loop_new();
    server->offload = offload_new(server->loop);
    server->net = net_new(server->loop, server->offload, &tls);
    server->signer = signer_new(server->loop, server->offload);
    list_init(&server->listeners);
    systemd_init(&server->systemd, server->loop);
    world_now = world;
    *state = world;
    return 0;
}

/* Turns the loop until the condition holds. */
#define WORLD_UNTIL(world, condition)                                                      \
    do {                                                                                   \
        for (int turns_ = 0; turns_ < WAIT_MS && !(condition); turns_++)                   \
            loop_run_for((world)->server.loop, 1);                                         \
        assert_true(condition);                                                            \
    } while (0)

static UNUSED uint64_t world_open_streams(const struct world *world)
{
    struct net_statistics statistics;

    net_statistics(world->server.net, &statistics);
    return statistics.streams;
}

static UNUSED int tear_down(void **state)
{
    static const char *const names[] = {"smtpd.toml", "log", "users"};
    struct world *world = *state;
    struct server *server = &world->server;
    char path[160];
    int result;

    if (server->receive_deadline.loop) {
        timer_cancel(&server->receive_deadline);
        timer_cancel(&server->deliver_deadline);
    }
    WORLD_UNTIL(world, !server->reload);
    systemd_fini(&server->systemd);
    listeners_close(server);
    WORLD_UNTIL(world, world_open_streams(world) == 0);
    if (server->resolver)
        resolver_free(server->resolver);
    tls_server_unref(server->tls_server);
    tls_client_unref(server->tls_client);
    config_free(server->config);
    signer_free(server->signer);
    net_free(server->net);
    offload_free(server->offload);
    loop_free(server->loop);
    log_close();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", world->folder, names[i]);
        (void)unlink(path);
    }
    result = rmdir(world->folder);
    memory_free(world);
    return result;
}

/* ---- what a test looks at ---- */

static UNUSED int world_connect(const struct world *world, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(inet_pton(AF_INET, world->ip, &address.sin_addr), 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    assert_int_equal(errno, ECONNREFUSED);
    (void)close(fd);
    return -1;
}

static UNUSED bool world_is_open(const struct world *world, unsigned port)
{
    int fd = world_connect(world, port);

    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

/* A client comes; true: a stream of it reached the room for clients. */
static UNUSED bool world_is_served(struct world *world, unsigned port)
{
    unsigned before = world->streams;
    int fd = world_connect(world, port);

    assert_true(fd >= 0);
    for (int turns = 0; turns < 100 && world->streams == before; turns++)
        loop_run_for(world->server.loop, 1);
    (void)close(fd);
    return world->streams > before;
}

static UNUSED bool world_log_has(const struct world *world, const char *text)
{
    char *log = memory_new(LOG_MOST);
    int fd = open(world->log_path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(fd, log, LOG_MOST - 1);
    bool is_there = length > 0 && strstr(log, text);

    (void)close(fd);
    memory_free(log);
    return is_there;
}

static UNUSED struct endpoint world_endpoint(const struct world *world, unsigned port)
{
    struct endpoint endpoint;
    char text[40];

    (void)snprintf(text, sizeof text, "%s:%u", world->ip, port);
    assert_int_equal(endpoint_parse(slice_of(text), &endpoint), RESULT_OK);
    return endpoint;
}

static UNUSED struct server_listener *world_listener(const struct world *world,
                                                     unsigned port)
{
    struct endpoint endpoint = world_endpoint(world, port);

    for (struct link *link = list_first(&world->server.listeners); link;
         link = list_next(&world->server.listeners, link)) {
        struct server_listener *known = CONTAINER_OF(link, struct server_listener, link);

        if (endpoint_equal(listener_endpoint(known->listener), &endpoint))
            return known;
    }
    return NULL;
}

#define WITH_WORLD(group, name)                                                            \
    cmocka_unit_test_setup_teardown(group##_##name, set_up, tear_down)

#endif
