/* A round goes over the list a portion each turn, and gives the whole text to one job. */
#include "keeper.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WRITE_MS = 5000, PORTION = 200, PATH_BYTES = 4096 };
static const int64_t KEEP_MS = INT64_C(7) * 86400000;

struct writing { /* the input of a job */
    char path[PATH_BYTES];
    char beside[PATH_BYTES + 8];
    struct bytes text;
    int error;
};

struct keeper {
    struct loop *loop;
    struct offload *offload;
    char *path;
    struct list kept;    /* the longest unchanged first */
    struct link *cursor; /* of the round: the next one */
    struct writing *writing;
    struct paces_sum sum;
    struct job *job;
    struct timer timer;
    bool is_changed;
    bool is_broken; /* said already */
};

/* ---- the job ---- */

static bool write_all(int fd, struct slice text)
{
    while (text.length > 0) {
        ssize_t count = write(fd, text.data, text.length);

        if (count < 0 && errno != EINTR)
            return false;
        if (count > 0)
            text = slice_from(text, (size_t)count);
    }
    return true;
}

static void write_file(void *input)
{
    struct writing *writing = input;
    int fd = open(writing->beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool is_written =
        fd >= 0 && write_all(fd, bytes_view(&writing->text)) && fsync(fd) == 0;

    writing->error = is_written ? 0 : errno;
    if (fd >= 0)
        (void)close(fd);
    if (is_written && rename(writing->beside, writing->path) != 0)
        writing->error = errno;
}

static void writing_free(void *input)
{
    struct writing *writing = input;

    bytes_fini(&writing->text);
    memory_free(writing);
}

/* ---- a round ---- */

static void on_turn(void *owner);
static void on_written(void *owner, void *input);

static void begin(struct keeper *keeper, const char *suffix)
{
    struct writing *writing = NEW(struct writing);

    (void)snprintf(writing->path, sizeof writing->path, "%s", keeper->path);
    (void)snprintf(writing->beside, sizeof writing->beside, "%s%s", keeper->path, suffix);
    bytes_init(&writing->text, PACES_FILE_MAX);
    keeper->writing = writing;
    keeper->is_changed = false;
    keeper->cursor = list_first(&keeper->kept);
    writing->error =
        paces_file_begin(&writing->text, &keeper->sum) == RESULT_OK ? 0 : EFBIG;
}

/* False: there is no more. */
static bool add_some(struct keeper *keeper)
{
    struct writing *writing = keeper->writing;

    for (int i = 0; i < PORTION && keeper->cursor && !writing->error; i++) {
        const struct kept *kept = CONTAINER_OF(keeper->cursor, struct kept, link);

        keeper->cursor = list_next(&keeper->kept, keeper->cursor);
        if (paces_file_add(&writing->text, &keeper->sum, kept->pace) != RESULT_OK)
            writing->error = EFBIG;
    }
    if (keeper->cursor && !writing->error)
        return true;
    if (!writing->error && paces_file_end(&writing->text, &keeper->sum) != RESULT_OK)
        writing->error = EFBIG;
    return false;
}

static void end(struct keeper *keeper)
{
    int error = keeper->writing->error;

    writing_free(keeper->writing);
    keeper->writing = NULL;
    if (error && !keeper->is_broken)
        log_message(LOG_ERROR, "deliver.paces_unwritable",
                    "what paces have learned cannot be written to %s and would be lost at "
                    "a restart: %s",
                    keeper->path, strerror(error));
    keeper->is_broken = error != 0;
    keeper->is_changed |= error != 0;
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
    if (!keeper->writing->error &&
        job_start(keeper->offload, POOL_FILE, write_file, on_written, writing_free,
                  keeper->writing, keeper, &keeper->job) == RESULT_OK)
        return;
    if (!keeper->writing->error)
        keeper->writing->error = EBUSY;
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

static enum result read_file(const char *path, struct bytes *text, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = 1;

    if (fd < 0)
        return fault_set(fault, errno == ENOENT ? RESULT_NOT_FOUND : RESULT_IO, "%s",
                         strerror(errno));
    while (count > 0) {
        char *into = bytes_reserve(text, 65536);

        if (!into) {
            (void)close(fd);
            return fault_set(fault, RESULT_TOO_LARGE, "it is too large");
        }
        count = read(fd, into, 65536);
        if (count > 0)
            text->length += (size_t)count;
        else if (count < 0 && errno == EINTR)
            count = 1;
    }
    (void)close(fd);
    return count == 0 ? RESULT_OK : fault_set(fault, RESULT_IO, "%s", strerror(errno));
}

struct loading {
    paces_file_fn *each;
    void *owner;
    int64_t oldest_ms;
};

static void on_pace(void *owner, const struct pace *pace)
{
    struct loading *loading = owner;

    if (pace->changed_ms >= loading->oldest_ms)
        loading->each(loading->owner, pace);
}

void keeper_load(struct keeper *keeper, paces_file_fn *each, void *owner)
{
    struct loading loading = {each, owner, loop_wall_ms(keeper->loop) - KEEP_MS};
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, PACES_FILE_MAX + 65536);
    result = read_file(keeper->path, &text, &fault);
    if (result == RESULT_OK)
        result = paces_file_parse(bytes_view(&text), on_pace, &loading, &fault);
    bytes_fini(&text);
    if (result != RESULT_OK && result != RESULT_NOT_FOUND)
        log_message(LOG_WARNING, "deliver.paces_unreadable",
                    "paces begin anew, what they had learned is lost: %s: %s", keeper->path,
                    fault.text);
}

void keeper_free(struct keeper *keeper)
{
    if (!keeper)
        return;
    timer_cancel(&keeper->timer);
    if (keeper->job)
        job_cancel(keeper->job); /* its text is dropped by the job */
    else if (keeper->writing)
        writing_free(keeper->writing);
    if (keeper->is_changed || keeper->writing) {
        begin(keeper, ".end"); /* the job may still write its own */
        while (add_some(keeper))
            ;
        if (!keeper->writing->error)
            write_file(keeper->writing);
        end(keeper);
        timer_cancel(&keeper->timer);
    }
    memory_free(keeper->path);
    memory_free(keeper);
}
