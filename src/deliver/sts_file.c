#include "sts_file.h"

#include "smtpd/base/file.h"
#include "smtpd/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = STS_BODY_MAX, ENTRIES_MAX = 100000 };
#define HEADING "smtpd-mta-sts: 1"

bool sts_is_domain(const char *domain)
{
    size_t length = strlen(domain);
    bool has_dot = false;

    if (length == 0 || length >= STS_DOMAIN_TEXT || domain[0] == '.')
        return false;
    for (const char *at = domain; *at; at++) {
        has_dot |= *at == '.';
        if (!(*at >= 'a' && *at <= 'z') && !(*at >= '0' && *at <= '9') &&
            !strchr("-_.", *at))
            return false;
    }
    return has_dot;
}

/* ---- one of them ---- */

enum result sts_record_print(const struct sts_record *record, struct bytes *into)
{
    enum result result = bytes_format(
        into, HEADING "\ndomain: %s\nid: %s\nfetched: %lld\nused: %lld\n\n", record->domain,
        record->id, (long long)record->fetched_ms, (long long)record->used_ms);

    return result == RESULT_OK ? sts_policy_print(record->policy, into) : result;
}

static bool take_line(struct slice *rest, const char *name, struct slice *value)
{
    size_t end = slice_find(*rest, '\n');
    struct slice line = slice_part(*rest, 0, end);
    size_t length = strlen(name);

    if (end == rest->length || line.length < length || memcmp(line.data, name, length) != 0)
        return false;
    *rest = slice_from(*rest, end + 1);
    *value = slice_from(line, length);
    return true;
}

static bool take_time(struct slice *rest, const char *name, int64_t *time_ms)
{
    struct slice value;
    uint64_t number = 0;

    if (!take_line(rest, name, &value) ||
        slice_to_u64(value, INT64_MAX / 2, &number) != RESULT_OK)
        return false;
    *time_ms = (int64_t)number;
    return true;
}

enum result sts_record_parse(struct slice text, struct sts_record *record)
{
    struct slice value;
    char why[160];

    memset(record, 0, sizeof *record);
    if (!take_line(&text, HEADING, &value) || !take_line(&text, "domain: ", &value) ||
        !slice_copy_text(value, record->domain, sizeof record->domain) ||
        !sts_is_domain(record->domain) || !take_line(&text, "id: ", &value) ||
        !slice_copy_text(value, record->id, sizeof record->id) ||
        !take_time(&text, "fetched: ", &record->fetched_ms) ||
        !take_time(&text, "used: ", &record->used_ms))
        return RESULT_CORRUPT;
    record->policy = sts_policy_parse(text, why);
    return record->policy ? RESULT_OK : RESULT_CORRUPT;
}

/* ---- files ---- */

static enum result make_folder(const char *folder, struct fault *fault)
{
    if (mkdir(folder, 0700) == 0 || errno == EEXIST)
        return RESULT_OK;
    return fault_set(fault, RESULT_IO, "cannot make %s: %s", folder, strerror(errno));
}

enum result sts_file_write(const char *folder, const char *domain, struct slice text,
                           struct fault *fault)
{
    char *path = memory_format("%s/%s", folder, domain);
    char *beside = memory_format("%s/.%s.new", folder, domain); /* no domain's own */
    struct fault why;
    enum result result = make_folder(folder, &why);

    if (result == RESULT_OK)
        result = file_write(beside, text, &why);
    if (result == RESULT_OK && rename(beside, path) != 0)
        result = fault_set(&why, RESULT_IO, "%s", strerror(errno));
    if (result == RESULT_OK)
        result = file_sync_folder(folder, fault);
    else
        (void)fault_set(fault, result, "cannot write %s: %s", path, why.text);
    if (result != RESULT_OK)
        (void)unlink(beside);
    memory_free(beside);
    memory_free(path);
    return result;
}

void sts_file_remove(const char *folder, const char *domain)
{
    char *path = memory_format("%s/%s", folder, domain);

    (void)unlink(path);
    memory_free(path);
}

static enum result read_one(const char *folder, const char *name, struct bytes *space,
                            struct sts_record *record)
{
    char *path = memory_format("%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t got = -1;

    memory_free(path);
    if (fd < 0)
        return RESULT_NOT_FOUND;
    bytes_clear(space);
    got = read(fd, bytes_reserve(space, FILE_MAX), FILE_MAX);
    (void)close(fd);
    if (got < 0)
        return RESULT_IO;
    if (sts_record_parse((struct slice){space->data, (size_t)got}, record) != RESULT_OK)
        return RESULT_CORRUPT;
    if (strcmp(record->domain, name) == 0)
        return RESULT_OK;
    sts_policy_unref(record->policy);
    return RESULT_CORRUPT;
}

static DIR *open_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* see admin/sample.c */
    DIR *entries = fd < 0 ? NULL : fdopendir(fd);

    if (fd >= 0 && !entries)
        (void)close(fd);
    return entries;
}

size_t sts_file_read_all(const char *folder, size_t most, struct sts_record **records)
{
    DIR *entries = open_folder(folder);
    struct bytes space;
    size_t count = 0;
    size_t seen = 0;

    *records = NULL;
    if (!entries)
        return 0;
    bytes_init(&space, FILE_MAX);
    for (const struct dirent *entry = readdir(entries);
         entry && seen < ENTRIES_MAX && count < most; entry = readdir(entries), seen++) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (count % 256 == 0)
            *records = memory_resize(*records, (count + 256) * sizeof **records);
        switch ((int)read_one(folder, entry->d_name, &space, &(*records)[count])) {
        case RESULT_OK:
            count++;
            break;
        case RESULT_CORRUPT: /* or the rest of a write that a crash cut off */
            sts_file_remove(folder, entry->d_name);
            break;
        default:
            break;
        }
    }
    bytes_fini(&space);
    (void)closedir(entries);
    return count;
}
