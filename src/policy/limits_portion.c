/* Formatting is part of the job too: the loop only copies. */
#include "limits_portion.h"

#include "smtpd/base/file.h"
#include "smtpd/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { PORTION_BYTES_MAX = PORTION_RECORDS * QUOTAS_MAX * 512 };

static bool write_portion(struct portion *portion)
{
    struct bytes text;
    enum result added = RESULT_OK;
    bool is_written;

    bytes_init(&text, PORTION_BYTES_MAX);
    if (portion->is_first)
        added = limits_file_begin(&text, &portion->sealed);
    for (size_t i = 0; i < portion->count && added == RESULT_OK; i++)
        added = limits_file_add(&text, &portion->sealed, &portion->records[i]);
    if (portion->is_last && added == RESULT_OK)
        added = limits_file_end(&text, &portion->sealed);
    is_written = added == RESULT_OK && file_write_all(portion->fd, bytes_view(&text));
    bytes_fini(&text);
    return is_written;
}

void portion_run(void *input)
{
    struct portion *portion = input;

    if (portion->is_first)
        portion->fd = open(portion->beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    portion->has_failed = portion->fd < 0 || !write_portion(portion);
    if (portion->is_last && !portion->has_failed)
        portion->has_failed = fsync(portion->fd) != 0;
    portion->error = errno;
    if ((portion->is_last || portion->has_failed) && portion->fd >= 0) {
        (void)close(portion->fd);
        portion->fd = -1;
    }
    if (portion->is_last && !portion->has_failed &&
        rename(portion->beside, portion->path) != 0) {
        portion->has_failed = true;
        portion->error = errno;
    }
}

void portion_free(void *input)
{
    struct portion *portion = input;

    if (portion->fd >= 0)
        (void)close(portion->fd);
    memory_free(portion);
}

struct portion *portion_new(const char *path)
{
    struct portion *portion = NEW(struct portion);

    portion->fd = -1;
    portion->is_first = true;
    (void)snprintf(portion->path, sizeof portion->path, "%s", path);
    (void)snprintf(portion->beside, sizeof portion->beside, "%s.new", path);
    return portion;
}
