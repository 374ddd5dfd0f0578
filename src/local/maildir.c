/* tmp, fsync, rename into new, fsync of new: what is in new is whole, and stays. The name
 * is made of the message and not of the time, so that a try after a crash finds what the
 * one before it had stored. */
#include "maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, WRITE_BYTES = 65536 };

static void path_in(const struct maildir_box *box, const char *sub, const char *name,
                    char path[PATH_BYTES])
{
    (void)snprintf(path, PATH_BYTES, "%s/%s%s%s", box->folder, sub, name[0] ? "/" : "",
                   name);
}

/* A disk that is full would stay so by what was written of the message. */
static void drop_tmp(struct maildir_box *box)
{
    char path[PATH_BYTES];

    if (box->fd >= 0)
        (void)close(box->fd);
    box->fd = -1;
    if (!box->tmp)
        return;
    path_in(box, "tmp", box->tmp, path);
    (void)unlink(path);
    box->tmp = NULL;
}

static void fail(struct maildir_box *box, const char *what, const char *path)
{
    int error = errno;

    box->result = error == ENOSPC || error == EDQUOT ? RESULT_NO_SPACE : RESULT_IO;
    (void)snprintf(box->text, sizeof box->text, "cannot %s %.100s: %s", what, path,
                   strerror(error));
    drop_tmp(box);
}

static bool sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = fd >= 0 && fsync(fd) == 0;
    int error = errno;

    if (fd >= 0)
        (void)close(fd);
    errno = error;
    return is_synced;
}

/* The name of a new folder is durable when the folder around it is synced. */
static bool make_one(const char *path)
{
    char parent[PATH_BYTES];
    char *last;
    int error;

    if (mkdir(path, 0700) != 0)
        return errno == EEXIST;
    if (!slice_copy_text(slice_of(path), parent, sizeof parent))
        return false;
    last = strrchr(parent, '/');
    if (last)
        *(last == parent ? last + 1 : last) = '\0';
    if (sync_path(last ? parent : "."))
        return true;
    error = errno;
    (void)rmdir(path); /* the next try makes and syncs it again */
    errno = error;
    return false;
}

/* Each part of the path before the last. */
static bool make_parents(struct maildir_box *box, const char *path)
{
    char partial[PATH_BYTES];

    if (!slice_copy_text(slice_of(path), partial, sizeof partial))
        return false;
    for (char *at = strchr(partial + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (!make_one(partial)) {
            fail(box, "make the folder", partial);
            return false;
        }
        *at = '/';
    }
    return true;
}

static bool make_folder(struct maildir_box *box, const char *path)
{
    if (make_one(path))
        return true;
    if (errno == ENOENT && make_parents(box, path) && make_one(path))
        return true;
    if (box->result == RESULT_OK)
        fail(box, "make the folder", path);
    return false;
}

static bool make_folders(struct maildir_box *box)
{
    static const char *const subs[] = {"tmp", "new", "cur"};
    char path[PATH_BYTES];

    for (size_t i = 0; i < 3; i++) {
        path_in(box, subs[i], "", path);
        if (!make_folder(box, path))
            return false;
    }
    return true;
}

static void sync_folder(struct maildir_box *box, const char *sub)
{
    char path[PATH_BYTES];

    path_in(box, sub, "", path);
    if (!sync_path(path))
        fail(box, "sync", path);
}

/* A mail reader may have moved it to cur and added flags (":2,S"). */
static bool is_in_cur(const struct maildir_box *box, const char *name)
{
    size_t length = strlen(name);
    const struct dirent *entry;
    char path[PATH_BYTES];
    bool is_found = false;
    DIR *folder;
    int fd;

    path_in(box, "cur", "", path);
    /* Not by opendir(): see admin/sample.c. */
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    folder = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !folder)
        (void)close(fd);
    while (folder && !is_found && (entry = readdir(folder)))
        is_found = strncmp(entry->d_name, name, length) == 0 &&
                   (entry->d_name[length] == '\0' || entry->d_name[length] == ':');
    if (folder)
        (void)closedir(folder);
    return is_found;
}

