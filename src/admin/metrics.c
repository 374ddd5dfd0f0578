/* Labels come from sets that do not grow: codes of our own table, listeners and files of
 * the configuration, and the hundred busiest destinations. */
#include "metrics.h"

#include "smtpd/deliver/destinations.h"
#include "why.h"

#include <string.h>

static void walk_connections(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->listener_count; i++) {
        const struct snapshot_listener *listener = &snapshot->listeners[i];

        exposition_start(to, "");
        exposition_label(to, "listener", listener->name);
        exposition_labels(to, "result=\"accepted\"");
        exposition_value(to, (int64_t)listener->counts.accepted, 1);
        exposition_start(to, "");
        exposition_label(to, "listener", listener->name);
        exposition_labels(to, "result=\"refused\"");
        exposition_value(to, (int64_t)listener->counts.refused, 1);
    }
}

static void write_code(struct exposition *to, unsigned code, uint64_t count)
{
    char text[] = {(char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10),
                   (char)('0' + code % 10), '\0'};

    exposition_start(to, "");
    exposition_label(to, "code", text);
    exposition_value(to, (int64_t)count, 1);
}

static void walk_replies(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->receive.code_count; i++)
        write_code(to, snapshot->receive.codes[i].code, snapshot->receive.codes[i].replies);
}

static void walk_rejected(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->receive.code_count; i++)
        if (snapshot->receive.codes[i].code >= 400)
            write_code(to, snapshot->receive.codes[i].code,
                       snapshot->receive.codes[i].messages_rejected);
}

static void write_class(struct exposition *to, const char *result, int class,
                        uint64_t count)
{
    exposition_start(to, "");
    exposition_label(to, "result", result);
    exposition_label(to, "class", deliver_class_name((enum deliver_class) class));
    exposition_value(to, (int64_t)count, 1);
}

static void walk_classes(const struct snapshot *snapshot, struct exposition *to)
{
    for (int class = CLASS_BAD_MAILBOX; class < CLASS_COUNT; class ++)
        write_class(to, "deferred", class, snapshot->deliver.deferred_by_class[class]);
    for (int class = CLASS_EXPIRED; class < CLASS_COUNT; class ++)
        write_class(to, "failed", class, snapshot->deliver.failed_by_class[class]);
}

/* Of a destination it is a reply at the start, or what became of the connection. */
static void walk_backoffs(const struct snapshot *snapshot, struct exposition *to)
{
    for (int class = CLASS_BAD_MAILBOX; class < CLASS_COUNT; class ++) {
        exposition_start(to, "");
        exposition_label(to, "class", deliver_class_name((enum deliver_class) class));
        exposition_value(to, (int64_t)snapshot->deliver.backoffs_by_class[class], 1);
    }
}

static void write_result(struct exposition *to, const char *what, const char *name,
                         const struct deliver_result *result)
{
    const struct {
        const char *label;
        uint64_t count;
    } samples[] = {{"result=\"delivered\"", result->delivered},
                   {"result=\"deferred\"", result->deferred},
                   {"result=\"failed\"", result->failed}};

    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        exposition_start(to, "");
        exposition_label(to, what, name);
        exposition_labels(to, samples[i].label);
        exposition_value(to, (int64_t)samples[i].count, 1);
    }
}

static void walk_destinations(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->busiest.count; i++)
        write_result(to, "destination", snapshot->busiest.named[i].name,
                     &snapshot->busiest.named[i].result);
    write_result(to, "destination", "other", &snapshot->busiest.other);
}

static void walk_sources(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->source_count; i++)
        write_result(to, "source", snapshot->sources[i].name,
                     &snapshot->sources[i].state.result);
}

static void write_source(struct exposition *to, const struct snapshot_source *source,
                         int64_t value)
{
    exposition_start(to, "");
    exposition_label(to, "source", source->name);
    exposition_value(to, value, 1);
}

static void walk_source_connections(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->source_count; i++)
        write_source(to, &snapshot->sources[i], snapshot->sources[i].state.connections);
}

static void walk_source_aside(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->source_count; i++)
        write_source(to, &snapshot->sources[i], snapshot->sources[i].state.is_aside);
}

static void walk_warm_up_quota(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->source_count; i++)
        if (snapshot->sources[i].state.is_warming)
            write_source(to, &snapshot->sources[i], snapshot->sources[i].state.quota);
}

static void walk_warm_up_sent(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->source_count; i++)
        if (snapshot->sources[i].state.is_warming)
            write_source(to, &snapshot->sources[i], snapshot->sources[i].state.used);
}

static void write_destination(struct exposition *to, const char *name, int64_t value)
{
    exposition_start(to, "");
    exposition_label(to, "destination", name);
    exposition_value(to, value, 1);
}

static void walk_destination_connections(const struct snapshot *snapshot,
                                         struct exposition *to)
{
    for (size_t i = 0; i < snapshot->busiest.count; i++)
        write_destination(to, snapshot->busiest.named[i].name,
                          snapshot->busiest.named[i].connections);
}

static void walk_destination_backing_off(const struct snapshot *snapshot,
                                         struct exposition *to)
{
    for (size_t i = 0; i < snapshot->busiest.count; i++)
        write_destination(to, snapshot->busiest.named[i].name,
                          snapshot->busiest.named[i].is_backing_off);
}

static void write_reason(struct exposition *to, enum why_kind kind, uint64_t count)
{
    exposition_start(to, "");
    exposition_label(to, "reason", why_name(kind));
    exposition_value(to, (int64_t)count, 1);
}

