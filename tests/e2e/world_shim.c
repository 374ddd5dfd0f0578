/* LD_PRELOAD: a smaller world. MAP_MOST_BYTES: a shared map of a file that is larger gets ENOMEM,
 * as under a limit on address space. CLOCK_FILE holds a number of seconds, mapped, by which the
 * time of day is ahead. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const int64_t nothing;
static const volatile int64_t *ahead = &nothing;
static size_t map_most = SIZE_MAX;
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void read_plan(void)
{
    const char *most = getenv("MAP_MOST_BYTES");
    const char *path = getenv("CLOCK_FILE");
    int fd = path ? (int)openat(AT_FDCWD, path, O_RDONLY) : -1;
    void *map;

    if (most)
        map_most = strtoull(most, NULL, 10);
    if (fd < 0)
        return;
    map = REAL(mmap)(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        _exit(99);
    ahead = map;
    close(fd);
}

static int is_too_large(size_t length, int flags, int fd)
{
    if (fd < 0 || !(flags & MAP_SHARED) || length <= map_most)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (is_too_large(length, flags, fd))
        return MAP_FAILED;
    return REAL(mmap)(at, length, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (is_too_large(length, flags, fd))
        return MAP_FAILED;
    return REAL(mmap64)(at, length, protection, flags, fd, offset);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result;

    if (!real_clock)
        real_clock = REAL(clock_gettime);
    result = real_clock(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += *ahead;
    return result;
}
