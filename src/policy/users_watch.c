/* A look is a job that owns copies of what it needs; the timer starts the next one when it has
 * ended. One is never cancelled but at the end of the process: what it read would be freed on the
 * loop, all at once. */
#include "users_watch.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum { FOLLOW_MS = 10000 };

/* Input of the job that looks at the file. */
struct look {
    char *path;
    struct users_stamp stamp; /* known; then found */
    bool has_stamp;
    bool is_changed;
    enum result result;
    struct fault fault;
    struct map *table;
};

struct users_watch {
    struct offload *offload;
    struct users_watch_calls calls;
    char *path;
    struct users_stamp stamp;
    bool has_stamp;
    bool is_missing;
    bool looks_again; /* at once, behind the look that runs */
    struct timer timer;
    struct job *job;
};

static void look_free(void *input)
{
    struct look *look = input;

    users_table_free(look->table);
    memory_free(look->path);
    memory_free(look);
}

static void look_run(void *input)
{
    struct look *look = input;
    struct users_stamp found;

    look->result = users_stamp_read(look->path, &found);
    if (look->result != RESULT_OK) {
        (void)fault_set(&look->fault, look->result, "cannot look at the users file %s",
                        look->path);
        return;
    }
    look->is_changed = !look->has_stamp || !users_stamp_equal(&found, &look->stamp);
    look->stamp = found;
    if (look->is_changed)
        look->result =
            users_table_load(look->path, &look->table, &look->stamp, &look->fault);
}

/* Once per version of the file, not every 10 s. */
static void log_unreadable(struct users_watch *watch, const struct look *look)
{
    struct log_line line;

    if (!look->is_changed && watch->is_missing)
        return;
    log_start(&line, LOG_ERROR, "policy.users_unreadable");
    log_text(&line, "message", look->fault.text);
    log_end(&line);
}

static void use(struct users_watch *watch, struct look *look)
{
    if (look->result == RESULT_OK && look->is_changed) {
        log_message(LOG_NOTICE, "policy.users_loaded", "%zu users", map_count(look->table));
        watch->calls.on_table(watch->calls.owner, look->table);
        look->table = NULL;
    } else if (look->result != RESULT_OK) {
        log_unreadable(watch, look);
    }
    watch->is_missing = look->result != RESULT_OK && !look->is_changed;
    if (look->is_changed) {
        watch->stamp = look->stamp;
        watch->has_stamp = true;
    }
}

static void on_looked(void *owner, void *input)
{
    struct users_watch *watch = owner;
    struct look *look = input;

    watch->job = NULL;
    if (watch->path && strcmp(watch->path, look->path) == 0) {
        use(watch, look);
    } else if (look->table) {
        watch->calls.on_unwanted(watch->calls.owner, look->table);
        look->table = NULL;
    }
    look_free(look);
    if (watch->path)
        timer_start(&watch->timer, watch->looks_again ? 0 : FOLLOW_MS);
    watch->looks_again = false;
}

static void on_follow_timer(void *owner)
{
    struct users_watch *watch = owner;
    struct look *look = NEW(struct look);

    look->path = memory_text(watch->path);
    look->stamp = watch->stamp;
    look->has_stamp = watch->has_stamp;
    if (job_start(watch->offload, POOL_FILE, look_run, on_looked, look_free, look, watch,
                  &watch->job) == RESULT_OK)
        return;
    look_free(look);
    timer_start(&watch->timer, FOLLOW_MS);
}

void users_watch_follow(struct users_watch *watch, const char *path)
{
    bool is_same = path && watch->path && strcmp(path, watch->path) == 0;

    timer_cancel(&watch->timer);
    if (!is_same) {
        /* The first call follows what users_watch_knows() said; another path is another file. */
        if (watch->path)
            watch->has_stamp = false;
        memory_free(watch->path);
        watch->path = memory_text(path);
    }
    watch->looks_again = path && watch->job;
    if (path && !watch->job)
        timer_start(&watch->timer, 0);
}

void users_watch_knows(struct users_watch *watch, const struct users_stamp *stamp)
{
    watch->has_stamp = stamp != NULL;
    if (stamp)
        watch->stamp = *stamp;
}

struct users_watch *users_watch_new(struct loop *loop, struct offload *offload,
                                    const struct users_watch_calls *calls)
{
    struct users_watch *watch = NEW(struct users_watch);

    watch->offload = offload;
    watch->calls = *calls;
    timer_init(&watch->timer, loop, on_follow_timer, watch);
    return watch;
}

void users_watch_free(struct users_watch *watch)
{
    if (!watch)
        return;
    timer_cancel(&watch->timer);
    if (watch->job)
        job_cancel(watch->job);
    memory_free(watch->path);
    memory_free(watch);
}
