/* What changes the list, on its way to the disk. What was written is read back into the table by
 * the reader that reads the file at a start: the two cannot differ. Changes that come while a
 * piece is on its way wait, and leave together. */
#include "suppression_inner.h"

#include "smtpd/base/check.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum {
    PORTION_ENTRIES = 500,
    PIECE_END_BYTES = 64,
    RETRY_MS = 100,
    ANEW_RECORDS_MIN = 1000,
    ANEW_RETRY_MS = 60000
};

/* ---- what came to the disk ---- */

struct taking {
    struct suppression *suppression;
    struct suppression_task *task;
    bool is_told;
};

/* A line for each request: an import of a million is no million lines. */
static void tell(struct taking *taking, const struct suppression_record *record)
{
    const struct suppression_task *task = taking->task;
    const struct suppression_entry *entry = &record->entry;
    struct log_line line;

    if (taking->is_told)
        return;
    taking->is_told = true;
    if (record->is_removal)
        log_start(&line, LOG_NOTICE, "policy.suppression_removed");
    else
        log_start(&line, LOG_NOTICE, "policy.suppression_added");
    log_number(&line, "entries", (int64_t)task->records);
    log_text(&line, "recipient", entry->address);
    log_text(&line, "tenant", entry->tenant[0] ? entry->tenant : NULL);
    if (!record->is_removal) {
        log_text(&line, "source", suppression_source_name(entry->source));
        log_text(&line, "reason", entry->reason[0] ? entry->reason : NULL);
    }
    log_end(&line);
}

static void take_record(void *owner, const struct suppression_record *record)
{
    struct taking *taking = owner;
    struct suppression *suppression = taking->suppression;
    struct suppression_counts *counts = &taking->task->counts;

    tell(taking, record);
    if (record->is_removal) {
        bool was_there = suppression_table_remove(suppression->table, record->entry.tenant,
                                                  record->entry.address);

        counts->removed += was_there;
        counts->absent += !was_there;
        suppression->statistics.removed += was_there;
    } else {
        bool is_new = suppression_table_set(suppression->table, &record->entry);

        counts->added += is_new;
        counts->replaced += !is_new;
        suppression->statistics.added[record->entry.source] += is_new;
    }
}

static void end_task(struct suppression *suppression, struct suppression_task *task,
                     bool is_written)
{
    struct taking taking = {suppression, task, false};

    suppression->pending_news -= task->news;
    if (is_written)
        CHECK(suppression_pieces_read(bytes_view(&task->text), take_record, &taking) ==
              RESULT_OK);
    if (task->on_end)
        task->on_end(task->owner, is_written ? RESULT_OK : RESULT_IO, &task->counts);
    bytes_fini(&task->text);
    memory_free(task);
}

/* ---- writing ---- */

static void log_broken(const struct suppression *suppression, int error)
{
    log_message(LOG_ERROR, "policy.suppression_unwritable",
                "changes of the suppression list are refused: %s cannot be written: %s; "
                "look at the disk",
                suppression->writer.path, strerror(error));
}

static void end_anew(struct suppression *suppression)
{
    const struct suppression_writer *writer = &suppression->writer;

    if (writer->beside_error != 0) {
        suppression->is_anew = false;
        suppression->anew_after_ms = loop_now_ms(suppression->loop) + ANEW_RETRY_MS;
        log_message(LOG_WARNING, "policy.suppression_unwritable",
                    "%s cannot be written anew and keeps its removed entries: %s",
                    writer->path, strerror(writer->beside_error));
    } else if (writer->ends_anew) {
        suppression->is_anew = false;
        suppression->records = suppression->anew_records;
    }
}

/* The job has run. */
static void take_results(struct suppression *suppression)
{
    const struct suppression_writer *writer = &suppression->writer;
    bool is_written = writer->error == 0;
    struct link *link;

    if (!is_written) {
        suppression->statistics.writes_failed++;
        if (!suppression->is_write_broken)
            log_broken(suppression, writer->error);
    }
    suppression->is_write_broken = !is_written;
    while ((link = list_pop_front(&suppression->writing))) {
        struct suppression_task *task = CONTAINER_OF(link, struct suppression_task, link);

        if (is_written) {
            suppression->records += task->records;
            suppression->anew_records += task->records;
        }
        end_task(suppression, task, is_written);
    }
    if (suppression->is_anew)
        end_anew(suppression);
    suppression->is_writing = false;
}

static void on_written(void *owner, void *input)
{
    struct suppression *suppression = owner;

    (void)input;
    suppression->job = NULL;
    take_results(suppression);
    suppression_save(suppression);
}