static void write_all(struct maildir_box *box, const char *data, size_t length)
{
    while (box->fd >= 0 && length > 0) {
        ssize_t written = write(box->fd, data, length);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            fail(box, "write to", box->folder);
            return;
        }
        data += written;
        length -= (size_t)written;
    }
}

static void open_box(const struct maildir_message *message, struct maildir_box *box,
                     struct slice head)
{
    char path[PATH_BYTES];

    box->fd = -1;
    if (!make_folders(box))
        return;
    path_in(box, "new", message->name, path);
    box->is_there = access(path, F_OK) == 0;
    if (box->is_there) {
        sync_folder(box, "new"); /* the try before may have ended between rename and sync */
        return;
    }
    box->is_there = !message->is_fresh && is_in_cur(box, message->name);
    if (box->is_there) {
        sync_folder(box, "cur");
        return;
    }
    path_in(box, "tmp", message->name, path);
    (void)unlink(path); /* of a process that was killed */
    box->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (box->fd < 0) {
        fail(box, "create", path);
        return;
    }
    box->tmp = message->name;
    write_all(box, head.data, head.length);
}

static const struct maildir_box *find_same(const struct maildir_message *message, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (message->boxes[i].folder &&
            strcmp(message->boxes[i].folder, message->boxes[at].folder) == 0)
            return &message->boxes[i];
    return NULL;
}

/* What came of the one copy holds for all that share it. */
static void share_results(struct maildir_message *message)
{
    for (size_t i = 0; i < message->box_count; i++) {
        struct maildir_box *box = &message->boxes[i];

        if (!box->same)
            continue;
        box->result = box->same->result;
        memcpy(box->text, box->same->text, sizeof box->text);
    }
}

void maildir_open(struct maildir_message *message, struct slice head)
{
    for (size_t i = 0; i < message->box_count; i++) {
        struct maildir_box *box = &message->boxes[i];

        if (box->result != RESULT_OK)
            continue;
        box->same = find_same(message, i);
        if (!box->same)
            open_box(message, box, head);
    }
    share_results(message);
}

static void write_to_all(struct maildir_message *message, const char *data, size_t length)
{
    for (size_t i = 0; i < message->box_count; i++)
        write_all(&message->boxes[i], data, length);
}

/* CR LF -> LF, as files of this system have it. A bare CR stays. */
void maildir_write(struct maildir_message *message, struct slice piece)
{
    char converted[WRITE_BYTES + 2];
    size_t length = 0;

    for (size_t i = 0; i < piece.length; i++) {
        char byte = piece.data[i];

        if (message->after_cr && byte != '\n')
            converted[length++] = '\r';
        message->after_cr = byte == '\r';
        if (byte != '\r')
            converted[length++] = byte;
        if (length >= WRITE_BYTES) {
            write_to_all(message, converted, length);
            length = 0;
        }
    }
    write_to_all(message, converted, length);
}

static void finish_box(const struct maildir_message *message, struct maildir_box *box)
{
    char tmp[PATH_BYTES];
    char new[PATH_BYTES];

    if (box->fd < 0)
        return;
    path_in(box, "tmp", message->name, tmp);
    path_in(box, "new", message->name, new);
    if (fsync(box->fd) != 0) {
        fail(box, "sync", tmp);
        return;
    }
    if (close(box->fd) != 0) {
        box->fd = -1;
        fail(box, "close", tmp);
        return;
    }
    box->fd = -1;
    if (rename(tmp, new) != 0) {
        fail(box, "move the message into", new);
        return;
    }
    box->tmp = NULL;
    sync_folder(box, "new");
}

void maildir_finish(struct maildir_message *message)
{
    if (message->after_cr)
        write_to_all(message, "\r", 1);
    for (size_t i = 0; i < message->box_count; i++)
        finish_box(message, &message->boxes[i]);
    share_results(message);
}

void maildir_abandon(struct maildir_message *message)
{
    for (size_t i = 0; i < message->box_count; i++)
        drop_tmp(&message->boxes[i]);
}
