/* See source.h. The file is written by one job at a time, as soon as a block of a warm-up is wanted: it is
 * small, and a message of the block waits for it. */
#include "source.h"

#include "clock.h"

#include "pool.h"
#include "smtpd/base/file.h"
#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"
#include "smtpd/net/dialer.h"
#include "warm_up_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { ASIDE_MS = 30000, WRITE_AGAIN_MS = 5000, PATH_BYTES = 4096, FORGET_DAYS = 30 };

struct writing { /* the input of a job */
    char path[PATH_BYTES];
    char beside[PATH_BYTES + 8];
    struct bytes text;
    bool has_failed;
    struct fault fault;
};

struct sources {
    struct deliver *deliver;
    struct map *map;
    char *path; /* NULL: nothing is kept */
    struct job *job;
    struct timer again; /* it could not be written */
    struct timer look;  /* after those set aside */
    bool is_kept;       /* it was written in this process */
    bool is_wanted;     /* once more, when the job is over */
    bool is_broken;     /* said already */
    bool is_lost;       /* the file was not sound: nobody knows what was sent today */
    size_t gone_count;  /* that were read from the file, and had left the settings */
};

/* ---- the file ---- */

/* Both names are the job's own: at the end of the process an older one may still be written, which gives
 * no less away than the last. */
static void write_file(void *input)
{
    struct writing *writing = input;
    enum result result =
        file_write(writing->beside, bytes_view(&writing->text), &writing->fault);

    if (result == RESULT_OK && rename(writing->beside, writing->path) != 0)
        result = fault_set(&writing->fault, RESULT_IO, "%s", strerror(errno));
    if (result == RESULT_OK) /* what it promises must outlive the power */
        result = file_sync_parent(writing->path, &writing->fault);
    writing->has_failed = result != RESULT_OK;
}

static void writing_free(void *input)
{
    struct writing *writing = input;

    bytes_fini(&writing->text);
    memory_free(writing);
}

/* The day of its last message does not tell: one that is warm has none any more. */
static bool is_forgotten(const struct source *source)
{
    return source->gone_day > 0 &&
           source->gone_day + FORGET_DAYS <= warm_up_day(deliver_now(source->deliver));
}

static void fail(struct writing *writing, const char *why)
{
    writing->has_failed = true;
    (void)fault_set(&writing->fault, RESULT_IO, "%s", why);
}

/* Ahead of what was sent, or, at the end of the process, exactly that. */
static struct writing *format(const struct sources *sources, bool is_last)
{
    struct writing *writing = NEW(struct writing);
    struct sealed sealed;
    struct source *source;
    size_t position = 0;
    enum result added;

    (void)snprintf(writing->path, sizeof writing->path, "%s", sources->path);
    (void)snprintf(writing->beside, sizeof writing->beside, "%s%s", sources->path,
                   is_last ? ".end" : ".new");
    bytes_init(&writing->text, WARM_UP_FILE_MAX);
    added = warm_up_file_begin(&writing->text, &sealed);
    while (added == RESULT_OK && (source = map_next(sources->map, &position, NULL))) {
        const struct warm_up *warm = &source->warm;
        uint32_t wanted = is_last ? 0 : warm_up_wants(warm);
        struct warm_up_line line = {
            .day = warm->day, .step = warm->step, .gone_day = source->gone_day};

        source->asked = wanted > warm->kept ? wanted : warm->kept;
        source->asked_day = warm->day;
        line.used = is_last ? warm->used : source->asked;
        memcpy(line.name, source->name, sizeof line.name);
        if (warm->day > 0 && !is_forgotten(source))
            added = warm_up_file_add(&writing->text, &sealed, &line);
    }
    if (added == RESULT_OK)
        added = warm_up_file_end(&writing->text, &sealed);
    if (added != RESULT_OK)
        fail(writing, "it would be too large");
    return writing;
}

static void start_writing(struct sources *sources);

/* A day may have begun meanwhile: then it was of the last one. */
static void take_kept(const struct sources *sources)
{
    struct source *source;
    size_t position = 0;

    while ((source = map_next(sources->map, &position, NULL))) {
        if (source->asked_day == source->warm.day && source->asked > source->warm.kept)
            source->warm.kept = source->asked;
        source->asked = 0;
        if (!source->is_aside) /* then its mail waits for its address */
            source_wake(source);
    }
}

