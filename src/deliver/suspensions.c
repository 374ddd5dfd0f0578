/* A map for each kind; a list by end, which a command walks and the timer takes from the front. */
#include "suspensions.h"

#include "smtpd/base/file.h"
#include "smtpd/base/log.h"
#include "smtpd/base/map.h"
#include "smtpd/base/memory.h"
#include "suspensions_file.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_MS = 60000, AGAIN_MS = 5000 };

struct suspension {
    struct link link;
    struct suspension_view view; /* its texts are its own */
};

struct writing { /* the input of a job */
    char *path;
    char *beside;
    struct bytes text;
    pthread_mutex_t lock;
    bool is_outdated; /* under the lock: a newer one takes the place */
    bool has_failed;
    struct fault fault;
};

struct suspensions {
    struct loop *loop;
    struct offload *offload;
    char *path;
    struct map *maps[REACH_COUNT];
    struct list list;
    struct list waits;
    suspension_view_fn *on_ended;
    void *owner;
    struct timer timer;
    struct deferred turn; /* waits are told, and a write begins */
    struct job *job;
    struct writing *writing; /* its input */
    unsigned change;         /* the last one */
    unsigned written;        /* what the job writes, or wrote last */
    unsigned done;           /* what was written, or could not be */
    bool is_broken;
};

/* ---- the list ---- */

static void suspension_free(struct suspensions *suspensions, struct suspension *one)
{
    list_remove(&suspensions->list, &one->link);
    (void)map_remove(suspensions->maps[one->view.reach], slice_of(one->view.name));
    memory_free((char *)(uintptr_t)one->view.name);
    memory_free((char *)(uintptr_t)one->view.reason);
    memory_free(one);
}

static void insert(struct suspensions *suspensions, struct suspension *one)
{
    struct link *before = list_first(&suspensions->list);

    while (before && CONTAINER_OF(before, struct suspension, link)->view.until_ms <=
                         one->view.until_ms)
        before = list_next(&suspensions->list, before);
    if (before)
        list_insert_before(&suspensions->list, before, &one->link);
    else
        list_push_back(&suspensions->list, &one->link);
}

/* Not too far ahead: the wall's clock may step; and what could not be written is written again. */
static void arm(struct suspensions *suspensions)
{
    struct link *first = list_first(&suspensions->list);
    int64_t wait_ms = suspensions->is_broken ? AGAIN_MS : LOOK_MS;
    int64_t end_ms = INT64_MAX;

    timer_cancel(&suspensions->timer);
    if (first)
        end_ms = CONTAINER_OF(first, struct suspension, link)->view.until_ms -
                 loop_wall_ms(suspensions->loop);
    if (end_ms < wait_ms)
        wait_ms = end_ms > 0 ? end_ms : 0;
    if (first || suspensions->is_broken)
        timer_start(&suspensions->timer, wait_ms);
}

static struct suspension *get(const struct suspensions *suspensions, enum reach reach,
                              struct slice name)
{
    const struct map *map = suspensions->maps[reach];

    return map_count(map) > 0 ? map_get(map, name) : NULL;
}

static enum result add(struct suspensions *suspensions, const struct suspension_view *view)
{
    struct suspension *old = get(suspensions, view->reach, slice_of(view->name));
    struct suspension *one;

    if (!old && suspensions->list.count >= SUSPENSIONS_MAX)
        return RESULT_BUSY;
    one = NEW(struct suspension);
    one->view = *view;
    one->view.name = memory_text(view->name);
    one->view.reason = memory_text(view->reason);
    if (old)
        suspension_free(suspensions, old);
    if (map_set(suspensions->maps[view->reach], slice_of(view->name), one) != RESULT_OK) {
        memory_free((char *)(uintptr_t)one->view.name);
        memory_free((char *)(uintptr_t)one->view.reason);
        memory_free(one);
        return RESULT_BUSY;
    }
    insert(suspensions, one);
    arm(suspensions);
    return RESULT_OK;
}

const struct suspension_view *suspensions_find(const struct suspensions *suspensions,
                                               enum reach reach, struct slice name)
{
    const struct suspension *one = get(suspensions, reach, name);

    return one && one->view.until_ms > loop_wall_ms(suspensions->loop) ? &one->view : NULL;
}

size_t suspensions_count(const struct suspensions *suspensions, enum reach reach)
{
    return map_count(suspensions->maps[reach]);
}

void suspensions_each(const struct suspensions *suspensions, suspension_view_fn *each,
                      void *owner)
{
    for (struct link *link = list_first(&suspensions->list); link;
         link = list_next(&suspensions->list, link))
        each(owner, &CONTAINER_OF(link, struct suspension, link)->view);
}

