/* The one table of metrics: /metrics, docs/metrics.md and `smtpd status` come from it. */
#ifndef SMTPD_ADMIN_METRICS_H
#define SMTPD_ADMIN_METRICS_H

#include "exposition.h"
#include "snapshot.h"

enum metric_value { VALUE_U64, VALUE_I64, VALUE_UNSIGNED, VALUE_BOOL, VALUE_HISTOGRAM };

typedef void metric_walk_fn(const struct snapshot *snapshot, struct exposition *to);

/* A row is a family's head and its only, or first, sample; rows without a name are further
 * samples of the family above. Labels are written as they are shown; for a walk, which
 * writes all samples by itself, only their names stand here. */
struct metric {
    const char *group; /* a headline of the manual; NULL: as above */
    const char *name;  /* without "smtpd_" and "_total"; NULL: as above */
    enum metric_type type;
    const char *unit;
    const char *labels;
    size_t offset; /* in struct snapshot */
    enum metric_value value;
    int32_t per_unit;
    metric_walk_fn *walk;
    const char *help;
};
extern const struct metric metrics[];
extern const size_t metric_count;

/* Writes rows from `first` on until `most_bytes` more are written; returns the next row. */
size_t metrics_write(const struct snapshot *snapshot, size_t first, size_t most_bytes,
                     struct exposition *to);

#endif
