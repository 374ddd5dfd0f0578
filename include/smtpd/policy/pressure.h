/* How short of memory we are, and what is given up for it: new connections first, then new
 * messages, before the kernel has to choose a process to kill.
 *
 * Owns      looks at the kernel's files on the file pool: every half second, and more often the
 *           sooner mail at full speed could reach the first mark.
 * Promises  what counts is memory that only we can give back: RssAnon and the buffers of
 *           sockets. Mapped pages of the queue are cache and do not count. From 70 % of the
 *           limit on PRESSURE_CONNECTIONS, from 80 % PRESSURE_MESSAGES, each until 5 % below.
 * Ignores   what is said to whom: see receive.
 */
#ifndef SMTPD_POLICY_PRESSURE_H
#define SMTPD_POLICY_PRESSURE_H

#include "smtpd/loop/offload.h"

enum pressure_level {
    PRESSURE_NONE,
    PRESSURE_CONNECTIONS, /* no new connections */
    PRESSURE_MESSAGES     /* no new messages either */
};

struct pressure_settings {
    uint64_t memory_bytes; /* the limit; 0: of the cgroup (v1 or v2), else of the machine */
};

struct pressure_statistics {
    uint64_t used_bytes;
    uint64_t limit_bytes; /* 0: not known yet */
    unsigned level;       /* enum pressure_level */
};

struct pressure;
struct pressure *pressure_new(struct loop *loop, struct offload *offload);
void pressure_free(struct pressure *pressure); /* NULL is fine */
void pressure_apply(struct pressure *pressure, const struct pressure_settings *settings);
enum pressure_level pressure_level(const struct pressure *pressure); /* NULL: none */
void pressure_statistics(const struct pressure *pressure,
                         struct pressure_statistics *statistics);

/* The limit of the cgroup and those above it, else the machine's memory. Blocking: for the start. */
uint64_t pressure_limit(void);

/* For the pool and the unit test; blocking. */
struct pressure_files {
    const char *proc;       /* /proc/self */
    const char *cgroup;     /* /sys/fs/cgroup */
    uint64_t machine_bytes; /* of RAM */
};
struct pressure_measure {
    uint64_t used_bytes;
    uint64_t limit_bytes; /* the least of the cgroup, those above it, and the machine */
};
void pressure_take(const struct pressure_files *files, struct pressure_measure *measure);
enum pressure_level pressure_judge(enum pressure_level before, uint64_t used_bytes,
                                   uint64_t limit_bytes);
/* Until the next look: what is left below the first mark, filled at 200 MB/s, is not full before
 * it. 25 to 500 ms; a limit of 0 is not known yet. */
int64_t pressure_pause_ms(uint64_t used_bytes, uint64_t limit_bytes);

#endif
