/* Opening without LMDB's own lock file: that would be made, and written. */
#include "raw.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { MAP_BYTES = 1 << 20 };

const char *const raw_table_names[RAW_TABLES] = {
    [RAW_ENVELOPE] = "envelope", [RAW_GROUP] = "group",   [RAW_BODY] = "body",
    [RAW_DRAFT] = "draft",       [RAW_IMPORT] = "import", [RAW_META] = "meta",
};

static int open_env(struct raw *raw, const char *path)
{
    static const unsigned flags = MDB_RDONLY | MDB_NOLOCK | MDB_NOSUBDIR | MDB_NOTLS;
    int code = mdb_env_create(&raw->env);

    if (code == 0)
        code = mdb_env_set_maxdbs(raw->env, STORE_TABLES + 1);
    if (code == 0) /* the least: LMDB maps what the file has */
        code = mdb_env_set_mapsize(raw->env, MAP_BYTES);
    if (code == 0)
        code = mdb_env_open(raw->env, path, flags, 0600);
    if (code == 0)
        code = mdb_txn_begin(raw->env, NULL, MDB_RDONLY, &raw->txn);
    return code;
}

static void count_pages(struct raw *raw, MDB_dbi table, uint64_t *entries)
{
    MDB_stat tree;

    if (mdb_stat(raw->txn, table, &tree) != 0)
        return;
    raw->used_pages += tree.ms_branch_pages + tree.ms_leaf_pages + tree.ms_overflow_pages;
    if (entries)
        *entries = tree.ms_entries;
}

static int open_tables(struct raw *raw)
{
    count_pages(raw, 0, NULL);
    count_pages(raw, 1, NULL);
    for (int i = 0; i < RAW_TABLES; i++) {
        unsigned flags = i == RAW_ENVELOPE || i == RAW_DRAFT ? MDB_INTEGERKEY : 0;
        int code = mdb_dbi_open(raw->txn, raw_table_names[i], flags, &raw->tables[i]);

        if (code && code != MDB_NOTFOUND)
            return code;
        raw->has[i] = code == 0;
        if (raw->has[i])
            count_pages(raw, raw->tables[i], &raw->entries[i]);
    }
    return 0;
}

static enum result judge(int code, const char *path, struct fault *fault)
{
    switch (code) {
    case ENOENT:
        return fault_set(fault, RESULT_NOT_FOUND, "there is no queue: %s does not exist",
                         path);
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_CORRUPTED:
    case MDB_INCOMPATIBLE:
        return fault_set(fault, RESULT_CORRUPT, "%s is no file of a queue: %s", path,
                         mdb_strerror(code));
    default:
        return fault_set(fault, RESULT_IO, "cannot open %s: %s", path, mdb_strerror(code));
    }
}

enum result raw_open(struct raw *raw, const char *path, struct fault *fault)
{
    struct stat status;
    MDB_stat tree;
    MDB_envinfo info;
    int code;

    memset(raw, 0, sizeof *raw);
    if (stat(path, &status) != 0)
        return judge(errno, path, fault);
    raw->file_bytes = (uint64_t)status.st_size;
    code = open_env(raw, path);
    if (code)
        return judge(code, path, fault);
    (void)mdb_env_stat(raw->env, &tree);
    (void)mdb_env_info(raw->env, &info);
    raw->page_bytes = tree.ms_psize;
    raw->last_page = info.me_last_pgno;
    raw->used_pages = 2; /* the meta pages */
    code = open_tables(raw);
    return code ? judge(code, path, fault) : RESULT_OK;
}

void raw_close(struct raw *raw)
{
    if (raw->txn)
        mdb_txn_abort(raw->txn);
    if (raw->env)
        mdb_env_close(raw->env);
    memset(raw, 0, sizeof *raw);
}

bool raw_meta(const struct raw *raw, const char *name, uint64_t *value)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name};
    MDB_val data;

    if (!raw->has[RAW_META] || mdb_get(raw->txn, raw->tables[RAW_META], &key, &data) != 0 ||
        data.mv_size != sizeof *value)
        return false;
    memcpy(value, data.mv_data, sizeof *value);
    return true;
}
