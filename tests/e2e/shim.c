/* LD_PRELOAD: counts, delays and fails the syncs of the queue's data file. SHIM_FILE holds one
 * line, read at every sync: "DELAY_MS FAIL" (FAIL: 0 none, 1 the data sync, 2 the meta write, 3 no
 * room is left, as some file systems find out at the data sync only).
 * SHIM_LOG gets a line per sync that returned: "sync" or "meta", with a time in ns. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static char is_meta[65536];

static void plan(int *delay_ms, int *fail)
{
    char text[64] = "0 0";
    const char *path = getenv("SHIM_FILE");
    int fd = path ? (int)openat(AT_FDCWD, path, O_RDONLY) : -1;

    if (fd >= 0) {
        ssize_t length = read(fd, text, sizeof text - 1);

        if (length > 0)
            text[length] = 0;
        close(fd);
    }
    *delay_ms = (int)strtol(text, NULL, 10);
    *fail = strchr(text, ' ') ? (int)strtol(strchr(text, ' '), NULL, 10) : 0;
}

static void note(const char *what)
{
    const char *path = getenv("SHIM_LOG");
    struct timespec now;
    char line[64];
    int fd = path ? (int)openat(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;

    if (fd < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(line, sizeof line, "%s %lld\n", what, now.tv_sec * 1000000000LL + now.tv_nsec);
    if (write(fd, line, strlen(line)) < 0)
        abort();
    close(fd);
}

static int before(const char *what, int which)
{
    int delay_ms, fail;

    plan(&delay_ms, &fail);
    if (delay_ms) {
        struct timespec pause = {delay_ms / 1000, delay_ms % 1000 * 1000000L};

        nanosleep(&pause, NULL);
    }
    if (fail == which || (fail == 3 && which == 1)) {
        note("failed");
        errno = fail == 3 ? ENOSPC : EIO;
        return -1;
    }
    (void)what;
    return 0;
}

int fdatasync(int fd)
{
    static int (*real)(int);
    int result;

    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (before("sync", 1))
        return -1;
    result = real(fd);
    note("sync");
    return result;
}

static int remember(const char *path, int flags, int fd)
{
    size_t length = strlen(path);

    if (fd >= 0 && fd < 65536)
        is_meta[fd] =
            length > 8 && !strcmp(path + length - 8, "data.mdb") && (flags & O_DSYNC);
    return fd;
}

int open(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (!real)
        real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    return remember(path, flags, real(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (!real)
        real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    return remember(path, flags, real(path, flags, mode));
}

static ssize_t meta_write(ssize_t (*real)(int, const void *, size_t, off_t), int fd,
                          const void *data, size_t length, off_t at)
{
    ssize_t result;

    if (fd < 0 || fd >= 65536 || !is_meta[fd])
        return real(fd, data, length, at);
    if (before("meta", 2))
        return -1;
    result = real(fd, data, length, at);
    note("meta");
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);

    if (!real)
        real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    return meta_write(real, fd, data, length, at);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);

    if (!real)
        real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    return meta_write(real, fd, data, length, at);
}
