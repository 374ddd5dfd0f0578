/* Every invariant of the file (docs/queue.md), in one walk over its tables side by side: what
 * they hold of one id is looked at together, so that a queue of any size needs no memory. */
#include "verify.h"

#include "lock.h"
#include "smtpd/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PROGRESS_EVERY = 1024, IMPORT_VALUE = 9, CHUNK_LEAST = 496, CHUNK_MOST = 65520 };

/* ---- findings ---- */

void verify_tell(struct verify *verify, const char *rule, const char *table,
                 const char *record, const char *format, ...)
{
    char text[VERIFY_TEXT];
    struct verify_finding finding = {rule, table, record ? record : "", text};
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    verify->numbers->findings++;
    verify->wanted->on_finding(verify->wanted->owner, &finding);
}

void verify_tell_at(struct verify *verify, const char *rule,
                    const struct verify_place *place, const char *text)
{
    char record[64];
    char name[ID_TEXT];

    id_print(place->id, name);
    if (place->mark)
        (void)snprintf(record, sizeof record, "%s%c%u", name, place->mark, place->number);
    else
        (void)snprintf(record, sizeof record, "%s", name);
    verify_tell(verify, rule, raw_table_names[place->table], record, "%s", text);
}

/* ---- walks ---- */

static bool has_integer_keys(enum raw_table table)
{
    return table == RAW_ENVELOPE || table == RAW_DRAFT;
}

/* Key and id of the record where the cursor stands. */
static bool take_key(struct verify *verify, struct walk *walk)
{
    size_t wanted = has_integer_keys(walk->table) ? sizeof walk->id : STORE_KEY_CHUNK;

    if (walk->key.mv_size != wanted) {
        verify_tell(verify, "key", raw_table_names[walk->table], NULL,
                    "a key of %zu bytes; they have %zu", walk->key.mv_size, wanted);
        return false;
    }
    if (has_integer_keys(walk->table))
        memcpy(&walk->id, walk->key.mv_data, sizeof walk->id);
    else
        walk->id = store_key_id(&walk->key);
    return true;
}

static void step(struct verify *verify, struct walk *walk, MDB_cursor_op first)
{
    MDB_cursor_op op = first;

    while (!walk->is_over) {
        int code = mdb_cursor_get(walk->cursor, &walk->key, &walk->data, op);

        op = MDB_NEXT;
        if (code && code != MDB_NOTFOUND)
            verify_tell(verify, "unreadable", raw_table_names[walk->table], NULL,
                        "what comes behind cannot be read: %s", mdb_strerror(code));
        if (code)
            walk->is_over = true;
        else if (take_key(verify, walk))
            return;
    }
}

void verify_next(struct verify *verify, enum raw_table table)
{
    step(verify, &verify->walks[table], MDB_NEXT);
}

static void start_walks(struct verify *verify)
{
    for (enum raw_table i = RAW_ENVELOPE; i < RAW_IMPORT; i++) {
        struct walk *walk = &verify->walks[i];

        *walk = (struct walk){.table = i, .is_over = !verify->raw.has[i]};
        if (!walk->is_over &&
            mdb_cursor_open(verify->raw.txn, verify->raw.tables[i], &walk->cursor) != 0)
            walk->is_over = true;
        step(verify, walk, MDB_FIRST);
    }
}

static void walk_messages(struct verify *verify)
{
    size_t count = 0;

    start_walks(verify);
    for (;;) {
        const struct walk *first = NULL;

        for (int i = 0; i < RAW_IMPORT; i++)
            if (!verify->walks[i].is_over && (!first || verify->walks[i].id < first->id))
                first = &verify->walks[i];
        if (!first)
            break;
        verify_message(verify, first->id);
        if (verify->wanted->on_progress && ++count % PROGRESS_EVERY == 0)
            verify->wanted->on_progress(verify->wanted->owner);
    }
    for (int i = 0; i < RAW_IMPORT; i++)
        if (verify->walks[i].cursor)
            mdb_cursor_close(verify->walks[i].cursor);
}

/* ---- the small tables ---- */

static bool is_known(const MDB_val *name)
{
    for (int i = 0; i < RAW_TABLES; i++)
        if (strlen(raw_table_names[i]) == name->mv_size &&
            memcmp(raw_table_names[i], name->mv_data, name->mv_size) == 0)
            return true;
    return false;
}

/* The tree of tables holds all of ours, and nothing else. */
static void look_at_tables(struct verify *verify)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val data;

    for (int i = 0; i < RAW_TABLES; i++)
        if (!verify->raw.has[i] && !(i == RAW_IMPORT && verify->numbers->format < 2))
            verify_tell(verify, "table", raw_table_names[i], NULL, "the table is missing");
    if (mdb_cursor_open(verify->raw.txn, 1, &cursor) != 0)
        return;
    for (int code = mdb_cursor_get(cursor, &key, &data, MDB_FIRST); code == 0;
         code = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) {
        char name[64];

        if (is_known(&key))
            continue;
        slice_copy_start((struct slice){key.mv_data, key.mv_size}, name, sizeof name);
        verify_tell(verify, "table", "file", name, "no table of a queue");
    }
    mdb_cursor_close(cursor);
}