/* The reasons of lanes are the numbers that the queue counts by. */
static void walk_waiting(const struct snapshot *snapshot, struct exposition *to)
{
    const uint64_t *counts = snapshot->queue.groups_by_reason;

    write_reason(to, WHY_SCHEDULED, counts[WHY_SCHEDULED]);
    write_reason(to, WHY_HELD, snapshot->queue.groups_held);
    write_reason(to, WHY_DNS, counts[WHY_DNS]);
    write_reason(to, WHY_DESTINATION, counts[WHY_DESTINATION]);
    write_reason(to, WHY_CONNECTIONS, counts[WHY_CONNECTIONS] + counts[WHY_LEASED]);
    write_reason(to, WHY_SUSPENDED, counts[WHY_SUSPENDED]);
    write_reason(to, WHY_SOURCE, counts[WHY_SOURCE]);
    write_reason(to, WHY_WARM_UP, counts[WHY_WARM_UP]);
    write_reason(to, WHY_READY_FULL, counts[WHY_READY_FULL]);
    write_reason(to, WHY_NO_ROOM, counts[WHY_NO_ROOM]);
    write_reason(to, WHY_DRAINING, counts[WHY_DRAINING]);
    write_reason(to, WHY_OVERFLOW, snapshot->queue.groups_overflow);
}

static void walk_certificates(const struct snapshot *snapshot, struct exposition *to)
{
    for (size_t i = 0; i < snapshot->certificate_count; i++) {
        exposition_start(to, "");
        exposition_label(to, "file", snapshot->certificates[i].file);
        exposition_value(to, snapshot->certificates[i].expires_ms, 1000);
    }
}

static void walk_build(const struct snapshot *snapshot, struct exposition *to)
{
    exposition_start(to, "");
    exposition_label(to, "version", snapshot->version);
    exposition_value(to, 1, 1);
}

/* ---- the table ---- */

#define VALUE_OF(field)                                                                    \
    _Generic(((struct snapshot *)NULL)->field, uint64_t                                    \
             : VALUE_U64, int64_t                                                          \
             : VALUE_I64, unsigned                                                         \
             : VALUE_UNSIGNED, bool                                                        \
             : VALUE_BOOL, struct histogram                                                \
             : VALUE_HISTOGRAM)
#define AT(field) offsetof(struct snapshot, field), VALUE_OF(field)
#define SAME NULL
#define COUNTER METRIC_COUNTER
#define GAUGE METRIC_GAUGE
#define HISTOGRAM METRIC_HISTOGRAM
#define MORE(labels, field, per_unit)                                                      \
    {                                                                                      \
        NULL, NULL, GAUGE, NULL, labels, AT(field), per_unit, NULL, NULL                   \
    }
#define WALK 0, VALUE_U64, 1

