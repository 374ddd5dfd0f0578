/* The lock of the data folder. flock, not a file that exists or not: the kernel gives it up
 * when the process dies, whatever kills it. The process id inside is for people only. The
 * file is never removed: two processes could then hold locks on two files of one name. */
#include "lock.h"

#include "smtpd/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { PATH_TEXT = 4096, PID_TEXT = 32 };

struct filesystem {
    unsigned long type;
    const char *name;
};

/* statfs(2). Memory maps, locks or syncs of these are not what LMDB needs; an overlay
 * vanishes with its container. */
static const struct filesystem unsafe[] = {
    {0x6969, "nfs"},        {0x517b, "smb"},         {0xff534d42, "cifs"},
    {0xfe534d42, "smb2"},   {0x794c7630, "overlay"}, {0x65735546, "fuse"},
    {0x01021997, "9p"},     {0x00c36400, "ceph"},    {0x5346414f, "afs"},
    {0x6b414653, "kafs"},   {0x73757245, "coda"},    {0x0bd00bd0, "lustre"},
    {0x564c, "ncp"},        {0xaad7aaea, "panfs"},   {0x47504653, "gpfs"},
    {0x19830326, "beegfs"},
};

const char *lock_unsafe_filesystem(unsigned long type)
{
    for (size_t i = 0; i < sizeof unsafe / sizeof unsafe[0]; i++)
        if (unsafe[i].type == type)
            return unsafe[i].name;
    return NULL;
}

static enum result check_folder(const char *data_dir, bool allow_network_filesystem,
                                struct fault *fault)
{
    struct statfs statistics;
    const char *name;
    bool is_overlay;

    if (mkdir(data_dir, 0700) != 0 && errno != EEXIST)
        return fault_set(fault, RESULT_IO, "cannot make the data folder %s: %s", data_dir,
                         strerror(errno));
    if (statfs(data_dir, &statistics) != 0)
        return fault_set(fault, RESULT_IO, "cannot look at the data folder %s: %s",
                         data_dir, strerror(errno));
    name = lock_unsafe_filesystem((unsigned long)statistics.f_type & 0xffffffffUL);
    is_overlay = name && strcmp(name, "overlay") == 0;
    if (name && !allow_network_filesystem)
        return fault_set(
            fault, RESULT_DENIED,
            "the data folder %s lies on a file system of type %s, which may lose "
            "mail; %s, or set queue.allow_network_filesystem = true",
            data_dir, name,
            is_overlay ? "it goes with its container: mount a volume there"
                       : "use a local disk");
    return RESULT_OK;
}

static enum result fault_held(const char *path, int fd, struct fault *fault)
{
    char pid[PID_TEXT] = "";
    ssize_t length = pread(fd, pid, sizeof pid - 1, 0);

    pid[length > 0 ? length : 0] = 0;
    pid[strcspn(pid, "\n")] = 0;
    return fault_set(fault, RESULT_BUSY, "%s is held by process %s: it uses this folder",
                     path, *pid ? pid : "(unknown)");
}

static enum result path_of(const char *data_dir, char path[PATH_TEXT], struct fault *fault)
{
    int length = snprintf(path, PATH_TEXT, "%s/lock", data_dir);

    if (length < 0 || length >= PATH_TEXT)
        return fault_set(fault, RESULT_TOO_LARGE,
                         "the name of the data folder is too long");
    return RESULT_OK;
}

/* Takes `opened`. */
static enum result hold(int opened, const char *path, int *fd, struct fault *fault)
{
    char pid[PID_TEXT];
    enum result result = RESULT_OK;
    int length;

    if (flock(opened, LOCK_EX | LOCK_NB) != 0) {
        result = errno == EWOULDBLOCK ? fault_held(path, opened, fault)
                                      : fault_set(fault, RESULT_IO, "cannot lock %s: %s",
                                                  path, strerror(errno));
        (void)close(opened);
        return result;
    }
    *fd = opened;
    if ((fcntl(opened, F_GETFL) & O_ACCMODE) == O_RDONLY)
        return RESULT_OK;
    length = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    /* Informative only: a full disk must not keep us from starting. */
    if (ftruncate(opened, 0) == 0 && pwrite(opened, pid, (size_t)length, 0) != length)
        log_message(LOG_WARNING, "queue.lock_without_pid", "%s: %s", path, strerror(errno));
    return RESULT_OK;
}

enum result lock_take(const char *data_dir, bool allow_network_filesystem, int *fd,
                      struct fault *fault)
{
    char path[PATH_TEXT];
    enum result result = check_folder(data_dir, allow_network_filesystem, fault);
    int opened;

    if (result == RESULT_OK)
        result = path_of(data_dir, path, fault);
    if (result != RESULT_OK)
        return result;
    opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (opened < 0)
        return fault_set(fault, RESULT_IO, "cannot open %s: %s", path, strerror(errno));
    return hold(opened, path, fd, fault);
}

enum result lock_take_existing(const char *data_dir, int *fd, struct fault *fault)
{
    char path[PATH_TEXT];
    enum result result = path_of(data_dir, path, fault);
    int opened;

    *fd = -1;
    if (result != RESULT_OK)
        return result;
    opened = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (opened < 0 && (errno == EACCES || errno == EROFS))
        opened = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (opened < 0 && errno == ENOENT)
        return RESULT_OK;
    if (opened < 0)
        return fault_set(fault, errno == ENOTDIR ? RESULT_NOT_FOUND : RESULT_IO,
                         "cannot open %s: %s", path, strerror(errno));
    return hold(opened, path, fd, fault);
}

void lock_give_up(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}
