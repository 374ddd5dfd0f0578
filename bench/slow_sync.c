/* LD_PRELOAD: a disk whose every sync takes longer. SLOW_SYNC_US is how many microseconds are added
 * to each fdatasync(), fsync(), msync() with MS_SYNC, and each write to a descriptor that was opened
 * with O_DSYNC or O_SYNC. The time is spent behind the call, as a slow disk would spend it, asleep.
 * SLOW_SYNC_COUNT names a file that gets, at the end of the process, how many syncs there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct timespec added;
static const char *count_path;
static atomic_ulong syncs;

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("SLOW_SYNC_US");
    long us = text ? strtol(text, NULL, 10) : 0;

    added = (struct timespec){us / 1000000, us % 1000000 * 1000};
    count_path = getenv("SLOW_SYNC_COUNT");
}

__attribute__((destructor)) static void end(void)
{
    FILE *file = count_path ? fopen(count_path, "w") : NULL;

    if (!file)
        return;
    (void)fprintf(file, "%lu\n", atomic_load(&syncs));
    (void)fclose(file);
}

static void spend(void)
{
    struct timespec left = added;
    int before = errno;

    atomic_fetch_add(&syncs, 1);
    if (left.tv_sec || left.tv_nsec)
        while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
        }
    errno = before;
}

static void spend_if_synced(int fd)
{
    int before = errno;
    int flags = fcntl(fd, F_GETFL);

    errno = before;
    if (flags >= 0 && (flags & O_DSYNC)) /* a part of O_SYNC */
        spend();
}

/* The real function, once for each. */
#define REAL(type, name)                                                                   \
    static type real;                                                                      \
    if (!real)                                                                             \
    real = (type)dlsym(RTLD_NEXT, name)

typedef int sync_fn(int);
typedef int msync_fn(void *, size_t, int);
typedef ssize_t write_fn(int, const void *, size_t);
typedef ssize_t pwrite_fn(int, const void *, size_t, off_t);
typedef ssize_t writev_fn(int, const struct iovec *, int);
typedef ssize_t pwritev_fn(int, const struct iovec *, int, off_t);

int fdatasync(int fd)
{
    REAL(sync_fn *, "fdatasync");
    int result = real(fd);

    spend();
    return result;
}

int fsync(int fd)
{
    REAL(sync_fn *, "fsync");
    int result = real(fd);

    spend();
    return result;
}

int msync(void *at, size_t length, int flags)
{
    REAL(msync_fn *, "msync");
    int result = real(at, length, flags);

    if (flags & MS_SYNC)
        spend();
    return result;
}

ssize_t write(int fd, const void *data, size_t length)
{
    REAL(write_fn *, "write");
    ssize_t result = real(fd, data, length);

    spend_if_synced(fd);
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(writev_fn *, "writev");
    ssize_t result = real(fd, parts, count);

    spend_if_synced(fd);
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    REAL(pwrite_fn *, "pwrite");
    ssize_t result = real(fd, data, length, at);

    spend_if_synced(fd);
    return result;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t at)
{
    REAL(pwrite_fn *, "pwrite64");
    ssize_t result = real(fd, data, length, at);

    spend_if_synced(fd);
    return result;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    REAL(pwritev_fn *, "pwritev");
    ssize_t result = real(fd, parts, count, at);

    spend_if_synced(fd);
    return result;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at)
{
    REAL(pwritev_fn *, "pwritev64");
    ssize_t result = real(fd, parts, count, at);

    spend_if_synced(fd);
    return result;
}
