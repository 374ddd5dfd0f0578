/* Where the lines of the log go. */
#include "log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum result log_output_open(const char *output, int *fd, bool *is_owned,
                            struct fault *fault)
{
    *is_owned = false;
    if (!output || strcmp(output, "stdout") == 0) {
        *fd = STDOUT_FILENO;
    } else if (strcmp(output, "stderr") == 0) {
        *fd = STDERR_FILENO;
    } else {
        *fd = open(output, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
        *is_owned = true;
        if (*fd < 0)
            return fault_set(fault, RESULT_IO, "cannot open the log %s: %s", output,
                             strerror(errno));
    }
    return RESULT_OK;
}
