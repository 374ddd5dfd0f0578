/* LD_PRELOAD: writes down what the process does to the mailboxes, in order, and kills it or
 * fails at one call. SHIM_ROOT is the folder whose files count. SHIM_LOG gets a line per call
 * that succeeded: "mkdir PATH", "create PATH", "write PATH", "sync PATH", "rename PATH PATH", with
 * the paths below SHIM_ROOT, "." for itself. SHIM_FILE holds "WHAT HOW": at the first call of that name HOW is "before" or
 * "after" (kill -9 there) or "fail" (EIO); WHAT is one of the names above, or "syncdir" for the
 * sync of a folder. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* The part of a path below SHIM_ROOT, or NULL. */
static const char *below(const char *path)
{
    const char *root = getenv("SHIM_ROOT");
    size_t length = root ? strlen(root) : 0;

    if (!length || strncmp(path, root, length) != 0)
        return NULL;
    return path[length] == '/' ? path + length + 1 : path[length] == 0 ? "." : NULL;
}

static const char *path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    ssize_t length;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return NULL;
    path[length] = 0;
    return below(path);
}

static int is_planned(const char *what, const char *how)
{
    char text[64] = "", wanted[64];
    const char *path = getenv("SHIM_FILE");
    int fd = path ? (int)openat(AT_FDCWD, path, O_RDONLY) : -1;

    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) < 0)
            text[0] = 0;
        close(fd);
    }
    snprintf(wanted, sizeof wanted, "%s %s", what, how);
    return !strcmp(text, wanted);
}

static int before(const char *what)
{
    if (is_planned(what, "before"))
        kill(getpid(), SIGKILL);
    if (is_planned(what, "fail")) {
        errno = EIO;
        return -1;
    }
    return 0;
}

static void after(const char *kind, const char *what, const char *first, const char *second)
{
    char line[2 * PATH_MAX + 32];
    int fd = (int)openat(AT_FDCWD, getenv("SHIM_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    int length = snprintf(line, sizeof line, "%s %s%s%s\n", what, first, second ? " " : "",
                          second ? second : "");

    if (fd < 0 || REAL(write)(fd, line, (size_t)length) != length)
        abort();
    close(fd);
    if (is_planned(kind, "after"))
        kill(getpid(), SIGKILL);
}

static int opened(const char *path, int flags, int fd)
{
    const char *name = below(path);

    if (fd >= 0 && name && flags & O_CREAT)
        after("create", "create", name, NULL);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (below(path) && flags & O_CREAT && before("create"))
        return -1;
    return opened(path, flags, REAL(open)(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (below(path) && flags & O_CREAT && before("create"))
        return -1;
    return opened(path, flags, REAL(open64)(path, flags, mode));
}

ssize_t write(int fd, const void *data, size_t length)
{
    char path[PATH_MAX];
    const char *name = path_of(fd, path);
    ssize_t written;

    if (name && before("write"))
        return -1;
    written = REAL(write)(fd, data, length);
    if (name && written >= 0)
        after("write", "write", name, NULL);
    return written;
}

static int sync_with(int (*real)(int), int fd)
{
    char path[PATH_MAX];
    const char *name = path_of(fd, path);
    struct stat about;
    const char *kind;
    int result;

    if (!name)
        return real(fd);
    kind = fstat(fd, &about) == 0 && S_ISDIR(about.st_mode) ? "syncdir" : "sync";
    if (before(kind))
        return -1;
    result = real(fd);
    if (result == 0)
        after(kind, "sync", name, NULL);
    return result;
}

int fsync(int fd)
{
    return sync_with(REAL(fsync), fd);
}

int fdatasync(int fd)
{
    return sync_with(REAL(fdatasync), fd);
}

int mkdir(const char *path, mode_t mode)
{
    const char *name = below(path);
    int result = REAL(mkdir)(path, mode);

    if (name && result == 0)
        after("mkdir", "mkdir", name, NULL);
    return result;
}

int rename(const char *from, const char *to)
{
    const char *name = below(to);
    int result;

    if (name && before("rename"))
        return -1;
    result = REAL(rename)(from, to);
    if (name && result == 0)
        after("rename", "rename", below(from) ? below(from) : from, name);
    return result;
}
