/* A stuck disk may hold the file pool: the values then stay as they were, and `taken_ms`
 * tells their age. One job at a time. */
#include "sample.h"

#include "smtpd/base/memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EVERY_MS = 5000, FIRST_MS = 1, LINE = 256, PATH = 256, LINES_MAX = 200 };

struct sample {
    struct loop *loop;
    struct offload *offload;
    struct timer timer;
    struct job *job;
    struct sample_values values;
};

/* The number behind `name` in a line of it, or false. */
static bool number_of(const char *line, const char *name, uint64_t *number)
{
    size_t length = strlen(name);

    if (strncmp(line, name, length) != 0)
        return false;
    *number = strtoull(line + length, NULL, 10);
    return true;
}

static void take_status_line(const char *line, struct sample_values *values)
{
    uint64_t number = 0;

    if (number_of(line, "RssAnon:", &number))
        values->anonymous_bytes = number * 1024;
    else if (number_of(line, "RssFile:", &number))
        values->file_bytes = number * 1024;
    else if (number_of(line, "Threads:", &number))
        values->threads = number;
}

static void take_sockstat_line(const char *line, struct sample_values *values)
{
    const char *mem = strncmp(line, "TCP:", 4) == 0 ? strstr(line, " mem ") : NULL;
    uint64_t pages = 0;

    if (mem && number_of(mem, " mem ", &pages))
        values->socket_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void read_lines(const char *folder, const char *name,
                       void (*take)(const char *line, struct sample_values *values),
                       struct sample_values *values)
{
    char path[PATH];
    char line[LINE];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "re");
    if (!file)
        return;
    for (int i = 0; i < LINES_MAX && fgets(line, sizeof line, file); i++)
        take(line, values);
    (void)fclose(file);
}

static uint64_t count_descriptors(const char *folder)
{
    char path[PATH];
    uint64_t count = 0;
    DIR *entries;
    int fd;

    /* Not by opendir(): ThreadSanitizer does not see that one take a descriptor, and would call
     * its end a race with whoever had the number before. */
    (void)snprintf(path, sizeof path, "%s/fd", folder);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    entries = fdopendir(fd);
    if (!entries) {
        (void)close(fd);
        return 0;
    }
    for (const struct dirent *entry = readdir(entries); entry; entry = readdir(entries))
        count += entry->d_name[0] != '.';
    (void)closedir(entries);
    return count > 0 ? count - 1 : 0; /* our own look into it */
}

void sample_take(const char *folder, struct sample_values *values)
{
    struct rlimit limit = {0};

    read_lines(folder, "status", take_status_line, values);
    read_lines(folder, "net/sockstat", take_sockstat_line, values);
    values->descriptors = count_descriptors(folder);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        values->descriptors_max = limit.rlim_cur;
}

static void run(void *input)
{
    sample_take("/proc/self", input);
}

static void drop(void *input)
{
    memory_free(input);
}

static void on_taken(void *owner, void *input)
{
    struct sample *sample = owner;

    sample->job = NULL;
    sample->values = *(struct sample_values *)input;
    sample->values.taken_ms = loop_wall_ms(sample->loop);
    memory_free(input);
    timer_start(&sample->timer, EVERY_MS);
}

static void on_timer(void *owner)
{
    struct sample *sample = owner;
    struct sample_values *values = NEW(struct sample_values);

    if (job_start(sample->offload, POOL_FILE, run, on_taken, drop, values, sample,
                  &sample->job) == RESULT_OK)
        return;
    memory_free(values);
    timer_start(&sample->timer, EVERY_MS);
}

struct sample *sample_new(struct loop *loop, struct offload *offload)
{
    struct sample *sample = NEW(struct sample);

    sample->loop = loop;
    sample->offload = offload;
    timer_init(&sample->timer, loop, on_timer, sample);
    timer_start(&sample->timer, FIRST_MS);
    return sample;
}

void sample_free(struct sample *sample)
{
    if (!sample)
        return;
    timer_cancel(&sample->timer);
    if (sample->job)
        job_cancel(sample->job);
    memory_free(sample);
}

const struct sample_values *sample_read(const struct sample *sample)
{
    return &sample->values;
}