/* clang-format off */
const struct metric metrics[] = {
    {"Process", "build", METRIC_INFO, NULL, "version", WALK, walk_build, "The version that runs."},
    {SAME, "start_time_seconds", GAUGE, "seconds", NULL, AT(facts.started_ms), 1000, NULL, "When the process started, since 1970."},
    {SAME, "ready", GAUGE, NULL, NULL, AT(is_ready), 1, NULL, "1: /readyz says 200."},
    {SAME, "draining", GAUGE, NULL, NULL, AT(facts.is_draining), 1, NULL, "1: the process got a SIGTERM and is leaving."},
    {SAME, "reloads", COUNTER, NULL, "result=\"ok\"", AT(facts.reloads), 1, NULL, "Configurations that SIGHUP brought into effect, and that were refused."},
    MORE("result=\"failed\"", facts.reloads_failed, 1),
    {SAME, "cpu_seconds", COUNTER, "seconds", NULL, AT(cpu_us), 1000000, NULL, "CPU time of all threads."},
    {SAME, "memory_bytes", GAUGE, "bytes", "kind=\"anonymous\"", AT(process.anonymous_bytes), 1, NULL, "Memory: anonymous (RssAnon), mapped file pages (cache that the kernel may take back), TCP buffers of the network namespace. Sampled every 5 s."},
    MORE("kind=\"file\"", process.file_bytes, 1),
    MORE("kind=\"sockets\"", process.socket_bytes, 1),
    {SAME, "memory_counted_bytes", GAUGE, "bytes", NULL, AT(receive.pressure.used_bytes), 1, NULL, "What counts against limits.memory: anonymous memory and the process's sockets. Looked at twice a second, near the limit up to 40 times."},
    {SAME, "memory_limit_bytes", GAUGE, "bytes", NULL, AT(receive.pressure.limit_bytes), 1, NULL, "limits.memory as it is in effect: the option, the cgroup's limit or the machine's memory."},
    {SAME, "memory_pressure", GAUGE, NULL, NULL, AT(receive.pressure.level), 1, NULL, "1: new connections are refused for want of memory; 2: new messages too."},
    {SAME, "threads", GAUGE, NULL, NULL, AT(process.threads), 1, NULL, "Threads of the process. Sampled every 5 s."},
    {SAME, "descriptors_open", GAUGE, NULL, NULL, AT(process.descriptors), 1, NULL, "File descriptors in use. Sampled every 5 s."},
    {SAME, "descriptors_limit", GAUGE, NULL, NULL, AT(process.descriptors_max), 1, NULL, "File descriptors that the process may have."},
    {SAME, "sampled_timestamp_seconds", GAUGE, "seconds", NULL, AT(process.taken_ms), 1000, NULL, "When the sampled values of this group were taken, since 1970; old when the disk hangs."},
    {SAME, "log_lines_dropped", COUNTER, NULL, NULL, AT(log_dropped), 1, NULL, "Log lines that the output was too slow for. Lines that end a recipient's life are never among them."},
    {SAME, "log_final_lines_lost", COUNTER, NULL, NULL, AT(log_final_lost), 1, NULL, "Log lines that end a recipient's life and were lost, because the output stood and four times the log's memory was full of them."},
    {SAME, "loop_lag_seconds", HISTOGRAM, "seconds", NULL, AT(lag.spread), 1000000, NULL, "How late a probe of 10 ms comes: what the loop did instead. An empty loop shows about a millisecond."},
    {SAME, "loop_lag_max_seconds", GAUGE, "seconds", NULL, AT(lag.max_us), 1000000, NULL, "The latest probe of the last minute."},

    {"Receiving", "connections", COUNTER, NULL, "listener,result", WALK, walk_connections, "Connections of clients by listener: accepted, or refused (421) at once."},
    {SAME, "connections_open", GAUGE, NULL, NULL, AT(receive.connections_open), 1, NULL, "Clients connected now."},
    {SAME, "sessions", COUNTER, NULL, "tls=\"none\"", AT(receive.sessions_by_tls[RECEIVE_TLS_CLEAR]), 1, NULL, "Sessions that ended, by their TLS version."},
    MORE("tls=\"1.2\"", receive.sessions_by_tls[RECEIVE_TLS_1_2], 1),
    MORE("tls=\"1.3\"", receive.sessions_by_tls[RECEIVE_TLS_1_3], 1),
    {SAME, "replies", COUNTER, NULL, "code", WALK, walk_replies, "Replies to clients by code."},
    {SAME, "auth_attempts", COUNTER, NULL, "result=\"ok\"", AT(receive.auth_ok), 1, NULL, "Log-ins: good; failed (535); busy (454): the password pool was full."},
    MORE("result=\"failed\"", receive.auth_failed, 1),
    MORE("result=\"busy\"", receive.auth_busy, 1),
    {SAME, "auth_failures", COUNTER, NULL, "reason=\"password\"", AT(receive.auth.answers[AUTH_WRONG]), 1, NULL, "Failed log-ins by what the log says of them: a wrong password (or no such user), a network that the user may not come from, a lock-out."},
    MORE("reason=\"network\"", receive.auth.answers[AUTH_WRONG_NETWORK], 1),
    MORE("reason=\"locked_out\"", receive.auth.answers[AUTH_LOCKED_OUT], 1),
    {SAME, "auth_lockouts", COUNTER, NULL, "of=\"address\"", AT(receive.auth.lockouts_of_addresses), 1, NULL, "Lock-outs after too many failed log-ins."},
    MORE("of=\"user\"", receive.auth.lockouts_of_users, 1),
    {SAME, "auth_locked_out", GAUGE, NULL, "of=\"address\"", AT(receive.auth.locked_addresses), 1, NULL, "Addresses and users that are locked out now."},
    MORE("of=\"user\"", receive.auth.locked_users, 1),
    {SAME, "messages_accepted", COUNTER, NULL, NULL, AT(receive.messages_accepted), 1, NULL, "Messages that got their 250."},
    {SAME, "messages_rejected", COUNTER, NULL, "code", WALK, walk_rejected, "Messages that were refused at or behind the final dot, by the reply."},
    {SAME, "recipients_received", COUNTER, NULL, "result=\"accepted\"", AT(receive.recipients_accepted), 1, NULL, "Recipients of accepted messages, and RCPT commands that were refused."},
    MORE("result=\"rejected\"", receive.recipients_rejected, 1),
    {SAME, "received_bytes", COUNTER, "bytes", NULL, AT(receive.bytes_accepted), 1, NULL, "Bytes of accepted messages."},
    {SAME, "final_dot_seconds", HISTOGRAM, "seconds", NULL, AT(receive.final_dot), 1000000, NULL, "From the final dot to its 250: the wait for the commit."},
    {SAME, "limits_reached", COUNTER, NULL, "limit=\"connections\"", AT(receive.limits[RECEIVE_LIMIT_CONNECTIONS]), 1, NULL, "How often clients met a limit."},
    MORE("limit=\"connections_per_address\"", receive.limits[RECEIVE_LIMIT_CONNECTIONS_PER_ADDRESS], 1),
    MORE("limit=\"connections_per_network\"", receive.limits[RECEIVE_LIMIT_CONNECTIONS_PER_NETWORK], 1),
    MORE("limit=\"connection_rate\"", receive.limits[RECEIVE_LIMIT_CONNECTION_RATE], 1),
    MORE("limit=\"connection_rate_per_network\"", receive.limits[RECEIVE_LIMIT_NETWORK_CONNECTION_RATE], 1),
    MORE("limit=\"handshakes\"", receive.limits[RECEIVE_LIMIT_HANDSHAKES], 1),
    MORE("limit=\"password_pool\"", receive.limits[RECEIVE_LIMIT_PASSWORD_POOL], 1),
    MORE("limit=\"messages_per_user\"", receive.sending.reached[LIMITS_USER_MESSAGES], 1),
    MORE("limit=\"recipients_per_user\"", receive.sending.reached[LIMITS_USER_RECIPIENTS], 1),
    MORE("limit=\"messages_per_address\"", receive.sending.reached[LIMITS_ADDRESS_MESSAGES], 1),
    MORE("limit=\"recipients_per_address\"", receive.sending.reached[LIMITS_ADDRESS_RECIPIENTS], 1),
    MORE("limit=\"counted_senders\"", receive.sending.full, 1),
    MORE("limit=\"failed_log_ins\"", receive.limits[RECEIVE_LIMIT_FAILED_LOG_INS], 1),
    MORE("limit=\"recipients_per_message\"", receive.limits[RECEIVE_LIMIT_RECIPIENTS], 1),
    MORE("limit=\"message_size\"", receive.limits[RECEIVE_LIMIT_MESSAGE_SIZE], 1),
    MORE("limit=\"header_section\"", receive.limits[RECEIVE_LIMIT_HEADER_SECTION], 1),
    MORE("limit=\"received_hops\"", receive.limits[RECEIVE_LIMIT_RECEIVED_HOPS], 1),
    MORE("limit=\"bad_commands\"", receive.limits[RECEIVE_LIMIT_BAD_COMMANDS], 1),
    MORE("limit=\"idle_timeout\"", receive.limits[RECEIVE_LIMIT_IDLE], 1),
    MORE("limit=\"min_free_space\"", receive.limits[RECEIVE_LIMIT_SPACE], 1),
    MORE("limit=\"session_memory\"", receive.limits[RECEIVE_LIMIT_MEMORY], 1),
    MORE("limit=\"unknown_recipients\"", receive.limits[RECEIVE_LIMIT_UNKNOWN_RECIPIENTS], 1),
    MORE("limit=\"offenders\"", receive.limits[RECEIVE_LIMIT_OFFENDERS], 1),
    MORE("limit=\"memory_connections\"", receive.limits[RECEIVE_LIMIT_MEMORY_CONNECTIONS], 1),
    MORE("limit=\"memory_messages\"", receive.limits[RECEIVE_LIMIT_MEMORY_MESSAGES], 1),
    {SAME, "strangers_refused", COUNTER, NULL, "rule=\"greeting_delay\"", AT(receive.rules[RECEIVE_RULE_GREETING_DELAY]), 1, NULL, "Refusals of clients that neither logged in nor are trusted, by the option of [policy]."},
    MORE("rule=\"dnsbl\"", receive.rules[RECEIVE_RULE_DNSBL], 1),
    MORE("rule=\"reverse_dns\"", receive.rules[RECEIVE_RULE_REVERSE_DNS], 1),
    MORE("rule=\"helo_checks\"", receive.rules[RECEIVE_RULE_HELO_CHECKS], 1),
    {SAME, "dnsbl_answers", COUNTER, NULL, "result=\"listed\"", AT(receive.screen.listed), 1, NULL, "What [[dnsbl]] lists said of clients; failed: no answer in time, or a refusal to answer."},
    MORE("result=\"clear\"", receive.screen.clear, 1),
    MORE("result=\"failed\"", receive.screen.failed, 1),

    {"Signing", "signed_messages", COUNTER, NULL, NULL, AT(sign.messages), 1, NULL, "Messages that got their DKIM signatures."},
    {SAME, "signing_refused", COUNTER, NULL, NULL, AT(sign.refused), 1, NULL, "Messages put off (451 4.7.5) because the crypto pool was full."},
    {SAME, "signatures", COUNTER, NULL, "kind=\"rsa\",result=\"ok\"", AT(sign.kinds[KEY_RSA].signatures), 1, NULL, "Signatures by the kind of the key."},
    MORE("kind=\"rsa\",result=\"failed\"", sign.kinds[KEY_RSA].failures, 1),
    MORE("kind=\"ed25519\",result=\"ok\"", sign.kinds[KEY_ED25519].signatures, 1),
    MORE("kind=\"ed25519\",result=\"failed\"", sign.kinds[KEY_ED25519].failures, 1),
    {SAME, "signature_seconds", HISTOGRAM, "seconds", "kind=\"rsa\"", AT(sign.kinds[KEY_RSA].us), 1000000, NULL, "Time of the key's arithmetic, on the crypto pool."},
    MORE("kind=\"ed25519\"", sign.kinds[KEY_ED25519].us, 1000000),
    {SAME, "signing_keys", GAUGE, NULL, NULL, AT(sign.keys), 1, NULL, "Keys in effect."},
    {SAME, "signing_key_loads_failed", COUNTER, NULL, NULL, AT(sign.loads_failed), 1, NULL, "Changed key files that could not be read: the old keys stayed."},

    {"Queue", "queue_groups", GAUGE, NULL, "state=\"waiting\"", AT(queue.groups_waiting), 1, NULL, "Groups (the recipients of one message at one domain or route) that wait for their time, that an operator holds, and that an attempt has."},
    MORE("state=\"held\"", queue.groups_held, 1),
    MORE("state=\"leased\"", queue.groups_leased, 1),
    {SAME, "queue_waiting_groups", GAUGE, NULL, "reason", WALK, walk_waiting, "Waiting and held groups by what holds their domain or route now: scheduled (each its own next try), held, dns (a look-up failed, or others are asked before), destination (it rests after a fault), connections (it is being served: all are busy, or its rate lets no more through), suspended (by a reaction to what its destination said), source (none of its pool can be used), warm_up (they have sent what they may today), ready_full (too many destinations), no_room (log or disk), draining, overflow (more domains than the index has room for)."},
    {SAME, "queue_domains", GAUGE, NULL, NULL, AT(queue.domain_queues), 1, NULL, "Domains and routes that mail waits for."},
    {SAME, "queue_oldest_age_seconds", GAUGE, "seconds", NULL, AT(oldest_age_ms), 1000, NULL, "Age of the oldest message that waits; 0: none."},
    {SAME, "queue_drafts", GAUGE, NULL, NULL, AT(queue.drafts), 1, NULL, "Messages that are being received."},
    {SAME, "queue_receiving_bytes", GAUGE, "bytes", NULL, AT(queue.receiving_bytes), 1, NULL, "Memory of messages that are being received."},
    {SAME, "queue_pending_bytes", GAUGE, "bytes", NULL, AT(queue.pending_bytes), 1, NULL, "Memory of finished messages that wait for their commit."},
    {SAME, "queue_outbound_bytes", GAUGE, "bytes", NULL, AT(queue.outbound_window_bytes), 1, NULL, "Memory of messages on their way out."},
    {SAME, "queue_rebuilding", GAUGE, NULL, NULL, AT(queue.is_rebuilding), 1, NULL, "1: the index is being rebuilt after a start, and the numbers of this group are not whole yet."},
    {SAME, "queue_rebuilt_groups", GAUGE, NULL, NULL, AT(queue.rebuilt_groups), 1, NULL, "Groups found by the last rebuild so far."},
    {SAME, "time_in_queue_seconds", HISTOGRAM, "seconds", NULL, AT(deliver.time_in_queue), 1000000, NULL, "From arrival to the end of a recipient: delivered, bounced or expired."},

    {"Store", "store_commits", COUNTER, NULL, "result=\"ok\"", AT(queue.commits), 1, NULL, "Transactions of the queue file."},
    MORE("result=\"failed\"", queue.commits_failed, 1),
    {SAME, "store_commit_seconds", HISTOGRAM, "seconds", NULL, AT(queue.commit), 1000000, NULL, "Length of a transaction, its syncs included."},
    {SAME, "store_batch_operations", HISTOGRAM, "operations", NULL, AT(queue.batch), 1, NULL, "Operations that one commit carried."},
    {SAME, "store_messages_committed", COUNTER, NULL, NULL, AT(queue.messages_committed), 1, NULL, "Messages written, reports included."},
    {SAME, "store_room_bytes", GAUGE, "bytes", NULL, AT(queue.free_bytes), 1, NULL, "What queue.min_free_space is compared with: room on the disk (and in the map) plus free pages inside the file."},
    {SAME, "store_disk_free_bytes", GAUGE, "bytes", NULL, AT(queue.disk_free_bytes), 1, NULL, "Room on the file system of data_dir."},
    {SAME, "store_free_page_bytes", GAUGE, "bytes", NULL, AT(queue.free_page_bytes), 1, NULL, "Free pages inside the queue file, used again before it grows."},
    {SAME, "store_file_bytes", GAUGE, "bytes", NULL, AT(queue.file_bytes), 1, NULL, "Size of the queue file; it never shrinks."},
    {SAME, "store_map_bytes", GAUGE, "bytes", NULL, AT(queue.map_bytes), 1, NULL, "Address space reserved for the file: it cannot grow beyond."},

    {"Delivery", "recipients_delivered", COUNTER, NULL, "tls=\"none\"", AT(deliver.delivered_by_tls[0]), 1, NULL, "Recipients that a next hop or a mailbox accepted, by the TLS version of the way there."},
    MORE("tls=\"1.2\"", deliver.delivered_by_tls[1], 1),
    MORE("tls=\"1.3\"", deliver.delivered_by_tls[2], 1),
    MORE("tls=\"local\"", deliver.delivered_local, 1),
    {SAME, "recipients_delivered_over_tls", COUNTER, NULL, "policy=\"none\"", AT(deliver.delivered_by_policy[DELIVER_TLS_AS_SET]), 1, NULL, "Recipients that a next hop accepted over TLS, by what their domain asked for beside the settings. dane-unusable: it has TLSA records, and none that can be used. sts: an MTA-STS policy that is enforced; sts-testing: one that is not."},
    MORE("policy=\"dane\"", deliver.delivered_by_policy[DELIVER_TLS_DANE], 1),
    MORE("policy=\"dane-unusable\"", deliver.delivered_by_policy[DELIVER_TLS_DANE_UNUSABLE], 1),
    MORE("policy=\"sts\"", deliver.delivered_by_policy[DELIVER_TLS_STS], 1),
    MORE("policy=\"sts-testing\"", deliver.delivered_by_policy[DELIVER_TLS_STS_TESTING], 1),
    {SAME, "mta_sts_fetches", COUNTER, NULL, "result=\"ok\"", AT(deliver.sts_fetches[DELIVER_STS_FETCHED]), 1, NULL, "MTA-STS policies that were asked for: had, or not, and at which step it ended. answer: no 200 with a text of a fitting size; invalid: no policy; busy: too many TLS handshakes of our own."},
    MORE("result=\"address\"", deliver.sts_fetches[DELIVER_STS_NO_ADDRESS], 1),
    MORE("result=\"connection\"", deliver.sts_fetches[DELIVER_STS_NO_CONNECTION], 1),
    MORE("result=\"tls\"", deliver.sts_fetches[DELIVER_STS_NO_TLS], 1),
    MORE("result=\"answer\"", deliver.sts_fetches[DELIVER_STS_NO_ANSWER], 1),
    MORE("result=\"invalid\"", deliver.sts_fetches[DELIVER_STS_INVALID], 1),
    MORE("result=\"busy\"", deliver.sts_fetches[DELIVER_STS_BUSY], 1),
    {SAME, "mta_sts_policies", GAUGE, NULL, NULL, AT(deliver.sts_policies), 1, NULL, "MTA-STS policies that are known."},
    {SAME, "tls_report_sessions", COUNTER, NULL, "policy=\"no-policy-found\"", AT(deliver.tls_sessions[0][0]), 1, NULL, "Sessions counted for reports of TLS (RFC 8460) that went as the policy of their domain asks."},
    MORE("policy=\"sts\"", deliver.tls_sessions[1][0], 1),
    MORE("policy=\"tlsa\"", deliver.tls_sessions[2][0], 1),
    {SAME, "tls_report_failures", COUNTER, NULL, "policy=\"no-policy-found\"", AT(deliver.tls_sessions[0][1]), 1, NULL, "Those that did not; a policy that could not be had counts as one."},
    MORE("policy=\"sts\"", deliver.tls_sessions[1][1], 1),
    MORE("policy=\"tlsa\"", deliver.tls_sessions[2][1], 1),
    {SAME, "tls_report_sessions_uncounted", COUNTER, NULL, NULL, AT(deliver.tls_sessions_uncounted), 1, NULL, "Sessions that are in no report: so many domains are being counted that there was no room for theirs."},
    {SAME, "tls_reports", COUNTER, NULL, "result=\"sent\"", AT(deliver.tls_reports[DELIVER_TLS_REPORT_SENT]), 1, NULL, "Reports of TLS: sent (into our queue, or taken by a web server), unwanted (the domain asks for none), failed (each try)."},
    MORE("result=\"unwanted\"", deliver.tls_reports[DELIVER_TLS_REPORT_UNWANTED], 1),
    MORE("result=\"failed\"", deliver.tls_reports[DELIVER_TLS_REPORT_FAILED], 1),
    {SAME, "mta_sts_testing_failures", COUNTER, NULL, NULL, AT(deliver.sts_testing_failures), 1, NULL, "Messages that a connection took which the MTA-STS policy of their domain would forbid, were it enforced."},
    {SAME, "recipients_not_delivered", COUNTER, NULL, "result,class", WALK, walk_classes, "Answers that put a recipient off (deferred: once for each try) or ended it (failed: bounced; class expired: given up at queue.expire), by class (docs/classes.md)."},
    {SAME, "reports", COUNTER, NULL, NULL, AT(deliver.reports_queued), 1, NULL, "Reports to senders: bounces, delays, deliveries."},
    {SAME, "possible_duplicates", COUNTER, NULL, NULL, AT(facts.possible_duplicates), 1, NULL, "Attempts that stood behind their final dot when the process had to leave: their mail may come twice. Goes on over restarts."},
    {SAME, "delay_seconds", HISTOGRAM, "seconds", "stage=\"receive\"", AT(receive.whole), 1000000, NULL, "Where time goes: receive (MAIL to our 250), queue (arrival to an attempt), connect (for attempts that made a connection), transfer (MAIL to the next hop's last answer)."},
    MORE("stage=\"queue\"", deliver.delay_queue, 1000000),
    MORE("stage=\"connect\"", deliver.delay_connect, 1000000),
    MORE("stage=\"transfer\"", deliver.delay_transfer, 1000000),
    {SAME, "delivery_connections", COUNTER, NULL, NULL, AT(deliver.connections), 1, NULL, "Connections to next hops that were begun."},
    {SAME, "delivery_connections_failed", COUNTER, NULL, NULL, AT(deliver.connections_failed), 1, NULL, "Of those, the ones that broke before the first message."},
    {SAME, "delivery_connections_open", GAUGE, NULL, NULL, AT(deliver.connections_open), 1, NULL, "Connections to next hops now."},
    {SAME, "delivery_connections_reused", COUNTER, NULL, NULL, AT(deliver.messages_reused_connection), 1, NULL, "Messages that went over a connection that was there."},
    {SAME, "delivery_messages_in_flight", COUNTER, NULL, NULL, AT(deliver.messages_in_flight), 1, NULL, "Of those, the ones that were begun before the one ahead of them was answered."},
    {SAME, "delivery_hosts_lock_step", COUNTER, NULL, NULL, AT(deliver.hosts_lock_step), 1, NULL, "Hosts whose replies did not fit what was said ahead of them, and that are spoken to step by step for a day."},
    {SAME, "delivery_attempts_running", GAUGE, NULL, NULL, AT(deliver.attempts_running), 1, NULL, "Attempts in progress."},
    {SAME, "destinations", GAUGE, NULL, NULL, AT(deliver.destinations), 1, NULL, "Destinations known: sets of mail exchangers, routes."},
    {SAME, "paces", GAUGE, NULL, NULL, AT(deliver.paces), 1, NULL, "Paces known: what limits hold for, a destination or all that a [[destination]] block matches by mail exchangers."},
    {SAME, "suspensions", GAUGE, NULL, "reach=\"domain\"", AT(deliver.suspensions[REACH_DOMAIN]), 1, NULL, "What operators suspended: recipient domains, destinations, scopes (smtpd destination suspend)."},
    MORE("reach=\"destination\"", deliver.suspensions[REACH_DESTINATION], 1),
    MORE("reach=\"scope\"", deliver.suspensions[REACH_SCOPE], 1),
    {SAME, "pace_changes", COUNTER, NULL, "what=\"connections\",direction=\"down\"", AT(deliver.pace_changes.down[DELIVER_PACE_CONNECTIONS]), 1, NULL, "Changes of paces: connections (learned), rate (slowed by a reaction), suspended, bounce (what waited is bounced). Each is one event, deliver.pace_changed."},
    MORE("what=\"connections\",direction=\"up\"", deliver.pace_changes.up[DELIVER_PACE_CONNECTIONS], 1),
    MORE("what=\"rate\",direction=\"down\"", deliver.pace_changes.down[DELIVER_PACE_RATE], 1),
    MORE("what=\"rate\",direction=\"up\"", deliver.pace_changes.up[DELIVER_PACE_RATE], 1),
    MORE("what=\"suspended\",direction=\"down\"", deliver.pace_changes.down[DELIVER_PACE_SUSPENSION], 1),
    MORE("what=\"suspended\",direction=\"up\"", deliver.pace_changes.up[DELIVER_PACE_SUSPENSION], 1),
    MORE("what=\"bounce\",direction=\"down\"", deliver.pace_changes.down[DELIVER_PACE_BOUNCE], 1),
    MORE("what=\"bounce\",direction=\"up\"", deliver.pace_changes.up[DELIVER_PACE_BOUNCE], 1),
    {SAME, "destinations_backing_off", GAUGE, NULL, NULL, AT(deliver.destinations_backing_off), 1, NULL, "Destinations that rest after a fault of theirs."},
    {SAME, "destination_backoffs", COUNTER, NULL, "class", WALK, walk_backoffs, "Back-offs of destinations that were begun, by the class of the fault."},
    {SAME, "destination_recipients", COUNTER, NULL, "destination,result", WALK, walk_destinations, "Recipients by destination: the hundred busiest, and \"other\"."},
    {SAME, "destination_connections", GAUGE, NULL, "destination", WALK, walk_destination_connections, "Connections to the busiest destinations now."},
    {SAME, "destination_backing_off", GAUGE, NULL, "destination", WALK, walk_destination_backing_off, "1: this destination rests after a fault of its own."},
    {SAME, "source_recipients", COUNTER, NULL, "source,result", WALK, walk_sources, "Recipients by our address, as [[source]] names it, since the start."},
    {SAME, "source_connections", GAUGE, NULL, "source", WALK, walk_source_connections, "Open connections from it."},
    {SAME, "source_set_aside", GAUGE, NULL, "source", WALK, walk_source_aside, "1: its address is none of this machine now, and nothing is sent from it."},
    {SAME, "warm_up_quota", GAUGE, NULL, "source", WALK, walk_warm_up_quota, "Messages that a source may send today, while it warms up."},
    {SAME, "warm_up_sent", GAUGE, NULL, "source", WALK, walk_warm_up_sent, "What of it was sent."},

    {"Suppression", "suppression_entries", GAUGE, NULL, NULL, AT(suppression.entries), 1, NULL, "Entries of the suppression list."},
    {SAME, "suppression_refused", COUNTER, NULL, "source=\"command\"", AT(suppression.refused[SUPPRESSION_COMMAND]), 1, NULL, "Recipients that were refused at RCPT, by where their entry came from."},
    MORE("source=\"bounce\"", suppression.refused[SUPPRESSION_BOUNCE], 1),
    {SAME, "suppression_dropped", COUNTER, NULL, NULL, AT(deliver.recipients_suppressed), 1, NULL, "Recipients that were ended before an attempt."},
    {SAME, "suppression_added", COUNTER, NULL, "source=\"command\"", AT(suppression.added[SUPPRESSION_COMMAND]), 1, NULL, "New entries, by where they came from."},
    MORE("source=\"bounce\"", suppression.added[SUPPRESSION_BOUNCE], 1),
    {SAME, "suppression_ended", COUNTER, NULL, "how=\"removed\"", AT(suppression.removed), 1, NULL, "Entries that a command removed, and that expired."},
    MORE("how=\"expired\"", suppression.expired, 1),
    {SAME, "suppression_not_added", COUNTER, NULL, NULL, AT(suppression.not_added), 1, NULL, "Bounces that were not added: the list has the entries of suppression.entries, or the disk is behind."},
    {SAME, "suppression_writes_failed", COUNTER, NULL, NULL, AT(suppression.writes_failed), 1, NULL, "Writings of data_dir/suppression that failed."},

    {"TLS", "tls_handshakes", COUNTER, NULL, "direction=\"in\",result=\"ok\"", AT(net.in.done), 1, NULL, "Handshakes with clients (in) and next hops (out)."},
    MORE("direction=\"in\",result=\"failed\"", net.in.failed, 1),
    MORE("direction=\"out\",result=\"ok\"", net.out.done, 1),
    MORE("direction=\"out\",result=\"failed\"", net.out.failed, 1),
    {SAME, "tls_handshakes_resumed", COUNTER, NULL, "direction=\"in\"", AT(net.in.resumed), 1, NULL, "Of the good ones, those that resumed a session: no certificate, no signature."},
    MORE("direction=\"out\"", net.out.resumed, 1),
    {SAME, "tls_handshakes_refused", COUNTER, NULL, NULL, AT(net.handshakes_refused), 1, NULL, "Handshakes that limits.handshakes or limits.handshakes_per_address did not allow."},
    {SAME, "tls_handshakes_running", GAUGE, NULL, NULL, AT(net.handshakes_running), 1, NULL, "Handshakes in progress."},
    {SAME, "tls_certificate_expiry_timestamp_seconds", GAUGE, "seconds", "file", WALK, walk_certificates, "When each certificate of the configuration expires, since 1970."},
    {SAME, "streams_open", GAUGE, NULL, NULL, AT(net.streams), 1, NULL, "Connections in both directions."},

    {"DNS", "dns_queries", COUNTER, NULL, NULL, AT(dns.queries), 1, NULL, "Queries sent, repeated ones too."},
    {SAME, "dns_queries_tcp", COUNTER, NULL, NULL, AT(dns.over_tcp), 1, NULL, "Questions that were asked again over TCP."},
    {SAME, "dns_answers", COUNTER, NULL, "result=\"ok\"", AT(dns.answers_ok), 1, NULL, "Answers: with records; negative (no such name, no such record); failed (SERVFAIL, time-out)."},
    MORE("result=\"negative\"", dns.answers_negative, 1),
    MORE("result=\"failed\"", dns.answers_failed, 1),
    {SAME, "dns_cache_hits", COUNTER, NULL, NULL, AT(dns.cache_hits), 1, NULL, "Questions that the cache answered."},
    {SAME, "dns_cache_entries", GAUGE, NULL, NULL, AT(dns.cache_entries), 1, NULL, "Answers in the cache."},
    {SAME, "dns_in_flight", GAUGE, NULL, NULL, AT(dns.in_flight), 1, NULL, "Queries that wait for their answer."},
    {SAME, "dns_waiting", GAUGE, NULL, NULL, AT(dns.waiting), 1, NULL, "Questions that wait until fewer are in flight."},

    {"Pools", "pool_threads", GAUGE, NULL, "pool=\"crypto\"", AT(pools[POOL_CRYPTO].threads), 1, NULL, "Threads: crypto (handshakes, signatures), password (argon2id), file."},
    MORE("pool=\"password\"", pools[POOL_PASSWORD].threads, 1),
    MORE("pool=\"file\"", pools[POOL_FILE].threads, 1),
    {SAME, "pool_jobs_waiting", GAUGE, NULL, "pool=\"crypto\"", AT(pools[POOL_CRYPTO].waiting), 1, NULL, "Jobs that no thread has yet."},
    MORE("pool=\"password\"", pools[POOL_PASSWORD].waiting, 1),
    MORE("pool=\"file\"", pools[POOL_FILE].waiting, 1),
    {SAME, "pool_jobs_running", GAUGE, NULL, "pool=\"crypto\"", AT(pools[POOL_CRYPTO].running), 1, NULL, "Jobs that a thread has."},
    MORE("pool=\"password\"", pools[POOL_PASSWORD].running, 1),
    MORE("pool=\"file\"", pools[POOL_FILE].running, 1),
    {SAME, "pool_jobs", COUNTER, NULL, "pool=\"crypto\",result=\"done\"", AT(pools[POOL_CRYPTO].done), 1, NULL, "Jobs done, and refused because the pool's queue was full."},
    MORE("pool=\"crypto\",result=\"refused\"", pools[POOL_CRYPTO].refused, 1),
    MORE("pool=\"password\",result=\"done\"", pools[POOL_PASSWORD].done, 1),
    MORE("pool=\"password\",result=\"refused\"", pools[POOL_PASSWORD].refused, 1),
    MORE("pool=\"file\",result=\"done\"", pools[POOL_FILE].done, 1),
    MORE("pool=\"file\",result=\"refused\"", pools[POOL_FILE].refused, 1),
    {SAME, "pool_wait_seconds", HISTOGRAM, "seconds", "pool=\"crypto\"", AT(pools[POOL_CRYPTO].wait), 1000000, NULL, "How long jobs waited for a thread."},
    MORE("pool=\"password\"", pools[POOL_PASSWORD].wait, 1000000),
    MORE("pool=\"file\"", pools[POOL_FILE].wait, 1000000),
};
/* clang-format on */
const size_t metric_count = sizeof metrics / sizeof *metrics;