static void end_writing(struct sources *sources, struct writing *writing)
{
    bool has_failed = writing->has_failed;

    if (has_failed && !sources->is_broken)
        log_message(LOG_ERROR, "deliver.warm_up_unwritable",
                    "what sources send of their warm-up cannot be written to %s, so they "
                    "send nothing: %s",
                    sources->path, writing->fault.text);
    sources->is_broken = has_failed;
    sources->is_kept |= !has_failed;
    if (!has_failed)
        take_kept(sources);
    if (has_failed)
        timer_start(&sources->again, WRITE_AGAIN_MS);
}

static void on_written(void *owner, void *input)
{
    struct sources *sources = owner;

    sources->job = NULL;
    end_writing(sources, input);
    writing_free(input);
    if (sources->is_wanted) /* and if this one failed, in a moment */
        start_writing(sources);
}

static void start_writing(struct sources *sources)
{
    struct writing *writing;

    sources->is_wanted = sources->job != NULL;
    if (sources->job || timer_is_waiting(&sources->again))
        return;
    writing = format(sources, false);
    if (!writing->has_failed &&
        job_start(sources->deliver->rooms.offload, POOL_FILE, write_file, on_written,
                  writing_free, writing, sources, &sources->job) == RESULT_OK)
        return;
    if (!writing->has_failed)
        fail(writing, "too many jobs are waiting");
    end_writing(sources, writing);
    writing_free(writing);
}

static void on_again(void *owner)
{
    start_writing(owner);
}

static void keep_ahead(struct source *source)
{
    struct sources *sources = source->deliver->sources;
    uint32_t wanted = warm_up_wants(&source->warm);

    if (wanted == 0)
        return;
    if (sources->path)
        start_writing(sources);
    else
        source->warm.kept = wanted;
}

/* ---- its warm-up ---- */

static void note_full(struct source *source)
{
    struct log_line line;

    if (source->is_full)
        return;
    source->is_full = true;
    log_start(&line, LOG_NOTICE, "deliver.warm_up_full");
    log_text(&line, "source", source->name);
    log_number(&line, "day", (int64_t)source->warm.step + 1);
    log_number(&line, "sent", source->warm.used);
    log_text(&line, "message", "it has sent what its warm-up allows today");
    log_end(&line);
    source_wake(source); /* what waited for the rest of it waits longer */
}

static enum source_state look_warm(struct source *source, int64_t *until_ms)
{
    int64_t now_ms = deliver_now(source->deliver);
    enum warm_up_state state = warm_up_look(&source->warm, now_ms);

    if (state == WARM_UP_IS_FULL) {
        *until_ms = warm_up_next_day_ms(&source->warm, now_ms);
        note_full(source);
        return SOURCE_IS_FULL;
    }
    source->is_full = false;
    if (state == WARM_UP_GOES)
        return SOURCE_GOES;
    keep_ahead(source);
    return warm_up_look(&source->warm, now_ms) == WARM_UP_GOES ? SOURCE_GOES : SOURCE_WAITS;
}

enum source_state source_look(struct source *source, int64_t *until_ms)
{
    *until_ms = 0;
    if (!source->is_known || source->is_aside) {
        *until_ms = source->aside_until_ms;
        return SOURCE_IS_ASIDE;
    }
    return look_warm(source, until_ms);
}

void source_promise(struct source *source)
{
    warm_up_promise(&source->warm);
    keep_ahead(source);
}

void source_break(struct source *source)
{
    warm_up_break(&source->warm);
    source_wake(source);
}

bool source_may_take(struct source *source, bool was_promised)
{
    if (warm_up_may_take(&source->warm, was_promised, deliver_now(source->deliver)))
        return true;
    keep_ahead(source);
    return false;
}

bool source_take(struct source *source, bool was_promised)
{
    int64_t now_ms = deliver_now(source->deliver);

    if (!source_may_take(source, was_promised) ||
        !warm_up_take(&source->warm, was_promised, now_ms))
        return false;
    if (was_promised)
        warm_up_break(&source->warm);
    keep_ahead(source);
    if (warm_up_look(&source->warm, now_ms) == WARM_UP_IS_FULL)
        note_full(source);
    return true;
}

