/* What is counted for TLS reports, on disk: one file, replaced as a whole behind a sync. Blocking: at
 * the start and the end, else on the file pool. */
#ifndef SMTPD_DELIVER_TLS_REPORT_KEEP_H
#define SMTPD_DELIVER_TLS_REPORT_KEEP_H

#include "tally.h"

/* `beside`: written first, and renamed. Two writers at once need two of them. */
enum result MUST_CHECK tls_report_keep_write(const char *path, const char *beside,
                                             struct slice text, struct fault *fault);
/* RESULT_NOT_FOUND: there is none. After another failure the tally holds a part. */
enum result MUST_CHECK tls_report_keep_read(const char *path, struct tally *tally,
                                            struct fault *fault);

#endif
