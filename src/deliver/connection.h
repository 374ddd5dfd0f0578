/* One outbound connection: from the address to a session that takes transactions.
 *
 * Owns      its stream, the reading of replies, the patience of each stage.
 * Promises  callbacks from the loop; none after connection_close(). A reply is whole and
 *           sane; nonsense, floods and silence are faults.
 */
#ifndef SMTPD_DELIVER_CONNECTION_H
#define SMTPD_DELIVER_CONNECTION_H

#include "inner.h"
#include "smtpd/loop/machine.h"
#include "smtpd/smtp/capability.h"

struct connection;
struct sts_policy;

struct connection_events {
    void (*on_ready)(void *owner);
    void (*on_reply)(void *owner, const struct reply *reply);
    void (*on_drained)(void *owner);
    /* The connection is of no more use: close it. Before on_ready: the host's fault. */
    void (*on_broken)(void *owner, const struct fault *fault);
};

struct connection *connection_open(struct destination *destination,
                                   const struct plan_host *host,
                                   const struct tls_policy *policy,
                                   const struct connection_events *events, void *owner);
void connection_set_owner(struct connection *connection, void *owner);
/* Polite: QUIT first. */
void connection_close(struct connection *connection, bool is_polite);
/* A lost reply or a fault is awaited for so long from now on; 0: nothing is awaited. */
void connection_await(struct connection *connection, int64_t patience_ms,
                      const char *stage);
enum result connection_send(struct connection *connection, struct slice bytes);
enum result connection_send_both(struct connection *connection, struct slice first,
                                 struct slice second);
/* Bytes on the wire, since it was made: handed over, and gone from here. */
uint64_t connection_written(const struct connection *connection);
uint64_t connection_left(const struct connection *connection);

const struct capabilities *connection_capabilities(const struct connection *connection);
const char *connection_host(const struct connection *connection);
const char *
connection_peer(const struct connection *connection); /* "host [address]:port" */
const struct tls_facts *connection_tls(const struct connection *connection);
/* Of mail with this policy. */
enum deliver_tls_policy connection_tls_policy(const struct connection *connection,
                                              const struct tls_policy *policy);
/* What an MTA-STS policy that is only tested would say against this connection; NULL: nothing. */
const char *connection_sts_failure(const struct connection *connection,
                                   const struct sts_policy *sts);
/* May mail that requires TLS (RFC 8689 4.2.1) go over it? */
bool connection_is_trusted(const struct connection *connection,
                           const struct tls_policy *policy);
int64_t connection_connect_ms(const struct connection *connection);
struct plan_settings *connection_settings(const struct connection *connection);
/* 421 or 4xx before it took mail, or silence once it was connected. */
bool connection_objects(const struct connection *connection);
/* Behind this reply its owner goes: what kind of fault that is, and whether it objects to how many we
 * are. */
void connection_broken_off(struct connection *connection, const struct reply *reply,
                           bool objects);
/* What it said instead of letting us in; NULL: it did not end by a reply. */
const struct reply *connection_refusal(const struct connection *connection);
/* TLS broke: a new connection to the same host goes on in clear. */
bool connection_wants_clear(const struct connection *connection);
/* False: no address of the host, or none of ours, did. */
bool connection_was_dialed(const struct connection *connection);
/* A session could not be resumed: a new connection to the same host begins anew. */
bool connection_wants_again(const struct connection *connection);
/* Broken before it was ready, by a fault of the host: its next address comes first next time. */
void connection_blame_address(const struct connection *connection);
/* Broken before it was ready, and not by a fault of the host: it is not what the policy asks for.
 * Mail of other domains may still go there. */
bool connection_fails_policy(const struct connection *connection);
/* What kind of failure broke it. */
enum deliver_class connection_fault_class(const struct connection *connection);
/* A transaction was left half-way: RSET before the next one. */
void connection_set_needs_reset(struct connection *connection, bool needs_reset);
bool connection_needs_reset(const struct connection *connection);
unsigned connection_messages(const struct connection *connection);
void connection_count_message(struct connection *connection);

/* Between messages it waits in its destination; who comes first, and whose policy it satisfies,
 * takes it. */
void connection_rest(struct connection *connection);
struct connection *connection_take_idle(struct destination *destination,
                                        const struct tls_policy *policy,
                                        const struct connection_events *events,
                                        void *owner);
void connection_forget_idle(struct destination *destination, struct link *link);
/* Of all destinations. */
void connection_close_longest_idle(struct deliver *deliver);

#endif
