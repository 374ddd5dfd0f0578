/* Reading, on pool threads. A read transaction is renewed, copies at most one piece or one
 * batch of records, and is reset before the call returns: one that is held makes the file
 * grow without end, because no page that it might still see can be used again.
 */
#include "store_inner.h"

#include <string.h>

bool store_enter(struct store *store)
{
    bool is_open;

    (void)pthread_mutex_lock(&store->lock);
    is_open = !store->is_closed;
    store->readers += is_open ? 1 : 0;
    (void)pthread_mutex_unlock(&store->lock);
    return is_open;
}

void store_leave(struct store *store)
{
    (void)pthread_mutex_lock(&store->lock);
    if (--store->readers == 0)
        (void)pthread_cond_signal(&store->idle);
    (void)pthread_mutex_unlock(&store->lock);
}

static struct slice slice_of_value(const MDB_val *value)
{
    return (struct slice){value->mv_data, value->mv_size};
}

enum result store_read_group(struct store *store, uint64_t id, uint32_t group,
                             struct bytes *envelope, struct bytes *record)
{
    struct store_group_key text = store_key(id, group);
    MDB_val key = {sizeof text.text, text.text};
    MDB_val id_key = {sizeof id, &id};
    MDB_val data;
    int code;
    enum result result = RESULT_OK;
    MDB_txn *txn = store_reader_take(store, &code);

    if (!txn)
        return store_translate(store, code, 0);
    code = mdb_get(txn, store->group, &key, &data);
    if (code == 0)
        result = bytes_add(record, slice_of_value(&data));
    if (code == 0)
        code = mdb_get(txn, store->envelope, &id_key, &data);
    if (code == 0 && result == RESULT_OK)
        result = bytes_add(envelope, slice_of_value(&data));
    store_reader_give(store, txn);
    if (code)
        return store_translate(store, code, 0);
    return result == RESULT_OK ? RESULT_OK : RESULT_CORRUPT;
}

/* ---- bodies ---- */

/* Copies chunk after chunk; each but the last of a run is full. */
static enum result copy_chunks(MDB_cursor *cursor, uint32_t chunk_bytes,
                               const struct store_piece *piece)
{
    uint32_t chunk = piece->first_chunk + (uint32_t)(piece->offset / chunk_bytes);
    size_t skip = (size_t)(piece->offset % chunk_bytes);
    size_t have = 0;
    struct store_group_key text = store_key(piece->id, chunk);
    MDB_val key = {sizeof text.text, text.text};
    MDB_val data;
    int code = mdb_cursor_get(cursor, &key, &data, MDB_SET_KEY);

    if (code == MDB_NOTFOUND)
        return RESULT_NOT_FOUND;
    while (code == 0 && have < piece->want) {
        size_t length;

        if (key.mv_size != STORE_KEY_CHUNK || store_key_id(&key) != piece->id ||
            store_key_number(&key) != chunk || data.mv_size <= skip ||
            data.mv_size > chunk_bytes)
            return RESULT_CORRUPT;
        length = data.mv_size - skip;
        if (length > piece->want - have)
            length = piece->want - have;
        memcpy(piece->into + have, (const char *)data.mv_data + skip, length);
        have += length;
        if (have < piece->want && data.mv_size != chunk_bytes)
            return RESULT_CORRUPT;
        skip = 0;
        chunk++;
        if (have < piece->want)
            code = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    if (code == MDB_NOTFOUND)
        return RESULT_CORRUPT;
    return code ? RESULT_IO : RESULT_OK;
}

enum result store_read_piece(struct store *store, const struct store_piece *piece)
{
    MDB_cursor *cursor;
    enum result result;
    int code;
    MDB_txn *txn = store_reader_take(store, &code);

    if (!txn)
        return store_translate(store, code, 0);
    code = mdb_cursor_open(txn, store->body, &cursor);
    if (code == 0) {
        result = copy_chunks(cursor, store->chunk_bytes, piece);
        mdb_cursor_close(cursor);
    } else {
        result = store_translate(store, code, 0);
    }
    store_reader_give(store, txn);
    return result;
}

/* ---- scans ---- */

/* The envelope of `id`; empty where there is none. */
static struct slice find_envelope(struct store *store, MDB_txn *txn, uint64_t id)
{
    MDB_val key = {sizeof id, &id};
    MDB_val data;

    if (mdb_get(txn, store->envelope, &key, &data) != 0)
        return (struct slice){NULL, 0};
    return slice_of_value(&data);
}

/* From where the cursor stands, up to the limits of the scan. */
static int scan_on(struct store *store, MDB_cursor *cursor, struct store_scan *scan)
{
    struct store_group_key text = store_key(scan->next_id, scan->next_group);
    MDB_val key = {sizeof text.text, text.text};
    MDB_val data;
    struct slice envelope = {NULL, 0};
    uint64_t id = 0;
    size_t envelopes = 0;
    size_t groups = 0;
    int code = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);

    while (code == 0 && key.mv_size == STORE_KEY_CHUNK &&
           store_key_id(&key) < scan->before_id) {
        bool is_next = envelopes == 0 || store_key_id(&key) != id;

        id = store_key_id(&key);
        bool is_full = scan->most_groups && groups++ >= scan->most_groups;

        if ((is_next && envelopes++ == scan->most_envelopes) ||
            (is_full && (is_next || !scan->keeps_messages))) {
            scan->next_id = id;
            scan->next_group = store_key_number(&key);
            return 0;
        }
        if (is_next)
            envelope = find_envelope(store, mdb_cursor_txn(cursor), id);
        scan->fn(scan->owner, id, store_key_number(&key), envelope, slice_of_value(&data));
        code = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    scan->is_over = code == 0 || code == MDB_NOTFOUND;
    return scan->is_over ? 0 : code;
}

enum result store_scan_groups(struct store *store, struct store_scan *wanted)
{
    MDB_cursor *cursor;
    int code;
    MDB_txn *txn = store_reader_take(store, &code);

    if (!txn)
        return store_translate(store, code, 0);
    code = mdb_cursor_open(txn, store->group, &cursor);
    if (code == 0) {
        code = scan_on(store, cursor, wanted);
        mdb_cursor_close(cursor);
    }
    store_reader_give(store, txn);
    return store_translate(store, code, 0);
}
