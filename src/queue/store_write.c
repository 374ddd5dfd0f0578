/* One write transaction: what each kind of operation does to the tables. Sticky: after the
 * first failure every call does nothing and store_write_end() reports.
 *
 * Bodies are cut in chunks of one page run each, through one cursor. Ids come from sessions
 * and are committed in any order, so MDB_APPEND cannot be used. */
#include "store_inner.h"

#include "record.h"
#include "smtpd/base/memory.h"

#include <string.h>

/* TIDY_STEPS: about half a second. */
enum { TIDY_RECORDS_A_PAGE = 60, TIDY_PAGES_LEAST = 4, TIDY_PAGES_MOST = 64 };
enum { TIDY_STEPS = 500000000 };

struct store_group_key store_key(uint64_t id, uint32_t number)
{
    struct store_group_key key;

    for (int i = 0; i < 8; i++)
        key.text[i] = (unsigned char)(id >> (56 - 8 * i));
    for (int i = 0; i < 4; i++)
        key.text[8 + i] = (unsigned char)(number >> (24 - 8 * i));
    return key;
}

uint64_t store_key_id(const MDB_val *key)
{
    const unsigned char *text = key->mv_data;
    uint64_t id = 0;

    for (int i = 0; i < 8; i++)
        id = id << 8 | text[i];
    return id;
}

uint32_t store_key_number(const MDB_val *key)
{
    const unsigned char *text = key->mv_data;
    uint32_t number = 0;

    for (int i = 8; i < STORE_KEY_CHUNK; i++)
        number = number << 8 | text[i];
    return number;
}

static MDB_val value_of(struct slice slice)
{
    return (MDB_val){slice.length, (void *)(uintptr_t)slice.data};
}

static MDB_val value_of_key(struct store_group_key *key)
{
    return (MDB_val){sizeof key->text, key->text};
}

/* ---- begin and end ---- */

int store_write_begin(struct store *store, struct store_write *write)
{
    *write = (struct store_write){.store = store};
    write->code = mdb_txn_begin(store->env, NULL, 0, &write->txn);
    if (write->code)
        return write->code;
    write->code = mdb_cursor_open(write->txn, store->body, &write->body);
    if (write->code == 0)
        write->code = mdb_cursor_open(write->txn, store->group, &write->group);
    if (write->code)
        mdb_txn_abort(write->txn);
    return write->code;
}

int store_write_end(struct store_write *write)
{
    /* Cursors of a write transaction are freed by its end. */
    if (write->code == 0)
        return mdb_txn_commit(write->txn);
    mdb_txn_abort(write->txn);
    return write->code;
}

void store_write_id_limit(struct store_write *write, uint64_t limit)
{
    MDB_val key = {strlen("id_limit"), (void *)(uintptr_t) "id_limit"};
    MDB_val data = {sizeof limit, &limit};

    if (write->code == 0)
        write->code = mdb_put(write->txn, write->store->meta, &key, &data, 0);
}

/* ---- the list of free pages ---- */

static size_t root(uint64_t square)
{
    size_t value = 1;

    while ((uint64_t)value * value < square)
        value += value / 8 + 1;
    return value;
}

/* How many pages to ask for in a row, so that the search ends in time: LMDB reads up to 60
 * records of the list for each, and goes through all pages that it has read so far at each
 * record. The more, the closer together are those that it will give out. */
static size_t tidy_pages(const struct store_write *write)
{
    MDB_stat stat;
    uint64_t free_pages;
    uint64_t a_record;
    size_t pages;

    if (mdb_stat(write->txn, 0, &stat) != 0 || stat.ms_entries == 0)
        return 0;
    (void)pthread_mutex_lock(&write->store->lock);
    free_pages = write->store->numbers.free_page_bytes / write->store->page_bytes;
    (void)pthread_mutex_unlock(&write->store->lock);
    if (free_pages * stat.ms_entries <= TIDY_STEPS)
        return TIDY_PAGES_MOST;
    a_record = free_pages / stat.ms_entries + 1;
    pages = root(TIDY_STEPS / a_record) / TIDY_RECORDS_A_PAGE;
    return pages < TIDY_PAGES_MOST ? pages : TIDY_PAGES_MOST;
}

