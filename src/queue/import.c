/* Moving messages in, while no server runs. A batch of files is one transaction, with a row for each
 * origin in the table `import`; then the files go; then the rows say so. A crash in between leaves
 * rows of files that are still there: the next import knows them, whatever became of the messages
 * meanwhile. A row without file and message is of no use any more, and goes at the next import. */
#include "smtpd/queue/moving.h"

#include "lock.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "store_inner.h"
#include "transfer.h"

#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH_FILES = 256, ROW_BYTES = 9, PRUNE_ROWS = 10000 };

struct row { /* of the table `import` */
    uint64_t id;
    bool is_removed; /* its file */
};

struct done { /* in the transaction: its file goes behind the commit */
    const char *name;
    char origin[ORIGIN_TEXT];
    struct row row;
    bool is_known;
    uint64_t bytes;
    size_t recipients;
};

struct importing {
    const struct queue_import *wanted;
    struct import_counts *counts;
    struct fault *fault;
    struct store *store;
    int folder;
    uint64_t next_id;
    char **names;
    size_t name_count;
    /* The batch: */
    struct store_write write;
    struct done done[BATCH_FILES];
    size_t done_count;
};

/* ---- rows ---- */

static bool find_row(struct importing *importing, const char *origin, struct row *row)
{
    MDB_val key = {strlen(origin), (void *)(uintptr_t)origin};
    MDB_val data;
    int code = mdb_get(importing->write.txn, importing->store->import, &key, &data);

    if (code == 0 && data.mv_size == ROW_BYTES) {
        memcpy(&row->id, data.mv_data, sizeof row->id);
        row->is_removed = ((const char *)data.mv_data)[8] != 0;
        return true;
    }
    if (code != MDB_NOTFOUND && importing->write.code == 0)
        importing->write.code = code ? code : MDB_CORRUPTED;
    return false;
}

static void put_row(struct importing *importing, const char *origin, const struct row *row)
{
    char text[ROW_BYTES];
    MDB_val key = {strlen(origin), (void *)(uintptr_t)origin};
    MDB_val data = {sizeof text, text};

    memcpy(text, &row->id, sizeof row->id);
    text[8] = (char)row->is_removed;
    if (importing->write.code == 0)
        importing->write.code =
            mdb_put(importing->write.txn, importing->store->import, &key, &data, 0);
}

/* ---- one message ---- */

static uint64_t take_id(struct importing *importing)
{
    uint64_t limit = atomic_load(&importing->store->id_limit);

    if (importing->next_id + 1 >= limit) {
        store_write_id_limit(&importing->write, limit + STORE_ID_STEP);
        atomic_store(&importing->store->id_limit, limit + STORE_ID_STEP);
    }
    return importing->next_id++;
}

static enum result encode(const struct transfer *transfer, uint64_t id,
                          struct bytes *envelope, struct bytes *groups, size_t *lengths)
{
    struct envelope new = transfer->envelope;
    enum result result;

    new.id = id;
    new.is_streamed = false;
    result = record_encode_envelope(&new, (uint32_t)transfer->group_count, envelope);
    for (size_t i = 0; i < transfer->group_count && result == RESULT_OK; i++) {
        size_t before = groups->length;

        result = record_encode_group(&transfer->groups[i].group, groups);
        lengths[i] = groups->length - before;
    }
    return result;
}

static bool write_body(struct importing *importing, const struct transfer_file *file,
                       uint64_t id)
{
    uint32_t chunk = store_chunk_bytes(importing->store);
    size_t most = (size_t)(LIMIT_PIECE_BYTES / chunk) * chunk;
    uint64_t rest =
        file->transfer.envelope.header_bytes + file->transfer.envelope.body_bytes;
    uint64_t at = 0;
    char *room = memory_new(most);
    bool is_fine = true;

    while (rest > 0 && is_fine && importing->write.code == 0) {
        struct slice part = {room, rest < most ? (size_t)rest : most};
        struct store_run run = {(uint32_t)(at / chunk), &part, 1};

        is_fine = pread(file->fd, room, part.length, (off_t)(file->at + at)) ==
                  (ssize_t)part.length;
        if (is_fine)
            store_write_run(&importing->write, id, &run);
        at += part.length;
        rest -= part.length;
    }
    memory_free(room);
    return is_fine;
}

static enum result write_records(struct importing *importing,
                                 const struct transfer *transfer, uint64_t id)
{
    struct bytes envelope;
    struct bytes groups;
    size_t *lengths = NEW_ARRAY(size_t, transfer->group_count);
    struct slice *records = NEW_ARRAY(struct slice, transfer->group_count);
    enum result result;

    bytes_init(&envelope, RECORD_MAX);
    bytes_init(&groups, transfer->group_count * RECORD_MAX);
    result = encode(transfer, id, &envelope, &groups, lengths);
    for (size_t i = 0, at = 0; result == RESULT_OK && i < transfer->group_count;
         at += lengths[i++])
        records[i] = slice_part(bytes_view(&groups), at, lengths[i]);
    if (result == RESULT_OK)
        store_write_message(&importing->write,
                            &(struct store_message){.id = id,
                                                    .envelope = bytes_view(&envelope),
                                                    .groups = records,
                                                    .group_count = transfer->group_count});
    bytes_fini(&envelope);
    bytes_fini(&groups);
    memory_free(lengths);
    memory_free(records);
    return result;
}

