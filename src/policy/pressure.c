/* Where the numbers stand depends on the cgroup's version and on how much of the tree the
 * process sees: in a container its own group may be the root. So the path that the kernel
 * tells is tried from its end to the root, and the least limit on the way holds. A stuck disk
 * may hold the file pool: then the last numbers stay. */
#include "smtpd/policy/pressure.h"

#include "smtpd/base/log.h"
#include "smtpd/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    EVERY_MS = 500,
    NEAR_MS = 25,
    FIRST_MS = 1,
    FILL_BYTES_PER_MS = 200000, /* more than mail on fast links fills */
    TRIM_MS = 10000,
    LINE = 4096,
    PATH = 4352,
    LINES_MAX = 400,
    PERCENT_CONNECTIONS = 70,
    PERCENT_MESSAGES = 80,
    PERCENT_BACK = 5
};

struct pressure {
    struct loop *loop;
    struct offload *offload;
    struct timer timer;
    struct job *job;
    struct pressure_settings settings;
    struct pressure_measure measure;
    enum pressure_level level;
    int64_t trimmed_ms;
};

struct look { /* what the pool works on */
    struct pressure_measure measure;
    bool trims;
};

/* ---- the kernel's files ---- */

/* The number behind the line that begins with `name`, or with an empty name the first one.
 * false: there is none ("max" is none). */
static bool read_number(const char *path, const char *name, uint64_t *number)
{
    size_t length = strlen(name);
    bool is_found = false;
    FILE *file = fopen(path, "re");
    char line[LINE];

    if (!file)
        return false;
    for (int i = 0; i < LINES_MAX && !is_found && fgets(line, sizeof line, file); i++) {
        char *from = line + length;
        char *end;

        if (strncmp(line, name, length) != 0)
            continue;
        *number = strtoull(from, &end, 10);
        is_found = end != from;
    }
    (void)fclose(file);
    return is_found;
}

static bool number_in(const char *folder, const char *file, const char *name,
                      uint64_t *number)
{
    char path[PATH];

    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
        return false;
    return read_number(path, name, number);
}

/* TCP buffers of the network namespace, where the cgroup does not tell its own. */
static uint64_t sockets_of_namespace(const char *proc)
{
    char path[PATH];
    char line[LINE];
    uint64_t pages = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "%.2000s/net/sockstat", proc);
    file = fopen(path, "re");
    if (!file)
        return 0;
    for (int i = 0; i < LINES_MAX && fgets(line, sizeof line, file); i++) {
        const char *mem = strncmp(line, "TCP:", 4) == 0 ? strstr(line, " mem ") : NULL;

        if (mem)
            pages = strtoull(mem + sizeof " mem " - 1, NULL, 10);
    }
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- the cgroup ---- */

struct group {
    bool is_v1; /* the memory controller is; else of v2 */
    char path[LINE];
};

static bool has_word(const char *list, size_t length, const char *word)
{
    size_t word_length = strlen(word);

    while (length > 0) {
        const char *comma = memchr(list, ',', length);
        size_t part = comma ? (size_t)(comma - list) : length;

        if (part == word_length && memcmp(list, word, part) == 0)
            return true;
        length -= comma ? part + 1 : part;
        list += comma ? part + 1 : part;
    }
    return false;
}

/* "4:memory:/some/path" or "0::/some/path". */
static void take_group_line(char *line, struct group *group, bool *has_v1)
{
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    bool is_v1;

    if (!path || *has_v1)
        return;
    is_v1 = has_word(controllers + 1, (size_t)(path - controllers - 1), "memory");
    if (!is_v1 && path != controllers + 1)
        return;
    path++;
    path[strcspn(path, "\n")] = '\0';
    *has_v1 = group->is_v1 = is_v1;
    (void)snprintf(group->path, sizeof group->path, "%s", path);
}

static void find_group(const char *proc, struct group *group)
{
    char name[PATH];
    char line[LINE];
    bool has_v1 = false;
    FILE *file;

    *group = (struct group){.is_v1 = false};
    (void)snprintf(name, sizeof name, "%.2000s/cgroup", proc);
    file = fopen(name, "re");
    if (!file)
        return;
    for (int i = 0; i < LINES_MAX && fgets(line, sizeof line, file); i++)
        take_group_line(line, group, &has_v1);
    (void)fclose(file);
}

/* Up the tree. `sockets` is what the lowest group tells of its own. */
static void climb(const char *root, struct group *group, struct pressure_measure *measure,
                  uint64_t *sockets, bool *has_sockets)
{
    const char *limit_file = group->is_v1 ? "memory.limit_in_bytes" : "memory.max";
    char folder[PATH];

    for (;;) {
        uint64_t limit;
        char *last;

        (void)snprintf(folder, sizeof folder, "%.200s%s", root, group->path);
        if (number_in(folder, limit_file, "", &limit) && limit < measure->limit_bytes)
            measure->limit_bytes = limit;
        if (!group->is_v1 && !*has_sockets)
            *has_sockets = number_in(folder, "memory.stat", "sock ", sockets);
        last = strrchr(group->path, '/');
        if (!last)
            return;
        *last = '\0';
    }
}

void pressure_take(const struct pressure_files *files, struct pressure_measure *measure)
{
    char root[PATH];
    uint64_t kilobytes = 0;
    uint64_t sockets = 0;
    bool has_sockets = false;
    struct group group;

    *measure = (struct pressure_measure){.limit_bytes = files->machine_bytes};
    (void)number_in(files->proc, "status", "RssAnon:", &kilobytes);
    find_group(files->proc, &group);
    (void)snprintf(root, sizeof root, "%.190s%s", files->cgroup,
                   group.is_v1 ? "/memory" : "");
    climb(root, &group, measure, &sockets, &has_sockets);
    if (!has_sockets)
        sockets = sockets_of_namespace(files->proc);
    measure->used_bytes = kilobytes * 1024 + sockets;
}

