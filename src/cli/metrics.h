/* The text of /metrics (of our own server) as JSON, and on a terminal. */
#ifndef SMTPD_CLI_METRICS_H
#define SMTPD_CLI_METRICS_H

#include "smtpd/base/bytes.h"

#include <jansson.h>
#include <stdint.h>

/* An array of {group, name, type, help, samples}; a sample is {labels, value}, or of a
 * histogram {labels, count, sum, buckets: [[bound, count up to it], ...]}. NULL: the text is
 * none of ours. */
json_t *metrics_parse(struct slice text);
void metrics_print(const json_t *families, int64_t now_ms);

#endif