/* Into the transaction. */
static enum result import_message(struct importing *importing,
                                  const struct transfer_file *file, struct row *row)
{
    row->id = take_id(importing);
    if (write_records(importing, &file->transfer, row->id) != RESULT_OK)
        return fault_set(importing->fault, RESULT_INVALID, "its groups are too large");
    if (!write_body(importing, file, row->id)) {
        importing->write.code = EIO; /* half of it is there: nothing of the batch goes */
        return fault_set(importing->fault, RESULT_IO, "it cannot be read");
    }
    put_row(importing, file->transfer.origin, row);
    return RESULT_OK;
}

static void add_file(struct importing *importing, const char *name)
{
    struct done *done = &importing->done[importing->done_count];
    struct transfer_file file;
    enum result result = transfer_open(importing->folder, name, &file, importing->fault);

    *done = (struct done){.name = name};
    (void)slice_copy_text(slice_of(file.transfer.origin), done->origin, ORIGIN_TEXT);
    done->is_known = result == RESULT_OK && find_row(importing, done->origin, &done->row);
    if (result == RESULT_OK && !done->is_known)
        result = import_message(importing, &file, &done->row);
    done->bytes = file.transfer.envelope.header_bytes + file.transfer.envelope.body_bytes;
    for (size_t i = 0; i < file.transfer.group_count; i++)
        done->recipients += file.transfer.groups[i].group.recipient_count;
    transfer_close(&file);
    if (result == RESULT_OK) {
        importing->done_count++;
    } else if (importing->write.code == 0) {
        importing->counts->failed++;
        importing->wanted->on_failed(importing->wanted->owner, name,
                                     importing->fault->text);
    }
}

/* ---- batches ---- */

static enum result fail(struct importing *importing, int code)
{
    enum result result = store_translate(importing->store, code, importing->write.bytes);

    return fault_set(importing->fault, result, "the queue cannot be written: %s",
                     mdb_strerror(code));
}

static void count_done(struct importing *importing, const struct done *done)
{
    struct log_line line;
    char id[ID_TEXT];

    id_print(done->row.id, id);
    log_start_final(&line, LOG_NOTICE,
                    done->is_known ? "queue.import_known" : "queue.imported");
    log_text(&line, "id", id);
    log_text(&line, "origin", done->origin);
    log_number(&line, "recipients", (int64_t)done->recipients);
    log_end(&line);
    importing->counts->known += done->is_known;
    importing->counts->imported += !done->is_known;
    importing->counts->bytes += done->is_known ? 0 : done->bytes;
}

/* The files, then their folder, then the rows. */
static enum result remove_files(struct importing *importing)
{
    int code;

    for (size_t i = 0; i < importing->done_count; i++)
        if (unlinkat(importing->folder, importing->done[i].name, 0) != 0 && errno != ENOENT)
            return fault_set(importing->fault, RESULT_IO, "cannot remove %s: %s",
                             importing->done[i].name, strerror(errno));
    if (fsync(importing->folder) != 0)
        return fault_set(importing->fault, RESULT_IO, "cannot sync %s: %s",
                         importing->wanted->directory, strerror(errno));
    code = store_write_begin(importing->store, &importing->write);
    if (code)
        return fail(importing, code);
    for (size_t i = 0; i < importing->done_count; i++) {
        importing->done[i].row.is_removed = true;
        put_row(importing, importing->done[i].origin, &importing->done[i].row);
    }
    code = store_write_end(&importing->write);
    return code ? fail(importing, code) : RESULT_OK;
}

static enum result run_batch(struct importing *importing, size_t *at)
{
    int code = store_write_begin(importing->store, &importing->write);

    if (code)
        return fail(importing, code);
    importing->done_count = 0;
    while (*at < importing->name_count && importing->done_count < BATCH_FILES &&
           importing->write.code == 0 && importing->write.bytes < LIMIT_BATCH_BYTES)
        add_file(importing, importing->names[(*at)++]);
    code = store_write_end(&importing->write);
    if (code)
        return fail(importing, code);
    for (size_t i = 0; i < importing->done_count; i++)
        count_done(importing, &importing->done[i]);
    return importing->done_count > 0 ? remove_files(importing) : RESULT_OK;
}

