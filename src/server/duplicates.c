/* A counter that must outlive the process: what it counts happens while the process leaves,
 * when nobody asks for metrics any more. A small file in data_dir, replaced as a whole. */
#include "duplicates.h"

#include "smtpd/base/file.h"
#include "smtpd/base/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NUMBER_TEXT = 32 };

static char *path_of(const char *data_dir)
{
    return memory_format("%s/possible_duplicates", data_dir);
}

uint64_t duplicates_read(const char *data_dir)
{
    char *path = path_of(data_dir);
    char text[NUMBER_TEXT] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;

    if (fd >= 0)
        (void)close(fd);
    memory_free(path);
    return got > 0 && text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10) : 0;
}

bool duplicates_write(const char *data_dir, uint64_t count)
{
    char *path = path_of(data_dir);
    char text[NUMBER_TEXT];
    bool is_written;

    (void)snprintf(text, sizeof text, "%llu\n", (unsigned long long)count);
    is_written = file_replace(path, slice_of(text), NULL) == RESULT_OK;
    memory_free(path);
    return is_written;
}
