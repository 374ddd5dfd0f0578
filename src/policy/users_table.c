/* Reading the users file: small, strict, all or nothing. A broken line is never skipped:
 * half of the users would lose their log-in and nobody would know why. Touches nothing but
 * its own input, so that it may run on the file pool. */
#include "users_table.h"

#include "smtpd/base/check.h"
#include "smtpd/base/file.h"
#include "smtpd/base/memory.h"
#include "smtpd/policy/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_PIECE = 65536 };

/* The change of the inode, not of the content: a chmod that makes the file readable counts.
 */
static void stamp_from(const struct stat *status, struct users_stamp *stamp)
{
    *stamp = (struct users_stamp){
        .inode = (uint64_t)status->st_ino,
        .bytes = (uint64_t)status->st_size,
        .changed_s = (int64_t)status->st_ctim.tv_sec,
        .changed_ns = (int64_t)status->st_ctim.tv_nsec,
    };
}

enum result users_stamp_read(const char *path, struct users_stamp *stamp)
{
    struct stat status;

    if (stat(path, &status) != 0)
        return errno == ENOENT ? RESULT_NOT_FOUND : RESULT_IO;
    stamp_from(&status, stamp);
    return RESULT_OK;
}

bool users_stamp_equal(const struct users_stamp *a, const struct users_stamp *b)
{
    return a->inode == b->inode && a->bytes == b->bytes && a->changed_s == b->changed_s &&
           a->changed_ns == b->changed_ns;
}

bool users_next_line(struct slice *rest, struct slice *raw, struct users_line *line,
                     enum result *result)
{
    size_t end = slice_find(*rest, '\n');
    struct slice text;
    size_t colon;

    if (rest->length == 0)
        return false;
    *raw = slice_part(*rest, 0, end < rest->length ? end + 1 : end);
    text = slice_trim(slice_part(*rest, 0, end));
    *rest = slice_from(*rest, raw->length);
    *line = (struct users_line){0};
    *result = RESULT_OK;
    if (text.length == 0 || text.data[0] == '#')
        return true;
    colon = slice_find(text, ':');
    line->name = slice_part(text, 0, colon);
    *result = RESULT_INVALID;
    if (colon == text.length || !auth_user_name_is_valid(line->name))
        return true;
    line->hash = slice_from(text, colon + 1);
    colon = slice_find(line->hash, ':');
    if (colon < line->hash.length)
        line->rights = slice_trim(slice_from(line->hash, colon + 1));
    line->hash.length = colon;
    if (line->hash.length < SECURE_HASH_TEXT && slice_starts_fold(line->hash, "$argon2"))
        *result = RESULT_OK;
    return true;
}

static enum result read_file(const char *path, struct bytes *text,
                             struct users_stamp *stamp, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    enum result result;

    if (fd < 0)
        return fault_set(fault, errno == ENOENT ? RESULT_NOT_FOUND : RESULT_IO,
                         "cannot open the users file %s: %s%s", path, strerror(errno),
                         errno == ENOENT ? " (smtpd user add NAME makes it)" : "");
    if (fstat(fd, &status) != 0) {
        result =
            fault_set(fault, RESULT_IO, "cannot look at %s: %s", path, strerror(errno));
    } else {
        stamp_from(&status, stamp);
        result = file_read_all(fd, text);
        if (result != RESULT_OK)
            (void)fault_set(fault, result, "cannot read the users file %s: %s", path,
                            result == RESULT_IO ? strerror(errno) : result_text(result));
    }
    (void)close(fd);
    return result;
}

enum result users_read(const char *path, struct bytes *text, struct fault *fault)
{
    struct users_stamp stamp;

    return read_file(path, text, &stamp, fault);
}

static enum result add_user(struct map *table, const struct users_line *line,
                            const char *path, unsigned number, struct fault *fault)
{
    struct fault why;
    struct account *account;

    if (map_get(table, line->name))
        return fault_set(fault, RESULT_INVALID, "%s, line %u: the user stands there twice",
                         path, number);
    account = account_new(line->hash, line->rights, &why);
    if (!account)
        return fault_set(fault, RESULT_INVALID, "%s, line %u: %.300s", path, number,
                         why.text);
    if (map_set(table, line->name, account) == RESULT_OK)
        return RESULT_OK;
    account_unref(account);
    return fault_set(fault, RESULT_TOO_LARGE, "%s: more than %d users", path, USERS_MAX);
}

static enum result add_lines(const char *path, struct slice rest, struct map *table,
                             struct fault *fault)
{
    struct users_line line;
    struct slice raw;
    enum result result;
    unsigned number = 0;

    while (users_next_line(&rest, &raw, &line, &result)) {
        number++;
        if (result != RESULT_OK)
            return fault_set(fault, result, "%s, line %u: " USERS_LINE_WANTED, path,
                             number);
        if (line.name.length == 0)
            continue;
        result = add_user(table, &line, path, number, fault);
        if (result != RESULT_OK)
            return result;
    }
    return RESULT_OK;
}

enum result users_table_load(const char *path, struct map **table,
                             struct users_stamp *stamp, struct fault *fault)
{
    struct map *loaded = map_new(USERS_MAX);
    struct bytes text;
    enum result result;

    bytes_init(&text, USERS_FILE_BYTES_MAX);
    result = read_file(path, &text, stamp, fault);
    if (result == RESULT_OK)
        result = add_lines(path, bytes_view(&text), loaded, fault);
    bytes_fini(&text);
    if (result == RESULT_OK)
        *table = loaded;
    else
        users_table_free(loaded);
    return result;
}

void users_table_free(struct map *table)
{
    size_t position = 0;
    struct account *account;

    if (!table)
        return;
    while ((account = map_next(table, &position, NULL)))
        account_unref(account);
    map_free(table);
}