/* Rows whose file is gone and whose message is too. */
static int prune_some(struct importing *importing, MDB_cursor *cursor, size_t *count)
{
    MDB_val key;
    MDB_val data;
    int code = mdb_cursor_get(cursor, &key, &data, MDB_FIRST);

    while (code == 0 && *count < PRUNE_ROWS) {
        uint64_t id = 0;
        MDB_val id_key = {sizeof id, &id};
        MDB_val envelope;

        if (data.mv_size == ROW_BYTES)
            memcpy(&id, data.mv_data, sizeof id);
        if (data.mv_size == ROW_BYTES && ((const char *)data.mv_data)[8] != 0 &&
            mdb_get(importing->write.txn, importing->store->envelope, &id_key, &envelope) ==
                MDB_NOTFOUND) {
            code = mdb_cursor_del(cursor, 0);
            ++*count;
        }
        if (code == 0)
            code = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

static enum result prune(struct importing *importing)
{
    size_t count = PRUNE_ROWS;

    while (count == PRUNE_ROWS) {
        MDB_cursor *cursor;
        int code = store_write_begin(importing->store, &importing->write);

        if (code)
            return fail(importing, code);
        count = 0;
        importing->write.code =
            mdb_cursor_open(importing->write.txn, importing->store->import, &cursor);
        if (importing->write.code == 0)
            importing->write.code = prune_some(importing, cursor, &count);
        code = store_write_end(&importing->write);
        if (code)
            return fail(importing, code);
    }
    return RESULT_OK;
}

/* ---- the folder of files ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum result list_names(struct importing *importing)
{
    static const size_t suffix = sizeof TRANSFER_SUFFIX - 1;
    int copy = dup(importing->folder);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    size_t capacity = 0;
    const struct dirent *entry;

    if (!folder)
        return fault_set(importing->fault, RESULT_IO, "cannot read %s: %s",
                         importing->wanted->directory, strerror(errno));
    while ((entry = readdir(folder))) {
        size_t length = strlen(entry->d_name);

        if (length <= suffix ||
            strcmp(entry->d_name + length - suffix, TRANSFER_SUFFIX) != 0)
            continue;
        if (importing->name_count == capacity) {
            capacity = capacity ? capacity * 2 : 256;
            importing->names = memory_resize(importing->names, capacity * sizeof(char *));
        }
        importing->names[importing->name_count++] = memory_text(entry->d_name);
    }
    (void)closedir(folder);
    if (importing->name_count > 0)
        qsort(importing->names, importing->name_count, sizeof(char *), by_name);
    return RESULT_OK;
}

/* Root made the queue's files just now: they are the server's. */
static enum result give_away(const struct queue_import *wanted, struct fault *fault)
{
    static const char *const names[] = {"", "/data.mdb", "/lock.mdb", "/lock"};
    const struct passwd *user =
        geteuid() == 0 && wanted->server_user ? getpwnam(wanted->server_user) : NULL;
    enum result result = RESULT_OK;

    for (size_t i = 0; user && i < sizeof names / sizeof *names && result == RESULT_OK;
         i++) {
        char *path = memory_format("%s%s", wanted->settings->data_dir, names[i]);

        if (lchown(path, user->pw_uid, user->pw_gid) != 0 && errno != ENOENT)
            result = fault_set(fault, RESULT_IO, "cannot give %s to %s: %s", path,
                               user->pw_name, strerror(errno));
        memory_free(path);
    }
    return result;
}

static enum result run(struct importing *importing)
{
    enum result result = list_names(importing);
    size_t at = 0;

    if (result == RESULT_OK)
        result = give_away(importing->wanted, importing->fault);
    if (result == RESULT_OK)
        result = prune(importing);
    while (result == RESULT_OK && at < importing->name_count)
        result = run_batch(importing, &at);
    for (size_t i = 0; i < importing->name_count; i++)
        memory_free(importing->names[i]);
    memory_free(importing->names);
    return result;
}

static enum result run_on_store(struct importing *importing, struct loop *loop)
{
    const struct queue_settings *settings = importing->wanted->settings;
    struct store_settings store = {loop, settings->data_dir, settings->map_bytes};
    enum result result =
        store_open(&store, &importing->store, &importing->next_id, importing->fault);

    if (result != RESULT_OK)
        return result;
    result = run(importing);
    store_close(importing->store);
    return result;
}

enum result queue_import(const struct queue_import *wanted, struct import_counts *counts,
                         struct fault *fault)
{
    struct importing *importing = NEW(struct importing);
    struct loop *loop = loop_new();
    enum result result = RESULT_IO;
    int lock = -1;

    memset(counts, 0, sizeof *counts);
    importing->wanted = wanted;
    importing->counts = counts;
    importing->fault = fault;
    importing->folder = transfer_open_folder(wanted->directory, false, fault);
    if (importing->folder >= 0)
        result = lock_take(wanted->settings->data_dir,
                           wanted->settings->allow_network_filesystem, &lock, fault);
    if (importing->folder < 0)
        result = fault->code;
    if (result == RESULT_OK)
        result = run_on_store(importing, loop);
    lock_give_up(lock);
    if (importing->folder >= 0)
        (void)close(importing->folder);
    loop_free(loop);
    memory_free(importing);
    return result;
}
