/* commit: what the bare store takes for one message: LMDB as the queue opens it, one transaction
 * with the message's chunks, its group and its envelope, one commit; nothing around it.
 *
 *   commit --folder D --bytes N --seconds S     -> JSON: microseconds of the commits
 *
 * Each message is removed again in a transaction that is not measured, so that the file stays as
 * it is with a relay that keeps up. */
#include <errno.h>
#include <getopt.h>
#include <lmdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
static void change(struct store *store, uint64_t id, int is_put)
{
    unsigned char bytes[12];
    MDB_val id_key = {sizeof id, &id};
    MDB_val key;
    MDB_val value;
    MDB_txn *txn;
    uint32_t number = 0;

    must(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
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
    must(mdb_txn_commit(txn), "commit");
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
                                            {NULL, 0, NULL, 0}};
    const char *folder = NULL;
    struct store store = {.bytes = 10000};
    double seconds = 1;
    static double took[SAMPLES_MOST];
    uint64_t id = 0;
    int option;
    int64_t end;

    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option == 'f')
            folder = optarg;
        else if (option == 'b')
            store.bytes = strtoul(optarg, NULL, 10);
        else if (option == 's')
            seconds = strtod(optarg, NULL);
        else
            return 2;
    }
    if (!folder)
        return 2;
    store.message = malloc(store.bytes + ENVELOPE);
    must(store.message ? 0 : ENOMEM, "memory");
    memset(store.message, 'x', store.bytes + ENVELOPE);
    store_open(&store, folder);
    end = now_ns() + (int64_t)(seconds * 1e9);
    while (id == 0 || (now_ns() < end && id < SAMPLES_MOST)) {
        int64_t began = now_ns();

        change(&store, id + 1, 1);
        took[id++] = (double)(now_ns() - began) / 1000;
        change(&store, id, 0);
    }
    print(took, id);
    mdb_env_close(store.env);
    free(store.message);
    return 0;
}