/* LMDB reuses free pages by the commit that freed them, the oldest first. Those that one
 * commit freed while a backlog drained lie all over the file: each page that is written into
 * them later is a write of its own. A value that needs many pages in a row makes LMDB read
 * much of the list, and what it has read it writes back sorted: from then on neighbours are
 * used together, and stay together. */
void store_write_tidy(struct store_write *write)
{
    static const char name[] = "tidy";
    size_t pages = tidy_pages(write);
    MDB_val key = {sizeof name - 1, (void *)(uintptr_t)name};
    MDB_val data = {pages * write->store->page_bytes, NULL};

    if (write->code || pages < TIDY_PAGES_LEAST)
        return;
    data.mv_size -= write->store->page_bytes / 2; /* room for the page's header */
    write->code = mdb_put(write->txn, write->store->meta, &key, &data, MDB_RESERVE);
    if (write->code == 0)
        write->code = mdb_del(write->txn, write->store->meta, &key, NULL);
}

/* ---- bodies ---- */

struct run_cursor {
    const struct store_run *run;
    size_t part;
    size_t offset;
};

static void copy_from_run(struct run_cursor *at, char *into, size_t length)
{
    while (length > 0) {
        struct slice part = at->run->parts[at->part];
        size_t most = part.length - at->offset;

        if (most > length)
            most = length;
        if (most)
            memcpy(into, part.data + at->offset, most);
        into += most;
        length -= most;
        at->offset += most;
        if (at->offset == part.length) {
            at->part++;
            at->offset = 0;
        }
    }
}

void store_write_run(struct store_write *write, uint64_t id, const struct store_run *run)
{
    struct run_cursor at = {.run = run};
    uint32_t chunk = run->first_chunk;
    uint64_t rest = 0;

    for (size_t i = 0; i < run->part_count; i++)
        rest += run->parts[i].length;
    write->bytes += rest;
    write->added_bytes += rest;
    while (rest > 0 && write->code == 0) {
        size_t length =
            rest < write->store->chunk_bytes ? (size_t)rest : write->store->chunk_bytes;
        struct store_group_key text = store_key(id, chunk++);
        MDB_val key = value_of_key(&text);
        MDB_val data = {length, NULL};

        write->code = mdb_cursor_put(write->body, &key, &data, MDB_RESERVE);
        if (write->code == 0)
            copy_from_run(&at, data.mv_data, length);
        rest -= length;
    }
}

static void delete_body(struct store_write *write, uint64_t id)
{
    struct store_group_key text = store_key(id, 0);
    MDB_val key = value_of_key(&text);
    MDB_val data;
    int code;

    if (write->code)
        return;
    code = mdb_cursor_get(write->body, &key, &data, MDB_SET_RANGE);
    while (code == 0 && key.mv_size == STORE_KEY_CHUNK && store_key_id(&key) == id) {
        write->bytes += data.mv_size;
        code = mdb_cursor_del(write->body, 0);
        if (code == 0)
            code = mdb_cursor_get(write->body, &key, &data, MDB_NEXT);
    }
    if (code && code != MDB_NOTFOUND)
        write->code = code;
}

/* ---- rows ---- */

static void put_group(struct store_write *write, uint64_t id, uint32_t number,
                      struct slice record)
{
    struct store_group_key text = store_key(id, number);
    MDB_val key = value_of_key(&text);
    MDB_val data = value_of(record);

    if (write->code == 0)
        write->code = mdb_cursor_put(write->group, &key, &data, 0);
}

static void delete_id(struct store_write *write, MDB_dbi table, uint64_t id)
{
    MDB_val key = {sizeof id, &id};
    int code;

    if (write->code)
        return;
    code = mdb_del(write->txn, table, &key, NULL);
    if (code && code != MDB_NOTFOUND)
        write->code = code;
}

