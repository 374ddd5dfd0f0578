/* Reads the tables with LMDB's own calls and not through the doors of the room: what is checked here
 * is what lies there, not what the readers make of it. */
#include "books.h"

#include "record.h"
#include "store_inner.h"

#include "smtpd/base/memory.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { DIGEST = 16, STREAMED = 1 << 24 };

struct book {
    FILE *out;
    struct store *store;
    MDB_txn *txn;
    uint64_t id; /* of the message whose groups are being read */
    uint64_t messages;
    uint64_t chunks; /* that belong to a message */
};

static void print_digest(FILE *out, const void *data, size_t length)
{
    unsigned char digest[DIGEST];

    (void)crypto_generichash(digest, sizeof digest, data, length, NULL, 0);
    for (int i = 0; i < DIGEST; i++)
        (void)fprintf(out, "%02x", digest[i]);
}

static void wrong(struct book *book, const char *what, uint64_t id)
{
    char text[ID_TEXT];

    id_print(id, text);
    (void)fprintf(book->out, "wrong %s %s\n", text, what);
}

/* Every chunk of a message in its order; the caller frees it. */
static char *read_body(struct book *book, uint64_t id, size_t *length)
{
    struct store_group_key text = store_key(id, 0);
    MDB_val key = {sizeof text.text, text.text};
    MDB_val data;
    MDB_cursor *cursor;
    char *body = NULL;
    uint32_t next = 0;
    int code = mdb_cursor_open(book->txn, book->store->body, &cursor);

    *length = 0;
    if (code)
        return NULL;
    code = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
    while (code == 0 && key.mv_size == STORE_KEY_CHUNK && store_key_id(&key) == id) {
        uint32_t number = store_key_number(&key);

        if (number != next && !(number == STREAMED && next < STREAMED))
            wrong(book, "a chunk is missing", id);
        next = number + 1;
        body = realloc(body, *length + data.mv_size + 1);
        if (!body)
            abort();
        memcpy(body + *length, data.mv_data, data.mv_size);
        *length += data.mv_size;
        book->chunks++;
        code = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    if (code && code != MDB_NOTFOUND)
        wrong(book, mdb_strerror(code), id);
    mdb_cursor_close(cursor);
    return body;
}

/* The addresses of a report's fields "Final-Recipient: rfc822; ADDRESS". */
static void print_failed(struct book *book, const char *id, const char *body, size_t length)
{
    static const char field[] = "\nFinal-Recipient: rfc822;";
    const char *end = body + length;

    while ((body = memmem(body, (size_t)(end - body), field, sizeof field - 1))) {
        const char *stop;

        body += sizeof field - 1;
        body += *body == ' ' ? 1 : 0;
        stop = memchr(body, '\r', (size_t)(end - body));
        if (!stop)
            return;
        (void)fprintf(book->out, "failed %s %.*s\n", id, (int)(stop - body), body);
        body = stop;
    }
}

static void print_message(struct book *book, const struct envelope *envelope)
{
    char id[ID_TEXT];
    size_t length;
    char *body = read_body(book, envelope->id, &length);
    const char *name = body ? memmem(body, length, "X-Name: ", 8) : NULL;
    const char *stop;

    id_print(envelope->id, id);
    if (length != envelope->header_bytes + envelope->body_bytes)
        wrong(book, "its length is another one", envelope->id);
    stop = name ? memchr(name, '\r', length - (size_t)(name - body)) : NULL;
    /* A report may have to do without the message that it is about. */
    if (stop) {
        (void)fprintf(book->out, "message %s %.*s %zu ", id, (int)(stop - name - 8),
                      name + 8, length - (size_t)(name - body));
        print_digest(book->out, name, length - (size_t)(name - body));
        (void)fprintf(book->out, " %s\n", envelope->sender[0] ? envelope->sender : "<>");
    } else if (!envelope->sender[0]) {
        (void)fprintf(book->out, "message %s - 0 - <>\n", id);
    } else {
        wrong(book, "has no name", envelope->id);
    }
    if (!envelope->sender[0] && body) {
        print_failed(book, id, body, length);
        if (length < 4 || memcmp(body + length - 4, "--\r\n", 4) != 0)
            wrong(book, "is a report without its end", envelope->id);
    }
    free(body);
}

static void on_group(void *owner, uint64_t id, uint32_t number, struct slice envelope,
                     struct slice record)
{
    struct book *book = owner;
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct group group;
    char text[ID_TEXT];

    if (id != book->id) {
        struct envelope decoded;
        uint32_t groups; /* at its acceptance */

        book->id = id;
        book->messages++;
        if (record_decode_envelope(envelope, id, &decoded, &groups) == RESULT_OK)
            print_message(book, &decoded);
        else
            wrong(book, envelope.length ? "has no good envelope" : "has no envelope", id);
    }
    if (record_decode_group(record, number, &group, recipients) != RESULT_OK) {
        wrong(book, "has a group that cannot be read", id);
        return;
    }
    id_print(id, text);
    (void)fprintf(book->out, "group %s %" PRIu32 " ", text, number);
    print_digest(book->out, record.data, record.length);
    for (uint32_t i = 0; i < group.recipient_count; i++)
        (void)fprintf(book->out, " %s", recipients[i].address);
    (void)fputc('\n', book->out);
    if (group.recipient_count == 0)
        wrong(book, "has an empty group", id);
}

static void count(struct book *book, MDB_dbi table, uint64_t expected, const char *what)
{
    MDB_stat stat = {0};

    if (mdb_stat(book->txn, table, &stat) != 0 || stat.ms_entries != expected)
        (void)fprintf(book->out, "wrong - %s: %zu, and there should be %" PRIu64 "\n", what,
                      stat.ms_entries, expected);
}

static void write_open(struct book *book)
{
    struct store_scan scan = {
        .before_id = UINT64_MAX, .most_envelopes = SIZE_MAX, .fn = on_group, .owner = book};
    int code;

    book->txn = store_reader_take(book->store, &code); /* the store has every place */
    if (!book->txn) {
        (void)fputs("wrong - no transaction\n", book->out);
        return;
    }
    if (store_scan_groups(book->store, &scan) != RESULT_OK || !scan.is_over)
        (void)fputs("wrong - the groups cannot be read\n", book->out);
    count(book, book->store->envelope, book->messages, "envelopes");
    count(book, book->store->body, book->chunks, "chunks");
    count(book, book->store->draft, 0, "drafts");
    store_reader_give(book->store, book->txn);
}

void books_write(const char *folder, FILE *out)
{
    struct loop *loop = loop_new();
    struct store_settings settings = {.loop = loop, .directory = folder};
    struct book book = {.out = out};
    uint64_t first_id;
    struct fault fault;

    if (store_open(&settings, &book.store, &first_id, &fault) != RESULT_OK) {
        (void)fprintf(out, "wrong - %s\n", fault.text);
    } else {
        write_open(&book);
        if (book.id >= first_id)
            wrong(&book, "has an id that will be given out again", book.id);
        store_close(book.store);
    }
    loop_free(loop);
    (void)fputs("end\n", out);
    (void)fflush(out);
}
