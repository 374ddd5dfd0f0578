/* The option tables: adding an option is one row here and one field in config.h. Everything
 * else is derived: loading, checking, smtpd.toml.example, docs/configuration.md,
 * --effective, the differences at a reload. */
#include "options.h"

#include <string.h>

#define AT(field) offsetof(struct config, field)
#define IN(type, field) offsetof(struct type, field)
#define LIVE OPTION_RELOADABLE
#define TLS_LEVELS "off|opportunistic|required|verified"

/* clang-format off */
const struct option_section config_sections[] = {
    {"server",     "The process and its name."},
    {"tls",        "Certificates of the listeners."},
    {"auth",       "Who may log in."},
    {"limits",     "What one client, one message, one process may take."},
    {"relay",      "Relaying without a log-in."},
    {"policy",     "What only strangers meet: clients that neither log in nor stand in relay.trusted_networks; see docs/abuse.md."},
    {"suppression", "Addresses that get no mail; see docs/suppression.md. The list is changed by: smtpd suppression."},
    {"proxy",      "Load balancers in front of the listeners."},
    {"submission", "What is mended in submitted messages (RFC 6409 8)."},
    {"signing",    "DKIM signatures; see docs/signing.md. Keys: [[dkim]] or a folder of them."},
    {"queue",      "Keeping and retrying."},
    {"dns",        "Name servers."},
    {"delivery",   "Every destination, unless [[destination]] or [[route]] says otherwise."},
    {"tls_report", "Daily reports to other domains of how mail for them met TLS (RFC 8460); see docs/tls-reports.md. Off until both options are set."},
    {"admin",      "Probes and metrics, over HTTP. Commands go over the control socket in data_dir only."},
    {"log",        "The event log."},
};
const size_t config_section_count = sizeof config_sections / sizeof *config_sections;

