/* shapes   what one message costs LMDB in other shapes of the tables, in CPU and in user-mode time
 * alone: nothing is synced, there is no network.
 *
 * A round is one commit: BATCH new messages come, BATCH old ones go, and one in twenty of the
 * waiting ones is deferred (its group's record is written anew). Ids come in the order of commits
 * or shuffled within the batch, as sessions end in any order. Every shape runs the same messages,
 * alternating round by round block.
 *
 *   two       envelope and group are records of their own (what smtpd does)
 *   one       a lone group stands inside the envelope's record: one put and one delete fewer
 *   sorted    as `two`, the batch in order of ids
 *   append    as `sorted`, and chunks above the last key are put with MDB_APPEND
 *   try       as `two`, each message tries MDB_APPEND and is put plainly if that fails
 *
 * usage: shapes FOLDER [BODY_BYTES 1000] [BATCH 50] [BACKLOG 2000] [ROUNDS 2000] */
#include <lmdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 4080, ENVELOPE = 180, GROUP = 110, BLOCKS = 12, LONGEST = 4096 };

enum shape { TWO, ONE, SORTED, APPEND, TRY, SHAPES };
static const char *const names[SHAPES] = {"two", "one", "sorted", "append", "try"};

static char text[1 << 20];
static size_t body_bytes = 1000;
static size_t batch = 50;
static size_t backlog = 2000;
static size_t rounds = 2000;

struct table {
    MDB_env *env;
    enum shape shape;
    MDB_dbi envelope, group, body;
    uint64_t next_id;
    uint64_t *waiting; /* a ring */
    size_t first, count, room;
    uint64_t seed;
    double seconds;
    double block[BLOCKS];
};

static void check(int code, const char *what)
{
    if (!code)
        return;
    fprintf(stderr, "%s: %s\n", what, mdb_strerror(code));
    exit(1);
}

static uint64_t any(struct table *table)
{
    table->seed ^= table->seed >> 12;
    table->seed ^= table->seed << 25;
    table->seed ^= table->seed >> 27;
    return table->seed * UINT64_C(2685821657736338717);
}

static void key_of(uint64_t id, uint32_t number, unsigned char key[12])
{
    for (int i = 0; i < 8; i++)
        key[i] = (unsigned char)(id >> (56 - 8 * i));
    for (int i = 0; i < 4; i++)
        key[8 + i] = (unsigned char)(number >> (24 - 8 * i));
}

static double cpu_seconds(void)
{
    struct rusage used;

    (void)getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void open_table(struct table *table, const char *folder, enum shape shape)
{
    char path[512];
    MDB_txn *txn;

    table->shape = shape;
    table->next_id = 1;
    table->seed = 20261129;
    table->room = backlog + 2 * batch;
    table->waiting = calloc(table->room, sizeof *table->waiting);
    snprintf(path, sizeof path, "%s/%s", folder, names[shape]);
    (void)mkdir(path, 0700);
    check(mdb_env_create(&table->env), "create");
    check(mdb_env_set_maxdbs(table->env, 4), "maxdbs");
    check(mdb_env_set_mapsize(table->env, (size_t)1 << 36), "mapsize");
    check(mdb_env_open(table->env, path, MDB_NOTLS | MDB_NOSYNC, 0600), path);
    check(mdb_txn_begin(table->env, NULL, 0, &txn), "begin");
    check(mdb_dbi_open(txn, "envelope", MDB_CREATE | MDB_INTEGERKEY, &table->envelope),
          "e");
    check(mdb_dbi_open(txn, "group", MDB_CREATE, &table->group), "g");
    check(mdb_dbi_open(txn, "body", MDB_CREATE, &table->body), "b");
    check(mdb_txn_commit(txn), "commit");
}

/* ---- what the store does with one message ---- */

static void put_envelope(struct table *table, MDB_txn *txn, uint64_t id)
{
    MDB_val key = {sizeof id, &id};
    MDB_val data = {table->shape == ONE ? ENVELOPE + GROUP : ENVELOPE, text};

    check(mdb_put(txn, table->envelope, &key, &data, 0), "put envelope");
}

static void put_group(MDB_cursor *cursor, uint64_t id)
{
    unsigned char name[12];
    MDB_val key = {sizeof name, name};
    MDB_val data = {GROUP, text};

    key_of(id, 0, name);
    check(mdb_cursor_put(cursor, &key, &data, 0), "put group");
}

static void put_body(const struct table *table, MDB_cursor *cursor, uint64_t id)
{
    unsigned flags = table->shape == APPEND || table->shape == TRY ? MDB_APPEND : 0;
    size_t left = body_bytes;

    for (uint32_t number = 0; left > 0; number++) {
        unsigned char name[12];
        MDB_val key = {sizeof name, name};
        size_t length = left < CHUNK ? left : CHUNK;
        MDB_val data = {length, NULL};
        int code;

        key_of(id, number, name);
        code = mdb_cursor_put(cursor, &key, &data, MDB_RESERVE | flags);
        if (code == MDB_KEYEXIST && flags) {
            flags = 0;
            data = (MDB_val){length, NULL};
            code = mdb_cursor_put(cursor, &key, &data, MDB_RESERVE);
        }
        check(code, "put body");
        memcpy(data.mv_data, text, length);
        left -= length;
    }
}

static void delete_group(struct table *table, MDB_txn *txn, MDB_cursor *cursor, uint64_t id)
{
    unsigned char name[12];
    MDB_val key = {sizeof name, name};
    MDB_val data;

    if (table->shape == ONE)
        return;
    key_of(id, 0, name);
    check(mdb_del(txn, table->group, &key, NULL), "delete group");
    (void)mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE); /* was it the last? */
}

