/* The environment: opening, tables, what a dead process left behind, free space, and the
 * one place where LMDB's codes become ours.
 *
 * MDB_NOTLS only (docs/queue.md): WRITEMAP dies of a full disk, NOMETASYNC loses the last
 * commit, NOSYNC corrupts. The map is address space, reserved once: growing it would need
 * every read transaction of the process to be closed. */
#include "store_inner.h"

#include "record.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { PATH_TEXT = 4096 };
enum { PAGE_HEADER = 16, CHUNK_LEAST = 496, CHUNK_MOST = 65520 };

static const uint64_t MAP_FIRST = UINT64_C(1) << 40;
static const uint64_t MAP_LEAST = UINT64_C(1) << 26;
/* With less than this available an EIO is a full disk (LMDB reports a short
 * write as EIO). */
static const uint64_t NEARLY_FULL = UINT64_C(32) << 20;
/* Enough for the pages that the removal of one batch rewrites (LIMIT_BATCH_BYTES). */
static const off_t KEPT_BYTES = (off_t)4 << 20;

#ifdef SMTPD_TEST_NO_SYNC
/* A store that breaks G1: the durability test must notice it. */
static const unsigned ENV_FLAGS = MDB_NOTLS | MDB_NOSYNC;
#else
static const unsigned ENV_FLAGS = MDB_NOTLS;
#endif

static uint64_t disk_available(const struct store *store)
{
    struct statvfs disk;

    if (statvfs(store->directory, &disk) != 0)
        return 0;
    return (uint64_t)disk.f_bavail * disk.f_frsize;
}

enum result store_translate(struct store *store, int code, uint64_t bytes)
{
    switch (code) {
    case 0:
        return RESULT_OK;
    case MDB_NOTFOUND:
        return RESULT_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
    case MDB_MAP_FULL:
        return RESULT_NO_SPACE;
    case EIO:
        if (disk_available(store) < NEARLY_FULL + bytes)
            return RESULT_NO_SPACE;
        break;
    default:
        break;
    }
    return RESULT_IO;
}

/* ---- opening ---- */

static int open_map(struct store *store, const char *path, unsigned flags)
{
    uint64_t map_bytes = store->map_bytes ? store->map_bytes : MAP_FIRST;

    for (;;) {
        int code = mdb_env_create(&store->env);

        if (code)
            return code;
        if ((code = mdb_env_set_maxdbs(store->env, STORE_TABLES)) == 0 &&
            (code = mdb_env_set_maxreaders(store->env, STORE_READERS)) == 0 &&
            (code = mdb_env_set_mapsize(store->env, (size_t)map_bytes)) == 0)
            code = mdb_env_open(store->env, path, ENV_FLAGS | flags, 0600);
        if (code == 0) {
            store->map_bytes = map_bytes;
            return 0;
        }
        mdb_env_close(store->env);
        store->env = NULL;
        if ((code != ENOMEM && code != EINVAL) || map_bytes / 2 < MAP_LEAST)
            return code;
        map_bytes /= 2;
    }
}

/* The names of new files are durable only when their folder is synced: LMDB does not do it.
 */
int store_sync_folder(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = 0;

    if (fd < 0)
        return errno;
#ifndef SMTPD_TEST_NO_SYNC
    if (fsync(fd) != 0)
        code = errno;
#endif
    (void)close(fd);
    return code;
}

static int open_tables(struct store *store, MDB_txn *txn)
{
    int code;

    if ((code = mdb_dbi_open(txn, "envelope", MDB_CREATE | MDB_INTEGERKEY,
                             &store->envelope)) ||
        (code = mdb_dbi_open(txn, "group", MDB_CREATE, &store->group)) ||
        (code = mdb_dbi_open(txn, "body", MDB_CREATE, &store->body)) ||
        (code = mdb_dbi_open(txn, "draft", MDB_CREATE | MDB_INTEGERKEY, &store->draft)) ||
        (code = mdb_dbi_open(txn, "import", MDB_CREATE, &store->import)))
        return code;
    return mdb_dbi_open(txn, "meta", MDB_CREATE, &store->meta);
}

/* The number under `name`, or *value is written there. */
static int read_or_set(struct store *store, MDB_txn *txn, const char *name, uint64_t *value)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name};
    MDB_val data;
    int code = mdb_get(txn, store->meta, &key, &data);

    if (code == 0) {
        if (data.mv_size != sizeof *value)
            return MDB_CORRUPTED;
        memcpy(value, data.mv_data, sizeof *value);
        return 0;
    }
    if (code != MDB_NOTFOUND)
        return code;
    data = (MDB_val){sizeof *value, value};
    return mdb_put(txn, store->meta, &key, &data, 0);
}