void source_wake(struct source *source)
{
    struct link *link;

    while ((link = list_pop_front(&source->waiting)))
        destination_run_later(CONTAINER_OF(link, struct pool_member, waiting)->head);
}

/* ---- its address ---- */

static void log_state(const struct source *source, enum log_level level, const char *event)
{
    char address[IP_TEXT];
    struct log_line line;

    ip_print(&source->ip, address);
    log_start(&line, level, event);
    log_text(&line, "source", source->name);
    log_text(&line, "address", address);
    log_text(&line, "message", source->is_aside ? source->fault : NULL);
    log_end(&line);
}

static bool can_be_bound(const struct source *source)
{
    return dial_source_check(&source->ip) == RESULT_OK;
}

static void set_aside(struct source *source)
{
    struct sources *sources = source->deliver->sources;
    bool is_new = !source->is_aside;

    source->is_aside = true;
    source->aside_until_ms = deliver_now(source->deliver) + ASIDE_MS;
    (void)snprintf(source->fault, sizeof source->fault,
                   "its address is none of this machine: nothing is sent from it until it "
                   "is (looked at every %d s)",
                   ASIDE_MS / 1000);
    if (is_new) {
        log_state(source, LOG_WARNING, "deliver.source_set_aside");
        source_wake(source); /* what waited for it a moment waits longer */
    }
    if (!timer_is_waiting(&sources->look))
        timer_start(&sources->look, ASIDE_MS);
}

static void judge(struct source *source)
{
    bool was_aside = source->is_aside;

    if (!can_be_bound(source)) {
        set_aside(source);
        return;
    }
    source->is_aside = false;
    source->aside_until_ms = 0;
    if (was_aside)
        log_state(source, LOG_NOTICE, "deliver.source_restored");
    source_wake(source);
}

bool source_blame(struct source *source)
{
    if (can_be_bound(source))
        return false;
    set_aside(source);
    return true;
}

static void on_look(void *owner)
{
    struct sources *sources = owner;
    struct source *source;
    size_t position = 0;

    while ((source = map_next(sources->map, &position, NULL)))
        if (source->is_known && source->is_aside)
            judge(source);
}

/* ---- life ---- */

void sources_move_clock(struct sources *sources, int64_t by_ms)
{
    struct source *source;
    size_t position = 0;

    while ((source = map_next(sources->map, &position, NULL)))
        clock_move(&source->aside_until_ms, by_ms);
}

struct source *source_find(const struct sources *sources, const char *name)
{
    return map_get(sources->map, slice_of(name));
}

static struct source *find_or_make(struct sources *sources, const char *name)
{
    struct source *source = source_find(sources, name);

    if (source)
        return source;
    source = NEW(struct source);
    source->deliver = sources->deliver;
    (void)snprintf(source->name, sizeof source->name, "%s", name);
    list_init(&source->waiting);
    if (map_set(sources->map, slice_of(name), source) == RESULT_OK)
        return source;
    memory_free(source);
    log_message(LOG_ERROR, "deliver.sources_too_many",
                "more than %d names of sources were in the settings since the start: "
                "nothing is sent from %s before a restart",
                SOURCES_KNOWN_MAX, name);
    return NULL;
}

/* It may have sent all of its day: it begins anew tomorrow. */
static void assume_full(struct source *source)
{
    source->warm.day = warm_up_day(deliver_now(source->deliver));
    source->warm.step = 0;
    source->warm.used = source->warm.kept = UINT32_MAX;
}

/* Receivers have forgotten it too. */
static void forget_warm_up(struct source *source)
{
    source->warm.day = 0;
    source->warm.step = source->warm.used = source->warm.kept = 0;
}

/* Who came and who went is on disk soon: the days of an absence count over restarts. */
static void note_presence(struct sources *sources)
{
    struct source *source;
    size_t position = 0;
    bool has_changed = false;

    while ((source = map_next(sources->map, &position, NULL))) {
        if (source->is_known == (source->gone_day == 0))
            continue;
        has_changed |= source->warm.day > 0;
        if (is_forgotten(source))
            forget_warm_up(source);
        source->gone_day = source->is_known ? 0 : warm_up_day(deliver_now(source->deliver));
    }
    if (has_changed && sources->path)
        start_writing(sources);
}

