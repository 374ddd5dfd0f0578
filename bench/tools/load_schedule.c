/* Which message comes when, and how large; what was measured. */
#include "load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { NS_PER_US = 1000 };
static const double NS_PER_S = 1e9;

int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double cpu_seconds(void)
{
    struct rusage used;

    (void)getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* ---- samples ---- */

void samples_add(struct samples *samples, int64_t ns)
{
    int64_t us = ns / NS_PER_US;

    if (samples->count == samples->room) {
        samples->room = samples->room ? samples->room * 2 : 4096;
        samples->values = realloc(samples->values, samples->room * sizeof *samples->values);
        MUST(samples->values, "no memory");
    }
    if (us < 0)
        us = 0;
    samples->values[samples->count++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static int compare(const void *a, const void *b)
{
    const uint32_t *left = a;
    const uint32_t *right = b;

    return (*left > *right) - (*left < *right);
}

/* Nearest rank: a value that was seen. */
static uint32_t quantile(const struct samples *samples, double share)
{
    size_t rank = (size_t)ceil(share * (double)samples->count);

    if (samples->count == 0)
        return 0;
    return samples->values[rank ? rank - 1 : 0];
}

void samples_print(struct samples *samples)
{
    if (samples->count > 0)
        qsort(samples->values, samples->count, sizeof *samples->values, compare);
    (void)printf("{\"p50\":%u,\"p90\":%u,\"p99\":%u,\"p999\":%u,\"max\":%u}",
                 quantile(samples, 0.5), quantile(samples, 0.9), quantile(samples, 0.99),
                 quantile(samples, 0.999), quantile(samples, 1));
}

/* ---- sizes ---- */

/* The number-th value of a fixed sequence (SplitMix64), in [0, 1): message 17 has the same size
 * in each run. */
static double fixed_random(uint64_t number)
{
    uint64_t x = (number + 1) * 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (double)(x >> 11) * 0x1p-53;
}

static size_t size_of(const struct options *options, uint64_t number)
{
    double place;

    if (options->size > 0)
        return options->size;
    place = fixed_random(2 * number + 1);
    if (fixed_random(2 * number) < 0.01)
        return (size_t)(1e6 * pow(5, place));
    return (size_t)(5e3 * pow(15, place));
}

/* ---- when ---- */

void schedule_begin(struct schedule *schedule)
{
    schedule->began_ns = now_ns();
    schedule->last_ns = schedule->began_ns;
    schedule->cpu_began_s = cpu_seconds();
}

static int64_t due_ns(const struct schedule *schedule, uint64_t number)
{
    return schedule->began_ns +
           (int64_t)((double)number / schedule->options->rate * NS_PER_S);
}

static int64_t end_ns(const struct schedule *schedule)
{
    return schedule->began_ns + (int64_t)(schedule->options->seconds * NS_PER_S);
}

/* An open loop has its number of messages beforehand: those that are late still come. */
bool schedule_is_over(const struct schedule *schedule)
{
    const struct options *options = schedule->options;

    if (schedule->began_ns == 0)
        return false;
    if (options->messages > 0 && schedule->started >= options->messages)
        return true;
    if (options->seconds <= 0)
        return false;
    if (options->rate > 0)
        return due_ns(schedule, schedule->started) >= end_ns(schedule);
    return now_ns() >= end_ns(schedule);
}

int64_t schedule_next_ns(const struct schedule *schedule)
{
    if (schedule->began_ns == 0 || schedule->options->rate <= 0 ||
        schedule_is_over(schedule))
        return 0;
    return due_ns(schedule, schedule->started);
}

bool schedule_take(struct schedule *schedule, struct message *message)
{
    int64_t now = now_ns();

    if (schedule->began_ns == 0 || schedule_is_over(schedule))
        return false;
    message->due_ns = now;
    if (schedule->options->rate > 0) {
        message->due_ns = due_ns(schedule, schedule->started);
        if (message->due_ns > now)
            return false;
        samples_add(&schedule->waiting, now - message->due_ns);
    }
    message->number = schedule->started++;
    message->size = size_of(schedule->options, message->number);
    return true;
}
