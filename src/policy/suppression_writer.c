/* Everything is written at its own offset: what a failed write left behind the sound part is
 * cut off or written over, and the reader cuts it too. */
#include "suppression_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void suppression_writer_init(struct suppression_writer *writer, const char *path)
{
    char *slash;

    memset(writer, 0, sizeof *writer);
    writer->fd = writer->beside_fd = -1;
    (void)snprintf(writer->path, sizeof writer->path, "%s", path);
    (void)snprintf(writer->beside, sizeof writer->beside, "%s.new", writer->path);
    (void)snprintf(writer->folder, sizeof writer->folder, "%s", path);
    slash = strrchr(writer->folder, '/');
    if (slash && slash > writer->folder)
        *slash = '\0';
    else
        (void)snprintf(writer->folder, sizeof writer->folder, "%s", slash ? "/" : ".");
    bytes_init(&writer->append, SUPPRESSION_APPEND_MAX);
    bytes_init(&writer->portion, SUPPRESSION_PORTION_MAX);
}

static int write_at(int fd, struct slice text, uint64_t offset)
{
    while (text.length > 0) {
        ssize_t count = pwrite(fd, text.data, text.length, (off_t)offset);

        if (count < 0 && errno != EINTR)
            return errno;
        if (count > 0) {
            text = slice_from(text, (size_t)count);
            offset += (uint64_t)count;
        }
    }
    return 0;
}

static int sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) != 0 ? errno : 0;

    if (fd >= 0)
        (void)close(fd);
    return error;
}

static int open_journal(struct suppression_writer *writer)
{
    if (writer->fd >= 0)
        return 0;
    writer->fd = open(writer->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return writer->fd < 0 ? errno : 0;
}

/* A file with a size and no head is then damaged, and no first writing that was torn. */
static int write_head(const struct suppression_writer *writer)
{
    struct slice text = bytes_view(&writer->append);
    int error = write_at(writer->fd, slice_part(text, 0, slice_find(text, '\n') + 1), 0);

    return error == 0 && fdatasync(writer->fd) != 0 ? errno : error;
}

static int append(struct suppression_writer *writer)
{
    bool is_first = writer->length == 0;
    bool syncs_folder = is_first || writer->folder_is_doubtful;
    int error = open_journal(writer);

    if (error == 0 && is_first)
        error = write_head(writer);
    if (error == 0)
        error = write_at(writer->fd, bytes_view(&writer->append), writer->length);
    if (error == 0 && fdatasync(writer->fd) != 0)
        error = errno;
    if (error == 0 && syncs_folder)
        error = sync_folder(writer->folder);
    if (error == 0)
        writer->folder_is_doubtful = false;
    if (error == 0)
        writer->length += writer->append.length;
    else if (writer->fd >= 0 && ftruncate(writer->fd, (off_t)writer->length) != 0)
        return error; /* the first one counts */
    return error;
}

/* ---- the new file ---- */

static void give_up(struct suppression_writer *writer, int error)
{
    writer->beside_error = error;
    if (writer->beside_fd < 0)
        return;
    (void)close(writer->beside_fd);
    writer->beside_fd = -1;
    (void)unlink(writer->beside);
}

static int add_beside(struct suppression_writer *writer, struct slice text)
{
    int error = write_at(writer->beside_fd, text, writer->beside_length);

    writer->beside_length += text.length;
    return error;
}

static int take_place(struct suppression_writer *writer)
{
    int error;

    if (fsync(writer->beside_fd) != 0 || rename(writer->beside, writer->path) != 0)
        return errno;
    (void)close(writer->fd);
    writer->fd = writer->beside_fd;
    writer->length = writer->beside_length;
    writer->beside_fd = -1;
    /* If this fails the old file may be back after a power failure. It holds all that was
     * promised so far; what is appended from now on is no promise before this was done. */
    error = sync_folder(writer->folder);
    writer->folder_is_doubtful = error != 0;
    return error;
}

static void write_anew(struct suppression_writer *writer)
{
    int error = 0;

    if (writer->begins_anew) {
        writer->beside_length = 0;
        writer->beside_fd =
            open(writer->beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (writer->beside_fd < 0) {
            give_up(writer, errno);
            return;
        }
    }
    if (writer->beside_fd < 0)
        return;
    /* The portion was copied before what is appended now. */
    error = add_beside(writer, bytes_view(&writer->portion));
    if (error == 0 && writer->error == 0)
        error = add_beside(writer, bytes_view(&writer->append));
    if (error == 0 && writer->ends_anew)
        error = take_place(writer);
    if (error != 0)
        give_up(writer, error);
}

void suppression_writer_run(void *input)
{
    struct suppression_writer *writer = input;

    writer->error = writer->beside_error = 0;
    if (writer->append.length > 0)
        writer->error = append(writer);
    write_anew(writer);
    writer->has_run = true;
}

void suppression_writer_fini(struct suppression_writer *writer)
{
    give_up(writer, 0);
    if (writer->fd >= 0)
        (void)close(writer->fd);
    bytes_fini(&writer->append);
    bytes_fini(&writer->portion);
}