void sources_apply(struct sources *sources)
{
    const struct deliver_settings *values = &sources->deliver->settings->values;
    struct source *source;
    size_t position = 0;

    while ((source = map_next(sources->map, &position, NULL))) {
        source->is_known = false;
        source->warm.schedule = NULL; /* it was of the old settings */
        source->warm.days = 0;
    }
    for (size_t i = 0; i < values->source_count; i++) {
        const struct deliver_source *from = &values->sources[i];

        source = find_or_make(sources, from->name);
        if (!source)
            continue;
        source->is_known = true;
        source->ip = from->ip;
        source->weight = from->weight;
        source->warm.schedule = from->warm_up;
        source->warm.days = from->warm_up_count;
        if (sources->is_lost && from->warm_up_count > 0)
            assume_full(source);
        judge(source);
    }
    sources->is_lost = false;
    note_presence(sources);
}

static void restore(void *owner, const struct warm_up_line *line)
{
    struct sources *sources = owner;
    struct source *source;

    if (line->gone_day > 0 && sources->gone_count++ >= SOURCES_GONE_MAX)
        return; /* their names would leave no room for new ones */
    source = find_or_make(sources, line->name);
    if (!source)
        return;
    source->gone_day = line->gone_day;
    source->warm.day = line->day;
    source->warm.step = line->step;
    source->warm.used = source->warm.kept = line->used;
}

static void load(struct sources *sources)
{
    struct bytes text;
    struct fault fault;
    enum result result;

    bytes_init(&text, WARM_UP_FILE_MAX);
    result = file_read(sources->path, &text, &fault);
    if (result == RESULT_OK)
        result = warm_up_file_parse(bytes_view(&text), restore, sources, &fault);
    bytes_fini(&text);
    sources->is_lost = result != RESULT_OK && result != RESULT_NOT_FOUND;
    if (sources->is_lost)
        log_message(LOG_ERROR, "deliver.warm_up_unreadable",
                    "what sources have sent of their warm-up is not known: those with one "
                    "send nothing more today, and begin anew tomorrow: %s: %s",
                    sources->path, fault.text);
}

struct sources *sources_new(struct deliver *deliver)
{
    struct sources *sources = NEW(struct sources);
    const char *path = deliver->rooms.warm_up_path;

    sources->deliver = deliver;
    sources->map = map_new(SOURCES_KNOWN_MAX);
    timer_init(&sources->again, deliver->rooms.loop, on_again, sources);
    timer_init(&sources->look, deliver->rooms.loop, on_look, sources);
    if (!path)
        return sources;
    sources->path = memory_text(path);
    load(sources);
    return sources;
}

static void write_last(const struct sources *sources)
{
    struct writing *writing = format(sources, true);

    if (!writing->has_failed)
        write_file(writing);
    writing_free(writing); /* what is on disk is no less, if it could not be written */
}

void sources_free(struct sources *sources)
{
    struct source *source;
    size_t position = 0;

    timer_cancel(&sources->again);
    timer_cancel(&sources->look);
    if (sources->job)
        job_cancel(sources->job);
    if (sources->path && sources->is_kept)
        write_last(sources);
    while ((source = map_next(sources->map, &position, NULL)))
        memory_free(source);
    map_free(sources->map);
    memory_free(sources->path);
    memory_free(sources);
}

/* ---- the door ---- */

void deliver_sources(const struct deliver *deliver, deliver_source_fn *each, void *owner)
{
    const struct deliver_settings *values =
        deliver->settings ? &deliver->settings->values : NULL;

    for (size_t i = 0; values && i < values->source_count; i++) {
        struct source *source = source_find(deliver->sources, values->sources[i].name);
        struct deliver_source_state state;

        if (!source)
            continue;
        (void)warm_up_look(&source->warm, deliver_now(deliver)); /* of this day */
        state =
            (struct deliver_source_state){.name = source->name,
                                          .ip = source->ip,
                                          .is_aside = source->is_aside,
                                          .until_ms = source->aside_until_ms,
                                          .fault = source->fault,
                                          .is_warming = warm_up_is_limited(&source->warm),
                                          .connections = source->connections,
                                          .result = source->result};
        if (state.is_warming) {
            state.day = source->warm.step + 1;
            state.quota = warm_up_quota(&source->warm);
            state.used = source->warm.used;
        }
        each(owner, &state);
    }
}
