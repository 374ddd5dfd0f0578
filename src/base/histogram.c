/* The tables of bounds follow the habit 1, 2.5, 5 where people look closely and human steps
 * (minute, hour, day) above. A bound is cheap: eight bytes, one comparison. */
#include "smtpd/base/histogram.h"

#include "smtpd/base/check.h"

#define US INT64_C(1)
#define MS (1000 * US)
#define SECONDS (1000 * MS)
#define MINUTES (60 * SECONDS)
#define HOURS (60 * MINUTES)
#define DAYS (24 * HOURS)

/* clang-format off */
const struct histogram_bounds histogram_short = {
    1000000, 19, {
        50 * US, 100 * US, 250 * US, 500 * US,
        1 * MS, 2500 * US, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS,
        1 * SECONDS, 2500 * MS, 5 * SECONDS, 10 * SECONDS, 30 * SECONDS, 1 * MINUTES}};
const struct histogram_bounds histogram_long = {
    1000000, 24, {
        1 * MS, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS,
        1 * SECONDS, 2500 * MS, 5 * SECONDS, 10 * SECONDS, 30 * SECONDS,
        1 * MINUTES, 2 * MINUTES, 5 * MINUTES, 15 * MINUTES,
        1 * HOURS, 4 * HOURS, 12 * HOURS, 1 * DAYS, 2 * DAYS, 4 * DAYS, 7 * DAYS}};
const struct histogram_bounds histogram_items = {
    1, 13, {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}};
/* clang-format on */

void histogram_init(struct histogram *histogram, const struct histogram_bounds *bounds)
{
    CHECK(bounds->count > 0 && bounds->count <= HISTOGRAM_BUCKETS);
    *histogram = (struct histogram){.bounds = bounds};
}

void histogram_add(struct histogram *histogram, int64_t value)
{
    const struct histogram_bounds *bounds = histogram->bounds;
    size_t i = 0;

    if (value < 0)
        value = 0;
    while (i < bounds->count && value > bounds->upper[i])
        i++;
    histogram->buckets[i]++;
    histogram->count++;
    histogram->sum += value;
}

int64_t histogram_quantile(const struct histogram *histogram, unsigned per_mille)
{
    uint64_t seen = 0;

    if (histogram->count == 0)
        return 0;
    for (size_t i = 0; i < histogram->bounds->count; i++) {
        seen += histogram->buckets[i];
        /* Division first where the product would not fit: counts live as long as we do. */
        if (seen >= histogram->count / 1000 * per_mille +
                        (histogram->count % 1000 * per_mille + 999) / 1000)
            return histogram->bounds->upper[i];
    }
    return -1;
}
