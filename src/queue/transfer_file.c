/* Files of moved messages: written with the digest at the end of the work, so that the message is
 * read once; read twice, so that nothing of a broken one comes into the queue. */
#include "transfer.h"

#include "facts.h"
#include "smtpd/base/memory.h"
#include "smtpd/base/secure.h"
#include "store_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_LINE = 96 };

static bool write_all(int fd, struct slice bytes)
{
    while (bytes.length > 0) {
        ssize_t written = write(fd, bytes.data, bytes.length);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes = slice_from(bytes, (size_t)written);
    }
    return true;
}

/* ---- the folder ---- */

int transfer_open_folder(const char *directory, bool may_make, struct fault *fault)
{
    int fd;

    if (may_make && mkdir(directory, 0700) != 0 && errno != EEXIST) {
        (void)fault_set(fault, RESULT_IO, "cannot make %s: %s", directory, strerror(errno));
        return -1;
    }
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        (void)fault_set(fault, RESULT_IO, "cannot open %s: %s", directory, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    (void)fault_set(fault, RESULT_BUSY,
                    "another export or import works in %s at the moment", directory);
    (void)close(fd);
    return -1;
}

/* ---- writing ---- */

struct collection { /* what a scan finds of one message */
    struct transfer_item *item;
    struct transfer_writer writer;
    struct envelope envelope;
    struct bytes record; /* of the envelope: its texts */
    uint64_t queue_id;
    size_t count;
    bool is_other; /* groups are not those that were named */
    bool is_corrupt;
};

static void list_group(void *owner, uint64_t id, uint32_t number, struct slice envelope,
                       struct slice record)
{
    struct transfer_item *item = owner;

    (void)id;
    (void)envelope;
    (void)record;
    if ((item->group_count & (item->group_count - 1)) == 0)
        item->groups =
            memory_resize(item->groups, (item->group_count ? item->group_count : 1) * 2 *
                                            sizeof *item->groups);
    item->groups[item->group_count++] = number;
}

static enum result scan(struct store *store, uint64_t id, store_scan_fn *fn, void *owner)
{
    struct store_scan wanted = {
        .next_id = id, .before_id = id + 1, .most_envelopes = 1, .fn = fn, .owner = owner};

    return store_scan_groups(store, &wanted);
}

enum result transfer_list(struct store *store, struct transfer_item *item)
{
    return scan(store, item->id, list_group, item);
}

static void collect_group(void *owner, uint64_t id, uint32_t number, struct slice envelope,
                          struct slice record)
{
    struct collection *collection = owner;
    const struct transfer_item *item = collection->item;
    struct recipient recipients[LIMIT_GROUP_RECIPIENTS];
    struct group group;
    uint32_t groups;

    if (collection->count == 0) {
        if (bytes_add(&collection->record, envelope) != RESULT_OK ||
            record_decode_envelope(bytes_view(&collection->record), id,
                                   &collection->envelope, &groups) != RESULT_OK)
            collection->is_corrupt = true;
        else
            transfer_set_envelope(&collection->writer, collection->queue_id,
                                  &collection->envelope);
    }
    if (collection->count >= item->group_count || item->groups[collection->count] != number)
        collection->is_other = true;
    collection->count++;
    if (record_decode_group(record, number, &group, recipients) != RESULT_OK)
        collection->is_corrupt = true;
    else if (!collection->is_corrupt)
        transfer_add_group(&collection->writer, &group);
}

static void refuse(struct transfer_item *item, enum result result, const char *why)
{
    item->result = result;
    (void)snprintf(item->why, sizeof item->why, "%s", why);
}

/* A run of the message to the file, and into facts and digest. */
static bool copy_run(struct store *store, int fd, const struct store_piece *run,
                     struct secure_sum *sum)
{
    struct store_piece piece = *run;
    uint64_t end = run->offset + run->want;
    char *room = memory_new(LIMIT_PIECE_BYTES);
    bool is_fine = true;

    piece.into = room;
    while (is_fine && piece.offset < end) {
        piece.want = end - piece.offset < LIMIT_PIECE_BYTES ? (size_t)(end - piece.offset)
                                                            : LIMIT_PIECE_BYTES;
        errno = 0;
        is_fine = store_read_piece(store, &piece) == RESULT_OK &&
                  write_all(fd, (struct slice){room, piece.want});
        if (is_fine)
            secure_sum_add(sum, (struct slice){room, piece.want});
        piece.offset += piece.want;
    }
    memory_free(room);
    return is_fine;
}

static bool copy_message(struct store *store, int fd, const struct envelope *envelope,
                         char digest[65])
{
    struct secure_sum *sum = secure_sum_new();
    uint64_t header = envelope->header_bytes;
    uint8_t bytes[SECURE_DIGEST];
    bool is_fine;

    if (envelope->is_streamed)
        is_fine = copy_run(store, fd,
                           &(struct store_piece){envelope->id, 0, 0, header, NULL}, sum) &&
                  copy_run(store, fd,
                           &(struct store_piece){envelope->id, STORE_BODY_CHUNK, 0,
                                                 envelope->body_bytes, NULL},
                           sum);
    else
        is_fine = copy_run(
            store, fd,
            &(struct store_piece){envelope->id, 0, 0, header + envelope->body_bytes, NULL},
            sum);
    secure_sum_end(sum, bytes);
    transfer_hex(bytes, digest);
    return is_fine;
}

static bool write_file(struct store *store, int fd, struct collection *collection)
{
    const struct envelope *envelope = &collection->envelope;
    size_t length = 0;
    size_t digest_at = 0;
    char *head = transfer_end(&collection->writer, &length, &digest_at);
    char line[FIRST_LINE];
    char digest[65];
    size_t first = 0;
    unsigned long long message_bytes = envelope->header_bytes + envelope->body_bytes;
    bool is_fine = head != NULL;

    collection->writer = (struct transfer_writer){0};
    if (!head) {
        refuse(collection->item, RESULT_INVALID, "a text of its envelope is no UTF-8");
        return false;
    }
    first = (size_t)snprintf(line, sizeof line, "smtpd-message 1 %zu %llu\n", length,
                             message_bytes);
    errno = 0;
    is_fine = write_all(fd, (struct slice){line, first}) &&
              write_all(fd, (struct slice){head, length}) &&
              copy_message(store, fd, envelope, digest) &&
              pwrite(fd, digest, 64, (off_t)(first + digest_at)) == 64 && fsync(fd) == 0;
    memory_free(head);
    if (!is_fine)
        refuse(collection->item, RESULT_IO,
               errno ? strerror(errno) : "its bytes cannot be read");
    return is_fine;
}

/* Whose file is there already? Only that of the same message may be written over. */
static bool may_replace(int folder, const char *name, struct collection *collection)
{
    struct transfer_file file;
    struct fault fault;
    char origin[ORIGIN_TEXT];
    enum result result = transfer_open(folder, name, &file, &fault);
    bool is_same;

    record_print_origin(collection->queue_id, collection->item->id, origin);
    is_same = result == RESULT_OK && strcmp(file.transfer.origin, origin) == 0;
    transfer_close(&file);
    if (result == RESULT_NOT_FOUND || is_same)
        return true;
    refuse(collection->item, RESULT_EXISTS,
           "a file of that name is there, and is not this message's");
    return false;
}

static void put_file(struct store *store, int folder, struct collection *collection)
{
    char name[TRANSFER_NAME];
    char part[TRANSFER_NAME + 8];
    char id[ID_TEXT];
    int fd;

    id_print(collection->item->id, id);
    (void)snprintf(name, sizeof name, "%s" TRANSFER_SUFFIX, id);
    (void)snprintf(part, sizeof part, "%s.part", name);
    if (!may_replace(folder, name, collection))
        return;
    fd = openat(folder, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        refuse(collection->item, RESULT_IO, strerror(errno));
        return;
    }
    if (write_file(store, fd, collection) && renameat(folder, part, folder, name) != 0)
        refuse(collection->item, RESULT_IO, strerror(errno));
    if (close(fd) != 0 && collection->item->result == RESULT_OK)
        refuse(collection->item, RESULT_IO, strerror(errno));
    if (collection->item->result != RESULT_OK)
        (void)unlinkat(folder, part, 0);
}

void transfer_write(struct store *store, int folder, struct transfer_item *item)
{
    struct collection collection = {.item = item, .queue_id = store->queue_id};
    enum result result;

    bytes_init(&collection.record, RECORD_MAX);
    transfer_begin(&collection.writer);
    item->result = RESULT_OK;
    result = scan(store, item->id, collect_group, &collection);
    if (result != RESULT_OK)
        refuse(item, result, "its records cannot be read");
    else if (collection.is_other || collection.count != item->group_count)
        refuse(item, RESULT_BUSY, "its groups were changed meanwhile");
    else if (collection.is_corrupt)
        refuse(item, RESULT_CORRUPT, "a record of it is damaged");
    else
        put_file(store, folder, &collection);
    if (collection.writer.groups) {
        size_t length;
        size_t at;

        memory_free(transfer_end(&collection.writer, &length, &at));
    }
    item->bytes = collection.envelope.header_bytes + collection.envelope.body_bytes;
    bytes_fini(&collection.record);
}

/* ---- reading ---- */

struct head_line {
    uint64_t head_bytes;
    uint64_t message_bytes;
    size_t length;
};

static bool read_exactly(int fd, char *into, size_t length, uint64_t at)
{
    while (length > 0) {
        ssize_t got = pread(fd, into, length, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        into += got;
        length -= (size_t)got;
        at += (uint64_t)got;
    }
    return true;
}

static enum result read_line(int fd, struct head_line *line, struct fault *fault)
{
    char text[FIRST_LINE];
    ssize_t got = pread(fd, text, sizeof text, 0);
    struct slice rest = {text, got > 0 ? (size_t)got : 0};
    uint64_t version;

    line->length = slice_find(rest, '\n') + 1;
    if (line->length > rest.length)
        return fault_set(fault, RESULT_INVALID, "it is no file of a message");
    rest.length = line->length - 1;
    if (!slice_equal_text(slice_next_word(&rest), "smtpd-message") ||
        slice_to_u64(slice_next_word(&rest), UINT32_MAX, &version) != RESULT_OK)
        return fault_set(fault, RESULT_INVALID, "it is no file of a message");
    if (version != 1)
        return fault_set(fault, RESULT_INVALID, "it has format %llu, this program knows 1",
                         (unsigned long long)version);
    if (slice_to_u64(slice_next_word(&rest), TRANSFER_JSON_MAX, &line->head_bytes) !=
            RESULT_OK ||
        slice_to_u64(slice_next_word(&rest), UINT64_C(1) << 41, &line->message_bytes) !=
            RESULT_OK ||
        rest.length > 0)
        return fault_set(fault, RESULT_INVALID, "its first line is broken");
    return RESULT_OK;
}

/* Digest, sizes and flags. */
static enum result check_message(const struct transfer_file *file, uint64_t bytes,
                                 struct fault *fault)
{
    const struct envelope *envelope = &file->transfer.envelope;
    struct facts_quarrel quarrels[FACTS_QUARRELS];
    struct secure_sum *sum = secure_sum_new();
    char *room = memory_new(LIMIT_PIECE_BYTES);
    uint8_t digest[SECURE_DIGEST];
    char text[65];
    struct facts facts;
    uint64_t at = 0;
    bool is_read = true;

    facts_init(&facts, envelope->header_bytes);
    while (is_read && at < bytes) {
        size_t length =
            bytes - at < LIMIT_PIECE_BYTES ? (size_t)(bytes - at) : LIMIT_PIECE_BYTES;

        is_read = read_exactly(file->fd, room, length, file->at + at);
        if (is_read) {
            secure_sum_add(sum, (struct slice){room, length});
            facts_add(&facts, (struct slice){room, length});
        }
        at += length;
    }
    memory_free(room);
    secure_sum_end(sum, digest);
    transfer_hex(digest, text);
    if (!is_read)
        return fault_set(fault, RESULT_IO, "it cannot be read: %s", strerror(errno));
    if (strcmp(text, file->transfer.digest) != 0)
        return fault_set(fault, RESULT_INVALID,
                         "its message is not what was written: the "
                         "digest differs");
    if (envelope->header_bytes + envelope->body_bytes != bytes)
        return fault_set(fault, RESULT_INVALID, "the lengths in its head differ");
    if (facts_compare(&facts, envelope, quarrels) > 0)
        return fault_set(fault, RESULT_INVALID, "%s", quarrels[0].text);
    return RESULT_OK;
}

static enum result open_file(int folder, const char *name, struct transfer_file *file,
                             uint64_t *bytes, struct fault *fault)
{
    struct stat status;

    file->fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file->fd < 0)
        return fault_set(fault, errno == ENOENT ? RESULT_NOT_FOUND : RESULT_IO,
                         "it cannot be opened: %s", strerror(errno));
    if (fstat(file->fd, &status) != 0 || !S_ISREG(status.st_mode))
        return fault_set(fault, RESULT_INVALID, "it is no plain file");
    *bytes = (uint64_t)status.st_size;
    return RESULT_OK;
}

enum result transfer_open(int folder, const char *name, struct transfer_file *file,
                          struct fault *fault)
{
    struct head_line line = {0};
    uint64_t bytes = 0;
    unsigned long long wanted;
    char *head;
    enum result result;

    memset(file, 0, sizeof *file);
    result = open_file(folder, name, file, &bytes, fault);
    if (result == RESULT_OK)
        result = read_line(file->fd, &line, fault);
    if (result != RESULT_OK)
        return result;
    file->at = line.length + line.head_bytes;
    wanted = file->at + line.message_bytes;
    if (bytes != wanted)
        return fault_set(fault, RESULT_INVALID,
                         "it has %llu bytes and should have %llu: it is torn",
                         (unsigned long long)bytes, wanted);
    head = memory_new((size_t)line.head_bytes + 1);
    if (!read_exactly(file->fd, head, (size_t)line.head_bytes, line.length))
        result = fault_set(fault, RESULT_IO, "it cannot be read: %s", strerror(errno));
    else
        result = transfer_decode((struct slice){head, (size_t)line.head_bytes},
                                 &file->transfer, fault);
    memory_free(head);
    return result == RESULT_OK ? check_message(file, line.message_bytes, fault) : result;
}

void transfer_close(struct transfer_file *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    transfer_fini(&file->transfer);
}