/* What waits, as far as it fits: one piece. */
static void fill_append(struct suppression *suppression)
{
    struct suppression_writer *writer = &suppression->writer;
    struct suppression_piece piece;
    struct link *link;

    bytes_clear(&writer->append);
    if (suppression->waiting.count == 0)
        return;
    suppression_piece_begin(&piece);
    if (writer->length == 0)
        CHECK(bytes_add_text(&writer->append, SUPPRESSION_JOURNAL_HEAD) == RESULT_OK);
    while ((link = list_first(&suppression->waiting))) {
        struct suppression_task *task = CONTAINER_OF(link, struct suppression_task, link);

        if (writer->append.length + task->text.length + PIECE_END_BYTES >
                SUPPRESSION_APPEND_MAX ||
            suppression_piece_join(&piece, &writer->append, bytes_view(&task->text)) !=
                RESULT_OK)
            break;
        list_remove(&suppression->waiting, link);
        list_push_back(&suppression->writing, link);
        suppression->waiting_bytes -= task->text.length;
    }
    CHECK(suppression_piece_end(&piece, &writer->append) == RESULT_OK);
}

struct copying {
    struct suppression *suppression;
    struct suppression_piece piece;
    size_t count;
};

static void copy_entry(void *owner, const struct suppression_entry *entry)
{
    struct copying *copying = owner;
    struct suppression *suppression = copying->suppression;
    struct suppression_record record = {.entry = *entry};

    if (entry->expires_ms != 0 && entry->expires_ms <= loop_wall_ms(suppression->loop))
        return;
    if (suppression_piece_add(&copying->piece, &suppression->writer.portion, &record) ==
        RESULT_OK)
        copying->count++;
}

/* The next entries of the table for the new file. */
static void fill_portion(struct suppression *suppression)
{
    struct suppression_writer *writer = &suppression->writer;
    struct copying copying = {.suppression = suppression};
    enum result added = RESULT_OK;

    bytes_clear(&writer->portion);
    writer->begins_anew = suppression->anew_at == 0;
    if (writer->begins_anew)
        added = bytes_add_text(&writer->portion, SUPPRESSION_JOURNAL_HEAD);
    suppression_piece_begin(&copying.piece);
    while (suppression->anew_at < SUPPRESSION_SHARDS && copying.count < PORTION_ENTRIES)
        (void)suppression_table_visit(suppression->table, suppression->anew_at++,
                                      copy_entry, &copying);
    if (added == RESULT_OK && copying.count > 0)
        added = suppression_piece_end(&copying.piece, &writer->portion);
    suppression->anew_records += copying.count;
    writer->ends_anew = suppression->anew_at == SUPPRESSION_SHARDS && added == RESULT_OK;
}

static bool wants_anew(const struct suppression *suppression)
{
    size_t live = suppression_table_count(suppression->table);

    return !suppression->is_anew && !suppression->is_stopped &&
           suppression->records >= ANEW_RECORDS_MIN && suppression->records / 2 > live &&
           loop_now_ms(suppression->loop) >= suppression->anew_after_ms;
}

static void prepare(struct suppression *suppression)
{
    struct suppression_writer *writer = &suppression->writer;

    fill_append(suppression);
    bytes_clear(&writer->portion);
    writer->begins_anew = writer->ends_anew = writer->has_run = false;
    if (wants_anew(suppression)) {
        suppression->is_anew = true;
        suppression->anew_at = 0;
        suppression->anew_records = 0;
    }
    if (suppression->is_anew)
        fill_portion(suppression);
    suppression->is_writing = true;
}

static void start_job(struct suppression *suppression)
{
    if (job_start(suppression->offload, POOL_FILE, suppression_writer_run, on_written, NULL,
                  &suppression->writer, suppression, &suppression->job) != RESULT_OK)
        timer_start(&suppression->retry, RETRY_MS);
}

static void on_retry(void *owner)
{
    start_job(owner);
}

void suppression_save(struct suppression *suppression)
{
    if (suppression->is_writing || suppression->is_stopped ||
        (suppression->waiting.count == 0 && !suppression->is_anew &&
         !wants_anew(suppression)))
        return;
    prepare(suppression);
    start_job(suppression);
}

void suppression_submit(struct suppression *suppression, struct suppression_task *task)
{
    suppression->pending_news += task->news;
    suppression->waiting_bytes += task->text.length;
    list_push_back(&suppression->waiting, &task->link);
    suppression_save(suppression);
}

void suppression_save_init(struct suppression *suppression)
{
    list_init(&suppression->waiting);
    list_init(&suppression->writing);
    timer_init(&suppression->retry, suppression->loop, on_retry, suppression);
}

/* The pool is gone: what its last job was, it has done or never will. */
void suppression_save_rest(struct suppression *suppression)
{
    while (suppression->is_writing || suppression->waiting.count > 0) {
        if (!suppression->is_writing) {
            suppression->is_anew = false;
            prepare(suppression);
        }
        if (!suppression->writer.has_run)
            suppression_writer_run(&suppression->writer);
        take_results(suppression);
    }
}
