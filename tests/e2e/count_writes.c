/* LD_PRELOAD: adds up what the process writes to regular files, in whole pages of 4 KiB, as the
 * disk sees them; not the log, which is the one file that it appends to. COUNT_FILE holds the sum as one 64-bit number, mapped, so that it survives a
 * kill -9. The kernel's own figure (write_bytes in /proc/PID/io) is of no use for small writes:
 * it counts the whole folio of the page cache, which may be many pages. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096 };

static _Atomic uint64_t nowhere;
static _Atomic uint64_t *sum = &nowhere;

__attribute__((constructor)) static void map_sum(void)
{
    const char *path = getenv("COUNT_FILE");
    int fd = path ? (int)openat(AT_FDCWD, path, O_RDWR) : -1;
    void *map = fd < 0 ? MAP_FAILED
                       : mmap(NULL, sizeof *sum, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (map == MAP_FAILED)
        _exit(99);
    sum = map;
    close(fd);
}

static ssize_t count(int fd, ssize_t written, off_t at)
{
    struct stat about;

    if (written <= 0 || fstat(fd, &about) != 0 || !S_ISREG(about.st_mode) ||
        fcntl(fd, F_GETFL) & O_APPEND)
        return written;
    if (at < 0)
        at = lseek(fd, 0, SEEK_CUR) - written;
    *sum += (uint64_t)((at + written + PAGE - 1) / PAGE - at / PAGE) * PAGE;
    return written;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t length)
{
    return count(fd, REAL(write)(fd, data, length), -1);
}

ssize_t writev(int fd, const struct iovec *parts, int parts_count)
{
    return count(fd, REAL(writev)(fd, parts, parts_count), -1);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    return count(fd, REAL(pwrite)(fd, data, length, at), at);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t at)
{
    return count(fd, REAL(pwrite64)(fd, data, length, at), at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int parts_count, off_t at)
{
    return count(fd, REAL(pwritev)(fd, parts, parts_count, at), at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int parts_count, off_t at)
{
    return count(fd, REAL(pwritev64)(fd, parts, parts_count, at), at);
}
