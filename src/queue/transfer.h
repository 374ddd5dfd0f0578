/* One moved message as a file (docs/moving.md).
 *
 * Promises  what is read is checked to the last byte before it is used; nothing is read or
 *           written outside of the folder that is given as a descriptor.
 * Ignores   who asks, and when the message leaves the queue.
 */
#ifndef SMTPD_QUEUE_TRANSFER_H
#define SMTPD_QUEUE_TRANSFER_H

#include "record.h"
#include "store.h"

enum { TRANSFER_NAME = ID_TEXT + 16, TRANSFER_JSON_MAX = 128 << 20 };
#define TRANSFER_SUFFIX ".smtpd"

/* ---- the head: one line and an object ---- */

struct transfer_group {
    struct group group;
    struct recipient *recipients;
};
struct transfer {
    void *json;               /* its texts live here */
    struct envelope envelope; /* id: what it had; origin: what it gets */
    char origin[ORIGIN_TEXT];
    char digest[2 * 32 + 1];
    struct transfer_group *groups;
    size_t group_count;
};
/* RESULT_INVALID: the fault says what is wrong with the object. transfer_fini() in any case. */
enum result MUST_CHECK transfer_decode(struct slice text, struct transfer *transfer,
                                       struct fault *fault);
void transfer_fini(struct transfer *transfer);

/* Writing: begin, a group after the other, end. */
struct transfer_writer {
    void *root;
    void *groups;
    bool is_wrong;
};
void transfer_begin(struct transfer_writer *writer);
void transfer_set_envelope(struct transfer_writer *writer, uint64_t queue_id,
                           const struct envelope *envelope);
void transfer_add_group(struct transfer_writer *writer, const struct group *group);
/* The text is the caller's, memory_free(); the digest in it is 64 zeros at *digest_at. NULL: a
 * text is not UTF-8. */
char *transfer_end(struct transfer_writer *writer, size_t *length, size_t *digest_at);
void transfer_hex(const uint8_t digest[32], char text[2 * 32 + 1]);

/* ---- files ---- */

struct transfer_item { /* touched by the pool */
    uint64_t id;
    uint32_t *groups; /* of its message, in order */
    size_t group_count;
    enum result result; /* RESULT_BUSY: its groups are others by now */
    uint64_t bytes;
    char why[128];
};
/* ID.smtpd: written, synced, renamed. An earlier file of the same message is written over. The
 * folder is not synced. Blocking. */
void transfer_write(struct store *store, int folder, struct transfer_item *item);
/* Which groups the message has. */
enum result MUST_CHECK transfer_list(struct store *store, struct transfer_item *item);
/* Makes it if its parent is there, and locks it. -1: the fault says why. Close it. */
int transfer_open_folder(const char *directory, bool may_make, struct fault *fault);

struct transfer_file { /* open, and looked through */
    int fd;
    uint64_t at; /* where the message begins */
    struct transfer transfer;
};
/* RESULT_INVALID: broken, RESULT_IO. transfer_close() in any case. Only a plain file. */
enum result MUST_CHECK transfer_open(int folder, const char *name,
                                     struct transfer_file *file, struct fault *fault);
void transfer_close(struct transfer_file *file);

#endif