static void delete_message(struct table *table, MDB_txn *txn, MDB_cursor *body, uint64_t id)
{
    unsigned char name[12];
    MDB_val key = {sizeof id, &id};
    MDB_val data;
    int code;

    check(mdb_del(txn, table->envelope, &key, NULL), "delete envelope");
    key_of(id, 0, name);
    key = (MDB_val){sizeof name, name};
    code = mdb_cursor_get(body, &key, &data, MDB_SET_RANGE);
    while (code == 0 && memcmp(key.mv_data, name, 8) == 0) {
        check(mdb_cursor_del(body, 0), "delete body");
        code = mdb_cursor_get(body, &key, &data, MDB_NEXT);
    }
}

static void defer(struct table *table, MDB_txn *txn, MDB_cursor *group, uint64_t id)
{
    if (table->shape == ONE)
        put_envelope(table, txn, id);
    else
        put_group(group, id);
}

/* ---- one commit ---- */

static void take_ids(struct table *table, uint64_t *ids)
{
    for (size_t i = 0; i < batch; i++)
        ids[i] = table->next_id++;
    if (table->shape == SORTED || table->shape == APPEND)
        return;
    for (size_t i = batch; i-- > 1;) {
        size_t other = any(table) % (i + 1);
        uint64_t id = ids[i];

        ids[i] = ids[other];
        ids[other] = id;
    }
}

static void run_round(struct table *table)
{
    static uint64_t ids[LONGEST];
    MDB_txn *txn;
    MDB_cursor *body;
    MDB_cursor *group;

    check(mdb_txn_begin(table->env, NULL, 0, &txn), "begin");
    check(mdb_cursor_open(txn, table->body, &body), "cursor");
    check(mdb_cursor_open(txn, table->group, &group), "cursor");
    take_ids(table, ids);
    for (size_t i = 0; i < batch; i++) {
        put_envelope(table, txn, ids[i]);
        if (table->shape != ONE)
            put_group(group, ids[i]);
        put_body(table, body, ids[i]);
        table->waiting[(table->first + table->count++) % table->room] = ids[i];
    }
    for (size_t i = 0; i < batch / 20; i++)
        defer(table, txn, group,
              table->waiting[(table->first + any(table) % table->count) % table->room]);
    while (table->count > backlog) {
        uint64_t id = table->waiting[table->first];

        delete_group(table, txn, group, id);
        delete_message(table, txn, body, id);
        table->first = (table->first + 1) % table->room;
        table->count--;
    }
    check(mdb_txn_commit(txn), "commit");
}

static int by_number(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static void run_block(struct table *table, size_t block)
{
    size_t count = rounds / BLOCKS * batch;
    double before;

    for (size_t i = 0; i < backlog / batch && block == 0; i++)
        run_round(table); /* what waits, first */
    before = cpu_seconds();
    for (size_t i = 0; i < rounds / BLOCKS; i++)
        run_round(table);
    table->block[block] = (cpu_seconds() - before) / (double)count * 1e6;
}

int main(int count, char **words)
{
    struct table tables[SHAPES] = {0};

    if (count < 2)
        return 2;
    body_bytes = count > 2 ? strtoul(words[2], NULL, 10) : body_bytes;
    batch = count > 3 ? strtoul(words[3], NULL, 10) : batch;
    backlog = count > 4 ? strtoul(words[4], NULL, 10) : backlog;
    rounds = count > 5 ? strtoul(words[5], NULL, 10) : rounds;
    if (batch > LONGEST)
        return 2;
    memset(text, 'x', sizeof text);
    for (int shape = 0; shape < SHAPES; shape++)
        open_table(&tables[shape], words[1], (enum shape)shape);
    for (size_t block = 0; block < BLOCKS; block++)
        for (int shape = 0; shape < SHAPES; shape++)
            run_block(&tables[block % 2 ? SHAPES - 1 - shape : shape], block);
    printf("%zu bytes, %zu a commit, %zu waiting: CPU us a message, median (range)\n",
           body_bytes, batch, backlog);
    for (int shape = 0; shape < SHAPES; shape++) {
        double *found = tables[shape].block;
        MDB_envinfo info;

        qsort(found, BLOCKS, sizeof *found, by_number);
        (void)mdb_env_info(tables[shape].env, &info);
        printf("  %-7s %6.2f (%.2f-%.2f), file %zu pages\n", names[shape],
               (found[BLOCKS / 2 - 1] + found[BLOCKS / 2]) / 2, found[0], found[BLOCKS - 1],
               info.me_last_pgno + 1);
        mdb_env_close(tables[shape].env);
        free(tables[shape].waiting);
    }
    return 0;
}
