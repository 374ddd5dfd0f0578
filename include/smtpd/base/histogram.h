/* How values are spread: a count per bucket, the sum and the count of all.
 *
 * Owns      nothing: a plain struct, which may be copied as a whole to be read.
 * Promises  adding is integer arithmetic over at most HISTOGRAM_BUCKETS comparisons: no
 *           allocation, no floating point. A value that is equal to a bound belongs into
 *           that bound's bucket (the `le` of OpenMetrics); negative values count as 0.
 * Ignores   what is measured. One thread at a time.
 */
#ifndef SMTPD_BASE_HISTOGRAM_H
#define SMTPD_BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 24 };

/* Upper bounds in whole steps; `per_unit` steps are one unit of what is shown (1,000,000
 * for microseconds shown as seconds, 1 for things that are counted). */
struct histogram_bounds {
    int64_t per_unit;
    size_t count;
    int64_t upper[HISTOGRAM_BUCKETS]; /* rising */
};
extern const struct histogram_bounds histogram_short; /* us: 50 us to 1 minute */
extern const struct histogram_bounds histogram_long;  /* us: 1 ms to 7 days */
extern const struct histogram_bounds histogram_items; /* 1 to 10,000 things at once */

struct histogram {
    const struct histogram_bounds *bounds;
    uint64_t buckets[HISTOGRAM_BUCKETS + 1]; /* not cumulative; [count]: above all bounds */
    uint64_t count;
    int64_t sum; /* in steps */
};

void histogram_init(struct histogram *histogram, const struct histogram_bounds *bounds);
void histogram_add(struct histogram *histogram, int64_t value);
/* The bound at or below which at least `per_mille` of the values are; 0 without values; -1
 * when it lies above every bound. */
int64_t histogram_quantile(const struct histogram *histogram, unsigned per_mille);

#endif