static int read_meta(struct store *store, MDB_txn *txn, uint64_t *version, uint64_t *limit)
{
    MDB_stat stat;
    uint64_t chunk_bytes;
    int code = mdb_env_stat(store->env, &stat);

    if (code)
        return code;
    store->page_bytes = stat.ms_psize;
    chunk_bytes = stat.ms_psize - PAGE_HEADER;
    *version = STORE_FORMAT;
    *limit = 1;
    secure_random(&store->queue_id, sizeof store->queue_id);
    if ((code = read_or_set(store, txn, "version", version)) ||
        (code = read_or_set(store, txn, "chunk_bytes", &chunk_bytes)) ||
        (code = read_or_set(store, txn, "queue_id", &store->queue_id)) ||
        (code = read_or_set(store, txn, "id_limit", limit)))
        return code;
    if (chunk_bytes < CHUNK_LEAST || chunk_bytes > CHUNK_MOST)
        return MDB_CORRUPTED;
    store->chunk_bytes = (uint32_t)chunk_bytes;
    return 0;
}

/* The id of the first draft; MDB_NOTFOUND: there is none. */
static int first_draft(struct store *store, MDB_txn *txn, uint64_t *id)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val data;
    int code = mdb_cursor_open(txn, store->draft, &cursor);

    if (code)
        return code;
    code = mdb_cursor_get(cursor, &key, &data, MDB_FIRST);
    if (code == 0)
        memcpy(id, key.mv_data, sizeof *id);
    mdb_cursor_close(cursor);
    return code;
}

/* One transaction of bounded size. */
static int drop_some_drafts(struct store *store, size_t *count, bool *is_over)
{
    struct store_write write;
    int code = store_write_begin(store, &write);

    if (code)
        return code;
    while (!*is_over && write.code == 0 && write.bytes < LIMIT_BATCH_BYTES) {
        uint64_t id;

        code = first_draft(store, write.txn, &id);
        *is_over = code == MDB_NOTFOUND;
        if (code == 0) {
            store_write_drop_draft(&write, id);
            ++*count;
        } else if (!*is_over) {
            write.code = code;
        }
    }
    return store_write_end(&write);
}

/* Drafts of a dead process. */
static int drop_drafts(struct store *store)
{
    bool is_over = false;
    size_t count = 0;
    int code = 0;

    while (!is_over && code == 0)
        code = drop_some_drafts(store, &count, &is_over);
    if (count)
        log_message(LOG_NOTICE, "queue.drafts_removed",
                    "%zu messages were still arriving when the process ended", count);
    return code;
}

/* A start takes the whole step: ids of drafts that were handed out and forgotten stay
 * unused. */
static int raise_id_limit(struct store *store, uint64_t first_id)
{
    struct store_write write;
    int code = store_write_begin(store, &write);

    if (code)
        return code;
    store_write_id_limit(&write, first_id + 2 * (uint64_t)STORE_ID_STEP);
    if ((code = store_write_end(&write)))
        return code;
    atomic_store(&store->id_limit, first_id + 2 * (uint64_t)STORE_ID_STEP);
    return 0;
}

static bool is_known(uint64_t version)
{
    return version >= STORE_FORMAT_OLDEST && version <= STORE_FORMAT;
}

/* A table and a number came with format 2, and are there by now; records stay as they are. */
static int raise_format(struct store *store, MDB_txn *txn, uint64_t version)
{
    MDB_val key = {strlen("version"), (void *)(uintptr_t) "version"};
    uint64_t raised = STORE_FORMAT;
    MDB_val data = {sizeof raised, &raised};

    return version == STORE_FORMAT ? 0 : mdb_put(txn, store->meta, &key, &data, 0);
}

static int make_tables(struct store *store, uint64_t *version, uint64_t *first_id)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(store->env, NULL, 0, &txn);

    if (code)
        return code;
    if ((code = open_tables(store, txn)) ||
        (code = read_meta(store, txn, version, first_id)) || !is_known(*version) ||
        (code = raise_format(store, txn, *version))) {
        mdb_txn_abort(txn);
        return code;
    }
    return mdb_txn_commit(txn);
}

/* LMDB writes the first pages of a new file without a sync. When the power goes before its
 * first commit they may be torn, and the file is refused for ever. So a file is made beside
 * its place, and gets its name when it is complete and synced. */