/* ---- what follows ---- */

static bool is_above(uint64_t used_bytes, uint64_t limit_bytes, unsigned percent)
{
    return used_bytes >= limit_bytes / 100 * percent;
}

enum pressure_level pressure_judge(enum pressure_level before, uint64_t used_bytes,
                                   uint64_t limit_bytes)
{
    static const unsigned percent[] = {
        [PRESSURE_CONNECTIONS] = PERCENT_CONNECTIONS,
        [PRESSURE_MESSAGES] = PERCENT_MESSAGES,
    };

    if (limit_bytes == 0)
        return PRESSURE_NONE;
    for (int level = PRESSURE_MESSAGES; level > PRESSURE_NONE; level--) {
        unsigned back = (int)before >= level ? PERCENT_BACK : 0;

        if (is_above(used_bytes, limit_bytes, percent[level] - back))
            return (enum pressure_level)level;
    }
    return PRESSURE_NONE;
}

int64_t pressure_pause_ms(uint64_t used_bytes, uint64_t limit_bytes)
{
    uint64_t first = limit_bytes / 100 * PERCENT_CONNECTIONS;
    uint64_t left_ms = used_bytes < first ? (first - used_bytes) / FILL_BYTES_PER_MS : 0;

    if (limit_bytes == 0 || left_ms > EVERY_MS)
        return EVERY_MS;
    return left_ms < NEAR_MS ? NEAR_MS : (int64_t)left_ms;
}

static uint64_t limit_of(const struct pressure *pressure)
{
    return pressure->settings.memory_bytes ? pressure->settings.memory_bytes
                                           : pressure->measure.limit_bytes;
}

static void log_change(const struct pressure *pressure, bool is_worse)
{
    static const char *const shed[] = {"nothing", "connections", "messages"};
    struct log_line line;

    log_start(&line, is_worse ? LOG_WARNING : LOG_NOTICE, "policy.memory_pressure");
    log_text(&line, "refused", shed[pressure->level]);
    log_number(&line, "used", (int64_t)pressure->measure.used_bytes);
    log_number(&line, "limit", (int64_t)limit_of(pressure));
    log_end(&line);
}

static void judge(struct pressure *pressure)
{
    enum pressure_level before = pressure->level;

    pressure->level =
        pressure_judge(before, pressure->measure.used_bytes, limit_of(pressure));
    if (pressure->level != before)
        log_change(pressure, pressure->level > before);
}

static void take_own(struct pressure_measure *measure)
{
    struct pressure_files files = {
        .proc = "/proc/self",
        .cgroup = "/sys/fs/cgroup",
        .machine_bytes =
            (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
    };

    pressure_take(&files, measure);
}

uint64_t pressure_limit(void)
{
    struct pressure_measure measure;

    take_own(&measure);
    return measure.limit_bytes;
}

static void run(void *input)
{
    struct look *look = input;

    if (look->trims)
        memory_trim();
    take_own(&look->measure);
}

static void drop(void *input)
{
    memory_free(input);
}

static void on_taken(void *owner, void *input)
{
    struct pressure *pressure = owner;

    pressure->job = NULL;
    pressure->measure = ((struct look *)input)->measure;
    memory_free(input);
    judge(pressure);
    timer_start(&pressure->timer,
                pressure_pause_ms(pressure->measure.used_bytes, limit_of(pressure)));
}

/* What was freed may still be ours: the allocator keeps it, and we would never get well. */
static bool wants_trim(struct pressure *pressure)
{
    int64_t now_ms = loop_now_ms(pressure->loop);

    if (pressure->level == PRESSURE_NONE || now_ms < pressure->trimmed_ms + TRIM_MS)
        return false;
    pressure->trimmed_ms = now_ms;
    return true;
}

static void on_timer(void *owner)
{
    struct pressure *pressure = owner;
    struct look *look = NEW(struct look);

    look->trims = wants_trim(pressure);
    if (job_start(pressure->offload, POOL_FILE, run, on_taken, drop, look, pressure,
                  &pressure->job) == RESULT_OK)
        return;
    memory_free(look);
    timer_start(&pressure->timer, EVERY_MS);
}

struct pressure *pressure_new(struct loop *loop, struct offload *offload)
{
    struct pressure *pressure = NEW(struct pressure);

    pressure->loop = loop;
    pressure->offload = offload;
    pressure->trimmed_ms = loop_now_ms(loop) - TRIM_MS;
    timer_init(&pressure->timer, loop, on_timer, pressure);
    timer_start(&pressure->timer, FIRST_MS);
    return pressure;
}

void pressure_free(struct pressure *pressure)
{
    if (!pressure)
        return;
    timer_cancel(&pressure->timer);
    if (pressure->job)
        job_cancel(pressure->job);
    memory_free(pressure);
}

void pressure_apply(struct pressure *pressure, const struct pressure_settings *settings)
{
    pressure->settings = *settings;
    judge(pressure);
}

enum pressure_level pressure_level(const struct pressure *pressure)
{
    return pressure ? pressure->level : PRESSURE_NONE;
}

void pressure_statistics(const struct pressure *pressure,
                         struct pressure_statistics *statistics)
{
    *statistics = (struct pressure_statistics){.level = PRESSURE_NONE};
    if (!pressure)
        return;
    statistics->used_bytes = pressure->measure.used_bytes;
    statistics->limit_bytes = limit_of(pressure);
    statistics->level = pressure->level;
}