const struct option config_options[] = {
    {"server.hostname", &type_domain, AT(hostname), NULL, NULL, NULL, LIVE, NULL,
     "Our name in the banner, EHLO, Received and reports. Without it the system's name is taken, which must have a dot."},
    {"server.data_dir", &type_path, AT(data_dir), "/var/lib/smtpd", NULL, NULL, OPTION_RESTART, NULL,
     "The folder of the queue and of the control socket. One server at a time holds it."},
    {"server.grace_period", &type_duration, AT(grace_period_ms), "25s", "1s", "1h", LIVE, NULL,
     "How long SIGTERM waits for transactions and deliveries in hand."},
    {"server.postmaster", &type_mailbox, AT(postmaster), NULL, NULL, NULL, LIVE, NULL,
     "Gets mail for a postmaster who is no listed user (RFC 5321 4.5.1). Required with [[local]] or mode = \"relay\"."},
    {"server.follow_file", &type_bool, AT(follow_file), "false", NULL, NULL, LIVE, NULL,
     "Applies this file within ten seconds of a change, as at SIGHUP. For Kubernetes, where nobody can send one."},
    {"server.user", &type_text, AT(user), NULL, NULL, NULL, OPTION_RESTART, NULL,
     "Started as root, the process becomes this user once its ports are bound."},

    {"tls.certificate", &type_path, AT(tls_certificate), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Certificate chains (PEM). With several, the name a client asks for picks by subject alternative name; the first is the default; ECDSA goes before RSA."},
    {"tls.key", &type_path, AT(tls_key), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Private keys (PEM), in the order of the certificates."},
    {"tls.min_version", &type_choice, AT(tls_min_version), "1.2", NULL, NULL, LIVE, "1.2|1.3",
     "Lowest TLS version that a client may use."},

    {"auth.users_file", &type_path, AT(users_file), NULL, NULL, NULL, LIVE, NULL,
     "Users and argon2id hashes, written by: smtpd user add NAME. Read again when it changes."},
    {"auth.allow_clear_on_loopback", &type_bool, AT(auth_in_clear_on_loopback), "false", NULL, NULL, LIVE, NULL,
     "Lets clients on 127.0.0.0/8 and ::1 log in without TLS. Everybody else always needs TLS."},

    {"auth.failure_delay", &type_duration, AT(failure_delay_ms), "1s", "0s", "30s", LIVE, NULL,
     "How long the answer to a failed log-in is held back. Doubles with each failure of an address or a user, up to eight times this and 30s; ten minutes without one begin anew."},
    {"auth.failures_per_address", &type_rate, AT(failures_per_address), "20/h", NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Failed log-ins after which an IPv4 address or IPv6 /64 is locked out: it gets 421 4.7.0 where it could only log in. Not for relay.trusted_networks. At most 4 rates; [] is no limit."},
    {"auth.failures_per_user", &type_rate, AT(failures_per_user), "50/h", NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Failed log-ins after which a user is locked out, but for addresses where the user logged in within a day: the right password then is answered like a wrong one. At most 4 rates; [] is no limit."},
    {"auth.lockout", &type_duration, AT(lockout_ms), "15m", "1s", "7d", LIVE, NULL,
     "How long a lock-out lasts."},

    {"limits.message_size", &type_size, AT(message_size_bytes), "50MiB", "64KiB", "1GiB", LIVE, NULL,
     "Largest message accepted. Offered to clients as SIZE (RFC 1870)."},
    {"limits.recipients_per_message", &type_count, AT(recipients_per_message), "1000", "100", "100000", LIVE, NULL,
     "Recipients of one message; further ones get 452 4.5.3 (RFC 5321 4.5.3.1.8)."},
    {"limits.received_hops", &type_count, AT(received_hops), "100", "10", "1000", LIVE, NULL,
     "A message with more Received fields than this is in a loop and gets 554 5.4.6 (RFC 5321 6.3)."},
    {"limits.connections", &type_count, AT(connections), "10000", "1", "1000000", LIVE, NULL,
     "Clients connected at once; further ones get 421 4.3.2."},
    {"limits.connections_per_address", &type_count, AT(connections_per_address), "1000", "1", "1000000", LIVE, NULL,
     "Connections of one IPv4 address or IPv6 /64; further ones get 421 4.7.0."},
    {"limits.connections_per_network", &type_count, AT(connections_per_network), "2000", "1", "1000000", LIVE, NULL,
     "Connections of one IPv4 /24 or IPv6 /48; further ones get 421 4.7.0. Not for relay.trusted_networks; who logs in does not count."},
    {"limits.connection_rate", &type_rate, AT(connection_rate), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "New connections of one IPv4 address or IPv6 /64 in a time; further ones get 421 4.7.0. Not for relay.trusted_networks; who logs in does not count. At most 4 rates; [] is no limit."},
    {"limits.connection_rate_per_network", &type_rate, AT(connection_rate_per_network), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "New connections of one IPv4 /24 or IPv6 /48 in a time; further ones get 421 4.7.0. Not for relay.trusted_networks; who logs in does not count. At most 4 rates; [] is no limit."},
    {"limits.messages_per_user", &type_rate, AT(messages_per_user), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Messages in a time of a user who has no messages of his own, as [\"10/m\", \"1000/h\"]; further ones get 450 4.7.1, which says when there is room. At most 4 rates."},
    {"limits.recipients_per_user", &type_rate, AT(recipients_per_user), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Recipients in a time of a user who has no recipient_rate of his own, as [\"10/m\", \"1000/h\"]; further ones get 450 4.7.1, which says when there is room. At most 4 rates."},
    {"limits.messages_per_address", &type_rate, AT(messages_per_address), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Messages in a time from an IPv4 address or IPv6 /64, whoever logged in, as [\"10/m\", \"1000/h\"]; further ones get 450 4.7.1, which says when there is room. At most 4 rates."},
    {"limits.recipients_per_address", &type_rate, AT(recipients_per_address), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Recipients in a time from an IPv4 address or IPv6 /64, whoever logged in, as [\"10/m\", \"1000/h\"]; further ones get 450 4.7.1, which says when there is room. At most 4 rates."},
    {"limits.idle_timeout", &type_duration, AT(idle_timeout_ms), "5m", "1s", "1h", LIVE, NULL,
     "Silence after which a client gets 421 4.4.2 (RFC 5321 4.5.3.2.7 asks for five minutes)."},
    {"limits.memory", &type_size_or_auto, AT(memory_bytes), "auto", NULL, NULL, LIVE, NULL,
     "Memory of the process and its sockets, without mapped files. From 70 % of it on new connections get 421 4.3.2, from 80 % on new messages 452 4.3.1. \"auto\": the limit of the cgroup, else the machine's memory. At least 16MiB."},
    {"limits.handshakes", &type_count, AT(handshakes), "1000", "1", "100000", OPTION_RESTART, NULL,
     "TLS handshakes in progress at once."},
    {"limits.handshakes_per_address", &type_count, AT(handshakes_per_address), "100", "1", "100000", OPTION_RESTART, NULL,
     "TLS handshakes in progress at once with one address."},

    {"relay.trusted_networks", &type_network, AT(trusted_networks), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Clients that may relay without a log-in, on listeners with mode = \"relay\" only."},

    {"policy.greeting_delay", &type_duration_or_off, AT(greeting_delay_ms), "off", NULL, NULL, LIVE, NULL,
     "On relay listeners: how long the greeting is held back. A client that talks before it gets 554 5.5.1 and is closed. \"6s\" is usual."},
    {"policy.reject_weight", &type_count, AT(reject_weight), "1", "1", "1000", LIVE, NULL,
     "Sum of the weights of [[dnsbl]] lists from which on recipients but postmaster get 554 5.7.1."},
    {"policy.reverse_dns", &type_choice, AT(reverse_dns), "off", NULL, NULL, LIVE, "off|log|require",
     "On relay listeners: looks up the name of a client's address, and whether it leads back. A confirmed name stands in Received and the log. \"require\": without one recipients but postmaster get 550 5.7.25."},
    {"policy.helo_checks", &type_choice, AT(helo_checks), "off", NULL, NULL, LIVE, "off|log|reject",
     "On relay listeners: whether EHLO names a full name or the client's own address, and not us. \"reject\": if not, recipients but postmaster get 550 5.7.1."},
    {"policy.unknown_recipients", &type_count, AT(unknown_recipients), "20", "1", "100000", LIVE, NULL,
     "Unknown recipients of one session; at this many it gets 421 4.7.0."},
    {"policy.errors", &type_count, AT(errors), "20", "1", "20", LIVE, NULL,
     "Commands in error of one session between messages; at this many it gets 421 4.7.0. Who logged in has 20."},
    {"policy.tarpit", &type_duration_or_off, AT(tarpit_ms), "1s", NULL, NULL, LIVE, NULL,
     "From half of policy.unknown_recipients or policy.errors on the reply to each is held back this long, twice as long for the next, and so on, at most 20s."},
    {"policy.offenders", &type_duration_or_off, AT(offenders_ms), "off", NULL, NULL, LIVE, NULL,
     "How long an address that reached policy.unknown_recipients or policy.errors gets 421 4.7.0 at once."},

    {"suppression.at", &type_choice, AT(suppression_at), "rcpt", NULL, NULL, LIVE, "rcpt|delivery|off",
     "\"rcpt\": a recipient on the list gets 550 5.7.1. \"delivery\": it is accepted, and ended before an attempt. \"off\": nobody looks. Not for [[local]] domains."},
    {"suppression.report", &type_bool, AT(suppression_report), "true", NULL, NULL, LIVE, NULL,
     "With at = \"delivery\": the sender gets a report. Else a line of the log is all."},
    {"suppression.add_hard_bounces", &type_bool, AT(suppression_hard_bounces), "false", NULL, NULL, LIVE, NULL,
     "Adds a recipient to the list of its tenant when a next hop says for good that there is no such mailbox."},
    {"suppression.expire", &type_duration_or_off, AT(suppression_expire_ms), "off", NULL, NULL, LIVE, NULL,
     "Age at which entries that came from bounces end; \"off\": never."},
    {"suppression.entries", &type_count, AT(suppression_entries), "1000000", "1", "10000000", LIVE, NULL,
     "Most entries, about 150 bytes of memory each. Beyond it commands are refused, and bounces are not added."},

    {"proxy.trusted_networks", &type_network, AT(proxy_networks), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Load balancers that may say who a client is, on listeners with proxy_protocol = true."},

    {"submission.add_missing_headers", &type_bool, AT(add_missing_headers), "true", NULL, NULL, LIVE, NULL,
     "Adds Date and Message-ID to submitted messages that lack them."},
    {"submission.remove_bcc", &type_bool, AT(remove_bcc), "true", NULL, NULL, LIVE, NULL,
     "Removes Bcc from submitted messages."},
    {"submission.hide_client", &type_bool, AT(hide_client), "false", NULL, NULL, LIVE, NULL,
     "Leaves the name and address of a client that logged in out of Received. The log has them."},

    {"signing.key_directory", &type_path, AT(key_directory), NULL, NULL, NULL, LIVE, NULL,
     "A folder of DKIM keys, DOMAIN/SELECTOR.key, as smtpd dkim keygen writes them. Read again when it changes."},
    {"signing.canonicalization", &type_choice, AT(canonicalization), "relaxed/relaxed", NULL, NULL, LIVE, "relaxed/relaxed|relaxed/simple|simple/relaxed|simple/simple",
     "Which changes on the way signatures bear, of the header section and of the body (RFC 6376 3.4)."},
    {"signing.expire", &type_duration_or_off, AT(signature_expire_ms), "off", NULL, NULL, LIVE, NULL,
     "How long signatures are good; it should be longer than queue.expire."},

    {"queue.retry", &type_duration, AT(retry), "1m, 5m, 15m, 30m, 1h, 2h, 4h", "1s", "7d", LIVE | OPTION_LIST, NULL,
     "Waits between attempts at one message, each with a tenth of jitter; the last one repeats."},
    {"queue.expire", &type_duration, AT(expire_ms), "4d", "10s", "30d", LIVE, NULL,
     "Age at which a message that could not be delivered is returned to its sender."},
    {"queue.delay_notice", &type_duration_or_off, AT(delay_notice_ms), "off", NULL, NULL, LIVE, NULL,
     "Age at which the sender of a waiting message is told once that it is late."},
    {"queue.min_free_space", &type_size, AT(min_free_space_bytes), "256MiB", "1MiB", "1024GiB", LIVE, NULL,
     "Room in data_dir below which new mail gets 452 4.3.1; what is queued goes on."},
    {"queue.allow_network_filesystem", &type_bool, AT(allow_network_filesystem), "false", NULL, NULL, OPTION_RESTART, NULL,
     "Starts although data_dir is on a network or overlay file system, where locks and syncs may not hold what they promise."},
    {"queue.report_body", &type_size, AT(report_body_bytes), "64KiB", "0", "10MiB", LIVE, NULL,
     "A report returns the whole message up to this size (when RET=FULL asks for it), else its header section."},

    {"dns.servers", &type_dns_server, AT(dns_servers), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Name servers, at most 6; without any, those of the system (/etc/resolv.conf)."},
    {"dns.timeout", &type_duration, AT(dns_deadline_ms), "30s", "1s", "5m", LIVE, NULL,
     "Time limit of one look-up, with all of its tries."},
    {"dns.trust_ad", &type_bool, AT(dns_trust_ad), "false", NULL, NULL, LIVE, NULL,
     "Believes name servers that are not on loopback too when they call an answer authentic (DNSSEC, the AD bit). Only for servers that validate, on a network where nobody else can answer."},

    {"delivery.connections", &type_count, AT(delivery.connections), "20", "1", "10000", LIVE, NULL,
     "Connections to one destination at once, at most: fewer at first, and after it objected."},
    {"delivery.messages_per_connection", &type_count, AT(delivery.messages_per_connection), "1000", "1", "1000000", LIVE, NULL,
     "Messages sent over one connection before it is closed."},
    {"delivery.recipients_per_transaction", &type_count, AT(delivery.recipients_per_transaction), "100", "1", "100", LIVE, NULL,
     "Recipients of one transaction."},
    {"delivery.message_rate", &type_rate_or_off, AT(delivery.message_rate), "off", NULL, NULL, LIVE, NULL,
     "Messages (transactions) in a time to one destination, evenly; no span of that length has more, over reloads and restarts too."},
    {"delivery.connection_rate", &type_rate_or_off, AT(delivery.connection_rate), "off", NULL, NULL, LIVE, NULL,
     "New connections in a time to one destination, as message_rate."},
    {"delivery.reactions", &type_bool, AT(shipped_reactions), "true", NULL, NULL, LIVE, NULL,
     "Reacts to the replies of large providers that ask for less, as the table in docs/delivery.md says."},
    {"delivery.pipeline_window", &type_count, AT(delivery.pipeline_window), "32", "1", "32", LIVE, NULL,
     "Messages that may be under way on one connection, where the next hop offers PIPELINING: two with DATA, up to so many with CHUNKING. 1: each waits for the answer to the one before."},
    {"delivery.shipped_destinations", &type_bool, AT(shipped_destinations), "true", NULL, NULL, LIVE, NULL,
     "Behind the [[destination]] blocks of this file come those that are shipped for large providers: smtpd document destinations prints them. A block here with the name of one takes what it does not set from there, and its place."},
    {"delivery.tls", &type_choice, AT(delivery.tls), "opportunistic", NULL, NULL, LIVE, TLS_LEVELS,
     "\"opportunistic\": TLS where offered, with any certificate. \"required\": never in clear. \"verified\": the certificate must be valid for the host too."},
    {"delivery.dane", &type_bool, AT(delivery.dane), "true", NULL, NULL, LIVE, NULL,
     "Where the TLSA records of a host are authentic: TLS is a must there, and the certificate must fit them (DANE, RFC 7672). With tls \"opportunistic\" or \"required\" only; needs a name server that validates, on loopback or with dns.trust_ad."},
    {"delivery.mta_sts", &type_bool, AT(delivery.mta_sts), "true", NULL, NULL, LIVE, NULL,
     "Asks domains for their MTA-STS policy (RFC 8461). Under \"enforce\" their mail goes to mail exchangers of the policy only, by TLS with a certificate valid for the host. With tls \"opportunistic\" or \"required\" only, and where DANE has no answer."},
    {"delivery.mta_sts_port", &type_count, AT(mta_sts_port), "443", "1", "65535", LIVE, NULL,
     "Port of the hosts that have MTA-STS policies; another than 443 is for labs."},
    {"delivery.ca_file", &type_path, AT(ca_file), "/etc/ssl/certs/ca-certificates.crt", NULL, NULL, LIVE, NULL,
     "Certification authorities that \"verified\" and MTA-STS trust (PEM)."},
    {"delivery.classes_file", &type_path, AT(classes_file), NULL, NULL, NULL, LIVE, NULL,
     "Rules that say what kind of failure a reply tells, in the place of the shipped ones: a file of [[class]] tables (docs/classes.md). Read again at SIGHUP."},
    {"delivery.allow_private_networks", &type_bool, AT(allow_private_networks), "false", NULL, NULL, LIVE, NULL,
     "Lets a mail exchanger found by DNS be on a loopback or private address. Routes always may."},
    {"delivery.port", &type_count, AT(delivery_port), "25", "1", "65535", LIVE, NULL,
     "Port of mail exchangers found by DNS; another than 25 is for labs."},
    {"delivery.connect_timeout", &type_duration, AT(delivery.times.connect_ms), "30s", "100ms", "10m", LIVE, NULL,
     "Time limit for connecting to a host: to one of its addresses."},
    {"delivery.attempt_delay", &type_duration, AT(attempt_delay_ms), "250ms", "100ms", "2s", LIVE, NULL,
     "So long the answer of one address of a host is waited for before the next one is tried beside it (RFC 8305)."},
    {"delivery.greeting_timeout", &type_duration, AT(delivery.times.greeting_ms), "5m", "100ms", "1h", LIVE, NULL,
     "Time limit for the greeting (RFC 5321 4.5.3.2.1)."},
    {"delivery.command_timeout", &type_duration, AT(delivery.times.command_ms), "5m", "100ms", "1h", LIVE, NULL,
     "Time limit for the answers to EHLO, MAIL and RCPT (RFC 5321 4.5.3.2.2, 4.5.3.2.3)."},
    {"delivery.data_timeout", &type_duration, AT(delivery.times.data_ms), "3m", "100ms", "1h", LIVE, NULL,
     "Time limit for the answer to DATA and for each block of data (RFC 5321 4.5.3.2.4, 4.5.3.2.5)."},
    {"delivery.final_dot_timeout", &type_duration, AT(delivery.times.final_dot_ms), "10m", "100ms", "1h", LIVE, NULL,
     "Time limit for the answer to the final dot (RFC 5321 4.5.3.2.6). A short one makes duplicates."},
    {"delivery.idle_timeout", &type_duration, AT(delivery.times.idle_ms), "10s", "0ms", "10m", LIVE, NULL,
     "How long a connection is kept open for the next message."},
    {"delivery.tenant_header", &type_field_name, AT(tenant_header), NULL, NULL, NULL, LIVE, NULL,
     "The header field that names the tenant of a message of delivery.tenant_users, as \"X-Tenant\". It is taken out of all mail of who logged in. Without it, or in a message without it, the tenant is the user who logged in."},
    {"delivery.tenant_users", &type_text, AT(tenant_users), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Users whose messages may name their tenant; \"*\": whoever logged in. Each tenant has a share of its own, so who may name many may have many shares."},
    {"delivery.priority_header", &type_field_name, AT(priority_header), NULL, NULL, NULL, LIVE, NULL,
     "The header field that says how urgent a message of who logged in is, within its tenant: -9 to 9 (RFC 6710), or \"high\" (4), \"normal\" (0), \"low\" (-4). Anything else is 0. It stays in the mail."},
    {"delivery.pool", &type_text, AT(delivery.pool), NULL, NULL, NULL, LIVE, NULL,
     "The [[pool]] of mail that nothing else says a pool for. Without it the system chooses our address."},
    {"delivery.pool_header", &type_field_name, AT(pool_header), NULL, NULL, NULL, LIVE, NULL,
     "The header field that names the pool of a message of delivery.pool_users, as \"X-Pool\", before any other rule. It is taken out of all mail of who logged in."},
    {"delivery.pool_users", &type_text, AT(pool_users), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Users whose messages may name their pool; \"*\": whoever logged in."},

    {"tls_report.organization", &type_text, AT(tls_report_organization), NULL, NULL, NULL, LIVE, NULL,
     "Who reports, as \"Example Ltd\"."},
    {"tls_report.contact", &type_mailbox, AT(tls_report_contact), NULL, NULL, NULL, LIVE, NULL,
     "The address that reports come from, and that they name for questions. Where a key of its domain is there (docs/signing.md) they are signed, which their receivers expect."},

    {"admin.listen", &type_endpoint, AT(admin_listen), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Addresses for /livez, /readyz, /startupz and /metrics, as \"0.0.0.0:8587\", without a log-in: let only those reach them who may. At most 16."},

    {"log.output", &type_path, AT(log_output), "stdout", NULL, NULL, LIVE, NULL,
     "\"stdout\", \"stderr\" or a file (opened again at SIGHUP)."},
    {"log.level", &type_choice, AT(log_level), "info", NULL, NULL, LIVE, "error|warning|notice|info|debug",
     "Least level written. What ends a recipient's life is always written."},
    {"log.format", &type_choice, AT(log_format), "json", NULL, NULL, LIVE, "json|text",
     "\"json\": one object a line. \"text\": columns for a terminal."},
};
const size_t config_option_count = sizeof config_options / sizeof *config_options;

static const struct option listen_rows[] = {
    {"address", &type_endpoint, IN(config_listen, address), NULL, NULL, NULL, LIVE | OPTION_LIST | OPTION_REQUIRED, NULL,
     "Addresses and ports; IPv4 and IPv6 are bound apart."},
    {"mode", &type_choice, IN(config_listen, mode), "submission", NULL, NULL, LIVE, "submission|relay",
     "\"submission\": log in first, always. \"relay\" (port 25): mail for our own domains from everybody, and for all from trusted_networks."},
    {"tls", &type_choice, IN(config_listen, tls), "starttls", NULL, NULL, LIVE, "none|starttls|implicit",
     "\"starttls\" (587, 25), \"implicit\" (465: TLS from the first byte) or \"none\"."},
    {"proxy_protocol", &type_bool, IN(config_listen, proxy_protocol), "false", NULL, NULL, LIVE, NULL,
     "Every connection comes from a load balancer of proxy.trusted_networks and begins with a PROXY header (v1 or v2) that names the client."},
};

#define TRANSFER_ROWS(type)                                                                                              \
    {"connections", &type_count, IN(type, transfer.connections), "@delivery.connections", "1", "10000", LIVE, NULL,      \
     "Connections at once."},                                                                                            \
    {"messages_per_connection", &type_count, IN(type, transfer.messages_per_connection),                                 \
     "@delivery.messages_per_connection", "1", "1000000", LIVE, NULL, "Messages sent over one connection."},             \
    {"recipients_per_transaction", &type_count, IN(type, transfer.recipients_per_transaction),                           \
     "@delivery.recipients_per_transaction", "1", "100", LIVE, NULL, "Recipients of one transaction."},                  \
    {"message_rate", &type_rate_or_off, IN(type, transfer.message_rate), "@delivery.message_rate", NULL, NULL, LIVE, NULL, \
     "Messages (transactions) in a time."},                                                                              \
    {"connection_rate", &type_rate_or_off, IN(type, transfer.connection_rate), "@delivery.connection_rate", NULL, NULL,  \
     LIVE, NULL, "New connections in a time."},                                                                          \
    {"connect_timeout", &type_duration, IN(type, transfer.times.connect_ms), "@delivery.connect_timeout", "100ms", "10m", LIVE, NULL, \
     "Time limit for connecting to one address."},                                                                       \
    {"greeting_timeout", &type_duration, IN(type, transfer.times.greeting_ms), "@delivery.greeting_timeout", "100ms", "1h", LIVE, NULL, \
     "Time limit for the greeting."},                                                                                    \
    {"command_timeout", &type_duration, IN(type, transfer.times.command_ms), "@delivery.command_timeout", "100ms", "1h", LIVE, NULL, \
     "Time limit for the answers to EHLO, MAIL and RCPT."},                                                              \
    {"data_timeout", &type_duration, IN(type, transfer.times.data_ms), "@delivery.data_timeout", "100ms", "1h", LIVE, NULL, \
     "Time limit for the answer to DATA and for each block of data."},                                                   \
    {"final_dot_timeout", &type_duration, IN(type, transfer.times.final_dot_ms), "@delivery.final_dot_timeout", "100ms", "1h", LIVE, NULL, \
     "Time limit for the answer to the final dot."},                                                                     \
    {"idle_timeout", &type_duration, IN(type, transfer.times.idle_ms), "@delivery.idle_timeout", "0ms", "10m", LIVE, NULL, \
     "How long a connection is kept open for the next message."},                                                        \
    {"retry", &type_duration, IN(type, transfer.retry), "@queue.retry", "1s", "7d", LIVE | OPTION_LIST, NULL,            \
     "Waits between attempts at one message that was answered with 4xx, at most 32."},                                   \
    {"pipeline_window", &type_count, IN(type, transfer.pipeline_window), "@delivery.pipeline_window", "1", "32", LIVE,   \
     NULL, "Messages under way on one connection."},                                                                    \
    {"tls", &type_choice, IN(type, transfer.tls), "@delivery.tls", NULL, NULL, LIVE, TLS_LEVELS,                         \
     "As [delivery] tls."},                                                                                              \
    {"pool", &type_text, IN(type, transfer.pool), NULL, NULL, NULL, LIVE, NULL,                                          \
     "The [[pool]]; without it that of [delivery]. Of a destination: of mail that names none itself. Of a route: of all mail there; \"none\": the system chooses our address."}, \
    {"dane", &type_bool, IN(type, transfer.dane), "@delivery.dane", NULL, NULL, LIVE, NULL, "As [delivery] dane."}

static const struct option destination_rows[] = {
    {"name", &type_text, IN(config_destination, name), NULL, NULL, NULL, LIVE, NULL,
     "Name in logs and commands, which what was learned is kept under; without it the first of match."},
    {"match", &type_pattern, IN(config_destination, match), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Recipient domains, or names of mail exchangers. The first block that matches holds. Only a block with the name of a shipped one may do without."},
    TRANSFER_ROWS(config_destination),
    {"mta_sts", &type_bool, IN(config_destination, transfer.mta_sts), "@delivery.mta_sts", NULL, NULL, LIVE, NULL,
     "As [delivery] mta_sts."},
};

static const struct option route_rows[] = {
    {"name", &type_text, IN(config_route, name), NULL, NULL, NULL, LIVE, NULL,
     "Name in logs and commands; without it the host's."},
    {"match", &type_pattern, IN(config_route, match), NULL, NULL, NULL, LIVE | OPTION_LIST | OPTION_REQUIRED, NULL,
     "Recipient domains that go this way instead of by MX. The first route that matches holds."},
    {"host", &type_host, IN(config_route, host), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "The next hop."},
    {"port", &type_count, IN(config_route, port), "25", "1", "65535", LIVE, NULL,
     "Its port."},
    {"implicit_tls", &type_bool, IN(config_route, implicit_tls), "false", NULL, NULL, LIVE, NULL,
     "TLS from the first byte (port 465)."},
    TRANSFER_ROWS(config_route),
    {"user", &type_text, IN(config_route, user), NULL, NULL, NULL, LIVE, NULL,
     "Logs in to the next hop; needs tls = \"required\" or \"verified\", unless the host is on loopback."},
    {"password", &type_text, IN(config_route, password), NULL, NULL, NULL, LIVE | OPTION_SECRET, NULL,
     "Its password; a file or the environment is the better place."},
    {"password_file", &type_path, IN(config_route, password_file), NULL, NULL, NULL, LIVE, NULL,
     "A file that holds the password (its first line)."},
    {"password_env", &type_text, IN(config_route, password_env), NULL, NULL, NULL, LIVE, NULL,
     "The environment variable that holds the password."},
};

static const struct option reaction_rows[] = {
    {"code", &type_text, IN(config_reaction, code), NULL, NULL, NULL, LIVE, NULL,
     "The code of the reply, as \"421\" or \"4xx\"; none: any."},
    {"status", &type_text, IN(config_reaction, status), NULL, NULL, NULL, LIVE, NULL,
     "Its enhanced code, as \"4.7.28\" or \"4.7.*\"; none: any."},
    {"text", &type_text, IN(config_reaction, text), NULL, NULL, NULL, LIVE, NULL,
     "What stands somewhere in it, in either case; * is anything between. At most 200 bytes."},
    {"class", &type_choice, IN(config_reaction, class), NULL, NULL, NULL, LIVE | OPTION_LIST, CLASS_CHOICES,
     "Kinds of failure (docs/classes.md), one of which it tells by the rules of [[class]] and the shipped ones; none: any."},
    {"match", &type_pattern, IN(config_reaction, match), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Names of mail exchangers, or recipient domains; none: all."},
    {"action", &type_choice, IN(config_reaction, action), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, "none|slow|back_off|suspend|bounce",
     "\"slow\": the message rate, to percent of what it is, and back in ten steps. \"back_off\": nothing is sent there, twice as long when it comes again at once. \"suspend\": nothing is sent there. \"bounce\": what waits there now is bounced as it is due. \"none\": nothing, and no later block is asked."},
    {"for", &type_duration, IN(config_reaction, for_ms), "15m", "1s", "7d", LIVE, NULL,
     "How long."},
    {"percent", &type_count, IN(config_reaction, percent), "50", "1", "99", LIVE, NULL,
     "Of action \"slow\"."},
    {"limit", &type_count, IN(config_reaction, limit), "0", "0", "1000000", LIVE, NULL,
     "Of action \"bounce\", which needs it: the most groups that are bounced."},
};

static const struct option local_rows[] = {
    {"domain", &type_domain, IN(config_local, domain), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "A domain of our own."},
    {"maildir", &type_path, IN(config_local, maildir), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "The Maildir of a user; {domain} and {user} are filled in."},
    {"users", &type_text, IN(config_local, users), NULL, NULL, NULL, LIVE | OPTION_LIST | OPTION_REQUIRED, NULL,
     "Local parts that exist; others get 550 5.1.1. \"*\" takes every one."},
};

static const struct option header_rule_rows[] = {
    {"listener", &type_endpoint, IN(config_header_rule, listener), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Addresses of [[listen]] tables that the rule is for; none: all of them."},
    {"user", &type_text, IN(config_header_rule, user), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Users that the rule is for; \"*\": whoever logged in; none: everybody."},
    {"remove", &type_field_name, IN(config_header_rule, remove), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Header fields that are taken out, at most 32."},
    {"add", &type_field, IN(config_header_rule, add), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Header fields that are put at the end of the header section, at most 8, behind the fields that were removed and the missing ones that were added."},
};

static const struct option dkim_rows[] = {
    {"domain", &type_domain, IN(config_dkim, domain), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "The domain of the author (From) whose mail is signed, and that signs."},
    {"selector", &type_domain, IN(config_dkim, selector), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "The name of the key in the DNS: SELECTOR._domainkey.DOMAIN."},
    {"key", &type_path, IN(config_dkim, key), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "The private key (PEM), RSA or Ed25519. Read again when it changes."},
    {"subdomains", &type_bool, IN(config_dkim, subdomains), "false", NULL, NULL, LIVE, NULL,
     "Signs for what is below the domain too, where that has no key of its own."},
};

static const struct option class_rows[] = {
    {"class", &type_choice, IN(config_class, class), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, CLASS_CHOICES,
     "The kind of failure (docs/classes.md)."},
    {"code", &type_reply_code, IN(config_class, code), NULL, NULL, NULL, LIVE, NULL,
     "The code of the reply."},
    {"status", &type_reply_status, IN(config_class, status), NULL, NULL, NULL, LIVE, NULL,
     "Its enhanced code (RFC 3463); a reply without one has 4.0.0 or 5.0.0."},
    {"text", &type_reply_text, IN(config_class, text), NULL, NULL, NULL, LIVE, NULL,
     "What stands somewhere in its text, in capital or small letters."},
    {"host", &type_pattern, IN(config_class, host), NULL, NULL, NULL, LIVE, NULL,
     "The mail exchanger that gave it."},
};

static const struct option dnsbl_rows[] = {
    {"zone", &type_domain, IN(config_dnsbl, zone), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "Where the list stands in the DNS (RFC 5782)."},
    {"weight", &type_weight, IN(config_dnsbl, weight), "1", "-1000", "1000", LIVE, NULL,
     "What a listing adds; below 0 for a list of good clients."},
    {"answers", &type_network, IN(config_dnsbl, answers), "127.0.0.0/8", NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Answers that are a listing. 127.255.255.0/24 never is: so lists refuse to answer."},
};

static const struct option tenant_rows[] = {
    {"name", &type_text, IN(config_tenant, name), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "The tenant: a user, or what delivery.tenant_header names. \"*\": every other one, and mail without any."},
    {"weight", &type_count, IN(config_tenant, weight), "1", "1", "1000", LIVE, NULL,
     "How many turns it gets while another one of the weight 1 gets one."},
};

static const struct option source_rows[] = {
    {"name", &type_text, IN(config_source, name), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "Name in logs, commands and pools, which what was learned and sent is kept under: letters, digits, \".\", \"-\", \"_\", at most 64."},
    {"address", &type_host, IN(config_source, address), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "An IPv4 or IPv6 address of this machine. Hosts are asked at addresses of its family only."},
    {"ehlo", &type_domain, IN(config_source, ehlo), NULL, NULL, NULL, LIVE, NULL,
     "The name in EHLO, which the address should have in the DNS; without it server.hostname."},
    {"weight", &type_count, IN(config_source, weight), "1", "1", "1000", LIVE, NULL,
     "Its share of a pool's mail that several of its sources can take."},
    {"warm_up", &type_count, IN(config_source, warm_up), NULL, "1", "100000000", LIVE | OPTION_LIST, NULL,
     "How many messages (transactions) it sends at most on its first day with mail, the second and so on, at most 100; behind the last one there is no limit. Days are those of UTC."},
};

static const struct option pool_rows[] = {
    {"name", &type_text, IN(config_pool, name), NULL, NULL, NULL, LIVE | OPTION_REQUIRED, NULL,
     "Its name, as a source's; not \"none\"."},
    {"sources", &type_text, IN(config_pool, sources), NULL, NULL, NULL, LIVE | OPTION_LIST | OPTION_REQUIRED, NULL,
     "Names of [[source]] tables, at most 100; \"NAME=WEIGHT\": with another weight than its own."},
    {"senders", &type_text, IN(config_pool, senders), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Addresses whose mail goes by this pool."},
    {"sender_domains", &type_pattern, IN(config_pool, sender_domains), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Domains of senders whose mail does."},
    {"tenants", &type_text, IN(config_pool, tenants), NULL, NULL, NULL, LIVE | OPTION_LIST, NULL,
     "Tenants whose mail does: users, or what delivery.tenant_header names."},
};

#define ROWS(rows) (rows), sizeof(rows) / sizeof *(rows)
const struct option_table config_tables[] = {
    {"listen", AT(listen), sizeof(struct config_listen), 64, ROWS(listen_rows),
     "A group of listening addresses. At least one is needed.",
     "[[listen]]\naddress = [\"0.0.0.0:587\", \"[::]:587\"]\nmode = \"submission\"\ntls = \"starttls\"\n"},
    {"destination", AT(destination), sizeof(struct config_destination), 1000, ROWS(destination_rows),
     "What differs for some destinations.",
     "# [[destination]]\n# match = [\"example.net\", \"*.mx.example.net\"]\n# connections = 5\n# tls = \"verified\"\n"},
    {"route", AT(route), sizeof(struct config_route), 1000, ROWS(route_rows),
     "Next hops set by hand.",
     "# [[route]]\n# match = [\"*\"]\n# host = \"smarthost.example.net\"\n# port = 587\n# tls = \"verified\"\n# user = \"relay\"\n# password_file = \"/etc/smtpd/smarthost.password\"\n"},
    {"class", AT(class), sizeof(struct config_class), CLASS_RULES_MAX, ROWS(class_rows),
     "What kind of failure a reply tells. The first rule of which all parts fit holds; these stand before the shipped ones. smtpd classify shows which one fits.",
     "# [[class]]\n# class = \"reputation\"\n# code = \"5xx\"\n# text = \"blocked by our list * see https://list.example\"\n"},
    {"reaction", AT(reaction), sizeof(struct config_reaction), 200, ROWS(reaction_rows),
     "What a reply does to the pace of its destination. The first that fits holds, these before the shipped ones.",
     "# [[reaction]]\n# code = \"421\"\n# text = \"too fast\"\n# match = \"*.mx.example.net\"\n# action = \"slow\"\n# for = \"30m\"\n"},
    {"dkim", AT(dkim), sizeof(struct config_dkim), 1000, ROWS(dkim_rows),
     "DKIM keys. Several of one domain make several signatures.",
     "# [[dkim]]\n# domain = \"example.com\"\n# selector = \"s1\"\n# key = \"/etc/smtpd/dkim/example.com/s1.key\"\n"},
    {"dnsbl", AT(dnsbl), sizeof(struct config_dnsbl), SCREEN_LISTS_MAX, ROWS(dnsbl_rows),
     "Block lists and allow lists that strangers on relay listeners are looked up in.",
     "# [[dnsbl]]\n# zone = \"bl.example.net\"\n# weight = 2\n# answers = [\"127.0.0.2\", \"127.0.0.4/30\"]\n"},
    {"local", AT(local), sizeof(struct config_local), 1000, ROWS(local_rows),
     "Domains of our own, delivered into Maildirs.",
     "# [[local]]\n# domain = \"example.com\"\n# maildir = \"/var/mail/{domain}/{user}\"\n# users = [\"alice\", \"bob\"]\n"},
    {"header_rule", AT(header_rule), sizeof(struct config_header_rule), LIMIT_HEADER_RULES, ROWS(header_rule_rows),
     "Header fields removed and added, by listener and user.",
     "# [[header_rule]]\n# user = [\"newsletter\"]\n# remove = [\"X-Mailer\"]\n# add = [\"Precedence: bulk\"]\n"},
    {"tenant", AT(tenant), sizeof(struct config_tenant), 1000, ROWS(tenant_rows),
     "The share that a tenant has of each destination where several have mail waiting. A tenant without a table has the weight 1.",
     "# [[tenant]]\n# name = \"shop\"\n# weight = 3\n"},
    {"source", AT(source), sizeof(struct config_source), DELIVER_SOURCES_MAX, ROWS(source_rows),
     "Addresses of this machine that mail goes out by; without a pool that has it a source does nothing.",
     "# [[source]]\n# name = \"mail-a\"\n# address = \"192.0.2.10\"\n# ehlo = \"mail-a.example.com\"\n# warm_up = [50, 100, 500, 1000, 5000, 10000, 20000, 50000]\n"},
    {"pool", AT(pool), sizeof(struct config_pool), DELIVER_POOLS_MAX, ROWS(pool_rows),
     "A choice of sources. Mail goes by the pool that its sender says, its sender's domain, or its tenant, in this order; else by that of its destination; else by that of [delivery].",
     "# [[pool]]\n# name = \"newsletters\"\n# sources = [\"mail-a\", \"mail-b=3\"]\n# sender_domains = [\"news.example.com\"]\n"},
};
/* clang-format on */
const size_t config_table_count = sizeof config_tables / sizeof *config_tables;

bool option_section_is_known(const char *name)
{
    for (size_t i = 0; i < config_section_count; i++)
        if (strcmp(config_sections[i].name, name) == 0)
            return true;
    return false;
}

const struct option *option_find(const struct option *options, size_t count,
                                 const char *key)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (strcmp(options[i].key, key) == 0)
            return &options[i];
    return NULL;
}

static void print_item(const struct option *option, const void *value, struct bytes *into)
{
    enum result added = RESULT_OK;

    if (option->type->is_quoted)
        added = bytes_add_text(into, "\"");
    option->type->print(option, value, into);
    if (option->type->is_quoted && added == RESULT_OK)
        added = bytes_add_text(into, "\"");
    (void)added; /* at the ceiling: see type.c */
}

static void print_list(const struct option *option, const struct value_list *list,
                       struct bytes *into)
{
    enum result added = bytes_add_text(into, "[");
    size_t i;

    for (i = 0; i < list->count && added == RESULT_OK; i++) {
        if (i > 0)
            added = bytes_add_text(into, ", ");
        print_item(option, (const char *)list->items + i * option->type->value_bytes, into);
    }
    if (added == RESULT_OK)
        added = bytes_add_text(into, "]");
    (void)added;
}

static bool is_absent_text(const struct option *option, const void *value)
{
    const char *text = NULL;

    if (option->type->value_bytes != sizeof text || option->type->compare ||
        option->default_text || !option->type->is_quoted || option->flags & OPTION_LIST)
        return false;
    memcpy(&text, value, sizeof text);
    return !text;
}

void option_print(const struct option *option, const void *base, struct bytes *into)
{
    const void *value = (const char *)base + option->offset;
    enum result added = RESULT_OK;

    if (is_absent_text(option, value))
        added = bytes_add_text(into, "\"\"");
    else if (option->flags & OPTION_SECRET)
        added = bytes_add_text(into, "\"********\"");
    else if (option->flags & OPTION_LIST)
        print_list(option, value, into);
    else
        print_item(option, value, into);
    (void)added;
}

static size_t count_items(struct slice rest)
{
    size_t count = 0;

    while (rest.length > 0) {
        size_t end = slice_find(rest, ',');

        count++;
        rest = end < rest.length ? slice_trim(slice_from(rest, end + 1)) : SLICE_NONE;
    }
    return count;
}

enum result option_set_default(const struct option *option, const char *text, void *base,
                               struct type_context *context)
{
    void *value = (char *)base + option->offset;
    struct slice rest = slice_of(text);
    struct value_list list = {0};

    context->option = option;
    if (!(option->flags & OPTION_LIST))
        return option->type->parse(context, rest, value);
    list.count = count_items(rest);
    list.items = arena_alloc(context->arena, (list.count + 1) * option->type->value_bytes);
    if (!list.items)
        return RESULT_TOO_LARGE;
    for (size_t i = 0; i < list.count; i++) {
        size_t end = slice_find(rest, ',');
        enum result parsed =
            option->type->parse(context, slice_trim(slice_part(rest, 0, end)),
                                (char *)list.items + i * option->type->value_bytes);

        if (parsed != RESULT_OK)
            return parsed;
        rest = end < rest.length ? slice_trim(slice_from(rest, end + 1)) : SLICE_NONE;
    }
    memcpy(value, &list, sizeof list);
    return RESULT_OK;
}