static int make_file(struct store *store)
{
    char path[PATH_TEXT];
    char made[PATH_TEXT];
    struct stat status;
    uint64_t version;
    uint64_t first_id;
    int length = snprintf(path, sizeof path, "%s/data.mdb", store->directory);
    int code;

    if (length < 0 || (size_t)length >= sizeof path - sizeof ".new")
        return ENAMETOOLONG;
    /* What cannot be looked at, or is no file, is never replaced: LMDB says what it is. */
    if (lstat(path, &status) == 0 ? !S_ISREG(status.st_mode) || status.st_size > 0
                                  : errno != ENOENT)
        return 0;
    (void)snprintf(made, sizeof made, "%s/data.mdb.new", store->directory);
    if (unlink(made) != 0 && errno != ENOENT)
        return errno;
    if ((code = open_map(store, made, MDB_NOSUBDIR | MDB_NOLOCK)))
        return code;
    code = make_tables(store, &version, &first_id);
    store_env_close(store);
    if (code)
        return code;
    return rename(made, path) == 0 ? 0 : errno;
}

static int prepare(struct store *store, uint64_t *version, uint64_t *first_id)
{
    int code = make_tables(store, version, first_id);

    if (code || !is_known(*version))
        return code;
    if (*version != STORE_FORMAT)
        log_message(LOG_NOTICE, "queue.format_raised",
                    "the queue in %s had format %llu and has %d now", store->directory,
                    (unsigned long long)*version, STORE_FORMAT);
    if ((code = drop_drafts(store)) || (code = raise_id_limit(store, *first_id)))
        return code;
    return store_sync_folder(store->directory);
}

enum result store_env_open(struct store *store, uint64_t *first_id, struct fault *fault)
{
    uint64_t version = STORE_FORMAT;
    int code = make_file(store);

    if (code == 0)
        code = open_map(store, store->directory, 0);
    if (code == 0)
        code = store_readers_open(store);
    if (code == 0)
        code = prepare(store, &version, first_id);
    if (code) {
        enum result result = store_translate(store, code, 0);

        store_env_close(store);
        return fault_set(fault, result == RESULT_NOT_FOUND ? RESULT_CORRUPT : result,
                         "cannot open the queue in %s: %s", store->directory,
                         mdb_strerror(code));
    }
    if (!is_known(version)) {
        store_env_close(store);
        return fault_set(
            fault, RESULT_INVALID,
            "the queue in %s has format %llu, this program knows %d: use the program "
            "that wrote it",
            store->directory, (unsigned long long)version, STORE_FORMAT);
    }
    store_measure(store);
    return RESULT_OK;
}

void store_env_close(struct store *store)
{
    if (!store->env)
        return;
    store_readers_close(store);
    mdb_env_close(store->env);
    store->env = NULL;
}

/* ---- free space ---- */

static uint64_t used_pages(struct store *store, MDB_txn *txn)
{
    /* 0 and 1 are LMDB's own: the list of free pages and the list of tables. */
    MDB_dbi tables[] = {0,
                        1,
                        store->envelope,
                        store->group,
                        store->body,
                        store->draft,
                        store->meta,
                        store->import};
    uint64_t pages = 2; /* the two meta pages */

    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        MDB_stat stat;

        if (mdb_stat(txn, tables[i], &stat) == 0)
            pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    }
    return pages;
}

/* Even a removal needs a few new pages: LMDB never writes over a page in use. A little room
 * behind the end of the file is taken from the file system while there is some, so that a
 * disk that others filled can still be relieved by delivering and removing. */
static void keep_room(struct store *store, uint64_t end)
{
    mdb_filehandle_t file;

    if (store->kept_from == end || mdb_env_get_fd(store->env, &file) != 0)
        return;
    /* Where the file system knows no such thing, or has no room, there is no reserve. */
    if (fallocate(file, FALLOC_FL_KEEP_SIZE, (off_t)end, KEPT_BYTES) == 0)
        store->kept_from = end;
}

/* Free = what the disk has, but no more than the map can still grow, plus the free pages.
 */
void store_measure(struct store *store)
{
    MDB_envinfo info;
    uint64_t pages;
    uint64_t file_pages;
    uint64_t growth;
    uint64_t disk = disk_available(store);
    uint64_t unused = 0;
    uint64_t room;
    int code;
    MDB_txn *txn = store_reader_take(store, &code);

    if (!txn)
        return;
    pages = used_pages(store, txn);
    store_reader_give(store, txn);
    (void)mdb_env_info(store->env, &info);
    file_pages = info.me_last_pgno + 1;
    growth = store->map_bytes - file_pages * store->page_bytes;
    keep_room(store, file_pages * store->page_bytes);
    room = disk < growth ? disk : growth;
    if (file_pages > pages)
        unused = (file_pages - pages) * store->page_bytes;
    (void)pthread_mutex_lock(&store->lock);
    store->numbers.free_bytes = room + unused;
    atomic_store(&store->room_bytes, store->numbers.free_bytes);
    store->numbers.disk_free_bytes = disk;
    store->numbers.free_page_bytes = unused;
    store->numbers.map_bytes = store->map_bytes;
    store->numbers.file_bytes = file_pages * store->page_bytes;
    (void)pthread_mutex_unlock(&store->lock);
}
