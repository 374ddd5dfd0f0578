/* A job may run later than the store lives (the pool is drained at the very end): it holds
 * a reference and finds the store closed. */
#include "reading.h"

#include "smtpd/base/memory.h"

enum { AGAIN_MS = 5 };

/* What the pool thread sees. */
struct box {
    struct store *store;
    const struct reading_kind *kind;
    void *input;
};

struct reading {
    struct link link; /* in `running` or `waiting` */
    struct reading_line *line;
    struct list *list;
    struct box *box;
    struct job *job;
    void *owner;
};

struct reading_line {
    struct loop *loop;
    struct offload *offload;
    struct store *store;
    struct list running;
    struct list waiting;
    struct timer timer;
};

static void run(void *argument)
{
    struct box *box = argument;

    if (!store_enter(box->store))
        return;
    box->kind->run(box->store, box->input);
    store_leave(box->store);
}

static void box_free(struct box *box)
{
    store_drop(box->store);
    memory_free(box);
}

static void drop(void *argument)
{
    struct box *box = argument;

    box->kind->drop(box->input);
    box_free(box);
}

static void on_end(void *owner, void *argument)
{
    struct reading *reading = owner;
    struct box *box = argument;
    const struct reading_kind *kind = box->kind;
    void *input = box->input;
    void *reading_owner = reading->owner;

    list_remove(reading->list, &reading->link);
    memory_free(reading);
    box_free(box);
    kind->on_end(reading_owner, input);
}

static bool try_start(struct reading *reading)
{
    struct reading_line *line = reading->line;

    if (job_start(line->offload, POOL_FILE, run, on_end, drop, reading->box, reading,
                  &reading->job) != RESULT_OK)
        return false;
    reading->list = &line->running;
    list_push_back(reading->list, &reading->link);
    return true;
}

static void on_timer(void *owner)
{
    struct reading_line *line = owner;
    struct link *link;

    while ((link = list_pop_front(&line->waiting)))
        if (!try_start(CONTAINER_OF(link, struct reading, link))) {
            list_push_front(&line->waiting, link);
            timer_start(&line->timer, AGAIN_MS);
            break;
        }
}

struct reading *reading_start(struct reading_line *line, const struct reading_kind *kind,
                              void *input, void *owner)
{
    struct reading *reading = NEW(struct reading);

    reading->line = line;
    reading->owner = owner;
    reading->box = NEW(struct box);
    reading->box->store = line->store;
    reading->box->kind = kind;
    reading->box->input = input;
    store_hold(line->store);
    if (line->waiting.count == 0 && try_start(reading))
        return reading;
    reading->list = &line->waiting;
    list_push_back(reading->list, &reading->link);
    if (!timer_is_waiting(&line->timer))
        timer_start(&line->timer, AGAIN_MS);
    return reading;
}

void reading_cancel(struct reading *reading)
{
    list_remove(reading->list, &reading->link);
    if (reading->list == &reading->line->running)
        job_cancel(reading->job);
    else
        drop(reading->box);
    memory_free(reading);
}

struct reading_line *reading_line_new(struct loop *loop, struct offload *offload,
                                      struct store *store)
{
    struct reading_line *line = NEW(struct reading_line);

    line->loop = loop;
    line->offload = offload;
    line->store = store;
    list_init(&line->running);
    list_init(&line->waiting);
    timer_init(&line->timer, loop, on_timer, line);
    return line;
}

void reading_line_free(struct reading_line *line)
{
    struct link *link;

    timer_cancel(&line->timer);
    while ((link = list_first(&line->running)) || (link = list_first(&line->waiting)))
        reading_cancel(CONTAINER_OF(link, struct reading, link));
    memory_free(line);
}
