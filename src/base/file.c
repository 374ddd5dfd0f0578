#include "smtpd/base/file.h"

#include "smtpd/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 65536 };

bool file_write_all(int fd, struct slice bytes)
{
    while (bytes.length > 0) {
        ssize_t count = write(fd, bytes.data, bytes.length);

        if (count < 0 && errno != EINTR)
            return false;
        if (count > 0)
            bytes = slice_from(bytes, (size_t)count);
    }
    return true;
}

enum result file_read_all(int fd, struct bytes *into)
{
    for (;;) {
        char *room = bytes_reserve(into, PIECE);
        ssize_t count;

        if (!room)
            return RESULT_TOO_LARGE;
        do
            count = read(fd, room, PIECE);
        while (count < 0 && errno == EINTR);
        if (count < 0)
            return RESULT_IO;
        if (count == 0)
            return RESULT_OK;
        into->length += (size_t)count;
    }
}

enum result file_read(const char *path, struct bytes *into, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum result result;

    if (fd < 0)
        return fault_set(fault, errno == ENOENT ? RESULT_NOT_FOUND : RESULT_IO, "%s",
                         strerror(errno));
    result = file_read_all(fd, into);
    if (result != RESULT_OK)
        (void)fault_set(fault, result, "%s",
                        result == RESULT_IO ? strerror(errno) : "it is too large");
    (void)close(fd);
    return result;
}

enum result file_sync_folder(const char *folder, struct fault *fault)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = fd >= 0 && fsync(fd) == 0;
    enum result result = is_synced ? RESULT_OK
                                   : fault_set(fault, RESULT_IO, "cannot sync %s: %s",
                                               folder, strerror(errno));

    if (fd >= 0)
        (void)close(fd);
    return result;
}

enum result file_write(const char *path, struct slice text, struct fault *fault)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool is_written = fd >= 0 && file_write_all(fd, text) && fsync(fd) == 0;
    enum result result =
        is_written ? RESULT_OK : fault_set(fault, RESULT_IO, "%s", strerror(errno));

    if (fd >= 0 && close(fd) != 0 && is_written)
        result = fault_set(fault, RESULT_IO, "%s", strerror(errno));
    return result;
}

enum result file_sync_parent(const char *path, struct fault *fault)
{
    const char *slash = strrchr(path, '/');
    char *folder;
    enum result result;

    if (!slash)
        return file_sync_folder(".", fault);
    folder =
        slice_to_text((struct slice){path, slash == path ? 1 : (size_t)(slash - path)});
    result = file_sync_folder(folder, fault);
    memory_free(folder);
    return result;
}

enum result file_replace(const char *path, struct slice text, struct fault *fault)
{
    char *beside = memory_format("%s.new", path);
    enum result result = file_write(beside, text, fault);

    if (result == RESULT_OK && rename(beside, path) != 0)
        result = fault_set(fault, RESULT_IO, "%s", strerror(errno));
    if (result == RESULT_OK)
        result = file_sync_parent(path, fault);
    else
        (void)unlink(beside);
    memory_free(beside);
    return result;
}
