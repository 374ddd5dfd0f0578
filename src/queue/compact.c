/* A copy without holes, put in the place of the old file by a rename:
 *
 *   data.mdb.compact is written, synced, opened and compared -> renamed -> the folder synced
 *
 * Cut off anywhere, data.mdb is the old file or the new one. What is left of the copy is
 * overwritten by the next try. */
#include "smtpd/queue/repair.h"

#include "lock.h"
#include "raw.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Of the file system's own, for the copy. */
static const uint64_t SPARE_BYTES = UINT64_C(1) << 20;

struct compaction {
    const char *folder;
    char *path;
    char *copy;
    struct raw old;
    struct raw new;
};

static enum result check_format(const struct compaction *compaction, struct fault *fault)
{
    uint64_t version;

    if (!raw_meta(&compaction->old, "version", &version))
        return fault_set(fault, RESULT_CORRUPT, "%s is no file of a queue",
                         compaction->path);
    if (version > STORE_FORMAT)
        return fault_set(fault, RESULT_INVALID,
                         "%s has format %llu, this program knows %d: use the program that "
                         "wrote it",
                         compaction->path, (unsigned long long)version, STORE_FORMAT);
    return RESULT_OK;
}

static enum result check_room(const struct compaction *compaction, struct fault *fault)
{
    uint64_t needed = compaction->old.used_pages * compaction->old.page_bytes + SPARE_BYTES;
    struct statvfs disk;
    uint64_t room;

    if (statvfs(compaction->folder, &disk) != 0)
        return fault_set(fault, RESULT_IO, "cannot look at the disk of %s: %s",
                         compaction->folder, strerror(errno));
    room = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (room < needed)
        return fault_set(
            fault, RESULT_NO_SPACE, "the copy needs %llu bytes, the disk of %s has %llu",
            (unsigned long long)needed, compaction->folder, (unsigned long long)room);
    return RESULT_OK;
}

/* The server, which may be another user, must be able to open it. */
static int open_copy(const struct compaction *compaction)
{
    struct stat old;
    int fd;

    if (stat(compaction->path, &old) != 0 ||
        (unlink(compaction->copy) != 0 && errno != ENOENT))
        return -1;
    fd = open(compaction->copy, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    if (fchown(fd, old.st_uid, old.st_gid) == 0 && fchmod(fd, old.st_mode & 07777) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static enum result write_copy(const struct compaction *compaction, struct fault *fault)
{
    int fd = open_copy(compaction);
    int code;

    if (fd < 0)
        return fault_set(fault, RESULT_IO, "cannot make %s: %s", compaction->copy,
                         strerror(errno));
    code = mdb_env_copyfd2(compaction->old.env, fd, MDB_CP_COMPACT);
    if (code == 0 && fsync(fd) != 0)
        code = errno;
    if (close(fd) != 0 && code == 0)
        code = errno;
    if (code == 0)
        return RESULT_OK;
    return fault_set(fault,
                     code == ENOSPC || code == EDQUOT ? RESULT_NO_SPACE
                     : code == MDB_INCOMPATIBLE       ? RESULT_CORRUPT
                                                      : RESULT_IO,
                     "cannot copy %s: %s", compaction->path, mdb_strerror(code));
}

static enum result compare(struct compaction *compaction, struct compact_numbers *numbers,
                           struct fault *fault)
{
    enum result result = raw_open(&compaction->new, compaction->copy, fault);

    for (int i = 0; i < RAW_TABLES && result == RESULT_OK; i++) {
        uint64_t before = compaction->old.entries[i];
        uint64_t after = compaction->new.entries[i];

        numbers->records += after;
        if (before != after || compaction->old.has[i] != compaction->new.has[i])
            result = fault_set(fault, RESULT_CORRUPT,
                               "the table %s has %llu records, and %llu in the copy",
                               raw_table_names[i], (unsigned long long)before,
                               (unsigned long long)after);
    }
    numbers->bytes_before = compaction->old.file_bytes;
    numbers->bytes_after = compaction->new.file_bytes;
    raw_close(&compaction->new);
    return result;
}

static enum result put_in_place(const struct compaction *compaction, struct fault *fault)
{
    int code;

    if (rename(compaction->copy, compaction->path) != 0)
        return fault_set(fault, RESULT_IO, "cannot rename %s: %s", compaction->copy,
                         strerror(errno));
    code = store_sync_folder(compaction->folder);
    return code ? fault_set(fault, RESULT_IO, "cannot sync the folder %s: %s",
                            compaction->folder, strerror(code))
                : RESULT_OK;
}

static enum result run(struct compaction *compaction, struct compact_numbers *numbers,
                       struct fault *fault)
{
    enum result result = raw_open(&compaction->old, compaction->path, fault);

    if (result == RESULT_OK)
        result = check_format(compaction, fault);
    /* What an earlier try left is room, too. */
    if (result == RESULT_OK && unlink(compaction->copy) != 0 && errno != ENOENT)
        result = fault_set(fault, RESULT_IO, "cannot remove %s: %s", compaction->copy,
                           strerror(errno));
    if (result == RESULT_OK)
        result = check_room(compaction, fault);
    if (result == RESULT_OK)
        result = write_copy(compaction, fault);
    if (result == RESULT_OK)
        result = compare(compaction, numbers, fault);
    if (result == RESULT_OK)
        result = put_in_place(compaction, fault);
    if (result != RESULT_OK)
        (void)unlink(compaction->copy);
    raw_close(&compaction->old);
    return result;
}

/* A folder that was copied may have no file `lock`: it is made, or a server could start
 * meanwhile and write into the old file. */
static enum result hold(const struct compaction *compaction, int *lock, struct fault *fault)
{
    enum result result = lock_take_existing(compaction->folder, lock, fault);
    struct stat old;

    if (result != RESULT_OK || *lock >= 0)
        return result;
    if (stat(compaction->path, &old) != 0)
        return fault_set(fault, errno == ENOENT ? RESULT_NOT_FOUND : RESULT_IO,
                         "there is no queue: %s: %s", compaction->path, strerror(errno));
    result = lock_take(compaction->folder, true, lock, fault);
    if (result == RESULT_OK && fchown(*lock, old.st_uid, old.st_gid) != 0)
        result = fault_set(fault, RESULT_IO, "cannot give the lock of %s away: %s",
                           compaction->folder, strerror(errno));
    return result;
}

enum result queue_compact(const char *folder, struct compact_numbers *numbers,
                          struct fault *fault)
{
    struct compaction compaction = {.folder = folder,
                                    .path = memory_format("%s/data.mdb", folder),
                                    .copy = memory_format("%s/data.mdb.compact", folder)};
    int lock = -1;
    enum result result = hold(&compaction, &lock, fault);

    memset(numbers, 0, sizeof *numbers);
    if (result == RESULT_OK)
        result = run(&compaction, numbers, fault);
    lock_give_up(lock);
    memory_free(compaction.path);
    memory_free(compaction.copy);
    return result;
}
