/* All that the rooms count, copied at one moment: an exposition is made of it in pieces,
 * over several turns of the loop, and is still consistent. */
#ifndef SMTPD_ADMIN_SNAPSHOT_H
#define SMTPD_ADMIN_SNAPSHOT_H

#include "sample.h"
#include "smtpd/admin/admin.h"

struct snapshot_listener {
    char name[IP_TEXT];
    struct receive_listener_statistics counts;
};

struct snapshot_certificate {
    char file[256];
    int64_t expires_ms;
};

struct snapshot_source {
    char name[DELIVER_SOURCE_TEXT];
    struct deliver_source_state state; /* its texts are gone */
};

enum { SNAPSHOT_LISTENERS = 256, SNAPSHOT_CERTIFICATES = 64 };

struct snapshot {
    struct admin_facts facts;
    char version[32];
    struct queue_statistics queue;
    struct signer_statistics sign;
    struct receive_statistics receive;
    struct deliver_statistics deliver;
    struct deliver_busiest busiest;
    struct suppression_statistics suppression;
    struct net_statistics net;
    struct resolver_statistics dns;
    struct pool_statistics pools[POOL_COUNT];
    struct loop_lag lag;
    struct sample_values process;
    struct snapshot_listener listeners[SNAPSHOT_LISTENERS];
    size_t listener_count;
    struct snapshot_certificate certificates[SNAPSHOT_CERTIFICATES];
    size_t certificate_count;
    struct snapshot_source sources[DELIVER_SOURCES_MAX];
    size_t source_count;
    int64_t now_ms;
    int64_t oldest_age_ms; /* of what waits; 0: nothing does */
    int64_t cpu_us;
    uint64_t log_dropped;
    uint64_t log_final_lost;
    bool is_ready;
};

void snapshot_take(const struct admin_rooms *rooms, const struct sample *sample,
                   struct snapshot *snapshot);

#endif
