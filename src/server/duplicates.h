/* How many deliveries were ever cut behind their final dot, over restarts. Blocking: at the
 * start and at the end of the process. */
#ifndef SMTPD_SERVER_DUPLICATES_H
#define SMTPD_SERVER_DUPLICATES_H

#include <stdbool.h>
#include <stdint.h>

uint64_t duplicates_read(const char *data_dir); /* 0: none yet, or not readable */
bool duplicates_write(const char *data_dir, uint64_t count);

#endif
