/* A queue file made record by record, straight with LMDB: healthy, until a test breaks it. */
#ifndef SMTPD_TESTS_QUEUE_BROKEN_FILE_H
#define SMTPD_TESTS_QUEUE_BROKEN_FILE_H

#include "record.h"
#include "store_inner.h"

#include "smtpd/base/memory.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_PATH = 256, FILE_CHUNK = 4080 };

static const int64_t FILE_NOW_MS = 1760000000000;

struct file {
    char folder[FILE_PATH];
    MDB_env *env;
    MDB_txn *txn;
    struct fault fault;
};

static inline void file_begin(struct file *file)
{
    assert_int_equal(mdb_env_create(&file->env), 0);
    assert_int_equal(mdb_env_set_maxdbs(file->env, STORE_TABLES + 1), 0);
    assert_int_equal(mdb_env_set_mapsize(file->env, 64 << 20), 0);
    assert_int_equal(mdb_env_open(file->env, file->folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(file->env, NULL, 0, &file->txn), 0);
}

static inline void file_end(struct file *file)
{
    assert_int_equal(mdb_txn_commit(file->txn), 0);
    mdb_env_close(file->env);
    file->env = NULL;
}

static inline MDB_dbi file_table(struct file *file, const char *name)
{
    bool has_numbers = strcmp(name, "envelope") == 0 || strcmp(name, "draft") == 0;
    MDB_dbi table;

    assert_int_equal(mdb_dbi_open(file->txn, name,
                                  MDB_CREATE | (has_numbers ? MDB_INTEGERKEY : 0), &table),
                     0);
    return table;
}

static inline void file_put(struct file *file, const char *table, struct slice key,
                            struct slice value)
{
    MDB_val name = {key.length, (void *)(uintptr_t)key.data};
    MDB_val data = {value.length, (void *)(uintptr_t)value.data};

    assert_int_equal(mdb_put(file->txn, file_table(file, table), &name, &data, 0), 0);
}

static inline void file_delete(struct file *file, const char *table, struct slice key)
{
    MDB_val name = {key.length, (void *)(uintptr_t)key.data};

    assert_int_equal(mdb_del(file->txn, file_table(file, table), &name, NULL), 0);
}

static inline void file_put_number(struct file *file, const char *name, uint64_t value)
{
    file_put(file, "meta", slice_of(name), (struct slice){(char *)&value, sizeof value});
}

static inline struct slice file_id(const uint64_t *id)
{
    return (struct slice){(const char *)id, sizeof *id};
}

static inline void file_put_envelope(struct file *file, const struct envelope *envelope)
{
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    assert_int_equal(record_encode_envelope(envelope, 2, &record), RESULT_OK);
    file_put(file, "envelope", file_id(&envelope->id), bytes_view(&record));
    bytes_fini(&record);
}

static inline void file_put_group(struct file *file, uint64_t id, const struct group *group)
{
    struct store_group_key key = store_key(id, group->number);
    struct bytes record;

    bytes_init(&record, RECORD_MAX);
    assert_int_equal(record_encode_group(group, &record), RESULT_OK);
    file_put(file, "group", (struct slice){(char *)key.text, sizeof key.text},
             bytes_view(&record));
    bytes_fini(&record);
}

/* In chunks of `chunk` bytes from `first` on. */
static inline void file_put_body(struct file *file, uint64_t id, uint32_t first,
                                 struct slice body)
{
    while (body.length > 0) {
        struct store_group_key key = store_key(id, first++);
        struct slice part = slice_part(body, 0, FILE_CHUNK);

        file_put(file, "body", (struct slice){(char *)key.text, sizeof key.text}, part);
        body = slice_from(body, part.length);
    }
}

static inline void file_delete_chunk(struct file *file, uint64_t id, uint32_t number)
{
    struct store_group_key key = store_key(id, number);

    file_delete(file, "body", (struct slice){(char *)key.text, sizeof key.text});
}

static inline struct envelope file_envelope(uint64_t id)
{
    return (struct envelope){
        .id = id, .sender = "a@from.test", .arrival_ms = FILE_NOW_MS, .longest_line = 200};
}

static inline struct group file_group(uint32_t number, struct recipient *recipient)
{
    *recipient = (struct recipient){.address = "c@d.test"};
    return (struct group){.number = number,
                          .lane = "d.test",
                          .next_attempt_ms = FILE_NOW_MS,
                          .recipient_count = 1,
                          .recipients = recipient,
                          .last_status = "",
                          .last_text = "",
                          .last_host = ""};
}

#define FILE_HEADER "Subject: x\r\n\r\n"

/* A header section and lines of 80 bytes: `length` in all. */
static inline struct bytes file_text(size_t length)
{
    struct bytes text;

    bytes_init(&text, length);
    assert_int_equal(bytes_add_text(&text, FILE_HEADER), RESULT_OK);
    while (text.length < length) {
        size_t line = length - text.length < 160 ? length - text.length : 80;

        while (line-- > 2)
            assert_int_equal(bytes_add_text(&text, "x"), RESULT_OK);
        assert_int_equal(bytes_add_text(&text, "\r\n"), RESULT_OK);
    }
    return text;
}

enum { FILE_PLAIN = 1, FILE_STREAMED = 2, FILE_DRAFT = 3, FILE_LIMIT = 1000 };
enum { FILE_TEXT = 10000 };

/* One run, 10,000 bytes in three chunks, two groups. */
static inline void file_put_plain(struct file *file, uint64_t id)
{
    struct bytes text = file_text(FILE_TEXT);
    struct envelope envelope = file_envelope(id);
    struct recipient recipient;
    struct group group = file_group(0, &recipient);

    envelope.header_bytes = strlen(FILE_HEADER);
    envelope.body_bytes = text.length - envelope.header_bytes;
    file_put_envelope(file, &envelope);
    file_put_group(file, id, &group);
    group.number = 1;
    file_put_group(file, id, &group);
    file_put_body(file, id, 0, bytes_view(&text));
    bytes_fini(&text);
}

/* Two runs. */
static inline void file_put_streamed(struct file *file, uint64_t id)
{
    struct bytes text = file_text(FILE_TEXT);
    struct envelope envelope = file_envelope(id);
    struct recipient recipient;
    struct group group = file_group(5, &recipient);
    struct slice header = slice_part(bytes_view(&text), 0, strlen(FILE_HEADER));

    envelope.is_streamed = true;
    envelope.header_bytes = header.length;
    envelope.body_bytes = text.length - header.length;
    envelope.origin = "0123456789abcdef/aaaaaaaaaaaab";
    file_put_envelope(file, &envelope);
    file_put_group(file, id, &group);
    file_put_body(file, id, 0, header);
    file_put_body(file, id, STORE_BODY_CHUNK, slice_from(bytes_view(&text), header.length));
    bytes_fini(&text);
}

static inline void file_put_draft(struct file *file, uint64_t id)
{
    struct bytes text = file_text((size_t)2 * FILE_CHUNK);

    file_put(file, "draft", file_id(&id), SLICE("\1"));
    file_put_body(file, id, STORE_BODY_CHUNK, bytes_view(&text));
    bytes_fini(&text);
}

static inline void file_make(struct file *file)
{
    const char *above = getenv("TMPDIR");

    memset(file, 0, sizeof *file);
    (void)snprintf(file->folder, sizeof file->folder, "%s/smtpd-file-XXXXXX",
                   above ? above : "/tmp");
    assert_non_null(mkdtemp(file->folder));
    file_begin(file);
    file_put_number(file, "version", STORE_FORMAT);
    file_put_number(file, "chunk_bytes", FILE_CHUNK);
    file_put_number(file, "id_limit", FILE_LIMIT);
    file_put_number(file, "queue_id", 7);
    (void)file_table(file, "import");
    file_put_plain(file, FILE_PLAIN);
    file_put_streamed(file, FILE_STREAMED);
    file_put_draft(file, FILE_DRAFT);
    file_end(file);
}

static inline void file_remove(struct file *file)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "lock", "data.mdb.compact"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[FILE_PATH + 32];

        (void)snprintf(path, sizeof path, "%s/%s", file->folder, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(file->folder), 0);
}

#endif