static bool has_groups(struct store_write *write, uint64_t id)
{
    struct store_group_key text = store_key(id, 0);
    MDB_val key = value_of_key(&text);
    MDB_val data;
    int code;

    if (write->code)
        return true;
    code = mdb_cursor_get(write->group, &key, &data, MDB_SET_RANGE);
    if (code && code != MDB_NOTFOUND)
        write->code = code;
    return code == 0 && key.mv_size == STORE_KEY_CHUNK && store_key_id(&key) == id;
}

/* The last group takes envelope and body with it. */
static void delete_group(struct store_write *write, uint64_t id, uint32_t number)
{
    struct store_group_key text = store_key(id, number);
    MDB_val key = value_of_key(&text);
    int code;

    if (write->code)
        return;
    code = mdb_del(write->txn, write->store->group, &key, NULL);
    if (code && code != MDB_NOTFOUND) {
        write->code = code;
        return;
    }
    if (code == MDB_NOTFOUND || has_groups(write, id))
        return;
    delete_id(write, write->store->envelope, id);
    delete_body(write, id);
    write->removed++;
}

static void put_id(struct store_write *write, MDB_dbi table, uint64_t id,
                   struct slice record)
{
    MDB_val key = {sizeof id, &id};
    MDB_val data = value_of(record);

    if (write->code == 0)
        write->code = mdb_put(write->txn, table, &key, &data, 0);
}

/* ---- operations ---- */

void store_write_message(struct store_write *write, const struct store_message *message)
{
    put_id(write, write->store->envelope, message->id, message->envelope);
    for (size_t i = 0; i < message->group_count; i++)
        put_group(write, message->id, (uint32_t)i, message->groups[i]);
    for (size_t i = 0; i < message->run_count; i++)
        store_write_run(write, message->id, &message->runs[i]);
    if (message->was_draft)
        delete_id(write, write->store->draft, message->id);
}

void store_write_drop_draft(struct store_write *write, uint64_t id)
{
    delete_body(write, id);
    delete_id(write, write->store->draft, id);
}

static void write_draft(struct store_write *write, const struct store_op *op)
{
    static const char mark = 1;

    put_id(write, write->store->draft, op->id, (struct slice){&mark, 1});
    store_write_run(write, op->id, &op->chunks);
}

static void settle(struct store_write *write, const struct store_op *op)
{
    if (op->record.length > 0)
        put_group(write, op->id, op->group, op->record);
    else
        delete_group(write, op->id, op->group);
}

