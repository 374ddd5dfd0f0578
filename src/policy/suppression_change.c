/* Requests to change the list: judged whole, made into a piece of the journal, handed on. */
#include "suppression_inner.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum {
    WAITING_BYTES_MAX = 8 << 20, /* of changes that are not at the disk yet */
    TASK_BYTES_MAX = 4 << 20,    /* of one request */
    MINUTE_MS = 60000
};

static bool is_name(const char *text, size_t most)
{
    size_t length = strlen(text);

    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    return length <= most;
}

static bool is_new(const struct suppression *suppression,
                   const struct suppression_entry *entry)
{
    struct suppression_entry found;

    return !suppression_table_find(suppression->table, entry->tenant, entry->address,
                                   &found);
}

static bool has_room(const struct suppression *suppression, size_t news)
{
    size_t entries = suppression_table_count(suppression->table);

    return entries + suppression->pending_news + news <= suppression->settings.entries;
}

static struct suppression_task *task_new(void)
{
    struct suppression_task *task = NEW(struct suppression_task);

    bytes_init(&task->text, TASK_BYTES_MAX);
    return task;
}

static void task_free(struct suppression_task *task)
{
    bytes_fini(&task->text);
    memory_free(task);
}

static enum result judge(const struct suppression_change *change,
                         char address[SUPPRESSION_ADDRESS], struct fault *fault)
{
    if (!change->address || !suppression_normalise(change->address, address) ||
        !is_name(address, SUPPRESSION_ADDRESS))
        return fault_set(fault, RESULT_INVALID,
                         "\"%.100s\" is no address; write user@example.com, or "
                         "@example.com for the whole domain",
                         change->address ? change->address : "");
    if (change->tenant && !is_name(change->tenant, LIMIT_USER_NAME))
        return fault_set(fault, RESULT_INVALID, "a tenant is a name of at most %d bytes",
                         LIMIT_USER_NAME);
    if (change->reason && !is_name(change->reason, SUPPRESSION_REASON))
        return fault_set(fault, RESULT_INVALID, "a reason is one line of at most %d bytes",
                         SUPPRESSION_REASON);
    if (change->expires_ms < 0 || change->expires_ms > INT64_MAX / 1000)
        return fault_set(fault, RESULT_INVALID, "an entry expires in the future, or never");
    return RESULT_OK;
}

static enum result add_changes(struct suppression *suppression,
                               const struct suppression_changes *changes,
                               struct suppression_task *task, struct fault *fault)
{
    int64_t now_ms = loop_wall_ms(suppression->loop);
    char address[SUPPRESSION_ADDRESS];
    struct suppression_piece piece;
    enum result result = RESULT_OK;

    suppression_piece_begin(&piece);
    for (size_t i = 0; i < changes->count && result == RESULT_OK; i++) {
        const struct suppression_change *change = &changes->items[i];
        struct suppression_record record = {
            .is_removal = changes->is_removal,
            .entry = {change->tenant ? change->tenant : "", address,
                      change->reason ? change->reason : "", SUPPRESSION_COMMAND, now_ms,
                      change->expires_ms}};

        result = judge(change, address, fault);
        if (result == RESULT_OK)
            result = suppression_piece_add(&piece, &task->text, &record);
        if (result == RESULT_OK && !record.is_removal)
            task->news += is_new(suppression, &record.entry);
    }
    task->records = changes->count;
    return result == RESULT_OK ? suppression_piece_end(&piece, &task->text) : result;
}

enum result suppression_change_start(struct suppression *suppression,
                                     const struct suppression_changes *changes,
                                     struct fault *fault)
{
    struct suppression_task *task;
    enum result result;

    if (suppression->is_stopped || suppression->waiting_bytes > WAITING_BYTES_MAX)
        return fault_set(fault, RESULT_BUSY,
                         "too many changes of the suppression list wait for the disk; try "
                         "again later");
    if (changes->count == 0 || changes->count > SUPPRESSION_CHANGES)
        return fault_set(fault, RESULT_INVALID, "1 to %d entries at once",
                         SUPPRESSION_CHANGES);
    task = task_new();
    task->on_end = changes->on_end;
    task->owner = changes->owner;
    result = add_changes(suppression, changes, task, fault);
    if (result == RESULT_OK && !has_room(suppression, task->news))
        result = fault_set(fault, RESULT_NO_SPACE,
                           "the suppression list would have more than %zu entries; raise "
                           "suppression.entries, or remove some",
                           suppression->settings.entries);
    if (result != RESULT_OK)
        task_free(task);
    else
        suppression_submit(suppression, task);
    return result;
}

static void tell_full(struct suppression *suppression)
{
    int64_t now_ms = loop_now_ms(suppression->loop);

    suppression->statistics.not_added++;
    if (suppression->full_told_ms != 0 && now_ms < suppression->full_told_ms + MINUTE_MS)
        return;
    suppression->full_told_ms = now_ms;
    log_message(LOG_WARNING, "policy.suppression_full",
                "bounces are not added to the suppression list: it has the %zu entries of "
                "suppression.entries, or its file is behind",
                suppression->settings.entries);
}

/* One line of at most so many bytes, whole characters. */
static void clean_reason(const char *said, char reason[SUPPRESSION_REASON + 1])
{
    slice_copy_start(slice_of(said), reason, SUPPRESSION_REASON + 1);
    for (char *at = reason; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
}

void suppression_note_bounce(struct suppression *suppression, const char *tenant,
                             const char *address, const char *said)
{
    int64_t now_ms = loop_wall_ms(suppression->loop);
    int64_t expire_ms = suppression->settings.expire_ms;
    char normal[SUPPRESSION_ADDRESS];
    char reason[SUPPRESSION_REASON + 1];
    struct suppression_entry found;
    struct suppression_piece piece;
    struct suppression_record record = {.entry = {tenant ? tenant : "", normal, reason,
                                                  SUPPRESSION_BOUNCE, now_ms,
                                                  expire_ms ? now_ms + expire_ms : 0}};
    struct suppression_task *task;

    if (!suppression->settings.adds_hard_bounces || suppression->is_stopped ||
        !is_name(record.entry.tenant, LIMIT_USER_NAME) ||
        !suppression_normalise(address, normal) || !is_name(normal, SUPPRESSION_ADDRESS) ||
        suppression_find(suppression, tenant, address, &found))
        return;
    if (suppression->waiting_bytes > WAITING_BYTES_MAX || !has_room(suppression, 1)) {
        tell_full(suppression);
        return;
    }
    clean_reason(said, reason);
    task = task_new();
    task->records = 1;
    task->news = is_new(suppression, &record.entry);
    suppression_piece_begin(&piece);
    if (suppression_piece_add(&piece, &task->text, &record) == RESULT_OK &&
        suppression_piece_end(&piece, &task->text) == RESULT_OK)
        suppression_submit(suppression, task);
    else
        task_free(task);
}
