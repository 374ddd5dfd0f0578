/* Changing the users file: read, change, write beside, sync, rename, sync the folder. A
 * server that reads at any moment sees the old file or the new one. The lock is on the
 * folder: one on the file itself would be lost with the rename, and a lock file of its own
 * would be litter. */
#include "smtpd/policy/auth.h"

#include "smtpd/base/limits.h"
#include "users_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_MODE = 0640 };

bool auth_user_name_is_valid(struct slice name)
{
    if (name.length == 0 || name.length > LIMIT_USER_NAME || name.data[0] == '#')
        return false;
    for (size_t i = 0; i < name.length; i++) {
        unsigned char byte = (unsigned char)name.data[i];

        if (byte <= ' ' || byte == 0x7f || byte == ':')
            return false;
    }
    return true;
}

static enum result lock_folder(const char *path, int *folder_fd, struct fault *fault)
{
    char folder[USERS_PATH_MAX];
    const char *slash = strrchr(path, '/');
    struct slice name = slash ? (struct slice){path, (size_t)(slash - path)} : SLICE(".");

    if (slash == path)
        name = SLICE("/");
    *folder_fd = -1;
    if (!slice_copy_text(name, folder, sizeof folder))
        return fault_set(fault, RESULT_INVALID, "the path of the users file is too long");
    *folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*folder_fd < 0)
        return fault_set(fault, RESULT_IO, "cannot open the folder %s: %s", folder,
                         strerror(errno));
    if (flock(*folder_fd, LOCK_EX) == 0)
        return RESULT_OK;
    (void)close(*folder_fd);
    return fault_set(fault, RESULT_IO, "cannot lock the folder %s: %s", folder,
                     strerror(errno));
}

/* The owner and mode of the file before; of the folder when there was none: the server,
 * which dropped its rights, must be able to read what root wrote. */
static bool take_rights(int fd, const char *path, int folder_fd)
{
    struct stat status;
    mode_t mode = FIRST_MODE;

    if (stat(path, &status) == 0)
        mode = status.st_mode & 07777;
    else if (fstat(folder_fd, &status) != 0)
        return false;
    if (geteuid() == 0 && fchown(fd, status.st_uid, status.st_gid) != 0)
        return false;
    return fchmod(fd, mode) == 0;
}

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

static enum result replace(const char *path, struct slice text, int folder_fd,
                           struct fault *fault)
{
    char beside[USERS_PATH_MAX];
    int length = snprintf(beside, sizeof beside, "%s.new", path);
    bool is_written;
    int fd;

    if (length < 0 || (size_t)length >= sizeof beside)
        return fault_set(fault, RESULT_INVALID, "the path of the users file is too long");
    (void)unlink(beside); /* of a run that was killed; we hold the lock */
    fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fault_set(fault, RESULT_IO, "cannot write %s: %s", beside, strerror(errno));
    is_written = take_rights(fd, path, folder_fd) && write_all(fd, text) && fsync(fd) == 0;
    if (close(fd) != 0)
        is_written = false;
    if (is_written && rename(beside, path) == 0 && fsync(folder_fd) == 0)
        return RESULT_OK;
    (void)fault_set(fault, RESULT_IO, "cannot write %s: %s", path, strerror(errno));
    (void)unlink(beside);
    return RESULT_IO;
}

/* Copies all lines but the user's. With a hash, the user's line is put in its place or at
 * the end. */
static enum result change(struct slice rest, const char *name, const char *hash,
                          struct bytes *into, bool *was_there)
{
    struct users_line line;
    struct slice raw;
    enum result ignored;
    enum result result = RESULT_OK;

    *was_there = false;
    while (result == RESULT_OK && users_next_line(&rest, &raw, &line, &ignored)) {
        if (!slice_equal_text(line.name, name)) {
            result = bytes_add(into, raw);
            if (result == RESULT_OK && raw.data[raw.length - 1] != '\n')
                result = bytes_add_text(into, "\n");
        } else if (!*was_there) {
            *was_there = true;
            if (hash)
                result = bytes_format(into, "%s:%s\n", name, hash);
        }
    }
    if (result == RESULT_OK && hash && !*was_there)
        result = bytes_format(into, "%s:%s\n", name, hash);
    return result;
}

static enum result rewrite(const char *path, const char *name, const char *hash,
                           bool *was_there, struct fault *fault)
{
    struct bytes before;
    struct bytes after;
    enum result result;
    int folder_fd;

    result = lock_folder(path, &folder_fd, fault);
    if (result != RESULT_OK)
        return result;
    bytes_init(&before, USERS_FILE_BYTES_MAX);
    bytes_init(&after, USERS_FILE_BYTES_MAX);
    result = users_read(path, &before, fault);
    if (result == RESULT_NOT_FOUND && hash)
        result = RESULT_OK; /* the first user makes the file */
    if (result != RESULT_OK)
        goto out;
    result = change(bytes_view(&before), name, hash, &after, was_there);
    if (result != RESULT_OK)
        (void)fault_set(fault, result, "%s: more than %d bytes", path,
                        USERS_FILE_BYTES_MAX);
    else if (!hash && !*was_there)
        result =
            fault_set(fault, RESULT_NOT_FOUND, "there is no user %s in %s", name, path);
    else
        result = replace(path, bytes_view(&after), folder_fd, fault);
out:
    bytes_fini(&after);
    bytes_fini(&before);
    (void)close(folder_fd);
    return result;
}

enum result users_file_set(const char *path, const char *name, struct slice password,
                           bool *was_there, struct fault *fault)
{
    char hash[SECURE_HASH_TEXT];

    if (!auth_user_name_is_valid(slice_of(name)))
        return fault_set(
            fault, RESULT_INVALID,
            "a user name has 1 to %d bytes, no blanks, no colon, no # in front",
            LIMIT_USER_NAME);
    if (password.length == 0 || password.length > LIMIT_PASSWORD)
        return fault_set(fault, RESULT_INVALID, "a password has 1 to %d bytes",
                         LIMIT_PASSWORD);
    if (secure_password_hash(password, hash) != RESULT_OK)
        return fault_set(fault, RESULT_NO_SPACE, "no memory to hash the password");
    return rewrite(path, name, hash, was_there, fault);
}

enum result users_file_remove(const char *path, const char *name, struct fault *fault)
{
    bool was_there;

    return rewrite(path, name, NULL, &was_there, fault);
}

enum result users_file_list(const char *path, users_file_fn *each, void *owner,
                            struct fault *fault)
{
    struct users_line line;
    struct bytes text;
    struct slice rest;
    struct slice raw;
    enum result result;
    enum result found = RESULT_OK;
    unsigned number = 0;

    bytes_init(&text, USERS_FILE_BYTES_MAX);
    result = users_read(path, &text, fault);
    rest = bytes_view(&text);
    while (result == RESULT_OK && users_next_line(&rest, &raw, &line, &found)) {
        char name[LIMIT_USER_NAME + 1];

        number++;
        if (found != RESULT_OK)
            result =
                fault_set(fault, found,
                          "%s, line %u: not \"name:hash\" as `smtpd user add` writes it",
                          path, number);
        else if (line.name.length > 0 && slice_copy_text(line.name, name, sizeof name))
            each(owner, name);
    }
    bytes_fini(&text);
    return result;
}
