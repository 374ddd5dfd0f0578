/* commit: what the bare store takes for one message: LMDB as the queue opens it, one transaction
 * with the message's chunks, its group and its envelope, one commit; nothing around it.
 *
 *   commit --folder D --bytes N --seconds S [--asked]     -> JSON: microseconds of the commits
 *
 * Each message is removed again in a transaction that is not measured, so that the file stays as
 * it is with a relay that keeps up.
 *
 * --asked: the least that a server has around it. A client asks over a connection; a thread with an
 * epoll loop wakes the thread that commits, by a semaphore, and is woken by it, by an eventfd; the
 * message before is removed in the same transaction. Measured is from the question to the answer,
 * at the client. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <lmdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 4080, ENVELOPE = 400, GROUP = 150, SAMPLES_MOST = 1 << 20 };

struct store {
    MDB_env *env;
    MDB_dbi envelope;
    MDB_dbi group;
    MDB_dbi body;
    char *message;
    size_t bytes;
};

static void must(int code, const char *what)
{
    if (code == 0)
        return;
    (void)fprintf(stderr, "commit: %s: %s\n", what, mdb_strerror(code));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void store_open(struct store *store, const char *folder)
{
    MDB_txn *txn;

    must(mdb_env_create(&store->env), "create");
    must(mdb_env_set_maxdbs(store->env, 3), "tables");
    must(mdb_env_set_mapsize(store->env, (size_t)1 << 30), "map");
    must(mdb_env_open(store->env, folder, MDB_NOTLS, 0600), folder);
    must(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    must(mdb_dbi_open(txn, "envelope", MDB_CREATE | MDB_INTEGERKEY, &store->envelope),
         "open");
    must(mdb_dbi_open(txn, "group", MDB_CREATE, &store->group), "open");
    must(mdb_dbi_open(txn, "body", MDB_CREATE, &store->body), "open");
    must(mdb_txn_commit(txn), "commit");
}

/* Big-endian id and number. */
static MDB_val key_of(uint64_t id, uint32_t number, unsigned char key[12])
{
    for (int i = 0; i < 8; i++)
        key[i] = (unsigned char)(id >> (56 - 8 * i));
    for (int i = 0; i < 4; i++)
        key[8 + i] = (unsigned char)(number >> (24 - 8 * i));
    return (MDB_val){12, key};
}

/* Puts message `id`, or removes it. */
static void change(struct store *store, MDB_txn *txn, uint64_t id, int is_put)
{
    unsigned char bytes[12];
    MDB_val id_key = {sizeof id, &id};
    MDB_val key;
    MDB_val value;
    uint32_t number = 0;

    for (size_t at = 0; at < store->bytes; at += CHUNK, number++) {
        size_t rest = store->bytes - at;

        key = key_of(id, number, bytes);
        value = (MDB_val){rest < CHUNK ? rest : CHUNK, store->message + at};
        must(is_put ? mdb_put(txn, store->body, &key, &value, 0)
                    : mdb_del(txn, store->body, &key, NULL),
             "body");
    }
    key = key_of(id, 0, bytes);
    value = (MDB_val){GROUP, store->message};
    must(is_put ? mdb_put(txn, store->group, &key, &value, 0)
                : mdb_del(txn, store->group, &key, NULL),
         "group");
    value = (MDB_val){ENVELOPE, store->message};
    must(is_put ? mdb_put(txn, store->envelope, &id_key, &value, 0)
                : mdb_del(txn, store->envelope, &id_key, NULL),
         "envelope");
}

