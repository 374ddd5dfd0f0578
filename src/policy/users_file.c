/* Changing the users file: read, change, write beside, sync, rename, sync the folder. A
 * server that reads at any moment sees the old file or the new one. The lock is on the
 * folder: one on the file itself would be lost with the rename, and a lock file of its own
 * would be litter. */
#include "smtpd/policy/auth.h"

#include "smtpd/base/file.h"
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
    is_written =
        take_rights(fd, path, folder_fd) && file_write_all(fd, text) && fsync(fd) == 0;
    if (close(fd) != 0)
        is_written = false;
    if (is_written && rename(beside, path) == 0 && fsync(folder_fd) == 0)
        return RESULT_OK;
    (void)fault_set(fault, RESULT_IO, "cannot write %s: %s", path, strerror(errno));
    (void)unlink(beside);
    return RESULT_IO;
}

/* ---- one line ---- */

/* What the change says of a key; NULL: nothing. */
static const char *changed_value(const struct users_change *change, const char *key)
{
    size_t length = strlen(key);

    for (size_t i = change->right_count; i > 0; i--)
        if (strncmp(change->rights[i - 1], key, length) == 0 &&
            change->rights[i - 1][length] == '=')
            return change->rights[i - 1] + length + 1;
    return NULL;
}

static struct slice kept_value(struct slice rights, const char *key)
{
    struct slice name;
    struct slice value;

    while (rights_next(&rights, &name, &value))
        if (slice_equal_text(name, key))
            return value;
    return SLICE_NONE;
}

/* "key=value key=value": in the order of the table, those that were removed left out. */
static enum result merge_rights(const struct users_change *change, struct slice before,
                                struct bytes *into)
{
    size_t count;
    const struct right_key *keys = rights_keys(&count);
    enum result added = RESULT_OK;

    for (size_t i = 0; i < count && added == RESULT_OK; i++) {
        const char *changed = changed_value(change, keys[i].name);
        struct slice value = changed ? slice_of(changed) : kept_value(before, keys[i].name);

        if (value.length > 0)
            added = bytes_format(into, "%s%s=%.*s", into->length > 0 ? " " : "",
                                 keys[i].name, (int)value.length, value.data);
    }
    return added;
}

static bool is_key(struct slice word)
{
    struct slice name = slice_part(word, 0, slice_find(word, '='));
    size_t count;
    const struct right_key *keys = rights_keys(&count);

    for (size_t i = 0; i < count; i++)
        if (name.length < word.length && slice_equal_text(name, keys[i].name))
            return true;
    return false;
}

/* What is no word of a known key would be dropped in silence. */
static enum result check_word(struct slice word, struct fault *fault)
{
    struct account *account;

    for (size_t i = 0; i < word.length; i++)
        if ((unsigned char)word.data[i] <= ' ' || word.data[i] == 0x7f)
            return fault_set(fault, RESULT_INVALID,
                             "a value has no blanks; the items of a list go by comma");
    if (is_key(word))
        return RESULT_OK;
    account = account_new(SLICE_NONE, word, fault); /* says what is wrong with it */
    account_unref(account);
    return account ? RESULT_OK : RESULT_INVALID;
}

static enum result check_words(const struct users_change *change, struct fault *fault)
{
    enum result result = RESULT_OK;

    for (size_t i = 0; i < change->right_count && result == RESULT_OK; i++)
        result = check_word(slice_of(change->rights[i]), fault);
    return result;
}

/* ---- the file ---- */

/* What becomes of a line; without `change` it goes. */
struct edit {
    const char *name;
    const struct users_change *change;
    const char *hash; /* NULL: as it was */
    bool was_there;
    struct fault *fault;
};

static enum result write_line(const struct edit *edit, const struct users_line *before,
                              struct bytes *into)
{
    struct slice hash = edit->hash ? slice_of(edit->hash) : before->hash;
    struct bytes rights;
    struct account *account;
    enum result result;

    bytes_init(&rights, ACCOUNT_TEXT_MAX);
    result = merge_rights(edit->change, before->rights, &rights);
    if (result != RESULT_OK) {
        bytes_fini(&rights);
        return fault_set(edit->fault, result, "more than %d bytes of keys",
                         ACCOUNT_TEXT_MAX);
    }
    account = account_new(hash, bytes_view(&rights), edit->fault);
    result = account ? RESULT_OK : RESULT_INVALID;
    account_unref(account);
    if (result == RESULT_OK)
        result = bytes_format(into, "%s:%.*s%s%.*s\n", edit->name, (int)hash.length,
                              hash.data, rights.length > 0 ? ":" : "", (int)rights.length,
                              rights.length > 0 ? rights.data : "");
    bytes_fini(&rights);
    return result;
}

