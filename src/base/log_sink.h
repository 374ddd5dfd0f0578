/* Between the making of lines (log_line.c), the sink that takes them (log.c) and their output. */
#ifndef SMTPD_BASE_LOG_SINK_H
#define SMTPD_BASE_LOG_SINK_H

#include "smtpd/base/log.h"

/* How a new line has to look; a reload may change it between two lines. */
struct log_look {
    enum log_format format;
    bool has_colour;
    char node[256];
};

void log_line_close(struct log_line *line); /* its braces and the line feed */
void log_sink_look(struct log_look *look);
void log_sink_take(const struct log_line *line);
/* Not owned: stdout or stderr of the process. */
enum result log_output_open(const char *output, int *fd, bool *is_owned,
                            struct fault *fault);

#endif