/* One transaction: message `put` comes, message `removed` goes; 0: none. */
static void commit(struct store *store, uint64_t put, uint64_t removed)
{
    MDB_txn *txn;

    must(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    if (put)
        change(store, txn, put, 1);
    if (removed)
        change(store, txn, removed, 0);
    must(mdb_txn_commit(txn), "commit");
}

/* ---- asked for over a connection ---- */

struct server {
    struct store *store;
    sem_t asked;
    int done; /* eventfd */
    int connection;
};

static void must_not_fail(int result, const char *what)
{
    if (result >= 0)
        return;
    (void)fprintf(stderr, "commit: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *commit_for_others(void *argument)
{
    struct server *server = argument;

    for (uint64_t id = 1;; id++) {
        while (sem_wait(&server->asked) != 0)
            continue;
        commit(server->store, id, id - 1);
        must_not_fail(eventfd_write(server->done, 1), "eventfd");
    }
    return NULL;
}

/* Ends with the process. */
static void *serve(void *argument)
{
    struct server *server = argument;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event question = {.events = EPOLLIN, .data.fd = server->connection};
    struct epoll_event end = {.events = EPOLLIN, .data.fd = server->done};

    must_not_fail(epoll_ctl(epoll, EPOLL_CTL_ADD, server->connection, &question), "epoll");
    must_not_fail(epoll_ctl(epoll, EPOLL_CTL_ADD, server->done, &end), "epoll");
    for (;;) {
        struct epoll_event event;
        eventfd_t number;
        char byte;

        if (epoll_wait(epoll, &event, 1, -1) != 1)
            continue;
        if (event.data.fd == server->done) {
            must_not_fail(eventfd_read(server->done, &number), "eventfd");
            must_not_fail((int)write(server->connection, "k", 1), "answer");
        } else if (read(server->connection, &byte, 1) == 1) {
            (void)sem_post(&server->asked);
        } else {
            return NULL;
        }
    }
}

/* Both ends of a connection on loopback. */
static void connect_pair(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    must_not_fail(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    must_not_fail(getsockname(listener, (struct sockaddr *)&address, &length), "name");
    must_not_fail(listen(listener, 1), "listen");
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must_not_fail(connect(ends[0], (struct sockaddr *)&address, sizeof address), "connect");
    ends[1] = accept(listener, NULL, NULL);
    must_not_fail(ends[1], "accept");
    for (int i = 0; i < 2; i++)
        (void)setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)close(listener);
}

static int start_server(struct store *store)
{
    static struct server server;
    pthread_t thread;
    int ends[2];

    connect_pair(ends);
    server.store = store;
    server.connection = ends[1];
    server.done = eventfd(0, EFD_CLOEXEC);
    must_not_fail(server.done, "eventfd");
    must(sem_init(&server.asked, 0, 0) == 0 ? 0 : errno, "semaphore");
    must(pthread_create(&thread, NULL, commit_for_others, &server), "thread");
    must(pthread_create(&thread, NULL, serve, &server), "thread");
    return ends[0];
}

static void ask(int connection)
{
    char byte;

    must_not_fail((int)write(connection, "?", 1), "question");
    if (read(connection, &byte, 1) != 1)
        must_not_fail(-1, "answer");
}

static int order(const void *left, const void *right)
{
    double one = *(const double *)left;
    double other = *(const double *)right;

    return (one > other) - (one < other);
}

static void print(double *took, size_t count)
{
    static const struct {
        const char *name;
        double share;
    } quantiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}};

    qsort(took, count, sizeof *took, order);
    (void)printf("{\"commits\":%zu", count);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        size_t at = (size_t)((double)count * quantiles[i].share);

        (void)printf(",\"%s\":%.1f", quantiles[i].name, took[at < count ? at : count - 1]);
    }
    (void)printf("}\n");
}

int main(int count, char **words)
{
    static const struct option options[] = {{"folder", required_argument, NULL, 'f'},
                                            {"bytes", required_argument, NULL, 'b'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"asked", no_argument, NULL, 'a'},
                                            {NULL, 0, NULL, 0}};
    const char *folder = NULL;
    struct store store = {.bytes = 10000};
    double seconds = 1;
    static double took[SAMPLES_MOST];
    uint64_t id = 0;
    int connection = -1;
    int is_asked = 0;
    int option;
    int64_t end;

    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option == 'f')
            folder = optarg;
        else if (option == 'b')
            store.bytes = strtoul(optarg, NULL, 10);
        else if (option == 's')
            seconds = strtod(optarg, NULL);
        else if (option == 'a')
            is_asked = 1;
        else
            return 2;
    }
    if (!folder)
        return 2;
    store.message = malloc(store.bytes + ENVELOPE);
    must(store.message ? 0 : ENOMEM, "memory");
    memset(store.message, 'x', store.bytes + ENVELOPE);
    store_open(&store, folder);
    if (is_asked)
        connection = start_server(&store);
    end = now_ns() + (int64_t)(seconds * 1e9);
    while (id == 0 || (now_ns() < end && id < SAMPLES_MOST)) {
        int64_t began = now_ns();

        if (is_asked)
            ask(connection);
        else
            commit(&store, id + 1, 0);
        took[id++] = (double)(now_ns() - began) / 1000;
        if (!is_asked)
            commit(&store, 0, id);
    }
    print(took, id);
    if (is_asked)
        return 0; /* its threads wait for the next question */
    mdb_env_close(store.env);
    free(store.message);
    return 0;
}