static int64_t read_value(const struct metric *metric, const struct snapshot *snapshot)
{
    const char *at = (const char *)snapshot + metric->offset;
    uint64_t u64 = 0;
    unsigned number = 0;
    int64_t i64 = 0;
    bool is_true = false;

    switch (metric->value) {
    case VALUE_I64:
        memcpy(&i64, at, sizeof i64);
        return i64;
    case VALUE_UNSIGNED:
        memcpy(&number, at, sizeof number);
        return number;
    case VALUE_BOOL:
        memcpy(&is_true, at, sizeof is_true);
        return is_true;
    case VALUE_U64:
    case VALUE_HISTOGRAM:
        break;
    }
    memcpy(&u64, at, sizeof u64);
    return (int64_t)u64;
}

static void write_row(const struct metric *metric, const struct snapshot *snapshot,
                      struct exposition *to)
{
    if (metric->group)
        exposition_group(to, metric->group);
    if (metric->name)
        exposition_family(to, metric->name, metric->type, metric->unit, metric->help);
    if (metric->walk) {
        metric->walk(snapshot, to);
        return;
    }
    if (metric->value == VALUE_HISTOGRAM) {
        exposition_histogram(
            to, metric->labels,
            (const struct histogram *)(const void *)((const char *)snapshot +
                                                     metric->offset));
        return;
    }
    exposition_start(to, "");
    if (metric->labels)
        exposition_labels(to, metric->labels);
    exposition_value(to, read_value(metric, snapshot), metric->per_unit);
}

size_t metrics_write(const struct snapshot *snapshot, size_t first, size_t most_bytes,
                     struct exposition *to)
{
    size_t before = to->text.length;

    while (first < metric_count && to->text.length - before < most_bytes)
        write_row(&metrics[first++], snapshot, to);
    return first;
}
