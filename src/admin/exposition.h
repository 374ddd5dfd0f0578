/* Writes numbers as OpenMetrics 1.0 text, or as the older Prometheus text (0.0.4) for who
 * asks for it. No floating point: values are whole steps of which `per_unit` make one. */
#ifndef SMTPD_ADMIN_EXPOSITION_H
#define SMTPD_ADMIN_EXPOSITION_H

#include "smtpd/base/bytes.h"
#include "smtpd/base/histogram.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM, METRIC_INFO };

struct exposition {
    struct bytes text;
    bool is_openmetrics;
    bool has_groups;  /* headlines as comments; the older text only */
    const char *name; /* of the family, without smtpd_ and _total */
    enum metric_type type;
    bool has_labels;
    bool is_full; /* the ceiling was reached: the text is of no use */
};

enum { EXPOSITION_BYTES_MAX = 4 << 20 };

void exposition_init(struct exposition *to, bool is_openmetrics);
void exposition_fini(struct exposition *to);
const char *exposition_content_type(const struct exposition *to);

void exposition_group(struct exposition *to, const char *name);
/* A family's head, then its samples. */
void exposition_family(struct exposition *to, const char *name, enum metric_type type,
                       const char *unit, const char *help);
/* A sample: start, labels, value. `suffix` is "" but for parts of histograms. */
void exposition_start(struct exposition *to, const char *suffix);
void exposition_label(struct exposition *to, const char *name, const char *value);
void exposition_labels(struct exposition *to, const char *written); /* x="y",... as is */
void exposition_value(struct exposition *to, int64_t value, int64_t per_unit);
/* All samples of one histogram; `labels` as for exposition_labels(), or NULL. */
void exposition_histogram(struct exposition *to, const char *labels,
                          const struct histogram *histogram);
void exposition_end(struct exposition *to);

const char *metric_type_name(enum metric_type type);

#endif
