/* Copies, no arithmetic: what takes time is left to the table. */
#include "snapshot.h"

#include "request.h"
#include "smtpd/base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static void add_listener(void *owner, const char *name,
                         const struct receive_listener_statistics *counts)
{
    struct snapshot *snapshot = owner;
    struct snapshot_listener *listener;

    if (snapshot->listener_count == SNAPSHOT_LISTENERS)
        return;
    listener = &snapshot->listeners[snapshot->listener_count++];
    (void)snprintf(listener->name, sizeof listener->name, "%s", name);
    listener->counts = *counts;
}

static void add_certificates(struct snapshot *snapshot)
{
    const struct tls_server *server = snapshot->facts.tls_server;
    struct snapshot_certificate *one = snapshot->certificates;
    const char *file;

    for (size_t i = 0; server && i < SNAPSHOT_CERTIFICATES; i++, one++) {
        file = tls_server_certificate(server, i, &one->expires_ms);
        if (!file)
            break;
        (void)snprintf(one->file, sizeof one->file, "%s", file);
        snapshot->certificate_count++;
    }
    snapshot->facts.tls_server = NULL;
}

static int64_t us_of(const struct timeval *time)
{
    return (int64_t)time->tv_sec * 1000000 + time->tv_usec;
}

static void add_process(struct snapshot *snapshot)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) == 0)
        snapshot->cpu_us = us_of(&usage.ru_utime) + us_of(&usage.ru_stime);
    snapshot->log_dropped = log_dropped_count();
    snapshot->log_final_lost = log_final_lost_count();
}

static void add_source(void *owner, const struct deliver_source_state *state)
{
    struct snapshot *snapshot = owner;
    struct snapshot_source *source = &snapshot->sources[snapshot->source_count++];

    source->state = *state;
    (void)snprintf(source->name, sizeof source->name, "%s", state->name);
    source->state.name = source->state.fault = NULL;
}

void snapshot_take(const struct admin_rooms *rooms, const struct sample *sample,
                   struct snapshot *snapshot)
{
    memset(snapshot, 0, sizeof *snapshot);
    rooms->facts(rooms->owner, &snapshot->facts);
    (void)snprintf(snapshot->version, sizeof snapshot->version, "%s",
                   snapshot->facts.version);
    rooms->listeners(rooms->owner, add_listener, snapshot);
    add_certificates(snapshot);
    queue_statistics(rooms->queue, &snapshot->queue);
    signer_statistics(rooms->signer, &snapshot->sign);
    receive_statistics(rooms->receive, &snapshot->receive);
    deliver_statistics(rooms->deliver, &snapshot->deliver);
    deliver_busiest(rooms->deliver, &snapshot->busiest);
    deliver_sources(rooms->deliver, add_source, snapshot);
    suppression_statistics(rooms->suppression, &snapshot->suppression);
    net_statistics(rooms->net, &snapshot->net);
    resolver_statistics(rooms->resolver, &snapshot->dns);
    for (int i = 0; i < POOL_COUNT; i++)
        offload_statistics(rooms->offload, (enum pool_name)i, &snapshot->pools[i]);
    loop_lag_read(rooms->loop, &snapshot->lag);
    snapshot->process = *sample_read(sample);
    snapshot->now_ms = loop_wall_ms(rooms->loop);
    if (snapshot->queue.oldest_ms > 0 && snapshot->queue.oldest_ms < snapshot->now_ms)
        snapshot->oldest_age_ms = snapshot->now_ms - snapshot->queue.oldest_ms;
    snapshot->is_ready = probe_not_ready(rooms) == NULL;
    add_process(snapshot);
}