/* ---- the file ---- */

static void write_text(void *input)
{
    struct writing *writing = input;
    enum result result =
        writing->has_failed
            ? RESULT_TOO_LARGE
            : file_write(writing->beside, bytes_view(&writing->text), &writing->fault);

    (void)pthread_mutex_lock(&writing->lock);
    if (result == RESULT_OK && !writing->is_outdated &&
        rename(writing->beside, writing->path) != 0)
        result = fault_set(&writing->fault, RESULT_IO, "%s", strerror(errno));
    if (writing->is_outdated)
        (void)unlink(writing->beside);
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
    memory_free(writing->path);
    memory_free(writing->beside);
    memory_free(writing);
}

struct adding {
    struct bytes *text;
    struct sealed sealed;
    enum result added;
};

static void add_one(void *owner, const struct suspension_view *view)
{
    struct adding *adding = owner;

    if (adding->added == RESULT_OK)
        adding->added = suspensions_file_add(adding->text, &adding->sealed, view);
}

static struct writing *print(const struct suspensions *suspensions, const char *suffix)
{
    struct writing *writing = NEW(struct writing);
    struct adding adding = {.text = &writing->text};

    writing->path = memory_text(suspensions->path);
    writing->beside = memory_format("%s%s", suspensions->path, suffix);
    (void)pthread_mutex_init(&writing->lock, NULL);
    bytes_init(&writing->text, SUSPENSIONS_FILE_MAX);
    adding.added = suspensions_file_begin(&writing->text, &adding.sealed);
    suspensions_each(suspensions, add_one, &adding);
    if (adding.added == RESULT_OK)
        adding.added = suspensions_file_end(&writing->text, &adding.sealed);
    writing->has_failed = adding.added != RESULT_OK;
    if (writing->has_failed)
        (void)fault_set(&writing->fault, RESULT_TOO_LARGE, "it is too large");
    return writing;
}

static void tell(struct suspensions *suspensions)
{
    struct link *link;

    while ((link = list_first(&suspensions->waits))) {
        struct suspensions_wait *wait = CONTAINER_OF(link, struct suspensions_wait, link);

        if ((int)(wait->change - suspensions->done) > 0)
            return; /* in the order of their changes */
        list_remove(&suspensions->waits, link);
        wait->on_end(wait->owner, !suspensions->is_broken);
    }
}

/* `why` NULL: it is written. */
static void end(struct suspensions *suspensions, const char *why)
{
    if (why && !suspensions->is_broken)
        log_message(
            LOG_ERROR, "deliver.suspensions_unwritable",
            "what is suspended holds, but cannot be written to %s and would be lost "
            "at a restart: %s",
            suspensions->path, why);
    suspensions->is_broken = why != NULL;
    suspensions->done = suspensions->written;
    arm(suspensions);
}

static void turn_later(struct suspensions *suspensions);

static void on_written(void *owner, void *input)
{
    struct suspensions *suspensions = owner;
    struct writing *writing = input;

    suspensions->job = NULL;
    suspensions->writing = NULL;
    end(suspensions, writing->has_failed ? writing->fault.text : NULL);
    writing_free(writing);
    turn_later(suspensions);
}

static void on_turn(void *owner)
{
    struct suspensions *suspensions = owner;
    struct writing *writing;

    tell(suspensions);
    if (suspensions->job || suspensions->done == suspensions->change)
        return;
    suspensions->written = suspensions->change;
    if (!suspensions->path) {
        suspensions->done = suspensions->change;
        tell(suspensions);
        return;
    }
    writing = print(suspensions, ".new");
    if (job_start(suspensions->offload, POOL_FILE, write_text, on_written, writing_free,
                  writing, suspensions, &suspensions->job) == RESULT_OK) {
        suspensions->writing = writing;
        return;
    }
    writing_free(writing);
    end(suspensions, "too much is written at once");
    tell(suspensions);
}

static void turn_later(struct suspensions *suspensions)
{
    if (!link_is_in_list(&suspensions->turn.link))
        loop_defer(suspensions->loop, &suspensions->turn, on_turn, suspensions);
}

void suspensions_wait_start(struct suspensions *suspensions, struct suspensions_wait *wait,
                            void (*on_end)(void *owner, bool is_kept), void *owner)
{
    *wait = (struct suspensions_wait){
        .change = suspensions->change, .on_end = on_end, .owner = owner};
    list_push_back(&suspensions->waits, &wait->link);
    turn_later(suspensions);
}