/* The number behind the highest one of this message. */
static uint32_t next_group_number(struct store_write *write, uint64_t id)
{
    struct store_group_key text = store_key(id + 1, 0);
    MDB_val key = value_of_key(&text);
    MDB_val data;
    int code = mdb_cursor_get(write->group, &key, &data, MDB_SET_RANGE);

    /* After another failure the cursor may stand anywhere, and a number that is in use would
     * overwrite a group. */
    if (code == 0 || code == MDB_NOTFOUND)
        code = mdb_cursor_get(write->group, &key, &data,
                              code == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    if (code && code != MDB_NOTFOUND)
        write->code = code;
    if (code || key.mv_size != STORE_KEY_CHUNK || store_key_id(&key) != id)
        return 0;
    return store_key_number(&key) + 1;
}

static void regroup(struct store_write *write, struct store_op *op)
{
    if (write->code)
        return;
    op->first_group = next_group_number(write, op->id);
    for (size_t i = 0; i < op->group_count; i++)
        put_group(write, op->id, op->first_group + (uint32_t)i, op->groups[i]);
    delete_group(write, op->id, op->group);
}

/* Copies both records out of the map. */
static int read_target(struct store_write *write, struct store_target *target)
{
    struct store_group_key text = store_key(target->id, target->group);
    MDB_val key = value_of_key(&text);
    MDB_val id_key = {sizeof target->id, &target->id};
    MDB_val data;
    int code = mdb_get(write->txn, write->store->group, &key, &data);

    bytes_clear(&target->record);
    bytes_clear(&target->envelope);
    if (code)
        return code;
    if (bytes_add(&target->record, (struct slice){data.mv_data, data.mv_size}) != RESULT_OK)
        return MDB_CORRUPTED;
    code = mdb_get(write->txn, write->store->envelope, &id_key, &data);
    if (code == 0 && bytes_add(&target->envelope,
                               (struct slice){data.mv_data, data.mv_size}) != RESULT_OK)
        return MDB_CORRUPTED;
    return code == MDB_NOTFOUND ? 0 : code;
}

/* False: it is not for this change. */
static bool edit(const struct store_op *op, struct group *group)
{
    bool is_held = group_is_held(group, op->now_ms);

    switch (op->change) {
    case STORE_HOLD:
        group->is_held = true;
        group->not_before_ms = op->until_ms;
        return true;
    case STORE_RELEASE:
        group->is_held = false;
        group->not_before_ms = 0;
        return is_held;
    case STORE_RETRY:
        group->next_attempt_ms = op->now_ms;
        return !is_held;
    case STORE_REROUTE:
        if (strcmp(group->lane, op->lane) == 0)
            return false;
        group->lane = op->lane;
        group->next_attempt_ms = op->now_ms; /* what went wrong was on the old way */
        return true;
    case STORE_REMOVE:
    default:
        return false;
    }
}

static enum store_target_end edit_target(struct store_write *write,
                                         const struct store_op *op,
                                         struct store_target *target)
{
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct group group;
    struct bytes record;

    if (record_decode_group(bytes_view(&target->record), target->group, &group,
                            recipients) != RESULT_OK)
        return STORE_TARGET_CORRUPT;
    if (!edit(op, &group))
        return STORE_TARGET_SKIPPED;
    bytes_init(&record, RECORD_MAX);
    if (record_encode_group(&group, &record) != RESULT_OK) {
        bytes_fini(&record);
        return STORE_TARGET_CORRUPT;
    }
    put_group(write, target->id, target->group, bytes_view(&record));
    bytes_fini(&record);
    return STORE_TARGET_CHANGED;
}

static enum store_target_end change_target(struct store_write *write,
                                           const struct store_op *op,
                                           struct store_target *target)
{
    int code = read_target(write, target);

    if (code == MDB_NOTFOUND)
        return STORE_TARGET_GONE;
    if (code) {
        write->code = code;
        return STORE_TARGET_LEFT;
    }
    if (op->change != STORE_REMOVE)
        return edit_target(write, op, target);
    delete_group(write, target->id, target->group);
    return STORE_TARGET_CHANGED;
}

/* A thousand large messages are removed in several transactions: mail does not wait behind
 * all of them, and on a full disk each takes only a little room of its own. */
static void change(struct store_write *write, struct store_op *op)
{
    bool is_full = false;

    for (size_t i = 0; i < op->target_count && write->code == 0; i++) {
        /* The groups of one message go together: its file says that it has all of them. */
        bool is_left = i > 0 && write->bytes >= LIMIT_BATCH_BYTES &&
                       (is_full || op->targets[i].id != op->targets[i - 1].id);

        is_full = is_left;

        op->targets[i].end =
            is_left ? STORE_TARGET_LEFT : change_target(write, op, &op->targets[i]);
    }
}

/* May run twice for one operation: a batch that failed for want of space is tried again in
 * part. */
void store_write_apply(struct store_write *write, struct store_op *op)
{
    switch (op->kind) {
    case STORE_ACCEPT:
        break;
    case STORE_DRAFT_WRITE:
        write_draft(write, op);
        break;
    case STORE_DRAFT_DROP:
        store_write_drop_draft(write, op->id);
        break;
    case STORE_SETTLE:
        settle(write, op);
        break;
    case STORE_REGROUP:
        regroup(write, op);
        break;
    case STORE_CHANGE:
        change(write, op);
        break;
    }
    for (size_t i = 0; i < op->message_count && write->code == 0; i++)
        store_write_message(write, &op->messages[i]);
}