/* False: there is no such number, and it was told. */
static bool need_number(struct verify *verify, const char *name, uint64_t least,
                        uint64_t most, uint64_t *value)
{
    if (!raw_meta(&verify->raw, name, value))
        verify_tell(verify, "meta", "meta", name, "the number is missing");
    else if (*value < least || *value > most)
        verify_tell(verify, "meta", "meta", name, "%llu is out of its range",
                    (unsigned long long)*value);
    else
        return true;
    return false;
}

static void look_at_meta(struct verify *verify)
{
    uint64_t queue_id;

    if (!need_number(verify, "chunk_bytes", CHUNK_LEAST, CHUNK_MOST, &verify->chunk_bytes))
        verify->chunk_bytes = 0; /* how long chunks are is not known */
    if (!need_number(verify, "id_limit", 1, UINT64_MAX, &verify->id_limit))
        verify->id_limit = UINT64_MAX;
    if (verify->numbers->format >= 2)
        (void)need_number(verify, "queue_id", 0, UINT64_MAX, &queue_id);
}

static void look_at_import(struct verify *verify, const MDB_val *key, const MDB_val *data)
{
    char origin[64];
    uint64_t id;

    verify->numbers->imports++;
    slice_copy_start((struct slice){key->mv_data, key->mv_size}, origin, sizeof origin);
    if (!record_is_origin((struct slice){key->mv_data, key->mv_size}) ||
        data->mv_size != IMPORT_VALUE) {
        verify_tell(verify, "import", "import", origin, "the record has no proper form");
        return;
    }
    memcpy(&id, data->mv_data, sizeof id);
    if (id == 0 || id >= verify->id_limit)
        verify_tell(verify, "id-limit", "import", origin, "its id was never given");
}

static void look_at_imports(struct verify *verify)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val data;

    if (!verify->raw.has[RAW_IMPORT] ||
        mdb_cursor_open(verify->raw.txn, verify->raw.tables[RAW_IMPORT], &cursor) != 0)
        return;
    for (int code = mdb_cursor_get(cursor, &key, &data, MDB_FIRST); code == 0;
         code = mdb_cursor_get(cursor, &key, &data, MDB_NEXT))
        look_at_import(verify, &key, &data);
    mdb_cursor_close(cursor);
}

/* ---- the door ---- */

static enum result judge_format(struct verify *verify, const char *path,
                                struct fault *fault)
{
    if (!verify->raw.has[RAW_META] && verify->raw.entries[RAW_ENVELOPE] == 0)
        return fault_set(fault, RESULT_CORRUPT, "%s is no file of a queue", path);
    if (!raw_meta(&verify->raw, "version", &verify->numbers->format)) {
        verify_tell(verify, "meta", "meta", "version", "the number is missing");
        verify->numbers->format = STORE_FORMAT;
    }
    if (verify->numbers->format > STORE_FORMAT ||
        verify->numbers->format < STORE_FORMAT_OLDEST)
        return fault_set(fault, RESULT_INVALID,
                         "%s has format %llu, this program knows %d: use the program that "
                         "wrote it",
                         path, (unsigned long long)verify->numbers->format, STORE_FORMAT);
    return RESULT_OK;
}

/* What cannot be opened because its end is missing is a finding. Free pages at the end may never
 * have been written: a short file alone is none. */
static bool is_cut_off(struct verify *verify, enum result opened)
{
    const struct raw *raw = &verify->raw;
    uint64_t wanted = (raw->last_page + 1) * raw->page_bytes;

    if (opened != RESULT_CORRUPT || raw->file_bytes >= wanted)
        return false;
    verify_tell(verify, "file-short", "file", NULL,
                "the file has %llu bytes, its pages need %llu",
                (unsigned long long)raw->file_bytes, (unsigned long long)wanted);
    return true;
}

static enum result look_at_file(struct verify *verify, const char *path,
                                struct fault *fault)
{
    enum result result = raw_open(&verify->raw, path, fault);

    if (result == RESULT_OK)
        result = judge_format(verify, path, fault);
    if (result != RESULT_OK)
        return is_cut_off(verify, result) ? RESULT_OK : result;
    verify->numbers->all = verify->raw.entries[RAW_ENVELOPE];
    if (!verify_pages(verify))
        return RESULT_OK;
    look_at_tables(verify);
    look_at_meta(verify);
    walk_messages(verify);
    look_at_imports(verify);
    return RESULT_OK;
}

enum result queue_verify(const struct verify_wanted *wanted, struct fault *fault)
{
    struct verify *verify = NEW(struct verify);
    char *path = memory_format("%s/data.mdb", wanted->folder);
    int lock = -1;
    enum result result = lock_take_existing(wanted->folder, &lock, fault);

    memset(wanted->numbers, 0, sizeof *wanted->numbers);
    verify->wanted = wanted;
    verify->numbers = wanted->numbers;
    if (result == RESULT_OK)
        result = look_at_file(verify, path, fault);
    raw_close(&verify->raw);
    lock_give_up(lock);
    memory_free(path);
    memory_free(verify);
    return result;
}
