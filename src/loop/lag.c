/* Loop lag: a libuv timer of 10 ms, and how late it comes. An empty loop shows about a
 * millisecond (libuv counts in whole ones); what is more, something on the loop took. */
#include "inner.h"
#include "smtpd/base/memory.h"

#include <string.h>

enum {
    PROBE_MS = 10,
    SLICES = 6, /* the last minute as six slices of ten seconds */
    SLICE_MS = 10000,
    BUCKETS = 64 /* quarter powers of two from 16 us: up to about a second, then the rest */
};

struct lag_slice {
    uint32_t buckets[BUCKETS];
    int64_t max_us;
};

struct lag_probe {
    uv_timer_t timer;
    uint64_t expected_ns;
    int64_t slice_started_ms;
    unsigned at;
    struct lag_slice slices[SLICES];
    int64_t max_ever_us;
    uint64_t samples;
    struct histogram spread;
};

static int64_t bucket_top_us(unsigned bucket)
{
    /* 16, 19, 22, 27, 32 ... : four steps an octave. */
    static const unsigned quarter[] = {1000, 1189, 1414, 1682};

    return (INT64_C(16) << bucket / 4) * quarter[bucket % 4] / 1000;
}

static unsigned bucket_of(int64_t us)
{
    unsigned bucket = 0;

    while (bucket + 1 < BUCKETS && bucket_top_us(bucket) < us)
        bucket++;
    return bucket;
}

static void on_probe(uv_timer_t *timer)
{
    struct lag_probe *probe = timer->data;
    uint64_t now_ns = uv_hrtime();
    int64_t late_us =
        now_ns > probe->expected_ns ? (int64_t)((now_ns - probe->expected_ns) / 1000) : 0;
    int64_t now_ms = (int64_t)(now_ns / 1000000);
    struct lag_slice *slice;

    /* A loop that stood for long has left several slices behind. */
    for (int i = 0; i < SLICES && now_ms - probe->slice_started_ms >= SLICE_MS; i++) {
        probe->at = (probe->at + 1) % SLICES;
        memset(&probe->slices[probe->at], 0, sizeof probe->slices[probe->at]);
        probe->slice_started_ms += SLICE_MS;
    }
    if (now_ms - probe->slice_started_ms >= SLICE_MS)
        probe->slice_started_ms = now_ms;
    slice = &probe->slices[probe->at];
    slice->buckets[bucket_of(late_us)]++;
    if (late_us > slice->max_us)
        slice->max_us = late_us;
    if (late_us > probe->max_ever_us)
        probe->max_ever_us = late_us;
    probe->samples++;
    histogram_add(&probe->spread, late_us);
    uv_update_time(timer->loop);
    probe->expected_ns = uv_hrtime() + (uint64_t)PROBE_MS * 1000000;
    (void)uv_timer_start(timer, on_probe, PROBE_MS, 0);
}

void loop_measure_lag(struct loop *loop)
{
    struct lag_probe *probe;

    if (loop->lag)
        return;
    loop->lag = probe = NEW(struct lag_probe);
    (void)uv_timer_init(&loop->uv, &probe->timer);
    probe->timer.data = probe;
    histogram_init(&probe->spread, &histogram_short);
    probe->slice_started_ms = (int64_t)(uv_hrtime() / 1000000);
    uv_update_time(&loop->uv);
    probe->expected_ns = uv_hrtime() + (uint64_t)PROBE_MS * 1000000;
    (void)uv_timer_start(&probe->timer, on_probe, PROBE_MS, 0);
}

static void free_probe(uv_handle_t *handle)
{
    memory_free(handle->data);
}

void lag_free(struct loop *loop)
{
    if (loop->lag)
        uv_close((uv_handle_t *)&loop->lag->timer, free_probe);
    loop->lag = NULL;
}

/* The top of the bucket, but never above what was seen. */
static int64_t percentile(const uint32_t *buckets, uint64_t count, unsigned percent,
                          int64_t max_us)
{
    uint64_t wanted = (count * percent + 99) / 100;
    uint64_t seen = 0;

    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += buckets[i];
        if (seen >= wanted && i + 1 < BUCKETS)
            return bucket_top_us(i) < max_us ? bucket_top_us(i) : max_us;
    }
    return max_us;
}

void loop_lag_read(const struct loop *loop, struct loop_lag *lag)
{
    const struct lag_probe *probe = loop->lag;
    uint32_t sum[BUCKETS] = {0};
    uint64_t count = 0;

    memset(lag, 0, sizeof *lag);
    histogram_init(&lag->spread, &histogram_short);
    if (!probe || probe->samples == 0)
        return;
    for (unsigned s = 0; s < SLICES; s++) {
        for (unsigned i = 0; i < BUCKETS; i++) {
            sum[i] += probe->slices[s].buckets[i];
            count += probe->slices[s].buckets[i];
        }
        if (probe->slices[s].max_us > lag->max_us)
            lag->max_us = probe->slices[s].max_us;
    }
    lag->samples = probe->samples;
    lag->spread = probe->spread;
    lag->max_ever_us = probe->max_ever_us;
    lag->p50_us = percentile(sum, count, 50, lag->max_us);
    lag->p99_us = percentile(sum, count, 99, lag->max_us);
}
