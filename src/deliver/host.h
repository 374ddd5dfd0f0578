/* What is remembered of a host, by its name; apart for each port, route and [[destination]], because
 * a fault may lie in what these ask for (TLS, a log-in). */
#ifndef SMTPD_DELIVER_HOST_H
#define SMTPD_DELIVER_HOST_H

#include <stdint.h>

struct destination;
struct hosts; /* of deliver: bounded, the oldest give way */

struct host_memory {
    unsigned failures;
    int64_t until_ms;        /* wall: back-off */
    int64_t clear_until_ms;  /* wall: TLS is broken there */
    unsigned recipients_max; /* learned; 0: none */
};

struct hosts *hosts_new(void);
void hosts_free(struct hosts *hosts);

struct host_memory *host_find(const struct destination *destination, const char *name);
/* NULL: nothing more can be remembered. */
struct host_memory *host_memory(struct destination *destination, const char *name);
void host_fault(struct destination *destination, const char *name);
void host_works(struct destination *destination, const char *name);

#endif
