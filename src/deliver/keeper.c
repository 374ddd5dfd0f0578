/* A round goes over the list a portion each turn, and gives the whole text to one job. */
#include "keeper.h"

#include "smtpd/base/file.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { WRITE_MS = 5000, PORTION = 200, PATH_BYTES = 4096 };
static const int64_t KEEP_MS = INT64_C(7) * 86400000;

struct writing { /* the input of a job */
    char path[PATH_BYTES];
    char beside[PATH_BYTES + 8];
    struct bytes text;
    struct sealed sealed;
    pthread_mutex_t lock;
    bool is_outdated; /* under the lock: a newer one takes the place */
    bool has_failed;
    struct fault fault;
};

struct keeper {
    struct loop *loop;
    struct offload *offload;
    char *path;
    struct list kept;    /* the longest unchanged first */
    struct link *cursor; /* of the round: the next one */
    struct writing *writing;
    unsigned round; /* what was written in it is not written twice */
    struct job *job;
    struct timer timer;
    bool is_changed;
    bool is_broken; /* said already */
};

/* ---- the job ---- */

static void write_file(void *input)
{
    struct writing *writing = input;
    enum result result =
        file_write(writing->beside, bytes_view(&writing->text), &writing->fault);

    (void)pthread_mutex_lock(&writing->lock);
    if (result == RESULT_OK && !writing->is_outdated &&
        rename(writing->beside, writing->path) != 0)
        result = fault_set(&writing->fault, RESULT_IO, "%s", strerror(errno));
    (void)pthread_mutex_unlock(&writing->lock);
    if (result == RESULT_OK)
        result = file_sync_parent(writing->path, &writing->fault);
    writing->has_failed = result != RESULT_OK;
}

static void writing_free(void *input)
{
    struct writing *writing = input;

    bytes_fini(&writing->text);
    (void)pthread_mutex_destroy(&writing->lock);
    memory_free(writing);
}

/* ---- a round ---- */

static void on_turn(void *owner);
static void on_written(void *owner, void *input);

static void fail(struct writing *writing, const char *why)
{
    if (!writing->has_failed)
        (void)fault_set(&writing->fault, RESULT_TOO_LARGE, "%s", why);
    writing->has_failed = true;
}

static void begin(struct keeper *keeper, const char *suffix)
{
    struct writing *writing = NEW(struct writing);

    (void)snprintf(writing->path, sizeof writing->path, "%s", keeper->path);
    (void)snprintf(writing->beside, sizeof writing->beside, "%s%s", keeper->path, suffix);
    (void)pthread_mutex_init(&writing->lock, NULL);
    bytes_init(&writing->text, PACES_FILE_MAX);
    keeper->writing = writing;
    keeper->is_changed = false;
    keeper->cursor = list_first(&keeper->kept);
    keeper->round++;
    if (paces_file_begin(&writing->text, &writing->sealed) != RESULT_OK)
        fail(writing, "it is too large");
}

/* What changes during a round moves to the end of the list and comes by a second time: the next
 * round has it. */
static void add(struct keeper *keeper, struct kept *kept)
{
    struct writing *writing = keeper->writing;

    if (kept->round == keeper->round || writing->sealed.lines == PACES_KEPT_MAX)
        return;
    kept->round = keeper->round;
    if (paces_file_add(&writing->text, &writing->sealed, kept->pace) != RESULT_OK)
        fail(writing, "it is too large");
}

/* False: there is no more. */
static bool add_some(struct keeper *keeper)
{
    struct writing *writing = keeper->writing;

    for (int i = 0; i < PORTION && keeper->cursor && !writing->has_failed; i++) {
        struct kept *kept = CONTAINER_OF(keeper->cursor, struct kept, link);

        keeper->cursor = list_next(&keeper->kept, keeper->cursor);
        add(keeper, kept);
    }
    if (keeper->cursor && !writing->has_failed)
        return true;
    if (!writing->has_failed &&
        paces_file_end(&writing->text, &writing->sealed) != RESULT_OK)
        fail(writing, "it is too large");
    return false;
}

static void end(struct keeper *keeper)
{
    bool has_failed = keeper->writing->has_failed;

    if (has_failed && !keeper->is_broken)
        log_message(LOG_ERROR, "deliver.paces_unwritable",
                    "what paces have learned cannot be written to %s and would be lost at "
                    "a restart: %s",
                    keeper->path, keeper->writing->fault.text);
    writing_free(keeper->writing);
    keeper->writing = NULL;
    keeper->is_broken = has_failed;
    keeper->is_changed |= has_failed;
    if (keeper->is_changed)
        timer_start(&keeper->timer, WRITE_MS);
}