/* Copies all lines but the user's, whose new line is put in its place or at the end. */
static enum result edit_lines(struct edit *edit, struct slice rest, struct bytes *into)
{
    static const struct users_line nothing = {0};
    struct users_line line;
    struct slice raw;
    enum result ignored;
    enum result result = RESULT_OK;

    while (result == RESULT_OK && users_next_line(&rest, &raw, &line, &ignored)) {
        if (!slice_equal_text(line.name, edit->name)) {
            result = bytes_add(into, raw);
            if (result == RESULT_OK && raw.data[raw.length - 1] != '\n')
                result = bytes_add_text(into, "\n");
        } else if (!edit->was_there) {
            edit->was_there = true;
            if (edit->change)
                result = write_line(edit, &line, into);
        }
    }
    if (result == RESULT_OK && edit->hash && !edit->was_there)
        result = write_line(edit, &nothing, into);
    return result;
}

static enum result edit_file(const char *path, struct edit *edit, int folder_fd)
{
    struct bytes before;
    struct bytes after;
    enum result result;

    bytes_init(&before, USERS_FILE_BYTES_MAX);
    bytes_init(&after, USERS_FILE_BYTES_MAX);
    result = users_read(path, &before, edit->fault);
    if (result == RESULT_NOT_FOUND && edit->hash)
        result = RESULT_OK; /* the first user makes the file */
    if (result == RESULT_OK)
        result = edit_lines(edit, bytes_view(&before), &after);
    if (result == RESULT_TOO_LARGE)
        (void)fault_set(edit->fault, result, "%s: more than %d bytes", path,
                        USERS_FILE_BYTES_MAX);
    if (result == RESULT_OK && !edit->hash && !edit->was_there)
        result = fault_set(edit->fault, RESULT_NOT_FOUND, "there is no user %s in %s",
                           edit->name, path);
    if (result == RESULT_OK)
        result = replace(path, bytes_view(&after), folder_fd, edit->fault);
    bytes_fini(&after);
    bytes_fini(&before);
    return result;
}

static enum result rewrite(const char *path, struct edit *edit)
{
    int folder_fd;
    enum result result = lock_folder(path, &folder_fd, edit->fault);

    if (result != RESULT_OK)
        return result;
    result = edit_file(path, edit, folder_fd);
    (void)close(folder_fd);
    return result;
}

enum result users_file_change(const char *path, const struct users_change *change,
                              bool *was_there, struct fault *fault)
{
    char hash[SECURE_HASH_TEXT];
    struct edit edit = {change->name, change, NULL, false, fault};
    enum result result;

    if (!auth_user_name_is_valid(slice_of(change->name)))
        return fault_set(
            fault, RESULT_INVALID,
            "a user name has 1 to %d bytes, no blanks, no colon, no # in front",
            LIMIT_USER_NAME);
    if (change->password.length > LIMIT_PASSWORD)
        return fault_set(fault, RESULT_INVALID, "a password has 1 to %d bytes",
                         LIMIT_PASSWORD);
    if (check_words(change, fault) != RESULT_OK)
        return RESULT_INVALID;
    if (change->password.length > 0) {
        if (secure_password_hash(change->password, hash) != RESULT_OK)
            return fault_set(fault, RESULT_NO_SPACE, "no memory to hash the password");
        edit.hash = hash;
    }
    result = rewrite(path, &edit);
    *was_there = edit.was_there;
    return result;
}

enum result users_file_set(const char *path, const char *name, struct slice password,
                           bool *was_there, struct fault *fault)
{
    struct users_change change = {.name = name, .password = password};

    if (password.length == 0)
        return fault_set(fault, RESULT_INVALID, "a password has 1 to %d bytes",
                         LIMIT_PASSWORD);
    return users_file_change(path, &change, was_there, fault);
}

enum result users_file_remove(const char *path, const char *name, struct fault *fault)
{
    struct edit edit = {name, NULL, NULL, false, fault};

    return rewrite(path, &edit);
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
                fault_set(fault, found, "%s, line %u: " USERS_LINE_WANTED, path, number);
        else if (line.name.length > 0 && slice_copy_text(line.name, name, sizeof name))
            each(owner, name, line.rights);
    }
    bytes_fini(&text);
    return result;
}

enum result users_file_check(const char *path, struct fault *fault)
{
    struct users_stamp stamp;
    struct map *table = NULL;
    enum result result = users_table_load(path, &table, &stamp, fault);

    users_table_free(table);
    return result;
}
