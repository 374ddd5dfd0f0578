/* Points in time as text. All times are milliseconds since 1970-01-01 UTC (CLOCK_REALTIME).
 * Who needs the time of day asks loop_wall_ms(): there is no clock here. */
#ifndef SMTPD_BASE_MOMENT_H
#define SMTPD_BASE_MOMENT_H

#include "smtpd/base/bytes.h"

enum { MOMENT_TEXT = 48 };

void moment_rfc3339(int64_t wall_us,
                    char text[MOMENT_TEXT]); /* 2026-11-24T10:11:12.123456Z */
void moment_rfc5322(int64_t wall_ms,
                    char text[MOMENT_TEXT]); /* Tue, 24 Nov 2026 10:11:12 +0000 */
/* "2026-12-24T18:00Z", with a fraction; seconds or the whole time of day left out; always UTC. */
enum result MUST_CHECK moment_parse(struct slice text, int64_t *wall_ms);
/* "5m", "1h30m", "250ms", "4d", as the configuration writes them; least unit ms. */
enum result MUST_CHECK duration_parse(struct slice text, int64_t *ms);
void duration_print(int64_t ms, char text[MOMENT_TEXT]); /* shortest exact form */
/* "64KiB", "25MiB", "1GiB", "512"; units KB MB GB are powers of 1000. */
enum result MUST_CHECK size_parse(struct slice text, uint64_t *bytes);
void size_print(uint64_t bytes, char text[MOMENT_TEXT]); /* shortest exact form */

#endif