static void on_turn(void *owner)
{
    struct keeper *keeper = owner;

    if (add_some(keeper)) {
        timer_start(&keeper->timer, 1); /* others first */
        return;
    }
    if (!keeper->writing->has_failed &&
        job_start(keeper->offload, POOL_FILE, write_file, on_written, writing_free,
                  keeper->writing, keeper, &keeper->job) == RESULT_OK)
        return;
    fail(keeper->writing, "too many jobs wait for the disk");
    end(keeper);
}

static void on_written(void *owner, void *input)
{
    struct keeper *keeper = owner;

    (void)input;
    keeper->job = NULL;
    end(keeper);
}

static void on_timer(void *owner)
{
    struct keeper *keeper = owner;

    if (!keeper->writing)
        begin(keeper, ".new");
    on_turn(keeper);
}

/* ---- what is kept ---- */

void keeper_forget(struct keeper *keeper, struct kept *kept)
{
    if (keeper->cursor == &kept->link)
        keeper->cursor = list_next(&keeper->kept, &kept->link);
    list_remove(&keeper->kept, &kept->link);
}

void keeper_add(struct keeper *keeper, struct kept *kept)
{
    if (keeper->kept.count >= PACES_KEPT_MAX)
        keeper_forget(keeper, CONTAINER_OF(list_first(&keeper->kept), struct kept, link));
    list_push_back(&keeper->kept, &kept->link);
}

void keeper_note(struct keeper *keeper, struct kept *kept)
{
    bool was_kept = link_is_in_list(&kept->link);
    bool is_plain = pace_is_plain(kept->pace);

    if (was_kept)
        keeper_forget(keeper, kept);
    if (!is_plain)
        keeper_add(keeper, kept);
    if (is_plain && !was_kept)
        return;
    keeper->is_changed = true;
    if (!keeper->writing && !timer_is_waiting(&keeper->timer))
        timer_start(&keeper->timer, WRITE_MS);
}

/* ---- life ---- */

struct keeper *keeper_new(struct loop *loop, struct offload *offload, const char *path)
{
    struct keeper *keeper = NEW(struct keeper);

    keeper->loop = loop;
    keeper->offload = offload;
    keeper->path = memory_text(path);
    list_init(&keeper->kept);
    timer_init(&keeper->timer, loop, on_timer, keeper);
    return keeper;
}

struct loading {
    paces_file_fn *each;
    void *owner;
    int64_t now_ms;
};

/* What a reaction began is not over because it takes long. */
static void on_pace(void *owner, const struct pace *pace)
{
    struct loading *loading = owner;

    if (pace->changed_ms >= loading->now_ms - KEEP_MS ||
        pace->suspended_until_ms > loading->now_ms ||
        pace->bounce.until_ms > loading->now_ms)
        loading->each(loading->owner, pace);
}

void keeper_load(struct keeper *keeper, paces_file_fn *each, void *owner)
{
    struct loading loading = {each, owner, loop_wall_ms(keeper->loop)};
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, PACES_FILE_MAX + 65536);
    result = file_read(keeper->path, &text, &fault);
    if (result == RESULT_OK)
        result = paces_file_parse(bytes_view(&text), on_pace, &loading, &fault);
    bytes_fini(&text);
    if (result != RESULT_OK && result != RESULT_NOT_FOUND)
        log_message(LOG_WARNING, "deliver.paces_unreadable",
                    "paces begin anew, what they had learned is lost: %s: %s", keeper->path,
                    fault.text);
}

/* A job that runs goes on, and its text is older than what is written now. */
static void outdate(struct keeper *keeper)
{
    struct writing *writing = keeper->writing;

    if (!keeper->job) {
        writing_free(writing);
        return;
    }
    (void)pthread_mutex_lock(&writing->lock);
    writing->is_outdated = true;
    (void)pthread_mutex_unlock(&writing->lock);
    job_cancel(keeper->job); /* its text is dropped by the job */
}

void keeper_free(struct keeper *keeper)
{
    if (!keeper)
        return;
    timer_cancel(&keeper->timer);
    if (keeper->is_changed || keeper->writing) {
        if (keeper->writing)
            outdate(keeper);
        begin(keeper, ".end"); /* the job may still write its own */
        while (add_some(keeper))
            ;
        if (!keeper->writing->has_failed)
            write_file(keeper->writing);
        end(keeper);
        timer_cancel(&keeper->timer);
    }
    memory_free(keeper->path);
    memory_free(keeper);
}