void suspensions_wait_cancel(struct suspensions *suspensions, struct suspensions_wait *wait)
{
    list_remove(&suspensions->waits, &wait->link);
}

/* ---- changes ---- */

enum result suspensions_set(struct suspensions *suspensions,
                            const struct suspension_view *view)
{
    enum result added = add(suspensions, view);

    if (added != RESULT_OK)
        return added;
    suspensions->change++;
    turn_later(suspensions);
    return RESULT_OK;
}

static void forget(struct suspensions *suspensions, struct suspension *one)
{
    suspension_free(suspensions, one);
    arm(suspensions);
    suspensions->change++;
    turn_later(suspensions);
}

bool suspensions_remove(struct suspensions *suspensions, enum reach reach, const char *name)
{
    struct suspension *one = get(suspensions, reach, slice_of(name));

    if (one)
        forget(suspensions, one);
    return one;
}

static void on_time(void *owner)
{
    struct suspensions *suspensions = owner;
    int64_t now_ms = loop_wall_ms(suspensions->loop);
    struct link *link;

    while ((link = list_first(&suspensions->list))) {
        struct suspension *one = CONTAINER_OF(link, struct suspension, link);

        if (one->view.until_ms > now_ms)
            break;
        suspensions->on_ended(suspensions->owner, &one->view);
        forget(suspensions, one);
    }
    if (suspensions->is_broken) {
        suspensions->change++;
        turn_later(suspensions);
    }
    arm(suspensions);
}

/* ---- life ---- */

static void on_read(void *owner, const struct suspension_view *view)
{
    struct suspensions *suspensions = owner;

    if (view->until_ms > loop_wall_ms(suspensions->loop))
        (void)!add(suspensions, view); /* the file has no more than there may be */
}

static void load(struct suspensions *suspensions)
{
    char *aside = memory_format("%s.damaged", suspensions->path);
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, SUSPENSIONS_FILE_MAX + 65536);
    result = file_read(suspensions->path, &text, &fault);
    if (result == RESULT_OK)
        result = suspensions_file_parse(bytes_view(&text), on_read, suspensions, &fault);
    bytes_fini(&text);
    if (result != RESULT_OK && result != RESULT_NOT_FOUND) {
        (void)rename(suspensions->path, aside);
        log_message(LOG_ERROR, "deliver.suspensions_unreadable",
                    "nothing is suspended by operators any more: %s: %s; it is kept as %s",
                    suspensions->path, fault.text, aside);
    }
    memory_free(aside);
}

struct suspensions *suspensions_new(struct loop *loop, struct offload *offload,
                                    const char *path, suspension_view_fn *on_ended,
                                    void *owner)
{
    struct suspensions *suspensions = NEW(struct suspensions);

    suspensions->loop = loop;
    suspensions->offload = offload;
    suspensions->path = memory_text(path);
    suspensions->on_ended = on_ended;
    suspensions->owner = owner;
    for (int i = 0; i < REACH_COUNT; i++)
        suspensions->maps[i] = map_new(SUSPENSIONS_MAX);
    list_init(&suspensions->list);
    list_init(&suspensions->waits);
    timer_init(&suspensions->timer, loop, on_time, suspensions);
    if (path)
        load(suspensions);
    return suspensions;
}

/* Who still waits is told nothing: it goes with us. */
void suspensions_free(struct suspensions *suspensions)
{
    struct link *link;

    deferred_cancel(suspensions->loop, &suspensions->turn);
    if (suspensions->job) { /* it may still write: beside, and no further */
        (void)pthread_mutex_lock(&suspensions->writing->lock);
        suspensions->writing->is_outdated = true;
        (void)pthread_mutex_unlock(&suspensions->writing->lock);
        job_cancel(suspensions->job); /* its text is dropped by the job */
    }
    if (suspensions->path &&
        (suspensions->job || suspensions->done != suspensions->change)) {
        struct writing *writing = print(suspensions, ".end");

        write_text(writing);
        end(suspensions, writing->has_failed ? writing->fault.text : NULL);
        writing_free(writing);
    }
    timer_cancel(&suspensions->timer);
    while ((link = list_first(&suspensions->waits)))
        list_remove(&suspensions->waits, link);
    while ((link = list_first(&suspensions->list)))
        suspension_free(suspensions, CONTAINER_OF(link, struct suspension, link));
    for (int i = 0; i < REACH_COUNT; i++)
        map_free(suspensions->maps[i]);
    memory_free(suspensions->path);
    memory_free(suspensions);
}
