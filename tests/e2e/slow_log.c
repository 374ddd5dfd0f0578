/* LD_PRELOAD: a log that comes late. Each write to a file whose name ends in "/log" waits first, for
 * SLOW_LOG_US microseconds: what a test sees elsewhere comes before the line that tells of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static long wait_us;

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("SLOW_LOG_US");

    wait_us = text ? strtol(text, NULL, 10) : 0;
}

static void wait_if_log(int fd)
{
    struct timespec left = {wait_us / 1000000, wait_us % 1000000 * 1000};
    int before = errno;
    char link[64], path[256];
    ssize_t length;

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path);
    if (length >= 4 && memcmp(path + length - 4, "/log", 4) == 0)
        while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
        }
    errno = before;
}

ssize_t write(int fd, const void *data, size_t length)
{
    static ssize_t (*real)(int, const void *, size_t);

    if (!real)
        real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    wait_if_log(fd);
    return real(fd, data, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    static ssize_t (*real)(int, const struct iovec *, int);

    if (!real)
        real = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
    wait_if_log(fd);
    return real(fd, parts, count);
}
