/* What the kernel says of the process: read from files now and then on the file pool, so
 * that neither the loop nor whoever asks for metrics waits for it. */
#ifndef SMTPD_ADMIN_SAMPLE_H
#define SMTPD_ADMIN_SAMPLE_H

#include "smtpd/loop/offload.h"

struct sample_values {
    uint64_t anonymous_bytes; /* RssAnon */
    uint64_t file_bytes;      /* RssFile: mapped pages of the queue, cache */
    uint64_t threads;
    uint64_t socket_bytes; /* buffers of TCP in our network namespace */
    uint64_t descriptors;
    uint64_t descriptors_max;
    int64_t taken_ms; /* wall; 0: not yet */
};

struct sample;
struct sample *sample_new(struct loop *loop, struct offload *offload);
void sample_free(struct sample *sample);
const struct sample_values *sample_read(const struct sample *sample);

/* Blocking; for the pool and the unit test. `folder` is /proc/self. */
void sample_take(const char *folder, struct sample_values *values);

#endif
