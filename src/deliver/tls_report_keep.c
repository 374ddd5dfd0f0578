#include "tls_report_keep.h"

#include "tally_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool write_all(int fd, struct slice text)
{
    while (text.length > 0) {
        ssize_t count = write(fd, text.data, text.length);

        if (count < 0 && errno != EINTR)
            return false;
        if (count > 0)
            text = slice_from(text, (size_t)count);
    }
    return true;
}

enum result tls_report_keep_write(const char *path, const char *beside, struct slice text,
                                  struct fault *fault)
{
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool is_written = fd >= 0 && write_all(fd, text) && fsync(fd) == 0;
    int error = errno;

    if (fd >= 0)
        (void)close(fd);
    if (is_written && rename(beside, path) != 0) {
        is_written = false;
        error = errno;
    }
    return is_written
               ? RESULT_OK
               : fault_set(fault, RESULT_IO, "cannot write %s: %s", path, strerror(error));
}

static enum result read_text(int fd, struct bytes *text, struct fault *fault)
{
    struct stat facts;
    ssize_t got = -1;
    char *into = NULL;

    if (fstat(fd, &facts) == 0 && facts.st_size <= TALLY_FILE_MAX)
        into = bytes_reserve(text, (size_t)facts.st_size + 1);
    if (into)
        got = read(fd, into, (size_t)facts.st_size + 1);
    if (got < 0)
        return fault_set(fault, RESULT_IO, "it cannot be read");
    text->length += (size_t)got;
    return RESULT_OK;
}

enum result tls_report_keep_read(const char *path, struct tally *tally, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct bytes text;
    enum result result;

    if (fd < 0)
        return fault_set(fault, errno == ENOENT ? RESULT_NOT_FOUND : RESULT_IO, "%s",
                         strerror(errno));
    bytes_init(&text, TALLY_FILE_MAX + 1);
    result = read_text(fd, &text, fault);
    (void)close(fd);
    if (result == RESULT_OK)
        result = tally_file_parse(bytes_view(&text), tally, fault);
    bytes_fini(&text);
    return result;
}
