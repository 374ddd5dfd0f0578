/* GET /v1/status: what the rooms count, as one JSON object; `smtpd status` prints it. */
#include "request.h"
#include "smtpd/base/log.h"

static json_t *queue_status(struct queue *queue)
{
    struct queue_statistics q;

    queue_statistics(queue, &q);
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:I,s:I,s:I,s:b,s:I}",
        "groups_waiting", (json_int_t)q.groups_waiting, "groups_held",
        (json_int_t)q.groups_held, "groups_leased", (json_int_t)q.groups_leased,
        "domain_queues", (json_int_t)q.domain_queues, "drafts", (json_int_t)q.drafts,
        "receiving_bytes", (json_int_t)q.receiving_bytes, "pending_bytes",
        (json_int_t)q.pending_bytes, "commits", (json_int_t)q.commits, "commits_failed",
        (json_int_t)q.commits_failed, "messages_committed",
        (json_int_t)q.messages_committed, "commit_us_last", (json_int_t)q.commit_us_last,
        "commit_us_max", (json_int_t)q.commit_us_max, "batch_last",
        (json_int_t)q.batch_last, "is_rebuilding", (int)q.is_rebuilding, "rebuilt_groups",
        (json_int_t)q.rebuilt_groups, "free_bytes", (json_int_t)q.free_bytes, "file_bytes",
        (json_int_t)q.file_bytes, "has_room", (int)q.has_room, "oldest_ms",
        (json_int_t)q.oldest_ms);
}

static json_t *receive_status(const struct receive *receive)
{
    struct receive_statistics r;

    receive_statistics(receive, &r);
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "connections",
        (json_int_t)r.connections, "connections_open", (json_int_t)r.connections_open,
        "connections_refused", (json_int_t)r.connections_refused, "messages_accepted",
        (json_int_t)r.messages_accepted, "recipients_accepted",
        (json_int_t)r.recipients_accepted, "bytes_accepted", (json_int_t)r.bytes_accepted,
        "messages_rejected", (json_int_t)r.messages_rejected, "auth_ok",
        (json_int_t)r.auth_ok, "auth_failed", (json_int_t)r.auth_failed, "replies_2xx",
        (json_int_t)r.replies_2xx, "replies_4xx", (json_int_t)r.replies_4xx, "replies_5xx",
        (json_int_t)r.replies_5xx);
}

static json_t *deliver_status(const struct deliver *deliver)
{
    struct deliver_statistics d;

    deliver_statistics(deliver, &d);
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "recipients_delivered",
        (json_int_t)d.recipients_delivered, "recipients_deferred",
        (json_int_t)d.recipients_deferred, "recipients_failed",
        (json_int_t)d.recipients_failed, "recipients_expired",
        (json_int_t)d.recipients_expired, "reports_queued", (json_int_t)d.reports_queued,
        "connections", (json_int_t)d.connections, "connections_failed",
        (json_int_t)d.connections_failed, "connections_open",
        (json_int_t)d.connections_open, "attempts_running", (json_int_t)d.attempts_running,
        "destinations", (json_int_t)d.destinations, "destinations_backing_off",
        (json_int_t)d.destinations_backing_off, "messages_reused_connection",
        (json_int_t)d.messages_reused_connection);
}

static json_t *net_status(const struct net *net, const struct resolver *resolver)
{
    struct net_statistics n;
    struct resolver_statistics r;

    net_statistics(net, &n);
    resolver_statistics(resolver, &r);
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "streams",
        (json_int_t)n.streams, "handshakes_running", (json_int_t)n.handshakes_running,
        "handshakes_done", (json_int_t)n.handshakes_done, "handshakes_failed",
        (json_int_t)n.handshakes_failed, "handshakes_refused",
        (json_int_t)n.handshakes_refused, "dns_queries", (json_int_t)r.queries, "dns_ok",
        (json_int_t)r.answers_ok, "dns_negative", (json_int_t)r.answers_negative,
        "dns_failed", (json_int_t)r.answers_failed, "dns_cache_hits",
        (json_int_t)r.cache_hits, "dns_cache_entries", (json_int_t)r.cache_entries,
        "dns_waiting", (json_int_t)r.waiting);
}

static json_t *pool_status(const struct offload *offload, enum pool_name name)
{
    struct pool_statistics p;

    offload_statistics(offload, name, &p);
    return json_pack("{s:i,s:i,s:i,s:I,s:I,s:I}", "threads", (int)p.threads, "waiting",
                     (int)p.waiting, "running", (int)p.running, "done", (json_int_t)p.done,
                     "refused", (json_int_t)p.refused, "wait_us_max",
                     (json_int_t)p.wait_us_max);
}

void status_handle(struct request *request)
{
    const struct admin_rooms *rooms = request->rooms;
    struct admin_facts facts = {0};
    struct loop_lag lag;
    json_t *status;

    rooms->facts(rooms->owner, &facts);
    loop_lag_read(rooms->loop, &lag);
    status = json_pack(
        "{s:s,s:s,s:I,s:I,s:b,s:i,s:i,s:i,s:{s:I,s:I,s:I,s:I},s:o,s:o,s:o,s:o,s:{s:o,s:o,s:"
        "o}}",
        "version", facts.version, "hostname", facts.hostname, "started_ms",
        (json_int_t)facts.started_ms, "now_ms", (json_int_t)loop_wall_ms(rooms->loop),
        "is_draining", (int)facts.is_draining, "listeners", (int)facts.listeners, "reloads",
        (int)facts.reloads, "reloads_failed", (int)facts.reloads_failed, "loop_lag",
        "p50_us", (json_int_t)lag.p50_us, "p99_us", (json_int_t)lag.p99_us, "max_us",
        (json_int_t)lag.max_us, "max_ever_us", (json_int_t)lag.max_ever_us, "queue",
        queue_status(rooms->queue), "receive", receive_status(rooms->receive), "deliver",
        deliver_status(rooms->deliver), "net", net_status(rooms->net, rooms->resolver),
        "pools", "crypto", pool_status(rooms->offload, POOL_CRYPTO), "password",
        pool_status(rooms->offload, POOL_PASSWORD), "file",
        pool_status(rooms->offload, POOL_FILE));
    if (!status)
        request_answer_error(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
    else {
        (void)json_object_set_new(status, "log_dropped",
                                  json_integer((json_int_t)log_dropped_count()));
        (void)json_object_set_new(status, "log_final_lost",
                                  json_integer((json_int_t)log_final_lost_count()));
        request_answer(request, MHD_HTTP_OK, status);
    }
}
